//! `run`: in the foreground, detached, kept; exit statuses, signals, standard streams, preserved descriptors, logs.

use std::fs;
use std::os::fd::AsRawFd;
use std::process::Stdio;

use integration::lab::text;
use integration::process::{ignoring, start};
use integration::{Kind, Lab, Outcome, Test, eq, has, hasnt, tests, yes};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;

pub(crate) const TESTS: &[Test] = tests!["run":
    the_exit_status_of_the_program_is_the_status_of_run,
    death_by_a_signal_is_128_and_its_number,
    a_caller_that_ignores_signals_gets_the_exit_status_all_the_same,
    a_container_is_removed_when_its_program_ends,
    keep_leaves_the_stopped_container,
    detach_returns_while_the_program_runs,
    standard_streams_are_passed_through,
    signals_to_the_runtime_reach_the_program,
    a_killed_foreground_runtime_leaves_nothing_that_delete_can_not_finish,
    preserved_descriptors_are_passed_and_no_others,
    descriptors_of_the_caller_do_not_leak,
    listen_fds_are_passed_with_pid_one,
    a_missing_program_is_named,
    a_program_that_is_a_directory_is_refused,
    a_program_without_execute_permission_is_refused,
    a_script_without_interpreter_is_refused,
    the_path_of_the_container_finds_the_program,
    a_relative_program_is_found_from_cwd,
    large_output_arrives_whole,
    a_log_file_in_json_has_one_object_a_line,
    a_log_file_in_text_has_key_value_lines,
    debug_logs_more,
    version_names_the_runtime_and_the_spec,
    an_unknown_command_is_refused,
    help_of_every_command_succeeds,
];

fn the_exit_status_of_the_program_is_the_status_of_run(lab: &Lab) -> Outcome {
    for code in [0, 1, 7, 125, 255] {
        let mut c = lab.container()?;
        c.config().sh(&format!("exit {code}"));
        c.run()?.status(code)?;
    }
    Ok(())
}

fn a_caller_that_ignores_signals_gets_the_exit_status_all_the_same(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "its run fails")?;
    let mut c = lab.container()?;
    c.config().sh("exit 7");
    c.bundle.write()?;
    let run = lab.command(&["run", "--bundle", &c.bundle_arg(), &c.id]);
    start(ignoring(&run), &lab.dir)?.wait()?.status(7)?;
    c.is_gone()?;
    c.sleeping()?;
    let exec = lab.command(&["exec", &c.id, "sh", "-c", "exit 8"]);
    start(ignoring(&exec), &lab.dir)?.wait()?.status(8)?;
    c.delete_force()
}

fn death_by_a_signal_is_128_and_its_number(lab: &Lab) -> Outcome {
    // PID 1 of a pid namespace cannot kill itself, so its parent's namespace is shared.
    for (name, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        let mut c = lab.container()?;
        c.config().share("pid").sh(&format!("kill -{name} $$"));
        c.run()?.status(code)?;
    }
    Ok(())
}

fn a_container_is_removed_when_its_program_ends(lab: &Lab) -> Outcome {
    let c = lab.container()?;
    c.run()?.ok()?;
    c.call("state", &[])?.refused()?;
    c.is_gone()
}

fn keep_leaves_the_stopped_container(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().sh("exit 3");
    c.run_with(&["--keep"])?.status(3)?;
    eq(c.status()?, "stopped", "status")?;
    c.delete()?.ok()?;
    c.is_gone()
}

fn detach_returns_while_the_program_runs(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    eq(c.status()?, "running", "status")?;
    c.kill_and_delete()
}

fn standard_streams_are_passed_through(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().sh("read line; echo out $line; echo err $line >&2");
    c.bundle.write()?;
    let input = lab.file("input", "typed\n")?;
    let mut command = lab.command(&["run", "--bundle", &c.bundle_arg(), &c.id]);
    command.stdin(fs::File::open(input)?);
    let ended = start(command, &lab.dir)?.wait()?.ok()?;
    eq(ended.stdout.as_str(), "out typed\n", "stdout")?;
    eq(ended.stderr.as_str(), "err typed\n", "stderr")
}

fn signals_to_the_runtime_reach_the_program(lab: &Lab) -> Outcome {
    for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGINT, "INT"), (Signal::SIGUSR1, "USR1")] {
        let mut c = lab.container()?;
        c.config()
            .sh(&format!("trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.05; done"));
        let running = c.foreground(&[])?;
        running.wait_for_output("ready")?;
        running.signal(signal)?;
        let ended = running.wait()?.status(9)?;
        has(&ended.stdout, format!("got {name}"))?;
        c.is_gone()?;
    }
    Ok(())
}

