//! Values of the running kernel: how a file shows one, and how it is given one.
//!
//! Most files hold their value and nothing else. Some list what can be chosen and show the one in force in brackets
//! (`always [madvise] never`); those take the bare word. A tree is a picture of such files, so there the brackets move. A value
//! is read back after it was given; where it is another one, that is an error.

use std::path::Path;

use super::files::Files;
use super::journal::ValueChange;
use super::{ApplyError, Place};
use crate::facts::normal;

/// The value that a file's text shows.
pub(crate) fn shown(text: &str) -> String {
    chosen(text).map_or_else(|| normal(text), str::to_owned)
}

/// The words that can be chosen; empty for a file without a choice.
pub(crate) fn choices(text: &str) -> Vec<&str> {
    let words = text.split_whitespace().map(|word| word.trim_matches(['[', ']']));
    if chosen(text).is_some() { words.collect() } else { Vec::new() }
}

fn chosen(text: &str) -> Option<&str> {
    text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

/// Gives the kernel the new value, and reads it back.
pub(super) fn give(files: &mut dyn Files, place: &Place, value: &ValueChange) -> Result<(), ApplyError> {
    let path = place.root.join(&value.path);
    let wrong = |error| ApplyError::file(&path, error);
    let text = match chosen(&value.before) {
        Some(_) if !place.is_running_host() => picture(&value.before, &value.after),
        _ => format!("{}\n", value.after),
    };
    files.set(&path, &text).map_err(wrong)?;
    let found = shown(&files.read(&path).map_err(wrong)?.unwrap_or_default());
    if found == value.after {
        return Ok(());
    }
    let (key, given) = (value.key.clone(), value.after.clone());
    Err(ApplyError::ReadBack { key, given, found })
}

/// Gives it back what it had: in a tree to the byte.
pub(super) fn give_back(
    files: &mut dyn Files,
    place: &Place,
    path: &Path,
    before: &str,
) -> std::io::Result<()> {
    match chosen(before) {
        Some(word) if place.is_running_host() => files.set(path, &format!("{word}\n")),
        _ => files.set(path, before),
    }
}

fn picture(before: &str, word: &str) -> String {
    let words = choices(before).into_iter();
    let words: Vec<String> =
        words.map(|choice| if choice == word { format!("[{choice}]") } else { choice.to_owned() }).collect();
    words.join(" ") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_the_word_in_brackets() {
        assert_eq!(shown("always [madvise] never\n"), "madvise");
        assert_eq!(shown("4096\t16384\t4194304\n"), "4096 16384 4194304");
        assert_eq!(choices("none [mq-deadline] bfq\n"), ["none", "mq-deadline", "bfq"]);
        assert!(choices("performance\n").is_empty());
        assert_eq!(picture("[always] madvise never\n", "madvise"), "always [madvise] never\n");
    }
}
