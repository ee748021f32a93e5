//! What several agents did as one run: seconds and reports added up.
//!
//! Counts are sums and distributions are added histogram by histogram, so that a percentile is that of all
//! messages. Of an agent that was lost nothing is known from then on: all messages that it was last seen to
//! have begun count as unknown, and the run is a failure.

use std::collections::BTreeMap;
use std::time::Duration;

use reports::latency::summary;
use serde::Serialize;
use traffic_gen::{Measured, Plan, Report, Second, Share, Window, audit};

use super::clock::Offset;
use super::wire::{Merged, WireReport, WireSecond};

/// What came of one agent's part.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Part {
    /// Where the agent listens.
    pub(crate) address: String,
    /// Its clock against the controller's.
    pub(crate) clock: Offset,
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    pub(crate) partial: u64,
    pub(crate) unknown: u64,
    /// Why nothing more is known of it; null where all is.
    pub(crate) lost: Option<String>,
}

/// The same second of all agents. An agent that is through stands with its last counts.
pub(crate) struct Together {
    merged: Merged,
    sum: Option<WireSecond>,
}

impl Together {
    /// Adds up. `seconds` has what each agent said last; `fresh` says whether it is about this second.
    pub(crate) fn of<'a>(seconds: impl Iterator<Item = (&'a WireSecond, bool)>) -> Result<Self, String> {
        let mut together = Self { merged: Merged::new(), sum: None };
        for (second, fresh) in seconds {
            if fresh {
                together.merged.add(&second.distributions)?;
            }
            together.add_counts(second, fresh);
        }
        Ok(together)
    }

    fn add_counts(&mut self, second: &WireSecond, fresh: bool) {
        let Some(sum) = &mut self.sum else {
            let mut first = second.clone();
            if !fresh {
                first.cpu_cores = 0.0;
            }
            self.sum = Some(first);
            return;
        };
        sum.sent += second.sent;
        sum.failed += second.failed;
        sum.partial += second.partial;
        sum.unknown += second.unknown;
        sum.in_flight += second.in_flight;
        sum.connections += second.connections;
        sum.due += second.due;
        add_all(&mut sum.reply_codes, &second.reply_codes);
        add_all(&mut sum.errors, &second.errors);
        if fresh {
            sum.cpu_cores += second.cpu_cores;
            sum.offset_ns = sum.offset_ns.max(second.offset_ns);
            sum.length_ns = sum.length_ns.max(second.length_ns);
            sum.window = later(sum.window, second.window);
        }
    }

    /// As somebody who watches a run sees it; nothing where there was no agent.
    pub(crate) fn second(&self) -> Option<Second<'_>> {
        let sum = self.sum.as_ref()?;
        Some(Second {
            offset: Duration::from_nanos(sum.offset_ns),
            length: Duration::from_nanos(sum.length_ns),
            window: sum.window,
            latency: &self.merged.latency,
            raw: &self.merged.raw,
            lag: &self.merged.lag,
            hiccup: &self.merged.hiccup,
            phases: &self.merged.phases,
            sent: sum.sent,
            failed: sum.failed,
            partial: sum.partial,
            unknown: sum.unknown,
            in_flight: sum.in_flight,
            connections: sum.connections,
            due: sum.due,
            cpu_cores: sum.cpu_cores,
            reply_codes: &sum.reply_codes,
            errors: &sum.errors,
        })
    }
}

/// Measured as soon as one agent measures, and drained when all drain.
fn later(one: Window, other: Window) -> Window {
    match (one, other) {
        (Window::Measured, _) | (_, Window::Measured) => Window::Measured,
        (Window::WarmUp, _) | (_, Window::WarmUp) => Window::WarmUp,
        (Window::Drain, Window::Drain) => Window::Drain,
    }
}

fn add_all<K: Ord + Clone>(sum: &mut BTreeMap<K, u64>, other: &BTreeMap<K, u64>) {
    for (key, count) in other {
        *sum.entry(key.clone()).or_insert(0) += count;
    }
}

/// The reports of all agents as one. `nothing` is the report of the plan with no message.
pub(crate) struct Whole {
    report: Report,
    merged: Merged,
}

impl Whole {
    pub(crate) fn new(plan: &Plan, nothing: Report) -> Self {
        let report = Report {
            concurrency: plan.concurrency,
            message_count: plan.message_count,
            share: Share::default(),
            errors: BTreeMap::new(),
            cores: 0,
            generator_limited: Vec::new(),
            ..nothing
        };
        Self { report, merged: Merged::new() }
    }

