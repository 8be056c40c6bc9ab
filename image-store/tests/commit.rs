//! Commits that are to end before they are complete.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Scratch, file, tar};
use image_store::platform::Platform;
use image_store::store::Composition;
use image_store::{Error, ErrorKind, Reference, Store, StoreOptions};

/// Pieces of a file are checked between, too, and the layer that was written while it is read again.
#[test]
fn a_commit_ends_at_any_check_and_leaves_nothing() {
    common::need_root!();
    let place = Scratch::new("ended");
    let store = Store::open(place.path().join("store"), StoreOptions::default()).unwrap();
    let archive = tar(&[file("a", b"a")]);
    let image = store.import(archive.as_slice(), &Platform::host(), &Composition::default()).unwrap();
    for container in ["c", "d"] {
        let rootfs = store.prepare(&image, container).unwrap();
        let upper = rootfs.upper.as_ref().unwrap();
        fs::write(upper.join("small"), container).unwrap();
        fs::File::create(upper.join("sparse")).unwrap().set_len(20 << 20).unwrap();
    }
    let composition = Composition { name: Some(Reference::parse("made").unwrap()), ..Composition::default() };
    let count = AtomicUsize::new(0);
    let commit = |container: &str, last: usize| {
        count.store(0, Ordering::SeqCst);
        store.commit(container, &composition, &|| match count.fetch_add(1, Ordering::SeqCst) {
            number if number >= last => Err(Error::new(ErrorKind::Busy, "to end")),
            _ => Ok(()),
        })
    };
    let left = || {
        let count = |name: &str| fs::read_dir(store.root().join(name)).unwrap().count();
        ["ingest", "leases", "layers/sha256", "blobs/sha256"].map(count)
    };
    commit("d", usize::MAX).unwrap();
    let all = count.load(Ordering::SeqCst);
    assert!(all > 100, "{all}");
    let (images, before) = (store.images().unwrap().len(), left());
    // The last two checks are at the layer's only bytes, and at its end.
    for last in [0, 1, 10, 100, all - 2] {
        let error = commit("c", last).unwrap_err();
        assert!(error.kind() == ErrorKind::Busy && error.to_string().ends_with("to end"), "{last}: {error}");
        assert_eq!(left(), before, "{last}");
        assert_eq!(store.images().unwrap().len(), images, "{last}");
        assert_eq!(count.load(Ordering::SeqCst), last + 1, "no check follows the one that failed");
    }
    commit("c", usize::MAX).unwrap();
    assert_eq!(count.load(Ordering::SeqCst), all);
}
