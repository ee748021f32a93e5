//! The reporter: looks at all workers once a second, tells who watches, and gathers the figures.
//!
//! Owns what belongs to the figures: distributions by the time for which a message was meant, hiccups and
//! processor time by the seconds of the window. It runs on the thread that asked for the run and takes no
//! lock for longer than it takes to swap a pointer or add up some counters.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use hdrhistogram::Histogram;
use reports::latency::new_histogram;

use crate::clock::{NS_PER_SECOND, now_ns};
use crate::cpu;
use crate::hiccup::Hiccups;
use crate::honesty::{self, Evidence};
use crate::pacer::Pacer;
use crate::recorded::{Recorded, Spare};
use crate::report::{Gathered, Measured};
use crate::run::Shared;
use crate::second::{Observer, Second, Window};
use crate::start::Times;
use crate::tally::Tally;
use crate::worker::Worker;

/// What is gathered over a run.
pub(crate) struct Watcher<'a> {
    shared: &'a Shared,
    workers: &'a [Arc<Worker>],
    hiccups: Hiccups,
    /// Of messages that count.
    recorded: Recorded,
    hiccup: Histogram<u64>,
    /// Over the seconds of the figures: how long they were, and how long the process ran in them.
    looked_ns: u64,
    process_ns: u64,
    /// The same for each thread that sends, over the seconds in which all of them could be looked at.
    looked_at_threads_ns: u64,
    threads_ns: Vec<u64>,
    spare: Spare,
}

/// One look at the clocks.
struct Look {
    at_ns: u64,
    process_ns: u64,
    /// Of each thread that sends; `None` where it has ended or the kernel does not tell.
    threads_ns: Vec<Option<u64>>,
    window: Window,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(shared: &'a Shared, workers: &'a [Arc<Worker>]) -> Self {
        Self {
            shared,
            workers,
            hiccups: Hiccups::start(),
            recorded: Recorded::new(),
            hiccup: new_histogram(),
            looked_ns: 0,
            process_ns: 0,
            looked_at_threads_ns: 0,
            threads_ns: vec![0; workers.len()],
            spare: Spare::new(!shared.plan.warm_up.is_zero()),
        }
    }

    /// Watches until all workers are done, which is when the other end of `all_done` is dropped.
    pub(crate) fn watch(&mut self, all_done: &Receiver<()>, observer: &mut dyn Observer) {
        let (mut second, mut hiccup) = (Recorded::new(), new_histogram());
        let mut before = Look { at_ns: self.shared.begin_ns, ..self.look() };
        let mut tick = 0;
        loop {
            tick += 1;
            let end_ns = self.shared.begin_ns + tick * NS_PER_SECOND;
            let wait = Duration::from_nanos(end_ns.saturating_sub(now_ns()));
            let running = all_done.recv_timeout(wait) == Err(RecvTimeoutError::Timeout);
            second.reset();
            hiccup.reset();
            self.take(&mut second);
            self.hiccups.take(&mut hiccup);
            let now = self.look();
            self.tell(&second, &hiccup, &before, &now, observer);
            if before.window == Window::Measured {
                self.gather(&hiccup, &before, &now);
            }
            before = now;
            if !running {
                return;
            }
        }
    }

    /// Adds a second that counts for the figures.
    fn gather(&mut self, hiccup: &Histogram<u64>, before: &Look, now: &Look) {
        // Both have the same bounds, which is the only thing that could be refused.
        self.hiccup.add(hiccup).unwrap_or_default();
        let length_ns = now.at_ns - before.at_ns;
        self.looked_ns += length_ns;
        self.process_ns += now.process_ns.saturating_sub(before.process_ns);
        let both = |(before, now): (&Option<u64>, &Option<u64>)| Some((*now)?.saturating_sub((*before)?));
        let ran_ns: Option<Vec<u64>> = before.threads_ns.iter().zip(&now.threads_ns).map(both).collect();
        if let Some(ran_ns) = ran_ns {
            self.looked_at_threads_ns += length_ns;
            self.threads_ns.iter_mut().zip(ran_ns).for_each(|(sum, ran_ns)| *sum += ran_ns);
        }
    }

