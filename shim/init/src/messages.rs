//! The texts of `knarr-init`.

/// The output of `--version`. Docker and podman expect the line to begin with tini's name.
pub const VERSION: &str = concat!("tini version ", env!("CARGO_PKG_VERSION"), "_knarr-init\n");

/// The output of `-h`.
pub const HELP: &str = concat!(
    "knarr-init ",
    env!("CARGO_PKG_VERSION"),
    ", init process for containers: forwards signals and reaps processes\n",
    "usage: knarr-init [OPTION]... [--] PROGRAM [ARGUMENT]...\n",
    "       knarr-init -P\n\n",
    "  -c, --single-child     forward signals to the program only (default, except as dumb-init)\n",
    "  -e N                   treat the program's exit status N as 0 (may be repeated)\n",
    "  -g                     forward signals to the program's process group\n",
    "  -k SECONDS             after the program exits, send SIGTERM to the remaining processes and wait at most SECONDS\n",
    "  -p SIGNAL              forward this signal when the parent process dies\n",
    "  -P                     run no program: only reap, until SIGTERM or SIGINT\n",
    "  -r, --rewrite FROM:TO  forward TO instead of FROM, nothing if TO is 0 (may be repeated)\n",
    "  -s                     become a subreaper (default when not PID 1)\n",
    "  -v, --verbose          be more verbose (may be repeated)\n",
    "  -w                     warn about reaped orphans\n",
    "  -h, --help   -l, -L, --license   -V, --version\n\n",
    "Exit status: the program's, 128+N if signal N ended it, 127 not found, 126 cannot be executed, 1 other errors.\n",
    "Environment: TINI_SUBREAPER, TINI_KILL_PROCESS_GROUP, TINI_VERBOSITY=N, DUMB_INIT_SETSID=0|1, DUMB_INIT_DEBUG=1\n",
);

/// The output of `-l`.
pub const LICENCE: &str = concat!(
    "knarr-init is part of knarr, ",
    env!("CARGO_PKG_REPOSITORY"),
    "\nLicensed under the Apache License, Version 2.0: http://www.apache.org/licenses/LICENSE-2.0\n",
    "Without warranties or conditions of any kind, either express or implied.\n"
);

/// The errors of running a program.
pub(crate) const ERRORS: [(u32, &str); 15] = {
    use linux_raw_sys::errno as e;
    [
        (e::ENOENT, "no such file or directory (ENOENT)"),
        (e::EACCES, "permission denied (EACCES)"),
        (e::ENOTDIR, "not a directory (ENOTDIR)"),
        (e::ENOEXEC, "not a program (ENOEXEC)"),
        (e::ELOOP, "too many symbolic links (ELOOP)"),
        (e::ENAMETOOLONG, "name too long (ENAMETOOLONG)"),
        (e::EISDIR, "is a directory (EISDIR)"),
        (e::ETXTBSY, "open for writing (ETXTBSY)"),
        (e::E2BIG, "arguments and environment too long (E2BIG)"),
        (e::ENOMEM, "out of memory (ENOMEM)"),
        (e::EPERM, "operation not permitted (EPERM)"),
        (e::EINVAL, "invalid argument (EINVAL)"),
        (e::EAGAIN, "resource temporarily unavailable (EAGAIN)"),
        (e::ESRCH, "no such process (ESRCH)"),
        (e::EIO, "input or output error (EIO)"),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    /// moby's daemon/info_unix.go: the part before " - " must begin with "tini version ".
    #[test]
    fn docker_finds_a_version() {
        let first = VERSION.trim_end().split(" - ").next().and_then(|v| v.strip_prefix("tini version "));
        assert!(first.is_some_and(|v| v.starts_with(char::is_numeric)), "{VERSION}");
    }

    #[test]
    fn help_fits_a_screen() {
        assert!(HELP.lines().all(|l| l.len() <= 120) && HELP.lines().count() < 24);
    }
}