fn a_killed_foreground_runtime_leaves_nothing_that_delete_can_not_finish(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().sh("echo ready; sleep 1000");
    let running = c.foreground(&[])?;
    running.wait_for_output("ready")?;
    running.signal(Signal::SIGKILL)?;
    running.wait()?.status(137)?;
    c.delete_force()?;
    c.is_gone()
}

fn preserved_descriptors_are_passed_and_no_others(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().args(&["inspector", "report"]);
    c.bundle.write()?;
    let command = format!(
        "exec 3</dev/null 4</dev/zero 5</dev/full; exec {} --root {} run --preserve-fds 2 --bundle {} {}",
        lab.runtime.line(),
        lab.state.display(),
        c.bundle_arg(),
        c.id
    );
    let report = lab.host(&["bash", "-c", &command])?.ok()?.json()?;
    let fds = report["fds"].as_object().cloned().unwrap_or_default();
    let numbers: Vec<&str> = fds.keys().map(String::as_str).collect();
    eq(numbers, vec!["0", "1", "2", "3", "4"], "descriptors inside")?;
    eq(fds["3"].as_str(), Some("/dev/null"), "descriptor 3")?;
    eq(fds["4"].as_str(), Some("/dev/zero"), "descriptor 4")
}

fn descriptors_of_the_caller_do_not_leak(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().args(&["inspector", "report"]);
    let dir = fs::File::open("/")?;
    fcntl(&dir, FcntlArg::F_SETFD(FdFlag::empty()))?;
    yes(dir.as_raw_fd() > 2, "a descriptor of our own")?;
    let report = c.run()?.ok()?.json()?;
    let numbers: Vec<String> =
        report["fds"].as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect();
    eq(numbers, vec!["0", "1", "2"], "descriptors inside")?;
    c.config().args(&["sleep", "1000"]);
    c.run_detached()?;
    let report = c.exec(&["inspector", "report"])?.ok()?.json()?;
    let numbers: Vec<String> =
        report["fds"].as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect();
    eq(numbers, vec!["0", "1", "2"], "descriptors of exec")?;
    c.delete_force()
}

fn listen_fds_are_passed_with_pid_one(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().sh("echo $LISTEN_FDS $LISTEN_PID; readlink /proc/self/fd/3");
    c.bundle.write()?;
    let script = format!(
        "exec 3</dev/zero; LISTEN_FDS=1 LISTEN_PID=$$ exec {} --root {} run --bundle {} {}",
        lab.runtime.line(),
        lab.state.display(),
        c.bundle_arg(),
        c.id
    );
    let ended = lab.host(&["bash", "-c", &script])?.ok()?;
    // crun passes the number only.
    let want = if lab.kind() == Kind::Crun { "1\n/dev/zero" } else { "1 1\n/dev/zero" };
    eq(ended.text(), want, "LISTEN_FDS, LISTEN_PID and descriptor 3")
}

fn a_missing_program_is_named(lab: &Lab) -> Outcome {
    for program in ["/no/such/program", "nosuchprogram", "./no"] {
        let mut c = lab.container()?;
        c.config().args(&[program]);
        let ended = c.run()?.refused_with("no")?;
        has(&ended.stderr, program)?;
        // Engines tell "not found" (127) from other errors by one of these texts.
        let text = ended.stderr.to_lowercase();
        yes(
            ["no such file or directory", "executable file not found in", "executable file `"]
                .iter()
                .any(|t| text.contains(t)),
            format!("no text that engines know:\n{text}"),
        )?;
        c.is_gone()?;
    }
    Ok(())
}

fn a_program_that_is_a_directory_is_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().args(&["/bin"]);
    let ended = c.run()?.refused()?;
    let text = ended.stderr.to_lowercase();
    // The texts by which engines choose status 126; crun says EPERM.
    let known = ["permission denied", "is a directory", "operation not permitted"];
    yes(known.iter().any(|t| text.contains(t)), text)?;
    c.is_gone()
}

fn a_program_without_execute_permission_is_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.bundle.file("/plain", "#!/bin/sh\n")?;
    c.config().args(&["/plain"]);
    c.run()?.refused_with(if lab.kind() == Kind::Crun { "not permitted" } else { "permission denied" })?;
    c.is_gone()
}

