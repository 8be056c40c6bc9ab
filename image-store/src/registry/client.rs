//! Requests to a registry: authentication, redirects, retries.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::Method;

use super::challenge::{Challenge, parse};
use super::credentials::{Credential, Credentials};
use super::hosts::{Endpoint, Hosts, is_loopback};
use super::place::Place;
use super::proxy::Proxies;
use super::secrets::redact;
use super::token::{self, TokenRequest, basic, oauth_request, token_request};
use super::transport::{Answer, Payload, Transport};
use super::url::{Url, encode};
use crate::error::{Doing, Error, ErrorKind, Result};
use crate::layer::compression::Compression;
use crate::reference::Reference;

/// Largest number of redirects that are followed.
const MAX_REDIRECTS: usize = 10;
/// Largest number of attempts of a request.
const MAX_ATTEMPTS: u32 = 5;
/// How long a mirror may send nothing.
const MIRROR_SILENCE: Duration = Duration::from_secs(30);
/// Largest error response that is read, in bytes.
const ERROR_LIMIT: u64 = 64 << 10;
/// How long an error response is read.
const ERROR_TIME: Duration = Duration::from_secs(10);
/// Largest response of a token server that is read, in bytes.
const TOKEN_LIMIT: u64 = 256 << 10;

/// Options of a client.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The configuration of registries.
    pub hosts: Hosts,
    /// The sources of credentials.
    pub credentials: Credentials,
    /// Pause before the second attempt of a request; it doubles with each attempt.
    pub pause: Duration,
    /// Upload blobs in chunks of this number of bytes; `None` for one request per blob.
    pub chunk: Option<u64>,
    /// The compression of layers that the store has uncompressed, when an image is pushed.
    pub compression: Compression,
    /// The proxies.
    pub proxies: Proxies,
    /// How long a registry may send nothing; for a mirror at most half a minute. Registries may take a while to verify an upload.
    pub silence: Duration,
    /// Called before the first pause that a registry asks for, with its host and the time.
    pub waiting: fn(&str, Duration),
}

/// No configuration, credentials and proxies; the usual times.
impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            hosts: Hosts::default(),
            credentials: Credentials::default(),
            pause: Duration::from_millis(250),
            chunk: None,
            compression: Compression::Gzip,
            proxies: Proxies::default(),
            silence: Duration::from_secs(120),
            waiting: |_, _| (),
        }
    }
}

impl ClientOptions {
    /// The options from the environment and the configuration files of this user.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a malformed registries.conf; failed system calls.
    pub fn from_environment() -> Result<Self> {
        Ok(Self {
            hosts: Hosts::from_environment()?,
            credentials: Credentials::from_environment(),
            proxies: Proxies::from_environment(),
            ..Self::default()
        })
    }
}

/// A registry client. Use one for all requests, also from several threads: it keeps connections and tokens.
pub struct Client {
    pub(super) options: ClientOptions,
    pub(super) transport: Transport,
    tokens: Mutex<HashMap<TokenKey, Token>>,
    /// Whether a host that may use plain http does.
    plain: Mutex<HashMap<String, bool>>,
    /// Whether a registry has asked for a pause.
    waited: AtomicBool,
}

/// Whether the endpoint uses https, its host, and the scope.
type TokenKey = (bool, String, String);

#[derive(Clone)]
struct Token {
    header: String,
    expires: Option<Instant>,
}

/// A request, which can be sent again.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) place: Place,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) payload: Payload<'a>,
    /// Whether sending it twice has the same effect as once.
    pub(super) repeatable: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, place: Place) -> Self {
        Self { method, place, headers: Vec::new(), payload: Payload::None, repeatable: true }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }

    /// The request is not repeatable.
    pub(super) fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }
}

