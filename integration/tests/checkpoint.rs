//! checkpoint and restore: what comes back, what is refused, and that nothing is left of what goes wrong.
//!
//! CRIU is the machine's own, or the one that `make peers` has put beside the peers. Containers use the host's network where nothing
//! else is said: to hold a network still, CRIU as runc asks for it needs iptables's programs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::lifecycle::held_script;
use integration::lab::text;
use integration::process::{Ended, start, start_as_is, wait_for};
use integration::runtime::{need_criu, v2};
use integration::terminal::{FdSocket, Terminal};
use integration::{Container, Kind, Lab, Outcome, Stop, Test, eq, fail, has, skip, tests, yes};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests!["checkpoint":
    a_container_goes_on_where_it_was,
    a_restored_container_is_saved_and_restored_again,
    every_verb_works_on_a_restored_container,
    a_container_that_is_left_running_goes_on,
    a_restore_in_the_foreground_gives_the_exit_status,
    a_terminal_comes_back_through_the_console_socket,
    bind_mounts_come_from_the_host_again,
    a_network_namespace_that_is_joined_is_joined_again,
    an_own_network_has_its_loopback_up,
    a_file_of_the_host_as_stdout_is_written_on,
    a_container_in_a_user_namespace_comes_back,
    a_paused_container_is_saved_and_comes_back_running,
    a_container_with_a_stopped_process_comes_back_with_it,
    hooks_run_at_a_restore,
    delete_force_ends_a_restore_whose_hook_hangs,
    an_id_that_is_taken_is_refused,
    a_container_that_does_not_run_is_refused,
    without_criu_the_container_goes_on,
    a_damaged_checkpoint_leaves_nothing_behind,
    every_step_of_a_restore_that_fails_leaves_nothing_behind,
    a_restore_killed_at_every_point_leaves_what_delete_can_finish,
    a_link_in_a_checkpoint_leads_nowhere,
    an_annotation_names_no_configuration_for_criu,
    a_parent_directory_must_be_relative_and_there,
];

/// A container that is saved and restored.
pub(crate) struct Saved {
    lab: Lab,
    pub(crate) c: Container,
    pub(crate) path: String,
    pub(crate) images: PathBuf,
}

/// On the host's network, with a counter in its memory that it writes to /tmp/count.
pub(crate) fn counting(lab: &Lab) -> Result<Saved, Stop> {
    let path = need_criu()?;
    let mut c = lab.container()?;
    c.config()
        .share("network")
        .mount("/tmp", "tmpfs", "tmpfs", &["nosuid", "nodev"])
        .sh("n=0; while :; do n=$((n+1)); echo $n > /tmp/count; sleep 0.1; done");
    Ok(Saved { lab: lab.clone(), c, path, images: lab.dir.join("images") })
}

impl Saved {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command(args);
        command.env("PATH", &self.path);
        command
    }

    fn call(&self, args: &[&str]) -> Result<Ended, Stop> {
        start(self.command(args), &self.lab.dir)?.wait()
    }

    /// With /dev/null as streams: CRIU as runc asks for it cannot save a file of the host.
    fn quiet(&self, args: &[&str]) -> Outcome {
        let log = self.lab.dir.join("log");
        let mut command = self.command(&[&["--log", &text(&log)], args].concat());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let ended = start_as_is(command, None)?.wait()?;
        if ended.code == 0 {
            return Ok(());
        }
        fail(format!(
            "{}: status {}\n{}",
            ended.line,
            ended.code,
            fs::read_to_string(log).unwrap_or_default()
        ))
    }

    pub(crate) fn run(&self) -> Outcome {
        self.c.bundle.write()?;
        self.quiet(&["run", "--detach", "--bundle", &self.c.bundle_arg(), &self.c.id])
    }

    pub(crate) fn checkpoint(&self, flags: &[&str]) -> Result<Ended, Stop> {
        self.call(&[&["checkpoint", "--image-path", &text(&self.images)], flags, &[&self.c.id]].concat())
    }

    fn restore_line<'a>(&'a self, images: &'a str, bundle: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
        [&["restore", "--image-path", images, "--bundle", bundle], flags, &[&self.c.id]].concat()
    }

    pub(crate) fn restore(&self, flags: &[&str]) -> Outcome {
        self.quiet(&self.restore_line(
            &text(&self.images),
            &self.c.bundle_arg(),
            &[&["--detach"], flags].concat(),
        ))
    }

    /// A restore that is expected to be refused.
    fn restore_badly(&self) -> Result<Ended, Stop> {
        self.call(&self.restore_line(&text(&self.images), &self.c.bundle_arg(), &["--detach"]))?.refused()
    }

    pub(crate) fn count(&self) -> Result<u64, Stop> {
        let read = || self.c.sh("cat /tmp/count").ok()?.trim().parse().ok();
        wait_for("the counter is there", read)
    }

    pub(crate) fn counts_on_from(&self, before: u64) -> Outcome {
        let now = self.count()?;
        yes(now >= before, format!("the counter was {before} and is {now}"))?;
        wait_for("the counter continues", || (self.count().ok()? > now).then_some(()))
    }
}

