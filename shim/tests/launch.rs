//! `start`, `delete`, `-info`, `-v`, as containerd runs them.

use crate::stage::Stage;
use integration::process::wait_for;
use integration::{Lab, Outcome, Test, eq, fail, has, tests, yes};
use procfs::process::{FDTarget, Process};
use prost::Message;
use serde_json::json;
use shim::client::Style;
use shim::wire::info::{FEATURES, RuntimeInfo};
use shim::wire::options::OPTIONS;
use shim::wire::types::Any;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

pub(crate) const TESTS: &[Test] = tests!["launch":
    a_shim_is_started_as_containerd_2_3_asks,
    the_socket_is_for_its_owner_alone,
    a_server_leads_its_session_and_holds_nothing_of_its_caller,
    containers_of_one_group_share_a_shim,
    a_dead_socket_is_replaced,
    a_socket_directory_that_others_can_write_to_is_refused,
    a_socket_directory_that_is_too_long_is_refused_by_its_length,
    another_runtime_is_refused_by_name,
    a_start_that_fails_leaves_nothing,
    info_tells_the_features_whatever_the_options,
    the_version_is_printed,
    delete_without_a_container_answers_and_can_be_repeated,
];

fn modern<'a>(lab: &'a Lab) -> Result<Stage<'a>, integration::Stop> {
    let mut stage = Stage::new(lab)?;
    stage.ours_only("containerd 2.1's shim knows no bootstrap message")?;
    stage.launch.style = Style::Bootstrap;
    stage.launch.socket_dir = Some(lab.dir.join("s"));
    Ok(stage)
}

fn a_shim_is_started_as_containerd_2_3_asks(lab: &Lab) -> Outcome {
    let stage = modern(lab)?;
    let mut task = stage.started(&["sh", "-c", "exit 6"])?;
    yes(task.socket.starts_with(lab.dir.join("s")), format!("the socket is {:?}", task.socket))?;
    eq(task.wait("")?, 6, "the status")?;
    task.finish()?;
    stage.is_clean(&task)
}

fn the_socket_is_for_its_owner_alone(lab: &Lab) -> Outcome {
    let stage = modern(lab)?;
    let mut task = stage.shim(|_| ())?;
    let socket = fs::metadata(&task.socket)?;
    yes(socket.file_type().is_socket(), "no socket")?;
    eq(socket.permissions().mode() & 0o777, 0o600, "the socket's mode")?;
    eq(fs::metadata(lab.dir.join("s"))?.permissions().mode() & 0o777, 0o700, "its directory's mode")?;
    eq(
        fs::read_to_string(task.bundle.join("address"))?,
        format!("unix://{}", task.socket.display()),
        "the file address",
    )?;
    task.finish()
}

fn a_server_leads_its_session_and_holds_nothing_of_its_caller(lab: &Lab) -> Outcome {
    let stage = modern(lab)?;
    let mut task = stage.shim(|_| ())?;
    let shim = task.shim;
    let server = Process::new(shim)?;
    let stat = server.stat()?;
    eq((stat.session, stat.num_threads), (shim, 1), "its session and its threads")?;
    // Descriptors that the server closes meanwhile are errors.
    for fd in server.fd()?.flatten() {
        yes(!matches!(fd.target, FDTarget::Pipe(_)), format!("the server has {:?} open", fd.target))?;
    }
    task.finish()
}

fn containers_of_one_group_share_a_shim(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let grouped = |config: &mut integration::Config| {
        config.args(&["sleep", "1000"]);
        config.set("/annotations", json!({"io.kubernetes.cri.sandbox-id": format!("{}-pod", lab.token)}));
    };
    let mut first = stage.created(["", "", ""], grouped)?;
    let mut second = stage.created(["", "", ""], grouped)?;
    eq(&second.socket, &first.socket, "the second one's socket")?;
    eq(second.shim, first.shim, "the second one's shim")?;
    first.start("")?;
    second.start("")?;
    // runc's annotation has priority over that of CRI.
    let other = stage.shim(|config| {
        config.set(
            "/annotations",
            json!({"io.kubernetes.cri.sandbox-id": format!("{}-pod", lab.token), "io.containerd.runc.v2.group": "alone"}),
        );
    })?;
    yes(other.socket != first.socket, "a container of another group has the same socket")?;
    stage.clean_up(&other.bundle, &other.id)?;
    let mut other = other;
    other
        .client
        .call::<shim::wire::types::Empty>("Shutdown", &shim::wire::task::ShutdownRequest::default())
        .ok();
    for task in [&mut first, &mut second] {
        task.kill("", nix::sys::signal::Signal::SIGKILL)?;
        task.wait("")?;
        task.delete("")?;
    }
    second.shut_down()?;
    stage.is_clean(&first)?;
    stage.is_clean(&second)
}

