//! The store as its users see it: adding images, root file systems, commit, garbage collection, verification.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use common::{Scratch, file, tar};
use image_store::archive::{Format, save_archive, save_dir};
use image_store::layer::compression::Compression;
use image_store::manifest::Descriptor;
use image_store::platform::Platform;
use image_store::store::{Composition, Part, Quiet, Record, Source};
use image_store::tar::{Entry, Kind};
use image_store::{ErrorKind, Reference, Store, StoreOptions};

fn store(place: &Scratch) -> Store {
    Store::open(place.path().join("store"), StoreOptions::default()).unwrap()
}

fn named(name: &str) -> Composition {
    Composition {
        name: Some(Reference::parse(name).unwrap()),
        epoch: Some(1_700_000_000),
        ..Composition::default()
    }
}

fn import(store: &Store, name: &str, entries: &[(Entry, Vec<u8>)]) -> Record {
    let bytes = common::gzip(&tar(entries));
    store.import(bytes.as_slice(), &Platform::host(), &named(name)).unwrap()
}

fn base() -> Vec<(Entry, Vec<u8>)> {
    vec![
        (Entry::new("./", Kind::Directory, 0o755), vec![]),
        (Entry::new("tmp", Kind::Directory, 0o1777), vec![]),
        (Entry::new("root", Kind::Directory, 0o700), vec![]),
        file("etc/passwd", b"root:x:0:0::/root:/bin/sh\n"),
        file("etc/remove-me", b"x"),
        file("opt/a/b", b"x"),
    ]
}

/// The path of the mounted root file system of an image or container.
struct Mounted(std::os::fd::OwnedFd);

