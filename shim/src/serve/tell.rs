//! What the server tells: exits to those who wait for them, events to containerd, in the order that `life` says.

use super::Server;
use super::alarm::Alarm;
use super::calls::number;
use super::life::Act;
use super::slots::Key;
use super::table::{Caller, Order, Pending};
use crate::wire::events::{
    Event, FORWARD, SERVICE, TaskDelete, TaskExecStarted, TaskExit, TaskOom, TaskStart,
};
use crate::wire::frame::{KeyValue, Request};
use crate::wire::task::{DeleteResponse, WaitResponse};
use crate::wire::types::Timestamp;
use prost::Message;

impl Server {
    /// Queues an event.
    pub(crate) fn tell(&mut self, event: Event) {
        self.log.debug(event.topic());
        let metadata =
            vec![KeyValue { key: "containerd-namespace-ttrpc".to_owned(), value: self.namespace.clone() }];
        self.events.push(Request {
            service: SERVICE.to_owned(),
            method: FORWARD.to_owned(),
            payload: event.forward(&self.namespace, Timestamp::now()).encode_to_vec(),
            timeout_nano: 5_000_000_000,
            metadata,
        });
    }

    /// Does what `life` has decided.
    pub(crate) fn act(&mut self, task: Key, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::TellStart(process) => self.tell_start(task, process),
                Act::TellExit(process) => self.tell_exit(task, process),
                Act::KillRest => {
                    self.order(task, Pending { order: Order::SignalAll(libc::SIGKILL), caller: None });
                }
            }
        }
    }

    fn tell_start(&mut self, task: Key, key: Key) {
        let (Some(task), Some(process)) = (self.table.tasks.get(task), self.table.processes.get(key)) else {
            return;
        };
        let (container_id, pid) = (task.id.clone(), number(process.pid));
        let event = if key == task.init {
            Event::Start(TaskStart { container_id, pid })
        } else {
            Event::ExecStarted(TaskExecStarted { container_id, exec_id: process.exec_id.clone(), pid })
        };
        self.tell(event);
    }

    fn tell_exit(&mut self, task_key: Key, key: Key) {
        if self.table.tasks.get(task_key).is_some_and(|task| task.init == key) {
            // A kill that was quick: its exit must not overtake it.
            self.check_oom(task_key);
        }
        let (Some(task), Some(process)) = (self.table.tasks.get(task_key), self.table.processes.get_mut(key))
        else {
            return;
        };
        let Some(exit) = task.lives.exit(key) else { return };
        let at = Some(Timestamp::from(exit.at));
        let waiters = std::mem::take(&mut process.waiters);
        let id = if process.exec_id.is_empty() { &task.id } else { &process.exec_id };
        let event = TaskExit {
            container_id: task.id.clone(),
            id: id.clone(),
            pid: number(process.pid),
            exit_status: exit.status,
            exited_at: at,
            exit_reason: 0,
        };
        let answer = WaitResponse { exit_status: exit.status, exited_at: at }.encode_to_vec();
        self.tell(Event::Exit(event));
        for caller in waiters {
            self.answer(caller, Ok(answer.clone()));
        }
    }

    /// The kernel may have killed something for the memory limit.
    pub(crate) fn check_oom(&mut self, key: Key) {
        let Some(task) = self.table.tasks.get_mut(key) else { return };
        let happened = task.oom.as_mut().map(super::oom::OomWatch::happened);
        match happened {
            Some(Some(true)) => {
                let container_id = task.id.clone();
                self.tell(Event::Oom(TaskOom { container_id }));
            }
            Some(None) => {
                if let Some(watch) = task.oom.take() {
                    self.poll.remove(&watch);
                }
            }
            Some(Some(false)) | None => {}
        }
    }

    /// What is known of a process that is about to be forgotten.
    fn obituary(&self, task: Key, key: Key) -> DeleteResponse {
        let exit = self.table.tasks.get(task).and_then(|task| task.lives.exit(key));
        DeleteResponse {
            pid: self.table.processes.get(key).map_or(0, |process| number(process.pid)),
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| exit.at.into()),
        }
    }

    /// An exec is deleted.
    pub(crate) fn forget_exec(&mut self, key: Key, callers: &[Caller]) {
        let Some(task) = self.table.processes.get(key).map(|process| process.task) else { return };
        let answer = self.obituary(task, key).encode_to_vec();
        self.forget_process(key);
        if let Some(task) = self.table.tasks.get_mut(task) {
            task.execs.retain(|other| *other != key);
            task.lives.remove_exec(key);
        }
        for caller in callers {
            self.answer(*caller, Ok(answer.clone()));
        }
    }

    /// A container is deleted: its worker is through.
    pub(crate) fn forget_task(&mut self, key: Key, caller: Option<Caller>) {
        let Some(task) = self.table.tasks.get(key) else { return };
        let (id, init, execs) = (task.id.clone(), task.init, task.execs.clone());
        let answer = self.obituary(key, init);
        self.tell(Event::Delete(TaskDelete {
            container_id: id,
            pid: answer.pid,
            exit_status: answer.exit_status,
            exited_at: answer.exited_at,
            id: String::new(),
        }));
        self.remove_task(key, init, &execs);
        if let Some(caller) = caller {
            self.answer(caller, Ok(answer.encode_to_vec()));
        }
    }

    /// Forgets a container and all that belongs to it.
    pub(crate) fn remove_task(&mut self, key: Key, init: Key, execs: &[Key]) {
        for process in execs.iter().chain([&init]) {
            self.forget_process(*process);
        }
        if let Some(task) = self.table.tasks.remove(key) {
            if let Some(oom) = &task.oom {
                self.poll.remove(oom);
            }
            let gone = || crate::wire::code::Failure::not_found("container not created: not found");
            for caller in task.orders.into_iter().filter_map(|pending| pending.caller) {
                self.answer(caller, Err(gone()));
            }
        }
    }

    fn forget_process(&mut self, key: Key) {
        self.close_streams(key);
        let Some(process) = self.table.processes.remove(key) else { return };
        self.alarms.cancel(Alarm::Drain(key));
        self.alarms.cancel(Alarm::Look(key));
        for caller in process.waiters.into_iter().chain(process.deletions) {
            self.answer(caller, Err(crate::wire::code::Failure::not_found("process was deleted: not found")));
        }
    }
}
