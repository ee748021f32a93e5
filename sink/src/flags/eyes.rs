//! The flags for whoever wants to look at mail, end with so much of it, or know the sink's own ceiling.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use sink::{CaptureConfig, CaptureFormat, Config};

/// Flags about looking on.
#[derive(Args)]
#[command(next_help_heading = "Looking on")]
pub(crate) struct EyesFlags {
    /// Keep so many messages in memory, for the page and GET /messages; at most 100 a second are
    #[arg(long, value_name = "N", default_value_t = 0)]
    remember: usize,
    /// Write mail to files in this folder
    #[arg(long, value_name = "DIR")]
    capture: Option<PathBuf>,
    /// How captured mail is laid out
    #[arg(long, value_enum, default_value_t = Format::Maildir, requires = "capture")]
    capture_format: Format,
    /// Stop capturing after so many bytes, such as 500M or 2G; mail goes on
    #[arg(long, value_name = "BYTES", default_value = "1G", value_parser = bytes, requires = "capture")]
    capture_bytes_max: u64,
    /// End after so many messages
    #[arg(long, short = 'M', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_messages: Option<u64>,
    /// End after so many sessions have ended
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_sessions: Option<u64>,
    /// Measure what the sink itself can do on this host, and end
    #[arg(long)]
    pub(crate) self_test: bool,
    /// How long each step of the self-test takes, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    self_test_ms: u32,
}

/// The words for [`CaptureFormat`].
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Folders tmp, new and cur
    Maildir,
    /// A file *.eml for each message
    Eml,
}

impl EyesFlags {
    /// Writes this group's part of the configuration.
    pub(crate) fn apply(&self, config: &mut Config) {
        config.remember = self.remember;
        config.messages_max = self.max_messages;
        config.sessions_max = self.max_sessions;
        config.capture = self.capture.as_ref().map(|folder| CaptureConfig {
            folder: folder.clone(),
            format: match self.capture_format {
                Format::Maildir => CaptureFormat::Maildir,
                Format::Eml => CaptureFormat::Eml,
            },
            bytes_max: self.capture_bytes_max,
        });
    }

    /// How long each step of the self-test takes.
    pub(crate) fn self_test_step(&self) -> Duration {
        Duration::from_millis(self.self_test_ms.into())
    }
}

/// A number of bytes with k, M, G or T (powers of 1000), or Ki, Mi, Gi, Ti (of 1024), and an optional B.
fn bytes(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let number_end = lower.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(number_end);
    let unit = unit.trim().trim_end_matches('b');
    let (prefix, base) = unit.strip_suffix('i').map_or((unit, 1000_u64), |prefix| (prefix, 1024));
    let power = ["", "k", "m", "g", "t"].iter().position(|known| *known == prefix);
    let factor = power.and_then(|power| base.checked_pow(u32::try_from(power).ok()?));
    let product =
        number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    product.ok_or_else(|| format!("{text:?} is no number of bytes; write it like 500000, 500M, 2G or 1GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_usual_units() {
        let sizes = ["7", "500M", "2g", "1GiB", "3 kB"].map(|text| bytes(text).unwrap());
        assert_eq!(sizes, [7, 500_000_000, 2_000_000_000, 1 << 30, 3_000]);
        for wrong in ["", "M", "1.5G", "-1", "1x", "99999999999T"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
