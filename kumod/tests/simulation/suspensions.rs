//! A source that loses its address for a while: what would leave by it waits in the store, unclaimed, and is looked after at the end.

use crate::Broken;
use crate::process::Place;
use crate::world::{Event, Item, World};

impl World {
    /// The source of a site is suspended. What is on a connection already goes on.
    pub(crate) fn suspend(&mut self, nth: usize) {
        if !self.is_up {
            return;
        }
        let (_, site, for_ms) = self.plan.suspensions[nth];
        self.report.suspensions += 1;
        let until = self.process.suspended.entry(site).or_default();
        *until = (*until).max(self.real + for_ms);
        self.after(for_ms, Event::Unsuspend(site));
        if self.broken == Broken::SendsAllTheSame {
            return;
        }
        let (items, _) = self.process.ready[site].rounds.take_if(|_| true);
        for item in items {
            self.schedule(item, self.wall());
        }
    }

    pub(crate) fn unsuspend(&mut self, site: usize) {
        if self.process.suspended.get(&site).is_none_or(|until| *until > self.real) {
            return;
        }
        self.process.suspended.remove(&site);
        if self.broken == Broken::ForgetsTheSuspended {
            return;
        }
        for queue in 0..self.plan.queues.len() {
            if self.site_of(queue) == site {
                self.fill(queue);
            }
        }
    }

    pub(crate) fn is_suspended(&self, site: usize) -> bool {
        self.process.suspended.contains_key(&site)
    }

    /// A dispatcher has a message that may not go: it waits in the store. Whether it was so.
    pub(crate) fn put_back(&mut self, site: usize, item: Item) -> bool {
        if !self.is_suspended(site) {
            return false;
        }
        if self.broken == Broken::SendsAllTheSame {
            self.violate(format!("message {} leaves by a source that is suspended", item.id));
            return false;
        }
        self.process.places[item.id] = Place::None;
        self.schedule(item, self.wall());
        true
    }
}
