//! The five capability sets as bit masks. Capabilities that the host cannot give are left out with a warning, as the specification
//! demands; sets that the kernel would refuse without naming a capability are refused here by name.

use super::step::CapSets;
use crate::error::{Error, Result};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use std::str::FromStr;

/// The sets of a process. `available` holds all that the process can have: the caller's bounding set or, in a user namespace of the
/// container, all that the kernel knows.
pub(crate) fn sets(caps: &LinuxCapabilities, available: u64, warnings: &mut Vec<String>) -> Result<CapSets> {
    let mut missing = 0;
    let mut mask = |names: &Option<Capabilities>| -> Result<u64> {
        let wanted = mask_of(names)?;
        missing |= wanted & !available;
        Ok(wanted & available)
    };
    let sets = CapSets {
        bounding: mask(caps.bounding())?,
        effective: mask(caps.effective())?,
        permitted: mask(caps.permitted())?,
        inheritable: mask(caps.inheritable())?,
        ambient: mask(caps.ambient())?,
    };
    if missing != 0 {
        warnings.push(format!("ignoring unknown or unavailable capabilities: {}", names_of(missing)));
    }
    refuse("effective", sets.effective & !sets.permitted, "permitted")?;
    refuse("inheritable", sets.inheritable & !sets.bounding, "bounding")?;
    // prctl(2) PR_CAP_AMBIENT_RAISE: both permitted and inheritable, else EPERM. runc warns and continues; so do we.
    let ambient = sets.ambient & sets.permitted & sets.inheritable;
    for cap in bits(sets.ambient & !ambient) {
        warnings.push(format!(
            "can't raise ambient capability {}: it is not both permitted and inheritable",
            name_of(cap)
        ));
    }
    Ok(CapSets { ambient, ..sets })
}

fn refuse(set: &str, excess: u64, of: &str) -> Result<()> {
    if excess == 0 {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "process.capabilities.{set}: {} not in {of} (capabilities(7))",
        names_of(excess)
    )))
}

fn mask_of(names: &Option<Capabilities>) -> Result<u64> {
    names.iter().flatten().try_fold(0, |mask, cap| Ok(mask | 1 << number(*cap)?))
}

fn number(cap: Capability) -> Result<u8> {
    let name = format!("CAP_{cap}");
    caps::Capability::from_str(&name)
        .map(|c| c.index())
        .map_err(|_| Error::unsupported(format!("process.capabilities: unknown capability {name}")))
}

fn bits(mask: u64) -> impl Iterator<Item = u8> {
    (0..64u8).filter(move |n| mask >> n & 1 == 1)
}

fn name_of(number: u8) -> String {
    caps::all()
        .iter()
        .find(|c| c.index() == number)
        .map_or_else(|| format!("capability {number}"), ToString::to_string)
}

/// The names in a mask, by number.
pub(crate) fn names_of(mask: u64) -> String {
    bits(mask).map(name_of).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(json: &str) -> LinuxCapabilities {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn names_become_bits_and_the_empty_object_drops_everything() {
        let all = r#"["CAP_CHOWN","CAP_KILL"]"#;
        let json = format!(r#"{{"bounding":{all},"effective":{all},"permitted":{all}}}"#);
        let mut warnings = Vec::new();
        let sets = sets(&caps(&json), u64::MAX, &mut warnings).unwrap();
        assert_eq!(
            sets,
            CapSets { bounding: 0x21, effective: 0x21, permitted: 0x21, inheritable: 0, ambient: 0 }
        );
        assert_eq!(super::sets(&caps("{}"), u64::MAX, &mut warnings).unwrap(), CapSets::default());
        assert!(warnings.is_empty());
    }

    #[test]
    fn every_capability_of_the_specification_has_a_number() {
        for cap in caps::all() {
            let parsed: Capability = serde_json::from_str(&format!("\"{cap}\"")).unwrap();
            assert_eq!(number(parsed).unwrap(), cap.index());
        }
    }

    #[test]
    fn what_the_host_lacks_is_left_out_with_a_warning() {
        let both = r#"["CAP_CHOWN","CAP_SYS_RESOURCE"]"#;
        let json = format!(r#"{{"bounding":{both},"effective":{both},"permitted":{both}}}"#);
        let mut warnings = Vec::new();
        let sets = sets(&caps(&json), !(1 << 24), &mut warnings).unwrap();
        assert_eq!((sets.bounding, sets.effective, sets.permitted), (1, 1, 1));
        assert_eq!(warnings, ["ignoring unknown or unavailable capabilities: CAP_SYS_RESOURCE"]);
    }

    #[test]
    fn ambient_needs_permitted_and_inheritable_and_only_warns() {
        let mut warnings = Vec::new();
        let json = r#"{"bounding":["CAP_CHOWN"],"permitted":["CAP_CHOWN"],"ambient":["CAP_CHOWN"]}"#;
        assert_eq!(sets(&caps(json), u64::MAX, &mut warnings).unwrap().ambient, 0);
        assert!(warnings[0].starts_with("can't raise ambient capability CAP_CHOWN"), "{warnings:?}");
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused_by_name() {
        let e = sets(&caps(r#"{"effective":["CAP_KILL"]}"#), u64::MAX, &mut Vec::new()).unwrap_err();
        assert!(
            e.to_string().starts_with("process.capabilities.effective: CAP_KILL not in permitted"),
            "{e}"
        );
        let e = sets(&caps(r#"{"inheritable":["CAP_KILL"]}"#), u64::MAX, &mut Vec::new()).unwrap_err();
        assert!(
            e.to_string().starts_with("process.capabilities.inheritable: CAP_KILL not in bounding"),
            "{e}"
        );
    }
}
