//! Ports on which something listens.
//!
//! The kernel lists listeners before connections, so the tables are read only as far as the first connection.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

/// The most that is read of one table, bytes.
const TABLE_BYTES_MAX: u64 = 4 << 20;

pub(super) fn listening(root: &Path) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for table in ["proc/net/tcp", "proc/net/tcp6"] {
        let Ok(file) = File::open(root.join(table)) else { continue };
        let lines = BufReader::new(file.take(TABLE_BYTES_MAX)).lines().skip(1).map_while(Result::ok);
        ports.extend(lines.map_while(|line| listener(&line)));
    }
    ports
}

/// `0: 0100007F:0CEA 00000000:0000 0A …` listens (0A) on port 0CEA.
fn listener(line: &str) -> Option<u16> {
    let mut columns = line.split_whitespace().skip(1);
    let (local, _remote, state) = (columns.next()?, columns.next()?, columns.next()?);
    let port = local.rsplit_once(':')?.1;
    (state == "0A").then(|| u16::from_str_radix(port, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listeners_count() {
        assert_eq!(listener("   0: 0100007F:2AF8 00000000:0000 0A 00000000:00000000"), Some(11_000));
        assert_eq!(listener("   1: 0100007F:2AF8 0100007F:AAAA 01 00000000:00000000"), None);
    }
}
