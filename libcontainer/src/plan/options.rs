//! Mount options: the strings of config.json's `mounts[].options` to attributes, propagation, flags of the superblock and options
//! that only the file system understands. One table; `features` prints its names.
//!
//! It knows nothing of what is mounted where.

use super::c_string;
use super::step::{FsOption, MountAttr, Propagation};
use crate::error::{Error, Result};
use crate::sys::mount::{
    MOUNT_ATTR_ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME,
};
use std::ffi::CString;

const MOUNT_ATTR_RELATIME: u64 = 0x0;

/// Attributes that a user namespace can not take from a mount which another one made (MNT_LOCK_*), but for the access times.
pub(crate) const LOCKABLE: u64 = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

/// `MS_*` flags with their attribute.
const ATTRIBUTES: &[(u64, u64)] = &[
    (libc::MS_RDONLY, MOUNT_ATTR_RDONLY),
    (libc::MS_NOSUID, MOUNT_ATTR_NOSUID),
    (libc::MS_NODEV, MOUNT_ATTR_NODEV),
    (libc::MS_NOEXEC, MOUNT_ATTR_NOEXEC),
    (libc::MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW),
];
const ATIME_FLAGS: u64 = libc::MS_NOATIME | libc::MS_NODIRATIME | libc::MS_RELATIME | libc::MS_STRICTATIME;

/// Flags of the superblock that fsconfig(2) has a name for.
const SUPERBLOCK: &[(u64, &str)] = &[
    (libc::MS_SYNCHRONOUS, "sync"),
    (libc::MS_DIRSYNC, "dirsync"),
    (libc::MS_MANDLOCK, "mand"),
    (libc::MS_LAZYTIME, "lazytime"),
];
/// Flags of the superblock that only mount(2) has.
const CLASSIC_ONLY: u64 = libc::MS_I_VERSION | libc::MS_SILENT;
const SUPERBLOCK_FLAGS: u64 =
    libc::MS_SYNCHRONOUS | libc::MS_DIRSYNC | libc::MS_MANDLOCK | libc::MS_LAZYTIME | CLASSIC_ONLY;

/// fsconfig(2) takes strings of at most 255 bytes.
const FSCONFIG_MAX: usize = 255;

#[derive(Clone, Copy)]
enum Effect {
    Nothing,
    Set(u64),
    Clear(u64),
    Bind {
        recursive: bool,
    },
    Remount,
    Propagate(u64),
    /// The whole tree gets the attribute, or loses it.
    TreeSet(u64),
    TreeClear(u64),
    /// The whole tree gets this mode of access times.
    TreeAtime(u64),
    /// The whole tree does not get this mode of access times: relatime, if no other is named.
    TreeNotAtime(u64),
    CopyUp,
    IdMap {
        recursive: bool,
    },
}
use Effect::{
    Bind, Clear, CopyUp, IdMap, Nothing, Propagate, Remount, Set, TreeAtime, TreeClear, TreeNotAtime, TreeSet,
};

