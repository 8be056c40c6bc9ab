//! An HTTP server in a thread, with a closure from request to response.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

pub enum Body {
    Whole(Vec<u8>),
    /// Announces this length, sends these bytes, closes the connection.
    Cut(Vec<u8>, usize),
    /// Sends chunks until the client closes the connection.
    Endless,
}

pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

impl Response {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: Body::Whole(body.into()) }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

type Handler = dyn Fn(&Request) -> Response + Send + Sync;

pub struct Server {
    pub address: String,
    pub log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Listens on a free port of the loopback interface while the test runs.
    pub fn start(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        Self::listen("127.0.0.1", None, handler)
    }

    /// The same on an address of this machine.
    pub fn start_at(address: &str, handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        Self::listen(address, None, handler)
    }

    /// The same with TLS, with the [`certificate`] in this directory.
    pub fn start_tls(
        directory: &Path,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        let chain = vec![CertificateDer::from_pem_file(directory.join("ca.crt")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(directory.join("server.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Self::listen("127.0.0.1", Some(Arc::new(config)), handler)
    }

    fn listen(
        address: &str,
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let seen = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, seen, tls) = (handler.clone(), seen.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        serve(StreamOwned::new(connection, stream), &*handler, &seen);
                    }
                    None => serve(stream, &*handler, &seen),
                });
            }
        });
        Self { address, log }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }
}

/// An address of this machine that is neither loopback nor link-local; prints a message if there is none.
pub fn outer_address() -> Option<String> {
    // Nothing is sent: this only determines the address that would be used.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let address = socket.connect("198.51.100.1:9").and_then(|()| socket.local_addr()).ok().map(|a| a.ip());
    let outer = address.filter(|ip| matches!(ip, IpAddr::V4(v4) if !v4.is_loopback() && !v4.is_link_local()));
    if outer.is_none() {
        eprintln!("skipped: needs an address that is not on the loopback");
    }
    outer.map(|ip| ip.to_string())
}

/// Creates a certificate for the loopback interface and its key in a directory. `false`: openssl(1) is missing.
pub fn certificate(directory: &Path) -> bool {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    command.args(["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]);
    command.arg("-keyout").arg(directory.join("server.pem")).arg("-out").arg(directory.join("ca.crt"));
    match command.stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) => {
            assert!(status.success(), "openssl req: {status}");
            true
        }
        Err(_) => {
            eprintln!("skipped: needs openssl");
            false
        }
    }
}

fn serve<S: Read + Write>(stream: S, handler: &Handler, seen: &Mutex<Vec<Request>>) {
    let mut input = BufReader::new(stream);
    while let Some(request) = read_request(&mut input) {
        seen.lock().unwrap().push(request.clone());
        let response = handler(&request);
        if !write_response(input.get_mut(), &request, response) {
            return;
        }
    }
}

/// Reads a request; `None` at the end, and if it is not HTTP: the connection of a client that tries TLS is closed.
fn read_request<S: Read>(input: &mut BufReader<S>) -> Option<Request> {
    let mut line = Vec::new();
    input.by_ref().take(8192).read_until(b'\n', &mut line).ok()?;
    let line = String::from_utf8(line).ok()?;
    let mut words = line.split_whitespace();
    let mut request =
        Request { method: words.next()?.into(), path: words.next()?.into(), ..Request::default() };
    if !words.next()?.starts_with("HTTP/1") {
        return None;
    }
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        request.headers.push((name.trim().into(), value.trim().into()));
    }
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body = vec![0; length];
    input.read_exact(&mut request.body).ok()?;
    Some(request)
}

/// `false`: close the connection.
fn write_response<S: Write>(stream: &mut S, request: &Request, response: Response) -> bool {
    let mut head = format!("HTTP/1.1 {} Test\r\n", response.status);
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match response.body {
        Body::Whole(body) => {
            if !response.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
                head.push_str(&format!("content-length: {}\r\n", body.len()));
            }
            head.push_str("\r\n");
            let body = if request.method == "HEAD" { &[][..] } else { &body };
            stream.write_all(head.as_bytes()).is_ok() && stream.write_all(body).is_ok()
        }
        Body::Cut(bytes, announced) => {
            head.push_str(&format!("content-length: {announced}\r\n\r\n"));
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes));
            false
        }
        Body::Endless => {
            head.push_str("transfer-encoding: chunked\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
            let piece = [b"1000\r\n".as_slice(), &[b'x'; 4096], b"\r\n"].concat();
            while stream.write_all(&piece).is_ok() {}
            false
        }
    }
}