fn a_script_without_interpreter_is_refused(lab: &Lab) -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let mut c = lab.container()?;
    c.bundle.file("/script", "#!/no/such/interpreter\n")?;
    fs::set_permissions(c.bundle.inside("/script"), fs::Permissions::from_mode(0o755))?;
    c.config().args(&["/script"]);
    let ended = c.run()?.refused_with("no such file or directory")?;
    if lab.kind() == Kind::Knarr {
        eq(
            ended.stderr.as_str(),
            "exec /script: no such file or directory\n",
            "what the dying init says with runc",
        )?;
        eq(ended.code, 255, "status")?;
    }
    c.bundle.file("/script", "no format the kernel knows")?;
    c.run()?.refused_with("exec format error")?;
    c.is_gone()
}

fn the_path_of_the_container_finds_the_program(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    fs::create_dir_all(c.bundle.inside("/opt/special"))?;
    fs::hard_link(c.bundle.inside("/bin/inspector"), c.bundle.inside("/opt/special/found"))?;
    c.config()
        .args(&["found", "argv", "a b", ""])
        .set("/process/env", serde_json::json!(["PATH=/nowhere:/opt/special"]));
    eq(c.run()?.ok()?.text(), r#"["a b",""]"#, "arguments")
}

fn a_relative_program_is_found_from_cwd(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().args(&["./busybox", "pwd"]).set("/process/cwd", "/bin");
    eq(c.run()?.ok()?.text(), "/bin", "cwd")
}

fn large_output_arrives_whole(lab: &Lab) -> Outcome {
    let out = lab.sh(|_| {}, "dd if=/dev/zero bs=1024 count=3000 2>/dev/null | tr '\\0' x")?;
    eq(out.len(), 3_072_000, "bytes of output")
}

fn a_log_file_in_json_has_one_object_a_line(lab: &Lab) -> Outcome {
    lab.except(
        Kind::Crun,
        "says where an unknown container was looked for, in text, before it opens its log",
    )?;
    let log = text(&lab.dir.join("log.json"));
    let ended = lab.call(&["--log", &log, "--log-format", "json", "state", "nobody"])?.refused()?;
    has(&ended.stderr, "does not exist")
        .or_else(|e| if lab.kind() == Kind::Crun { Ok(()) } else { Err(e) })?;
    let lines = fs::read_to_string(&log)?;
    let last = lines.lines().next_back().unwrap_or_default();
    let object: serde_json::Value = serde_json::from_str(last)?;
    eq(object["level"].as_str(), Some("error"), "level")?;
    has(object["msg"].as_str().unwrap_or_default(), "nobody").or_else(|_| has(&lines, "does not exist"))?;
    yes(object["time"].as_str().is_some_and(|t| t.starts_with("20") && t.contains('T')), "time is RFC 3339")
}

fn a_log_file_in_text_has_key_value_lines(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "its text log is a line without keys")?;
    let log = text(&lab.dir.join("log"));
    lab.call(&["--log", &log, "state", "nobody"])?.refused()?;
    has(fs::read_to_string(&log)?, "level=error")
}

fn debug_logs_more(lab: &Lab) -> Outcome {
    let log = text(&lab.dir.join("log"));
    let c = lab.container()?;
    c.bundle.write()?;
    lab.call(&["--debug", "--log", &log, "--log-format", "json", "run", "--bundle", &c.bundle_arg(), &c.id])?
        .ok()?;
    if lab.kind() != Kind::Crun {
        has(fs::read_to_string(&log)?, r#""level":"debug""#)?;
    }
    Ok(())
}

fn version_names_the_runtime_and_the_spec(lab: &Lab) -> Outcome {
    let ended = lab.call(&["--version"])?.ok()?;
    has(ended.stdout.lines().next().unwrap_or_default(), " version ")?;
    has(&ended.stdout, "spec: 1.")
}

fn an_unknown_command_is_refused(lab: &Lab) -> Outcome {
    let ended = lab.call(&["frobnicate"])?;
    if lab.kind() == Kind::Runc {
        // runc prints its help to standard output and says only "No help topic for".
        return eq(ended.code == 0, false, "status");
    }
    ended.refused()?;
    Ok(())
}

fn help_of_every_command_succeeds(lab: &Lab) -> Outcome {
    let verbs = [
        "create", "start", "run", "exec", "kill", "delete", "state", "list", "ps", "pause", "resume",
        "update", "spec", "features",
    ];
    for verb in verbs {
        // crun's parser has --help forevery command, -h too.
        let ended = lab.call(&[verb, "--help"])?.ok()?;
        has(format!("{}{}", ended.stdout, ended.stderr), verb)?;
        hasnt(&ended.stderr, "rror")?;
    }
    let mut command = lab.command(&["--help"]);
    command.stdin(Stdio::null());
    let all = start(command, &lab.dir)?.wait()?.ok()?;
    for verb in verbs {
        has(&all.stdout, verb)?;
    }
    Ok(())
}
