//! What can go wrong, and who has to do something about it.

use std::io;

use thiserror::Error;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why there is no package. The text names what was given and the remedy.
#[derive(Debug, Error)]
pub enum Error {
    /// What was asked cannot be.
    #[error("{0}")]
    Operator(String),
    /// A file or folder.
    #[error("cannot {action}: {source}")]
    Host {
        /// What was tried.
        action: String,
        /// What the host said.
        source: io::Error,
    },
    /// Another program did not do its part.
    #[error("{program} failed: {said}")]
    Program {
        /// The program with its arguments.
        program: String,
        /// How it ended, and what it said.
        said: String,
    },
}

/// Says what was being done when the host refused.
pub trait During<T> {
    /// `action` completes the sentence "cannot ...".
    ///
    /// # Errors
    /// [`Error::Host`].
    fn during(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Host { action: action(), source })
    }
}
