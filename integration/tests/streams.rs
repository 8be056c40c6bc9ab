//! The standard streams of a process, when they are the host's null device: the container's root must not be able to change that node.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use integration::lab::text;
use integration::process::start;
use integration::rootfs::{Trap, lay};
use integration::{Container, Kind, Lab, Outcome, Stop, Test, eq, tests};

pub(crate) const TESTS: &[Test] = tests!["streams":
    the_hosts_null_device_is_replaced_by_the_containers,
    an_exec_has_the_containers_null_device,
    a_process_in_a_user_namespace_has_the_containers_null_device,
    without_a_null_device_in_the_container_the_streams_stay,
    what_stands_in_place_of_the_null_device_is_not_opened,
];

/// Changes the mode and owner of stdin and tells whether it is the container's /dev/null, or which file it is.
const CHANGE: &str = "chmod 640 /proc/self/fd/0; chown 5:6 /proc/self/fd/0
    a=$(stat -L -c %d:%i /proc/self/fd/0); b=$(stat -c %d:%i /dev/null)
    [ $a = $b ] && stat -c '%a %u:%g' /dev/null || stat -L -c 'another, inode %i' /proc/self/fd/0";

/// A node with the numbers of the host's /dev/null, which stands for it.
fn hosts_null(lab: &Lab) -> Result<PathBuf, Stop> {
    let node = lab.dir.join("null");
    lay(&node, Trap::Device(1, 3))?;
    fs::set_permissions(&node, fs::Permissions::from_mode(0o666))?;
    chown(&node, Some(0), Some(0))?;
    Ok(node)
}

fn unchanged(node: &PathBuf) -> Outcome {
    let found = fs::metadata(node)?;
    eq((found.mode() & 0o7777, found.uid(), found.gid()), (0o666, 0, 0), "mode and owner of the host's node")
}

/// The output of `knarr ARGS` with the node as its standard input.
fn called(lab: &Lab, args: &[&str], node: &PathBuf) -> Result<String, Stop> {
    let mut command = lab.command(args);
    command.stdin(File::options().read(true).write(true).open(node)?);
    Ok(start(command, &lab.dir)?.wait()?.ok()?.text().to_owned())
}

fn ran(lab: &Lab, c: &Container, node: &PathBuf) -> Result<String, Stop> {
    c.bundle.write()?;
    called(lab, &["run", "--bundle", &c.bundle_arg(), &c.id], node)
}

/// A container whose root may change modes and owners.
fn container(lab: &Lab) -> Result<Container, Stop> {
    let mut c = lab.container()?;
    c.config()
        .caps(&["bounding", "effective", "permitted"], &["CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE"]);
    Ok(c)
}

fn the_hosts_null_device_is_replaced_by_the_containers(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "its run puts pipes in between")?;
    lab.except(Kind::Crun, "it leaves the streams as they are")?;
    let node = hosts_null(lab)?;
    let mut c = container(lab)?;
    c.config().sh(CHANGE);
    eq(ran(lab, &c, &node)?, "640 5:6", "mode and owner of the container's node")?;
    unchanged(&node)
}

fn an_exec_has_the_containers_null_device(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "it replaces them for the first process only")?;
    lab.except(Kind::Crun, "it leaves the streams as they are")?;
    let node = hosts_null(lab)?;
    let mut c = container(lab)?;
    c.sleeping()?;
    eq(called(lab, &["exec", &c.id, "sh", "-c", CHANGE], &node)?, "640 5:6", "of the container's node")?;
    unchanged(&node)?;
    c.delete_force()
}

fn a_process_in_a_user_namespace_has_the_containers_null_device(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "its run puts pipes in between")?;
    lab.except(Kind::Crun, "it leaves the streams as they are")?;
    let node = hosts_null(lab)?;
    let mut c = container(lab)?;
    c.config().user_namespace(100_000, 65_536);
    // What the container has is the host's node, bound: root there may not change it.
    c.config().sh("[ $(stat -L -c %d:%i /proc/self/fd/0) = $(stat -c %d:%i /dev/null) ] && echo own");
    eq(ran(lab, &c, &node)?, "own", "stdin")?;
    unchanged(&node)
}

/// A container whose /dev is a directory of the host with this at `null`.
fn with_dev(lab: &Lab, trap: Option<Trap<'_>>) -> Result<Container, Stop> {
    let dev = lab.directory("dev")?;
    match trap {
        Some(trap) => lay(&dev.join("null"), trap)?,
        None => drop(fs::remove_file(dev.join("null"))),
    }
    let mut c = container(lab)?;
    for place in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
        c.config().without_mount(place);
    }
    // The masked files would need a null device of the host's alone.
    c.config().mount("/dev", "bind", &text(&dev), &["bind", "rw"]);
    c.config().sh("stat -L -c %i /proc/self/fd/0");
    Ok(c)
}

fn without_a_null_device_in_the_container_the_streams_stay(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "it needs one for masked files")?;
    let node = hosts_null(lab)?;
    let c = with_dev(lab, None)?;
    eq(ran(lab, &c, &node)?, fs::metadata(&node)?.ino().to_string(), "inode of stdin")?;
    unchanged(&node)
}

fn what_stands_in_place_of_the_null_device_is_not_opened(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "it needs one for masked files")?;
    let node = hosts_null(lab)?;
    let inode = fs::metadata(&node)?.ino().to_string();
    let traps = [
        Trap::Link("/dev/zero"),
        Trap::Link("/proc/1/root"),
        Trap::Device(1, 5),
        Trap::Fifo,
        Trap::File(""),
        Trap::Folder,
    ];
    for trap in traps {
        let c = with_dev(lab, Some(trap))?;
        eq(ran(lab, &c, &node)?, inode.as_str(), format!("inode of stdin with {trap:?}"))?;
        unchanged(&node)?;
    }
    Ok(())
}
