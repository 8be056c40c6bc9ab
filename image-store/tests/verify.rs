//! Verification and repair of layers that are unusual but intact.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use common::{Scratch, file, tar};
use image_store::platform::Platform;
use image_store::store::{Composition, Part};
use image_store::tar::{Entry, Kind, Timestamp};
use image_store::{Store, StoreOptions};

type Entries = Vec<(Entry, Vec<u8>)>;
type Damage = fn(&Path);

fn dir(path: &str) -> (Entry, Vec<u8>) {
    (Entry::new(path, Kind::Directory, 0o755), vec![])
}

fn link(path: &str, target: &str) -> (Entry, Vec<u8>) {
    (Entry::new(path, Kind::Symlink(target.into()), 0o777), vec![])
}

fn hard(path: &str, target: &str) -> (Entry, Vec<u8>) {
    (Entry::new(path, Kind::Hardlink(target.into()), 0o644), vec![])
}

fn at(seconds: i64, path: &str) -> (Entry, Vec<u8>) {
    let (entry, data) = file(path, b"x");
    (Entry { mtime: Timestamp { seconds, nanoseconds: 0 }, ..entry }, data)
}

/// Whether the file system of the tests keeps the time of a file.
fn keeps(place: &Path, seconds: i64) -> bool {
    let path = place.join("probe");
    let file = fs::File::create(&path).unwrap();
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::futimens(&file, &times).unwrap();
    fs::metadata(&path).unwrap().mtime() == seconds
}

/// Imports a layer, verifies it, damages the file `canary` in it, and repairs that.
fn verify(name: &str, entries: Entries) {
    let place = Scratch::new("verify");
    let store = Store::open(place.path().join("store"), StoreOptions::default()).unwrap();
    let entries = [entries, vec![file("canary", b"alive")]].concat();
    let image = store.import(tar(&entries).as_slice(), &Platform::host(), &Composition::default()).unwrap();
    assert_eq!(store.verify(false).unwrap(), [], "{name}: intact");
    assert_eq!(store.verify(true).unwrap(), [], "{name}: nothing to repair");
    let canary = store.root().join("layers").join(image.layers[0].path()).join("fs/canary");
    fs::write(&canary, "dead!").unwrap();
    for repair in [false, true] {
        let found = store.verify(repair).unwrap();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert_eq!(
            (&found[0].part, found[0].repaired),
            (&Part::Layer(image.layers[0].clone()), repair),
            "{name}"
        );
        assert!(found[0].why.contains("canary"), "{name}: {found:?}");
    }
    assert_eq!(fs::read(&canary).unwrap(), b"alive", "{name}");
    assert_eq!(store.verify(false).unwrap(), [], "{name}: repaired");
    assert_eq!(fs::read_dir(store.root().join("ingest")).unwrap().count(), 0, "{name}: left behind");
}

#[test]
fn a_layer_with_a_path_twice_is_intact() {
    common::need_root!();
    for (name, entries) in [
        ("two contents", vec![file("a", b"1"), file("a", b"22")]),
        ("the same size", vec![file("a", b"1"), file("a", b"2")]),
        ("two types", vec![file("a", b""), dir("a"), file("a/x", b"1"), link("b", "x"), file("b", b"2")]),
        ("a tree that is replaced", vec![dir("a"), file("a/x", b""), file("a", b"1")]),
        (
            "a tree that is made again",
            vec![dir("a"), file("a/x", b""), file("a", b"1"), dir("a"), file("a/y", b"")],
        ),
        ("by way of a link", vec![dir("c"), file("c/x", b"1"), link("a", "c"), file("a/x", b"22")]),
        ("a link's target", vec![file("a", b"1"), hard("b", "a"), file("a", b"22")]),
        ("a link", vec![file("a", b"1"), hard("b", "a"), file("b", b"22")]),
        ("a whiteout first", vec![file(".wh.a", b""), file("a", b"1")]),
        ("a whiteout that is replaced", vec![dir("a"), file("a/.wh.x", b""), file("a", b""), dir("a")]),
        ("attributes", vec![dir("a"), (Entry::new("a", Kind::Directory, 0o700), vec![])]),
    ] {
        verify(name, entries);
    }
}

#[test]
fn a_time_that_the_file_system_does_not_keep_is_not_damage() {
    common::need_root!();
    let place = Scratch::new("times");
    // Years 9999 and 1850.
    let times = [253_402_300_799, -3_786_825_600];
    let lost: Vec<_> = times.into_iter().filter(|seconds| !keeps(place.path(), *seconds)).collect();
    if lost.is_empty() {
        eprintln!("skipped: the file system keeps all times");
    }
    for seconds in lost {
        verify(&format!("time {seconds}"), vec![at(seconds, "a")]);
    }
}

/// What the pass over the blob does not look at, the comparison with the unpacked layer finds.
#[test]
fn a_layer_with_a_path_twice_may_be_damaged_anywhere() {
    common::need_root!();
    let entries = [
        vec![file("a", b"1"), file("a", b"22"), hard("l", "a"), dir("d"), link("s", "a")],
        vec![(Entry::new("p", Kind::Fifo, 0o644), vec![])],
    ]
    .concat();
    let damages: [(&str, Damage); 7] = [
        ("a", |root| fs::write(root.join("a"), "33").unwrap()),
        ("extra", |root| fs::write(root.join("extra"), "").unwrap()),
        ("d", |root| fs::remove_dir(root.join("d")).unwrap()),
        ("s", |root| {
            fs::remove_file(root.join("s")).unwrap();
            std::os::unix::fs::symlink("b", root.join("s")).unwrap();
        }),
        ("l", |root| {
            fs::copy(root.join("a"), root.join("copy")).unwrap();
            fs::rename(root.join("copy"), root.join("l")).unwrap();
        }),
        ("p", |root| std::os::unix::fs::chown(root.join("p"), Some(7), None).unwrap()),
        ("d", |root| {
            let name = "user.x";
            rustix::fs::setxattr(root.join("d"), name, b"y", rustix::fs::XattrFlags::empty()).unwrap();
        }),
    ];
    for (path, damage) in damages {
        let place = Scratch::new("damage");
        let store = Store::open(place.path().join("store"), StoreOptions::default()).unwrap();
        let image =
            store.import(tar(&entries).as_slice(), &Platform::host(), &Composition::default()).unwrap();
        damage(&store.root().join("layers").join(image.layers[0].path()).join("fs"));
        let found = store.verify(true).unwrap();
        assert!(found.len() == 1 && found[0].repaired, "{path}: {found:?}");
        assert!(found[0].why.contains(path), "{path}: {found:?}");
        assert_eq!(store.verify(false).unwrap(), [], "{path}");
    }
}
