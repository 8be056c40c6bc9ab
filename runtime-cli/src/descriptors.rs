//! The descriptors that a process gets besides its streams: those of `--preserve-fds` and the sockets of a service manager.

use crate::failure::Failure;
use goflags::Parsed;

/// The number of sockets that a service manager passed (sd_listen_fds(3)); 0 unless they are for this process.
pub(crate) fn listen_fds() -> u32 {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => count,
        _ => 0,
    }
}

/// The number of descriptors from 3 on that the process gets. Each must be the caller's.
pub(crate) fn preserved_fds(parsed: &Parsed, listen: u32) -> Result<u32, Failure> {
    let wanted = parsed.integer("preserve-fds");
    let count = u32::try_from(wanted).ok().and_then(|n| n.checked_add(listen)).filter(|n| *n <= 1 << 20);
    let Some(count) = count else {
        return Err(Failure::new(format!("--preserve-fds {wanted}: out of range")));
    };
    for fd in 3..3 + count {
        // Those of this program are all close-on-exec, and the caller's cannot be: they came through an exec. CVE-2024-21626 was a leak
        // of the program's own descriptors.
        let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))
            .ok()
            .and_then(|text| open_flags(&text));
        if flags.is_none_or(|flags| flags & nix::libc::O_CLOEXEC != 0) {
            return Err(Failure::new(match fd.checked_sub(3 + listen) {
                Some(index) => {
                    format!("unable to stat preserved-fd {index} (of {wanted}): descriptor {fd} is not open")
                }
                None => format!("pass the sockets of $LISTEN_FDS: descriptor {fd} is not open"),
            }));
        }
    }
    Ok(count)
}

/// The line `flags:` of proc_pid_fdinfo(5), octal.
fn open_flags(fdinfo: &str) -> Option<i32> {
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"))?;
    i32::from_str_radix(flags.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn own_descriptors_are_distinguished_from_the_callers() {
        let ours = std::fs::File::open("/dev/null").unwrap();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", ours.as_raw_fd())).unwrap();
        assert_ne!(open_flags(&info).unwrap() & nix::libc::O_CLOEXEC, 0);
        let stdin = std::fs::read_to_string("/proc/self/fdinfo/0").unwrap();
        assert_eq!(open_flags(&stdin).unwrap() & nix::libc::O_CLOEXEC, 0);
        assert_eq!(open_flags("pos:\t0\n"), None);
    }
}
