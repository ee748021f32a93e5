//! A spool on the memory disk that runs turn by turn, and beside it the plain map of what it must contain.
//! Of what was not acknowledged either outcome is right; of what was, only one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::Waker;
use crate::disk::memory::{Faults, MemoryDisk, MemoryLane};
use crate::error::AppendError;
use crate::housekeeping::Outcome;
use crate::open::begin;
use crate::options::{Options, Rules, Settings};
use crate::recover::recover;
use crate::spool::{changes_request, count, intake, keep, read_body, read_envelope};
use crate::stats::Stats;
use crate::types::{Acknowledgement, Change, Durability, Envelope, Id, Pending, Recovery, Transaction};
use crate::writer::{Hands, Writer, batch_buffers};

/// What a test does; the numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// A body of so many bytes and so many envelopes.
    Append(u16, u8),
    /// More than a segment holds.
    Huge(u16),
    /// Batches stay on their way, or go on.
    Hold(bool),
    /// Another envelope for the body of a living message.
    Share(u8),
    Mark(u8),
    Rewrite(u8),
    Delete(u8),
    /// Two living messages at once.
    DeleteTwo(u8, u8),
    Turn,
    /// Housekeeping does one job.
    Work,
    /// Everything is written, then the spool is closed and opened again.
    Reopen,
    /// The power goes, now.
    Cut,
    /// Somebody wishes for a thorough compaction.
    Compact,
    /// All bodies are read.
    Read,
}

impl Action {
    /// From two random words.
    pub(super) fn of(choice: u64, value: u64) -> Self {
        let (small, large) = ((value >> 8) as u8, (value >> 16) as u16);
        match choice % 100 {
            0..22 => Self::Append(large % 3000, small % 3 + 1),
            22..23 => Self::Huge(large % 9000),
            23..27 => Self::Share(small),
            27..33 => Self::Mark(small),
            33..38 => Self::Rewrite(small),
            38..50 => Self::Delete(small),
            50..54 => Self::DeleteTwo(small, large as u8),
            54..82 => Self::Turn,
            82..93 => Self::Work,
            93..95 => Self::Hold(small.is_multiple_of(2)),
            95..97 => Self::Reopen,
            97..98 => Self::Cut,
            98..99 => Self::Compact,
            _ => Self::Read,
        }
    }
}

/// What is known of one message.
#[derive(Clone, Debug)]
struct Expected {
    /// The envelope in force and those that may be: body and bytes.
    envelopes: Vec<(Id, Bytes)>,
    marks: Vec<Option<Bytes>>,
    /// Its append was acknowledged.
    acknowledged: bool,
    deleting: bool,
}

#[derive(Clone, Debug)]
enum Effect {
    Appended(Vec<Id>),
    Marked(Id, Bytes),
    Rewritten(Id, (Id, Bytes)),
    Deleted(Vec<Id>),
}

pub(super) struct World {
    pub(super) disk: MemoryDisk,
    pub(super) settings: Settings,
    /// Bodies are written from where they lie: every other seed.
    gathers: bool,
    pub(super) writer: Writer,
    expected: BTreeMap<Id, Expected>,
    bodies: BTreeMap<Id, Bytes>,
    gone: BTreeSet<Id>,
    pending: Vec<(Pending, Effect)>,
    next: u64,
    /// The disk fails writes, and what it left behind may rightly be called damaged.
    pub(super) writes_fail: bool,
    pub(super) recovery: Recovery,
}

pub(super) fn settings(rules: Rules) -> Settings {
    let mut options = Options::new("/nowhere");
    options.segment_bytes = 16 << 10;
    options.segments_spare = 3;
    options.batch_bytes_max = 8 << 10;
    options.batch_records_max = 8;
    options.batches_in_flight_max = 3;
    options.queue_transactions_max = 1 << 20;
    options.free_bytes_min = 0;
    options.free_inodes_min = 0;
    let mut settings = Settings::of(options).unwrap();
    settings.rules = rules;
    settings.compact_slack_segments = 1;
    settings
}

fn start(disk: &MemoryDisk, settings: &Settings, gathers: bool) -> std::io::Result<(Writer, Recovery)> {
    let fold = recover(disk, settings.rules)?;
    let waker = Arc::new(Waker::new()?);
    let (shared, start, recovery) = begin(settings.clone(), Arc::new(disk.clone()), waker, fold)?;
    let buffers = batch_buffers(settings)?;
    let lane = Box::new(MemoryLane::new(disk, gathers));
    Ok((Writer::new(shared, lane, Hands::Idle, buffers, start), recovery))
}

