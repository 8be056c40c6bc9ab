//! Unpacking layers: the result of valid ones, and that malicious ones cannot write outside their directory.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use common::{Scratch, file, tar, tar_raw, unpack, unpack_limited};
use image_store::ErrorKind;
use image_store::layer::Limits;
use image_store::tar::{Entry, Kind, Timestamp, Writer};

type Entries = Vec<(Entry, Vec<u8>)>;

fn dir(path: &str) -> (Entry, Vec<u8>) {
    (Entry::new(path, Kind::Directory, 0o755), Vec::new())
}

fn link(path: &str, target: &str) -> (Entry, Vec<u8>) {
    (Entry::new(path, Kind::Symlink(target.into()), 0o777), Vec::new())
}

fn hard(path: &str, target: &str) -> (Entry, Vec<u8>) {
    (Entry::new(path, Kind::Hardlink(target.into()), 0o644), Vec::new())
}

#[test]
fn attributes_are_those_of_the_archive() {
    common::need_root!();
    let place = Scratch::new("attributes");
    let mtime = Timestamp { seconds: 1_000_000_000, nanoseconds: 123_456_789 };
    let (mut tool, data) = file("usr/bin/tool", b"binary");
    tool = Entry { mode: 0o4755, uid: 12, gid: 34, mtime, ..tool };
    // cap_net_raw+ep, as setcap(8) writes it.
    let capability = vec![1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    tool.xattrs = vec![
        (b"security.capability".to_vec(), capability.clone()),
        (b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec()),
    ];
    let tmp = Entry { mtime, ..Entry::new("tmp/", Kind::Directory, 0o1777) };
    let old = Entry { mtime: Timestamp { seconds: -1, nanoseconds: 5 }, ..link("l", "nowhere").0 };
    let bytes = tar(&[
        (tool, data),
        (tmp, vec![]),
        (old, vec![]),
        file("tmp/x", b"later"),
        hard("t2", "usr/bin/tool"),
    ]);
    let applied = unpack(&place, &bytes).unwrap();
    let root = place.path().join("fs");
    let meta = fs::metadata(root.join("usr/bin/tool")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.nlink()), (0o4755, 12, 34, 2));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_000_000_000, 123_456_789));
    let mut value = [0_u8; 64];
    let length = rustix::fs::getxattr(root.join("usr/bin/tool"), c"security.capability", &mut value).unwrap();
    assert_eq!(&value[..length], capability);
    assert!(
        rustix::fs::getxattr(root.join("usr/bin/tool"), c"trusted.overlay.redirect", &mut value).is_err()
    );
    let tmp = fs::metadata(root.join("tmp")).unwrap();
    assert_eq!((tmp.mode() & 0o7777, tmp.mtime()), (0o1777, 1_000_000_000), "time set after its content");
    assert_eq!(fs::symlink_metadata(root.join("l")).unwrap().mtime(), -1);
    assert_eq!(applied.implied, [b"".to_vec(), b"usr".to_vec(), b"usr/bin".to_vec()]);
    assert_eq!(fs::metadata(root.join("usr")).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn whiteouts_become_overlay_marks_in_any_order() {
    common::need_root!();
    let place = Scratch::new("whiteouts");
    let bytes = tar(&[
        dir("keep"),
        file("keep/.wh.gone", b""),
        file("opaque/child", b"x"),
        file("opaque/.wh..wh..opq", b""),
        file(".wh.replaced", b""),
        dir("replaced"),
        file("replaced/new", b"x"),
        file("own", b"x"),
        file(".wh.own", b""),
        file(".wh..wh.plnk/1", b"aufs"),
    ]);
    unpack(&place, &bytes).unwrap();
    let root = place.path().join("fs");
    let gone = fs::symlink_metadata(root.join("keep/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for dir in ["opaque", "replaced"] {
        let mut value = [0_u8; 4];
        let length = rustix::fs::getxattr(root.join(dir), c"trusted.overlay.opaque", &mut value).unwrap();
        assert_eq!(&value[..length], b"y", "{dir}");
    }
    assert_eq!(fs::read(root.join("own")).unwrap(), b"x", "a whiteout hides only what lies below");
    assert_eq!(fs::read(root.join("opaque/child")).unwrap(), b"x");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 4);
}

#[test]
fn the_last_of_several_entries_counts_and_is_never_written_through() {
    common::need_root!();
    let place = Scratch::new("duplicates");
    let canary = place.path().join("canary");
    fs::write(&canary, "untouched").unwrap();
    let outside = canary.to_str().unwrap();
    let bytes = tar(&[
        file("a", b"1"),
        file("a", b"22"),
        link("b", outside),
        file("b", b"replaced"),
        dir("c"),
        file("c/x", b""),
        link("c", "/etc"),
        file("c/inside", b"in the layer's etc"),
        file("d", b""),
        dir("d"),
        link("e", outside),
        hard("f", "e"),
        file("f", b"over the link"),
        dir("g"),
        file("g/.wh.x", b""),
        file("g", b"not a directory any more"),
    ]);
    unpack(&place, &bytes).unwrap();
    let root = place.path().join("fs");
    assert_eq!(fs::read(root.join("a")).unwrap(), b"22");
    assert_eq!(fs::read(root.join("b")).unwrap(), b"replaced");
    assert_eq!(fs::read(root.join("etc/inside")).unwrap(), b"in the layer's etc");
    assert!(root.join("d").is_dir() && root.join("g").is_file());
    assert_eq!(fs::read(&canary).unwrap(), b"untouched");
    assert!(!std::path::Path::new("/etc/inside").exists());
}

#[test]
fn links_are_followed_only_within_the_layer() {
    common::need_root!();
    let place = Scratch::new("links");
    let up = "../".repeat(30);
    let bytes = tar(&[
        link("abs", "/target"),
        file("abs/one", b"1"),
        link("rel", &format!("{up}target")),
        file("rel/two", b"2"),
        link("dangling", "not/there/yet"),
        file("dangling/three", b"3"),
        link("host", &format!("{up}{}", place.path().display())),
        file("host/four", b"4"),
    ]);
    unpack(&place, &bytes).unwrap();
    let root = place.path().join("fs");
    for (path, content) in [("target/one", "1"), ("target/two", "2"), ("not/there/yet/three", "3")] {
        assert_eq!(fs::read_to_string(root.join(path)).unwrap(), content, "{path}");
    }
    assert!(!place.path().join("four").exists());
    let inside = place.path().strip_prefix("/").unwrap();
    assert_eq!(fs::read_to_string(root.join(inside).join("four")).unwrap(), "4");
}

#[test]
fn malicious_layers_are_refused_and_write_nothing_outside() {
    common::need_root!();
    let place = Scratch::new("malicious");
    fs::write(place.path().join("secret"), "s").unwrap();
    let deep = "d/".repeat(2100);
    let device = Entry::new("w", Kind::Character(0, 0), 0o600);
    let cases: Vec<(&str, Entries)> = vec![
        ("parent", vec![file("../secret", b"x")]),
        ("parent inside", vec![file("a/../../secret", b"x")]),
        ("hard link out", vec![hard("x", "../secret")]),
        ("hard link by absolute path", vec![hard("x", place.path().join("secret").to_str().unwrap())]),
        ("hard link through a link", vec![link("l", place.path().to_str().unwrap()), hard("x", "l/secret")]),
        ("hard link to the root", vec![hard("x", ".")]),
        ("hard link to itself", vec![file("x", b""), hard("x", "./x")]),
        ("hard link to a directory", vec![dir("d"), hard("x", "d")]),
        ("hard link to a lower layer", vec![hard("x", "usr/bin/env")]),
        ("loop of links", vec![link("a", "b"), link("b", "a"), file("a/x", b"")]),
        ("file as a directory", vec![file("f", b""), file("f/x", b"")]),
        ("whiteout of nothing", vec![file("d/.wh.", b"")]),
        ("whiteout of the parent", vec![file("d/.wh...", b"")]),
        ("whiteout as a directory", vec![file(".wh.d/x", b"")]),
        ("overlay's own whiteout", vec![(device, vec![])]),
        ("too deep", vec![file(&format!("{deep}f"), b"")]),
        ("too long a name", vec![file(&"n".repeat(256), b"")]),
        (
            "root as a file",
            vec![file("./", b"").0.clone()]
                .into_iter()
                .map(|e| (Entry { kind: Kind::Fifo, ..e }, vec![]))
                .collect(),
        ),
    ];
    for (name, entries) in cases {
        let result = unpack(&place, &tar(&entries));
        assert!(result.is_err(), "{name}: was taken");
        assert_eq!(fs::read(place.path().join("secret")).unwrap(), b"s", "{name}");
        assert_eq!(fs::metadata(place.path().join("secret")).unwrap().nlink(), 1, "{name}");
    }
}

#[test]
fn names_are_bytes_and_long_ones_fit() {
    common::need_root!();
    let place = Scratch::new("names");
    let long = format!("{}/{}", "n".repeat(255), "m".repeat(255));
    let entries = [
        (Entry { size: 0, ..Entry::new(&b"\xff\xfe\n"[..], Kind::File, 0o644) }, vec![]),
        file(&long, b"x"),
        file("/absolute", b"x"),
        file("./dot/./x", b"x"),
    ];
    unpack(&place, &tar(&entries)).unwrap();
    use std::os::unix::ffi::OsStrExt as _;
    let root = place.path().join("fs");
    assert!(root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe\n")).exists());
    assert!(root.join(long).exists() && root.join("absolute").exists() && root.join("dot/x").exists());
}

#[test]
fn bombs_stop_at_their_limits() {
    common::need_root!();
    let place = Scratch::new("bombs");
    let entries: Vec<_> = (0..100).map(|n| file(&format!("f{n}"), b"")).collect();
    let few = Limits { entries: 50, ..Limits::default() };
    assert_eq!(unpack_limited(&place, &tar(&entries), few).unwrap_err().kind(), ErrorKind::Limit);
    let small = Limits { bytes: 1 << 20, ..Limits::default() };
    let big = tar(&[file("big", &vec![0; 3 << 20])]);
    assert_eq!(unpack_limited(&place, &common::gzip(&big), small).unwrap_err().kind(), ErrorKind::Limit);
    // A header without its data, and a sparse file.
    let mut header = image_store::tar::header::Header::ustar(b'0');
    assert!(header.set_path(b"huge") && header.set_numbers(0o644, 0, 0, 0o77_777_777_777, 0).is_empty());
    header.seal();
    assert!(unpack(&place, &tar_raw(&[&header.0])).unwrap_err().to_string().contains("truncated"));
    let zeros = common::zstd_zeros(1 << 31);
    let error = unpack(&place, &zeros).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Limit | ErrorKind::Invalid), "{error}");
}

