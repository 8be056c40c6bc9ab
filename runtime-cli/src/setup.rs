//! From the flags of `create`, `run` and `exec` to what libcontainer wants: streams, sockets, descriptors, the pid file.
//! Everything that can be refused is refused before a process exists.

use crate::args::Parsed;
use crate::commands::Context;
use crate::failure::Failure;
use crate::foreground::Streams;
use crate::notify::{self, Notify};
use crate::sockets::FdReceiver;
use libcontainer::{Bundle, Container, ContainerId, CreateOptions, Delete, RestoreOptions, Runtime, Stdio};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A container about to be made.
pub(crate) struct Setup {
    id: ContainerId,
    bundle: Bundle,
    options: CreateOptions,
    receivers: Receivers,
    notify: Option<Notify>,
}

impl Setup {
    /// For a process that outlives this command.
    pub(crate) fn detached(context: &Context<'_>, parsed: &Parsed) -> Result<Self, Failure> {
        let mut setup = Setup::load(context, parsed)?;
        let terminal = wants_terminal(&setup.bundle);
        setup.receivers = Receivers::connect(context, parsed, terminal, true)?;
        if terminal {
            setup.options.stdio = Stdio::Terminal;
        }
        Ok(setup)
    }

    /// For a process whose streams are ours to copy.
    pub(crate) fn foreground(context: &Context<'_>, parsed: &Parsed) -> Result<(Self, Streams), Failure> {
        let mut setup = Setup::load(context, parsed)?;
        let terminal = wants_terminal(&setup.bundle);
        setup.receivers = Receivers::connect(context, parsed, terminal, false)?;
        let (streams, stdio) = Streams::open(terminal)?;
        setup.options.stdio = stdio;
        Ok((setup, streams))
    }

    fn load(context: &Context<'_>, parsed: &Parsed) -> Result<Self, Failure> {
        let id = ContainerId::new(parsed.positional(0))?;
        let mut bundle = Bundle::load(match parsed.text("bundle") {
            "" => ".",
            path => path,
        })?;
        for warning in bundle.warnings() {
            context.log.warning(warning);
        }
        let listen = listen_fds();
        let mut options = CreateOptions::new(Stdio::inherit());
        options.no_pivot = parsed.is("no-pivot");
        options.no_new_keyring = parsed.is("no-new-keyring");
        options.systemd_cgroup = context.systemd_cgroup;
        options.rootless_cgroups = context.rootless;
        options.preserve_fds = preserved_fds(parsed, listen)?;
        if listen > 0 {
            // The container's first process is told that the sockets are its own.
            add_env(&mut bundle, [format!("LISTEN_FDS={listen}"), "LISTEN_PID=1".to_owned()]);
        }
        let notify = Notify::new(context, &id);
        Ok(Setup { id, bundle, options, receivers: Receivers::default(), notify })
    }

    /// As `create`, for the process that will start it as well.
    pub(crate) fn create_to_start(
        mut self,
        context: &Context<'_>,
    ) -> Result<(Container, Option<Notify>), Failure> {
        self.options.start_here = true;
        self.create(context)
    }

    /// Makes the container, tells the receivers of it and writes its pid file. After a failure nothing is left of it.
    pub(crate) fn create(self, context: &Context<'_>) -> Result<(Container, Option<Notify>), Failure> {
        self.make(context, |runtime, id, bundle, options| {
            context.log.debug(|| format!("create container {id} from bundle {:?}", bundle.path()));
            log_plan(context, runtime, id, bundle, &options);
            runtime.create(id, bundle, options).map_err(|e| Failure::starting(&e))
        })
    }

    /// The same from a checkpoint.
    pub(crate) fn restore(
        self,
        context: &Context<'_>,
        mut restore: RestoreOptions,
    ) -> Result<Container, Failure> {
        let made = self.make(context, |runtime, id, bundle, options| {
            context.log.debug(|| format!("restore container {id} from {:?}", restore.image));
            restore.stdio = options.stdio;
            restore.systemd_cgroup = options.systemd_cgroup;
            runtime.restore(id, bundle, restore).map_err(Failure::from)
        });
        made.map(|(container, _)| container)
    }

