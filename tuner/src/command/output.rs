//! Where results go: text to standard output, JSON to a file or in place of the text.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;
use tuner::table::Style;

use super::{Common, Failure};

impl Common {
    /// Whether the text gives way to JSON on standard output.
    pub(super) fn is_silent(&self) -> bool {
        self.json.as_deref() == Some(Path::new("-"))
    }

    /// How tables are drawn here: colour for a terminal, unless <https://no-color.org> is asked for.
    pub(super) fn style(&self) -> Style {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Style { colour: !refused && !dumb && io::stdout().is_terminal(), all: self.all }
    }

    /// Writes text unless JSON takes its place.
    pub(super) fn tell(&self, text: &str) {
        if !self.is_silent() {
            say(text);
        }
    }

    /// Writes JSON where it was asked for.
    pub(super) fn record(&self, value: &impl Serialize) -> Result<(), Failure> {
        let Some(path) = &self.json else { return Ok(()) };
        let text = serde_json::to_string_pretty(value).map_err(Failure::error)? + "\n";
        if self.is_silent() {
            say(&text);
            return Ok(());
        }
        let wrong =
            |error| Failure::error(format!("--json: {} could not be written: {error}", path.display()));
        fs::write(path, text).map_err(wrong)
    }
}

/// A reader that has seen enough closes the pipe (`tuner | head`); the exit code still tells the verdict.
pub(super) fn say(text: &str) {
    let _reader_may_be_gone = io::stdout().write_all(text.as_bytes());
}
