//! The nodes and links of /dev.

use super::*;
use crate::host::Host;
use crate::plan::mounts::tests::{PLAIN, USER, draft_of, host, rootless, spec, words};

fn lines(
    mounts: &str,
    devices: &str,
    host: &Host,
    ns: NamespaceFacts,
) -> std::result::Result<Vec<String>, String> {
    let spec = spec(mounts, &format!(r#""devices":[{devices}]"#));
    draft_of(&spec, host, |inputs, mounts, draft| append(inputs, mounts, ns, draft))
        .map(|draft| words(&draft))
}

const LINK_LINES: [&str; 6] = [
    "link /dev/ptmx -> pts/ptmx (replacing)",
    "link /dev/fd -> /proc/self/fd",
    "link /dev/stdin -> /proc/self/fd/0",
    "link /dev/stdout -> /proc/self/fd/1",
    "link /dev/stderr -> /proc/self/fd/2",
    "link /dev/core -> /proc/kcore",
];

#[test]
fn every_container_has_the_default_nodes_and_links() {
    let lines = lines("", "", &host(), PLAIN).unwrap();
    assert_eq!(
        lines[..7],
        [
            "open directory /dev",
            "make node /dev/null c 1:3 0666",
            "make node /dev/random c 1:8 0666",
            "make node /dev/full c 1:7 0666",
            "make node /dev/tty c 5:0 0666",
            "make node /dev/zero c 1:5 0666",
            "make node /dev/urandom c 1:9 0666",
        ]
    );
    assert_eq!(lines[7..], LINK_LINES);
}

#[test]
fn given_devices_come_after_and_take_the_place_of_defaults() {
    let devices = r#"
        {"path":"/dev/tty","type":"c","major":5,"minor":0,"fileMode":384,"uid":7,"gid":8},
        {"path":"/dev/dsp/a","type":"b","major":8,"minor":1},
        {"path":"/run/pipe","type":"p"},
        {"path":"/dev/ptmx","type":"c","major":5,"minor":2},
        {"path":"","type":"c","major":1,"minor":1},
        {"path":"/dev/u","type":"u","major":1,"minor":11}"#;
    let lines = lines("", devices, &host(), PLAIN).unwrap();
    assert_eq!(
        lines[6..15],
        [
            "make node /dev/tty c 5:0 0600 7:8",
            "open directory /dev/dsp",
            "make node /dev/dsp/a b 8:1 0666",
            "open directory /run",
            "make node /run/pipe p 0:0 0666",
            "open directory /dev",
            "make node /dev/u c 1:11 0666",
            "link /dev/ptmx -> pts/ptmx (replacing)",
            "link /dev/fd -> /proc/self/fd",
        ]
    );
    assert_eq!(lines.iter().filter(|line| line.contains("/dev/tty")).count(), 1);
}

#[test]
fn a_device_without_an_absolute_path_is_refused() {
    let device = r#"{"path":"dev/u","type":"u","major":1,"minor":11}"#;
    assert!(lines("", device, &host(), PLAIN).is_err());
}

#[test]
fn without_the_privilege_for_nodes_the_hosts_are_bound() {
    for (host, ns) in [(host(), USER), (rootless(), USER), (rootless(), PLAIN)] {
        let lines = lines("", "", &host, ns).unwrap();
        assert_eq!(lines[0], "bind /dev/null on /dev/null");
        assert_eq!(lines[6], "open directory /dev");
        assert_eq!(lines[7..], LINK_LINES);
    }
}

#[test]
fn a_bound_dev_is_left_alone() {
    let bound = r#"{"destination":"/dev/","source":"/dev","options":["rbind"]}"#;
    assert_eq!(lines(bound, "", &host(), PLAIN).unwrap(), Vec::<String>::new());
    let below = r#"{"destination":"/dev/x","source":"/dev/x","options":["bind"]}"#;
    assert!(!lines(below, "", &host(), PLAIN).unwrap().is_empty());
}

#[test]
fn without_kcore_there_is_no_link_to_it() {
    let host = Host { kcore: false, ..host() };
    assert!(!lines("", "", &host, PLAIN).unwrap().iter().any(|line| line.contains("core")));
}

#[test]
fn bad_devices_are_refused_by_the_name_of_the_field() {
    for (device, message) in [
        (r#"{"path":"/dev/a","type":"a","major":1,"minor":1}"#, r#"linux.devices[0].type: "a""#),
        (
            r#"{"path":"/dev/a","type":"c","major":-1,"minor":1}"#,
            "linux.devices[0].major: -1 must be between 0 and 4095",
        ),
        (r#"{"path":"/dev/a","type":"c","major":1,"minor":1048576}"#, "linux.devices[0].minor: 1048576"),
        (r#"{"path":"/dev/..","type":"c","major":1,"minor":1}"#, "linux.devices[0].path: "),
        (r#"{"path":"/dev/a\u0000","type":"c","major":1,"minor":1}"#, "linux.devices: contains a NUL byte"),
    ] {
        let error = lines("", device, &host(), PLAIN).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }
}
