//! Hooks: six kinds, each at its time and place, with the state on standard input; and hooks that fail or hang.

use std::fs;

use crate::namespaces::{end, holder};
use integration::lab::{cgroup_path, in_cgroup, text};
use integration::process::{ignoring, wait_for};
use integration::{Container, Kind, Lab, Outcome, Stop, Test, eq, has, tests, yes};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests!["hooks":
    all_kinds_run_in_order_and_at_their_time,
    each_hook_reads_the_state_with_its_status,
    hooks_of_the_runtime_run_in_its_namespaces,
    hooks_of_the_container_run_in_its_namespaces,
    arguments_and_environment_are_exactly_those_given,
    a_hook_without_an_environment_has_the_callers_and_is_in_the_bundle,
    hooks_of_one_kind_run_in_the_order_given,
    a_failing_hook_before_start_stops_the_creation,
    a_failing_start_container_hook_stops_the_start,
    a_failing_poststop_hook_does_not_stop_the_deletion,
    a_hook_that_hangs_is_ended_by_its_timeout,
    a_missing_hook_program_is_refused,
    a_hook_with_a_relative_path_is_refused,
    a_hook_that_does_not_read_its_input_does_no_harm,
    a_state_larger_than_a_pipe_arrives_whole,
    a_timeout_that_is_not_positive_is_refused,
    a_failing_hook_of_the_start_stops_the_container,
    hooks_have_default_signals_whatever_the_caller_ignores,
];

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that appends `line` (shell text) to `file`.
fn note(file: &str, line: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", format!("echo {line} >> {file}")], "env": ["PATH=/usr/bin:/bin"]})
}

/// A container whose hooks of every kind note their name. The notes are in a directory that is bound into the container
/// at its own path, so that hooks in either mount namespace find it.
fn noting(lab: &Lab) -> Result<(Container, std::path::PathBuf), Stop> {
    let notes = lab.directory("notes")?;
    let mut c = lab.container()?;
    let dir = text(&notes);
    fs::create_dir_all(c.bundle.inside(&dir))?;
    c.config().mount(&dir, "bind", &dir, &["bind", "rw"]);
    for kind in KINDS {
        c.config().push(&format!("/hooks/{kind}"), note(&text(&notes.join("log")), kind));
    }
    Ok((c, notes.join("log")))
}

fn read(log: &std::path::Path) -> Vec<String> {
    fs::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn all_kinds_run_in_order_and_at_their_time(lab: &Lab) -> Outcome {
    let (mut c, log) = noting(lab)?;
    c.config().args(&["sleep", "1000"]);
    c.create_ok()?;
    // runc 1.3 runs poststart within create.
    let early = if lab.kind() == Kind::Runc { vec!["poststart"] } else { vec![] };
    let want = [vec!["prestart", "createRuntime", "createContainer"], early].concat();
    eq(read(&log), want, "after create")?;
    c.start_ok()?;
    wait_for("the hooks of start have run", || (read(&log).len() >= 5).then_some(()))?;
    // crun does not wait for startContainer before it runs poststart.
    let late = if lab.kind() != Kind::Knarr && read(&log)[3] == "poststart" {
        ["poststart", "startContainer"]
    } else {
        ["startContainer", "poststart"]
    };
    eq(read(&log)[3..].to_vec(), late.to_vec(), "after start")?;
    c.delete_force()?;
    eq(read(&log)[5..].to_vec(), vec!["poststop"], "after delete")
}

fn each_hook_reads_the_state_with_its_status(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "startContainer hooks get / as the bundle")?;
    let (mut c, log) = noting(lab)?;
    let dir = text(log.parent().unwrap_or(&log));
    for kind in KINDS {
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("/bin/cat > {dir}/{kind}.json")]});
        c.config().push(&format!("/hooks/{kind}"), hook);
    }
    c.config().args(&["sleep", "1000"]).set("/annotations/a.key", "value");
    c.run_detached()?;
    let pid = c.pid()?;
    c.delete_force()?;
    let want = ["creating", "creating", "creating", "created", "running", "stopped"];
    for (kind, status) in KINDS.iter().zip(want) {
        let state: Value = serde_json::from_str(&fs::read_to_string(format!("{dir}/{kind}.json"))?)?;
        eq(state["id"].as_str(), Some(c.id.as_str()), format!("id for {kind}"))?;
        eq(state["bundle"].as_str(), Some(c.bundle_arg().as_str()), format!("bundle for {kind}"))?;
        eq(state["annotations"]["a.key"].as_str(), Some("value"), format!("annotation for {kind}"))?;
        if lab.kind() == Kind::Knarr {
            eq(state["status"].as_str(), Some(status), format!("status for {kind}"))?;
        }
        if kind == &"prestart" || kind == &"poststart" {
            eq(state["pid"].as_i64(), Some(i64::from(pid)), format!("pid for {kind}"))?;
        }
    }
    Ok(())
}