    /// What came of it all.
    pub(crate) fn finish(self, total: &Tally, interrupted: bool) -> Gathered {
        let measured = self.measured(total);
        let threads: Vec<f64> =
            self.threads_ns.iter().map(|ns| cores(*ns, self.looked_at_threads_ns)).collect();
        let plan = &self.shared.plan;
        let evidence = Evidence {
            open_loop: plan.schedule.is_open(),
            looked_s: self.looked_at_threads_ns as f64 / 1e9,
            threads: &threads,
            cores: cpu::cores(),
            own_lag: &self.recorded.own_lag,
            hiccup: &self.hiccup,
            connections_asked: plan.concurrency_asked,
            connections_allowed: plan.concurrency,
            without_port: total.without_port,
            without_file: total.without_file,
        };
        Gathered {
            generator_limited: honesty::reasons(&evidence),
            measured,
            due: self.due(),
            behind: self.due().saturating_sub(self.shared.claims.begun()),
            cpu_cores: cores(self.process_ns, self.looked_ns),
            threads,
            recorded: self.recorded,
            hiccup: self.hiccup,
            interrupted,
        }
    }

    fn look(&self) -> Look {
        let at_ns = now_ns();
        let times = self.shared.start.times();
        let window = match times {
            Some(times) if at_ns >= times.from_ns && self.shared.claims.are_open(at_ns) => Window::Measured,
            Some(_) if !self.shared.claims.are_open(at_ns) => Window::Drain,
            _ => Window::WarmUp,
        };
        let threads = self.workers.iter().map(|worker| worker.thread().and_then(cpu::thread_ns));
        Look { at_ns, process_ns: cpu::process_ns(), threads_ns: threads.collect(), window }
    }

    /// Takes the last second's distributions from all workers.
    fn take(&mut self, second: &mut Recorded) {
        for worker in self.workers {
            self.spare.reset();
            worker.book(|book| book.turn(&mut self.spare));
            self.spare.spread();
            second.add(&self.spare.counts);
            self.recorded.add(&self.spare.counts);
            if let Some(warm_up) = &self.spare.warm_up {
                second.add(warm_up);
            }
        }
        // The last one is given to the first worker in the next second.
        self.spare.reset();
    }

    fn tell(
        &self,
        recorded: &Recorded,
        hiccup: &Histogram<u64>,
        before: &Look,
        now: &Look,
        observer: &mut dyn Observer,
    ) {
        let mut total = Tally::new();
        self.workers.iter().for_each(|worker| worker.tally(|tally| total.add_counts(tally)));
        let open_loop = self.shared.plan.schedule.is_open();
        // The count of what has begun is read last, so that nothing answered seems to be in flight twice.
        let begun = self.shared.claims.begun();
        observer.second(&Second {
            offset: Duration::from_nanos(before.at_ns - self.shared.begin_ns),
            length: Duration::from_nanos(now.at_ns - before.at_ns),
            window: before.window,
            latency: &recorded.latency,
            raw: if open_loop { &recorded.raw } else { &recorded.latency },
            lag: &recorded.lag,
            hiccup,
            phases: &recorded.phases,
            sent: total.all.sent,
            failed: total.all.failed,
            partial: total.all.partial,
            unknown: total.all.unknown,
            in_flight: begun.saturating_sub(total.all.ended()),
            connections: total.connections_open,
            due: self.due(),
            cpu_cores: cores(now.process_ns.saturating_sub(before.process_ns), now.at_ns - before.at_ns),
            reply_codes: &total.reply_codes,
            errors: &total.errors,
        });
    }

    /// Messages due by the schedule so far. A worker releases more than its share of a number of messages, for
    /// others that cannot send theirs; those are not due.
    fn due(&self) -> u64 {
        let released = |worker: &Arc<Worker>| worker.pacer.as_ref().map_or(0, Pacer::released);
        self.workers.iter().map(released).sum::<u64>().min(self.shared.claims.limit())
    }

    /// The window of the figures. It ends with the time in which messages could begin, or with the last reply
    /// where they ran out before.
    fn measured(&self, total: &Tally) -> Measured {
        let Some(Times { start_ns, from_ns, .. }) = self.shared.start.times() else {
            return Measured::default();
        };
        let (deadline_ns, now_ns) = (self.shared.claims.deadline_ns(), now_ns());
        let by_time = now_ns >= deadline_ns && !self.shared.claims.are_exhausted();
        let until_ns = if by_time { deadline_ns } else { total.last_reply_ns.min(deadline_ns) };
        let counts = total.measured;
        Measured {
            from_s: from_ns.saturating_sub(start_ns) as f64 / 1e9,
            length_s: until_ns.saturating_sub(from_ns) as f64 / 1e9,
            sent: counts.sent,
            failed: counts.failed,
            partial: counts.partial,
            unknown: counts.unknown,
            bytes: counts.bytes,
            accepted: total.accepted_in_window,
        }
    }
}

/// Processors kept busy.
fn cores(cpu_ns: u64, wall_ns: u64) -> f64 {
    if wall_ns > 0 { cpu_ns as f64 / wall_ns as f64 } else { 0.0 }
}
