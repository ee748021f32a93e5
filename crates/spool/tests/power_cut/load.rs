//! Appenders that work on a spool until its disk has no power, and the cut in the middle of their work.
//!
//! Each appender has messages of its own, so it knows what it asked for and what it was told. One that is told of an error before the
//! power was cut has found a fault, and so has one that is told of success when the power was off before it asked.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use spool::{AppendError, Change, OpenError, Spool};

use super::Cycle;
use super::image::{Mounted, Power};
use super::ledger::{Ledger, Message, Number, Progress, transaction};

const APPENDERS: u64 = 8;
/// Messages that one appender keeps alive; with more it deletes.
const ALIVE_MAX: usize = 60;
/// After this a spool without a disk has not answered, or not ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all appenders look at.
struct Shared {
    acknowledged: AtomicU64,
    cut_at: u64,
    pull: SyncSender<()>,
    is_pulled: AtomicBool,
    is_off: AtomicBool,
    next: AtomicU64,
}

impl Shared {
    fn acknowledge(&self) {
        if self.acknowledged.fetch_add(1, Ordering::Relaxed) + 1 == self.cut_at {
            self.pull();
        }
    }

    fn pull(&self) {
        self.is_pulled.store(true, Ordering::SeqCst);
        // Pulled already: once is enough.
        let _ = self.pull.try_send(());
    }
}

/// Whatever becomes of the load, the thread that waits for the switch to be pulled ends.
struct PulledAtLast<'a>(&'a Shared);

impl Drop for PulledAtLast<'_> {
    fn drop(&mut self) {
        self.0.pull();
    }
}

/// Opens the spool, loads it, cuts the power on the way, and closes it. The ledger then knows what was acknowledged.
pub(crate) fn run_until_cut(
    cycle: Cycle,
    power: &mut Power,
    disk: &Mounted,
    ledger: &mut Ledger,
    random: &mut fastrand::Rng,
) -> Result<(), String> {
    let (pull, pulled) = sync_channel(1);
    let shared = Shared {
        acknowledged: AtomicU64::new(0),
        cut_at: cycle.acknowledged_before,
        pull,
        is_pulled: AtomicBool::new(false),
        is_off: AtomicBool::new(false),
        next: AtomicU64::new(ledger.next),
    };
    thread::scope(|scope| {
        let is_off = &shared.is_off;
        let cutting = scope.spawn(move || {
            if pulled.recv().is_ok() {
                power.cut(disk.path(), cycle.journal_flushed).unwrap();
                is_off.store(true, Ordering::SeqCst);
            }
        });
        if cycle.acknowledged_before == 0 {
            shared.pull();
        }
        let pulled_at_last = PulledAtLast(&shared);
        let result = load(cycle, disk.path(), &shared, ledger, random);
        drop(pulled_at_last);
        // With an opening that failed at once the cut may still be on its way.
        cutting.join().unwrap();
        result
    })?;
    ledger.next = shared.next.into_inner();
    ledger.seen.cuts += 1;
    ledger.seen.acknowledged += shared.acknowledged.into_inner();
    Ok(())
}

