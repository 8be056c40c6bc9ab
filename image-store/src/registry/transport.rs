//! HTTP: one request and its response over ureq, with timeouts, a limit on headers and trust per host; without redirects,
//! cookies and decompression.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ureq::http::{HeaderMap, Method, Request};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, TcpConnector};
use ureq::{Agent, AsSendBody, SendBody};

use super::place::Place;
use super::proxy::{Proxies, Proxy};
use super::reach::{Near, ReachConnector};
use super::secrets;
use super::tls::TlsConnector;
use super::trust::{self, Trust};
use crate::error::{Doing, Error, ErrorKind, Result};

/// Timeout for resolving a name and for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The body of a request, which can be sent again.
pub(super) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// A function that opens a reader, and the number of bytes that it gives.
    Stream(&'a dyn Fn() -> Result<Box<dyn Read + 'a>>, u64),
}

/// A response whose body was not read yet.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: ureq::Body,
    /// All secrets that were sent so far: not to be shown in messages.
    pub(super) secrets: Vec<String>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn into_reader(self) -> Box<dyn Read + Send> {
        Box::new(Whole(self.body.into_with_config().limit(u64::MAX).reader()))
    }

    /// Reads a body of at most `limit` bytes; `what` names it in errors.
    pub(super) fn into_bytes(self, limit: u64, what: &str) -> Result<Vec<u8>> {
        crate::digest::read_limited(self.into_reader(), limit, what)
    }
}

/// The body of a response; an error says that it is not complete.
struct Whole<R>(R);

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Error::new(ErrorKind::Network, "the connection was closed before the response was complete")
                    .into()
            }
            _ => error,
        })
    }
}

/// The key of a pool: the host (empty for all hosts without their own certificates), whether its certificate is not
/// verified, the client certificate, whether near addresses are refused, the proxy.
type Pool = (String, bool, Option<(PathBuf, PathBuf)>, bool, Option<Proxy>);

/// Connections that are kept open between requests, in a pool per trust configuration.
pub(super) struct Transport {
    agents: Mutex<HashMap<Pool, Agent>>,
    certificates: Vec<PathBuf>,
    for_all: Vec<PathBuf>,
    /// Trust from hosts.toml, by authority.
    named: Mutex<HashMap<String, Trust>>,
    proxies: Proxies,
    near: Near,
    secrets: Mutex<Vec<String>>,
}

impl Transport {
    pub(super) fn new(certificates: Vec<PathBuf>, for_all: Vec<PathBuf>, proxies: Proxies) -> Self {
        let (agents, named, secrets) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { agents, certificates, for_all, named, proxies, near: Near::default(), secrets }
    }

    /// Sets the certificates from a hosts.toml, before the first request to the host.
    pub(super) fn trust(
        &self,
        authority: &str,
        authorities: &[PathBuf],
        client: Option<&(PathBuf, PathBuf)>,
    ) {
        let mut named = self.named.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let trust = Trust { authorities: authorities.to_vec(), client: client.cloned() };
        named.insert(authority.to_owned(), trust);
    }

