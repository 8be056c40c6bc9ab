//! The flags of `run` and `create`, parsed and checked: bad values are refused before anything is created. Reads files that flags
//! name, and no others.

mod namespaces;
mod numbers;
mod volumes;

use std::collections::BTreeMap;

use image_store::ErrorKind;
use libcontainer::Signal;

pub(crate) use namespaces::{Mode, Namespaces};
pub(crate) use numbers::Limits;
pub(crate) use volumes::{Bind, Device, Source, volume_name};

use super::capabilities::CAPABILITIES;
use super::keys::DetachKeys;
use super::seccomp::{Seccomp, profile};
use crate::cli::Args;
use crate::container::record::Restart;
use crate::failure::{Failure, Result, invalid, os};

/// /etc/hosts and /etc/resolv.conf.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// Name and address.
    pub(crate) hosts: Vec<(String, String)>,
    pub(crate) servers: Vec<String>,
    pub(crate) search: Vec<String>,
    pub(crate) options: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) interactive: bool,
    pub(crate) terminal: bool,
    pub(crate) detach: bool,
    pub(crate) remove: bool,
    pub(crate) restart: Restart,
    pub(crate) name: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) names: Names,
    pub(crate) env: Vec<String>,
    pub(crate) workdir: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) binds: Vec<Bind>,
    pub(crate) volumes_from: Vec<(String, bool)>,
    pub(crate) tmpfs: Vec<(String, String)>,
    pub(crate) devices: Vec<Device>,
    pub(crate) read_only: bool,
    pub(crate) cap_add: Vec<String>,
    pub(crate) cap_drop: Vec<String>,
    pub(crate) limits: Limits,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) cgroup_parent: Option<String>,
    pub(crate) entrypoint: Option<String>,
    pub(crate) init: bool,
    pub(crate) privileged: bool,
    pub(crate) seccomp: Seccomp,
    /// The default profile allows `socketcall`.
    pub(crate) socketcall: bool,
    pub(crate) no_new_privileges: bool,
    pub(crate) apparmor: Option<String>,
    pub(crate) selinux: Option<String>,
    pub(crate) unmasked: bool,
    pub(crate) namespaces: Namespaces,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) log: bool,
    pub(crate) stop_signal: Option<String>,
    pub(crate) stop_timeout: Option<u64>,
}

pub(crate) fn parse(args: &Args) -> Result<Options> {
    refuse_networks(args)?;
    let owned = |name: &str| args.get(name).map(str::to_owned);
    // As with Docker, an empty value is the default: scripts pass variables that may be empty.
    let given = |name: &str| args.get(name).filter(|text| !text.is_empty());
    let mut options = Options {
        interactive: args.has("interactive"),
        terminal: args.has("tty"),
        detach: args.has("detach"),
        remove: args.has("rm"),
        restart: args.get("restart").map_or(Ok(Restart::No), restart)?,
        name: given("name").map(name).transpose()?,
        hostname: given("hostname").map(hostname).transpose()?,
        domainname: owned("domainname"),
        names: names(args)?,
        workdir: given("workdir").map(|text| volumes::absolute(text, "--workdir")).transpose()?,
        user: given("user").map(str::to_owned),
        groups: args.all("group-add").map(str::to_owned).collect(),
        volumes_from: args.all("volumes-from").map(volumes::from).collect::<Result<_>>()?,
        devices: args.all("device").map(volumes::device).collect::<Result<_>>()?,
        read_only: args.has("read-only"),
        cap_add: args.all("cap-add").map(capability).collect::<Result<_>>()?,
        cap_drop: args.all("cap-drop").map(capability).collect::<Result<_>>()?,
        limits: numbers::limits(args)?,
        sysctls: args.all("sysctl").map(|text| pair(text, "--sysctl")).collect::<Result<_>>()?,
        cgroup_parent: owned("cgroup-parent"),
        entrypoint: owned("entrypoint"),
        init: args.has("init"),
        privileged: args.has("privileged"),
        namespaces: namespaces::parse(args)?,
        labels: labels(args)?,
        annotations: args.all("annotation").map(|text| pair(text, "--annotation")).collect::<Result<_>>()?,
        log: log(args.get("log-driver"))?,
        stop_signal: given("stop-signal").map(signal).transpose()?,
        stop_timeout: args
            .get("stop-timeout")
            .map(|text| numbers::count(text, "--stop-timeout"))
            .transpose()?,
        ..Options::default()
    };
    if options.remove && options.restart != Restart::No {
        return Err(invalid("--rm and --restart are mutually exclusive"));
    }
    args.get("detach-keys").map(DetachKeys::parse).transpose()?;
    options.env = environment(args)?;
    (options.binds, options.tmpfs) = volumes::parse(args)?;
    for text in args.all("security-opt") {
        security(text, &mut options)?;
    }
    if options.socketcall && matches!(options.seccomp, Seccomp::Profile(_)) {
        let message = "--security-opt socketcall=allow: only applies to the default seccomp profile: allow \"socketcall\" in your profile instead";
        return Err(invalid(message));
    }
    Ok(options)
}

