//! What the child reports in numbers, as an error with text.

use super::frame::Call;
use crate::error::{Error, Object};
use crate::plan::ProcessPlan;
use crate::plan::describe;
use crate::plan::step::Step;
use crate::sys::Errno;

/// The failure of a step; `number` counts from 0.
pub(super) fn of_step(plan: &ProcessPlan, number: u32, call: Call, errno: i32, arg: i32) -> Error {
    let Some(step) = plan.child.get(number as usize) else { return of_call(call, errno) };
    let name = plan.exec.argv.strings().first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
    match (step, call) {
        (Step::FindProgram, Call::Find) => Error::find_program(&name, errno),
        (Step::Exec, Call::Exec) => Error::exec(&name, errno),
        _ => {
            let what = describe::failure(step, call.name(), arg);
            let error =
                Error::os(call.name(), Errno(errno).into()).wrap(format!("{what} (step {})", number + 1));
            let error = error.wrap("error during container init");
            let error = match step {
                Step::Root { .. } => error.about(Object::Root),
                Step::Cwd(_) | Step::TryCwd(_) => error.about(Object::WorkingDirectory),
                _ => error,
            };
            match describe::hint(step, errno) {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
    }
}

/// The failure of a call in a child whose plan isn't known.
pub(super) fn of_call(call: Call, errno: i32) -> Error {
    Error::os(call.name(), Errno(errno).into()).wrap("prepare the process")
}
