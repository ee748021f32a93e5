//! Time, the store's durable side, and what happens to the process from outside: mail, crashes, a clock that is set.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use kumod::clock::UnixMs;
use kumod::queue::cost_of;

use crate::Broken;
use crate::plan::Plan;
use crate::process::Process;
use crate::random::Random;
use crate::reference::Reference;

/// When the simulation begins.
const BEGINNING: u64 = 1_700_000_000_000;
/// A run has ended by then, whatever was planned.
const END_MS: u64 = 24 * 3_600_000;
/// Events at one point of time, over which the world is said to spin.
const EVENTS_AT_ONCE_MAX: u32 = 20_000;
/// How long kumod is away when it was killed.
const DOWN_MS_MAX: u64 = 5000;
/// How long the spool takes to write what was settled: mostly as long as a disk does, and sometimes so long that crashes meet it.
const WRITE_MS_MAX: [u64; 3] = [5, 30, 8000];
/// How often kumod looks for mail that is too old.
pub(crate) const LOOK_MS: u64 = 5000;
/// Lines of a story that are kept.
const STORY_LINES_MAX: usize = 200;

pub(crate) type Id = usize;

/// A message on its way, and what its mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) id: Id,
    pub(crate) attempts: u32,
}

/// What the spool holds of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Durable {
    pub(crate) attempts: u32,
    pub(crate) due: u64,
}

pub(crate) struct Message {
    pub(crate) queue: usize,
    pub(crate) created: UnixMs,
    pub(crate) cost: u32,
    /// `None`: deleted.
    pub(crate) durable: Option<Durable>,
    /// Its end is in the log.
    pub(crate) ended: bool,
    /// Settled by the process that runs; the deletion may still be on its way to the disk.
    pub(crate) gone: bool,
    pub(crate) delivered: u32,
    /// How many times a server has taken it, and how many of these times kumod could not know.
    pub(crate) taken: u32,
    pub(crate) doubts: u32,
}

/// What a settlement changes in the spool.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Write {
    Delete(Id),
    Mark(Id, Durable),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    Inflow(usize),
    Crash,
    Restart,
    ClockStep(usize),
    Suspend(usize),
    Unsuspend(usize),
    Feed(u64),
    Reap,
    Look,
    Filled(u64),
    Dispatcher(u64, u64),
    Resume(usize),
    Flush,
}

/// What a run saw.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) violation: Option<String>,
    pub(crate) events: u64,
    pub(crate) messages: u64,
    pub(crate) delivered: u64,
    pub(crate) delivered_twice: u64,
    pub(crate) expired: u64,
    pub(crate) pauses: u64,
    pub(crate) crashes: u64,
    pub(crate) clock_steps: u64,
    pub(crate) suspensions: u64,
    pub(crate) stalls: u64,
    pub(crate) doubts: u64,
    story: VecDeque<String>,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.messages += other.messages;
        self.delivered += other.delivered;
        self.delivered_twice += other.delivered_twice;
        self.expired += other.expired;
        self.pauses += other.pauses;
        self.crashes += other.crashes;
        self.clock_steps += other.clock_steps;
        self.suspensions += other.suspensions;
        self.stalls += other.stalls;
        self.doubts += other.doubts;
    }

    /// The last that happened.
    pub(crate) fn story(&self) -> String {
        self.story.iter().map(|line| format!("{line}\n")).collect()
    }
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) broken: Broken,
    pub(crate) random: Random,
    /// Milliseconds since the beginning that nobody can set.
    pub(crate) real: u64,
    /// What the clock shows beyond that.
    offset: i64,
    /// How far the clock has gone forward in all.
    pub(crate) progress: u64,
    events: BinaryHeap<Reverse<(u64, u64, u32, Event)>>,
    sequence: u64,
    /// Processes that there were; an event of an earlier one comes to nothing.
    life: u32,
    pub(crate) is_up: bool,
    pub(crate) process: Process,
    pub(crate) reference: Reference,
    pub(crate) messages: Vec<Message>,
    /// Those that have not come to their end, on the disk too.
    pub(crate) open: Vec<Id>,
    /// Inflow that has not come yet.
    expected: usize,
    /// When the clock was last set.
    pub(crate) stepped: Option<u64>,
    pub(crate) report: Report,
}