fn a_container_goes_on_where_it_was(lab: &Lab) -> Outcome {
    let s = counting(lab)?;
    s.run()?;
    wait_for("it has counted", || (s.count().ok()? > 3).then_some(()))?;
    let before = s.count()?;
    s.checkpoint(&[])?.ok()?;
    s.c.is_gone()?;
    s.restore(&["--pid-file", &text(&lab.dir.join("pid"))])?;
    eq(s.c.status()?, "running", "status")?;
    eq(fs::read_to_string(lab.dir.join("pid"))?, s.c.pid()?.to_string(), "the pid file")?;
    s.counts_on_from(before)?;
    yes(s.count()? < before + 1000, "it started over")?;
    eq(s.c.sh("hostname")?.trim(), "box", "the host name")?;
    eq(s.c.sh("cat /proc/1/comm")?.trim(), "sh", "the first process")?;
    s.c.delete_force()
}

fn a_restored_container_is_saved_and_restored_again(lab: &Lab) -> Outcome {
    let s = counting(lab)?;
    s.run()?;
    for _ in 0..3 {
        let before = s.count()?;
        s.checkpoint(&[])?.ok()?;
        s.restore(&[])?;
        s.counts_on_from(before)?;
    }
    s.c.delete_force()
}

fn every_verb_works_on_a_restored_container(lab: &Lab) -> Outcome {
    let s = counting(lab)?;
    s.run()?;
    let group = s.c.cgroup("pids")?;
    s.checkpoint(&[])?.ok()?;
    yes(!group.exists(), "the cgroup is left")?;
    s.restore(&[])?;
    eq(s.c.cgroup("pids")?, group, "the cgroup")?;
    s.c.start()?.refused()?;
    s.c.call("pause", &[])?.ok()?;
    eq(s.c.status()?, "paused", "status")?;
    s.c.call("resume", &[])?.ok()?;
    has(s.c.call("ps", &[])?.ok()?.stdout, s.c.pid()?.to_string())?;
    has(s.c.sh("cat /proc/self/mounts")?, "tmpfs /tmp")?;
    // In the clocks that the others have, too: CRIU makes a time namespace.
    let clock = |process: &str| s.c.sh(&format!("readlink /proc/{process}/ns/time"));
    eq(clock("self")?, clock("1")?, "the time namespace of an exec")?;
    s.c.delete()?.refused()?;
    s.c.kill_and_delete()
}

fn a_container_that_is_left_running_goes_on(lab: &Lab) -> Outcome {
    let s = counting(lab)?;
    s.run()?;
    let pid = s.c.pid()?;
    s.checkpoint(&["--leave-running"])?.ok()?;
    eq((s.c.status()?.as_str(), s.c.pid()?), ("running", pid), "the container")?;
    s.counts_on_from(1)?;
    s.c.delete_force()?;
    s.restore(&[])?;
    s.counts_on_from(1)?;
    s.c.delete_force()
}

