//! sd_notify(3) for containers: a socket at /run/notify in the container. `READY=1` from there is passed to the service manager's socket
//! in $NOTIFY_SOCKET, with MAINPID. Nothing else that a container sends reaches the manager.

use crate::context::Context;
use crate::failure::Failure;
use crate::process_spec::add_env;
use libcontainer::{Bundle, ContainerId};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, sendmsg, socket,
};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The path of the socket's directory in the container.
const INSIDE: &str = "/run/notify";
const NAME: &str = "notify.sock";
/// How long to wait for the manager's answer to a barrier, in milliseconds. A manager without barriers never answers.
const BARRIER: u16 = 30_000;

/// A container's notify socket, in a directory next to the state root.
#[derive(Debug)]
pub(crate) struct Notify {
    dir: PathBuf,
    /// The manager's socket: a path, or `@` and an abstract name.
    manager: String,
}

impl Notify {
    /// `None` without a manager.
    pub(crate) fn new(context: &Context<'_>, id: &ContainerId) -> Option<Self> {
        let manager = std::env::var("NOTIFY_SOCKET").ok().filter(|m| !m.is_empty())?;
        Some(Notify { dir: dir(context, id), manager })
    }

    /// The same for a container that `create` made; `None` also if `create` had no manager.
    pub(crate) fn of_created(context: &Context<'_>, id: &ContainerId) -> Option<Self> {
        Notify::new(context, id).filter(|notify| notify.dir.is_dir())
    }

    /// Makes the directory and mounts it in the container.
    pub(crate) fn prepare(&self, bundle: &mut Bundle) -> Result<(), Failure> {
        let failure = |e| Failure::os(format_args!("create {:?}", self.dir), "mkdir", e);
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.dir).map_err(failure)?;
        let mount = serde_json::json!({
            "destination": INSIDE, "source": self.dir, "options": ["bind", "nosuid", "noexec", "nodev", "ro"],
        });
        let mount =
            serde_json::from_value(mount).map_err(|e| Failure::new(format!("mount {INSIDE}: {e}")))?;
        let spec = bundle.spec_mut();
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        mounts.push(mount);
        spec.set_mounts(Some(mounts));
        add_env(bundle, [format!("NOTIFY_SOCKET={INSIDE}/{NAME}")]);
        Ok(())
    }

    /// Listens. Called before the container's program runs.
    pub(crate) fn listen(&self) -> Result<Listening<'_>, Failure> {
        let failure =
            |call: &str, e: std::io::Error| Failure::os(format_args!("listen on {:?}", self.dir), call, e);
        let mut options = std::fs::OpenOptions::new();
        let flags = (OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits();
        let dir = options.read(true).custom_flags(flags).open(&self.dir).map_err(|e| failure("open", e))?;
        // By descriptor, since the path may be too long for an address.
        let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(NAME);
        let _ = std::fs::remove_file(&path);
        let socket = datagram_socket().map_err(|e| failure("socket", e.into()))?;
        let address = UnixAddr::new(&path).map_err(|e| failure("bind", e.into()))?;
        bind(socket.as_raw_fd(), &address).map_err(|e| failure("bind", e.into()))?;
        // The container's processes may have any user.
        let all = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&path, all).map_err(|e| failure("chmod", e))?;
        Ok(Listening { notify: self, socket })
    }
}

/// Removes a container's notify socket and its directory, if it had one.
pub(crate) fn remove(context: &Context<'_>, id: &ContainerId) {
    let dir = dir(context, id);
    if std::fs::remove_dir(&dir).is_err_and(|e| e.raw_os_error() == Some(Errno::ENOTEMPTY as i32)) {
        let _ = std::fs::remove_file(dir.join(NAME));
        let _ = std::fs::remove_dir(&dir);
    }
}

/// The directory of a container's socket: next to the root, since in the root every directory is a container.
fn dir(context: &Context<'_>, id: &ContainerId) -> PathBuf {
    let name = context.root.file_name().and_then(|n| n.to_str()).unwrap_or("knarr");
    context.root.with_file_name(format!("{name}-notify")).join(id)
}

/// A socket that the container can send to.
#[derive(Debug)]
pub(crate) struct Listening<'a> {
    notify: &'a Notify,
    socket: OwnedFd,
}

