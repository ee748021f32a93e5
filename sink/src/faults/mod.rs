//! Faults as data: rules that say when the sink misbehaves, and how.
//!
//! `written` reads what an operator wrote, `meant` checks it, `rules` sorts it by stage, `dialogue` asks it
//! for one connection, and `live` exchanges it while mail passes. What a rule wants is done by the
//! connection. Rules that are wrong are refused as a whole; the rules before stay in force.

mod stage;

mod written;

mod meant;

mod pattern;

mod delay;

mod error;

mod rules;

mod dialogue;

mod dice;

mod tables;

mod magic;

mod live;

mod http;

mod notice;

mod postman;

mod persona;

#[cfg(test)]
mod tests;

pub use delay::DELAY_SECONDS_MAX;
pub(crate) use dialogue::{Acting, Dialogue, Found};
pub use error::RuleError;
pub(crate) use http::routes;
pub(crate) use live::Live;
pub(crate) use magic::asked_for;
#[cfg(test)]
pub(crate) use meant::ACTIONS;
pub(crate) use meant::Action;
pub use meant::{GARBAGE_BYTES_MAX, GREYLIST_SECONDS_MAX, TEXT_BYTES_MAX, TEXTS_MAX};
pub use persona::Persona;
pub(crate) use postman::Postman;
pub use stage::Stage;
pub(crate) use written::{BadTls, Then};
pub use written::{RULE_FILE_BYTES_MAX, RULE_NAME_BYTES_MAX, RULES_MAX, RuleSet};
