//! The client against registries that give no answer, a slow one, only a part of it, or ask to wait.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::registry::{honest, origin, quick};
use common::server::{Body, Response, Server};
use image_store::registry::{Client, ClientOptions, Hosts, Mirror};
use image_store::{ErrorKind, Reference};

/// A registry that responds to `/v2/` only; it says nothing to other requests, or closes the connection. Returns its address and the
/// number of those requests.
fn without_answers(silent: bool) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            if request[..length].starts_with(b"GET /v2/ ") {
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            } else if request[..length].starts_with(b"GET ") {
                count.fetch_add(1, Ordering::SeqCst);
                open.extend(silent.then_some(stream));
            }
        }
    });
    (address, asked)
}

#[test]
fn a_mirror_that_gives_no_answer_is_asked_once() {
    common::need_root!();
    let origin = origin("silent");
    for silent in [true, false] {
        let content = origin.content();
        let server = Server::start(move |request| honest(&content, request));
        let (location, asked) = without_answers(silent);
        let mirrors = vec![(server.address.clone(), vec![Mirror { location, insecure: false }])];
        let hosts = Hosts { mirrors, ..Hosts::default() };
        let options = ClientOptions { hosts, silence: Duration::from_millis(500), ..quick() };
        origin.pull(&server, options).unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 1, "silent: {silent}");
    }
}

/// There is no other to ask.
#[test]
fn a_registry_that_gives_no_answer_is_asked_again() {
    let (address, asked) = without_answers(false);
    let reference = Reference::parse(&format!("{address}/repo")).unwrap();
    let error = Client::new(quick()).find(&reference).map(drop).unwrap_err();
    assert_eq!((error.kind(), asked.load(Ordering::SeqCst)), (ErrorKind::Network, 5), "{error}");
    assert!(error.to_string().ends_with("the connection was closed before there was a response"), "{error}");
}

/// A registry that responds to all but `/v2/` with this head and then with spaces, one at a time, for twenty seconds at most. Returns its
/// address, and whether it has sent them all.
fn dripping(head: &'static str) -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, complete) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicBool::new(false)));
    let sent = complete.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            if request[..length].starts_with(b"GET /v2/ ") {
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            } else if request[..length].starts_with(b"GET ") {
                let _ = stream.write_all(head.as_bytes());
                for _ in 0..400 {
                    std::thread::sleep(Duration::from_millis(50));
                    let _ = stream.write_all(b"0");
                }
                sent.store(true, Ordering::SeqCst);
            }
        }
    });
    (address, complete)
}

#[test]
fn an_error_does_not_wait_for_a_text_that_comes_slowly() {
    for head in [
        "HTTP/1.1 404 Not Found\r\ncontent-length: 1000\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n",
        // The size of the first chunk.
        "HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        let (address, complete) = dripping(head);
        let reference = Reference::parse(&format!("{address}/repo")).unwrap();
        let options = ClientOptions { silence: Duration::from_millis(500), ..quick() };
        let error = Client::new(options).find(&reference).map(drop).unwrap_err();
        assert!(!complete.load(Ordering::SeqCst), "{head}");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().ends_with("no such image or tag in the registry (HTTP 404)"), "{error}");
    }
}

#[test]
fn a_response_that_is_cut_off_says_so() {
    common::need_root!();
    let origin = origin("cut");
    for which in ["manifests/latest".to_owned(), origin.layer(), format!("blobs/{}", origin.record.id)] {
        let content = origin.content();
        let cut = which.clone();
        let server = Server::start(move |request| {
            let response = honest(&content, request);
            match response.body {
                Body::Whole(bytes) if request.path.ends_with(&cut) => {
                    Response { body: Body::Cut(Vec::new(), bytes.len()), ..response }
                }
                body => Response { body, ..response },
            }
        });
        let error = origin.pull(&server, quick()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "{error}");
        let text = "the connection was closed before the response was complete";
        assert!(error.to_string().ends_with(text), "{which}: {error}");
    }
}

/// The pauses that a registry asked for, as the client tells them.
static WAITS: Mutex<Vec<(String, Duration)>> = Mutex::new(Vec::new());

#[test]
fn the_first_pause_that_a_registry_asks_for_is_told() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        let pauses = ["0", "1", "1"];
        match pauses.get(count.fetch_add(usize::from(request.path != "/v2/"), Ordering::Relaxed)) {
            Some(pause) if request.path != "/v2/" => Response::new(429, "").header("retry-after", *pause),
            _ => Response::new(404, ""),
        }
    });
    let reference = Reference::parse(&format!("{}/repo", server.address)).unwrap();
    let waiting = |host: &str, time| WAITS.lock().unwrap().push((host.to_owned(), time));
    let error = Client::new(ClientOptions { waiting, ..quick() }).find(&reference).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(*WAITS.lock().unwrap(), [(server.address.clone(), Duration::from_secs(1))]);
}
