//! The flags of `run`, parsed and checked. Pure but for reading an env file or seccomp profile that a flag names.

use image_store::{Error, ErrorKind, Result};
use serde_json::Value;

use super::spec::CAPABILITIES;
use crate::args::{Args, Flag, switch, value};

/// The common flags of `docker run`.
pub(crate) static FLAGS: &[Flag] = &[
    switch("interactive", Some('i'), "keep standard input open"),
    switch("tty", Some('t'), "give it a terminal"),
    switch("detach", Some('d'), "run in the background, print the ID"),
    switch("rm", None, "remove the container when it ends"),
    value("name", None, "NAME", "the container's name"),
    value("hostname", Some('h'), "NAME", "the host name it sees (default: its ID)"),
    value("env", Some('e'), "NAME[=VALUE]", "set a variable; without a value, ours"),
    value("env-file", None, "FILE", "variables, one a line"),
    value("workdir", Some('w'), "FOLDER", "where it starts"),
    value("user", Some('u'), "USER[:GROUP]", "who it runs as"),
    value(
        "volume",
        Some('v'),
        "SOURCE:TARGET[:ro]",
        "a folder of the host, or a named volume; or only TARGET",
    ),
    value("mount", None, "type=bind|volume|tmpfs,src=,dst=[,ro]", "the same, spelled out"),
    value("tmpfs", None, "TARGET[:OPTIONS]", "an empty folder in memory"),
    switch("read-only", None, "its root file system can not be written to"),
    value("cap-add", None, "CAPABILITY", "give it a capability, or ALL"),
    value("cap-drop", None, "CAPABILITY", "take one away, or ALL"),
    value("memory", Some('m'), "BYTES[kmg]", "at most so much memory"),
    value("cpus", None, "NUMBER", "at most so many processors, such as 1.5"),
    value("pids-limit", None, "NUMBER", "at most so many processes; -1: no limit"),
    value("entrypoint", None, "PROGRAM", "in place of the image's"),
    switch("init", None, "run knarr-init as the first process, to reap and to forward signals"),
    switch("privileged", None, "all capabilities and devices, no seccomp: no protection of the host"),
    value("security-opt", None, "OPTION", "seccomp=unconfined|FILE, no-new-privileges, apparmor=PROFILE"),
    value("network", None, "host|none", "the host's network, or none but loopback (default)"),
    value("label", Some('l'), "NAME=VALUE", "an annotation"),
    super::super::commands::PLATFORM,
    super::super::commands::CREDS,
    super::super::commands::AUTHFILE,
    super::super::commands::INSECURE,
    super::super::commands::CERTS,
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Network {
    Host,
    #[default]
    None,
}

/// A folder bound into the container. A source without a slash in front is a named volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) source: String,
    pub(super) target: String,
    pub(super) read_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Seccomp {
    #[default]
    Default,
    Unconfined,
    Profile(Value),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) interactive: bool,
    pub(super) terminal: bool,
    pub(super) detach: bool,
    pub(super) remove: bool,
    pub(super) name: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) env: Vec<String>,
    pub(super) workdir: Option<String>,
    pub(super) user: Option<String>,
    pub(super) binds: Vec<Bind>,
    pub(super) tmpfs: Vec<(String, String)>,
    pub(super) read_only: bool,
    pub(super) cap_add: Vec<String>,
    pub(super) cap_drop: Vec<String>,
    pub(super) memory: Option<i64>,
    pub(super) cpus: Option<f64>,
    pub(super) pids: Option<i64>,
    pub(super) entrypoint: Option<String>,
    pub(super) init: bool,
    pub(super) privileged: bool,
    pub(super) seccomp: Seccomp,
    pub(super) no_new_privileges: bool,
    pub(super) apparmor: Option<String>,
    pub(super) network: Network,
    pub(super) labels: Vec<(String, String)>,
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

