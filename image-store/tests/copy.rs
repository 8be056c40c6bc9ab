//! Copying tar archives into and out of a root file system.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;

use common::{Scratch, file, tar};
use image_store::tar::{Entry, Kind};
use image_store::{Store, StoreOptions};

fn store(place: &Scratch) -> Store {
    Store::open(place.path().join("store"), StoreOptions::default()).unwrap()
}

/// An archive's entries imply directories. Where these are links in the target, the links are followed within it; where they are
/// there, they stay as they are.
#[test]
fn an_archive_is_copied_through_links_to_directories() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    common::need_root!();
    let place = Scratch::new("through");
    let store = store(&place);
    let at = |path: &str| place.path().join(path);
    for dir in ["root/run", "root/var", "root/etc", "outside"] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    fs::set_permissions(at("root/etc"), fs::Permissions::from_mode(0o711)).unwrap();
    symlink("/run", at("root/var/run")).unwrap();
    symlink("../../../run", at("root/var/lock")).unwrap();
    symlink(at("outside"), at("root/var/out")).unwrap();
    let root = || image_store::copy::Place::root(File::open(at("root")).unwrap().into());
    let copy = |entries: &[(Entry, Vec<u8>)]| store.copy_in(tar(entries).as_slice(), &root(), "/", false);
    copy(&[file("var/run/act/a", b"a"), file("var/lock/b", b"b"), file("etc/c", b"c")]).unwrap();
    assert_eq!(fs::read(at("root/run/act/a")).unwrap(), b"a");
    assert_eq!(fs::read(at("root/run/b")).unwrap(), b"b");
    assert!(fs::symlink_metadata(at("root/var/run")).unwrap().is_symlink());
    assert_eq!(fs::metadata(at("root/etc")).unwrap().mode() & 0o777, 0o711);
    // A link that leads out of the root, and a directory that is an entry of its own.
    assert!(copy(&[file("var/out/x", b"x")]).is_err());
    assert!(
        copy(&[(Entry::new("var/run", Kind::Directory, 0o755), vec![]), file("var/run/x", b"x")]).is_err()
    );
    assert_eq!(fs::read_dir(at("outside")).unwrap().count(), 0);
    assert!(!at("root/run/x").exists());
}

/// Names have a meaning in layers only: an archive that is copied is files.
#[test]
fn an_archive_is_copied_with_the_names_that_it_has() {
    common::need_root!();
    let place = Scratch::new("literal");
    let store = store(&place);
    let at = |path: &str| place.path().join(path);
    fs::create_dir_all(at("root/d")).unwrap();
    fs::write(at("root/d/old"), "old").unwrap();
    let root = || image_store::copy::Place::root(File::open(at("root")).unwrap().into());
    let copy = |entries: &[(Entry, Vec<u8>)]| store.copy_in(tar(entries).as_slice(), &root(), "/", false);
    let names = [
        "a",
        ".wh.a",
        ".wh.",
        ".wh..",
        "d/.wh.old",
        "d/.wh..wh..opq",
        ".wh..wh.plnk",
        "e/.wh.dir/.wh.file",
        "last",
    ];
    copy(&names.map(|name| file(name, name.as_bytes()))).unwrap();
    for name in names {
        assert_eq!(fs::read(at("root").join(name)).unwrap(), name.as_bytes(), "{name}");
    }
    assert_eq!(fs::read(at("root/d/old")).unwrap(), b"old");
    let archive = store.copy_out(&root(), "/d", false, Vec::new()).unwrap();
    assert!(archive.windows(9).any(|part| part == b"d/.wh.old"));
    // They still cannot lead out, and errors say nothing about layers.
    let hard = Entry::new("b", Kind::Hardlink(b"d/old".to_vec()), 0o644);
    for (entry, wanted) in [
        (file("../x", b"x"), r#"archive entry "../x": "../x": path leads out of the root"#),
        ((hard, vec![]), r#"archive entry "b": hard link to "d/old": no such file in the archive"#),
        (
            (Entry::new("c", Kind::Character(0, 0), 0o644), vec![]),
            "archive entry \"c\": character device 0:0",
        ),
    ] {
        let error = copy(&[entry]).unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains("layer"), "{error}");
    }
}
