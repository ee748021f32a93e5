//! Where a certificate, a key or another secret is kept: a file, or the policy itself.
//!
//! Refuses the places that KumoMTA knows and kumod does not serve. The content of an inline secret shows in no text of ours.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Deserializer};

/// Where to read it: `'/etc/kumod/tls.pem'` or `{ key_data = '-----BEGIN ...' }`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// A file, read again when it has changed.
    File(PathBuf),
    /// The content itself.
    Inline(String),
}

impl KeySource {
    /// How the file is now; `None` for content that cannot change, and for a file that is not there.
    pub fn state(&self) -> Option<FileState> {
        match self {
            Self::File(path) => FileState::of(path),
            Self::Inline(_) => None,
        }
    }

    /// Reads the content.
    ///
    /// # Errors
    /// The file cannot be read, or is larger than any certificate.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::Inline(content) => Ok(content.clone().into_bytes()),
            Self::File(path) => {
                if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
                    return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
                }
                std::fs::read(path)
            }
        }
    }
}

/// By what a file that was replaced or written to is told from what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileState {
    modified: SystemTime,
    bytes: u64,
    inode: u64,
}

impl FileState {
    /// As the file is now; `None` where there is none that can be seen.
    pub fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { modified: metadata.modified().ok()?, bytes: metadata.len(), inode: metadata.ino() })
    }
}

/// Bytes of a file with certificates or a key.
const FILE_BYTES_MAX: u64 = 4 << 20;

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Inline(_) => f.write_str("key_data"),
        }
    }
}

/// Without the content.
impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySource({self})")
    }
}

impl<'de> Deserialize<'de> for KeySource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wanted = "a file name or { key_data = '...' } is wanted; a vault and an event are not available";
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(path) if !path.is_empty() => Ok(Self::File(path.into())),
            serde_json::Value::Object(mut map) if map.len() == 1 => match map.remove("key_data") {
                Some(serde_json::Value::String(content)) => Ok(Self::Inline(content)),
                _ => Err(serde::de::Error::custom(wanted)),
            },
            _ => Err(serde::de::Error::custom(wanted)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_source_is_a_file_or_the_content_and_nothing_else() {
        let read = |json| serde_json::from_str::<KeySource>(json);
        assert_eq!(read(r#""/etc/tls.pem""#).unwrap(), KeySource::File("/etc/tls.pem".into()));
        let inline = read(r#"{"key_data": "secret-7"}"#).unwrap();
        assert_eq!(inline.read().unwrap(), b"secret-7");
        assert!(!format!("{inline:?} {inline}").contains("secret-7"));
        for json in [r#""""#, "7", "{}", r#"{"vault_mount": "x"}"#, r#"{"key_data": "x", "vault_path": "y"}"#]
        {
            assert!(read(json).unwrap_err().to_string().contains("a file name or"), "{json}");
        }
    }
}