/// Every option that is not handed to the file system, sorted by name.
const TABLE: &[(&str, Effect)] = &[
    ("async", Clear(libc::MS_SYNCHRONOUS)),
    ("atime", Clear(libc::MS_NOATIME)),
    ("bind", Bind { recursive: false }),
    ("defaults", Nothing),
    ("dev", Clear(libc::MS_NODEV)),
    ("diratime", Clear(libc::MS_NODIRATIME)),
    ("dirsync", Set(libc::MS_DIRSYNC)),
    ("exec", Clear(libc::MS_NOEXEC)),
    ("idmap", IdMap { recursive: false }),
    ("iversion", Set(libc::MS_I_VERSION)),
    ("lazytime", Set(libc::MS_LAZYTIME)),
    ("loud", Clear(libc::MS_SILENT)),
    ("mand", Set(libc::MS_MANDLOCK)),
    ("noatime", Set(libc::MS_NOATIME)),
    ("nodev", Set(libc::MS_NODEV)),
    ("nodiratime", Set(libc::MS_NODIRATIME)),
    ("noexec", Set(libc::MS_NOEXEC)),
    ("noiversion", Clear(libc::MS_I_VERSION)),
    ("nolazytime", Clear(libc::MS_LAZYTIME)),
    ("nomand", Clear(libc::MS_MANDLOCK)),
    ("norelatime", Clear(libc::MS_RELATIME)),
    ("nostrictatime", Clear(libc::MS_STRICTATIME)),
    ("nosuid", Set(libc::MS_NOSUID)),
    ("nosymfollow", Set(libc::MS_NOSYMFOLLOW)),
    ("private", Propagate(libc::MS_PRIVATE)),
    ("ratime", TreeNotAtime(MOUNT_ATTR_NOATIME)),
    ("rbind", Bind { recursive: true }),
    ("rdev", TreeClear(MOUNT_ATTR_NODEV)),
    ("rdiratime", TreeClear(MOUNT_ATTR_NODIRATIME)),
    ("relatime", Set(libc::MS_RELATIME)),
    ("remount", Remount),
    ("rexec", TreeClear(MOUNT_ATTR_NOEXEC)),
    ("ridmap", IdMap { recursive: true }),
    ("rnoatime", TreeAtime(MOUNT_ATTR_NOATIME)),
    ("rnodev", TreeSet(MOUNT_ATTR_NODEV)),
    ("rnodiratime", TreeSet(MOUNT_ATTR_NODIRATIME)),
    ("rnoexec", TreeSet(MOUNT_ATTR_NOEXEC)),
    ("rnorelatime", TreeNotAtime(MOUNT_ATTR_RELATIME)),
    ("rnostrictatime", TreeNotAtime(MOUNT_ATTR_STRICTATIME)),
    ("rnosuid", TreeSet(MOUNT_ATTR_NOSUID)),
    ("rnosymfollow", TreeSet(MOUNT_ATTR_NOSYMFOLLOW)),
    ("ro", Set(libc::MS_RDONLY)),
    ("rprivate", Propagate(libc::MS_PRIVATE | libc::MS_REC)),
    ("rrelatime", TreeAtime(MOUNT_ATTR_RELATIME)),
    ("rro", TreeSet(MOUNT_ATTR_RDONLY)),
    ("rrw", TreeClear(MOUNT_ATTR_RDONLY)),
    ("rshared", Propagate(libc::MS_SHARED | libc::MS_REC)),
    ("rslave", Propagate(libc::MS_SLAVE | libc::MS_REC)),
    ("rstrictatime", TreeAtime(MOUNT_ATTR_STRICTATIME)),
    ("rsuid", TreeClear(MOUNT_ATTR_NOSUID)),
    ("rsymfollow", TreeClear(MOUNT_ATTR_NOSYMFOLLOW)),
    ("runbindable", Propagate(libc::MS_UNBINDABLE | libc::MS_REC)),
    ("rw", Clear(libc::MS_RDONLY)),
    ("shared", Propagate(libc::MS_SHARED)),
    ("silent", Set(libc::MS_SILENT)),
    ("slave", Propagate(libc::MS_SLAVE)),
    ("strictatime", Set(libc::MS_STRICTATIME)),
    ("suid", Clear(libc::MS_NOSUID)),
    ("symfollow", Clear(libc::MS_NOSYMFOLLOW)),
    ("sync", Set(libc::MS_SYNCHRONOUS)),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagate(libc::MS_UNBINDABLE)),
];

/// The options of `mounts[].options` that are understood whatever the file system, sorted: `features` lists them.
pub fn mount_options() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

/// The `MS_*` flags of a propagation by name: `rslave`, `shared`, …
pub(crate) fn propagation(name: &str) -> Option<u64> {
    match lookup(name) {
        Some(Propagate(flags)) => Some(flags),
        _ => None,
    }
}

fn lookup(name: &str) -> Option<Effect> {
    TABLE.binary_search_by(|(known, _)| (*known).cmp(name)).ok().map(|i| TABLE[i].1)
}

/// What the options of one mount ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    pub(crate) bind: bool,
    /// `rbind`: the mounts below the source, too.
    pub(crate) recursive: bool,
    pub(crate) remount: bool,
    pub(crate) copy_up: bool,
    /// `idmap` or `ridmap`; `Some(true)` for the whole tree.
    pub(crate) idmap: Option<bool>,
    pub(crate) propagation: Vec<Propagation>,
    /// What only the file system understands, as given.
    pub(crate) data: Vec<String>,
    /// `MS_*` flags asked for by name.
    set: u64,
    /// `MS_*` flags asked not to be set.
    cleared: u64,
    tree_set: u64,
    tree_clear: u64,
}

