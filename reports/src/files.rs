//! Small readers of kernel files below a root folder.
//!
//! It owns the rule that every path of `/proc` and `/sys` is looked up below a root, so that tests can
//! show a machine that does not exist. It refuses nothing and never fails: a file that is missing,
//! unreadable, empty or not UTF-8 is simply unknown.

use std::fs;
use std::path::{Path, PathBuf};

/// `/proc/stat` below `/fake` is `/fake/proc/stat`.
pub(crate) fn below(root: &Path, absolute: &str) -> PathBuf {
    root.join(absolute.trim_start_matches('/'))
}

/// The whole file, or `None` when it cannot be read as text.
pub(crate) fn text(root: &Path, absolute: &str) -> Option<String> {
    fs::read_to_string(below(root, absolute)).ok()
}

/// The file's content without surrounding white space; `None` when that is nothing.
pub(crate) fn line(path: &Path) -> Option<String> {
    let content = fs::read_to_string(path).ok()?;
    let trimmed = content.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

/// The file's content as a number.
pub(crate) fn number(path: &Path) -> Option<u64> {
    line(path)?.parse().ok()
}

/// The value of `Key: value` in a file such as `/proc/meminfo`, without surrounding white space.
pub(crate) fn field<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// The value of `Key: 123 kB`, in bytes.
pub(crate) fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let value = field(text, key)?.strip_suffix("kB")?;
    value.trim().parse::<u64>().ok()?.checked_mul(1024)
}
