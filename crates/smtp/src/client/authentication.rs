//! AUTH (RFC 4954), seen from the client: which mechanism, and what is said in turn.
//!
//! Owns the choice: a proof before a password, and a password only over what the caller holds to be safe enough for it. Refuses a
//! server that lets us in by SCRAM without having shown that it knows the password: it may be anybody (RFC 5802 5).
//! Credentials are written when they are due and kept nowhere else.

use super::state::{Advance, Context, State};
use super::{Credentials, Mechanism, PeerError, Secured};
use crate::auth::{self, write_response};
use crate::reply::Reply;
use crate::scram::{Asked, Begun};

/// AUTH was written; what comes next.
#[derive(Debug)]
pub(super) enum ExpectAuth {
    /// The password: so many responses are still to be written, each after a 334.
    Password { mechanism: Mechanism, responses_left: usize },
    /// SCRAM: 334, and then our first message, which was too long for the command.
    Invitation(Box<Begun>),
    /// SCRAM: the challenge.
    Challenge(Box<Begun>),
    /// SCRAM: the server's signature.
    Signature(Box<Asked>),
    /// SCRAM: 235.
    Welcome,
}

impl ExpectAuth {
    /// Writes AUTH with the best mechanism of those that are offered.
    pub(super) fn begin(
        credentials: &Credentials,
        offered: &[String],
        secured: Option<Secured>,
        out: &mut Vec<u8>,
    ) -> Result<Self, PeerError> {
        let begun = Begun::new(&credentials.user, &credentials.nonce);
        let (may_prove, may_send) = (begun.is_some(), secured >= credentials.password_needs);
        let is_fit = |mechanism: &Mechanism| {
            credentials.mechanism.is_none_or(|wanted| wanted == *mechanism)
                && offered.iter().any(|name| name == mechanism.name())
        };
        let is_safe = |mechanism: &Mechanism| if mechanism.sends_password() { may_send } else { may_prove };
        let fit = || Mechanism::ALL.into_iter().filter(is_fit);
        let mechanism = fit().find(is_safe).ok_or_else(|| match fit().next() {
            Some(mechanism) if mechanism.sends_password() => PeerError::AuthNeedsTls { secured },
            _ => PeerError::AuthNotOffered { mechanism: credentials.mechanism },
        })?;
        Ok(match (mechanism, begun) {
            (Mechanism::ScramSha256, Some(begun)) => {
                let is_said = auth::write_command(mechanism, Some(&begun.message()), out);
                let begun = Box::new(begun);
                if is_said { Self::Challenge(begun) } else { Self::Invitation(begun) }
            }
            (Mechanism::Plain, _) => {
                let is_said = auth::write_command(mechanism, Some(&credentials.plain()), out);
                Self::Password { mechanism, responses_left: usize::from(!is_said) }
            }
            _ => {
                auth::write_command(mechanism, None, out);
                Self::Password { mechanism, responses_left: 2 }
            }
        })
    }

    /// Success before the last response, or a challenge after it, answers no exchange of these mechanisms.
    pub(super) fn handle(
        self,
        context: &mut Context,
        reply: Reply,
        out: &mut Vec<u8>,
    ) -> Result<Advance, PeerError> {
        if reply.is_transient() || reply.is_permanent() {
            return Ok(context.turn_away(reply, out));
        }
        let is_over = matches!(self, Self::Welcome | Self::Password { responses_left: 0, .. });
        if reply.is_positive() != is_over {
            return Err(match self {
                Self::Signature(_) => PeerError::AuthServerUnproven,
                _ => PeerError::UnexpectedReply { code: reply.code },
            });
        }
        if is_over {
            context.result.discard(reply);
            return Ok(Advance::ready(false));
        }
        let state = self.respond(context, &reply.text, out)?;
        context.result.discard(reply);
        Ok(Advance::on(State::Auth(state)))
    }

    /// What a 334 with this text is answered.
    fn respond(self, context: &Context, text: &str, out: &mut Vec<u8>) -> Result<Self, PeerError> {
        let Some(credentials) = &context.config.auth else {
            return Ok(self);
        };
        let text = || auth::decode(text).map_err(|_| PeerError::AuthChallengeUnusable);
        Ok(match self {
            Self::Invitation(begun) => {
                write_response(&begun.message(), out);
                Self::Challenge(begun)
            }
            Self::Challenge(begun) => {
                let proved = begun.prove(&credentials.password, &text()?);
                let (asked, proof) = proved.map_err(|_| PeerError::AuthChallengeUnusable)?;
                write_response(&proof, out);
                Self::Signature(Box::new(asked))
            }
            Self::Signature(asked) => {
                if !text().is_ok_and(|text| asked.is_answered_by(&text)) {
                    return Err(PeerError::AuthServerUnproven);
                }
                out.extend_from_slice(b"\r\n");
                Self::Welcome
            }
            Self::Password { mechanism, responses_left } => {
                match (mechanism, responses_left) {
                    (Mechanism::Plain, _) => write_response(&credentials.plain(), out),
                    (_, 2) => write_response(&credentials.user, out),
                    _ => write_response(&credentials.password, out),
                }
                Self::Password { mechanism, responses_left: responses_left - 1 }
            }
            Self::Welcome => Self::Welcome,
        })
    }
}
