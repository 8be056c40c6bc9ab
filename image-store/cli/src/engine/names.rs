//! Random names for containers without one.

use crate::failure::{Result, invalid, os};

const HOW: &[&str] = &[
    "amber", "bold", "brisk", "calm", "clever", "dapper", "eager", "fleet", "frosty", "gentle", "hardy",
    "jolly", "keen", "lively", "lucky", "merry", "nimble", "patient", "proud", "quiet", "rapid", "sturdy",
    "sunny", "swift", "tidy", "upbeat", "vivid", "wise", "witty", "zesty",
];
const WHAT: &[&str] = &[
    "anchor", "barge", "beacon", "bosun", "bow", "buoy", "clipper", "compass", "coxswain", "cutter",
    "dinghy", "ferry", "frigate", "galley", "gull", "harbour", "helm", "hull", "keel", "ketch", "lagoon",
    "mast", "oar", "pilot", "quay", "rudder", "sail", "schooner", "skiff", "sloop", "tide", "wharf",
];

/// A name such as `swift_keel` that is not taken; with a number if most are.
pub(crate) fn random_name(taken: impl Fn(&str) -> bool) -> Result<String> {
    for round in 0..100 {
        let mut random = [0; 3];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| os(errno, "getrandom"))?;
        let [how, what, number] = random.map(usize::from);
        let mut name = format!("{}_{}", HOW[how % HOW.len()], WHAT[what % WHAT.len()]);
        if round > 9 {
            name.push_str(&(number + 256 * round).to_string());
        }
        if !taken(&name) {
            return Ok(name);
        }
    }
    Err(invalid("no free random name for the container: use --name"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_taken_name_is_not_used() {
        let first = super::random_name(|_| false).unwrap();
        assert!(first.contains('_') && crate::engine::options::name(&first).is_ok());
        let numbered = super::random_name(|name| !name.contains(|c: char| c.is_ascii_digit())).unwrap();
        assert!(numbered.ends_with(|c: char| c.is_ascii_digit()));
        assert!(super::random_name(|_| true).is_err());
    }
}
