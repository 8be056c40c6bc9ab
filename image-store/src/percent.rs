//! Percent-encoding of bytes as one path component, and decoding. No I/O.

use crate::error::{Error, Result};

/// Encodes all bytes except letters, digits, `_-@`, `.` (unless it is the first byte) and those in `also_plain`.
pub(crate) fn encode(bytes: &[u8], also_plain: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"_-@".contains(byte) || also_plain.contains(byte);
        if plain || (*byte == b'.' && at > 0) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

pub(crate) fn decode(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let hex = after.get(..2).and_then(|h| std::str::from_utf8(h).ok());
            let byte = hex.and_then(|h| u8::from_str_radix(h, 16).ok());
            bytes.push(byte.ok_or_else(|| Error::invalid(format!("{text:?}: invalid percent encoding")))?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back() {
        let all: Vec<u8> = (0..=255).collect();
        let text = encode(&all, b"");
        assert!(!text.contains('/') && text.is_ascii());
        assert_eq!(decode(&text).unwrap(), all);
        assert_eq!(encode(b"..", b""), "%2E.");
        assert_eq!(encode(b"a/b c", b"/"), "a/b%20c");
        assert!(decode("%zz").is_err() && decode("%2").is_err());
    }
}
