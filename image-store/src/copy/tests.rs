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
    for (file, part) in [("/proc/self/status", "Pid:"), ("/proc/sys/kernel/ostype", "Linux\n")] {
        copy(&host, file, &bench.root(), "/copied", options()).unwrap();
        assert!(bench.read("root/copied").contains(part), "{file}");
    }
}

fn make(at: &Path, kind: FileType, device: u64) -> bool {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let made = rustix::fs::mknodat(rustix::fs::CWD, at, kind, mode, device);
    made.inspect_err(|errno| eprintln!("skipped: cannot create {kind:?} here: {errno}")).is_ok()
}

/// Devices, pipes and sockets, with what they are called. Devices of the tests need root.
fn specials() -> [(FileType, u64, &'static str); 4] {
    [
        (FileType::Fifo, 0, "a named pipe"),
        (FileType::Socket, 0, "a socket"),
        (FileType::CharacterDevice, rustix::fs::makedev(1, 3), "a character device"),
        (FileType::BlockDevice, rustix::fs::makedev(7, 250), "a block device"),
    ]
}

#[test]
fn a_target_that_is_neither_a_directory_nor_a_regular_file_is_refused() {
    for (kind, device, what) in specials() {
        let bench = Bench::new();
        for side in ["host/special", "root/special"] {
            if !make(&bench.at(side), kind, device) {
                return;
            }
            bench.link("special", &format!("{side}-link"));
        }
        let wanted = format!("must be a directory or a regular file: it is {what}");
        for target in ["special", "special-link"] {
            for refused in [
                bench.out("/etc/conf.d/a", &format!("host/{target}")),
                bench.out("/etc/conf.d", &format!("host/{target}")),
                bench.put("host/f", target),
                bench.put("host/dir", target),
            ] {
                let error = refused.unwrap_err();
                assert!(error.to_string().contains(&wanted), "{what}: {error}");
            }
        }
        for side in ["host/special", "root/special"] {
            let there = fs::symlink_metadata(bench.at(side)).unwrap();
            assert_eq!(FileType::from_raw_mode(there.mode()), kind, "{side}");
        }
    }
}

#[test]
fn in_a_tree_specials_of_the_host_are_kept_and_those_of_a_root_replaced() {
    for (kind, device, what) in specials() {
        let bench = Bench::new();
        fs::create_dir_all(bench.at("host/conf.d")).unwrap();
        if !make(&bench.at("host/conf.d/a"), kind, device) {
            return;
        }
        for source in ["/etc/conf.d", "/etc/conf.d/."] {
            let target = if source.ends_with('.') { "host/conf.d" } else { "host" };
            let error = bench.out(source, target).unwrap_err().to_string();
            assert!(error.contains(&format!("a\": {what} is there, which is not replaced")), "{error}");
            let there = fs::symlink_metadata(bench.at("host/conf.d/a")).unwrap();
            assert_eq!(FileType::from_raw_mode(there.mode()), kind);
        }
        assert!(make(&bench.at("root/etc/f"), kind, device));
        bench.put("host/f", "/etc").unwrap();
        assert_eq!(bench.read("root/etc/f"), "host", "{what}");
    }
}

#[test]
fn a_pipe_that_was_copied_before_stays_the_same() {
    let bench = Bench::new();
    assert!(make(&bench.at("root/etc/fifo"), FileType::Fifo, 0));
    bench.out("/etc", "host").unwrap();
    let open = rustix::fs::open(bench.at("host/etc/fifo"), OFlags::PATH, Mode::empty()).unwrap();
    bench.out("/etc", "host").unwrap();
    assert_eq!(rustix::fs::fstat(&open).unwrap().st_nlink, 1);
}

/// As the target of a copy, /dev/stdout is what standard output is: a new file in its place would be lost.
#[test]
fn a_link_to_an_open_file_is_not_a_target() {
    use std::os::fd::AsRawFd as _;
    let bench = Bench::new();
    let open = File::create(bench.at("host/open")).unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    for fd in [open.as_raw_fd(), reader.as_raw_fd()] {
        bench.link(format!("/proc/self/fd/{fd}"), &format!("host/{fd}"));
        for target in [bench.at(&format!("host/{fd}")), format!("/proc/self/fd/{fd}").into()] {
            let to = Place::host().unwrap();
            let refused = copy(&bench.root(), "/etc/conf.d/a", &to, target.to_str().unwrap(), options());
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("use \"-\" to write a tar archive to standard output"), "{error}");
        }
    }
    assert_eq!(bench.read("host/open"), "");
    assert_eq!(fs::metadata(bench.at("host/open")).unwrap().ino(), open.metadata().unwrap().ino());
}