/// What is accessed: credentials are looked up by the name, tokens are kept by the scope.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) reference: Reference,
    pub(super) endpoint: Endpoint,
    /// `repository:NAME:pull,push`; several are separated by spaces.
    pub(super) scope: String,
    /// Whether another endpoint is asked if this one does not answer.
    pub(super) others: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Client {
    /// Creates a client. No request is sent yet.
    #[must_use]
    pub fn new(options: ClientOptions) -> Self {
        let Hosts { certificates, certificates_for_all, .. } = &options.hosts;
        let transport =
            Transport::new(certificates.clone(), certificates_for_all.clone(), options.proxies.clone());
        let (tokens, plain, waited) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Self { options, transport, tokens, plain, waited }
    }

    /// The place of `path`, which follows `/v2/`, on an endpoint.
    pub(super) fn place(&self, access: &Access, path: &str) -> Result<Place> {
        let endpoint = &access.endpoint;
        let url = match &endpoint.more {
            Some(host) => {
                let version = if host.override_path { "" } else { "/v2" };
                let base = host.url.to_string();
                Url::parse(&format!("{}{version}/{path}", base.trim_end_matches('/')))?
            }
            None => {
                let scheme = if self.uses_plain_http(access)? { "http" } else { "https" };
                Url::parse(&format!("{scheme}://{}/v2/{path}", endpoint.host))?
            }
        };
        let place = Place::endpoint(url, endpoint.insecure)?;
        Ok(match &endpoint.namespace {
            Some(namespace) => place.with_query("ns", namespace),
            None => place,
        })
    }

    /// Whether to use plain http: tried once for hosts that may use it, never for others.
    fn uses_plain_http(&self, access: &Access) -> Result<bool> {
        let endpoint = &access.endpoint;
        if !endpoint.insecure && !is_loopback(&endpoint.host) {
            return Ok(false);
        }
        let lock = || self.plain.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(plain) = lock().get(&endpoint.host) {
            return Ok(*plain);
        }
        let ask = |scheme: &str| {
            let url = Url::parse(&format!("{scheme}://{}/v2/", endpoint.host))?;
            let place = Place::endpoint(url, endpoint.insecure)?;
            self.transport.exchange(&Method::GET, &place, &[], &Payload::None, self.silence(access))
        };
        let plain = match ask("https") {
            Ok(_) => false,
            Err(error) => match ask("http") {
                // https servers respond to plain http with status 400.
                Ok(answer) if answer.status != 400 => true,
                _ => return Err(error),
            },
        };
        lock().insert(endpoint.host.clone(), plain);
        Ok(plain)
    }

    /// Sends a request, repeatedly after temporary failures. The response is a success or has one of the `expected` statuses.
    pub(super) fn send(&self, access: &Access, call: &Call<'_>, expected: &[u16]) -> Result<(Answer, Place)> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let result = self.follow(access, call);
            let again = attempts < MAX_ATTEMPTS && call.repeatable;
            let (asked, error) = match result {
                Ok((answer, place)) if answer.status < 300 || expected.contains(&answer.status) => {
                    return Ok((answer, place));
                }
                Ok((answer, place)) => {
                    let temporary = matches!(answer.status, 408 | 429 | 500 | 502 | 503 | 504);
                    let asked = answer.header("retry-after").and_then(|t| retry_pause(t, crate::time::now()));
                    let error = self.status_error(access, &call.method, &place, answer);
                    if !(again && temporary) {
                        return Err(error);
                    }
                    (asked, error)
                }
                // The next endpoint may answer.
                Err(error) if access.others => return Err(error),
                Err(error) => (None, error),
            };
            if !again || error.kind() != ErrorKind::Network {
                return Err(error);
            }
            if let Some(asked) = asked.filter(|asked| !asked.is_zero())
                && !self.waited.swap(true, Ordering::Relaxed)
            {
                (self.options.waiting)(&access.endpoint.host, asked);
            }
            std::thread::sleep(asked.unwrap_or_else(|| self.pause(attempts)));
        }
    }

    /// How long the endpoint may send nothing.
    fn silence(&self, access: &Access) -> Duration {
        let silence = self.options.silence;
        if access.others { silence.min(MIRROR_SILENCE) } else { silence }
    }

    /// The pause before the next attempt if the registry asks for none: it doubles, with a random variation.
    fn pause(&self, attempts: u32) -> Duration {
        let mut random = [0; 1];
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        let base = self.options.pause.saturating_mul(1 << (attempts - 1).min(5));
        base.mul_f64(0.75 + f64::from(random[0]) / 512.0)
    }

    /// Sends a request and follows redirects.
    fn follow(&self, access: &Access, call: &Call<'_>) -> Result<(Answer, Place)> {
        let (mut place, silence) = (call.place.clone(), self.silence(access));
        for _ in 0..=MAX_REDIRECTS {
            let answer = if place.takes_credentials() {
                self.authenticated(access, call, &place)?
            } else {
                self.transport.exchange(&call.method, &place, &call.headers, &call.payload, silence)?
            };
            let again = match (answer.status, &call.method) {
                (301..=303, &Method::GET | &Method::HEAD) | (307 | 308, _) => answer.header("location"),
                _ => None,
            };
            let Some(location) = again else {
                return Ok((answer, place));
            };
            place = place.next(location).doing(|| format!("{} {place}: redirect", call.method))?;
        }
        Err(Error::new(
            ErrorKind::Limit,
            format!("{} {}: more than {MAX_REDIRECTS} redirects", call.method, call.place),
        ))
    }

    /// Sends with the known token, and again with a new one if that is refused.
    fn authenticated(&self, access: &Access, call: &Call<'_>, place: &Place) -> Result<Answer> {
        let (https, host) = place.origin();
        let key = (https, host.to_owned(), access.scope.clone());
        let known = self.known_token(&key);
        let mut headers = call.headers.clone();
        headers.extend(known.map(|header| ("authorization", header)));
        let silence = self.silence(access);
        let answer = self.transport.exchange(&call.method, place, &headers, &call.payload, silence)?;
        if answer.status != 401 {
            return Ok(answer);
        }
        let offered = answer.headers.get_all("www-authenticate").iter();
        let challenges: Vec<_> = offered.filter_map(|value| value.to_str().ok()).flat_map(parse).collect();
        let Some(token) = self.authenticate(access, &challenges, place)? else {
            return Ok(answer);
        };
        let mut headers = call.headers.clone();
        headers.push(("authorization", token.header.clone()));
        self.tokens.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(key, token);
        self.transport.exchange(&call.method, place, &headers, &call.payload, silence)
    }

    fn known_token(&self, key: &TokenKey) -> Option<String> {
        let tokens = self.tokens.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let token = tokens.get(key)?;
        let fresh = token.expires.is_none_or(|expires| Instant::now() < expires);
        fresh.then(|| token.header.clone())
    }

    /// The credential for an endpoint. Endpoints other than the registry in the name have their own.
    fn credential(&self, access: &Access) -> Result<Option<Credential>> {
        let Endpoint { host, repository, own, .. } = &access.endpoint;
        match own {
            true => self.options.credentials.find_at(access.reference.domain(), repository),
            false => self.options.credentials.find_kept(host, repository),
        }
    }

    /// The token for the first challenge that can be met.
    fn authenticate(
        &self,
        access: &Access,
        challenges: &[Challenge],
        place: &Place,
    ) -> Result<Option<Token>> {
        let credential = self.credential(access)?;
        for challenge in challenges {
            match (challenge, &credential) {
                (Challenge::Bearer { realm, service, scope, .. }, _) => {
                    let realm = place.token_server(realm, credential.is_some());
                    let realm = realm.doing(|| "token server".to_owned())?;
                    let scopes = if access.scope.is_empty() {
                        scope.clone().unwrap_or_default()
                    } else {
                        access.scope.clone()
                    };
                    return self
                        .fetch_token(access, &realm, service.as_deref(), &scopes, credential.as_ref())
                        .map(Some);
                }
                (Challenge::Basic, Some(Credential::Password(user, password))) => {
                    return Ok(Some(Token { header: basic(user, password), expires: None }));
                }
                (Challenge::Basic, _) => {}
            }
        }
        Ok(None)
    }

    /// Fetches a token by the protocol of the CNCF distribution project (spec/auth): GET with Basic authentication, or
    /// OAuth 2.0 for an identity token.
    fn fetch_token(
        &self,
        access: &Access,
        realm: &Place,
        service: Option<&str>,
        scopes: &str,
        credential: Option<&Credential>,
    ) -> Result<Token> {
        // A grant is sent in the body, not in a header.
        if let Some(Credential::Password(_, secret) | Credential::IdentityToken(secret)) = credential {
            self.transport.hide([secret.clone(), encode(secret)]);
        }
        let ask = |(method, place, headers, form): TokenRequest| {
            let payload = form.as_ref().map_or(Payload::None, |form| Payload::Bytes(form.as_bytes()));
            let answer =
                self.transport.exchange(&method, &place, &headers, &payload, self.silence(access))?;
            Ok::<_, Error>((method, place, answer))
        };
        let (mut method, mut place, mut answer) = ask(token_request(realm, service, scopes, credential))?;
        // Some token servers only support OAuth 2.0.
        if let (404 | 405, Method::GET, Some(Credential::Password(user, password))) =
            (answer.status, method.clone(), credential)
        {
            let grant =
                format!("grant_type=password&username={}&password={}", encode(user), encode(password));
            (method, place, answer) = ask(oauth_request(realm, service, scopes, &grant))?;
        }
        if answer.status != 200 {
            return Err(self.status_error(access, &method, &place, answer));
        }
        let bytes = answer.into_bytes(TOKEN_LIMIT, "token")?;
        let (token, lifetime) = token::parse(&bytes).doing(|| format!("token from {place}"))?;
        Ok(Token { header: format!("Bearer {token}"), expires: Instant::now().checked_add(lifetime) })
    }

    /// The error of a response, with the registry's message and how to fix it.
    pub(super) fn status_error(
        &self,
        access: &Access,
        method: &Method,
        place: &Place,
        answer: Answer,
    ) -> Error {
        let (status, secrets) = (answer.status, answer.secrets.clone());
        let path = &place.url().path;
        let (kind, hint) = match status {
            401 if !place.takes_credentials() => {
                (ErrorKind::Denied, "authentication required by a host other than the registry".to_owned())
            }
            401 if self.credential(access).is_ok_and(|credential| credential.is_some()) => {
                (ErrorKind::Denied, "wrong user or password".to_owned())
            }
            401 => {
                let Endpoint { host, own, .. } = &access.endpoint;
                let registry = if *own { access.reference.domain() } else { host };
                (ErrorKind::Denied, format!("not logged in: use knarr-image login {registry}"))
            }
            403 => (ErrorKind::Denied, "access denied".to_owned()),
            404 if path.contains("/manifests/") || path.contains("/tags/") => {
                (ErrorKind::NotFound, "no such image or tag in the registry".to_owned())
            }
            404 => (ErrorKind::NotFound, "not found".to_owned()),
            429 => (ErrorKind::Network, "too many requests".to_owned()),
            _ => (ErrorKind::Network, "request failed".to_owned()),
        };
        let message = error_message(answer, self.silence(access).min(ERROR_TIME));
        let message: String = redact(&message, &secrets).chars().take(300).collect();
        let message = if message.trim().is_empty() { hint } else { format!("{hint}: {}", message.trim()) };
        Error::new(kind, format!("{method} {place}: {message} (HTTP {status})"))
    }
}

