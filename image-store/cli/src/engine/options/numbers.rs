//! Limits: parses sizes, counts and times, and checks their range. No I/O.

use libcontainer::spec::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

use crate::cli::Args;
use crate::failure::{Result, invalid};

/// The limits of a container, by its cgroup and setrlimit(2).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Limits {
    pub(crate) memory: Option<i64>,
    /// Memory and swap; -1 for no limit.
    pub(crate) swap: Option<i64>,
    pub(crate) reservation: Option<i64>,
    /// Microseconds per period.
    pub(crate) quota: Option<i64>,
    pub(crate) period: Option<u64>,
    pub(crate) shares: Option<u64>,
    pub(crate) cpus: Option<String>,
    pub(crate) mems: Option<String>,
    pub(crate) weight: Option<u16>,
    pub(crate) pids: Option<i64>,
    pub(crate) oom_score: Option<i32>,
    pub(crate) shm: u64,
    /// config.json's `process.rlimits`.
    pub(crate) rlimits: Vec<PosixRlimit>,
}

const SHM: u64 = 64 << 20;

pub(crate) fn limits(args: &Args) -> Result<Limits> {
    let size = |flag: &str| args.get(flag).map(|text| bytes(text, flag)).transpose();
    let swap = match args.get("memory-swap") {
        Some("-1") => Some(-1),
        _ => size("memory-swap")?,
    };
    let mut limits = Limits {
        memory: size("memory")?,
        swap,
        reservation: size("memory-reservation")?,
        quota: args.get("cpu-quota").map(|text| count(text, "--cpu-quota")).transpose()?,
        period: args.get("cpu-period").map(|text| count(text, "--cpu-period")).transpose()?,
        shares: args.get("cpu-shares").map(|text| count(text, "--cpu-shares")).transpose()?,
        cpus: args.get("cpuset-cpus").map(|text| list(text, "--cpuset-cpus")).transpose()?,
        mems: args.get("cpuset-mems").map(|text| list(text, "--cpuset-mems")).transpose()?,
        weight: args.get("blkio-weight").map(|text| count(text, "--blkio-weight")).transpose()?,
        pids: args.get("pids-limit").map(|text| count(text, "--pids-limit")).transpose()?,
        oom_score: args.get("oom-score-adj").map(|text| count(text, "--oom-score-adj")).transpose()?,
        shm: size("shm-size")?.map_or(SHM, i64::unsigned_abs),
        rlimits: args.all("ulimit").map(ulimit).collect::<Result<_>>()?,
    };
    if let Some(text) = args.get("cpus") {
        if limits.quota.is_some() || limits.period.is_some() {
            return Err(invalid("--cpus: cannot be combined with --cpu-period or --cpu-quota"));
        }
        (limits.period, limits.quota) = (Some(100_000), Some(cpus(text)?));
    }
    if let Some(swap) = limits.swap.filter(|swap| *swap != -1) {
        match limits.memory {
            None => return Err(invalid("--memory-swap: requires --memory")),
            Some(memory) if swap < memory => {
                return Err(invalid("--memory-swap: must not be less than --memory"));
            }
            _ => {}
        }
    }
    if limits.oom_score.is_some_and(|score| !(-1000..=1000).contains(&score)) {
        return Err(invalid("--oom-score-adj: must be between -1000 and 1000"));
    }
    if limits.weight.is_some_and(|weight| weight != 0 && !(10..=1000).contains(&weight)) {
        return Err(invalid("--blkio-weight: must be between 10 and 1000"));
    }
    Ok(limits)
}

pub(crate) fn count<N: std::str::FromStr>(text: &str, flag: &str) -> Result<N> {
    text.parse().map_err(|_| invalid(format!("{flag} {text:?}: must be a number")))
}

