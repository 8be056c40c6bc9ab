//! `update`: changes the limits of a container, by flags or by a JSON document like `linux.resources` of config.json.

use super::{Command, Context, Failure, Outcome};
use goflags::{Flag, Order, Parsed};
use libcontainer::spec::LinuxResources;
use serde_json::{Map, Value};
use std::io::Read;

/// The largest JSON document of limits, in bytes.
const MAX_RESOURCES: u64 = 1 << 20;

pub(super) const COMMAND: Command = Command {
    name: "update",
    summary: "update container resource constraints",
    usage: "<container-id>",
    about: "Limits that are not given are unchanged. Memory is in bytes or has a suffix k, m, g, t or p; -1 is unlimited.",
    flags: &[
        Flag::text(
            &["resources", "r"],
            "file with the \"linux.resources\" of a config.json, or - for stdin (other flags are ignored)",
        ),
        Flag::integer(&["blkio-weight"], "block I/O weight, 10 to 1000"),
        Flag::text(&["cpu-period"], "CFS period in microseconds, 0 for the system's default"),
        Flag::text(&["cpu-quota"], "CPU time in each period, in microseconds"),
        Flag::text(&["cpu-burst"], "CFS burst in microseconds"),
        Flag::text(&["cpu-share"], "CPU shares, relative to other containers"),
        Flag::text(&["cpu-rt-period"], "realtime period in microseconds, 0 for the system's default"),
        Flag::text(&["cpu-rt-runtime"], "realtime CPU time in each period, in microseconds"),
        Flag::text(&["cpuset-cpus"], "CPUs to use, such as 0-2,5"),
        Flag::text(&["cpuset-mems"], "memory nodes to use"),
        Flag::text(&["kernel-memory"], "ignored").hidden(),
        Flag::text(&["kernel-memory-tcp"], "ignored").hidden(),
        Flag::text(&["memory"], "memory limit"),
        Flag::text(&["cpu-idle"], "1 to use the CPU only when it is otherwise idle (SCHED_IDLE), else 0"),
        Flag::text(&["memory-reservation"], "soft memory limit"),
        Flag::text(&["memory-swap"], "limit on memory plus swap, -1 for unlimited swap"),
        Flag::integer(&["pids-limit"], "maximum number of processes, -1 for unlimited"),
        Flag::text(&["l3-cache-schema"], "Intel RDT L3 cache schema"),
        Flag::text(&["mem-bw-schema"], "Intel RDT memory bandwidth schema"),
    ],
    order: Order::Anywhere,
    arguments: (1, Some(1)),
    own: false,
    hidden: false,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    for (flag, what) in [
        ("l3-cache-schema", "Intel RDT/CAT: l3 cache schema"),
        ("mem-bw-schema", "Intel RDT/MBA: memory bandwidth schema"),
    ] {
        if !parsed.text(flag).is_empty() {
            return Err(Failure::new(format!("--{flag}: {what} is not enabled")));
        }
    }
    let mut container = context.container(parsed)?;
    let resources = match parsed.text("resources") {
        "" => from_flags(parsed)?,
        path => read(path)?,
    };
    if !parsed.text("kernel-memory").is_empty() || !parsed.text("kernel-memory-tcp").is_empty() {
        context.log.warning("Kernel memory settings are ignored and will be removed");
    }
    container.update(&resources)?;
    Ok(0)
}

fn read(path: &str) -> Result<LinuxResources, Failure> {
    if path != "-" {
        return Ok(libcontainer::load_resources(path)?);
    }
    let doing = "read resources from the standard input";
    let mut text = Vec::new();
    let read = std::io::stdin().lock().take(MAX_RESOURCES + 1).read_to_end(&mut text);
    read.map_err(|e| Failure::os(doing, "read", e))?;
    if text.len() as u64 > MAX_RESOURCES {
        return Err(Failure::new(format!("{doing}: larger than 1 MiB")));
    }
    libcontainer::parse_resources(&text).map_err(|e| Failure::new(format!("{doing}: {e}")))
}

