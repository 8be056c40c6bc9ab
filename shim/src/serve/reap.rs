//! The end of processes. SIGCHLD says that some have ended; which ones the pidfds say, so that a pid that was given out anew
//! deceives nobody. What is nobody's (processes whose parent in a container is gone) is reaped without a word.

use super::Server;
use super::life::Exit;
use super::slots::Key;
use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::os::fd::AsFd;
use std::time::SystemTime;

impl Server {
    /// Signals have come. Those of one kind are one.
    pub(crate) fn take_signals(&mut self) {
        let mut ended = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match i32::try_from(signal.ssi_signo) {
                Ok(libc::SIGCHLD) => ended = true,
                _ => self.begin_end(),
            }
        }
        if ended {
            self.reap();
        }
    }

    /// Takes notice of all that has ended.
    pub(crate) fn reap(&mut self) {
        self.reap_workers();
        for key in self.table.processes.keys() {
            self.reap_process(key);
            self.reap_logger(key);
        }
        self.reap_orphans();
    }

    fn reap_workers(&mut self) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        // Once it has reported, nobody else reaps it: its pid can not be another's.
        self.ending_workers.retain(|pid| {
            matches!(
                waitid(Id::Pid(Pid::from_raw(*pid)), flags),
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR)
            )
        });
    }

    fn reap_process(&mut self, key: Key) {
        let Some(process) = self.table.processes.get_mut(key) else { return };
        let Some(pidfd) = &process.pidfd else { return };
        // ECHILD: its worker is still its parent.
        let Some(status) =
            ended(waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG))
        else {
            return;
        };
        process.pidfd = None;
        let task = process.task;
        let exit = Exit { status, at: SystemTime::now() };
        if let Some(about) = self.table.tasks.get_mut(task) {
            let parting = about.parting.take_if(|_| about.init == key);
            let acts = about.lives.exited(key, exit);
            self.act(task, acts);
            if parting.is_some() {
                self.forget_task(task, parting);
            }
        }
    }

    fn reap_logger(&mut self, key: Key) {
        let Some(process) = self.table.processes.get_mut(key) else { return };
        let Some(logger) = &process.logger else { return };
        let status = waitid(Id::PIDFd(logger.pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
        if ended(status).is_some() {
            process.logger = None;
            self.alarms.cancel(super::alarm::Alarm::KillLogger(key));
            self.go_on_deleting(key);
        }
    }

    /// A process that is this one's child because its own parent is gone. One that a worker has made, and has not been heard of
    /// yet, became a child by the end of that worker, so its report is there to be heard before anybody is taken for an orphan.
    fn reap_orphans(&mut self) {
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(status) = waitid(Id::All, peek) {
            let Some(pid) = status.pid() else { return };
            self.hear_all();
            if let Some(key) = self.table.by_pid(pid.as_raw()) {
                self.reap_process(key);
            } else if let Some(key) = self.logger_with(pid.as_raw()) {
                self.reap_logger(key);
            } else {
                let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
                self.ending_workers.retain(|other| *other != pid.as_raw());
            }
        }
    }

    fn logger_with(&self, pid: i32) -> Option<Key> {
        let is =
            |process: &super::table::Process| process.logger.as_ref().is_some_and(|logger| logger.pid == pid);
        self.table.processes.iter().find(|(_, process)| is(process)).map(|(key, _)| key)
    }
}

/// The code, or 128 and the signal.
fn ended(status: Result<WaitStatus, Errno>) -> Option<u32> {
    let status = match status {
        Ok(WaitStatus::Exited(_, code)) => code,
        Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
        _ => return None,
    };
    u32::try_from(status).ok()
}
