//! Volumes: their initial contents, that a used volume is not changed, and volumes of earlier versions.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use common::{Scratch, listing, need_root};
use image_store::copy::Place;
use image_store::store::Part;
use image_store::{ErrorKind, Store, StoreOptions};

/// A store, an image's root file system, and a directory of the host that must not change.
struct Bench {
    place: Scratch,
    store: Store,
}

impl Bench {
    fn new(name: &str) -> Self {
        let place = Scratch::new(name);
        let store = Store::open(place.path().join("store"), StoreOptions::default()).unwrap();
        fs::create_dir_all(place.path().join("image/dir/sub")).unwrap();
        fs::write(place.path().join("image/dir/file"), "of the image").unwrap();
        fs::create_dir(place.path().join("host")).unwrap();
        fs::write(place.path().join("host/canary"), "of the host").unwrap();
        Self { place, store }
    }

    fn image(&self, path: &str) -> PathBuf {
        self.place.path().join("image").join(path)
    }

    fn files(&self, volume: &str) -> PathBuf {
        self.store.root().join("volumes").join(volume)
    }

    fn record(&self, volume: &str) -> PathBuf {
        self.store.root().join("volume-records").join(format!("{volume}.json"))
    }

    fn root(&self) -> Place {
        Place::root(File::open(self.image("")).unwrap().into())
    }

    /// Uses a volume like a container that mounts it at `path`.
    fn start(&self, volume: &str, path: &str) -> image_store::Result<PathBuf> {
        self.store.use_volume(volume, false, Some((&self.root(), path)), &|| Ok(())).map(|volume| volume.path)
    }

