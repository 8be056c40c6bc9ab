//! Streams: complete, in order, with bounded memory.

use crate::stage::{Stage, Task, fifo, full};
use integration::process::wait_for;
use integration::{Lab, Outcome, Stop, Test, eq, fail, has, tests, yes};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use procfs::process::Process;
use shim::wire::task::{CloseIORequest, ExecProcessRequest, ResizePtyRequest};
use shim::wire::types::Empty;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = tests!["output":
    a_flood_arrives_whole,
    both_streams_arrive_where_they_belong,
    an_endless_writer_without_a_reader_fills_no_memory,
    a_reader_that_goes_and_returns_loses_nothing,
    input_arrives_and_its_end_too,
    the_end_of_an_execs_input_may_be_known_before_its_start,
    a_terminal_has_the_size_it_is_given,
    a_child_that_keeps_the_stream_open_does_not_hold_up_delete_for_ever,
    a_file_gets_both_streams,
    a_logger_gets_both_streams_and_ends_with_them,
];

/// The anonymous memory of a process in KiB. Pages that are mapped from its program come and go.
pub(crate) fn resident(pid: i32) -> Result<u64, Stop> {
    match Process::new(pid)?.status()?.rssanon {
        Some(size) => Ok(size),
        None => fail(format!("process {pid} has ended")),
    }
}

fn a_flood_arrives_whole(lab: &Lab) -> Outcome {
    let length: usize = if full() { 1 << 30 } else { 96 << 20 };
    let stage = Stage::new(lab)?;
    let out = fifo(lab, "out")?;
    let path = out.clone();
    let reader = thread::spawn(move || -> Result<usize, String> {
        let mut file = File::open(path).map_err(|e| e.to_string())?;
        let (mut seen, mut bytes) = (0, vec![0; 64 << 10]);
        loop {
            let count = file.read(&mut bytes).map_err(|e| e.to_string())?;
            if count == 0 {
                return Ok(seen);
            }
            for byte in bytes.iter().take(count) {
                if *byte != b"a flood of knarr\n"[seen % 17] {
                    return Err(format!("byte {seen} is {byte}"));
                }
                seen += 1;
            }
        }
    });
    let mut task = stage.created(["", &out, &out], |config| {
        config.sh(&format!("yes 'a flood of knarr' | head -c {length}"));
    })?;
    task.start("")?;
    task.client.timeout(Duration::from_secs(300));
    eq(task.wait("")?, 0, "the status")?;
    task.delete("")?;
    task.shut_down()?;
    match reader.join() {
        Ok(Ok(seen)) => eq(seen, length, "bytes that have arrived"),
        Ok(Err(why)) => fail(why),
        Err(_) => fail("the reader panicked"),
    }
}

/// Reads all of a fifo in a thread. It is opened before the first write, as containerd does it: if the thread opened it, that might be
/// too late, and it would wait for a writer for ever.
fn collect(path: &str) -> Result<thread::JoinHandle<Vec<u8>>, Stop> {
    let mut file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    Ok(thread::spawn(move || {
        let mut all = Vec::new();
        // Before the first writer a read would return the end.
        let written = poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        if written.and_then(|_| fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))).is_ok() {
            let _ = file.read_to_end(&mut all);
        }
        all
    }))
}

fn text(reader: thread::JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
}

fn both_streams_arrive_where_they_belong(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let (out, err) = (fifo(lab, "out")?, fifo(lab, "err")?);
    let readers = [collect(&out)?, collect(&err)?];
    let mut task = stage.created(["", &out, &err], |config| {
        config.sh("echo this is out; echo this is err >&2");
    })?;
    task.start("")?;
    eq(task.wait("")?, 0, "the status")?;
    task.finish()?;
    let [out, err] = readers.map(text);
    eq((out.as_str(), err.as_str()), ("this is out\n", "this is err\n"), "output and errors")
}

