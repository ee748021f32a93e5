//! Memory: how much, how it is paged, what lies behind it.
//!
//! It owns that part of the record. It refuses nothing; what is missing stays unknown.

use std::path::Path;

use super::{Memory, probe::chosen};
use crate::files;

/// What the kernel calls devices that keep swapped pages in memory, compressed.
const COMPRESSED_SWAP: &str = "/dev/zram";

pub(super) fn probe(root: &Path) -> Memory {
    let info = files::text(root, "/proc/meminfo").unwrap_or_default();
    let huge_pages = |name: &str| {
        let path = format!("/sys/kernel/mm/transparent_hugepage/{name}");
        files::line(&files::below(root, &path)).as_deref().and_then(chosen)
    };
    Memory {
        total_bytes: files::kibibytes(&info, "MemTotal"),
        available_bytes: files::kibibytes(&info, "MemAvailable"),
        usable_bytes: None,
        swap_bytes: files::kibibytes(&info, "SwapTotal"),
        transparent_huge_pages: huge_pages("enabled"),
        transparent_huge_pages_defrag: huge_pages("defrag"),
        huge_page_bytes: files::kibibytes(&info, "Hugepagesize"),
        swap_compressed: swap_compressed(&files::text(root, "/proc/swaps").unwrap_or_default()),
        huge_pages: files::field(&info, "HugePages_Total").and_then(|count| count.parse().ok()),
    }
}

/// By the table of swap spaces, whose first line is a heading.
fn swap_compressed(table: &str) -> Option<bool> {
    let spaces: Vec<&str> = table.lines().skip(1).collect();
    (!spaces.is_empty()).then(|| spaces.iter().any(|space| space.starts_with(COMPRESSED_SWAP)))
}

#[cfg(test)]
mod tests {
    use super::swap_compressed;

    #[test]
    fn compressed_swap_is_told_from_disks() {
        let heading = "Filename\tType\tSize\tUsed\tPriority\n";
        assert_eq!(swap_compressed(heading), None);
        assert_eq!(swap_compressed(&format!("{heading}/dev/sda2 partition 1 0 -2\n")), Some(false));
        assert_eq!(swap_compressed(&format!("{heading}/dev/zram0 partition 1 0 100\n")), Some(true));
    }
}
