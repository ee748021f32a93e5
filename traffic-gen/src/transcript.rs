//! One message over one connection, with every line that both sides said: what one looks at when a run does
//! not do what one thinks.
//!
//! Whoever reads it is told each line when it is said. What proves who we are is left out. It is the message
//! with the first number of the run, sent for real.

use std::time::Duration;

use smtp::client::{BodyForm, Next, Phase, Session, Transaction};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::clock::now_ns;
use crate::content::Message;
use crate::dial;
use crate::plan::Plan;
use crate::run::Shared;
use crate::tls::Stream;
use crate::transport::Tls;

/// How long the whole conversation may take.
const CONVERSATION_TIME_MAX: Duration = Duration::from_secs(300);

/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;

/// Sends one message and tells `say` each line; true where it was accepted for all recipients.
///
/// An error is what ended the conversation before its end.
pub fn transcript(plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<bool, String> {
    let shared = Shared::new(plan.clone()).map_err(|error| error.to_string())?;
    if shared.injector.is_some() {
        return Err("a transcript is one of SMTP or LMTP; for HTTP there is --dry-run".to_owned());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| format!("the host refused a runtime: {error}"))?;
    runtime.block_on(async {
        let conversation = converse(&shared, say);
        let over = |_| format!("the conversation took longer than {} s", CONVERSATION_TIME_MAX.as_secs());
        timeout(CONVERSATION_TIME_MAX, conversation).await.map_err(over)?
    })
}

async fn converse(shared: &Shared, say: &mut dyn FnMut(&str)) -> Result<bool, String> {
    let target = shared.target(0);
    say(&format!("=== connecting to {}", target.name));
    let stream = dial::connect(&shared.plan, target, 0).await.map_err(|error| format!("connect: {error}"))?;
    let mut talk = Talk {
        stream: Stream::Plain(stream),
        session: Session::new(shared.session_config()),
        out: Vec::new(),
        input: Vec::new(),
        shown: 0,
        shared,
        say,
    };
    if shared.plan.transport.tls == Tls::Implicit {
        talk.start_tls().await?;
    }
    talk.until_ready(Next::Read, None).await?;
    let mut message = shared.catalogue.message();
    let sequence = shared.plan.share.index;
    shared.catalogue.compose(&mut message, sequence, 0, shared.wire_ns(now_ns()));
    let recipients: Vec<_> = message.recipients().iter().map(String::as_str).collect();
    let transaction = Transaction {
        from: message.sender(),
        recipients: &recipients,
        body_bytes: message.bytes(),
        eight_bit: message.eight_bit(),
        smtputf8: false,
        binary: false,
        require_tls: false,
    };
    let next = talk.session.begin(&transaction, &mut talk.out).map_err(|error| error.to_string())?;
    talk.until_ready(next, Some(&message)).await?;
    let accepted = (0..recipients.len()).all(|recipient| talk.session.result().is_delivered(recipient));
    let next = talk.session.quit(&mut talk.out);
    // The message is decided; how the server says goodbye changes nothing.
    let _ = talk.until_ready(next, None).await;
    Ok(accepted)
}

struct Talk<'a> {
    stream: Stream,
    session: Session,
    out: Vec<u8>,
    input: Vec<u8>,
    /// Bytes of `input` that were told already.
    shown: usize,
    shared: &'a Shared,
    say: &'a mut dyn FnMut(&str),
}

impl Talk<'_> {
    async fn until_ready(&mut self, mut next: Next, message: Option<&Message>) -> Result<(), String> {
        loop {
            next = match next {
                Next::Ready => return Ok(()),
                Next::Closed => return Err("the server ended the conversation".to_owned()),
                Next::StartTls => {
                    self.start_tls().await?;
                    self.session.tls_started(self.shared.plan.transport.secured(), &mut self.out)
                }
                Next::WriteBody(form) => {
                    self.write_body(form, message).await?;
                    self.session.body_written();
                    self.hear()?
                }
                Next::Read => {
                    self.write().await?;
                    self.read().await?;
                    self.hear()?
                }
            };
        }
    }

    async fn start_tls(&mut self) -> Result<(), String> {
        let Some(connector) = &self.shared.connector else {
            return Err("TLS: none was asked for".to_owned());
        };
        let started = self.stream.start_tls(connector, self.shared.target(0).host()).await;
        started.map_err(|error| format!("TLS: {error}"))?;
        (self.say)("=== encrypted from here on");
        Ok(())
    }

    async fn write(&mut self) -> Result<(), String> {
        if self.session.phase() == Phase::Auth {
            (self.say)("C: (who we are, and what proves it)");
        } else {
            told('C', &self.out, self.say);
        }
        self.stream.write_all(&self.out).await.map_err(|error| format!("write: {error}"))?;
        self.out.clear();
        self.stream.flush().await.map_err(|error| format!("write: {error}"))
    }

    async fn write_body(&mut self, form: BodyForm, message: Option<&Message>) -> Result<(), String> {
        self.write().await?;
        let Some(message) = message else { return Ok(()) };
        let (body, end): (_, &[u8]) = match form {
            BodyForm::Verbatim => (message.verbatim(&self.shared.catalogue), b""),
            BodyForm::DotStuffed => (message.dotted(&self.shared.catalogue), b".\r\n"),
        };
        told('C', message.header(), self.say);
        (self.say)(&format!("C: ({} bytes of body)", body.len()));
        told('C', end, self.say);
        let bytes = [message.header(), body, end].concat();
        self.stream.write_all(&bytes).await.map_err(|error| format!("write: {error}"))?;
        self.stream.flush().await.map_err(|error| format!("write: {error}"))
    }

    async fn read(&mut self) -> Result<(), String> {
        let mut buffer = [0; READ_BYTES];
        let bytes = self.stream.read(&mut buffer).await.map_err(|error| format!("read: {error}"))?;
        if bytes == 0 {
            return Err("the server closed the connection".to_owned());
        }
        self.input.extend_from_slice(&buffer[..bytes]);
        Ok(())
    }

    /// Gives the session what was read, and tells its whole lines.
    fn hear(&mut self) -> Result<Next, String> {
        let whole = self.input.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole > self.shown {
            told('S', &self.input[self.shown..whole], self.say);
            self.shown = whole;
        }
        let (consumed, next) =
            self.session.handle(&self.input, &mut self.out).map_err(|error| error.to_string())?;
        self.input.drain(..consumed);
        self.shown = self.shown.saturating_sub(consumed);
        Ok(next)
    }
}

/// Tells lines; what would move a terminal's cursor is made visible.
fn told(side: char, bytes: &[u8], say: &mut dyn FnMut(&str)) {
    for line in String::from_utf8_lossy(bytes).lines() {
        let line: String = line
            .chars()
            .map(|character| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character })
            .collect();
        say(&format!("{side}: {line}"));
    }
}
