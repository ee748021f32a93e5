//! Makes a Debian package of programs that are built already.
//!
//! Owns everything that an installed kumod has beside its programs: the unit, the user, man pages, completion, the scripts that run
//! when it is installed and removed. Builds nothing itself, touches nothing but its output folder, and makes the same package of the same
//! programs each time. Man pages and completion come from what the programs say of themselves (`--help`), so that they cannot differ.

pub mod programs;

pub mod help;

pub mod completion;
pub mod manual;
pub mod markdown;
pub mod roff;

pub mod control;
pub mod package;
pub mod staging;

mod error;

pub use error::{During, Error, Result};
