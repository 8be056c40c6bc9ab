//! Rootless: an ordinary user with one id, or with newuidmap and a range of subordinate ids.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use integration::inspect::status;
use integration::lab::text;
use integration::process::{Ended, command, start};
use integration::rootfs::beside_this_program;
use integration::runtime::{need_program, v2};
use integration::{Container, Kind, Lab, Outcome, Stop, Test, eq, fail, has, skip, tests, yes};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests!["rootless":
    a_user_runs_a_container_with_one_id,
    a_user_creates_starts_enters_and_deletes,
    a_user_with_a_range_of_ids_runs_a_container,
    a_range_that_is_not_the_users_is_refused,
    groups_are_not_gained,
    without_a_user_namespace_a_user_is_refused,
    a_user_can_not_see_anothers_containers,
    a_cgroup_of_the_host_is_not_writable,
    devices_are_bound_where_they_can_not_be_made,
    the_configuration_of_spec_rootless_runs,
    the_processes_of_a_container_without_a_cgroup_are_listed,
    a_cgroup_that_must_be_there_is_not_done_without,
    limits_that_can_not_be_set_are_refused,
    sysctls_and_clocks_of_ones_own_namespaces_are_set,
    as_root_of_a_user_namespace_no_other_is_needed,
    an_id_that_is_not_mapped_is_refused,
    without_newuidmap_a_range_is_refused,
    a_created_container_can_be_entered_and_hooks_run_in_it,
    in_the_hosts_pid_namespace_a_container_comes_and_goes,
    a_cgroup_of_the_same_name_that_is_anothers_is_left_alone,
    in_a_cgroup_of_ones_own_a_container_is_limited_paused_entered_and_killed,
    in_a_cgroup_of_ones_own_a_container_without_a_path_gets_one_beside_its_maker,
];

const USER: u32 = 1000;

/// A user's place: a copy of the runtime that the user can reach, a state root and a bundle of its own.
struct Home {
    c: Container,
    runtime: std::path::PathBuf,
    state: std::path::PathBuf,
    lab: Lab,
}

impl Home {
    fn new(lab: &Lab) -> Result<Home, Stop> {
        // The runtime may lie where only root can go.
        let runtime = lab.dir.join("runtime").join(lab.runtime.path.file_name().unwrap_or_default());
        fs::create_dir(lab.dir.join("runtime"))?;
        fs::copy(&lab.runtime.path, &runtime)?;
        if let Some(wrapper) = beside_this_program("without").filter(|_| !lab.runtime.without.is_empty()) {
            fs::copy(wrapper, runtime.with_file_name("without"))?;
        }
        if lab.runtime.path.ancestors().any(|p| p.ends_with("peers")) && !reachable(Path::new("/root")) {
            return skip("the peers' own libraries are out of an ordinary user's reach");
        }
        let state = lab.directory("run")?;
        let mut c = lab.container()?;
        let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
        c.config().share("network").unshare("user").remove("/linux/resources").remove("/linux/cgroupsPath");
        c.config().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        // sysfs belongs to the network namespace, which is the host's: rootless engines bind it.
        c.config().without_mount("/sys").without_mount("/sys/fs/cgroup");
        c.config().mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]);
        c.config().without_mount("/dev/pts");
        let options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
        c.config().mount("/dev/pts", "devpts", "devpts", &options);
        c.bundle.chown(USER)?;
        std::os::unix::fs::chown(&state, Some(USER), Some(USER))?;
        Ok(Home { c, runtime, state, lab: lab.clone() })
    }

    fn call(&self, args: &[&str]) -> Result<Ended, Stop> {
        // std clears the supplementary groups when root sets a uid.
        let mut call = self.lab.runtime.program(&self.runtime);
        call.arg("--root").arg(&self.state).args(args).uid(USER).gid(USER);
        call.env("XDG_RUNTIME_DIR", &self.state).env("HOME", &self.state).env_remove("SUDO_UID");
        call.current_dir("/");
        start(call, &self.lab.dir)?.wait()
    }

    fn run(&self) -> Result<Ended, Stop> {
        self.c.bundle.write()?;
        self.call(&["run", "--bundle", &self.c.bundle_arg(), &self.c.id])
    }
}

/// Whether every user may pass through a directory.
fn reachable(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|m| m.permissions().mode() & 1 == 1)
}

