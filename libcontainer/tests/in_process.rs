//! The library inside a program: many threads may use it at once while others allocate, a failure leaves neither process nor
//! descriptor, and the program's own process stays as it was. Needs root and a static busybox; says `skipped` without them.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "in_process/endings.rs"]
mod endings;
#[path = "in_process/failures.rs"]
mod failures;
#[path = "in_process/sys/mod.rs"]
mod sys;

use libcontainer::{
    Bundle, ContainerId, CreateOptions, Delete, ExitStatus, Overlay, Runtime, Signal, Status, Stdio,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

const BUSYBOX: &str = "/bin/busybox";

type Test = (&'static str, fn(&Place));

const TESTS: &[Test] = &[
    ("two_hundred_containers_are_made_by_four_threads_while_others_allocate", two_hundred),
    ("creates_that_fail_leave_no_process_and_no_descriptor", failing_creates),
    ("a_handle_that_is_dropped_before_its_start_leaves_no_process", dropped_before_start),
    ("four_threads_execute_by_one_handle_and_stay_where_they_are", execs_by_one_handle),
    ("an_exec_is_begun_and_heard_of_later", execs_that_nobody_waits_for),
    ("a_copy_on_write_root_keeps_its_lower_directories_as_they_are", copy_on_write),
    ("a_missing_lower_directory_is_refused_and_leaves_nothing", missing_lower),
    ("an_upper_directory_is_used_by_one_container_at_a_time", failures::upper_twice),
    ("one_directory_alone_is_refused_as_a_copy_on_write_root", failures::one_lower),
    ("a_bundle_without_a_path_takes_absolute_paths_only", failures::relative_paths),
    ("an_error_says_what_was_not_found_and_how_far_it_got", failures::kinds),
    ("hooks_of_the_host_get_the_descriptors_0_to_2_only", failures::hooks_descriptors),
    ("an_exit_status_can_be_asked_for_more_than_once", endings::waits_for_children),
    ("the_end_of_somebody_elses_child_is_told_or_unknown", endings::waits_for_others),
    ("an_exec_that_nobody_has_waited_for_does_not_keep_its_container", endings::zombies_of_execs),
    ("an_exec_that_the_caller_reaps_by_its_descriptor_is_left_to_it", endings::execs_by_descriptor),
    ("a_process_whose_first_thread_has_ended_runs", endings::without_leader),
    ("a_container_whose_handle_was_dropped_is_reaped_by_another", endings::dropped_handles),
    ("a_delete_that_is_refused_gives_the_container_back", endings::refused_deletes),
    ("a_fork_of_another_thread_does_not_hold_up_a_launch", endings::forks_meanwhile),
];

/// A directory and a cgroup of this run.
struct Place {
    dir: PathBuf,
    cgroup: String,
}

fn main() {
    let arguments: Vec<_> = std::env::args_os().collect();
    match arguments.as_slice() {
        [_, word, state, bundle, id] if word == "parent" => {
            return endings::parent(state.as_ref(), bundle.as_ref(), id.to_str().unwrap());
        }
        [_, word] if word == "leaderless" => endings::leaderless(),
        _ => {}
    }
    let skipped = if !nix::unistd::geteuid().is_root() {
        Some("needs root".to_owned())
    } else if !Path::new(BUSYBOX).exists() {
        Some(format!("needs {BUSYBOX} (Debian's busybox-static)"))
    } else {
        None
    };
    println!("\nrunning {} tests", TESTS.len());
    if let Some(why) = skipped {
        TESTS.iter().for_each(|(name, _)| println!("test {name} ... ignored, skipped: {why}"));
        println!("\ntest result: ok. 0 passed; 0 failed; {} ignored\n", TESTS.len());
        return;
    }
    let word = format!("knarr-embedding-{}", std::process::id());
    // glibc installs a handler of its own (signal 33) with a program's first thread.
    std::thread::spawn(|| ()).join().unwrap();
    let place = Place { dir: std::env::temp_dir().join(&word), cgroup: word };
    for (name, test) in TESTS {
        let before = Process::now();
        // panic = "abort" in the profiles: a failure ends the program at once, with the message of its assertion.
        test(&place);
        assert_eq!(before, Process::now(), "{name}: the process is not as it was");
        println!("test {name} ... ok");
    }
    fs::remove_dir_all(&place.dir).unwrap();
    for tree in fs::read_dir("/sys/fs/cgroup").unwrap() {
        let _ = fs::remove_dir(tree.unwrap().path().join(&place.cgroup));
    }
    let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&place.cgroup));
    println!("\ntest result: ok. {} passed; 0 failed; 0 ignored\n", TESTS.len());
}

