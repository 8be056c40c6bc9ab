//! What a test holds: a directory and a state root of its own, bundles, containers, calls of the runtime.
//!
//! It asserts nothing about the runtime but what a method's name says (`_ok`).

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use procfs::ProcessCGroup;
use procfs::process::Process;
use serde_json::Value;

use crate::bundle::Bundle;
use crate::config::Config;
use crate::outcome::{Outcome, Stop, eq, fail, hasnt, skip, yes};
use crate::process::{self, Ended, Running, processes, wait_for};
use crate::rootfs::Programs;
use crate::runtime::{Kind, Runtime, need_controller, v2};
use crate::witness;

/// One test's place to work in. Cloning gives another handle to the same place.
#[derive(Debug, Clone)]
pub struct Lab {
    /// The runtime under test.
    pub runtime: Runtime,
    /// The test's own directory.
    pub dir: PathBuf,
    /// The test's own `--root`.
    pub state: PathBuf,
    /// Part of every container id, cgroup path and host name of this run, so that leaks can be recognised.
    pub token: String,
    programs: Programs,
    next: Rc<Cell<u32>>,
}

/// A container, made or not yet made, with its bundle.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its name for the runtime.
    pub id: String,
    /// Its bundle; `config` is written by each `create` and `run`.
    pub bundle: Bundle,
    lab: Lab,
}

impl Lab {
    /// A place in the new directory `dir`.
    pub fn new(runtime: Runtime, dir: PathBuf, token: String, programs: Programs) -> Result<Self, Stop> {
        fs::create_dir_all(&dir)?;
        Ok(Lab { runtime, state: dir.join("state"), dir, token, programs, next: Rc::default() })
    }

    /// Whose runtime it is that is under test.
    pub fn kind(&self) -> Kind {
        self.runtime.kind
    }

    /// Skips the test for one runtime, whose behaviour is legitimately (or knowingly) another.
    pub fn except(&self, kind: Kind, why: &str) -> Outcome {
        if self.kind() == kind { skip(format!("{kind:?}: {why}")) } else { Ok(()) }
    }

    /// A place of its own inside this one, for one of several tests.
    pub fn inner(&self, name: &str) -> Result<Self, Stop> {
        let outer = self.dir.file_name().and_then(OsStr::to_str).unwrap_or("t");
        let dir = self.dir.join(format!("{outer}.{name}"));
        Lab::new(self.runtime.clone(), dir, self.token.clone(), self.programs.clone())
    }

    /// The same place with a runtime for which these system calls do not exist.
    pub fn without(&self, calls: &str) -> Self {
        let mut lab = self.clone();
        lab.runtime.without = calls.to_owned();
        lab
    }

    /// A new container with an ordinary bundle, not yet created.
    pub fn container(&self) -> Result<Container, Stop> {
        let number = self.next.get();
        self.next.set(number + 1);
        let test = self.dir.file_name().and_then(OsStr::to_str).unwrap_or("t");
        let id = format!("{}-{test}-{number}", self.token);
        let path = self.dir.join(format!("bundle{number}"));
        self.programs.build(&path.join("rootfs"))?;
        let config = Config::new(&format!("/{}/{test}-{number}", self.token));
        Ok(Container { id, bundle: Bundle { path, config }, lab: self.clone() })
    }

    /// Another root file system, ordinary, in a new directory of this name.
    pub fn rootfs(&self, name: &str) -> Result<PathBuf, Stop> {
        let path = self.dir.join(name);
        self.programs.build(&path)?;
        Ok(path)
    }

