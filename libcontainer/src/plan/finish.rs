//! The last steps of every process, for `create` and `exec`: from the labels to the exec, in the order that drops each right only
//! after its last use and runs as little as possible under the filter.

use super::process::{self, Setgroups};
use super::step::{CapSets, Exec, Gate, Ids, Rlimit, Step};
use super::{Draft, IdMaps, ParentSettings, c_string, caps, check, scheduling};
use crate::error::Result;
use crate::host::Host;
use oci_spec::runtime::{LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain, Process};
use std::ffi::CString;

/// A process that is about to run, checked and in the kernel's terms.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) exec: Exec,
    pub(crate) settings: ParentSettings,
    /// Limits that the process sets on itself: without CAP_SYS_RESOURCE the parent cannot after the change of user. In a new user
    /// namespace the process may not raise them, and the parent sets them.
    limits: Vec<Rlimit>,
    labels: Vec<Step>,
    /// `None`: the process keeps the capabilities of the caller, as with runc.
    caps: Option<CapSets>,
    ids: Ids,
    umask: u32,
    cwd: CString,
    no_new_privileges: bool,
    personality: Option<u64>,
    memory_policy: Option<Step>,
    affinity: Option<Step>,
    terminal: bool,
    /// (rows, columns) of the terminal
    size: Option<(u16, u16)>,
}

/// The surroundings of the process.
pub(crate) struct Surroundings<'a> {
    pub(crate) host: &'a Host,
    /// The process runs in a user namespace that is not the caller's.
    pub(crate) own_user: bool,
    /// Its maps, if they are known.
    pub(crate) maps: Option<&'a IdMaps>,
    pub(crate) personality: Option<&'a LinuxPersonality>,
    pub(crate) memory_policy: Option<&'a LinuxMemoryPolicy>,
    pub(crate) affinity: Option<Step>,
}

impl Finish {
    pub(crate) fn new(process: &Process, around: Surroundings, warnings: &mut Vec<String>) -> Result<Finish> {
        check::process(process)?;
        check::process_labels(around.host, process)?;
        let known = u64::MAX >> (63 - u32::from(around.host.last_cap.min(63)));
        let available = if around.own_user { known } else { known & around.host.bounding };
        let caps = process.capabilities().as_ref();
        let mut settings = process::settings(process)?;
        let limits = if around.own_user { Vec::new() } else { std::mem::take(&mut settings.rlimits) };
        Ok(Finish {
            exec: process::exec(process)?,
            settings,
            limits,
            labels: labels(process, around.host)?,
            caps: caps.map(|sets| caps::sets(sets, available, warnings)).transpose()?,
            ids: process::user(process, around.maps, setgroups(&around), warnings)?,
            umask: process::umask(process)?,
            cwd: process::cwd(process)?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            personality: around.personality.map(personality),
            memory_policy: around.memory_policy.map(scheduling::memory_policy).transpose()?,
            affinity: around.affinity,
            terminal: process.terminal().unwrap_or(false),
            size: process::console_size(process)?,
        })
    }

    pub(crate) fn cwd(&self) -> &CString {
        &self.cwd
    }

    /// Sets the limit of open files, unless the process has one.
    pub(crate) fn default_open_files(&mut self, (soft, hard): (u64, u64)) {
        let resource = libc::RLIMIT_NOFILE;
        if self.settings.rlimits.iter().chain(&self.limits).all(|limit| limit.resource != resource) {
            self.limits.push(Rlimit { name: "RLIMIT_NOFILE", resource, soft, hard });
        }
    }

    /// Returns the step that makes the terminal.
    pub(crate) fn console(&self, mount: bool) -> Step {
        Step::Console { mount, size: self.size, uid: self.ids.uid }
    }

    pub(crate) fn has_labels(&self) -> bool {
        !self.labels.is_empty()
    }

    /// Appends the steps. The process waits at `gate` when all but the exec is done.
    pub(crate) fn append(
        self,
        seccomp: Option<Step>,
        gate: Option<Gate>,
        preserve_fds: u32,
        draft: &mut Draft,
    ) -> (Exec, ParentSettings) {
        // The root of a container must not be able to change the mode or owner of the host's node.
        if !self.terminal {
            draft.push(Step::OwnNull);
        }
        draft.child.extend(self.affinity);
        draft.child.extend(self.memory_policy);
        draft.child.extend(self.personality.map(|domain| Step::Personality { domain }));
        draft.child.extend(self.labels);
        // All descriptors of the launch are open by now; the process must not use one, not even as a path (CVE-2024-21626).
        draft.push(Step::CloseFrom(3u32.saturating_add(preserve_fds)));
        if let Some(caps) = &self.caps {
            draft.push(Step::DropBounding { keep: caps.bounding });
        }
        draft.push(Step::Umask(self.umask));
        // A directory that only root may enter is entered as root, one that only the user may enter as the user.
        let root = self.ids.uid == 0;
        draft.push(if root { Step::Cwd(self.cwd.clone()) } else { Step::TryCwd(self.cwd.clone()) });
        draft.child.extend(self.limits.into_iter().map(Step::Rlimit));
        if self.no_new_privileges {
            draft.push(Step::NoNewPrivileges);
        }
        // seccomp(2) needs CAP_SYS_ADMIN unless no_new_privs is set: the filter comes while the process still has it.
        let (early, late) = if self.no_new_privileges { (None, seccomp) } else { (seccomp, None) };
        draft.child.extend(early);
        // prlimit(2) on a process of another user needs CAP_SYS_RESOURCE, which the caller may lack: limits come before the change of user.
        let settled = !root && self.settings.any_late();
        draft.child.extend(settled.then_some(Step::Wait(Gate::Settings)));
        draft.push(Step::Ids(self.ids));
        draft.child.extend(self.caps.map(Step::Capabilities));
        if !root {
            draft.push(Step::Cwd(self.cwd));
        }
        draft.push(Step::FindProgram);
        // The agent that gets a listener can be reached while the container is created, not when it is started.
        let listens = matches!(late, Some(Step::Seccomp { listener: true, .. }));
        let (before, after) = if listens { (late, None) } else { (None, late) };
        draft.child.extend(before);
        draft.child.extend(gate.filter(|gate| !(settled && *gate == Gate::Settings)).map(Step::Wait));
        draft.child.extend(after);
        draft.push(Step::Exec);
        (self.exec, self.settings)
    }
}

