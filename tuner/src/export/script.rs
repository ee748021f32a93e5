//! A script that compares before it writes, and the playbook that runs it.

use std::fmt::Write as _;

use super::{Content, Guard};

/// Functions of the script. Each leaves a better value as it is, and prints one line for each that it changed.
const FUNCTIONS: &str = r#"set -eu
file=/etc/sysctl.d/60-kumod.conf
lines=""

# path KEY: where it lies, or nothing where this kernel does not have it.
path() {
    candidate=/proc/sys/$(echo "$1" | tr . /)
    if [ -e "$candidate" ]; then echo "$candidate"; fi
}

# put KEY VALUE: writes it now, and remembers it for the file.
put() {
    echo "$2" > "$(path "$1")"
    lines="$lines$1 = $2
"
    echo "changed $1 = $2"
}

# raise KEY NUMBER...: each number at least this.
raise() {
    key=$1; shift
    where=$(path "$key"); if [ -z "$where" ]; then return; fi
    new=""; worse=no
    for have in $(cat "$where"); do
        want=${1:-0}; if [ $# -gt 0 ]; then shift; fi
        if [ "$have" -lt "$want" ]; then worse=yes; have=$want; fi
        new="$new${new:+ }$have"
    done
    if [ $worse = yes ]; then put "$key" "$new"; fi
}

# lower KEY NUMBER: at most this.
lower() {
    where=$(path "$1"); if [ -z "$where" ]; then return; fi
    if [ "$(cat "$where")" -gt "$2" ]; then put "$1" "$2"; fi
}

# widen KEY FIRST LAST: a range that holds this one.
widen() {
    key=$1; first=$2; last=$3
    where=$(path "$key"); if [ -z "$where" ]; then return; fi
    set -- $(cat "$where"); low=$1; high=$2
    if [ "$low" -le "$first" ] && [ "$high" -ge "$last" ]; then return; fi
    if [ "$low" -lt "$first" ]; then first=$low; fi
    if [ "$high" -gt "$last" ]; then last=$high; fi
    # The kernel wants one even and one odd end.
    if [ $((first % 2)) -eq $((last % 2)) ] && [ "$first" -gt 1 ]; then first=$((first - 1)); fi
    put "$key" "$first $last"
}

# exact KEY VALUE: this value.
exact() {
    where=$(path "$1"); if [ -z "$where" ]; then return; fi
    if [ "$(cat "$where")" != "$2" ]; then put "$1" "$2"; fi
}

# reserve KEY PORTS: these ports and those that are reserved already.
reserve() {
    where=$(path "$1"); if [ -z "$where" ]; then return; fi
    have=$(cat "$where"); new=$have
    for port in $(echo "$2" | tr , ' '); do
        case ",$new," in *",$port,"*) ;; *) new="$new${new:+,}$port" ;; esac
    done
    if [ "$new" != "$have" ]; then put "$1" "$new"; fi
}
"#;

/// Writes the file as a whole, with what stands in it already.
const ENDING: &str = r#"
if [ -n "$lines" ]; then
    mkdir -p /etc/sysctl.d
    { if [ -e "$file" ]; then cat "$file"; fi; printf '%s' "$lines"; } > "$file.new"
    sync "$file.new" 2>/dev/null || sync
    mv "$file.new" "$file"
    echo "wrote $file"
fi
"#;

pub(super) fn script(content: &Content) -> String {
    let explained = "# Raises what is lower than wanted, leaves what is better, and can be run again. As root:\n#   sh tune.sh\n";
    format!("#!/bin/sh\n{explained}{}", body(content))
}

/// The script without its first line.
pub(super) fn body(content: &Content) -> String {
    let mut text = format!("{FUNCTIONS}\n");
    for setting in &content.settings {
        let key = &setting.key;
        writeln!(text, "# {}", setting.brief).expect("a String takes every write");
        let line = match &setting.guard {
            Guard::Raise(values) => format!("raise {key} {}", values.join(" ")),
            Guard::Lower(value) => format!("lower {key} {value}"),
            Guard::Widen(first, last) => format!("widen {key} {first} {last}"),
            Guard::Exact(value) => format!("exact {key} {value}"),
            Guard::Reserve(ports) => format!("reserve {key} {ports}"),
        };
        writeln!(text, "{line}").expect("a String takes every write");
    }
    text + ENDING
}

pub(super) fn ansible(content: &Content) -> String {
    let service = &content.service;
    format!(
        "# Raises what is lower than wanted on each host, and leaves what is better.\n\
         - name: Tune hosts that send and receive mail in volume\n  hosts: all\n  become: true\n  tasks:\n    \
         - name: Kernel settings\n      ansible.builtin.shell: |\n{}      register: tuned_settings\n      \
         changed_when: \"'changed' in tuned_settings.stdout\"\n    \
         - name: Directory for the limits of the service\n      ansible.builtin.file:\n        \
         path: /etc/systemd/system/{service}.service.d\n        state: directory\n        mode: \"0755\"\n    \
         - name: Limits of the service\n      ansible.builtin.copy:\n        \
         dest: /etc/systemd/system/{service}.service.d/60-kumod.conf\n        mode: \"0644\"\n        content: |\n{}      \
         register: tuned_limits\n    \
         - name: Limits are read\n      ansible.builtin.systemd:\n        daemon_reload: true\n      \
         when: tuned_limits is changed\n",
        indented(&body(content), 8),
        indented(&super::service::systemd(content), 10),
    )
}

/// A block of YAML: every line that is not empty moved to the right.
pub(super) fn indented(text: &str, spaces: usize) -> String {
    let pad = " ".repeat(spaces);
    text.lines()
        .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{pad}{line}\n") })
        .collect()
}
