//! The id maps of a new user namespace: checks them, and decides whether the parent writes them, or newuidmap and newgidmap if an
//! unprivileged caller wants more than its own id. It does not depend on which process runs as which user.

use super::{IdMap, IdMaps};
use crate::error::{Error, Result};
use crate::host::Host;
use oci_spec::runtime::LinuxIdMapping;

/// The kernel accepts this many ranges in a map (user_namespaces(7), Linux 4.15).
const MAX_RANGES: usize = 340;

/// The maps of a new user namespace.
pub(crate) fn maps(
    host: &Host,
    uids: Option<&Vec<LinuxIdMapping>>,
    gids: Option<&Vec<LinuxIdMapping>>,
) -> Result<IdMaps> {
    let uids = ranges("linux.uidMappings", "UID", host, uids)?;
    let gids = ranges("linux.gidMappings", "GID", host, gids)?;
    // user_namespaces(7): without CAP_SETUID in the parent namespace only the caller's own id can be mapped, and its group only
    // after setgroups is denied.
    let own = |map: &[IdMap], id: u32| matches!(map, [one] if one.outside == id && one.count == 1);
    let unprivileged = host.euid != 0;
    let with_helpers = unprivileged && !(own(&uids, host.euid) && own(&gids, host.egid));
    Ok(IdMaps { uids, gids, deny_setgroups: unprivileged && !with_helpers, with_helpers })
}

/// Checks the ranges of one map; `field` names it.
pub(crate) fn ranges(
    field: &str,
    kind: &str,
    host: &Host,
    list: Option<&Vec<LinuxIdMapping>>,
) -> Result<Vec<IdMap>> {
    let list = list.map_or(&[][..], Vec::as_slice);
    if list.is_empty() {
        let text = if host.euid != 0 {
            format!("{field}: rootless containers requires at least one {kind} mapping")
        } else {
            format!("{field}: a new user namespace needs at least one {kind} mapping, or a path to join")
        };
        return Err(Error::invalid(text));
    }
    let ranges = checked(field, list)?;
    if inside(&ranges, 0).is_none() {
        return Err(Error::invalid(format!(
            "{field}: the container's id 0 must be mapped: its file systems are created with it"
        )));
    }
    Ok(ranges)
}

/// The ranges of a map: none empty, and no overlaps.
pub(crate) fn checked(field: &str, list: &[LinuxIdMapping]) -> Result<Vec<IdMap>> {
    if list.len() > MAX_RANGES {
        return Err(Error::invalid(format!(
            "{field}: {} ranges; the kernel accepts {MAX_RANGES}",
            list.len()
        )));
    }
    let mut ranges: Vec<IdMap> = Vec::with_capacity(list.len());
    for (i, mapping) in list.iter().enumerate() {
        let range =
            IdMap { inside: mapping.container_id(), outside: mapping.host_id(), count: mapping.size() };
        if range.count == 0 {
            return Err(Error::invalid(format!("{field}[{i}].size: must not be 0")));
        }
        // The id u32::MAX means "none" to the kernel.
        if range.inside.checked_add(range.count).is_none() || range.outside.checked_add(range.count).is_none()
        {
            return Err(Error::invalid(format!("{field}[{i}].size: {} exceeds the largest id", range.count)));
        }
        if let Some(other) = ranges.iter().position(|o| overlaps(*o, range)) {
            return Err(Error::invalid(format!("{field}[{i}]: overlaps {field}[{other}]")));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

fn overlaps(a: IdMap, b: IdMap) -> bool {
    let meet = |a: u32, b: u32, a_count: u32, b_count: u32| a < b + b_count && b < a + a_count;
    meet(a.inside, b.inside, a.count, b.count) || meet(a.outside, b.outside, a.count, b.count)
}

/// The id outside that `id` inside is mapped to.
pub(crate) fn inside(ranges: &[IdMap], id: u32) -> Option<u32> {
    ranges.iter().find(|r| id >= r.inside && id - r.inside < r.count).map(|r| r.outside + (id - r.inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(euid: u32) -> Host {
        let json = format!(
            r#"{{"kernel":[6,18],"euid":{euid},"egid":{euid},"in_user_namespace":false,"cgroup":"None","apparmor":false,
            "selinux":false,"last_cap":40,"bounding":18446744073709551615}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn list(triples: &[(u32, u32, u32)]) -> Vec<LinuxIdMapping> {
        let json: Vec<String> = triples
            .iter()
            .map(|(c, h, s)| format!(r#"{{"containerID":{c},"hostID":{h},"size":{s}}}"#))
            .collect();
        serde_json::from_str(&format!("[{}]", json.join(","))).unwrap()
    }

    #[test]
    fn root_writes_any_map_itself_and_leaves_setgroups_alone() {
        let map = list(&[(0, 100_000, 65_536), (65_536, 7, 1)]);
        let maps = maps(&host(0), Some(&map), Some(&map)).unwrap();
        assert!(!maps.with_helpers && !maps.deny_setgroups);
        assert_eq!(inside(&maps.uids, 65_536), Some(7));
        assert_eq!(inside(&maps.uids, 65_537), None);
    }

    #[test]
    fn an_unprivileged_caller_maps_itself_and_needs_helpers_for_more() {
        let own = list(&[(0, 1000, 1)]);
        let more = list(&[(0, 1000, 1), (1, 100_000, 65_536)]);
        let alone = maps(&host(1000), Some(&own), Some(&own)).unwrap();
        assert!(alone.deny_setgroups && !alone.with_helpers);
        for (uids, gids) in [(&own, &more), (&more, &own), (&more, &more)] {
            let maps = maps(&host(1000), Some(uids), Some(gids)).unwrap();
            assert!(maps.with_helpers && !maps.deny_setgroups);
        }
    }

    #[test]
    fn contradictory_maps_are_refused_with_their_field() {
        let good = list(&[(0, 1, 1)]);
        for (bad, field) in [
            (list(&[]), "linux.uidMappings: "),
            (list(&[(0, 5, 0)]), "linux.uidMappings[0].size: "),
            (list(&[(0, u32::MAX, 1)]), "linux.uidMappings[0].size: "),
            (list(&[(0, 5, 10), (3, 100, 1)]), "linux.uidMappings[1]: overlaps"),
            (list(&[(0, 5, 10), (30, 14, 1)]), "linux.uidMappings[1]: overlaps"),
            (list(&[(1, 5, 10)]), "linux.uidMappings: the container's id 0"),
            (list(&vec![(0, 5, 1); 341]), "linux.uidMappings: 341 ranges"),
        ] {
            let e = maps(&host(0), Some(&bad), Some(&good)).unwrap_err();
            assert!(e.to_string().starts_with(field), "{e}");
        }
        let e = maps(&host(0), Some(&good), None).unwrap_err();
        assert!(e.to_string().starts_with("linux.gidMappings: "), "{e}");
        let e = maps(&host(7), None, None).unwrap_err();
        assert!(e.to_string().contains("rootless containers requires at least one UID mapping"), "{e}");
    }
}
