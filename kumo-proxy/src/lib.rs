//! `kumo-proxy`, a SOCKS5 server through which the nodes of a cluster share the addresses that mail comes from.
//!
//! A client says which address of this host it wants to come from (a BIND request) and where it wants to go (a CONNECT request); from
//! then on bytes are moved, by splice(2) where both sides are plain sockets. It refuses everybody who is not on a list, and reads nothing
//! of what it moves. Modules stand in the order in which a connection passes them.

pub mod options;

pub mod server;

pub mod tls;

pub mod handshake;
pub mod socks;

pub mod rules;

pub mod dial;

pub mod pipes;
pub mod relay;

pub mod http;
pub mod metrics;
