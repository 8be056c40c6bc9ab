//! Volumes, directories and devices of the host, tmpfs. Looks at the host only to complete a relative source.

use crate::cli::Args;
use crate::failure::{Result, invalid};
use crate::random;

/// Where a bind comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// An absolute path of the host.
    Host(String),
    /// A volume of the store; `true` if it is created for this container only.
    Volume(String, bool),
}

/// A mount of a directory or a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) source: Source,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    /// `rprivate` by default.
    pub(crate) propagation: String,
    /// A new volume starts with the image's files.
    pub(crate) fill: bool,
}

/// A device of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) access: String,
}

const PROPAGATIONS: &[&str] = &["private", "rprivate", "shared", "rshared", "slave", "rslave"];

impl Bind {
    fn new(source: Source, target: String, read_only: bool) -> Self {
        Self { source, target, read_only, propagation: "rprivate".to_owned(), fill: true }
    }
}

/// Binds, and the targets of tmpfs with their options.
type Parsed = (Vec<Bind>, Vec<(String, String)>);

pub(crate) fn parse(args: &Args) -> Result<Parsed> {
    let mut binds: Vec<Bind> = args.all("volume").map(volume).collect::<Result<_>>()?;
    let mut memory: Vec<(String, String)> = args.all("tmpfs").map(tmpfs).collect::<Result<_>>()?;
    for text in args.all("mount") {
        mount(text, &mut binds, &mut memory)?;
    }
    let mut targets: Vec<&str> =
        binds.iter().map(|b| &*b.target).chain(memory.iter().map(|(at, _)| &**at)).collect();
    targets.sort_unstable();
    if let Some(twice) = targets.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(invalid(format!("volume target {:?}: duplicate mount point", twice[0])));
    }
    Ok((binds, memory))
}

/// An absolute path of a container, without `..`.
pub(crate) fn absolute(text: &str, what: &str) -> Result<String> {
    if text.starts_with('/') && !text.split('/').any(|part| part == "..") && !text.contains('\0') {
        return Ok(text.to_owned());
    }
    Err(invalid(format!("{what} {text:?}: must be an absolute path")))
}

fn target(text: &str, whole: &str) -> Result<String> {
    let plain = absolute(text, "volume target")
        .ok()
        .filter(|text| text.split('/').any(|part| !["", "."].contains(&part)));
    let plain = plain
        .ok_or_else(|| invalid(format!("volume {whole:?}: target must be an absolute path other than /")))?;
    let parts: Vec<&str> = plain.split('/').filter(|part| !["", "."].contains(part)).collect();
    Ok(format!("/{}", parts.join("/")))
}

/// A volume's name, which is also that of its directory.
pub(crate) fn volume_name(text: &str, whole: &str) -> Result<String> {
    if image_store::store::is_name(text) {
        return Ok(text.to_owned());
    }
    Err(invalid(format!("volume {whole:?}: {text:?} must be an absolute path or a volume name")))
}

/// A volume with a random name.
fn anonymous() -> Result<Source> {
    Ok(Source::Volume(random::id()?, true))
}

/// A path of the host, if it is absolute or begins with a dot; otherwise a volume's name.
fn source(text: &str, whole: &str) -> Result<Source> {
    if text.starts_with('/') {
        return Ok(Source::Host(text.to_owned()));
    }
    if text == "." || text == ".." || text.starts_with("./") || text.starts_with("../") {
        let here = std::env::current_dir()?;
        let path = here.join(text);
        let path = path.canonicalize().unwrap_or(path);
        return match path.to_str() {
            Some(path) => Ok(Source::Host(path.to_owned())),
            None => Err(invalid(format!("volume {whole:?}: {path:?} is not valid UTF-8"))),
        };
    }
    Ok(Source::Volume(volume_name(text, whole)?, false))
}

fn volume(text: &str) -> Result<Bind> {
    let parts: Vec<&str> = text.split(':').collect();
    let (from, at, mode) = match parts[..] {
        [at] => return Ok(Bind::new(anonymous()?, target(at, text)?, false)),
        [from, at] => (from, at, ""),
        [from, at, mode] => (from, at, mode),
        _ => return Err(invalid(format!("volume {text:?}: must be SOURCE:TARGET[:ro]"))),
    };
    let mut bind = Bind::new(source(from, text)?, target(at, text)?, false);
    for option in mode.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => bind.read_only = true,
            "nocopy" => bind.fill = false,
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            kind if PROPAGATIONS.contains(&kind) => bind.propagation = kind.to_owned(),
            other => {
                return Err(invalid(format!(
                    "volume {text:?}: unknown option {other:?}: must be ro, rw, nocopy or a propagation such as rslave"
                )));
            }
        }
    }
    Ok(bind)
}

fn tmpfs(text: &str) -> Result<(String, String)> {
    let (at, options) = text.split_once(':').unwrap_or((text, ""));
    Ok((target(at, text)?, options.to_owned()))
}

