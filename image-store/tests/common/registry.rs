//! Test registries, and images in them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use image_store::platform::Platform;
use image_store::registry::{Client, ClientOptions, Credential, Credentials};
use image_store::store::{Composition, Quiet, Record};
use image_store::{Digest, Reference, Result, Store, StoreOptions};

use super::Scratch;
use super::server::{Request, Response, Server};

/// The header for `user:secret`.
pub const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

/// How a registry asks for credentials.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asks {
    Basic,
    Bearer,
}

/// Requires `user:secret`, or a token for it from the registry's own token server.
pub fn guarded(asks: Asks, inner: impl Fn(&Request) -> Response) -> impl Fn(&Request) -> Response {
    move |request| {
        let authorization = request.header("authorization");
        let (challenge, wanted) = match asks {
            Asks::Basic => (r#"Basic realm="test""#.to_owned(), BASIC),
            Asks::Bearer => {
                if request.path.starts_with("/token") {
                    assert_eq!(authorization, Some(BASIC));
                    return Response::new(200, r#"{"token":"good"}"#);
                }
                let host = request.header("host").unwrap();
                (format!(r#"Bearer realm="http://{host}/token",service="test""#), "Bearer good")
            }
        };
        match authorization == Some(wanted) || request.path == "/v2/" {
            true => inner(request),
            false => Response::new(401, "").header("www-authenticate", challenge),
        }
    }
}

/// The contents of a registry, by path after `/v2/NAME/`.
pub type Content = HashMap<String, (String, Vec<u8>)>;

pub struct Origin {
    pub place: Scratch,
    pub store: Store,
    pub record: Record,
}

pub fn origin(name: &str) -> Origin {
    let place = Scratch::new(name);
    let store = Store::open(place.path().join("origin"), StoreOptions::default()).unwrap();
    let noise: Vec<u8> = (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let layer = super::gzip(&super::tar(&[
        super::file("etc/os-release", b"NAME=test\n"),
        super::file("noise", &noise),
    ]));
    let composition =
        Composition { name: Some(Reference::parse("origin").unwrap()), ..Composition::default() };
    let record = store.import(layer.as_slice(), &Platform::host(), &composition).unwrap();
    Origin { place, store, record }
}

impl Origin {
    pub fn content(&self) -> Content {
        let read =
            |digest: &Digest| std::fs::read(self.store.root().join("blobs").join(digest.path())).unwrap();
        let manifest = (self.record.manifest.media_type.clone(), read(&self.record.manifest.digest));
        let mut content = Content::new();
        content.insert("manifests/latest".into(), manifest.clone());
        content.insert(format!("manifests/{}", self.record.manifest.digest), manifest);
        for digest in &self.record.blobs {
            content.insert(format!("blobs/{digest}"), ("application/octet-stream".into(), read(digest)));
        }
        content
    }

    pub fn layer(&self) -> String {
        format!("blobs/{}", self.store.manifest(&self.record).unwrap().layers[0].digest)
    }

    /// Pulls `repo` from `server` into a new store, and checks that a failure left no image.
    pub fn pull(&self, server: &Server, options: ClientOptions) -> Result<Record> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let dir = self.place.path().join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
        let store = Store::open(dir, StoreOptions::default())?;
        let client = Client::new(options);
        let reference = Reference::parse(&format!("{}/repo", server.address))?;
        let pulled = client.find(&reference).and_then(|image| {
            store.ingest(
                &image,
                &image.descriptor,
                &Platform::host(),
                std::slice::from_ref(&reference),
                &Quiet,
            )
        });
        let images = store.images()?;
        assert_eq!(images.len(), usize::from(pulled.is_ok()));
        assert!(store.verify(false)?.is_empty());
        pulled
    }
}

pub fn quick() -> ClientOptions {
    ClientOptions { pause: Duration::from_millis(1), ..ClientOptions::default() }
}

pub fn with_password() -> ClientOptions {
    let fixed = Some(Credential::Password("user".into(), "secret".into()));
    ClientOptions { credentials: Credentials { fixed, files: vec![] }, ..quick() }
}

pub fn honest(content: &Content, request: &Request) -> Response {
    let path = request.path.split('?').next().unwrap();
    if path == "/v2/" {
        return Response::new(200, "{}");
    }
    match path.strip_prefix("/v2/repo/").and_then(|path| content.get(path)) {
        Some((kind, bytes)) => Response::new(200, bytes.clone()).header("content-type", kind.clone()),
        None => Response::new(404, r#"{"errors":[{"code":"NAME_UNKNOWN","message":"unknown"}]}"#),
    }
}

/// Responds with a challenge if there is no token, and gives tokens to `user:secret`.
pub fn with_tokens(content: Content, realm: Arc<Mutex<String>>) -> impl Fn(&Request) -> Response {
    move |request| {
        if request.path.starts_with("/token") {
            let allowed = request.header("authorization") == Some("Basic dXNlcjpzZWNyZXQ=");
            return if allowed { Response::new(200, r#"{"token":"good"}"#) } else { Response::new(401, "") };
        }
        if request.path != "/v2/" && request.header("authorization") != Some("Bearer good") {
            let challenge = format!(r#"Bearer realm="{}",service="test""#, realm.lock().unwrap());
            return Response::new(401, "").header("www-authenticate", challenge);
        }
        honest(&content, request)
    }
}

/// A registry that accepts uploads, whole or in chunks; may fail once.
#[derive(Default)]
pub struct Uploads {
    pub content: Mutex<Content>,
    pub session: Mutex<Vec<u8>>,
    pub fail_at: AtomicUsize,
    pub mount: bool,
}

impl Uploads {
    pub fn handle(&self, request: &Request) -> Response {
        let path = request.path.split('?').next().unwrap();
        let query = request.path.split_once('?').map_or("", |(_, query)| query);
        let mut content = self.content.lock().unwrap();
        let mut session = self.session.lock().unwrap();
        let next = |status| Response::new(status, "").header("location", "upload?state=a%2Fb");
        match (request.method.as_str(), path) {
            ("POST", _) if self.mount && query.contains("mount=") => Response::new(201, ""),
            ("POST", _) => {
                session.clear();
                Response::new(202, "").header("location", "/v2/repo/blobs/uploads/upload?state=a%2Fb")
            }
            ("PATCH", _) => {
                if self.fail_at.load(Ordering::Relaxed) == session.len() / 1000 && !session.is_empty() {
                    self.fail_at.store(usize::MAX, Ordering::Relaxed);
                    // Accepts half of it, then fails.
                    session.extend(&request.body[..request.body.len() / 2]);
                    return Response::new(500, "");
                }
                let range = format!("{}-{}", session.len(), session.len() + request.body.len() - 1);
                if request.header("content-range") != Some(&range) {
                    return next(416);
                }
                session.extend(&request.body);
                next(202).header("range", format!("0-{}", session.len() - 1))
            }
            ("GET", "/v2/repo/blobs/uploads/upload") => {
                assert_eq!(query, "state=a%2Fb");
                next(204).header("range", format!("0-{}", session.len().saturating_sub(1)))
            }
            ("PUT", path) if path.contains("/manifests/") => {
                let kind = request.header("content-type").unwrap().to_owned();
                content.insert(path.strip_prefix("/v2/repo/").unwrap().into(), (kind, request.body.clone()));
                Response::new(201, "")
            }
            ("PUT", _) => {
                session.extend(&request.body);
                let digest = Digest::of(&session);
                if !query.contains(&format!("digest={digest}")) {
                    return Response::new(400, r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                }
                content
                    .insert(format!("blobs/{digest}"), ("application/octet-stream".into(), session.clone()));
                Response::new(201, "")
            }
            _ => honest(&content, request),
        }
    }
}
