//! The text of the files that tuner writes, and whether a file is one of them.
//!
//! The first lines name the program and a sum of the rest; a file whose sum does not fit was edited by a person, and is no
//! longer tuner's to replace. No time stands in it, so that the same settings give the same bytes.

use std::collections::BTreeMap;

use crate::rule::built_in;

const MARK: &str = "# Written by tuner";
const SUM: &str = "# Sum of what follows: ";

/// Settings of a drop-in.
pub(crate) type Settings = BTreeMap<String, String>;

/// Whose a file is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Tuner's, as it was written.
    Tuner,
    /// Tuner's, and edited since.
    Edited,
    /// Somebody else's.
    Other,
}

pub(crate) fn owner(text: &str) -> Owner {
    let mut lines = text.splitn(3, '\n');
    let (Some(mark), Some(sum)) = (lines.next(), lines.next()) else { return Owner::Other };
    match (mark.starts_with(MARK), sum.strip_prefix(SUM)) {
        (true, Some(sum)) if sum == sum_of(lines.next().unwrap_or_default()) => Owner::Tuner,
        (true, _) => Owner::Edited,
        (false, _) => Owner::Other,
    }
}

/// A file for sysctl.d.
pub(crate) fn sysctl(settings: &Settings) -> String {
    let lines = settings.iter().map(|(key, value)| format!("{}{key} = {value}\n", reason(key)));
    signed(&lines.collect::<Vec<_>>().join("\n"))
}

/// A drop-in of a unit.
pub(crate) fn unit(settings: &Settings) -> String {
    let lines = settings.iter().map(|(key, value)| {
        let value = if value == "unlimited" { "infinity" } else { value };
        format!("{}{}={value}\n", reason(key), key.trim_start_matches("unit."))
    });
    signed(&format!("[Service]\n{}", lines.collect::<Vec<_>>().join("\n")))
}

/// The settings of a file of ours, keys of units as the rules name them.
pub(crate) fn settings(text: &str, prefix: &str) -> Settings {
    let lines = text.lines().filter(|line| !line.starts_with(['#', '[']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (format!("{prefix}{}", key.trim()), value.trim().to_owned())).collect()
}

fn reason(key: &str) -> String {
    let rule = built_in().iter().find(|rule| rule.key == key);
    rule.map(|rule| format!("# {}; {}\n", rule.brief, rule.source)).unwrap_or_default()
}

fn signed(body: &str) -> String {
    let body = format!(
        "# `tuner revert` takes this back; `tuner explain KEY` says why. Edit it and it is yours.\n\n{body}"
    );
    format!("{MARK} {}.\n{SUM}{}\n{body}", env!("CARGO_PKG_VERSION"), sum_of(&body))
}

/// FNV-1a: it has to tell an edit from none, not to withstand anybody.
fn sum_of(text: &str) -> String {
    let step = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_ours_is_known_until_it_is_edited() {
        let settings = Settings::from([("net.core.somaxconn".into(), "4096".into())]);
        let text = sysctl(&settings);
        assert_eq!(owner(&text), Owner::Tuner);
        assert_eq!(super::settings(&text, ""), settings);
        assert_eq!(owner(&text.replace("4096", "4097")), Owner::Edited);
        assert_eq!(owner("net.core.somaxconn = 4096\n"), Owner::Other);
        let settings = Settings::from([("unit.LimitNOFILE".into(), "1048576".into())]);
        let text = unit(&settings);
        assert!(text.contains("[Service]\n") && text.contains("\nLimitNOFILE=1048576\n"), "{text}");
        assert_eq!(super::settings(&text, "unit."), settings);
    }
}
