//! The proxy that a request is sent through. Source: the variables and rules of Go's programs
//! (golang.org/x/net/http/httpproxy), which Docker's and podman's users have set. Reads the environment, no other I/O.

use std::fmt;
use std::net::IpAddr;

use super::url::{Url, has_port_in_range, without_secrets};
use crate::error::{Error, Result};

/// Which requests are sent through which proxy.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Option<Setting>,
    https: Option<Setting>,
    direct: Vec<Direct>,
}

/// A variable and its value, which may have a password in it.
#[derive(Clone)]
struct Setting {
    variable: &'static str,
    value: String,
}

/// A proxy to connect to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Proxy {
    pub(super) server: ureq::Proxy,
    variable: &'static str,
}

/// An entry of NO_PROXY: what is requested without a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Direct {
    /// `*`
    All,
    /// `10.0.0.0/8`
    Network(IpAddr, u8),
    /// `10.0.0.1`, `10.0.0.1:5000`
    Address(IpAddr, Option<String>),
    /// `example.com` for itself and its subdomains, `.example.com` and `*.example.com` for these only; with or without a port.
    Domain { suffix: String, itself: bool, port: Option<String> },
}

impl Proxies {
    /// The proxies in `HTTP_PROXY` and `HTTPS_PROXY`, and the exceptions in `NO_PROXY`; each in upper or lower case.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The same with other values of these variables.
    pub fn from_variables(value: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: [&'static str; 2]| {
            let mut set = names.into_iter().filter_map(|name| Some((name, value(name)?)));
            set.find(|(_, value)| !value.is_empty())
        };
        let setting = |names| first(names).map(|(variable, value)| Setting { variable, value });
        let direct = first(["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
        Self {
            http: setting(["HTTP_PROXY", "http_proxy"]),
            https: setting(["HTTPS_PROXY", "https_proxy"]),
            direct: direct.split(',').filter_map(Direct::parse).collect(),
        }
    }

    /// The proxy for a request.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a malformed proxy,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for SOCKS.
    pub(super) fn choose(&self, url: &Url) -> Result<Option<Proxy>> {
        let setting = if url.https { &self.https } else { &self.http };
        match setting {
            Some(setting) if !self.is_direct(url) => setting.proxy().map(Some),
            _ => Ok(None),
        }
    }

    fn is_direct(&self, url: &Url) -> bool {
        let (host, port) = split_port(&url.authority);
        let port = port.filter(|port| !port.is_empty()).unwrap_or(if url.https { "443" } else { "80" });
        let host = unbracketed(host);
        let address = parse_address(host);
        host == "localhost"
            || address.is_some_and(|address| address.is_loopback())
            || self.direct.iter().any(|entry| entry.matches(host, address, port))
    }
}

impl Setting {
    fn proxy(&self) -> Result<Proxy> {
        let Self { variable, value } = self;
        let shown = || without_secrets(value);
        let url = if value.contains("://") { value.clone() } else { format!("http://{value}") };
        let invalid = || Error::invalid(format!("{variable} {:?}: must be http[s]://HOST[:PORT]", shown()));
        let server = ureq::Proxy::new(&url).map_err(|_| invalid())?;
        match server.protocol() {
            ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https => {}
            _ => {
                let message = format!("{variable} {:?}: SOCKS is not supported: use an HTTP proxy", shown());
                return Err(Error::unsupported(message));
            }
        }
        let authority = server.uri().authority().map_or("", |authority| authority.as_str());
        let place = authority.rsplit('@').next().unwrap_or_default();
        if server.host().is_empty() || !has_port_in_range(place) {
            return Err(invalid());
        }
        Ok(Proxy { server, variable })
    }
}

/// Without user and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.server.uri().scheme_str().unwrap_or("http");
        write!(f, "{scheme}://{}:{} ({})", self.server.host(), self.server.port(), self.variable)
    }
}

