//! CRIU as a program of the host: finds it in PATH, starts it with a socket, sends a request, answers its notices, and waits for it.
//!
//! `criu swrk FD` serves one request on a SOCK_SEQPACKET socket (criu(8), "RPC"). It opens directories that are given as
//! numbers through /proc/PID/fd of the process that made the socket, so they need not be passed to it.

use super::files;
use super::rpc::{Features, Kind, NFTABLES, Notice, Request, Response};
use crate::cgroup::{Cgroup, Dir};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::launch::hooks::NoWatch;
use crate::launch::{self, Job};
use crate::plan::restore::Program;
use crate::plan::{self, ProcessPlan, c_string};
use crate::process::Stdio;
use crate::signal::{self, ExitStatus};
use crate::sys::pidfd::{self, Child};
use crate::sys::{fs, sock};
use prost::Message;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// 3.17, of 2022, as in Debian 12. Older versions lack the cgroup v2 freezer, time namespaces and LSM profiles.
const OLDEST: i32 = 31700;
/// CRIU's messages have a few hundred bytes.
const MESSAGE: usize = 64 << 10;
/// Descriptors for CRIU are above the streams, so that they keep their numbers.
const ABOVE_STDIO: i32 = 3;

/// The program.
#[derive(Debug)]
pub(super) struct Criu {
    path: CString,
}

/// The environment of CRIU: for a restore, the container's cgroup and its mounted root.
pub(super) struct Surroundings<'a> {
    pub(super) stdio: Stdio,
    pub(super) cgroup: &'a Cgroup,
    pub(super) cgroup_dir: Option<&'a Dir>,
    /// The plan of the container that is restored.
    pub(super) create: Option<&'a ProcessPlan>,
    /// Further descriptors for CRIU.
    pub(super) handed: Vec<OwnedFd>,
}

/// CRIU, waiting for a request or working on one. Dropping it kills CRIU.
#[derive(Debug)]
pub(super) struct Session {
    socket: OwnedFd,
    pub(super) process: Child,
    pub(super) pid: i32,
}

impl Criu {
    /// The first `criu` in PATH, if it is new enough.
    pub(super) fn find() -> Result<Self> {
        let found = in_path("criu");
        let path = found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "criu: executable file not found in $PATH")
                .hint("install criu 3.17 or newer")
        })?;
        let criu = Criu { path };
        let version = criu.version().with_context(|| format!("get the version of {:?}", criu.path))?;
        if version < OLDEST {
            let (major, minor) = (version / 10_000, version / 100 % 100);
            let message = format!("{:?} is CRIU {major}.{minor}: 3.17 or newer is required", criu.path);
            return Err(Error::unsupported(message));
        }
        Ok(criu)
    }

    /// 31701 for 3.17.1.
    fn version(&self) -> Result<i32> {
        let request = Request { kind: Kind::Version as i32, ..Request::default() };
        let session = self.start(Surroundings::host()?)?;
        let response = session.ask(&request, &mut |_, _| Ok(()))?;
        session.end()?;
        let version = response.version.ok_or_else(|| malformed("a response without a version"))?;
        Ok(version.major * 10_000 + version.minor * 100 + version.sublevel.unwrap_or(0))
    }

    /// Its features on this kernel.
    pub(super) fn features(&self) -> Result<Features> {
        let features = Features { mem_track: Some(true), lazy_pages: Some(true) };
        let request =
            Request { kind: Kind::FeatureCheck as i32, features: Some(features), ..Request::default() };
        let session = self.start(Surroundings::host()?)?;
        let response = session.ask(&request, &mut |_, _| Ok(())).context("get criu's features")?;
        session.end()?;
        response.features.ok_or_else(|| malformed("a response without features"))
    }

    /// Starts it.
    pub(super) fn start(&self, surroundings: Surroundings<'_>) -> Result<Session> {
        let (socket, theirs) = sock::pair().context("socketpair")?;
        let theirs = move_above_stdio(theirs)?;
        let number = c_string("criu", theirs.as_raw_fd().to_string())?;
        let mut handed = vec![theirs];
        handed.extend(surroundings.handed);
        // PATH for its helpers (ip, iptables, tar), and its own variables for its plugins.
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
        });
        let program = Program {
            path: self.path.clone(),
            argv: vec![c"criu".to_owned(), c"swrk".to_owned(), number],
            envp: environment.collect(),
            descriptors: u16::try_from(handed.len()).unwrap_or(0),
        };
        let plan = plan::restore::criu(program, surroundings.create);
        let job = Job {
            cgroup_dir: surroundings.cgroup_dir,
            handed,
            ..Job::new(plan, surroundings.stdio, surroundings.cgroup)
        };
        let launched = launch::launch(job, &mut NoWatch).with_context(|| format!("start {:?}", self.path))?;
        let (pid, process, _) = launched.release()?;
        Ok(Session { socket, process: Child::new(process), pid })
    }
}