pub(super) fn parse(args: &Args) -> Result<Options> {
    let owned = |name: &str| args.get(name).map(str::to_owned);
    let mut options = Options {
        interactive: args.has("interactive"),
        terminal: args.has("tty"),
        detach: args.has("detach"),
        remove: args.has("rm"),
        name: owned("name"),
        hostname: owned("hostname"),
        workdir: owned("workdir"),
        user: owned("user"),
        read_only: args.has("read-only"),
        cap_add: args.all("cap-add").map(capability).collect::<Result<_>>()?,
        cap_drop: args.all("cap-drop").map(capability).collect::<Result<_>>()?,
        memory: args.get("memory").map(bytes).transpose()?,
        cpus: args.get("cpus").map(cpus).transpose()?,
        pids: args
            .get("pids-limit")
            .map(|text| text.parse().map_err(|_| invalid(format!("--pids-limit {text:?}: is no number"))))
            .transpose()?,
        entrypoint: owned("entrypoint"),
        init: args.has("init"),
        privileged: args.has("privileged"),
        ..Options::default()
    };
    for file in args.all("env-file") {
        let text = std::fs::read_to_string(file)
            .map_err(|e| Error::from(e).context(format!("--env-file {file:?}")))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        options.env.extend(lines.filter_map(variable));
    }
    options.env.extend(args.all("env").filter_map(variable));
    options.binds = args.all("volume").map(volume).collect::<Result<_>>()?;
    options.tmpfs = args.all("tmpfs").map(tmpfs).collect::<Result<_>>()?;
    for text in args.all("mount") {
        mount(text, &mut options)?;
    }
    for text in args.all("security-opt") {
        security(text, &mut options)?;
    }
    options.network = match args.get("network") {
        None | Some("none") => Network::None,
        Some("host") => Network::Host,
        Some(other) => return Err(invalid(format!("--network {other:?}: is none of host, none"))),
    };
    for label in args.all("label") {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        options.labels.push((name.to_owned(), value.to_owned()));
    }
    Ok(options)
}

/// A name alone means the value it has here; nothing when it has none.
fn variable(text: &str) -> Option<String> {
    if text.contains('=') {
        return Some(text.to_owned());
    }
    std::env::var(text).ok().map(|value| format!("{text}={value}"))
}

fn capability(text: &str) -> Result<String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name == "ALL" || CAPABILITIES.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(invalid(format!("capability {text:?}: there is no such one")))
}

/// `512m`, `1g`, `1048576`.
fn bytes(text: &str) -> Result<i64> {
    let wrong = || invalid(format!("--memory {text:?}: wants a number and b, k, m or g"));
    let lower = text.to_ascii_lowercase();
    let lower = lower
        .strip_suffix("ib")
        .or_else(|| lower.strip_suffix('b').filter(|t| t.ends_with(|c: char| c.is_ascii_alphabetic())))
        .unwrap_or(&lower);
    let (digits, unit) = lower.split_at(lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len()));
    let factor: i64 = match unit {
        "" | "b" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return Err(wrong()),
    };
    digits.parse::<i64>().ok().and_then(|n| n.checked_mul(factor)).filter(|n| *n > 0).ok_or_else(wrong)
}

fn cpus(text: &str) -> Result<f64> {
    let number = text.parse::<f64>().ok().filter(|n| *n >= 0.01 && *n <= 8192.0);
    number.ok_or_else(|| invalid(format!("--cpus {text:?}: wants a number from 0.01 on")))
}

fn target(text: &str, whole: &str) -> Result<String> {
    if text.starts_with('/') && text != "/" && !text.split('/').any(|part| part == "..") {
        return Ok(text.to_owned());
    }
    Err(invalid(format!("volume {whole:?}: its target is no absolute path below the root")))
}

/// A volume's name, which becomes that of a folder.
fn volume_name(text: &str, whole: &str) -> Result<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(plain)
        && text.len() <= 128
    {
        return Ok(text.to_owned());
    }
    Err(invalid(format!("volume {whole:?}: {text:?} is neither an absolute path nor a name")))
}

fn volume(text: &str) -> Result<Bind> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, at, mode) = match parts[..] {
        // Anonymous: a name nobody else has.
        [at] => {
            return Ok(Bind {
                source: format!("anonymous-{}", crate::commands::random_id()?),
                target: target(at, text)?,
                read_only: false,
            });
        }
        [source, at] => (source, at, ""),
        [source, at, mode] => (source, at, mode),
        _ => return Err(invalid(format!("volume {text:?}: wants SOURCE:TARGET[:ro]"))),
    };
    let source = if source.starts_with('/') { source.to_owned() } else { volume_name(source, text)? };
    let mut read_only = false;
    for option in mode.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" | "z" | "Z" => {}
            other => return Err(invalid(format!("volume {text:?}: option {other:?} is none of ro, rw"))),
        }
    }
    Ok(Bind { source, target: target(at, text)?, read_only })
}

