//! What `create` and `restore` share: the plan of a container, and everything that exists before its process.

use crate::bundle::Bundle;
use crate::cgroup::Cgroup;
use crate::error::{Error, ErrorKind, Result, Stage};
use crate::fault;
use crate::host::Host;
use crate::id::ContainerId;
use crate::plan::seccomp::Filter;
use crate::plan::{self, Inputs, Plan, PlanOptions};
use crate::seccomp;
use crate::signal::Signal;
use crate::state::dir::{Lock, StateDir};
use crate::state::{Listener, RECORD_VERSION, Record, SeccompRecord};
use std::path::{Path, PathBuf};

/// The requested container.
pub(crate) struct Request<'a> {
    pub(crate) id: &'a ContainerId,
    pub(crate) bundle: &'a Bundle,
    pub(crate) options: PlanOptions,
}

/// A container without a process. It is locked, and what was made is undone, until `undo` is disarmed.
pub(crate) struct Reserved {
    pub(crate) undo: Undo,
    pub(crate) dir: StateDir,
    pub(crate) record: Box<Record>,
    pub(crate) plan: Plan,
}

/// The container's plan, and its compiled filter. `cache`: the directory of compiled filters.
pub(crate) fn plan(
    host: &Host,
    request: &Request<'_>,
    cache: Option<&Path>,
) -> Result<(Plan, Option<Filter>)> {
    planned(host, request, cache).map_err(|e| e.at(Stage::Plan))
}

fn planned(host: &Host, request: &Request<'_>, cache: Option<&Path>) -> Result<(Plan, Option<Filter>)> {
    let Request { id, bundle, options } = request;
    if let Some(overlay) = &bundle.overlay {
        overlay.check()?;
    }
    let profile = bundle.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let inputs = Inputs {
        id: id.as_str(),
        spec: &bundle.spec,
        host,
        bundle: &bundle.path,
        options,
        overlay: bundle.overlay.as_ref(),
        filter: profile.map(|profile| seccomp::filter(profile, host.kernel, cache)).transpose()?,
    };
    Ok((plan::create(&inputs)?, inputs.filter))
}

/// Creates everything that a container has before its process: its directory, locked, its record and its cgroup. `terminal`: its process
/// will have one.
pub(crate) fn reserve(root: &Path, host: &Host, request: &Request<'_>, terminal: bool) -> Result<Reserved> {
    // `@` can't occur in an id.
    let (plan, filter) = plan(host, request, Some(&root.join("@seccomp")))?;
    check_terminal(request.bundle, terminal).map_err(|e| e.at(Stage::Plan))?;
    made(root, host, request, plan, filter.as_ref()).map_err(|e| e.at(Stage::Reserve))
}

fn made(
    root: &Path,
    host: &Host,
    request: &Request<'_>,
    mut plan: Plan,
    filter: Option<&Filter>,
) -> Result<Reserved> {
    plan.warnings.splice(0..0, request.bundle.warnings.iter().cloned());

    let dir = StateDir::reserve(root, request.id)?;
    let mut undo = Undo::of(&dir)?;
    fault::point();
    let mut record = Box::new(record(request, &plan, filter)?);
    record.cgroup = Cgroup::planned(&plan.cgroup, &host.cgroup)?;
    if let Some(filter) = filter {
        dir.save_filter(&filter.bpf)?;
    }
    fault::point();
    // If the caller dies from here on, `delete` finds what there is to remove.
    dir.save(&record)?;
    fault::point();
    record.cgroup = Cgroup::create(&plan.cgroup, &record.cgroup, &host.cgroup)?;
    undo.cgroup = record.cgroup.clone();
    fault::point();
    if record.cgroup == Cgroup::None && !record.has_own_pids() {
        // runc's text.
        plan.warnings.push(
            "creating a rootless container with no cgroup and no private pid namespace configured. Such configuration is strongly \
             discouraged (as it is impossible to properly kill all container's processes)".into(),
        );
    }
    Ok(Reserved { undo, dir, record, plan })
}

/// Removes what was made, last things first, when it is dropped before `disarm`, and then unlocks. The process isn't part of it: a
/// `Launched` kills its own.
pub(crate) struct Undo {
    /// `None`: disarmed.
    dir: Option<PathBuf>,
    cgroup: Cgroup,
    /// Held to the end: the next container of this name may use the same cgroup. `None` within `unlocked`.
    lock: Option<Lock>,
}