fn a_user_runs_a_container_with_one_id(lab: &Lab) -> Outcome {
    let mut home = Home::new(lab)?;
    home.c.config().args(&["inspector", "report"]);
    let report = home.run()?.ok()?.json()?;
    eq(status(&report, "Uid")?, "0\t0\t0\t0", "uid inside")?;
    let words: Vec<&str> = report["uid_map"].as_str().unwrap_or_default().split_whitespace().collect();
    eq(words, vec!["0", "1000", "1"], "uid map")?;
    eq(report["pid"].as_i64(), Some(1), "pid")?;
    eq(report["hostname"].as_str(), Some("box\n"), "hostname")?;
    eq(report["setgroups"].as_str(), Some("deny\n"), "setgroups")
}

fn a_user_creates_starts_enters_and_deletes(lab: &Lab) -> Outcome {
    let mut home = Home::new(lab)?;
    home.c.config().args(&["sleep", "1000"]);
    home.c.bundle.write()?;
    let id = home.c.id.clone();
    home.call(&["create", "--bundle", &home.c.bundle_arg(), &id])?.ok()?;
    eq(home.call(&["state", &id])?.ok()?.json()?["status"].as_str(), Some("created"), "status")?;
    home.call(&["start", &id])?.ok()?;
    eq(home.call(&["exec", &id, "id", "-u"])?.ok()?.text(), "0", "uid of exec")?;
    has(home.call(&["list", "--quiet"])?.ok()?.stdout, &id)?;
    home.call(&["kill", &id, "KILL"])?.ok()?;
    home.call(&["delete", "--force", &id])?.ok()?;
    eq(home.call(&["list", "--quiet"])?.ok()?.text(), "", "list")
}

/// Gives the user a range in /etc/subuid and /etc/subgid, in this mount namespace only.
struct Subordinate;

impl Subordinate {
    fn give(lab: &Lab) -> Result<Self, Stop> {
        need_program("newuidmap")?;
        let passwd = fs::read_to_string("/etc/passwd")?;
        let named = passwd.lines().find(|l| l.split(':').nth(2) == Some(USER.to_string().as_str()));
        let user = named.and_then(|l| l.split(':').next()).unwrap_or("knarr-test");
        if named.is_none() {
            // newuidmap needs the user to have a name.
            let own = lab.file("passwd", &format!("{passwd}\n{user}:x:{USER}:{USER}::/:/bin/sh\n"))?;
            nix::mount::mount(
                Some(&own),
                "/etc/passwd",
                None::<&str>,
                nix::mount::MsFlags::MS_BIND,
                None::<&str>,
            )?;
        }
        for file in ["/etc/subuid", "/etc/subgid"] {
            let own = lab.file(file.trim_start_matches("/etc/"), &format!("{user}:300000:65536\n"))?;
            if !Path::new(file).exists() {
                fs::write(file, "")?;
            }
            nix::mount::mount(Some(&own), file, None::<&str>, nix::mount::MsFlags::MS_BIND, None::<&str>)?;
        }
        Ok(Subordinate)
    }
}

