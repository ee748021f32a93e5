//! The flags that make the sink misbehave.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use sink::Config;
use sink::faults::{Persona, RULE_FILE_BYTES_MAX, RuleSet};

use super::listen::address;

/// Flags about faults.
#[derive(Args)]
#[command(next_help_heading = "Faults")]
pub(crate) struct FaultFlags {
    /// Misbehave as this file of rules says (docs/sink.md); may be given several times
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// Read the rules, say what is wrong with them, and stop
    #[arg(long)]
    pub(crate) check_rules: bool,
    /// Answer as this kind of provider might; its rules are asked after those of files
    #[arg(long, value_name = "NAME", value_parser = Persona::find)]
    persona: Option<Persona>,
    /// Obey local parts: *tempfail* is answered 450, *permfail* 550, 421-x and other codes with that code
    #[arg(long)]
    magic: bool,
    /// Where the notifications of rules that bounce go, by SMTP; this host or a private address
    #[arg(long, value_name = "HOST:PORT", value_parser = private_address)]
    bounce_to: Option<SocketAddr>,
    /// Draw all chance from this number
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl FaultFlags {
    /// Writes this group's part of the configuration.
    pub(crate) fn apply(&self, config: &mut Config) -> Result<(), String> {
        config.magic = self.magic;
        config.seed = self.seed;
        config.bounce_to = self.bounce_to;
        for file in &self.rules {
            let rules = std::mem::take(&mut config.rules);
            config.rules =
                rules.followed_by(read(file)?).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(())
    }

    /// The persona comes last, so that its rules are asked last.
    pub(crate) fn apply_persona(&self, config: &mut Config) -> Result<(), String> {
        let Some(persona) = &self.persona else { return Ok(()) };
        persona.apply(config).map_err(|error| format!("persona {}: {error}", persona.name()))
    }
}

/// Says of each file whether its rules are good.
pub(crate) fn check(files: &[PathBuf]) -> Result<(), String> {
    for file in files {
        let rules = read(file)?;
        eprintln!("{}: {} rules are good", file.display(), rules.len());
    }
    Ok(())
}

/// Bounces are unasked-for mail, so they stay where the laboratory is.
fn private_address(text: &str) -> Result<SocketAddr, String> {
    let found = address(text)?;
    let private = match found.ip().to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    if private { Ok(found) } else { Err(format!("{found} is neither this host nor a private address")) }
}

/// Reads one file of rules.
fn read(file: &Path) -> Result<RuleSet, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let bytes = std::fs::metadata(file).map_err(|error| named(&error))?.len();
    if bytes > RULE_FILE_BYTES_MAX as u64 {
        return Err(named(&format_args!(
            "{bytes} bytes are more than the {RULE_FILE_BYTES_MAX} of a rule file"
        )));
    }
    let text = std::fs::read_to_string(file).map_err(|error| named(&error))?;
    RuleSet::from_toml(&text).map_err(|error| named(&error))
}