/// What a library must not change in the process that uses it.
#[derive(Debug, PartialEq)]
struct Process {
    cwd: PathBuf,
    environment: Vec<(String, String)>,
    /// Umask, signal masks and dispositions, capabilities, no_new_privs, seccomp: all as the kernel shows them.
    status: Vec<String>,
    dumpable: bool,
    oom_score_adj: String,
    namespaces: Vec<PathBuf>,
    cgroups: String,
    descriptors: Vec<(PathBuf, PathBuf)>,
    children: Vec<String>,
}

impl Process {
    fn now() -> Process {
        let kept = [
            "Umask",
            "SigBlk",
            "SigIgn",
            "SigCgt",
            "Cap",
            "NoNewPrivs",
            "Seccomp",
            "Uid",
            "Gid",
            "Groups",
            "TracerPid",
        ];
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let links = |folder: &str| -> Vec<(PathBuf, PathBuf)> {
            let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let mut links: Vec<_> =
                entries.filter_map(|path| Some((path.clone(), fs::read_link(&path).ok()?))).collect();
            links.sort();
            links
        };
        let threads = fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
        Process {
            cwd: std::env::current_dir().unwrap(),
            environment: std::env::vars().collect(),
            status: status
                .lines()
                .filter(|line| kept.iter().any(|name| line.starts_with(name)))
                .map(str::to_owned)
                .collect(),
            dumpable: nix::sys::prctl::get_dumpable().unwrap(),
            oom_score_adj: fs::read_to_string("/proc/self/oom_score_adj").unwrap(),
            namespaces: links("/proc/self/ns").into_iter().map(|(_, target)| target).collect(),
            cgroups: fs::read_to_string("/proc/self/cgroup").unwrap(),
            // The one of the reading itself has a target that is gone.
            descriptors: links("/proc/self/fd")
                .into_iter()
                .filter(|(_, target)| !target.ends_with("fd"))
                .collect(),
            children: threads
                .filter_map(|path| fs::read_to_string(path.join("children")).ok())
                .collect::<String>()
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        }
    }
}

impl Place {
    /// A bundle whose program is `args`, with its own cgroup and these namespaces.
    fn bundle(&self, name: &str, args: &[&str], namespaces: &str, mounts: &str) -> PathBuf {
        let path = self.dir.join(name);
        let bin = path.join("rootfs/bin");
        if !bin.exists() {
            fs::create_dir_all(&bin).unwrap();
            fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
            std::os::unix::fs::symlink("busybox", bin.join("sh")).unwrap();
        }
        let cgroup = &self.cgroup;
        let config = format!(
            r#"{{"ociVersion":"1.2.0","root":{{"path":"rootfs"}},
                "process":{{"cwd":"/","user":{{"uid":0,"gid":0}},"args":{args:?},"env":["PATH=/bin"],"capabilities":{{}}}},
                "mounts":[{{"destination":"/proc","type":"proc","source":"proc"}}{mounts}],
                "linux":{{"cgroupsPath":"/{cgroup}/{name}","namespaces":[{{"type":"mount"}},{{"type":"ipc"}}{namespaces}]}}}}"#
        );
        fs::write(path.join("config.json"), config).unwrap();
        path
    }

    fn state(&self) -> PathBuf {
        self.dir.join("state")
    }
}

const OWN: &str = r#",{"type":"pid"},{"type":"uts"},{"type":"network"}"#;

fn two_hundred(place: &Place) {
    let runtime = Runtime::open(place.state()).unwrap();
    let stop = AtomicBool::new(false);
    let bundles: Vec<_> = (0..4)
        .map(|n| Bundle::load(place.bundle(&format!("thread{n}"), &["sh", "-c", "exit 3"], OWN, "")).unwrap())
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // Some thread holds the allocator's lock at nearly every moment.
                let mut kept = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    kept.push(vec![1u8; 100 + kept.len() * 7 % 5000]);
                    if kept.len() > 2000 {
                        kept.clear();
                        std::thread::yield_now();
                    }
                }
            });
        }
        let makers: Vec<_> = bundles
            .iter()
            .enumerate()
            .map(|(thread, bundle)| {
                let runtime = &runtime;
                scope.spawn(move || {
                    for number in 0..50 {
                        let id = ContainerId::new(format!("c{thread}-{number}")).unwrap();
                        let mut options = CreateOptions::new(Stdio::inherit());
                        options.start_here = number % 2 == 1;
                        let mut container = runtime.create(&id, bundle, options).unwrap();
                        container.start().unwrap();
                        assert_eq!(container.wait().unwrap(), ExitStatus::Exited(3));
                        container.delete(Delete::Stopped).unwrap();
                    }
                })
            })
            .collect();
        makers.into_iter().for_each(|maker| maker.join().unwrap());
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(runtime.list().unwrap().states, []);
}