impl Drop for Subordinate {
    fn drop(&mut self) {
        for file in ["/etc/subuid", "/etc/subgid", "/etc/passwd"] {
            // EINVAL where nothing was mounted.
            let _ = nix::mount::umount2(file, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

fn a_user_with_a_range_of_ids_runs_a_container(lab: &Lab) -> Outcome {
    let _range = Subordinate::give(lab)?;
    let mut home = Home::new(lab)?;
    let map = json!([{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": 300_000, "size": 65535}]);
    home.c.config().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    // runc refuses groups of a rootless container even where newgidmap allows them.
    let groups: &[u32] = if lab.kind() == Kind::Runc { &[] } else { &[9] };
    home.c.config().set("/process/user", json!({"uid": 7, "gid": 8, "additionalGids": groups}));
    home.c.config().args(&["inspector", "report"]);
    let report = home.run()?.ok()?.json()?;
    eq(status(&report, "Uid")?, "7\t7\t7\t7", "uid")?;
    let want: Vec<String> = groups.iter().map(u32::to_string).collect();
    eq(status(&report, "Groups")?.trim(), want.join(" "), "groups")?;
    let ranges = report["uid_map"].as_str().unwrap_or_default().lines().count();
    eq(ranges, 2, "ranges")
}

fn a_range_that_is_not_the_users_is_refused(lab: &Lab) -> Outcome {
    let mut home = Home::new(lab)?;
    let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    home.c.config().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    home.run()?.refused()?;
    let map = json!([{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": 500_000, "size": 10}]);
    home.c.config().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    home.run()?.refused()?;
    yes(
        fs::read_dir(&home.state)?.flatten().all(|e| e.file_name().to_string_lossy() != home.c.id.as_str()),
        "state is left",
    )
}

fn groups_are_not_gained(lab: &Lab) -> Outcome {
    // With one id setgroups is denied, so there can't be additional groups.
    let mut home = Home::new(lab)?;
    home.c.config().set("/process/user/additionalGids", json!([5])).args(&["inspector", "report"]);
    let ended = home.run()?;
    if ended.code == 0 {
        let report = ended.json()?;
        return yes(!status(&report, "Groups")?.split_whitespace().any(|g| g == "5"), "group 5 was gained");
    }
    ended.refused()?;
    Ok(())
}

fn without_a_user_namespace_a_user_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "makes one by itself")?;
    let mut home = Home::new(lab)?;
    home.c.config().share("user").remove("/linux/uidMappings").remove("/linux/gidMappings");
    let ended = home.run()?.refused()?;
    yes(!ended.stderr.is_empty(), "no message")
}

fn a_user_can_not_see_anothers_containers(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    let home = Home::new(lab)?;
    let mut call = lab.runtime.program(&home.runtime);
    call.arg("--root").arg(&lab.state).args(["state", &c.id]).uid(USER).gid(USER);
    start(call, &lab.dir)?.wait()?.refused()?;
    let mode = fs::metadata(lab.state.join(&c.id))?.permissions().mode() & 0o777;
    yes(mode & 0o066 == 0, format!("the state directory has mode {mode:o}"))?;
    c.delete_force()
}

fn a_cgroup_of_the_host_is_not_writable(lab: &Lab) -> Outcome {
    // CVE-2023-25809: without a cgroup namespace the host's own tree was bound read-write.
    let mut home = Home::new(lab)?;
    home.c.config().share("cgroup");
    home.c.config().mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", "ro"],
    );
    home.c
        .config()
        .sh("mkdir /sys/fs/cgroup/x 2>&1; for d in /sys/fs/cgroup/*/; do mkdir $d/x 2>&1; done; true");
    let ended = home.run()?;
    if ended.code != 0 {
        ended.refused()?;
        return Ok(());
    }
    let refused = ended
        .stdout
        .lines()
        .filter(|l| !l.contains("Read-only") && !l.contains("ermission") && !l.contains("No such"));
    let odd: Vec<&str> = refused.collect();
    if odd.is_empty() { Ok(()) } else { fail(format!("{odd:?}")) }
}

fn devices_are_bound_where_they_can_not_be_made(lab: &Lab) -> Outcome {
    let mut home = Home::new(lab)?;
    home.c.config().sh("echo x > /dev/null && head -c 3 /dev/zero | wc -c && stat -c '%t %T' /dev/null");
    eq(home.run()?.ok()?.text(), "3\n1 3", "using devices")
}

fn the_processes_of_a_container_without_a_cgroup_are_listed(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "lists none")?;
    lab.except(Kind::Crun, "lists none")?;
    let mut home = Home::new(lab)?;
    home.c.config().args(&["sleep", "1000"]);
    home.c.bundle.write()?;
    let id = home.c.id.clone();
    home.call(&["run", "--detach", "--bundle", &home.c.bundle_arg(), &id])?.ok()?;
    home.call(&["exec", "--detach", &id, "sleep", "1001"])?.ok()?;
    let pids: Vec<i64> = serde_json::from_str(home.call(&["ps", "--format", "json", &id])?.ok()?.text())?;
    let state = home.call(&["state", &id])?.ok()?.json()?;
    eq(pids.len(), 2, "processes")?;
    yes(pids.contains(&state["pid"].as_i64().unwrap_or(0)), "its first process is missing")?;
    home.call(&["delete", "--force", &id])?.ok()?;
    Ok(())
}

fn a_cgroup_that_must_be_there_is_not_done_without(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "tolerates it all the same")?;
    let mut home = Home::new(lab)?;
    home.c.config().args(&["echo", "fine"]);
    home.c.bundle.write()?;
    let run = |flag: &str| home.call(&[flag, "run", "--bundle", &home.c.bundle_arg(), &home.c.id]);
    run("--rootless=false")?.refused_with("cgroup")?;
    eq(run("--rootless=true")?.ok()?.text(), "fine", "output")?;
    eq(run("--rootless=auto")?.ok()?.text(), "fine", "output")?;
    run("--rootless=perhaps")?.refused()?;
    Ok(())
}

fn limits_that_can_not_be_set_are_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "leaves them out")?;
    let mut home = Home::new(lab)?;
    home.c.config().set("/linux/resources/memory", json!({"limit": 50_000_000})).args(&["true"]);
    home.run()?.refused_with("cgroup")?;
    home.c.config().remove("/linux/resources").set("/linux/cgroupsPath", "/knarr-rootless/x");
    home.run()?.refused_with("cgroup")?;
    Ok(())
}

fn sysctls_and_clocks_of_ones_own_namespaces_are_set(lab: &Lab) -> Outcome {
    let mut home = Home::new(lab)?;
    home.c.config().unshare("network").unshare("time");
    home.c.config().set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000_000}}));
    home.c.config().set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}));
    home.c.config().sh(
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced; cut -d. -f1 /proc/uptime | cut -c1-3",
    );
    let ended = home.run()?.ok()?;
    yes(ended.text().starts_with("1\n1\n100"), ended.text())
}

