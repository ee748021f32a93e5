//! The queues at size: bytes for each message and queue, messages in and out per second, how late the last one is, and how long a lone
//! message waits behind a deep queue.
//!
//! One thread and no disk: what the spool's index costs for each message is a constant, measured by `spool_recovery`. Memory is read from the
//! counting allocator, so that a program which measures must have that one. Times are only worth something in a release build.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kumod::clock::UnixMs;
use kumod::queue::{QUANTUM, Ready, Schedule, Ticket};
use kumod::store::WAITING_BYTES;

use crate::allocator;

/// Memory for one scheduled message, the spool's index included.
pub const BYTES_PER_MESSAGE_MAX: f64 = 400.0;
/// Memory for one queue beside its messages.
pub const BYTES_PER_QUEUE_MAX: f64 = 2048.0;
/// Messages enqueued, messages given out, and messages through a ready queue, per second on one core.
pub const PER_SECOND_MIN: f64 = 300_000.0;
/// How late the last message may be given out.
pub const LATE_MS_MAX: f64 = 50.0;
/// How many rounds of all queues a message may wait whose own queue is empty.
pub const ROUNDS_WAITED_MAX: f64 = 1.0;
/// What the spool keeps in memory for each message (docs/spool.md, measured by `spool_recovery`).
pub const SPOOL_BYTES_PER_MESSAGE: f64 = 118.0;
/// Queues that feed one ready queue, at most.
pub const FEEDING_MAX: u32 = 10_000;

/// Messages fall due evenly over this time.
const SPREAD: Duration = Duration::from_secs(2 * 3600);
/// Messages taken from one queue at a time, as the dispatchers do.
const CLAIM_MAX: usize = 64;
/// Messages of each queue in the ready queue, but for the deep one.
const SHALLOW: u32 = 4;
/// Messages of the deep one.
const DEEP: u32 = 100_000;
/// Lone messages whose wait is counted.
const LONE: u64 = 50;

/// What was measured of the schedule.
#[derive(Debug, serde::Serialize)]
pub struct Scheduled {
    /// Messages that waited at once.
    pub messages: u32,
    /// Queues that they belonged to.
    pub queues: u32,
    /// Memory for one queue.
    pub bytes_per_queue: f64,
    /// Memory for one message.
    pub bytes_per_message: f64,
    /// Messages put in per second.
    pub enqueued_per_second: f64,
    /// Messages given out per second.
    pub dispatched_per_second: f64,
    /// How late the message behind all but a thousandth was given out, in milliseconds.
    pub late_ms_p999: f64,
    /// How late the last one was, in milliseconds.
    pub late_ms_max: f64,
}

/// What was measured of the turns in one ready queue.
#[derive(Debug, serde::Serialize)]
pub struct Turns {
    /// Scheduled queues that feed it, one of them deep.
    pub queues: u32,
    /// Messages of one whole round.
    pub messages_per_round: u32,
    /// Messages that went before a lone one, at most.
    pub messages_waited_max: u32,
    /// The same as a part of a round.
    pub rounds_waited_max: f64,
    /// Messages put in and taken out again per second.
    pub through_per_second: f64,
}

/// As large as what the store keeps of a message.
#[derive(Debug)]
struct Item {
    _id: [u64; 4],
    _attempts: NonZeroU32,
    _rest: u32,
}

const _: () = assert!(size_of::<Option<Item>>() == WAITING_BYTES);

impl Scheduled {
    /// Fills the schedule, and lets time pass until it is empty.
    ///
    /// # Panics
    /// When a message is lost or doubled: then no figure means anything.
    pub fn measure(messages: u32, queues: u32) -> Self {
        let names: Vec<String> =
            (0..queues).map(|n| format!("campaign-{n}:tenant@example-{n}.net")).collect();
        let start = UnixMs(1_700_000_000_000);
        let mut schedule = Schedule::new(start);
        let empty = allocator::live_bytes();
        // One message for each queue first: what a queue costs is what this costs beside the messages' own nodes.
        for (name, nth) in names.iter().zip(0..) {
            put(&mut schedule, name, start, nth, messages);
        }
        let with_queues = allocator::live_bytes();
        let began = Instant::now();
        for nth in queues..messages {
            // A stride without a common divisor, so that neighbours belong to different queues and times.
            let name = &names[usize::try_from(u64::from(nth) * 7919 % u64::from(queues)).unwrap_or(0)];
            put(&mut schedule, name, start, nth, messages);
        }
        let enqueuing = began.elapsed();
        let full = allocator::live_bytes();
        let node_bytes = (full - with_queues) as f64 / f64::from((messages - queues).max(1));
        let queue_bytes = (with_queues - empty) as f64 / f64::from(queues) - node_bytes;
        let (dispatching, late) = dispatch(&mut schedule, start, messages);
        Self {
            messages,
            queues,
            bytes_per_queue: queue_bytes.max(0.0),
            bytes_per_message: node_bytes + SPOOL_BYTES_PER_MESSAGE,
            enqueued_per_second: f64::from(messages - queues) / enqueuing.as_secs_f64(),
            dispatched_per_second: f64::from(messages) / dispatching.as_secs_f64(),
            late_ms_p999: late.0,
            late_ms_max: late.1,
        }
    }
}