fn an_endless_writer_without_a_reader_fills_no_memory(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let out = fifo(lab, "out")?;
    let hold = OpenOptions::new().read(true).write(true).open(&out)?;
    let mut task = stage.created(["", &out, &out], |config| {
        config.args(&["yes"]);
    })?;
    let before = resident(task.shim)?;
    let pid = task.start("")?;
    // Blocked in a write: the pipes are full.
    wait_for("the writer has to wait", || {
        let asleep = || {
            Process::new(pid.cast_signed())
                .and_then(|process| process.stat())
                .is_ok_and(|stat| stat.state == 'S')
        };
        (0..20)
            .all(|_| {
                thread::sleep(Duration::from_millis(10));
                asleep()
            })
            .then_some(())
    })?;
    let after = resident(task.shim)?;
    yes(after < before + 1024, format!("the shim has grown from {before} to {after} KiB"))?;
    drop(hold);
    task.kill("", nix::sys::signal::Signal::SIGKILL)?;
    task.wait("")?;
    task.finish()
}

fn a_reader_that_goes_and_returns_loses_nothing(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let out = fifo(lab, "out")?;
    let path = out.clone();
    let opened = thread::spawn(move || File::open(path));
    let mut task = stage.created(["", &out, &out], |config| {
        config.sh("seq 1 200000; sleep 1000");
    })?;
    let mut reader = match opened.join() {
        Ok(file) => file?,
        Err(_) => return fail("the reader panicked"),
    };
    task.start("")?;
    let mut all = Vec::new();
    let mut bytes = vec![0; 10_000];
    for _ in 0..5 {
        for _ in 0..10 {
            let count = reader.read(&mut bytes)?;
            all.extend_from_slice(&bytes[..count]);
        }
        drop(reader);
        thread::sleep(Duration::from_millis(50));
        reader = File::open(&out)?;
    }
    while !all.ends_with(b"\n200000\n") {
        let count = reader.read(&mut bytes)?;
        yes(count > 0, format!("the stream ends after {} bytes", all.len()))?;
        all.extend_from_slice(&bytes[..count]);
    }
    let wanted: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    yes(all == wanted.as_bytes(), "the numbers are not those that were written")?;
    task.finish()
}

fn input_arrives_and_its_end_too(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let (input, out) = (fifo(lab, "in")?, fifo(lab, "out")?);
    let reader = collect(&out)?;
    let path = input.clone();
    let writer = thread::spawn(move || OpenOptions::new().write(true).open(path));
    let mut task = stage.created([&input, &out, &out], |config| {
        config.sh("cat; echo the end");
    })?;
    task.start("")?;
    let mut writer = match writer.join() {
        Ok(file) => file?,
        Err(_) => return fail("the writer panicked"),
    };
    writer.write_all(b"hello\n")?;
    drop(writer);
    // A client that closes the fifo does not end the input: it may open it again.
    let mut writer = OpenOptions::new().write(true).open(&input)?;
    writer.write_all(b"again\n")?;
    drop(writer);
    let wait = task.client.begin("Wait", &task.wait_request(""))?;
    yes(!task.client.is_answered(wait, Duration::from_millis(200))?, "cat has seen an end before CloseIO")?;
    let close = CloseIORequest { id: task.id.clone(), stdin: true, ..CloseIORequest::default() };
    task.client.call::<Empty>("CloseIO", &close)?;
    let ended: shim::wire::task::WaitResponse = task.client.finish(wait)?;
    eq(ended.exit_status, 0, "the status")?;
    task.finish()?;
    eq(text(reader).as_str(), "hello\nagain\nthe end\n", "output")
}

fn the_end_of_an_execs_input_may_be_known_before_its_start(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    stage.ours_only("Go's shim forgets it, and the process waits for ever")?;
    let (input, out) = (fifo(lab, "in")?, fifo(lab, "out")?);
    let reader = collect(&out)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    let request: ExecProcessRequest =
        task.exec_request("x", &["sh", "-c", "cat; echo the end"], [&input, &out, &out]);
    task.client.call::<Empty>("Exec", &request)?;
    // Also open for reading, so that what is written stays until the shim reads it.
    let mut writer = OpenOptions::new().read(true).write(true).open(&input)?;
    writer.write_all(b"hello\n")?;
    let close = CloseIORequest { id: task.id.clone(), exec_id: "x".to_owned(), stdin: true };
    task.client.call::<Empty>("CloseIO", &close)?;
    task.start("x")?;
    drop(writer);
    eq(task.wait("x")?, 0, "the status of the exec")?;
    task.delete("x")?;
    eq(text(reader).as_str(), "hello\nthe end\n", "output")?;
    task.finish()
}