fn load(
    cycle: Cycle,
    disk: &Path,
    shared: &Shared,
    ledger: &mut Ledger,
    random: &mut fastrand::Rng,
) -> Result<(), String> {
    let spool = match Spool::open(cycle.options(disk)) {
        Ok((spool, _)) => spool,
        Err(OpenError::Host { .. }) if shared.is_pulled.load(Ordering::SeqCst) => {
            ledger.seen.refused_to_open += 1;
            return Ok(());
        }
        Err(error) => return Err(format!("it does not open: {error}")),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let appenders: Vec<Appender> =
        (0..APPENDERS).map(|share| Appender::new(share, &spool, ledger, random.fork())).collect();
    let worked: Result<Vec<_>, _> = thread::scope(|scope| {
        let threads: Vec<_> = appenders
            .into_iter()
            .map(|appender| scope.spawn(|| runtime.block_on(appender.run(shared))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let stats = spool.stats();
    ledger.seen.cuts_with_uring += u64::from(stats.backend == "uring");
    ledger.seen.segments_recycled += stats.segments_recycled;
    close(spool);
    for (number, message) in worked?.into_iter().flatten() {
        ledger.messages.insert(number, message);
    }
    Ok(())
}

/// Ends the spool; one that does not end is a fault, not a test that never ends.
pub(crate) fn close(spool: Spool) {
    let (tell, told) = sync_channel(1);
    thread::spawn(move || {
        // Without power it says that it has failed.
        let _ = spool.close();
        let _ = tell.send(());
    });
    told.recv_timeout(PATIENCE).expect("the spool does not end");
}

struct Appender {
    spool: Spool,
    random: fastrand::Rng,
    /// Living ones first come from the ledger.
    alive: Vec<(Number, Message)>,
    done: Vec<(Number, Message)>,
}

impl Appender {
    fn new(share: u64, spool: &Spool, ledger: &Ledger, random: fastrand::Rng) -> Self {
        let is_mine = |number: &Number, message: &Message| {
            number.share(APPENDERS) == share && message.deletes == Progress::default()
        };
        let alive = ledger.messages.iter().filter(|(number, message)| is_mine(number, message));
        let alive = alive.map(|(number, message)| (*number, *message)).collect();
        Self { spool: spool.clone(), random, alive, done: Vec::new() }
    }

    /// Until the power is off. Returns all it knows.
    async fn run(mut self, shared: &Shared) -> Result<Vec<(Number, Message)>, String> {
        loop {
            let was_off = shared.is_off.load(Ordering::SeqCst);
            let step = tokio::time::timeout(PATIENCE, self.step(shared)).await;
            match step {
                Err(_) => return Err("the spool does not answer".to_owned()),
                Ok(Ok(())) if was_off => {
                    return Err("something was acknowledged after the power was off".to_owned());
                }
                Ok(Ok(())) => shared.acknowledge(),
                Ok(Err(error)) if !shared.is_pulled.load(Ordering::SeqCst) => {
                    shared.pull();
                    return Err(format!("with the power on: {error}"));
                }
                Ok(Err(_)) => {
                    self.done.append(&mut self.alive);
                    return Ok(self.done);
                }
            }
        }
    }

    async fn step(&mut self, shared: &Shared) -> Result<(), AppendError> {
        if self.alive.is_empty() {
            return self.append(shared).await;
        }
        if self.alive.len() > ALIVE_MAX {
            return self.delete().await;
        }
        match self.random.u8(0..10) {
            0..4 => self.append(shared).await,
            4..6 => self.mark().await,
            6 => self.rewrite().await,
            _ => self.delete().await,
        }
    }

    async fn append(&mut self, shared: &Shared) -> Result<(), AppendError> {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let (transaction, numbers) = transaction(number, self.random.u64(1..=3));
        let asked = Message { appends: Progress { asked: 1, acknowledged: 0 }, ..Message::default() };
        let first = self.alive.len();
        self.alive.extend(numbers.into_iter().map(|number| (number, asked)));
        let _ = self.spool.append(transaction).await?;
        self.alive[first..].iter_mut().for_each(|(_, message)| message.appends.acknowledged = 1);
        Ok(())
    }

    fn any(&mut self) -> usize {
        self.random.usize(..self.alive.len())
    }

    async fn mark(&mut self) -> Result<(), AppendError> {
        let at = self.any();
        let (number, message) = &mut self.alive[at];
        message.marks.asked += 1;
        let bytes = Bytes::from(message.marks.asked.to_string());
        self.spool.settle(vec![Change::Mark { id: number.id(), bytes }]).await?;
        message.marks.acknowledged = message.marks.asked;
        Ok(())
    }

    async fn rewrite(&mut self) -> Result<(), AppendError> {
        let at = self.any();
        let (number, message) = &mut self.alive[at];
        message.rewrites.asked += 1;
        let bytes = number.envelope(message.rewrites.asked);
        self.spool.settle(vec![Change::Rewrite { id: number.id(), body: number.body_id(), bytes }]).await?;
        message.rewrites.acknowledged = message.rewrites.asked;
        Ok(())
    }

    async fn delete(&mut self) -> Result<(), AppendError> {
        let at = self.any();
        let (number, message) = &mut self.alive[at];
        message.deletes.asked = 1;
        let bytes = Bytes::from_static(b"delivered");
        self.spool.settle(vec![Change::Delete { id: number.id(), bytes }]).await?;
        message.deletes.acknowledged = 1;
        let done = self.alive.swap_remove(at);
        self.done.push(done);
        Ok(())
    }
}
