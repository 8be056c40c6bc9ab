//! A store without root: as an ordinary user, as root of a user namespace with one ID, and with a range of IDs as set up by
//! newuidmap(1). Each test runs this program again as the user "nobody"; that process runs `inside`.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Scratch, file, tar};
use image_store::layer::Marks;
use image_store::platform::Platform;
use image_store::store::{Composition, Record};
use image_store::tar::{Entry, Kind};
use image_store::{Reference, Store, StoreOptions};

const USER: u32 = 65534;
const FOLDER: &str = "KNARR_ROOTLESS_FOLDER";
const IDS: &str = "KNARR_ROOTLESS_IDS";

/// Runs `inside` as the user in `place`; with `map`, in a user and mount namespace with these IDs.
fn as_user(place: &Scratch, map: Option<&str>) {
    let program = place.path().join("program");
    // By cp(1): a child that another test forks meanwhile would hold our descriptor open for writing (ETXTBSY).
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(place.path(), Some(USER), Some(USER)).unwrap();
    let ids = map.map_or(0, |map| map.lines().count());
    let script = "echo ready; read go; exec \"$0\" inside --exact --nocapture --test-threads=1";
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
    if map.is_some() {
        command.args(["unshare", "--user", "--mount", "--propagation", "unchanged"]);
    }
    command.args(["sh", "-c", script]).arg(&program).env(FOLDER, place.path()).env(IDS, ids.to_string());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "a user namespace for an unprivileged user");
    if let Some(map) = map {
        // As newuidmap(1) does.
        for name in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{name}", child.id()), map).unwrap();
        }
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let said: String = output.lines().map(|line| line.unwrap() + "\n").collect();
    assert!(child.wait().unwrap().success() && said.contains("1 passed"), "{said}");
}

fn needs_tools() -> bool {
    let there = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    there("setpriv") && there("unshare")
}

macro_rules! need_root_and_tools {
    () => {
        common::need_root!();
        if !needs_tools() {
            eprintln!("skipped: needs setpriv and unshare");
            return;
        }
    };
}

#[test]
fn a_plain_user_has_a_store_and_can_empty_it() {
    need_root_and_tools!();
    as_user(&Scratch::new("plain-user"), None);
}

#[test]
fn root_of_a_namespace_with_one_id_runs_images() {
    need_root_and_tools!();
    as_user(&Scratch::new("one-id"), Some("0 65534 1"));
}

#[test]
fn a_range_of_ids_keeps_the_owners_of_files() {
    need_root_and_tools!();
    let place = Scratch::new("range");
    as_user(&place, Some("0 65534 1\n1 200000 65535"));
    let kept = place.path().join("store/layers/sha256");
    let layers: Vec<PathBuf> = fs::read_dir(kept).unwrap().map(|e| e.unwrap().path()).collect();
    let owners: Vec<u32> =
        layers.iter().filter_map(|l| fs::metadata(l.join("fs/srv/web")).ok()).map(|m| m.uid()).collect();
    assert_eq!(owners, [200_032], "uid 33 of the image, seen from outside");
}

fn lower() -> Vec<(Entry, Vec<u8>)> {
    let web = Entry { uid: 33, gid: 33, ..file("srv/web", b"content").0 };
    let mut capable = file("bin/ping", b"program").0;
    // cap_net_raw+ep, and an attribute that only root of the initial user namespace may set.
    capable.xattrs = vec![
        (
            b"security.capability".to_vec(),
            vec![1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (b"trusted.note".to_vec(), b"x".to_vec()),
        (b"user.note".to_vec(), b"y".to_vec()),
    ];
    vec![
        (Entry::new("./", Kind::Directory, 0o755), vec![]),
        (Entry::new("locked", Kind::Directory, 0o555), vec![]),
        file("locked/in", b"x"),
        (Entry::new("secret", Kind::Directory, 0), vec![]),
        (Entry { mode: 0, ..file("secret/file", b"hidden").0 }, b"hidden".to_vec()),
        (web, b"content".to_vec()),
        (capable, b"program".to_vec()),
        (Entry::new("dev/null", Kind::Character(1, 3), 0o666), vec![]),
        (Entry::new("dev/loop0", Kind::Block(7, 0), 0o660), vec![]),
        (Entry::new("dev/pipe", Kind::Fifo, 0o600), vec![]),
        file("etc/gone", b"x"),
        file("data/old", b"x"),
    ]
}

fn upper() -> Vec<(Entry, Vec<u8>)> {
    vec![file("etc/.wh.gone", b""), file("data/.wh..wh..opq", b""), file("data/new", b"y")]
}

/// Not a test of its own: see [`as_user`].
#[test]
fn inside() {
    let Some(dir) = std::env::var_os(FOLDER) else { return };
    let ids: usize = std::env::var(IDS).unwrap().parse().unwrap();
    let store = Store::open(Path::new(&dir).join("store"), StoreOptions::default()).unwrap();
    assert_eq!(store.marks(), Marks::User);
    let name =
        |name: &str| Composition { name: Some(Reference::parse(name).unwrap()), ..Composition::default() };
    let layer = common::gzip(&tar(&lower()));
    let base = store.import(layer.as_slice(), &Platform::host(), &name("base")).unwrap();
    let image = common::stack(&store, &base, &common::gzip(&tar(&upper())), "image");
    assert!(store.verify(false).unwrap().is_empty(), "{:?}", store.verify(false));
    if ids > 0 {
        runs(&store, &image, ids);
        let committed = store.commit("c", &name("committed"), &|| Ok(())).unwrap();
        let view = store.rootfs(&committed).unwrap().mount().unwrap();
        assert!(at(&view, "made").exists() && !at(&view, "srv/web").exists());
        drop(view);
        store.remove_container("c").unwrap();
        assert!(store.verify(false).unwrap().is_empty());
    }
    for record in store.images().unwrap().iter().filter(|record| record.id != base.id) {
        store.remove(record, false).unwrap();
    }
    store.empty_trash().unwrap();
    assert_eq!(fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
    if ids == 1 || ids == 0 {
        store.remove(&base, false).unwrap();
        store.empty_trash().unwrap();
        assert_eq!(fs::read_dir(store.root().join("layers/sha256")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
    }
}

fn at(mount: &OwnedFd, path: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{path}", mount.as_raw_fd()).into()
}

/// Mounts a writable root and uses it.
fn runs(store: &Store, image: &Record, ids: usize) {
    let mount = store.prepare(image, "c").unwrap().mount().unwrap();
    let path = |name: &str| at(&mount, name);
    assert!(!path("etc/gone").exists() && !path("data/old").exists() && path("data/new").exists());
    let web = fs::metadata(path("srv/web")).unwrap();
    assert_eq!((web.uid(), web.gid()), if ids == 1 { (0, 0) } else { (33, 33) });
    assert!(!path("dev/null").exists(), "devices want the first namespace's root");
    assert!(fs::metadata(path("dev/pipe")).unwrap().file_type().is_fifo());
    assert_eq!(fs::read(path("secret/file")).unwrap(), b"hidden");
    let mut value = [0_u8; 64];
    assert!(rustix::fs::getxattr(path("bin/ping"), c"user.note", &mut value).is_ok());
    let capable = rustix::fs::getxattr(path("bin/ping"), c"security.capability", &mut value);
    assert!(capable.is_ok(), "{capable:?}");
    fs::write(path("made"), "made").unwrap();
    fs::remove_file(path("srv/web")).unwrap();
    fs::remove_dir_all(path("data")).unwrap();
    fs::create_dir(path("data")).unwrap();
    assert_eq!(fs::read_dir(path("data")).unwrap().count(), 0);
}
