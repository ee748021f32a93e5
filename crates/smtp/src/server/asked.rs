//! Commands whose course the caller may change, where it asked to be asked (`Questions::All`).
//!
//! Owns what is kept of such a command while the question is open. Accepted, it goes the way that it goes without
//! the question; refused, the reply is the caller's, and the state is what it was, except that the octets of a
//! refused BDAT are skipped and its transaction is over.

use super::body::{AfterSwallow, SwallowChunk};
use super::commands::{CommandState, ExpectRecipient};
use super::state::{Advance, Connection, Question, State};
use super::{Event, Verb};
use crate::reply::Reply;

/// A command that waits for the caller.
#[derive(Debug)]
pub(super) enum Asked {
    Data(ExpectRecipient),
    Chunk { state: ExpectRecipient, bytes: u64, last: bool },
    Other { verb: Verb, state: CommandState },
}

/// An answer was given, and the event that comes of it is still to be told.
#[derive(Debug)]
pub(super) struct Due {
    event: Event<'static>,
    then: State,
}

impl Asked {
    pub(super) fn ask<'i>(self, consumed: usize) -> Advance<'i> {
        let verb = match &self {
            Self::Data(_) => Verb::Data,
            Self::Chunk { .. } => Verb::Bdat,
            Self::Other { verb, .. } => *verb,
        };
        Advance::ask(Question::Command(Box::new(self)), consumed, Event::Command { verb })
    }

    /// A `reply` is of no use to DATA and BDAT, whose positive reply comes with the body.
    pub(super) fn accept(
        self,
        connection: &mut Connection,
        reply: Option<&Reply>,
        out: &mut Vec<u8>,
    ) -> State {
        let advance: Advance<'static> = match self {
            Self::Data(state) => state.begin_data(connection, 0, out),
            Self::Chunk { state, bytes, last } => state.begin_chunk(bytes, last, 0),
            Self::Other { verb, state } => connection.usual(verb, state, reply, 0, out),
        };
        match advance.event {
            None => advance.state,
            Some(event) => State::Due(Box::new(Due { event, then: advance.state })),
        }
    }

    pub(super) fn reject(self, connection: &Connection, reply: &Reply, out: &mut Vec<u8>) -> State {
        match self {
            Self::Chunk { state, bytes, last } => {
                let replies = connection.replies_due(&state.transaction, last);
                let then = AfterSwallow::Refused { reply: Box::new(reply.clone()), replies };
                State::Swallow(SwallowChunk { bytes_remaining: bytes, then })
            }
            Self::Data(state) => {
                connection.reply(reply, out);
                state.into()
            }
            Self::Other { state, .. } => {
                connection.reply(reply, out);
                state.into()
            }
        }
    }
}

impl Due {
    pub(super) fn tell<'i>(self) -> Advance<'i> {
        Advance::event(self.then, 0, self.event)
    }
}
