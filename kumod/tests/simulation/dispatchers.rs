//! Dispatchers as `outbound` has them: slots, turns, permits, a connection, an outcome; and the settlement of it.

use std::time::Duration;

use kumod::clock::UnixMs;
use kumod::ports::{PermitSource, Rate};
use kumod::queue::next_attempt;

use crate::Broken;
use crate::plan::SitePlan;
use crate::process::{Place, now};
use crate::world::{Durable, Event, Id, Item, Message, World, Write};

const SLOT_RETRY_MS: u64 = 50;
/// How long a connection takes to open.
const CONNECT_MS_MAX: u64 = 200;
/// After this a reply is not waited for any more.
const REPLY_TIMEOUT_MS: u64 = 300_000;
const EXPIRY_TICK: Duration = Duration::from_millis(1);

pub(crate) struct Dispatcher {
    pub(crate) site: usize,
    state: State,
    /// The event that it waits for; an older one comes to nothing.
    token: u64,
    is_connected: bool,
    deliveries: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Starting,
    WithoutSlot,
    Parked,
    WaitingForRate(Item),
    WaitingToConnect(Item),
    /// And whether anybody will answer.
    Connecting(Item, bool),
    Sending(Item, Fate),
}

/// What the server makes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Replied(Outcome),
    /// The connection is lost before the server has it all, or the time for a reply is up.
    LostBefore,
    /// The server has it, and its reply is lost.
    LostBehind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Delivered,
    Failed,
    Retry,
}

impl Dispatcher {
    /// Whether it does something for its queue, and is not waiting for mail.
    pub(crate) fn is_at_work(&self) -> bool {
        !matches!(self.state, State::Parked)
    }