fn failing_creates(place: &Place) {
    let runtime = Runtime::open(place.state()).unwrap();
    let inherit = || CreateOptions::new(Stdio::inherit());
    let host = Bundle::load(place.bundle("host", &["busybox", "sleep", "1000"], OWN, "")).unwrap();
    let mut container = runtime.create(&ContainerId::new("host").unwrap(), &host, inherit()).unwrap();
    container.start().unwrap();
    let before = Process::now();
    // With a joined pid namespace the process continues in a sibling, whose failure may be read before its pid.
    let join = format!(r#",{{"type":"pid","path":"/proc/{}/ns/pid"}}"#, container.pid());
    let missing = r#",{"destination":"/mnt","type":"bind","source":"/no/such/source","options":["bind"]}"#;
    for (number, namespaces) in [OWN, join.as_str()].iter().cycle().take(60).enumerate() {
        let bundle = Bundle::load(place.bundle("broken", &["true"], namespaces, missing)).unwrap();
        let error = runtime.create(&ContainerId::new("broken").unwrap(), &bundle, inherit()).unwrap_err();
        assert!(error.to_string().contains("/no/such/source"), "{error}");
        assert_eq!(before, Process::now(), "after failure {number}");
    }
    assert_eq!(runtime.list().unwrap().states.len(), 1);
    let process = container.process_spec().clone();
    for args in [vec![], vec!["no-such-program".to_owned()]] {
        let mut process = process.clone();
        process.set_args(Some(args));
        assert!(container.exec(&process, libcontainer::ExecOptions::new(Stdio::inherit())).is_err());
        assert_eq!(before, Process::now());
    }
    container.kill(Signal::KILL).unwrap();
    container.wait().unwrap();
    container.delete(Delete::Stopped).unwrap();
}

fn dropped_before_start(place: &Place) {
    let runtime = Runtime::open(place.state()).unwrap();
    let bundle = Bundle::load(place.bundle("dropped", &["busybox", "sleep", "1000"], OWN, "")).unwrap();
    let id = ContainerId::new("dropped").unwrap();
    let mut options = CreateOptions::new(Stdio::inherit());
    options.start_here = true;
    let container = runtime.create(&id, &bundle, options).unwrap();
    let seen = || runtime.load(&id).unwrap().state().unwrap().status;
    assert_eq!((seen(), container.state().unwrap().status), (Status::Created, Status::Created));
    let error = runtime.load(&id).unwrap().start().unwrap_err();
    assert!(error.to_string().contains("only its creator can start"), "{error}");
    assert_eq!(seen(), Status::Created);
    drop(container);
    runtime.load(&id).unwrap().delete(Delete::Force).unwrap();
    assert_eq!(runtime.list().unwrap().states, []);
}

/// A clone into the container's pid namespace changes the thread for a moment. What an exec needs to know is in the handle: the files
/// of the state are not read again.
fn execs_by_one_handle(place: &Place) {
    let runtime = Runtime::open(place.state()).unwrap();
    let bundle = Bundle::load(place.bundle("execs", &["busybox", "sleep", "1000"], OWN, "")).unwrap();
    let id = ContainerId::new("execs").unwrap();
    let mut container = runtime.create(&id, &bundle, CreateOptions::new(Stdio::inherit())).unwrap();
    container.start().unwrap();
    let (record, aside) = (place.state().join("execs/state.json"), place.dir.join("aside"));
    fs::rename(&record, &aside).unwrap();
    let pids = || fs::read_link("/proc/thread-self/ns/pid_for_children").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let before = pids();
                for number in 0..25 {
                    let mut process = container.process_spec().clone();
                    let script = format!("[ $$ -lt 1000 ] || exit 2; [ $$ != 1 ] && exit {number}");
                    process.set_args(Some(vec!["sh".to_owned(), "-c".to_owned(), script]));
                    let options = libcontainer::ExecOptions::new(Stdio::inherit());
                    let executed = container.exec(&process, options).unwrap();
                    assert_eq!(executed.wait().unwrap(), ExitStatus::Exited(number));
                    assert_eq!(pids(), before);
                }
            });
        }
    });
    fs::rename(&aside, &record).unwrap();
    container.kill(Signal::KILL).unwrap();
    container.wait().unwrap();
    container.delete(Delete::Stopped).unwrap();
}

