//! Tables of documents and configs.

use serde_json::{Value, json};

use super::*;
use crate::error::ErrorKind;

fn digest(n: u8) -> String {
    Digest::of(&[n]).to_string()
}

#[test]
fn a_document_is_what_its_type_or_its_shape_says() {
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{}","size":2}},"layers":[]}}"#,
        digest(1)
    );
    assert!(matches!(Document::parse(manifest.as_bytes(), "").unwrap(), Document::Manifest(_)));
    assert!(matches!(
        Document::parse(manifest.as_bytes(), media::DOCKER_MANIFEST).unwrap(),
        Document::Manifest(_)
    ));
    assert!(matches!(Document::parse(manifest.as_bytes(), "text/plain").unwrap(), Document::Manifest(_)));
    let index = br#"{"schemaVersion":2,"manifests":[],"annotations":null}"#;
    assert!(matches!(Document::parse(index, "").unwrap(), Document::Index(_)));
}

#[test]
fn null_is_an_absent_value() {
    let config = format!(r#"{{"mediaType":null,"digest":"{}","size":2,"urls":null}}"#, digest(1));
    for (text, announced) in [
        (format!(r#"{{"schemaVersion":2,"config":{config},"layers":null}}"#), ""),
        (format!(r#"{{"schemaVersion":2,"mediaType":null,"config":{config},"layers":null}}"#), ""),
        (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":null}}"#), ""),
        (format!(r#"{{"schemaVersion":2,"config":{config}}}"#), media::OCI_MANIFEST),
    ] {
        match Document::parse(text.as_bytes(), announced).unwrap() {
            Document::Manifest(manifest) => assert!(manifest.layers.is_empty(), "{text}"),
            Document::Index(_) => panic!("{text}"),
        }
    }
    let index = br#"{"schemaVersion":2,"mediaType":null,"manifests":null,"config":null}"#;
    match Document::parse(index, media::OCI_INDEX).unwrap() {
        Document::Index(index) => {
            let error = index.choose(&Platform::host()).unwrap_err();
            assert_eq!(error.to_string(), "the index has no images");
        }
        Document::Manifest(_) => panic!("not an index"),
    }
    for config in [
        r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":null}}"#,
        r#"{"os":"linux","architecture":"amd64","variant":null,"os.features":null,"rootfs":null}"#,
        r#"{"os":"linux","architecture":"amd64","created":null,"author":null,"config":null,"history":null}"#,
    ] {
        let parsed = ImageConfig::parse(config.as_bytes(), 0).unwrap();
        assert_eq!((parsed.platform.to_string(), parsed.rootfs), ("linux/amd64".into(), RootFs::default()));
    }
    let unknown = ImageConfig::parse(br#"{"os":null,"architecture":null}"#, 0).unwrap();
    assert_eq!(unknown.platform, Platform::default());
}

#[test]
fn broken_and_ambiguous_documents_are_refused() {
    let d = digest(1);
    let config = format!(r#"{{"mediaType":"x","digest":"{d}","size":2}}"#);
    for (text, announced) in [
        (r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.to_owned(), ""),
        (format!(r#"{{"schemaVersion":2,"manifests":[],"config":{config}}}"#), ""),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), ""),
        (r#"{"manifests":[]}"#.to_owned(), ""),
        (r#"[]"#.to_owned(), ""),
        (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{{"digest":"{d}","size":-1}}]}}"#), ""),
        (
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{{"digest":"sha256:x","size":1}}]}}"#),
            "",
        ),
        (
            format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media::OCI_INDEX),
            media::OCI_MANIFEST,
        ),
        (r#"{"schemaVersion":2,"mediaType":"application/x","config":{}}"#.to_owned(), ""),
    ] {
        assert!(Document::parse(text.as_bytes(), announced).is_err(), "{text}");
    }
    let schema1 = Document::parse(br#"{"schemaVersion":1}"#, "").unwrap_err();
    assert_eq!(schema1.kind(), ErrorKind::Unsupported);
}

#[test]
fn an_index_gives_the_best_image_and_never_an_attestation() {
    let entry = |n: u8, platform: &str, extra: &str| {
        format!(
            r#"{{"mediaType":"{}","digest":"{}","size":1,"platform":{platform}{extra}}}"#,
            media::OCI_MANIFEST,
            digest(n)
        )
    };
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{},{},{},{}]}}"#,
        entry(1, r#"{"os":"unknown","architecture":"unknown"}"#, ""),
        entry(
            2,
            r#"{"os":"linux","architecture":"amd64"}"#,
            r#","annotations":{"vnd.docker.reference.type":"x"}"#
        ),
        entry(3, r#"{"os":"linux","architecture":"arm","variant":"v6"}"#, ""),
        entry(4, r#"{"os":"linux","architecture":"arm64"}"#, ""),
    );
    let Document::Index(index) = Document::parse(index.as_bytes(), "").unwrap() else { panic!("no index") };
    let choose = |platform: &str| index.choose(&Platform::parse(platform).unwrap());
    assert_eq!(choose("linux/arm64").unwrap().digest.as_str(), digest(4));
    assert_eq!(choose("linux/arm/v7").unwrap().digest.as_str(), digest(3));
    let error = choose("linux/amd64").unwrap_err();
    assert_eq!(error.to_string(), "no image for linux/amd64: available platforms: linux/arm/v6, linux/arm64");
}

#[test]
fn a_config_must_count_its_layers_as_the_manifest_does() {
    let config = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":null,"Env":["A=b"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let parsed = ImageConfig::parse(config, 0).unwrap();
    assert_eq!(parsed.platform.to_string(), "linux/amd64");
    assert_eq!(parsed.config.unwrap().env.unwrap(), ["A=b"]);
    assert!(ImageConfig::parse(config, 1).is_err());
}

#[test]
fn values_that_mean_absent_are_absent() {
    let parse = |text: &str| serde_json::from_str::<RunConfig>(text).unwrap();
    let list = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    for empty in [r#""""#, "null"] {
        let text = format!(r#"{{"WorkingDir":{empty},"User":{empty},"StopSignal":{empty}}}"#);
        assert_eq!(parse(&text), RunConfig::default(), "{text}");
    }
    for name in ["Entrypoint", "Cmd", "Env", "Volumes", "Labels", "ExposedPorts"] {
        assert_eq!(parse(&format!(r#"{{"{name}":null}}"#)), RunConfig::default(), "{name}");
    }
    for (value, entry_point, command) in [
        (r#"[""]"#, None, list(&[""])),
        ("[null]", None, list(&[""])),
        (r#""""#, None, list(&[""])),
        (r#""/run me""#, list(&["/run me"]), list(&["/run me"])),
        (r#"["","x"]"#, list(&["", "x"]), list(&["", "x"])),
        ("[]", list(&[]), list(&[])),
    ] {
        let config = parse(&format!(r#"{{"Entrypoint":{value},"Cmd":{value}}}"#));
        assert_eq!((config.entrypoint, config.cmd), (entry_point, command), "{value}");
    }
}

#[test]
fn a_health_check_may_be_switched_off() {
    for (test, wanted) in [
        ("null", false),
        ("[]", false),
        (r#"["NONE"]"#, false),
        (r#"[""]"#, false),
        (r#"["CMD","/probe","-q"]"#, true),
        (r#"["CMD-SHELL","probe || exit 1"]"#, true),
    ] {
        let text = format!(r#"{{"Healthcheck":{{"Test":{test},"Interval":3000000000}}}}"#);
        let config: RunConfig = serde_json::from_str(&text).unwrap();
        assert_eq!(config.healthcheck.unwrap().is_set(), wanted, "{test}");
    }
}

#[test]
fn null_is_an_empty_list() {
    let descriptor = format!(r#"{{"mediaType":null,"digest":"{}","size":2}}"#, digest(1));
    let manifest = format!(r#"{{"schemaVersion":2,"mediaType":null,"config":{descriptor},"layers":null}}"#);
    let Document::Manifest(manifest) = Document::parse(manifest.as_bytes(), "").unwrap() else {
        panic!("not a manifest")
    };
    assert!(manifest.layers.is_empty() && manifest.config.media_type.is_empty());
    let index = r#"{"schemaVersion":2,"mediaType":null,"manifests":null}"#;
    assert!(Document::parse(index.as_bytes(), media::OCI_INDEX).is_ok());
    for config in [
        r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":null},"history":null}"#,
        r#"{"os":"linux","architecture":"amd64","variant":null,"os.features":null,"rootfs":null,"config":null}"#,
    ] {
        assert!(ImageConfig::parse(config.as_bytes(), 0).is_ok(), "{config}");
        assert!(ImageConfig::parse(config.as_bytes(), 1).is_err(), "{config}");
    }
}

/// Users do not know the names of this program's types.
#[test]
fn errors_name_the_types_of_json() {
    let descriptor = json!({ "mediaType": "x", "digest": digest(1), "size": 2, "urls": ["u"], "annotations": {"a": "b"},
        "platform": { "os": "linux", "architecture": "arm", "variant": "v7", "os.features": ["x"] } });
    let list = json!({ "schemaVersion": 2, "manifests": [descriptor], "annotations": {} });
    let manifest = json!({ "schemaVersion": 2, "config": descriptor, "layers": [descriptor] });
    let config = json!({ "os": "linux", "architecture": "arm", "rootfs": { "diff_ids": [digest(1)] }, "history": [{}],
        "config": { "User": "x", "Cmd": ["x"], "Entrypoint": ["x"], "Env": ["A=b"], "Volumes": {}, "Healthcheck": {} } });
    let (mut errors, mut wrong) = (0, Vec::new());
    for whole in [list, manifest, config] {
        for path in paths(&whole, "") {
            for other in [
                json!(null),
                json!(1),
                json!(true),
                json!("x"),
                json!([]),
                json!([1]),
                json!({}),
                json!({ "x": 1 }),
            ] {
                let mut changed = whole.clone();
                *changed.pointer_mut(&path).unwrap() = other;
                let bytes = changed.to_string().into_bytes();
                let parsed = if whole.get("schemaVersion").is_some() {
                    Document::parse(&bytes, "").err()
                } else {
                    ImageConfig::parse(&bytes, 1).err()
                };
                let message = parsed.map(|error| error.to_string()).unwrap_or_default();
                errors += usize::from(!message.is_empty());
                if ["struct", "enum", "variant "].iter().any(|word| message.contains(word)) {
                    wrong.push(message);
                }
            }
        }
    }
    assert!(errors > 100, "{errors}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// JSON pointers of a value and of all in it.
fn paths(value: &Value, at: &str) -> Vec<String> {
    let below: Vec<_> = match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(n, value)| (n.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    let below = below.into_iter().flat_map(|(name, value)| paths(value, &format!("{at}/{name}")));
    std::iter::once(at.to_owned()).chain(below).collect()
}
