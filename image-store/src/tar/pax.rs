//! PAX extended headers: records of the form `length key=value\n` that override fields of an entry. No I/O.
//!
//! Source: POSIX.1-2017, pax, "pax Extended Header"; GNU tar manual, "Storing Sparse Files" and "PAX Format".

use base64::Engine as _;

use super::{Timestamp, show};
use crate::error::{Error, Result};

/// The records of an extended header.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Timestamp>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: SparseRecords,
}

/// GNU's records of sparse files, in the formats 0.0, 0.1 and 1.0.
#[derive(Clone, Debug, Default)]
pub(super) struct SparseRecords {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    pub map: Vec<u64>,
}

impl Pax {
    /// Parses the data of an entry of type `x`.
    pub(super) fn parse(mut data: &[u8]) -> Result<Self> {
        let mut pax = Self::default();
        while !data.is_empty() {
            let (key, value, rest) = record(data)?;
            pax.apply(key, value)?;
            data = rest;
        }
        Ok(pax)
    }

    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let unset = value.is_empty();
        match key {
            b"path" => self.path = name(key, value)?,
            b"linkpath" => self.link = name(key, value)?,
            b"size" => self.size = (!unset).then(|| decimal(key, value)).transpose()?,
            b"uid" => self.uid = (!unset).then(|| decimal(key, value)).transpose()?,
            b"gid" => self.gid = (!unset).then(|| decimal(key, value)).transpose()?,
            b"mtime" => self.mtime = (!unset).then(|| time(value)).transpose()?,
            b"GNU.sparse.major" => self.sparse.major = Some(decimal(key, value)?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(decimal(key, value)?),
            b"GNU.sparse.name" => self.sparse.name = name(key, value)?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.real_size = Some(decimal(key, value)?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.map.push(decimal(key, value)?),
            b"GNU.sparse.map" => {
                self.sparse.map =
                    value.split(|b| *b == b',').map(|n| decimal(key, n)).collect::<Result<_>>()?;
            }
            _ => self.apply_xattr(key, value)?,
        }
        Ok(())
    }

    /// `SCHILY.xattr.` has the raw value, `LIBARCHIVE.xattr.` a base64 value and a percent-encoded name.
    fn apply_xattr(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let (name, value) = if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            (name.to_vec(), value.to_vec())
        } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let engine = base64::engine::GeneralPurpose::new(
                &base64::alphabet::STANDARD,
                base64::engine::GeneralPurposeConfig::new()
                    .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
            );
            let decoded = engine.decode(value);
            let decoded = decoded.map_err(|e| Error::invalid(format!("PAX record {}: {e}", show(key))))?;
            (percent_decode(name), decoded)
        } else {
            return Ok(());
        };
        if name.is_empty() || name.contains(&0) {
            return Err(Error::invalid(format!(
                "PAX record {}: missing or invalid attribute name",
                show(key)
            )));
        }
        // Archives written by libarchive have each attribute in both forms.
        self.xattrs.retain(|(known, _)| *known != name);
        self.xattrs.push((name, value));
        Ok(())
    }
}

/// Splits off the first record: key, value, rest. The length includes itself, the space and the newline.
fn record(data: &[u8]) -> Result<(&[u8], &[u8], &[u8])> {
    let wrong = || Error::invalid(format!("malformed PAX record at {}", show(&data[..data.len().min(30)])));
    let space = data.iter().position(|b| *b == b' ').ok_or_else(wrong)?;
    let length = usize::try_from(decimal(b"length", &data[..space])?).map_err(|_| wrong())?;
    if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
        return Err(wrong());
    }
    let content = &data[space + 1..length - 1];
    let equals = content.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
    if equals == 0 {
        return Err(wrong());
    }
    Ok((&content[..equals], &content[equals + 1..], &data[length..]))
}

fn name(key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>> {
    if value.contains(&0) {
        return Err(Error::invalid(format!("PAX record {}: contains a NUL byte", show(key))));
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

/// Parses digits, without sign or spaces, to at most 64 bits.
pub(super) fn decimal(key: &[u8], value: &[u8]) -> Result<u64> {
    let wrong = || Error::invalid(format!("PAX record {}: {} is not a number", show(key), show(value)));
    if value.is_empty() || value.len() > 20 {
        return Err(wrong());
    }
    let mut number = 0_u64;
    for byte in value {
        let digit = byte.checked_sub(b'0').filter(|d| *d < 10).ok_or_else(wrong)?;
        number = number.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit))).ok_or_else(wrong)?;
    }
    Ok(number)
}

/// Parses decimal seconds; digits after the ninth decimal place are dropped.
fn time(value: &[u8]) -> Result<Timestamp> {
    let wrong = || Error::invalid(format!("PAX record \"mtime\": {} is not a timestamp", show(value)));
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let (whole, fraction) = match digits.iter().position(|b| *b == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &b""[..]),
    };
    let whole = if whole.is_empty() { 0 } else { decimal(b"mtime", whole)? };
    let seconds = i64::try_from(whole).map_err(|_| wrong())?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let mut nanoseconds = 0_u32;
    for at in 0..9 {
        nanoseconds = nanoseconds * 10 + fraction.get(at).map_or(0, |b| u32::from(b - b'0'));
    }
    if !negative {
        return Ok(Timestamp { seconds, nanoseconds });
    }
    if nanoseconds == 0 {
        return Ok(Timestamp { seconds: -seconds, nanoseconds });
    }
    Ok(Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds })
}

fn percent_decode(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut at = 0;
    while at < name.len() {
        let hex = name.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (name[at], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(records: &[(&[u8], &[u8])]) -> Pax {
        let mut data = Vec::new();
        records.iter().for_each(|(key, value)| crate::tar::writer::record(&mut data, key, value));
        Pax::parse(&data).unwrap()
    }

    #[test]
    fn records_override_and_empty_values_take_back() {
        let pax = parse(&[(b"path", b"a/b"), (b"path", b"\xff\xfe/c"), (b"size", b"7"), (b"size", b"")]);
        assert_eq!(pax.path.unwrap(), b"\xff\xfe/c");
        assert_eq!(pax.size, None);
    }

    #[test]
    fn attributes_are_bytes() {
        let pax = parse(&[(b"SCHILY.xattr.user.a", b"\0=\n\xff"), (b"LIBARCHIVE.xattr.user%2e", b"AAE")]);
        assert_eq!(
            pax.xattrs,
            [(b"user.a".to_vec(), b"\0=\n\xff".to_vec()), (b"user.".to_vec(), vec![0, 1])]
        );
    }

    #[test]
    fn times_before_the_epoch_have_positive_nanoseconds() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("-1.5", -2, 500_000_000),
            ("1.1234567899", 1, 123_456_789),
            ("-3", -3, 0),
            (".25", 0, 250_000_000),
        ] {
            assert_eq!(time(text.as_bytes()).unwrap(), Timestamp { seconds, nanoseconds }, "{text}");
        }
        for bad in ["1.x", "--1", "1e3", "99999999999999999999"] {
            assert!(time(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn broken_records_are_refused() {
        for bad in [
            &b"5 a=b"[..],
            b"7 a=b\n",
            b"6 a=bc",
            b"6 =bc\n",
            b"6 abc\n",
            b"-6 a=b\n",
            b"99999999999999999999999 a=b\n",
            b"0 a=b\n",
            b"1 \n",
            b"13 path=a\0bc\n",
            b"12 size=-1x\n",
            b"x",
        ] {
            assert!(Pax::parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
