//! The interface of the default route.
//!
//! It owns the way from `/proc/net/route` to `/sys/class/net`, and the two questions that only a program can answer, since
//! the kernel has no files for them: `ethtool -k` and `tc qdisc show`. It refuses nothing; without a default route only the
//! settings of the whole host are known, and a program that is not installed leaves its answer unknown.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Network;
use crate::files;

pub(super) fn probe(root: &Path) -> Network {
    let setting = |path: &str| files::line(&files::below(root, path));
    let mut network = Network {
        congestion_control: setting("/proc/sys/net/ipv4/tcp_congestion_control"),
        queue_discipline: setting("/proc/sys/net/core/default_qdisc"),
        flow_entries: setting("/proc/sys/net/core/rps_sock_flow_entries")
            .and_then(|count| count.parse().ok()),
        ..Network::default()
    };
    let routes = files::text(root, "/proc/net/route").unwrap_or_default();
    if let Some(name) = default_interface(&routes) {
        let folder = files::below(root, &format!("/sys/class/net/{name}"));
        network.interface = Some(name.to_owned());
        network.mtu_bytes = files::number(&folder.join("mtu"));
        // Virtual interfaces answer -1, which is no number of ours.
        network.megabits_per_s = files::number(&folder.join("speed"));
        network.driver = std::fs::read_link(folder.join("device/driver"))
            .ok()
            .and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()));
        network.send_queue_packets = files::number(&folder.join("tx_queue_len"));
        network.receive_flush_ns = files::number(&folder.join("gro_flush_timeout"));
        let queues = folder.join("queues");
        (network.queues, network.steered_queues) = count(&queues, "rx-", "rps_cpus");
        (network.send_queues, network.pinned_send_queues) = count(&queues, "tx-", "xps_cpus");
    }
    network
}

/// Asks ethtool and tc about the interface, where they are installed.
pub(super) fn ask(network: &mut Network) {
    let Some(interface) = network.interface.as_deref() else { return };
    network.offloads = answer("ethtool", &["-k", interface]).map(|text| offloads(&text));
    network.queue_discipline_used =
        answer("tc", &["qdisc", "show", "dev", interface]).and_then(|text| root_discipline(&text));
}

fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What is switched on, of what ethtool lists at the left margin; indented lines are parts of those.
fn offloads(text: &str) -> Vec<String> {
    let on = text.lines().filter_map(|line| {
        let (name, state) = line.split_once(": ")?;
        (!name.starts_with([' ', '\t']) && state.starts_with("on")).then(|| name.to_owned())
    });
    on.collect()
}

/// `qdisc fq_codel 0: root refcnt 2 ...` is `fq_codel`.
fn root_discipline(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (name, is_root) = (words.nth(1)?, words.any(|word| word == "root"));
        is_root.then(|| name.to_owned())
    })
}

/// The interface of the route whose destination and mask are both 0.
fn default_interface(routes: &str) -> Option<&str> {
    routes.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_default = fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000");
        // A name with a slash would lead elsewhere; the kernel has none.
        fields.first().filter(|name| is_default && !name.contains('/')).copied()
    })
}

/// Queues whose name begins so, and those of them whose mask of processors has a bit; both unknown without the folder, the
/// latter where no queue has such a file.
fn count(folder: &Path, name: &str, mask: &str) -> (Option<u32>, Option<u32>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return (None, None) };
    let queues = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(name));
    let masks: Vec<Option<String>> = queues.map(|queue| files::line(&queue.path().join(mask))).collect();
    let has_bit = |mask: &&String| mask.chars().any(|digit| digit.is_ascii_hexdigit() && digit != '0');
    let set = masks.iter().flatten().filter(has_bit).count();
    let set = masks.iter().any(Option::is_some).then_some(set);
    (u32::try_from(masks.len()).ok(), set.and_then(|set| u32::try_from(set).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_names_its_interface() {
        let routes = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
            eth1 0000A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n\
            eth0 00000000 0100A8C0 0003 0 0 0 00000000 0 0 0\n";
        assert_eq!(default_interface(routes), Some("eth0"));
        assert_eq!(default_interface("Iface\nlo 1 2\n"), None);
        assert_eq!(default_interface(""), None);
    }

    #[test]
    fn answers_of_programs_are_read() {
        let features = "Features for eth0:\nrx-checksumming: on [fixed]\ntx-checksumming: off\n\
            \ttx-checksum-ipv4: on\ntcp-segmentation-offload: on\n";
        assert_eq!(offloads(features), ["rx-checksumming", "tcp-segmentation-offload"]);
        let disciplines = "qdisc mq 0: root \nqdisc fq_codel 0: parent :1 limit 10240p\n";
        assert_eq!(root_discipline(disciplines).as_deref(), Some("mq"));
        assert_eq!(root_discipline("qdisc noqueue"), None);
    }
}