/// The first program of this name in the caller's PATH.
fn in_path(name: &str) -> Option<CString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).filter(|dir| dir.is_absolute()).find_map(|dir| {
        let file = CString::new(dir.join(name).as_os_str().as_bytes()).ok()?;
        fs::may_execute(&file).is_ok().then_some(file)
    })
}

/// How the network is locked: CRIU's default are two programs that a machine with nftables may lack.
pub(super) fn network_lock() -> Option<i32> {
    let programs = ["iptables-restore", "ip6tables-restore"].map(in_path);
    programs.contains(&None).then_some(NFTABLES)
}

/// Moves a descriptor above the streams: CRIU gets it under the number that it has here.
pub(super) fn move_above_stdio(fd: OwnedFd) -> Result<OwnedFd> {
    if fd.as_raw_fd() >= ABOVE_STDIO {
        return Ok(fd);
    }
    fs::dup_above(fd.as_fd(), ABOVE_STDIO).context("fcntl(F_DUPFD_CLOEXEC)")
}

impl Surroundings<'_> {
    /// The caller's, with null streams: CRIU writes to its log.
    pub(super) fn host() -> Result<Self> {
        Ok(Surroundings {
            stdio: null_stdio()?,
            cgroup: &Cgroup::None,
            cgroup_dir: None,
            create: None,
            handed: Vec::new(),
        })
    }
}

/// Null streams.
pub(super) fn null_stdio() -> Result<Stdio> {
    Ok(Stdio::Fds { stdin: files::null()?, stdout: files::null()?, stderr: files::null()? })
}

impl Session {
    /// Sends a request and returns the response. Meanwhile CRIU sends notices, perhaps with a descriptor; it waits until `notice` has
    /// returned, and gives up if that fails.
    pub(super) fn ask(
        &self,
        request: &Request,
        notice: &mut dyn FnMut(&Notice, Option<OwnedFd>) -> Result<()>,
    ) -> Result<Response> {
        self.send(request)?;
        loop {
            let (response, fd) = self.receive()?;
            if response.kind == Kind::Notify as i32 && response.success {
                let told = response.notify.ok_or_else(|| malformed("an empty notice"))?;
                let done = notice(&told, fd);
                let answer = Request {
                    kind: Kind::Notify as i32,
                    notify_success: Some(done.is_ok()),
                    ..Request::default()
                };
                if let Err(error) = done {
                    // CRIU undoes its work; our error is the cause.
                    let _ = self.send(&answer).and_then(|()| self.receive());
                    return Err(error);
                }
                self.send(&answer)?;
                continue;
            }
            if response.kind == request.kind && response.success {
                return Ok(response);
            }
            return Err(failed(&response));
        }
    }

    fn send(&self, request: &Request) -> Result<()> {
        sock::send(self.socket.as_fd(), &request.encode_to_vec()).context("write to criu")
    }

    fn receive(&self) -> Result<(Response, Option<OwnedFd>)> {
        // Its death may not close the socket: the processes that it was about to restore have copies.
        let (answered, ended) =
            pidfd::either_readable(self.socket.as_fd(), self.process.as_fd()).context("poll")?;
        if ended && !answered {
            return Err(Error::criu("criu exited without a response"));
        }
        let mut buffer = vec![0u8; MESSAGE];
        let (length, fd) = sock::receive(self.socket.as_fd(), &mut buffer).context("recvmsg from criu")?;
        if length == 0 {
            return Err(Error::criu("criu exited without a response"));
        }
        let response = Response::decode(buffer.get(..length).unwrap_or_default());
        response.map(|response| (response, fd)).map_err(|e| malformed(&e.to_string()))
    }

    /// Closes the socket, which ends it, and waits until it has ended.
    pub(super) fn end(self) -> Result<ExitStatus> {
        let Session { socket, process, .. } = self;
        drop(socket);
        signal::wait_for(process)
    }
}

fn malformed(what: &str) -> Error {
    Error::criu(format!("unexpected message from criu: {what}"))
}

/// The reasons are in CRIU's log; the response has an errno at best.
fn failed(response: &Response) -> Error {
    let errno = response.errno.filter(|errno| *errno > 0);
    match errno {
        Some(errno) => Error::os("criu", std::io::Error::from_raw_os_error(errno)),
        None => Error::criu("criu failed"),
    }
}
