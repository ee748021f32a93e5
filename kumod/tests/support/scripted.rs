//! A next hop that does what a test tells it: answers command by command, hangs up, cuts a reply in two, says nonsense.
//!
//! One thread per connection, on blocking sockets. It knows just enough SMTP to tell a command from a body, and does not use the protocol
//! crate, so that a mistake in that one is not made twice. Its threads end with the test process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{PATIENCE, eventually};

/// Where a conversation stands when the script is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Greeting,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    /// After the body, whether it came by DATA or BDAT.
    Body,
    Rset,
    Quit,
}

/// What to do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// What a good server says.
    Accept,
    /// These bytes.
    Say(&'static str),
    /// These bytes, and then the connection is closed.
    SayAndHangUp(&'static str),
    /// The connection is closed.
    HangUp,
    /// Nothing, until the client goes.
    Silence,
}

/// One message as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The number of its connection, from 0.
    pub(crate) connection: usize,
    /// The address that it came from.
    pub(crate) client: IpAddr,
    /// What the client called itself.
    pub(crate) ehlo: String,
    pub(crate) sender: String,
    pub(crate) recipients: Vec<String>,
    /// What followed the addresses of MAIL and of each RCPT that was accepted.
    pub(crate) parameters: Vec<String>,
    /// As it was on the wire: with stuffed dots and the final dot, if it came by DATA.
    pub(crate) raw: Vec<u8>,
    pub(crate) by_data: bool,
    /// Whether the script let it be accepted.
    pub(crate) accepted: bool,
}

impl Arrival {
    /// The message as meant.
    pub(crate) fn message(&self) -> Vec<u8> {
        if !self.by_data {
            return self.raw.clone();
        }
        let lines = self.raw[..self.raw.len() - 3].split_inclusive(|byte| *byte == b'\n');
        lines.flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect()
    }

    /// The message without what kumod put before it.
    pub(crate) fn original(&self) -> Vec<u8> {
        let message = self.message();
        let mut lines = message.split_inclusive(|byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default();
        assert!(first.starts_with(b"Received: "), "{}", message.escape_ascii());
        let folds = lines.take_while(|line| line.starts_with(b" ") || line.starts_with(b"\t"));
        let prefix = first.len() + folds.map(<[u8]>::len).sum::<usize>();
        message[prefix..].to_vec()
    }
}

/// Asked with the number of the connection, from 0, and the place in it.
type Script = dyn Fn(usize, At) -> Answer + Send + Sync;

struct Shared {
    script: Box<Script>,
    extensions: &'static [&'static str],
    arrivals: Mutex<Vec<Arrival>>,
    connections: Mutex<usize>,
}

pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

/// What a modern server offers.
pub(crate) const MODERN: &[&str] =
    &["PIPELINING", "CHUNKING", "BINARYMIME", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "SIZE"];

impl Scripted {
    /// Offers everything and takes everything.
    pub(crate) fn good() -> Self {
        Self::start(MODERN, |_, _| Answer::Accept)
    }

    pub(crate) fn start(
        extensions: &'static [&'static str],
        script: impl Fn(usize, At) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), extensions, script)
    }

    /// The same on an address of the test's choice.
    pub(crate) fn start_at(
        address: SocketAddr,
        extensions: &'static [&'static str],
        script: impl Fn(usize, At) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::serve(TcpListener::bind(address).unwrap(), extensions, script)
    }

    /// The same on a socket of the test's choice.
    pub(crate) fn serve(
        listener: TcpListener,
        extensions: &'static [&'static str],
        script: impl Fn(usize, At) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            extensions,
            arrivals: Mutex::default(),
            connections: Mutex::default(),
        });
        let all = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&all);
                thread::spawn(move || Conversation::new(stream, &shared).run());
            }
        });
        Self { address, shared }
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.shared.arrivals.lock().unwrap().clone()
    }

    /// Those that it has taken.
    pub(crate) fn accepted(&self) -> Vec<Arrival> {
        let mut arrivals = self.arrivals();
        arrivals.retain(|arrival| arrival.accepted);
        arrivals
    }

    /// Waits until it has taken so many.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Arrival> {
        eventually(&format!("{count} messages at the next hop"), || {
            Some(self.accepted()).filter(|accepted| accepted.len() >= count)
        })
    }

    pub(crate) fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }
}

struct Conversation<'a> {
    shared: &'a Shared,
    number: usize,
    stream: BufReader<TcpStream>,
    /// Whether MAIL was accepted and its message has not ended yet.
    has_sender: bool,
    arrival: Arrival,
}

/// The connection has ended.
struct Over;

