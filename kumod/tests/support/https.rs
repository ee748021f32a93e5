//! An HTTPS server on loopback that gives every question the answer that the test put in, and counts the questions.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::PATIENCE;

pub(crate) struct Https {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<ServerConfig>,
    answer: Mutex<String>,
    asked: Mutex<Vec<String>>,
}

impl Https {
    pub(crate) fn start(config: Arc<ServerConfig>, answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { config, answer: Mutex::new(answer), asked: Mutex::default() });
        let all = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&all);
                // A client that does not like the certificate hangs up.
                thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Self { address, shared }
    }

    /// Answers otherwise from now on.
    pub(crate) fn change(&self, answer: String) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// What it was asked: `GET PATH HOST`, for each question.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }
}

/// An answer with this status line, type and body.
pub(crate) fn answer(status: &str, content_type: &str, body: &str) -> String {
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n", body.len());
    format!("{head}Connection: close\r\n\r\n{body}")
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let connection = ServerConnection::new(Arc::clone(&shared.config)).unwrap();
    let mut wire = BufReader::new(StreamOwned::new(connection, stream));
    let (mut line, mut first, mut host) = (String::new(), String::new(), String::new());
    while wire.read_line(&mut line)? > 2 {
        if first.is_empty() {
            first = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("host:") {
            host = value.trim().to_owned();
        }
        line.clear();
    }
    shared.asked.lock().unwrap().push(format!("{first} {host}"));
    let answer = shared.answer.lock().unwrap().clone();
    wire.get_mut().write_all(answer.as_bytes())?;
    wire.get_mut().conn.send_close_notify();
    wire.get_mut().flush()
}
