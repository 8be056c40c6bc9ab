//! The client against test registries, most of them malicious.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::registry::{Uploads, honest, origin, quick, with_password, with_tokens};
use common::server::{Body, Response, Server};
use image_store::manifest::Descriptor;
use image_store::platform::Platform;
use image_store::registry::{Client, ClientOptions, Hosts, Mirror};
use image_store::store::{Progress, Quiet, Step};
use image_store::{Digest, ErrorKind, Reference, Store, StoreOptions};

#[test]
fn an_image_is_pulled_and_missing_ones_are_not_found() {
    common::need_root!();
    let origin = origin("plain");
    let content = origin.content();
    let server = Server::start(move |request| honest(&content, request));
    let pulled = origin.pull(&server, quick()).unwrap();
    assert_eq!((pulled.id, pulled.manifest), (origin.record.id.clone(), origin.record.manifest.clone()));
    let missing = Reference::parse(&format!("{}/nothing:1", server.address)).unwrap();
    let error = Client::new(quick()).find(&missing).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("NAME_UNKNOWN unknown (HTTP 404)"), "{error}");
}

/// Notes that the store waits for another process.
struct Waits<'a>(&'a AtomicBool);

impl Progress for Waits<'_> {
    fn step(&self, _: &Descriptor, step: Step) {
        self.0.fetch_or(step == Step::Waiting, Ordering::SeqCst);
    }
}

