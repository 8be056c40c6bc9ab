//! Read-only and masked paths.

use super::*;
use crate::plan::mounts::tests::{PLAIN, draft_of, host, spec, words};

const LINUX: &str =
    r#""readonlyPaths":["/proc/sys","proc/bus"],"maskedPaths":["/proc/kcore","/sys/firmware"]"#;

#[test]
fn late_remounts_come_first_then_read_only_paths_then_masks() {
    let spec = spec(r#"{"destination":"/t","type":"tmpfs","options":["ro"]}"#, LINUX);
    let draft = draft_of(&spec, &host(), |inputs, mounts, draft| {
        append_read_only(inputs, mounts, PLAIN, draft)?;
        append_masks(inputs, PLAIN, draft)
    });
    assert_eq!(
        words(&draft.unwrap()),
        [
            "remount /t (ro)",
            "make read-only /proc/sys",
            "make read-only /proc/bus",
            "mask /proc/kcore",
            "mask /sys/firmware",
        ]
    );
}

#[test]
fn a_path_that_is_given_twice_is_hidden_once() {
    let paths = r#""readonlyPaths":["/a","a","/b","/a"],"maskedPaths":["/c","/c","/d","c"]"#;
    let spec = spec("", paths);
    let draft = draft_of(&spec, &host(), |inputs, mounts, draft| {
        append_read_only(inputs, mounts, PLAIN, draft)?;
        append_masks(inputs, PLAIN, draft)
    });
    assert_eq!(words(&draft.unwrap()), ["make read-only /a", "make read-only /b", "mask /c", "mask /d"]);
}

#[test]
fn without_a_mount_namespace_of_its_own_nothing_can_be_hidden() {
    let spec = spec("", LINUX);
    let none = NamespaceFacts::default();
    for (error, field) in [
        (
            draft_of(&spec, &host(), |inputs, mounts, draft| append_read_only(inputs, mounts, none, draft)),
            "linux.readonlyPaths",
        ),
        (draft_of(&spec, &host(), |inputs, _, draft| append_masks(inputs, none, draft)), "linux.maskedPaths"),
    ] {
        let message = format!("{field}: unable to restrict sys entries without a private MNT namespace");
        assert_eq!(error.unwrap_err(), message);
    }
}

#[test]
fn a_bad_path_is_named() {
    for (paths, message) in [
        (r#"["/a",""]"#, "linux.maskedPaths[1]: is empty"),
        (r#"["/a\u0000"]"#, "linux.maskedPaths[0]: contains"),
    ] {
        let spec = spec("", &format!(r#""maskedPaths":{paths}"#));
        let error =
            draft_of(&spec, &host(), |inputs, _, draft| append_masks(inputs, PLAIN, draft)).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }
}
