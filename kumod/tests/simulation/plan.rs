//! What a seed means: queues, sites with their servers, limits, and the times at which things go wrong.

use std::time::Duration;

use kumod::config::{CountLimit, PathConfig, QueueConfig, ThrottleSpec};
use kumod::queue::{NamedRates, NamedSlots, QueueName};

use crate::random::Random;

/// Messages of one run, and how long they take to come in.
const MESSAGES_MAX: u64 = 250;
const INFLOW_MS_MAX: u64 = 600_000;
/// Times at which the process is killed, and at which the clock is set.
const CRASHES_MAX: u64 = 3;
const CLOCK_STEPS_MAX: u64 = 3;
/// Times at which the source of a site loses its address, and for how long at most.
const SUSPENSIONS_MAX: u64 = 3;
const SUSPENSION_MS_MAX: u64 = 900_000;
/// The farthest that the clock is set, either way.
const CLOCK_STEP_MS_MAX: u64 = 3_600_000;

pub(crate) struct QueuePlan {
    pub(crate) name: String,
    pub(crate) site: usize,
    pub(crate) config: QueueConfig,
    pub(crate) rates: NamedRates,
}

pub(crate) struct SitePlan {
    pub(crate) path: PathConfig,
    pub(crate) message_rates: NamedRates,
    pub(crate) connection_rates: NamedRates,
    pub(crate) slots: NamedSlots,
    /// Of a hundred connections so many are refused, or never answered.
    pub(crate) refuses: u64,
    pub(crate) swallows: u64,
    /// Of a hundred messages so many get 4xx or 5xx, lose their connection before the final dot or behind it, or wait for a reply until
    /// the time is up.
    pub(crate) defers: u64,
    pub(crate) rejects: u64,
    pub(crate) drops: u64,
    pub(crate) drops_replies: u64,
    pub(crate) stalls: u64,
    pub(crate) slow_ms_max: u64,
}

pub(crate) struct Plan {
    pub(crate) random: Random,
    pub(crate) queues: Vec<QueuePlan>,
    pub(crate) sites: Vec<SitePlan>,
    /// When which queue gets a message, and its size.
    pub(crate) inflow: Vec<(u64, usize, u64)>,
    pub(crate) crashes: Vec<u64>,
    /// When the source of which site is suspended, and for how long.
    pub(crate) suspensions: Vec<(u64, usize, u64)>,
    /// When the clock is set, and by how much.
    pub(crate) clock_steps: Vec<(u64, i64)>,
}

fn rate(random: &mut Random, percent: u64) -> Option<ThrottleSpec> {
    const RATES: [&str; 6] =
        ["2/s", "30/m", "7/m,max_burst=2", "100/s,max_burst=1", "20/m,max_burst=5", "1/s"];
    random.chance(percent).then(|| random.one_of(&RATES).parse().unwrap())
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let sites: Vec<SitePlan> =
            (0..random.between(1, 4)).map(|site| SitePlan::of(site, &mut random)).collect();
        let queues: Vec<QueuePlan> =
            (0..random.between(1, 14)).map(|queue| QueuePlan::of(queue, sites.len(), &mut random)).collect();
        let inflow_ms = random.between(1, INFLOW_MS_MAX);
        let inflow = (0..random.between(1, MESSAGES_MAX)).map(|_| {
            // One queue gets most of the mail.
            let queue = if random.chance(40) { 0 } else { random.index(queues.len()) };
            (random.between(0, inflow_ms), queue, random.one_of(&[500, 20_000, 900_000]))
        });
        let inflow = inflow.collect();
        let end = inflow_ms + 600_000;
        let crashes = (0..random.between(0, CRASHES_MAX)).map(|_| random.between(0, end)).collect();
        let suspensions = (0..random.between(0, SUSPENSIONS_MAX)).map(|_| {
            (random.between(0, end), random.index(sites.len()), random.between(1, SUSPENSION_MS_MAX))
        });
        let suspensions = suspensions.collect();
        let clock_steps = (0..random.between(0, CLOCK_STEPS_MAX)).map(|_| {
            let by = i64::try_from(random.between(1, CLOCK_STEP_MS_MAX)).unwrap();
            (random.between(0, end), if random.chance(50) { by } else { -by })
        });
        let clock_steps = clock_steps.collect();
        Self { random, queues, sites, inflow, crashes, suspensions, clock_steps }
    }
}

impl QueuePlan {
    fn of(number: u64, sites: usize, random: &mut Random) -> Self {
        let name = format!("campaign:tenant-{}@queue-{number}.test", number % 3);
        let mut config = QueueConfig {
            retry_interval: Duration::from_secs(random.one_of(&[1, 20, 300, 1200])),
            max_retry_interval: random.one_of(&[None, Some(Duration::from_secs(600))]),
            max_age: Duration::from_secs(random.one_of(&[60, 900, 7200])),
            max_message_rate: rate(random, 20),
            ..QueueConfig::default()
        };
        config.priority = random.one_of(&[1, 1, 4]);
        // All queues of a tenant say the same of it.
        config.overall_max_message_rate =
            number.is_multiple_of(3).then(|| "1/s,max_burst=10".parse().unwrap());
        if random.chance(15) {
            config.additional_message_rate_throttles.insert("spring".to_owned(), "90/m".parse().unwrap());
        }
        let parsed: QueueName = name.parse().unwrap();
        let rates = NamedRates::of_queue(&parsed, &config);
        Self { name, site: random.index(sites), config, rates }
    }
}

impl SitePlan {
    fn of(number: u64, random: &mut Random) -> Self {
        let mut path = PathConfig {
            connection_limit: CountLimit(random.index(6) + 1),
            max_ready: random.one_of(&[1, 3, 20, 1024]),
            max_connection_rate: rate(random, 20),
            max_message_rate: rate(random, 25),
            max_deliveries_per_connection: random.one_of(&[1, 3, 1024]),
            consecutive_connection_failures_before_delay: random.one_of(&[2, 100]),
            idle_timeout: Duration::from_secs(random.one_of(&[1, 5, 60])),
            ..PathConfig::default()
        };
        if random.chance(50) {
            path.additional_connection_limits.insert("provider".to_owned(), CountLimit(3));
        }
        let name = format!("unspecified->site-{number}@smtp_client");
        Self {
            message_rates: NamedRates::of_path(&name, &path),
            connection_rates: NamedRates::of_connections(&name, &path),
            slots: NamedSlots::of_path(&name, &path),
            path,
            refuses: random.one_of(&[0, 5, 40]),
            swallows: random.one_of(&[0, 0, 5]),
            defers: random.one_of(&[0, 10, 60]),
            rejects: random.one_of(&[0, 5]),
            drops: random.one_of(&[0, 5, 20]),
            drops_replies: random.one_of(&[0, 0, 3]),
            stalls: random.one_of(&[0, 0, 3]),
            slow_ms_max: random.one_of(&[5, 300, 20_000]),
        }
    }
}