#[test]
fn sparse_files_keep_their_holes() {
    common::need_root!();
    let place = Scratch::new("sparse");
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    let hole = fs::File::create(source.join("hole")).unwrap();
    hole.set_len(2 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&hole, b"middle", 1 << 30).unwrap();
    for (format, version) in common::SPARSE {
        let archive = common::sparse_archive(&place, &source, (format, version));
        unpack(&place, &archive).unwrap();
        let file = fs::File::open(place.path().join("fs/hole")).unwrap();
        let meta = file.metadata().unwrap();
        assert!(
            meta.len() == 2 << 30 && meta.blocks() < 1000,
            "{format} {version}: {} blocks",
            meta.blocks()
        );
        let mut middle = [0; 6];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut middle, 1 << 30).unwrap();
        assert_eq!(&middle, b"middle", "{format} {version}");
    }
}

#[test]
fn the_digest_covers_what_follows_the_archive() {
    common::need_root!();
    let place = Scratch::new("trailing");
    let mut bytes = tar(&[file("a", b"x")]);
    bytes.extend_from_slice(b"after the end");
    let unpacked = common::unpack_whole(&place, &bytes, Limits::default()).unwrap();
    assert_eq!(unpacked.diff_id, image_store::Digest::of(&bytes));
    assert_eq!(unpacked.diff_size, bytes.len() as u64);
    assert!(unpack(&place, &[&common::gzip(&bytes)[..], b"garbage"].concat()).is_err());
}

