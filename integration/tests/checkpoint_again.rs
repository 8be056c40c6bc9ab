//! A dump that CRIU gives up since a process does not stop, and the second one without the freezer of the cgroup.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use integration::lab::text;
use integration::runtime::v2;
use integration::{Kind, Lab, Outcome, Stop, Test, eq, fail, has, skip, tests, yes};

use crate::checkpoint::{Saved, counting};

pub(crate) const TESTS: &[Test] = tests!["checkpoint":
    a_process_that_waits_in_vfork_is_saved_and_comes_back,
    a_dump_that_a_process_has_held_up_is_done_again_without_the_freezer,
    a_second_dump_that_fails_too_is_an_error_that_tells_both,
    a_dump_that_fails_for_another_reason_is_not_done_again,
    a_paused_container_is_not_resumed_for_a_second_dump,
];

/// The freezer stops the child before it has executed its program, and until then its parent cannot stop.
fn a_process_that_waits_in_vfork_is_saved_and_comes_back(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "gives up when CRIU does")?;
    lab.except(Kind::Crun, "gives up when CRIU does")?;
    let mut s = counting(lab)?;
    let program = "n=$(cat /tmp/count || echo 0); echo $((n+1)) > /tmp/count";
    s.c.config().args(&["inspector", "vfork", "2000", "/bin/sh", "-c", program]);
    s.run()?;
    let before = s.count()?;
    s.checkpoint(&["--leave-running"])?.ok()?;
    s.counts_on_from(before)?;
    s.c.delete_force()?;
    s.restore(&[])?;
    s.counts_on_from(before)?;
    s.c.delete_force()
}

/// Parts of the log of a CRIU whose time has run out.
const TIMEOUT: &str = "(10.1) Error (criu/cr-dump.c:1): Timeout reached. Try to interrupt: 0";
const UNSTOPPABLE: &str =
    "(10.1) Error (compel/src/lib/infect.c:1): Unseizable non-zombie 77 found, state D, err -1/4";

/// A program named criu which answers so many dumps as CRIU does when it gives up, with this log, and leaves the cgroup frozen. It notes
/// which freezer it was asked to use. Everything else is done by the real one, which finds the request unread.
const FAKE: &str = r#"#!/usr/bin/env python3
import os, socket, sys

def number(raw):
    value = shift = 0
    while True:
        byte = raw.pop(0)
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value

def message(raw):
    raw, found = list(raw), {}
    while raw:
        key = number(raw)
        if key & 7 == 0:
            found[key >> 3] = number(raw)
        else:
            length = number(raw)
            found[key >> 3] = bytes(raw[:length])
            del raw[:length]
    return found

sock = socket.socket(fileno=int(sys.argv[2]))
asked = message(sock.recv(65536, socket.MSG_PEEK))
DUMP = 1
if asked[1] == DUMP:
    options = message(asked[2])
    freezer = options.get(44, b"").decode()
    with open("DIR/notes", "a") as notes:
        notes.write((freezer or "none") + "\n")
    failures = int(open("DIR/failures").read())
    if failures:
        open("DIR/failures", "w").write(str(failures - 1))
        images = "/proc/%d/fd/%d/" % (os.getppid(), options[1])
        open(images + options[10].decode(), "w").write(open("DIR/log").read())
        if os.path.exists(freezer + "/freezer.state"):
            open(freezer + "/freezer.state", "w").write("FROZEN")
        elif freezer:
            open(freezer + "/cgroup.freeze", "w").write("1")
        sock.recv(65536)
        sock.send(bytes([1 << 3, DUMP, 2 << 3, 0]))
        sys.exit(1)
os.execv("CRIU", ["criu"] + sys.argv[1:])
"#;

/// A running container, and a CRIU that gives up this many times.
struct Held {
    s: Saved,
    dir: PathBuf,
}