    fn make(
        self,
        context: &Context<'_>,
        make: impl FnOnce(&Runtime, &ContainerId, &Bundle, CreateOptions) -> Result<Container, Failure>,
    ) -> Result<(Container, Option<Notify>), Failure> {
        let Setup { id, mut bundle, options, receivers, notify } = self;
        let runtime = context.runtime()?;
        let prepared = notify.as_ref().map_or(Ok(()), |notify| notify.prepare(&mut bundle));
        let made = prepared.and_then(|()| make(&runtime, &id, &bundle, options));
        let mut container = made.inspect_err(|_| notify::forget(context, &id))?;
        for warning in container.warnings() {
            context.log.warning(warning);
        }
        match announce(&receivers, &mut container) {
            Ok(()) => Ok((container, notify)),
            Err(failure) => {
                if let Err(error) = container.delete(Delete::Force) {
                    context.log.warning(&error.to_string());
                }
                notify::forget(context, &id);
                Err(failure)
            }
        }
    }
}

/// The steps that are about to be taken, for a person who looks for the one that goes wrong. An error is `create`'s to tell.
fn log_plan(
    context: &Context<'_>,
    runtime: &Runtime,
    id: &ContainerId,
    bundle: &Bundle,
    options: &CreateOptions,
) {
    if !context.log.is_debug() {
        return;
    }
    if let Ok(plan) = runtime.plan(id, bundle, options) {
        for step in plan.to_string().lines() {
            context.log.debug(|| format!("step {}", step.trim_start()));
        }
        if let Some(flags) = plan.seccomp_flags() {
            context.log.debug(|| format!("seccomp filter flags: {flags}"));
        }
    }
}

fn announce(receivers: &Receivers, container: &mut Container) -> Result<(), Failure> {
    if receivers.console.is_some() {
        receivers.send_console(container.take_terminal())?;
    }
    if let Some(pidfd) = container.pidfd() {
        receivers.send_pidfd(pidfd)?;
    }
    if receivers.pid_file.is_some() {
        receivers.write_pid(container.pid())?;
    }
    Ok(())
}

fn wants_terminal(bundle: &Bundle) -> bool {
    bundle.spec().process().as_ref().and_then(libcontainer::spec::Process::terminal).unwrap_or(false)
}

/// Who is told of a new process.
#[derive(Debug, Default)]
pub(crate) struct Receivers {
    console: Option<FdReceiver>,
    pidfd: Option<FdReceiver>,
    pid_file: Option<String>,
}

impl Receivers {
    /// Connects to the sockets that the flags name. A terminal needs a receiver exactly when nobody here would serve it.
    pub(crate) fn connect(
        context: &Context,
        parsed: &Parsed,
        terminal: bool,
        detach: bool,
    ) -> Result<Self, Failure> {
        let program = context.program;
        let console = parsed.text("console-socket");
        if detach && terminal && console.is_empty() {
            return Err(Failure::new(format!(
                "cannot allocate tty if {program} will detach without setting console socket"
            )));
        }
        let theirs = detach && terminal;
        if !theirs && !console.is_empty() {
            return Err(Failure::new(format!(
                "cannot use console socket if {program} will not detach or allocate tty"
            )));
        }
        let connect = |name: &str| match parsed.text(name) {
            "" => Ok(None),
            path => {
                FdReceiver::connect(Path::new(path)).map(Some).map_err(|e| e.prefixed(&format!("--{name}")))
            }
        };
        let pid_file = parsed.text("pid-file");
        Ok(Receivers {
            console: connect("console-socket")?,
            pidfd: connect("pidfd-socket")?,
            pid_file: (!pid_file.is_empty()).then(|| pid_file.to_owned()),
        })
    }

    pub(crate) fn send_console(&self, terminal: Option<OwnedFd>) -> Result<(), Failure> {
        let (Some(receiver), Some(terminal)) = (&self.console, terminal) else {
            return Ok(());
        };
        receiver.send("/dev/ptmx", terminal.as_fd())
    }

