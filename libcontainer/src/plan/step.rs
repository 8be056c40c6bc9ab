//! The steps of a plan: everything the child can do, as data that is ready for the kernel (C strings, flags, numbers of descriptor
//! slots). `describe` formats them for `knarr plan`, errors and golden tests; `launch::child` carries them out.
//!
//! It does not depend on `Spec`, and nothing here allocates once it is built.

use crate::sys::cstr::CStrArray;
use std::ffi::CString;

/// Index into the launch's table of file descriptors. The first few have fixed roles; the plan assigns the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) u16);

impl Slot {
    /// The child's end of the socket to its parent.
    pub(crate) const SYNC: Slot = Slot(0);
    /// The container's root: the mount that becomes `/`.
    pub(crate) const ROOT: Slot = Slot(1);
    /// A private procfs, not mounted anywhere: for sysctls and labels.
    pub(crate) const PROC: Slot = Slot(2);
    /// The host's `/dev/null`, verified.
    pub(crate) const NULL: Slot = Slot(3);
    /// The empty read-only directory that masks directories.
    pub(crate) const EMPTY: Slot = Slot(4);
    /// The listening socket that `start` connects to.
    pub(crate) const START: Slot = Slot(5);
    /// The slave end of the container's terminal.
    pub(crate) const TERMINAL: Slot = Slot(6);
    /// The directory that the nodes and links after it are made in.
    pub(crate) const DIR: Slot = Slot(7);
    /// The pidfd of a process whose namespaces are joined.
    pub(crate) const TARGET: Slot = Slot(8);
    /// The pidfd of the process that launches.
    pub(crate) const CREATOR: Slot = Slot(9);
    /// The first slot that a plan assigns.
    pub(crate) const FIRST_FREE: u16 = 12;
}

/// A point where the child waits for its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Gate {
    /// Id maps are written and cgroups joined.
    Mapped,
    /// The root file system is assembled, the old root still reachable; the parent runs the hooks.
    Hooks,
    /// The parent makes the settings that a process cannot make on itself (`ParentSettings`) and lets it continue at once.
    Settings,
    /// All is ready but the exec: the container is `created`.
    Start,
}

/// The source of a bind mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A path of the host, looked up in the child's own mount namespace before the pivot.
    Path(CString),
    /// A detached tree that the parent opened (id-mapped mounts; sources that the child may not reach).
    Tree(Slot),
    /// A path inside the container's root, with the mounts made so far.
    Inside(CString),
    /// The path, as with `Path`, since that keeps the flags of the host's mount locked; the tree that the parent opened if the root of
    /// the new user namespace may not reach the path (EACCES).
    PathOrTree { path: CString, tree: Slot },
    /// A path inside the root whose clone gets the id map of the user namespace in `userns`, for its whole tree when `recursive`. A
    /// child in a new user namespace lacks the privilege (EPERM): the parent has to set it on the child's detached tree.
    InsideMapped { path: CString, userns: Slot, recursive: bool },
}

/// What to make at a mount's target if nothing exists there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetKind {
    Directory,
    /// A directory for a directory, a file for anything else.
    LikeSource,
}

/// Whether a mount point may lie on a procfs: a fake /proc would receive what is written to labels and sysctls (CVE-2019-16884).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcGuard {
    /// The target must not lie on a procfs, wherever symbolic links of the root lead.
    NotOnProcfs,
    /// The target is /proc itself with a new procfs, or one of the few files in it that may be mounted on.
    Allowed,
    /// A bind on /proc: its source must be a procfs.
    SourceIsProcfs,
}

/// A mount point inside the root. `path` begins with `/` and is looked up with RESOLVE_IN_ROOT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) path: CString,
    pub(crate) kind: TargetKind,
    /// procfs and sysfs: each component must be a directory, not a symlink (CVE-2019-16884, CVE-2023-27561).
    pub(crate) no_symlinks: bool,
    pub(crate) proc: ProcGuard,
}

