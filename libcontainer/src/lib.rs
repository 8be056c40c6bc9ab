//! libcontainer.