    /// Adds the report of one agent.
    pub(crate) fn add(&mut self, part: &Part, wire: WireReport) -> Result<(), String> {
        self.merged.add(&wire.distributions)?;
        let (sum, other) = (&mut self.report, wire.report);
        let begun = other.sent + other.failed + other.partial + other.unknown;
        // The parts do not begin equally many, so the numbers that were sent do not follow from the sums.
        let Share { index, of } = other.share;
        sum.shares.push(audit::Share { index, of, begun: Some(begun) });
        sum.recipients_per_message = other.recipients_per_message;
        sum.body_bytes = other.body_bytes;
        sum.sent += other.sent;
        sum.failed += other.failed;
        sum.partial += other.partial;
        sum.unknown += other.unknown;
        sum.recipients_accepted += other.recipients_accepted;
        sum.failed_sequences.extend(other.failed_sequences);
        sum.unknown_sequences.extend(other.unknown_sequences);
        sum.refused_recipients.extend(other.refused_recipients);
        sum.due += other.due;
        sum.behind += other.behind;
        add_measured(&mut sum.measured, &other.measured);
        let limits = other.generator_limited.into_iter();
        sum.generator_limited.extend(limits.map(|limit| format!("{}: {limit}", part.address)));
        sum.cpu_cores += other.cpu_cores;
        sum.cores += other.cores;
        sum.first_sent_ns = sum.first_sent_ns.into_iter().chain(other.first_sent_ns).min();
        sum.last_reply_ns = sum.last_reply_ns.max(other.last_reply_ns);
        if sum.per_second.len() < other.per_second.len() {
            sum.per_second.resize(other.per_second.len(), 0);
        }
        sum.per_second.iter_mut().zip(&other.per_second).for_each(|(sum, count)| *sum += count);
        sum.connections += other.connections;
        sum.connections_lost += other.connections_lost;
        sum.connections_unfit += other.connections_unfit;
        sum.bytes += other.bytes;
        add_all(&mut sum.reply_codes, &other.reply_codes);
        add_all(&mut sum.errors, &other.errors);
        sum.interrupted |= other.interrupted;
        Ok(())
    }

    /// Counts an agent of which nothing more is known.
    pub(crate) fn lose(&mut self, part: &Part, why: &str) {
        self.report.unknown += part.unknown;
        self.report.measured.unknown += part.unknown;
        *self.report.errors.entry(format!("agent {} was lost: {why}", part.address)).or_insert(0) += 1;
    }

    /// The report, with its figures.
    pub(crate) fn finish(self) -> Report {
        let Self { mut report, merged } = self;
        report.failed_sequences.sort_unstable();
        report.unknown_sequences.sort_unstable();
        report.refused_recipients.sort_unstable();
        let elapsed_ns = report.last_reply_ns.unwrap_or(0).saturating_sub(report.first_sent_ns.unwrap_or(0));
        report.elapsed_s = elapsed_ns as f64 / 1e9;
        let length_s = report.measured.length_s;
        let per_s = if length_s > 0.0 { report.measured.accepted as f64 / length_s } else { 0.0 };
        report.mmh_observed = per_s * 3600.0 / 1e6;
        report.mmh = report.generator_limited.is_empty().then_some(report.mmh_observed);
        report.latency_us = summary(&merged.latency);
        report.raw_latency_us = summary(&merged.raw);
        report.lag_us = summary(&merged.lag);
        report.own_lag_us = summary(&merged.own_lag);
        report.hiccup_us = summary(&merged.hiccup);
        let happened = merged.phases.iter().filter(|(_, histogram)| !histogram.is_empty());
        report.phases_us = happened.map(|(name, histogram)| (name.to_owned(), summary(histogram))).collect();
        let Merged { latency, raw, lag, own_lag, hiccup, phases } = merged;
        Report { latency, raw, lag, own_lag, hiccup, phases, ..report }
    }
}

fn add_measured(sum: &mut Measured, other: &Measured) {
    sum.from_s = sum.from_s.max(other.from_s);
    sum.length_s = sum.length_s.max(other.length_s);
    sum.sent += other.sent;
    sum.failed += other.failed;
    sum.partial += other.partial;
    sum.unknown += other.unknown;
    sum.bytes += other.bytes;
    sum.accepted += other.accepted;
}
