//! The ends of processes: their exit statuses are not lost, and nobody waits for ever.

use super::{OWN, Place, sys};
use libcontainer::{
    Bundle, Container, ContainerId, CreateOptions, Delete, ErrorKind, ExecOptions, ExecProcess, ExitStatus,
    Object, Runtime, Signal, Status, Stdio,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio as Pipe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const KILLED: ExitStatus = ExitStatus::Signaled(9);
/// So long that only what hangs takes it.
const PATIENCE: Duration = Duration::from_secs(20);

fn started(place: &Place, name: &str, args: &[&str], namespaces: &str) -> (Runtime, Container) {
    let runtime = Runtime::open(place.state()).unwrap();
    let bundle = Bundle::load(place.bundle(name, args, namespaces, "")).unwrap();
    let options = CreateOptions::new(Stdio::inherit());
    let mut container = runtime.create(&ContainerId::new(name).unwrap(), &bundle, options).unwrap();
    container.start().unwrap();
    (runtime, container)
}

fn exec(container: &Container, args: &[&str]) -> ExecProcess {
    let mut process = container.process_spec().clone();
    process.set_args(Some(args.iter().map(|arg| (*arg).to_owned()).collect()));
    container.exec(&process, ExecOptions::new(Stdio::inherit())).unwrap()
}

fn is_readable(fd: impl AsFd, timeout: PollTimeout) -> bool {
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout).unwrap() == 1
}

fn ends(fd: impl AsFd) -> bool {
    is_readable(fd, PollTimeout::try_from(PATIENCE).unwrap())
}

/// Whether the kernel keeps exit statuses (Linux 6.15).
fn keeps_statuses() -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_str().unwrap().to_owned();
    let mut numbers = release.split(['.', '-']).map_while(|word| word.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

pub(super) fn waits_for_children(place: &Place) {
    let (_, container) = started(place, "twice", &["busybox", "sleep", "1000"], OWN);
    let process = exec(&container, &["sh", "-c", "exit 3"]);
    std::thread::scope(|scope| {
        let waits: Vec<_> = (0..4).map(|_| scope.spawn(|| process.wait().unwrap())).collect();
        for wait in waits {
            assert_eq!(wait.join().unwrap(), ExitStatus::Exited(3));
        }
    });
    assert_eq!(process.try_wait().unwrap(), Some(ExitStatus::Exited(3)));
    let process = exec(&container, &["busybox", "sleep", "1000"]);
    assert_eq!(process.try_wait().unwrap(), None);
    assert_eq!(process.wait_timeout(Duration::from_millis(1)).unwrap(), None);
    process.kill(Signal::KILL).unwrap();
    assert_eq!(process.wait_timeout(PATIENCE).unwrap(), Some(KILLED));
    assert_eq!(container.try_wait().unwrap(), None);
    assert_eq!(container.wait_timeout(Duration::from_millis(1)).unwrap(), None);
    container.kill(Signal::KILL).unwrap();
    assert_eq!((container.wait().unwrap(), container.wait().unwrap()), (KILLED, KILLED));
    assert_eq!(container.wait_timeout(PATIENCE).unwrap(), Some(KILLED));
    let error = container.kill(Signal::TERM).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongState, "{error}");
    assert_eq!(container.delete(Delete::Stopped).unwrap(), Some(KILLED));
}

/// The helper process of `waits_for_others`: creates a container, and reaps it when its input ends.
pub(super) fn parent(state: &Path, bundle: &Path, id: &str) {
    let runtime = Runtime::open(state).unwrap();
    let options = CreateOptions::new(Stdio::inherit());
    let bundle = Bundle::load(bundle).unwrap();
    let mut container = runtime.create(&ContainerId::new(id).unwrap(), &bundle, options).unwrap();
    container.start().unwrap();
    println!("started");
    let _ = std::io::stdin().lines().count();
    container.wait().unwrap();
}

