//! One agent as its controller sees it: questions over HTTP, each with a time and a size that it may have.

use std::time::Duration;

use message::traffic::RunId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::{Agent as Client, Body};

use super::clock::{EXCHANGES, Exchange, Offset, realtime_ns};
use super::token::Token;
use super::wire::{ANSWER_BYTES_MAX, Clock, Order, Refused, Seconds, VERSION, WireReport};

/// How long one question may take altogether; seconds are answered within two.
pub(crate) const QUESTION_TIME_MAX: Duration = Duration::from_secs(10);

/// How long an order or a report may take: bodies travel in one, many numbers in the other.
const TRANSFER_TIME_MAX: Duration = Duration::from_secs(60);

/// Why an agent did not do what it was asked.
#[derive(Debug)]
pub(crate) enum RemoteError {
    /// It could not be asked; another try may work.
    Unreachable(String),
    /// It said no.
    Refused(String),
}

impl std::fmt::Display for RemoteError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(text) | Self::Refused(text) => formatter.write_str(text),
        }
    }
}

/// An agent at an address.
pub(crate) struct Remote {
    pub(crate) address: String,
    authorization: String,
    client: Client,
}

impl Remote {
    /// Talks to nobody yet.
    pub(crate) fn new(address: &str, token: &Token) -> Self {
        // No proxy: the agents are machines of the laboratory. Each question has its own connection, because
        // the agent ends idle ones.
        let config = Client::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .timeout_global(Some(QUESTION_TIME_MAX));
        Self {
            address: address.to_owned(),
            authorization: token.header(),
            client: config.build().new_agent(),
        }
    }

    /// Measures its clock against ours.
    pub(crate) fn clock(&self) -> Result<Offset, RemoteError> {
        let mut exchanges = Vec::with_capacity(EXCHANGES);
        for _ in 0..EXCHANGES {
            let asked_ns = realtime_ns();
            let clock = self.ask_clock()?;
            let answered_ns = realtime_ns();
            exchanges.push(Exchange { asked_ns, theirs_ns: clock.realtime_ns, answered_ns });
        }
        Offset::of(&exchanges).ok_or_else(|| RemoteError::Refused("its clock says nothing".to_owned()))
    }

    /// Asks it for its clock, and makes sure that it is of our version.
    pub(crate) fn ask_clock(&self) -> Result<Clock, RemoteError> {
        let clock: Clock = self.get("clock")?;
        if clock.version == VERSION {
            Ok(clock)
        } else {
            let error = format!("is traffic-gen {}, this is {VERSION}", clock.version);
            Err(RemoteError::Refused(error))
        }
    }

    /// Gives it its part of a run.
    pub(crate) fn order(&self, order: &Order) -> Result<(), RemoteError> {
        self.post("run", order).map(drop)
    }

    /// The seconds from that number on; waits for a moment where there is none yet.
    pub(crate) fn seconds(&self, run: RunId, from: usize) -> Result<Seconds, RemoteError> {
        self.get(&format!("run/{run}/seconds?from={from}"))
    }

    /// Ends the run, once more.
    pub(crate) fn stop(&self, run: RunId) -> Result<(), RemoteError> {
        self.post(&format!("run/{run}/stop"), &()).map(drop)
    }

    /// What came of it.
    pub(crate) fn report(&self, run: RunId) -> Result<WireReport, RemoteError> {
        self.get(&format!("run/{run}/report"))
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RemoteError> {
        let request = self.client.get(self.url(path)).header("authorization", &self.authorization);
        read(checked(request.call())?)
    }

    fn post(&self, path: &str, body: &impl Serialize) -> Result<Response<Body>, RemoteError> {
        let request = self.client.post(self.url(path)).header("authorization", &self.authorization);
        let request = request.config().timeout_global(Some(TRANSFER_TIME_MAX)).build();
        checked(request.send_json(body))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

/// The answer, unless it is a refusal.
fn checked(answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, RemoteError> {
    let answer = answer.map_err(|error| RemoteError::Unreachable(error.to_string()))?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    let text = read::<Refused>(answer).map_or_else(|_| format!("answers {status}"), |refused| refused.error);
    Err(RemoteError::Refused(text))
}

fn read<T: DeserializeOwned>(answer: Response<Body>) -> Result<T, RemoteError> {
    let body = answer.into_body();
    let read = body.into_with_config().limit(ANSWER_BYTES_MAX).read_json();
    read.map_err(|error| match error {
        ureq::Error::Json(error) => {
            RemoteError::Refused(format!("answers what we do not understand: {error}"))
        }
        error => RemoteError::Unreachable(error.to_string()),
    })
}
