//! The end of processes. SIGCHLD says that some have ended, and the pidfds which ones, so that a reused pid does no harm. Orphans
//! (processes whose parent in a container is gone) are reaped silently.

use super::Server;
use super::clock::Alarm;
use super::life::Exit;
use super::slots::Key;
use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use std::os::fd::AsFd;
use std::time::SystemTime;

impl Server {
    /// Handles signals. Pending signals of one number are one.
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

    /// Registers all processes that have ended.
    pub(crate) fn reap(&mut self) {
        self.work.reap();
        for key in self.table.processes.keys() {
            self.reap_process(key);
            self.reap_logger(key);
        }
        self.reap_orphans();
    }

    fn reap_process(&mut self, key: Key) {
        let Some(process) = self.table.processes.get_mut(key) else { return };
        let Some(pidfd) = &process.pidfd else { return };
        // ECHILD: its parent is still the worker.
        let Some(status) =
            ended(waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG))
        else {
            return;
        };
        process.pidfd = None;
        let task = process.task;
        let exit = Exit { status, at: SystemTime::now() };
        if let Some(about) = self.table.tasks.get_mut(task) {
            let deleting = about.deleting.take_if(|_| about.init == key);
            let acts = about.lives.exited(key, exit);
            self.act(task, acts);
            if deleting.is_some() {
                self.delete_task(task, deleting);
            }
        }
    }

    fn reap_logger(&mut self, key: Key) {
        let Some(process) = self.table.processes.get_mut(key) else { return };
        let Some(logger) = &process.logger else { return };
        let status = waitid(Id::PIDFd(logger.pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
        if ended(status).is_some() {
            process.logger = None;
            self.clock.alarms.cancel(Alarm::KillLogger(key));
            self.continue_delete(key);
        }
    }

    /// Reaps children of this process whose parent in a container is gone. A process that a worker has made became a child when that
    /// worker ended, after its report: so all reports are read before a process is taken for an orphan.
    fn reap_orphans(&mut self) {
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(status) = waitid(Id::All, peek) {
            let Some(pid) = status.pid() else { return };
            self.read_reports();
            if let Some(key) = self.table.by_pid(pid.as_raw()) {
                self.reap_process(key);
            } else if let Some(key) = self.logger_with(pid.as_raw()) {
                self.reap_logger(key);
            } else {
                let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
                self.work.reaped(pid.as_raw());
            }
        }
    }

    fn logger_with(&self, pid: i32) -> Option<Key> {
        let is =
            |process: &super::table::Process| process.logger.as_ref().is_some_and(|logger| logger.pid == pid);
        self.table.processes.iter().find(|(_, process)| is(process)).map(|(key, _)| key)
    }
}

/// The exit code, or 128 plus the signal.
fn ended(status: Result<WaitStatus, Errno>) -> Option<u32> {
    let status = match status {
        Ok(WaitStatus::Exited(_, code)) => code,
        Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
        _ => return None,
    };
    u32::try_from(status).ok()
}
