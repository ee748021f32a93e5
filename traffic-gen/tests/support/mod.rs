//! A server that misbehaves on demand, for the tests of the generator.
//!
//! Speaks SMTP through the same protocol crate as the product, one thread per connection, and notes what it
//! was given. A test that waits for longer than [`PATIENCE`] fails instead of hanging.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use message::traffic::find_in;
use smtp::reply::Reply;
use smtp::server::{Config, Event, Session};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the server does with a message, after its last byte.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Accept,
    Refuse(u16),
    /// Closes the connection without a reply.
    Vanish,
    /// Accepts, and closes right behind the reply.
    AcceptAndVanish,
    /// Does not answer until the client goes.
    Silence,
}

/// One message as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Where the connection came from.
    pub(crate) client: SocketAddr,
    pub(crate) recipient: String,
    pub(crate) message: Vec<u8>,
}

/// What decides on a message: its number on its connection, from 0.
type Behaviour = Arc<dyn Fn(usize) -> Answer + Send + Sync>;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
}

impl Server {
    pub(crate) fn start(behaviour: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::with_config(Config::default(), behaviour)
    }

    pub(crate) fn with_config(
        config: Config,
        behaviour: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let (behaviour, config): (Behaviour, _) = (Arc::new(behaviour), Arc::new(config));
        let all = Arc::clone(&arrivals);
        // The thread ends with the test process; a test has nothing to wait for there.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, behaviour, all) =
                    (Arc::clone(&config), Arc::clone(&behaviour), Arc::clone(&all));
                thread::spawn(move || serve(stream, config, &behaviour, &all));
            }
        });
        Self { address, arrivals }
    }

    /// What has arrived, by sequence number.
    pub(crate) fn arrivals(&self) -> BTreeMap<u64, Vec<Arrival>> {
        let mut by_sequence: BTreeMap<u64, Vec<Arrival>> = BTreeMap::new();
        for arrival in self.arrivals.lock().unwrap().iter() {
            let (traffic, _) = find_in(&arrival.message).unwrap();
            by_sequence.entry(traffic.seq).or_default().push(arrival.clone());
        }
        by_sequence
    }
}

fn serve(mut stream: TcpStream, config: Arc<Config>, behaviour: &Behaviour, arrivals: &Mutex<Vec<Arrival>>) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let client = stream.peer_addr().unwrap();
    let (mut session, mut out, mut input) = (Session::new(config), Vec::new(), Vec::new());
    let (mut recipient, mut message, mut number) = (String::new(), Vec::new(), 0);
    session.greet(&mut out);
    loop {
        let step = session.handle(&input, &mut out);
        let mut ends = false;
        match step.event {
            Event::NeedMore => {
                input.drain(..step.consumed);
                if stream.write_all(&out).is_err() || !read_more(&mut stream, &mut input) {
                    return;
                }
                out.clear();
                continue;
            }
            Event::Ehlo { .. } | Event::Mail { .. } | Event::Auth { .. } | Event::Command { .. } => {
                session.accept(&mut out);
            }
            // No test of these offers STARTTLS, SCRAM or XCLIENT here.
            Event::StartTls | Event::AuthKeys | Event::XClient(_) => return,
            Event::Rcpt { to, .. } => {
                recipient = to.to_string();
                session.accept(&mut out);
            }
            Event::BodyStart { .. } => message.clear(),
            Event::Body(part) => message.extend_from_slice(part),
            Event::BodyEnd => {
                let arrival = Arrival { client, recipient: recipient.clone(), message: message.clone() };
                arrivals.lock().unwrap().push(arrival);
                match behaviour(number) {
                    Answer::Accept => session.accept_with(&Reply::new(250, (2, 0, 0), "Ok"), &mut out),
                    Answer::AcceptAndVanish => {
                        session.accept_with(&Reply::new(250, (2, 0, 0), "Ok"), &mut out);
                        ends = true;
                    }
                    Answer::Refuse(code) => session.reject(&Reply::plain(code, "No"), &mut out),
                    Answer::Vanish => return,
                    Answer::Silence => while read_more(&mut stream, &mut Vec::new()) {},
                }
                number += 1;
            }
            Event::Reset => {}
            Event::Quit | Event::Close => ends = true,
        }
        input.drain(..step.consumed);
        if ends {
            // The client may be gone already.
            let _ = stream.write_all(&out);
            return;
        }
    }
}

fn read_more(stream: &mut TcpStream, input: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 65536];
    let read = stream.read(&mut buffer).unwrap_or(0);
    input.extend_from_slice(&buffer[..read]);
    read > 0
}
