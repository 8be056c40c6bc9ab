//! Mount options: the strings of config.json's `mounts[].options` as attributes, propagation, flags of the superblock and options
//! that only the file system understands. `features` lists the names in the tables here.
//!
//! It does not depend on what is mounted where.

use super::c_string;
use super::step::{FsOption, MountAttr, Propagation};
use crate::error::{Error, Result};
use crate::sys::mount::{
    MOUNT_ATTR_ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME,
};
use std::ffi::CString;

const MOUNT_ATTR_RELATIME: u64 = 0x0;

/// An attribute of mounts, with the options that set and clear it: for the mount itself, and for its whole tree.
struct Attribute {
    bit: u64,
    set: &'static str,
    clear: &'static str,
    tree_set: &'static str,
    tree_clear: &'static str,
}

macro_rules! attribute {
    ($bit:ident, $set:literal, $clear:literal) => {
        Attribute {
            bit: $bit,
            set: $set,
            clear: $clear,
            tree_set: concat!("r", $set),
            tree_clear: concat!("r", $clear),
        }
    };
}

/// All attributes but access times. Their flags for mount(2) are in `sys::mount::BY_NAME`.
const ATTRIBUTES: &[Attribute] = &[
    attribute!(MOUNT_ATTR_RDONLY, "ro", "rw"),
    attribute!(MOUNT_ATTR_NOSUID, "nosuid", "suid"),
    attribute!(MOUNT_ATTR_NODEV, "nodev", "dev"),
    attribute!(MOUNT_ATTR_NOEXEC, "noexec", "exec"),
    attribute!(MOUNT_ATTR_NODIRATIME, "nodiratime", "diratime"),
    attribute!(MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow", "symfollow"),
];

/// The read-only attribute.
pub(crate) const READ_ONLY: u64 = MOUNT_ATTR_RDONLY;
/// nosuid, nodev and noexec.
pub(crate) const HARDENED: u64 = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
/// The attributes, apart from access times, that a user namespace cannot take from a mount that another one made (MNT_LOCK_*).
const LOCKABLE: u64 = READ_ONLY | HARDENED;

const ATIME_FLAGS: u64 = libc::MS_NOATIME | libc::MS_RELATIME | libc::MS_STRICTATIME;

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
    /// `MS_*` flags of the superblock or a mode of access times: set, or not set.
    Set(u64),
    Clear(u64),
    /// An attribute of the mount, or of its whole tree.
    Attribute {
        bit: u64,
        on: bool,
        tree: bool,
    },
    Bind {
        recursive: bool,
    },
    Remount,
    Propagate(u64),
    /// The whole tree gets this mode of access times.
    TreeAtime(u64),
    /// The whole tree does not get this mode of access times: relatime, if no other is named.
    TreeNotAtime(u64),
    CopyUp,
    IdMap {
        recursive: bool,
    },
}
use Effect::{Bind, Clear, CopyUp, IdMap, Nothing, Propagate, Remount, Set, TreeAtime, TreeNotAtime};

/// All other options that are not passed to the file system, sorted by name.
const TABLE: &[(&str, Effect)] = &[
    ("async", Clear(libc::MS_SYNCHRONOUS)),
    ("atime", Clear(libc::MS_NOATIME)),
    ("bind", Bind { recursive: false }),
    ("defaults", Nothing),
    ("dirsync", Set(libc::MS_DIRSYNC)),
    ("idmap", IdMap { recursive: false }),
    ("iversion", Set(libc::MS_I_VERSION)),
    ("lazytime", Set(libc::MS_LAZYTIME)),
    ("loud", Clear(libc::MS_SILENT)),
    ("mand", Set(libc::MS_MANDLOCK)),
    ("noatime", Set(libc::MS_NOATIME)),
    ("noiversion", Clear(libc::MS_I_VERSION)),
    ("nolazytime", Clear(libc::MS_LAZYTIME)),
    ("nomand", Clear(libc::MS_MANDLOCK)),
    ("norelatime", Clear(libc::MS_RELATIME)),
    ("nostrictatime", Clear(libc::MS_STRICTATIME)),
    ("private", Propagate(libc::MS_PRIVATE)),
    ("ratime", TreeNotAtime(MOUNT_ATTR_NOATIME)),
    ("rbind", Bind { recursive: true }),
    ("relatime", Set(libc::MS_RELATIME)),
    ("remount", Remount),
    ("ridmap", IdMap { recursive: true }),
    ("rnoatime", TreeAtime(MOUNT_ATTR_NOATIME)),
    ("rnorelatime", TreeNotAtime(MOUNT_ATTR_RELATIME)),
    ("rnostrictatime", TreeNotAtime(MOUNT_ATTR_STRICTATIME)),
    ("rprivate", Propagate(libc::MS_PRIVATE | libc::MS_REC)),
    ("rrelatime", TreeAtime(MOUNT_ATTR_RELATIME)),
    ("rshared", Propagate(libc::MS_SHARED | libc::MS_REC)),
    ("rslave", Propagate(libc::MS_SLAVE | libc::MS_REC)),
    ("rstrictatime", TreeAtime(MOUNT_ATTR_STRICTATIME)),
    ("runbindable", Propagate(libc::MS_UNBINDABLE | libc::MS_REC)),
    ("shared", Propagate(libc::MS_SHARED)),
    ("silent", Set(libc::MS_SILENT)),
    ("slave", Propagate(libc::MS_SLAVE)),
    ("strictatime", Set(libc::MS_STRICTATIME)),
    ("sync", Set(libc::MS_SYNCHRONOUS)),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagate(libc::MS_UNBINDABLE)),
];

