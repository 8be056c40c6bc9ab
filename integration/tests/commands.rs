//! The commands that say something: spec, features, and knarr's own plan; and those that are still to come.

use std::fs;

use integration::lab::text;
use integration::process::{command, start};
use integration::{Kind, Lab, Outcome, Test, eq, has, tests, yes};
use serde_json::Value;

pub(crate) const TESTS: &[Test] = tests!["commands":
    spec_writes_a_configuration_that_runs,
    spec_does_not_overwrite,
    spec_for_rootless_has_a_user_namespace,
    features_tells_what_is_supported,
    plan_tells_the_steps_without_making_them,
    plan_works_without_root,
    commands_to_come_say_so,
    the_library_of_the_caller_is_not_needed,
];

fn spec(lab: &Lab, dir: &str, flags: &[&str]) -> Result<Value, integration::Stop> {
    let dir = lab.directory(dir)?;
    let mut command = lab.command(&[&["spec"], flags].concat());
    command.current_dir(&dir);
    start(command, &lab.dir)?.wait()?.ok()?;
    Ok(serde_json::from_str(&fs::read_to_string(dir.join("config.json"))?)?)
}

fn spec_writes_a_configuration_that_runs(lab: &Lab) -> Outcome {
    let config = spec(lab, "a", &[])?;
    eq(config["process"]["terminal"].as_bool(), Some(true), "terminal")?;
    if lab.kind() != Kind::Crun {
        eq(&config["process"]["args"], &serde_json::json!(["sh"]), "args")?;
        eq(config["root"]["readonly"].as_bool(), Some(true), "read-only root")?;
        eq(config["hostname"].as_str(), Some("runc"), "hostname")
            .or_else(|e| if lab.kind() == Kind::Knarr { Ok(()) } else { Err(e) })?;
    }
    for mask in ["/proc/kcore", "/proc/keys", "/sys/firmware", "/proc/timer_list", "/proc/scsi"] {
        has(config["linux"]["maskedPaths"].to_string(), mask)?;
    }
    for path in ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"] {
        has(config["linux"]["readonlyPaths"].to_string(), path)?;
    }
    let mut c = lab.container()?;
    let path = c.config().0["linux"]["cgroupsPath"].clone();
    c.config().0 = config;
    c.config().set("/process/terminal", false).args(&["echo", "fine"]).set("/linux/cgroupsPath", path);
    eq(c.run()?.ok()?.text(), "fine", "output")
}

fn spec_does_not_overwrite(lab: &Lab) -> Outcome {
    let dir = lab.directory("a")?;
    lab.file("a/config.json", "mine")?;
    lab.call(&["spec", "--bundle", &text(&dir)])?.refused_with("exist")?;
    eq(fs::read_to_string(dir.join("config.json"))?.as_str(), "mine", "the file")?;
    lab.call(&["spec", "--bundle", "/no/such/folder"])?.refused()?;
    Ok(())
}

fn spec_for_rootless_has_a_user_namespace(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "leaves the maps out")?;
    let config = spec(lab, "a", &["--rootless"])?;
    has(config["linux"]["namespaces"].to_string(), r#""type":"user""#)?;
    eq(config["linux"]["uidMappings"][0]["size"].as_u64(), Some(1), "size of the map")
}

fn features_tells_what_is_supported(lab: &Lab) -> Outcome {
    let features = lab.call(&["features"])?.ok()?.json()?;
    for name in ["ociVersionMin", "ociVersionMax"] {
        yes(
            features[name].as_str().is_some_and(|v| v.starts_with("1.")),
            format!("{name}: {}", features[name]),
        )?;
    }
    for hook in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        has(features["hooks"].to_string(), hook)?;
    }
    for option in ["\"rbind\"", "\"ro\"", "\"rro\"", "\"nosuid\"", "\"tmpcopyup\""] {
        has(features["mountOptions"].to_string(), option)?;
    }
    for namespace in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        has(features["linux"]["namespaces"].to_string(), namespace)?;
    }
    has(features["linux"]["capabilities"].to_string(), "CAP_SYS_ADMIN")?;
    eq(features["linux"]["cgroup"]["v2"].as_bool(), Some(true), "cgroup v2")?;
    eq(features["linux"]["seccomp"]["enabled"].as_bool(), Some(true), "seccomp")?;
    has(features["linux"]["seccomp"]["actions"].to_string(), "SCMP_ACT_ERRNO")?;
    eq(features["linux"]["mountExtensions"]["idmap"]["enabled"].as_bool(), Some(true), "idmapped mounts")
}

fn plan_tells_the_steps_without_making_them(lab: &Lab) -> Outcome {
    if lab.kind() != Kind::Knarr {
        return integration::skip("a command of knarr alone");
    }
    let c = lab.container()?;
    c.bundle.write()?;
    let ended = lab.call(&["plan", "--bundle", &c.bundle_arg()])?.ok()?;
    for word in ["/proc", "/dev/shm", "pivot"] {
        has(&ended.stdout, word)?;
    }
    yes(ended.stdout.lines().count() > 20, "steps are numbered, one a line")?;
    let again = lab.call(&["plan", "--bundle", &c.bundle_arg()])?.ok()?;
    eq(again.stdout, ended.stdout, "the same plan twice")
}

fn plan_works_without_root(lab: &Lab) -> Outcome {
    use std::os::unix::process::CommandExt;
    if lab.kind() != Kind::Knarr {
        return integration::skip("a command of knarr alone");
    }
    let mut c = lab.container()?;
    // What a user may make: all that root may needs root, and the plan of a user says so.
    let map = serde_json::json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    c.config().unshare("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    c.config().remove("/linux/resources").without_mount("/dev/pts");
    c.bundle.write()?;
    c.bundle.chown(1000)?;
    let copy = lab.dir.join("runtime");
    fs::copy(&lab.runtime.path, &copy)?;
    let mut plan = command(&copy);
    plan.args(["plan", "--bundle", &c.bundle_arg()]).uid(1000).gid(1000);
    start(plan, &lab.dir)?.wait()?.ok()?;
    Ok(())
}

fn commands_to_come_say_so(lab: &Lab) -> Outcome {
    if lab.kind() != Kind::Knarr {
        return integration::skip("peers have these commands");
    }
    lab.call(&["events", "x"])?.refused_with("not supported")?;
    Ok(())
}

fn the_library_of_the_caller_is_not_needed(lab: &Lab) -> Outcome {
    if lab.kind() != Kind::Knarr {
        return integration::skip("peers are dynamic programs");
    }
    // In a root of its own there is no loader and no library: only a static program runs there.
    let root = lab.rootfs("alone")?;
    fs::copy(&lab.runtime.path, root.join("bin/runtime"))?;
    has(lab.host(&["chroot", &text(&root), "/bin/runtime", "--version"])?.ok()?.stdout, "version")
}