    pub(crate) fn send_pidfd(&self, pidfd: BorrowedFd<'_>) -> Result<(), Failure> {
        self.pidfd.as_ref().map_or(Ok(()), |receiver| receiver.send("pidfd", pidfd))
    }

    pub(crate) fn write_pid(&self, pid: i32) -> Result<(), Failure> {
        self.pid_file.as_ref().map_or(Ok(()), |path| write_pid_file(Path::new(path), pid))
    }
}

/// By a new file and a rename: a reader sees the whole pid or no file.
fn write_pid_file(path: &Path, pid: i32) -> Result<(), Failure> {
    let context =
        |call: &str, e: std::io::Error| Failure::os(format_args!("write pid file {path:?}"), call, e);
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
        return Err(Failure::new(format!("write pid file {path:?}: it names no file")));
    };
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(0o644).open(&draft).map_err(|e| context("open", e))?;
    let result = file
        .write_all(pid.to_string().as_bytes())
        .map_err(|e| context("write", e))
        .and_then(|()| std::fs::rename(&draft, path).map_err(|e| context("rename", e)));
    if result.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    result
}

/// How many sockets a service manager hands on (sd_listen_fds(3)): only when they are meant for this process.
fn listen_fds() -> u32 {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => count,
        _ => 0,
    }
}

/// Adds to the environment of the container's first process.
pub(crate) fn add_env<const N: usize>(bundle: &mut Bundle, variables: [String; N]) {
    let spec = bundle.spec_mut();
    let Some(mut process) = spec.process().clone() else {
        return;
    };
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(variables);
    process.set_env(Some(env));
    spec.set_process(Some(process));
}

/// How many descriptors from 3 on the process gets; each must have come from the caller.
pub(crate) fn preserved_fds(parsed: &Parsed, listen: u32) -> Result<u32, Failure> {
    let wanted = parsed.integer("preserve-fds");
    let count = u32::try_from(wanted).ok().and_then(|n| n.checked_add(listen)).filter(|n| *n <= 1 << 20);
    let Some(count) = count else {
        return Err(Failure::new(format!("--preserve-fds {wanted}: out of range")));
    };
    for fd in 3..3 + count {
        // Ours are all close-on-exec, and such a one of the caller's would not have come here: CVE-2024-21626 was a leak of this kind.
        let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))
            .ok()
            .and_then(|text| open_flags(&text));
        if flags.is_none_or(|flags| flags & nix::libc::O_CLOEXEC != 0) {
            return Err(Failure::new(match fd.checked_sub(3 + listen) {
                Some(index) => {
                    format!("unable to stat preserved-fd {index} (of {wanted}): descriptor {fd} is not open")
                }
                None => format!("pass on the sockets of $LISTEN_FDS: descriptor {fd} is not open"),
            }));
        }
    }
    Ok(count)
}

/// The line `flags:` of proc_pid_fdinfo(5), octal.
fn open_flags(fdinfo: &str) -> Option<i32> {
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"))?;
    i32::from_str_radix(flags.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn our_own_descriptors_are_told_from_the_callers() {
        let ours = std::fs::File::open("/dev/null").unwrap();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", ours.as_raw_fd())).unwrap();
        assert_ne!(open_flags(&info).unwrap() & nix::libc::O_CLOEXEC, 0);
        let stdin = std::fs::read_to_string("/proc/self/fdinfo/0").unwrap();
        assert_eq!(open_flags(&stdin).unwrap() & nix::libc::O_CLOEXEC, 0);
        assert_eq!(open_flags("pos:\t0\n"), None);
    }

    #[test]
    fn a_pid_file_holds_the_pid_and_nothing_else_and_no_draft_stays() {
        let folder = std::env::temp_dir().join(format!("knarr-pid-test-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("pid");
        for pid in [123_456, 7] {
            write_pid_file(&path, pid).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), pid.to_string());
        }
        assert!(write_pid_file(&folder.join("none/pid"), 1).is_err());
        assert!(write_pid_file(&folder.join(".."), 1).is_err());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
