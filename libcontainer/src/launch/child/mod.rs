//! The child's straight line: runs its steps once, from first to last, and ends in execve.
//!
//! Between clone3 and execve it makes system calls and nothing else: no heap, no locks, no logs, no panics, no exit handlers. It
//! knows steps, not the specification. What goes wrong it reports as one frame, and leaves by `_exit`.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod attach;
mod home;
mod identity;
mod mounts;
mod terminal;

use super::fds::FdTable;
use super::frame::{Call, Frame};
use crate::fault::Fault;
use crate::plan::step::{Exec, Gate, Slot, Step};
use crate::sys::{Errno, SysResult, clone, fs, pidfd, process, sock};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// All that the child owns: a copy of the parent's memory, made by the clone.
pub(crate) struct Child<'a> {
    pub(crate) steps: &'a [Step],
    pub(crate) exec: &'a mut Exec,
    pub(crate) fds: &'a mut FdTable,
    /// Descriptors that become 0, 1 and 2.
    pub(crate) stdio: &'a [Option<OwnedFd>; 3],
    /// Room for `HOME=…`.
    pub(crate) home: home::Home,
    /// Which candidate of the program was found.
    pub(crate) program: Option<usize>,
    /// The host's tree is shared in this mount namespace: it must be made a slave before it is unmounted.
    pub(crate) host_shared: bool,
    /// Where the root is mounted in the host's tree.
    pub(crate) root_at: Option<&'a CStr>,
    /// A mount call by descriptor is not there.
    pub(crate) by_name: bool,
    /// Namespaces (CLONE_NEW*) that a `TryJoin` has joined.
    pub(crate) joined: u64,
    /// `TryCwd` has changed to the working directory.
    pub(crate) in_cwd: bool,
    /// The owners of the streams that are not a null device, once they were looked at.
    pub(crate) stream_owners: Option<[Option<u32>; 3]>,
    /// Test only: fail (or die) before this step.
    pub(crate) fault: Option<Fault>,
}

/// What failed inside a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed {
    pub(crate) call: Call,
    pub(crate) errno: Errno,
    pub(crate) arg: i32,
}

/// The result of a step.
pub(crate) type Done<T = ()> = Result<T, Failed>;

/// Names the call that a system result came from.
pub(crate) trait On<T> {
    fn on(self, call: Call) -> Done<T>;
}

impl<T> On<T> for SysResult<T> {
    fn on(self, call: Call) -> Done<T> {
        self.map_err(|errno| Failed { call, errno, arg: 0 })
    }
}

pub(crate) fn failed<T>(call: Call, errno: i32) -> Done<T> {
    Err(Failed { call, errno: Errno(errno), arg: 0 })
}

/// Runs the child. Never comes back.
pub(crate) fn run(mut child: Child<'_>) -> ! {
    let mut number: u32 = 0;
    if let Err(e) = child.prepare() {
        child.report(number, e);
    }
    for step in child.steps {
        let done = match child.check_fault(number).and_then(|()| child.step(step)) {
            Err(e) if child.go_by_name(&e) => child.step(step),
            other => other,
        };
        if let Err(e) = done {
            child.report(number, e);
        }
        number = number.wrapping_add(1);
    }
    // A plan ends in Exec; one that does not is a bug of the plan.
    child.report(number, Failed { call: Call::Exec, errno: Errno(libc::EINVAL), arg: 0 })
}

impl<'a> Child<'a> {
    pub(crate) fn new(
        steps: &'a [Step],
        exec: &'a mut Exec,
        fds: &'a mut FdTable,
        stdio: &'a [Option<OwnedFd>; 3],
        fault: Option<Fault>,
    ) -> Self {
        Child {
            steps,
            exec,
            fds,
            stdio,
            home: home::Home::new(),
            program: None,
            host_shared: false,
            root_at: None,
            by_name: false,
            joined: 0,
            in_cwd: false,
            stream_owners: None,
            fault,
        }
    }

