//! Bad input: broken, huge, deep and contradictory configurations, hostile state, exhausted resources. Each is a clear
//! error in seconds; nothing changes; nothing is left.

use std::fs;

use integration::lab::text;
use integration::rootfs::{Trap, lay};
use integration::{Container, Kind, Lab, Outcome, Test, eq, fail, has, tests, yes};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests!["input":
    a_missing_bundle_is_refused,
    a_bundle_without_configuration_is_refused,
    a_configuration_that_is_no_json_is_refused,
    a_configuration_that_is_a_fifo_is_refused_or_read,
    a_configuration_that_is_a_directory_or_device_is_refused,
    a_deeply_nested_configuration_is_refused,
    a_huge_configuration_is_handled,
    members_of_the_wrong_type_are_refused,
    missing_members_are_refused_by_name,
    contradictions_are_refused,
    unknown_members_are_ignored,
    a_known_member_in_another_case_is_refused_with_its_spelling,
    an_unknown_capability_is_warned_of_once,
    an_unknown_version_is_refused_or_taken,
    numbers_out_of_range_are_refused,
    odd_paths_are_refused,
    nul_bytes_are_refused,
    very_long_strings_are_refused_or_kept,
];

/// `create` is refused, and nothing is left.
fn refused(c: &Container, what: &str) -> Outcome {
    let ended = c.call("create", &["--bundle", &c.bundle_arg()])?;
    if ended.code == 0 {
        c.delete_force()?;
        return fail(format!("accepted: {what}"));
    }
    ended.refused().or_else(|stop| fail(format!("{what}: {stop:?}")))?;
    c.is_gone()
}

fn a_missing_bundle_is_refused(lab: &Lab) -> Outcome {
    for bundle in ["/no/such/bundle", "", "/etc/passwd", "/dev/null"] {
        let id = format!("{}-x", lab.token);
        lab.call(&["create", "--bundle", bundle, &id])?.refused()?;
    }
    Ok(())
}

fn a_bundle_without_configuration_is_refused(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    let ended = c.call("create", &["--bundle", &c.bundle_arg()])?.refused()?;
    has(&ended.stderr, "config.json")?;
    c.is_gone()
}

fn a_configuration_that_is_no_json_is_refused(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    let whole = c.bundle.config.0.to_string();
    let half = &whole[..whole.len() / 2];
    for text in [
        "",
        " ",
        "{",
        "}",
        "null",
        "[]",
        "5",
        "\"text\"",
        "{\"ociVersion\"",
        "\u{feff}{}",
        "<xml/>",
        half,
        "{}{}",
    ] {
        c.bundle.write_text(text)?;
        refused(&c, text)?;
    }
    fs::write(c.bundle.path.join("config.json"), [0xff_u8, 0xfe, 0x00, 0x80])?;
    refused(&c, "bytes that are no text")
}

fn a_configuration_that_is_a_fifo_is_refused_or_read(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "opens it and waits forever")?;
    lab.except(Kind::Crun, "opens it and waits forever")?;
    let c = lab.container()?;
    lay(&c.bundle.path.join("config.json"), Trap::Fifo)?;
    refused(&c, "a FIFO")
}

fn a_configuration_that_is_a_directory_or_device_is_refused(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    let path = c.bundle.path.join("config.json");
    lay(&path, Trap::Directory)?;
    refused(&c, "a directory")?;
    lay(&path, Trap::Link("/dev/null"))?;
    refused(&c, "/dev/null")?;
    lay(&path, Trap::Link("config.json"))?;
    refused(&c, "a link to itself")?;
    if lab.kind() == Kind::Knarr {
        lay(&path, Trap::Link("/dev/zero"))?;
        refused(&c, "/dev/zero")?;
    }
    Ok(())
}

fn a_deeply_nested_configuration_is_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    for depth in [1_000, 100_000] {
        c.config().set("/annotations", Value::Null);
        let deep = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        c.bundle.write_text(&c.bundle.config.0.to_string().replacen(
            "\"annotations\":null",
            &format!("\"deep\":{deep}"),
            1,
        ))?;
        let ended = c.call("create", &["--bundle", &c.bundle_arg()])?;
        // An unknown member may be skipped, however deep; a crash is no refusal.
        yes(ended.code < 128, format!("depth {depth}: status {}", ended.code))?;
        c.delete_force()?;
        c.is_gone()?;
    }
    Ok(())
}

fn a_huge_configuration_is_handled(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    for number in 0..20_000 {
        c.config().0["annotations"][format!("org.example.annotation.{number}")] = json!("x".repeat(100));
    }
    c.config().args(&["echo", "fine"]);
    let ended = c.run()?;
    yes(ended.code == 0 || !ended.stderr.is_empty(), "a failure without a message")?;
    c.delete_force()?;
    c.is_gone()
}