#[test]
fn an_error_far_down_names_the_first_and_the_last_directories_only() {
    let bench = Bench::new();
    let deep = "d/".repeat(255);
    fs::create_dir_all(bench.at("root/etc/conf.d").join(&deep)).unwrap();
    let error = bench.out("/etc", "host").unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Limit);
    let error = error.to_string();
    assert!(error.contains(r#""etc/conf.d/d/.../d/d/d": directories nested more than 256 deep"#), "{error}");
}

/// A mount that ends with the test.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn of_the_mounts_in_a_root_only_its_own_are_copied() {
    use rustix::mount::{MountFlags, mount, mount_bind_recursive};
    let bench = Bench::new();
    for dir in [
        "host/volume/sub",
        "host/volume/kernel",
        "root/proc",
        "root/volume",
        "root/var/memory",
        "root/var/own",
    ] {
        fs::create_dir_all(bench.at(dir)).unwrap();
    }
    fs::write(bench.at("host/volume/f"), "volume").unwrap();
    let mut mounted = Vec::new();
    for (kind, at) in [
        ("tmpfs", "host/volume/sub"),
        ("proc", "host/volume/kernel"),
        ("proc", "root/proc"),
        ("tmpfs", "root/var/memory"),
        ("tmpfs", "root/var/own"),
    ] {
        let at = bench.at(at);
        if let Err(errno) = mount(kind, &at, kind, MountFlags::empty(), None) {
            eprintln!("skipped: cannot mount here: {errno}");
            return;
        }
        mounted.push(Mounted(at));
    }
    mount_bind_recursive(bench.at("host/volume"), bench.at("root/volume")).unwrap();
    mounted.push(Mounted(bench.at("root/volume")));
    for (dir, text) in [("host/volume/sub", "sub"), ("root/var/memory", "memory"), ("root/var/own", "own")] {
        fs::create_dir(bench.at(dir).join("inner")).unwrap();
        fs::write(bench.at(dir).join("inner/f"), text).unwrap();
    }
    fs::set_permissions(bench.at("root/var/memory"), fs::Permissions::from_mode(0o1711)).unwrap();
    let root = bench.root().with_mounts(["/volume", "/var/own", "/no/such"]).unwrap();
    let out = |source: &str, target: &str| {
        copy(&root, source, &Place::host().unwrap(), bench.at(target).to_str().unwrap(), options())
    };
    let is_empty = |path: &str| fs::read_dir(bench.at(path)).unwrap().next().is_none();
    out("/", "host/all").unwrap();
    assert_eq!(bench.read("host/all/etc/conf.d/a"), "a");
    assert_eq!(bench.read("host/all/volume/f"), "volume");
    assert_eq!(bench.read("host/all/volume/sub/inner/f"), "sub");
    assert_eq!(bench.read("host/all/var/own/inner/f"), "own");
    for hidden in ["host/all/proc", "host/all/volume/kernel", "host/all/var/memory"] {
        assert!(is_empty(hidden), "{hidden}");
    }
    assert_eq!(fs::metadata(bench.at("host/all/var/memory")).unwrap().mode() & 0o7777, 0o1711);
    // The same if it is named, with its contents, and into a directory that exists.
    for (source, target, made) in [
        ("/proc", "host/p1", "host/p1"),
        ("/proc/.", "host/p2", "host/p2"),
        ("/var/memory/.", "host/p2", "host/p2"),
        ("/proc", "host/dir", "host/dir/proc"),
    ] {
        out(source, target).unwrap();
        assert!(is_empty(made), "{source}");
    }
    // What is below such a mount is copied if it is named.
    out("/var/memory/inner", "host/inner").unwrap();
    assert_eq!(bench.read("host/inner/f"), "memory");
    out("/proc/sys/kernel/ostype", "host/ostype").unwrap();
    assert_eq!(bench.read("host/ostype"), "Linux\n");
    // A root whose mounts are not told apart is copied as it is.
    fs::create_dir(bench.at("host/plain")).unwrap();
    bench.out("/var", "host/plain").unwrap();
    assert_eq!(bench.read("host/plain/var/memory/inner/f"), "memory");
}
