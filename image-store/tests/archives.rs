//! Images in archives as other tools write them.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use common::registry::{Uploads, quick};
use common::server::Server;
use common::{Scratch, file, tar};
use image_store::archive::{Format, save_archive, save_dir};
use image_store::layer::compression::Compression;
use image_store::manifest::{Descriptor, Document, media};
use image_store::platform::Platform;
use image_store::registry::{Client, ClientOptions};
use image_store::store::{Composition, Quiet, Record};
use image_store::{Digest, ErrorKind, Reference, Store, StoreOptions};

fn store(place: &Scratch) -> Store {
    Store::open(place.path().join("store"), StoreOptions::default()).unwrap()
}

/// An archive with these files.
fn archive(place: &Scratch, files: &[(&str, &[u8])]) -> PathBuf {
    let entries: Vec<_> = files.iter().map(|(name, bytes)| file(name, bytes)).collect();
    let path = place.path().join("archive.tar");
    fs::write(&path, tar(&entries)).unwrap();
    path
}

/// A docker-archive of an image with one file, under these names (JSON).
fn docker_archive(place: &Scratch, names: &str) -> PathBuf {
    let layer = tar(&[file("etc/x", b"x")]);
    let config = format!(
        r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Digest::of(&layer)
    );
    let list = format!(r#"[{{"Config":"c.json","RepoTags":{names},"Layers":["l.tar"]}}]"#);
    archive(place, &[("c.json", config.as_bytes()), ("l.tar", &layer), ("manifest.json", list.as_bytes())])
}

/// `FROM scratch` with nothing but a config: Go writes its empty lists as `null`.
#[test]
fn an_image_without_layers_is_loaded_and_mounted() {
    common::need_root!();
    let config =
        r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
    let digest = Digest::of(config.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":{}}},"layers":null}}"#,
        config.len()
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{}}}]}}"#,
        Digest::of(manifest.as_bytes()),
        manifest.len()
    );
    let blob = |bytes: &str| format!("blobs/sha256/{}", Digest::of(bytes.as_bytes()).hex());
    let oci: &[(&str, &[u8])] = &[
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json", index.as_bytes()),
        (&blob(&manifest), manifest.as_bytes()),
        (&blob(config), config.as_bytes()),
    ];
    let docker: &[(&str, &[u8])] = &[
        ("c.json", config.as_bytes()),
        ("manifest.json", br#"[{"Config":"c.json","RepoTags":null,"Layers":null}]"#),
    ];
    for files in [oci, docker] {
        let place = Scratch::new("no-layers");
        let store = store(&place);
        let loaded = store.load(&archive(&place, files), &Platform::host(), &Quiet).unwrap();
        assert_eq!((loaded.len(), &loaded[0].id, loaded[0].layers.len()), (1, &digest, 0));
        store.prepare(&loaded[0], "c").unwrap().mount().unwrap();
        assert!(store.verify(false).unwrap().is_empty());
    }
}

