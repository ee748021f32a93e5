//! What is always true, looked for after every event.

use crate::process::Place;
use crate::world::{Id, LOOK_MS, World};

/// Mail that is due is on its way after so long: the wheel turns by milliseconds, and the spool has to be read.
const LATE_MS: u64 = 50;
/// The feeder sleeps for as long as the clock said when it went to sleep, and looks each minute all the same.
const STEP_LATE_MS: u64 = 60_000 + LATE_MS;

impl World {
    pub(crate) fn check(&mut self) {
        let messages = &self.messages;
        self.open.retain(|id| messages[*id].durable.is_some() || !messages[*id].ended);
        let found = self.lost().or_else(|| {
            if self.is_up {
                self.astray().or_else(|| self.too_old()).or_else(|| self.in_vain())
            } else {
                None
            }
        });
        if let Some(found) = found {
            self.violate(found);
        }
    }

    /// Messages that have not come to their end, and where they are.
    fn places(&self) -> impl Iterator<Item = (Id, Place)> {
        self.open.iter().map(|id| (*id, self.process.places[*id]))
    }

    /// When nothing more happens all mail has come to its end.
    pub(crate) fn check_end(&mut self) {
        let left = self.messages.iter().position(|message| message.durable.is_some() || !message.ended);
        if let (Some(id), None) = (left, &self.report.violation) {
            self.violate(format!("message {id} is lost: nothing will come to it any more"));
        }
    }

    /// What was accepted stays in the store until it has come to its end, and somewhere in memory as long as kumod runs.
    fn lost(&self) -> Option<String> {
        self.open.iter().find_map(|id| {
            let (id, message) = (*id, &self.messages[*id]);
            let is_nowhere = || self.is_up && !message.gone && self.process.places[id] == Place::None;
            match message.durable {
                None if !message.ended => Some(format!("message {id} is lost: deleted, and never sent")),
                Some(_) if is_nowhere() => {
                    Some(format!("message {id} is lost: in the store, and nowhere in memory"))
                }
                _ => None,
            }
        })
    }

    /// Each message is in one place: what the schedule and the ready queues say they hold is what was put there.
    fn astray(&self) -> Option<String> {
        let count = |is_it: fn(&Place) -> bool| self.places().filter(|(_, place)| is_it(place)).count();
        let scheduled = count(|place| matches!(place, Place::Scheduled(_)));
        let ready = count(|place| matches!(place, Place::Ready(_)));
        let held = self.process.dispatchers.values().filter(|dispatcher| dispatcher.item().is_some()).count();
        let queues: usize = self.process.ready.iter().map(|ready| ready.rounds.len()).sum();
        let is_true = self.process.schedule.len() == scheduled
            && queues == ready
            && held == count(|place| matches!(place, Place::Held(_)));
        (!is_true).then(|| {
            format!(
                "a message is in two places, or in none: {} scheduled and {scheduled} put there, {queues} ready and {ready} put there",
                self.process.schedule.len()
            )
        })
    }

    /// Age counts in ready queues too, also where nobody comes to the message.
    fn too_old(&self) -> Option<String> {
        let wall = self.wall();
        let was_looked_for = |(id, place): &(Id, Place)| {
            let is_old = self.expires(*id).0 + LOOK_MS + LATE_MS < wall.0 && !self.was_set();
            is_old && matches!(place, Place::Ready(since) if since + LOOK_MS + LATE_MS < self.real)
        };
        let (id, _) = self.places().find(was_looked_for)?;
        Some(format!("message {id} is past its max_age in a ready queue"))
    }

    /// Sleeps do not end earlier because the clock is set.
    fn was_set(&self) -> bool {
        self.stepped.is_some_and(|at| self.real - at < STEP_LATE_MS)
    }

    /// Where mail may go, somebody is at work on it.
    fn in_vain(&self) -> Option<String> {
        let wall = self.wall();
        let was_set = self.was_set();
        (0..self.plan.sites.len()).find_map(|site| {
            let mut dispatchers =
                self.process.dispatchers.values().filter(|dispatcher| dispatcher.site == site);
            if dispatchers.any(|dispatcher| dispatcher.is_at_work()) {
                return None;
            }
            let is_paused = |queue: &usize| {
                self.process.paused.get(queue).is_some_and(|until| *until + LATE_MS >= self.real)
            };
            let waits = |(id, place): (Id, Place)| {
                let queue = self.messages[id].queue;
                let may_go = self.site_of(queue) == site && !is_paused(&queue) && !self.is_suspended(site);
                let is_late = match place {
                    Place::Ready(_) => true,
                    Place::Scheduled(due) => due.0 + LATE_MS < wall.0 && !was_set,
                    Place::None | Place::Filling | Place::Held(_) => false,
                };
                (may_go && is_late).then_some(id)
            };
            let is_filling = self.process.fills.values().any(|fill| self.site_of(fill.queue) == site);
            let id = self.places().filter(|_| !is_filling).find_map(waits)?;
            Some(format!(
                "message {id} waits in vain at {:?}: it may go, and nobody is at work",
                self.process.places[id]
            ))
        })
    }
}