fn members_of_the_wrong_type_are_refused(lab: &Lab) -> Outcome {
    let table = [
        ("/process", json!("text")),
        ("/process/args", json!("true")),
        ("/process/args", json!([1])),
        ("/process/env", json!({"A": "1"})),
        ("/process/cwd", json!(5)),
        ("/process/user", json!("root")),
        ("/process/user/additionalGids", json!("1,2")),
        ("/process/terminal", json!("yes")),
        ("/root", json!("rootfs")),
        ("/root/path", json!(5)),
        ("/mounts", json!({})),
        ("/mounts/0", json!("proc")),
        ("/mounts/0/options", json!("ro")),
        ("/linux", json!([])),
        ("/linux/namespaces", json!("all")),
        ("/linux/maskedPaths", json!("/proc/kcore")),
        ("/linux/devices", json!({})),
        ("/linux/resources", json!([])),
        ("/linux/seccomp", json!("strict")),
        ("/hooks", json!([])),
        ("/hooks/prestart", json!("hook")),
        ("/annotations", json!([])),
        ("/hostname", json!(5)),
    ];
    for (pointer, value) in table {
        let mut c = lab.container()?;
        c.config().set(pointer, value.clone());
        if lab.kind() == Kind::Crun {
            // libocispec takes some scalars for each other and leaves the cgroup behind later.
            continue;
        }
        c.bundle.write()?;
        refused(&c, &format!("{pointer} = {value}"))?;
    }
    Ok(())
}

fn missing_members_are_refused_by_name(lab: &Lab) -> Outcome {
    for pointer in ["/process/args", "/process/cwd", "/root", "/linux", "/ociVersion"] {
        let mut c = lab.container()?;
        c.config().remove(pointer);
        c.bundle.write()?;
        let ended = c.call("create", &["--bundle", &c.bundle_arg()])?;
        if ended.code == 0 {
            // runc lets a missing version pass; crun a missing cwd (it is "/") and version.
            c.delete_force()?;
            yes(lab.kind() != Kind::Knarr || pointer == "/linux", format!("accepted without {pointer}"))?;
            continue;
        }
        ended.refused()?;
        c.is_gone()?;
    }
    Ok(())
}

fn contradictions_are_refused(lab: &Lab) -> Outcome {
    let dir = text(&lab.directory("source")?);
    let changes: &[(&str, &str, Value)] = &[
        ("a destination that is the root", "/mounts/0/destination", json!("")),
        ("a namespace and its path that is no path", "/linux/namespaces/0/path", json!("relative/path")),
        ("an empty default action", "/linux/seccomp/defaultAction", json!("")),
        ("a device without a type", "/linux/devices", json!([{"path": "/dev/x", "major": 1, "minor": 1}])),
        (
            "a device of an unknown type",
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "q", "major": 1, "minor": 1}]),
        ),
        (
            "a device with a relative path",
            "/linux/devices",
            json!([{"path": "dev/../../x", "type": "c", "major": 1, "minor": 1}]),
        ),
    ];
    for (what, pointer, value) in changes {
        let mut c = lab.container()?;
        c.config().set(pointer, value.clone());
        c.bundle.write()?;
        let ended = c.call("create", &["--bundle", &c.bundle_arg()])?;
        if ended.code == 0 {
            c.delete_force()?;
            yes(lab.kind() != Kind::Knarr, format!("accepted: {what}"))?;
            continue;
        }
        ended.refused()?;
        if lab.kind() != Kind::Crun {
            c.is_gone()?;
        } else {
            return integration::skip("Crun: leaves its cgroup behind after a refusal");
        }
    }
    yes(fs::read_dir(&dir)?.next().is_none(), "the directory is empty")
}

fn unknown_members_are_ignored(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config()
        .set("/unheardOf", json!({"a": [1, 2]}))
        .set("/linux/unheardOf", true)
        .set("/process/unheardOf", 5);
    c.config().args(&["echo", "fine"]);
    // The specification (extensibility): unknown properties must be ignored.
    eq(c.run()?.ok()?.text(), "fine", "output")
}

fn an_unknown_version_is_refused_or_taken(lab: &Lab) -> Outcome {
    for version in ["1.99.0", "2.0.0", "0.1.0", "x", ""] {
        let mut c = lab.container()?;
        c.config().set("/ociVersion", version).args(&["true"]);
        let ended = c.run()?;
        yes(ended.code < 128, format!("version {version:?}: status {}", ended.code))?;
        if lab.kind() == Kind::Knarr && ["x", ""].contains(&version) {
            ended.refused()?;
        }
        c.delete_force()?;
        c.is_gone()?;
    }
    Ok(())
}

