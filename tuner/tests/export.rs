//! What is exported, judged by the tools that it is for; where a tool is missing the test says so.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod trees;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use trees::{KERNELS, host, set, told, tuner};

const FORMATS: [&str; 8] = ["sysctl.d", "systemd", "ansible", "docker", "compose", "k8s", "tuned", "script"];

fn export(root: &TempDir, format: &str) -> String {
    let output = tuner(root, &["export", "--format", format]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A tool of the path, or of the directory that scripts/setup fills; none is told.
fn tool(name: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_tuner")).ancestors().nth(2).unwrap();
    let own = target.join("tools/python/bin").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file());
    let found = found.or_else(|| own.is_file().then_some(own));
    if found.is_none() {
        eprintln!("skipped: {name} is not installed");
    }
    found
}

fn run(program: &Path, arguments: &[&str], file: &Path) -> Output {
    Command::new(program).args(arguments).arg(file).env("LC_ALL", "C.UTF-8").output().unwrap()
}

fn in_file(name: &str, text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    (directory, path)
}

#[test]
fn every_format_names_the_same_value_and_keeps_a_better_one() {
    let root = host(KERNELS[0]);
    set(&root, "net.ipv4.tcp_max_syn_backlog", "65536");
    for format in FORMATS {
        let text = export(&root, format);
        assert!(text.contains("profile mta"), "{format}");
        if format != "systemd" {
            assert!(text.contains("net.core.somaxconn"), "{format}: {text}");
        }
    }
    assert!(export(&root, "sysctl.d").contains("net.ipv4.tcp_max_syn_backlog = 65536\n"));
    assert!(export(&root, "docker").contains("--sysctl net.ipv4.tcp_max_syn_backlog='65536'"));
    assert!(export(&root, "tuned").contains("net.core.somaxconn=>4096\n"));
    let output = tuner(&root, &["export", "--format", "puppet"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("the formats are sysctl.d, systemd"), "{}", told(&output));
}

#[test]
fn settings_of_the_host_are_not_given_to_a_container() {
    let root = host(KERNELS[3]);
    for format in ["docker", "compose", "k8s"] {
        let text = export(&root, format);
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("vm.max_map_count")).collect();
        assert!(!lines.is_empty(), "{format}");
        let for_the_host = |line: &&str| line.starts_with('#') || line.trim_start().starts_with("raise ");
        assert!(lines.iter().all(for_the_host), "{format}: {lines:?}");
    }
}

#[test]
fn systemd_takes_the_drop_in() {
    let Some(program) = tool("systemd-analyze") else { return };
    let text = export(&host(KERNELS[3]), "systemd");
    let (directory, unit) = in_file("kumod.service", "[Service]\nExecStart=/bin/true\n");
    fs::create_dir(directory.path().join("kumod.service.d")).unwrap();
    let drop_in = directory.path().join("kumod.service.d/60-kumod.conf");
    fs::write(&drop_in, &text).unwrap();
    let output = run(&program, &["verify", "--man=no"], &unit);
    assert!(!told(&output).contains("60-kumod.conf"), "{}", told(&output));
    // The tool sees the drop-in: a slip in it is told.
    fs::write(&drop_in, text.replace("LimitNOFILE", "LimitNOFILES")).unwrap();
    let output = run(&program, &["verify", "--man=no"], &unit);
    assert!(told(&output).contains("LimitNOFILES"), "{}", told(&output));
}

#[test]
fn ansible_takes_the_playbook() {
    let Some(program) = tool("ansible-playbook") else { return };
    let (_directory, path) = in_file("tune.yml", &export(&host(KERNELS[3]), "ansible"));
    let output = run(&program, &["--syntax-check"], &path);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}

#[test]
fn kubernetes_schemas_take_the_manifests() {
    let Some(program) = tool("kubernetes-validate") else { return };
    let text = export(&host(KERNELS[3]), "k8s");
    let (_directory, path) = in_file("settings.yaml", &text);
    let output = run(&program, &["--strict"], &path);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let (_directory, path) = in_file("settings.yaml", &text.replace("sysctls:", "sysctl:"));
    assert_ne!(run(&program, &["--strict"], &path).status.code(), Some(0), "the schemas see nothing");
}

#[test]
fn compose_takes_the_file() {
    let Some(program) = tool("docker-compose") else { return };
    for only in ONLY {
        let (_directory, path) = in_file("compose.yaml", &compose(only));
        let mut command = Command::new(&program);
        command.arg("-f").arg(&path).args(["config", "-q"]).env("IMAGE", "kumod");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{only:?}: {}", told(&output));
    }
}

#[test]
fn the_schema_of_compose_takes_the_file() {
    let Some(program) = tool("check-jsonschema") else { return };
    let schema = ["--builtin-schema", "vendor.compose-spec"];
    for only in ONLY {
        let (_directory, path) = in_file("compose.yaml", &compose(only));
        let output = run(&program, &schema, &path);
        assert_eq!(output.status.code(), Some(0), "{only:?}: {}", told(&output));
    }
    let (_directory, path) = in_file("compose.yaml", &compose(&[]).replace("sysctls:", "sysctl:"));
    assert_eq!(run(&program, &schema, &path).status.code(), Some(1), "the schema sees nothing");
}

/// Everything, and nothing that a container may set for itself.
const ONLY: [&[&str]; 2] = [&[], &["--only", "vm"]];

fn compose(only: &[&str]) -> String {
    let output = tuner(&host(KERNELS[3]), &[&["export", "--format", "compose"], only].concat());
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the script on the real kernel in a network namespace, with an `/etc` and settings of the host of its own.
fn script_in_namespace(text: &str, before: &str, after: &str) -> Option<Output> {
    let (_directory, path) = in_file("tune.sh", text);
    let script = format!(
        "mount -t tmpfs none /etc || exit 77; {before}\nsh {0} && echo second && sh {0} || exit 1\n{after}",
        path.display()
    );
    let output = Command::new("unshare").args(["--net", "--mount", "sh", "-c", &script]).output().ok()?;
    if output.status.code() == Some(77) || told(&output).contains("unshare failed") {
        eprintln!("skipped: no namespaces here: {}", told(&output));
        return None;
    }
    Some(output)
}

#[test]
fn the_script_raises_and_widens_on_the_real_kernel_and_does_nothing_the_second_time() {
    let root = host(KERNELS[3]);
    let output = tuner(&root, &["export", "--format", "script", "--only", "net.ipv4,net.core.somaxconn"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let before =
        "echo 128 > /proc/sys/net/core/somaxconn; echo 65536 > /proc/sys/net/ipv4/tcp_max_syn_backlog";
    let after = "cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/tcp_max_syn_backlog \
                 /proc/sys/net/ipv4/ip_local_port_range /etc/sysctl.d/60-kumod.conf";
    let Some(output) = script_in_namespace(&text, before, after) else { return };
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let told = told(&output);
    let (first, rest) = told.split_once("second\n").unwrap();
    assert!(first.contains("changed net.core.somaxconn = 4096\n"), "{first}");
    assert!(rest.starts_with("4096\n65536\n10240\t65535\n"), "{rest}");
    assert!(rest.contains("net.core.somaxconn = 4096\n"), "{rest}");
    assert!(!rest.contains("tcp_max_syn_backlog ="), "{rest}");
}
