//! Files for sysctl.d, systemd and tuned.

use std::fmt::Write as _;

use super::{Content, Guard};

pub(super) fn sysctl_d(content: &Content) -> String {
    let mut text = String::from(
        "# For hosts like the one it was made on: it lowers what is better elsewhere. `tuner apply` compares first.\n",
    );
    for setting in &content.settings {
        let (brief, key, value) = (&setting.brief, &setting.key, &setting.value);
        write!(text, "\n# {brief}\n{key} = {value}\n").expect("a String takes every write");
    }
    text
}

pub(super) fn systemd(content: &Content) -> String {
    let Content { nofile, memlock_bytes, tasks, service, .. } = content;
    format!(
        "# /etc/systemd/system/{service}.service.d/60-kumod.conf, then: systemctl daemon-reload\n\
         [Service]\nLimitNOFILE={nofile}\nLimitMEMLOCK={memlock_bytes}\nTasksMax={}\n",
        (*tasks).max(32_768)
    )
}

/// tuned's `=>` raises only; it knows no ranges and no lists, so those are written as they should be on a host like this.
pub(super) fn tuned(content: &Content) -> String {
    let mut text = String::from(
        "# /etc/tuned/kumod/tuned.conf, then: tuned-adm profile kumod\n\
         [main]\nsummary=Hosts that send and receive mail in volume\n\n[sysctl]\n",
    );
    for setting in &content.settings {
        let key = &setting.key;
        let line = match &setting.guard {
            Guard::Raise(values) if values.len() == 1 => format!("{key}=>{}", values[0]),
            Guard::Lower(value) => format!("{key}=<{value}"),
            _ => format!("{key}={}", setting.value),
        };
        writeln!(text, "{line}").expect("a String takes every write");
    }
    text
}
