//! What kumod holds in memory, and the part of it that brings mail to the ready queues: `store` and `outbound`'s feeder, as they are.

use std::collections::BTreeMap;
use std::future::Future;
use std::task::{Context, Poll, Waker};

use kumod::clock::UnixMs;
use kumod::queue::{LocalPermits, Ready, Schedule, Step, Ticket};

use crate::Broken;
use crate::dispatchers::Dispatcher;
use crate::plan::Plan;
use crate::world::{Event, Id, Item, World, Write};

/// How long it takes at most to read due messages back from the spool.
const READ_MS_MAX: u64 = 5;
/// Looks of the feeder at one point of time, over which it is said to spin.
const LOOKS_MAX: u32 = 1000;

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: not in yet, or settled.
    None,
    Scheduled(UnixMs),
    /// On its way from the store to the ready queue.
    Filling,
    /// In a ready queue since then, in time that nobody sets.
    Ready(u64),
    /// With a dispatcher.
    Held(u64),
}

/// Due messages on their way from the store.
pub(crate) struct Fill {
    pub(crate) queue: usize,
    asked: usize,
    items: Vec<Item>,
}

pub(crate) struct Process {
    pub(crate) schedule: Schedule<Item>,
    pub(crate) ready: Vec<Ready<Item, u64>>,
    /// Connections to each site that failed in a row.
    pub(crate) failures: Vec<u32>,
    pub(crate) permits: LocalPermits,
    pub(crate) dispatchers: BTreeMap<u64, Dispatcher>,
    pub(crate) fills: BTreeMap<u64, Fill>,
    numbers: u64,
    pub(crate) places: Vec<Place>,
    /// Queues that are paused, and until when.
    pub(crate) paused: BTreeMap<usize, u64>,
    /// Sites whose source is suspended, and until when.
    pub(crate) suspended: BTreeMap<usize, u64>,
    feed_token: u64,
    pub(crate) writes: Vec<Write>,
}

impl Process {
    pub(crate) fn new(plan: &Plan, now: UnixMs) -> Self {
        let ready =
            plan.sites.iter().map(|site| Ready::new(site.path.max_ready, site.path.connection_limit.0));
        Self {
            schedule: Schedule::new(now),
            ready: ready.collect(),
            failures: vec![0; plan.sites.len()],
            permits: LocalPermits::default(),
            dispatchers: BTreeMap::new(),
            fills: BTreeMap::new(),
            numbers: 0,
            places: Vec::new(),
            paused: BTreeMap::new(),
            suspended: BTreeMap::new(),
            feed_token: 0,
            writes: Vec::new(),
        }
    }

    pub(crate) fn grow(&mut self, messages: usize) {
        self.places.resize(messages, Place::None);
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

/// What a source without a wait in it answers.
pub(crate) fn now<T>(mut future: std::pin::Pin<Box<dyn Future<Output = T> + Send + '_>>) -> T {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("local permits never wait"),
    }
}

impl World {
    fn queue_of(&self, id: Id) -> usize {
        self.messages[id].queue
    }

    pub(crate) fn site_of(&self, queue: usize) -> usize {
        self.plan.queues[queue].site
    }

    fn ticket(&self, item: Item) -> Ticket<Item> {
        let queue = self.queue_of(item.id);
        let priority = self.plan.queues[queue].config.priority;
        Ticket { flow: queue as u64, priority, cost: self.messages[item.id].cost, entry: item }
    }

    /// Puts a message into the schedule; mail that is due before all other wakes the feeder.
    pub(crate) fn schedule(&mut self, item: Item, due: UnixMs) {
        let before = self.process.schedule.next_due();
        let queue = &self.plan.queues[self.messages[item.id].queue].name;
        self.process.schedule.insert(queue, due, item).unwrap();
        self.process.places[item.id] = Place::Scheduled(due);
        let earlier = before.is_none() || self.process.schedule.next_due() < before;
        if earlier && self.broken != Broken::Oversleeps {
            self.wake_feeder(0);
        }
    }

    fn wake_feeder(&mut self, delay_ms: u64) {
        self.process.feed_token += 1;
        self.after(delay_ms, Event::Feed(self.process.feed_token));
    }

