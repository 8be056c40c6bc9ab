//! Compares every message with bytes encoded by protoc; tests frames, bootstrap and options by tables.
//!
//! `tests-data/wire/schema.proto` lists all fields again. A field with another number, type or name here than there is an error.

use super::code::{Code, Failure};
use super::frame::{self, Decoder, Request, Response};
use super::types::Any;
use super::{bootstrap, events, info, metrics_v1, metrics_v2, options, task, types};
use prost::Message;
use std::collections::HashMap;
use std::fmt::Write;

const SCHEMA: &str = include_str!("../../tests-data/wire/schema.proto");
const GOLDEN: &str = include_str!("../../tests-data/wire/golden.txt");

/// Fields of a message: label, kind, name, number.
type Schema = HashMap<String, Vec<(bool, String, String, u32)>>;

fn schema() -> Schema {
    let text: String =
        SCHEMA.lines().map(|line| line.split("//").next().unwrap().to_owned() + "\n").collect();
    let mut messages = Schema::new();
    for part in text.split("\nmessage ").skip(1) {
        let (name, rest) = part.split_once('{').unwrap();
        let body = rest.split('}').next().unwrap();
        let fields = body.split(';').filter(|field| field.contains('=')).map(|field| {
            let (left, number) = field.split_once('=').unwrap();
            let left = left.trim().replace("map<string, string>", "map");
            let words: Vec<&str> = left.split_whitespace().collect();
            let [.., kind, name] = words[..] else { panic!("{field}") };
            (words[0] == "repeated", kind.to_owned(), name.to_owned(), number.trim().parse().unwrap())
        });
        messages.insert(name.trim().to_owned(), fields.collect());
    }
    messages
}

/// The `{:?}` text of a message whose fields are set by the rule in make.py.
fn debug(schema: &Schema, name: &str) -> String {
    let short = name.strip_prefix("V1").or(name.strip_prefix("V2")).unwrap_or(name);
    let mut text = short.to_owned();
    for (index, (repeated, kind, field, number)) in schema[name].iter().enumerate() {
        let value = match kind.as_str() {
            "string" => format!("\"s{number}\""),
            "bytes" => format!("{:?}", format!("s{number}").as_bytes()),
            "bool" => "true".to_owned(),
            "double" => format!("{number}.5"),
            "map" => format!("{{\"k{number}\": \"v{number}\"}}"),
            "Status" => "Running".to_owned(),
            "ExitReason" => "Signaled".to_owned(),
            kind if schema.contains_key(kind) && *repeated => debug(schema, kind),
            kind if schema.contains_key(kind) => format!("Some({})", debug(schema, kind)),
            _ => (1000 + number).to_string(),
        };
        let value = if *repeated { format!("[{value}]") } else { value };
        let field = if field == "type" { "r#type" } else { field };
        let _ = write!(text, "{} {field}: {value}", if index == 0 { " {" } else { "," });
    }
    if !schema[name].is_empty() {
        text.push_str(" }");
    }
    text
}

