//! The sending session: the door between its caller and the states.
//!
//! Owns the loop over replies and the beginning of a transaction. What would end in a refusal for
//! certain, or could not be written without breaking the protocol, is refused before a byte is
//! written, and the session stays as it was.

use std::mem;
use std::time::Duration;

use super::state::{Context, ExpectMail, ExpectRset, Idle, Plan, State};
use super::{
    BeginError, BodyForm, Config, DEADLINES, Next, PeerError, Phase, Secured, Transaction, TransactionResult,
};
use crate::address::{AddressError, Path};
use crate::command::{self, BodyKind};
use crate::dsn::Asked;
use crate::extension::Capabilities;
use crate::reply::{Reply, ReplyParser};

/// One connection to a server, seen from the client.
#[derive(Debug)]
pub struct Session {
    context: Context,
    parser: ReplyParser,
    state: State,
    replies: u64,
}

impl Session {
    /// The longest wait in each phase, as [`DEADLINES`].
    pub const DEADLINES: [Duration; DEADLINES.len()] = DEADLINES;

    /// A session that waits for the banner.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { context: Context::new(config), parser: ReplyParser::new(), state: State::Banner, replies: 0 }
    }

    /// Begins a transaction, with RSET in front where the last one left remains.
    ///
    /// # Errors
    /// [`BeginError`]; nothing was written then, and the result of the last transaction still stands.
    pub fn begin(&mut self, transaction: &Transaction<'_>, out: &mut Vec<u8>) -> Result<Next, BeginError> {
        self.begin_asking(transaction, &Asked::default(), out)
    }

    /// The same, and asks for notifications, where the peer offers DSN ([`Capabilities::dsn`]); where it does not they are not asked
    /// for (RFC 3461 5.2.2).
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_asking(
        &mut self,
        transaction: &Transaction<'_>,
        asked: &Asked<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Next, BeginError> {
        let State::Idle(Idle { rset_needed }) = self.state else {
            return Err(BeginError::NotReady);
        };
        self.check(transaction)?;
        let context = &mut self.context;
        let plan = Plan {
            recipients: transaction.recipients.len(),
            pipelined: context.config.pipelining && context.capabilities.pipelining,
            chunking: context.chunking(),
        };
        context.transactions = context.transactions.saturating_add(1);
        context.result.reset(plan.recipients, context.config.lmtp);
        context.script.clear();
        context.script_at = 0;
        let asked = if context.capabilities.dsn { *asked } else { Asked::default() };
        let script = if plan.pipelined { &mut *out } else { &mut context.script };
        write_commands(transaction, &asked, plan, &context.capabilities, rset_needed, script);
        if !plan.pipelined {
            context.release_line(out);
        }
        self.state = if rset_needed { State::Rset(ExpectRset(plan)) } else { State::Mail(ExpectMail(plan)) };
        if plan.pipelined && plan.chunking {
            context.body_due = Some(BodyForm::Verbatim);
            return Ok(Next::WriteBody(BodyForm::Verbatim));
        }
        Ok(Next::Read)
    }

    /// Takes what was read from the peer. Returns the bytes consumed, and what to do next; what is
    /// not consumed has to be offered again, with more bytes behind it.
    ///
    /// Early replies are taken while the body is still being written, except the last one of the
    /// transaction: it stays in the input. Until [`Self::body_written`] the answer is
    /// [`Next::WriteBody`] again, unless the peer ends the session.
    ///
    /// # Errors
    /// The peer cannot be understood; the session is closed, and results that came before stand.
    pub fn handle(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, Next), PeerError> {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            if let State::Handshake = self.state {
                self.refuse_before_tls(rest)?;
            }
            if let Some(next) = self.halt(rest) {
                return Ok((consumed, next));
            }
            let (bytes, complete) = self.parser.read(rest).inspect_err(|_| self.state = State::Closed)?;
            consumed += bytes;
            if !complete {
                return Ok((consumed, self.context.body_due.map_or(Next::Read, Next::WriteBody)));
            }
            self.replies = self.replies.wrapping_add(1);
            let reply = self.parser.take(self.context.result.buffer());
            // A failed step leaves the session closed.
            let advance =
                mem::replace(&mut self.state, State::Closed).handle(&mut self.context, reply, out)?;
            self.state = advance.state;
            if advance.next == Some(Next::StartTls) {
                self.refuse_before_tls(&input[consumed..])?;
            }
            if let Some(next) = advance.next {
                return Ok((consumed, next));
            }
        }
    }

    /// The handshake that [`Next::StartTls`] asked for is done, and all that is read from now on came through it.
    /// Writes EHLO (or LHLO) again; what the peer announced before is forgotten (RFC 3207 4.2).
    pub fn tls_started(&mut self, secured: Secured, out: &mut Vec<u8>) -> Next {
        if !matches!(self.state, State::Handshake) {
            debug_assert!(false, "tls_started without Next::StartTls");
            return Next::Closed;
        }
        self.state = self.context.tls_started(secured, out);
        Next::Read
    }

    /// The caller wrote the whole body.
    pub fn body_written(&mut self) {
        debug_assert!(
            self.context.body_due.is_some() || matches!(self.state, State::Closed),
            "body_written without WriteBody"
        );
        self.context.body_due = None;
    }

    /// The replies of the last transaction; valid after [`Next::Ready`] and [`Next::Closed`], until [`Self::begin`].
    #[must_use]
    pub fn result(&self) -> &TransactionResult {
        &self.context.result
    }

    /// Whether TLS is up, as [`Self::tls_started`] was told.
    #[must_use]
    pub fn secured(&self) -> Option<Secured> {
        self.context.secured
    }

    /// With what the peer refused STARTTLS, having offered it; only with [`StartTls::IfOffered`](super::StartTls::IfOffered).
    #[must_use]
    pub fn starttls_refusal(&self) -> Option<&Reply> {
        self.context.starttls_refusal.as_ref()
    }

    /// What the peer announced; nothing where it knows only HELO.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.context.capabilities
    }

    /// Most recipients that the peer takes in one transaction (RFC 9422 4.2); `usize::MAX` where it named no limit. For the caller to
    /// keep to: one that does not has recipients refused.
    #[must_use]
    pub fn recipients_max(&self) -> usize {
        self.capabilities().limits.map_or(usize::MAX, |(_, recipients)| recipients)
    }

    /// Whether the peer takes no more transactions over this connection (RFC 9422 4.1): the next one needs another.
    #[must_use]
    pub fn is_used_up(&self) -> bool {
        self.capabilities().limits.is_some_and(|(transactions, _)| self.context.transactions >= transactions)
    }

    /// Whether the next transaction would have RSET in front, because the last one left remains.
    #[must_use]
    pub fn needs_rset(&self) -> bool {
        matches!(self.state, State::Idle(Idle { rset_needed: true }))
    }

    /// Complete replies so far, wrapping around. Whether a peer makes progress shows in this and in [`Self::phase`], not in single bytes.
    #[must_use]
    pub fn replies(&self) -> u64 {
        self.replies
    }

    /// Gives back the memory that is kept for the next transaction; the result of the last one goes with it. For connections that wait.
    pub fn rest(&mut self) {
        if matches!(self.state, State::Idle(_)) {
            self.context.result = TransactionResult::default();
            self.context.script = Vec::new();
            self.context.script_at = 0;
            self.parser.rest();
        }
    }

    /// Writes QUIT. In the middle of a transaction it is given up, and no 221 is waited for.
    pub fn quit(&mut self, out: &mut Vec<u8>) -> Next {
        match self.state {
            State::Closed => Next::Closed,
            State::Quit => Next::Read,
            // The peer waits for a handshake, not for a command.
            State::Handshake => {
                self.state = State::Closed;
                Next::Closed
            }
            State::Idle(_) => {
                out.extend_from_slice(b"QUIT\r\n");
                self.state = State::Quit;
                Next::Read
            }
            _ => {
                // In the middle of a body QUIT would be content.
                if self.context.body_due.is_none() {
                    out.extend_from_slice(b"QUIT\r\n");
                }
                self.state = State::Closed;
                Next::Closed
            }
        }
    }

    /// What the session waits for; the index into [`DEADLINES`].
    #[must_use]
    pub fn phase(&self) -> Phase {
        if self.context.body_due.is_some() { Phase::Body } else { self.state.phase() }
    }

    /// Where the session takes no reply now, what the caller does instead.
    fn halt(&self, input: &[u8]) -> Option<Next> {
        match (&self.state, self.context.body_due) {
            (State::Closed, _) => Some(Next::Closed),
            (State::Handshake, _) => Some(Next::StartTls),
            (State::Idle(_), _) if input.is_empty() => Some(Next::Ready),
            (State::Final(_), Some(form)) if !input.starts_with(b"421") => Some(Next::WriteBody(form)),
            _ => None,
        }
    }

    /// Bytes that came in the clear behind the consent to STARTTLS may be anybody's (RFC 3207 6).
    fn refuse_before_tls(&mut self, input: &[u8]) -> Result<(), PeerError> {
        if input.is_empty() {
            return Ok(());
        }
        self.state = State::Closed;
        Err(PeerError::InputBehindStartTls)
    }

    fn check(&self, transaction: &Transaction<'_>) -> Result<(), BeginError> {
        let capabilities = &self.context.capabilities;
        if let Some(limit) = capabilities.size_limit().filter(|&limit| transaction.body_bytes > limit) {
            return Err(BeginError::SizeExceeded { limit });
        }
        if transaction.binary && !(capabilities.binary_mime && self.context.chunking()) {
            return Err(BeginError::BinaryUnsupported);
        }
        if transaction.eight_bit && !transaction.binary && !capabilities.eight_bit_mime {
            return Err(BeginError::EightBitUnsupported);
        }
        if transaction.smtputf8 && !capabilities.smtputf8 {
            return Err(BeginError::Utf8Unsupported);
        }
        if transaction.require_tls && !(capabilities.require_tls && self.context.secured.is_some()) {
            return Err(BeginError::RequireTlsUnsupported);
        }
        if transaction.recipients.is_empty() {
            return Err(BeginError::BadAddress);
        }
        check_address(Path::parse_bare(transaction.from, transaction.smtputf8))?;
        for to in transaction.recipients {
            if check_address(Path::parse_bare(to, transaction.smtputf8))?.is_null() {
                return Err(BeginError::BadAddress);
            }
        }
        Ok(())
    }
}

