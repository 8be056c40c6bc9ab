//! The HTTP layer: a registry responds to every request with the input. The client must return without a panic.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use image_store::registry::{Client, ClientOptions, Credential, Credentials};
use image_store::{Reference, registry};

static INPUT: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static CLIENT: OnceLock<(registry::Client, Reference)> = OnceLock::new();

fn start() -> (registry::Client, Reference) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            if request[..length].starts_with(b"GET /v2/ ") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            } else if request[..length].starts_with(b"GET") {
                let _ = stream.write_all(&INPUT.lock().unwrap());
            }
        }
    });
    let fixed = Some(Credential::Password("user".into(), "secret".into()));
    let client = Client::new(ClientOptions {
        credentials: Credentials { fixed, files: vec![] },
        pause: Duration::ZERO,
        ..ClientOptions::default()
    });
    (client, Reference::parse(&format!("{address}/repo")).unwrap())
}

/// Tests one input.
pub(crate) fn run(bytes: &[u8]) {
    let (client, reference) = CLIENT.get_or_init(start);
    *INPUT.lock().unwrap() = [b"HTTP/1.1 ", bytes].concat();
    let _ = client.find(reference);
    let _ = client.tags(reference);
}
