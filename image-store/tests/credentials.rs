//! Credentials are only sent to the registry, also if it or another host redirects elsewhere.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::sync::{Arc, Mutex};

use common::Scratch;
use common::registry::{Asks, BASIC, Uploads, guarded, honest, origin, quick, with_password, with_tokens};
use common::server::{Request, Response, Server, certificate, outer_address};
use image_store::manifest::Descriptor;
use image_store::registry::{Client, ClientOptions, Credential, Credentials, Hosts, Mirror, Registries};
use image_store::store::{Quiet, Source as _};
use image_store::{ErrorKind, Reference};

/// A malicious server that asks for a password, by Basic authentication or by its own token server.
fn greedy(request: &Request) -> Response {
    let host = request.header("host").unwrap();
    let challenge = format!(r#"Basic realm="x", Bearer realm="http://{host}/token""#);
    match (request.path.starts_with("/token"), request.header("authorization")) {
        (true, _) => Response::new(200, r#"{"token":"good"}"#),
        (_, None) => Response::new(401, "").header("www-authenticate", challenge),
        _ => Response::new(404, ""),
    }
}

/// Asserts that requests came, without credentials and for no token.
fn assert_nothing_said(elsewhere: &Server, what: &str) {
    let requests = elsewhere.requests();
    assert!(!requests.is_empty(), "{what}: no request");
    for request in requests {
        let told = request.header("authorization").is_some() || request.path.starts_with("/token");
        assert!(!told, "{what}: {request:?}");
    }
}

/// The request of an upload at which the registry names another host.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Away {
    /// At the start: the whole session is on the other host.
    Post,
    /// In the response to a chunk.
    Patch,
    /// The last request is redirected.
    Put,
}

/// A registry that keeps blobs on another host, such as an object storage.
fn leads_away(away: Away, uploads: &Uploads, elsewhere: &str, request: &Request) -> Response {
    let blob = request.path.contains("/blobs/");
    if away == Away::Put && blob && request.method == "PUT" {
        return Response::new(307, "").header("location", format!("http://{elsewhere}{}", request.path));
    }
    let mut response = uploads.handle(request);
    let from = if away == Away::Post { "POST" } else { "PATCH" };
    if away != Away::Put && request.method == from {
        let session = format!("http://{elsewhere}/v2/repo/blobs/uploads/upload?state=a%2Fb");
        response.headers.retain(|(name, _)| name != "location");
        response = response.header("location", session);
    }
    response
}

#[test]
fn uploads_to_another_host_go_without_credentials() {
    common::need_root!();
    let origin = origin("away");
    let cases = [
        (Away::Post, None),
        (Away::Post, Some(100_000)),
        (Away::Patch, Some(100_000)),
        (Away::Put, None),
        (Away::Put, Some(100_000)),
    ];
    for (asks, (away, chunk)) in [Asks::Basic, Asks::Bearer].into_iter().flat_map(|a| cases.map(|c| (a, c))) {
        let what = format!("{asks:?} {away:?} {chunk:?}");
        let uploads = Arc::new(Uploads::default());
        let (here, there) = (uploads.clone(), uploads.clone());
        let storage = Server::start(move |request| there.handle(request));
        let elsewhere = storage.address.clone();
        let inner = move |request: &Request| leads_away(away, &here, &elsewhere, request);
        let registry = Server::start(guarded(asks, inner));
        let target = Reference::parse(&format!("{}/repo", registry.address)).unwrap();
        let client = Client::new(ClientOptions { chunk, ..with_password() });
        client.push(&origin.store, &origin.record, &target, &Quiet).unwrap();
        assert_nothing_said(&storage, &what);
        origin.pull(&registry, with_password()).unwrap();
    }
}

#[test]
fn a_challenge_of_another_host_is_not_answered() {
    common::need_root!();
    let origin = origin("greedy");
    for asks in [Asks::Basic, Asks::Bearer] {
        for away in [Away::Post, Away::Patch, Away::Put] {
            let other = Server::start(greedy);
            let elsewhere = other.address.clone();
            let uploads = Uploads::default();
            let inner = move |request: &Request| leads_away(away, &uploads, &elsewhere, request);
            let registry = Server::start(guarded(asks, inner));
            let target = Reference::parse(&format!("{}/repo", registry.address)).unwrap();
            let client = Client::new(ClientOptions { chunk: Some(100_000), ..with_password() });
            let error = client.push(&origin.store, &origin.record, &target, &Quiet).unwrap_err();
            assert_nothing_said(&other, &format!("{asks:?} {away:?}"));
            assert_eq!(error.kind(), ErrorKind::Denied, "{away:?}: {error}");
            assert!(error.to_string().contains(&other.address), "{away:?}: {error}");
            assert!(!error.to_string().contains("state="), "{away:?}: {error}");
        }
    }
}

#[test]
fn a_redirect_away_and_back_gets_no_credentials() {
    for (asks, back) in [Asks::Basic, Asks::Bearer].into_iter().flat_map(|a| [false, true].map(|b| (a, b))) {
        let home = Arc::new(Mutex::new(String::new()));
        let address = home.clone();
        let other = Server::start(move |request| match back {
            true => {
                Response::new(307, "").header("location", format!("http://{}/back", address.lock().unwrap()))
            }
            false => greedy(request),
        });
        let elsewhere = format!("http://{}/v2/x?sig=1", other.address);
        let server = Server::start(guarded(asks, move |request: &Request| match request.path.as_str() {
            "/v2/repo/tags/list" => Response::new(307, "").header("location", elsewhere.clone()),
            _ => Response::new(200, r#"{"tags":[]}"#),
        }));
        home.lock().unwrap().clone_from(&server.address);
        let repository = Reference::parse_untagged(&format!("{}/repo", server.address)).unwrap();
        let result = Client::new(with_password()).tags(&repository);
        assert_nothing_said(&other, &format!("{asks:?}"));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Denied, "{asks:?} {back}");
        let mut returned = server.requests();
        returned.retain(|request| request.path == "/back");
        assert_eq!(returned.len(), usize::from(back));
        assert!(returned.iter().all(|request| request.header("authorization").is_none()), "{returned:?}");
    }
}

#[test]
fn the_next_page_of_another_host_is_not_asked_for() {
    for asks in [Asks::Basic, Asks::Bearer] {
        let other = Server::start(greedy);
        let elsewhere = other.address.clone();
        let server = Server::start(guarded(asks, move |_: &Request| {
            let link = format!(r#"<http://{elsewhere}/v2/repo/tags/list?last=1>; rel="next""#);
            Response::new(200, r#"{"tags":["1"]}"#).header("link", link)
        }));
        let repository = Reference::parse_untagged(&format!("{}/repo", server.address)).unwrap();
        let error = Client::new(with_password()).tags(&repository).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(other.requests().is_empty());
    }
}

/// A layer with this URL, which the registry does not have.
fn foreign_layer(bytes: &[u8], url: String) -> Descriptor {
    let media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    Descriptor { urls: Some(vec![url]), ..Descriptor::of(media_type, bytes) }
}

#[test]
fn layers_of_other_hosts_are_requested_without_credentials() {
    common::need_root!();
    let (place, origin) = (Scratch::new("foreign"), origin("foreign"));
    if !certificate(place.path()) {
        return;
    }
    for (asks, gives) in
        [(Asks::Basic, true), (Asks::Bearer, true), (Asks::Basic, false), (Asks::Bearer, false)]
    {
        let other = Server::start_tls(place.path(), move |request| match gives {
            true => Response::new(200, "layer"),
            false => greedy(request),
        });
        let content = origin.content();
        let registry = Server::start(guarded(asks, move |request: &Request| honest(&content, request)));
        let certificates_for_all = vec![place.path().to_owned()];
        let options =
            ClientOptions { hosts: Hosts { certificates_for_all, ..Hosts::default() }, ..with_password() };
        let client = Client::new(options);
        let image = client.find(&Reference::parse(&format!("{}/repo", registry.address)).unwrap()).unwrap();
        let layer = foreign_layer(b"layer", format!("https://{}/layer", other.address));
        let mut bytes = Vec::new();
        let read = image.open(&layer).unwrap().read_to_end(&mut bytes);
        assert_eq!((read.is_ok(), bytes.as_slice()), (gives, if gives { b"layer".as_slice() } else { b"" }));
        assert_nothing_said(&other, &format!("{asks:?}"));
    }
}

/// Only the registry itself is insecure.
#[test]
fn certificates_of_other_hosts_are_checked_when_the_registry_is_insecure() {
    common::need_root!();
    let (place, origin) = (Scratch::new("unchecked"), origin("unchecked"));
    if !certificate(place.path()) {
        return;
    }
    let other = Server::start_tls(place.path(), |_| Response::new(200, "layer"));
    let content = origin.content();
    let registry = Server::start(move |request| honest(&content, request));
    let hosts = Hosts { insecure: vec![registry.address.clone()], ..Hosts::default() };
    let client = Client::new(ClientOptions { hosts, ..quick() });
    let image = client.find(&Reference::parse(&format!("{}/repo", registry.address)).unwrap()).unwrap();
    let layer = foreign_layer(b"layer", format!("https://{}/layer", other.address));
    assert!(image.open(&layer).unwrap().read_to_end(&mut Vec::new()).is_err());
    assert!(other.requests().is_empty());
}

#[test]
fn https_is_never_redirected_to_http() {
    common::need_root!();
    let (place, origin) = (Scratch::new("downgrade"), origin("downgrade"));
    if !certificate(place.path()) {
        return;
    }
    for how in ["redirect", "location", "realm"] {
        let plain = Server::start(greedy);
        let elsewhere = format!("http://{}/v2/x?sig=hidden", plain.address);
        let uploads = Uploads::default();
        let registry = Server::start_tls(place.path(), move |request| match how {
            "realm" => Response::new(401, "")
                .header("www-authenticate", format!(r#"Bearer realm="{elsewhere}",service="x""#)),
            "redirect" if request.path != "/v2/" => {
                Response::new(307, "").header("location", elsewhere.clone())
            }
            "location" if request.method == "POST" => {
                Response::new(202, "").header("location", elsewhere.clone())
            }
            _ => uploads.handle(request),
        });
        let certificates_for_all = vec![place.path().to_owned()];
        let options =
            ClientOptions { hosts: Hosts { certificates_for_all, ..Hosts::default() }, ..with_password() };
        let target = Reference::parse(&format!("{}/repo", registry.address)).unwrap();
        let pushed = Client::new(options).push(&origin.store, &origin.record, &target, &Quiet);
        let error = pushed.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{how}: {error}");
        assert!(!error.to_string().contains("hidden"), "{how}: {error}");
        assert!(plain.requests().is_empty(), "{how}");
    }
}

#[test]
fn a_password_for_the_registry_is_not_for_its_mirrors() {
    common::need_root!();
    let origin = origin("mirrors");
    for kept in [false, true] {
        let (first, second) = (origin.content(), origin.content());
        let mirror = Server::start(guarded(Asks::Basic, move |request: &Request| honest(&first, request)));
        let server = Server::start(guarded(Asks::Basic, move |request: &Request| honest(&second, request)));
        let location = mirror.address.clone();
        let mirrors = vec![(server.address.clone(), vec![Mirror { location, insecure: false }])];
        let file = origin.place.path().join("auth.json");
        let auths = if kept {
            format!(r#"{{"{}":{{"username":"user","password":"secret"}}}}"#, mirror.address)
        } else {
            "{}".to_owned()
        };
        std::fs::write(&file, format!(r#"{{"auths":{auths}}}"#)).unwrap();
        let fixed = Some(Credential::Password("user".into(), "secret".into()));
        let credentials = Credentials { fixed, files: vec![file] };
        let hosts = Hosts { mirrors, ..Hosts::default() };
        origin.pull(&server, ClientOptions { hosts, credentials, ..quick() }).unwrap();
        let told = mirror.requests().iter().any(|request| request.header("authorization").is_some());
        assert_eq!((told, server.requests().is_empty()), (kept, kept));
    }
}

#[test]
fn a_token_server_may_be_elsewhere() {
    common::need_root!();
    let origin = origin("realm");
    let tokens = Server::start(with_tokens(origin.content(), Arc::default()));
    let realm = Arc::new(Mutex::new(format!("http://{}/token", tokens.address)));
    let server = Server::start(with_tokens(origin.content(), realm));
    origin.pull(&server, with_password()).unwrap();
    let asked = tokens.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("authorization"), Some(BASIC));
    // The token is for the registry; the password is for the token server.
    let told: Vec<_> =
        server.requests().iter().filter_map(|r| r.header("authorization").map(str::to_owned)).collect();
    assert!(!told.is_empty() && told.iter().all(|told| told == "Bearer good"), "{told:?}");
}

#[test]
fn a_mirror_on_the_registrys_own_host_does_not_replace_it() {
    common::need_root!();
    let origin = origin("own-mirror");
    let content = origin.content();
    let server = Server::start(guarded(Asks::Basic, move |request: &Request| honest(&content, request)));
    let mirror = Mirror { location: format!("{}/cache", server.address), insecure: false };
    let hosts = Hosts { mirrors: vec![(server.address.clone(), vec![mirror])], ..Hosts::default() };
    origin.pull(&server, ClientOptions { hosts, ..with_password() }).unwrap();
    let mut asked = server.requests();
    asked.retain(|request| request.header("authorization") == Some(BASIC));
    assert!(asked.iter().any(|request| request.path.starts_with("/v2/cache/repo/")), "{asked:?}");
}

#[test]
fn another_location_of_a_registry_gets_its_own_password() {
    common::need_root!();
    let origin = origin("moved");
    for kept in [true, false] {
        let (content, named) = (origin.content(), Server::start(|_| Response::new(404, "")));
        let inner = Server::start(guarded(Asks::Basic, move |request: &Request| honest(&content, request)));
        let conf = format!("[[registry]]\nprefix = '{}'\nlocation = '{}'\n", named.address, inner.address);
        let hosts = Hosts { registries: Registries::parse(&conf).unwrap(), ..Hosts::default() };
        let file = origin.place.path().join("auth.json");
        let entry =
            |host: &str, password: &str| format!(r#""{host}":{{"username":"user","password":"{password}"}}"#);
        let inner_entry = if kept { entry(&inner.address, "secret") } else { r#""x":{}"#.to_owned() };
        let auths = [entry(&named.address, "other"), inner_entry].join(",");
        std::fs::write(&file, format!(r#"{{"auths":{{{auths}}}}}"#)).unwrap();
        for fixed in [None, Some(Credential::Password("user".into(), "secret".into()))] {
            let credentials = Credentials { fixed, files: vec![file.clone()] };
            let pulled = origin.pull(&named, ClientOptions { hosts: hosts.clone(), credentials, ..quick() });
            assert_eq!(pulled.is_ok(), kept, "{:?}", pulled.err());
        }
        let requests = inner.requests();
        let told = requests.iter().filter_map(|request| request.header("authorization"));
        let wanted = if kept { Some(BASIC) } else { None };
        assert!(told.map(Some).all(|told| told == wanted), "{requests:?}");
    }
}

/// In all spellings of the address.
#[test]
fn a_remote_registry_gets_no_token_from_this_machine() {
    let Some(address) = outer_address() else { return };
    for host in ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0", "localhost", "127.0.0.1"] {
        let tokens = Server::start(|_| Response::new(200, r#"{"token":"good"}"#));
        let port = tokens.address.rsplit(':').next().unwrap().to_owned();
        let registry = Server::start_at(&address, move |_| {
            let challenge = format!(r#"Bearer realm="http://{host}:{port}/t",service="x""#);
            Response::new(401, "").header("www-authenticate", challenge)
        });
        let hosts = Hosts { insecure: vec![registry.address.clone()], ..Hosts::default() };
        let repository = Reference::parse_untagged(&format!("{}/repo", registry.address)).unwrap();
        for options in [with_password(), quick()] {
            let error = Client::new(ClientOptions { hosts: hosts.clone(), ..options }).tags(&repository);
            let error = error.unwrap_err();
            assert!(tokens.requests().is_empty(), "{host}: {error}");
            assert_eq!(error.kind(), ErrorKind::Denied, "{host}: {error}");
            assert!(error.to_string().contains("on this machine"), "{host}: {error}");
        }
    }
}

#[test]
fn a_token_is_requested_over_plain_http_only_without_a_password() {
    let Some(address) = outer_address() else { return };
    let tokens = Server::start_at(&address, |_| Response::new(200, r#"{"token":"good"}"#));
    let realm = format!("http://{}/token", tokens.address);
    let registry = Server::start(move |request| match request.header("authorization") {
        Some("Bearer good") => Response::new(200, r#"{"tags":["1"]}"#),
        _ => Response::new(401, "").header("www-authenticate", format!(r#"Bearer realm="{realm}""#)),
    });
    let repository = Reference::parse_untagged(&format!("{}/repo", registry.address)).unwrap();
    let error = Client::new(with_password()).tags(&repository).unwrap_err();
    assert_eq!((error.kind(), tokens.requests().len()), (ErrorKind::Denied, 0), "{error}");
    assert_eq!(Client::new(quick()).tags(&repository).unwrap(), ["1"]);
}

#[test]
fn messages_of_servers_are_shown_without_credentials_and_control_characters() {
    for asks in [Asks::Basic, Asks::Bearer] {
        let server = Server::start(guarded(asks, |request: &Request| {
            let told = request.header("authorization").unwrap_or_default();
            let message = format!("you said {told}, user:secret\\u001b[2J\\u009b31m\\r\\n");
            Response::new(403, format!(r#"{{"errors":[{{"code":"NO","message":"{message}"}}]}}"#))
        }));
        let repository = Reference::parse_untagged(&format!("{}/repo", server.address)).unwrap();
        let error = Client::new(with_password()).tags(&repository).unwrap_err().to_string();
        assert!(error.contains("NO you said") && error.contains("\\u{1b}[2J\\u{9b}31m\\r\\n"), "{error}");
        assert!(!error.contains("good") && !error.contains(&BASIC[6..]), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn a_malformed_token_response_is_not_shown() {
    let server = Server::start(|request| match request.path.split('?').next() {
        Some("/token") => Response::new(200, r#""SECRETTOKEN""#),
        _ => {
            let realm = format!("http://{}/token", request.header("host").unwrap());
            Response::new(401, "").header("www-authenticate", format!(r#"Bearer realm="{realm}""#))
        }
    });
    let repository = Reference::parse_untagged(&format!("{}/repo", server.address)).unwrap();
    let error = Client::new(quick()).tags(&repository).unwrap_err().to_string();
    assert!(!error.contains("SECRETTOKEN") && error.contains("line 1 column"), "{error}");
}

#[test]
fn only_the_registry_itself_can_accept_a_login() {
    let other = Server::start(|_| Response::new(200, "{}"));
    for (location, succeeds) in
        [(format!("http://{}/v2/", other.address), false), ("/other".to_owned(), true)]
    {
        let server = Server::start(move |request| match request.path.as_str() {
            "/v2/" => Response::new(307, "").header("location", location.clone()),
            _ => guarded(Asks::Basic, |_: &Request| Response::new(200, "{}"))(request),
        });
        let login = Client::new(with_password()).login(&server.address);
        assert_eq!(login.is_ok(), succeeds, "{login:?}");
        if let Err(error) = login {
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
            assert!(error.to_string().contains(&other.address), "{error}");
        }
    }
}