pub(super) fn waits_for_others(place: &Place) {
    let bundle = place.bundle("others", &["busybox", "sleep", "1000"], OWN, "");
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["parent".as_ref(), place.state().as_os_str(), bundle.as_os_str(), "others".as_ref()])
        .stdin(Pipe::piped())
        .stdout(Pipe::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    let runtime = Runtime::open(place.state()).unwrap();
    let load = || runtime.load(&ContainerId::new("others").unwrap()).unwrap();
    let container = load();
    let error = container.wait().unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::NotFound, Some(Object::Child)), "{error}");
    assert_eq!(container.try_wait().unwrap(), None);
    assert!(!is_readable(&container, PollTimeout::ZERO));
    container.kill(Signal::KILL).unwrap();
    assert!(ends(&container));
    drop(parent.stdin.take());
    assert!(parent.wait().unwrap().success());
    let unknown = |result: libcontainer::Result<ExitStatus>| {
        let error = result.unwrap_err();
        assert_eq!(
            (error.kind(), error.object()),
            (ErrorKind::NotFound, Some(Object::ExitStatus)),
            "{error}"
        );
    };
    if keeps_statuses() {
        assert_eq!((container.wait().unwrap(), container.try_wait().unwrap()), (KILLED, Some(KILLED)));
    } else {
        unknown(container.wait());
    }
    // A handle that is made now finds no process at all.
    let late = load();
    unknown(late.wait());
    assert!(late.pidfd().is_none() && ends(&late));
    assert_eq!(late.delete(Delete::Stopped).unwrap(), None);
}

pub(super) fn zombies_of_execs(place: &Place) {
    let shared = r#",{"type":"uts"}"#;
    for (name, namespaces) in [("zombies", OWN), ("zombies-shared", shared)] {
        let args = ["busybox", "sleep", "1000"];
        let (_, container) = started(place, name, &args, namespaces);
        let ended = exec(&container, &["sh", "-c", "exit 4"]);
        assert!(ends(&ended));
        let running = exec(&container, &args);
        assert_eq!(container.delete(Delete::Force).unwrap(), Some(KILLED), "{name}");
        // They are reaped, and those who still have them learn how they ended.
        assert_eq!(
            (ended.wait().unwrap(), running.wait().unwrap()),
            (ExitStatus::Exited(4), KILLED),
            "{name}"
        );
    }
    // Handles that are gone, of processes that somebody else's handle of the container has started.
    let (runtime, container) = started(place, "dropped-execs", &["busybox", "sleep", "1000"], OWN);
    let id = container.id().clone();
    assert!(ends(exec(&container, &["busybox", "true"])));
    drop(exec(&container, &["busybox", "sleep", "1000"]));
    drop(container);
    assert_eq!(runtime.load(&id).unwrap().delete(Delete::Force).unwrap(), Some(KILLED));
    // The wait for the container is not held up either.
    let (_, container) = started(place, "killed", &["busybox", "sleep", "1000"], OWN);
    drop(exec(&container, &["busybox", "sleep", "1000"]));
    container.kill(Signal::KILL).unwrap();
    assert_eq!(container.wait_timeout(PATIENCE).unwrap(), Some(KILLED));
    container.delete(Delete::Stopped).unwrap();
}

/// Of a process that has ended, which nobody has reaped.
fn reaped(process: &OwnedFd) -> WaitStatus {
    waitid(Id::PIDFd(process.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG).unwrap()
}

fn is_killed(status: WaitStatus) -> bool {
    matches!(status, WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGKILL, _))
}

pub(super) fn execs_by_descriptor(place: &Place) {
    let (runtime, container) = started(place, "descriptors-of-execs", &["busybox", "sleep", "1000"], OWN);
    let other = runtime.load(container.id()).unwrap();
    let processes =
        [&container, &other].map(|handle| exec(handle, &["busybox", "sleep", "1000"]).into_pidfd());
    let left = exec(&other, &["busybox", "sleep", "1000"]).into_pidfd();
    container.kill(Signal::KILL).unwrap();
    for process in &processes {
        assert!(ends(process));
        // It is one of those that keep the container from exiting.
        assert_eq!(container.try_wait().unwrap(), None);
        assert!(is_killed(reaped(process)));
    }
    // Another that nobody reaps does not keep it for ever, not even from a caller that never waits for long.
    let begin = Instant::now();
    while container.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < PATIENCE, "the container does not exit");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(left);
    container.delete(Delete::Stopped).unwrap();
}

