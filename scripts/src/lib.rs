//! `tidy`: the style and architecture check, run as a test of this crate and as a command.
//!
//! Owns the rules that neither the compiler nor clippy can see: which crate and which module may use which, who may
//! call the two doors of mail, and what every file must and must not hold. It reads the checkout and changes nothing. It
//! fails on rules, never on length: lengths are figures, printed beside those of codebases we admire.
//!
//! Reading order: [`tree`] the files, [`code`] how a source file is read, [`checks`] one module for each family of
//! rules, [`figures`] the lengths.

pub mod checks;
pub mod code;
pub mod figures;
pub mod tree;

pub use checks::{Finding, check};
pub use tree::Tree;
