//! What came of a run. Field names are a promise: programs read the JSON.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use reports::latency::{new_histogram, summary};
use reports::run::Latency;
use serde::{Deserialize, Serialize};

use crate::content::PerMessage;
use crate::cpu;
use crate::phases::Phases;
use crate::plan::{Plan, Share};
use crate::recorded::Recorded;
use crate::tally::Tally;

/// The result of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The name that every message carries.
    pub run_id: String,
    /// The servers, as the operator wrote them, with commas between them.
    pub target: String,
    /// What recipients and bodies were made from.
    pub seed: u64,
    /// Bytes of each body; the mean where they differ.
    pub body_bytes: u64,
    /// Connections asked for.
    pub concurrency: usize,
    /// Messages per second asked for; null in a closed loop and where the rate changes.
    pub rate_per_s: Option<f64>,
    /// The part of the run that this process had: which sequence numbers its messages have.
    #[serde(default)]
    pub share: Share,
    /// The parts that were put together, each with the messages it began; empty where one process sent all. Without
    /// them nobody can tell which sequence numbers were sent: the parts do not begin equally many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<crate::audit::Share>,
    /// Recipients of each message; null in reports of versions that knew one only.
    #[serde(default)]
    pub recipients_per_message: Option<PerMessage>,
    /// Messages asked for, of this process's share; null where the time was the limit.
    pub message_count: Option<u64>,
    /// Final 250 read for all recipients.
    pub sent: u64,
    /// Final refusal read for all recipients.
    pub failed: u64,
    /// Final 250 read for some recipients and final refusals for the others; not part of `sent` or `failed`.
    #[serde(default)]
    pub partial: u64,
    /// Connection lost before the final reply, or before that for one of the recipients.
    pub unknown: u64,
    /// Recipients for whom a message was accepted: deliveries that the server has promised.
    #[serde(default)]
    pub recipients_accepted: u64,
    /// First and last of each run of refused messages; shorter than `failed` where there were over a million.
    #[serde(default)]
    pub failed_sequences: Vec<[u64; 2]>,
    /// The same for `unknown`.
    #[serde(default)]
    pub unknown_sequences: Vec<[u64; 2]>,
    /// Of the messages in `partial`: sequence number, and the number of a recipient (from 0, in the order of the
    /// message) for whom it was refused. With the two lists above it says what was promised: every recipient
    /// of a message that is in none of them, and those of a partial one that are not here. A million at most.
    #[serde(default)]
    pub refused_recipients: Vec<[u64; 2]>,
    /// Due by the schedule; 0 in a closed loop.
    #[serde(default)]
    pub due: u64,
    /// Due by the schedule and never begun; always 0 in a closed loop.
    pub behind: u64,
    /// From the first (intended) send to the last final reply, in seconds.
    pub elapsed_s: f64,
    /// The part of the run that the figures are about.
    pub measured: Measured,
    /// Million messages per hour: `measured.accepted` by `measured.length_s`; null where the generator was the
    /// limit, because the number would then not be the server's.
    pub mmh: Option<f64>,
    /// The same, whatever limited it.
    pub mmh_observed: f64,
    /// Why the figures say more about the generator and its host than about the server; empty where they do
    /// not.
    pub generator_limited: Vec<String>,
    /// To the final 250: from the intended time with a rate, else from the first byte of MAIL.
    pub latency_us: Latency,
    /// To the final 250 from the first byte of MAIL.
    pub raw_latency_us: Latency,
    /// From the intended time to the first byte of MAIL; all 0 in a closed loop.
    pub lag_us: Latency,
    /// The part of `lag_us` during which a connection stood ready: the generator's own.
    pub own_lag_us: Latency,
    /// By how much a thread that sleeps for a millisecond overslept.
    pub hiccup_us: Latency,
    /// How long each step took, from its command to its reply; steps that did not happen are left out.
    pub phases_us: BTreeMap<String, Latency>,
    /// Processors that this process kept busy while the figures were taken.
    pub cpu_cores: f64,
    /// The same for each thread that sends, which is what is judged.
    #[serde(default)]
    pub thread_cores: Vec<f64>,
    /// Processors that it may use.
    pub cores: usize,
    /// The first intended send, `CLOCK_MONOTONIC`, or the coordinator's `CLOCK_REALTIME` in a run of several
    /// machines; null where nothing was begun.
    pub first_sent_ns: Option<u64>,
    /// The last final reply, by the same clock; null where nothing was begun.
    pub last_reply_ns: Option<u64>,
    /// Messages sent in each second since the start of the run.
    pub per_second: Vec<u64>,
    /// Connections opened.
    pub connections: u64,
    /// Connections that were lost, refused or timed out.
    pub connections_lost: u64,
    /// Connections given up because the server does not offer what was asked for, or did not take who we are;
    /// part of `connections_lost`.
    #[serde(default)]
    pub connections_unfit: u64,
    /// Bytes of header and body of the messages sent.
    pub bytes: u64,
    /// Final replies by their code, one for each recipient.
    pub reply_codes: BTreeMap<u16, u64>,
    /// What went wrong, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Whether a signal ended the run.
    pub interrupted: bool,
    /// The latencies behind `latency_us`, in microseconds.
    #[serde(skip, default = "new_histogram")]
    pub latency: Histogram<u64>,
    /// Those behind `raw_latency_us`.
    #[serde(skip, default = "new_histogram")]
    pub raw: Histogram<u64>,
    /// Those behind `lag_us`.
    #[serde(skip, default = "new_histogram")]
    pub lag: Histogram<u64>,
    /// Those behind `own_lag_us`.
    #[serde(skip, default = "new_histogram")]
    pub own_lag: Histogram<u64>,
    /// Those behind `hiccup_us`.
    #[serde(skip, default = "new_histogram")]
    pub hiccup: Histogram<u64>,
    /// Those behind `phases_us`.
    #[serde(skip)]
    pub phases: Phases,
}