fn namespaces_seen(lab: &Lab, kinds: &[&str]) -> Result<Vec<(Value, String, String)>, Stop> {
    let (mut c, log) = noting(lab)?;
    let dir = text(log.parent().unwrap_or(&log));
    for kind in kinds {
        let look = format!(
            "readlink /proc/self/ns/mnt > {dir}/{kind}; hostname >> {dir}/{kind}; ls -d /bin/inspector >> {dir}/{kind} 2>&1; true"
        );
        c.config().push(
            &format!("/hooks/{kind}"),
            json!({"path": "/bin/sh", "args": ["sh", "-c", look], "env": ["PATH=/usr/bin:/bin"]}),
        );
    }
    c.config().args(&["sleep", "1000"]);
    c.run_detached()?;
    let of_init = fs::read_link(format!("/proc/{}/ns/mnt", c.pid()?))?;
    let mut seen = Vec::new();
    for kind in kinds.iter().filter(|k| **k != "poststop") {
        let text = fs::read_to_string(format!("{dir}/{kind}"))?;
        seen.push((json!(kind), text, of_init.to_string_lossy().into_owned()));
    }
    c.delete_force()?;
    Ok(seen)
}

fn hooks_of_the_runtime_run_in_its_namespaces(lab: &Lab) -> Outcome {
    let ours = fs::read_link("/proc/self/ns/mnt")?.to_string_lossy().into_owned();
    for (kind, text, _) in namespaces_seen(lab, &["prestart", "createRuntime", "poststart"])? {
        has(&text, &ours).or_else(|_| integration::fail(format!("{kind} ran elsewhere: {text}")))?;
    }
    Ok(())
}

fn hooks_of_the_container_run_in_its_namespaces(lab: &Lab) -> Outcome {
    for (kind, text, container) in namespaces_seen(lab, &["createContainer", "startContainer"])? {
        has(&text, &container).or_else(|_| integration::fail(format!("{kind} ran elsewhere: {text}")))?;
        if kind == "startContainer" {
            has(&text, "box")?;
            has(&text, "/bin/inspector\n")?;
        }
    }
    Ok(())
}

fn a_hook_without_an_environment_has_the_callers_and_is_in_the_bundle(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "gives it no environment")?;
    let mut c = lab.container()?;
    for kind in ["prestart", "createRuntime", "createContainer", "poststart"] {
        let file = text(&lab.dir.join(kind));
        let script = format!("echo $OF_THE_CALLER $(pwd) > {file}");
        c.config().push(&format!("/hooks/{kind}"), json!({"path": "/bin/sh", "args": ["sh", "-c", script]}));
    }
    c.bundle.write()?;
    let mut command = lab.command(&["run", "--bundle", &c.bundle_arg(), &c.id]);
    command.env("OF_THE_CALLER", "x");
    integration::process::start(command, &lab.dir)?.wait()?.ok()?;
    let (bundle, root) = (c.bundle_arg(), text(&c.bundle.root()));
    for (kind, line) in [
        ("prestart", format!("x {bundle}\n")),
        ("createRuntime", format!("x {bundle}\n")),
        // In the container's namespaces nothing is the caller's.
        ("createContainer", format!("{root}\n")),
        ("poststart", format!("x {bundle}\n")),
    ] {
        eq(fs::read_to_string(lab.dir.join(kind))?, line, kind)?;
    }
    Ok(())
}

fn arguments_and_environment_are_exactly_those_given(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let file = text(&lab.dir.join("seen"));
    let script = format!("(echo \"$0,$1,$2\"; env | grep -v -E '^(PWD|SHLVL|_)=') > {file}");
    let hook = json!({"path": "/bin/bash", "args": ["name", "-c", script, "zero", "one two", ""], "env": ["ONLY=this one"]});
    c.config().push("/hooks/createRuntime", hook);
    let mut command = lab.command(&["run", "--bundle", &c.bundle_arg(), &c.id]);
    command.env("OF_THE_CALLER", "1");
    c.bundle.write()?;
    integration::process::start(command, &lab.dir)?.wait()?.ok()?;
    eq(fs::read_to_string(&file)?.as_str(), "zero,one two,\nONLY=this one\n", "arguments and environment")
}