/// The command as root of a user namespace that maps this one id.
fn outside(home: &Home, args: &[&str]) -> Result<Ended, Stop> {
    let mut call = command("unshare");
    let runtime = home.lab.runtime.program(&home.runtime);
    call.args(["--user", "--map-root-user", "--"]).arg(runtime.get_program()).args(runtime.get_args());
    call.arg("--root").arg(&home.state).args(args).uid(USER).gid(USER);
    call.env("HOME", &home.state).env_remove("SUDO_UID").current_dir("/");
    start(call, &home.lab.dir)?.wait()
}

fn as_root_of_a_user_namespace_no_other_is_needed(lab: &Lab) -> Outcome {
    let mut home = Home::new(lab)?;
    home.c.config().share("user").remove("/linux/uidMappings").remove("/linux/gidMappings");
    home.c.config().sh("id -u; head -c 3 /dev/zero | wc -c; cat /proc/self/uid_map");
    home.c.bundle.write()?;
    let ended = outside(&home, &["run", "--bundle", &home.c.bundle_arg(), &home.c.id])?.ok()?;
    let words: Vec<&str> = ended.text().split_whitespace().collect();
    eq(words, vec!["0", "3", "0", "1000", "1"], "id, bytes and map")
}

fn an_id_that_is_not_mapped_is_refused(lab: &Lab) -> Outcome {
    let mut home = Home::new(lab)?;
    home.c.config().set("/process/user", json!({"uid": 5, "gid": 0})).args(&["id"]);
    home.run()?.refused_with("5")?;
    home.c.config().set("/process/user", json!({"uid": 0, "gid": 5}));
    home.run()?.refused_with("5")?;
    home.c.config().share("user").remove("/linux/uidMappings").remove("/linux/gidMappings");
    home.c.bundle.write()?;
    outside(&home, &["run", "--bundle", &home.c.bundle_arg(), &home.c.id])?.refused()?;
    Ok(())
}

