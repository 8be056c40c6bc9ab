//! The client behind proxies.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use common::registry::quick;
use common::server::{Response, Server};
use image_store::registry::{Client, ClientOptions, Hosts, Proxies};
use image_store::{ErrorKind, Reference};

/// A proxy that connects to `target`, whatever it is asked for, and notes that. Without a target it refuses.
fn proxy(target: Option<String>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (listener.local_addr().unwrap().to_string(), Arc::new(Mutex::new(Vec::new())));
    let log = asked.clone();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|count| count == 1) {
                request.push(byte[0]);
            }
            let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
            log.lock().unwrap().push(line);
            let Some(mut server) = target.as_ref().map(|target| TcpStream::connect(target).unwrap()) else {
                let _ = client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
                continue;
            };
            let _ = client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n");
            let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut up, &mut down);
                let _ = down.shutdown(std::net::Shutdown::Write);
            });
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut server, &mut client);
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (address, asked)
}

fn client(proxy: &str, exceptions: &str, registry: &str) -> Client {
    let value = |name: &str| match name {
        "HTTP_PROXY" | "HTTPS_PROXY" => Some(format!("http://user:secret@{proxy}")),
        "NO_PROXY" => Some(exceptions.to_owned()),
        _ => None,
    };
    let hosts = Hosts { insecure: vec![registry.to_owned()], ..Hosts::default() };
    Client::new(ClientOptions { proxies: Proxies::from_variables(value), hosts, ..quick() })
}

fn tags(client: &Client, registry: &str) -> image_store::Result<Vec<String>> {
    client.tags(&Reference::parse_untagged(&format!("{registry}/repo")).unwrap())
}

fn registry() -> Server {
    Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, ""),
        _ => Response::new(200, r#"{"tags":["1"]}"#),
    })
}

#[test]
fn a_registry_on_this_machine_is_asked_directly_and_others_through_the_proxy() {
    let server = registry();
    let (proxy, asked) = proxy(Some(server.address.clone()));
    let port = server.address.rsplit(':').next().unwrap();
    for host in [server.address.clone(), format!("localhost:{port}")] {
        assert_eq!(tags(&client(&proxy, "", &host), &host).unwrap(), ["1"], "{host}");
        assert!(asked.lock().unwrap().is_empty(), "{host}: {asked:?}");
    }
    let host = "registry.test:5000";
    assert_eq!(tags(&client(&proxy, "other.test", host), host).unwrap(), ["1"]);
    let asked = asked.lock().unwrap();
    assert!(
        !asked.is_empty() && asked.iter().all(|line| line == "CONNECT registry.test:5000 HTTP/1.1"),
        "{asked:?}"
    );
}

#[test]
fn a_message_names_the_proxy_and_not_its_password() {
    // Ports below 1024 are not used by tests.
    let refused = "127.0.0.1:1".to_owned();
    let (forbidding, _) = proxy(None);
    let host = "registry.test";
    for proxy in [refused, forbidding] {
        let error = tags(&client(&proxy, "", host), host).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Network, "{text}");
        assert!(text.contains(&format!("through the proxy http://{proxy} (HTTPS_PROXY): ")), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
    let unusable = Proxies::from_variables(|name| (name == "HTTPS_PROXY").then(|| "socks5://p".to_owned()));
    let error = tags(&Client::new(ClientOptions { proxies: unusable, ..quick() }), host).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("HTTPS_PROXY \"socks5://p\""), "{error}");
}
