//! The command line: flags as Go's `flag` package reads them, then an action.

use std::ffi::OsString;

/// What containerd says when it calls a shim. A flag that was not given is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// containerd's namespace.
    pub namespace: String,
    /// The container.
    pub id: String,
    /// containerd's main socket.
    pub address: String,
    /// containerd's program; events go through `TTRPC_ADDRESS` instead.
    pub publish_binary: String,
    /// The bundle, if it is not the current directory.
    pub bundle: String,
    /// A socket to serve on instead of the one handed down as descriptor 3.
    pub socket: String,
    /// Accepted; there is nothing to see there.
    pub debug_socket: String,
    /// Log more.
    pub debug: bool,
    /// Print the version.
    pub version: bool,
    /// Print what the runtime can do.
    pub info: bool,
    /// `start`, `delete`, or empty to serve.
    pub action: String,
}

impl Flags {
    /// Reads what follows the program's name: `-name value`, `-name=value`, `--name…`; switches take a value by `=` only. The first word
    /// that is no flag ends them.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut flags = Self::default();
        let mut words = arguments.into_iter();
        while let Some(word) = words.next() {
            let word = text(word)?;
            if word == "--" {
                flags.action = words.next().map(text).transpose()?.unwrap_or_default();
                break;
            }
            let Some(name) = word.strip_prefix('-').filter(|name| !name.is_empty()) else {
                flags.action = word;
                break;
            };
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            if let Some(switch) = flags.switch(name) {
                *switch = boolean(name, value.as_deref())?;
            } else if let Some(place) = flags.place(name) {
                let value =
                    value.map_or_else(|| words.next().map(text).transpose(), |value| Ok(Some(value)))?;
                *place = value.ok_or_else(|| format!("flag needs an argument: -{name}"))?;
            } else {
                return Err(format!("flag provided but not defined: -{name}"));
            }
        }
        Ok(flags)
    }

    fn switch(&mut self, name: &str) -> Option<&mut bool> {
        match name {
            "debug" => Some(&mut self.debug),
            "v" | "version" => Some(&mut self.version),
            "info" => Some(&mut self.info),
            _ => None,
        }
    }

    fn place(&mut self, name: &str) -> Option<&mut String> {
        match name {
            "namespace" => Some(&mut self.namespace),
            "id" => Some(&mut self.id),
            "address" => Some(&mut self.address),
            "publish-binary" => Some(&mut self.publish_binary),
            "bundle" => Some(&mut self.bundle),
            "socket" => Some(&mut self.socket),
            "debug-socket" => Some(&mut self.debug_socket),
            _ => None,
        }
    }
}

fn text(word: OsString) -> Result<String, String> {
    word.into_string().map_err(|word| format!("argument {word:?}: not valid UTF-8"))
}

fn boolean(name: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(format!("invalid boolean value {value:?} for -{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::Flags;

    fn parse(words: &[&str]) -> Result<Flags, String> {
        Flags::parse(words.iter().map(Into::into))
    }

    #[test]
    fn flags_have_one_dash_or_two_and_their_value_behind_an_equals_sign_or_next() {
        let flags = parse(&[
            "-namespace",
            "k8s.io",
            "--id=c1",
            "-address",
            "/run/x.sock",
            "-debug",
            "-publish-binary",
            "",
            "-bundle=/b",
            "start",
            "-id",
            "c2",
        ])
        .unwrap();
        assert_eq!(flags.namespace, "k8s.io");
        assert_eq!(flags.id, "c1");
        assert_eq!(flags.address, "/run/x.sock");
        assert_eq!(flags.publish_binary, "");
        assert_eq!(flags.bundle, "/b");
        assert_eq!(flags.action, "start");
        assert!(flags.debug && !flags.info && !flags.version);
    }

    #[test]
    fn a_switch_takes_no_word_for_its_value() {
        let flags = parse(&["-debug", "false"]).unwrap();
        assert!(flags.debug);
        assert_eq!(flags.action, "false");
        assert!(!parse(&["-debug=false"]).unwrap().debug);
        assert!(parse(&["--v"]).unwrap().version && parse(&["-version=1"]).unwrap().version);
        assert!(parse(&["-info"]).unwrap().info);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(parse(&["-nope"]).unwrap_err(), "flag provided but not defined: -nope");
        assert_eq!(parse(&["-id"]).unwrap_err(), "flag needs an argument: -id");
        assert_eq!(parse(&["-info=maybe"]).unwrap_err(), "invalid boolean value \"maybe\" for -info");
    }
}