fn a_restore_in_the_foreground_gives_the_exit_status(lab: &Lab) -> Outcome {
    let mut s = counting(lab)?;
    s.c.config().sh("while ! [ -e /tmp/go ]; do sleep 0.1; done; echo done; exit 7");
    s.c.config().writable().remove("/mounts/7");
    fs::create_dir_all(s.c.bundle.inside("/tmp"))?;
    s.c.bundle.write()?;
    // Pipes: those of the restore take the place of those of the run.
    let mut command = s.command(&["run", "--detach", "--bundle", &s.c.bundle_arg(), &s.c.id]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    start_as_is(command, None)?.wait()?.ok()?;
    s.checkpoint(&[])?.ok()?;
    s.c.bundle.file("/tmp/go", "")?;
    let mut command = s.command(&s.restore_line(&text(&s.images), &s.c.bundle_arg(), &[]));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output()?;
    eq(String::from_utf8_lossy(&output.stdout).as_ref(), "done\n", String::from_utf8_lossy(&output.stderr))?;
    eq(output.status.code(), Some(7), "the exit status")?;
    s.c.is_gone()
}

fn a_terminal_comes_back_through_the_console_socket(lab: &Lab) -> Outcome {
    let mut s = counting(lab)?;
    s.c.config().set("/process/terminal", true).sh("while read line; do echo you said $line; done");
    s.c.bundle.write()?;
    let bundle = s.c.bundle_arg();
    let socket = FdSocket::listen(&lab.dir.join("first.sock"))?;
    let console = text(&socket.path);
    let running = start(
        s.command(&["run", "--detach", "--bundle", &bundle, "--console-socket", &console, &s.c.id]),
        &lab.dir,
    )?;
    let mut terminal = Terminal::new(socket.receive()?.0);
    running.wait()?.ok()?;
    terminal.type_in("before\n")?;
    terminal.read_until("you said before")?;
    s.checkpoint(&[])?.ok()?;
    drop(terminal);
    let socket = FdSocket::listen(&lab.dir.join("second.sock"))?;
    let (console, images) = (text(&socket.path), text(&s.images));
    let line = s.restore_line(&images, &bundle, &["--detach", "--console-socket", &console]);
    let running = start(s.command(&line), &lab.dir)?;
    let mut terminal = Terminal::new(socket.receive()?.0);
    running.wait()?.ok()?;
    terminal.type_in("after\n")?;
    terminal.read_until("you said after")?;
    s.c.delete_force()
}

fn bind_mounts_come_from_the_host_again(lab: &Lab) -> Outcome {
    let mut s = counting(lab)?;
    let (outer, inner) = (lab.directory("outer")?, lab.directory("inner")?);
    fs::write(inner.join("file"), "first")?;
    // Nested, and one place a symbolic link.
    std::os::unix::fs::symlink("/real", s.c.bundle.inside("/link"))?;
    s.c.config().writable().mount("/link", "bind", &text(&outer), &["bind"]).mount(
        "/link/for/nested",
        "bind",
        &text(&inner),
        &["bind", "ro"],
    );
    s.run()?;
    s.checkpoint(&[])?.ok()?;
    fs::remove_dir_all(outer.join("for"))?;
    fs::write(inner.join("file"), "second")?;
    s.restore(&[])?;
    eq(s.c.sh("cat /real/for/nested/file")?.as_str(), "second", "the file")?;
    s.c.exec(&["touch", "/real/for/nested/x"])?.refused()?;
    s.c.delete_force()
}

fn a_network_namespace_that_is_joined_is_joined_again(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "holds the network by iptables only")?;
    let mut pod = lab.container()?;
    pod.sleeping()?;
    let mut s = counting(lab)?;
    s.c.config().join("network", &format!("/proc/{}/ns/net", pod.pid()?));
    s.run()?;
    let joined = s.c.sh("readlink /proc/self/ns/net")?;
    eq(&joined, &pod.sh("readlink /proc/self/ns/net")?, "the network namespace before")?;
    s.checkpoint(&[])?.ok()?;
    s.restore(&[])?;
    eq(s.c.sh("readlink /proc/self/ns/net")?, joined, "the network namespace")?;
    s.c.delete_force()?;
    pod.delete_force()
}

fn an_own_network_has_its_loopback_up(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "holds the network by iptables only")?;
    let mut s = counting(lab)?;
    s.c.config().unshare("network");
    s.run()?;
    s.checkpoint(&[])?.ok()?;
    s.restore(&[])?;
    has(s.c.sh("ip address show lo")?, "127.0.0.1")?;
    s.c.delete_force()
}

