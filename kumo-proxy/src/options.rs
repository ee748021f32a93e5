//! What the proxy was told to be, as meant.
//!
//! The command line is read into this type and nowhere else. Files are read here; what is in them that cannot be is an error with its line.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::rules::Rules;
use crate::tls::Tls;

/// Everything the proxy needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it waits for clients; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Where it answers for liveness and metrics.
    pub http_listen: Option<SocketAddr>,
    /// What is allowed.
    pub rules: Rules,
    /// How much and how long.
    pub limits: Limits,
    /// Move bytes with splice(2) where that is possible.
    pub splices: bool,
    /// For clients; without it they speak in clear.
    pub tls: Option<Arc<Tls>>,
}

/// How much and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Clients at once; more are closed.
    pub connections_max: usize,
    /// Clients at once from one address; more are closed.
    pub connections_per_client_max: usize,
    /// For a client to say what it wants, its handshake of TLS included.
    pub handshake: Duration,
    /// To reach where it wants to go.
    pub connect: Duration,
    /// For nothing to pass in either direction.
    pub idle: Duration,
    /// For connections to end by themselves when the proxy stops.
    pub drain: Duration,
}

/// Reads a file of `user:password` lines; empty ones and those that begin with `#` are left out.
///
/// # Errors
/// It cannot be read, or a line is not like that, in words that name file and line.
pub fn users(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut users = BTreeMap::new();
    for (index, line) in
        text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    {
        let pair = line.split_once(':').filter(|(user, password)| is_sendable(user) && is_sendable(password));
        let Some((user, password)) = pair else {
            let (path, line) = (path.display(), index + 1);
            return Err(format!("{path}:{line}: USER:PASSWORD is wanted, 1 to 255 bytes each"));
        };
        users.insert(user.into(), password.into());
    }
    if users.is_empty() {
        return Err(format!("{}: no user in it; add a line USER:PASSWORD", path.display()));
    }
    Ok(users)
}

/// RFC 1929 2: lengths are one byte.
fn is_sendable(text: &str) -> bool {
    (1..=255).contains(&text.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn users_are_read_and_a_bad_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            users(&path)
        };
        let found = read("# who\n\nme:a:b\nyou:c\n").unwrap();
        assert_eq!(found, BTreeMap::from([("me", "a:b"), ("you", "c")].map(|(u, p)| (u.into(), p.into()))));
        assert!(read("me:x\nyou\n").unwrap_err().contains("users:2: USER:PASSWORD is wanted"));
        assert!(read(&format!("me:{}\n", "x".repeat(256))).unwrap_err().contains(":1:"));
        assert!(read("# nobody\n").unwrap_err().contains("no user"));
        assert!(users(&folder.path().join("none")).unwrap_err().contains("none"));
    }
}
