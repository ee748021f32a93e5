//! Flags that say how much load there is, and for how long.

use std::time::Duration;

use clap::Args;
use message::traffic::RunId;
use traffic_gen::{Plan, Schedule, connections_that_fit, file_limit_raise, parse};

#[derive(Args)]
pub(crate) struct LoadFlags {
    /// Connections at once [default: 10 per core]
    #[arg(short, long, visible_alias = "connections", value_name = "N", value_parser = parse::count)]
    concurrency: Option<u64>,
    /// Messages to send; lifts the default duration
    #[arg(short = 'n', long, visible_alias = "messages", value_name = "N", value_parser = parse::count)]
    message_count: Option<u64>,
    /// How long to begin messages [default: 60s, unless --message-count is given]
    #[arg(short, long, value_name = "TIME", value_parser = parse::duration)]
    duration: Option<Duration>,
    /// Messages per second, minute or hour, sent on schedule whether the server keeps up or not
    #[arg(short, long, visible_alias = "throttle", value_name = "N[/s|/m|/h]", value_parser = parse::rate)]
    rate: Option<f64>,
    /// Makes recipients and bodies the same again [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The name that every message carries [default: random]
    #[arg(long, value_name = "NAME")]
    run_id: Option<RunId>,
}

impl LoadFlags {
    /// Raises the limit of open files, and says so where it is too low.
    pub(crate) fn apply(&self, plan: &mut Plan) {
        if let Some(concurrency) = self.concurrency {
            plan.concurrency = usize::try_from(concurrency).unwrap_or(usize::MAX);
        }
        plan.concurrency_asked = plan.concurrency;
        plan.concurrency = fit(plan.concurrency, plan.workers);
        plan.message_count = self.message_count;
        plan.duration = self.duration;
        plan.schedule = self.rate.map_or(Schedule::Closed, Schedule::rate);
        plan.seed = self.seed.unwrap_or(plan.seed);
        plan.run_id = self.run_id.unwrap_or(plan.run_id);
    }
}

/// As many connections as the host allows; says so where that is fewer than asked for.
fn fit(wanted: usize, workers: usize) -> usize {
    let files = file_limit_raise();
    let fit = connections_that_fit(files, workers).min(wanted);
    if fit < wanted {
        let number = |number: usize| crate::summary::grouped(number as f64);
        eprintln!("{} of {} connections: RLIMIT_NOFILE hard {}", number(fit), number(wanted), number(files));
    }
    fit
}
