//! Older kernels, and outer seccomp filters: the tests of other topics with a runtime for which system calls do not exist.
//! `WITHOUT=all make test-host` does so with every test.

use integration::process::forget_orphans;
use integration::without::{AS_5_4, AS_5_10, CALLS, COMMON};
use integration::{Kind, Lab, Outcome, Test, fail, has, tests, yes};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests!["oldkernel":
    without_clone3_containers_come_and_go,
    without_a_part_of_the_mount_calls_containers_come_and_go,
    without_openat2_containers_come_and_go,
    without_the_newer_calls_for_descriptors_and_access_containers_come_and_go,
    without_a_pidfd_for_setns_containers_are_entered,
    mounts_are_the_same_as_on_linux_5_10,
    containers_come_and_go_as_on_linux_5_4,
    without_any_of_the_calls_all_kinds_of_mounts_work,
    without_any_of_the_calls_namespaces_are_made_and_joined,
    without_any_of_the_calls_containers_are_entered_and_hooks_run,
    without_any_of_the_calls_a_user_runs_containers,
    without_any_of_the_calls_hostile_roots_stay_closed_in,
    what_has_no_other_way_is_refused_by_name,
    calls_that_an_outer_filter_refuses_are_done_without,
];

/// A container's life, each step of it.
const LIFE: &[&str] = &[
    "lifecycle::create_does_not_run_the_program_and_start_does",
    "lifecycle::delete_force_ends_a_running_container",
    "run::descriptors_of_the_caller_do_not_leak",
    "run::preserved_descriptors_are_passed_and_no_others",
    "exec::exec_joins_every_namespace_of_the_container",
    "exec::exec_joins_the_cgroup_of_the_container",
    "hooks::all_kinds_run_in_order_and_at_their_time",
    "mounts::the_default_mounts_are_what_they_should_be",
    "mounts::a_bind_is_read_only_when_asked",
    "mounts::tmpcopyup_copies_what_the_tmpfs_covers",
    "root::masked_paths_read_as_empty",
    "root::read_only_paths_are_read_only",
    "root::a_read_only_root_is_read_only",
    "root::a_shared_mount_sends_to_the_host",
    "namespaces::a_user_namespace_maps_ids",
    "namespaces::sysctls_of_the_namespaces_are_set",
    "terminals::the_terminal_is_the_controlling_terminal_and_dev_console",
    "rootless::a_user_creates_starts_enters_and_deletes",
];

/// What the mount calls do in it.
const MOUNTS: &[&str] = &[
    "mounts::the_default_mounts_are_what_they_should_be",
    "mounts::a_bind_is_read_only_when_asked",
    "mounts::tmpcopyup_copies_what_the_tmpfs_covers",
    "root::masked_paths_read_as_empty",
    "root::rootfs_propagation_is_set",
    "rootless::a_user_creates_starts_enters_and_deletes",
];

/// Tests that ask for what an older kernel cannot do, or see the filter that stands for it.
const NOT_POSSIBLE: &[&str] = &[
    "mounts::a_recursive_read_only_bind_is_read_only_below",
    "mounts::idmapped_binds_show_mapped_owners",
    "mounts::idmapped_binds_inside_the_root_work_in_a_user_namespace",
    // newuidmap gains no rights below a user's own filter.
    "rootless::a_user_with_a_range_of_ids_runs_a_container",
    "rootless::a_range_that_is_not_the_users_is_refused",
    "rootless::groups_are_not_gained",
    "rootless::without_newuidmap_a_range_is_refused",
];

/// The tests whose full names begin with one of `wanted`, each in a place of its own, without `calls`.
fn other_tests(lab: &Lab, calls: &str, wanted: &[&str]) -> Outcome {
    lab.except(Kind::Runc, "it is knarr's other ways that are tested")?;
    lab.except(Kind::Crun, "it is knarr's other ways that are tested")?;
    let topics = [
        crate::lifecycle::TESTS,
        crate::run::TESTS,
        crate::exec::TESTS,
        crate::terminals::TESTS,
        crate::hooks::TESTS,
        crate::namespaces::TESTS,
        crate::mounts::TESTS,
        crate::root::TESTS,
        crate::rootless::TESTS,
        crate::cves_paths::TESTS,
    ];
    let tests: Vec<_> = topics
        .into_iter()
        .flatten()
        .map(|test| (format!("{}::{}", test.topic, test.name), test))
        .filter(|(name, _)| wanted.iter().any(|w| name.starts_with(w)))
        .filter(|(name, _)| !NOT_POSSIBLE.contains(&name.as_str()))
        .collect();
    yes(tests.len() >= wanted.len(), format!("there are tests for all of {wanted:?}"))?;
    for (number, (name, test)) in tests.iter().enumerate() {
        let place = lab.inner(&format!("{number}"))?.without(calls);
        forget_orphans();
        match (test.run)(&place) {
            Err(integration::Stop::Failed(why)) => return fail(format!("{name} without {calls}: {why}")),
            // The test itself has reported what this machine cannot do.
            Err(integration::Stop::Skipped(_)) | Ok(()) => {}
        }
    }
    Ok(())
}

