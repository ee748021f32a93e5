//! One connection that injects: one request after the other, over the same connection as long as the server
//! keeps it.
//!
//! A message that has begun ends in the tally whatever happens: answered, or unknown when the connection goes
//! first, even if the worker gives the connection up.

use std::io;
use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::Injector;
use super::reply::{Verdict, judge};
use super::request::{Parts, inject};
use super::watched::Watched;
use crate::clock::now_ns;
use crate::connection::Ending;
use crate::content::Message;
use crate::flight::{Flight, Stage};
use crate::phases::Step;
use crate::tally::{Begun, Final};
use crate::tls::Stream;
use crate::worker::Worker;

/// Bytes of an answer that are read; what is longer is not to be understood.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What is said of a connection that the server ended.
const CLOSED: &str = "the server closed the connection";

/// Sends requests over a connection that stands until there are no more.
pub(crate) async fn run(
    stream: TcpStream,
    worker: Arc<Worker>,
    flight: Arc<Flight>,
    number: u64,
    begin_ns: u64,
) -> Ending {
    let connected_ns = now_ns();
    worker.book(|book| {
        book.tally.connections_opened += 1;
        book.tally.connections_open += 1;
        book.steps(true, &[Some((Step::Connect, connected_ns.saturating_sub(begin_ns)))]);
    });
    let mut guard = InFlight { worker: Arc::clone(&worker), message: None };
    let stream = match encrypted(stream, &worker, number).await {
        Ok(stream) => stream,
        Err(error) => return lost(format!("TLS: {error}"), false),
    };
    let watched = Watched { stream, flight: Arc::clone(&flight), worker: Arc::clone(&worker) };
    let (sender, driver) = match handshake(TokioIo::new(watched)).await {
        Ok(halves) => halves,
        Err(error) => return lost(kind(&error), false),
    };
    let driver = Driver(tokio::spawn(driver));
    let message = worker.run.catalogue.message();
    let mut line = Line { sender, driver, worker, flight, message, number, free_ns: 0, useful: false };
    match line.work(&mut guard).await {
        Ok(ending) => ending,
        // Servers may close a connection between two requests as they like.
        Err(_) if line.useful && guard.message.is_none() => Ending::Retired,
        Err(kind) => lost(kind, line.useful),
    }
}

fn lost(kind: String, useful: bool) -> Ending {
    Ending::Lost { kind, useful, unfit: false }
}

/// The connection as its endpoint wants it.
async fn encrypted(stream: TcpStream, worker: &Worker, number: u64) -> io::Result<Stream> {
    let mut stream = Stream::Plain(stream);
    if let Some(injector) = &worker.run.injector
        && let (endpoint, Some(connector)) = (injector.endpoint(number), &injector.connector)
        && endpoint.tls
    {
        let begin_ns = now_ns();
        stream.start_tls(connector, &endpoint.host).await?;
        let took_ns = now_ns().saturating_sub(begin_ns);
        worker.book(|book| book.steps(true, &[Some((Step::Tls, took_ns))]));
    }
    Ok(stream)
}

/// The message that has no answer. It becomes unknown when this goes.
struct InFlight {
    worker: Arc<Worker>,
    message: Option<(u64, u64)>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let (lost, times) = (self.message.take(), self.worker.run.start.times().unwrap_or_default());
        self.worker.tally(|tally| {
            tally.connections_open -= 1;
            if let Some((sequence, meant_ns)) = lost {
                tally.lost(sequence, meant_ns, now_ns(), &times);
            }
        });
    }
}

/// The task that reads and writes for the HTTP library; ends with us.
struct Driver(JoinHandle<hyper::Result<()>>);

