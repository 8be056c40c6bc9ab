//! The mounts of a container as steps: the host's tree is separated, then come the root and each of config.json's `mounts` in order.
//!
//! It decides by the names in config.json and the facts about the host alone. The child finds out whether a path exists, what it is
//! and where its symbolic links lead; the steps tell it what to refuse.

mod cgroup;

use super::cgroup::Place;
use super::options::{self, MountOptions};
use super::step::{CopyUp, MountAttr, NewFs, ProcGuard, Propagation, Slot, Source, Step, Target, TargetKind};
use super::{Draft, IdMap, IdMaps, Inputs, NamespaceFacts, Open, c_string};
use crate::error::{Context, Error, Result};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Mount, Spec};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
const NEWNET: u64 = libc::CLONE_NEWNET as u64;

/// Files of /proc that lxcfs and others emulate. Nothing else below /proc may be mounted on.
const PROC_FILES: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// File systems whose superblock belongs to the kernel: `ro` is an attribute of the mount only.
const KERNEL_FS: &[&str] =
    &["proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts", "tmpfs", "ramfs", "devtmpfs"];

/// File systems that take no `context` option.
const NO_CONTEXT: &[&str] = &["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

/// All that the rules for a mount depend on.
pub(super) struct Setting<'a> {
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) ns: NamespaceFacts,
    /// The container's root on the host.
    root: &'a Path,
    /// The container's cgroup.
    pub(super) cgroup: &'a Place,
    /// The propagation that the host's tree gets in this mount namespace.
    host_propagation: u64,
    /// User namespaces for id maps, shared by the mounts with equal maps.
    id_maps: Vec<(IdMaps, Slot)>,
    pub(super) draft: &'a mut Draft,
}

/// One mount of config.json, parsed.
pub(super) struct Entry<'a> {
    /// `mounts[3]`
    pub(super) field: String,
    pub(super) mount: &'a Mount,
    pub(super) options: MountOptions,
    /// The absolute and lexically clean destination.
    pub(super) destination: PathBuf,
    pub(super) kind: Kind<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Bind,
    Remount,
    Cgroup,
    Fs(&'a str),
}

/// The root of a specification and its mounts, parsed and checked.
pub(crate) struct Mounts<'a> {
    /// The container's root on the host.
    root: PathBuf,
    /// `linux.rootfsPropagation` as `MS_*` flags. They apply to the host's tree in the container's mount namespace before the root is
    /// attached, and once more to the finished `/` unless they are private.
    propagation: Option<u64>,
    entries: Vec<Entry<'a>>,
}

impl<'a> Mounts<'a> {
    /// # Errors
    /// `InvalidSpec` and `Unsupported`, naming the field.
    pub(crate) fn read(inputs: &Inputs<'a>) -> Result<Self> {
        let root = root_of(inputs.spec, inputs.bundle)?;
        let propagation = root_propagation(inputs)?;
        let mounts = inputs.spec.mounts().as_deref().unwrap_or_default();
        let entries =
            mounts.iter().enumerate().map(|(i, mount)| entry(i, mount, &root)).collect::<Result<_>>()?;
        Ok(Mounts { root, propagation, entries })
    }

    /// The container's root on the host.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The propagation of the finished `/`, unless it is private, which the root already is.
    pub(super) fn root_propagation(&self) -> Option<u64> {
        self.propagation.filter(|flags| flags & libc::MS_PRIVATE == 0)
    }

    /// /dev is a bind mount: its nodes and links are not the container's to make.
    pub(super) fn dev_is_bound(&self) -> bool {
        self.entries.iter().any(|entry| entry.kind == Kind::Bind && entry.destination == Path::new("/dev"))
    }

    /// The container has a writable mount of its cgroup at the usual place.
    pub(super) fn cgroup_is_writable(&self) -> bool {
        let cgroup = |name: &str| name == "cgroup" || name == "cgroup2";
        self.entries.iter().any(|entry| {
            entry.destination == Path::new("/sys/fs/cgroup")
                && (entry.mount.typ().as_deref().is_some_and(cgroup)
                    || entry.mount.source().as_deref().and_then(Path::to_str).is_some_and(cgroup))
                && !entry.options.read_only()
        })
    }