fn without_clone3_containers_come_and_go(lab: &Lab) -> Outcome {
    other_tests(lab, "clone3", LIFE)
}

fn without_a_part_of_the_mount_calls_containers_come_and_go(lab: &Lab) -> Outcome {
    for (number, call) in
        ["open_tree", "move_mount", "mount_setattr", "fsopen", "fsconfig", "fsmount"].iter().enumerate()
    {
        other_tests(&lab.inner(&format!("part{number}"))?, call, MOUNTS)?;
    }
    Ok(())
}

fn without_openat2_containers_come_and_go(lab: &Lab) -> Outcome {
    other_tests(lab, "openat2", &[LIFE, &["mounts::an_absolute_symlink", "mounts::a_"]].concat())
}

fn without_the_newer_calls_for_descriptors_and_access_containers_come_and_go(lab: &Lab) -> Outcome {
    for (number, call) in ["close_range", "close_range_cloexec", "faccessat2"].iter().enumerate() {
        let wanted = ["run::descriptors", "run::preserved", "run::a_program", "exec::preserved_descriptors"];
        other_tests(&lab.inner(&format!("part{number}"))?, call, &wanted)?;
    }
    Ok(())
}

fn without_a_pidfd_for_setns_containers_are_entered(lab: &Lab) -> Outcome {
    other_tests(lab, "setns_pidfd", &["exec::exec_", "hooks::hooks_of", "rootless::a_user_creates"])
}

fn mounts_are_the_same_as_on_linux_5_10(lab: &Lab) -> Outcome {
    other_tests(lab, AS_5_10, &["mounts::", "root::"])
}

fn containers_come_and_go_as_on_linux_5_4(lab: &Lab) -> Outcome {
    other_tests(lab, AS_5_4, LIFE)
}

fn without_any_of_the_calls_all_kinds_of_mounts_work(lab: &Lab) -> Outcome {
    other_tests(lab, "all", &["mounts::", "root::"])
}

fn without_any_of_the_calls_namespaces_are_made_and_joined(lab: &Lab) -> Outcome {
    other_tests(lab, "all", &["namespaces::", "terminals::"])
}

fn without_any_of_the_calls_containers_are_entered_and_hooks_run(lab: &Lab) -> Outcome {
    other_tests(lab, "all", &["exec::", "hooks::"])
}

fn without_any_of_the_calls_a_user_runs_containers(lab: &Lab) -> Outcome {
    other_tests(lab, "all", &["rootless::"])
}

fn without_any_of_the_calls_hostile_roots_stay_closed_in(lab: &Lab) -> Outcome {
    other_tests(lab, "all", &["cves_paths::"])
}

/// One test for each thing that the calls do.
const EACH: &[&str] = &[
    "lifecycle::create_does_not_run_the_program_and_start_does",
    "run::descriptors_of_the_caller_do_not_leak",
    "exec::exec_joins_the_cgroup_of_the_container",
    "mounts::the_default_mounts_are_what_they_should_be",
    "mounts::a_bind_is_read_only_when_asked",
    "root::masked_paths_read_as_empty",
    "root::rootfs_propagation_is_set",
    "namespaces::sysctls_of_the_namespaces_are_set",
    "rootless::a_user_creates_starts_enters_and_deletes",
];

/// Filters that do not know a call refuse it with EPERM, which the kernel also says to those who lack a privilege.
fn calls_that_an_outer_filter_refuses_are_done_without(lab: &Lab) -> Outcome {
    let calls = CALLS.iter().chain(COMMON).filter(|(_, refusal)| refusal.errno == libc::ENOSYS);
    for (number, (call, _)) in calls.enumerate() {
        other_tests(&lab.inner(&format!("part{number}"))?, &format!("{call}=EPERM"), EACH)?;
    }
    Ok(())
}

fn what_has_no_other_way_is_refused_by_name(lab: &Lab) -> Outcome {
    let lab = lab.without("all");
    lab.except(Kind::Runc, "it is knarr's other ways that are tested")?;
    lab.except(Kind::Crun, "it is knarr's other ways that are tested")?;
    let source = integration::lab::text(&lab.directory("source")?);
    let mut c = lab.container()?;
    c.config().mount("/mnt", "bind", &source, &["rbind", "rro"]);
    has(c.run()?.stderr, "options for all mounts below (rro, rnosuid, …) need Linux 5.12")?;
    let mut c = lab.container()?;
    let map = json!([{"containerID": 0, "hostID": 5000, "size": 10}]);
    c.config().push(
        "/mounts",
        json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", "idmap"],
               "uidMappings": map, "gidMappings": map}),
    );
    has(c.run()?.stderr, "id-mapped mounts need Linux 5.12")
}