fn without_newuidmap_a_range_is_refused(lab: &Lab) -> Outcome {
    let mut home = Home::new(lab)?;
    let map = json!([{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": 300_000, "size": 10}]);
    home.c.config().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map).args(&["true"]);
    home.c.bundle.write()?;
    let mut call = lab.runtime.program(&home.runtime);
    call.arg("--root").arg(&home.state).args(["run", "--bundle", &home.c.bundle_arg(), &home.c.id]);
    call.uid(USER).gid(USER).env("PATH", "/nowhere").env("HOME", &home.state).current_dir("/");
    start(call, &home.lab.dir)?.wait()?.refused()?;
    Ok(())
}

fn a_created_container_can_be_entered_and_hooks_run_in_it(lab: &Lab) -> Outcome {
    let mut home = Home::new(lab)?;
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo hook >&2; exit 0"]}]);
    home.c
        .config()
        .set("/hooks", json!({"createContainer": hook, "startContainer": hook}))
        .args(&["sleep", "1000"]);
    home.c.bundle.write()?;
    let id = home.c.id.clone();
    home.call(&["create", "--bundle", &home.c.bundle_arg(), &id])?.ok()?;
    eq(home.call(&["exec", &id, "id", "-u"])?.ok()?.text(), "0", "uid of exec")?;
    home.call(&["start", &id])?.ok()?;
    home.call(&["delete", "--force", &id])?.ok()?;
    Ok(())
}

fn in_the_hosts_pid_namespace_a_container_comes_and_goes(lab: &Lab) -> Outcome {
    let mut home = Home::new(lab)?;
    home.c.config().share("pid").without_mount("/proc");
    home.c.config().mount("/proc", "none", "/proc", &["rbind", "nosuid", "nodev", "noexec"]);
    // A procfs of its own is not to be had: sysctls go through the caller's.
    home.c.config().set("/linux/sysctl", json!({"kernel.shm_rmid_forced": "1"}));
    home.c.config().sh("cat /proc/sys/kernel/shm_rmid_forced");
    let ended = home.run()?.ok()?;
    eq(ended.text(), "1", "sysctl")?;
    has(ended.stderr, "discouraged")
}

fn a_cgroup_of_the_same_name_that_is_anothers_is_left_alone(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "takes it for its own")?;
    let mut c = lab.container()?;
    let mut home = Home::new(lab)?;
    let id = home.c.id.clone();
    // Without a path of its own a container's cgroup is named after its id, whichever runtime makes it.
    c.config().remove("/linux/cgroupsPath");
    c.config().args(&["sleep", "1000"]);
    c.bundle.write()?;
    lab.call(&["run", "--detach", "--bundle", &c.bundle_arg(), &id])?.ok()?;
    home.c.config().args(&["echo", "fine"]);
    let ended = home.run();
    lab.call(&["delete", "--force", &id])?.ok()?;
    eq(ended?.ok()?.text(), "fine", "output")
}

fn the_configuration_of_spec_rootless_runs(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "its spec --rootless has no maps")?;
    let mut home = Home::new(lab)?;
    let bundle = home.c.bundle_arg();
    home.call(&["spec", "--rootless", "--bundle", &bundle])?.ok()?;
    let config = serde_json::from_str(&fs::read_to_string(home.c.bundle.path.join("config.json"))?)?;
    home.c.config().0 = config;
    home.c.config().set("/process/terminal", false).args(&["echo", "fine"]);
    eq(home.run()?.ok()?.text(), "fine", "output")?;
    yes(text(&home.state).contains("run"), "its own state root")
}

/// A cgroup v2 directory that belongs to the user (as `Delegate=yes` of a systemd user service gives one), with a cgroup `own` in it for
/// the callers: what is made beside that may have controllers.
struct Delegated {
    path: std::path::PathBuf,
    controllers: Vec<String>,
}