/// Without their values.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |setting: &Option<Setting>| setting.as_ref().map(|setting| setting.variable);
        f.debug_struct("Proxies")
            .field("http", &name(&self.http))
            .field("https", &name(&self.https))
            .field("direct", &self.direct)
            .finish()
    }
}

impl Direct {
    /// Parses an entry; `None` for one that Go's programs ignore.
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        if entry == "*" {
            return Some(Self::All);
        }
        if let Some((network, bits)) = entry.split_once('/')
            && let (Some(network), Ok(bits)) = (parse_address(network), bits.parse::<u8>())
        {
            return Some(Self::Network(network, bits));
        }
        let (host, port) = split_port(&entry);
        let (host, port) = (unbracketed(host), port.filter(|port| !port.is_empty()).map(str::to_owned));
        if host.is_empty() {
            return None;
        }
        if let Some(address) = parse_address(host) {
            return Some(Self::Address(address, port));
        }
        let suffix = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let itself = !suffix.starts_with('.');
        let suffix = if itself { format!(".{suffix}") } else { suffix.to_owned() };
        Some(Self::Domain { suffix, itself, port })
    }

    fn matches(&self, host: &str, address: Option<IpAddr>, port: &str) -> bool {
        let at = |wanted: &Option<String>| wanted.as_ref().is_none_or(|wanted| wanted == port);
        match self {
            Self::All => true,
            Self::Network(network, bits) => {
                address.is_some_and(|address| shares_bits(*network, address, *bits))
            }
            Self::Address(wanted, port) => address == Some(*wanted) && at(port),
            Self::Domain { suffix, itself, port } => {
                (host.ends_with(suffix.as_str()) || *itself && host == &suffix[1..]) && at(port)
            }
        }
    }
}