impl World {
    pub(crate) fn new(plan: Plan, broken: Broken) -> Self {
        let random = plan.random.clone();
        let process = Process::new(&plan, UnixMs(BEGINNING));
        let expected = plan.inflow.len();
        let mut world = Self {
            plan,
            broken,
            random,
            real: 0,
            offset: i64::try_from(BEGINNING).unwrap(),
            progress: 0,
            events: BinaryHeap::new(),
            sequence: 0,
            life: 0,
            is_up: false,
            process,
            reference: Reference::default(),
            messages: Vec::new(),
            open: Vec::new(),
            expected,
            stepped: None,
            report: Report::default(),
        };
        world.expect();
        world
    }

    /// What the plan says will happen.
    fn expect(&mut self) {
        let inflow = self.plan.inflow.iter().enumerate().map(|(nth, (at, ..))| (*at, Event::Inflow(nth)));
        let crashes = self.plan.crashes.iter().map(|at| (*at, Event::Crash));
        let steps =
            self.plan.clock_steps.iter().enumerate().map(|(nth, (at, _))| (*at, Event::ClockStep(nth)));
        let losses = self.plan.suspensions.iter().enumerate();
        let losses = losses.map(|(nth, (at, ..))| (*at, Event::Suspend(nth)));
        let planned: Vec<_> =
            inflow.chain(crashes).chain(steps).chain(losses).chain([(0, Event::Restart)]).collect();
        for (at, event) in planned {
            self.sequence += 1;
            self.events.push(Reverse((at, self.sequence, 0, event)));
        }
    }

    /// Runs until all mail has come to its end, or a rule is broken.
    pub(crate) fn run(mut self) -> Report {
        let mut at_once = 0;
        while let Some(Reverse((at, _, life, event))) = self.events.pop() {
            at_once = if at == self.real { at_once + 1 } else { 0 };
            if at_once > EVENTS_AT_ONCE_MAX {
                self.violate(format!("it spins: {event:?}"));
            }
            if at > END_MS {
                self.violate("in vain: mail is left that should have come to its end".to_owned());
            }
            self.progress += at - self.real;
            self.real = at;
            if life != 0 && life != self.life {
                continue;
            }
            self.report.events += 1;
            self.tell(|| format!("{event:?}"));
            self.handle(event);
            self.check();
            if self.report.violation.is_some() || self.is_over() {
                break;
            }
        }
        self.check_end();
        self.report
    }