/// `type=bind|volume|tmpfs,src=…,dst=…[,ro]`
fn mount(text: &str, binds: &mut Vec<Bind>, memory: &mut Vec<(String, String)>) -> Result<()> {
    let (mut kind, mut from, mut at, mut read_only) = ("volume", None, None, false);
    let (mut propagation, mut fill, mut options) = ("rprivate", true, Vec::new());
    for part in text.split(',') {
        match part.split_once('=').unwrap_or((part, "true")) {
            ("type", value) => kind = value,
            ("src" | "source", value) => from = Some(value),
            ("dst" | "target" | "destination", value) => at = Some(value),
            ("ro" | "readonly", value) => read_only = !["false", "0"].contains(&value),
            ("bind-propagation", value) if PROPAGATIONS.contains(&value) => propagation = value,
            ("volume-nocopy", value) => fill = value == "false",
            ("tmpfs-size", value) => options.push(format!("size={value}")),
            ("tmpfs-mode", value) => options.push(format!("mode={value}")),
            ("consistency", _) => {}
            (other, _) => {
                let known = "type, src, dst, ro, bind-propagation, volume-nocopy, tmpfs-size, tmpfs-mode";
                return Err(invalid(format!(
                    "--mount {text:?}: unknown key {other:?}: must be one of {known}"
                )));
            }
        }
    }
    let at = target(at.unwrap_or_default(), text)?;
    let bind = |source| Bind {
        propagation: propagation.to_owned(),
        fill,
        ..Bind::new(source, at.clone(), read_only)
    };
    match (kind, from.filter(|from| !from.is_empty())) {
        ("bind", Some(from)) => match source(from, text)? {
            Source::Host(path) => binds.push(bind(Source::Host(path))),
            Source::Volume(..) => {
                return Err(invalid(format!("--mount {text:?}: src must be an absolute path")));
            }
        },
        ("bind", None) => return Err(invalid(format!("--mount {text:?}: src is required"))),
        ("volume", Some(from)) => binds.push(bind(Source::Volume(volume_name(from, text)?, false))),
        ("volume", None) => binds.push(bind(anonymous()?)),
        ("tmpfs", None) => {
            options.extend(read_only.then(|| "ro".to_owned()));
            memory.push((at, options.join(",")));
        }
        _ => return Err(invalid(format!("--mount {text:?}: type must be bind, volume or tmpfs"))),
    }
    Ok(())
}

/// `CONTAINER[:ro]`
pub(crate) fn from(text: &str) -> Result<(String, bool)> {
    match text.split_once(':') {
        None => Ok((text.to_owned(), false)),
        Some((name, "ro")) => Ok((name.to_owned(), true)),
        Some((name, "rw")) => Ok((name.to_owned(), false)),
        _ => Err(invalid(format!("--volumes-from {text:?}: must be CONTAINER[:ro]"))),
    }
}

/// `PATH[:PATH[:rwm]]`
pub(crate) fn device(text: &str) -> Result<Device> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, access) = match parts[..] {
        [one] => (one, one, "rwm"),
        [one, two] if two.starts_with('/') => (one, two, "rwm"),
        [one, access] => (one, one, access),
        [one, two, access] => (one, two, access),
        _ => return Err(invalid(format!("--device {text:?}: must be PATH[:PATH[:rwm]]"))),
    };
    if access.is_empty() || !access.chars().all(|c| "rwm".contains(c)) {
        return Err(invalid(format!("--device {text:?}: access {access:?} must consist of r, w and m")));
    }
    let source = absolute(source, "--device")?;
    Ok(Device { source, target: self::target(target, text)?, access: access.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_paths_or_names() {
        let bind = |source, at: &str, read_only| Bind::new(source, at.into(), read_only);
        assert_eq!(volume("/a:/b:ro").unwrap(), bind(Source::Host("/a".into()), "/b", true));
        assert_eq!(
            volume("data:/b//c/.").unwrap(),
            bind(Source::Volume("data".into(), false), "/b/c", false)
        );
        assert!(matches!(volume("/only").unwrap().source, Source::Volume(_, true)));
        assert!(matches!(volume("./here:/b").unwrap().source, Source::Host(_)));
        assert_eq!(volume("/a:/b:ro,rslave").unwrap().propagation, "rslave");
        for bad in ["/a:b", "a/b:/c", ".x:/b", "/a:/b:rx", "/a:/", "/a:/.", "/a:/../b", "a:b:c:d", ":/x"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_spelled_out_mean_the_same() {
        let one = |text: &str| {
            let (mut binds, mut memory) = (Vec::new(), Vec::new());
            mount(text, &mut binds, &mut memory).map(|()| (binds, memory))
        };
        let (binds, _) = one("type=bind,src=/a,dst=/b,readonly").unwrap();
        assert_eq!(binds, [volume("/a:/b:ro").unwrap()]);
        assert_eq!(
            one("type=tmpfs,dst=/t,tmpfs-size=1m,ro").unwrap().1,
            [("/t".to_owned(), "size=1m,ro".to_owned())]
        );
        assert!(matches!(one("dst=/v").unwrap().0[0].source, Source::Volume(_, true)));
        for bad in [
            "type=bind,dst=/b",
            "type=bind,src=a,dst=/b",
            "type=npipe,dst=/x",
            "src=/a",
            "type=tmpfs,src=x,dst=/t",
        ] {
            assert!(one(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn devices_have_two_ends_and_rights() {
        let all = |d: Device| (d.source, d.target, d.access);
        let wanted = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(all(device("/dev/fuse").unwrap()), wanted("/dev/fuse", "/dev/fuse", "rwm"));
        assert_eq!(all(device("/dev/a:r").unwrap()), wanted("/dev/a", "/dev/a", "r"));
        assert_eq!(all(device("/dev/a:/dev/b:rw").unwrap()), wanted("/dev/a", "/dev/b", "rw"));
        for bad in ["a", "/dev/a:/dev/b:x", "/dev/a:", "/a:/b:r:w"] {
            assert!(device(bad).is_err(), "{bad}");
        }
    }
}