fn tmpfs(text: &str) -> Result<(String, String)> {
    let (at, options) = text.split_once(':').unwrap_or((text, ""));
    Ok((target(at, text)?, options.to_owned()))
}

fn mount(text: &str, options: &mut Options) -> Result<()> {
    let (mut kind, mut source, mut at, mut read_only) = ("volume", None, None, false);
    for part in text.split(',') {
        match part.split_once('=').unwrap_or((part, "true")) {
            ("type", value) => kind = value,
            ("src" | "source", value) => source = Some(value),
            ("dst" | "target" | "destination", value) => at = Some(value),
            ("ro" | "readonly", value) => read_only = value != "false",
            (other, _) => {
                return Err(invalid(format!("--mount {text:?}: {other:?} is none of type, src, dst, ro")));
            }
        }
    }
    let at = target(at.unwrap_or_default(), text)?;
    match (kind, source) {
        ("bind", Some(source)) if source.starts_with('/') => {
            options.binds.push(Bind { source: source.to_owned(), target: at, read_only });
        }
        ("bind", _) => return Err(invalid(format!("--mount {text:?}: wants an absolute src"))),
        ("volume", Some(source)) => {
            options.binds.push(Bind { source: volume_name(source, text)?, target: at, read_only })
        }
        ("volume", None) => options.binds.push(Bind { read_only, ..volume(&at)? }),
        ("tmpfs", None) => options.tmpfs.push((at, if read_only { "ro".to_owned() } else { String::new() })),
        _ => return Err(invalid(format!("--mount {text:?}: its type is none of bind, volume, tmpfs"))),
    }
    Ok(())
}

fn security(text: &str, options: &mut Options) -> Result<()> {
    match text.split_once(['=', ':']).unwrap_or((text, "true")) {
        ("seccomp", "unconfined") => options.seccomp = Seccomp::Unconfined,
        ("seccomp", path) => {
            let bytes = std::fs::read(path)
                .map_err(|e| Error::from(e).context(format!("seccomp profile {path:?}")))?;
            let profile = serde_json::from_slice(&bytes)
                .map_err(|e| invalid(format!("seccomp profile {path:?}: {e}")))?;
            options.seccomp = Seccomp::Profile(profile);
        }
        ("no-new-privileges", value) => options.no_new_privileges = value != "false",
        ("apparmor", profile) => options.apparmor = Some(profile.to_owned()),
        _ => {
            return Err(invalid(format!(
                "--security-opt {text:?}: is none of seccomp, no-new-privileges, apparmor"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_paths_or_names() {
        let bind =
            |source: &str, at: &str, read_only| Bind { source: source.into(), target: at.into(), read_only };
        assert_eq!(volume("/a:/b:ro").unwrap(), bind("/a", "/b", true));
        assert_eq!(volume("data:/b").unwrap(), bind("data", "/b", false));
        assert!(volume("/only").unwrap().source.starts_with("anonymous-"));
        for bad in ["/a:b", "../x:/b", "a/b:/c", ".:/b", "/a:/b:rx", "/a:/", "/a:/../b", "a:b:c:d"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_and_numbers_have_their_range() {
        for (text, wanted) in [
            ("1024", 1024),
            ("4k", 4096),
            ("512M", 512 << 20),
            ("1gb", 1 << 30),
            ("2GiB", 2 << 30),
            ("7b", 7),
        ] {
            assert_eq!(bytes(text).unwrap(), wanted, "{text}");
        }
        for bad in ["", "-1", "0", "1t", "x", "99999999999g"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert!(cpus("1.5").is_ok() && cpus("0").is_err() && cpus("nan").is_err());
        assert_eq!(capability("cap_net_raw").unwrap(), "NET_RAW");
        assert!(capability("NET_RAWX").is_err());
    }
}
