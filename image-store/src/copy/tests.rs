use super::*;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::scratch::Scratch;

/// A root file system and a directory of the host.
struct Bench(Scratch);

impl Bench {
    fn new() -> Self {
        let place = Scratch::new("copy");
        for dir in ["root/etc/conf.d", "root/run", "root/var", "host/dir"] {
            fs::create_dir_all(place.path().join(dir)).unwrap();
        }
        for (file, text) in [("root/etc/conf.d/a", "a"), ("canary", "untouched"), ("host/f", "host")] {
            fs::write(place.path().join(file), text).unwrap();
        }
        Self(place)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn link(&self, target: impl AsRef<Path>, name: &str) {
        symlink(target, self.at(name)).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    fn is_link(&self, path: &str) -> bool {
        fs::symlink_metadata(self.at(path)).unwrap().is_symlink()
    }

    fn root(&self) -> Place {
        Place::root(File::open(self.at("root")).unwrap().into())
    }

    fn out(&self, source: &str, target: &str) -> Result<()> {
        self.out_with(source, target, options())
    }

    fn out_with(&self, source: &str, target: &str, options: CopyOptions) -> Result<()> {
        copy(&self.root(), source, &Place::host().unwrap(), self.at(target).to_str().unwrap(), options)
    }

    fn put(&self, source: &str, target: &str) -> Result<()> {
        let host = Place::host().unwrap();
        copy(&host, self.at(source).to_str().unwrap(), &self.root(), target, options())
    }
}

fn options() -> CopyOptions {
    let me = Owner::Set(rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    CopyOptions { owner: me, follow: false, devices: false }
}

#[test]
fn the_rules_are_dockers_and_links_do_not_lead_out() {
    let bench = Bench::new();
    bench.link(bench.at("host"), "root/out");
    bench.link("../../canary", "root/link");
    bench.out("/etc/conf.d", "host").unwrap();
    assert_eq!(bench.read("host/conf.d/a"), "a");
    bench.out("/etc/conf.d/.", "host").unwrap();
    assert!(bench.at("host/a").exists());
    bench.out("/etc/conf.d", "host/new").unwrap();
    assert!(bench.at("host/new/a").exists());
    bench.out("/", "host/all").unwrap();
    assert!(bench.at("host/all/etc/conf.d/a").exists());
    bench.out("/etc/conf.d/a", "host/renamed").unwrap();
    bench.out("link", "host").unwrap();
    assert!(bench.is_link("host/link"));
    bench.out("../../../etc/conf.d/a", "host/dots").unwrap();
    assert_eq!(bench.read("host/dots"), "a");
    for (source, target) in [
        ("/nothing", "host"),
        ("/etc/conf.d/a", "host/no/such"),
        ("/etc/conf.d/a/.", "host"),
        ("/etc/conf.d/a", "host/none/"),
    ] {
        assert_eq!(bench.out(source, target).unwrap_err().kind(), crate::ErrorKind::NotFound, "{source}");
    }
    bench.put("host/a", "/etc/new").unwrap();
    assert!(bench.at("root/etc/new").exists());
    assert!(bench.put("host/a", "/out/x").is_err(), "an absolute link leads to what is not in the root");
    assert!(!bench.at("host/x").exists());
    assert!(bench.put("host/conf.d", "/etc/new").is_err(), "a directory onto a file");
    assert!(bench.put("host/a", "/etc/conf.d/../..").is_ok() && bench.at("root/a").exists());
}

#[test]
fn a_target_that_is_a_link_is_followed_within_the_root() {
    for (link, at, written) in [
        ("etc/there", "link", "root/etc/there"),
        ("/etc/there", "link", "root/etc/there"),
        ("etc/not-there", "link", "root/etc/not-there"),
        ("../../../etc/not-there", "var/link", "root/etc/not-there"),
        ("/second", "link", "root/etc/second"),
        ("../../canary", "link", "root/canary"),
        ("../etc/conf.d/../new", "var/link", "root/etc/new"),
    ] {
        let bench = Bench::new();
        fs::write(bench.at("root/etc/there"), "old").unwrap();
        bench.link("etc/second", "root/second");
        bench.link(link, &format!("root/{at}"));
        bench.put("host/f", at).unwrap();
        assert_eq!(bench.read(written), "host", "{link}");
        assert!(bench.is_link(&format!("root/{at}")), "{link}");
        assert_eq!(bench.read("canary"), "untouched", "{link}");
    }
    let bench = Bench::new();
    bench.link("loop", "root/loop");
    bench.link("/no/such/dir/file", "root/lost");
    assert!(bench.put("host/f", "loop").is_err() && bench.put("host/f", "lost").is_err());
    bench.link("there", "host/link");
    bench.out("/etc/conf.d/a", "host/link").unwrap();
    assert_eq!(bench.read("host/there"), "a");
    // In a directory, a link is replaced by what is copied in its place.
    bench.link("../../canary", "root/etc/f");
    bench.put("host/f", "/etc").unwrap();
    assert!(!bench.is_link("root/etc/f") && bench.read("canary") == "untouched");
}

#[test]
fn a_source_that_is_a_link_is_followed_with_a_slash_or_on_request() {
    let follow = CopyOptions { follow: true, ..options() };
    for (source, options, made) in [
        ("dir", options(), None),
        ("dir/", options(), Some("host/dir/dir/a")),
        ("dir/.", options(), Some("host/dir/a")),
        ("dir", follow, Some("host/dir/dir/a")),
        ("file", options(), None),
        ("file", follow, Some("host/dir/file")),
    ] {
        let bench = Bench::new();
        bench.link("/etc/conf.d", "root/dir");
        bench.link("etc/conf.d/a", "root/file");
        bench.out_with(source, "host/dir", options).unwrap();
        match made {
            Some(made) => assert_eq!(bench.read(made), "a", "{source}"),
            None => assert!(bench.is_link(&format!("host/dir/{source}")), "{source}"),
        }
    }
}

#[test]
fn pipes_hard_links_and_holes_are_kept_and_sockets_left_out() {
    let bench = Bench::new();
    let fifo = rustix::fs::Mode::from_raw_mode(0o620);
    rustix::fs::mknodat(rustix::fs::CWD, bench.at("root/etc/fifo"), FileType::Fifo, fifo, 0).unwrap();
    fs::set_permissions(bench.at("root/etc/fifo"), fs::Permissions::from_mode(0o622)).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(bench.at("root/etc/socket")).unwrap();
    fs::hard_link(bench.at("root/etc/conf.d/a"), bench.at("root/etc/again")).unwrap();
    let sparse = File::create(bench.at("root/etc/sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 32 << 20).unwrap();
    File::create(bench.at("root/etc/hole")).unwrap().set_len(5000).unwrap();
    bench.out("/etc", "host/etc").unwrap();
    let meta = |path: &str| fs::symlink_metadata(bench.at(path)).unwrap();
    assert!(meta("host/etc/fifo").file_type().is_fifo() && meta("host/etc/fifo").mode() & 0o777 == 0o622);
    assert!(!bench.at("host/etc/socket").exists());
    assert_eq!(meta("host/etc/again").ino(), meta("host/etc/conf.d/a").ino());
    assert!(meta("host/etc/sparse").len() == 64 << 20 && meta("host/etc/sparse").blocks() < 1024);
    assert_eq!(&fs::read(bench.at("host/etc/sparse")).unwrap()[32 << 20..][..6], b"middle");
    assert_eq!(meta("host/etc/hole").len(), 5000);
    drop(socket);
}

/// As root of the tests, since others cannot create devices.
#[test]
fn devices_are_copied_on_request_only_and_all_else_is_copied_in_any_case() {
    let bench = Bench::new();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let make =
        |name: &str, kind, device| rustix::fs::mknodat(rustix::fs::CWD, bench.at(name), kind, mode, device);
    let null = rustix::fs::makedev(1, 3);
    if let Err(errno) = make("root/etc/a-null", FileType::CharacterDevice, null) {
        eprintln!("skipped: cannot create devices here: {errno}");
        return;
    }
    fs::set_permissions(bench.at("root/etc"), fs::Permissions::from_mode(0o751)).unwrap();
    let error = bench.out("/etc", "host/etc").unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Unsupported);
    assert!(
        error.to_string().contains(r#""etc/a-null": devices are copied in archive mode only"#),
        "{error}"
    );
    assert!(bench.at("host/etc/conf.d/a").exists() && !bench.at("host/etc/a-null").exists());
    assert_eq!(fs::metadata(bench.at("host/etc")).unwrap().mode() & 0o7777, 0o751);
    bench.out_with("/etc", "host", CopyOptions { devices: true, ..options() }).unwrap();
    let meta = fs::symlink_metadata(bench.at("host/etc/a-null")).unwrap();
    assert!(meta.file_type().is_char_device() && meta.rdev() == null);
}

#[test]
fn a_directory_gets_its_mode_even_if_the_copy_fails() {
    let bench = Bench::new();
    fs::create_dir(bench.at("root/etc/z")).unwrap();
    fs::set_permissions(bench.at("root/etc"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(bench.at("host/dir/etc")).unwrap();
    // A file is where a directory would be made.
    fs::write(bench.at("host/dir/etc/z"), "").unwrap();
    fs::set_permissions(bench.at("host/dir/etc"), fs::Permissions::from_mode(0o700)).unwrap();
    let error = bench.out("/etc", "host/dir").unwrap_err();
    assert!(error.to_string().contains("cannot replace a file with a directory"), "{error}");
    assert_eq!(fs::metadata(bench.at("host/dir/etc")).unwrap().mode() & 0o777, 0o755);
    assert_eq!(bench.read("host/dir/etc/conf.d/a"), "a");
}

/// Files may have other sizes than their metadata says: procfs has none.
#[test]
fn files_without_a_size_are_read_to_their_end() {
    let bench = Bench::new();
    let host = Place::host().unwrap();
    copy(&host, "/proc/self/status", &bench.root(), "/status", options()).unwrap();
    assert!(bench.read("root/status").contains("Pid:"));
}