    /// The steps that make mounts read-only late, because nodes, mount points and links are made in them first: a tmpfs, and any mount
    /// on /dev.
    pub(super) fn read_only_later(&self) -> Result<Vec<Step>> {
        let later = self.entries.iter().filter(|entry| match entry.kind {
            Kind::Fs(fstype) => entry.options.read_only() && is_late(fstype, &entry.destination),
            _ => false,
        });
        let attr = MountAttr { set: options::READ_ONLY, ..MountAttr::default() };
        later.map(|entry| Ok(Step::Remount { target: target(entry, TargetKind::Directory)?, attr })).collect()
    }

    /// Appends the steps from the propagation of the host's tree through the last mount. `cgroup` is where the container's is.
    pub(crate) fn append(
        &self,
        inputs: &Inputs<'_>,
        ns: NamespaceFacts,
        cgroup: &Place,
        draft: &mut Draft,
    ) -> Result<()> {
        let root = &self.root;
        let host_propagation = self.propagation.unwrap_or(libc::MS_SLAVE | libc::MS_REC);
        draft.push(Step::HostPropagation { flags: host_propagation });
        let source = inputs.overlay.map(|overlay| {
            let slot = draft.slot();
            draft.opens.push(Open::Overlay { slot, overlay: overlay.clone() });
            slot
        });
        draft.push(Step::Root {
            path: c_string("root.path", root.as_os_str().as_bytes())?,
            source,
            // A slave root still gets what the host mounts below it; it must not be private before it is one.
            propagation: if host_propagation & libc::MS_SLAVE != 0 && self.propagation.is_some() {
                libc::MS_SLAVE
            } else {
                libc::MS_PRIVATE
            },
        });
        let mut setting = Setting { inputs, ns, root, cgroup, host_propagation, id_maps: Vec::new(), draft };
        for entry in &self.entries {
            let given = entry.mount.destination();
            if !given.is_absolute() {
                setting.draft.warnings.push(format!(
                    "{}.destination: {given:?} is relative: using {:?}",
                    entry.field, entry.destination
                ));
            }
            match entry.kind {
                Kind::Bind => bind(&mut setting, entry)?,
                Kind::Remount => remount(&mut setting, entry)?,
                Kind::Cgroup => cgroup::append(&mut setting, entry)?,
                Kind::Fs(fstype) => file_system(&mut setting, entry, fstype)?,
            }
        }
        Ok(())
    }
}

fn is_late(fstype: &str, destination: &Path) -> bool {
    fstype == "tmpfs" || destination == Path::new("/dev")
}

/// The absolute path of the container's root on the host.
pub(crate) fn root_of(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    let root = spec.root().as_ref().ok_or_else(|| Error::invalid("root: must be set"))?;
    if root.path().as_os_str().is_empty() {
        return Err(Error::invalid("root.path: is empty"));
    }
    Ok(clean(&in_bundle("root.path", bundle, root.path())?))
}

/// A path of the specification on the host: a relative one is below the bundle, if that has a path.
fn in_bundle(field: &str, bundle: &Path, path: &Path) -> Result<PathBuf> {
    let whole = bundle.join(path);
    if !whole.is_absolute() {
        return Err(Error::invalid(format!(
            "{field}: {path:?} must be absolute, since the bundle has no path"
        )));
    }
    Ok(whole)
}

fn root_propagation(inputs: &Inputs<'_>) -> Result<Option<u64>> {
    let Some(linux) = inputs.spec.linux() else {
        return Ok(None);
    };
    let Some(name) = linux.rootfs_propagation().as_deref().filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let flags = options::propagation(name)
        .ok_or_else(|| Error::invalid(format!("linux.rootfsPropagation: unknown value {name:?}")))?;
    if inputs.options.no_pivot && flags & libc::MS_PRIVATE != 0 {
        return Err(Error::invalid(format!(
            "linux.rootfsPropagation: {name:?} is not safe without pivot_root"
        )));
    }
    Ok(Some(flags))
}

fn entry<'a>(index: usize, mount: &'a Mount, root: &Path) -> Result<Entry<'a>> {
    let field = format!("mounts[{index}]");
    let options = options::parse(mount.options().as_deref().unwrap_or_default())
        .with_context(|| format!("{field}.options"))?;
    let given = mount.destination();
    if given.as_os_str().is_empty() {
        return Err(Error::invalid(format!("{field}.destination: is empty")));
    }
    let mut destination = clean(&Path::new("/").join(given));
    // A destination below the root's own path on the host means the place in the container, as with runc.
    if let Ok(inside) = destination.strip_prefix(root) {
        destination = Path::new("/").join(inside);
    }
    let kind = kind(&field, mount.typ().as_deref().unwrap_or_default(), &options)?;
    // A tree or file system on `/` becomes the root.
    if destination == Path::new("/") && kind == Kind::Cgroup {
        return Err(Error::invalid(format!("{field}.destination: {given:?} is the root itself")));
    }
    let entry = Entry { field, mount, options, destination, kind };
    check(&entry)?;
    Ok(entry)
}

