//! How large the host is and what it is for: the numbers in the rules' formulas, and the profiles.
//!
//! Owns the defaults for what the operator did not say. A host whose memory or processors cannot be read counts as
//! [`RAM_BYTES_UNKNOWN`] and [`CORES_UNKNOWN`], which give the floors of the rules.

use std::sync::LazyLock;

use reports::machine::Machine;
use serde::{Deserialize, Serialize};

use crate::rule::formula::Formula;

/// Memory assumed where it cannot be read, bytes.
pub const RAM_BYTES_UNKNOWN: u64 = 4 << 30;
/// Processors assumed where they cannot be read.
pub const CORES_UNKNOWN: u64 = 2;

/// The variables of the formulas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizing {
    /// Connections held at the same time, in and out.
    pub connections: u64,
    /// Messages each second.
    pub rate: u64,
    /// Memory that may be used, bytes: the smaller of the host's and the control group's.
    pub ram_bytes: u64,
    /// Processors that may be used, rounded up.
    pub cores: u64,
}

/// What a host is for.
#[derive(Debug, Clone)]
pub struct Profile {
    /// As `--profile` names it.
    pub name: String,
    /// What it does, in a few words.
    pub about: String,
    connections: Formula,
    rate: Formula,
}

impl Profile {
    /// The size of a host with this task; what is given goes before what is computed.
    pub fn sizing(&self, machine: &Machine, connections: Option<u64>, rate: Option<u64>) -> Sizing {
        let cores = machine.cpu.usable.map_or(CORES_UNKNOWN, whole_cores);
        let ram_bytes = machine.memory.usable_bytes.unwrap_or(RAM_BYTES_UNKNOWN);
        let bare = Sizing { connections: 0, rate: 0, ram_bytes, cores };
        Sizing {
            connections: connections.unwrap_or_else(|| self.connections.value(&bare)),
            rate: rate.unwrap_or_else(|| self.rate.value(&bare)),
            ..bare
        }
    }
}

/// Half a processor by quota is one to size for.
fn whole_cores(usable: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float cast to an integer saturates, and is clamped"
    )]
    let cores = usable.ceil().clamp(1.0, 65_536.0) as u64;
    cores
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    profile: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    about: String,
    connections: String,
    rate: String,
}

static BUILT_IN: LazyLock<Vec<Profile>> = LazyLock::new(|| {
    parse(include_str!("../rules/profiles.toml")).expect("the compiled-in profiles are parsed by a test")
});

/// The profiles that come with this program; the first is the default.
pub fn profiles() -> &'static [Profile] {
    &BUILT_IN
}

fn parse(text: &str) -> Result<Vec<Profile>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let profile = |written: Written| {
        Ok(Profile {
            connections: Formula::parse(&written.connections)?,
            rate: Formula::parse(&written.rate)?,
            name: written.name,
            about: written.about,
        })
    };
    file.profile.into_iter().map(profile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_host_is_sized_for_more_unless_told() {
        let mta = &profiles()[0];
        let mut machine = Machine::default();
        let unknown = mta.sizing(&machine, None, None);
        assert_eq!((unknown.cores, unknown.connections), (CORES_UNKNOWN, 16_384));
        machine.cpu.usable = Some(15.5);
        machine.memory.usable_bytes = Some(64 << 30);
        assert_eq!(mta.sizing(&machine, None, None).connections, 160_000);
        assert_eq!(mta.sizing(&machine, Some(7), Some(9)).connections, 7);
        assert_eq!(mta.sizing(&machine, Some(7), Some(9)).rate, 9);
    }
}