    /// What every child needs first: default signals, its own streams, and a umask that does not disturb the modes in the plan.
    fn prepare(&mut self) -> Done {
        clone::reset_signals().on(Call::Signals)?;
        for (number, fd) in (0..).zip(self.stdio) {
            if let Some(fd) = fd {
                fs::dup_to(fd.as_fd(), number).on(Call::Dup)?;
            }
        }
        fs::umask(0);
        // Before anything of the container can look at this process: a container with CAP_SYS_PTRACE sees the descriptors of an
        // exec that comes in (CVE-2016-9962), and one that is created may wait for its start for ever.
        let kept = self.steps.iter().find_map(|step| match step {
            Step::CloseFrom(first) => Some(*first),
            _ => None,
        });
        self.close_inherited(kept.unwrap_or(3))
    }

    /// Tells the parent what failed, and ends.
    fn report(&mut self, step: u32, failed: Failed) -> ! {
        let frame = Frame::Failed { step, call: failed.call, errno: failed.errno.0, arg: failed.arg };
        if let Ok(sync) = self.fd(Slot::SYNC) {
            let _ = fs::write(sync, &frame.encode());
        }
        clone::exit(1)
    }

    fn check_fault(&self, number: u32) -> Done {
        match self.fault {
            Some(Fault::Fail(n)) if n == number => failed(Call::Fault, libc::EIO),
            Some(Fault::Die(n)) if n == number => clone::exit(1),
            _ => Ok(()),
        }
    }

