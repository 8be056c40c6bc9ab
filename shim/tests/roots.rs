//! The mounts that make up a root: mount points inside it, loop devices, and errors.

use crate::stage::{Stage, Task};
use integration::{Lab, Outcome, Stop, Test, eq, has, skip, tests, yes};
use shim::wire::task::{CreateTaskRequest, CreateTaskResponse};
use shim::wire::types::Mount;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) const TESTS: &[Test] = tests!["roots":
    a_mount_has_its_place_inside_the_root,
    a_link_in_the_root_leads_no_mount_out_of_it,
    a_file_is_mounted_by_a_loop_device_that_goes_with_it,
    a_mount_that_cannot_be_made_leaves_those_before_it_unmade,
];

fn mount(kind: &str, source: &Path, target: &str, options: &[&str]) -> Mount {
    Mount {
        r#type: kind.to_owned(),
        source: source.to_string_lossy().into_owned(),
        target: target.to_owned(),
        options: options.iter().map(|word| (*word).to_owned()).collect(),
    }
}

/// A task that prints `/place/file` and whether it can write there, in a root of these mounts.
fn asked(stage: &Stage<'_>, more: Vec<Mount>) -> Result<(Task, CreateTaskRequest), Stop> {
    let log = stage.lab.file("out", "")?;
    let task = stage.shim(|config| {
        config.sh("cat /place/file; touch /place/new 2>/dev/null && echo written");
    })?;
    fs::create_dir(stage.root_of(&task.id).join("place"))?;
    let uri = format!("file://{}", log.display());
    let mut request = stage.create_request(&task, ["", &uri, &uri]);
    request.rootfs.extend(more);
    Ok((task, request))
}

fn said(stage: &Stage<'_>, task: &mut Task, request: &CreateTaskRequest) -> Result<String, Stop> {
    task.client.call::<CreateTaskResponse>("Create", request)?;
    task.start("")?;
    task.wait("")?;
    task.finish()?;
    stage.is_clean(task)?;
    Ok(fs::read_to_string(stage.lab.dir.join("out"))?)
}

fn a_mount_has_its_place_inside_the_root(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    lab.file("data/file", "inside\n")?;
    for (options, expected) in [(&["rbind", "ro"][..], "inside\n"), (&["bind", "rw"], "inside\nwritten\n")] {
        let more = vec![mount("bind", &lab.dir.join("data"), "/place", options)];
        let (mut task, request) = asked(&stage, more)?;
        eq(said(&stage, &mut task, &request)?.as_str(), expected, format!("with {options:?}"))?;
    }
    yes(lab.dir.join("data/new").exists(), "what was written is not where it belongs")
}

fn a_link_in_the_root_leads_no_mount_out_of_it(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    lab.file("data/file", "inside\n")?;
    let outside = lab.directory("outside")?;
    let link = |task: &Task, to: &Path| -> Outcome {
        let place = stage.root_of(&task.id).join("link");
        Ok(std::os::unix::fs::symlink(to, place)?)
    };
    // An absolute link stays within the root.
    let (mut task, request) =
        asked(&stage, vec![mount("bind", &lab.dir.join("data"), "/link", &["bind", "ro"])])?;
    link(&task, Path::new("/place"))?;
    eq(said(&stage, &mut task, &request)?.as_str(), "inside\n", "by a link to /place")?;
    let (mut task, request) =
        asked(&stage, vec![mount("bind", &lab.dir.join("data"), "/link", &["bind", "ro"])])?;
    link(&task, &outside)?;
    let made = task.client.call::<CreateTaskResponse>("Create", &request);
    yes(made.is_err(), "a mount was made outside of the root")?;
    yes(!outside.join("file").exists(), "a mount is seen outside of the root")?;
    stage.is_clean_but_for_its_socket(&task)?;
    task.shut_down()
}

/// The backing file of each loop device.
fn loop_files() -> Vec<String> {
    let Ok(list) = fs::read_dir("/sys/block") else { return Vec::new() };
    list.flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("loop/backing_file")).ok())
        .collect()
}

fn a_file_is_mounted_by_a_loop_device_that_goes_with_it(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    lab.file("data/file", "from an image\n")?;
    let image = lab.dir.join("image");
    let mut make = Command::new("mkfs.ext4");
    make.args(["-q", "-d"]).arg(lab.dir.join("data")).arg(&image).arg("2m");
    if !make
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        return skip("no mkfs.ext4 that fills what it makes");
    }
    if !Path::new("/dev/loop-control").exists() {
        return skip("no loop devices");
    }
    for (options, expected) in [
        (&["loop", "ro"][..], "from an image\n"),
        (&["loop"], "from an image\nwritten\n"),
        (&["ro", "loop", "direct-io"], "from an image\n"),
    ] {
        let (mut task, request) = asked(&stage, vec![mount("ext4", &image, "place", options)])?;
        eq(said(&stage, &mut task, &request)?.as_str(), expected, format!("with {options:?}"))?;
        let name = image.to_string_lossy().into_owned();
        integration::process::wait_for("the loop device goes", || {
            (!loop_files().iter().any(|file| file.contains(&name))).then_some(())
        })?;
    }
    Ok(())
}

fn a_mount_that_cannot_be_made_leaves_those_before_it_unmade(lab: &Lab) -> Outcome {
    let stage = Stage::new(lab)?;
    stage.ours_only("it leaves those before a place that is not there")?;
    lab.file("data/file", "inside\n")?;
    let data = lab.dir.join("data");
    for (last, why) in [
        (mount("bind", &data, "/not-there", &["bind"]), "not-there"),
        (mount("ext4", &data.join("nothing"), "/place", &["loop"]), "loop"),
        (mount("nothing-at-all", &data, "/place", &[]), "nothing-at-all"),
        (mount("fuse3.nothing-at-all", &data, "", &[]), "mount.fuse3"),
    ] {
        let (mut task, request) = asked(&stage, vec![mount("bind", &data, "/place", &["bind"]), last])?;
        let refused = task.client.call::<CreateTaskResponse>("Create", &request).unwrap_err();
        has(&refused.message, why)?;
        stage.is_clean_but_for_its_socket(&task)?;
        task.shut_down()?;
    }
    Ok(())
}
