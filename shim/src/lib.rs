//! The room of the containerd shim and of `knarr-init`. Neither is written yet.