/// Flags that need a bridge.
fn refuse_networks(args: &Args) -> Result<()> {
    for flag in ["publish", "publish-all", "link"] {
        if args.get(flag).is_some_and(|value| value != "false") {
            return Err(Failure::new(
                ErrorKind::Unsupported,
                format!(
                    "--{flag}: not supported: use --network host, or run knarr under Docker, containerd or podman for bridges and published ports"
                ),
            ));
        }
    }
    Ok(())
}

/// A container's name, by Docker's rules.
pub(crate) fn name(text: &str) -> Result<String> {
    let rest = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && text.bytes().all(rest) && text.len() <= 128 {
        return Ok(text.to_owned());
    }
    Err(invalid(format!(
        "--name {text:?}: must be up to 128 letters, digits, \"_\", \".\" and \"-\", starting with a letter or digit"
    )))
}

/// A host name of at most 64 bytes, the limit of sethostname(2).
fn hostname(text: &str) -> Result<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(invalid(format!("--hostname {text:?}: must be a host name of up to 64 characters")))
}

fn restart(text: &str) -> Result<Restart> {
    Ok(match text.split_once(':').unwrap_or((text, "")) {
        ("no" | "", "") => Restart::No,
        // Without a daemon, there is no difference.
        ("always" | "unless-stopped", "") => Restart::Always,
        ("on-failure", "") => Restart::OnFailure(0),
        ("on-failure", times) => Restart::OnFailure(numbers::count(times, "--restart on-failure")?),
        _ => {
            let message =
                format!("--restart {text:?}: must be no, on-failure[:TIMES], always or unless-stopped");
            return Err(invalid(message));
        }
    })
}

fn log(driver: Option<&str>) -> Result<bool> {
    match driver {
        None | Some("json-file") => Ok(true),
        Some("none") => Ok(false),
        Some(other) => Err(invalid(format!("--log-driver {other:?}: must be json-file or none"))),
    }
}

pub(crate) fn signal(text: &str) -> Result<String> {
    let parsed = Signal::parse(text).ok().filter(|signal| signal.number() > 0);
    parsed.map(|_| text.to_owned()).ok_or_else(|| invalid(format!("unknown signal {text:?}")))
}

fn names(args: &Args) -> Result<Names> {
    let plain = |flag: &'static str| -> Result<Vec<String>> {
        let check = |text: &str| {
            let bad = text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control());
            if bad {
                Err(invalid(format!("--{flag} {text:?}: must not be empty or contain spaces")))
            } else {
                Ok(text.to_owned())
            }
        };
        args.all(flag).map(check).collect()
    };
    let host = |text: &str| {
        let wrong = || invalid(format!("--add-host {text:?}: must be NAME:ADDRESS"));
        let (name, address) = text.split_once([':', '=']).ok_or_else(wrong)?;
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<std::net::IpAddr>().map_err(|_| wrong())?;
        Ok((hostname(name).map_err(|_| wrong())?, bare.to_owned()))
    };
    for server in args.all("dns") {
        server
            .parse::<std::net::IpAddr>()
            .map_err(|_| invalid(format!("--dns {server:?}: must be an IP address")))?;
    }
    Ok(Names {
        hosts: args.all("add-host").map(host).collect::<Result<_>>()?,
        servers: plain("dns")?,
        search: plain("dns-search")?,
        options: plain("dns-option")?,
    })
}

/// The variables of files, then those of flags.
pub(crate) fn environment(args: &Args) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for line in lines(args, "env-file")? {
        all.extend(variable(&line, "--env-file")?);
    }
    for text in args.all("env") {
        all.extend(variable(text, "--env")?);
    }
    Ok(all)
}

fn labels(args: &Args) -> Result<BTreeMap<String, String>> {
    let from_files = lines(args, "label-file")?;
    let all = from_files.iter().map(String::as_str).chain(args.all("label"));
    let split = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            Err(invalid(format!("--label {text:?}: name is empty")))
        } else {
            Ok((name.to_owned(), value.to_owned()))
        }
    };
    all.map(split).collect()
}

