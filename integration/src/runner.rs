//! Runs tests one after the other and reports as libtest does.
//!
//! `integration [--list] [--exact] [--skip PART] [PART…]`: a test runs if its `topic::name` contains any PART.
//! Each test runs between two host snapshots. A skip is printed with its reason and counts as ignored.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::lab::Lab;
use crate::outcome::{Outcome, Stop};
use crate::output::say;
use crate::process::forget_orphans;
use crate::rootfs::Programs;
use crate::runtime::{Runtime, cgroups};
use crate::snapshot::{Host, end_descendants, kill_descendants};

/// One test.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// The file it is in.
    pub topic: &'static str,
    /// A sentence, with underscores.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&Lab) -> Outcome,
}

impl Test {
    fn full_name(&self) -> String {
        format!("{}::{}", self.topic, self.name)
    }
}

/// What the command line asks for.
#[derive(Debug, Default)]
struct Wanted {
    list: bool,
    exact: bool,
    parts: Vec<String>,
    skip: Vec<String>,
}

impl Wanted {
    fn read(args: impl Iterator<Item = String>) -> Self {
        let mut wanted = Wanted::default();
        let mut args = args.skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--list" => wanted.list = true,
                "--exact" => wanted.exact = true,
                "--skip" => wanted.skip.extend(args.next()),
                "--test-threads" | "--format" | "--color" => drop(args.next()),
                flag if flag.starts_with('-') => {}
                part => wanted.parts.push(part.to_owned()),
            }
        }
        wanted
    }

    fn takes(&self, name: &str) -> bool {
        let matches = |part: &String| {
            if self.exact { name == part } else { name.contains(part.as_str()) }
        };
        (self.parts.is_empty() || self.parts.iter().any(matches))
            && !self.skip.iter().any(|s| name.contains(s.as_str()))
    }
}

/// The main function of a test program.
pub fn main(tests: &[&[Test]]) -> ExitCode {
    let wanted = Wanted::read(std::env::args());
    let chosen: Vec<Test> =
        tests.iter().copied().flatten().filter(|t| wanted.takes(&t.full_name())).copied().collect();
    let all = tests.iter().map(|t| t.len()).sum::<usize>();
    if wanted.list {
        chosen.iter().for_each(|t| say(&format!("{}: test", t.full_name())));
        return ExitCode::SUCCESS;
    }
    say(&format!("\nrunning {} tests", chosen.len()));
    let begin = Instant::now();
    let mut count = Count { filtered: all - chosen.len(), ..Count::default() };
    match Run::prepare() {
        Ok(run) => {
            say(&format!("runtime {:?} ({:?}), cgroups {:?}", run.runtime.path, run.runtime.kind, cgroups()));
            for (number, test) in chosen.iter().enumerate() {
                count.add(test, run.one(number, test));
            }
            run.finish();
        }
        Err(stop) => chosen.iter().for_each(|t| count.add(t, Err(clone(&stop)))),
    }
    count.report(begin)
}

fn clone(stop: &Stop) -> Stop {
    match stop {
        Stop::Failed(why) => Stop::Failed(why.clone()),
        Stop::Skipped(why) => Stop::Skipped(why.clone()),
    }
}

/// What all tests of one run share.
#[derive(Debug)]
struct Run {
    runtime: Runtime,
    dir: PathBuf,
    token: String,
    programs: Programs,
    binary: Vec<u8>,
}

