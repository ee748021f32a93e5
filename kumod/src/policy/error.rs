//! Why a policy could not be loaded or did not answer: the file, the line, what was wrong, and what to do about it.
//!
//! To blame is the operator who wrote the file; the text is made so that it can be corrected without reading anything else.
//! A failure whose place is not known is shown without a line rather than with a guess.

use std::fmt;
use std::path::{Path, PathBuf};

use super::event::Event;

const STACK: &str = "\nstack traceback:\n";

/// A policy is not as it must be. `Display` gives one line: `FILE:LINE: in event 'NAME': REASON; REMEDY`.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub struct PolicyError {
    file: PathBuf,
    line: Option<u32>,
    event: Option<&'static str>,
    reason: String,
    remedy: &'static str,
    traceback: Option<String>,
}

impl PolicyError {
    /// The policy file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The line of the policy file, from 1, where one is known.
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// The calls that led there, innermost first, one a line.
    pub fn traceback(&self) -> Option<&str> {
        self.traceback.as_deref()
    }

    pub(super) fn new(file: &Path, reason: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            event: None,
            reason: reason.into(),
            remedy,
            traceback: None,
        }
    }

    pub(super) fn in_event(self, event: Event) -> Self {
        Self { event: Some(event.name()), ..self }
    }

    /// What Lua said. `chunk` is the name under which Lua knows the file.
    pub(super) fn from_lua(file: &Path, chunk: &str, error: &mlua::Error) -> Self {
        let (text, traceback) = describe(error);
        let (line, reason) = split_line(chunk, text.trim());
        let remedy =
            if is_memory(error) { "let the policy hold less at a time" } else { "correct the policy" };
        Self { line, traceback, ..Self::new(file, reason, remedy) }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(event) = self.event {
            write!(f, ": in event '{event}'")?;
        }
        write!(f, ": {}; {}", self.reason, self.remedy)
    }
}

/// Whether the state ran into its memory limit. What is left of it may be half built.
pub(super) fn is_memory(error: &mlua::Error) -> bool {
    match error {
        mlua::Error::MemoryError(_) => true,
        mlua::Error::CallbackError { cause, .. } => is_memory(cause),
        _ => false,
    }
}

/// The message without the wrappings that say how it travelled, and the stack at its origin.
fn describe(error: &mlua::Error) -> (String, Option<String>) {
    match error {
        mlua::Error::CallbackError { traceback, cause } => {
            let (text, inner) = describe(cause);
            let outer = traceback.trim_start_matches("stack traceback:\n").to_owned();
            (text, inner.or(Some(outer)))
        }
        mlua::Error::RuntimeError(text) => match text.split_once(STACK) {
            Some((text, stack)) => (text.to_owned(), Some(stack.to_owned())),
            None => (text.clone(), None),
        },
        mlua::Error::SyntaxError { message, .. } => (message.clone(), None),
        mlua::Error::MemoryError(_) => {
            let text =
                format!("a Lua state may hold {} MiB at most", super::lua::STATE_MEMORY_BYTES_MAX >> 20);
            (text, None)
        }
        other => (other.to_string(), None),
    }
}

/// `relay.lua:12: reason` gives line and reason; a place in another file stays part of the reason.
fn split_line(chunk: &str, text: &str) -> (Option<u32>, String) {
    let place = text.strip_prefix(chunk).and_then(|rest| rest.strip_prefix(':'));
    let parted = place.and_then(|rest| rest.split_once(": "));
    match parted.and_then(|(digits, reason)| Some((digits.parse().ok()?, reason))) {
        Some((line, reason)) => (Some(line), reason.to_owned()),
        None => (None, text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_taken_from_the_policy_itself_only() {
        assert_eq!(split_line("p.lua", "p.lua:12: bad: worse"), (Some(12), "bad: worse".to_owned()));
        assert_eq!(split_line("p.lua", "q.lua:12: bad"), (None, "q.lua:12: bad".to_owned()));
        assert_eq!(split_line("p.lua", "p.lua: bad"), (None, "p.lua: bad".to_owned()));
        assert_eq!(split_line("p.lua", ""), (None, String::new()));
    }

    #[test]
    fn the_text_names_file_line_event_reason_and_remedy() {
        let lua = mlua::Error::RuntimeError(
            "p.lua:3: no\nstack traceback:\n\tp.lua:3: in function <p.lua:2>".to_owned(),
        );
        let error = PolicyError::from_lua(Path::new("/etc/kumod/p.lua"), "p.lua", &lua).in_event(Event::Init);
        assert_eq!(error.to_string(), "/etc/kumod/p.lua:3: in event 'init': no; correct the policy");
        assert_eq!(error.traceback(), Some("\tp.lua:3: in function <p.lua:2>"));
    }
}