/// The pause that a `Retry-After` header asks for at the time `now`: a number of seconds, or until a time (RFC 9110, 10.2.3). At
/// most a minute.
fn retry_pause(text: &str, now: i64) -> Option<Duration> {
    let text = text.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => u64::try_from(crate::time::parse_http(text)?.saturating_sub(now)).unwrap_or(0),
    };
    Some(Duration::from_secs(seconds.min(60)))
}

/// The message in an error response (OCI distribution specification, "Error Codes"), if it has arrived after `time`.
fn error_message(answer: Answer, time: Duration) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        code: Option<String>,
        message: Option<String>,
    }
    let body = read_for(answer, time);
    let errors = serde_json::from_slice::<Errors>(&body).map(|errors| errors.errors).unwrap_or_default();
    let one =
        |entry: Entry| format!("{} {}", entry.code.unwrap_or_default(), entry.message.unwrap_or_default());
    errors.into_iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The body of a response, or its beginning if not all of it has arrived after `time`, however slowly it is sent: it is read in a thread
/// of its own, which is left behind then.
fn read_for(answer: Answer, time: Duration) -> Vec<u8> {
    let end = Instant::now() + time;
    let (sender, body) = mpsc::channel();
    let reading = std::thread::Builder::new().spawn(move || {
        let mut reader = answer.into_reader().take(ERROR_LIMIT);
        let (mut body, mut piece) = (Vec::new(), [0; 4096]);
        while Instant::now() < end
            && let Ok(count @ 1..) = reader.read(&mut piece)
        {
            body.extend_from_slice(&piece[..count]);
        }
        let _ = sender.send(body);
    });
    reading.ok().and_then(|_| body.recv_timeout(time).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
