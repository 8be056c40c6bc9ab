//! Which system calls a test can deny the runtime, and how an older kernel answers them.

/// A call that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Its number.
    pub call: i64,
    /// Refused only when this argument (by position) has other values than these.
    pub unless: Option<(u32, &'static [u32])>,
    /// What it returns.
    pub errno: i32,
}

const fn absent(call: i64) -> Refusal {
    Refusal { call, unless: None, errno: libc::ENOSYS }
}

/// One namespace at a time: a pidfd takes any number.
const KINDS: &[u32] = &[
    0,
    libc::CLONE_NEWNS.cast_unsigned(),
    libc::CLONE_NEWUTS.cast_unsigned(),
    libc::CLONE_NEWIPC.cast_unsigned(),
    libc::CLONE_NEWPID.cast_unsigned(),
    libc::CLONE_NEWNET.cast_unsigned(),
    libc::CLONE_NEWUSER.cast_unsigned(),
    libc::CLONE_NEWCGROUP.cast_unsigned(),
    libc::CLONE_NEWTIME.cast_unsigned(),
];

/// By name. The last two are calls that are there, but not yet in all their forms: flags of close_range (5.11), a pidfd for setns (5.8).
pub const CALLS: &[(&str, Refusal)] = &[
    ("clone3", absent(libc::SYS_clone3)),
    ("fsopen", absent(libc::SYS_fsopen)),
    ("fsconfig", absent(libc::SYS_fsconfig)),
    ("fsmount", absent(libc::SYS_fsmount)),
    ("open_tree", absent(libc::SYS_open_tree)),
    ("move_mount", absent(libc::SYS_move_mount)),
    ("mount_setattr", absent(libc::SYS_mount_setattr)),
    ("openat2", absent(libc::SYS_openat2)),
    ("faccessat2", absent(libc::SYS_faccessat2)),
    ("close_range", absent(libc::SYS_close_range)),
    (
        "close_range_cloexec",
        Refusal { call: libc::SYS_close_range, unless: Some((2, &[0])), errno: libc::EINVAL },
    ),
    ("setns_pidfd", Refusal { call: libc::SYS_setns, unless: Some((1, KINDS)), errno: libc::EINVAL }),
];

/// Calls that every kernel has, and that a filter may refuse all the same; `all` is without these.
pub const COMMON: &[(&str, Refusal)] = &[("statx", absent(libc::SYS_statx))];

/// What Linux 5.10 (Debian 11) does not have: all of it but for id maps.
pub const AS_5_10: &str = "mount_setattr,close_range_cloexec";
/// What Linux 5.4 (Ubuntu 20.04) does not have.
pub const AS_5_4: &str = "mount_setattr,openat2,faccessat2,close_range,setns_pidfd";

/// The refusals of a list of names with commas, or of `all`; or the name that is unknown. `=EPERM` behind a name means that a filter refuses
/// the call, as filters do that do not know it, instead of a kernel that lacks it.
pub fn refusals(list: &str) -> Result<Vec<Refusal>, String> {
    if list == "all" {
        return Ok(CALLS.iter().map(|(_, refusal)| *refusal).collect());
    }
    let find = |word: &str| {
        let name = word.strip_suffix("=EPERM").unwrap_or(word);
        let (_, refusal) = CALLS.iter().chain(COMMON).find(|(known, _)| *known == name)?;
        let errno = if name == word { refusal.errno } else { libc::EPERM };
        Some(Refusal { errno, ..*refusal })
    };
    list.split(',').map(|word| find(word).ok_or_else(|| word.to_owned())).collect()
}
