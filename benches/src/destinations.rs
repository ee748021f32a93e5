//! Many destinations at once: what an open connection to each of them costs, and what slow ones cost a fast one.
//!
//! Each address of 127.0.0.0/8 is a destination of its own here, and one sink listens on all of them. It owns the limits and says whether they
//! are kept. It starts kumod as its users do and looks at it from outside.

use std::path::Path;
use std::time::{Duration, Instant};

use reports::machine::Machine;
use reports::run::Kind;
use serde::{Deserialize, Serialize};

use crate::arguments;
use crate::client::Client;
use crate::error::{During, Error, Result};
use crate::http;
use crate::placement::Placement;
use crate::processes::{Launch, Process, Programs};
use crate::progress::Progress;
use crate::promise::Promise;
use crate::stop::Stop;
use crate::suite;
use crate::traffic::{self, Amount, Job, Servers, Surroundings};
use crate::writers::limits::{Bound, Spread};

/// Memory for a destination with a connection that is kept open, in KiB.
pub const KIBIBYTES: Bound = Bound::AtMost(20.0);
/// The rate to a fast destination beside slow ones, as a part of the rate without them.
pub const SHARE: Bound = Bound::AtLeast(0.95);
/// What a slow destination takes for each reply.
const SLOW_REPLY_S: u32 = 5;
/// Messages for each slow destination: over one connection they take longer than a run.
const MESSAGES_SLOW: u32 = 5;
/// Destinations that get mail before anything is measured, so that what the first ones cost once is not counted.
const WARM_UP: u32 = 200;
/// Recipients in one transaction; kumod makes a message for each.
const RECIPIENTS: usize = 100;
const BODY_BYTES: usize = 1000;
/// Mail must be there, and connections open, within this time.
const ARRIVAL_WAIT_MAX: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(100);
/// How long kumod and sink work before a run counts.
const WARM_UP_RUN: Duration = Duration::from_secs(2);

/// A kumod that may send to loopback, each connection kept for as long as a bench takes. Destinations in 127.2.0.0/16 are slow: they
/// have a port of their own and one connection each.
const POLICY: &str = "local kumo = require 'kumo'
kumo.on('init', function()
  kumo.start_http_listener { listen = '127.0.0.1:0' }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0' }
end)
kumo.on('get_egress_path_config', function(domain)
  local slow = domain:find('[127.2.', 1, true) == 1
  return kumo.make_egress_path {
    prohibited_hosts = {}, enable_tls = 'Disabled', idle_timeout = '1 hour',
    smtp_port = slow and SLOW_PORT or FAST_PORT, connection_limit = slow and 1 or 32,
  }
end)
";

/// What a destination with an idle connection costs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Memory {
    /// Destinations, each with one open connection.
    pub destinations: u32,
    /// Resident bytes of kumod before them.
    pub empty_bytes: u64,
    /// Resident memory for each of them: connection, ready queue and scheduled queue together.
    pub kib_each: f64,
}

/// What slow destinations cost a fast one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Slow {
    /// Slow destinations, each with mail under way.
    pub destinations: u32,
    /// For each pair the rate without and with them, in million messages an hour.
    pub pairs_mmh: Vec<[f64; 2]>,
}

impl Slow {
    /// The rate with them as a part of that without.
    pub fn share(&self) -> Option<Spread> {
        Spread::of(self.pairs_mmh.iter().map(|[without, with]| with / without))
    }
}

/// Where a bench works.
#[derive(Debug)]
pub struct Place<'p> {
    /// The programs.
    pub programs: &'p Programs,
    /// A folder on a disk.
    pub folder: &'p Path,
    /// The operator's wish to stop.
    pub stop: &'p Stop,
}

