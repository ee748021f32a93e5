//! The crash test: kumod is killed with SIGKILL in the middle of a run, started again on the same spool, and drained.
//!
//! It owns the moment of the crash and the verdict: every message whose 250 was read is at the sink. Second deliveries are
//! allowed, counted and reported; they are the price of a lost delete. It refuses to call a round passed when the crash came too
//! late to hit anything. The spool is a fresh one for each round.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reports::run::{Kind, Tier};
use serde::{Deserialize, Serialize};
use traffic_gen::audit::{Audit, Ledger};

use crate::error::{During, Error, Result};
use crate::http;
use crate::placement::Placement;
use crate::processes::Programs;
use crate::progress::Progress;
use crate::promise::Promise;
use crate::scratch::refuse_memory;
use crate::stop::Stop;
use crate::traffic::{self, Amount, CONNECTIONS, Generator, Job, Servers, Surroundings, ToSink};

/// After all promised mail has arrived, second deliveries may still come; sink must be quiet for this long.
const QUIET: Duration = Duration::from_secs(2);

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many crashes.
    pub rounds: u32,
    /// Bytes of each body.
    pub body_bytes: u64,
    /// Messages that traffic-gen would send if nothing happened.
    pub messages: u64,
    /// kumod is killed once sink has this many of them.
    pub kill_after: u64,
    /// Content seed of traffic-gen.
    pub seed: u64,
    /// What a 250 of kumod promises: something that outlives its process.
    pub durability: Promise,
    /// Gets a folder for each round. Not on tmpfs.
    pub folder: PathBuf,
    /// Leave the spools there.
    pub keep_spool: bool,
}

/// What one crash did.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// From 1.
    pub round: u32,
    /// Messages whose 250 was read before the crash.
    pub accepted: u64,
    /// Messages on their way when the crash came.
    pub unknown: u64,
    /// Messages refused.
    pub failed: u64,
    /// At the sink when kumod was killed.
    pub delivered_before: u64,
    /// At the sink in the end.
    pub delivered: u64,
    /// Accepted and not at the sink. Anything but 0 is a broken promise.
    pub lost: u64,
    /// Delivered a second time.
    pub duplicated: u64,
    /// Arrived damaged.
    pub corrupted: u64,
    /// What else is to be said.
    pub remarks: Vec<String>,
}

impl Round {
    /// True when no promise was broken and the crash was a real one.
    pub fn passed(&self) -> bool {
        self.lost == 0 && self.corrupted == 0 && self.delivered_before < self.accepted + self.unknown
    }
}

/// Runs all rounds, calling `report` after each.
///
/// # Errors
/// [`Error::Peer`] when a program fails in another way than the intended, [`Error::Interrupted`]. A lost message is no error
/// here: it is in the round.
pub fn run(
    plan: &Plan,
    programs: &Programs,
    stop: &Stop,
    mut report: impl FnMut(&Round),
) -> Result<Vec<Round>> {
    let mut rounds = Vec::new();
    let mut progress = Progress::new(plan.rounds);
    for number in 1..=plan.rounds {
        progress.step(format!("crash {number}"));
        let folder = plan.folder.join(format!("crash-{number}"));
        std::fs::create_dir_all(&folder).during(|| format!("make {}", folder.display()))?;
        refuse_memory(&folder, "--results")?;
        let round = one(plan, number, &folder, programs, stop, &progress)?;
        progress.finish_line();
        report(&round);
        if !plan.keep_spool {
            let spool = folder.join("spool");
            std::fs::remove_dir_all(&spool).during(|| format!("remove {}", spool.display()))?;
        }
        rounds.push(round);
    }
    Ok(rounds)
}

