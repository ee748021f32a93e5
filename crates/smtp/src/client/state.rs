//! The states of a sending session, each named for the reply it waits for.
//!
//! A reply consumes the state and yields the next one. Commands are rendered once, when the
//! transaction begins: with PIPELINING into the output, else into [`Context::script`], from which
//! each reply releases the next line. So both ways share their states.

use super::authentication::ExpectAuth;
use super::{BodyForm, Config, Next, Phase, Secured, TransactionResult};
use crate::error::PeerError;
use crate::extension::Capabilities;
use crate::reply::Reply;

/// Where a session stands.
#[derive(Debug)]
pub(super) enum State {
    /// For the greeting.
    Banner,
    /// For the reply to EHLO.
    Ehlo,
    /// For the reply to HELO, after EHLO was refused.
    Helo,
    /// For the reply to STARTTLS.
    StartTls,
    /// For the caller's handshake.
    Handshake,
    Auth(ExpectAuth),
    /// For the caller's next transaction.
    Idle(Idle),
    Rset(ExpectRset),
    Mail(ExpectMail),
    Recipient(ExpectRecipient),
    GoAhead(ExpectGoAhead),
    Final(ExpectFinal),
    Quit,
    Closed,
}

/// The next transaction may begin.
#[derive(Debug)]
pub(super) struct Idle {
    /// The peer may hold on to remains of the last transaction.
    pub(super) rset_needed: bool,
}

/// RSET was written.
#[derive(Debug)]
pub(super) struct ExpectRset(pub(super) Plan);

/// MAIL was written.
#[derive(Debug)]
pub(super) struct ExpectMail(pub(super) Plan);

/// RCPT was written.
#[derive(Debug)]
pub(super) struct ExpectRecipient {
    plan: Plan,
    index: usize,
    accepted: usize,
}

/// DATA was written.
#[derive(Debug)]
pub(super) struct ExpectGoAhead {
    accepted: usize,
}

/// The body was handed out to be written, and its reply is the last of the transaction.
#[derive(Debug)]
pub(super) struct ExpectFinal {
    form: BodyForm,
    /// LMTP: the first recipient that may be due for its reply.
    index: usize,
    /// LMTP: a recipient was refused.
    refused: bool,
}

/// How the transaction goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) recipients: usize,
    /// All commands are written already.
    pub(super) pipelined: bool,
    /// BDAT, not DATA.
    pub(super) chunking: bool,
}

/// What lasts as long as the connection.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) capabilities: Capabilities,
    pub(super) result: TransactionResult,
    /// Command lines that wait for the reply to the one before.
    pub(super) script: Vec<u8>,
    /// So much of `script` is written.
    pub(super) script_at: usize,
    /// TLS was begun by STARTTLS.
    pub(super) secured: Option<Secured>,
    /// The peer offered STARTTLS and refused it.
    pub(super) starttls_refusal: Option<Reply>,
    /// Begun so far.
    pub(super) transactions: u32,
    /// The caller was told to write the body and has not said that it did.
    pub(super) body_due: Option<BodyForm>,
}

/// Outcome of one reply.
pub(super) struct Advance {
    pub(super) state: State,
    /// `None`: go on with the next reply.
    pub(super) next: Option<Next>,
}

impl Advance {
    pub(super) fn on(state: State) -> Self {
        Self { state, next: None }
    }

    pub(super) fn ready(rset_needed: bool) -> Self {
        Self { state: State::Idle(Idle { rset_needed }), next: Some(Next::Ready) }
    }

    pub(super) fn closed() -> Self {
        Self { state: State::Closed, next: Some(Next::Closed) }
    }
}

impl State {
    /// Takes one complete reply.
    pub(super) fn handle(
        self,
        context: &mut Context,
        reply: Reply,
        out: &mut Vec<u8>,
    ) -> Result<Advance, PeerError> {
        if reply.code == 421 {
            return Ok(self.shut_down(context, reply));
        }
        // 354 asks for a body and is the only good answer to DATA: taking one for the other loses mail.
        let to_data = matches!(self, Self::GoAhead(_));
        let to_auth = matches!(self, Self::Auth(_));
        if (reply.is_intermediate() && !to_data && !to_auth) || (reply.is_positive() && to_data) {
            return Err(PeerError::UnexpectedReply { code: reply.code });
        }
        Ok(match self {
            Self::Banner => context.greeted(reply, out),
            Self::Ehlo => return context.introduced(reply, out),
            Self::Helo => return context.introduced_plainly(reply, out),
            Self::StartTls => return context.consented(reply, out),
            Self::Auth(state) => return state.handle(context, reply, out),
            Self::Rset(state) => state.handle(context, reply, out),
            Self::Mail(state) => state.handle(context, reply, out),
            Self::Recipient(state) => state.handle(context, reply, out),
            Self::GoAhead(state) => return state.handle(context, reply, out),
            Self::Final(state) => state.handle(context, reply),
            Self::Quit => {
                context.result.closing = Some(reply);
                Advance::closed()
            }
            Self::Idle(_) | Self::Handshake | Self::Closed => {
                return Err(PeerError::UnexpectedReply { code: reply.code });
            }
        })
    }

    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Banner => Phase::Banner,
            Self::Ehlo | Self::Helo => Phase::Ehlo,
            Self::StartTls | Self::Handshake => Phase::StartTls,
            Self::Auth(_) => Phase::Auth,
            Self::Idle(_) | Self::Closed => Phase::Idle,
            Self::Rset(_) => Phase::Rset,
            Self::Mail(_) => Phase::Mail,
            Self::Recipient(_) => Phase::Rcpt,
            Self::GoAhead(_) => Phase::Data,
            Self::Final(_) => Phase::FinalDot,
            Self::Quit => Phase::Quit,
        }
    }

    /// 421 ends the session wherever it comes (RFC 5321 3.8); it answers the command that was due,
    /// and stands for all replies that will not come.
    fn shut_down(self, context: &mut Context, reply: Reply) -> Advance {
        let result = &mut context.result;
        match self {
            Self::Mail(_) => result.mail = Some(reply.clone()),
            Self::Recipient(state) => result.recipients[state.index] = Some(reply.clone()),
            Self::GoAhead(_) | Self::Final(_) => result.body = Some(reply.clone()),
            _ => {}
        }
        result.closing = Some(reply);
        Advance::closed()
    }
}

