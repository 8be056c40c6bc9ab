//! The child's messages to its parent: 16 bytes, no heap, no text. The parent has the plan and makes the text of a failure.

/// The system call (or check) inside a step that failed.
macro_rules! calls {
    ($($name:ident => $text:literal),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        pub(crate) enum Call { $($name),* }

        impl Call {
            const ALL: &'static [Call] = &[$(Call::$name),*];

            /// Its name in messages.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Call::$name => $text),* }
            }
        }
    };
}

calls! {
    Accept => "accept4",
    Affinity => "sched_setaffinity",
    Ambient => "prctl(PR_CAP_AMBIENT)",
    Bounding => "prctl(PR_CAPBSET_DROP)",
    Capset => "capset",
    Chdir => "chdir",
    Chown => "fchownat",
    Chroot => "chroot",
    Clone => "clone3",
    CloseRange => "close_range",
    CopyUp => "copy",
    Create => "create",
    Dumpable => "prctl(PR_SET_DUMPABLE)",
    Dup => "dup2",
    Exec => "execve",
    Fault => "fault injection",
    Find => "find executable",
    Fsconfig => "fsconfig",
    FsconfigCreate => "fsconfig(create)",
    Fsmount => "fsmount",
    Fsopen => "fsopen",
    Fstat => "fstat",
    Getcwd => "getcwd",
    Keyring => "keyctl",
    Loopback => "ioctl(SIOCSIFFLAGS)",
    Mempolicy => "set_mempolicy",
    Mknod => "mknodat",
    Mkdir => "mkdirat",
    Mount => "mount",
    MountSetattr => "mount_setattr",
    MoveMount => "move_mount",
    NoNewPrivs => "prctl(PR_SET_NO_NEW_PRIVS)",
    Open => "openat2",
    OpenTree => "open_tree",
    Personality => "personality",
    Poll => "poll",
    PivotRoot => "pivot_root",
    Prlimit => "prlimit",
    Read => "read",
    Seccomp => "seccomp",
    Setxattr => "setxattr",
    Send => "sendmsg",
    Setdomainname => "setdomainname",
    Setgroups => "setgroups",
    Sethostname => "sethostname",
    Setns => "setns",
    Setresgid => "setresgid",
    Setresuid => "setresuid",
    Setsid => "setsid",
    Signals => "sigaction",
    Slot => "descriptor table",
    Symlink => "symlinkat",
    Statfs => "fstatfs",
    Terminal => "ioctl(terminal)",
    Umount => "umount2",
    Unshare => "unshare",
    Verify => "verify",
    Write => "write",
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The child waits at this gate (`Gate::number`).
    Gate(u32),
    /// The sibling that continues has this pid, in the parent's pid namespace.
    Pid(i32),
    /// The message carries the master of the terminal.
    Terminal,
    /// The seccomp listener has this number in the child; it waits until the parent has taken it.
    Listener(i32),
    /// The message carries a detached tree, which the parent gives the id map of the user namespace in this slot, for the whole tree if
    /// `recursive`, since that takes its privileges. The child waits for that.
    MapIds { userns: u16, recursive: bool },
    /// A step failed; `arg` is a detail that the step's text may use.
    Failed { step: u32, call: Call, errno: i32, arg: i32 },
}

impl Frame {
    pub(crate) const SIZE: usize = 16;

    pub(crate) fn encode(self) -> [u8; Frame::SIZE] {
        let (kind, call, step, errno, arg) = match self {
            Frame::Gate(gate) => (1u16, 0u16, gate, 0, 0),
            Frame::Pid(pid) => (2, 0, 0, 0, pid),
            Frame::Terminal => (3, 0, 0, 0, 0),
            Frame::Listener(fd) => (4, 0, 0, 0, fd),
            Frame::MapIds { userns, recursive } => (6, 0, u32::from(recursive), 0, i32::from(userns)),
            Frame::Failed { step, call, errno, arg } => (5, call as u16, step, errno, arg),
        };
        let ([k0, k1], [c0, c1], [s0, s1, s2, s3]) =
            (kind.to_ne_bytes(), call.to_ne_bytes(), step.to_ne_bytes());
        let ([e0, e1, e2, e3], [a0, a1, a2, a3]) = (errno.to_ne_bytes(), arg.to_ne_bytes());
        [k0, k1, c0, c1, s0, s1, s2, s3, e0, e1, e2, e3, a0, a1, a2, a3]
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Frame> {
        let &[k0, k1, c0, c1, s0, s1, s2, s3, e0, e1, e2, e3, a0, a1, a2, a3] = bytes else {
            return None;
        };
        let step = u32::from_ne_bytes([s0, s1, s2, s3]);
        let errno = i32::from_ne_bytes([e0, e1, e2, e3]);
        let arg = i32::from_ne_bytes([a0, a1, a2, a3]);
        match u16::from_ne_bytes([k0, k1]) {
            1 => Some(Frame::Gate(step)),
            2 => Some(Frame::Pid(arg)),
            3 => Some(Frame::Terminal),
            4 => Some(Frame::Listener(arg)),
            5 => {
                let call = *Call::ALL.get(usize::from(u16::from_ne_bytes([c0, c1])))?;
                Some(Frame::Failed { step, call, errno, arg })
            }
            6 => Some(Frame::MapIds { userns: u16::try_from(arg).ok()?, recursive: step != 0 }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_journey_and_garbage_is_refused() {
        for call in Call::ALL {
            let frame = Frame::Failed { step: 7, call: *call, errno: 13, arg: -1 };
            assert_eq!(Frame::decode(&frame.encode()), Some(frame));
        }
        let map = |recursive| Frame::MapIds { userns: 12, recursive };
        for frame in
            [Frame::Gate(2), Frame::Pid(70_000), Frame::Terminal, Frame::Listener(9), map(true), map(false)]
        {
            assert_eq!(Frame::decode(&frame.encode()), Some(frame));
        }
        assert_eq!(Frame::decode(&[0; 16]), None);
        assert_eq!(Frame::decode(&[5, 0, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(Frame::decode(b"short"), None);
    }
}