    /// Sends a request and returns the response, with any status. The server may send nothing for the time `silence`.
    pub(super) fn exchange(
        &self,
        method: &Method,
        place: &Place,
        headers: &[(&str, String)],
        payload: &Payload<'_>,
        silence: Duration,
    ) -> Result<Answer> {
        let url = place.url();
        let doing = || format!("{method} {place}");
        let proxy = self.proxies.choose(url).doing(doing)?;
        let agent = self.agent(place, proxy.as_ref()).doing(doing)?;
        let mut request = Request::builder().method(method.clone()).uri(url.to_string());
        for (name, value) in headers {
            request = request.header(*name, value.as_str());
        }
        let network = |error: ureq::Error| match refusal(error) {
            Ok(ours) => ours.context(doing()),
            Err(error) => {
                let untrusted = tls_error(&error).is_some_and(trust::is_untrusted);
                let kind = if untrusted { ErrorKind::Untrusted } else { ErrorKind::Network };
                let through =
                    proxy.as_ref().map_or_else(String::new, |proxy| format!("through the proxy {proxy}: "));
                Error::new(kind, format!("{}: {through}{}", doing(), reason(&error, &url.authority)))
            }
        };
        let invalid = |error: ureq::http::Error| Error::invalid(format!("{}: {error}", doing()));
        let answer = match payload {
            Payload::None if [Method::POST, Method::PUT, Method::PATCH].contains(method) => {
                run(&agent, request.header("content-length", "0").body(&b""[..]).map_err(invalid)?, silence)
            }
            Payload::None => run(&agent, request.body(()).map_err(invalid)?, silence),
            Payload::Bytes(bytes) => run(&agent, request.body(*bytes).map_err(invalid)?, silence),
            Payload::Stream(open, length) => {
                let mut reader = open()?;
                let body = SendBody::from_reader(&mut reader);
                let request = request.header("content-length", length.to_string());
                run(&agent, request.body(body).map_err(invalid)?, silence)
            }
        };
        let (parts, body) = answer.map_err(network)?.into_parts();
        let authorization = headers.iter().filter(|(name, _)| *name == "authorization");
        let secrets = self.hide(authorization.flat_map(|(_, value)| secrets::of_header(value)));
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body, secrets })
    }

    /// Adds secrets that no message may show from now on, and returns all of them.
    pub(super) fn hide(&self, secrets: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut hidden = self.secrets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for secret in secrets {
            if !hidden.contains(&secret) {
                hidden.push(secret);
            }
        }
        hidden.clone()
    }

    fn agent(&self, place: &Place, proxy: Option<&Proxy>) -> Result<Agent> {
        let mut agents = self.agents.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let own = self.trust_for(place);
        // Hosts without their own certificates share a pool.
        let host = if own.is_empty() { String::new() } else { place.url().authority.clone() };
        // Near addresses are allowed if the registry itself is near.
        let elsewhere = place.must_be_elsewhere() && !self.near.contains(place.origin().1);
        let key = (host, place.is_insecure(), own.client.clone(), elsewhere, proxy.cloned());
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("knarr-image/", env!("CARGO_PKG_VERSION")))
            .proxy(proxy.map(|proxy| proxy.server.clone()))
            .max_response_header_size(64 << 10)
            .build();
        let reach = ReachConnector { near: self.near.clone(), elsewhere, proxied: proxy.is_some() };
        let connector = ().chain(ConnectProxyConnector::default()).chain(reach);
        let connector = connector
            .chain(TcpConnector::default())
            .chain(TlsConnector(Arc::new(own.config(place.is_insecure())?)));
        let agent = Agent::with_parts(config, connector, DefaultResolver::default());
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    /// The authorities for the host, and the client certificate of the endpoint if this host may get it.
    fn trust_for(&self, place: &Place) -> Trust {
        let host = &place.url().authority;
        let mut trust = self.own_trust(host);
        let (_, endpoint) = place.origin();
        if !place.takes_credentials() {
            trust.client = None;
        } else if host != endpoint {
            trust.client = self.own_trust(endpoint).client;
        }
        trust
    }

    /// Trust from hosts.toml and from the directories of certificates.
    fn own_trust(&self, authority: &str) -> Trust {
        let named = self.named.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut trust = named.get(authority).cloned().unwrap_or_default();
        for dir in &self.for_all {
            trust.add_dir(dir);
        }
        for dir in &self.certificates {
            trust.add_dir(&dir.join(authority));
        }
        trust
    }
}

/// Sends a request to a server that may send nothing for the time `silence`.
fn run<S: AsSendBody>(
    agent: &Agent,
    request: Request<S>,
    silence: Duration,
) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
    let connect = Some(CONNECT_TIMEOUT.min(silence));
    let request = agent
        .configure_request(request)
        .timeout_connect(connect)
        .timeout_resolve(connect)
        .timeout_recv_response(Some(silence))
        .timeout_per_read(Some(silence))
        .timeout_per_write(Some(silence))
        .build();
    agent.run(request)
}

/// Unwraps the error of [`ReachConnector`].
fn refusal(error: ureq::Error) -> Result<Error, ureq::Error> {
    let ours =
        |io: &std::io::Error| io.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).map(Error::kind);
    match error {
        ureq::Error::Io(io) if ours(&io) == Some(ErrorKind::Denied) => Ok(io.into()),
        other => Err(other),
    }
}

/// The error of TLS in an error of the connection.
fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Io(io) => io.get_ref()?.downcast_ref(),
        _ => None,
    }
}

