//! SMTP from clients: sockets and buffers here, the protocol in `crates/smtp`, the decision to take a message in `intake`.

mod body;
mod clients;
mod connection;
mod listener;
mod profile;
mod proxy_header;
mod scram;
mod stream;
mod tls;

pub use body::{BodyBudget, BodyPool, Reservation};
pub use clients::ClientCounts;
pub use listener::{Inbound, SmtpDoor};
pub use tls::TlsError;