/// What is decided before the clone and what is heard after it are calls of their own.
fn execs_that_nobody_waits_for(place: &Place) {
    let runtime = Runtime::open(place.state()).unwrap();
    let bundle = Bundle::load(place.bundle("begun", &["busybox", "sleep", "1000"], OWN, "")).unwrap();
    let id = ContainerId::new("begun").unwrap();
    let mut container = runtime.create(&id, &bundle, CreateOptions::new(Stdio::inherit())).unwrap();
    container.start().unwrap();
    let process = |args: &[&str]| {
        let mut process = container.process_spec().clone();
        process.set_args(Some(args.iter().map(|arg| (*arg).to_owned()).collect()));
        process
    };
    let options = || libcontainer::ExecOptions::new(Stdio::inherit());
    let begin = |args: &[&str]| container.prepare_exec(&process(args), options()).unwrap().begin().unwrap();
    let decided = |starting: &libcontainer::Starting| {
        while !starting.is_decided().unwrap() {
            std::thread::yield_now();
        }
    };
    // The handle's own descriptors.
    container.exec(&process(&["busybox", "true"]), options()).unwrap().wait().unwrap();
    let before = Process::now();
    let many: Vec<_> = (0..20).map(|_| begin(&["sh", "-c", "exit 7"])).collect();
    for starting in many {
        decided(&starting);
        assert_eq!(starting.finish().unwrap().wait().unwrap(), ExitStatus::Exited(7));
    }
    // Where the caller has to lead the process on its way, that is when it fails.
    let failing = container.prepare_exec(&process(&["/no-such-program"]), options()).unwrap();
    let failed = failing.begin().and_then(|starting| {
        decided(&starting);
        starting.finish()
    });
    assert!(failed.unwrap_err().to_string().contains("no-such-program"));
    drop(begin(&["busybox", "sleep", "1000"]));
    assert_eq!(Process::now(), before, "nothing is left of those that failed or were dropped");
    container.kill(Signal::KILL).unwrap();
    container.wait().unwrap();
    let late = container.prepare_exec(&process(&["busybox", "true"]), options());
    assert_eq!(late.unwrap_err().kind(), libcontainer::ErrorKind::WrongState);
    container.delete(Delete::Stopped).unwrap();
}

/// Two lower directories, one over the other; what the container writes is in the upper one, and the host has no mount of it.
fn copy_on_write(place: &Place) {
    let script =
        "set -e; [ $(cat /both) = top ]; [ $(cat /low) = low ]; echo new > /low; echo new > /made; rm /both";
    let path = place.bundle("overlay", &["/bin/sh", "-c", script], OWN, "");
    let (low, top, upper) = (path.join("rootfs"), path.join("top"), path.join("upper-of"));
    let at = path.join("at");
    [&top, &at].iter().for_each(|dir| fs::create_dir_all(dir).unwrap());
    fs::write(low.join("both"), "bottom").unwrap();
    fs::write(low.join("low"), "low").unwrap();
    fs::write(top.join("both"), "top").unwrap();
    fs::create_dir_all(low.join("proc")).unwrap();
    for applet in ["cat", "rm"] {
        std::os::unix::fs::symlink("busybox", low.join("bin").join(applet)).unwrap();
    }
    let config =
        fs::read_to_string(path.join("config.json")).unwrap().replace(r#""path":"rootfs""#, r#""path":"at""#);
    fs::write(path.join("config.json"), config).unwrap();

    let runtime = Runtime::open(place.state()).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let bundle = Bundle::load(&path).unwrap().with_rootfs(Overlay::new([&top, &low]).upper(&upper));
    let id = ContainerId::new("overlay").unwrap();
    let mut container = runtime.create(&id, &bundle, CreateOptions::new(Stdio::inherit())).unwrap();
    assert_eq!(mounts, fs::read_to_string("/proc/self/mountinfo").unwrap(), "the host's mounts");
    container.start().unwrap();
    assert_eq!(container.wait().unwrap(), ExitStatus::Exited(0));
    container.delete(Delete::Stopped).unwrap();
    assert_eq!(fs::read_to_string(low.join("low")).unwrap(), "low");
    assert_eq!(fs::read_to_string(top.join("both")).unwrap(), "top");
    assert_eq!(fs::read_to_string(upper.join("upper/made")).unwrap(), "new\n");
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0, "the place it was mounted on");
}

fn missing_lower(place: &Place) {
    let path = place.bundle("no-lower", &["/bin/sh"], OWN, "");
    let runtime = Runtime::open(place.state()).unwrap();
    let bundle =
        Bundle::load(&path).unwrap().with_rootfs(Overlay::new([path.join("nowhere"), path.join("rootfs")]));
    let id = ContainerId::new("no-lower").unwrap();
    let error = runtime.create(&id, &bundle, CreateOptions::new(Stdio::inherit())).unwrap_err().to_string();
    assert!(error.contains("nowhere") && error.contains("ENOENT"), "{error}");
    assert!(runtime.load(&id).is_err(), "the state is gone");
}