fn hooks_of_one_kind_run_in_the_order_given(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let log = lab.dir.join("log");
    for number in 0..5 {
        c.config().push("/hooks/createRuntime", note(&text(&log), &number.to_string()));
    }
    c.run()?.ok()?;
    eq(read(&log), vec!["0", "1", "2", "3", "4"], "order")
}

fn a_failing_hook_before_start_stops_the_creation(lab: &Lab) -> Outcome {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut c = lab.container()?;
        let stopped = lab.dir.join(format!("stopped-{kind}"));
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo words of the hook >&2; exit 1"]});
        c.config().push(&format!("/hooks/{kind}"), hook).push("/hooks/poststop", note(&text(&stopped), "x"));
        let ended = c.create()?.refused()?;
        if lab.kind() != Kind::Crun {
            has(&ended.stderr, format!("error running {kind} hook #0"))?;
        }
        c.is_gone()?;
    }
    Ok(())
}

fn a_failing_start_container_hook_stops_the_start(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().writable().sh("touch /ran");
    c.config().push("/hooks/startContainer", json!({"path": "/bin/sh", "args": ["sh", "-c", "exit 1"]}));
    let ended = c.run()?.refused()?;
    if lab.kind() != Kind::Crun {
        has(&ended.stderr, "startContainer hook #0")?;
    }
    yes(!c.bundle.inside("/ran").exists(), "the program ran")?;
    c.delete_force()?;
    c.is_gone()
}

fn a_failing_poststop_hook_does_not_stop_the_deletion(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "does not run the hooks after the one that failed")?;
    lab.except(Kind::Crun, "does not delete a container whose poststop hook fails")?;
    let mut c = lab.container()?;
    let log = lab.dir.join("log");
    c.config().push("/hooks/poststop", json!({"path": "/bin/sh", "args": ["sh", "-c", "exit 1"]}));
    c.config().push("/hooks/poststop", note(&text(&log), "second"));
    c.run_detached()?;
    c.wait_for_status("stopped")?;
    // The specification: errors are logged, the rest continues. The status is left open.
    c.delete().map(drop)?;
    c.is_gone()?;
    eq(read(&log), vec!["second"], "the hook after the failing one")
}

fn a_hook_that_hangs_is_ended_by_its_timeout(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let hook = json!({"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1});
    c.config().push("/hooks/createRuntime", hook);
    c.create()?.refused()?;
    c.is_gone()
}

fn a_missing_hook_program_is_refused(lab: &Lab) -> Outcome {
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let mut c = lab.container()?;
        c.config().push(&format!("/hooks/{kind}"), json!({"path": "/no/such/hook"}));
        let ended = c.run()?.refused()?;
        if lab.kind() != Kind::Crun {
            has(ended.stderr.to_lowercase(), "no such file")?;
        }
        c.delete_force()?;
        c.is_gone()?;
    }
    Ok(())
}

fn a_hook_with_a_relative_path_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "runs it from its working directory")?;
    lab.except(Kind::Crun, "runs it from its working directory")?;
    let mut c = lab.container()?;
    c.config().push("/hooks/createRuntime", json!({"path": "bin/true"}));
    c.create()?.refused_with("hooks")?;
    c.is_gone()
}

fn a_hook_that_does_not_read_its_input_does_no_harm(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    // More than a pipe holds, so that a careless writer gets EPIPE, SIGPIPE, or waits forever.
    c.config().set("/annotations/long", "x".repeat(200_000));
    c.config().push(
        "/hooks/createRuntime",
        json!({"path": "/bin/sh", "args": ["sh", "-c", "exec <&-; sleep 0.2"]}),
    );
    let ended = c.run()?;
    // Whether an unread state is an error is left open; a crash or a hang is not.
    yes(ended.code < 128, format!("status {}: {}", ended.code, ended.stderr))?;
    c.delete_force()?;
    c.is_gone()
}