fn a_file_of_the_host_as_stdout_is_written_on(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "CRIU refuses a stdout that is a file outside of the root")?;
    let mut s = counting(lab)?;
    s.c.config().sh("n=0; while :; do n=$((n+1)); echo $n; sleep 0.1; done");
    s.c.bundle.write()?;
    let file = lab.dir.join("output");
    let lines =
        || fs::read_to_string(&file).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    let (images, bundle) = (text(&s.images), s.c.bundle_arg());
    let first = vec!["run", "--detach", "--bundle", &bundle, &s.c.id];
    for line in [first, s.restore_line(&images, &bundle, &["--detach"])] {
        let before = lines().len();
        let mut command = s.command(&line);
        let output = fs::File::options().create(true).append(true).open(&file)?;
        command.stdin(Stdio::null()).stdout(output).stderr(Stdio::null());
        start_as_is(command, None)?.wait()?.ok()?;
        wait_for("it has written", || (lines().len() > before + 2).then_some(()))?;
        s.checkpoint(&[])?.ok()?;
    }
    let all = lines();
    let count: Vec<String> = (1..=all.len()).map(|n| n.to_string()).collect();
    eq(all, count, "the numbers")
}

fn a_container_in_a_user_namespace_comes_back(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "CRIU may not look for images in a directory of mode 0700")?;
    let mut s = counting(lab)?;
    s.c.config().unshare("network").user_namespace(100_000, 65536);
    s.c.bundle.chown(100_000)?;
    s.run()?;
    let before = s.count()?;
    s.checkpoint(&[])?.ok()?;
    s.restore(&[])?;
    s.counts_on_from(before)?;
    has(s.c.sh("cat /proc/self/uid_map")?, "100000")?;
    // CRIU's images are files that anyone who reaches them can read.
    let dir = fs::metadata(&s.images)?;
    eq(dir.mode() & 0o007, 0, "what others may do in the directory")?;
    s.c.delete_force()
}

fn a_paused_container_is_saved_and_comes_back_running(lab: &Lab) -> Outcome {
    let s = counting(lab)?;
    s.run()?;
    let before = s.count()?;
    s.c.call("pause", &[])?.ok()?;
    s.checkpoint(&[])?.ok()?;
    s.c.is_gone()?;
    s.restore(&[])?;
    s.counts_on_from(before)?;
    s.c.delete_force()
}

fn a_container_with_a_stopped_process_comes_back_with_it(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "hangs on cgroup v1: the freezer keeps the process from CRIU")?;
    lab.except(Kind::Crun, "hangs on cgroup v1: the freezer keeps the process from CRIU")?;
    let mut s = counting(lab)?;
    s.c.config()
        .sh("sleep 1000 & kill -STOP $!; while :; do n=$((n+1)); echo $n > /tmp/count; sleep 0.1; done");
    s.run()?;
    let stopped = || s.c.sh("cat /proc/[0-9]*/stat; true").ok()?.contains(") T ").then_some(());
    wait_for("one of its processes is stopped", stopped)?;
    if !v2() {
        s.c.call("pause", &[])?.ok()?;
        s.checkpoint(&[])?.refused_with("resume it first")?;
        s.c.call("resume", &[])?.ok()?;
    }
    let before = s.count()?;
    s.checkpoint(&[])?.ok()?;
    s.restore(&[])?;
    s.counts_on_from(before)?;
    wait_for("its stopped process is stopped again", stopped)?;
    s.c.delete_force()
}

fn hooks_run_at_a_restore(lab: &Lab) -> Outcome {
    let mut s = counting(lab)?;
    let notes = lab.dir.join("notes");
    let note = |kind: &str| {
        let script = format!("echo {kind} $(cat) >> {}", notes.display());
        json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
    };
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        s.c.config().push(&format!("/hooks/{kind}"), note(kind));
    }
    s.run()?;
    s.checkpoint(&[])?.ok()?;
    fs::remove_file(&notes)?;
    s.restore(&[])?;
    let seen = fs::read_to_string(&notes)?;
    let kinds: Vec<_> = seen.lines().filter_map(|line| line.split(' ').next()).collect();
    // runc leaves the last out.
    let poststart = if lab.kind() == Kind::Runc { &[][..] } else { &["poststart"] };
    eq(kinds, [&["prestart", "createRuntime"], poststart].concat(), "the hooks")?;
    has(&seen, format!("\"pid\":{}", s.c.pid()?))?;
    s.c.delete_force()
}

