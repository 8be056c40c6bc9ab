//! The standard streams of a process, when they are the host's null device: the container's root must not be able to change that node.

use std::fs::{self, File, Metadata};
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
    a_container_without_a_null_device_cannot_change_the_hosts,
    a_container_with_something_else_in_its_place_cannot_change_the_hosts,
    an_exec_in_a_container_that_has_removed_its_null_device_cannot_change_the_hosts,
];

/// Changes the mode and owner of stdin and tells whether it is the container's /dev/null, or which file it is.
const CHANGE: &str = "chmod 640 /proc/self/fd/0; chown 5:6 /proc/self/fd/0
    a=$(stat -L -c %d:%i /proc/self/fd/0); b=$(stat -c %d:%i /dev/null)
    [ $a = $b ] && stat -c '%a %u:%g' /dev/null || stat -L -c 'another, inode %i' /proc/self/fd/0";

/// Tries to change stdin in all ways, and tells which file it is and whether it is still a null device.
const CHANGE_HOSTS: &str =
    "chmod 0 /proc/self/fd/0; chown 5:6 /proc/self/fd/0; touch -d 2001-02-03 /proc/self/fd/0
    echo text >&0 && echo $(stat -L -c %i /proc/self/fd/0) $(cat <&0 | wc -c)";

/// A node with the numbers of the host's /dev/null, which stands for it.
fn hosts_null(lab: &Lab) -> Result<Node, Stop> {
    let path = lab.dir.join("null");
    lay(&path, Trap::Device(1, 3))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    chown(&path, Some(0), Some(0))?;
    Ok(Node { before: fs::metadata(&path)?, path })
}

struct Node {
    path: PathBuf,
    before: Metadata,
}

fn unchanged(node: &Node) -> Outcome {
    let facts = |meta: &Metadata| (meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.ctime());
    let found = fs::metadata(&node.path)?;
    eq(facts(&found), facts(&node.before), "mode, owner and times of the host's node")
}

/// What `CHANGE_HOSTS` says when it has the host's node, which reads as empty.
fn the_hosts(node: &Node) -> String {
    format!("{} 0", node.before.ino())
}

/// The output of `knarr ARGS` with the node as its standard input.
fn called(lab: &Lab, args: &[&str], node: &Node) -> Result<String, Stop> {
    let mut command = lab.command(args);
    command.stdin(File::options().read(true).write(true).open(&node.path)?);
    Ok(start(command, &lab.dir)?.wait()?.ok()?.text().to_owned())
}

fn ran(lab: &Lab, c: &Container, node: &Node) -> Result<String, Stop> {
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
    c.config().sh(CHANGE_HOSTS);
    Ok(c)
}

/// What may be at the place of the container's null device instead.
const TRAPS: [Trap<'static>; 6] = [
    Trap::Link("/dev/zero"),
    Trap::Link("/proc/1/root"),
    Trap::Device(1, 5),
    Trap::Fifo,
    Trap::File(""),
    Trap::Directory,
];

fn a_container_without_a_null_device_cannot_change_the_hosts(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "it needs one for masked files")?;
    lab.except(Kind::Crun, "it leaves the streams as they are")?;
    let node = hosts_null(lab)?;
    let c = with_dev(lab, None)?;
    eq(ran(lab, &c, &node)?, the_hosts(&node), "inode of stdin, and what is read from it")?;
    unchanged(&node)
}

fn a_container_with_something_else_in_its_place_cannot_change_the_hosts(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "it needs one for masked files")?;
    lab.except(Kind::Crun, "it leaves the streams as they are")?;
    let node = hosts_null(lab)?;
    for trap in TRAPS {
        let c = with_dev(lab, Some(trap))?;
        eq(ran(lab, &c, &node)?, the_hosts(&node), format!("stdin with {trap:?}"))?;
        unchanged(&node)?;
    }
    Ok(())
}

fn an_exec_in_a_container_that_has_removed_its_null_device_cannot_change_the_hosts(lab: &Lab) -> Outcome {
    lab.except(Kind::Runc, "it replaces them for the first process only")?;
    lab.except(Kind::Crun, "it leaves the streams as they are")?;
    let node = hosts_null(lab)?;
    let mut c = container(lab)?;
    c.sleeping()?;
    let replacements = ["true", "ln -s /dev/zero /dev/null", "mkfifo /dev/null", "mv /dev/zero /dev/null"];
    for replace in replacements {
        c.exec(&["sh", "-c", &format!("rm -f /dev/null; {replace}")])?.ok()?;
        let said = called(lab, &["exec", &c.id, "sh", "-c", CHANGE_HOSTS], &node)?;
        eq(said, the_hosts(&node), format!("stdin after {replace:?}"))?;
        unchanged(&node)?;
    }
    c.delete_force()
}
