//! What was asked of the spool and what it acknowledged, message by message, against what is there afterwards.
//!
//! Owns the four promises: what was acknowledged is there, what was deleted stays away, nothing else appears, and the newest mark that
//! was acknowledged counts, or a later one. Names the first that is broken.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use spool::{Envelope, Id, Recovered, Recovery, Spool, Transaction};

/// Numbers of messages in one transaction's range.
const MESSAGES_MAX: u64 = 4;
const BODY_BYTES_MAX: u64 = 24_000;

/// A message's number; those of one transaction lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(u64);

impl Number {
    fn of(id: Id) -> Option<Self> {
        u64::try_from(u128::from_be_bytes(id.0)).ok().map(Self)
    }

    pub(crate) fn id(self) -> Id {
        Id(u128::from(self.0).to_be_bytes())
    }

    /// The first of its transaction, whose number the body has too.
    fn transaction(self) -> Self {
        Self(self.0 - self.0 % MESSAGES_MAX)
    }

    pub(crate) fn body_id(self) -> Id {
        self.transaction().id()
    }

    /// Which of so many shares it belongs to: all messages of a transaction to the same.
    pub(crate) fn share(self, shares: u64) -> u64 {
        self.0 / MESSAGES_MAX % shares
    }

    fn body(self) -> Bytes {
        let transaction = self.transaction().0;
        let bytes = transaction.wrapping_mul(0x9e37_79b9_7f4a_7c15) % BODY_BYTES_MAX;
        let line = format!("this is the body of transaction {transaction}\r\n");
        line.bytes().cycle().take(usize::try_from(bytes).unwrap()).collect()
    }

    /// What its envelope holds after so many rewrites.
    pub(crate) fn envelope(self, version: u32) -> Bytes {
        Bytes::from(format!("envelope of {self}, version {version}"))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// A transaction with one to four messages.
pub(crate) fn transaction(number: u64, messages: u64) -> (Transaction, Vec<Number>) {
    let numbers: Vec<Number> = (0..messages).map(|at| Number(number * MESSAGES_MAX + at)).collect();
    let (body_id, body) = (numbers[0].body_id(), numbers[0].body());
    let envelopes = numbers
        .iter()
        .map(|number| Envelope { id: number.id(), body: body_id, bytes: number.envelope(0) })
        .collect();
    let half = body.len() / 2;
    let parts = vec![body.slice(..half), body.slice(half..)];
    (Transaction { body: Some((body_id, parts)), envelopes }, numbers)
}

/// How far something got: what was asked for may be there, what was acknowledged must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) asked: u32,
    pub(crate) acknowledged: u32,
}

impl Progress {
    fn known(value: u32) -> Self {
        Self { asked: value, acknowledged: value }
    }

    fn allows(self, value: u32) -> bool {
        (self.acknowledged..=self.asked).contains(&value)
    }
}

/// One message: 0 stands for no, 1 for yes in `appends` and `deletes`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Message {
    pub(crate) appends: Progress,
    pub(crate) deletes: Progress,
    pub(crate) marks: Progress,
    pub(crate) rewrites: Progress,
}

/// How much there was to lose.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) cuts: u64,
    pub(crate) cuts_with_uring: u64,
    pub(crate) acknowledged: u64,
    pub(crate) survived: u64,
    pub(crate) deleted: u64,
    pub(crate) torn: u64,
    /// Messages whose append was not acknowledged and which are there, or not.
    pub(crate) unknown_kept: u64,
    pub(crate) unknown_dropped: u64,
    pub(crate) segments_recycled: u64,
    pub(crate) refused_to_open: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, more: &Self) {
        self.cuts += more.cuts;
        self.cuts_with_uring += more.cuts_with_uring;
        self.acknowledged += more.acknowledged;
        self.survived += more.survived;
        self.deleted += more.deleted;
        self.torn += more.torn;
        self.unknown_kept += more.unknown_kept;
        self.unknown_dropped += more.unknown_dropped;
        self.segments_recycled += more.segments_recycled;
        self.refused_to_open += more.refused_to_open;
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) messages: BTreeMap<Number, Message>,
    /// The next transaction's number.
    pub(crate) next: u64,
    pub(crate) seen: Seen,
}