fn a_terminal_has_the_size_it_is_given(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let (input, out) = (fifo(lab, "in")?, fifo(lab, "out")?);
    let reader = collect(&out)?;
    let path = input.clone();
    let writer = thread::spawn(move || OpenOptions::new().write(true).open(path));
    let mut task = stage.shim(|config| {
        config.sh("tty; read go; stty size");
        config.set("/process/terminal", true);
    })?;
    let mut request = stage.create_request(&task, [&input, &out, ""]);
    request.terminal = true;
    let made: shim::wire::task::CreateTaskResponse = task.client.call("Create", &request)?;
    yes(made.pid > 0, "no pid")?;
    let who: shim::wire::task::ConnectResponse =
        task.client.call("Connect", &shim::wire::task::ConnectRequest { id: task.id.clone() })?;
    task.shim = who.shim_pid.cast_signed();
    task.start("")?;
    let resize = ResizePtyRequest { id: task.id.clone(), exec_id: String::new(), width: 123, height: 45 };
    task.client.call::<Empty>("ResizePty", &resize)?;
    let mut writer = match writer.join() {
        Ok(file) => file?,
        Err(_) => return fail("the writer panicked"),
    };
    writer.write_all(b"go\n")?;
    eq(task.wait("")?, 0, "the status")?;
    task.finish()?;
    let text = text(reader);
    has(&text, "/dev/pts/0")?;
    has(&text, "45 123")
}

fn a_child_that_keeps_the_stream_open_does_not_hold_up_delete_for_ever(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let out = fifo(lab, "out")?;
    let reader = collect(&out)?;
    let mut task = stage.started(&["sleep", "1000"])?;
    let script = ["sh", "-c", "sleep 900 & echo said; exit 5"];
    let request: ExecProcessRequest = task.exec_request("x", &script, ["", &out, &out]);
    task.client.call::<Empty>("Exec", &request)?;
    task.start("x")?;
    eq(task.wait("x")?, 5, "the status of the exec")?;
    let begun = Instant::now();
    task.delete("x")?;
    yes(begun.elapsed() < Duration::from_secs(15), "Delete took longer than the ten seconds it may")?;
    has(text(reader), "said")?;
    task.finish()
}

fn a_file_gets_both_streams(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let log = lab.file("log", "before\n")?;
    let uri = format!("file://{}", log.display());
    let mut task = stage.created(["", &uri, &uri], |config| {
        config.sh("echo out; echo err >&2");
    })?;
    task.start("")?;
    eq(task.wait("")?, 0, "the status")?;
    task.finish()?;
    let mut lines: Vec<String> = fs::read_to_string(log)?.lines().map(str::to_owned).collect();
    eq(lines.first().map(String::as_str), Some("before"), "the first line")?;
    lines.sort();
    eq(lines, ["before", "err", "out"], "lines in the file")
}

fn a_logger_gets_both_streams_and_ends_with_them(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    let dir = lab.directory("logger")?;
    let program = lab.file("logger/log.sh", &format!(
        "#!/bin/sh\ntrap '' TERM\ncd {}\necho \"$CONTAINER_ID $CONTAINER_NAMESPACE $*\" > who\nexec 5>&-\ncat <&4 > err &\ncat <&3 > out\nwait\necho done >> who\n",
        dir.display()
    ))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let uri = format!("binary://{}?key=value", program.display());
    let mut task: Task = stage.created(["", &uri, &uri], |config| {
        config.sh("seq 1 1000; echo err >&2");
    })?;
    task.start("")?;
    eq(task.wait("")?, 0, "the status")?;
    task.finish()?;
    let who = || fs::read_to_string(dir.join("who")).unwrap_or_default();
    wait_for("the logger ends", || who().contains("done").then_some(()))?;
    has(who(), format!("{} t key value", task.id))?;
    eq(fs::read_to_string(dir.join("out"))?.lines().count(), 1000, "lines of output")?;
    eq(fs::read_to_string(dir.join("err"))?.as_str(), "err\n", "errors")
}