    pub(crate) fn item(&self) -> Option<Item> {
        match self.state {
            State::WaitingForRate(item)
            | State::WaitingToConnect(item)
            | State::Connecting(item, _)
            | State::Sending(item, _) => Some(item),
            State::Starting | State::WithoutSlot | State::Parked => None,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

/// How long it can take until each of the rates has one more permit, also after the clock was set back.
fn longest_pause(rates: &[Rate<'_>]) -> Duration {
    let pauses = rates.iter().map(|rate| rate.spec.period.div_f64(rate.spec.count as f64));
    pauses.max().unwrap_or_default() + Duration::from_millis(2)
}

impl World {
    /// A dispatcher, which the ready queue has counted already.
    pub(crate) fn open(&mut self, site: usize) {
        let number = self.process.number();
        let dispatcher =
            Dispatcher { site, state: State::Starting, token: 0, is_connected: false, deliveries: 0 };
        self.process.dispatchers.insert(number, dispatcher);
        let delay_ms = self.random.between(0, 2);
        self.wait(number, State::Starting, delay_ms);
    }

    fn wait(&mut self, number: u64, state: State, delay_ms: u64) {
        let Some(dispatcher) = self.process.dispatchers.get_mut(&number) else { return };
        dispatcher.state = state;
        dispatcher.token += 1;
        let token = dispatcher.token;
        self.after(delay_ms, Event::Dispatcher(number, token));
    }

    pub(crate) fn wake_dispatcher(&mut self, number: u64, token: u64) {
        let Some(dispatcher) = self.process.dispatchers.get(&number).filter(|one| one.token == token) else {
            return;
        };
        match dispatcher.state {
            State::Starting => self.start(number),
            State::WithoutSlot => self.close(number, false),
            State::Parked => {
                let site = dispatcher.site;
                if self.process.ready[site].unpark(|idle| *idle == number).is_some() {
                    self.close(number, true);
                }
            }
            State::WaitingForRate(item) => {
                if self.permitted(number, item) {
                    self.work(number);
                }
            }
            State::WaitingToConnect(item) => {
                let site = dispatcher.site;
                if self.put_back(site, item) || self.send(number, item) {
                    self.work(number);
                }
            }
            State::Connecting(item, is_open) => {
                if self.connected(number, item, is_open) {
                    self.work(number);
                }
            }
            State::Sending(item, fate) => self.sent(number, item, fate),
        }
    }

    fn start(&mut self, number: u64) {
        let site = &self.plan.sites[self.process.dispatchers[&number].site];
        let limits = site.slots.limits();
        if self.broken == Broken::IgnoresSlots || now(self.process.permits.take_slots(&limits)) {
            if let Err(violation) = self.reference.connected(&limits) {
                self.violate(violation);
            }
            return self.work(number);
        }
        if self.reference.has_slots(&limits) {
            self.violate("in vain: a dispatcher got no slot, and there are some".to_owned());
        }
        self.wait(number, State::WithoutSlot, SLOT_RETRY_MS);
    }

    fn close(&mut self, number: u64, has_slots: bool) {
        let Some(Dispatcher { site, .. }) = self.process.dispatchers.remove(&number) else { return };
        if has_slots {
            let keys = self.plan.sites[site].slots.keys();
            if self.broken != Broken::KeepsSlots {
                self.process.permits.release(&keys);
            }
            self.reference.disconnected(&keys);
        }
        if self.broken != Broken::ForgetsTheDead && self.process.ready[site].closed() {
            self.open(site);
        }
    }

    /// An idle dispatcher is given a message.
    pub(crate) fn hand(&mut self, number: u64, item: Item) {
        if self.take(number, item) {
            self.work(number);
        }
    }

    /// Takes message after message, until one has to be waited for or there is none.
    fn work(&mut self, number: u64) {
        let site = self.process.dispatchers[&number].site;
        while let Some((item, low)) = self.process.ready[site].pop() {
            self.low(item, low);
            if !self.take(number, item) {
                return;
            }
        }
        self.process.ready[site].park(number);
        let idle_ms = millis(self.plan.sites[site].path.idle_timeout);
        self.wait(number, State::Parked, idle_ms);
    }

    /// Whether the dispatcher is free for the next message.
    fn take(&mut self, number: u64, item: Item) -> bool {
        let place = std::mem::replace(&mut self.process.places[item.id], Place::Held(number));
        if !matches!(place, Place::Ready(_)) {
            self.violate(format!("message {} is in two places: ready, and {place:?}", item.id));
        }
        self.permitted(number, item)
    }

    fn permitted(&mut self, number: u64, item: Item) -> bool {
        let (wall, expires) = (self.wall(), self.expires(item.id));
        if wall <= expires && self.put_back(self.process.dispatchers[&number].site, item) {
            return true;
        }
        let queue = &self.plan.queues[self.messages[item.id].queue];
        let site = &self.plan.sites[queue.site];
        if wall > expires {
            self.settle(item, Outcome::Retry);
            return true;
        }
        let rates: Vec<Rate<'_>> = queue.rates.rates().chain(site.message_rates.rates()).collect();
        if rates.is_empty() {
            return self.send(number, item);
        }
        let grant = now(self.process.permits.take(&rates, 1, wall));
        let until = grant.until.filter(|_| self.broken != Broken::IgnoresRates);
        let Some(until) = until else {
            if let Err(violation) = self.reference.granted(rates.iter().copied(), self.progress) {
                self.violate(violation);
            }
            return self.send(number, item);
        };
        // A clock that was set back makes kumod more careful than it need be.
        if self.stepped.is_none() && self.reference.are_free(rates.iter().copied(), self.progress) {
            self.violate(format!(
                "in vain: message {} has to wait for {until:?}, and all rates are free",
                item.id
            ));
            return true;
        }
        let is_long = until.since(wall) > longest_pause(&rates);
        let until = until.min(expires.after(EXPIRY_TICK));
        let of_queue = grant.limited_by < self.plan.queues[self.messages[item.id].queue].rates.len();
        if is_long {
            self.violate(format!("in vain: message {} is told to wait longer than for one permit", item.id));
        }
        if of_queue {
            self.pause(item, until);
            return true;
        }
        self.wait_until(number, State::WaitingForRate(item), until);
        false
    }

    /// Waits by the clock, but for as long as the clock says now: sleeps do not end earlier because it is set.
    fn wait_until(&mut self, number: u64, state: State, until: UnixMs) {
        let wait = until.since(self.wall());
        let dispatcher = self.process.dispatchers.get_mut(&number).unwrap();
        if wait > self.plan.sites[dispatcher.site].path.idle_timeout {
            dispatcher.is_connected = false;
        }
        self.wait(number, state, millis(wait));
    }

    /// Puts a message back whose queue may send nothing until then.
    fn pause(&mut self, item: Item, until: UnixMs) {
        self.report.pauses += 1;
        let (queue, cost) = (self.messages[item.id].queue, self.messages[item.id].cost);
        let site = self.site_of(queue);
        let beyond = self.process.ready[site].rounds.pause(queue as u64, cost, item);
        self.process.places[item.id] = Place::Ready(self.real);
        for item in beyond {
            self.schedule(item, self.wall());
        }
        let wait_ms = millis(until.since(self.wall()));
        let paused = self.process.paused.entry(queue).or_default();
        *paused = (*paused).max(self.real + wait_ms);
        self.after(wait_ms, Event::Resume(queue));
    }

    /// Sends a message, over a new connection where there is none. Whether the dispatcher is free again.
    fn send(&mut self, number: u64, item: Item) -> bool {
        let site = self.process.dispatchers[&number].site;
        if !self.process.dispatchers[&number].is_connected {
            let rates: Vec<Rate<'_>> = self.plan.sites[site].connection_rates.rates().collect();
            if !rates.is_empty() {
                let expires = self.expires(item.id);
                if self.wall() > expires {
                    self.settle(item, Outcome::Retry);
                    return true;
                }
                let grant = now(self.process.permits.take(&rates, 1, self.wall()));
                if let Some(until) = grant.until {
                    let until = until.min(expires.after(EXPIRY_TICK));
                    self.wait_until(number, State::WaitingToConnect(item), until);
                    return false;
                }
                if let Err(violation) = self.reference.granted(rates.into_iter(), self.progress) {
                    self.violate(violation);
                }
            }
            let (refuses, swallows) = (self.plan.sites[site].refuses, self.plan.sites[site].swallows);
            let dice = self.random.between(0, 99);
            let connecting_ms = if dice < swallows {
                self.report.stalls += 1;
                millis(self.plan.sites[site].path.connect_timeout)
            } else {
                self.random.between(0, CONNECT_MS_MAX)
            };
            self.wait(number, State::Connecting(item, dice >= swallows + refuses), connecting_ms);
            return false;
        }
        self.transmit(number, item);
        false
    }

    /// A connection was opened, or could not be. Whether the dispatcher is free again.
    fn connected(&mut self, number: u64, item: Item, is_open: bool) -> bool {
        let site = self.process.dispatchers[&number].site;
        if !is_open {
            self.refused(site, item);
            return true;
        }
        self.process.failures[site] = 0;
        let dispatcher = self.process.dispatchers.get_mut(&number).unwrap();
        (dispatcher.is_connected, dispatcher.deliveries) = (true, 0);
        self.transmit(number, item);
        false
    }

    fn transmit(&mut self, number: u64, item: Item) {
        if self.broken == Broken::DeletesFirst {
            self.write(Write::Delete(item.id));
        }
        let SitePlan { drops, drops_replies, stalls, defers, rejects, slow_ms_max, .. } =
            self.plan.sites[self.process.dispatchers[&number].site];
        let mut sending_ms = self.random.between(1, slow_ms_max);
        let mut dice = self.random.between(0, 99);
        let mut falls_to = |share: u64| {
            let is_it = dice < share;
            dice = dice.saturating_sub(share) + if is_it { 100 } else { 0 };
            is_it
        };
        let fate = if falls_to(stalls) {
            sending_ms = REPLY_TIMEOUT_MS;
            self.report.stalls += 1;
            Fate::LostBefore
        } else if falls_to(drops) {
            Fate::LostBefore
        } else if falls_to(drops_replies) {
            Fate::LostBehind
        } else if falls_to(defers) {
            Fate::Replied(Outcome::Retry)
        } else if falls_to(rejects) {
            Fate::Replied(Outcome::Failed)
        } else {
            Fate::Replied(Outcome::Delivered)
        };
        let waits_for_ever = sending_ms == REPLY_TIMEOUT_MS && self.broken == Broken::WaitsForEver;
        self.wait(number, State::Sending(item, fate), if waits_for_ever { u64::MAX / 2 } else { sending_ms });
    }

    /// The message waits for its retry; when the site has been failing for long, so does everything that waits with it.
    fn refused(&mut self, site: usize, item: Item) {
        self.process.failures[site] += 1;
        self.settle(item, Outcome::Retry);
        if self.process.failures[site]
            >= self.plan.sites[site].path.consecutive_connection_failures_before_delay
        {
            self.give_up(site, |_| true);
        }
    }

    /// Ends the attempt for messages that wait in a ready queue.
    fn give_up(&mut self, site: usize, is_chosen: impl FnMut(&Item) -> bool) {
        let (items, low) = self.process.ready[site].rounds.take_if(is_chosen);
        for flow in low {
            self.fill(usize::try_from(flow).unwrap());
        }
        for item in items {
            self.settle(item, Outcome::Retry);
        }
    }

    /// Looks for messages that have waited too long, and that nobody comes to.
    pub(crate) fn look_for_old(&mut self) {
        let wall = self.wall();
        let expired: Vec<Id> = self.open.iter().copied().filter(|id| self.expires(*id) < wall).collect();
        for site in (0..self.plan.sites.len()).filter(|_| !expired.is_empty()) {
            self.give_up(site, |item| expired.contains(&item.id));
        }
    }

    /// When a message is too old.
    pub(crate) fn expires(&self, id: Id) -> UnixMs {
        let Message { queue, created, .. } = self.messages[id];
        created.after(self.plan.queues[queue].config.max_age)
    }

    fn sent(&mut self, number: u64, item: Item, fate: Fate) {
        let dispatcher = self.process.dispatchers.get_mut(&number).unwrap();
        let site = &self.plan.sites[dispatcher.site];
        dispatcher.deliveries += 1;
        let is_over = dispatcher.deliveries > site.path.max_deliveries_per_connection;
        let is_used_up = dispatcher.deliveries >= site.path.max_deliveries_per_connection;
        dispatcher.is_connected = !is_used_up && matches!(fate, Fate::Replied(_));
        let outcome = match fate {
            Fate::Replied(outcome) => outcome,
            Fate::LostBefore if self.broken == Broken::TakesSilenceForConsent => Outcome::Delivered,
            Fate::LostBefore | Fate::LostBehind => Outcome::Retry,
        };
        if matches!(fate, Fate::Replied(Outcome::Delivered) | Fate::LostBehind) {
            self.take_at_server(item.id, fate);
        }
        if is_over {
            self.violate("more messages went over a connection than it may carry".to_owned());
        }
        self.settle(item, outcome);
        self.work(number);
    }

    /// The server has the message. It may get it again only where kumod could not know.
    fn take_at_server(&mut self, id: Id, fate: Fate) {
        let is_doubtful = fate == Fate::LostBehind;
        let message = &mut self.messages[id];
        message.taken += 1;
        if message.taken > 1 + message.doubts && self.report.crashes == 0 {
            self.violate(format!("message {id} is delivered twice, and its reply was not lost"));
        }
        self.messages[id].doubts += u32::from(is_doubtful);
        self.report.doubts += u64::from(is_doubtful);
    }

    /// What becomes of a message after an attempt.
    fn settle(&mut self, item: Item, outcome: Outcome) {
        let Item { id, attempts } = item;
        let attempts = attempts + 1;
        self.process.places[id] = Place::None;
        if outcome == Outcome::Delivered {
            let message = &mut self.messages[id];
            message.delivered += 1;
            self.report.delivered += 1;
            self.report.delivered_twice += u64::from(message.delivered > 1);
            if message.taken == 0 {
                self.violate(format!("message {id} is lost: it counts as delivered, and no server has it"));
            } else if message.gone {
                self.violate(format!("message {id} is delivered twice without a crash in between"));
            }
        }
        let message = &self.messages[id];
        let config = &self.plan.queues[message.queue].config;
        let due = next_attempt(config, attempts, message.created, self.wall(), id as u64);
        match due.filter(|_| outcome == Outcome::Retry) {
            Some(due) => {
                self.write(Write::Mark(id, Durable { attempts, due: due.0 }));
                if self.broken != Broken::ForgetsRetries {
                    self.schedule(Item { id, attempts }, due);
                }
            }
            None => {
                self.report.expired += u64::from(outcome == Outcome::Retry);
                (self.messages[id].ended, self.messages[id].gone) = (true, true);
                self.write(Write::Delete(id));
            }
        }
    }
}