#[test]
fn each_name_of_a_loaded_image_has_a_record() {
    common::need_root!();
    for (names, expected) in [
        (
            r#"["a:1","a:2","quay.io/b:1"]"#,
            &["docker.io/library/a:1", "docker.io/library/a:2", "quay.io/b:1"][..],
        ),
        (r#"["a:1","a:1"]"#, &["docker.io/library/a:1"]),
        ("[]", &[]),
        ("null", &[]),
    ] {
        let place = Scratch::new("names");
        let store = store(&place);
        let loaded = store.load(&docker_archive(&place, names), &Platform::host(), &Quiet).unwrap();
        let found: Vec<_> = loaded.iter().filter_map(|record| record.name.clone()).collect();
        assert_eq!(found, expected, "{names}");
        assert_eq!(loaded.len(), expected.len().max(1), "{names}");
        assert_eq!(store.images().unwrap(), loaded, "{names}");
    }
}

/// Bytes that compress well, and not to nothing.
fn words() -> Vec<u8> {
    (0..300_000_u32).flat_map(|n| format!("{} ", n.wrapping_mul(2_654_435_761) >> 16).into_bytes()).collect()
}

/// An image with an uncompressed layer, in a store of its own.
fn imported(place: &Scratch) -> (Store, Record) {
    let store = store(place);
    let composition = Composition { name: Some(Reference::parse("a:1").unwrap()), ..Composition::default() };
    let bytes = tar(&[file("words", &words())]);
    let record = store.import(bytes.as_slice(), &Platform::host(), &composition).unwrap();
    (store, record)
}

#[test]
fn layers_are_compressed_when_they_are_saved() {
    common::need_root!();
    let place = Scratch::new("compressed");
    let (store, record) = imported(&place);
    let plain = store.manifest(&record).unwrap();
    assert_eq!(plain.layers[0].media_type, media::OCI_LAYER);
    let images = [(record.clone(), vec![record.reference().unwrap()])];
    for (compression, kind) in [
        (Compression::Gzip, media::OCI_LAYER_GZIP),
        (Compression::Zstd, media::OCI_LAYER_ZSTD),
        (Compression::None, media::OCI_LAYER),
    ] {
        let dir = place.path().join(format!("{compression:?}"));
        save_dir(&store, &images, compression, &dir).unwrap();
        let save = |format| save_archive(&store, &images, format, compression, Vec::new()).unwrap();
        let mut paths = vec![dir];
        for format in [Format::Docker, Format::Oci] {
            let bytes = save(format);
            assert!(bytes == save(format), "{kind}: the same bytes again");
            let path = place.path().join(format!("{compression:?}-{format:?}.tar"));
            fs::write(&path, bytes).unwrap();
            paths.push(path);
        }
        for path in paths {
            let elsewhere = Scratch::new("loaded");
            let other = self::store(&elsewhere);
            let loaded = other.load(&path, &Platform::host(), &Quiet).unwrap().remove(0);
            assert_eq!((&loaded.id, &loaded.layers), (&record.id, &record.layers), "{path:?}");
            let manifest = other.manifest(&loaded).unwrap();
            assert_eq!(manifest.layers[0].media_type, kind, "{path:?}");
            let smaller = manifest.layers[0].size < plain.layers[0].size / 2;
            assert_eq!(smaller, compression != Compression::None, "{path:?}");
            assert_eq!(loaded.manifest == record.manifest, compression == Compression::None, "{path:?}");
            assert!(other.verify(false).unwrap().is_empty());
        }
    }
    assert_eq!(fs::read_dir(store.root().join("ingest")).unwrap().count(), 0, "left behind");
    assert_eq!(store.manifest(&record).unwrap(), plain, "the store keeps its layer");
}

/// What was compressed already stays as it is, and with it the manifest's digest.
#[test]
fn an_image_with_compressed_layers_is_saved_as_it_is() {
    common::need_root!();
    let place = Scratch::new("as-it-is");
    let store = store(&place);
    let bytes = common::gzip(&tar(&[file("words", &words())]));
    let record = store.import(bytes.as_slice(), &Platform::host(), &Composition::default()).unwrap();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let path = place.path().join("saved.tar");
        let file = fs::File::create(&path).unwrap();
        save_archive(&store, &[(record.clone(), vec![])], Format::Oci, compression, file).unwrap();
        let other =
            Store::open(place.path().join(format!("{compression:?}")), StoreOptions::default()).unwrap();
        let loaded = other.load(&path, &Platform::host(), &Quiet).unwrap().remove(0);
        assert_eq!(loaded.manifest, record.manifest);
    }
}

/// The manifest is another one then, but not the image: it does not lose its name to itself.
#[test]
fn a_saved_image_is_loaded_over_itself() {
    common::need_root!();
    let place = Scratch::new("itself");
    let (store, record) = imported(&place);
    let path = place.path().join("saved.tar");
    let images = [(record.clone(), vec![record.reference().unwrap()])];
    let file = fs::File::create(&path).unwrap();
    save_archive(&store, &images, Format::Docker, Compression::Gzip, file).unwrap();
    store.load(&path, &Platform::host(), &Quiet).unwrap();
    let all = store.images().unwrap();
    assert_eq!((all.len(), &all[0].id, &all[0].name), (1, &record.id, &record.name), "{all:?}");
    assert!(store.verify(false).unwrap().is_empty());
}

