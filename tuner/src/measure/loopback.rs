//! Messages across the loopback, each answered: what sockets cost on this machine.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use reports::latency::{new_histogram, record_ns};
use serde::Serialize;

use super::processor;

/// Connections at the same time, each with a thread at both ends.
const CONNECTIONS: usize = 8;
/// What answers a message: as long as a short reply of SMTP.
const REPLY: &[u8; 32] =
    b"250 2.0.0 taken as 0123456789ab\r\n".first_chunk().expect("the text is longer than 32 bytes");
/// The longest that one end waits for the other.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What the loopback carries.
#[derive(Debug, Clone, Serialize)]
pub struct LoopbackPoint {
    /// Size of each message.
    pub body_bytes: usize,
    /// Messages answered each second.
    pub per_s: f64,
    /// Processor time of both ends for each message, microseconds.
    pub processor_us: f64,
}

pub(super) fn run(body_bytes: usize, length: Duration) -> io::Result<LoopbackPoint> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let (begun, processor) = (Instant::now(), processor::time());
    let until = begun + length;
    let answered = std::thread::scope(|scope| {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let client = ready(TcpStream::connect_timeout(&address, WAIT_MAX)?)?;
            let server = ready(listener.accept()?.0)?;
            scope.spawn(move || serve(server, body_bytes));
            clients.push(scope.spawn(move || send_until(client, body_bytes, until)));
        }
        let counts = clients
            .into_iter()
            .map(|client| client.join().map_err(|_| io::Error::other("a sender ended"))?);
        counts.sum::<io::Result<u64>>()
    })?;
    let (elapsed, processor) = (begun.elapsed().as_secs_f64(), processor::time() - processor);
    Ok(LoopbackPoint {
        body_bytes,
        per_s: answered as f64 / elapsed,
        processor_us: processor.as_secs_f64() * 1e6 / answered.max(1) as f64,
    })
}

/// The median time that a short message and its reply take, one at a time, microseconds: what a step of a dialogue costs
/// before anybody thinks.
///
/// # Errors
/// What the loopback refuses.
pub fn round_trip_us(length: Duration) -> io::Result<f64> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let mut trips = new_histogram();
    std::thread::scope(|scope| {
        let mut client = ready(TcpStream::connect_timeout(&address, WAIT_MAX)?)?;
        let server = ready(listener.accept()?.0)?;
        scope.spawn(move || serve(server, REPLY.len()));
        let mut reply = [0; REPLY.len()];
        let until = Instant::now() + length;
        while trips.is_empty() || Instant::now() < until {
            let sent = Instant::now();
            client.write_all(REPLY)?;
            client.read_exact(&mut reply)?;
            record_ns(&mut trips, u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok::<_, io::Error>(())
    })?;
    Ok(trips.value_at_quantile(0.5) as f64)
}

fn ready(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(WAIT_MAX))?;
    stream.set_write_timeout(Some(WAIT_MAX))?;
    Ok(stream)
}

fn send_until(mut stream: TcpStream, body_bytes: usize, until: Instant) -> io::Result<u64> {
    let body = vec![b'b'; body_bytes];
    let mut reply = [0; REPLY.len()];
    let mut answered = 0;
    while Instant::now() < until {
        stream.write_all(&body)?;
        stream.read_exact(&mut reply)?;
        answered += 1;
    }
    Ok(answered)
}

/// Until the other end closes.
fn serve(mut stream: TcpStream, body_bytes: usize) {
    let mut body = vec![0; body_bytes];
    while stream.read_exact(&mut body).and_then(|()| stream.write_all(REPLY)).is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_measured_even_in_no_time() {
        assert!(round_trip_us(Duration::ZERO).unwrap() > 0.0);
    }
}
