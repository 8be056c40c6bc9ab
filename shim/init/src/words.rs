//! All that `knarr-init` says at length. It must not know when.

/// What `--version` says. Docker and podman want the line to begin with tini's name.
pub const VERSION: &str = concat!("tini version ", env!("CARGO_PKG_VERSION"), "_knarr-init\n");

/// What `-h` says.
pub const HELP: &str = concat!(
    "knarr-init ",
    env!("CARGO_PKG_VERSION"),
    ", the first process of a container: passes signals on and reaps what is left\n",
    "usage: knarr-init [OPTION]... [--] PROGRAM [ARGUMENT]...\n",
    "       knarr-init -P\n\n",
    "  -c, --single-child     signals go to the program alone (usual, but not when called as dumb-init)\n",
    "  -e N                   exit status N of the program becomes 0 (may be repeated)\n",
    "  -g                     signals go to the program's process group\n",
    "  -k SECONDS             after the program ended: SIGTERM to what is left, and so long to end\n",
    "  -p SIGNAL              get and pass on this signal when the parent process dies\n",
    "  -P                     run no program: reap, and end by SIGTERM or SIGINT\n",
    "  -r, --rewrite FROM:TO  pass TO on in the place of FROM; 0 is nothing (may be repeated)\n",
    "  -s                     be a subreaper (done anyway when not the first process)\n",
    "  -v, --verbose          say more (may be repeated)\n",
    "  -w                     warn of each process that is reaped for others\n",
    "  -h, --help   -l, -L, --license   -V, --version\n\n",
    "Exit status: the program's, or 128 and its signal; 127 not found, 126 can not be run, 1 anything else.\n",
    "Environment: TINI_SUBREAPER, TINI_KILL_PROCESS_GROUP, TINI_VERBOSITY=N, DUMB_INIT_SETSID=0|1, DUMB_INIT_DEBUG=1\n",
);

/// What `-l` says.
pub const LICENCE: &str = concat!(
    "knarr-init is part of knarr, ",
    env!("CARGO_PKG_REPOSITORY"),
    "\nLicensed under the Apache License, Version 2.0: http://www.apache.org/licenses/LICENSE-2.0\n",
    "Without warranties or conditions of any kind, either express or implied.\n"
);

/// The errors that running a program can end with.
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
        (e::EAGAIN, "no room for another process or signal (EAGAIN)"),
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