impl World {
    /// On an empty disk.
    pub(super) fn new(seed: u64, settings: Settings) -> Self {
        let disk = MemoryDisk::new(seed, Faults::default());
        let gathers = seed % 2 == 1;
        let (writer, recovery) = start(&disk, &settings, gathers).unwrap();
        Self {
            disk,
            settings,
            gathers,
            writer,
            expected: BTreeMap::new(),
            bodies: BTreeMap::new(),
            gone: BTreeSet::new(),
            pending: Vec::new(),
            next: 1,
            writes_fail: false,
            recovery,
        }
    }

    pub(super) fn stats(&self) -> Stats {
        count(self.writer.shared())
    }

    pub(super) fn alive(&self) -> usize {
        self.expected.len()
    }

    fn fresh_id(&mut self) -> Id {
        self.next += 1;
        Id(u128::from(self.next).to_be_bytes())
    }

    fn nth(&self, number: u8) -> Option<Id> {
        let living: Vec<Id> =
            self.expected.iter().filter(|(_, e)| e.acknowledged && !e.deleting).map(|(id, _)| *id).collect();
        (!living.is_empty()).then(|| living[usize::from(number) % living.len()])
    }

    /// Does one thing; an error is a broken promise.
    pub(super) fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Append(bytes, envelopes) => drop(self.append(usize::from(bytes), envelopes)),
            Action::Huge(bytes) => drop(self.append(16_000 + usize::from(bytes), 2)),
            Action::Hold(hold) => self.disk.set_faults(Faults { hold, ..self.disk.faults() }),
            Action::Share(number) => self.share(number),
            Action::Mark(number) => self.mark(number),
            Action::Rewrite(number) => self.rewrite(number),
            Action::Delete(number) => self.delete(&[number]),
            Action::DeleteTwo(first, second) => self.delete(&[first, second]),
            Action::Turn => drop(self.writer.turn(false)),
            Action::Work => drop(self.writer.work_off()),
            Action::Reopen => {
                self.flush();
                return self.reopen();
            }
            // What was never synced may be lost, and what deleted it as well.
            Action::Cut if self.settings.durability != Durability::Commit => drop(self.writer.work_off()),
            Action::Cut => return self.cut(Faults::default()),
            Action::Compact => *self.writer.shared().wishes() = Some(std::sync::mpsc::sync_channel(1).0),
            Action::Read => self.read_all()?,
        }
        self.collect()
    }

    /// A text that no other record has, so that a mix-up is seen.
    fn text(&self, what: &str, bytes: usize) -> Bytes {
        let line = format!("{what} {}; ", self.next);
        line.bytes().cycle().take(bytes.max(line.len())).collect()
    }

    pub(super) fn append(&mut self, bytes: usize, envelopes: u8) -> Vec<Id> {
        let body = self.fresh_id();
        let contents = self.text("body", bytes);
        let middle = contents.len() / 2;
        let parts = vec![contents.slice(..middle), contents.slice(middle..)];
        let envelopes = (0..envelopes).map(|_| self.envelope(body)).collect();
        let transaction = Transaction { body: Some((body, parts)), envelopes };
        self.bodies.insert(body, contents);
        self.push(transaction)
    }

    fn envelope(&mut self, body: Id) -> Envelope {
        let id = self.fresh_id();
        Envelope { id, body, bytes: self.text("envelope", 60) }
    }

    pub(super) fn share(&mut self, number: u8) {
        let Some(id) = self.nth(number) else { return };
        let body = self.expected[&id].envelopes[0].0;
        let envelopes = vec![self.envelope(body)];
        self.push(Transaction { body: None, envelopes });
    }

    fn push(&mut self, transaction: Transaction) -> Vec<Id> {
        let ids: Vec<Id> = transaction.envelopes.iter().map(|envelope| envelope.id).collect();
        for Envelope { id, body, bytes } in &transaction.envelopes {
            let expected = Expected {
                envelopes: vec![(*body, bytes.clone())],
                marks: vec![None],
                acknowledged: false,
                deleting: false,
            };
            self.expected.insert(*id, expected);
        }
        let shared = self.writer.shared();
        let Some(transaction) = keep(shared, transaction).unwrap() else {
            self.took_effect(Effect::Appended(ids.clone()));
            return ids;
        };
        let (request, pending) = intake(transaction).unwrap();
        self.pending.push((pending, Effect::Appended(ids.clone())));
        // A closed queue answers through the pending value.
        let _ = shared.queue.try_push(request, &shared.waker);
        ids
    }

    /// Deletes these messages, and nothing else.
    pub(super) fn delete_ids(&mut self, ids: &[Id]) {
        for id in ids {
            self.expected.get_mut(id).unwrap().deleting = true;
        }
        let delete = |id: &Id| Change::Delete { id: *id, bytes: Bytes::from_static(b"delivered") };
        self.change(ids.iter().map(delete).collect(), Effect::Deleted(ids.to_vec()));
    }

    fn change(&mut self, changes: Vec<Change>, effect: Effect) {
        let shared = self.writer.shared();
        let Ok((request, pending)) = changes_request(shared, changes) else { return };
        if let Some(request) = request {
            let _ = shared.queue.try_push(request, &shared.waker);
        }
        self.pending.push((pending, effect));
    }

    pub(super) fn mark(&mut self, number: u8) {
        let Some(id) = self.nth(number) else { return };
        self.next += 1;
        let bytes = self.text("mark", 30);
        self.expected.get_mut(&id).unwrap().marks.push(Some(bytes.clone()));
        self.change(vec![Change::Mark { id, bytes: bytes.clone() }], Effect::Marked(id, bytes));
    }

    pub(super) fn rewrite(&mut self, number: u8) {
        let Some(id) = self.nth(number) else { return };
        self.next += 1;
        let (body, bytes) = (self.expected[&id].envelopes[0].0, self.text("again", 70));
        self.expected.get_mut(&id).unwrap().envelopes.push((body, bytes.clone()));
        let change = Change::Rewrite { id, body, bytes: bytes.clone() };
        self.change(vec![change], Effect::Rewritten(id, (body, bytes)));
    }

    pub(super) fn delete(&mut self, numbers: &[u8]) {
        let ids: BTreeSet<Id> = numbers.iter().filter_map(|number| self.nth(*number)).collect();
        if !ids.is_empty() {
            self.delete_ids(&Vec::from_iter(ids));
        }
    }

    /// Looks at every acknowledgement that has come.
    pub(super) fn collect(&mut self) -> Result<(), String> {
        let pending = std::mem::take(&mut self.pending);
        for (mut pending, effect) in pending {
            match pending.0.try_recv() {
                Ok(answer) => self.answered(answer, effect)?,
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) => self.pending.push((pending, effect)),
                Err(tokio::sync::oneshot::error::TryRecvError::Closed) => {}
            }
        }
        Ok(())
    }

    fn answered(&mut self, answer: Acknowledgement, effect: Effect) -> Result<(), String> {
        match answer {
            Ok(_) => self.took_effect(effect),
            // Whether it is on the disk is unknown: both outcomes stay possible.
            Err(AppendError::Failed { .. } | AppendError::Closed) => {}
            Err(AppendError::Full { .. } | AppendError::UnknownBody(_)) => self.refused(&effect),
            Err(error) => return Err(format!("{effect:?} was refused: {error}")),
        }
        Ok(())
    }

    fn refused(&mut self, effect: &Effect) {
        if let Effect::Appended(ids) = effect {
            for id in ids {
                self.expected.remove(id);
                self.gone.insert(*id);
            }
        }
    }

    fn took_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Appended(ids) => {
                for id in ids {
                    self.expected.get_mut(&id).unwrap().acknowledged = true;
                }
            }
            Effect::Marked(id, bytes) => {
                if let Some(expected) = self.expected.get_mut(&id) {
                    forget_before(&mut expected.marks, &Some(bytes));
                }
            }
            Effect::Rewritten(id, envelope) => {
                if let Some(expected) = self.expected.get_mut(&id) {
                    forget_before(&mut expected.envelopes, &envelope);
                }
            }
            Effect::Deleted(ids) => {
                for id in ids {
                    self.expected.remove(&id);
                    self.gone.insert(id);
                }
            }
        }
    }

    /// Turns until everything is answered, with housekeeping in between.
    pub(super) fn flush(&mut self) {
        self.disk.set_faults(Faults { hold: false, ..self.disk.faults() });
        for turn in 1..10_000 {
            if turn % 500 == 0 {
                // Time passes, and what failed for lack of space is tried again.
                self.writer.shared().report(Outcome::Tick);
            }
            let worked = self.writer.work_off();
            self.writer.turn(true);
            self.collect().unwrap();
            let written = self.writer.shared().deferred.is_idle();
            if self.disk.is_off() || (self.pending.is_empty() && written && !worked) {
                return;
            }
        }
        panic!("the writer makes no progress: {:?}", self.stats());
    }

    /// Closes in order and opens again.
    pub(super) fn reopen(&mut self) -> Result<(), String> {
        if self.disk.is_off() {
            return self.cut(Faults::default());
        }
        let shared = self.writer.shared();
        shared.deferred.write_all(&shared.queue, &shared.waker);
        self.flush();
        self.writer.shared().queue.close();
        let faults = self.disk.faults();
        let disk = self.disk.clone();
        disk.let_land();
        self.replace(disk, faults)
    }

    /// The process is gone from one moment to the next; the kernel keeps what it has.
    pub(super) fn die(&mut self) -> Result<(), String> {
        self.collect()?;
        let (disk, faults) = (self.disk.clone(), self.disk.faults());
        disk.let_land();
        self.replace(disk, faults)
    }

    /// The power goes and comes back.
    pub(super) fn cut(&mut self, faults: Faults) -> Result<(), String> {
        self.collect()?;
        let disk = self.disk.after_power_cut(faults);
        self.replace(disk, faults)
    }

    fn replace(&mut self, disk: MemoryDisk, faults: Faults) -> Result<(), String> {
        // Opening may be cut as well; then the power comes back once more, for good.
        let (disk, started) = match start(&disk, &self.settings, self.gathers) {
            Err(_) if disk.is_off() => {
                let disk = disk.after_power_cut(Faults { cut_at: None, ..faults });
                let started = start(&disk, &self.settings, self.gathers);
                (disk, started)
            }
            // An error met while opening ends it; the operator tries again.
            Err(_) if self.writes_fail => {
                disk.set_faults(Faults::default());
                let started = start(&disk, &self.settings, self.gathers);
                (disk, started)
            }
            started => (disk, started),
        };
        let (writer, recovery) = started.map_err(|error| format!("the spool cannot be opened: {error}"))?;
        self.disk = disk;
        self.writer = writer;
        self.pending.clear();
        self.recovery = recovery;
        self.compare()
    }

    /// What recovery found must be a possible outcome; from now on it is the truth.
    fn compare(&mut self) -> Result<(), String> {
        let mut before = std::mem::take(&mut self.expected);
        // Where a write failed, sequences may be missing for good: written again elsewhere, and gone from there since.
        if self.recovery.damaged > 0 && !self.writes_fail {
            return Err(format!("{} regions are called damaged and nothing was", self.recovery.damaged));
        }
        for message in self.recovery.messages.clone() {
            let id = message.id;
            let Some(expected) = before.remove(&id) else {
                return Err(format!("message {id} came back from the dead"));
            };
            let envelope = (message.body, message.envelope.clone());
            let mark = message.marks.first().cloned();
            if !expected.envelopes.contains(&envelope) {
                return Err(format!("message {id} has envelope {envelope:?}, not {:?}", expected.envelopes));
            }
            if !expected.marks.contains(&mark) {
                return Err(format!("message {id} has mark {mark:?}, not one of {:?}", expected.marks));
            }
            let truth = Expected {
                envelopes: vec![envelope],
                marks: vec![mark],
                acknowledged: true,
                deleting: false,
            };
            self.expected.insert(id, truth);
        }
        if let Some((id, _)) = before.iter().find(|(_, lost)| lost.acknowledged && !lost.deleting) {
            return Err(format!("message {id} was acknowledged and is lost"));
        }
        self.gone.extend(before.into_keys());
        self.read_all()
    }

    /// Every living body and every envelope that is not being replaced comes back as it was given.
    pub(super) fn read_all(&self) -> Result<(), String> {
        for (id, expected) in
            self.expected.iter().filter(|(_, expected)| expected.acknowledged && !expected.deleting)
        {
            let body = expected.envelopes[0].0;
            let read =
                read_body(self.writer.shared(), body).map_err(|error| format!("message {id}: {error}"))?;
            if read != self.bodies[&body] {
                return Err(format!("body {body} is not what was written"));
            }
            let [(_, envelope)] = expected.envelopes.as_slice() else { continue };
            let read = read_envelope(self.writer.shared(), *id)
                .map_err(|error| format!("envelope {id}: {error}"))?;
            if read != *envelope {
                return Err(format!("envelope {id} is not what was written"));
            }
        }
        Ok(())
    }
}

fn forget_before<T: PartialEq>(candidates: &mut Vec<T>, acknowledged: &T) {
    if let Some(at) = candidates.iter().position(|candidate| candidate == acknowledged) {
        candidates.drain(..at);
    }
}

/// Settings for a durability.
pub(super) fn with_durability(durability: Durability) -> Settings {
    let mut settings = settings(Rules::ALL);
    settings.durability = durability;
    settings
}
