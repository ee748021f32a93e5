//! Counters that show whether a setting is needed.
//!
//! Owns their names. All are since boot, or a state at this moment; the network's are those of this network namespace. A
//! counter that cannot be read is missing, which shows no need.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};

use super::Host;

/// The most that is read of the table of connections, bytes: some hundred thousand rows, read only when the number of
/// connections in TIME_WAIT asks for it.
const CONNECTIONS_BYTES_MAX: u64 = 16 << 20;

/// Counters of `/proc/net/netstat` and `/proc/net/snmp`: group, the kernel's name, ours.
const NETWORK: [(&str, &str, &str); 8] = [
    ("TcpExt", "ListenOverflows", "listen_overflows"),
    ("TcpExt", "ListenDrops", "listen_drops"),
    ("TcpExt", "SyncookiesSent", "syncookies_sent"),
    ("TcpExt", "TCPReqQFullDrop", "syn_queue_full_drops"),
    ("TcpExt", "TCPMemoryPressures", "tcp_memory_pressures"),
    ("TcpExt", "TCPTimeWaitOverflow", "time_wait_overflows"),
    ("Udp", "RcvbufErrors", "udp_receive_buffer_errors"),
    ("Udp", "SndbufErrors", "udp_send_buffer_errors"),
];

pub(super) fn gather(host: &Host) -> BTreeMap<String, u64> {
    let mut counters = BTreeMap::new();
    let mut note = |name: &str, value: Option<u64>| {
        if let Some(value) = value {
            counters.insert(name.to_owned(), value);
        }
    };
    let network = [host.read("proc/net/netstat"), host.read("proc/net/snmp")];
    for (group, theirs, ours) in NETWORK {
        note(ours, network.iter().flatten().find_map(|text| in_group(text, group, theirs)));
    }
    let softnet = host.read("proc/net/softnet_stat").unwrap_or_default();
    note("softnet_dropped", hexadecimal_sum(&softnet, 1));
    note("softnet_squeezed", hexadecimal_sum(&softnet, 2));
    let sockets = host.read("proc/net/sockstat").unwrap_or_default();
    let time_wait = after_word(&sockets, "TCP:", "tw");
    note("time_wait", time_wait);
    note("tcp_orphans", after_word(&sockets, "TCP:", "orphan"));
    note("time_wait_to_one_destination_percent_of_ports", time_wait.and_then(|all| port_share(host, all)));
    note("tcp_timestamps", number(host, "proc/sys/net/ipv4/tcp_timestamps"));
    let tracked = number(host, "proc/sys/net/netfilter/nf_conntrack_count");
    note("conntrack_entries", tracked);
    let tracked_max = number(host, "proc/sys/net/netfilter/nf_conntrack_max").filter(|max| *max > 0);
    note("conntrack_percent_full", tracked.zip(tracked_max).map(|(count, max)| count * 100 / max));
    note("swap_on_disk_bytes", host.read("proc/swaps").ok().map(|text| swap_on_disk_bytes(&text)));
    counters
}

fn number(host: &Host, path: &str) -> Option<u64> {
    host.read(path).ok()?.parse().ok()
}

/// A group is two lines, names and numbers, both beginning with the group's name.
fn in_group(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(':'));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(numbers.split_whitespace());
    pairs.find(|(theirs, _)| *theirs == name)?.1.parse().ok()
}

/// One row for each processor, columns in base 16.
fn hexadecimal_sum(text: &str, column: usize) -> Option<u64> {
    let values = text.lines().map(|line| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok());
    (!text.is_empty()).then(|| values.sum::<Option<u64>>())?
}

/// `TCP: inuse 1 orphan 0 tw 948` is 948 after `tw`.
fn after_word(text: &str, line: &str, word: &str) -> Option<u64> {
    let line = text.lines().find_map(|candidate| candidate.strip_prefix(line))?;
    line.split_whitespace().skip_while(|candidate| *candidate != word).nth(1)?.parse().ok()
}

/// Swap that is not compressed memory.
fn swap_on_disk_bytes(text: &str) -> u64 {
    let disks = text.lines().skip(1).filter(|line| !line.contains("zram"));
    disks.filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum::<u64>() * 1024
}

/// The most ports in TIME_WAIT to one destination, as a part of the range. Where all of them together are less than
/// half of it, no destination can have half, and the table is not read.
fn port_share(host: &Host, time_wait: u64) -> Option<u64> {
    let range = host.read("proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let (first, last) = range.split_once(char::is_whitespace)?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let ports = (last + 1).checked_sub(first).filter(|ports| *ports > 0)?;
    if time_wait * 2 < ports {
        return Some(time_wait * 100 / ports);
    }
    let most = ["proc/net/tcp", "proc/net/tcp6"].iter().map(|table| to_one_destination(host, table)).max()?;
    Some(most * 100 / ports)
}

/// Columns of the table: number, local, remote, state; 06 is TIME_WAIT.
fn to_one_destination(host: &Host, table: &str) -> u64 {
    let Ok(file) = File::open(host.root().join(table)) else { return 0 };
    let mut destinations: BTreeMap<String, u64> = BTreeMap::new();
    for line in BufReader::new(file.take(CONNECTIONS_BYTES_MAX)).lines().map_while(Result::ok) {
        let mut columns = line.split_whitespace().skip(2);
        if let (Some(remote), Some("06")) = (columns.next(), columns.next()) {
            *destinations.entry(remote.to_owned()).or_default() += 1;
        }
    }
    destinations.into_values().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let text = "TcpExt: SyncookiesSent ListenOverflows\nTcpExt: 0 17\nIpExt: X\nIpExt: 3\n";
        assert_eq!(in_group(text, "TcpExt", "ListenOverflows"), Some(17));
        assert_eq!(in_group(text, "TcpExt", "ListenDrops"), None);
        assert_eq!(hexadecimal_sum("0a 10 00\n0b 01 02\n", 1), Some(17));
        assert_eq!(after_word("TCP: inuse 1 orphan 0 tw 948 alloc 1\n", "TCP:", "tw"), Some(948));
        let swaps =
            "Filename Type Size Used Priority\n/dev/zram0 partition 99 0 100\n/dev/vdb partition 4 0 -2\n";
        assert_eq!(swap_on_disk_bytes(swaps), 4096);
    }
}