/// The lines of the files that a flag names, without empty ones and comments.
fn lines(args: &Args, flag: &'static str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in args.all(flag) {
        let text = std::fs::read_to_string(file).map_err(|e| os(e, format!("--{flag} {file:?}")))?;
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim_start);
        all.extend(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned));
    }
    Ok(all)
}

/// A name without a value stands for the caller's variable, if that is set.
fn variable(text: &str, flag: &str) -> Result<Option<String>> {
    let name = text.split('=').next().unwrap_or_default();
    if name.is_empty() || name.contains(char::is_whitespace) || text.contains('\0') {
        return Err(invalid(format!("{flag} {text:?}: must be NAME=VALUE")));
    }
    if text.contains('=') {
        return Ok(Some(text.to_owned()));
    }
    Ok(std::env::var(text).ok().map(|value| format!("{text}={value}")))
}

fn pair(text: &str, flag: &str) -> Result<(String, String)> {
    let wrong = || invalid(format!("{flag} {text:?}: must be NAME=VALUE"));
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    Ok((name.to_owned(), value.to_owned()))
}

fn capability(text: &str) -> Result<String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name == "ALL" || CAPABILITIES.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(invalid(format!("unknown capability {text:?}")))
}

fn security(text: &str, options: &mut Options) -> Result<()> {
    match text.split_once(['=', ':']).unwrap_or((text, "true")) {
        ("seccomp", "unconfined") => options.seccomp = Seccomp::Unconfined,
        ("seccomp", "builtin" | "default") => options.seccomp = Seccomp::Default,
        ("seccomp", path) => {
            let bytes = std::fs::read(path).map_err(|e| os(e, format!("seccomp profile {path:?}")))?;
            options.seccomp = Seccomp::Profile(profile(path, &bytes)?);
        }
        ("socketcall", "allow") => options.socketcall = true,
        ("socketcall", "deny") => options.socketcall = false,
        ("no-new-privileges", value) => options.no_new_privileges = value != "false",
        ("apparmor", "unconfined") => options.apparmor = None,
        ("apparmor", profile) => options.apparmor = Some(profile.to_owned()),
        ("label", "disable") => options.selinux = None,
        ("label", label) => options.selinux = Some(label.to_owned()),
        ("systempaths", "unconfined") => options.unmasked = true,
        _ => {
            let known =
                "seccomp, socketcall=allow|deny, no-new-privileges, apparmor, label, systempaths=unconfined";
            return Err(invalid(format!("--security-opt {text:?}: must be one of {known}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Parsed;
    use crate::commands::TABLE;

    #[test]
    fn an_empty_value_is_the_default() {
        for flag in ["name", "hostname", "workdir", "user", "stop-signal"] {
            let words = ["run", &format!("--{flag}="), "image"].map(str::to_owned);
            let Parsed::Run(_, args) = TABLE.parse(&words).unwrap() else { panic!("{flag}") };
            let options = parse(&args).unwrap();
            let given = [options.name, options.hostname, options.workdir, options.user, options.stop_signal];
            assert_eq!(given, [const { None }; 5], "{flag}");
        }
    }

    #[test]
    fn words_are_checked() {
        assert_eq!(capability("cap_net_raw").unwrap(), "NET_RAW");
        assert!(capability("NET_RAWX").is_err());
        assert!(name("web-1").is_ok() && name("-x").is_err() && name("a/b").is_err() && name("").is_err());
        assert!(hostname("demo").is_ok() && hostname("a b").is_err() && hostname(&"x".repeat(65)).is_err());
        assert_eq!(restart("on-failure:3").unwrap(), Restart::OnFailure(3));
        assert!(restart("sometimes").is_err() && restart("always:3").is_err());
        assert!(variable("A=b=c", "-e").unwrap().as_deref() == Some("A=b=c"));
        assert!(variable("=x", "-e").is_err() && variable("a b=x", "-e").is_err());
        assert!(signal("SIGQUIT").is_ok() && signal("0").is_err() && signal("NOSIG").is_err());
        let mut options = Options::default();
        security("socketcall=allow", &mut options).unwrap();
        assert!(options.socketcall);
        security("socketcall=deny", &mut options).unwrap();
        assert!(!options.socketcall);
        for bad in ["socketcall", "socketcall=yes", "socketcall="] {
            let said = security(bad, &mut options).unwrap_err().to_string();
            assert!(said.contains("socketcall=allow|deny"), "{said}");
        }
        assert!(pair("a=b", "-x").is_ok() && pair("a", "-x").is_err());
    }
}
