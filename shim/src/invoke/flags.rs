//! The command line: flags in the grammar of Go, then an action.

use goflags::{Flag, Order, Usage};

/// The command line with which containerd calls a shim. A flag that was not given is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// containerd's namespace.
    pub namespace: String,
    /// The container.
    pub id: String,
    /// containerd's main socket.
    pub address: String,
    /// containerd's program. It is not used: events go through `TTRPC_ADDRESS`.
    pub publish_binary: String,
    /// The bundle, if it is not the current directory.
    pub bundle: String,
    /// The socket to serve on, instead of the one passed as descriptor 3.
    pub socket: String,
    /// Accepted and ignored.
    pub debug_socket: String,
    /// Log more.
    pub debug: bool,
    /// Print the version.
    pub version: bool,
    /// Print the features of the runtime.
    pub info: bool,
    /// `start`, `delete`, or empty to serve.
    pub action: String,
}

/// Without help texts: the program has no help, and [`Flags`] describes them.
const FLAGS: &[Flag] = &[
    Flag::text(&["namespace"], ""),
    Flag::text(&["id"], ""),
    Flag::text(&["address"], ""),
    Flag::text(&["publish-binary"], ""),
    Flag::text(&["bundle"], ""),
    Flag::text(&["socket"], ""),
    Flag::text(&["debug-socket"], ""),
    Flag::bool(&["debug"], ""),
    Flag::bool(&["version", "v"], ""),
    Flag::bool(&["info"], ""),
];

impl Flags {
    /// Parses the arguments after the program's name. The first positional argument is the action; what follows it is ignored.
    pub fn parse(arguments: &[String]) -> Result<Self, Usage> {
        let parsed = goflags::parse(&[FLAGS], arguments, Order::First)?;
        let text = |name: &str| parsed.text(name).to_owned();
        Ok(Self {
            namespace: text("namespace"),
            id: text("id"),
            address: text("address"),
            publish_binary: text("publish-binary"),
            bundle: text("bundle"),
            socket: text("socket"),
            debug_socket: text("debug-socket"),
            debug: parsed.is("debug"),
            version: parsed.is("version"),
            info: parsed.is("info"),
            action: parsed.positional(0).to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Flags;

    fn parse(words: &[&str]) -> Result<Flags, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Flags::parse(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn every_flag_has_its_field() {
        let flags = parse(&[
            "-namespace",
            "k8s.io",
            "--id=c1",
            "-address",
            "/run/x.sock",
            "-debug",
            "-publish-binary",
            "/bin/containerd",
            "-bundle=/b",
            "-socket",
            "/s",
            "-debug-socket",
            "/d",
            "start",
            "-id",
            "c2",
        ])
        .unwrap();
        let expected = Flags {
            namespace: "k8s.io".to_owned(),
            id: "c1".to_owned(),
            address: "/run/x.sock".to_owned(),
            publish_binary: "/bin/containerd".to_owned(),
            bundle: "/b".to_owned(),
            socket: "/s".to_owned(),
            debug_socket: "/d".to_owned(),
            debug: true,
            version: false,
            info: false,
            action: "start".to_owned(),
        };
        assert_eq!(flags, expected);
    }

    #[test]
    fn a_switch_does_not_take_the_next_argument_for_its_value() {
        let flags = parse(&["-debug", "false"]).unwrap();
        assert!(flags.debug);
        assert_eq!(flags.action, "false");
        assert!(!parse(&["-debug=false"]).unwrap().debug);
        assert!(parse(&["--v"]).unwrap().version && parse(&["-version=1"]).unwrap().version);
        assert!(parse(&["-info"]).unwrap().info);
        assert_eq!(parse(&["--", "delete"]).unwrap().action, "delete");
    }

    #[test]
    fn errors_have_gos_texts() {
        assert_eq!(parse(&["-nope"]).unwrap_err(), "flag provided but not defined: -nope");
        assert_eq!(parse(&["-id"]).unwrap_err(), "flag needs an argument: -id");
        let error = "invalid boolean value \"maybe\" for -info: parse error";
        assert_eq!(parse(&["-info=maybe"]).unwrap_err(), error);
    }
}