impl ExpectRset {
    /// Nothing depends on what RSET is answered.
    fn handle(self, context: &mut Context, reply: Reply, out: &mut Vec<u8>) -> Advance {
        context.result.discard(reply);
        context.release_line(out);
        Advance::on(State::Mail(ExpectMail(self.0)))
    }
}

impl ExpectMail {
    fn handle(self, context: &mut Context, reply: Reply, out: &mut Vec<u8>) -> Advance {
        let Self(plan) = self;
        let refused = !reply.is_positive();
        context.result.mail = Some(reply);
        if refused && !plan.pipelined {
            return Advance::ready(true);
        }
        context.release_line(out);
        Advance::on(State::Recipient(ExpectRecipient { plan, index: 0, accepted: 0 }))
    }
}

impl ExpectRecipient {
    fn handle(mut self, context: &mut Context, reply: Reply, out: &mut Vec<u8>) -> Advance {
        self.accepted += usize::from(reply.is_positive());
        context.result.recipients[self.index] = Some(reply);
        self.index += 1;
        let Self { plan, index, accepted } = self;
        if index < plan.recipients {
            context.release_line(out);
            return Advance::on(State::Recipient(self));
        }
        if accepted == 0 && !plan.pipelined {
            return Advance::ready(true);
        }
        context.release_line(out);
        if !plan.chunking {
            return Advance::on(State::GoAhead(ExpectGoAhead { accepted }));
        }
        let state = State::Final(ExpectFinal::new(BodyForm::Verbatim));
        if plan.pipelined {
            return Advance::on(state);
        }
        context.body_due = Some(BodyForm::Verbatim);
        Advance { state, next: Some(Next::WriteBody(BodyForm::Verbatim)) }
    }
}

impl ExpectGoAhead {
    fn handle(self, context: &mut Context, reply: Reply, out: &mut Vec<u8>) -> Result<Advance, PeerError> {
        if !reply.is_intermediate() {
            context.result.body = Some(reply);
            return Ok(Advance::ready(true));
        }
        if self.accepted == 0 && context.config.lmtp {
            // DATA must fail without a recipient (RFC 2033 4.2); after a body no reply would be due at all.
            return Err(PeerError::UnexpectedReply { code: reply.code });
        }
        context.result.discard(reply);
        let form = BodyForm::DotStuffed;
        let state = State::Final(ExpectFinal::new(form));
        if self.accepted == 0 {
            // The peer waits for a body that nobody would get: an empty one ends it (RFC 2920 3.1).
            out.extend_from_slice(b".\r\n");
            return Ok(Advance::on(state));
        }
        context.body_due = Some(form);
        Ok(Advance { state, next: Some(Next::WriteBody(form)) })
    }
}

impl ExpectFinal {
    fn new(form: BodyForm) -> Self {
        Self { form, index: 0, refused: false }
    }

    /// After DATA the transaction is over whatever the reply; after a refused BDAT the peer may keep
    /// parts of it (RFC 3030 2).
    fn handle(mut self, context: &mut Context, reply: Reply) -> Advance {
        self.refused |= !reply.is_positive();
        let rset_needed = self.form == BodyForm::Verbatim && self.refused;
        let result = &mut context.result;
        if !context.config.lmtp {
            result.body = Some(reply);
            return Advance::ready(rset_needed);
        }
        let Some(index) = accepted_from(&result.recipients, self.index) else {
            // Nobody was accepted, and the peer says so.
            result.body = Some(reply);
            return Advance::ready(rset_needed);
        };
        result.bodies[index] = Some(reply);
        self.index = index + 1;
        if accepted_from(&result.recipients, self.index).is_some() {
            return Advance::on(State::Final(self));
        }
        Advance::ready(rset_needed)
    }
}

/// The first recipient at or after `index` whose RCPT was accepted.
fn accepted_from(recipients: &[Option<Reply>], index: usize) -> Option<usize> {
    let accepted = |reply: &Option<Reply>| reply.as_ref().is_some_and(Reply::is_positive);
    recipients.iter().skip(index).position(accepted).map(|at| index + at)
}

impl Context {
    /// Whether bodies go by BDAT.
    pub(super) fn chunking(&self) -> bool {
        self.config.chunking && self.capabilities.chunking
    }

    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            capabilities: Capabilities::default(),
            result: TransactionResult::default(),
            script: Vec::new(),
            script_at: 0,
            secured: None,
            starttls_refusal: None,
            transactions: 0,
            body_due: None,
        }
    }

    /// Copies the next waiting command line to the output; nothing where all are written.
    pub(super) fn release_line(&mut self, out: &mut Vec<u8>) {
        let waiting = &self.script[self.script_at..];
        let line_bytes = memchr::memchr(b'\n', waiting).map_or(waiting.len(), |end| end + 1);
        out.extend_from_slice(&waiting[..line_bytes]);
        self.script_at += line_bytes;
    }
}
