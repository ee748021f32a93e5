//! Why a measurement could not be made, sorted by who has to do something about it.
//!
//! It owns the sentence that the operator reads. It refuses to hide a cause: a failed system call is always carried
//! along. Nothing here fails.

use std::io;

/// Why the laboratory gave up. The variant says who is to blame.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program on the other end of a connection, or a child process, did not keep to what it promises.
    #[error("peer: {0}")]
    Peer(String),
    /// The command line or the checkout asks for something that cannot be done.
    #[error("operator: {0}")]
    Operator(String),
    /// The machine refused a system call.
    #[error("host: {what}: {source}")]
    Host {
        /// What was being done, and to which file or address.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The machine has not got what is needed; no system call failed.
    #[error("host: {0}")]
    Unable(String),
    /// SIGINT or SIGTERM arrived; whatever was measured until then has been written.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The exit code of a tool that ends with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::Operator(_) => 2,
            Self::Peer(_) | Self::Host { .. } | Self::Unable(_) => 1,
        }
    }
}

/// What every fallible function of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Names what was being done when a system call failed.
pub trait During<T> {
    /// Wraps the error as the host's, with `what` in front of it. `what` is only called on failure.
    ///
    /// # Errors
    /// The same failure, with its context.
    fn during(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Host { what: what(), source: source.into() })
    }
}