fn numbers_out_of_range_are_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "takes what strtol makes of a number")?;
    let table = [
        ("/process/user/uid", json!(1e20)),
        ("/process/user/gid", json!(-1)),
        ("/process/user/additionalGids", json!([4_294_967_296_u64])),
        ("/process/user/uid", json!(1.5)),
        ("/linux/resources/pids", json!({"limit": 1e300})),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 18_446_744_073_709_551_615_u64}, {"type": "RLIMIT_NOFILE", "soft": -1, "hard": -1}]),
        ),
    ];
    for (pointer, value) in table {
        let mut c = lab.container()?;
        c.config().set(pointer, value.clone());
        c.bundle.write()?;
        refused(&c, &format!("{pointer} = {value}"))?;
    }
    Ok(())
}

fn odd_paths_are_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let outside = lab.directory("outside")?;
    // Each is either refused or stays inside the root.
    for destination in
        ["/../../../..", "/mnt/../../../../../../tmp", "//mnt//", "/mnt/.", "relative", "../up"]
    {
        c.config().without_mount(destination);
        let mut one = lab.container()?;
        one.config().mount(destination, "tmpfs", "tmpfs", &[]).args(&["true"]);
        let ended = one.run()?;
        yes(ended.code < 128, format!("{destination}: status {}", ended.code))?;
        one.delete_force()?;
    }
    eq(fs::read_dir(outside)?.count(), 0, "files made outside")
}

fn nul_bytes_are_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "cuts a text at its first NUL")?;
    let nul = "a\u{0}b";
    // runc hands a hostname to the kernel by its length.
    let taken = |pointer: &str| lab.kind() == Kind::Runc && pointer == "/hostname";
    for pointer in [
        "/process/cwd",
        "/root/path",
        "/hostname",
        "/mounts/0/destination",
        "/linux/maskedPaths/0",
        "/linux/cgroupsPath",
    ] {
        let mut c = lab.container()?;
        c.config().set(pointer, format!("/{nul}"));
        c.bundle.write()?;
        if !taken(pointer) {
            refused(&c, &format!("a NUL byte in {pointer}"))?;
        }
    }
    let mut c = lab.container()?;
    c.config().args(&["echo", nul]);
    c.run()?.refused()?;
    c.is_gone()
}

fn very_long_strings_are_refused_or_kept(lab: &Lab) -> Outcome {
    let long = "x".repeat(70_000);
    for pointer in ["/hostname", "/process/cwd", "/linux/cgroupsPath", "/root/path", "/mounts/0/destination"]
    {
        let mut c = lab.container()?;
        c.config().set(pointer, format!("/{long}"));
        c.bundle.write()?;
        if lab.kind() == Kind::Crun {
            continue;
        }
        refused(&c, &format!("70,000 bytes in {pointer}"))?;
    }
    // CVE-2021-43784: a length that does not fit 16 bits.
    let mut c = lab.container()?;
    c.config().push("/process/env", json!(format!("LONG={long}"))).sh("echo ${#LONG}");
    eq(c.run()?.ok()?.text(), "70000", "length of a variable")
}

fn a_known_member_in_another_case_is_refused_with_its_spelling(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "takes it for the known one")?;
    lab.except(Kind::Crun, "passes over it")?;
    for (pointer, place, right) in [
        ("/root/readOnly", "root.readOnly", "readonly"),
        ("/linux/MaskedPaths", "linux.MaskedPaths", "maskedPaths"),
        ("/process/nonewprivileges", "process.nonewprivileges", "noNewPrivileges"),
        ("/process/user/UID", "process.user.UID", "uid"),
    ] {
        let mut c = lab.container()?;
        c.config().set(pointer, json!(true));
        let ended = c.create()?.refused_with(&format!("{place}: must be spelled "))?;
        has(&ended.stderr, right)?;
        c.is_gone()?;
    }
    let mut c = lab.container()?;
    c.sleeping()?;
    let file = lab.file("process.json", r#"{"args":["true"],"cwd":"/","Capabilities":{}}"#)?;
    lab.call(&["exec", "--process", &text(&file), &c.id])?.refused_with("must be spelled")?;
    let file = lab.file("resources.json", r#"{"Pids":{"limit":7}}"#)?;
    c.call("update", &["--resources", &text(&file)])?.refused_with("must be spelled")?;
    c.delete_force()
}

fn an_unknown_capability_is_warned_of_once(lab: &Lab) -> Outcome {
    let warp = json!(["CAP_KILL", "CAP_WARP"]);
    for sets in [&["bounding"][..], &["bounding", "effective", "permitted"]] {
        let mut c = lab.container()?;
        for set in sets {
            c.config().set(&format!("/process/capabilities/{set}"), warp.clone());
        }
        let ended = c.run()?.ok()?;
        eq(ended.stderr.matches("CAP_WARP").count(), 1, format!("warnings in {}", ended.stderr))?;
        // So, too, when the container is not made.
        c.config().set("/root/path", "/no/such/root");
        let ended = c.run()?.refused()?;
        if lab.kind() == Kind::Knarr {
            eq(ended.stderr.matches("CAP_WARP").count(), 1, format!("warnings in {}", ended.stderr))?;
        }
    }
    Ok(())
}