impl Undo {
    /// Locks the directory, which was just made. Only then is it certain that what will be undone is not another container's.
    fn of(dir: &StateDir) -> Result<Self> {
        let lock = dir.lock().map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                Error::new(ErrorKind::Busy, "the container was removed while it was being created")
            }
            _ => e,
        })?;
        Ok(Undo { dir: Some(dir.path().to_owned()), cgroup: Cgroup::None, lock: Some(lock) })
    }

    /// Runs `act`, which may take long, while others may change or remove the container, and then disarms it, or undoes if `act` has failed.
    /// What was removed meanwhile is not undone: another container may have its name.
    pub(crate) fn unlocked(mut self, dir: &StateDir, act: impl FnOnce() -> Result<()>) -> Result<()> {
        self.lock = None;
        let done = act();
        if done.is_err()
            && let Ok(lock) = dir.lock()
        {
            self.lock = Some(lock);
            return done;
        }
        self.disarm();
        done
    }

    /// The container stays, and is unlocked.
    pub(crate) fn disarm(mut self) {
        self.dir = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let Some(dir) = &self.dir else { return };
        if self.cgroup != Cgroup::None {
            let _ = self.cgroup.kill(Signal::KILL);
            let _ = self.cgroup.remove();
        }
        let _ = StateDir::remove_at(dir);
    }
}

fn check_terminal(bundle: &Bundle, terminal: bool) -> Result<()> {
    let asked = bundle.spec.process().as_ref().and_then(|p| p.terminal()).unwrap_or(false);
    match (asked, terminal) {
        (true, false) => {
            Err(Error::invalid("process.terminal is true, but the streams are not Stdio::Terminal"))
        }
        (false, true) => {
            Err(Error::invalid("process.terminal is false, but the streams are Stdio::Terminal"))
        }
        _ => Ok(()),
    }
}

fn record(request: &Request<'_>, plan: &Plan, filter: Option<&Filter>) -> Result<Record> {
    let Request { id, bundle, .. } = request;
    let spec = &bundle.spec;
    let linux = spec.linux().as_ref();
    let listener = linux.and_then(|l| l.seccomp().as_ref()).and_then(|s| {
        let path = s.listener_path().clone()?;
        Some(Listener { path, metadata: s.listener_metadata().clone().unwrap_or_default() })
    });
    Ok(Record {
        version: RECORD_VERSION,
        oci_version: crate::Features::SPECIFICATION.to_owned(),
        id: id.as_str().to_owned(),
        bundle: bundle.path.clone(),
        rootfs: plan::mounts::root_of(spec, &bundle.path)?,
        created: now(),
        owner: String::new(),
        annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
        pid: 0,
        start_time: 0,
        cgroup: Cgroup::None,
        facts: plan.facts.clone(),
        process: spec.process().clone().unwrap_or_default(),
        hooks: spec.hooks().clone(),
        seccomp: filter.map(|filter| SeccompRecord { flags: filter.flags, listener }),
        joined: plan.joined,
        binds: plan::restore::bind_mounts(&plan.process)
            .map(|(place, _)| place.to_string_lossy().into_owned())
            .collect(),
        restored: false,
        resources: linux.and_then(|l| l.resources().clone()),
    })
}

/// RFC 3339, in UTC.
fn now() -> String {
    let text = time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339);
    text.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_create_whose_directory_was_removed_leaves_that_of_the_next_one_alone() {
        let root = std::env::temp_dir().join(format!("knarr-reserve-{}", std::process::id()));
        let id = ContainerId::new("one").unwrap();
        let first = StateDir::reserve(&root, &id).unwrap();
        first.remove().unwrap();
        let next = StateDir::reserve(&root, &id).unwrap();
        let refused = Undo::of(&first).map(Undo::disarm).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Busy);
        assert!(next.path().exists());
        // What a removed one leaves when its own work fails is the next one's, too.
        let (undo, act) = (Undo::of(&next).unwrap(), || {
            next.remove()?;
            StateDir::reserve(&root, &id).map(drop)?;
            Err(Error::unsupported("a hook has failed"))
        });
        assert_eq!(undo.unlocked(&next, act).unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(next.path().exists());
        std::fs::remove_dir_all(&root).unwrap();
    }
}