    /// New mail goes to its ready queue, or waits in the schedule for a place.
    pub(crate) fn offer(&mut self, item: Item) {
        let site = self.site_of(self.queue_of(item.id));
        if self.is_suspended(site) {
            return self.schedule(item, self.wall());
        }
        let ticket = self.ticket(item);
        match self.process.ready[site].push(ticket) {
            Ok(step) => {
                self.process.places[item.id] = Place::Ready(self.real);
                self.follow(site, step);
            }
            Err(item) => {
                if self.broken == Broken::KeepsBoth {
                    self.place(item);
                }
                self.schedule(item, self.wall());
            }
        }
    }

    fn place(&mut self, item: Item) {
        let site = self.site_of(self.queue_of(item.id));
        if self.is_suspended(site) {
            return self.schedule(item, self.wall());
        }
        let ticket = self.ticket(item);
        let step = self.process.ready[site].place(ticket);
        self.process.places[item.id] = Place::Ready(self.real);
        self.follow(site, step);
    }

    pub(crate) fn follow(&mut self, site: usize, step: Step<Item, u64>) {
        match step {
            Step::Queued => {}
            Step::Open => self.open(site),
            Step::Hand { idle, entry, low } => {
                self.low(entry, low);
                self.hand(idle, entry);
            }
        }
    }

    /// A message was taken out; its flow is filled if it runs low.
    pub(crate) fn low(&mut self, item: Item, low: bool) {
        if low && self.broken != Broken::ForgetsTheStore {
            self.fill(self.queue_of(item.id));
        }
    }

    /// Looks for queues that have come to have due mail, and goes to sleep until there is more.
    pub(crate) fn feed(&mut self, token: Option<u64>) {
        if !self.is_up || token.is_some_and(|token| token != self.process.feed_token) {
            return;
        }
        for _ in 0..LOOKS_MAX {
            self.process.schedule.advance(self.wall());
            while let Some(name) = self.process.schedule.next_stirred() {
                let queue = self.plan.queues.iter().position(|queue| queue.name == *name).unwrap();
                self.fill(queue);
            }
            match self.process.schedule.next_due() {
                None => return,
                Some(due) if due > self.wall() => {
                    let sleep = due.since(self.wall());
                    return self.wake_feeder(u64::try_from(sleep.as_millis()).unwrap());
                }
                Some(_) => {}
            }
        }
        self.violate("the feeder spins: next_due() is in the past, and no queue has news".to_owned());
    }

    /// Claims due messages of a queue, as many as there are places for.
    pub(crate) fn fill(&mut self, queue: usize) {
        let site = self.site_of(queue);
        if self.is_suspended(site) {
            return;
        }
        let length_max = self.process.ready[site].length_max();
        let asked = self.process.ready[site].rounds.begin_pull(queue as u64, length_max);
        if asked == 0 {
            return;
        }
        let mut items = Vec::new();
        self.process.schedule.claim(&self.plan.queues[queue].name, asked, |item| items.push(item));
        for item in &items {
            self.process.places[item.id] = Place::Filling;
        }
        let number = self.process.number();
        self.process.fills.insert(number, Fill { queue, asked, items });
        let delay_ms = self.random.between(0, READ_MS_MAX);
        self.after(delay_ms, Event::Filled(number));
    }

    /// Claimed messages are there.
    pub(crate) fn filled(&mut self, number: u64) {
        let Some(Fill { queue, asked, items }) = self.process.fills.remove(&number) else { return };
        let more = items.len() == asked;
        items.into_iter().for_each(|item| self.place(item));
        let site = self.site_of(queue);
        if self.process.ready[site].rounds.end_pull(queue as u64, more) {
            self.fill(queue);
        }
    }

    /// A queue's rate has a permit again.
    pub(crate) fn resume(&mut self, queue: usize) {
        if self.broken == Broken::ForgetsPauses {
            return;
        }
        if self.process.paused.get(&queue).is_some_and(|until| *until <= self.real) {
            self.process.paused.remove(&queue);
        }
        let site = self.site_of(queue);
        let low = self.process.ready[site].rounds.resume(queue as u64);
        self.work_for_idle(site);
        if low && self.broken != Broken::ForgetsTheStore {
            self.fill(queue);
        }
    }

    /// Gives idle dispatchers work, and opens connections, as long as there is mail that may go.
    fn work_for_idle(&mut self, site: usize) {
        loop {
            let step = self.process.ready[site].step();
            let is_over = matches!(step, Step::Queued);
            self.follow(site, step);
            if is_over {
                return;
            }
        }
    }
}