fn delete_force_ends_a_restore_whose_hook_hangs(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "it waits for the hook")?;
    lab.except(Kind::Crun, "it waits for the hook")?;
    for kind in ["prestart", "createRuntime", "poststart"] {
        let lab = lab.inner(kind)?;
        let mut s = counting(&lab)?;
        s.run()?;
        s.checkpoint(&[])?.ok()?;
        let (running, go) = (lab.dir.join("runs"), lab.dir.join("go"));
        let script = held_script(&running, &go);
        let env = ["PATH=/usr/bin:/bin"];
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("{script}; exit 3")], "env": env});
        s.c.config().push(&format!("/hooks/{kind}"), hook);
        s.c.bundle.write()?;
        let (images, bundle) = (text(&s.images), s.c.bundle_arg());
        let restoring = start(s.command(&s.restore_line(&images, &bundle, &["--detach"])), &lab.dir)?;
        wait_for("the hook runs", || running.exists().then_some(()))?;
        s.c.delete_force()?;
        s.c.is_gone()?;
        // The container of a poststart hook is running; the hook may go on.
        fs::write(&go, "")?;
        restoring.wait()?.refused()?;
        s.c.is_gone()?;
    }
    Ok(())
}

fn an_id_that_is_taken_is_refused(lab: &Lab) -> Outcome {
    let s = counting(lab)?;
    s.run()?;
    s.checkpoint(&["--leave-running"])?.ok()?;
    let pid = s.c.pid()?;
    has(s.restore_badly()?.stderr, "exist")?;
    eq(s.c.pid()?, pid, "the existing container")?;
    s.c.delete_force()
}

fn a_container_that_does_not_run_is_refused(lab: &Lab) -> Outcome {
    let s = counting(lab)?;
    s.checkpoint(&[])?.refused()?;
    s.c.bundle.write()?;
    s.quiet(&["create", "--bundle", &s.c.bundle_arg(), &s.c.id])?;
    s.checkpoint(&[])?.refused_with("created")?;
    s.c.delete_force()
}

fn without_criu_the_container_goes_on(lab: &Lab) -> Outcome {
    let mut s = counting(lab)?;
    s.run()?;
    let pid = s.c.pid()?;
    s.path = "/nonexistent".into();
    s.checkpoint(&[])?.refused_with("criu")?;
    eq((s.c.status()?.as_str(), s.c.pid()?), ("running", pid), "the container")?;
    if lab.kind() == Kind::Knarr {
        yes(!s.images.join("inventory.img").exists(), "there are images")?;
        s.checkpoint(&[])?.refused_with("install criu")?;
    }
    s.c.delete_force()
}

fn a_damaged_checkpoint_leaves_nothing_behind(lab: &Lab) -> Outcome {
    let s = counting(lab)?;
    s.run()?;
    let group = s.c.cgroup("pids")?;
    s.checkpoint(&[])?.ok()?;
    let cut = |name: &str| -> Outcome {
        let file = s.images.join(name);
        let whole = fs::read(&file)?;
        fs::write(&file, &whole[..whole.len() / 2])?;
        let refused = s.restore_badly()?;
        yes(!refused.stderr.contains("panicked"), "a panic")?;
        s.c.is_gone()?;
        yes(!group.exists(), format!("the cgroup is left after {name}"))?;
        fs::write(&file, whole)?;
        Ok(())
    };
    for name in ["inventory.img", "core-1.img", "pstree.img", "files.img"] {
        cut(name)?;
    }
    if lab.kind() == Kind::Knarr {
        // With runc CRIU reads the first forever, and a state stays without the last.
        for name in ["pages-1.img", "pagemap-1.img", "descriptors.json"] {
            cut(name)?;
        }
    }
    s.restore(&[])?;
    s.c.delete_force()
}

/// A restore with this fault (see the topic `faults`).
fn with_fault(s: &Saved, fault: &str) -> Result<Ended, Stop> {
    let (images, bundle) = (text(&s.images), s.c.bundle_arg());
    let mut command = s.command(&s.restore_line(&images, &bundle, &["--detach"]));
    command.env("KNARR_FAULT", fault).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    start_as_is(command, None)?.wait()
}