fn from_flags(parsed: &Parsed) -> Result<LinuxResources, Failure> {
    let text = |flag: &str| Some(parsed.text(flag).to_owned()).filter(|t| !t.is_empty());
    let invalid = |flag: &str, why: &str| Failure::new(format!("invalid value for {flag}: {why}"));
    let integer = |flag: &str| -> Result<Value, Failure> {
        let Some(text) = text(flag) else {
            return Ok(Value::Null);
        };
        Ok(Value::from(text.parse::<i64>().map_err(|e| invalid(flag, &e.to_string()))?))
    };
    let positive = |flag: &str| -> Result<Value, Failure> {
        let Some(text) = text(flag) else {
            return Ok(Value::Null);
        };
        Ok(Value::from(text.parse::<u64>().map_err(|e| invalid(flag, &e.to_string()))?))
    };
    let memory = |flag: &str| -> Result<Value, Failure> {
        let Some(text) = text(flag) else {
            return Ok(Value::Null);
        };
        Ok(Value::from(bytes(&text).map_err(|e| invalid(flag, &e))?))
    };
    let number = |flag: &str| Some(parsed.integer(flag)).filter(|n| *n != 0).map_or(Value::Null, Value::from);
    // 0 is a limit, too: the container's first process alone.
    let pids =
        if parsed.is_set("pids-limit") { Value::from(parsed.integer("pids-limit")) } else { Value::Null };
    let word = |flag: &str| text(flag).map_or(Value::Null, Value::from);
    let resources = object([
        (
            "cpu",
            object([
                ("shares", positive("cpu-share")?),
                ("quota", integer("cpu-quota")?),
                ("burst", positive("cpu-burst")?),
                ("period", positive("cpu-period")?),
                ("realtimeRuntime", integer("cpu-rt-runtime")?),
                ("realtimePeriod", positive("cpu-rt-period")?),
                ("cpus", word("cpuset-cpus")),
                ("mems", word("cpuset-mems")),
                ("idle", integer("cpu-idle")?),
            ]),
        ),
        (
            "memory",
            object([
                ("limit", memory("memory")?),
                ("reservation", memory("memory-reservation")?),
                ("swap", memory("memory-swap")?),
            ]),
        ),
        ("blockIO", object([("weight", number("blkio-weight"))])),
        ("pids", object([("limit", pids)])),
    ]);
    let resources = if resources.is_null() { Value::Object(Map::new()) } else { resources };
    serde_json::from_value(resources).map_err(|e| Failure::new(format!("invalid limits: {e}")))
}

/// An object of the members that have a value; null if none has.
fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members: Map<String, Value> =
        members.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.to_owned(), v)).collect();
    if members.is_empty() { Value::Null } else { Value::Object(members) }
}

/// Parses `-1`, or a size like `512m`, `1.5 GiB` or `100kB`. Suffixes are powers of 1024, in upper or lower case.
fn bytes(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let bad = || format!("invalid size: '{text}'");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let suffix = suffix.strip_prefix(' ').unwrap_or(suffix).to_ascii_lowercase();
    let power = match suffix.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ if number.is_empty() => return Err(bad()),
        _ => return Err(format!("invalid suffix: '{suffix}'")),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || fraction.len() > 15 {
        return Err(bad());
    }
    let unit = 1_i128 << (10 * power);
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
    let scale = 10_i128.pow(u32::try_from(fraction.len()).map_err(|_| bad())?);
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| bad())? };
    let total = whole.checked_mul(unit).and_then(|w| w.checked_add(part * unit / scale)).ok_or_else(bad)?;
    i64::try_from(total).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;
    use goflags::parse;

    #[test]
    fn sizes_are_bytes_with_suffixes_of_1024() {
        for (text, size) in [
            ("0", 0),
            ("-1", -1),
            ("12345", 12345),
            ("33554432", 33_554_432),
            ("512m", 512 << 20),
            ("512M", 512 << 20),
            ("1kb", 1024),
            ("1KiB", 1024),
            ("7b", 7),
            ("1.5g", 3 << 29),
            ("0.5k", 512),
            (".5k", 512),
            ("1 MB", 1 << 20),
            ("2t", 2 << 40),
            ("1p", 1 << 50),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for bad in [
            "",
            "m",
            "-2",
            "+1",
            "1x",
            "1mm",
            "1bb",
            "1kbb",
            "1..5m",
            ".",
            "9223372036854775808",
            "9000000p",
            "0x10",
            " 1",
            "1  m",
            "1e3",
        ] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_limits_with_a_flag_are_changed() {
        let resources = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
            from_flags(&parse(&[COMMAND.flags], &args, COMMAND.order).unwrap())
                .map(|r| serde_json::to_value(r).unwrap())
        };
        for (args, json) in [
            (&["x"][..], "{}"),
            (&["x", "--pids-limit", "-1"], r#"{"pids":{"limit":-1}}"#),
            (&["x", "--pids-limit", "0"], r#"{"pids":{"limit":0}}"#),
            (&["x", "--memory", "64m", "--memory-swap=-1"], r#"{"memory":{"limit":67108864,"swap":-1}}"#),
            (&["--cpu-quota", "-1", "--cpu-share", "5", "x"], r#"{"cpu":{"quota":-1,"shares":5}}"#),
            (&["--cpuset-cpus", "0-1", "--cpu-idle", "1", "x"], r#"{"cpu":{"cpus":"0-1","idle":1}}"#),
            (&["--blkio-weight", "500", "x"], r#"{"blockIO":{"weight":500}}"#),
        ] {
            assert_eq!(resources(args).unwrap(), serde_json::from_str::<Value>(json).unwrap(), "{args:?}");
        }
        for bad in [
            ["--memory", "1x"],
            ["--cpu-share", "-5"],
            ["--cpu-quota", "x"],
            ["--blkio-weight", "70000"],
            ["--cpu-idle", "yes"],
        ] {
            assert!(resources(&[bad[0], bad[1], "x"]).is_err(), "{bad:?}");
        }
    }
}