fn a_state_larger_than_a_pipe_arrives_whole(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let file = lab.dir.join("seen");
    c.config().set("/annotations/long", "x".repeat(300_000));
    let script = format!("sleep 0.2; cat > {}", text(&file));
    c.config().push("/hooks/createRuntime", json!({"path": "/bin/sh", "args": ["sh", "-c", script]}));
    c.run()?.ok()?;
    let state: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    eq(state["annotations"]["long"].as_str().map(str::len), Some(300_000), "bytes of the annotation")
}

fn a_timeout_that_is_not_positive_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "takes any number")?;
    lab.except(Kind::Crun, "takes any number")?;
    for timeout in [0, -1] {
        let mut c = lab.container()?;
        c.config().push("/hooks/createRuntime", json!({"path": "/bin/true", "timeout": timeout}));
        c.create()?.refused_with("timeout")?;
        c.is_gone()?;
    }
    Ok(())
}

/// The specification's lifecycle, 7 and 9: the runtime generates an error and stops the container; the rest comes with its deletion.
fn a_failing_hook_of_the_start_stops_the_container(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "runs poststart hooks within create")?;
    lab.except(Kind::Crun, "leaves the container running")?;
    let cases = ["own", "shared", "joined"].map(|pids| [("startContainer", pids), ("poststart", pids)]);
    for (number, (kind, pids)) in cases.into_iter().flatten().enumerate() {
        let lab = lab.inner(&number.to_string())?;
        let mut c = lab.container()?;
        let log = lab.dir.join("log");
        // A poststart hook fails once the program has a second process.
        let ready = text(&c.bundle.inside("/ready"));
        let script = match kind {
            "poststart" => format!("while ! [ -e {ready} ]; do sleep 0.05; done; exit 3"),
            _ => "exit 3".to_owned(),
        };
        c.config().push(&format!("/hooks/{kind}"), json!({"path": "/bin/sh", "args": ["sh", "-c", script]}));
        c.config().push("/hooks/poststop", note(&text(&log), "poststop"));
        c.config().writable().sh("sleep 1000 & touch /ready; sleep 1000");
        let holder = match pids {
            "shared" => {
                c.config().share("pid");
                None
            }
            "joined" => {
                let (holder, pid) = holder(&lab, &["--pid", "--fork", "--kill-child"])?;
                c.config().join("pid", &format!("/proc/{pid}/ns/pid"));
                Some(holder)
            }
            _ => None,
        };
        c.create_ok()?;
        let cgroup = cgroup_path(c.pid()?, "pids")?;
        c.start()?.refused_with(&format!("{kind} hook #0"))?;
        wait_for("no process is left in its cgroup", || in_cgroup(&cgroup).is_empty().then_some(()))?;
        eq(c.status()?, "stopped", format!("status after {kind}, pids {pids}"))?;
        eq(read(&log), Vec::<String>::new(), "poststop hooks before the deletion")?;
        c.start()?.refused()?;
        c.delete()?.ok()?;
        c.is_gone()?;
        eq(read(&log), vec!["poststop"], "poststop hooks after the deletion")?;
        // `run` removes what it could not start.
        c.run()?.refused_with(&format!("{kind} hook #0"))?;
        c.is_gone()?;
        holder.map_or(Ok(()), end)?;
    }
    Ok(())
}

fn hooks_have_default_signals_whatever_the_caller_ignores(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "hooks inherit what is ignored")?;
    let mut c = lab.container()?;
    let kinds = ["prestart", "createRuntime", "poststart", "poststop"];
    for kind in kinds {
        let file = text(&lab.dir.join(kind));
        let line = format!("exec /bin/grep SigIgn /proc/self/status > {file}");
        c.config().push(&format!("/hooks/{kind}"), json!({"path": "/bin/sh", "args": ["sh", "-c", line]}));
    }
    c.bundle.write()?;
    let run = lab.command(&["run", "--bundle", &c.bundle_arg(), &c.id]);
    integration::process::start(ignoring(&run), &lab.dir)?.wait()?.ok()?;
    for kind in kinds {
        let line = fs::read_to_string(lab.dir.join(kind))?;
        let ignored = u64::from_str_radix(line.trim_start_matches("SigIgn:").trim(), 16).unwrap_or(u64::MAX);
        // Go leaves two signals to the C library, whatever the caller of the tests has made of them.
        let looked_at = if lab.kind() == Kind::Runc { !(3 << 31) } else { u64::MAX };
        eq(ignored & looked_at, 0, format!("{kind}: {line}"))?;
    }
    Ok(())
}