#[test]
fn we_unpack_the_same_as_gnu_tar() {
    common::need_root!();
    let place = Scratch::new("differential");
    let archive = place.path().join("usr.tar");
    // A copy: tar fails if a file changes while it is read.
    let mut copy = std::process::Command::new("cp");
    copy.args(["-a", "--parents", "/etc", "/usr/share/perl5"]).arg(place.path());
    let _ = copy.stderr(std::process::Stdio::null()).status().unwrap();
    for format in ["gnu", "pax", "ustar", "v7"] {
        let status = std::process::Command::new("tar")
            .args(["-C", place.path().to_str().unwrap(), "--format", format])
            .args(["-cf", archive.to_str().unwrap(), "etc", "usr/share/perl5"])
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        // The format v7 cannot store all names: tar leaves these out with an error.
        assert!(status.success() || format == "v7" || format == "ustar", "{format}");
        let theirs = place.path().join("theirs");
        let _ = fs::remove_dir_all(&theirs);
        fs::create_dir(&theirs).unwrap();
        let status =
            std::process::Command::new("tar").args(["-C"]).arg(&theirs).arg("-xpf").arg(&archive).status();
        assert!(status.unwrap().success());
        unpack(&place, &fs::read(&archive).unwrap()).unwrap();
        let ours = common::listing(&place.path().join("fs"));
        assert!(ours.len() > 300, "{}", ours.len());
        for (line, wanted) in ours.iter().zip(&common::listing(&theirs)) {
            assert_eq!(line, wanted, "{format}");
        }
    }
}