fn put(schedule: &mut Schedule<Item>, name: &str, start: UnixMs, nth: u32, messages: u32) {
    let spread_ms = u64::try_from(SPREAD.as_millis()).unwrap_or(u64::MAX);
    let due = start.after(Duration::from_millis(
        1 + u64::from(nth) * 104_729 % u64::from(messages) * spread_ms / u64::from(messages),
    ));
    let item = Item { _id: [due.0; 4], _attempts: NonZeroU32::MIN, _rest: 0 };
    // The schedule takes four thousand million.
    let _ = schedule.insert(name, due, item);
}

/// Lets time pass as fast as the schedule can follow it, and says how long that took and by how many milliseconds the message
/// behind all but a thousandth, and the last one, was late: the time that a waking takes delays what is given out by it.
fn dispatch(schedule: &mut Schedule<Item>, start: UnixMs, messages: u32) -> (Duration, (f64, f64)) {
    let began = Instant::now();
    let (mut given, mut late) = (0, Vec::with_capacity(messages as usize / 64));
    let mut names: Vec<Arc<str>> = Vec::new();
    while let Some(due) = schedule.next_due() {
        let waking = Instant::now();
        schedule.advance(due.max(start));
        names.extend(std::iter::from_fn(|| schedule.next_stirred()));
        for name in names.drain(..) {
            let mut claimed = CLAIM_MAX;
            while claimed == CLAIM_MAX {
                claimed = 0;
                schedule.claim(&name, CLAIM_MAX, |_| claimed += 1);
                given += claimed;
            }
        }
        late.push(waking.elapsed().as_secs_f64() * 1000.0);
    }
    let took = began.elapsed();
    assert_eq!(given, messages as usize, "every message is given out once");
    late.sort_unstable_by(f64::total_cmp);
    let behind = late.len() - 1 - late.len() / 1000;
    (took, (late[behind], late[late.len() - 1]))
}

/// The message that nobody waits for.
const COMMON: u64 = u64::MAX;

impl Turns {
    /// Keeps a ready queue full of mail of so many queues, the first of which is deep, and sends lone messages into it.
    ///
    /// # Panics
    /// When a message is lost: then no figure means anything.
    pub fn measure(queues: u32) -> Self {
        let queues = queues.clamp(2, FEEDING_MAX);
        let mut ready: Ready<(u64, u64), ()> = Ready::new(usize::MAX / 2, 1);
        for flow in 0..u64::from(queues) {
            let count = if flow == 0 { DEEP } else { SHALLOW };
            (0..count).for_each(|_| push(&mut ready, flow, COMMON));
        }
        // What is taken is put back, so that each queue has enough for the whole of its turn.
        let messages_per_round = queues * QUANTUM;
        let (mut waited_max, mut through, began) = (0, 0_u64, Instant::now());
        for lone in 0..LONE {
            // Some other number of messages each time, so that lone ones come at every place of a round.
            for _ in 0..lone * 7919 % u64::from(messages_per_round) {
                assert!(step(&mut ready) == COMMON, "nobody else is there");
                through += 1;
            }
            push(&mut ready, u64::from(queues) + lone, lone);
            let mut waited = 0;
            while step(&mut ready) != lone {
                waited += 1;
                assert!(waited <= 10 * messages_per_round, "message {lone} does not come");
            }
            waited_max = waited.max(waited_max);
            through += u64::from(waited) + 1;
        }
        Self {
            queues,
            messages_per_round,
            messages_waited_max: waited_max,
            rounds_waited_max: f64::from(waited_max) / f64::from(messages_per_round),
            through_per_second: through as f64 / began.elapsed().as_secs_f64(),
        }
    }
}

fn push(ready: &mut Ready<(u64, u64), ()>, flow: u64, number: u64) {
    let pushed = ready.push(Ticket { flow, priority: 1, cost: 1, entry: (flow, number) });
    // There is room for more messages than memory holds.
    let _ = black_box(pushed);
}

/// Takes the next message, and puts another into its queue unless it was a lone one.
fn step(ready: &mut Ready<(u64, u64), ()>) -> u64 {
    let Some(((flow, number), _)) = ready.pop() else { return COMMON };
    if number == COMMON {
        push(ready, flow, COMMON);
    }
    number
}