fn a_dead_socket_is_replaced(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let mut first = stage.shim(|config| {
        config.args(&["sleep", "1000"]);
    })?;
    first.create(&stage, ["", "", ""])?;
    first.kill_shim()?;
    yes(first.socket.exists(), "a killed shim cannot have removed its socket")?;
    stage.clean_up(&first.bundle, &first.id)?;
    drop(UnixListener::bind(&first.socket).or_else(|_| {
        fs::remove_file(&first.socket)?;
        UnixListener::bind(&first.socket)
    })?);
    let socket = stage.launch.start(&first.bundle, &first.id)?;
    eq(&socket, &first.socket, "the socket of the second shim")?;
    first.client = shim::client::Client::connect(&socket, "t")?;
    first.create(&stage, ["", "", ""])?;
    first.finish()?;
    stage.is_clean(&first)
}

fn a_socket_directory_that_others_can_write_to_is_refused(lab: &Lab) -> Outcome {
    let stage = modern(lab)?;
    let dir = lab.directory("s")?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?;
    let (id, bundle) = stage.bundle(|_| ())?;
    let error = stage.launch.start(&bundle, &id).unwrap_err();
    has(error.to_string(), "writable by other users")?;
    eq(fs::read_dir(dir)?.count(), 0, "sockets in the directory")
}

fn a_socket_directory_that_is_too_long_is_refused_by_its_length(lab: &Lab) -> Outcome {
    let mut stage = modern(lab)?;
    let (id, bundle) = stage.bundle(|_| ())?;
    stage.launch.socket_dir = Some(format!("/tmp/{}", "x".repeat(37)).into());
    let error = stage.launch.start(&bundle, &id).unwrap_err();
    has(error.to_string(), "socket path too long: 42 bytes (at most 41)")?;
    yes(
        !stage.launch.socket_dir.as_ref().is_some_and(|dir| dir.exists()),
        "the directory was made all the same",
    )
}

fn another_runtime_is_refused_by_name(lab: &Lab) -> Outcome {
    let mut stage = modern(lab)?;
    stage.launch.options.binary_name = "/usr/bin/crun".to_owned();
    let (id, bundle) = stage.bundle(|_| ())?;
    let error = stage.launch.start(&bundle, &id).unwrap_err();
    has(error.to_string(), "BinaryName \\\"/usr/bin/crun\\\"")
}

fn a_start_that_fails_leaves_nothing(lab: &Lab) -> Outcome {
    let mut stage = modern(lab)?;
    stage.launch.options.shim_cgroup = "/there/is/none".to_owned();
    let (id, bundle) = stage.bundle(|_| ())?;
    let error = stage.launch.start(&bundle, &id).unwrap_err();
    has(error.to_string(), "ShimCgroup \\\"/there/is/none\\\": no such cgroup")?;
    eq(fs::read_dir(lab.dir.join("s"))?.count(), 0, "sockets in the directory")?;
    fs::write(bundle.join("config.json"), "{\"annotations\": 5}")?;
    let error = stage.launch.start(&bundle, &id).unwrap_err();
    has(error.to_string(), "config.json")
}

fn info_tells_the_features_whatever_the_options(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let options = Any::pack(OPTIONS, &stage.launch.options).encode_to_vec();
    let inputs: &[&[u8]] = if stage.is_ours() { &[b"", &options, b"\xff\xff"] } else { &[b"", &options] };
    for input in inputs {
        let mut command = Command::new(&stage.launch.program);
        command.arg("-info").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().map(|mut stdin| stdin.write_all(input)).transpose()?;
        let output = child.wait_with_output()?;
        yes(output.status.success(), String::from_utf8_lossy(&output.stderr))?;
        let info = RuntimeInfo::decode(output.stdout.as_slice())?;
        has(&info.name, "io.containerd.")?;
        eq(info.options.is_some(), *input == options.as_slice(), "the options are handed back")?;
        let features = info.features.unwrap_or_default();
        eq(&features.type_url, FEATURES, "the type of the features")?;
        let features: serde_json::Value = serde_json::from_slice(&features.value)?;
        has(features["mountOptions"].to_string(), "\"rro\"")?;
    }
    Ok(())
}

fn the_version_is_printed(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let flags = if stage.is_ours() { ["-v", "--version"] } else { ["-v", "--v"] };
    for flag in flags {
        let output = Command::new(&stage.launch.program).arg(flag).output()?;
        yes(output.status.success() && output.stderr.is_empty(), format!("{output:?}"))?;
        has(String::from_utf8_lossy(&output.stdout), "  Version: ")?;
    }
    Ok(())
}

fn delete_without_a_container_answers_and_can_be_repeated(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let (id, bundle) = stage.bundle(|_| ())?;
    // containerd's own shim stays until it is asked to end.
    let socket = if stage.is_ours() { stage.launch.start(&bundle, &id)? } else { bundle.join("none") };
    for _ in 0..2 {
        let answer = stage.clean_up(&bundle, &id)?;
        eq(answer.exit_status, 137, "the status")?;
        yes(answer.exited_at.is_some_and(|at| at.seconds > 1_600_000_000), "no time of the exit")?;
    }
    // A shim that is unknown, since `start` was killed before it answered, ends.
    if wait_for("the socket goes", || (!socket.exists()).then_some(())).is_err() {
        return fail("a shim without containers has survived delete");
    }
    Ok(())
}