    /// Calls the runtime and waits for it.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Result<Ended, Stop> {
        self.start(args)?.wait()
    }

    /// Calls the runtime and does not wait.
    #[track_caller]
    pub fn start(&self, args: &[&str]) -> Result<Running, Stop> {
        process::start(self.command(args), &self.dir)
    }

    /// The runtime's command line, for tests that change its surroundings.
    pub fn command(&self, args: &[&str]) -> Command {
        self.runtime.command(&self.state, args)
    }

    /// Runs a program of the host and waits for it.
    #[track_caller]
    pub fn host(&self, line: &[&str]) -> Result<Ended, Stop> {
        let Some((program, args)) = line.split_first() else {
            return fail("an empty command line");
        };
        let mut command = process::command(program);
        command.args(args);
        process::start(command, &self.dir)?.wait()
    }

    /// Runs a new container that executes `script` after `change`, to its end; gives its output.
    #[track_caller]
    pub fn sh(&self, change: impl FnOnce(&mut Config), script: &str) -> Result<String, Stop> {
        let mut c = self.container()?;
        c.config().sh(script);
        change(c.config());
        Ok(c.run()?.ok()?.text().to_owned())
    }

    /// Runs the inspector as PID 1 of a new container and gives its report.
    #[track_caller]
    pub fn inspect(&self, change: impl FnOnce(&mut Config)) -> Result<Value, Stop> {
        let mut c = self.container()?;
        c.config().args(&["inspector", "report"]);
        change(c.config());
        c.run()?.ok()?.json()
    }

    /// A running container with these members in `linux.resources`; skips if a controller is missing.
    #[track_caller]
    pub fn limited(&self, controllers: &[&str], resources: &Value) -> Result<Container, Stop> {
        for controller in controllers {
            need_controller(controller)?;
        }
        let mut c = self.container()?;
        for (key, value) in resources.as_object().into_iter().flatten() {
            c.config().set(&format!("/linux/resources/{key}"), value.clone());
        }
        c.sleeping()?;
        Ok(c)
    }

    /// A file in the test's directory.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf, Stop> {
        let path = self.dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text)?;
        Ok(path)
    }

    /// A directory in the test's directory.
    pub fn directory(&self, name: &str) -> Result<PathBuf, Stop> {
        let path = self.dir.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Container {
    /// The configuration, to be changed before `create` or `run`.
    pub fn config(&mut self) -> &mut Config {
        &mut self.bundle.config
    }

    /// The bundle's directory as an argument.
    pub fn bundle_arg(&self) -> String {
        text(&self.bundle.path)
    }

    /// `COMMAND FLAGS… ID`.
    #[track_caller]
    pub fn call(&self, command: &str, flags: &[&str]) -> Result<Ended, Stop> {
        self.lab.call(&[&[command], flags, &[self.id.as_str()]].concat())
    }

    /// `create` with these flags besides `--bundle`.
    #[track_caller]
    pub fn create_with(&self, flags: &[&str]) -> Result<Ended, Stop> {
        self.bundle.write()?;
        self.call("create", &[&["--bundle", self.bundle_arg().as_str()], flags].concat())
    }

    /// `create`.
    #[track_caller]
    pub fn create(&self) -> Result<Ended, Stop> {
        self.create_with(&[])
    }

    /// `start`.
    #[track_caller]
    pub fn start(&self) -> Result<Ended, Stop> {
        self.call("start", &[])
    }

    /// `run` in the foreground, to the end of the container.
    #[track_caller]
    pub fn run(&self) -> Result<Ended, Stop> {
        self.run_with(&[])
    }

    /// `run` with these flags besides `--bundle`, to its end.
    #[track_caller]
    pub fn run_with(&self, flags: &[&str]) -> Result<Ended, Stop> {
        self.foreground(flags)?.wait()
    }

    /// `run`, still running.
    #[track_caller]
    pub fn foreground(&self, flags: &[&str]) -> Result<Running, Stop> {
        self.bundle.write()?;
        let bundle = self.bundle_arg();
        self.lab.start(&[&["run", "--bundle", &bundle], flags, &[&self.id]].concat())
    }

    /// Created, with success.
    #[track_caller]
    pub fn create_ok(&self) -> Outcome {
        self.create()?.ok()?;
        Ok(())
    }

    /// Started, with success.
    #[track_caller]
    pub fn start_ok(&self) -> Outcome {
        self.start()?.ok()?;
        Ok(())
    }

    /// `run --detach`, with success.
    #[track_caller]
    pub fn run_detached(&self) -> Outcome {
        self.run_with(&["--detach"])?.ok()?;
        Ok(())
    }

    /// Runs `sleep` detached, so that there is something to enter, pause and kill.
    #[track_caller]
    pub fn sleeping(&mut self) -> Outcome {
        self.config().args(&["sleep", "1000"]);
        self.run_detached()
    }

    /// `exec ID COMMAND…`, to its end.
    #[track_caller]
    pub fn exec(&self, args: &[&str]) -> Result<Ended, Stop> {
        self.exec_with(&[], args)
    }

    /// `exec FLAGS… ID COMMAND…`, to its end.
    #[track_caller]
    pub fn exec_with(&self, flags: &[&str], args: &[&str]) -> Result<Ended, Stop> {
        self.exec_start(flags, args)?.wait()
    }

    /// `exec FLAGS… ID COMMAND…`, still running.
    #[track_caller]
    pub fn exec_start(&self, flags: &[&str], args: &[&str]) -> Result<Running, Stop> {
        self.lab.start(&[&["exec"], flags, &[self.id.as_str()], args].concat())
    }

    /// A shell script by `exec`, with success; gives its output.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Result<String, Stop> {
        Ok(self.exec(&["sh", "-c", script])?.ok()?.text().to_owned())
    }

    /// `kill ID SIGNAL`.
    #[track_caller]
    pub fn kill(&self, signal: &str) -> Result<Ended, Stop> {
        self.lab.call(&["kill", &self.id, signal])
    }

    /// `delete`.
    #[track_caller]
    pub fn delete(&self) -> Result<Ended, Stop> {
        self.call("delete", &[])
    }

    /// `delete --force`, with success.
    #[track_caller]
    pub fn delete_force(&self) -> Outcome {
        self.call("delete", &["--force"])?.ok()?;
        Ok(())
    }

    /// `state`, with success, as JSON.
    #[track_caller]
    pub fn state(&self) -> Result<Value, Stop> {
        self.call("state", &[])?.ok()?.json()
    }

    /// The status that `state` gives.
    #[track_caller]
    pub fn status(&self) -> Result<String, Stop> {
        Ok(self.state()?["status"].as_str().unwrap_or_default().to_owned())
    }

    /// The init's process id on the host, by `state`.
    #[track_caller]
    pub fn pid(&self) -> Result<i32, Stop> {
        let state = self.state()?;
        match state["pid"].as_i64().and_then(|p| i32::try_from(p).ok()) {
            Some(pid) if pid > 0 => Ok(pid),
            _ => fail(format!("no pid in {state}")),
        }
    }

    /// Waits until `state` gives this status.
    #[track_caller]
    pub fn wait_for_status(&self, status: &str) -> Outcome {
        wait_for(&format!("{} is {status}", self.id), || (self.status().ok()? == status).then_some(()))
    }

    /// Kills the container and deletes it without force.
    #[track_caller]
    pub fn kill_and_delete(&self) -> Outcome {
        self.kill("KILL")?.ok()?;
        self.wait_for_status("stopped")?;
        self.delete()?.ok()?;
        Ok(())
    }

    /// Fails unless the runtime knows no such container any more.
    #[track_caller]
    pub fn is_gone(&self) -> Outcome {
        let list = self.lab.call(&["list", "--quiet"]);
        let known = match list {
            Ok(ended) if ended.code == 0 => ended.stdout.lines().any(|l| l == self.id),
            _ => self.lab.state.join(&self.id).exists(),
        };
        eq(known, false, format!("{} is still known", self.id))
    }

    /// Runs to the end or to an orderly refusal, either of which is fine, and removes what may be left.
    #[track_caller]
    pub fn run_or_refuse(&self) -> Result<Ended, Stop> {
        let ended = self.run()?;
        if ended.code != 0 && ended.stdout.is_empty() {
            yes(!ended.stderr.is_empty(), "a failure without a message")?;
            hasnt(&ended.stderr, "panicked")?;
        }
        self.delete_force()?;
        Ok(ended)
    }

    /// What a file of the container's cgroup says: `v1_name` (controller/file) or `v2_name`. The witness must say the same.
    #[track_caller]
    pub fn limit(&self, v1_name: &str, v2_name: &str) -> Result<String, Stop> {
        let (controller, v1_file) = v1_name.split_once('/').unwrap_or(("", v1_name));
        let file = if v2() { v2_name } else { v1_file };
        let group = cgroup_path(self.pid()?, controller)?;
        let path = directory(controller, &group).join(file);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text.trim_end().to_owned(),
            Err(error) => return fail(format!("{}: {error}", path.display())),
        };
        if let Some(seen) = witness::limit(&group, file) {
            eq(seen.as_str(), text.as_str(), format!("{file} of {group} as cgroups-rs reads it"))?;
        }
        Ok(text)
    }

    /// The directory of the container's cgroup for a controller (any, on v2), found through its init.
    pub fn cgroup(&self, controller: &str) -> Result<PathBuf, Stop> {
        cgroup_of(self.pid()?, controller)
    }
}

