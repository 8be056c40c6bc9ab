//! `Read` for those who already are `BufRead`, which std asks for and gives no way to. Knows nothing of what is read.

use std::io::{self, BufRead};

/// Copies out what the buffer has, as `Read::read` wants it.
pub(crate) fn read(input: &mut impl BufRead, out: &mut [u8]) -> io::Result<usize> {
    let available = input.fill_buf()?;
    let length = available.len().min(out.len());
    out[..length].copy_from_slice(&available[..length]);
    input.consume(length);
    Ok(length)
}