impl Driver {
    /// How the connection ended, once it has.
    async fn ended(&mut self) -> String {
        match (&mut self.0).await {
            Ok(Err(error)) => kind(&error),
            _ => CLOSED.to_owned(),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Line {
    sender: SendRequest<Parts>,
    driver: Driver,
    worker: Arc<Worker>,
    flight: Arc<Flight>,
    message: Message,
    number: u64,
    /// When it became free for the next message.
    free_ns: u64,
    useful: bool,
}

impl Line {
    /// `Err` says in words how the connection was lost.
    async fn work(&mut self, in_flight: &mut InFlight) -> Result<Ending, String> {
        let worker = Arc::clone(&self.worker);
        let Some(injector) = &worker.run.injector else {
            return Ok(Ending::Done);
        };
        self.flight.enter(Stage::Idle, worker.second());
        worker.connection_ready();
        // The semaphore gives nothing; being closed is the sign to begin.
        let _ = worker.started.acquire().await;
        let plan = &worker.run.plan;
        let limit = plan.transport.messages_per_connection.draw(plan.seed, self.number);
        for _ in 0..limit.map_or(u64::MAX, u64::from) {
            let Some(begun) = self.due().await? else { return Ok(self.done()) };
            let Some(sequence) = worker.run.claims.claim(begun.begun_ns) else { return Ok(self.done()) };
            in_flight.message = Some((sequence, begun.meant_ns));
            self.send(injector, sequence, begun).await?;
            in_flight.message = None;
        }
        Ok(Ending::Retired)
    }

    /// There is nothing left to begin.
    fn done(&self) -> Ending {
        self.worker.nothing_left();
        Ending::Done
    }

    /// Waits until the server takes a message and one is due, and says when that was; `None` where none will be
    /// any more.
    async fn due(&mut self) -> Result<Option<Begun>, String> {
        let worker = Arc::clone(&self.worker);
        self.flight.enter(Stage::Idle, worker.second());
        if self.sender.ready().await.is_err() {
            return Err(self.driver.ended().await);
        }
        let Some(pacer) = &worker.pacer else {
            let now_ns = now_ns();
            return Ok(Some(Begun { meant_ns: now_ns, begun_ns: now_ns, ready_ns: now_ns }));
        };
        let meant_ns = tokio::select! {
            biased;
            due_ns = pacer.next_ns() => due_ns,
            // The message that is due next must not be spent on finding out.
            ended = self.driver.ended() => return Err(ended),
        };
        let begun_ns = now_ns();
        // While the connection was busy, a message that was due waited for the server; only what came after
        // is our own.
        let ready_ns = |meant_ns: u64| meant_ns.max(self.free_ns).min(begun_ns);
        Ok(meant_ns.map(|meant_ns| Begun { meant_ns, begun_ns, ready_ns: ready_ns(meant_ns) }))
    }

    /// Sends one message and counts what became of it. `Err` when nobody can know.
    async fn send(&mut self, injector: &Injector, sequence: u64, begun: Begun) -> Result<(), String> {
        let worker = Arc::clone(&self.worker);
        self.flight.enter(Stage::InMessage, worker.second());
        let connection = worker.run.connection_name(self.number);
        let sent_ns = worker.run.wire_ns(begun.meant_ns);
        worker.run.catalogue.compose(&mut self.message, sequence, connection, sent_ns);
        let request = inject(injector, injector.endpoint(self.number), &self.message);
        let request = request.map_err(|error| error.to_string())?;
        let response = self.sender.send_request(request).await.map_err(|error| kind(&error))?;
        let (status, answer) = read(response).await?;
        let deferred = injector.injection.defer_generation;
        let verdict = judge(status, &answer, self.message.recipients(), deferred);
        if let Verdict::Nonsense(text) = verdict {
            return Err(text.to_owned());
        }
        self.count(sequence, begun, status, &verdict);
        Ok(())
    }

    fn count(&mut self, sequence: u64, begun: Begun, status: StatusCode, verdict: &Verdict) {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let recipients = number(self.message.recipients().len());
        let (refused, reason): (&[u32], _) = match verdict {
            Verdict::Partial(refused, reason) => (refused, Some(reason)),
            Verdict::Refused(reason) => (&[], reason.as_ref()),
            Verdict::Accepted | Verdict::Nonsense(_) => (&[], None),
        };
        let is_refused = matches!(verdict, Verdict::Refused(_));
        let message = Final {
            sequence,
            recipients,
            accepted: if is_refused { 0 } else { recipients - number(refused.len()) },
            bytes: self.message.bytes(),
            begun,
            reply_ns: now_ns(),
            together_ns: None,
        };
        self.useful = true;
        self.free_ns = message.reply_ns;
        let times = self.worker.run.start.times().unwrap_or_default();
        self.worker.book(|book| {
            book.tally.replied(status.as_u16());
            book.answered(&message, &times);
            for recipient in refused {
                book.tally.refused_recipients.add([sequence, u64::from(*recipient)]);
            }
            if let Some(reason) = reason {
                book.tally.error(reason);
            }
        });
    }
}

/// The status and the whole of an answer.
async fn read(response: Response<hyper::body::Incoming>) -> Result<(StatusCode, bytes::Bytes), String> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| match error.downcast_ref::<hyper::Error>() {
        Some(error) => kind(error),
        None => format!("the answer has over {ANSWER_BYTES_MAX} bytes"),
    })?;
    Ok((status, body.to_bytes()))
}

/// What went wrong, in words that do not differ from one connection to the next.
fn kind(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        CLOSED.to_owned()
    } else if error.is_parse() {
        "the answer is not HTTP".to_owned()
    } else {
        let cause = std::error::Error::source(error);
        cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
    }
}
