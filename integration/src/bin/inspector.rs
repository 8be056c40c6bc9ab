//! The inspector: a small static program that runs as a container's PID 1 and prints what it sees, as JSON.
//!
//! It needs nothing from the container: no shell, no /proc, no library. What cannot be read is reported as null or
//! as the errno's text, never left out in silence. Commands:
//!   report                 everything below /proc/self that tests ask for, descriptors, environment, cwd, keyring
//!   open MODE PATH…        one line per path: `PATH ok` or `PATH ERRNO`; MODE is r, w or mkdir
//!   syscall NUMBER ARGS…   makes a system call with plain numbers: `ok VALUE` or `ERRNO`
//!   socket FAMILY          makes a stream socket of an address family (38 is AF_ALG)
//!   flip A B               exchanges two names over and over (renameat2 RENAME_EXCHANGE)
//!   vfork MS PROGRAM ARGS… starts a program over and over as vfork(2) does: waits until its child, that long later, has executed it
//!   argv ARGS…             its arguments as a JSON list
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(lossy).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let text = match words.as_slice() {
        ["report"] => format!("{:#}", report()),
        ["open", mode, paths @ ..] => lines(paths, |path| attempt(mode, path)),
        ["syscall", numbers @ ..] => syscall(numbers),
        ["socket", family] => syscall(&[&libc::SYS_socket.to_string(), family, "1", "0"]),
        ["flip", a, b] => flip(a, b),
        ["vfork", wait, program, rest @ ..] => vfork(wait, program, rest),
        ["argv", rest @ ..] => json!(rest).to_string(),
        _ => {
            println!(
                "usage: inspector report | open r|w|mkdir PATH… | syscall NUMBER ARGS… | socket FAMILY | argv … | vfork …"
            );
            return std::process::ExitCode::from(2);
        }
    };
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(_) => std::process::ExitCode::FAILURE,
    }
}

fn report() -> Value {
    let files =
        ["status", "mountinfo", "cgroup", "limits", "uid_map", "gid_map", "setgroups", "oom_score_adj"];
    let mut report = json!({
        "pid": std::process::id(),
        "ppid": std::os::unix::process::parent_id(),
        "fds": fds(),
        "cwd": std::env::current_dir().map_or_else(|e| json!({"error": errno(&e)}), |p| json!(p)),
        "env": std::env::vars_os().map(|(k, v)| json!([lossy(k), lossy(v)])).collect::<Vec<_>>(),
        "argv": std::env::args_os().map(lossy).collect::<Vec<_>>(),
        "ns": namespaces(),
        "attr": slurp(Path::new("/proc/self/attr/current")),
        "exe": fs::read_link("/proc/self/exe").ok(),
        "hostname": slurp(Path::new("/proc/sys/kernel/hostname")),
        "domainname": slurp(Path::new("/proc/sys/kernel/domainname")),
        "session_keyring": integration::sys::session_keyring().ok(),
        "timens_offsets": slurp(Path::new("/proc/self/timens_offsets")),
        "uptime": slurp(Path::new("/proc/uptime")),
        "dev": listing(Path::new("/dev")),
    });
    for name in files {
        report[name] = slurp(&Path::new("/proc/self").join(name));
    }
    report
}

/// Number, target and status flags of each descriptor, without the one that reads the directory.
fn fds() -> Value {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Value::Null;
    };
    let numbers: Vec<String> = entries.flatten().map(|e| lossy(e.file_name())).collect();
    for number in numbers {
        if let Ok(target) = fs::read_link(format!("/proc/self/fd/{number}")) {
            found.insert(number, target.to_string_lossy().into_owned());
        }
    }
    json!(found)
}

fn namespaces() -> Value {
    let mut found = BTreeMap::new();
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        if let Ok(target) = fs::read_link(format!("/proc/self/ns/{name}")) {
            found.insert(name, target.to_string_lossy().into_owned());
        }
    }
    json!(found)
}

/// Name, mode, device number and owner of everything in a directory.
fn listing(dir: &Path) -> Value {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return Value::Null;
    };
    for path in entries.flatten().map(|e| e.path()) {
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let (major, minor) = (nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev()));
        let name = lossy(path.file_name().unwrap_or_default().to_owned());
        let target: Option<PathBuf> = fs::read_link(&path).ok();
        found.insert(
            name,
            json!({"mode": format!("{:o}", meta.mode()), "rdev": [major, minor], "uid": meta.uid(),
                   "gid": meta.gid(), "link": target}),
        );
    }
    json!(found)
}

/// Opens a path as asked and reads a byte, or says why not. Nothing is written to what could be opened.
fn attempt(mode: &str, path: &str) -> String {
    let result = match mode {
        "w" => fs::OpenOptions::new().write(true).open(path).map(drop),
        "mkdir" => fs::create_dir(path),
        _ => fs::File::open(path).and_then(|mut f| f.read(&mut [0]).map(drop)),
    };
    result.map_or_else(|e| errno(&e), |()| "ok".to_owned())
}

fn syscall(numbers: &[&str]) -> String {
    let mut values = [0_u64; 7];
    for (slot, word) in values.iter_mut().zip(numbers) {
        *slot = word.parse::<i64>().map_or(0, i64::cast_unsigned);
    }
    let [number, args @ ..] = values;
    match integration::sys::syscall(number.cast_signed(), args) {
        Ok(value) => format!("ok {value}"),
        Err(error) => errno(&error),
    }
}

fn flip(a: &str, b: &str) -> String {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    loop {
        if let Err(error) = renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE) {
            return error.to_string();
        }
    }
}

fn vfork(wait: &str, program: &str, args: &[&str]) -> String {
    use std::os::unix::process::CommandExt;
    let wait = std::time::Duration::from_millis(wait.parse().unwrap_or(0));
    // Without CLONE_VM, so that the child may do what it likes.
    let flags = (libc::CLONE_VFORK | libc::SIGCHLD).unsigned_abs().into();
    loop {
        match integration::sys::syscall(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]) {
            Ok(0) => {
                std::thread::sleep(wait);
                return errno(&std::process::Command::new(program).args(args).exec());
            }
            Ok(_) => drop(nix::sys::wait::wait()),
            Err(error) => return errno(&error),
        }
    }
}

fn errno(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |n| format!("{:?}", nix::errno::Errno::from_raw(n)))
}

fn slurp(path: &Path) -> Value {
    fs::read(path).map_or(Value::Null, |bytes| json!(String::from_utf8_lossy(&bytes)))
}

fn lines(paths: &[&str], act: impl Fn(&str) -> String) -> String {
    paths.iter().map(|p| format!("{p} {}", act(p))).collect::<Vec<_>>().join("\n")
}

fn lossy(text: OsString) -> String {
    text.to_string_lossy().into_owned()
}