/// A checkpoint, and a runtime that can be told to fail.
fn saved_with_faults(lab: &Lab) -> Result<Saved, Stop> {
    if lab.kind() != Kind::Knarr {
        return skip("a test of knarr alone");
    }
    let s = counting(lab)?;
    s.run()?;
    s.checkpoint(&[])?.ok()?;
    if with_fault(&s, "fail:0")?.code == 0 {
        s.c.delete_force()?;
        return skip("this binary was built without the feature `fault`: make test-faults");
    }
    Ok(s)
}

fn every_step_of_a_restore_that_fails_leaves_nothing_behind(lab: &Lab) -> Outcome {
    let s = saved_with_faults(lab)?;
    for step in 0..100 {
        let ended = with_fault(&s, &format!("fail:{step}"))?;
        if ended.code == 0 {
            yes(step > 20, format!("only {step} steps were hit"))?;
            s.counts_on_from(1)?;
            return s.c.delete_force();
        }
        s.c.is_gone()?;
        yes(!s.lab.state.join(&s.c.id).exists(), format!("the state is left after step {step}"))?;
    }
    fail("more steps than any plan of this test has")
}

fn a_restore_killed_at_every_point_leaves_what_delete_can_finish(lab: &Lab) -> Outcome {
    let s = saved_with_faults(lab)?;
    for point in 0..100 {
        let ended = with_fault(&s, &format!("kill:{point}"))?;
        if ended.code == 0 {
            yes(point > 10, format!("only {point} points were hit"))?;
            s.counts_on_from(1)?;
            return s.c.delete_force();
        }
        // CRIU notices that its caller is gone, and removes what it has made.
        wait_for("CRIU has ended", || (!criu_runs()).then_some(()))?;
        s.c.delete_force()?;
        s.c.is_gone()?;
    }
    fail("more points than a restore has")
}

/// Whether one that was started here runs: its parent is dead, so it is this program's child.
fn criu_runs() -> bool {
    let own = std::process::id().cast_signed();
    integration::process::processes().iter().any(|p| p.ppid == own && p.state != 'Z' && p.comm == "criu")
}

fn a_link_in_a_checkpoint_leads_nowhere(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "lets CRIU follow links (CVE-2026-53489)")?;
    let s = counting(lab)?;
    s.run()?;
    s.checkpoint(&[])?.ok()?;
    let canary = lab.file("canary", "of the host")?;
    for name in ["restore.log", "stats-restore", "descriptors.json", "core-1.img", "new"] {
        let (file, kept) = (s.images.join(name), lab.dir.join("kept"));
        let there = file.exists();
        if there {
            fs::rename(&file, &kept)?;
        }
        std::os::unix::fs::symlink(&canary, &file)?;
        has(s.restore_badly()?.stderr, name)?;
        s.c.is_gone()?;
        eq(fs::read_to_string(&canary)?.as_str(), "of the host", name)?;
        fs::remove_file(&file)?;
        if there {
            fs::rename(&kept, &file)?;
        }
    }
    // A second name of a file is no link to see; the log is a new file.
    let _ = fs::remove_file(s.images.join("restore.log"));
    fs::hard_link(&canary, s.images.join("restore.log"))?;
    s.restore(&[])?;
    eq(fs::read_to_string(&canary)?.as_str(), "of the host", "a hard link")?;
    s.c.delete_force()
}

fn an_annotation_names_no_configuration_for_criu(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "reads any file that the annotation names")?;
    let mut s = counting(lab)?;
    let canary = lab.dir.join("canary");
    let script = lab.file("script", &format!("#!/bin/sh\ntouch {}\n", canary.display()))?;
    lab.host(&["chmod", "755", &text(&script)])?.ok()?;
    let config = lab.file("criu.conf", &format!("action-script {}\n", script.display()))?;
    s.c.config().set("/annotations/org.criu.config", text(&config));
    s.run()?;
    s.checkpoint(&[])?.refused_with("org.criu.config")?;
    yes(!canary.exists(), "the script has run")?;
    eq(s.c.status()?, "running", "status")?;
    s.c.delete_force()
}

fn a_parent_directory_must_be_relative_and_there(lab: &Lab) -> Outcome {
    let s = counting(lab)?;
    s.run()?;
    s.checkpoint(&["--parent-path", &text(&lab.dir)])?.refused_with("--parent-path")?;
    s.checkpoint(&["--parent-path", "../none"])?.refused_with("--parent-path")?;
    eq(s.c.status()?, "running", "status")?;
    s.c.delete_force()
}
