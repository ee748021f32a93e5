//! Docker, Compose and Kubernetes: what a container may set for itself, and what its host must.

use std::fmt::Write as _;

use super::script::{body, indented};
use super::{Content, Scope};

/// What a Pod may set without being allowed to by the kubelet, and since which release.
const SAFE: [(&str, &str); 5] = [
    ("net.ipv4.ip_local_port_range", ""),
    ("net.ipv4.tcp_syncookies", ""),
    ("net.ipv4.ip_local_reserved_ports", " since 1.27"),
    ("net.ipv4.tcp_rmem", " since 1.32"),
    ("net.ipv4.tcp_wmem", " since 1.32"),
];

/// Settings of the host as comments.
fn for_the_host(content: &Content) -> String {
    if content.of_scope(Scope::Host).next().is_none() {
        return String::new();
    }
    let mut text = String::from("# Only the host can set these, for all its containers:\n");
    for setting in content.of_scope(Scope::Host) {
        writeln!(text, "#   sysctl -w {}='{}'", setting.key, setting.value)
            .expect("a String takes every write");
    }
    text
}

pub(super) fn docker(content: &Content) -> String {
    let mut flags: Vec<String> = content
        .of_scope(Scope::NetworkNamespace)
        .map(|setting| format!("--sysctl {}='{}'", setting.key, setting.value))
        .collect();
    flags.push(format!("--ulimit nofile={0}:{0}", content.nofile));
    flags.push(format!("--ulimit memlock={0}:{0}", content.memlock_bytes));
    format!(
        "{}# io_uring is refused by Docker's own seccomp profile: add io_uring_setup, io_uring_enter and io_uring_register to a\n\
         # copy of it and give that with --security-opt seccomp=FILE. Without, the spool writes through threads.\n\
         docker run \\\n    {} \\\n    \"$IMAGE\"\n",
        for_the_host(content),
        flags.join(" \\\n    ")
    )
}

pub(super) fn compose(content: &Content) -> String {
    let Content { nofile, memlock_bytes, service, .. } = content;
    let mut text = for_the_host(content);
    let image = "${IMAGE:?the image of the service}";
    write!(text, "services:\n  {service}:\n    image: \"{image}\"\n").expect("a String takes every write");
    // Compose refuses a key without a value.
    if content.of_scope(Scope::NetworkNamespace).next().is_some() {
        text.push_str("    sysctls:\n");
    }
    for setting in content.of_scope(Scope::NetworkNamespace) {
        writeln!(text, "      {}: \"{}\"", setting.key, setting.value).expect("a String takes every write");
    }
    text + &format!(
        "    ulimits:\n      nofile:\n        soft: {nofile}\n        hard: {nofile}\n      \
         memlock:\n        soft: {memlock_bytes}\n        hard: {memlock_bytes}\n"
    )
}

pub(super) fn kubernetes(content: &Content) -> String {
    let service = &content.service;
    let mut text = format!(
        "# What a Pod may set for itself. Limits of files are those of the container runtime.\n\
         apiVersion: v1\nkind: Pod\nmetadata:\n  name: {service}\nspec:\n  securityContext:\n    sysctls:\n"
    );
    let mut unsafe_keys = Vec::new();
    for setting in content.of_scope(Scope::NetworkNamespace) {
        match SAFE.iter().find(|(key, _)| *key == setting.key) {
            Some((_, since)) => {
                let note = if since.is_empty() { String::new() } else { format!("  # safe{since}") };
                let (key, value) = (&setting.key, &setting.value);
                writeln!(text, "      - name: {key}\n        value: \"{value}\"{note}")
                    .expect("a String takes every write");
            }
            None => unsafe_keys.push(setting),
        }
    }
    text.push_str("      # The kubelet must allow these first: --allowed-unsafe-sysctls\n");
    for setting in unsafe_keys {
        writeln!(text, "      # - name: {}\n      #   value: \"{}\"", setting.key, setting.value)
            .expect("a String takes every write");
    }
    text + &format!(
        "  containers:\n    - name: {service}\n      image: {service}\n---\n\
         # What only the nodes can set; it raises what is lower and leaves what is better.\n\
         apiVersion: apps/v1\nkind: DaemonSet\nmetadata:\n  name: {service}-node-settings\nspec:\n  selector:\n    \
         matchLabels:\n      app: {service}-node-settings\n  template:\n    metadata:\n      labels:\n        \
         app: {service}-node-settings\n    spec:\n      hostNetwork: true\n      initContainers:\n        \
         - name: settings\n          image: busybox\n          securityContext:\n            privileged: true\n          \
         command:\n            - sh\n            - -c\n            - |\n{}      containers:\n        \
         - name: wait\n          image: registry.k8s.io/pause:3.10\n",
        indented(&node_script(content), 14)
    )
}

/// The script for what belongs to the node. Its file would be one of the container, so the end is left out.
fn node_script(content: &Content) -> String {
    let settings = content.of_scope(Scope::Host).cloned().collect();
    let host = Content { settings, service: content.service.clone(), ..*content };
    let text = body(&host);
    text.split("\nif [ -n \"$lines\" ]").next().unwrap_or_default().to_owned() + "\n"
}
