//! Carries out the writes of a plan, in order, for any version of cgroups: the caller passes the directory of each controller.

use super::dir::{Dir, os};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::limits::{Limits, Rule, Write};
use nix::errno::Errno;

/// Writes all limits. `dir` gives the cgroup of a controller, `None` if the host lacks the controller.
pub(super) fn write<'a>(limits: &Limits, dir: &dyn Fn(&str) -> Option<&'a Dir>) -> Result<()> {
    let mut again = Vec::new();
    for limit in &limits.writes {
        let Some(at) = dir(&limit.controller) else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "cannot set {} limit: container could not join or create cgroup ({}: controller not available)",
                    limit.controller, limit.file
                ),
            ));
        };
        match one(at, limit) {
            Ok(()) => read_back(at, limit)?,
            Err(Errno::EINVAL) if matches!(limit.rule, Rule::Retry | Rule::RetryOptional) => {
                again.push((at, limit))
            }
            Err(errno) => return Err(refused(at, limit, errno)),
        }
    }
    again.into_iter().try_for_each(|(at, limit)| one(at, limit).map_err(|errno| refused(at, limit, errno)))
}

/// The current contents of the files of these writes. Files with a line for each device are left out, since a new line cannot be
/// removed again.
pub(super) fn values<'a>(limits: &Limits, dir: &dyn Fn(&str) -> Option<&'a Dir>) -> Vec<Write> {
    let now = |limit: &Write| {
        let value = dir(&limit.controller)?.read(&limit.file).ok()?.trim().to_owned();
        let single = !value.is_empty() && !value.contains(['\n', ':', '=']);
        single.then(|| Write { value, rule: Rule::Must, ..limit.clone() })
    };
    limits.writes.iter().filter_map(now).collect()
}

/// Writes back what `values` has read, as far as the kernel accepts it: twice, since it checks values against each other.
pub(super) fn put_back<'a>(values: &[Write], dir: &dyn Fn(&str) -> Option<&'a Dir>) {
    for write in values.iter().rev().chain(values) {
        let _ = dir(&write.controller).map(|at| at.write(&write.file, &write.value));
    }
}

fn one(at: &Dir, limit: &Write) -> Result<(), Errno> {
    let Write { file, value, rule, .. } = limit;
    if *rule == Rule::KeepQuota {
        let now = at.read(file)?;
        let quota = now.split_whitespace().next().unwrap_or("max");
        return at.write(file, &format!("{quota} {value}"));
    }
    match (rule, at.write(file, value)) {
        (Rule::Optional | Rule::RetryOptional, Err(Errno::ENOENT)) => Ok(()),
        (Rule::Or(other, value), Err(Errno::ENOENT)) => at.write(other, value),
        (_, result) => result,
    }
}

/// Checks at once whether the kernel has clamped a value: a later write (cpu.idle) may change it.
fn read_back(at: &Dir, limit: &Write) -> Result<()> {
    if limit.rule != Rule::ReadBack {
        return Ok(());
    }
    let (Ok(asked), Ok(text)) = (limit.value.parse::<u64>(), at.read(&limit.file)) else {
        return Ok(());
    };
    let Ok(got) = text.trim().parse::<u64>() else {
        return Ok(());
    };
    let name = limit.file.replace('.', "-");
    match asked.cmp(&got) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(Error::invalid(format!("the maximum allowed {name} is {got}"))),
        std::cmp::Ordering::Less => Err(Error::invalid(format!("the minimum allowed {name} is {got}"))),
    }
}

fn refused(at: &Dir, limit: &Write, errno: Errno) -> Error {
    let Write { controller, file, value, .. } = limit;
    let controllers = at.read("cgroup.controllers");
    let missing = matches!(errno, Errno::ENOENT | Errno::EACCES | Errno::EPERM)
        && controller != "cgroup"
        && controllers.is_ok_and(|list| !list.split_whitespace().any(|c| c == controller));
    if missing {
        return Error::new(
            ErrorKind::Unsupported,
            format!(
                "{file:?} of cgroup {:?} can't be set: controller {controller:?} not available",
                at.path()
            ),
        );
    }
    let (file, value) = match &limit.rule {
        Rule::Or(other, value) if at.read(file) == Err(Errno::ENOENT) => (other, value),
        _ => (file, value),
    };
    let error = os("write", errno).wrap(format!("set {file} of cgroup {:?} to {value:?}", at.path()));
    match (&**file, errno) {
        ("memory.limit_in_bytes", Errno::EBUSY) => {
            let number =
                |name: &str| at.read(name).map_or_else(|_| "?".to_owned(), |text| text.trim().to_owned());
            error.hint(format!(
                "unable to set memory limit to {value} (current usage: {}, peak usage: {})",
                number("memory.usage_in_bytes"),
                number("memory.max_usage_in_bytes")
            ))
        }
        (_, Errno::EINVAL | Errno::ERANGE) => error.with_kind(ErrorKind::InvalidSpec),
        (_, Errno::ENOENT) => error.hint("not supported by this kernel"),
        (_, Errno::ENODEV) => error.hint("no such device"),
        _ => error,
    }
}

/// `checkBeforeUpdate`: with a limit below the current usage the kernel would kill processes at once.
pub(super) fn check(limits: &Limits, at: &Dir) -> Result<()> {
    let Some(check) = &limits.check else { return Ok(()) };
    let Ok(Ok(usage)) = at.read("memory.current").map(|text| text.trim().parse::<u64>()) else {
        return Ok(());
    };
    for (what, limit) in [("memory+swap", check.memory_and_swap), ("memory", check.memory)] {
        if let Some(limit) = limit.filter(|limit| *limit <= usage) {
            return Err(Error::invalid(format!("rejecting {what} limit {limit} <= usage {usage}")));
        }
    }
    Ok(())
}