/// The directory of a process's cgroup for a controller (any, on v2).
pub fn cgroup_of(pid: i32, controller: &str) -> Result<PathBuf, Stop> {
    Ok(directory(controller, &cgroup_path(pid, controller)?))
}

/// The path of a process's cgroup below the mount point of a controller (any, on v2).
pub fn cgroup_path(pid: i32, controller: &str) -> Result<String, Stop> {
    let groups = Process::new(pid)?.cgroups()?;
    let v2 = v2();
    let wanted = |g: &&ProcessCGroup| {
        if v2 { g.hierarchy == 0 } else { g.controllers.iter().any(|c| c == controller) }
    };
    let found = groups.0.iter().find(wanted);
    let Some(found) = found else {
        return fail(format!("process {pid} is in no {controller} cgroup: {groups:?}"));
    };
    Ok(found.pathname.clone())
}

/// The processes in the cgroup of this path, as `cgroup_path` has it; those that wait to be reaped are in none.
pub fn in_cgroup(path: &str) -> Vec<i32> {
    let alive = processes().into_iter().filter(|p| p.state != 'Z').map(|p| p.pid);
    alive.filter(|pid| cgroup_path(*pid, "pids").is_ok_and(|theirs| theirs == path)).collect()
}

/// Where a cgroup of this path is mounted.
fn directory(controller: &str, path: &str) -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    let mounted = if v2() { root.to_owned() } else { root.join(controller) };
    mounted.join(path.trim_start_matches('/'))
}

/// A tmpfs, or another mount, on a directory for as long as this lives.
#[derive(Debug)]
pub struct Tmpfs(pub PathBuf);

impl Tmpfs {
    /// Makes the directory if need be, and mounts.
    pub fn on(path: PathBuf) -> Result<Self, Stop> {
        fs::create_dir_all(&path)?;
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        Ok(Tmpfs(path))
    }

    /// The directory bound on itself, as a shared mount, instead of a tmpfs.
    pub fn shared(path: PathBuf) -> Result<Self, Stop> {
        mount(Some(&path), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        let made = Tmpfs(path);
        mount(None::<&str>, &made.0, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)?;
        mount(None::<&str>, &made.0, None::<&str>, MsFlags::MS_SHARED, None::<&str>)?;
        Ok(made)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
