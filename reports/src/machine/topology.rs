//! How processors are put together: packages, cores, threads, caches, nodes of memory.
//!
//! It owns the way through `/sys/devices/system/cpu` and `node`. It refuses nothing: a kernel that does not say leaves it
//! unknown, and so does a list that names more processors than there can be.

use std::collections::BTreeSet;
use std::path::Path;

use super::probe::{list, list_count};
use super::{Cache, NumaNode};
use crate::files;

/// Caches of one processor that are looked at; there are four or five.
const CACHES_MAX: u32 = 16;

#[derive(Default)]
pub(super) struct Topology {
    pub(super) sockets: Option<u32>,
    pub(super) cores: Option<u32>,
    pub(super) threads_per_core: Option<u32>,
}

pub(super) fn probe(root: &Path) -> Topology {
    let folder = files::below(root, "/sys/devices/system/cpu");
    let online = list(&files::line(&folder.join("online")).unwrap_or_default());
    let number = |cpu: u32, name: &str| files::number(&folder.join(format!("cpu{cpu}/topology/{name}")));
    // A core's number is unique in its die, and a die's in its package; older kernels know no dies.
    let places: Option<Vec<[u64; 3]>> = online
        .iter()
        .map(|cpu| {
            let die = number(*cpu, "die_id").unwrap_or(0);
            Some([number(*cpu, "physical_package_id")?, die, number(*cpu, "core_id")?])
        })
        .collect();
    let Some(places) = places.filter(|places| !places.is_empty()) else {
        return Topology::default();
    };
    let count = |distinct: usize| u32::try_from(distinct).ok();
    let first = places[0];
    Topology {
        sockets: count(places.iter().map(|place| place[0]).collect::<BTreeSet<_>>().len()),
        cores: count(places.iter().collect::<BTreeSet<_>>().len()),
        threads_per_core: count(places.iter().filter(|place| **place == first).count()),
    }
}

pub(super) fn caches(root: &Path) -> Vec<Cache> {
    let folder = files::below(root, "/sys/devices/system/cpu/cpu0/cache");
    let folders = (0..CACHES_MAX).map(|index| folder.join(format!("index{index}")));
    folders
        .take_while(|folder| folder.is_dir())
        .map(|folder| Cache {
            level: files::number(&folder.join("level")).and_then(|level| u32::try_from(level).ok()),
            kind: files::line(&folder.join("type")).map(|kind| kind.to_ascii_lowercase()),
            bytes: files::line(&folder.join("size")).and_then(|size| bytes(&size)),
            shared_by: files::line(&folder.join("shared_cpu_list")).and_then(|list| list_count(&list)),
        })
        .collect()
}

/// `48K` is 49,152 bytes.
fn bytes(size: &str) -> Option<u64> {
    let kibibytes = size.strip_suffix('K')?.parse::<u64>().ok()?;
    kibibytes.checked_mul(1024)
}

pub(super) fn numa(root: &Path) -> Vec<NumaNode> {
    let folder = files::below(root, "/sys/devices/system/node");
    let online = list(&files::line(&folder.join("online")).unwrap_or_default());
    online
        .into_iter()
        .map(|node| {
            let own = folder.join(format!("node{node}"));
            let cpus = std::fs::read_to_string(own.join("cpulist")).ok().map(|list| list.trim().to_owned());
            let info = std::fs::read_to_string(own.join("meminfo")).unwrap_or_default();
            // Each line begins with the node's name.
            let info = info.replace(&format!("Node {node} "), "");
            NumaNode { node, cpus, memory_bytes: files::kibibytes(&info, "MemTotal") }
        })
        .collect()
}
