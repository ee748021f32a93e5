//! SMTP from clients: sockets and buffers here, the protocol in `crates/smtp`, the decision to take a message in `intake`.

mod body;
mod connection;
mod listener;
mod profile;
mod stream;
mod tls;

pub use body::{BodyBudget, BodyPool, Reservation};
pub use listener::{Inbound, SmtpDoor};
pub use tls::TlsError;