impl Run {
    fn prepare() -> Result<Run, Stop> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Stop::Skipped("needs root".to_owned()));
        }
        let runtime = Runtime::find()?;
        own_mount_namespace()?;
        nix::sys::prctl::set_child_subreaper(true)?;
        let token = format!("kt{}", std::process::id());
        let dir = std::env::temp_dir().join(&token);
        let programs = Programs::gather(&dir.join("programs"))?;
        let binary = fs::read(&runtime.path)?;
        Ok(Run { runtime, dir, token, programs, binary })
    }

    fn one(&self, number: usize, test: &Test) -> Outcome {
        let dir = self.dir.join(number.to_string());
        forget_orphans();
        let before = Host::now(&self.token)?;
        let lab = Lab::new(self.runtime.clone(), dir, self.token.clone(), self.programs.clone())?;
        let outcome = catch_unwind(AssertUnwindSafe(|| (test.run)(&lab)));
        let outcome = outcome.unwrap_or_else(|_| Err(Stop::Failed("the test panicked".to_owned())));
        let mut left = Vec::new();
        if outcome.is_ok() {
            left = end_descendants();
            left.extend(state_left(&lab.state));
        } else {
            kill_descendants();
        }
        let after = Host::now(&self.token)?;
        left.extend(before.differences(&after));
        before.restore(&after);
        if fs::read(&self.runtime.path)? != self.binary {
            left.push(format!("{:?} was changed", self.runtime.path));
        }
        if std::env::var_os("KNARR_KEEP").is_none() {
            drop(fs::remove_dir_all(&lab.dir));
        }
        match outcome {
            Ok(()) if !left.is_empty() => {
                Err(Stop::Failed(format!("left behind:\n    {}", left.join("\n    "))))
            }
            other => other,
        }
    }

    fn finish(&self) {
        remove_cgroup_parents(Path::new("/sys/fs/cgroup"), &self.token, 3);
        if std::env::var_os("KNARR_KEEP").is_none() {
            drop(fs::remove_dir_all(&self.dir));
        }
    }
}

/// Mounts made from here on, by us or by a runtime, vanish with this process and reach no other; but inside they
/// propagate as on any host with systemd. `KNARR_CGROUP=v2` shows a pure v2 tree on a hybrid host.
fn own_mount_namespace() -> Outcome {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)?;
    if std::env::var("KNARR_CGROUP").is_ok_and(|v| v == "v2") {
        umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), flags, none)?;
    }
    mount(none, "/", none, MsFlags::MS_SHARED | MsFlags::MS_REC, none)?;
    Ok(())
}

/// Containers that a runtime still keeps state of. Names that no container can have (`.lock`, `@seccomp`) are the
/// runtime's own business.
fn state_left(state: &Path) -> Vec<String> {
    let entries = fs::read_dir(state).into_iter().flatten().flatten();
    let names =
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| !n.starts_with(['.', '@']));
    names.map(|name| format!("state left: {name}")).collect()
}

/// A container's cgroup is removed by the runtime, the directory above it by the one who chose it: this program.
fn remove_cgroup_parents(dir: &Path, token: &str, depth: u32) {
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()) {
        if path.file_name().is_some_and(|n| n == token) {
            drop(fs::remove_dir(&path));
        } else if depth > 0 && path.is_dir() {
            remove_cgroup_parents(&path, token, depth - 1);
        }
    }
}

#[derive(Debug, Default)]
struct Count {
    passed: usize,
    ignored: usize,
    filtered: usize,
    failures: Vec<(String, String)>,
}

impl Count {
    fn add(&mut self, test: &Test, outcome: Outcome) {
        let name = test.full_name();
        match outcome {
            Ok(()) => {
                self.passed += 1;
                say(&format!("test {name} ... ok"));
            }
            Err(Stop::Skipped(why)) => {
                self.ignored += 1;
                say(&format!("test {name} ... ignored, skipped: {why}"));
            }
            Err(Stop::Failed(why)) => {
                say(&format!("test {name} ... FAILED"));
                self.failures.push((name, why));
            }
        }
    }

    fn report(&self, begin: Instant) -> ExitCode {
        if !self.failures.is_empty() {
            say("\nfailures:\n");
            self.failures.iter().for_each(|(name, why)| say(&format!("---- {name} ----\n{why}\n")));
            say("failures:");
            self.failures.iter().for_each(|(name, _)| say(&format!("    {name}")));
        }
        let word = if self.failures.is_empty() { "ok" } else { "FAILED" };
        say(&format!(
            "\ntest result: {word}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
            self.passed,
            self.failures.len(),
            self.ignored,
            self.filtered,
            begin.elapsed().as_secs_f64()
        ));
        if self.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
    }
}