/// What does not parse is never written: it could break out of its brackets.
fn check_address(parsed: Result<Path<'_>, AddressError>) -> Result<Path<'_>, BeginError> {
    parsed.map_err(|error| match error {
        AddressError::Utf8Needed => BeginError::Utf8Unsupported,
        _ => BeginError::BadAddress,
    })
}

fn write_commands(
    transaction: &Transaction<'_>,
    asked: &Asked<'_>,
    plan: Plan,
    capabilities: &Capabilities,
    rset: bool,
    out: &mut Vec<u8>,
) {
    if rset {
        out.extend_from_slice(b"RSET\r\n");
    }
    let size = capabilities.size.map(|_| transaction.body_bytes);
    let body = match transaction {
        Transaction { binary: true, .. } => BodyKind::BinaryMime,
        Transaction { eight_bit: true, .. } => BodyKind::EightBitMime,
        _ => BodyKind::SevenBit,
    };
    command::write_mail(transaction.from, size, body, transaction.smtputf8, out);
    if transaction.require_tls {
        out.extend_from_slice(b" REQUIRETLS");
    }
    asked.write_mail(out);
    out.extend_from_slice(b"\r\n");
    for (index, to) in transaction.recipients.iter().enumerate() {
        command::write_rcpt(to, out);
        asked.write_rcpt(index, transaction.smtputf8, out);
        out.extend_from_slice(b"\r\n");
    }
    if plan.chunking {
        command::write_bdat_last(transaction.body_bytes, out);
    } else {
        out.extend_from_slice(b"DATA\r\n");
    }
}