#[test]
fn a_layer_that_another_process_fetches_is_waited_for() {
    common::need_root!();
    let origin = origin("both");
    let (content, layer) = (origin.content(), origin.layer());
    let waits = Arc::new(AtomicBool::new(false));
    let (asked, waited) = (layer.clone(), waits.clone());
    let server = Server::start(move |request| {
        // No data is sent before both have started.
        for _ in 0..6000 {
            if waited.load(Ordering::SeqCst) || !request.path.ends_with(&asked) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        honest(&content, request)
    });
    let reference = Reference::parse(&format!("{}/repo", server.address)).unwrap();
    let pull = || {
        let store = Store::open(origin.place.path().join("shared"), StoreOptions::default()).unwrap();
        let client = Client::new(quick());
        let image = client.find(&reference).unwrap();
        let names = std::slice::from_ref(&reference);
        store.ingest(&image, &image.descriptor, &Platform::host(), names, &Waits(&waits)).unwrap();
    };
    std::thread::scope(|scope| [(); 2].map(|()| scope.spawn(pull)).map(|puller| puller.join().unwrap()));
    assert!(waits.load(Ordering::SeqCst));
    assert_eq!(server.requests().iter().filter(|request| request.path.ends_with(&layer)).count(), 1);
}

#[test]
fn wrong_digests_sizes_and_types_are_refused() {
    common::need_root!();
    let origin = origin("wrong");
    let layer = origin.layer();
    type Lie = Box<dyn Fn(&str, Response) -> Response + Send + Sync>;
    let body = |response: &Response| match &response.body {
        Body::Whole(bytes) => bytes.clone(),
        _ => Vec::new(),
    };
    let change = |which: String, change: fn(Vec<u8>) -> Vec<u8>| -> Lie {
        Box::new(move |path, mut response| {
            if path.ends_with(&which) {
                response.body = Body::Whole(change(body(&response)));
            }
            response
        })
    };
    let longer = |bytes: Vec<u8>| [bytes, vec![0]].concat();
    let shorter = |mut bytes: Vec<u8>| {
        bytes.pop();
        bytes
    };
    let flipped = |mut bytes: Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    let schema1 = |_: Vec<u8>| br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec();
    let both = |bytes: Vec<u8>| [&bytes[..bytes.len() - 1], br#","manifests":[]}"#].concat();
    let announced: Lie = Box::new(|path, response| {
        let wrong = Digest::of(b"something else").to_string();
        if path.contains("manifests") { response.header("docker-content-digest", wrong) } else { response }
    });
    let lies: Vec<(&str, Lie)> = vec![
        ("layer flipped", change(layer.clone(), flipped)),
        ("layer longer", change(layer.clone(), longer)),
        ("layer shorter", change(layer.clone(), shorter)),
        ("layer empty", change(layer.clone(), |_| Vec::new())),
        ("config flipped", change(format!("blobs/{}", origin.record.id), flipped)),
        ("manifest of schema 1", change("manifests/latest".into(), schema1)),
        ("manifest and index", change("manifests/latest".into(), both)),
        ("manifest no JSON", change("manifests/latest".into(), |_| b"<html>".to_vec())),
        ("manifest huge", change("manifests/latest".into(), |_| vec![b' '; 9 << 20])),
        ("announced digest wrong", announced),
    ];
    for (name, lie) in lies {
        let content = origin.content();
        let server = Server::start(move |request| lie(&request.path, honest(&content, request)));
        let error = origin.pull(&server, quick()).map(|_| ()).expect_err(name);
        let kind = error.kind();
        assert!(kind != ErrorKind::Network && kind != ErrorKind::Os, "{name}: {error:?}");
    }
}

#[test]
fn an_interrupted_download_is_resumed() {
    common::need_root!();
    let origin = origin("resume");
    let layer = origin.layer();
    for ranges in [true, false] {
        let (content, layer) = (origin.content(), layer.clone());
        let tries = AtomicUsize::new(0);
        let server = Server::start(move |request| {
            let response = honest(&content, request);
            if !request.path.ends_with(&layer) {
                return response;
            }
            let bytes = &content[&layer].1;
            let at = request
                .header("range")
                .and_then(|range| range[6..].trim_end_matches('-').parse().ok())
                .unwrap_or(0);
            let from = if ranges { at } else { 0 };
            // Each attempt gets another fifth.
            let to = bytes.len().min((tries.fetch_add(1, Ordering::Relaxed) + 1) * bytes.len() / 5);
            let mut response = Response::new(if from > 0 { 206 } else { 200 }, "");
            if from > 0 {
                response = response
                    .header("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()));
            }
            response.body = Body::Cut(bytes[from..to.max(from)].to_vec(), bytes.len() - from);
            response
        });
        origin.pull(&server, quick()).unwrap();
        let asked: Vec<_> =
            server.requests().iter().filter_map(|r| r.header("range").map(str::to_owned)).collect();
        assert_eq!(asked.len(), 4, "{asked:?}");
    }
}

#[test]
fn a_range_other_than_requested_is_refused() {
    common::need_root!();
    let origin = origin("range");
    let (content, layer) = (origin.content(), origin.layer());
    let server = Server::start(move |request| {
        let mut response = honest(&content, request);
        if request.path.ends_with(&layer) {
            let bytes = content[&layer].1.clone();
            response = match request.header("range") {
                None => Response { body: Body::Cut(bytes[..100].to_vec(), bytes.len()), ..response },
                Some(_) => Response::new(206, bytes.clone())
                    .header("content-range", format!("bytes 0-{}/*", bytes.len() - 1)),
            };
        }
        response
    });
    assert_eq!(origin.pull(&server, quick()).unwrap_err().kind(), ErrorKind::Mismatch);
}

#[test]
fn endless_bodies_end() {
    common::need_root!();
    let origin = origin("endless");
    for which in ["manifests/latest".to_owned(), origin.layer(), format!("blobs/{}", origin.record.id)] {
        let content = origin.content();
        let server = Server::start(move |request| {
            let response = honest(&content, request);
            if request.path.ends_with(&which) {
                Response { body: Body::Endless, ..response }
            } else {
                response
            }
        });
        let error = origin.pull(&server, quick()).unwrap_err();
        assert!(
            // It may turn out not to be a tar archive before it is too long.
            matches!(error.kind(), ErrorKind::Limit | ErrorKind::Mismatch | ErrorKind::Invalid),
            "{error:?}"
        );
    }
}

#[test]
fn only_temporary_failures_are_retried() {
    common::need_root!();
    let origin = origin("retry");
    for (status, passes) in [(500, true), (503, true), (429, true), (408, true), (403, false), (400, false)] {
        let content = origin.content();
        let count = AtomicUsize::new(0);
        let server = Server::start(move |request| {
            if request.path.contains("manifests") && count.fetch_add(1, Ordering::Relaxed) < 3 {
                return Response::new(status, "").header("retry-after", "0");
            }
            honest(&content, request)
        });
        assert_eq!(origin.pull(&server, quick()).is_ok(), passes, "{status}");
        let asked = server.requests().iter().filter(|request| request.path.contains("manifests")).count();
        assert_eq!(asked, if passes { 4 } else { 1 }, "{status}");
    }
}

#[test]
fn tokens_are_fetched_once_and_used() {
    common::need_root!();
    let origin = origin("token");
    let realm = Arc::new(Mutex::new(String::new()));
    let server = Server::start(with_tokens(origin.content(), realm.clone()));
    *realm.lock().unwrap() = format!("http://{}/token", server.address);
    origin.pull(&server, with_password()).unwrap();
    let tokens: Vec<_> =
        server.requests().into_iter().filter(|request| request.path.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1);
    assert!(
        tokens[0].path.contains("service=test") && tokens[0].path.contains("scope=repository:repo:pull"),
        "{tokens:?}"
    );
    assert_eq!(origin.pull(&server, quick()).unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn credentials_never_go_where_a_redirect_leads() {
    common::need_root!();
    let origin = origin("redirect");
    let (content, layer) = (origin.content(), origin.layer());
    let elsewhere_content = content.clone();
    let elsewhere = Server::start(move |request| honest(&elsewhere_content, request));
    let realm = Arc::new(Mutex::new(String::new()));
    let inner = with_tokens(content, realm.clone());
    let target = format!("http://{}/v2/repo/{layer}?signature=x", elsewhere.address);
    let server = Server::start(move |request| {
        if request.path.ends_with(&layer) && request.header("authorization").is_some() {
            return Response::new(307, "").header("location", target.clone());
        }
        inner(request)
    });
    *realm.lock().unwrap() = format!("http://{}/token", server.address);
    origin.pull(&server, with_password()).unwrap();
    let seen = elsewhere.requests();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].header("authorization").is_none(), "{seen:?}");
}

#[test]
fn redirects_end_and_lead_to_http_only() {
    common::need_root!();
    let origin = origin("loop");
    for location in
        ["/v2/repo/manifests/latest", "file:///etc/passwd", "ftp://127.0.0.1/", "http://u:p@127.0.0.1/", ""]
    {
        let server = Server::start(move |request| {
            if request.path == "/v2/" {
                Response::new(200, "")
            } else {
                Response::new(302, "").header("location", location)
            }
        });
        let error = origin.pull(&server, quick()).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Limit | ErrorKind::Invalid | ErrorKind::Denied),
            "{location}: {error:?}"
        );
    }
}

#[test]
fn tricks_with_tokens_end_in_errors() {
    common::need_root!();
    let origin = origin("tricks");
    for (token, status) in [
        (r#"{"token":"a\r\nx-evil: 1"}"#.to_owned(), 200),
        (r#"{"token":""}"#.to_owned(), 200),
        ("{}".to_owned(), 200),
        ("nonsense".to_owned(), 200),
        (" ".repeat(1 << 20), 200),
        ("{}".to_owned(), 302),
        (r#"{"token":"never accepted"}"#.to_owned(), 200),
    ] {
        let name = token.chars().take(40).collect::<String>();
        let server = Server::start(move |request| {
            if request.path.starts_with("/token") {
                return Response::new(status, token.clone()).header("location", "http://127.0.0.1:1/");
            }
            if request.path == "/v2/" {
                return Response::new(200, "");
            }
            let realm = format!("http://{}/token", request.header("host").unwrap());
            Response::new(401, "").header("www-authenticate", format!(r#"Bearer realm="{realm}""#))
        });
        assert!(origin.pull(&server, with_password()).is_err(), "{name}");
        assert!(server.requests().len() < 20, "{name}: {}", server.requests().len());
    }
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_when_it_fails() {
    common::need_root!();
    let origin = origin("mirror");
    for works in [true, false] {
        let (first, second) = (origin.content(), origin.content());
        let mirror = Server::start(move |request| {
            if works || request.path == "/v2/" { honest(&first, request) } else { Response::new(404, "") }
        });
        let server = Server::start(move |request| honest(&second, request));
        let location = mirror.address.clone();
        let mirrors = vec![(server.address.clone(), vec![Mirror { location, insecure: false }])];
        let options = ClientOptions { hosts: Hosts { mirrors, ..Hosts::default() }, ..quick() };
        origin.pull(&server, options).unwrap();
        assert!(
            mirror.requests().iter().any(|request| request.path.contains(&format!("ns={}", server.address)))
        );
        assert_eq!(server.requests().is_empty(), works);
    }
}

#[test]
fn uploads_work_whole_in_pieces_and_after_a_failure() {
    common::need_root!();
    let origin = origin("push");
    for (chunk, fail_at) in
        [(None, usize::MAX), (Some(100_000), usize::MAX), (Some(100_000), 300), (Some(1 << 30), usize::MAX)]
    {
        let uploads = Arc::new(Uploads { fail_at: AtomicUsize::new(fail_at), ..Uploads::default() });
        let handler = uploads.clone();
        let server = Server::start(move |request| handler.handle(request));
        let target = Reference::parse(&format!("{}/repo", server.address)).unwrap();
        let client = Client::new(ClientOptions { chunk, ..quick() });
        client.push(&origin.store, &origin.record, &target, &Quiet).unwrap();
        let pulled = origin.pull(&server, quick()).unwrap();
        assert_eq!((pulled.id, pulled.manifest), (origin.record.id.clone(), origin.record.manifest.clone()));
        // Everything exists now: nothing is uploaded twice.
        let before = server.requests().len();
        client.push(&origin.store, &origin.record, &target, &Quiet).unwrap();
        assert!(server.requests()[before..].iter().all(|request| request.method != "POST"));
    }
}

#[test]
fn a_blob_of_another_repository_is_mounted() {
    common::need_root!();
    let origin = origin("mount");
    let uploads = Uploads { mount: true, ..Uploads::default() };
    let server = Server::start(move |request| uploads.handle(request));
    let other = Reference::parse(&format!("{}/other:1", server.address)).unwrap();
    let record = origin.store.tag(&origin.record, &other).unwrap();
    let target = Reference::parse(&format!("{}/repo", server.address)).unwrap();
    Client::new(quick()).push(&origin.store, &record, &target, &Quiet).unwrap();
    let posts: Vec<_> = server.requests().into_iter().filter(|request| request.method == "POST").collect();
    assert!(posts.len() == 2 && posts.iter().all(|post| post.path.contains("from=other")), "{posts:?}");
}

#[test]
fn an_empty_digest_in_an_answer_is_absent() {
    common::need_root!();
    let origin = origin("no-digest");
    let uploads = Uploads::default();
    let server = Server::start(move |request| {
        let response = uploads.handle(request);
        if request.path.contains("/manifests/") {
            response.header("docker-content-digest", "")
        } else {
            response
        }
    });
    let target = Reference::parse(&format!("{}/repo", server.address)).unwrap();
    Client::new(quick()).push(&origin.store, &origin.record, &target, &Quiet).unwrap();
    assert_eq!(origin.pull(&server, quick()).unwrap().id, origin.record.id);
}

/// Registries, and proxies before them, may answer the request for a mount with anything.
#[test]
fn a_blob_that_is_not_mounted_is_uploaded() {
    common::need_root!();
    let origin = origin("no-mount");
    for status in [200, 202, 204, 400, 401, 403, 404, 405, 415, 429, 500, 501, 503] {
        let uploads = Arc::new(Uploads::default());
        let handler = uploads.clone();
        let server = Server::start(move |request| {
            if request.path.contains("mount=") { Response::new(status, "") } else { handler.handle(request) }
        });
        let other = Reference::parse(&format!("{}/other:1", server.address)).unwrap();
        let record = origin.store.tag(&origin.record, &other).unwrap();
        let target = Reference::parse(&format!("{}/repo", server.address)).unwrap();
        let pushed = Client::new(quick()).push(&origin.store, &record, &target, &Quiet);
        pushed.unwrap_or_else(|error| panic!("{status}: {error}"));
        let mounts = server.requests().iter().filter(|request| request.path.contains("mount=")).count();
        assert_eq!(mounts, 2, "{status}: once for each blob");
        assert_eq!(origin.pull(&server, quick()).unwrap().id, record.id, "{status}");
    }
}

#[test]
fn lists_follow_pages_within_the_registry() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, ""),
        "/v2/repo/tags/list" => Response::new(200, r#"{"tags":["1","2"]}"#)
            .header("link", r#"</v2/repo/tags/list?last=2>; rel="next""#),
        "/v2/repo/tags/list?last=2" => Response::new(200, r#"{"tags":["3"]}"#)
            .header("link", r#"</v2/repo/tags/list?last=2>; rel="next""#),
        "/v2/_catalog" => Response::new(200, r#"{"repositories":["a/one","b/two"]}"#),
        _ => Response::new(404, ""),
    });
    let client = Client::new(quick());
    let repository = Reference::parse_untagged(&format!("{}/repo", server.address)).unwrap();
    assert_eq!(client.tags(&repository).unwrap(), ["1", "2", "3"]);
    let found = client.search(&format!("{}/two", server.address), 10).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, format!("{}/b/two", server.address));
}

/// Part of a list must not look like all of it.
#[test]
fn a_list_that_goes_on_elsewhere_is_an_error() {
    for next in
        ["http://127.0.0.1:1/evil", "//127.0.0.1:1/evil", "https://127.0.0.1:1/evil", "ftp://127.0.0.1/"]
    {
        let server = Server::start(move |request| match request.path.as_str() {
            "/v2/" => Response::new(200, ""),
            "/v2/repo/tags/list" => {
                Response::new(200, r#"{"tags":["1"]}"#).header("link", format!(r#"<{next}>; rel="next""#))
            }
            _ => Response::new(404, ""),
        });
        let repository = Reference::parse_untagged(&format!("{}/repo", server.address)).unwrap();
        let error = Client::new(quick()).tags(&repository).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Denied | ErrorKind::Invalid), "{next}: {error:?}");
        assert!(error.to_string().contains("127.0.0.1"), "{next}: {error}");
        assert_eq!(server.requests().last().unwrap().path, "/v2/repo/tags/list", "{next}");
    }
}

/// A proxy that does TLS makes a registry refer to itself by plain http.
#[test]
fn a_list_over_tls_that_goes_on_without_is_an_error() {
    let place = common::Scratch::new("list-tls");
    if !common::server::certificate(place.path()) {
        return;
    }
    let server = Server::start_tls(place.path(), |request| match request.path.as_str() {
        "/v2/" => Response::new(200, ""),
        path => {
            let next = format!("<http://{}{path}?last=1>; rel=\"next\"", request.header("host").unwrap());
            Response::new(200, r#"{"tags":["1"]}"#).header("link", next)
        }
    });
    let certificates_for_all = vec![place.path().to_owned()];
    let hosts = Hosts { certificates_for_all, ..Hosts::default() };
    let repository = Reference::parse_untagged(&format!("{}/repo", server.address)).unwrap();
    let error = Client::new(ClientOptions { hosts, ..quick() }).tags(&repository).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("from https to http refused"), "{error}");
}

#[test]
fn search_uses_docker_hubs_endpoint() {
    let server = Server::start(|request| match request.path.split('?').next().unwrap() {
        "/v2/" => Response::new(200, ""),
        "/v1/search" => Response::new(
            200,
            r#"{"num_results":2,"results":[{"name":"busybox","description":"small","star_count":3,"is_official":true},{"name":"a/busybox","description":null}]}"#,
        ),
        _ => Response::new(404, ""),
    });
    let conf =
        format!("[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}\"\ninsecure = true\n", server.address);
    let registries = image_store::registry::Registries::parse(&conf).unwrap();
    let hosts = Hosts { registries, ..Hosts::default() };
    let found = Client::new(ClientOptions { hosts, ..quick() }).search("busy box", 7).unwrap();
    assert_eq!((found.len(), found[0].stars, found[0].official), (2, 3, true));
    assert_eq!((found[1].name.as_str(), &found[1].description), ("a/busybox", &None));
    let asked: Vec<_> = server.requests().into_iter().map(|request| request.path).collect();
    assert!(asked.contains(&"/v1/search?q=busy%20box&n=7".to_owned()), "{asked:?}");
}