/// The options of `mounts[].options` that apply to any file system, sorted; `features` lists them.
pub fn mount_options() -> impl Iterator<Item = &'static str> {
    let attributes = ATTRIBUTES.iter().flat_map(|a| [a.set, a.clear, a.tree_set, a.tree_clear]);
    let mut names: Vec<_> = TABLE.iter().map(|(name, _)| *name).chain(attributes).collect();
    names.sort_unstable();
    names.into_iter()
}

/// The `MS_*` flags of a propagation by name: `rslave`, `shared`, …
pub(crate) fn propagation(name: &str) -> Option<u64> {
    match lookup(name) {
        Some(Propagate(flags)) => Some(flags),
        _ => None,
    }
}

/// The name of a propagation.
pub(crate) fn propagation_name(flags: u64) -> &'static str {
    let named = |effect: &Effect| matches!(effect, Propagate(these) if *these == flags);
    TABLE.iter().find(|(_, effect)| named(effect)).map_or("unchanged", |(name, _)| name)
}

fn lookup(name: &str) -> Option<Effect> {
    let listed = TABLE.binary_search_by(|(known, _)| (*known).cmp(name)).ok().map(|i| TABLE[i].1);
    listed.or_else(|| ATTRIBUTES.iter().find_map(|attribute| attribute.effect(name)))
}

impl Attribute {
    fn effect(&self, option: &str) -> Option<Effect> {
        let effects = [
            (self.set, true, false),
            (self.clear, false, false),
            (self.tree_set, true, true),
            (self.tree_clear, false, true),
        ];
        let (_, on, tree) = effects.into_iter().find(|(name, ..)| *name == option)?;
        Some(Effect::Attribute { bit: self.bit, on, tree })
    }
}

/// Bits that are asked for and bits that are asked not to be set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Change {
    set: u64,
    clear: u64,
}

impl Change {
    fn apply(&mut self, bits: u64, on: bool) {
        let (add, remove) =
            if on { (&mut self.set, &mut self.clear) } else { (&mut self.clear, &mut self.set) };
        *add |= bits;
        *remove &= !bits;
    }
}

/// The parsed options of one mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    pub(crate) bind: bool,
    /// `rbind`: include the mounts below the source.
    pub(crate) recursive: bool,
    pub(crate) remount: bool,
    pub(crate) copy_up: bool,
    /// `idmap` or `ridmap`; `Some(true)` for the whole tree.
    pub(crate) idmap: Option<bool>,
    pub(crate) propagation: Vec<Propagation>,
    /// Options of the file system, as given.
    pub(crate) data: Vec<String>,
    /// `MS_*` flags.
    flags: Change,
    /// Attributes of the mount itself.
    own: Change,
    /// Attributes of its whole tree.
    tree: Change,
}

/// Parses the options; of two that contradict each other the later wins.
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
        return Err(Error::unsupported("more than two propagation options"));
    }
    Ok(parsed)
}

impl MountOptions {
    fn apply(&mut self, effect: Effect) {
        match effect {
            Nothing => {}
            Set(flag) => self.flags.apply(flag, true),
            Clear(flag) => self.flags.apply(flag, false),
            Effect::Attribute { bit, on, tree: false } => self.own.apply(bit, on),
            Effect::Attribute { bit, on, tree: true } => self.tree.apply(bit, on),
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
            // mount_setattr(2): a mode of access times is set by clearing all of them along with it.
            TreeAtime(mode) => {
                self.tree.set = self.tree.set & !MOUNT_ATTR_ATIME | mode;
                self.tree.clear |= MOUNT_ATTR_ATIME;
            }
            TreeNotAtime(mode) => {
                self.tree.set &= !mode;
                self.tree.clear |= MOUNT_ATTR_ATIME;
            }
            CopyUp => self.copy_up = true,
            IdMap { recursive } => self.idmap = Some(recursive),
        }
    }

    pub(crate) fn read_only(&self) -> bool {
        self.own.set & READ_ONLY != 0
    }

