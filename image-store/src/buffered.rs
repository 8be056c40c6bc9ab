//! `Read::read` for types that implement `BufRead`, which std requires but does not provide.

use std::io::{self, BufRead};

/// Copies out what is buffered, as `Read::read` does.
pub(crate) fn read(input: &mut impl BufRead, out: &mut [u8]) -> io::Result<usize> {
    let available = input.fill_buf()?;
    let length = available.len().min(out.len());
    out[..length].copy_from_slice(&available[..length]);
    input.consume(length);
    Ok(length)
}
