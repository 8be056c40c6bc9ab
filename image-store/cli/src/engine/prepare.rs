//! Creates a container from an image and flags: its writable layer, volumes, /etc/hosts and the like, config.json and record.
//! Nothing is started yet.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use image_store::copy::Place;
use image_store::manifest::RunConfig;
use image_store::store::{Going, Record};
use image_store::{ErrorKind, Store};
use libcontainer::spec::LinuxNamespaceType;
use rustix::fs::FlockOperation;

use super::config::context::Context;
use super::config::{self, devices};
use super::names::random_name;
use super::options::{self, Bind, Mode, Options, Source};
use super::user;
use crate::container::find::find;
use crate::container::locks::{lock, lock_names};
use crate::container::record::{Mounted, Run};
use crate::container::volumes::remove_unused;
use crate::failure::{Failure, Result, invalid, os};
use crate::places::ContainerDir;
use crate::rootless::Ids;
use crate::{places, random, trash};

/// Creates a container and returns its ID. `going` is called now and then, and ends that if it fails; nothing is left then.
pub(crate) fn prepare(
    store: &Store,
    record: &Record,
    options: &Options,
    command: &[String],
    going: &Going<'_>,
) -> Result<String> {
    let id = random::id()?;
    let mut volumes = Vec::new();
    let made = store.prepare(record, &id).map_err(Failure::from).and_then(|_| {
        // As its supervisor does later, so that it is not removed meanwhile.
        let _lock = lock(&places::container(store, &id).lock(), FlockOperation::NonBlockingLockExclusive)?;
        let image = store.config(record)?.0.config.unwrap_or_default();
        reserve(store, &id, options, &image, &mut volumes)?;
        let run = fill(store, &id, options, &image, command, &volumes, going)?;
        // It may have been renamed.
        Run::change(store, &id, |reserved| *reserved = Run { name: reserved.name.clone(), ..run })
    });
    if made.is_err() {
        let _ = store.remove_container(&id);
        if let Ok(names) = lock_names(store) {
            for (volume, _) in volumes.iter().filter(|(volume, _)| volume.anonymous) {
                let _ = remove_unused(store, &volume.name, &names);
            }
        }
        trash::empty_later(store);
    }
    made.map(|()| id)
}

/// Takes the container's name and its volumes, so that nobody else takes or removes them. The lock for that is not held while volumes
/// are filled, which may take long.
fn reserve(
    store: &Store,
    id: &str,
    options: &Options,
    image: &RunConfig,
    volumes: &mut Vec<(Mounted, bool)>,
) -> Result<()> {
    let _names = lock_names(store)?;
    let taken = |name: &str| find(store, name).is_ok_and(|c| Run::of(&c).is_some_and(|run| run.name == name));
    let name = match &options.name {
        Some(name) if taken(name) => {
            let id = find(store, name)?.id;
            let message = format!(
                "container {name:?}: already exists (as {}): remove or rename it",
                &id[..12.min(id.len())]
            );
            return Err(Failure::new(ErrorKind::Exists, message));
        }
        Some(name) => name.clone(),
        None => random_name(taken)?,
    };
    *volumes = plan_volumes(store, options, image)?;
    let volumes = volumes.iter().map(|(volume, _)| volume.clone()).collect();
    Run { name, unfinished: true, volumes, ..Run::default() }.save(store, id)
}

