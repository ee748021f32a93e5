//! The interface of the default route.
//!
//! It owns the way from `/proc/net/route` to `/sys/class/net`. It refuses nothing; without a default route only the
//! settings of the whole host are known.

use std::path::Path;

use super::Network;
use crate::files;

pub(super) fn probe(root: &Path) -> Network {
    let setting = |path: &str| files::line(&files::below(root, path));
    let mut network = Network {
        congestion_control: setting("/proc/sys/net/ipv4/tcp_congestion_control"),
        queue_discipline: setting("/proc/sys/net/core/default_qdisc"),
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
        network.queues = queues(&folder.join("queues"));
    }
    network
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

fn queues(folder: &Path) -> Option<u32> {
    let names = std::fs::read_dir(folder).ok()?.flatten();
    let receiving = names.filter(|name| name.file_name().to_string_lossy().starts_with("rx-"));
    u32::try_from(receiving.count()).ok()
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
}
