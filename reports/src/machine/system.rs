//! Kernel, distribution, virtualisation, and what watches over this process.
//!
//! It owns that part of the record, and the marks by which a container is known. It refuses nothing; what is missing stays
//! unknown.

use std::path::Path;

use super::{System, boot};
use crate::files;

pub(super) fn probe(root: &Path) -> System {
    let at = |path: &str| files::below(root, path);
    let release = files::text(root, "/etc/os-release").unwrap_or_default();
    let distribution = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let info = files::text(root, "/proc/cpuinfo").unwrap_or_default();
    let flags = files::field(&info, "flags");
    let vendor = files::line(&at("/sys/class/dmi/id/sys_vendor"));
    let product = files::line(&at("/sys/class/dmi/id/product_name"));
    let status = files::text(root, "/proc/self/status").unwrap_or_default();
    System {
        kernel: files::line(&at("/proc/sys/kernel/osrelease")),
        distribution: distribution.map(|name| name.trim_matches('"').to_owned()),
        hypervisor: flags.map(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        product: match (vendor, product) {
            (Some(vendor), Some(product)) => Some(format!("{vendor} {product}")),
            (vendor, product) => vendor.or(product),
        },
        container: container(root),
        clocksource: files::line(&at("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        io_uring_disabled: files::number(&at("/proc/sys/kernel/io_uring_disabled")),
        boot_command_line: files::text(root, "/proc/cmdline").map(|line| boot::about_speed(&line)),
        security_modules: files::line(&at("/sys/kernel/security/lsm")),
        security_label: files::line(&at("/proc/self/attr/current")),
        seccomp: files::field(&status, "Seccomp").and_then(seccomp),
    }
}

/// The modes of seccomp(2).
fn seccomp(mode: &str) -> Option<String> {
    let modes = [("0", "none"), ("1", "strict"), ("2", "filter")];
    modes.iter().find(|(number, _)| *number == mode).map(|(_, name)| (*name).to_owned())
}

/// The marks that Docker and Podman leave in the root folder, what systemd's convention says, and the groups that
/// Kubernetes and others make.
fn container(root: &Path) -> Option<String> {
    let marks = [("/.dockerenv", "docker"), ("/run/.containerenv", "podman")];
    let mark = marks.iter().find(|(path, _)| files::below(root, path).exists());
    let told = || files::line(&files::below(root, "/run/systemd/container"));
    let groups = || {
        let names = ["kubepods", "docker", "libpod", "lxc", "containerd"];
        let groups = files::text(root, "/proc/self/cgroup")?;
        let paths = || groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let is_in =
            |name: &&str| paths().flat_map(|path| path.split('/')).any(|part| part.starts_with(*name));
        names.into_iter().find(is_in).map(str::to_owned)
    };
    mark.map(|(_, name)| (*name).to_owned()).or_else(told).or_else(groups)
}
