//! What the messages say and whom they are for: everything is made before the run, so that making a message
//! costs a few table look-ups and no allocation.
//!
//! [`plan`] is what the operator asked for, [`catalogue`] what all connections share, and [`Message`] what one
//! connection fills in again and again. Sender, recipients and body of a message depend on the seed and its
//! sequence number only, never on which connection sends it or when, so that a run can be repeated. What no
//! message can be made of is refused before the first connection is opened.

mod catalogue;
mod corpus;
mod domains;
mod foreign;
mod json;
mod plan;
mod pool;
mod recipients;
mod sizes;
mod template;
mod text;
mod weights;

pub(crate) use catalogue::{Catalogue, Frame, Message};
pub use corpus::{CORPUS_BYTES_DEFAULT, Corpus};
pub use domains::{Domain, is_domain};
pub(crate) use json::{JsonBodies, push_escaped};
pub use plan::{
    BODY_BYTES_MAX, ContentError, ContentPlan, MailFile, POOL_BODIES_MAX, POOL_BYTES_DEFAULT, check_header,
};
pub use recipients::{GROUPS_MAX, Group, PerMessage, RECIPIENTS_MAX, RecipientPlan, USERS_MAX, ZIPF_MAX};
pub use sizes::SizeDistribution;