fn one(
    plan: &Plan,
    number: u32,
    folder: &Path,
    programs: &Programs,
    stop: &Stop,
    progress: &Progress,
) -> Result<Round> {
    let prefix = format!("{:x}", jiff::Timestamp::now().as_millisecond());
    let (run_prefix, durability) = (prefix.as_str(), plan.durability);
    let (tier, placement) = (Tier::default(), &Placement::default());
    let around = Surroundings { programs, folder, run_prefix, tier, placement, durability, stop };
    let spool = folder.join("spool");
    let servers = traffic::start_servers(&around, &spool, ToSink::Clear)?;
    let job = Job {
        kind: Kind::Kumod,
        name: format!("crash-{number}"),
        body_bytes: plan.body_bytes,
        amount: Amount::Messages(plan.messages),
        connections: CONNECTIONS,
        seed: plan.seed.wrapping_add(u64::from(number)),
        rate_per_s: None,
        starttls: false,
    };
    let mut generator = Generator::start(&around, &job, &servers)?;
    let Servers { kumod, sink } = servers;
    let delivered_before = wait_for_mail(plan.kill_after, &mut generator, &sink, stop, progress)?;
    kumod.kill()?;
    // Without --keep-going a lost connection is not reopened, so traffic-gen ends by itself.
    let wait_max = generator.wait_max;
    let status = generator.process.wait(wait_max, stop, || Ok(()))?;
    let sent = generator.report(status.code())?;
    progress.detail("restart on the same spool");
    let mut servers = Servers { kumod: traffic::start_kumod(&around, &spool, &sink, ToSink::Clear)?, sink };
    let (_, gave_up) = traffic::drain(&sent, &mut servers, stop, |ledger| {
        progress.detail(&format!("draining, {} of {}", ledger.distinct, sent.sent));
        Ok(())
    })?;
    wait_for_quiet(&servers, stop)?;
    let ledger = http::json_if_known(servers.sink.http()?, &format!("/ledger/{}", sent.run_id))?;
    let ledger: Ledger = ledger.unwrap_or_default();
    let audit = Audit::of(&sent, &ledger);
    let mut remarks = audit.remarks;
    remarks.extend(gave_up);
    let Servers { kumod, sink } = servers;
    kumod.stop()?;
    sink.stop()?;
    Ok(Round {
        round: number,
        accepted: sent.sent,
        unknown: sent.unknown,
        failed: sent.failed,
        delivered_before,
        delivered: audit.delivered,
        lost: audit.lost,
        duplicated: audit.duplicated,
        corrupted: audit.corrupted,
        remarks,
    })
}

#[derive(Deserialize)]
struct Stats {
    accepted: u64,
}

/// Waits until sink has so many messages, so that the crash hits a spool in full swing.
fn wait_for_mail(
    count: u64,
    generator: &mut Generator,
    sink: &crate::processes::Process,
    stop: &Stop,
    progress: &Progress,
) -> Result<u64> {
    loop {
        let Stats { accepted } = http::json(sink.http()?, "/stats")?;
        if accepted >= count {
            return Ok(accepted);
        }
        progress.detail(&format!("{accepted} of {count} delivered before the crash"));
        if generator.process.has_ended(Duration::from_millis(20))? {
            return Err(Error::Operator(format!(
                "all messages were sent before {count} had been delivered; ask for more messages"
            )));
        }
        stop.check()?;
    }
}

/// Waits until sink's counter stands still.
fn wait_for_quiet(servers: &Servers, stop: &Stop) -> Result<()> {
    let mut last = None;
    loop {
        let Stats { accepted } = http::json(servers.sink.http()?, "/stats")?;
        if last == Some(accepted) {
            return Ok(());
        }
        last = Some(accepted);
        stop.pause(QUIET)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round() -> Round {
        Round {
            round: 1,
            accepted: 100,
            unknown: 4,
            failed: 0,
            delivered_before: 50,
            delivered: 102,
            lost: 0,
            duplicated: 3,
            corrupted: 0,
            remarks: Vec::new(),
        }
    }

    #[test]
    fn duplicates_pass_and_losses_do_not() {
        assert!(round().passed());
        assert!(!Round { lost: 1, ..round() }.passed());
        assert!(!Round { corrupted: 1, ..round() }.passed());
    }

    #[test]
    fn a_crash_after_the_last_delivery_proves_nothing() {
        assert!(!Round { delivered_before: 104, ..round() }.passed());
    }
}
