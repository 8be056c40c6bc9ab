//! image-store.