impl<'a> Conversation<'a> {
    fn new(stream: TcpStream, shared: &'a Shared) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut connections = shared.connections.lock().unwrap();
        let number = *connections;
        *connections += 1;
        let arrival = Arrival {
            connection: number,
            client: stream.peer_addr().unwrap().ip(),
            ehlo: String::new(),
            sender: String::new(),
            recipients: Vec::new(),
            parameters: Vec::new(),
            raw: Vec::new(),
            by_data: false,
            accepted: false,
        };
        Self { shared, number, stream: BufReader::new(stream), has_sender: false, arrival }
    }

    fn run(mut self) {
        if self.answer(At::Greeting, "220 next.test ESMTP\r\n").is_ok() {
            while self.command().is_ok() {}
        }
    }

    /// Answers as the script says. Whether a good answer was given.
    fn answer(&mut self, at: At, good: &str) -> Result<bool, Over> {
        let answer = (self.shared.script)(self.number, at);
        self.give(answer, good)
    }

    fn give(&mut self, answer: Answer, good: &str) -> Result<bool, Over> {
        match answer {
            Answer::Accept => self.say(good).map(|()| true),
            Answer::Say(text) => self.say(text).map(|()| false),
            Answer::SayAndHangUp(text) => self.say(text).and(Err(Over)),
            Answer::HangUp => Err(Over),
            Answer::Silence => {
                let _ = self.stream.read_to_end(&mut Vec::new());
                Err(Over)
            }
        }
    }

    fn say(&mut self, text: &str) -> Result<(), Over> {
        self.stream.get_mut().write_all(text.as_bytes()).map_err(|_| Over)
    }

    fn line(&mut self) -> Result<String, Over> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(read) if read > 0 => Ok(line.trim_end().to_owned()),
            _ => Err(Over),
        }
    }

    fn command(&mut self) -> Result<(), Over> {
        let line = self.line()?;
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let address = || rest.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let parameters = || rest.split_once('>').unwrap_or_default().1.trim().to_owned();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                self.arrival.ehlo = rest.to_owned();
                let extensions: String =
                    self.shared.extensions.iter().map(|name| format!("250-{name}\r\n")).collect();
                self.answer(At::Ehlo, &format!("250-next.test\r\n{extensions}250 HELP\r\n")).map(drop)
            }
            "MAIL" => {
                (self.arrival.sender, self.arrival.recipients) = (address(), Vec::new());
                self.arrival.parameters = vec![parameters()];
                self.has_sender = self.answer(At::Mail, "250 2.1.0 OK\r\n")?;
                Ok(())
            }
            "RCPT" if !self.has_sender => self.say("503 5.5.1 no sender\r\n"),
            "RCPT" => {
                if self.answer(At::Rcpt, "250 2.1.5 OK\r\n")? {
                    self.arrival.recipients.push(address());
                    self.arrival.parameters.push(parameters());
                }
                Ok(())
            }
            "DATA" => self.data(),
            "BDAT" => self.chunk(rest),
            "RSET" => self.answer(At::Rset, "250 2.0.0 OK\r\n").map(drop),
            "QUIT" => self.answer(At::Quit, "221 2.0.0 bye\r\n").and(Err(Over)),
            _ => self.say("500 5.5.1 what?\r\n"),
        }
    }

    fn data(&mut self) -> Result<(), Over> {
        if self.arrival.recipients.is_empty() {
            return self.say("554 5.5.1 no recipients\r\n");
        }
        if !self.answer(At::Data, "354 go on\r\n")? {
            return Ok(());
        }
        let mut raw = Vec::new();
        while !(raw == b".\r\n" || raw.ends_with(b"\r\n.\r\n")) {
            if self.stream.read_until(b'\n', &mut raw).map_err(|_| Over)? == 0 {
                return Err(Over);
            }
        }
        self.arrived(raw, true)
    }

    fn chunk(&mut self, rest: &str) -> Result<(), Over> {
        let (bytes, last) = rest.split_once(' ').unwrap_or((rest, ""));
        assert_eq!(last, "LAST", "kumod sends a message as one chunk");
        let mut raw = vec![0; bytes.parse().map_err(|_| Over)?];
        self.stream.read_exact(&mut raw).map_err(|_| Over)?;
        if self.arrival.recipients.is_empty() {
            return self.say("503 5.5.1 no recipients\r\n");
        }
        self.arrived(raw, false)
    }

    fn arrived(&mut self, raw: Vec<u8>, by_data: bool) -> Result<(), Over> {
        self.has_sender = false;
        let arrival = Arrival { raw, by_data, ..self.arrival.clone() };
        let index = {
            let mut arrivals = self.shared.arrivals.lock().unwrap();
            arrivals.push(arrival);
            arrivals.len() - 1
        };
        // Asked without the lock: a script may hold its answer back.
        let answer = (self.shared.script)(self.number, At::Body);
        self.shared.arrivals.lock().unwrap()[index].accepted = answer == Answer::Accept;
        self.give(answer, "250 2.0.0 taken\r\n").map(drop)
    }
}