    pub(crate) fn fd(&self, slot: Slot) -> Done<BorrowedFd<'_>> {
        self.fds.get(slot).ok_or(Failed {
            call: Call::Slot,
            errno: Errno(libc::EBADF),
            arg: i32::from(slot.0),
        })
    }

    fn step(&mut self, step: &'a Step) -> Done {
        match step {
            Step::Undumpable => process::set_dumpable(false).on(Call::Dumpable),
            Step::Wait(gate) => self.wait(*gate),
            Step::OomScoreAdj { value, tolerate } => identity::oom_score_adj(value, *tolerate),
            Step::BecomeRoot { drop_groups } => identity::become_root(*drop_groups),
            Step::TryJoin { ns, flag, .. } => self.try_join(*ns, *flag),
            Step::Join { flag, .. } if self.joined & *flag != 0 => Ok(()),
            Step::Join { ns, flag, .. } => process::setns(self.fd(*ns)?, *flag).on(Call::Setns),
            Step::JoinTarget { flags } => process::join(self.fd(Slot::TARGET)?, *flags).on(Call::Setns),
            Step::Unshare { flags } => process::unshare(*flags).on(Call::Unshare),
            Step::TimeNamespace { offsets } => self.time_namespace(offsets),
            Step::Fork { flags } => self.fork(*flags),
            Step::NewSession => process::setsid().on(Call::Setsid),
            Step::Keyring { name, permit } => identity::keyring(name, *permit),
            Step::LoopbackUp => process::loopback_up().on(Call::Loopback),
            Step::HostPropagation { flags } => self.host_propagation(*flags),
            Step::Root { path, source, propagation } => self.root(path, *source, *propagation),
            Step::OpenRoot { path } => self.open_root(path),
            Step::PrivateProc => self.private_proc(),
            Step::OpenNull => self.open_null(),
            Step::Bind { source, recursive, attr, target } => self.bind(source, *recursive, attr, target),
            Step::Mount(new) => self.mount(new),
            Step::Remount { target, attr } => self.remount(target, attr),
            Step::OpenDir { path } => self.open_dir(path),
            Step::Node { name, mode, major, minor, uid, gid, shown } => {
                self.node(name, *mode, (*major, *minor), (*uid, *gid), shown)
            }
            Step::Link { name, to, replace, .. } => self.link(name, to, *replace),
            Step::Directory { path, mode } => self.directory(path, *mode),
            Step::Console { mount, size, uid } => self.console(*mount, *size, *uid),
            Step::Stdio => self.stdio_from_terminal(),
            Step::OwnNull => self.own_null(),
            Step::Sysctl { file, value } => self.sysctl(file, value),
            Step::ReadOnlyPath { path } => self.read_only_path(path),
            Step::Mask { path } => self.mask(path),
            Step::PivotRoot => self.pivot_root(),
            Step::MoveRoot => self.move_root(),
            Step::Chroot => self.chroot(),
            Step::RootPropagation { flags } => fs_mount_propagation(*flags),
            Step::RootReadOnly => self.root_read_only(),
            Step::Hostname(name) => process::sethostname(name).on(Call::Sethostname),
            Step::Domainname(name) => process::setdomainname(name).on(Call::Setdomainname),
            Step::Label { files, value, .. } => self.label(files, value),
            Step::Affinity { mask, required } => match process::set_affinity(0, mask) {
                Err(_) if !*required => Ok(()),
                other => other.on(Call::Affinity),
            },
            Step::MemoryPolicy { mode, nodes } => {
                process::set_memory_policy(*mode, nodes).on(Call::Mempolicy)
            }
            Step::Rlimit(limit) => {
                process::prlimit(0, limit.resource, limit.soft, limit.hard).on(Call::Prlimit)
            }
            Step::Personality { domain } => process::personality(*domain).on(Call::Personality),
            Step::NoNewPrivileges => process::no_new_privileges().on(Call::NoNewPrivs),
            Step::Seccomp { bpf, flags, listener } => self.seccomp(bpf, *flags, *listener),
            Step::DropBounding { keep } => identity::drop_bounding(*keep),
            Step::Ids(ids) => self.ids(ids),
            Step::Capabilities(sets) => identity::capabilities(sets),
            Step::Umask(mask) => {
                fs::umask(*mask);
                Ok(())
            }
            Step::TryCwd(path) => match identity::cwd(path) {
                Err(e) if e.errno.0 == libc::EACCES => Ok(()),
                other => other.map(|()| self.in_cwd = true),
            },
            Step::Cwd(_) if self.in_cwd => Ok(()),
            Step::Cwd(path) => identity::cwd(path),
            Step::FindProgram => self.find_program(),
            Step::PassDescriptor { slot } => {
                let fd = self.fd(*slot)?;
                fs::dup_to(fd, fd.as_raw_fd()).on(Call::Dup)
            }
            Step::CloseFrom(first) => fs::close_on_exec_from(*first).on(Call::CloseRange),
            Step::Exec => self.execute(),
        }
    }

    /// Notifies the parent and waits for its answer. At the last gate of a container that another process will start, the answer means
    /// that the container is recorded: if its creator had died before, no process would know of this one.
    fn wait(&mut self, gate: Gate) -> Done {
        let to_be_started = gate == Gate::Start && self.fds.get(Slot::START).is_some();
        if to_be_started {
            // Before another process can see that the container is created, and send it a signal.
            clone::end_on_signals();
        }
        fs::write(self.fd(Slot::SYNC)?, &Frame::Gate(gate.number()).encode()).on(Call::Write)?;
        self.answer()?;
        if to_be_started { self.wait_for_start() } else { Ok(()) }
    }

    /// Waits until the parent lets the child continue; without a parent the child exits.
    fn answer(&self) -> Done {
        // The creator's death may not close the socket: this child, and others that the creator was about to make, have copies of both ends.
        let (answered, dead) =
            pidfd::either_readable(self.fd(Slot::SYNC)?, self.fd(Slot::CREATOR)?).on(Call::Poll)?;
        if dead && !answered {
            clone::exit(1);
        }
        let mut message = [0u8; 1];
        match fs::read(self.fd(Slot::SYNC)?, &mut message).on(Call::Read)? {
            0 => clone::exit(1),
            _ => Ok(()),
        }
    }

    fn wait_for_start(&mut self) -> Done {
        // The creator may go; from here on the socket of `start` is the one to talk to.
        self.fds.retain(|slot| slot == Slot::START);
        loop {
            let peer = sock::accept(self.fd(Slot::START)?).on(Call::Accept)?;
            let mut message = [0u8; 1];
            // A peer that only asks whether somebody listens hangs up without a word.
            if matches!(fs::read(peer.as_fd(), &mut message), Ok(1)) {
                self.fds.take(Slot::START);
                self.fds.set(Slot::SYNC, peer);
                return Ok(());
            }
        }
    }

    /// Closes what the creator had open, from `first` on. The launch's own descriptors are in the table.
    fn close_inherited(&self, first: u32) -> Done {
        let mut from = first;
        while let Some(own) = self.fds.lowest_from(from) {
            if let Some(last) = own.checked_sub(1).filter(|last| *last >= from) {
                fs::close_range(from, last).on(Call::CloseRange)?;
            }
            from = own.saturating_add(1);
        }
        fs::close_range(from, u32::MAX).on(Call::CloseRange)
    }

    /// Goes on in a sibling of this process; this one tells the parent the sibling's pid and ends.
    fn fork(&mut self, flags: u64) -> Done {
        if let Some(pid) = clone::fork_sibling(flags).on(Call::Clone)? {
            let sent = fs::write(self.fd(Slot::SYNC)?, &Frame::Pid(pid).encode());
            clone::exit(i32::from(sent.is_err()));
        }
        Ok(())
    }

    fn try_join(&mut self, ns: Slot, flag: u64) -> Done {
        match process::setns(self.fd(ns)?, flag) {
            Ok(()) => {
                self.joined |= flag;
                Ok(())
            }
            Err(Errno(libc::EPERM)) => Ok(()),
            Err(e) => Err(e).on(Call::Setns),
        }
    }

    /// A time namespace is entered by fork, or by setns on one's own `time_for_children`; offsets can be set until then.
    fn time_namespace(&mut self, offsets: &CStr) -> Done {
        let flag = libc::CLONE_NEWTIME as u64;
        process::unshare(flag).on(Call::Unshare)?;
        let file =
            fs::openat_following(fs::CWD, c"/proc/self/timens_offsets", libc::O_WRONLY).on(Call::Open)?;
        if !offsets.is_empty() {
            fs::write(file.as_fd(), offsets.to_bytes()).on(Call::Write)?;
        }
        let ns = fs::openat_following(fs::CWD, c"/proc/self/ns/time_for_children", libc::O_RDONLY)
            .on(Call::Open)?;
        process::setns(ns.as_fd(), flag).on(Call::Setns)
    }

    fn seccomp(&mut self, bpf: &[u64], flags: u64, listener: bool) -> Done {
        let fd = process::seccomp(bpf, flags).on(Call::Seccomp)?;
        if let (Some(fd), true) = (fd, listener) {
            fs::write(self.fd(Slot::SYNC)?, &Frame::Listener(fd.as_raw_fd()).encode()).on(Call::Write)?;
            self.answer()?;
        }
        Ok(())
    }

    /// The first candidate that is a file which may be executed. Of several failures EACCES says most.
    fn find_program(&mut self) -> Done {
        let mut worst = libc::ENOENT;
        for (index, path) in self.exec.candidates.iter().enumerate() {
            let found = fs::stat_path(path).and_then(|stat| match stat.st_mode & libc::S_IFMT {
                libc::S_IFDIR => Err(Errno(libc::EISDIR)),
                libc::S_IFREG => fs::may_execute(path),
                _ => Err(Errno(libc::EACCES)),
            });
            match found {
                Ok(()) => {
                    self.program = Some(index);
                    return Ok(());
                }
                Err(Errno(libc::ENOENT | libc::ENOTDIR)) => {}
                Err(e) => worst = e.0,
            }
        }
        failed(Call::Find, worst)
    }

    fn execute(&mut self) -> Done {
        let index = self.program.unwrap_or(0);
        let Some(path) = self.exec.candidates.get(index) else { return failed(Call::Exec, libc::ENOENT) };
        Err(process::execve(path, &self.exec.argv, &self.exec.envp)).on(Call::Exec)
    }
}

fn fs_mount_propagation(flags: u64) -> Done {
    crate::sys::mount::mount(c"", c"/", c"", flags, c"").on(Call::Mount)
}
