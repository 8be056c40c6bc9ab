//! HTTP itself: one exchange over ureq, with bounds on time and headers, trust per host, and nothing done on its own
//! account: no redirects, no cookies, no decompression.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ureq::http::{HeaderMap, Method, Request};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, SendBody};

use super::url::Url;
use crate::error::{Doing, Error, ErrorKind, Result};

const CONNECT: Duration = Duration::from_secs(30);
/// A registry that says nothing for so long is gone; uploads may take a while to be checked.
const SILENCE: Duration = Duration::from_secs(120);
/// Where distributions keep the authorities they trust.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// What is sent along; can be sent again.
pub(super) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// Opens a reader of so many bytes.
    Stream(&'a dyn Fn() -> Result<Box<dyn Read + 'a>>, u64),
}

/// An answer; its body is not read yet.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: ureq::Body,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn into_reader(self) -> Box<dyn Read + Send> {
        Box::new(self.body.into_with_config().limit(u64::MAX).reader())
    }

    /// The body, if it is small.
    pub(super) fn into_bytes(self, limit: u64, what: &str) -> Result<Vec<u8>> {
        crate::digest::read_limited(self.into_reader(), limit, what)
    }
}

/// Connections, kept open between exchanges; one pool for each way of trusting.
pub(super) struct Transport {
    agents: Mutex<HashMap<(String, bool), Agent>>,
    certificates: Vec<PathBuf>,
    /// Authorities, certificate and key that a host's own configuration names.
    named: Mutex<HashMap<String, Named>>,
}

/// Authorities to trust; certificate and key.
type Named = (Vec<PathBuf>, Option<(PathBuf, PathBuf)>);

/// Who is trusted, and who we are.
#[derive(Default)]
struct Trust {
    roots: Vec<Certificate<'static>>,
    client: Option<ClientCert>,
}

impl Transport {
    pub(super) fn new(certificates: Vec<PathBuf>) -> Self {
        Self { agents: Mutex::default(), certificates, named: Mutex::default() }
    }

    /// What a host's own configuration names, before the first request to it.
    pub(super) fn trust(
        &self,
        authority: &str,
        authorities: &[PathBuf],
        client: Option<&(PathBuf, PathBuf)>,
    ) {
        let mut named = self.named.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        named.insert(authority.to_owned(), (authorities.to_vec(), client.cloned()));
    }

    /// One request, one answer, whatever its status.
    pub(super) fn exchange(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(&str, String)],
        payload: &Payload<'_>,
        insecure: bool,
    ) -> Result<Answer> {
        let doing = || format!("{method} {}", shown(url));
        let agent = self.agent(&url.authority, insecure).doing(doing)?;
        let mut request = Request::builder().method(method.clone()).uri(url.to_string());
        for (name, value) in headers {
            request = request.header(*name, value.as_str());
        }
        let network =
            |error: ureq::Error| Error::new(ErrorKind::Network, format!("{}: {}", doing(), reason(&error)));
        let invalid = |error: ureq::http::Error| Error::invalid(format!("{}: {error}", doing()));
        let answer = match payload {
            Payload::None if [Method::POST, Method::PUT, Method::PATCH].contains(method) => {
                agent.run(request.header("content-length", "0").body(&b""[..]).map_err(invalid)?)
            }
            Payload::None => agent.run(request.body(()).map_err(invalid)?),
            Payload::Bytes(bytes) => agent.run(request.body(*bytes).map_err(invalid)?),
            Payload::Stream(open, length) => {
                let mut reader = open()?;
                let body = SendBody::from_reader(&mut reader);
                agent.run(request.header("content-length", length.to_string()).body(body).map_err(invalid)?)
            }
        };
        let (parts, body) = answer.map_err(network)?.into_parts();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    fn agent(&self, authority: &str, insecure: bool) -> Result<Agent> {
        let mut agents = self.agents.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let own = self.own_trust(authority)?;
        // Hosts without certificates of their own share a pool.
        let shared = own.roots.is_empty() && own.client.is_none();
        let key = (if shared { String::new() } else { authority.to_owned() }, insecure);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let tls = TlsConfig::builder().root_certs(roots(own.roots)?).client_cert(own.client);
        let tls = tls.disable_verification(insecure).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("knarr-image/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_resolve(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .max_response_header_size(64 << 10)
            .build();
        let agent = Agent::new_with_config(config);
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    /// What somebody put into this host's folder (`*.crt`; `*.cert` with `*.key`), or named for it.
    fn own_trust(&self, authority: &str) -> Result<Trust> {
        let mut trust = Trust::default();
        let named =
            self.named.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(authority).cloned();
        let (mut authorities, mut client) = named.unwrap_or_default();
        for folder in self.certificates.iter().map(|folder| folder.join(authority)) {
            for path in std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => authorities.push(path),
                    Some("cert") if client.is_none() => {
                        client = Some((path.clone(), path.with_extension("key")))
                    }
                    _ => {}
                }
            }
        }
        let read = |path: &PathBuf| std::fs::read(path).doing(|| format!("read {path:?}"));
        for path in authorities {
            trust.roots.extend(certificates(&read(&path)?).doing(|| format!("certificate {path:?}"))?);
        }
        if let Some((path, key)) = client {
            let chain = certificates(&read(&path)?).doing(|| format!("certificate {path:?}"))?;
            let key = PrivateKey::from_pem(&read(&key)?)
                .map_err(|e| Error::invalid(format!("private key {key:?}: {e}")))?;
            trust.client = Some(ClientCert::new_with_certs(&chain, key));
        }
        Ok(trust)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| Error::invalid(e.to_string()))? {
            found.push(certificate);
        }
    }
    Ok(found)
}

/// The system's authorities and the host's own; where the system has none, those of Mozilla that are built in.
fn roots(own: Vec<Certificate<'static>>) -> Result<RootCerts> {
    let file = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let file = file.or_else(|| SYSTEM_ROOTS.iter().map(PathBuf::from).find(|path| path.exists()));
    let mut all = own;
    match file {
        Some(path) => {
            let pem = std::fs::read(&path).doing(|| format!("read {path:?}"))?;
            all.extend(certificates(&pem).doing(|| format!("certificates {path:?}"))?);
        }
        None if all.is_empty() => return Ok(RootCerts::WebPki),
        None => {}
    }
    Ok(RootCerts::Specific(Arc::new(all)))
}

/// A URL as errors show it: a query may hold a signature that is as good as a password.
pub(super) fn shown(url: &Url) -> String {
    let text = url.to_string();
    text.split('?').next().unwrap_or_default().to_owned()
}

fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(io) => {
            let text = io.to_string();
            if io.raw_os_error().is_some() {
                Error::from(std::io::Error::from(io.kind())).to_string()
            } else {
                text
            }
        }
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        other => other.to_string(),
    }
}