impl Place<'_> {
    fn sink(&self, name: &'static str, rules: Option<&str>) -> Result<Process> {
        let mut arguments = arguments!["--listen", "0.0.0.0:0", "--http", "127.0.0.1:0"];
        if let Some(rules) = rules {
            let file = self.folder.join("rules.toml");
            std::fs::write(&file, rules).during(|| format!("write {}", file.display()))?;
            arguments.extend(arguments!["--rules", file]);
        }
        self.launch(name, "sink", arguments)
    }

    fn kumod(&self, side: &str, fast: &Process, slow: &Process) -> Result<Process> {
        let folder = self.folder.join(side);
        std::fs::create_dir_all(&folder).during(|| format!("make {}", folder.display()))?;
        let port = |sink: &Process| sink.smtp().map(|address| address.port().to_string());
        let policy = POLICY.replace("SLOW_PORT", &port(slow)?).replace("FAST_PORT", &port(fast)?);
        let file = folder.join("policy.lua");
        std::fs::write(&file, policy).during(|| format!("write {}", file.display()))?;
        let (spool, log) = (folder.join("spool"), folder.join("log"));
        self.launch("kumod", "kumod", arguments!["--policy", file, "--spool", spool, "--log-dir", log])
    }

    fn launch(
        &self,
        name: &'static str,
        program: &str,
        arguments: Vec<std::ffi::OsString>,
    ) -> Result<Process> {
        let launch = Launch {
            name,
            before: Vec::new(),
            program: self.programs.find(program)?,
            arguments,
            environment: &[],
            log_folder: self.folder.to_owned(),
        };
        Process::start_server(&launch, self.stop)
    }

    /// Waits until `figure` is at least `wanted`.
    fn until(&self, what: &str, wanted: u32, figure: impl Fn() -> Result<f64>) -> Result<()> {
        let began = Instant::now();
        while figure()? < f64::from(wanted) {
            if began.elapsed() > ARRIVAL_WAIT_MAX {
                let seconds = ARRIVAL_WAIT_MAX.as_secs();
                return Err(Error::Peer(format!("{what}: {} of {wanted} after {seconds} s", figure()?)));
            }
            self.stop.pause(TICK)?;
        }
        Ok(())
    }

    /// Measures the memory of open connections to so many destinations, one to each.
    ///
    /// # Errors
    /// [`Error::Peer`] when a program fails or mail does not arrive, [`Error::Interrupted`].
    pub fn memory(&self, destinations: u32) -> Result<Memory> {
        let sink = self.sink("sink", None)?;
        let mut kumod = self.kumod("memory", &sink, &sink)?;
        let open = |kumod: &Process| open_connections(kumod);
        inject(&kumod, 3, WARM_UP, 1)?;
        self.until("connections for the warm-up", WARM_UP, || open(&kumod))?;
        self.until("mail of the warm-up", WARM_UP, || accepted(&sink))?;
        let empty_bytes = kumod.sample().rss_bytes;
        inject(&kumod, 1, destinations, 1)?;
        let all = WARM_UP + destinations;
        self.until("mail", all, || accepted(&sink))?;
        self.until("connections", all, || open(&kumod))?;
        let bytes = kumod.sample().rss_bytes.saturating_sub(empty_bytes);
        kumod.stop()?;
        sink.stop()?;
        Ok(Memory { destinations, empty_bytes, kib_each: bytes as f64 / 1024.0 / f64::from(destinations) })
    }

    /// Measures the rate to fast destinations without slow ones and beside so many, in turns.
    ///
    /// # Errors
    /// As [`Self::memory`].
    pub fn slow(
        &self,
        destinations: u32,
        pairs: u32,
        duration: Duration,
        progress: &mut Progress,
    ) -> Result<Slow> {
        let mut measured = Slow { destinations, pairs_mmh: Vec::new() };
        for pair in 0..pairs {
            let mut rates = [0.0; 2];
            // What drifts favours neither.
            let order = if pair % 2 == 0 { [0, 1] } else { [1, 0] };
            for side in order {
                let beside = if side == 1 { destinations } else { 0 };
                progress.step(format!("pair {}, beside {beside} slow destinations", pair + 1));
                rates[side] = self.rate_beside(beside, duration, progress)?;
            }
            measured.pairs_mmh.push(rates);
        }
        progress.finish_line();
        Ok(measured)
    }

    /// The rate at the fast sink while mail for slow destinations is under way.
    fn rate_beside(&self, destinations: u32, duration: Duration, progress: &Progress) -> Result<f64> {
        let slow = self.sink("slow", Some(&slow_rules()))?;
        let sink = self.sink("sink", None)?;
        let side = if destinations > 0 { "beside" } else { "alone" };
        let kumod = self.kumod(side, &sink, &slow)?;
        let machine = Machine::probe(self.folder);
        let around = Surroundings {
            programs: self.programs,
            folder: self.folder,
            run_prefix: &suite::run_prefix(jiff::Timestamp::now()),
            tier: machine.tier(),
            placement: &Placement::default(),
            durability: Promise::default(),
            stop: self.stop,
        };
        let mut servers = Servers { kumod, sink };
        let job = |name: &str, duration| Job {
            kind: Kind::Kumod,
            name: name.into(),
            body_bytes: BODY_BYTES as u64,
            amount: Amount::For(duration),
            connections: traffic::CONNECTIONS,
            seed: 1,
            rate_per_s: None,
            starttls: false,
        };
        traffic::measure(&around, &job("warm-up", WARM_UP_RUN), &mut servers, progress)?;
        if destinations > 0 {
            inject(&servers.kumod, 2, destinations, MESSAGES_SLOW)?;
            self.until("slow sessions", destinations, || open_slow(&slow))?;
        }
        let run = traffic::measure(&around, &job(side, duration), &mut servers, progress)?;
        if run.lost > 0 {
            return Err(Error::Peer(format!("{} messages were lost", run.lost)));
        }
        let Servers { kumod, sink } = servers;
        // What is under way to slow destinations would hold a stop up; it has served its purpose.
        kumod.kill()?;
        slow.kill()?;
        sink.stop()?;
        for folder in ["spool", "log"] {
            let folder = self.folder.join(side).join(folder);
            std::fs::remove_dir_all(&folder).during(|| format!("remove {}", folder.display()))?;
        }
        Ok(run.mmh_delivered)
    }
}

