//! CPUs, scheduling and memory policies.

use super::*;
use crate::plan::process::tests::process;
use crate::plan::process::{oom_score_adj, settings};

#[test]
fn scheduling_follows_the_rules_of_sched_setattr() {
    let of = |json: &str| settings(&process(json)).map(|s| (s.scheduler, s.io_priority));
    let fifo =
        of(r#"{"scheduler":{"policy":"SCHED_FIFO","priority":9,"flags":["SCHED_RESET_ON_FORK"]}}"#).unwrap();
    assert_eq!(fifo.0, Some(Scheduler { policy: 1, priority: 9, flags: 1, ..Scheduler::default() }));
    let idle = of(r#"{"ioPriority":{"class":"IOPRIO_CLASS_IDLE","priority":3}}"#).unwrap();
    assert_eq!(idle.1, Some(3 << 13 | 3));
    for json in [
        r#"{"scheduler":{"policy":"SCHED_OTHER","nice":20}}"#,
        r#"{"scheduler":{"policy":"SCHED_BATCH","priority":1}}"#,
        r#"{"scheduler":{"policy":"SCHED_FIFO","priority":-1}}"#,
        r#"{"scheduler":{"policy":"SCHED_FIFO","runtime":1}}"#,
        r#"{"scheduler":{"policy":"SCHED_ISO"}}"#,
        r#"{"ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}}"#,
    ] {
        assert!(of(json).is_err(), "{json}");
    }
    assert!(oom_score_adj(&process(r#"{"oomScoreAdj":1001}"#)).is_err());
    assert!(oom_score_adj(&process("{}")).unwrap().is_none());
}

#[test]
fn affinities_are_ranges_first_and_a_mask_at_last() {
    let spec = process(r#"{"execCPUAffinity":{"initial":"0-1","final":"1,64-65"}}"#);
    let (initial, last) = affinity(&spec).unwrap();
    assert_eq!(initial, [(0, 1)]);
    assert_eq!(last, Some(Step::Affinity { mask: vec![2, 3], required: true }));
    assert_eq!(affinity(&process(r#"{"execCPUAffinity":{"initial":"0"}}"#)).unwrap().1, None);
    assert_eq!(affinity(&process("{}")).unwrap().1, Some(every_cpu()));
    for list in ["3-1", "99999999999", "8192", "1-", "+1", "1,,2"] {
        assert!(number_list("x", list, MAX_CPUS).is_err(), "{list}");
    }
}

#[test]
fn memory_policies_have_the_kernels_numbers() {
    let of = |json: &str| memory_policy(&serde_json::from_str(json).unwrap());
    let bind = of(r#"{"mode":"MPOL_BIND","nodes":"0-1","flags":["MPOL_F_STATIC_NODES"]}"#).unwrap();
    assert_eq!(bind, Step::MemoryPolicy { mode: 2 | 1 << 15, nodes: vec![3] });
    for json in [
        r#"{"mode":"MPOL_BIND"}"#,
        r#"{"mode":"MPOL_DEFAULT","nodes":"0"}"#,
        r#"{"mode":"MPOL_BIND","nodes":"a"}"#,
        r#"{"mode":"MPOL_BIND","nodes":"1024"}"#,
    ] {
        assert!(of(json).is_err(), "{json}");
    }
}