    fn names(&self, volume: &str) -> Vec<String> {
        names(&self.files(volume))
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Whatever an image has at the mount point or on the way to it, the volume is a directory in the store, and the host does
/// not change.
#[test]
fn a_volume_is_a_directory_whatever_the_image_has_at_its_mount_point() {
    let bench = Bench::new("hostile");
    let host = bench.place.path().join("host");
    let host = host.to_str().unwrap();
    let link = |target: &str, name: &str| symlink(target, bench.image(name)).unwrap();
    link(host, "absolute");
    link(&format!("{host}/"), "slash");
    link(&format!("../../../../../../../../../..{host}"), "relative");
    link("/nowhere", "dangling");
    link("loop", "loop");
    link("/dev/null", "device");
    link("/proc/self/root", "magic");
    link("/proc/self/cwd", "cwd");
    link("/dir/file", "to-file");
    link("dir", "inside");
    link("/dir", "rooted");
    link("../../../dir", "up");
    link("/absolute", "twice");
    link("..", "parent");
    fs::write(bench.image("plain"), "x").unwrap();
    fifo(&bench.image("pipe"));
    let before = listing(Path::new(host));
    let of_the_image = vec!["file".to_owned(), "sub".to_owned()];
    for (at, (path, wanted)) in [
        ("/absolute", vec![]),
        ("/absolute/", vec![]),
        ("/absolute/.", vec![]),
        ("/absolute/deeper", vec![]),
        ("/slash", vec![]),
        ("/relative", vec![]),
        ("/dangling", vec![]),
        ("/loop", vec![]),
        ("/device", vec![]),
        ("/magic", vec![]),
        ("/cwd", vec![]),
        ("/to-file", vec![]),
        ("/twice", vec![]),
        ("/plain", vec![]),
        ("/pipe", vec![]),
        ("/none/at/all", vec![]),
        ("/inside", of_the_image.clone()),
        ("/rooted", of_the_image.clone()),
        ("/up", of_the_image.clone()),
        ("/inside/.", of_the_image.clone()),
        ("/parent/inside", of_the_image.clone()),
        ("/dir/../../dir", of_the_image),
    ]
    .into_iter()
    .enumerate()
    {
        let volume = format!("v{at}");
        let directory = bench.start(&volume, path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(fs::symlink_metadata(&directory).unwrap().is_dir(), "{path}: not a directory");
        assert_eq!(directory, bench.files(&volume), "{path}");
        assert_eq!(bench.names(&volume), wanted, "{path}");
    }
    assert_eq!(listing(Path::new(host)), before);
}

#[test]
fn a_volume_gets_contents_owner_and_mode_from_the_image() {
    need_root!();
    let bench = Bench::new("start");
    chown(bench.image("dir"), Some(5), Some(6)).unwrap();
    fs::set_permissions(bench.image("dir"), fs::Permissions::from_mode(0o1777)).unwrap();
    symlink("/etc/passwd", bench.image("dir/link")).unwrap();
    bench.start("v", "/dir").unwrap();
    assert_eq!(listing(&bench.files("v")), listing(&bench.image("dir")));
    let meta = fs::metadata(bench.files("v")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (5, 6, 0o1777));
}

/// A volume may be empty and yet used.
#[test]
fn a_used_volume_is_not_changed() {
    need_root!();
    let bench = Bench::new("used");
    type Begin = fn(&Bench);
    let begins: [(&str, Begin); 4] = [
        ("filled", |bench| drop(bench.start("v", "/dir").unwrap())),
        ("nothing in the image", |bench| drop(bench.start("v", "/nowhere").unwrap())),
        ("not to be filled", |bench| drop(bench.store.use_volume("v", false, None, &|| Ok(())).unwrap())),
        ("created first", |bench| {
            assert!(bench.store.create_volume("v", false).unwrap());
            bench.start("v", "/nowhere").unwrap();
        }),
    ];
    for (case, begin) in begins {
        begin(&bench);
        let directory = bench.files("v");
        names(&directory).iter().for_each(|name| {
            let path = directory.join(name);
            if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }.unwrap();
        });
        chown(&directory, Some(5), Some(6)).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        let before = fs::metadata(&directory).unwrap();
        bench.start("v", "/dir").unwrap();
        let after = fs::metadata(&directory).unwrap();
        assert_eq!(after.ino(), before.ino(), "{case}: the directory was replaced");
        assert_eq!((after.uid(), after.gid(), after.mode()), (5, 6, before.mode()), "{case}");
        assert!(bench.names("v").is_empty(), "{case}: was filled again");
        bench.store.remove_volume("v").unwrap();
    }
}

#[test]
fn a_volume_that_was_created_first_is_filled_in_place() {
    let bench = Bench::new("created");
    assert!(bench.store.create_volume("v", false).unwrap());
    assert!(!bench.store.create_volume("v", false).unwrap(), "twice");
    let before = fs::metadata(bench.files("v")).unwrap().ino();
    bench.start("v", "/dir").unwrap();
    assert_eq!(bench.names("v"), ["file", "sub"]);
    assert_eq!(fs::metadata(bench.files("v")).unwrap().ino(), before);
    // Files that the user put there before the first container stay.
    bench.store.create_volume("w", false).unwrap();
    fs::write(bench.files("w").join("mine"), "").unwrap();
    bench.start("w", "/dir").unwrap();
    assert_eq!(bench.names("w"), ["mine"]);
}

#[test]
fn an_interrupted_copy_starts_again() {
    let bench = Bench::new("interrupted");
    bench.store.create_volume("v", false).unwrap();
    // As an interrupted copy leaves it: see the states in store/volume.rs.
    fs::write(bench.record("v"), r#"{"anonymous":false,"content":"filling"}"#).unwrap();
    fs::create_dir_all(bench.files("v").join("left/over")).unwrap();
    fs::write(bench.files("v").join("file"), "of th").unwrap();
    bench.start("v", "/dir").unwrap();
    assert_eq!(bench.names("v"), ["file", "sub"]);
    assert_eq!(fs::read_to_string(bench.files("v").join("file")).unwrap(), "of the image");
}

#[test]
fn a_copy_that_fails_leaves_the_volume_as_it_was() {
    let bench = Bench::new("fails");
    // Nested more deeply than a copy allows.
    let mut deep = bench.image("deep");
    for _ in 0..300 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    assert_eq!(bench.start("new", "/deep").unwrap_err().kind(), ErrorKind::Limit);
    assert!(bench.store.volume_names().unwrap().is_empty());
    assert!(!bench.record("new").exists());
    bench.store.create_volume("v", false).unwrap();
    let before = fs::metadata(bench.files("v")).unwrap().ino();
    assert_eq!(bench.start("v", "/deep").unwrap_err().kind(), ErrorKind::Limit);
    assert!(bench.names("v").is_empty());
    bench.start("v", "/dir").unwrap();
    assert_eq!(bench.names("v"), ["file", "sub"]);
    assert_eq!(fs::metadata(bench.files("v")).unwrap().ino(), before);
}

/// In versions before November 2026, an image could put a link in a volume's place.
#[test]
fn a_link_in_the_place_of_a_volume_is_refused_and_only_the_link_is_removed() {
    let bench = Bench::new("poisoned");
    let host = bench.place.path().join("host");
    symlink(&host, bench.files("v")).unwrap();
    symlink("/dev/null", bench.files("d")).unwrap();
    fs::write(bench.files("f"), "").unwrap();
    for (volume, what) in [("v", "symbolic link to"), ("d", "symbolic link to"), ("f", "not a directory")] {
        let refusals = [
            bench.store.volume(volume).map(drop),
            bench.start(volume, "/dir").map(drop),
            bench.store.create_volume(volume, false).map(drop),
        ];
        for refused in refusals {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotAVolume);
            assert!(error.to_string().contains(what), "{error}");
        }
    }
    assert_eq!(bench.store.volume_names().unwrap(), ["d", "f", "v"]);
    let parts: Vec<Part> = bench.store.verify(true).unwrap().into_iter().map(|found| found.part).collect();
    assert_eq!(parts, ["d", "f", "v"].map(|name| Part::Volume(name.to_owned())));
    for volume in ["v", "d", "f"] {
        bench.store.remove_volume(volume).unwrap();
    }
    bench.store.empty_trash().unwrap();
    assert!(bench.store.volume_names().unwrap().is_empty());
    assert_eq!(fs::read_to_string(host.join("canary")).unwrap(), "of the host");
}

#[test]
fn a_volume_of_an_earlier_version_counts_as_used_and_named() {
    let bench = Bench::new("earlier");
    fs::create_dir(bench.files("v")).unwrap();
    bench.start("v", "/dir").unwrap();
    assert!(bench.names("v").is_empty());
    assert!(!bench.store.volume("v").unwrap().anonymous);
}

#[test]
fn a_volume_is_removed_with_its_record() {
    let bench = Bench::new("removed");
    assert!(bench.store.use_volume("v", true, Some((&bench.root(), "/dir")), &|| Ok(())).unwrap().anonymous);
    assert!(bench.store.volume("v").unwrap().anonymous);
    bench.store.remove_volume("v").unwrap();
    assert_eq!(bench.store.remove_volume("v").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(bench.store.volume("v").unwrap_err().kind(), ErrorKind::NotFound);
    bench.store.empty_trash().unwrap();
    assert!(names(&bench.store.root().join("volumes/.trash")).is_empty());
    assert!(names(&bench.store.root().join("volume-records")).is_empty());
    // The next volume of this name is a new one.
    bench.start("v", "/dir").unwrap();
    assert_eq!(bench.names("v"), ["file", "sub"]);
    assert!(!bench.store.volume("v").unwrap().anonymous);
    for bad in ["", ".", "..", "../x", "a/b", ".trash", "-x", "a\0b", &"x".repeat(129)] {
        for refused in [bench.start(bad, "/dir").map(drop), bench.store.remove_volume(bad)] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        }
    }
}

/// The files of a volume keep their set-user-ID bits.
#[test]
fn other_users_cannot_reach_the_files_of_volumes() {
    let place = Scratch::new("closed");
    let root = place.path().join("store");
    fs::create_dir_all(root.join("volumes")).unwrap();
    for directory in [root.clone(), root.join("volumes")] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let store = Store::open(&root, StoreOptions::default()).unwrap();
    store.create_volume("v", false).unwrap();
    assert_eq!(mode(&root.join("volumes")), 0o700);
    store.remove_volume("v").unwrap();
    assert_eq!(mode(&root.join("volumes/.trash")), 0o700);
}

#[test]
fn volumes_may_be_on_another_file_system_than_the_store() {
    let place = Scratch::new("elsewhere");
    let root = place.path().join("store");
    drop(Store::open(&root, StoreOptions::default()).unwrap());
    fs::rename(root.join("volumes"), place.path().join("big-disk")).unwrap();
    symlink(place.path().join("big-disk"), root.join("volumes")).unwrap();
    let store = Store::open(&root, StoreOptions::default()).unwrap();
    store.create_volume("v", false).unwrap();
    assert!(place.path().join("big-disk/v").is_dir());
    store.remove_volume("v").unwrap();
    store.empty_trash().unwrap();
    assert_eq!(names(&place.path().join("big-disk")), [".trash"]);
}

/// Whatever types of files an image has, the volume has them, too: it is closed to other users.
#[test]
fn a_volume_has_all_files_of_the_image_with_their_links_and_holes() {
    need_root!();
    let bench = Bench::new("types");
    let node = |name: &str, kind, device| {
        let mode = rustix::fs::Mode::from_raw_mode(0o640);
        rustix::fs::mknodat(rustix::fs::CWD, bench.image(name), kind, mode, device).unwrap();
        chown(bench.image(name), Some(5), Some(6)).unwrap();
    };
    node("dir/fifo", rustix::fs::FileType::Fifo, 0);
    node("dir/null", rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    node("dir/loop", rustix::fs::FileType::BlockDevice, rustix::fs::makedev(7, 99));
    fs::hard_link(bench.image("dir/file"), bench.image("dir/sub/again")).unwrap();
    File::create(bench.image("dir/hole")).unwrap().set_len(4 << 20).unwrap();
    bench.start("v", "/dir").unwrap();
    assert_eq!(listing(&bench.files("v")), listing(&bench.image("dir")));
    let meta = |name: &str| fs::symlink_metadata(bench.files("v").join(name)).unwrap();
    assert_eq!(meta("file").ino(), meta("sub/again").ino());
    assert!(meta("hole").len() == 4 << 20 && meta("hole").blocks() < 100);
    assert_eq!(
        (meta("null").rdev(), meta("null").uid(), meta("loop").gid()),
        (rustix::fs::makedev(1, 3), 5, 6)
    );
}

/// An image's layers are unpacked without those below: there may be whiteouts of what none of them has, which overlay lists but
/// does not find. One of the host's is as good.
#[test]
fn a_whiteout_that_hides_nothing_is_not_copied() {
    need_root!();
    let bench = Bench::new("whiteout");
    let whiteout = rustix::fs::FileType::CharacterDevice;
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        bench.image("dir/gone"),
        whiteout,
        rustix::fs::Mode::empty(),
        rustix::fs::makedev(0, 0),
    );
    made.unwrap();
    bench.start("plain", "/dir").unwrap();
    assert_eq!(bench.names("plain"), ["file", "sub"]);
    let rootfs = image_store::store::Rootfs {
        lower: vec![bench.image(""), bench.place.path().join("host")],
        upper: None,
        work: None,
        marks: bench.store.marks(),
    };
    let root = match rootfs.mount() {
        Ok(root) => Place::root(root),
        Err(error) => {
            eprintln!("skipped: cannot mount here: {error}");
            return;
        }
    };
    bench.store.use_volume("v", false, Some((&root, "/dir")), &|| Ok(())).unwrap();
    assert_eq!(bench.names("v"), ["file", "sub"]);
}

#[test]
fn while_a_volume_is_filled_others_can_be_used() {
    let bench = Bench::new("at-once");
    let others = std::cell::Cell::new(0);
    let going = || {
        let other = format!("other-{}", others.get());
        others.set(others.get() + 1);
        bench.start(&other, "/dir")?;
        bench.store.remove_volume(&other)
    };
    bench.store.use_volume("v", false, Some((&bench.root(), "/dir")), &going).unwrap();
    assert!(others.get() > 1);
    assert_eq!(bench.names("v"), ["file", "sub"]);
}

#[test]
fn a_copy_that_is_ended_leaves_nothing() {
    let bench = Bench::new("ended");
    let left = std::cell::Cell::new(2);
    let going = || {
        left.set(left.get() - 1);
        if left.get() == 0 { Err(image_store::Error::new(ErrorKind::Busy, "interrupted")) } else { Ok(()) }
    };
    let ended = bench.store.use_volume("v", false, Some((&bench.root(), "/dir")), &going);
    assert!(ended.unwrap_err().to_string().contains("interrupted"));
    assert!(bench.store.volume_names().unwrap().is_empty() && !bench.record("v").exists());
}

#[test]
fn several_that_want_a_new_volume_get_the_same() {
    let bench = Bench::new("several");
    for at in 0..50 {
        fs::write(bench.image("dir").join(format!("f{at}")), "x").unwrap();
    }
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| bench.start("v", "/dir").unwrap())).collect();
        threads.into_iter().map(|thread| names(&thread.join().unwrap()).len()).collect()
    });
    assert_eq!(all, [52; 4]);
}
