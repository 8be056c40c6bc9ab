//! Names of signals, for `STOPSIGNAL` (signal(7)).

const NAMES: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Whether this is a number or a name of a signal, in any case, with or without `SIG`.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = |start, last| {
        let offset = name.strip_prefix(start).filter(|offset| !offset.starts_with(['0', '+', '-']));
        offset.and_then(|offset| offset.parse::<u8>().ok()).is_some_and(|offset| offset <= last)
    };
    NAMES.contains(&name) || real_time("RTMIN+", 15) || real_time("RTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_name_or_a_number() {
        for good in [
            "SIGTERM",
            "TERM",
            "sigterm",
            "9",
            "64",
            "SIGRTMIN",
            "RTMIN+1",
            "SIGRTMIN+15",
            "RTMAX-14",
            "SIGIOT",
        ] {
            assert!(is_signal(good), "{good}");
        }
        for bad in [
            "",
            "SIG",
            "SIGFOO",
            "FOO",
            "0",
            "65",
            "-9",
            "9.0",
            "RTMIN+16",
            "RTMIN+",
            "RTMAX-15",
            "RTMIN+01",
            "SIGSIGTERM",
        ] {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}