impl Mounted {
    fn path(&self) -> std::path::PathBuf {
        use std::os::fd::AsRawFd as _;
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

fn digests(store: &Store) -> Vec<String> {
    let mut all = Vec::new();
    for dir in ["blobs/sha256", "layers/sha256"] {
        let names = fs::read_dir(store.root().join(dir)).unwrap();
        all.extend(names.map(|name| format!("{dir}/{}", name.unwrap().file_name().display())));
    }
    all.sort();
    all
}

fn leftovers(store: &Store) -> usize {
    ["ingest", "leases"].iter().map(|name| fs::read_dir(store.root().join(name)).unwrap().count()).sum()
}

#[test]
fn a_container_writes_to_its_own_layer_and_commit_keeps_it() {
    common::need_root!();
    let place = Scratch::new("commit");
    let store = store(&place);
    let image = import(&store, "base", &base());
    let rootfs = store.prepare(&image, "c1").unwrap();
    {
        let mounted = Mounted(rootfs.mount().unwrap());
        let root = mounted.path();
        fs::write(root.join("hello"), "hello").unwrap();
        fs::remove_file(root.join("etc/remove-me")).unwrap();
        fs::remove_dir_all(root.join("opt")).unwrap();
        fs::create_dir(root.join("opt")).unwrap();
        fs::rename(root.join("etc/passwd"), root.join("etc/users")).unwrap();
    }
    let lower: Vec<_> = rootfs.lower.iter().map(|path| File::open(path).unwrap().into()).collect();
    let upper = File::open(rootfs.upper.as_ref().unwrap()).unwrap();
    let differences = image_store::layer::diff::differences(upper.as_fd(), &lower).unwrap();
    let lines: Vec<_> =
        differences.iter().map(|(d, p)| format!("{d:?} {}", String::from_utf8_lossy(p))).collect();
    assert_eq!(
        lines,
        [
            "Changed /etc",
            "Deleted /etc/passwd",
            "Deleted /etc/remove-me",
            "Added /etc/users",
            "Added /hello",
            "Changed /opt"
        ]
    );
    let committed = store.commit("c1", &named("derived:1"), &|| Ok(())).unwrap();
    assert_eq!(committed.layers.len(), 2);
    let again = store.commit("c1", &named("derived:2"), &|| Ok(())).unwrap();
    assert_eq!(committed.id, again.id, "the same tree gives the same image");
    let view = Mounted(store.rootfs(&committed).unwrap().mount().unwrap());
    assert_eq!(fs::read_to_string(view.path().join("hello")).unwrap(), "hello");
    assert!(view.path().join("etc/users").exists());
    for gone in ["etc/passwd", "etc/remove-me", "opt/a"] {
        assert!(!view.path().join(gone).exists(), "{gone}");
    }
    assert!(fs::write(view.path().join("x"), "").is_err(), "a view of an image is read-only");
    let fresh = store.prepare(&image, "c2").unwrap();
    assert!(!Mounted(fresh.mount().unwrap()).path().join("hello").exists());
    let (config, _) = store.config(&committed).unwrap();
    assert_eq!(config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(config.history.unwrap().len(), 2);
    store.prepare(&image, "c3").unwrap();
    let unchanged = store.commit("c3", &named("same"), &|| Ok(())).unwrap();
    assert_eq!(unchanged.layers, image.layers, "no change, no layer");
}

#[test]
fn a_container_remembers_what_its_caller_stores() {
    common::need_root!();
    let place = Scratch::new("remember");
    let store = store(&place);
    let image = import(&store, "base", &base());
    store.prepare(&image, "c1").unwrap();
    assert_eq!(store.container("c1").unwrap().remembered::<Vec<u32>>().unwrap(), None);
    store.remember("c1", &[1, 2]).unwrap();
    let container = store.container("c1").unwrap();
    assert_eq!(container.remembered::<Vec<u32>>().unwrap(), Some(vec![1, 2]));
    let error = container.remembered::<String>().unwrap_err();
    assert_eq!(error.kind(), image_store::ErrorKind::Invalid, "{error}");
    assert_eq!(store.remember("c2", &1).unwrap_err().kind(), image_store::ErrorKind::NotFound);
}

#[test]
fn implied_directories_show_the_attributes_of_the_layer_that_describes_them() {
    common::need_root!();
    let place = Scratch::new("implied");
    let store = store(&place);
    let image = import(&store, "base", &base());
    let second =
        common::gzip(&tar(&[file("tmp/new", b"x"), file("root/.profile", b"x"), file("etc/x/y", b"")]));
    let stacked = common::stack(&store, &image, &second, "stacked");
    assert!(stacked.fixup.is_some());
    let view = Mounted(store.rootfs(&stacked).unwrap().mount().unwrap());
    let mode = |path: &str| fs::metadata(view.path().join(path)).unwrap().mode() & 0o7777;
    assert_eq!(
        (mode("tmp"), mode("root"), mode("etc"), mode("etc/x"), mode("")),
        (0o1777, 0o700, 0o755, 0o755, 0o755)
    );
    assert!(view.path().join("tmp/new").exists() && view.path().join("etc/passwd").exists());
    // Nothing to fix, so there is no fix-up layer.
    assert!(
        common::stack(&store, &image, &common::gzip(&tar(&[file("etc/x", b"")])), "plain").fixup.is_none()
    );
    // An opaque directory in between hides the lower attributes too.
    let opaque = common::gzip(&tar(&[file("tmp/.wh..wh..opq", b""), file("tmp/z", b"")]));
    let hidden = common::stack(&store, &image, &opaque, "hidden");
    let view = Mounted(store.rootfs(&hidden).unwrap().mount().unwrap());
    assert_eq!(fs::read_dir(view.path().join("tmp")).unwrap().count(), 1);
}

#[test]
fn the_same_layer_under_two_parents_is_stored_once() {
    common::need_root!();
    let place = Scratch::new("shared");
    let store = store(&place);
    let one = import(&store, "one", &base());
    let two = import(&store, "two", &[file("other", b"base")]);
    let top = common::gzip(&tar(&[file("etc/top", b"x")]));
    let a = common::stack(&store, &one, &top, "a");
    let b = common::stack(&store, &two, &top, "b");
    assert_eq!(a.layers[1], b.layers[1]);
    assert_eq!(fs::read_dir(store.root().join("layers/sha256")).unwrap().count(), 3);
}

#[test]
fn two_hundred_layers_mount() {
    common::need_root!();
    let place = Scratch::new("many");
    let store = store(&place);
    let mut image = import(&store, "base", &base());
    for number in 0..200 {
        image.layers.push(import(&store, "x", &[file(&format!("f{number}"), b"x")]).layers[0].clone());
    }
    let rootfs = store.prepare(&image, "many").unwrap();
    let mounted = Mounted(rootfs.mount().unwrap());
    assert!((0..200).all(|number| mounted.path().join(format!("f{number}")).exists()));
}

#[test]
fn garbage_collection_removes_only_what_is_not_needed() {
    common::need_root!();
    let place = Scratch::new("collect");
    let store = store(&place);
    let one = import(&store, "one", &base());
    let two = import(&store, "two", &[file("two", b"x")]);
    assert_eq!(store.collect().unwrap(), Default::default());
    // A lease keeps what has no name.
    let mut lease = store.lease().unwrap();
    lease.add(two.blobs.iter().chain(&two.layers)).unwrap();
    let gone = store.remove(&two, false).unwrap();
    assert_eq!((gone.images.len(), gone.blobs.len(), gone.layers.len()), (1, 0, 0));
    drop(lease);
    let gone = store.collect().unwrap();
    assert_eq!((gone.blobs.len(), gone.layers.len()), (3, 1));
    // Removes only the name; the next collection removes the rest.
    let three = import(&store, "three", &[file("three", b"x")]);
    let told = store.unname(&three, false).unwrap();
    assert_eq!((told.blobs.len(), told.layers.clone()), (3, three.layers.clone()));
    assert!(store.resolve("three").is_err());
    // A record that was read before is no longer valid.
    let again = Reference::parse("again").unwrap();
    assert_eq!(store.tag(&three, &again).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(store.resolve("again").is_err());
    assert_eq!(store.collect().unwrap().layers, told.layers);
    // A container keeps its image.
    store.prepare(&one, "c").unwrap();
    assert_eq!(store.remove(&one, false).unwrap_err().kind(), ErrorKind::Busy);
    store.remove(&one, true).unwrap();
    assert!(store.container("c").and_then(|c| store.container_rootfs(&c)).unwrap().mount().is_ok());
    store.remove_container("c").unwrap();
    store.collect().unwrap();
    assert_eq!(digests(&store), Vec::<String>::new());
    store.empty_trash().unwrap();
    assert_eq!(fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
    assert_eq!(leftovers(&store), 0);
}

#[test]
fn an_image_that_loses_its_name_is_kept_until_pruned() {
    common::need_root!();
    let place = Scratch::new("dangling");
    let store = store(&place);
    let old = import(&store, "app", &base());
    let new = import(&store, "app", &[file("new", b"x")]);
    let names: Vec<_> =
        store.images().unwrap().into_iter().map(|record| (record.name.is_some(), record.id)).collect();
    assert_eq!(names, [(false, old.id.clone()), (true, new.id.clone())]);
    assert_eq!(store.resolve(old.id.short()).unwrap().id, old.id);
    assert_eq!(store.resolve("app").unwrap().id, new.id);
    assert_eq!(store.prune(false, |_| true).unwrap().images.len(), 1);
    assert_eq!(store.images().unwrap().len(), 1);
    assert_eq!(store.resolve("nothing").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_saved_image_is_loaded_with_the_same_digests() {
    common::need_root!();
    let place = Scratch::new("save");
    let store = store(&place);
    let image = import(&store, "quay.io/a/b:t", &base());
    let name = image.reference().unwrap();
    let images = [(image.clone(), vec![name.clone()])];
    let dir = place.path().join("layout");
    save_dir(&store, &images, Compression::Gzip, &dir).unwrap();
    save_dir(&store, &images, Compression::Gzip, &dir).unwrap();
    let archives: Vec<_> = [Format::Docker, Format::Oci]
        .iter()
        .map(|format| {
            let path = place.path().join(format!("{format:?}.tar"));
            save_archive(&store, &images, *format, Compression::Gzip, File::create(&path).unwrap()).unwrap();
            path
        })
        .collect();
    let gzipped = place.path().join("gzipped.tar.gz");
    fs::write(&gzipped, common::gzip(&fs::read(&archives[0]).unwrap())).unwrap();
    for (at, path) in [dir, archives[0].clone(), archives[1].clone(), gzipped].iter().enumerate() {
        let other = Store::open(place.path().join(format!("other{at}")), StoreOptions::default()).unwrap();
        let loaded = other.load(path, &Platform::host(), &Quiet).unwrap();
        assert_eq!(loaded.len(), 1, "{path:?}");
        assert_eq!((&loaded[0].id, &loaded[0].manifest), (&image.id, &image.manifest), "{path:?}");
        assert_eq!(loaded[0].reference(), Some(name.clone()), "{path:?}");
        assert!(other.verify(false).unwrap().is_empty());
    }
}

type Lie<'a> = dyn Fn(&Descriptor, Vec<u8>) -> Vec<u8> + Sync + 'a;

/// A source with given blobs.
struct Lying<'a> {
    store: &'a Store,
    lie: &'a Lie<'a>,
}

impl Source for Lying<'_> {
    fn open(&self, descriptor: &Descriptor) -> image_store::Result<Box<dyn Read + Send + '_>> {
        let mut bytes = Vec::new();
        self.store.open_blob(&descriptor.digest)?.read_to_end(&mut bytes).unwrap();
        Ok(Box::new(std::io::Cursor::new((self.lie)(descriptor, bytes))))
    }
}

#[test]
fn content_with_another_digest_never_gets_a_name() {
    common::need_root!();
    let place = Scratch::new("lies");
    let from = store(&place);
    let image = import(&from, "x", &base());
    let layer = from.manifest(&image).unwrap().layers[0].clone();
    let flip = |at: &Descriptor, which: &Descriptor, mut bytes: Vec<u8>| {
        if at.digest == which.digest {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        bytes
    };
    let names = [Reference::parse("x").unwrap()];
    let manifest = image.manifest.clone();
    let lies: [&Lie<'_>; 5] = [
        &|d, b| flip(d, &layer, b),
        &|d, b| flip(d, &manifest, b),
        &|d, b| {
            if d.digest == layer.digest { b[..b.len() - 1].to_vec() } else { b }
        },
        &|d, b| {
            if d.digest == layer.digest { [b, vec![0]].concat() } else { b }
        },
        &|d, b| if d.digest == layer.digest { Vec::new() } else { b },
    ];
    for (at, lie) in lies.iter().enumerate() {
        // A store for each: valid layers of a failed pull are kept.
        let into = Store::open(place.path().join(format!("into{at}")), StoreOptions::default()).unwrap();
        let source = Lying { store: &from, lie };
        let error = into.ingest(&source, &manifest, &Platform::host(), &names, &Quiet).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Mismatch | ErrorKind::Invalid), "{at}: {error}");
        assert!(into.images().unwrap().is_empty() && leftovers(&into) == 0, "{at}");
        assert!(!into.has_blob(&layer), "{at}: a damaged blob was kept");
        let honest = Lying { store: &from, lie: &|_, bytes| bytes };
        into.ingest(&honest, &manifest, &Platform::host(), &names, &Quiet).unwrap();
        assert!(into.verify(false).unwrap().is_empty(), "{at}");
    }
}

#[test]
fn damage_is_found_and_repaired() {
    common::need_root!();
    let place = Scratch::new("verify");
    let store = store(&place);
    let image = import(&store, "x", &base());
    assert!(store.verify(false).unwrap().is_empty());
    let layer = store.root().join("layers").join(image.layers[0].path()).join("fs");
    fs::write(layer.join("etc/passwd"), "root::0:0::/root:/bin/sh\n").unwrap();
    let found = store.verify(false).unwrap();
    assert_eq!(found.len(), 1);
    assert!(
        found[0].part == Part::Layer(image.layers[0].clone()) && found[0].why.contains("etc/passwd"),
        "{found:?}"
    );
    assert!(store.verify(true).unwrap()[0].repaired);
    assert!(store.verify(false).unwrap().is_empty());
    for damage in [
        |layer: &Path| fs::remove_file(layer.join("opt/a/b")).unwrap(),
        |layer: &Path| {
            fs::set_permissions(layer.join("root"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .unwrap()
        },
        |layer: &Path| fs::remove_dir_all(layer).unwrap(),
    ] {
        damage(&layer);
        assert_eq!(store.verify(true).unwrap().len(), 1);
        assert!(store.verify(false).unwrap().is_empty());
    }
    let blob = store.manifest(&image).unwrap().layers[0].clone();
    let path = store.root().join("blobs").join(blob.digest.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let found = store.verify(true).unwrap();
    assert!(found.iter().any(|finding| finding.part == Part::Blob(blob.digest.clone())), "{found:?}");
    assert!(!store.has_blob(&blob), "a damaged blob is taken away");
}

#[test]
fn two_processes_add_the_same_image_at_once() {
    common::need_root!();
    let place = Scratch::new("twice");
    let store = store(&place);
    let image = import(&store, "x", &base());
    let dir = place.path().join("layout");
    save_dir(&store, &[(image.clone(), vec![image.reference().unwrap()])], Compression::Gzip, &dir).unwrap();
    let target = place.path().join("target");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = Store::open(&target, StoreOptions::default()).unwrap();
                store.load(&dir, &Platform::host(), &Quiet).unwrap();
                store.collect().unwrap();
            });
        }
    });
    let target = Store::open(&target, StoreOptions::default()).unwrap();
    assert!(target.verify(false).unwrap().is_empty());
    assert_eq!(target.images().unwrap().len(), 1);
}

#[test]
fn garbage_collection_and_verification_may_run_beside_others() {
    common::need_root!();
    let place = Scratch::new("beside");
    let mut options = StoreOptions::default();
    options.sync = false;
    let store = Store::open(place.path().join("store"), options).unwrap();
    import(&store, "stays", &base());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..60 {
                let image = import(&store, &format!("x{number}"), &[file(&format!("f{number}"), b"x")]);
                store.remove(&image, false).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                store.lease().unwrap().add([]).unwrap();
            }
        });
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            store.collect().unwrap();
            let found = store.verify(false).unwrap();
            assert!(found.is_empty(), "{found:?}");
        }
    });
}

