//! Flags that say what is shown and written, and what the figures must be.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use traffic_gen::Plan;
use traffic_gen::threshold::Threshold;

use super::Refusal;

/// Labels that the metrics of `--prometheus` have by themselves.
const LABELS_TAKEN: [&str; 6] = ["code", "kind", "le", "quantile", "series", "window"];

#[derive(Args)]
pub(crate) struct OutputFlags {
    /// Write the report to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a table to this file, one line a second
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Write latencies to this file, an HdrHistogram interval log with one interval per second; raw latency
    /// and lag stand in it under the tags raw and lag
    #[arg(long, value_name = "FILE.hlog")]
    pub(crate) hdr: Option<PathBuf>,
    /// Write the percentile spectrum of the latency to this file, in HdrHistogram's text form
    #[arg(long, value_name = "FILE.hgrm")]
    pub(crate) hgrm: Option<PathBuf>,
    /// Answer GET /metrics there while the run goes on; a port alone means loopback
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = listen_address)]
    pub(crate) prometheus: Option<SocketAddr>,
    /// What the figures must be, such as 'p99<50ms', 'raw:p99.9<1s', 'lag:p99<5ms', 'errors<0.1%' or
    /// 'rate>5k'; may be repeated. Exit code 99 where one is missed
    #[arg(long, visible_alias = "fail-if", value_name = "CONDITION")]
    pub(crate) threshold: Vec<Threshold>,
    /// Put this into the report and on every metric; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) label: Vec<(String, String)>,
    /// Show the live picture or refuse [default: where standard error is a terminal of 60x16 or more]
    #[arg(long, conflicts_with_all = ["no_tui", "quiet"])]
    pub(crate) tui: bool,
    /// Show a line instead of the live picture
    #[arg(long)]
    pub(crate) no_tui: bool,
    /// Use no colours; NO_COLOR in the environment means the same
    #[arg(long)]
    no_color: bool,
    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Say what would be done, show the first message, and send nothing
    #[arg(long, conflicts_with = "debug")]
    pub(crate) dry_run: bool,
    /// Send one message and show every line that both sides say
    #[arg(long, conflicts_with_all = ["agents", "find_max"])]
    pub(crate) debug: bool,
}

impl OutputFlags {
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        self.label.iter().cloned().collect()
    }

    /// Refuses conditions on what the plan's run will not have.
    pub(crate) fn fits(&self, plan: &Plan) -> Result<(), Refusal> {
        let lacking = self.threshold.iter().find(|threshold| threshold.needs_a_rate());
        match lacking {
            Some(threshold) if !plan.schedule.is_open() => Err(Refusal::usage(format!(
                "{:?} is about the lag behind a schedule, which only a run with --rate has",
                threshold.text()
            ))),
            _ => Ok(()),
        }
    }

    /// Whether colours may be used. <https://no-color.org>: any value but the empty one forbids them.
    pub(crate) fn color(&self) -> bool {
        !self.no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }
}

/// `9464`, `:9464` or `192.168.1.2:9464`.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>();
    port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .or_else(|_| text.parse())
        .map_err(|_| format!("{text:?} is no address to listen on; write it like 9464 or 127.0.0.1:9464"))
}

/// A name that metrics can have, and any value.
fn label(text: &str) -> Result<(String, String), String> {
    let refuse = || format!("{text:?} is no label; write it like machine=c5_large");
    let (name, value) = text.split_once('=').ok_or_else(refuse)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_name = name.bytes().all(plain) && !name.starts_with(|first: char| first.is_ascii_digit());
    if name.is_empty() || !is_name {
        Err(refuse())
    } else if LABELS_TAKEN.contains(&name) {
        Err(format!("{name:?} is a label of the metrics themselves; take another name"))
    } else {
        Ok((name.to_owned(), value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_means_loopback() {
        for text in ["9464", ":9464", "127.0.0.1:9464"] {
            assert_eq!(listen_address(text), Ok("127.0.0.1:9464".parse().unwrap()), "{text}");
        }
        assert_eq!(listen_address("[::1]:9464"), Ok("[::1]:9464".parse().unwrap()));
        assert!(listen_address("localhost").is_err() && listen_address("99999").is_err());
    }

    #[test]
    fn labels_have_names_that_metrics_can_have() {
        assert_eq!(label("machine=a=b"), Ok(("machine".to_owned(), "a=b".to_owned())));
        assert_eq!(label("m="), Ok(("m".to_owned(), String::new())));
        for text in ["machine", "=a", "1m=a", "a b=c", "le=1"] {
            assert!(label(text).is_err(), "{text}");
        }
    }
}