fn kind<'a>(field: &str, typ: &'a str, options: &MountOptions) -> Result<Kind<'a>> {
    if options.remount {
        return Ok(Kind::Remount);
    }
    if options.bind || typ == "bind" {
        return Ok(Kind::Bind);
    }
    match typ {
        "" | "none" => Err(Error::invalid(format!(
            "{field}.type: {typ:?} needs one of the options bind, rbind or remount"
        ))),
        "cgroup" => Ok(Kind::Cgroup),
        _ => Ok(Kind::Fs(typ)),
    }
}

fn check(entry: &Entry<'_>) -> Result<()> {
    let Entry { field, mount, options, .. } = entry;
    let mapped = options.idmap.is_some() || mount.uid_mappings().is_some() || mount.gid_mappings().is_some();
    if mapped && entry.kind != Kind::Bind {
        return Err(Error::invalid(format!("{field}: id-mapped mounts are only supported for bind-mounts")));
    }
    if options.copy_up && entry.kind != Kind::Fs("tmpfs") {
        return Err(Error::invalid(format!("{field}.options: tmpcopyup requires type tmpfs")));
    }
    match (entry.kind, options.data.first()) {
        (Kind::Bind, Some(option)) => Err(Error::invalid(format!(
            "{field}.options: {option:?}: bind mounts cannot have any filesystem-specific options applied"
        ))),
        (Kind::Remount, Some(option)) => Err(Error::unsupported(format!(
            "{field}.options: {option:?}: a remount can only change attributes of the mount"
        ))),
        _ => Ok(()),
    }
}

/// `.`, `..` and double slashes resolved by name only.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut result = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => result.push(name),
            Component::ParentDir => {
                result.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    result
}

pub(super) fn target(entry: &Entry<'_>, kind: TargetKind) -> Result<Target> {
    let fstype = match entry.kind {
        Kind::Fs(fstype) => fstype,
        _ => "",
    };
    Ok(Target {
        path: c_string(&format!("{}.destination", entry.field), entry.destination.as_os_str().as_bytes())?,
        kind,
        no_symlinks: matches!(fstype, "proc" | "sysfs"),
        proc: proc_guard(entry, fstype)?,
    })
}

fn proc_guard(entry: &Entry<'_>, fstype: &str) -> Result<ProcGuard> {
    let destination = entry.destination.as_path();
    if !destination.starts_with("/proc") {
        return Ok(ProcGuard::NotOnProcfs);
    }
    if destination != Path::new("/proc") {
        if PROC_FILES.iter().any(|file| destination == Path::new(file)) {
            return Ok(ProcGuard::Allowed);
        }
        return Err(Error::invalid(format!(
            "{}.destination: {destination:?} cannot be mounted because it is inside /proc",
            entry.field
        )));
    }
    match entry.kind {
        Kind::Bind => Ok(ProcGuard::SourceIsProcfs),
        Kind::Remount => Ok(ProcGuard::Allowed),
        Kind::Fs(_) if fstype == "proc" => Ok(ProcGuard::Allowed),
        _ => Err(Error::invalid(format!(
            "{}.destination: {destination:?} cannot be mounted because it is not of type proc",
            entry.field
        ))),
    }
}

fn remount(setting: &mut Setting<'_>, entry: &Entry<'_>) -> Result<()> {
    if let [name, ..] = entry.options.superblock_names()[..] {
        return Err(Error::unsupported(format!(
            "{}.options: {name:?}: a remount can only change attributes of the mount",
            entry.field
        )));
    }
    let target = target(entry, TargetKind::Directory)?;
    setting.draft.push(Step::Remount { target, attr: entry.options.changed_attr() });
    Ok(())
}

