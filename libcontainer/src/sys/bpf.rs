//! bpf(2) for device programs of cgroup v2: load, attach, query, detach. Linux 4.15 has them, 5.6 replaces one atomically.
//!
//! `plan::devprogram` makes the instructions, `cgroup::v2` decides where they are attached.

use super::{Errno, SysResult, owned};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// The maximum number of programs of a cgroup (BPF_CGROUP_MAX_PROGS).
const MAX_PROGRAMS: usize = 64;

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// A kernel reads a negative descriptor back from the unsigned field.
fn field(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// `size` bytes from `attr` are the argument of `command`.
fn bpf<T>(command: libc::c_int, attr: &mut T) -> SysResult<libc::c_long> {
    // SAFETY: `attr` is one of the structures above, a prefix of union bpf_attr for `command`, exclusively borrowed and as long as
    // the size says; the kernel takes missing fields as zero. Pointers inside are to buffers that the caller holds over the call.
    let value = unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut T, std::mem::size_of::<T>()) };
    super::ret(value)
}

/// Loads a device program made of eBPF instructions.
pub(crate) fn load_device_program(instructions: &[u64]) -> SysResult<OwnedFd> {
    // The kernel offers its GPL-only functions to programs with a GPL licence only; this one calls none.
    let license = c"Apache-2.0";
    let mut attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(instructions.len()).map_err(|_| Errno(libc::E2BIG))?,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..LoadAttr::default()
    };
    // EAGAIN: the verifier was interrupted by a signal.
    for _ in 0..5 {
        match bpf(BPF_PROG_LOAD, &mut attr) {
            Err(Errno(libc::EAGAIN)) => {}
            result => return result.map(owned),
        }
    }
    Err(Errno(libc::EAGAIN))
}

/// Attaches a device program to a cgroup, in place of `old` if given (Linux 5.6).
pub(crate) fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    old: Option<BorrowedFd<'_>>,
) -> SysResult<()> {
    let mut attr = AttachAttr {
        target_fd: field(cgroup),
        attach_bpf_fd: field(program),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI | if old.is_some() { BPF_F_REPLACE } else { 0 },
        replace_bpf_fd: old.map_or(0, field),
    };
    bpf(BPF_PROG_ATTACH, &mut attr).map(drop)
}

/// Detaches a device program from a cgroup.
pub(crate) fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> SysResult<()> {
    let mut attr = AttachAttr {
        target_fd: field(cgroup),
        attach_bpf_fd: field(program),
        attach_type: BPF_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    bpf(BPF_PROG_DETACH, &mut attr).map(drop)
}

/// The device programs that are attached to this cgroup itself.
pub(crate) fn device_programs(cgroup: BorrowedFd<'_>) -> SysResult<Vec<OwnedFd>> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut attr = QueryAttr {
        target_fd: field(cgroup),
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: 64,
        ..QueryAttr::default()
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    let count = usize::try_from(attr.prog_cnt).unwrap_or(0).min(MAX_PROGRAMS);
    ids.iter().take(count).map(|id| program_by_id(*id)).collect()
}

fn program_by_id(id: u32) -> SysResult<OwnedFd> {
    let mut attr = IdAttr { id, ..IdAttr::default() };
    bpf(BPF_PROG_GET_FD_BY_ID, &mut attr).map(owned)
}
