//! Distributions over the messages of a run: how long they took and how late they began.
//!
//! Owns which of them exist and how they add up. One set holds the messages that count for the figures, a
//! second one those of the warm-up; only a run that has a warm-up has the second.

use hdrhistogram::Histogram;
use reports::latency::{new_histogram, record_ns};

use crate::phases::{Phases, Step};
use crate::start::Times;
use crate::tally::{Final, Tally};

/// The distributions of some messages, all in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// To the final reply of accepted messages: from the intended time in an open loop, else from MAIL.
    pub(crate) latency: Histogram<u64>,
    /// The same from MAIL; used in an open loop only, because in a closed one it would be the same.
    pub(crate) raw: Histogram<u64>,
    /// From the intended time to MAIL, in an open loop.
    pub(crate) lag: Histogram<u64>,
    /// The part of the lag during which a connection stood ready.
    pub(crate) own_lag: Histogram<u64>,
    pub(crate) phases: Phases,
}

impl Recorded {
    pub(crate) fn new() -> Self {
        Self {
            latency: new_histogram(),
            raw: new_histogram(),
            lag: new_histogram(),
            own_lag: new_histogram(),
            phases: Phases::new(),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let ours = [&mut self.latency, &mut self.raw, &mut self.lag, &mut self.own_lag];
        for (sum, part) in ours.into_iter().zip([&other.latency, &other.raw, &other.lag, &other.own_lag]) {
            if !part.is_empty() {
                // All are made by the same function with the same bounds, which is the only thing that
                // could be refused.
                sum.add(part).unwrap_or_default();
            }
        }
        self.phases.add(&other.phases);
    }

    pub(crate) fn reset(&mut self) {
        for histogram in [&mut self.latency, &mut self.raw, &mut self.lag, &mut self.own_lag] {
            if !histogram.is_empty() {
                histogram.reset();
            }
        }
        self.phases.reset();
    }
}

/// What one worker has counted and recorded. Its own connections write it; the reporter takes the last
/// second's distributions out of it.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) tally: Tally,
    /// Of messages that count for the figures.
    counts: Box<Recorded>,
    /// Of the others.
    warm_up: Option<Box<Recorded>>,
    open_loop: bool,
}

impl Book {
    pub(crate) fn new(open_loop: bool, warm_up: bool) -> Self {
        Self {
            tally: Tally::new(),
            counts: Box::new(Recorded::new()),
            warm_up: warm_up.then(|| Box::new(Recorded::new())),
            open_loop,
        }
    }

    /// Counts a message that was answered. The latency is that of accepted messages only: refusals are
    /// often quicker.
    pub(crate) fn answered(&mut self, message: &Final, times: &Times) {
        self.tally.answered(message, times);
        let begun = message.begun;
        let (open_loop, recorded) = (self.open_loop, self.of(times.counts(begun.meant_ns)));
        if let Some(together_ns) = message.together_ns {
            recorded.phases.record_together(together_ns);
        }
        if message.is_sent() {
            record_ns(&mut recorded.latency, message.reply_ns.saturating_sub(begun.meant_ns));
        }
        if open_loop {
            if message.is_sent() {
                record_ns(&mut recorded.raw, message.reply_ns.saturating_sub(begun.begun_ns));
            }
            record_ns(&mut recorded.lag, begun.begun_ns.saturating_sub(begun.meant_ns));
            record_ns(&mut recorded.own_lag, begun.begun_ns.saturating_sub(begun.ready_ns));
        }
    }

    /// Records how long steps took. Those of a message belong where the message does; those of a connection
    /// count always, because connections are opened before anything else.
    pub(crate) fn steps(&mut self, counts: bool, steps: &[Option<(Step, u64)>]) {
        let recorded = self.of(counts);
        for (step, took_ns) in steps.iter().flatten() {
            recorded.phases.record(*step, *took_ns);
        }
    }

    /// Takes out what was recorded since the last turn; what `spare` holds comes in its place and must be
    /// empty.
    pub(crate) fn turn(&mut self, spare: &mut Spare) {
        std::mem::swap(&mut self.counts, &mut spare.counts);
        if let (Some(ours), Some(theirs)) = (&mut self.warm_up, &mut spare.warm_up) {
            std::mem::swap(ours, theirs);
        }
    }

    /// Where messages are recorded that count, or that do not.
    fn of(&mut self, counts: bool) -> &mut Recorded {
        match &mut self.warm_up {
            Some(warm_up) if !counts => warm_up,
            _ => &mut self.counts,
        }
    }
}

/// The distributions of one second, and the means to take them.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) counts: Box<Recorded>,
    pub(crate) warm_up: Option<Box<Recorded>>,
}

impl Spare {
    pub(crate) fn new(warm_up: bool) -> Self {
        Self { counts: Box::new(Recorded::new()), warm_up: warm_up.then(|| Box::new(Recorded::new())) }
    }

    /// Gives each step its part of what was recorded for several.
    pub(crate) fn spread(&mut self) {
        self.counts.phases.spread();
        if let Some(warm_up) = &mut self.warm_up {
            warm_up.phases.spread();
        }
    }

    pub(crate) fn reset(&mut self) {
        self.counts.reset();
        if let Some(warm_up) = &mut self.warm_up {
            warm_up.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Begun;

    const TIMES: Times = Times { start_ns: 0, from_ns: 1_000_000, until_ns: u64::MAX };

    fn accepted(meant_us: u64, begun_us: u64, ready_us: u64, reply_us: u64) -> Final {
        let begun =
            Begun { meant_ns: meant_us * 1_000, begun_ns: begun_us * 1_000, ready_ns: ready_us * 1_000 };
        let reply_ns = reply_us * 1_000;
        Final { sequence: 0, recipients: 1, accepted: 1, bytes: 1, begun, reply_ns, together_ns: Some(7_000) }
    }

    #[test]
    fn an_open_loop_records_four_distributions_and_a_refusal_no_latency() {
        let (mut book, mut spare) = (Book::new(true, false), Spare::new(false));
        // Due at 1,000, a connection became free at 1,300, and it began at 1,310.
        book.answered(&accepted(1_000, 1_310, 1_300, 1_400), &TIMES);
        book.answered(&Final { accepted: 0, ..accepted(1_000, 1_000, 1_000, 1_001) }, &TIMES);
        book.turn(&mut spare);
        spare.spread();
        let Recorded { latency, raw, lag, own_lag, phases } = &*spare.counts;
        assert_eq!([latency.max(), raw.max(), lag.max(), own_lag.max()], [400, 90, 310, 10]);
        assert_eq!([latency.len(), raw.len(), lag.len(), own_lag.len()], [1, 1, 2, 2]);
        assert!(phases.iter().any(|(name, histogram)| name == "mail" && histogram.len() == 2));
    }

    #[test]
    fn the_warm_up_is_kept_apart() {
        let (mut book, mut spare) = (Book::new(false, true), Spare::new(true));
        book.answered(&accepted(999, 999, 999, 5_000), &TIMES);
        book.answered(&accepted(1_000, 1_000, 1_000, 1_100), &TIMES);
        book.turn(&mut spare);
        assert_eq!((spare.counts.latency.len(), spare.counts.latency.max()), (1, 100));
        let warm_up = spare.warm_up.as_ref().unwrap();
        assert_eq!((warm_up.latency.len(), warm_up.raw.len(), warm_up.lag.len()), (1, 0, 0));
        spare.reset();
        book.turn(&mut spare);
        assert!(spare.counts.latency.is_empty() && spare.warm_up.unwrap().latency.is_empty());
    }
}
