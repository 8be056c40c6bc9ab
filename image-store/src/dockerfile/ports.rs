//! The ports of `EXPOSE`: `80`, `53/udp`, `8000-8003`; what is before a colon is a host's side, which an image does not have.

use std::net::IpAddr;

use crate::error::{Error, Result};

/// The ports in a word, as an image's config has them: `80/tcp`.
pub(super) fn ports(word: &str) -> Result<Vec<String>> {
    let wrong = || {
        Error::invalid(format!(
            "{word:?}: must be a port or a range of ports, such as 80, 53/udp or 8000-8003"
        ))
    };
    let (host, port) = word.rsplit_once(':').map_or((None, word), |(host, port)| (Some(host), port));
    let (numbers, protocol) = port.split_once('/').unwrap_or((port, ""));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() };
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) || !host.is_none_or(is_host) {
        return Err(wrong());
    }
    let (first, last) = range(numbers).ok_or_else(wrong)?;
    Ok((first..=last).map(|number| format!("{number}/{protocol}")).collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok())?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// `[ADDRESS:][PORTS]`
fn is_host(text: &str) -> bool {
    let (address, ports) = text.rsplit_once(':').unwrap_or(("", text));
    let address = address.trim_start_matches('[').trim_end_matches(']');
    (address.is_empty() || address.parse::<IpAddr>().is_ok()) && (ports.is_empty() || range(ports).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_port_or_a_range() {
        for (word, expected) in [
            ("80", &["80/tcp"][..]),
            ("53/udp", &["53/udp"]),
            ("53/UDP", &["53/udp"]),
            ("9/sctp", &["9/sctp"]),
            ("80/", &["80/tcp"]),
            ("8000-8003", &["8000/tcp", "8001/tcp", "8002/tcp", "8003/tcp"]),
            ("65535/udp", &["65535/udp"]),
            ("8080:80", &["80/tcp"]),
            ("127.0.0.1::80", &["80/tcp"]),
            ("[::1]:8080:80", &["80/tcp"]),
        ] {
            assert_eq!(ports(word).unwrap(), expected, "{word}");
        }
        for bad in [
            "",
            "http",
            "80/http",
            "65536",
            "-1",
            "+80",
            "8003-8000",
            "80-",
            "1-2-3",
            "x:80",
            "1:2:80:",
            "a:1:80",
        ] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }
}
