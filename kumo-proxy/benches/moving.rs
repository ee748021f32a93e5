//! How fast bytes go through the proxy, and what its processor time is per byte, against the same bytes without it.
//!
//! `cargo bench -p kumo-proxy` runs the program as it is installed, moves bytes over loopback in one direction, and then mails of 100 KB that
//! each wait for an answer, over several connections. The proxy's rate per core is bytes by its own processor time, so that it does not
//! depend on what else the machine does; the rates beside it do. Nothing is compared with a limit here: the numbers are for the reader.
#![expect(clippy::print_stdout, reason = "the numbers are what this program is for")]
#![allow(clippy::unwrap_used, reason = "a measurement that fails has no result")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bytes of one stream.
const STREAM_BYTES: u64 = 8 << 30;
/// Written and read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes of a mail, after each of which there is an answer.
const MAIL_BYTES: usize = 100 << 10;
/// Mails of one measurement, over all connections.
const MAILS: u64 = 40_000;
/// Connections that mails go over.
const CONNECTIONS: u64 = 8;
const ANSWER: &[u8] = b"250 2.0.0 Ok: queued as 1\r\n";

fn main() {
    // `cargo test --benches` only wants to know whether it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("{:<28} {:>10} {:>14} {:>16}", "stream", "GB/s", "GB/s per core", "of direct");
    let direct = stream(None);
    println!("{:<28} {:>10.2}", "direct", direct.rate());
    for (name, flags) in [("splice", &[][..]), ("copy", &["--no-splice"][..])] {
        let moved = stream(Some(flags));
        let share = moved.rate() / direct.rate();
        println!("{name:<28} {:>10.2} {:>14.2} {:>15.0}%", moved.rate(), moved.per_core(), share * 100.0);
    }
    println!("\n{:<28} {:>10} {:>14} {:>16}", "mails of 100 KB", "mails/s", "GB/s per core", "of direct");
    let direct = mails(None);
    println!("{:<28} {:>10.0}", "direct", direct.mails_per_second());
    for (name, flags) in [("splice", &[][..]), ("copy", &["--no-splice"][..])] {
        let moved = mails(Some(flags));
        let share = moved.mails_per_second() / direct.mails_per_second();
        let rate = moved.mails_per_second();
        println!("{name:<28} {rate:>10.0} {:>14.2} {:>15.0}%", moved.per_core(), share * 100.0);
    }
}

struct Moved {
    bytes: u64,
    time: Duration,
    proxy_time: Duration,
}

impl Moved {
    fn rate(&self) -> f64 {
        gigabytes(self.bytes) / self.time.as_secs_f64()
    }

    fn per_core(&self) -> f64 {
        gigabytes(self.bytes) / self.proxy_time.as_secs_f64()
    }

    fn mails_per_second(&self) -> f64 {
        (self.bytes / MAIL_BYTES as u64) as f64 / self.time.as_secs_f64()
    }
}

fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

/// One direction, one connection.
fn stream(flags: Option<&[&str]>) -> Moved {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxy = flags.map(|flags| Proxy::start(port, flags));
    let reader = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let (mut buffer, mut bytes) = (vec![0; CHUNK_BYTES], 0);
        loop {
            match peer.read(&mut buffer).unwrap() {
                0 => return bytes,
                read => bytes += read as u64,
            }
        }
    });
    let mut stream = connect(proxy.as_ref(), port);
    let chunk = vec![b'x'; CHUNK_BYTES];
    let begun = Instant::now();
    for _ in 0..STREAM_BYTES / CHUNK_BYTES as u64 {
        stream.write_all(&chunk).unwrap();
    }
    drop(stream);
    let bytes = reader.join().unwrap();
    Moved { bytes, time: begun.elapsed(), proxy_time: proxy.map(Proxy::end).unwrap_or_default() }
}

/// Mails and answers in turn.
fn mails(flags: Option<&[&str]>) -> Moved {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxy = flags.map(|flags| Proxy::start(port, flags));
    let server = thread::spawn(move || {
        let sessions = (0..CONNECTIONS).map(|_| {
            let (peer, _) = listener.accept().unwrap();
            thread::spawn(move || answer(peer))
        });
        sessions.collect::<Vec<JoinHandle<()>>>().into_iter().for_each(|session| session.join().unwrap());
    });
    let streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(proxy.as_ref(), port)).collect();
    let begun = Instant::now();
    let clients = streams.into_iter().map(|stream| thread::spawn(move || send(stream)));
    clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().unwrap());
    let time = begun.elapsed();
    server.join().unwrap();
    Moved { bytes: MAILS * MAIL_BYTES as u64, time, proxy_time: proxy.map(Proxy::end).unwrap_or_default() }
}

fn send(mut stream: TcpStream) {
    let (mail, mut heard) = (vec![b'x'; MAIL_BYTES], vec![0; ANSWER.len()]);
    for _ in 0..MAILS / CONNECTIONS {
        stream.write_all(&mail).unwrap();
        stream.read_exact(&mut heard).unwrap();
    }
}

fn answer(mut peer: TcpStream) {
    let mut mail = vec![0; MAIL_BYTES];
    peer.set_nodelay(true).unwrap();
    while peer.read_exact(&mut mail).is_ok() {
        peer.write_all(ANSWER).unwrap();
    }
}

/// To a port of this host, through the proxy if there is one.
fn connect(proxy: Option<&Proxy>, port: u16) -> TcpStream {
    let Some(proxy) = proxy else {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        return stream;
    };
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    stream.set_nodelay(true).unwrap();
    let [high, low] = port.to_be_bytes();
    stream.write_all(&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, high, low]).unwrap();
    let mut answers = [0; 12];
    stream.read_exact(&mut answers).unwrap();
    assert_eq!(answers[..4], [5, 0, 5, 0], "the proxy should have connected");
    stream
}

/// The program itself.
struct Proxy {
    child: Child,
    address: SocketAddr,
}

impl Proxy {
    fn start(port: u16, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kumo-proxy"));
        command.args(["--listen", "127.0.0.1:0", "--no-http", "--allow-destination", "127.0.0.0/8"]);
        command.args(["--allow-port", &port.to_string()]).args(flags);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| line.unwrap().strip_prefix("proxy listener on ")?.parse().ok());
        // Its log is read to the end, so that it never waits for a reader.
        thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.unwrap() }
    }

    /// Stops it, and tells the processor time that it took.
    fn end(mut self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // proc_pid_stat(5): behind the name, utime and stime are the 12th and 13th, in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..=12].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Duration::from_millis(ticks * 10)
    }
}