/// The blob of the only layer.
fn layer_file(store: &Store, record: &Record) -> PathBuf {
    store.root().join("blobs").join(store.manifest(record).unwrap().layers[0].digest.path())
}

#[test]
fn a_layout_is_saved_again_without_compressing_its_layers() {
    common::need_root!();
    let place = Scratch::new("again");
    let (store, record) = imported(&place);
    let (dir, images) = (place.path().join("layout"), [(record.clone(), vec![record.reference().unwrap()])]);
    let save = || save_dir(&store, &images, Compression::Gzip, &dir);
    save().unwrap();
    let before = fs::read(dir.join("index.json")).unwrap();
    let (layer, length) = (layer_file(&store, &record), store.manifest(&record).unwrap().layers[0].size);
    fs::write(&layer, vec![0; usize::try_from(length).unwrap()]).unwrap();
    save().unwrap();
    assert_eq!(fs::read(dir.join("index.json")).unwrap(), before);
    // A record that cannot be used is written again.
    let records: Vec<_> =
        fs::read_dir(store.root().join("layers").join(record.layers[0].path())).unwrap().collect();
    let mut names: Vec<_> = records.into_iter().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["fs", "gzip.json", "meta.json"]);
    fs::write(store.root().join("layers").join(record.layers[0].path()).join("gzip.json"), "{").unwrap();
    assert_eq!(save().unwrap_err().kind(), ErrorKind::Mismatch, "it is compressed again");
}

#[test]
fn layers_are_compressed_when_they_are_pushed() {
    common::need_root!();
    for (compression, kind) in
        [(Compression::Gzip, media::OCI_LAYER_GZIP), (Compression::Zstd, media::OCI_LAYER_ZSTD)]
    {
        let place = Scratch::new("pushed");
        let (store, record) = imported(&place);
        let uploads = Arc::new(Uploads::default());
        let handler = uploads.clone();
        let server = Server::start(move |request| handler.handle(request));
        let target = Reference::parse(&format!("{}/repo", server.address)).unwrap();
        let client = Client::new(ClientOptions { compression, ..quick() });
        let pushed = client.push(&store, &record, &target, &Quiet).unwrap();
        let (_, bytes) = uploads.content.lock().unwrap()["manifests/latest"].clone();
        assert_eq!(pushed, Descriptor::of(media::OCI_MANIFEST, &bytes));
        let Document::Manifest(manifest) = Document::parse(&bytes, "").unwrap() else {
            panic!("no manifest")
        };
        assert_eq!((&manifest.config.digest, manifest.layers[0].media_type.as_str()), (&record.id, kind));
        assert!(manifest.layers[0].size < store.manifest(&record).unwrap().layers[0].size / 2);
        // The registry has it now, and the second push finds it.
        let before = server.requests().len();
        let layer = layer_file(&store, &record);
        let bytes = fs::read(&layer).unwrap();
        fs::write(&layer, vec![0; bytes.len()]).unwrap();
        assert_eq!(client.push(&store, &record, &target, &Quiet).unwrap(), pushed, "without the layer");
        assert!(server.requests()[before..].iter().all(|request| request.method != "POST"));
        // Another registry does not have it: the layer is compressed again, to the same bytes.
        let uploads = Arc::new(Uploads::default());
        let handler = uploads.clone();
        let other = Server::start(move |request| handler.handle(request));
        let target = Reference::parse(&format!("{}/repo", other.address)).unwrap();
        let error = client.push(&store, &record, &target, &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
        fs::write(&layer, bytes).unwrap();
        assert_eq!(client.push(&store, &record, &target, &Quiet).unwrap(), pushed);
        assert!(uploads.content.lock().unwrap().contains_key("manifests/latest"));
        assert_eq!(fs::read_dir(store.root().join("ingest")).unwrap().count(), 0, "left behind");
    }
}