/// Attributes of a mount, in mount_setattr(2)'s bits, for the mount itself and for the whole tree below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct MountAttr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// The bits of `clear` that no option named. On EPERM another user namespace has locked them: try again without them
    /// (`clear & !implied`).
    pub(crate) implied: u64,
    /// A second change, for the whole tree (AT_RECURSIVE), after the first.
    pub(crate) rec_set: u64,
    pub(crate) rec_clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`, in order (e.g. slave, then shared); 0 ends the list.
    pub(crate) propagation: [Propagation; 3],
}

/// One change of propagation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Propagation {
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 for none.
    pub(crate) flag: u64,
    pub(crate) recursive: bool,
}

/// One option of a new file system, for fsconfig(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FsOption {
    Flag(CString),
    Text(CString, CString),
}

/// A file system to make and mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewFs {
    pub(crate) fstype: CString,
    pub(crate) source: CString,
    pub(crate) options: Vec<FsOption>,
    /// The same options for mount(2), for kernels without fsconfig: one string, and `MS_*` flags of the superblock.
    pub(crate) data: CString,
    pub(crate) flags: u64,
    /// Only mount(2) can express the options (`iversion`, `silent`, values of more than 255 bytes).
    pub(crate) classic: bool,
    pub(crate) attr: MountAttr,
    pub(crate) target: Target,
    /// `tmpcopyup`: begin with a copy of what the target directory holds.
    pub(crate) copy_up: Option<CopyUp>,
    /// If the target existed, begin with its mode (option `mode=%04o` before all others); a new target gets the file system's default.
    pub(crate) inherit_mode: bool,
    /// Written to `security.selinux` of the new root (mqueue takes no `context` option).
    pub(crate) label: Option<CString>,
    /// On EPERM or EBUSY bind this path of the host instead, recursively, with the attributes on the whole tree (sysfs, cgroup2 without
    /// privilege).
    pub(crate) or_bind: Option<CString>,
}

/// What the root of a tmpfs takes from the directory that it is a copy of: all that no option sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CopyUp {
    pub(crate) uid: bool,
    pub(crate) gid: bool,
    pub(crate) mode: bool,
}

/// A capability set of each kind, as bit masks by capability number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CapSets {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

/// A resource limit of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rlimit {
    /// `RLIMIT_NOFILE`
    pub(crate) name: &'static str,
    pub(crate) resource: u32,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// The user a process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// `None`: leave the groups as they are (setgroups is denied in this user namespace).
    pub(crate) groups: Option<Vec<u32>>,
    /// EPERM of setgroups is tolerated: an outer user namespace may have denied it, which cannot be changed from inside.
    pub(crate) groups_may_be_denied: bool,
}

/// The program that is executed at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exec {
    /// The paths to try, in order: one, or `args[0]` in each directory of PATH.
    pub(crate) candidates: Vec<CString>,
    pub(crate) argv: CStrArray,
    /// Has a spare place for `HOME` when `home_of` is set.
    pub(crate) envp: CStrArray,
    /// `HOME` is not in the environment: look the user up in the container's /etc/passwd.
    pub(crate) home_of: Option<u32>,
}

/// One thing that the child does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Write this to /proc/self/oom_score_adj of the host, before anything is joined or hidden; `tolerate`: EACCES and EPERM are not errors.
    OomScoreAdj {
        value: CString,
        tolerate: bool,
    },
    /// Prevent other processes from tracing this one and from opening its files through /proc (CVE-2016-9962).
    Undumpable,
    /// Notify the parent and wait for its answer.
    Wait(Gate),
    /// uid and gid 0 of the new user namespace, no supplementary groups when `drop_groups`.
    BecomeRoot {
        drop_groups: bool,
    },
    /// setns(2) to one namespace; skipped when an earlier `TryJoin` of the same flag worked.
    Join {
        ns: Slot,
        flag: u64,
        name: &'static str,
    },
    /// setns(2) with the rights that are lost by joining a user namespace; after EPERM the later `Join` does it.
    TryJoin {
        ns: Slot,
        flag: u64,
        name: &'static str,
    },
    /// setns(2) to several namespaces of the process behind `Slot::TARGET`.
    JoinTarget {
        flags: u64,
    },
    /// unshare(2).
    Unshare {
        flags: u64,
    },
    /// A new time namespace with these lines for timens_offsets, entered at once.
    TimeNamespace {
        offsets: CString,
    },
    /// Continue in a child of this process that has the same parent (clone3 with CLONE_PARENT and these CLONE_NEW* flags): a pid
    /// namespace that is joined, or made after a join, holds only the children of the process that did so.
    Fork {
        flags: u64,
    },
    /// Start a new session and process group.
    NewSession,
    /// Join or make the session keyring of this name, and add these bits to its permissions (KEYCTL_SETPERM; 0 leaves them); a
    /// host without keyrings (ENOSYS) is tolerated.
    Keyring {
        name: CString,
        permit: u32,
    },
    /// Bring `lo` up.
    LoopbackUp,
    /// Change the propagation of the whole host tree in this mount namespace.
    HostPropagation {
        flags: u64,
    },
    /// Clone the tree at this path of the host, mount it over itself, and call it the root.
    Root {
        path: CString,
        source: Option<Slot>,
        propagation: u64,
    },
    /// A private procfs for `Slot::PROC`.
    PrivateProc,
    /// Open the host's /dev/null for the masks.
    OpenNull,
    /// Attach a tree.
    Bind {
        source: Source,
        recursive: bool,
        attr: MountAttr,
        target: Target,
    },
    /// Make and attach a file system.
    Mount(NewFs),
    /// Change an attached mount in place (`remount`).
    Remount {
        target: Target,
        attr: MountAttr,
    },
    /// Open (and make) the directory that nodes and links go to.
    OpenDir {
        path: CString,
    },
    /// A device node in `Slot::DIR`; `mode` has the type bits. Kept when it is there; on EPERM the host's `shown` is bound instead.
    Node {
        name: CString,
        mode: u32,
        major: u32,
        minor: u32,
        uid: u32,
        gid: u32,
        shown: CString,
    },
    /// A symbolic link in `Slot::DIR`. What is there is kept, or removed first with `replace`.
    Link {
        name: CString,
        to: CString,
        shown: CString,
        replace: bool,
    },
    /// Make a directory with its parents.
    Directory {
        path: CString,
        mode: u32,
    },
    /// A terminal from the container's own devpts, its slave bound to /dev/console when `mount`, its master sent to the parent; `size`
    /// is (rows, columns), `uid` the new owner of the slave.
    Console {
        mount: bool,
        size: Option<(u16, u16)>,
        uid: u32,
    },
    /// The container's terminal becomes stdin, stdout and stderr and the controlling terminal.
    Stdio,
    /// A stream that is the caller's /dev/null becomes the container's own; it stays where the container has none.
    OwnNull,
    /// Write a sysctl through the private procfs; `file` is relative to /proc/sys.
    Sysctl {
        file: CString,
        value: CString,
    },
    /// Make a path read-only in place; a missing path is skipped.
    ReadOnlyPath {
        path: CString,
    },
    /// Hide a path: a file behind /dev/null, a directory behind an empty one; a missing path is skipped.
    Mask {
        path: CString,
    },
    /// The root becomes `/`, the host's tree is gone.
    PivotRoot,
    /// Without pivot_root: move the root over `/` and chroot (`--no-pivot`).
    MoveRoot,
    /// Open the directory at this path of the host as `Slot::ROOT`, without a mount of its own (no mount namespace).
    OpenRoot {
        path: CString,
    },
    /// chroot(2) to the root (no mount namespace).
    Chroot,
    /// The propagation of the finished `/`.
    RootPropagation {
        flags: u64,
    },
    /// The root mount becomes read-only.
    RootReadOnly,
    Hostname(CString),
    Domainname(CString),
    /// Write a security label that takes effect at the exec, through the private procfs; the files, relative to its root, are tried
    /// in order as long as they are missing.
    Label {
        what: &'static str,
        files: Vec<CString>,
        value: CString,
    },
    /// Run on these CPUs (a bit each, sched_setaffinity(2)), as far as the cgroup allows. Unless `required`, errors are ignored.
    Affinity {
        mask: Vec<u64>,
        required: bool,
    },
    /// set_mempolicy(2); `nodes` has a bit for each NUMA node.
    MemoryPolicy {
        mode: u32,
        nodes: Vec<u64>,
    },
    /// Set a limit on the process itself (prlimit(2)), while it still has the caller's rights.
    Rlimit(Rlimit),
    /// The personality(2) of the process.
    Personality {
        domain: u64,
    },
    NoNewPrivileges,
    /// Install a compiled filter; `bpf` is an array of struct sock_filter.
    Seccomp {
        bpf: Vec<u64>,
        flags: u64,
        listener: bool,
    },
    /// Capabilities before the change of user: bounding set, and keep the others across it.
    DropBounding {
        keep: u64,
    },
    Ids(Ids),
    /// Capabilities after the change of user.
    Capabilities(CapSets),
    Umask(u32),
    /// As `Cwd`, before the change of user: after EACCES the later `Cwd` does it.
    TryCwd(CString),
    /// Change to the working directory and verify that it is inside the root (CVE-2024-21626); skipped when `TryCwd` did both.
    Cwd(CString),
    /// Find the program among the candidates and check that it may be executed.
    FindProgram,
    /// Pass the descriptor in this slot to the program, under its number.
    PassDescriptor {
        slot: Slot,
    },
    /// Descriptors from this number on are closed by the exec.
    CloseFrom(u32),
    /// execve(2).
    Exec,
}

/// What the code outside of the child needs to know about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traits {
    /// It comes after the root file system is complete: the dry run of a restore ends before it (`plan::restore`).
    pub(crate) after_root: bool,
    /// The parent has to answer it, apart from the last gate: the process can't run unattended (`launch`).
    pub(crate) asks_parent: bool,
}

impl Step {
    /// The traits of the step. The match has no `_`, so that no new step is forgotten.
    pub(crate) fn traits(&self) -> Traits {
        let (after_root, asks_parent) = match self {
            Step::Wait(Gate::Mapped)
            | Step::Fork { .. }
            | Step::Console { .. }
            | Step::Bind { source: Source::InsideMapped { .. }, .. } => (false, true),
            Step::OomScoreAdj { .. }
            | Step::Undumpable
            | Step::BecomeRoot { .. }
            | Step::Join { .. }
            | Step::TryJoin { .. }
            | Step::JoinTarget { .. }
            | Step::Unshare { .. }
            | Step::TimeNamespace { .. }
            | Step::NewSession
            | Step::Keyring { .. }
            | Step::LoopbackUp
            | Step::HostPropagation { .. }
            | Step::Root { .. }
            | Step::OpenRoot { .. }
            | Step::Bind {
                source: Source::Path(_) | Source::Tree(_) | Source::Inside(_) | Source::PathOrTree { .. },
                ..
            }
            | Step::Mount(_)
            | Step::Remount { .. }
            | Step::OpenDir { .. }
            | Step::Node { .. }
            | Step::Link { .. }
            | Step::Directory { .. } => (false, false),
            Step::Wait(Gate::Hooks | Gate::Settings) | Step::Seccomp { listener: true, .. } => (true, true),
            Step::Wait(Gate::Start)
            | Step::OpenNull
            | Step::PrivateProc
            | Step::Hostname(_)
            | Step::Domainname(_)
            | Step::Sysctl { .. }
            | Step::ReadOnlyPath { .. }
            | Step::Mask { .. }
            | Step::PivotRoot
            | Step::MoveRoot
            | Step::Chroot
            | Step::RootPropagation { .. }
            | Step::RootReadOnly
            | Step::Stdio
            | Step::OwnNull
            | Step::Label { .. }
            | Step::Affinity { .. }
            | Step::MemoryPolicy { .. }
            | Step::Rlimit(_)
            | Step::Personality { .. }
            | Step::NoNewPrivileges
            | Step::Seccomp { listener: false, .. }
            | Step::DropBounding { .. }
            | Step::Ids(_)
            | Step::Capabilities(_)
            | Step::Umask(_)
            | Step::TryCwd(_)
            | Step::Cwd(_)
            | Step::FindProgram
            | Step::PassDescriptor { .. }
            | Step::CloseFrom(_)
            | Step::Exec => (true, false),
        };
        Traits { after_root, asks_parent }
    }
}

impl Gate {
    /// The gate as a number for a frame.
    pub(crate) fn number(self) -> u32 {
        match self {
            Gate::Mapped => 1,
            Gate::Hooks => 2,
            Gate::Start => 3,
            Gate::Settings => 4,
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<Gate> {
        [Gate::Mapped, Gate::Hooks, Gate::Start, Gate::Settings].into_iter().find(|g| g.number() == number)
    }
}