/// Sorts the options out; the later of two that contradict each other wins.
pub(crate) fn parse(options: &[String]) -> Result<MountOptions> {
    let mut parsed = MountOptions::default();
    for option in options {
        if option.contains('\0') {
            return Err(Error::invalid(format!("{option:?} contains a NUL byte")));
        }
        match lookup(option) {
            Some(effect) => parsed.apply(effect),
            None if option.is_empty() => {}
            None => parsed.data.push(option.clone()),
        }
    }
    if parsed.propagation.len() > 2 {
        return Err(Error::unsupported("more than two changes of propagation"));
    }
    Ok(parsed)
}

impl MountOptions {
    fn apply(&mut self, effect: Effect) {
        match effect {
            Nothing => {}
            Set(flag) => {
                self.set |= flag;
                self.cleared &= !flag;
            }
            Clear(flag) => {
                self.set &= !flag;
                self.cleared |= flag;
            }
            Bind { recursive } => {
                self.bind = true;
                self.recursive |= recursive;
            }
            Remount => self.remount = true,
            Propagate(flags) => {
                let change = change_of_propagation(flags);
                if self.propagation.last() != Some(&change) {
                    self.propagation.push(change);
                }
            }
            TreeSet(bit) => {
                self.tree_set |= bit;
                self.tree_clear &= !bit;
            }
            TreeClear(bit) => {
                self.tree_set &= !bit;
                self.tree_clear |= bit;
            }
            // mount_setattr(2): a mode of access times is set by clearing all of them along with it.
            TreeAtime(mode) => {
                self.tree_set = self.tree_set & !MOUNT_ATTR_ATIME | mode;
                self.tree_clear |= MOUNT_ATTR_ATIME;
            }
            TreeNotAtime(mode) => {
                self.tree_set &= !mode;
                self.tree_clear |= MOUNT_ATTR_ATIME;
            }
            CopyUp => self.copy_up = true,
            IdMap { recursive } => self.idmap = Some(recursive),
        }
    }

    pub(crate) fn read_only(&self) -> bool {
        self.set & libc::MS_RDONLY != 0
    }

    /// Options of the superblock, which an attached mount can not be given.
    pub(crate) fn superblock_names(&self) -> Vec<&'static str> {
        TABLE
            .iter()
            .filter_map(|(name, effect)| match effect {
                Set(flag) if self.set & flag & SUPERBLOCK_FLAGS != 0 => Some(*name),
                _ => None,
            })
            .collect()
    }

    /// The attributes of a mount that had none before.
    pub(crate) fn new_attr(&self) -> MountAttr {
        self.attr(self.own_bits() | self.atime_bits().unwrap_or_default(), 0, 0)
    }

    /// The attributes of a clone of another mount, or of one that is attached already. Without a word about attributes it keeps
    /// those that it has. With any word it gets exactly those that are named, but for locked ones that nobody asked to clear (see
    /// `MountAttr::implied`) and the access times, which stay unless one of their modes is named. So does runc.
    pub(crate) fn changed_attr(&self) -> MountAttr {
        if self.set | self.cleared == 0 {
            return self.attr(0, 0, 0);
        }
        let mut set = self.own_bits();
        let mut clear = ATTRIBUTES.iter().map(|(_, bit)| bit).sum::<u64>() & !set;
        let named = bits(self.cleared);
        if let Some(atime) = self.atime_bits() {
            set |= atime;
            clear |= MOUNT_ATTR_ATIME | MOUNT_ATTR_NODIRATIME & !atime;
        }
        self.attr(set, clear, clear & LOCKABLE & !named)
    }

    /// Options for fsconfig(2) and for mount(2), and whether only the latter can take them. `read_only`: the superblock, too.
    pub(crate) fn for_fs(&self, read_only: bool, context: Option<&str>) -> Result<FsOptions> {
        let mut options = Vec::new();
        let mut flags = self.set & SUPERBLOCK_FLAGS;
        for (flag, name) in SUPERBLOCK {
            if self.set & flag != 0 {
                options.push(FsOption::Flag(c_string("option", *name)?));
            }
        }
        if read_only && self.read_only() {
            options.push(FsOption::Flag(c_string("option", "ro")?));
            flags |= libc::MS_RDONLY;
        }
        let context = context.map(|label| format!("context=\"{label}\""));
        let mut classic = flags & CLASSIC_ONLY != 0;
        for part in self.data.iter().chain(context.as_ref()).flat_map(|option| split(option)) {
            let option = match part.split_once('=') {
                Some((key, value)) => {
                    FsOption::Text(c_string("option", key)?, c_string("option", value.trim_matches('"'))?)
                }
                None => FsOption::Flag(c_string("option", part)?),
            };
            classic |= matches!(&option, FsOption::Text(_, value) if value.count_bytes() > FSCONFIG_MAX);
            options.push(option);
        }
        let mut data = self.data.join(",");
        if let Some(context) = context {
            data = if data.is_empty() { context } else { format!("{data},{context}") };
        }
        Ok(FsOptions { options, data: c_string("options", data)?, flags, classic })
    }

    /// One of the file system's own options is `name=…`.
    pub(crate) fn has_data(&self, name: &str) -> bool {
        self.data
            .iter()
            .flat_map(|option| split(option))
            .any(|part| part.split_once('=').is_some_and(|(key, _)| key == name))
    }

    fn own_bits(&self) -> u64 {
        bits(self.set)
    }

    /// mount(2)'s rules: strictatime before noatime before relatime, and relatime when only `nodiratime` is named.
    fn atime_bits(&self) -> Option<u64> {
        let flags = self.set & ATIME_FLAGS;
        let mode = if flags & libc::MS_STRICTATIME != 0 {
            MOUNT_ATTR_STRICTATIME
        } else if flags & libc::MS_NOATIME != 0 {
            MOUNT_ATTR_NOATIME
        } else {
            MOUNT_ATTR_RELATIME
        };
        let directories = if flags & libc::MS_NODIRATIME != 0 { MOUNT_ATTR_NODIRATIME } else { 0 };
        (flags != 0).then_some(mode | directories)
    }

    fn attr(&self, set: u64, clear: u64, implied: u64) -> MountAttr {
        let mut propagation = [Propagation::default(); 3];
        for (place, change) in propagation.iter_mut().zip(&self.propagation) {
            *place = *change;
        }
        MountAttr { set, clear, implied, rec_set: self.tree_set, rec_clear: self.tree_clear, propagation }
    }
}