fn fill(
    store: &Store,
    id: &str,
    options: &Options,
    image: &RunConfig,
    command: &[String],
    planned: &[(Mounted, bool)],
    going: &Going<'_>,
) -> Result<Run> {
    let view = store.container_rootfs(&store.container(id)?)?.mount()?;
    let who = options.user.clone().or_else(|| image.user.clone()).unwrap_or_default();
    let user = user::resolve(&view, &who, &options.groups)?;
    let ids = Ids::current();
    if let Some(ids) = &ids {
        check_ids(ids, &user)?;
    }
    let directory = places::container(store, id);
    let hostname = hostname(options, id);
    write_names(&directory, options, &hostname)?;
    let (nodes, joins) = (devices::nodes(options, ids.is_some())?, joins(store, options)?);
    let view = Place::root(view);
    for (volume, filled) in planned.iter().filter(|(volume, _)| !volume.name.is_empty()) {
        let image = filled.then_some((&view, volume.target.as_str()));
        store.use_volume(&volume.name, volume.anonymous, image, going)?;
    }
    // Overlay must not use the same directories twice at a time.
    drop(view);
    let volumes: Vec<Mounted> = planned.iter().map(|(volume, _)| volume.clone()).collect();
    add_stubs(store, id, options, image, &volumes)?;
    let init = options.init.then(init_program).transpose()?;
    let context = Context {
        directory: &directory,
        hostname: &hostname,
        user: &user,
        volumes: &volumes,
        nodes: &nodes,
        init,
        id,
        ids,
    };
    let spec = config::build(image, options, command, &context)?;
    Ok(Run {
        user: who,
        spec,
        joins,
        terminal: options.terminal,
        interactive: options.interactive,
        input_once: !options.detach,
        remove: options.remove,
        restart: options.restart,
        log: options.log,
        stop_signal: stop_signal(options, image),
        stop_timeout: options.stop_timeout,
        labels: image.labels.clone().unwrap_or_default().into_iter().chain(options.labels.clone()).collect(),
        volumes,
        privileged: options.privileged,
        network: mode_name(&options.namespaces.network),
        ..Run::default()
    })
}

fn mode_name(mode: &Mode) -> String {
    match mode {
        Mode::Own => "none".to_owned(),
        Mode::Host => "host".to_owned(),
        Mode::Container(name) => format!("container:{name}"),
    }
}

/// An invalid signal of the image is ignored.
fn stop_signal(options: &Options, image: &RunConfig) -> String {
    let images = || image.stop_signal.clone().filter(|text| options::signal(text).is_ok());
    options.stop_signal.clone().or_else(images).unwrap_or_else(|| "SIGTERM".to_owned())
}

fn check_ids(ids: &Ids, user: &user::User) -> Result<()> {
    let missing = |what: &str, id: u32| {
        invalid(format!(
            "{what} {id}: not in this user's ID ranges: add ranges to /etc/subuid and /etc/subgid, and install newuidmap(1)"
        ))
    };
    if !ids.has_user(user.uid) {
        return Err(missing("user", user.uid));
    }
    match [user.gid].iter().chain(&user.groups).find(|group| !ids.has_group(**group)) {
        Some(group) => Err(missing("group", *group)),
        None => Ok(()),
    }
}

fn hostname(options: &Options, id: &str) -> String {
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let shares = options.namespaces.uts == Mode::Host || options.namespaces.network == Mode::Host;
    options.hostname.clone().unwrap_or_else(|| if shares { host() } else { id[..12].to_owned() })
}

/// /etc/hosts, /etc/hostname and /etc/resolv.conf.
fn write_names(directory: &ContainerDir, options: &Options, hostname: &str) -> Result<()> {
    let host_network = options.namespaces.network != Mode::Own;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut hosts = if options.namespaces.network == Mode::Host {
        read("/etc/hosts")
    } else {
        format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n")
    };
    for (name, address) in &options.names.hosts {
        hosts.push_str(&format!("{address}\t{name}\n"));
    }
    let names = &options.names;
    let mut resolv = String::new();
    let lines = [("nameserver", &names.servers), ("search", &names.search), ("options", &names.options)];
    for (word, values) in lines.iter().filter(|(_, values)| !values.is_empty()) {
        match *word {
            "nameserver" => values.iter().for_each(|value| resolv.push_str(&format!("nameserver {value}\n"))),
            word => resolv.push_str(&format!("{word} {}\n", values.join(" "))),
        }
    }
    let given = |word: &str| lines.iter().any(|(own, values)| *own == word && !values.is_empty());
    let system = if host_network { read("/etc/resolv.conf") } else { String::new() };
    let kept = system.lines().filter(|line| !given(line.split_whitespace().next().unwrap_or_default()));
    let resolv = kept.map(|line| format!("{line}\n")).collect::<String>() + &resolv;
    for (name, content) in [("hosts", hosts), ("hostname", format!("{hostname}\n")), ("resolv.conf", resolv)]
    {
        let path = directory.etc(name);
        let failed = |e: std::io::Error| os(e, format!("write {path:?}"));
        std::fs::write(&path, content).map_err(failed)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).map_err(failed)?;
    }
    Ok(())
}

