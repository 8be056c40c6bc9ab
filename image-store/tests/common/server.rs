//! A registry in a thread that says whatever a test wants it to: one closure from request to response.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

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
    /// Announces so many bytes, sends these, hangs up.
    Cut(Vec<u8>, usize),
    /// Never ends: chunks until the other side has enough.
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
    /// Listens on a free port of the loopback for as long as the test runs.
    pub fn start(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let seen = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, seen) = (handler.clone(), seen.clone());
                std::thread::spawn(move || serve(&stream, &*handler, &seen));
            }
        });
        Self { address, log }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }
}

fn serve(stream: &TcpStream, handler: &Handler, seen: &Mutex<Vec<Request>>) {
    let mut input = BufReader::new(stream);
    while let Some(request) = read_request(&mut input) {
        seen.lock().unwrap().push(request.clone());
        let response = handler(&request);
        if !write_response(stream, &request, response) {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// `None` at the end, and for what is no HTTP: a client that tries TLS first gets hung up on.
fn read_request(input: &mut BufReader<&TcpStream>) -> Option<Request> {
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

/// `false`: the connection is to be closed.
fn write_response(mut stream: &TcpStream, request: &Request, response: Response) -> bool {
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