fn bind(setting: &mut Setting<'_>, entry: &Entry<'_>) -> Result<()> {
    let field = format!("{}.source", entry.field);
    let given = entry.mount.source().as_deref().filter(|source| !source.as_os_str().is_empty());
    let given = given.ok_or_else(|| Error::invalid(format!("{field}: is required for a bind mount")))?;
    let path = in_bundle(&field, setting.inputs.bundle, given)?;
    let target = target(entry, TargetKind::LikeSource)?;
    for name in entry.options.superblock_names() {
        setting
            .draft
            .warnings
            .push(format!("{}.options: {name:?} has no effect on a bind mount", entry.field));
    }
    let id_map = id_map(setting, entry)?;
    let (source, from_parent) = source(setting, entry, &path, id_map)?;
    let mut attr = entry.options.changed_attr();
    if let Some(base) = from_parent.then(|| base_propagation(setting)).flatten() {
        attr.propagation = [base, attr.propagation[0], attr.propagation[1]];
    }
    setting.draft.push(Step::Bind { source, recursive: entry.options.recursive, attr, target });
    Ok(())
}

/// The source of the tree, and whether it may be cloned by the parent.
fn source(
    setting: &mut Setting<'_>,
    entry: &Entry<'_>,
    path: &Path,
    id_map: Option<(Slot, bool)>,
) -> Result<(Source, bool)> {
    let field = format!("{}.source", entry.field);
    // Looked up inside the root, symbolic links of a malicious image cannot lead to the host.
    if setting.root != Path::new("/")
        && let Ok(inside) = clean(path).strip_prefix(setting.root)
    {
        let path = c_string(&field, Path::new("/").join(inside).as_os_str().as_bytes())?;
        return Ok(match id_map {
            Some((userns, recursive)) => (Source::InsideMapped { path, userns, recursive }, false),
            None => (Source::Inside(path), false),
        });
    }
    let c_path = c_string(&field, path.as_os_str().as_bytes())?;
    let unreachable = setting.ns.own(NEWUSER) && !setting.inputs.host.is_rootless();
    if id_map.is_none() && !unreachable {
        return Ok((Source::Path(c_path), false));
    }
    let slot = setting.draft.slot();
    setting.draft.opens.push(Open::Tree {
        slot,
        path: path.to_owned(),
        recursive: entry.options.recursive,
        idmap: id_map.map(|(userns, _)| userns),
        idmap_recursive: id_map.is_some_and(|(_, recursive)| recursive),
    });
    Ok(match id_map {
        Some(_) => (Source::Tree(slot), true),
        None => (Source::PathOrTree { path: c_path, tree: slot }, true),
    })
}

/// The propagation that the mount namespace would have given to a tree that the parent clones outside of it.
fn base_propagation(setting: &Setting<'_>) -> Option<Propagation> {
    // A mount namespace of another user namespace only ever gets slaves (mount_namespaces(7)).
    if setting.ns.own(NEWUSER) {
        return Some(options::change_of_propagation(libc::MS_SLAVE | libc::MS_REC));
    }
    let flags = setting.host_propagation;
    let reaches_all = flags & libc::MS_REC != 0 && flags & libc::MS_SHARED == 0;
    reaches_all.then(|| options::change_of_propagation(flags))
}

/// The slot of the user namespace whose map the mount gets, and whether its whole tree gets it.
fn id_map(setting: &mut Setting<'_>, entry: &Entry<'_>) -> Result<Option<(Slot, bool)>> {
    let field = &entry.field;
    let (uids, gids) = (entry.mount.uid_mappings(), entry.mount.gid_mappings());
    if entry.options.idmap.is_none() && uids.is_none() && gids.is_none() {
        return Ok(None);
    }
    if setting.inputs.host.is_rootless() {
        return Err(Error::unsupported(format!(
            "{field}: id-mapped mounts are not supported for rootless containers"
        )));
    }
    let recursive = entry.options.idmap.unwrap_or(false);
    let linux = setting.inputs.spec.linux().as_ref();
    if uids.is_none() && gids.is_none() && setting.ns.joined & NEWUSER != 0 {
        let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
        let path = namespaces
            .into_iter()
            .flatten()
            .find(|ns| ns.typ() == LinuxNamespaceType::User)
            .and_then(|ns| ns.path().clone())
            .ok_or_else(|| {
                Error::invalid(format!(
                    "{field}: id-mapped mounts must have both uid and gid mappings specified"
                ))
            })?;
        let slot = setting.draft.slot();
        setting.draft.opens.push(Open::Namespace { slot, path, flag: NEWUSER, foreign: false });
        return Ok(Some((slot, recursive)));
    }
    let (uids, gids) = match (uids, gids) {
        (None, None) if setting.ns.new & NEWUSER != 0 => (
            linux.and_then(|linux| linux.uid_mappings().as_ref()),
            linux.and_then(|linux| linux.gid_mappings().as_ref()),
        ),
        (uids, gids) => (uids.as_ref(), gids.as_ref()),
    };
    let maps = IdMaps {
        uids: ranges(uids, &format!("{field}.uidMappings"))?,
        gids: ranges(gids, &format!("{field}.gidMappings"))?,
        ..IdMaps::default()
    };
    if maps.uids.is_empty() || maps.gids.is_empty() {
        return Err(Error::invalid(format!(
            "{field}: id-mapped mounts must have both uid and gid mappings specified"
        )));
    }
    if let Some((_, slot)) = setting.id_maps.iter().find(|(known, _)| *known == maps) {
        return Ok(Some((*slot, recursive)));
    }
    let slot = setting.draft.slot();
    setting.draft.opens.push(Open::UserNamespace { slot, maps: maps.clone() });
    setting.id_maps.push((maps, slot));
    Ok(Some((slot, recursive)))
}

