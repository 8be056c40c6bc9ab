//! Images in archives as other tools write them.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Scratch, file, tar};
use image_store::platform::Platform;
use image_store::store::Quiet;
use image_store::{Digest, Store, StoreOptions};

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
