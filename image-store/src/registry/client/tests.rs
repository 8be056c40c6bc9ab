//! Tables of credentials, tokens and messages.

use super::*;
use crate::registry::{Mirror, Registries};

const FILE: &str = r#"{"auths":{
    "https://index.docker.io/v1/":{"auth":"aHViOng="},
    "reg.test":{"username":"reg","password":"x"},
    "reg.test/cache":{"username":"cache","password":"x"},
    "inner.test":{"username":"inner","password":"x"}}}"#;

/// The configuration of a row.
enum With<'a> {
    Mirror(&'a str, &'a str),
    Conf(&'a str),
    HostsToml(&'a str),
}

/// The user that each endpoint is given, in order.
fn told(with: &With<'_>, name: &str, creds: bool) -> Vec<String> {
    let scratch = crate::scratch::Scratch::new("client");
    let directory = scratch.path().to_owned();
    let mut hosts = Hosts { certificates: vec![directory.clone()], ..Hosts::default() };
    match with {
        With::Mirror(registry, location) => {
            let mirror = Mirror { location: (*location).to_owned(), insecure: false };
            hosts.mirrors.push(((*registry).to_owned(), vec![mirror]));
        }
        With::Conf(text) => hosts.registries = Registries::parse(text).unwrap(),
        With::HostsToml(text) => {
            std::fs::create_dir(directory.join("_default")).unwrap();
            std::fs::write(directory.join("_default/hosts.toml"), text).unwrap();
        }
    }
    let file = directory.join("auth.json");
    std::fs::write(&file, FILE).unwrap();
    let fixed = creds.then(|| Credential::Password("creds".into(), "x".into()));
    let credentials = Credentials { fixed, files: vec![file] };
    let client = Client::new(ClientOptions { hosts, credentials, ..ClientOptions::default() });
    let reference = Reference::parse(name).unwrap();
    let endpoints = client.options.hosts.endpoints(&reference).unwrap();
    let who = |endpoint: Endpoint| {
        let host = endpoint.host.clone();
        let access = client.access(&reference, endpoint, "pull");
        let place = client.place(&access, "").unwrap();
        let token = client.authenticate(&access, &[Challenge::Basic], &place).unwrap();
        let mut users = ["hub", "reg", "cache", "inner", "creds"].into_iter();
        let user = users.find(|user| token.as_ref().is_some_and(|t| t.header == basic(user, "x")));
        format!("{host} {}", user.unwrap_or("nobody"))
    };
    endpoints.into_iter().map(who).collect()
}

#[test]
fn a_registry_says_in_seconds_or_as_a_time_when_to_ask_again() {
    // Eight seconds before the time in RFC 9110's example.
    let now = 784_111_769;
    for (text, seconds) in [
        ("8", Some(8)),
        (" 0 ", Some(0)),
        ("3600", Some(60)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(8)),
        ("Sun, 06 Nov 1994 08:49:29 GMT", Some(0)),
        ("Sat, 05 Nov 1994 08:49:37 GMT", Some(0)),
        ("Mon, 07 Nov 1994 08:49:37 GMT", Some(60)),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("Sun, 32 Nov 1994 08:49:37 GMT", None),
    ] {
        assert_eq!(retry_pause(text, now), seconds.map(Duration::from_secs), "{text:?}");
    }
}

#[test]
fn credentials_are_those_of_the_host_that_is_asked() {
    use With::{Conf, HostsToml, Mirror};
    let moved = "[[registry]]\nprefix = 'reg.test/team'\nlocation = 'inner.test/x'";
    let mirrored = "[[registry]]\nlocation = 'reg.test'\n[[registry.mirror]]\nlocation = 'mirror/cache'";
    let hub = "[[registry]]\nlocation = 'docker.io'\n[[registry.mirror]]\nlocation = 'inner.test'";
    let table: [(With<'_>, &str, &[&str], &[&str]); 16] = [
        // With --creds and without. A host without a dot is not a namespace on Docker Hub.
        (
            Mirror("reg.test", "mirror/cache"),
            "reg.test/a/b",
            &["mirror nobody", "reg.test creds"],
            &["mirror nobody", "reg.test reg"],
        ),
        (
            Mirror("reg.test", "mirror"),
            "reg.test/a/b",
            &["mirror nobody", "reg.test creds"],
            &["mirror nobody", "reg.test reg"],
        ),
        (
            Conf(mirrored),
            "reg.test/a/b",
            &["mirror nobody", "reg.test creds"],
            &["mirror nobody", "reg.test reg"],
        ),
        (
            HostsToml("[host.'https://mirror']"),
            "reg.test/a/b",
            &["mirror nobody", "reg.test creds"],
            &["mirror nobody", "reg.test reg"],
        ),
        // A mirror on the registry's own host.
        (
            Mirror("reg.test", "reg.test/cache"),
            "reg.test/a/b",
            &["reg.test creds", "reg.test creds"],
            &["reg.test cache", "reg.test reg"],
        ),
        (
            Mirror("reg.test", "reg.test:5/cache"),
            "reg.test/a/b",
            &["reg.test:5 nobody", "reg.test creds"],
            &["reg.test:5 nobody", "reg.test reg"],
        ),
        // The registry in upper case, and with the default port.
        (HostsToml("skip_verify = true"), "reg.test/a/b", &["reg.test creds"], &["reg.test reg"]),
        (HostsToml("skip_verify = true"), "reg.test:443/a/b", &["reg.test creds"], &["reg.test nobody"]),
        (HostsToml("skip_verify = true"), "Reg.test/a/b", &["reg.test creds"], &["reg.test nobody"]),
        (
            HostsToml("server = 'http://reg.test:80'"),
            "reg.test:80/a/b",
            &["reg.test creds"],
            &["reg.test nobody"],
        ),
        (
            HostsToml("server = 'https://reg.test:80'"),
            "reg.test/a/b",
            &["reg.test:80 nobody", "reg.test creds"],
            &["reg.test:80 nobody", "reg.test reg"],
        ),
        // Another location of a registry has its own credentials.
        (Conf(moved), "reg.test/team/b", &["inner.test inner"], &["inner.test inner"]),
        (Conf(moved), "reg.test/other/b", &["reg.test creds"], &["reg.test reg"]),
        // Docker Hub has several names.
        (
            Conf(hub),
            "alpine",
            &["inner.test inner", "registry-1.docker.io creds"],
            &["inner.test inner", "registry-1.docker.io hub"],
        ),
        (
            Mirror("docker.io", "mirror/cache"),
            "alpine",
            &["mirror nobody", "registry-1.docker.io creds"],
            &["mirror nobody", "registry-1.docker.io hub"],
        ),
        (
            Mirror("reg.test", "registry-1.docker.io/x"),
            "reg.test/a",
            &["registry-1.docker.io hub", "reg.test creds"],
            &["registry-1.docker.io hub", "reg.test reg"],
        ),
    ];
    let mut wrong = Vec::new();
    for (row, (with, name, given, kept)) in table.iter().enumerate() {
        for (creds, expected) in [(true, given), (false, kept)] {
            let told = told(with, name, creds);
            if &told != expected {
                wrong.push(format!("row {row}: {name}, --creds {creds}: {told:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