#[test]
fn a_layer_written_again_has_the_same_bytes() {
    common::need_root!();
    let place = Scratch::new("round");
    let (first, data) = file("d/f", b"content");
    let first =
        Entry { uid: 5, gid: 6, mode: 0o2755, mtime: Timestamp { seconds: 99, nanoseconds: 5 }, ..first };
    let again =
        Entry { kind: Kind::Hardlink(b"d/f".to_vec()), path: b"d/h".to_vec(), size: 0, ..first.clone() };
    let root = Entry::new("./", Kind::Directory, 0o755);
    let bytes = tar(&[
        (root, vec![]),
        dir("d"),
        (Entry { mode: 0, ..file("d/.wh.gone", b"").0 }, vec![]),
        (first, data),
        (again, vec![]),
        link("d/l", "f"),
        (Entry::new("d/p", Kind::Fifo, 0o600), vec![]),
        dir("o"),
        (Entry { mode: 0, ..file("o/.wh..wh..opq", b"").0 }, vec![]),
        file("o/x", b""),
    ]);
    unpack(&place, &bytes).unwrap();
    let write = || {
        let root = fs::File::open(place.path().join("fs")).unwrap();
        let mut writer = image_store::tar::Writer::new(Vec::new());
        let options = image_store::layer::diff::DiffOptions {
            marks: Some(image_store::layer::Marks::Trusted),
            latest: None,
        };
        image_store::layer::diff::write_diff(root.as_fd(), &mut writer, options, &|| Ok(())).unwrap();
        writer.finish().unwrap()
    };
    let again = write();
    // Without the first block, the entry of the root.
    assert!(again == bytes[512..], "differs");
    assert_eq!(again, write());
}

/// An output that changes the tree as soon as the first entry, `a`, was begun.
struct Meddling<'a> {
    tree: &'a Path,
    bytes: Vec<u8>,
}

impl std::io::Write for Meddling<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.is_empty() {
            fs::write(self.tree.join("a"), vec![b'+'; 900_000])?;
            fs::write(self.tree.join("b"), "short")?;
            fs::remove_dir_all(self.tree.join("c"))?;
            fs::remove_file(self.tree.join("d"))?;
            fs::remove_file(self.tree.join("e"))?;
            fs::create_dir_all(self.tree.join("e/new"))?;
            fs::remove_dir_all(self.tree.join("f"))?;
            fs::write(self.tree.join("f"), "a file now")?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a container writes meanwhile does not end the work, and the archive is well-formed.
#[test]
fn a_tree_that_changes_while_it_is_written_gives_an_archive() {
    let place = Scratch::new("changing");
    for dir in ["c/deep", "f/deep"] {
        fs::create_dir_all(place.path().join(dir)).unwrap();
    }
    for (name, size) in [("a", 400_000), ("b", 300_000), ("d", 10), ("e", 10), ("z", 10)] {
        fs::write(place.path().join(name), vec![b'.'; size]).unwrap();
    }
    let mut writer = Writer::new(Meddling { tree: place.path(), bytes: Vec::new() });
    let root = File::open(place.path()).unwrap();
    image_store::layer::diff::write_diff(root.as_fd(), &mut writer, Default::default(), &|| Ok(())).unwrap();
    let archive = writer.finish().unwrap().bytes;
    let mut reader = image_store::tar::Reader::new(archive.as_slice());
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut data = Vec::new();
        if entry.kind == Kind::File {
            reader
                .data(|piece| {
                    data.extend_from_slice(piece);
                    Ok(())
                })
                .unwrap();
        }
        let name = String::from_utf8(entry.path).unwrap();
        found.push((name.trim_end_matches('/').to_owned(), entry.size, data.len() as u64));
    }
    let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "e", "e/new", "f", "z"]);
    assert!(found.iter().all(|(_, size, length)| size == length), "{found:?}");
    // Sizes are those of the moment at which an entry was begun.
    assert_eq!((found[0].1, found[1].1), (400_000, 5));
}

/// A file that becomes shorter while it is read is filled up with zeros.
#[test]
fn a_file_that_shrinks_while_it_is_written_is_filled_up() {
    struct Shrinking<'a>(&'a Path, Vec<u8>);
    impl std::io::Write for Shrinking<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.1.is_empty() {
                File::options().write(true).open(self.0)?.set_len(3)?;
            }
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let place = Scratch::new("shrinking");
    fs::write(place.path().join("a"), "0123456789").unwrap();
    let path = place.path().join("a");
    let mut writer = Writer::new(Shrinking(&path, Vec::new()));
    let root = File::open(place.path()).unwrap();
    image_store::layer::diff::write_diff(root.as_fd(), &mut writer, Default::default(), &|| Ok(())).unwrap();
    let archive = writer.finish().unwrap().1;
    let mut reader = image_store::tar::Reader::new(archive.as_slice());
    assert_eq!(reader.next_entry().unwrap().unwrap().size, 10);
    let mut data = Vec::new();
    reader
        .data(|piece| {
            data.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
    assert_eq!(data, b"012\0\0\0\0\0\0\0");
}
