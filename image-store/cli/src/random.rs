//! Random IDs.

use crate::failure::{Result, os};

/// A container's or volume's ID: 64 hexadecimal digits, as in Docker.
pub(crate) fn id() -> Result<String> {
    let mut random = [0; 32];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| os(errno, "getrandom"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