#[test]
fn a_fix_up_layer_stays_while_an_image_with_it_is_added() {
    common::need_root!();
    let place = Scratch::new("fixup-lease");
    let store = store(&place);
    let image = import(&store, "base", &base());
    let stacked = common::stack(&store, &image, &common::gzip(&tar(&[file("tmp/new", b"x")])), "stacked");
    let fixup = stacked.fixup.clone().unwrap();
    let there = || store.root().join("fixup").join(fixup.hex()).exists();
    let mut lease = store.lease().unwrap();
    lease.add([&fixup]).unwrap();
    store.remove(&stacked, false).unwrap();
    assert!(there());
    drop(lease);
    store.collect().unwrap();
    assert!(!there());
}

#[test]
fn a_damaged_blob_in_the_store_is_fetched_again() {
    common::need_root!();
    let (place, other) = (Scratch::new("heal"), Scratch::new("heal-from"));
    let (store, from) = (store(&place), store(&other));
    let image = import(&from, "x", &base());
    let names = [image.reference().unwrap()];
    let source = Lying { store: &from, lie: &|_, bytes| bytes };
    let ingest = || store.ingest(&source, &image.manifest, &Platform::host(), &names, &Quiet).unwrap();
    ingest();
    let blob = store.manifest(&image).unwrap().layers[0].clone();
    let path = store.root().join("blobs").join(blob.digest.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    fs::remove_dir_all(store.root().join("layers").join(image.layers[0].path())).unwrap();
    ingest();
    assert!(store.verify(false).unwrap().is_empty(), "{:?}", store.verify(false));
}

#[test]
fn images_may_be_hashed_with_sha512() {
    use image_store::digest::{Algorithm, Digest, Hasher};
    use image_store::manifest::media;
    common::need_root!();
    struct Held(Vec<(Digest, Vec<u8>)>);
    impl Source for Held {
        fn open(&self, descriptor: &Descriptor) -> image_store::Result<Box<dyn Read + Send + '_>> {
            let found = self.0.iter().find(|(digest, _)| *digest == descriptor.digest);
            Ok(Box::new(found.unwrap().1.as_slice()))
        }
    }
    let mut held = Held(Vec::new());
    let digest = |bytes: &[u8]| {
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(bytes);
        hasher.finish()
    };
    let mut hold = |media_type: &str, bytes: Vec<u8>| {
        let descriptor = Descriptor::new(media_type, digest(&bytes), bytes.len() as u64);
        held.0.push((descriptor.digest.clone(), bytes));
        descriptor
    };
    let plain = tar(&base());
    let layer = hold(media::OCI_LAYER_GZIP, common::gzip(&plain));
    let config = serde_json::json!({ "architecture": Platform::host().architecture, "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [digest(&plain).to_string()] } });
    let config = hold(media::OCI_CONFIG, config.to_string().into_bytes());
    let manifest = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let manifest = hold(media::OCI_MANIFEST, manifest.to_string().into_bytes());
    let place = Scratch::new("sha512");
    let store = store(&place);
    let names = [Reference::parse("strong").unwrap()];
    let image = store.ingest(&held, &manifest, &Platform::host(), &names, &Quiet).unwrap();
    assert!(store.verify(false).unwrap().is_empty(), "{:?}", store.verify(false));
    let view = Mounted(store.rootfs(&image).unwrap().mount().unwrap());
    assert!(view.path().join("etc/passwd").exists());
    drop(view);
    let gone = store.remove(&image, false).unwrap();
    assert_eq!((gone.blobs.len(), gone.layers.len()), (3, 1));
    assert_eq!(fs::read_dir(store.root().join("layers/sha512")).unwrap().count(), 0);
}

/// A power cut may leave a container with a record that cannot be read. Whatever it needs stays.
#[test]
fn a_damaged_record_of_a_container_stops_nothing_and_loses_nothing() {
    for damage in ["", "{", "null", r#"{"id":"broken"}"#] {
        let place = Scratch::new("damaged");
        let store = store(&place);
        let record = import(&store, "box:1", &base());
        store.prepare(&record, "broken").unwrap();
        store.prepare(&record, "whole").unwrap();
        let path = store.root().join("containers/broken/record.json");
        fs::write(&path, damage).unwrap();
        fs::create_dir(store.root().join("containers/lost+found")).unwrap();
        let containers = store.containers().unwrap();
        assert_eq!(containers.intact.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["whole"]);
        assert_eq!(containers.damaged.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["broken"]);
        store.remove_container("whole").unwrap();
        let before = digests(&store);
        assert_eq!(store.prune(true, |_| true).unwrap_err().kind(), ErrorKind::Busy, "{damage}");
        let collected = store.unname(&record, false).unwrap();
        assert!(collected.layers.is_empty() && collected.blobs.is_empty(), "{damage}");
        store.collect().unwrap();
        assert_eq!(digests(&store), before, "{damage}");
        store.remove_container("broken").unwrap();
        store.collect().unwrap();
        assert!(digests(&store).is_empty(), "{damage}");
        assert_eq!(store.remove_container("broken").unwrap_err().kind(), ErrorKind::NotFound);
    }
}

/// Nothing can be said of the image, nor removed: but how to mend that.
#[test]
fn a_damaged_record_of_an_image_is_named_and_its_removal_mends_the_store() {
    let place = Scratch::new("damaged-image");
    let store = store(&place);
    import(&store, "box:1", &base());
    let refs = store.root().join("refs");
    let path = fs::read_dir(&refs).unwrap().next().unwrap().unwrap().path();
    fs::write(&path, "{").unwrap();
    let before = digests(&store);
    for error in [store.images().unwrap_err(), store.collect().unwrap_err()] {
        let said =
            format!("image record {path:?}: damaged: remove this file, then pull or load the image again");
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(&said), "{error}");
    }
    assert_eq!(digests(&store), before);
    fs::remove_file(&path).unwrap();
    store.collect().unwrap();
    assert!(digests(&store).is_empty());
}