/// The part of a run that its figures are about: neither the warm-up nor the wait for the last replies.
///
/// A message belongs to it when it was due in it, whenever its reply came: a reply that is late does not get a
/// message out of the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// When it began, in seconds after the first message could begin.
    pub from_s: f64,
    /// How long it was, in seconds: to the end of the duration, or to the last reply where the messages ran
    /// out before.
    pub length_s: f64,
    /// Messages that were due in it and got their final 250.
    pub sent: u64,
    /// Messages that were due in it and were refused.
    pub failed: u64,
    /// Messages that were due in it and were refused for some recipients.
    #[serde(default)]
    pub partial: u64,
    /// Messages that were due in it and whose end is not known.
    pub unknown: u64,
    /// Bytes of header and body of `sent`.
    pub bytes: u64,
    /// Final 250s read in it, whenever their messages were due: what the server did in that time.
    pub accepted: u64,
}

/// What the reporter has gathered for the report, beside the counts.
pub(crate) struct Gathered {
    pub(crate) recorded: Recorded,
    pub(crate) hiccup: Histogram<u64>,
    pub(crate) measured: Measured,
    pub(crate) cpu_cores: f64,
    pub(crate) threads: Vec<f64>,
    pub(crate) due: u64,
    pub(crate) behind: u64,
    pub(crate) generator_limited: Vec<String>,
    pub(crate) interrupted: bool,
}

impl Report {
    pub(crate) fn new(plan: &Plan, body_bytes: f64, total: Tally, gathered: Gathered) -> Self {
        let Recorded { latency, raw, lag, own_lag, phases } = gathered.recorded;
        // In a closed loop a message is due when it begins, so that there is nothing to correct.
        let raw = if plan.schedule.is_open() { raw } else { latency.clone() };
        let measured = gathered.measured;
        let per_s = |count: u64| if measured.length_s > 0.0 { count as f64 / measured.length_s } else { 0.0 };
        let mmh_observed = mmh(per_s(measured.accepted));
        let begun = total.all.ended() > 0;
        let elapsed_ns = if begun { total.last_reply_ns.saturating_sub(total.first_sent_ns) } else { 0 };
        Self {
            run_id: plan.run_id.to_string(),
            target: names(plan),
            seed: plan.seed,
            body_bytes: rounded(body_bytes),
            concurrency: plan.concurrency,
            rate_per_s: plan.schedule.rate_per_s(),
            share: plan.share,
            shares: Vec::new(),
            recipients_per_message: Some(plan.recipients.per_message),
            message_count: plan.message_count.map(|count| plan.share.part(count)),
            sent: total.all.sent,
            failed: total.all.failed,
            partial: total.all.partial,
            unknown: total.all.unknown,
            recipients_accepted: total.recipients_accepted,
            failed_sequences: total.failed_sequences.ranges(),
            unknown_sequences: total.unknown_sequences.ranges(),
            refused_recipients: total.refused_recipients.sorted(),
            due: gathered.due,
            behind: gathered.behind,
            elapsed_s: elapsed_ns as f64 / 1e9,
            measured,
            mmh: gathered.generator_limited.is_empty().then_some(mmh_observed),
            mmh_observed,
            generator_limited: gathered.generator_limited,
            latency_us: summary(&latency),
            raw_latency_us: summary(&raw),
            lag_us: summary(&lag),
            own_lag_us: summary(&own_lag),
            hiccup_us: summary(&gathered.hiccup),
            phases_us: summaries(&phases),
            cpu_cores: gathered.cpu_cores,
            thread_cores: gathered.threads,
            cores: cpu::cores(),
            first_sent_ns: begun.then_some(total.first_sent_ns),
            last_reply_ns: begun.then_some(total.last_reply_ns),
            per_second: total.per_second,
            connections: total.connections_opened,
            connections_lost: total.connections_lost,
            connections_unfit: total.connections_unfit,
            bytes: total.all.bytes,
            reply_codes: total.reply_codes,
            errors: total.errors,
            interrupted: gathered.interrupted,
            latency,
            raw,
            lag,
            own_lag,
            hiccup: gathered.hiccup,
            phases,
        }
    }

    /// Messages asked for and never begun.
    pub fn unsent(&self) -> u64 {
        let begun = self.sent + self.failed + self.partial + self.unknown;
        self.message_count.map_or(0, |count| count.saturating_sub(begun))
    }

    /// 0 where every message was sent, 130 after a signal, else 1. A run that sent nothing is no success, nor is
    /// one with a server that lacks what was asked for.
    pub fn exit_code(&self) -> u8 {
        if self.interrupted {
            130
        } else {
            let bad = self.failed + self.partial + self.unknown + self.connections_unfit + self.unsent();
            u8::from(bad > 0 || self.sent == 0)
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a mean of sizes is not negative, and a cast from a float stays at the bounds"
)]
fn rounded(bytes: f64) -> u64 {
    bytes.round() as u64
}

/// Of the steps that happened.
fn summaries(phases: &Phases) -> BTreeMap<String, Latency> {
    let happened = phases.iter().filter(|(_, histogram)| !histogram.is_empty());
    happened.map(|(name, histogram)| (name.to_owned(), summary(histogram))).collect()
}

/// The names of all targets.
fn names(plan: &Plan) -> String {
    plan.targets.iter().map(|target| &target.name[..]).collect::<Vec<_>>().join(",")
}

/// Million messages per hour.
pub(crate) fn mmh(messages_per_second: f64) -> f64 {
    messages_per_second * 3600.0 / 1e6
}