/// A container's program whose first thread ends alone, once there is a file `/go`.
pub(super) fn leaderless() {
    std::thread::spawn(|| std::thread::sleep(Duration::from_secs(1000)));
    while !Path::new("/go").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    sys::end_thread();
}

pub(super) fn without_leader(place: &Place) {
    if !cfg!(target_feature = "crt-static") {
        println!(
            "skipped: the container's program is this one, which is not static (RUSTFLAGS=-Ctarget-feature=+crt-static)"
        );
        return;
    }
    let rootfs = place.bundle("leaderless", &[], OWN, "").join("rootfs");
    std::fs::copy(std::env::current_exe().unwrap(), rootfs.join("bin/self")).unwrap();
    let (_, container) = started(place, "leaderless", &["/bin/self", "leaderless"], OWN);
    let process = exec(&container, &["busybox", "sleep", "1000"]);
    std::fs::write(rootfs.join("go"), "").unwrap();
    let stat = format!("/proc/{}/stat", container.pid());
    let begin = Instant::now();
    while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
        assert!(begin.elapsed() < PATIENCE, "the first thread does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(container.state().unwrap().status, Status::Running);
    process.kill(Signal::KILL).unwrap();
    assert!(ends(&process));
    let process = process.into_pidfd();
    // For longer than one that is exiting is given.
    assert_eq!(container.wait_timeout(Duration::from_secs(2)).unwrap(), None);
    assert!(is_killed(reaped(&process)));
    let refused = container.delete(Delete::Stopped).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::WrongState, "{refused}");
    assert_eq!(refused.container.delete(Delete::Force).unwrap(), Some(KILLED));
}

pub(super) fn dropped_handles(place: &Place) {
    for by_delete in [true, false] {
        let (runtime, container) = started(place, "dropped-handle", &["sh", "-c", "exit 7"], OWN);
        let id = container.id().clone();
        assert!(ends(&container));
        drop(container);
        let container = runtime.load(&id).unwrap();
        assert_eq!(container.state().unwrap().status, Status::Stopped);
        assert!(container.processes().unwrap().is_empty());
        let error = container.kill(Signal::KILL).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongState, "{error}");
        if !by_delete {
            assert_eq!(container.wait().unwrap(), ExitStatus::Exited(7));
        }
        assert_eq!(container.delete(Delete::Stopped).unwrap(), Some(ExitStatus::Exited(7)));
    }
}

pub(super) fn refused_deletes(place: &Place) {
    let (_, container) = started(place, "refused", &["busybox", "sleep", "1000"], OWN);
    let refused = container.delete(Delete::Stopped).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::WrongState, "{refused}");
    assert_eq!(refused.container.state().unwrap().status, Status::Running);
    assert_eq!(refused.container.delete(Delete::Force).unwrap(), Some(KILLED));
}

/// Copies of this process have the child's end of the socket, which closes in none of them.
pub(super) fn forks_meanwhile(place: &Place) {
    let runtime = Runtime::open(place.state()).unwrap();
    let bundle = Bundle::load(place.bundle("forks", &["busybox", "sleep", "1000"], OWN, "")).unwrap();
    let copies = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    let end_copies = || {
        for copy in copies.lock().unwrap().drain(..) {
            nix::sys::signal::kill(copy, nix::sys::signal::Signal::SIGKILL).unwrap();
            nix::sys::wait::waitpid(copy, None).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if copies.lock().unwrap().len() < 500 {
                    let copy = sys::idle_copy();
                    copies.lock().unwrap().push(copy);
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let hung = scope.spawn(|| {
            let begin = Instant::now();
            while !stop.load(Ordering::Relaxed) && begin.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(10));
            }
            let hung = !stop.swap(true, Ordering::Relaxed);
            if hung {
                end_copies();
            }
            hung
        });
        for number in 0..20 {
            let id = ContainerId::new(format!("forks-{number}")).unwrap();
            let options = CreateOptions::new(Stdio::inherit()).start_here(number % 2 == 0);
            let mut container = runtime.create(&id, &bundle, options).unwrap();
            container.start().unwrap();
            assert_eq!(exec(&container, &["busybox", "true"]).wait().unwrap(), ExitStatus::Exited(0));
            container.delete(Delete::Force).unwrap();
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(!hung.join().unwrap(), "a launch waits for a process that is not its own");
    });
    end_copies();
}
