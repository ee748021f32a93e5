//! Resource limits of this process.
//!
//! It owns the way from the table in `/proc/self/limits` to the record. It refuses nothing; a row that is missing is unknown.

use std::path::Path;

use super::Limits;
use crate::files;

pub(super) fn probe(root: &Path) -> Limits {
    let text = files::text(root, "/proc/self/limits").unwrap_or_default();
    let both = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let mut values = line.split_ascii_whitespace().map(limit);
        Some((values.next()??, values.next()??))
    };
    let (files, locked, processes) =
        (both("Max open files"), both("Max locked memory"), both("Max processes"));
    let soft = |pair: Option<(u64, u64)>| pair.map(|(soft, _)| soft);
    let hard = |pair: Option<(u64, u64)>| pair.map(|(_, hard)| hard);
    Limits {
        nofile_soft: soft(files),
        nofile_hard: hard(files),
        memlock_bytes: soft(locked),
        memlock_hard_bytes: hard(locked),
        nproc_soft: soft(processes),
        nproc_hard: hard(processes),
        stack_bytes: soft(both("Max stack size")),
        address_space_bytes: soft(both("Max address space")),
        file_bytes: soft(both("Max file size")),
        core_bytes: soft(both("Max core file size")),
    }
}

fn limit(text: &str) -> Option<u64> {
    if text == "unlimited" { Some(u64::MAX) } else { text.parse().ok() }
}