impl Ledger {
    /// Names the first promise that is broken.
    pub(crate) fn compare(&mut self, recovery: &Recovery, spool: &Spool) -> Result<(), String> {
        let mut present = BTreeMap::new();
        for found in &recovery.messages {
            let number = Number::of(found.id).filter(|number| self.messages.contains_key(number));
            let number = number.ok_or_else(|| format!("message {} was never appended", found.id))?;
            present.insert(number, found);
        }
        let mut whole: BTreeMap<Number, bool> = BTreeMap::new();
        for (number, message) in &self.messages {
            let found = present.get(number);
            compare_presence(*number, message, found.is_some())?;
            if message.appends.acknowledged == 0 {
                let others = *whole.entry(number.transaction()).or_insert_with(|| found.is_some());
                if others != found.is_some() {
                    return Err(format!("only a part of the transaction of message {number} is there"));
                }
                let count = if others { &mut self.seen.unknown_kept } else { &mut self.seen.unknown_dropped };
                *count += 1;
            }
            if let Some(found) = found {
                compare_contents(*number, message, found, spool)?;
            }
        }
        self.seen.survived += present.len() as u64;
        self.seen.torn += recovery.torn;
        Ok(())
    }

    /// From now on what is there counts as acknowledged, and what is not as deleted.
    pub(crate) fn adopt(&mut self, recovery: &Recovery) {
        let gone = Message { deletes: Progress::known(1), appends: Progress::known(1), ..Message::default() };
        self.seen.deleted +=
            self.messages.values().filter(|message| message.deletes.acknowledged == 1).count() as u64;
        self.messages.values_mut().for_each(|message| *message = gone);
        for found in &recovery.messages {
            let Some(number) = Number::of(found.id) else { continue };
            let known = Message {
                appends: Progress::known(1),
                deletes: Progress::default(),
                marks: Progress::known(mark_of(found).unwrap_or(0)),
                rewrites: Progress::known(version_of(number, found).unwrap_or(0)),
            };
            self.messages.insert(number, known);
        }
    }
}

fn compare_presence(number: Number, message: &Message, is_there: bool) -> Result<(), String> {
    let Message { appends, deletes, .. } = message;
    if is_there && deletes.acknowledged == 1 {
        return Err(format!("message {number} came back after its delete was acknowledged"));
    }
    if !is_there && appends.acknowledged == 1 && deletes.asked == 0 {
        return Err(format!("message {number} was acknowledged and is not there"));
    }
    Ok(())
}

fn compare_contents(
    number: Number,
    message: &Message,
    found: &Recovered,
    spool: &Spool,
) -> Result<(), String> {
    let version = version_of(number, found)
        .ok_or_else(|| format!("message {number} has the envelope {:?} of another", found.envelope))?;
    if !message.rewrites.allows(version) {
        return Err(format!("message {number}: {:?} acknowledged, {version} found", message.rewrites));
    }
    let mark = mark_of(found).ok_or_else(|| format!("message {number} has marks {:?}", found.marks))?;
    if !message.marks.allows(mark) {
        return Err(format!("message {number}: marks {:?} acknowledged, {mark} found", message.marks));
    }
    let body = spool.read_body(found.body).map_err(|error| format!("message {number}: {error}"))?;
    if found.body != number.body_id() || body != number.body() || found.body_bytes != body.len() as u64 {
        return Err(format!("message {number} was acknowledged and has another body"));
    }
    Ok(())
}

/// 0 without a mark.
fn mark_of(found: &Recovered) -> Option<u32> {
    match found.marks.as_slice() {
        [] => Some(0),
        [mark] => std::str::from_utf8(mark).ok()?.parse().ok(),
        _ => None,
    }
}

fn version_of(number: Number, found: &Recovered) -> Option<u32> {
    let text = std::str::from_utf8(&found.envelope).ok()?;
    let version = text.rsplit(' ').next()?.parse().ok()?;
    (number.envelope(version) == found.envelope).then_some(version)
}