/// A file system's options in both forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FsOptions {
    pub(crate) options: Vec<FsOption>,
    pub(crate) data: CString,
    pub(crate) flags: u64,
    pub(crate) classic: bool,
}

/// `MS_*` flags as a step takes them.
pub(crate) fn change_of_propagation(flags: u64) -> Propagation {
    Propagation { flag: flags & !libc::MS_REC, recursive: flags & libc::MS_REC != 0 }
}

/// Names for the bits of attributes, for people.
pub(crate) fn attribute_names(bits: u64) -> Vec<&'static str> {
    const NAMES: &[(u64, &str)] = &[
        (MOUNT_ATTR_RDONLY, "ro"),
        (MOUNT_ATTR_NOSUID, "nosuid"),
        (MOUNT_ATTR_NODEV, "nodev"),
        (MOUNT_ATTR_NOEXEC, "noexec"),
        (MOUNT_ATTR_NOATIME, "noatime"),
        (MOUNT_ATTR_STRICTATIME, "strictatime"),
        (MOUNT_ATTR_NODIRATIME, "nodiratime"),
        (MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"),
    ];
    NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect()
}

/// Names for the bits that are cleared, for people.
pub(crate) fn cleared_names(bits: u64) -> Vec<&'static str> {
    const NAMES: &[(u64, &str)] = &[
        (MOUNT_ATTR_RDONLY, "rw"),
        (MOUNT_ATTR_NOSUID, "suid"),
        (MOUNT_ATTR_NODEV, "dev"),
        (MOUNT_ATTR_NOEXEC, "exec"),
        (MOUNT_ATTR_NODIRATIME, "diratime"),
        (MOUNT_ATTR_NOSYMFOLLOW, "symfollow"),
    ];
    NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect()
}

/// The read-only attribute.
pub(crate) const READ_ONLY: u64 = MOUNT_ATTR_RDONLY;
/// nosuid, nodev and noexec.
pub(crate) const HARDENED: u64 = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

fn bits(flags: u64) -> u64 {
    ATTRIBUTES.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, bit)| bit).sum()
}

/// Splits at commas, as the kernel does with mount(2)'s string: not at those in double quotes (SELinux contexts) and not at
/// escaped ones (overlay).
fn split(option: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (i, c) in option.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&option[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&option[start..]);
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests;
