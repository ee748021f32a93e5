//! What agents and controller say to each other, as JSON.
//!
//! Both sides must be of the same version: a figure that one of them does not know would be missing without
//! a word. What does not parse is refused with its name.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use reports::latency::new_histogram;
use serde::{Deserialize, Serialize};
use traffic_gen::{Phases, Plan, Report, Second, Window};

use super::histograms::{add_text, to_text};

/// The version that both sides must have.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The largest plan, in bytes of JSON: bodies travel in it.
pub(crate) const PLAN_BYTES_MAX: usize = 256 << 20;

/// The largest answer of an agent, in bytes of JSON.
pub(crate) const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Seconds in one answer at most.
pub(crate) const SECONDS_PER_ANSWER_MAX: usize = 16;

/// Answer to `GET /clock`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Clock {
    pub(crate) version: String,
    pub(crate) realtime_ns: u64,
    /// Processors that the agent may use.
    pub(crate) cores: usize,
}

/// Body of `POST /run`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    pub(crate) version: String,
    pub(crate) plan: Plan,
}

/// Answer to `GET /run/{id}/seconds?from=N`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seconds {
    /// From number N on; fewer than there are where they are many.
    pub(crate) seconds: Vec<WireSecond>,
    /// Whether these are the last and the report is ready.
    pub(crate) over: bool,
}

/// An answer that refuses.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) error: String,
}

/// One second of an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireSecond {
    pub(crate) offset_ns: u64,
    pub(crate) length_ns: u64,
    pub(crate) window: Window,
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    pub(crate) partial: u64,
    pub(crate) unknown: u64,
    pub(crate) in_flight: u64,
    pub(crate) connections: u64,
    pub(crate) due: u64,
    pub(crate) cpu_cores: f64,
    pub(crate) reply_codes: BTreeMap<u16, u64>,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) distributions: Distributions,
}

/// Histograms as text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Distributions {
    latency: String,
    raw: String,
    lag: String,
    own_lag: String,
    hiccup: String,
    phases: BTreeMap<String, String>,
}

/// Histograms of a second or a run.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    pub(crate) latency: Histogram<u64>,
    pub(crate) raw: Histogram<u64>,
    pub(crate) lag: Histogram<u64>,
    pub(crate) own_lag: Histogram<u64>,
    pub(crate) hiccup: Histogram<u64>,
    pub(crate) phases: Phases,
}

impl Merged {
    pub(crate) fn new() -> Self {
        Self {
            latency: new_histogram(),
            raw: new_histogram(),
            lag: new_histogram(),
            own_lag: new_histogram(),
            hiccup: new_histogram(),
            phases: Phases::new(),
        }
    }

    /// Adds what an agent says.
    pub(crate) fn add(&mut self, wire: &Distributions) -> Result<(), String> {
        add_text(&mut self.latency, &wire.latency)?;
        add_text(&mut self.raw, &wire.raw)?;
        add_text(&mut self.lag, &wire.lag)?;
        add_text(&mut self.own_lag, &wire.own_lag)?;
        add_text(&mut self.hiccup, &wire.hiccup)?;
        for (name, text) in &wire.phases {
            let phase = self.phases.get_mut(name).ok_or_else(|| format!("{name:?} is no phase of ours"))?;
            add_text(phase, text)?;
        }
        Ok(())
    }
}

fn phases_text(phases: &Phases) -> BTreeMap<String, String> {
    let happened = phases.iter().filter(|(_, histogram)| !histogram.is_empty());
    happened.map(|(name, histogram)| (name.to_owned(), to_text(histogram))).collect()
}

impl WireSecond {
    /// Copies a second.
    pub(crate) fn new(second: &Second<'_>) -> Self {
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self {
            offset_ns: ns(second.offset),
            length_ns: ns(second.length),
            window: second.window,
            sent: second.sent,
            failed: second.failed,
            partial: second.partial,
            unknown: second.unknown,
            in_flight: second.in_flight,
            connections: second.connections,
            due: second.due,
            cpu_cores: second.cpu_cores,
            reply_codes: second.reply_codes.clone(),
            errors: second.errors.clone(),
            distributions: Distributions {
                latency: to_text(second.latency),
                raw: to_text(second.raw),
                lag: to_text(second.lag),
                own_lag: to_text(&new_histogram()),
                hiccup: to_text(second.hiccup),
                phases: phases_text(second.phases),
            },
        }
    }

    /// Messages that it knows of.
    pub(crate) fn begun(&self) -> u64 {
        self.sent + self.failed + self.partial + self.unknown + self.in_flight
    }
}

/// The report of an agent, with the histograms that the report itself leaves out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireReport {
    pub(crate) report: Report,
    pub(crate) distributions: Distributions,
}

impl WireReport {
    /// Copies a report.
    pub(crate) fn new(report: Report) -> Self {
        let distributions = Distributions {
            latency: to_text(&report.latency),
            raw: to_text(&report.raw),
            lag: to_text(&report.lag),
            own_lag: to_text(&report.own_lag),
            hiccup: to_text(&report.hiccup),
            phases: phases_text(&report.phases),
        };
        Self { report, distributions }
    }
}