fn held(lab: &Lab, failures: u32, log: &[&str]) -> Result<Held, Stop> {
    if lab.kind() != Kind::Knarr {
        return skip("a test of knarr alone");
    }
    if lab.host(&["python3", "--version"])?.code != 0 {
        return skip("python3 is not installed");
    }
    let mut s = counting(lab)?;
    let dir = lab.directory("fake")?;
    let Some(criu) = s.path.split(':').map(|dir| PathBuf::from(dir).join("criu")).find(|file| file.is_file())
    else {
        return fail("criu was there, and is gone");
    };
    fs::write(dir.join("criu"), FAKE.replace("DIR", &text(&dir)).replace("CRIU", &text(&criu)))?;
    fs::set_permissions(dir.join("criu"), fs::Permissions::from_mode(0o755))?;
    fs::write(dir.join("failures"), failures.to_string())?;
    fs::write(dir.join("log"), log.join("\n"))?;
    s.path = format!("{}:{}", dir.display(), s.path);
    s.run()?;
    s.count()?;
    Ok(Held { s, dir })
}

impl Held {
    /// The freezers that were asked for, one for each dump.
    fn freezers(&self) -> Result<Vec<String>, Stop> {
        Ok(fs::read_to_string(self.dir.join("notes"))?.lines().map(str::to_owned).collect())
    }

    fn own_freezer(&self) -> Result<String, Stop> {
        Ok(text(&self.s.c.cgroup(if v2() { "" } else { "freezer" })?))
    }

    /// There are no images, and the container continues.
    fn unharmed(&self, pid: i32) -> Outcome {
        let images: Vec<_> = fs::read_dir(&self.s.images)?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.ends_with(".img"))
            .collect();
        eq(images, Vec::<String>::new(), "images")?;
        eq((self.s.c.status()?.as_str(), self.s.c.pid()?), ("running", pid), "the container")?;
        self.s.counts_on_from(1)
    }
}

fn a_dump_that_a_process_has_held_up_is_done_again_without_the_freezer(lab: &Lab) -> Outcome {
    let held = held(lab, 1, &[TIMEOUT, UNSTOPPABLE])?;
    let (s, pid) = (&held.s, held.s.c.pid()?);
    let before = s.count()?;
    s.checkpoint(&["--leave-running"])?.ok()?;
    eq(held.freezers()?, [held.own_freezer()?, "none".to_owned()], "the freezers")?;
    eq((s.c.status()?.as_str(), s.c.pid()?), ("running", pid), "the container")?;
    s.counts_on_from(before)?;
    yes(!fs::read_to_string(s.images.join("dump.log"))?.contains("Timeout"), "the first log is left")?;
    s.c.delete_force()?;
    s.restore(&[])?;
    s.counts_on_from(before)?;
    s.c.delete_force()
}

fn a_second_dump_that_fails_too_is_an_error_that_tells_both(lab: &Lab) -> Outcome {
    let held = held(lab, 2, &[TIMEOUT, UNSTOPPABLE])?;
    let pid = held.s.c.pid()?;
    let refused = held.s.checkpoint(&[])?.refused_with("again without the cgroup freezer")?;
    eq(refused.stderr.matches("Unseizable non-zombie 77").count(), 2, &refused.stderr)?;
    has(&refused.stderr, "dump.log")?;
    eq(held.freezers()?, [held.own_freezer()?, "none".to_owned()], "the freezers")?;
    held.unharmed(pid)?;
    held.s.checkpoint(&["--leave-running"])?.ok()?;
    held.s.c.delete_force()
}

fn a_dump_that_fails_for_another_reason_is_not_done_again(lab: &Lab) -> Outcome {
    let held = held(lab, 1, &["(00.1) Error (criu/files.c:1): Can't lookup mount=9 for fd=1"])?;
    held.s.checkpoint(&[])?.refused_with("Can't lookup mount=9")?;
    eq(held.freezers()?, [held.own_freezer()?], "the freezers")?;
    held.s.c.delete_force()
}

fn a_paused_container_is_not_resumed_for_a_second_dump(lab: &Lab) -> Outcome {
    let held = held(lab, 1, &[TIMEOUT, UNSTOPPABLE])?;
    let (s, pid) = (&held.s, held.s.c.pid()?);
    s.c.call("pause", &[])?.ok()?;
    s.checkpoint(&[])?.refused_with("resume the container first")?;
    eq(held.freezers()?, [held.own_freezer()?], "the freezers")?;
    eq(s.c.status()?, "paused", "status")?;
    s.c.call("resume", &[])?.ok()?;
    held.unharmed(pid)?;
    s.c.delete_force()
}
