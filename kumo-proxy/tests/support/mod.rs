//! What the tests share: a proxy on a free port, a client that says what it is told, and somebody to reach.
//!
//! Every wait ends with what it waits for, or with a panic when that has not come within [`PATIENCE`], which no healthy run gets near.

#![allow(dead_code, reason = "each test program uses its part")]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kumo_proxy::metrics::Metrics;
use kumo_proxy::options::{Limits, Options};
use kumo_proxy::rules::Rules;
use kumo_proxy::server::{Server, Stopping};
use tokio::sync::watch;

/// After this a wait has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that tells nobody when it changes.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Looks until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::park_timeout(LOOK_INTERVAL);
    }
}

/// A proxy that serves this host and lets it reach `port` here.
pub(crate) fn options(port: u16) -> Options {
    Options {
        listen: vec![([127, 0, 0, 1], 0).into()],
        http_listen: Some(([127, 0, 0, 1], 0).into()),
        rules: Rules {
            clients: vec!["127.0.0.0/8".parse().unwrap()],
            destinations: vec!["127.0.0.0/8".parse().unwrap()],
            ports: vec![port],
            ..Rules::default()
        },
        limits: Limits {
            connections_max: 100,
            connections_per_client_max: 100,
            handshake: PATIENCE,
            connect: PATIENCE,
            idle: PATIENCE,
            drain: PATIENCE,
        },
        splices: true,
        tls: None,
    }
}

/// A proxy that runs until this is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    running: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn start(options: Options) -> Self {
        let server = Server::bind(options).unwrap();
        let (address, http) = (server.addresses()[0], server.http_address().unwrap());
        let metrics = server.metrics();
        let (stop, stopping) = Stopping::new();
        let running = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(server.run(stopping)).unwrap();
            runtime.shutdown_background();
        });
        Self { address, http, metrics, stop, running: Some(running) }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Tells it to stop, and does not wait.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until it has stopped.
    pub(crate) fn join(mut self) {
        self.stop();
        self.running.take().unwrap().join().unwrap();
    }

    /// Status and text of an HTTP answer.
    pub(crate) fn get(&self, path: &str) -> (String, String) {
        get(self.http, path)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: proxy.test\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A client of SOCKS5, over whatever stream.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { stream: connect(address) }
    }

    pub(crate) fn end_writing(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    pub(crate) fn hear(&mut self, bytes: usize) -> Vec<u8> {
        let mut heard = vec![0; bytes];
        self.stream.read_exact(&mut heard).unwrap();
        heard
    }

    /// Whether the proxy has closed without another word.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut one = [0];
        // A connection that was closed with something unread in it is reset.
        match self.stream.read(&mut one) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// Without a password.
    pub(crate) fn greet(&mut self) {
        self.say(&[5, 1, 0]);
        assert_eq!(self.hear(2), [5, 0]);
    }

    /// A request for an address, and the number of its answer.
    pub(crate) fn ask(&mut self, command: u8, address: SocketAddr) -> u8 {
        let IpAddr::V4(ip) = address.ip() else { panic!("{address}") };
        let [high, low] = address.port().to_be_bytes();
        self.say(&[&[5, command, 0, 1][..], &ip.octets(), &[high, low]].concat());
        self.answer()
    }

    /// The number of an answer that holds an IPv4 address.
    pub(crate) fn answer(&mut self) -> u8 {
        let answer = self.hear(10);
        assert_eq!((answer[0], answer[2], answer[3]), (5, 0, 1), "{answer:?}");
        answer[1]
    }

    pub(crate) fn connect(&mut self, address: SocketAddr) {
        self.greet();
        assert_eq!(self.ask(1, address), 0);
    }

    pub(crate) fn bind(&mut self, ip: Ipv4Addr) -> u8 {
        self.ask(2, (ip, 0).into())
    }
}

/// Somebody who takes one connection after the other and says back what it hears, until the client has ended.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
}

impl Echo {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || echo(stream.unwrap()));
            }
        });
        Self { address }
    }
}

/// First who the client is, in a line, then what it says.
fn echo(mut stream: TcpStream) {
    let peer = stream.peer_addr().unwrap().ip();
    let mut buffer = vec![0; 64 << 10];
    if writeln!(stream, "{peer}").is_err() {
        return;
    }
    while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..bytes]).is_err() {
            return;
        }
    }
}

/// Reads the line that says who one is.
pub(crate) fn own_address<S: Read + Write>(client: &mut Client<S>) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.extend(client.hear(1));
    }
    String::from_utf8(line).unwrap().trim().to_owned()
}