fn setgroups(around: &Surroundings) -> Setgroups {
    match around.maps {
        Some(maps) if maps.deny_setgroups => Setgroups::Denied,
        _ if around.host.in_user_namespace => Setgroups::Unknown,
        None if around.own_user => Setgroups::Unknown,
        _ => Setgroups::Allowed,
    }
}

/// linux/personality.h
fn personality(spec: &LinuxPersonality) -> u64 {
    match spec.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    }
}

/// Security labels for the exec. AppArmor has a directory of its own since Linux 5.8, for stacked modules.
fn labels(process: &Process, host: &Host) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let files = |names: &[&str]| names.iter().map(|n| c_string("label", *n)).collect::<Result<Vec<_>>>();
    if let Some(profile) = process.apparmor_profile().as_ref().filter(|p| !p.is_empty() && host.apparmor) {
        let value = c_string("process.apparmorProfile", format!("exec {profile}"))?;
        steps.push(Step::Label {
            what: "AppArmor",
            files: files(&["self/attr/apparmor/exec", "self/attr/exec"])?,
            value,
        });
    }
    if let Some(label) = process.selinux_label().as_ref().filter(|l| !l.is_empty()) {
        let value = c_string("process.selinuxLabel", label.as_str())?;
        steps.push(Step::Label { what: "SELinux", files: files(&["self/attr/exec"])?, value });
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names of the steps of a process with this description and a filter.
    fn steps(process: &str, listener: bool) -> Vec<String> {
        let host = serde_json::from_str::<Host>(
            r#"{"kernel":[6,18],"euid":0,"egid":0,"in_user_namespace":false,"cgroup":"None","apparmor":true,"selinux":true,
            "last_cap":40,"bounding":2199023255551}"#,
        );
        let host = &host.unwrap();
        let around = Surroundings {
            host,
            own_user: false,
            maps: None,
            personality: None,
            memory_policy: None,
            affinity: None,
        };
        let mut draft = Draft::new();
        let process: Process = serde_json::from_str(process).unwrap();
        let filter = Step::Seccomp { bpf: vec![0], flags: 0, listener };
        let finish = Finish::new(&process, around, &mut draft.warnings).unwrap();
        finish.append(Some(filter), Some(Gate::Start), 0, &mut draft);
        let name =
            |step: &Step| format!("{step:?}").split(['(', ' ', '{']).next().unwrap_or_default().to_owned();
        draft.child.iter().map(name).collect()
    }

    fn at(steps: &[String], name: &str) -> usize {
        steps.iter().position(|s| s == name).unwrap_or_else(|| panic!("no {name} in {steps:?}"))
    }

    const USER: &str =
        r#""args":["/x"],"cwd":"/","user":{"uid":7,"gid":7},"capabilities":{},"apparmorProfile":"p""#;

    #[test]
    fn without_no_new_privileges_the_filter_comes_while_it_may_still_be_set() {
        for rest in ["", r#","noNewPrivileges":false"#] {
            let steps = steps(&format!("{{{USER}{rest}}}"), false);
            assert!(at(&steps, "Seccomp") < at(&steps, "Ids"), "{steps:?}");
            assert!(at(&steps, "Label") < at(&steps, "Seccomp"), "{steps:?}");
        }
    }

    #[test]
    fn with_no_new_privileges_nothing_but_the_exec_runs_under_the_filter() {
        let steps = steps(&format!(r#"{{{USER},"noNewPrivileges":true}}"#), false);
        assert!(at(&steps, "NoNewPrivileges") < at(&steps, "Seccomp"), "{steps:?}");
        assert_eq!(steps[steps.len() - 3..], ["Wait", "Seccomp", "Exec"], "{steps:?}");
    }

    #[test]
    fn a_listener_is_handed_over_while_the_container_is_created() {
        let steps = steps(&format!(r#"{{{USER},"noNewPrivileges":true}}"#), true);
        assert_eq!(steps[steps.len() - 3..], ["Seccomp", "Wait", "Exec"], "{steps:?}");
    }

    #[test]
    fn cve_2024_21626_descriptors_are_closed_and_the_directory_verified_before_the_exec() {
        let steps = steps(&format!("{{{USER}}}"), false);
        assert!(at(&steps, "CloseFrom") < at(&steps, "TryCwd"), "{steps:?}");
        assert!(at(&steps, "Ids") < at(&steps, "Cwd"), "{steps:?}");
        assert_eq!(steps.last().map(String::as_str), Some("Exec"));
    }

    #[test]
    fn the_bounding_set_shrinks_before_the_user_changes_and_the_others_after() {
        let steps = steps(&format!("{{{USER}}}"), false);
        assert!(at(&steps, "DropBounding") < at(&steps, "Ids"), "{steps:?}");
        assert!(at(&steps, "Ids") < at(&steps, "Capabilities"), "{steps:?}");
    }
}
