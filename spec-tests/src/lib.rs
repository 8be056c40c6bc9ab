//! Runs of other people's tests of a container runtime; see README.md. Nothing here is linked into knarr.
