//! Wishes as they are written: `KEY=VALUE`, or a file as sysctl reads it.
//!
//! Refuses a key that no rule knows, because nobody could say whether its value makes something worse.

use std::collections::BTreeMap;

use crate::rule::built_in;

/// Most bytes of a file of wishes.
pub const WISHES_BYTES_MAX: u64 = 1 << 20;

/// Why a wish cannot be read. The operator wrote it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WishError {
    /// No equals sign.
    #[error("{origin}: `{text}` is not of the form KEY=VALUE")]
    Form {
        /// The flag, or the file and the line.
        origin: String,
        /// What was written.
        text: String,
    },
    /// A key that no rule knows.
    #[error(
        "{origin}: no rule knows `{key}`, so nobody can say whether a value makes it worse; `tuner check --all` lists the keys"
    )]
    UnknownKey {
        /// The flag, or the file and the line.
        origin: String,
        /// What was written.
        key: String,
    },
}

/// Adds the wishes of a file, comments and empty lines left out; the last of two for one key holds.
///
/// # Errors
/// The first line that is not a wish.
pub fn add_file(wishes: &mut BTreeMap<String, String>, name: &str, text: &str) -> Result<(), WishError> {
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with(['#', ';']) {
            add(wishes, &format!("{name}:{number}"), line)?;
        }
    }
    Ok(())
}

/// Adds one wish; `origin` names it in an error.
///
/// # Errors
/// No equals sign, or a key that no rule knows.
pub fn add(wishes: &mut BTreeMap<String, String>, origin: &str, text: &str) -> Result<(), WishError> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(WishError::Form { origin: origin.into(), text: text.into() });
    };
    // sysctl takes slashes too, and a dash before a key that may fail.
    let key = key.trim().trim_start_matches('-').replace('/', ".");
    if !built_in().iter().any(|rule| rule.key == key) {
        return Err(WishError::UnknownKey { origin: origin.into(), key });
    }
    wishes.insert(key, value.trim().into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_sysctl_reads_it_and_a_slip_is_named_with_its_line() {
        let mut wishes = BTreeMap::new();
        let text = "# page\nnet.core.somaxconn = 1024\n\n-net/ipv4/tcp_tw_reuse=1\n; end\n";
        add_file(&mut wishes, "page.conf", text).unwrap();
        let read: Vec<_> = wishes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(read, [("net.core.somaxconn", "1024"), ("net.ipv4.tcp_tw_reuse", "1")]);
        let problem =
            add_file(&mut wishes, "page.conf", "\nnet.core.somaxcon = 1\n").unwrap_err().to_string();
        assert!(problem.starts_with("page.conf:2: no rule knows `net.core.somaxcon`"), "{problem}");
    }
}