    fn is_over(&self) -> bool {
        self.expected == 0 && self.open.is_empty()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Inflow(nth) => self.inflow(nth),
            Event::Crash => self.crash(),
            Event::Restart => self.restart(),
            Event::ClockStep(nth) => self.set_clock(self.plan.clock_steps[nth].1),
            Event::Suspend(nth) => self.suspend(nth),
            Event::Unsuspend(site) => self.unsuspend(site),
            Event::Feed(token) => self.feed(Some(token)),
            Event::Reap => {
                self.after(60_000, Event::Reap);
                self.feed(None);
            }
            Event::Look => {
                self.after(LOOK_MS, Event::Look);
                if self.broken != Broken::ForgetsAges {
                    self.look_for_old();
                }
            }
            Event::Filled(number) => self.filled(number),
            Event::Dispatcher(number, token) => self.wake_dispatcher(number, token),
            Event::Resume(queue) => self.resume(queue),
            Event::Flush => self.flush(usize::MAX),
        }
    }

    /// What the clock shows.
    pub(crate) fn wall(&self) -> UnixMs {
        UnixMs(u64::try_from(i64::try_from(self.real).unwrap() + self.offset).unwrap())
    }

    /// Something that the process that runs now waits for.
    pub(crate) fn after(&mut self, delay_ms: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((self.real + delay_ms, self.sequence, self.life, event)));
    }

    pub(crate) fn violate(&mut self, what: String) {
        self.tell(|| what.clone());
        self.report.violation.get_or_insert(what);
    }

    pub(crate) fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.report.story.len() == STORY_LINES_MAX {
            self.report.story.pop_front();
        }
        let line =
            format!("{:>9} {:>9} {}", self.real, self.offset - i64::try_from(BEGINNING).unwrap(), what());
        self.report.story.push_back(line);
    }

    /// A client hands a message over; while kumod is away it comes again.
    fn inflow(&mut self, nth: usize) {
        if !self.is_up {
            self.sequence += 1;
            return self.events.push(Reverse((self.real + 1000, self.sequence, 0, Event::Inflow(nth))));
        }
        let (_, queue, bytes) = self.plan.inflow[nth];
        self.expected -= 1;
        self.report.messages += 1;
        // In the spool before the 250.
        self.messages.push(Message {
            queue,
            created: self.wall(),
            cost: cost_of(bytes),
            durable: Some(Durable { attempts: 0, due: 0 }),
            ended: false,
            gone: false,
            delivered: 0,
            taken: 0,
            doubts: 0,
        });
        self.open.push(self.messages.len() - 1);
        self.process.grow(self.messages.len());
        self.offer(Item { id: self.messages.len() - 1, attempts: 0 });
    }

    /// Everything that was in memory is gone, and of what was on its way to the disk, the end.
    fn crash(&mut self) {
        if !self.is_up {
            return;
        }
        self.report.crashes += 1;
        let written = self.random.index(self.process.writes.len() + 1);
        self.flush(written);
        self.is_up = false;
        self.life += 1;
        // Rates are counted in memory.
        self.reference = Reference::default();
        self.process = Process::new(&self.plan, self.wall());
        let down_ms = self.random.between(0, DOWN_MS_MAX);
        self.sequence += 1;
        self.events.push(Reverse((self.real + down_ms, self.sequence, 0, Event::Restart)));
    }

    /// The schedule is made from what the spool holds.
    fn restart(&mut self) {
        self.is_up = true;
        self.life = self.life.max(1);
        self.process = Process::new(&self.plan, self.wall());
        self.process.grow(self.messages.len());
        for id in 0..self.messages.len() {
            self.messages[id].gone = false;
            if let Some(Durable { attempts, due }) = self.messages[id].durable {
                self.schedule(Item { id, attempts }, UnixMs(due));
            }
        }
        self.after(60_000, Event::Reap);
        self.after(LOOK_MS, Event::Look);
        self.feed(None);
    }

    fn set_clock(&mut self, by: i64) {
        self.report.clock_steps += 1;
        self.offset += by;
        self.progress += u64::try_from(by).unwrap_or(0);
        self.stepped = Some(self.real);
    }

    /// Gives the spool something to write.
    pub(crate) fn write(&mut self, write: Write) {
        self.process.writes.push(write);
        if self.process.writes.len() == 1 {
            let most_ms = self.random.one_of(&WRITE_MS_MAX);
            let delay_ms = self.random.between(0, most_ms);
            self.after(delay_ms, Event::Flush);
        }
    }

    /// The first of what was given to the spool is on the disk.
    fn flush(&mut self, count: usize) {
        let count = count.min(self.process.writes.len());
        for write in self.process.writes.drain(..count) {
            match write {
                Write::Delete(id) => self.messages[id].durable = None,
                Write::Mark(id, durable) => {
                    if let Some(known) = &mut self.messages[id].durable {
                        *known = durable;
                    }
                }
            }
        }
    }
}