impl Listening<'_> {
    /// Waits until the container is ready or has ended. The manager learns that the service's main process is `main_pid`.
    pub(crate) fn wait(&self, process: BorrowedFd<'_>, main_pid: i32) -> Result<(), Failure> {
        loop {
            let mut set = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(process, PollFlags::POLLIN),
            ];
            match poll(&mut set, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(Failure::os("wait for the container's READY=1", "poll", e)),
            }
            let ended = set[1].any().unwrap_or(true);
            if self.pass_on(main_pid)? || ended {
                return Ok(());
            }
        }
    }

    /// Reads what the container sent and notifies the manager if it is ready. Returns whether it is.
    pub(crate) fn pass_on(&self, main_pid: i32) -> Result<bool, Failure> {
        let mut buffer = [0; 4096];
        while let Ok(length) = nix::unistd::read(&self.socket, &mut buffer) {
            if let Some(ready) = ready_line(&buffer[..length]) {
                self.notify_manager(ready, main_pid)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn notify_manager(&self, ready: &[u8], main_pid: i32) -> Result<(), Failure> {
        let failure =
            |call: &str, e: Errno| Failure::os(format_args!("notify {:?}", self.notify.manager), call, e);
        let socket = datagram_socket().map_err(|e| failure("socket", e))?;
        let address = match self.notify.manager.strip_prefix('@') {
            Some(name) => UnixAddr::new_abstract(name.as_bytes()),
            None => UnixAddr::new(self.notify.manager.as_str()),
        };
        connect(socket.as_raw_fd(), &address.map_err(|e| failure("connect", e))?)
            .map_err(|e| failure("connect", e))?;
        let send = |text: &[u8], rights: &[ControlMessage<'_>]| {
            sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(text)], rights, MsgFlags::MSG_NOSIGNAL, None)
        };
        send(&[ready, b"\n"].concat(), &[]).map_err(|e| failure("sendmsg", e))?;
        send(format!("MAINPID={main_pid}\n").as_bytes(), &[]).map_err(|e| failure("sendmsg", e))?;
        // The manager closes its copy of the pipe when it has read the messages. Until then the sender must not end: the manager
        // identifies it by its pid.
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| failure("pipe2", e))?;
        send(b"BARRIER=1", &[ControlMessage::ScmRights(&[write.as_raw_fd()])])
            .map_err(|e| failure("sendmsg", e))?;
        drop(write);
        let mut set = [PollFd::new(read.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut set, PollTimeout::from(BARRIER));
        Ok(())
    }
}

impl AsFd for Listening<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn datagram_socket() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Datagram, flags, None)
}

/// The line `READY=…` of a message.
fn ready_line(message: &[u8]) -> Option<&[u8]> {
    message.split(|b| *b == b'\n').find(|line| line.starts_with(b"READY="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn readiness_is_one_line_of_a_message() {
        for (message, line) in [
            ("READY=1", Some("READY=1")),
            ("STATUS=up\nREADY=1\nMAINPID=7\n", Some("READY=1")),
            ("STATUS=READY=1", None),
            ("", None),
        ] {
            assert_eq!(ready_line(message.as_bytes()), line.map(str::as_bytes), "{message:?}");
        }
    }

    #[test]
    fn the_manager_learns_only_of_readiness_and_the_main_process() {
        let dir = std::env::temp_dir().join(format!("knarr-notify-test-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("c")).unwrap();
        let manager = UnixDatagram::bind(dir.join("manager")).unwrap();
        let notify = Notify { dir: dir.join("c"), manager: dir.join("manager").to_str().unwrap().to_owned() };
        let listening = notify.listen().unwrap();
        let container = UnixDatagram::unbound().unwrap();
        container.connect(dir.join("c").join(NAME)).unwrap();
        container.send(b"STATUS=not yet").unwrap();
        assert!(!listening.pass_on(42).unwrap());
        container.send(b"STATUS=secret\nREADY=1").unwrap();
        let received = std::thread::spawn(move || {
            let read = || {
                let mut buffer = [0; 100];
                let length = manager.recv(&mut buffer).unwrap();
                String::from_utf8(buffer[..length].to_vec()).unwrap()
            };
            // Reading the barrier without taking its descriptor closes it.
            [read(), read(), read()]
        });
        assert!(listening.pass_on(42).unwrap());
        assert_eq!(received.join().unwrap(), ["READY=1\n", "MAINPID=42\n", "BARRIER=1"]);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