fn golden(name: &str) -> Vec<u8> {
    let line = GOLDEN.lines().find(|line| line.split(' ').next() == Some(name));
    let hex = line.unwrap_or_else(|| panic!("{name} is not in golden.txt")).split(' ').nth(1).unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn check<M: Message + Default + std::fmt::Debug>(schema: &Schema, seen: &mut Vec<String>, name: &str) {
    let bytes = golden(name);
    let message = M::decode(bytes.as_slice()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(format!("{message:?}"), debug(schema, name), "{name}");
    assert_eq!(message.encode_to_vec(), bytes, "{name} is encoded otherwise");
    seen.push(name.to_owned());
}

macro_rules! check_all {
    ($schema:ident, $seen:ident, $prefix:literal, $module:ident: $($name:ident)*) => {
        $(check::<$module::$name>($schema, $seen, concat!($prefix, stringify!($name)));)*
    };
}

#[test]
fn every_message_is_as_protoc_encodes_it() {
    let (schema, seen) = (&schema(), &mut Vec::new());
    check_all!(schema, seen, "", types: Any Timestamp Empty Mount ProcessInfo);
    check_all!(schema, seen, "", info: RuntimeInfo RuntimeVersion);
    check_all!(schema, seen, "", frame: KeyValue Request RpcStatus Response);
    check_all!(schema, seen, "", task: CreateTaskRequest CreateTaskResponse DeleteRequest DeleteResponse
        ExecProcessRequest ResizePtyRequest StateRequest StateResponse KillRequest CloseIORequest PidsRequest PidsResponse
        CheckpointTaskRequest UpdateTaskRequest StartRequest StartResponse WaitRequest WaitResponse StatsRequest StatsResponse
        ConnectRequest ConnectResponse ShutdownRequest PauseRequest ResumeRequest);
    check_all!(schema, seen, "", events: TaskIo TaskCreate TaskStart TaskDelete TaskExit TaskOom TaskExecAdded TaskExecStarted
        TaskPaused TaskResumed TaskCheckpointed Envelope ForwardRequest);
    check_all!(schema, seen, "", options: Options RuntimeOptions CheckpointOptions ProcessDetails);
    check_all!(schema, seen, "", bootstrap: Extension BootstrapParams BootstrapResult);
    check_all!(schema, seen, "V1", metrics_v1: Metrics HugetlbStat PidsStat CpuStat CpuUsage Throttle MemoryStat MemoryEntry
        MemoryOomControl BlkIoStat BlkIoEntry RdmaStat RdmaEntry NetworkStat CgroupStats);
    check_all!(schema, seen, "V2", metrics_v2: Metrics PsiData PsiStats PidsStat CpuStat MemoryStat MemoryEvents RdmaStat RdmaEntry
        IoStat IoEntry HugeTlbStat NetworkStat);
    let mut left: Vec<_> = schema.keys().filter(|name| !seen.contains(name)).collect();
    left.sort();
    assert!(left.is_empty(), "not checked: {left:?}");
}

#[test]
fn unknown_fields_and_their_types_are_passed_over() {
    // Field 3 of BootstrapParams was a text before it was a number; field 15 is from the future.
    for level in [&b"\x18\x08"[..], b"\x1a\x05debug"] {
        let bytes = [b"\x0a\x02c1\x12\x02ns", level, b"\x7a\x01x"].concat();
        let params = bootstrap::BootstrapParams::decode(bytes.as_slice()).unwrap();
        assert_eq!((params.instance_id.as_str(), params.namespace.as_str()), ("c1", "ns"));
    }
}

#[test]
fn an_any_of_runtime_options_is_not_taken_for_bootstrap_parameters() {
    use bootstrap::{BootstrapParams, Extension, Input};
    let any = Any::pack(options::OPTIONS, &options::Options { root: "/r".into(), ..Default::default() });
    let input = Input::read(&any.encode_to_vec(), "c1", "ns");
    assert_eq!(input, Input::Legacy(Some(any.clone())));
    assert_eq!(input.options(), Some(&any));
    assert_eq!(input.reply("unix:///s"), b"unix:///s");

    let other = Any { type_url: "containerd.io/x.v1.PodSandboxConfig".into(), value: vec![1] };
    let extensions = [other, any.clone()].map(|any| Extension { value: Some(any) });
    let params = BootstrapParams {
        instance_id: "c1".into(),
        namespace: "ns".into(),
        extensions: extensions.into(),
        socket_dir: "/d".into(),
        ..Default::default()
    };
    let bytes = params.encode_to_vec();
    let input = Input::read(&bytes, "c1", "ns");
    assert_eq!((input.options(), input.socket_dir()), (Some(&any), Some("/d")));
    let reply = bootstrap::BootstrapResult::decode(input.reply("unix:///s").as_slice()).unwrap();
    assert_eq!((reply.version, reply.address.as_str(), reply.protocol.as_str()), (3, "unix:///s", "ttrpc"));

    assert!(matches!(Input::read(&bytes, "c2", "ns"), Input::Legacy(_)));
    assert!(matches!(Input::read(&bytes, "c1", "other"), Input::Legacy(_)));
    assert_eq!(Input::read(b"", "c1", "ns"), Input::Legacy(None));
    assert_eq!(Input::read(b"\xff\xff\xff", "c1", "ns"), Input::Legacy(None));
}

#[test]
fn runtime_options_have_two_kinds_and_unknown_ones_are_errors() {
    use options::{OPTIONS, Options, RUNTIME_OPTIONS, RuntimeOptions};
    assert_eq!(Options::read(None), Ok(Options::default()));
    assert_eq!(Options::read(Some(&Any::default())), Ok(Options::default()));
    let wanted = Options { root: "/r".into(), systemd_cgroup: true, io_uid: 7, ..Default::default() };
    for name in [OPTIONS, "type.googleapis.com/containerd.runc.v1.Options"] {
        assert_eq!(Options::read(Some(&Any::pack(name, &wanted))), Ok(wanted.clone()));
    }
    let toml = |body: &str| {
        let options = RuntimeOptions { config_body: body.as_bytes().to_vec(), ..Default::default() };
        Options::read(Some(&Any::pack(RUNTIME_OPTIONS, &options)))
    };
    let body = "# of containerd\nRoot = \"/r\" # here\n  SystemdCgroup = true\n\nIoUid = 7\nCriuPath = ''\n";
    assert_eq!(toml(body), Ok(wanted));
    assert_eq!(toml("BinaryName = \"a \\\"b\\\" \\u00e9\"").unwrap().binary_name, "a \"b\" é");
    assert_eq!(toml("BinaryName = 'C:\\x'").unwrap().binary_name, "C:\\x");
    for (body, says) in [
        ("Sandboxer = \"x\"", "Sandboxer"),
        ("Root = true", "Root: unknown, or must not be a boolean"),
        ("[options]\nRoot = \"/r\"", "line 1"),
        ("Root = \"/r", "line 1"),
        ("Root = \"/r\" x", "line 1"),
        ("IoUid = -1", "IoUid"),
        ("Root = \"a\"\nRoot = \"b\"", "line 2: duplicate key Root"),
        ("X = [1]", "line 1: must be KEY = VALUE"),
    ] {
        let failure = toml(body).unwrap_err();
        assert_eq!(failure.code, Code::InvalidArgument, "{body}");
        assert!(failure.message.contains(says), "{body}: {failure}");
    }
    let other = Options::read(Some(&Any { type_url: "io.kata.Options".into(), value: vec![] })).unwrap_err();
    assert!(other.message.contains("io.kata.Options"), "{other}");
}

#[test]
fn only_runtimes_that_the_shim_stands_for_may_be_named() {
    let check = |name: &str| options::Options { binary_name: name.into(), ..Default::default() }.check();
    for name in ["", "runc", "knarr", "/usr/bin/runc", "/opt/knarr"] {
        assert_eq!(check(name), Ok(()), "{name}");
    }
    for name in ["crun", "/usr/bin/kata-runtime", "runc-debug", "/runc/"] {
        assert_eq!(check(name).unwrap_err().code, Code::InvalidArgument, "{name}");
    }
}

#[test]
fn frames_are_found_in_pieces_of_any_size() {
    let requests: Vec<Vec<u8>> = (0..3u32)
        .map(|n| {
            let payload = vec![7; usize::try_from(n).unwrap() * 5000];
            let request = Request { service: "s".into(), method: "m".into(), payload, ..Default::default() };
            frame::encode_request(2 * n + 1, &request)
        })
        .collect();
    let stream = requests.concat();
    for size in [1, 3, 9, 10, 11, 4096, stream.len()] {
        let (mut decoder, mut found) = (Decoder::new(), Vec::new());
        for piece in stream.chunks(size) {
            decoder.push(piece);
            while let Some(frame) = decoder.next() {
                found.push(frame);
            }
        }
        assert_eq!(found.len(), 3, "{size}");
        for (frame, bytes) in found.iter().zip(&requests) {
            assert_eq!((frame.kind, frame.flags), (frame::REQUEST, frame::REMOTE_CLOSED));
            assert_eq!(frame.body.as_ref().unwrap(), &bytes[frame::HEADER..]);
        }
        assert_eq!(found.iter().map(|frame| frame.stream).collect::<Vec<_>>(), [1, 3, 5]);
    }
}

#[test]
fn a_message_that_is_too_long_is_skipped_and_the_next_one_is_found() {
    let length = u32::try_from(frame::MAX_BODY).unwrap() + 1;
    let mut stream = [&length.to_be_bytes()[..], &9u32.to_be_bytes(), &[frame::REQUEST, 0]].concat();
    stream.resize(frame::HEADER + frame::MAX_BODY + 1, 0xab);
    stream.extend(frame::encode_request(11, &Request { method: "after".into(), ..Default::default() }));
    let (mut decoder, mut found) = (Decoder::new(), Vec::new());
    for piece in stream.chunks(64 << 10) {
        decoder.push(piece);
        while let Some(frame) = decoder.next() {
            found.push(frame);
        }
    }
    let [long, after] = &found[..] else { panic!("{} frames", found.len()) };
    assert_eq!(long.stream, 9);
    assert_eq!(long.body.as_ref().unwrap_err().code, Code::ResourceExhausted);
    assert_eq!(Request::read(after.body.as_ref().unwrap()).unwrap().method, "after");
}

#[test]
fn an_answer_is_a_result_or_a_status_and_never_longer_than_allowed() {
    let open = |bytes: Vec<u8>| {
        let mut decoder = Decoder::new();
        decoder.push(&bytes);
        let frame = decoder.next().unwrap();
        assert_eq!((frame.stream, frame.kind, frame.flags), (5, frame::RESPONSE, 0));
        assert_eq!(decoder.next(), None);
        Response::decode(frame.body.unwrap().as_slice()).unwrap()
    };
    assert_eq!(
        open(frame::encode_response(5, Ok(vec![1, 2]))),
        Response { status: None, payload: vec![1, 2] }
    );
    let status = open(frame::encode_response(5, Err(Failure::not_found("no such")))).status.unwrap();
    assert_eq!((status.code, status.message.as_str()), (5, "no such"));
    let status = open(frame::encode_response(5, Ok(vec![0; frame::MAX_BODY]))).status.unwrap();
    assert_eq!(status.code, Code::ResourceExhausted as i32);
}

#[test]
fn damaged_requests_are_failures_and_never_panics() {
    let whole = golden("CreateTaskRequest");
    for end in 0..whole.len() {
        let _ = task::CreateTaskRequest::decode(&whole[..end]);
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[end] ^= 1 << bit;
            let request = Request { payload: bytes, ..Default::default() };
            let _ = request.argument::<task::CreateTaskRequest>();
        }
    }
    assert_eq!(Request::read(b"\xff").unwrap_err().code, Code::InvalidArgument);
}

#[test]
fn counters_of_libcontainer_become_containerds() {
    let mut stats = libcontainer::Stats::default();
    (stats.cpu, stats.cpu_user, stats.cpu_system, stats.throttled) = (7_000_000, 4_000_000, 3_000_000, 9_000);
    (stats.pids, stats.pids_limit) = (5, Some(77));
    (stats.memory.usage, stats.memory.limit, stats.memory.failures) = (4096, Some(8192), 2);
    stats.memory_stat.insert("pgpgin".into(), 11);
    stats.memory_stat.insert("workingset_refault_anon".into(), 1);
    stats.memory_stat.insert("workingset_refault_file".into(), 2);
    (stats.oom_kills, stats.memory_events.max, stats.memory_events.under_oom) = (3, 2, true);

    let v1 = metrics_v1::Metrics::from(&stats);
    assert_eq!(
        v1.cpu.unwrap().usage.map(|usage| (usage.total, usage.user, usage.kernel)),
        Some((7_000_000, 4_000_000, 3_000_000))
    );
    let memory = v1.memory.unwrap();
    let usage = memory.usage.unwrap();
    assert_eq!((memory.pg_pg_in, usage.usage, usage.limit, usage.failcnt), (11, 4096, 8192, 2));
    // As the kernel writes "no limit".
    assert_eq!(memory.swap.unwrap().limit, 9_223_372_036_854_771_712);
    assert_eq!(v1.memory_oom_control.map(|oom| (oom.oom_kill, oom.under_oom)), Some((3, 1)));

    let v2 = metrics_v2::Metrics::from(&stats);
    assert_eq!(v2.cpu.map(|cpu| (cpu.usage_usec, cpu.throttled_usec, cpu.psi)), Some((7000, 9, None)));
    let memory = v2.memory.unwrap();
    assert_eq!(
        (memory.workingset_refault, memory.usage, memory.usage_limit, memory.swap_limit),
        (3, 4096, 8192, u64::MAX)
    );
    assert_eq!(v2.pids.map(|pids| (pids.current, pids.limit)), Some((5, 77)));
    assert_eq!(v2.memory_events.map(|events| (events.oom_kill, events.max)), Some((3, 2)));
    assert_eq!(metrics_v2::pack(&stats).name(), "io.containerd.cgroups.v2.Metrics");
    assert_eq!(metrics_v1::pack(&stats).name(), "io.containerd.cgroups.v1.Metrics");
}