/// Every reply comes late.
fn slow_rules() -> String {
    let rule = |stage: &str| {
        format!("[[rule]]\nname = \"{stage}\"\nstage = \"{stage}\"\naction.delay = \"{SLOW_REPLY_S}s\"\n")
    };
    ["banner", "ehlo", "mail", "rcpt", "data", "final_dot"].map(rule).concat()
}

/// Gives kumod messages for so many destinations in 127.`net`.0.0/16, `each` for each of them.
fn inject(kumod: &Process, net: u8, destinations: u32, each: u32) -> Result<()> {
    let mut client = Client::greeted(kumod.smtp()?)?;
    let recipients: Vec<String> = (0..destinations)
        .map(|number| format!("b@[127.{net}.{}.{}]", 1 + number / 250, 1 + number % 250))
        .collect();
    for _ in 0..each {
        recipients.chunks(RECIPIENTS).try_for_each(|some| client.send(some, BODY_BYTES))?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Stats {
    accepted: u64,
    connections: u64,
}

fn accepted(sink: &Process) -> Result<f64> {
    http::json(sink.http()?, "/stats").map(|stats: Stats| stats.accepted as f64)
}

fn open_slow(sink: &Process) -> Result<f64> {
    http::json(sink.http()?, "/stats").map(|stats: Stats| stats.connections as f64)
}

/// Connections that kumod has open to next hops.
fn open_connections(kumod: &Process) -> Result<f64> {
    let document = http::json(kumod.http()?, "/metrics.json?prefix=connection_count")?;
    http::metric_of(&document, "connection_count", "service", "smtp_client")
        .ok_or_else(|| Error::Peer("kumod counts no connections to next hops".into()))
}