/// Whether the first `bits` bits of two addresses of one kind are the same.
fn shares_bits(a: IpAddr, b: IpAddr, bits: u8) -> bool {
    let bits = u32::from(bits);
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            bits <= 32 && (a.to_bits() ^ b.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            bits <= 128 && (a.to_bits() ^ b.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Splits `HOST:PORT` and `[ADDRESS]:PORT`; an IPv6 address without brackets has no port.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// An address; an IPv4 one in IPv6's form is the IPv4 one.
fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// The proxy for a URL, as messages show it, or `direct`.
    fn chosen(variables: &[(&str, &str)], url: &str) -> Result<String> {
        let value = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
        let proxy = Proxies::from_variables(value).choose(&Url::parse(url).unwrap())?;
        Ok(proxy.map_or_else(|| "direct".to_owned(), |proxy| proxy.to_string()))
    }

    #[test]
    fn no_proxy_has_addresses_networks_ports_and_domains() {
        for (exceptions, url, direct) in [
            // This machine, always.
            ("", "http://localhost:5000/", true),
            ("", "http://127.0.0.1:5000/", true),
            ("", "https://127.9.9.9/", true),
            ("", "https://[::1]:5000/", true),
            ("", "https://[::ffff:127.0.0.1]/", true),
            ("", "https://localhost.example/", false),
            ("", "https://10.0.0.1/", false),
            ("", "https://r.io/", false),
            ("*", "https://r.io/", true),
            ("x,*", "https://r.io/", true),
            ("*x", "https://r.x/", false),
            // Domains.
            ("corp.example", "https://corp.example/", true),
            ("corp.example", "https://r.corp.example:5000/", true),
            ("corp.example", "https://notcorp.example/", false),
            ("corp.example", "https://corp.example.evil/", false),
            ("CORP.example", "https://R.corp.EXAMPLE/", true),
            (".corp.example", "https://r.corp.example/", true),
            (".corp.example", "https://corp.example/", false),
            ("*.corp.example", "https://r.corp.example/", true),
            ("*.corp.example", "https://corp.example/", false),
            ("x, .corp", "https://r.corp/", true),
            (" x ,\tr.corp ", "https://r.corp/", true),
            ("x .corp", "https://r.corp/", false),
            // Ports.
            ("r.io:5000", "https://r.io:5000/", true),
            ("r.io:5000", "https://a.r.io:5000/", true),
            ("r.io:5000", "https://r.io/", false),
            ("r.io:443", "https://r.io/", true),
            ("r.io:80", "http://r.io/", true),
            ("r.io:80", "https://r.io/", false),
            (".io:443", "https://r.io/", true),
            (":443", "https://r.io/", false),
            // Addresses and networks.
            ("10.0.0.1", "https://10.0.0.1:5000/", true),
            ("10.0.0.1", "https://10.0.0.10/", false),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/", true),
            ("10.0.0.1:5000", "https://10.0.0.1/", false),
            ("::ffff:10.0.0.1", "https://10.0.0.1/", true),
            ("10.0.0.0/8", "https://10.255.0.1/", true),
            ("10.9.9.9/8", "https://10.255.0.1/", true),
            ("10.0.0.0/8", "https://11.0.0.1/", false),
            ("10.0.0.0/8", "https://10.example/", false),
            ("10.0.0.128/25", "https://10.0.0.127/", false),
            ("0.0.0.0/0", "https://10.0.0.1/", true),
            ("0.0.0.0/0", "https://[fd00::1]/", false),
            ("10.0.0.0/33", "https://10.0.0.0/", false),
            ("fd00::/8", "https://[fdab::1]:5000/", true),
            ("fd00::/8", "https://[fe80::1]/", false),
            ("::/0", "https://[fe80::1]/", true),
            ("fd00::1", "https://[fd00::1]:5000/", true),
            ("[fd00::1]:5000", "https://[fd00::1]:5000/", true),
            ("[fd00::1]:5000", "https://[fd00::1]/", false),
            (",, ,", "https://r.io/", false),
        ] {
            let variables =
                [("HTTP_PROXY", "p:1"), ("HTTPS_PROXY", "p:2"), ("NO_PROXY", exceptions), ("no_proxy", "")];
            let found = chosen(&variables, url).unwrap();
            assert_eq!(found == "direct", direct, "{exceptions:?}: {url}: {found}");
        }
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        for (variables, http, https) in [
            (&[][..], "direct", "direct"),
            (&[("HTTP_PROXY", "http://p:3128")], "http://p:3128 (HTTP_PROXY)", "direct"),
            (&[("https_proxy", "p:3128")], "direct", "http://p:3128 (https_proxy)"),
            (&[("HTTPS_PROXY", ""), ("https_proxy", "p")], "direct", "http://p:80 (https_proxy)"),
            (
                &[("HTTPS_PROXY", "https://u:secret@P"), ("https_proxy", "q")],
                "direct",
                "https://P:443 (HTTPS_PROXY)",
            ),
            (&[("ALL_PROXY", "p"), ("all_proxy", "p")], "direct", "direct"),
            (&[("HTTPS_PROXY", "p"), ("no_proxy", "r.io")], "direct", "direct"),
        ] {
            assert_eq!(chosen(variables, "http://r.io/").unwrap(), http, "{variables:?}");
            assert_eq!(chosen(variables, "https://r.io/").unwrap(), https, "{variables:?}");
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named_without_its_password() {
        for (value, kind) in [
            ("socks5://u:secret@p:1080", ErrorKind::Unsupported),
            ("ftp://u:secret@p", ErrorKind::Invalid),
            ("http://u:secret@", ErrorKind::Invalid),
            ("http://u:secret@p p", ErrorKind::Invalid),
            ("http://u:secret@p:99999", ErrorKind::Invalid),
        ] {
            let error = chosen(&[("HTTPS_PROXY", value)], "https://r.io/").unwrap_err();
            assert_eq!(error.kind(), kind, "{value}: {error}");
            assert!(
                error.to_string().starts_with("HTTPS_PROXY \"") && !error.to_string().contains("secret"),
                "{error}"
            );
            assert_eq!(chosen(&[("HTTPS_PROXY", value)], "https://localhost/").unwrap(), "direct");
        }
    }
}