/// `512m`, `1g`, `1048576`.
fn bytes(text: &str, flag: &str) -> Result<i64> {
    let wrong = || invalid(format!("--{flag} {text:?}: must be a size such as 512m (units: b, k, m, g)"));
    let lower = text.to_ascii_lowercase();
    let lower = lower
        .strip_suffix("ib")
        .or_else(|| lower.strip_suffix('b').filter(|t| t.ends_with(|c: char| c.is_ascii_alphabetic())))
        .unwrap_or(&lower);
    let (digits, unit) = lower.split_at(lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len()));
    let factor: i64 = match unit {
        "" | "b" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err(wrong()),
    };
    digits.parse::<i64>().ok().and_then(|n| n.checked_mul(factor)).filter(|n| *n > 0).ok_or_else(wrong)
}

/// As microseconds per 100 ms.
fn cpus(text: &str) -> Result<i64> {
    let wrong = || invalid(format!("--cpus {text:?}: must be a number between 0.01 and 8192"));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() > 4 || whole.len() + fraction.len() == 0 {
        return Err(wrong());
    }
    let padded: String = fraction.chars().chain("00000".chars()).take(5).collect();
    let micro = format!("{whole}{padded}").parse::<i64>().map_err(|_| wrong())?;
    if (1_000..=819_200_000).contains(&micro) { Ok(micro) } else { Err(wrong()) }
}

/// A list such as `0-2,4`, in the format of the kernel.
fn list(text: &str, flag: &str) -> Result<String> {
    let number = |part: &str| !part.is_empty() && part.len() < 6 && part.bytes().all(|b| b.is_ascii_digit());
    let range = |part: &str| part.split('-').count() <= 2 && part.split('-').all(number);
    if text.split(',').all(range) {
        return Ok(text.to_owned());
    }
    Err(invalid(format!("{flag} {text:?}: must be a list such as 0-2,4")))
}

fn ulimit(text: &str) -> Result<PosixRlimit> {
    let wrong = || invalid(format!("--ulimit {text:?}: must be NAME=SOFT[:HARD], such as nofile=1024:4096"));
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let kind = format!("RLIMIT_{}", name.to_ascii_uppercase()).parse::<PosixRlimitType>();
    let kind = kind.map_err(|_| invalid(format!("--ulimit {text:?}: unknown limit {name:?}")))?;
    let value = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        digits => digits.parse::<u64>().map_err(|_| wrong()),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (value(soft)?, value(hard)?);
    if soft > hard {
        return Err(invalid(format!("--ulimit {text:?}: soft limit exceeds hard limit")));
    }
    let limit = PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build();
    limit.map_err(|e| invalid(format!("--ulimit {text:?}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_numbers_have_their_range() {
        for (text, wanted) in [
            ("1024", 1024),
            ("4k", 4096),
            ("512M", 512 << 20),
            ("1gb", 1 << 30),
            ("2GiB", 2 << 30),
            ("7b", 7),
        ] {
            assert_eq!(bytes(text, "memory").unwrap(), wanted, "{text}");
        }
        for bad in ["", "-1", "0", "1x", "x", "99999999999g"] {
            assert!(bytes(bad, "memory").is_err(), "{bad}");
        }
        for (text, wanted) in [("1.5", 150_000), ("2", 200_000), (".5", 50_000), ("0.01", 1_000)] {
            assert_eq!(cpus(text).unwrap(), wanted, "{text}");
        }
        for bad in ["0", "nan", "", ".", "-1", "1e3", "99999"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
        assert!(list("0-2,4", "x").is_ok() && list("0-", "x").is_err() && list("a", "x").is_err());
    }

    #[test]
    fn limits_of_processes_have_names_and_an_order() {
        let parsed = ulimit("nofile=1024:4096").unwrap();
        assert_eq!((parsed.typ(), parsed.soft(), parsed.hard()), (PosixRlimitType::RlimitNofile, 1024, 4096));
        assert_eq!(ulimit("core=-1").unwrap().hard(), u64::MAX);
        for bad in ["nofile", "nofile=2:1", "files=1", "nofile=x"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }
}
