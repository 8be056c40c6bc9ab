//! Reports of the server, in the order that `life` decides: exits to waiting callers, events to containerd.

use super::Server;
use super::calls::number;
use super::clock::Alarm;
use super::life::Act;
use super::slots::Key;
use super::table::{Caller, Order, Pending};
use crate::wire::code::Failure;
use crate::wire::events::{
    Event, FORWARD, SERVICE, TaskDelete, TaskExecStarted, TaskExit, TaskOom, TaskStart,
};
use crate::wire::frame::{KeyValue, Request};
use crate::wire::task::{DeleteResponse, WaitResponse};
use crate::wire::types::Timestamp;
use prost::Message;

impl Server {
    /// Queues an event.
    pub(crate) fn publish(&mut self, event: Event) {
        self.log.debug(event.topic());
        let metadata = vec![KeyValue {
            key: "containerd-namespace-ttrpc".to_owned(),
            value: self.about.namespace.clone(),
        }];
        self.events.push(Request {
            service: SERVICE.to_owned(),
            method: FORWARD.to_owned(),
            payload: event.forward(&self.about.namespace, Timestamp::now()).encode_to_vec(),
            timeout_nano: 5_000_000_000,
            metadata,
        });
    }

    /// Carries out the decisions of `life`.
    pub(crate) fn act(&mut self, task: Key, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::ReportStart(process) => self.report_start(task, process),
                Act::ReportExit(process) => self.report_exit(task, process),
                Act::KillRest => {
                    self.order(task, Pending { order: Order::SignalAll(libc::SIGKILL), caller: None });
                }
            }
        }
    }

    fn report_start(&mut self, task: Key, key: Key) {
        let (Some(task), Some(process)) = (self.table.tasks.get(task), self.table.processes.get(key)) else {
            return;
        };
        let (container_id, pid) = (task.id.clone(), number(process.pid));
        let event = if key == task.init {
            Event::Start(TaskStart { container_id, pid })
        } else {
            Event::ExecStarted(TaskExecStarted { container_id, exec_id: process.exec_id.clone(), pid })
        };
        self.publish(event);
    }

    fn report_exit(&mut self, task_key: Key, key: Key) {
        if self.table.tasks.get(task_key).is_some_and(|task| task.init == key) {
            // If the process was killed for the memory limit, that is reported before its exit.
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
        self.publish(Event::Exit(event));
        for caller in waiters {
            self.answer(caller, Ok(answer.clone()));
        }
    }

    /// Reports a kill by the memory limit, if there was one.
    pub(crate) fn check_oom(&mut self, key: Key) {
        let Some(task) = self.table.tasks.get_mut(key) else { return };
        let happened = task.oom.as_mut().map(super::oom::OomWatch::happened);
        match happened {
            Some(Some(true)) => {
                let container_id = task.id.clone();
                self.publish(Event::Oom(TaskOom { container_id }));
            }
            Some(None) => {
                if let Some(watch) = task.oom.take() {
                    self.poll.remove(&watch);
                }
            }
            Some(Some(false)) | None => {}
        }
    }

    /// The answer to Delete of a process.
    fn delete_response(&self, task: Key, key: Key) -> DeleteResponse {
        let exit = self.table.tasks.get(task).and_then(|task| task.lives.exit(key));
        DeleteResponse {
            pid: self.table.processes.get(key).map_or(0, |process| number(process.pid)),
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| exit.at.into()),
        }
    }

    /// Deletes an exec.
    pub(crate) fn delete_exec(&mut self, key: Key, callers: &[Caller]) {
        let Some(task) = self.table.processes.get(key).map(|process| process.task) else { return };
        let answer = self.delete_response(task, key).encode_to_vec();
        self.remove_process(key);
        if let Some(task) = self.table.tasks.get_mut(task) {
            task.execs.retain(|other| *other != key);
            task.lives.remove_exec(key);
        }
        for caller in callers {
            self.answer(*caller, Ok(answer.clone()));
        }
    }

    /// Deletes a container that a worker has removed.
    pub(crate) fn delete_task(&mut self, key: Key, caller: Option<Caller>) {
        let Some(task) = self.table.tasks.get(key) else { return };
        let (id, init, execs) = (task.id.clone(), task.init, task.execs.clone());
        let answer = self.delete_response(key, init);
        self.publish(Event::Delete(TaskDelete {
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

    /// Removes a container and its processes from the table.
    pub(crate) fn remove_task(&mut self, key: Key, init: Key, execs: &[Key]) {
        for process in execs.iter().chain([&init]) {
            self.remove_process(*process);
        }
        if let Some(task) = self.table.tasks.remove(key) {
            if let Some(oom) = &task.oom {
                self.poll.remove(oom);
            }
            let gone = || Failure::not_found("container not created: not found");
            for caller in task.orders.into_iter().filter_map(|pending| pending.caller) {
                self.answer(caller, Err(gone()));
            }
        }
    }

    fn remove_process(&mut self, key: Key) {
        self.close_streams(key);
        let Some(process) = self.table.processes.remove(key) else { return };
        self.clock.alarms.cancel(Alarm::Drain(key));
        self.clock.alarms.cancel(Alarm::CheckReaders(key));
        for caller in process.waiters.into_iter().chain(process.deletions) {
            self.answer(caller, Err(Failure::not_found("process was deleted: not found")));
        }
    }
}
