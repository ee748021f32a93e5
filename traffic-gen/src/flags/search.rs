//! Flags that ask for the highest rate instead of one run.

use std::time::Duration;

use clap::Args;
use traffic_gen::Plan;
use traffic_gen::find_max::Goal;
use traffic_gen::find_max::search::Settings;
use traffic_gen::threshold::{self, Threshold};

/// The first rate that is tried unless --rate says another one, in messages per second.
const FIRST_PER_S: f64 = 1_000.0;

/// How long each try is measured unless --duration says so.
const LENGTH: Duration = Duration::from_secs(10);

/// How long each try warms up unless the flags say so.
const WARM_UP: Duration = Duration::from_secs(2);

/// Conditions that must all hold.
#[derive(Clone, Debug)]
pub(crate) struct Objectives(Vec<Threshold>);

#[derive(Args)]
pub(crate) struct SearchFlags {
    /// Look for the highest rate at which --slo holds, with many short runs: from --rate [default: 1000/s],
    /// each measured for --duration [default: 10s], and confirm it at 80, 100 and 120 %
    #[arg(long, requires = "slo", conflicts_with_all = ["message_count", "run_id", "threshold", "hgrm"])]
    find_max: bool,
    /// What must hold, such as 'p99<250ms,errors<0.1%,lag<5ms'
    #[arg(long, value_name = "CONDITIONS", requires = "find_max", value_parser = objectives)]
    slo: Option<Objectives>,
    /// How close the rate found may be to one that was missed
    #[arg(long, value_name = "PERCENT", default_value = "5%", requires = "find_max", value_parser = precision)]
    find_max_precision: f64,
}

impl SearchFlags {
    /// What is looked for, where something is. Gives the plan its warm-up.
    pub(crate) fn goal(&self, plan: &mut Plan) -> Option<Goal> {
        let Objectives(objectives) = self.slo.clone().filter(|_| self.find_max)?;
        if plan.warm_up.is_zero() {
            plan.warm_up = WARM_UP;
        }
        Some(Goal {
            objectives,
            settings: Settings {
                first_per_s: plan.schedule.rate_per_s().unwrap_or(FIRST_PER_S),
                precision: self.find_max_precision / 100.0,
            },
            length: plan.duration.unwrap_or(LENGTH),
        })
    }
}

fn objectives(text: &str) -> Result<Objectives, String> {
    threshold::list(text).map(Objectives).map_err(|error| error.to_string())
}

fn precision(text: &str) -> Result<f64, String> {
    let percent = text.trim().trim_end_matches('%').trim_end().parse().ok();
    let percent = percent.filter(|percent: &f64| (0.1..=50.0).contains(percent));
    percent
        .ok_or_else(|| format!("{text:?} is no precision; write a percentage from 0.1% to 50%, such as 5%"))
}