impl Delegated {
    fn new(lab: &Lab) -> Result<Self, Stop> {
        if !v2() {
            return skip("needs cgroup v2 alone");
        }
        need_program("setpriv")?;
        let root = Path::new("/sys/fs/cgroup");
        let words = |file: &Path| -> Result<Vec<String>, Stop> {
            Ok(fs::read_to_string(file)?.split_whitespace().map(str::to_owned).collect())
        };
        for controller in words(&root.join("cgroup.controllers"))? {
            drop(fs::write(root.join("cgroup.subtree_control"), format!("+{controller}")));
        }
        let path = root.join(format!("{}-delegated", lab.token));
        fs::create_dir(&path)?;
        fs::create_dir(path.join("own"))?;
        let given = Delegated { controllers: words(&path.join("cgroup.controllers"))?, path };
        for dir in [given.path.clone(), given.path.join("own")] {
            std::os::unix::fs::chown(&dir, Some(USER), Some(USER))?;
            for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
                std::os::unix::fs::chown(dir.join(file), Some(USER), Some(USER))?;
            }
        }
        for controller in &given.controllers {
            fs::write(given.path.join("cgroup.subtree_control"), format!("+{controller}"))?;
        }
        Ok(given)
    }

    /// A command of the user, called in the user's own cgroup.
    fn call(&self, home: &Home, args: &[&str]) -> Result<Ended, Stop> {
        let enter = format!("echo $$ > {}/own/cgroup.procs; exec \"$@\"", self.path.display());
        let user = USER.to_string();
        let mut call = command("sh");
        call.args(["-c", &enter, "sh", "setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
        let runtime = home.lab.runtime.program(&home.runtime);
        call.arg(runtime.get_program()).args(runtime.get_args()).arg("--root").arg(&home.state).args(args);
        call.env("XDG_RUNTIME_DIR", &home.state).env("HOME", &home.state).env_remove("SUDO_UID");
        call.current_dir("/");
        start(call, &home.lab.dir)?.wait()
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        drop(fs::remove_dir(self.path.join("own")));
        drop(fs::remove_dir(&self.path));
    }
}

fn in_a_cgroup_of_ones_own_a_container_is_limited_paused_entered_and_killed(lab: &Lab) -> Outcome {
    let given = Delegated::new(lab)?;
    let mut home = Home::new(lab)?;
    let group = given.path.join("box");
    home.c
        .config()
        .args(&["sleep", "1000"])
        .set("/linux/cgroupsPath", text(&group).replace("/sys/fs/cgroup", ""));
    if given.has("pids") {
        home.c.config().set("/linux/resources/pids", json!({"limit": 30}));
    }
    if given.has("memory") {
        home.c.config().set("/linux/resources/memory", json!({"limit": 50_000_000}));
    }
    home.c.bundle.write()?;
    let id = home.c.id.clone();
    given.call(&home, &["create", "--bundle", &home.c.bundle_arg(), &id])?.ok()?;
    given.call(&home, &["start", &id])?.ok()?;
    let value = |file: &str| fs::read_to_string(group.join(file)).map(|t| t.trim().to_owned());
    if given.has("pids") {
        eq(value("pids.max")?.as_str(), "30", "pids.max")?;
        given.call(&home, &["update", "--pids-limit", "40", &id])?.ok()?;
        eq(value("pids.max")?.as_str(), "40", "pids.max after an update")?;
    }
    if given.has("memory") {
        // The kernel rounds to pages.
        eq(value("memory.max")?.as_str(), "49999872", "memory.max")?;
    }
    given.call(&home, &["exec", "--detach", &id, "sleep", "1001"])?.ok()?;
    eq(value("cgroup.procs")?.lines().count(), 2, "processes in the cgroup")?;
    let state = || -> Result<String, Stop> {
        let json = given.call(&home, &["state", &id])?.ok()?.json()?;
        Ok(json["status"].as_str().unwrap_or_default().to_owned())
    };
    given.call(&home, &["pause", &id])?.ok()?;
    eq(state()?.as_str(), "paused", "status")?;
    given.call(&home, &["resume", &id])?.ok()?;
    eq(state()?.as_str(), "running", "status")?;
    given.call(&home, &["kill", "--all", &id, "KILL"])?.ok()?;
    given.call(&home, &["delete", "--force", &id])?.ok()?;
    yes(!group.exists(), "the cgroup is still there")
}

fn in_a_cgroup_of_ones_own_a_container_without_a_path_gets_one_beside_its_maker(lab: &Lab) -> Outcome {
    let given = Delegated::new(lab)?;
    let mut home = Home::new(lab)?;
    home.c.config().mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "rw"]);
    home.c.config().sh("cat /proc/self/cgroup; mkdir /sys/fs/cgroup/inner && echo made; sleep 1000");
    home.c.bundle.write()?;
    let id = home.c.id.clone();
    given.call(&home, &["run", "--detach", "--bundle", &home.c.bundle_arg(), &id])?.ok()?;
    let group = given.path.join(&id);
    yes(group.join("cgroup.procs").exists(), format!("no cgroup {group:?}"))?;
    // With a cgroup and a user namespace of its own, and a writable mount, the cgroup is the container's.
    integration::process::wait_for("the container makes a cgroup", || {
        group.join("inner").is_dir().then_some(())
    })?;
    given.call(&home, &["delete", "--force", &id])?.ok()?;
    yes(!group.exists(), "the cgroup is still there")
}