/// user_namespaces(7): at most 340 ranges (Linux 4.15), none of them empty.
fn ranges(given: Option<&Vec<LinuxIdMapping>>, field: &str) -> Result<Vec<IdMap>> {
    let given = given.map(Vec::as_slice).unwrap_or_default();
    if given.len() > 340 {
        return Err(Error::invalid(format!(
            "{field}: {} ranges; the kernel accepts at most 340",
            given.len()
        )));
    }
    let mut result = Vec::with_capacity(given.len());
    for (i, range) in given.iter().enumerate() {
        let (inside, outside, count) = (range.container_id(), range.host_id(), range.size());
        if count == 0 || inside.checked_add(count).is_none() || outside.checked_add(count).is_none() {
            return Err(Error::invalid(format!(
                "{field}[{i}]: invalid range: {count} ids from {inside} and {outside}"
            )));
        }
        result.push(IdMap { inside, outside, count });
    }
    Ok(result)
}

fn file_system(setting: &mut Setting<'_>, entry: &Entry<'_>, fstype: &str) -> Result<()> {
    let field = &entry.field;
    let label = mount_label(setting)?;
    let context = label.filter(|_| !NO_CONTEXT.contains(&fstype));
    let kernel_fs = KERNEL_FS.contains(&fstype);
    let late = entry.options.read_only() && is_late(fstype, &entry.destination);
    let fs =
        entry.options.for_fs(!kernel_fs && !late, context).with_context(|| format!("{field}.options"))?;
    let mut attr = entry.options.new_attr();
    if late {
        attr.set &= !options::READ_ONLY;
    }
    let source = entry.mount.source().as_deref().map(|source| source.as_os_str().as_bytes());
    setting.draft.push(Step::Mount(NewFs {
        fstype: c_string(&format!("{field}.type"), fstype)?,
        source: c_string(&format!("{field}.source"), source.filter(|s| !s.is_empty()).unwrap_or(b"none"))?,
        options: fs.options,
        data: fs.data,
        flags: fs.flags,
        classic: fs.classic,
        attr,
        target: target(entry, TargetKind::Directory)?,
        copy_up: copy_up(&entry.options),
        inherit_mode: fstype == "tmpfs" && !entry.options.has_data("mode"),
        label: label.filter(|_| fstype == "mqueue").map(|l| c_string("linux.mountLabel", l)).transpose()?,
        or_bind: or_bind(setting, fstype),
    }));
    Ok(())
}

fn copy_up(options: &MountOptions) -> Option<CopyUp> {
    let free = |name: &str| !options.has_data(name);
    options.copy_up.then(|| CopyUp { uid: free("uid"), gid: free("gid"), mode: free("mode") })
}

/// sysfs shows a network namespace; a user namespace may only mount that of a network namespace that it owns.
fn or_bind(setting: &Setting<'_>, fstype: &str) -> Option<CString> {
    let in_user_namespace = setting.ns.own(NEWUSER) || setting.inputs.host.in_user_namespace;
    (fstype == "sysfs" && in_user_namespace && setting.ns.new & NEWNET == 0).then(|| c"/sys".to_owned())
}

/// `linux.mountLabel`, which requires SELinux.
pub(super) fn mount_label<'a>(setting: &Setting<'a>) -> Result<Option<&'a str>> {
    let linux = setting.inputs.spec.linux().as_ref();
    let label = linux.and_then(|linux| linux.mount_label().as_deref()).filter(|label| !label.is_empty());
    if label.is_some() && !setting.inputs.host.selinux {
        return Err(Error::unsupported("linux.mountLabel: this host has no SELinux"));
    }
    Ok(label)
}

#[cfg(test)]
pub(crate) mod tests;
