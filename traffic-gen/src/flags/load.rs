//! Flags that say how much load there is, and for how long.

use std::time::Duration;

use clap::Args;
use message::traffic::RunId;
use traffic_gen::{Arrivals, Plan, Schedule, Stage, connections_that_fit, file_limit_raise, parse};

/// Stages as clap wants them: one value.
#[derive(Clone)]
struct Stages(Vec<Stage>);

#[derive(Args)]
pub(crate) struct LoadFlags {
    /// Connections at once [default: 10 per core]
    #[arg(short, long, visible_alias = "connections", value_name = "N", value_parser = parse::count)]
    concurrency: Option<u64>,
    /// Messages to send; lifts the default duration
    #[arg(short = 'n', long, visible_alias = "messages", value_name = "N", value_parser = parse::count)]
    message_count: Option<u64>,
    /// How long to begin messages after the warm-up [default: 60s, unless --message-count or stages that end
    /// are given]
    #[arg(short, long, value_name = "TIME", value_parser = parse::duration)]
    duration: Option<Duration>,
    /// Messages per second, minute or hour, sent on schedule whether the server keeps up or not (open loop);
    /// without a schedule each connection sends as fast as it is answered (closed loop)
    #[arg(short, long, visible_alias = "throttle", value_name = "N[/s|/m|/h]", value_parser = parse::rate)]
    #[arg(group = "schedule")]
    rate: Option<f64>,
    /// A rate that changes: ramps FROM>TO:TIME and holds RATE:TIME, one after the other; the last hold may go
    /// without its time
    #[arg(long, value_name = "'0>5k:30s,5k:5m'", value_parser = stages, group = "schedule")]
    stages: Option<Stages>,
    /// How messages of a schedule lie between each other: constant or poisson (drawn from the seed)
    #[arg(long, value_name = "KIND", default_value = "constant", requires = "schedule")]
    arrivals: Arrivals,
    /// Begin with so much time that is kept out of the figures; stages have it inside of them
    #[arg(long, visible_alias = "warm-up", value_name = "TIME", value_parser = parse::duration)]
    warmup: Option<Duration>,
    /// How long replies are waited for in the end; what has none then is unknown [default: --timeout]
    #[arg(long, visible_alias = "grace", value_name = "TIME", value_parser = parse::duration)]
    drain: Option<Duration>,
    /// Threads that send [default: one per core]
    #[arg(long, value_name = "N", value_parser = parse::count)]
    workers: Option<u64>,
    /// Makes recipients and bodies the same again [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The name that every message carries [default: random]
    #[arg(long, value_name = "NAME")]
    run_id: Option<RunId>,
}

impl LoadFlags {
    /// Raises the limit of open files, and says so where it is too low. `timeout` is how long the server may be
    /// silent.
    pub(crate) fn apply(&self, plan: &mut Plan, timeout: Duration) {
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        plan.workers = self.workers.map_or(plan.workers, number);
        if let Some(concurrency) = self.concurrency {
            plan.concurrency = number(concurrency);
        }
        plan.concurrency_asked = plan.concurrency;
        plan.concurrency = fit(plan.concurrency, plan.workers.min(plan.concurrency));
        plan.message_count = self.message_count;
        plan.duration = self.duration;
        plan.warm_up = self.warmup.unwrap_or_default();
        plan.drain = self.drain.unwrap_or(timeout);
        plan.schedule = self.schedule();
        plan.seed = self.seed.unwrap_or(plan.seed);
        plan.run_id = self.run_id.unwrap_or(plan.run_id);
    }

    fn schedule(&self) -> Schedule {
        let hold = |rate| vec![Stage { from_per_s: rate, to_per_s: rate, length: None }];
        let stages = self.stages.as_ref().map(|stages| stages.0.clone()).or_else(|| self.rate.map(hold));
        match stages {
            Some(stages) => Schedule::Open { arrivals: self.arrivals, stages },
            None => Schedule::Closed,
        }
    }
}

fn stages(text: &str) -> Result<Stages, String> {
    Stage::parse_list(text).map(Stages)
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
