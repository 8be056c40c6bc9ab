//! containerd shim.