fn reason(error: &ureq::Error, authority: &str) -> String {
    match error {
        ureq::Error::Io(io) => {
            if io.raw_os_error().is_some() {
                return Error::from(std::io::Error::from(io.kind())).to_string();
            }
            if io.kind() == io::ErrorKind::UnexpectedEof && tls_error(error).is_none() {
                return "the connection was closed before there was a response".to_owned();
            }
            tls_error(error).map_or_else(|| io.to_string(), |error| trust::reason(error, authority))
        }
        ureq::Error::HostNotFound => "host not found".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::url::Url;

    #[test]
    fn the_client_certificate_is_for_the_registry_and_its_token_server() {
        let scratch = crate::scratch::Scratch::new("transport");
        let directory = scratch.path().to_owned();
        for host in ["r.io", "cdn.io"] {
            std::fs::create_dir(directory.join(host)).unwrap();
            for name in ["ca.crt", "us.cert", "us.key"] {
                std::fs::write(directory.join(host).join(name), "").unwrap();
            }
        }
        let transport = Transport::new(vec![directory.clone()], Vec::new(), Proxies::default());
        let endpoint = Place::endpoint(Url::parse("https://r.io/v2/").unwrap(), false).unwrap();
        let ours = directory.join("r.io/us.cert");
        for (place, known, shown) in [
            (Ok(endpoint.clone()), 1, true),
            (endpoint.next("/v2/x"), 1, true),
            (endpoint.token_server("https://auth.io/token", true), 0, true),
            (endpoint.token_server("https://cdn.io/token", true), 1, true),
            (endpoint.next("https://cdn.io/x"), 1, false),
            (endpoint.next("https://r.io:444/x"), 0, false),
            (endpoint.of_manifest("https://cdn.io/x"), 1, false),
            (endpoint.next("https://cdn.io/x").unwrap().next("https://r.io/x"), 1, false),
        ] {
            let place = place.unwrap();
            let trust = transport.trust_for(&place);
            assert_eq!(trust.authorities.len(), known, "{place}");
            assert_eq!(
                trust.client.map(|(certificate, _)| certificate),
                shown.then(|| ours.clone()),
                "{place}"
            );
        }
    }

    /// Accepts connections, responds and counts them.
    fn listen() -> (u16, Arc<std::sync::atomic::AtomicUsize>) {
        use std::io::Write as _;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, count) = (listener.local_addr().unwrap().port(), Arc::default());
        let seen: Arc<std::sync::atomic::AtomicUsize> = Arc::clone(&count);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 204 Fine\r\nconnection: close\r\n\r\n");
            }
        });
        (port, count)
    }

    #[test]
    fn a_token_server_on_this_machine_is_recognised_by_its_address() {
        let get = |transport: &Transport, place: &Place| {
            transport
                .exchange(&Method::GET, place, &[], &Payload::None, CONNECT_TIMEOUT)
                .map(|answer| answer.status)
        };
        let (port, count) = listen();
        let elsewhere = Place::endpoint(Url::parse("http://r.io/v2/").unwrap(), true).unwrap();
        for host in [
            "127.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "127.000.0.1",
            "0",
            "0x0",
            "localhost",
            "localhost.",
            "127.0.0.1",
            "127.0.0.1.",
            "2852039166",
            "169.254.43518",
            "0xa9.254.169.254",
        ] {
            let transport = Transport::new(Vec::new(), Vec::new(), Proxies::default());
            let realm = format!("http://{host}:{port}/t");
            let asked = [true, false].map(|credentials| {
                elsewhere.token_server(&realm, credentials).and_then(|place| get(&transport, &place))
            });
            for error in asked.map(Result::unwrap_err) {
                // Some systems do not accept all of these as addresses.
                let unknown =
                    error.to_string().contains("host not found") || error.to_string().contains("lookup");
                assert!(error.kind() == ErrorKind::Denied || unknown, "{host}: {error}");
            }
            assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 0, "{host}");
        }
        // A registry on this machine whose name does not show it.
        let transport = Transport::new(Vec::new(), Vec::new(), Proxies::default());
        let here = Place::endpoint(Url::parse(&format!("http://127.1:{port}/v2/")).unwrap(), true).unwrap();
        let tokens = here.token_server(&format!("http://0x7f.1:{port}/t"), true).unwrap();
        assert_eq!(get(&transport, &tokens).unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(get(&transport, &here).unwrap(), 204);
        assert_eq!(get(&transport, &tokens).unwrap(), 204);
    }
}