/// Adds a layer with the targets of mounts, and the working directory if the image does not have it.
fn add_stubs(
    store: &Store,
    id: &str,
    options: &Options,
    image: &RunConfig,
    volumes: &[Mounted],
) -> Result<()> {
    let mut stubs = vec![("proc", true), ("sys", true), ("dev", true)];
    stubs.extend(["etc/hosts", "etc/hostname", "etc/resolv.conf"].map(|path| (path, false)));
    stubs.extend(options.tmpfs.iter().map(|(target, _)| (target.as_str(), true)));
    stubs.extend(volumes.iter().map(|bind| (bind.target.as_str(), Path::new(&bind.source).is_dir())));
    stubs.extend(
        options.workdir.as_deref().or(image.working_dir.as_deref()).map(|directory| (directory, true)),
    );
    Ok(store.add_stubs(id, stubs)?)
}

/// The volumes: paths of the host, named volumes, and those of the image; with `true` if a new one starts with the image's files.
fn plan_volumes(store: &Store, options: &Options, image: &RunConfig) -> Result<Vec<(Mounted, bool)>> {
    let mut all: Vec<(Mounted, bool)> = Vec::new();
    for bind in &options.binds {
        all.push((volume(store, bind)?, bind.fill));
    }
    for (name, read_only) in &options.volumes_from {
        for mounted in Run::require(&find(store, name)?)?.volumes {
            mounted.check(store)?;
            if !all.iter().any(|(other, _)| other.target == mounted.target) {
                all.push((Mounted { read_only: mounted.read_only || *read_only, ..mounted }, false));
            }
        }
    }
    for target in image.volumes.iter().flatten().filter_map(|(path, _)| image_target(path)) {
        let taken = all.iter().any(|(volume, _)| volume.target == target)
            || options.tmpfs.iter().any(|(at, _)| *at == target);
        if !taken {
            let source = Source::Volume(random::id()?, true);
            let propagation = "rprivate".to_owned();
            let bind = Bind { source, target, read_only: false, propagation, fill: true };
            all.push((volume(store, &bind)?, true));
        }
    }
    Ok(all)
}

/// The target of a volume of the image, normalised like those of flags, so that they can be compared. `None` for the root and for
/// relative paths.
fn image_target(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.strip_prefix('/')?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| format!("/{}", parts.join("/")))
}

fn volume(store: &Store, bind: &Bind) -> Result<Mounted> {
    let (name, source, anonymous) = match &bind.source {
        Source::Host(path) => {
            if !Path::new(path).exists() {
                return Err(invalid(format!("volume {path:?}: does not exist on the host")));
            }
            (String::new(), path.clone(), false)
        }
        Source::Volume(name, anonymous) => (name.clone(), text(&store.volume_path(name))?, *anonymous),
    };
    let (target, propagation) = (bind.target.clone(), bind.propagation.clone());
    Ok(Mounted { name, source, target, read_only: bind.read_only, propagation, anonymous })
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| invalid(format!("{path:?}: not valid UTF-8")))
}

/// The kinds of namespaces that are joined, with the IDs of their containers.
fn joins(store: &Store, options: &Options) -> Result<Vec<(LinuxNamespaceType, String)>> {
    let own = &options.namespaces;
    let mut all = Vec::new();
    for (kind, mode) in [
        (LinuxNamespaceType::Network, &own.network),
        (LinuxNamespaceType::Pid, &own.pid),
        (LinuxNamespaceType::Ipc, &own.ipc),
    ] {
        if let Mode::Container(name) = mode {
            all.push((kind, find(store, name)?.id));
        }
    }
    Ok(all)
}

/// The path of knarr-init: beside this program, or where packages install it.
fn init_program() -> Result<PathBuf> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("knarr-init"));
    let places =
        beside.into_iter().chain(["/usr/libexec/knarr/knarr-init", "/usr/bin/knarr-init"].map(Into::into));
    places.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Failure::new(
            ErrorKind::NotFound,
            "--init: knarr-init not found: install it next to knarr-image, in /usr/libexec/knarr or in /usr/bin",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_of_the_image_is_where_a_flag_would_put_it() {
        for (path, target) in [
            ("/data", Some("/data")),
            ("/data/", Some("/data")),
            ("//data", Some("/data")),
            ("/./data/.", Some("/data")),
            ("/data/../data", Some("/data")),
            ("/../../a/b", Some("/a/b")),
            ("/", None),
            ("/.", None),
            ("/a/..", None),
            ("", None),
            ("data", None),
            ("../data", None),
        ] {
            assert_eq!(image_target(path).as_deref(), target, "{path:?}");
        }
    }
}
