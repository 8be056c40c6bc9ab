//! Mounts of type `cgroup`: the container's own view of the cgroup file systems.
//!
//! On v2 that is one mount of cgroup2. On v1 and on hybrid hosts it is a tmpfs with one directory for each hierarchy, named as on the
//! host, and links from the controllers to a hierarchy that has several. With a cgroup namespace each hierarchy is mounted, with
//! the container's cgroup as its root; without one, the container's cgroup is bound there (CVE-2023-25809: not the host's tree where
//! that can be avoided).

use super::{Entry, Setting, mount_label, target};
use crate::error::{Error, Result};
use crate::host::{CgroupHost, V1Hierarchy};
use crate::plan::cgroup::Place;
use crate::plan::step::{self, FsOption, NewFs, Source, Step, Target, TargetKind};
use crate::plan::{c_string, options};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const NEWCGROUP: u64 = libc::CLONE_NEWCGROUP as u64;

/// Appends the steps of one mount of type cgroup.
pub(super) fn append(setting: &mut Setting<'_>, entry: &Entry<'_>) -> Result<()> {
    match &setting.inputs.host.cgroup {
        CgroupHost::V2 { mount } => v2(setting, entry, mount),
        CgroupHost::V1 { hierarchies, .. } => v1(setting, entry, hierarchies),
        CgroupHost::None => Err(Error::unsupported(format!(
            "{}.type: \"cgroup\": no cgroup file system is mounted on this host",
            entry.field
        ))),
    }
}

fn v2(setting: &mut Setting<'_>, entry: &Entry<'_>, mount: &Path) -> Result<()> {
    let fs = entry.options.for_fs(false, None)?;
    let source = entry.mount.source().as_deref().map_or(OsStr::new("cgroup"), Path::as_os_str);
    // In a user namespace cgroup2 can only be mounted together with a new cgroup namespace.
    let bound =
        if setting.ns.own(NEWCGROUP) { of(setting.cgroup, mount, Path::new("/")) } else { mount.to_owned() };
    let step = Step::Mount(NewFs {
        fstype: c"cgroup2".to_owned(),
        source: c_string(&format!("{}.source", entry.field), source.as_bytes())?,
        options: fs.options,
        data: fs.data,
        flags: fs.flags,
        classic: fs.classic,
        attr: entry.options.new_attr(),
        target: target(entry, TargetKind::Directory)?,
        copy_up: None,
        inherit_mode: false,
        label: None,
        or_bind: Some(path_of(entry, &bound)?),
    });
    setting.draft.push(step);
    Ok(())
}

fn v1(setting: &mut Setting<'_>, entry: &Entry<'_>, hierarchies: &[V1Hierarchy]) -> Result<()> {
    let target = target(entry, TargetKind::Directory)?;
    tmpfs(setting, entry, &target)?;
    for hierarchy in hierarchies {
        // Two hierarchies never share a mount point; one without a name cannot be shown.
        let Some(name) = hierarchy.mount.file_name() else {
            continue;
        };
        let target = Target { path: path_of(entry, &entry.destination.join(name))?, ..target.clone() };
        let rootless = setting.inputs.host.is_rootless();
        // Without root the container stays where its caller is.
        let own = if rootless {
            below(&hierarchy.mount, &hierarchy.own)
        } else {
            of(setting.cgroup, &hierarchy.mount, &hierarchy.own)
        };
        let own = path_of(entry, &own)?;
        let step = if setting.ns.own(NEWCGROUP) {
            mounted(entry, hierarchy, own, target)?
        } else {
            let attr = entry.options.changed_attr();
            Step::Bind { source: Source::Path(own), recursive: true, attr, target }
        };
        setting.draft.push(step);
    }
    links(setting, entry, &target, hierarchies)
}

fn tmpfs(setting: &mut Setting<'_>, entry: &Entry<'_>, target: &Target) -> Result<()> {
    let label = mount_label(setting)?;
    let fs = options::parse(&["mode=755".to_owned()])?.for_fs(false, label)?;
    let mut attr = entry.options.new_attr();
    // Not read-only, even if the hierarchies are: links are made in it, and init systems add directories.
    (attr.set, attr.rec_set, attr.rec_clear) = (options::HARDENED, 0, 0);
    setting.draft.push(Step::Mount(NewFs {
        fstype: c"tmpfs".to_owned(),
        source: c"tmpfs".to_owned(),
        options: fs.options,
        data: fs.data,
        flags: 0,
        classic: false,
        attr,
        target: target.clone(),
        copy_up: None,
        inherit_mode: false,
        label: None,
        or_bind: None,
    }));
    Ok(())
}

fn mounted(entry: &Entry<'_>, hierarchy: &V1Hierarchy, own: CString, target: Target) -> Result<Step> {
    let mut options = Vec::new();
    for controller in &hierarchy.controllers {
        options.push(match controller.split_once('=') {
            Some((key, value)) => {
                FsOption::Text(c_string("controller", key)?, c_string("controller", value)?)
            }
            None => FsOption::Flag(c_string("controller", controller.as_str())?),
        });
    }
    let named = hierarchy.controllers.iter().find_map(|controller| controller.strip_prefix("name="));
    let mut attr = step::MountAttr { set: options::HARDENED, ..entry.options.new_attr() };
    if entry.options.read_only() {
        attr.set |= options::READ_ONLY;
    }
    Ok(Step::Mount(NewFs {
        fstype: c"cgroup".to_owned(),
        source: c_string("controller", named.unwrap_or("cgroup"))?,
        options,
        data: c_string("controller", hierarchy.controllers.join(","))?,
        flags: 0,
        classic: false,
        attr,
        target,
        copy_up: None,
        inherit_mode: false,
        label: None,
        or_bind: Some(own),
    }))
}

/// `cpu -> cpu,cpuacct` and the like.
fn links(
    setting: &mut Setting<'_>,
    entry: &Entry<'_>,
    target: &Target,
    hierarchies: &[V1Hierarchy],
) -> Result<()> {
    let merged: Vec<_> = hierarchies
        .iter()
        .filter_map(|hierarchy| hierarchy.mount.file_name()?.to_str())
        .filter(|name| name.contains(','))
        .collect();
    if merged.is_empty() {
        return Ok(());
    }
    setting.draft.push(Step::OpenDir { path: target.path.clone() });
    for name in merged {
        for controller in name.split(',').filter(|controller| !controller.is_empty()) {
            setting.draft.push(Step::Link {
                name: c_string("controller", controller)?,
                to: c_string("controller", name)?,
                shown: path_of(entry, &entry.destination.join(controller))?,
                replace: false,
            });
        }
    }
    Ok(())
}

/// Where a cgroup is in the hierarchy at `mount`, in which the caller's is `own`.
fn of(place: &Place, mount: &Path, own: &Path) -> PathBuf {
    match place {
        Place::Root(path) => below(mount, path),
        Place::Own(path) => below(mount, own).join(path),
    }
}

fn below(mount: &Path, cgroup: &Path) -> PathBuf {
    mount.join(cgroup.strip_prefix("/").unwrap_or(cgroup))
}

fn path_of(entry: &Entry<'_>, path: &Path) -> Result<CString> {
    c_string(&entry.field, path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests;
