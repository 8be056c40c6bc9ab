//! What the creation of a v2 cgroup changes above it: directories and controllers that limits need, which is undone if it fails; and the type
//! of cgroups that were there but could hold no process (`domain invalid`), which is kept: nothing makes a threaded cgroup a domain again.

use super::dir::{Dir, os};
use crate::error::{Error, ErrorKind, Result};
use nix::errno::Errno;
use std::path::{Path, PathBuf};

/// The controllers that a threaded subtree can have (Documentation/admin-guide/cgroup-v2.rst, "Threads").
const THREADED: [&str; 4] = ["cpu", "cpuset", "perf_event", "pids"];

/// The directories that were created, and the controllers that were enabled: removed and disabled again unless all succeeds.
pub(super) struct Made<'a> {
    pub(super) root: &'a Dir,
    pub(super) paths: Vec<PathBuf>,
    enabled: Vec<(Dir, Vec<String>)>,
    pub(super) keep: bool,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        for path in self.paths.iter().rev() {
            // A parent that is used by others meanwhile stays.
            let _ = self.root.rmdir(path);
        }
        for (at, controllers) in self.enabled.iter().rev() {
            // Other cgroups below it may have limits by now.
            if at.children().is_ok_and(|children| children.is_empty()) {
                let _ = at.write("cgroup.subtree_control", &signed('-', controllers));
            }
        }
    }
}

impl<'a> Made<'a> {
    pub(super) fn new(root: &'a Dir) -> Self {
        Made { root, paths: Vec::new(), enabled: Vec::new(), keep: false }
    }

    /// Enables what is needed in all cgroups above `dir`. A failure shows, and is reported, when a limit's file is missing; without
    /// limits nothing is read. Parents that were created delegate all controllers, so that containers in them are measured.
    pub(super) fn enable(&mut self, path: &Path, dir: &Dir, needed: &[&str]) -> Result<()> {
        let new_parents = self.paths.len() > 1;
        if needed.is_empty() && !new_parents {
            return Ok(());
        }
        let listed = |dir: &Dir, file: &str| dir.read(file).unwrap_or_default();
        let there = listed(dir, "cgroup.controllers");
        if !new_parents && needed.iter().all(|name| has(&there, name)) {
            return Ok(());
        }
        let parents: Vec<&Path> = path.ancestors().skip(1).collect();
        for parent in parents.into_iter().rev() {
            let Ok(at) = self.root.below(parent) else { return Ok(()) };
            let (available, enabled) =
                (listed(&at, "cgroup.controllers"), listed(&at, "cgroup.subtree_control"));
            let missing =
                available.split_whitespace().filter(|name| !has(&enabled, name)).collect::<Vec<_>>();
            if missing.is_empty() {
                continue;
            }
            // With processes of its own it cannot have some controllers, and becomes threaded by others, as would all below it.
            let occupied = has_processes(&at);
            let wanted = missing.iter().filter(|name| new_parents && !occupied || needed.contains(name));
            let wanted: Vec<String> = wanted.map(|name| (*name).to_owned()).collect();
            if let Some(domain) = wanted.iter().find(|name| occupied && !THREADED.contains(&name.as_str())) {
                let why = "it has processes of its own (move them to a cgroup beside the container's)";
                return Err(no_limit(&at, domain, "below it", why));
            }
            self.enable_at(at, wanted);
        }
        Ok(())
    }

    fn enable_at(&mut self, at: Dir, wanted: Vec<String>) {
        if wanted.is_empty() {
            return;
        }
        let enabled = match at.write("cgroup.subtree_control", &signed('+', &wanted)) {
            Ok(()) => wanted,
            // One that can't be enabled (cpu, if there are real-time processes) must not prevent the others.
            Err(_) => {
                let alone = |name: &String| {
                    at.write("cgroup.subtree_control", &signed('+', std::slice::from_ref(name))).is_ok()
                };
                wanted.into_iter().filter(alone).collect()
            }
        };
        self.enabled.push((at, enabled));
    }

    /// Makes the cgroup threaded where a new one is invalid until it is: below a threaded cgroup, or below one with processes that has
    /// delegated controllers. It then accounts and limits processes, but not their memory and I/O.
    pub(super) fn fit(&self, path: &Path, dir: &Dir, needed: &[&str]) -> Result<()> {
        // Linux 4.14.
        let Ok(kind) = dir.read("cgroup.type") else { return Ok(()) };
        let kind = kind.trim();
        if !matches!(kind, "domain invalid" | "threaded") {
            return Ok(());
        }
        if let Some(domain) = needed.iter().find(|name| !THREADED.contains(name)) {
            let why = "it can only be threaded: a cgroup above it is, or has processes beside the controllers that it delegates";
            return Err(no_limit(dir, domain, "in it", why));
        }
        let mut levels: Vec<&Path> = path.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        levels.reverse();
        for level in levels {
            let failed = |call: &'static str, e: Errno| {
                os(call, e).wrap(format!("make cgroup {:?} threaded", self.root.path().join(level)))
            };
            let at = self.root.below(level).map_err(|e| failed("open", e))?;
            if at.read("cgroup.type").is_ok_and(|kind| kind.trim() == "domain invalid") {
                at.write("cgroup.type", "threaded").map_err(|e| failed("write", e))?;
            }
        }
        Ok(())
    }
}

/// Whether it has processes of its own, which matters everywhere but in the root of the whole tree.
fn has_processes(dir: &Dir) -> bool {
    dir.read("cgroup.type").is_ok() && dir.read("cgroup.procs").is_ok_and(|pids| !pids.is_empty())
}

fn has(list: &str, name: &str) -> bool {
    list.split_whitespace().any(|listed| listed == name)
}

/// `+memory +pids`
fn signed(sign: char, controllers: &[String]) -> String {
    controllers.iter().map(|name| format!("{sign}{name}")).collect::<Vec<_>>().join(" ")
}

fn no_limit(dir: &Dir, controller: &str, place: &str, why: &str) -> Error {
    let text = format!("cgroup {:?}: {controller} cannot be limited {place}: {why}", dir.path());
    Error::new(ErrorKind::Unsupported, text)
}