    /// Options of the superblock, which cannot be set on an attached mount.
    pub(crate) fn superblock_names(&self) -> Vec<&'static str> {
        TABLE
            .iter()
            .filter_map(|(name, effect)| match effect {
                Set(flag) if self.flags.set & flag & SUPERBLOCK_FLAGS != 0 => Some(*name),
                _ => None,
            })
            .collect()
    }

    /// The attributes of a new mount.
    pub(crate) fn new_attr(&self) -> MountAttr {
        let set = self.own.set & !MOUNT_ATTR_NODIRATIME;
        self.attr(set | self.atime_bits().unwrap_or_default(), 0, 0)
    }

    /// The attributes of a clone of another mount, or of one that is already attached. Without options about attributes it keeps those
    /// that it has. With any such option it gets exactly those that are named, except for locked ones that no option clears (see
    /// `MountAttr::implied`) and for access times, which stay unless a mode is named. runc does the same.
    pub(crate) fn changed_attr(&self) -> MountAttr {
        if self.own == Change::default() && self.flags == Change::default() {
            return self.attr(0, 0, 0);
        }
        let all = ATTRIBUTES.iter().fold(0, |all, attribute| all | attribute.bit) & !MOUNT_ATTR_NODIRATIME;
        let mut set = self.own.set & all;
        let mut clear = all & !set;
        if let Some(atime) = self.atime_bits() {
            set |= atime;
            clear |= MOUNT_ATTR_ATIME | MOUNT_ATTR_NODIRATIME & !atime;
        }
        self.attr(set, clear, clear & LOCKABLE & !self.own.clear)
    }

    /// Options for fsconfig(2) and for mount(2), and whether only the latter accepts them. `read_only`: for the superblock, too.
    pub(crate) fn for_fs(&self, read_only: bool, context: Option<&str>) -> Result<FsOptions> {
        let mut options = Vec::new();
        let mut flags = self.flags.set & SUPERBLOCK_FLAGS;
        for (flag, name) in SUPERBLOCK {
            if self.flags.set & flag != 0 {
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

    /// Whether one of the file system's options is `name=…`.
    pub(crate) fn has_data(&self, name: &str) -> bool {
        self.data
            .iter()
            .flat_map(|option| split(option))
            .any(|part| part.split_once('=').is_some_and(|(key, _)| key == name))
    }

    /// mount(2)'s rules: strictatime before noatime before relatime, and relatime when only `nodiratime` is named.
    fn atime_bits(&self) -> Option<u64> {
        let flags = self.flags.set & ATIME_FLAGS;
        let directories = self.own.set & MOUNT_ATTR_NODIRATIME;
        let mode = if flags & libc::MS_STRICTATIME != 0 {
            MOUNT_ATTR_STRICTATIME
        } else if flags & libc::MS_NOATIME != 0 {
            MOUNT_ATTR_NOATIME
        } else {
            MOUNT_ATTR_RELATIME
        };
        (flags != 0 || directories != 0).then_some(mode | directories)
    }

    fn attr(&self, set: u64, clear: u64, implied: u64) -> MountAttr {
        let mut propagation = [Propagation::default(); 3];
        for (place, change) in propagation.iter_mut().zip(&self.propagation) {
            *place = *change;
        }
        MountAttr { set, clear, implied, rec_set: self.tree.set, rec_clear: self.tree.clear, propagation }
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

/// `MS_*` flags as a change of propagation.
pub(crate) fn change_of_propagation(flags: u64) -> Propagation {
    Propagation { flag: flags & !libc::MS_REC, recursive: flags & libc::MS_REC != 0 }
}

/// The options that ask for this change, except for what is only implied.
pub(crate) fn names(attr: &MountAttr) -> Vec<&'static str> {
    let asked = attr.clear & !attr.implied & LOCKABLE;
    let with = |bits: u64| ATTRIBUTES.iter().filter(move |attribute| bits & attribute.bit != 0);
    let mut names: Vec<_> = with(attr.set).map(|attribute| attribute.set).collect();
    names.extend(atime_names(attr.set, ["noatime", "strictatime"]));
    names.extend(with(asked).map(|attribute| attribute.clear));
    names.extend(with(attr.rec_set).map(|attribute| attribute.tree_set));
    names.extend(atime_names(attr.rec_set, ["rnoatime", "rstrictatime"]));
    names.extend(with(attr.rec_clear).map(|attribute| attribute.tree_clear));
    for change in attr.propagation.iter().filter(|change| change.flag != 0) {
        names.push(propagation_name(change.flag | if change.recursive { libc::MS_REC } else { 0 }));
    }
    names
}

fn atime_names(bits: u64, [no, strict]: [&'static str; 2]) -> impl Iterator<Item = &'static str> {
    let modes = [(MOUNT_ATTR_NOATIME, no), (MOUNT_ATTR_STRICTATIME, strict)];
    modes.into_iter().filter(move |(bit, _)| bits & bit != 0).map(|(_, name)| name)
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
