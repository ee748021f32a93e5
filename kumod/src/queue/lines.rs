//! Many short lines in one piece of memory: a message that joins a line takes a place that another left, and allocates nothing.
//!
//! Owns the places and the order in each line; whose line it is, is its caller's affair. What was grown for a deep line is given back
//! when the last message has left.

/// No place has this number.
const NONE: usize = usize::MAX;
/// Places that are kept when all are free, so that a queue that runs empty between two messages does not grow anew each time.
const KEPT_PLACES: usize = 64;

/// A line of messages, which `Lines` can follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    head: usize,
    tail: usize,
    length: usize,
}

impl Line {
    pub(super) const EMPTY: Self = Self { head: NONE, tail: NONE, length: 0 };

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// The places of all lines.
#[derive(Debug)]
pub(super) struct Lines<E> {
    places: Vec<Place<E>>,
    /// Free places, linked by `next`.
    free: usize,
    used: usize,
}

#[derive(Debug)]
struct Place<E> {
    next: usize,
    cost: u32,
    entry: Option<E>,
}

impl<E> Lines<E> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: NONE, used: 0 }
    }

    /// Messages in all lines.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn push_back(&mut self, line: &mut Line, cost: u32, entry: E) {
        let place = self.occupy(NONE, cost, entry);
        match line.tail {
            NONE => line.head = place,
            tail => self.places[tail].next = place,
        }
        line.tail = place;
        line.length += 1;
    }

    pub(super) fn push_front(&mut self, line: &mut Line, cost: u32, entry: E) {
        let place = self.occupy(line.head, cost, entry);
        line.head = place;
        if line.tail == NONE {
            line.tail = place;
        }
        line.length += 1;
    }

    /// What the message in front costs.
    pub(super) fn front_cost(&self, line: &Line) -> Option<u32> {
        self.places.get(line.head).map(|place| place.cost)
    }

    pub(super) fn pop_front(&mut self, line: &mut Line) -> Option<(u32, E)> {
        let at = line.head;
        let place = self.places.get_mut(at)?;
        let taken = (place.cost, place.entry.take()?);
        line.head = std::mem::replace(&mut place.next, self.free);
        line.length -= 1;
        if line.head == NONE {
            line.tail = NONE;
        }
        self.free = at;
        self.used -= 1;
        if self.used == 0 && self.places.len() > KEPT_PLACES {
            *self = Self::new();
        }
        Some(taken)
    }

    /// Takes out what stands behind the first `kept` messages, in its order.
    pub(super) fn split_off(&mut self, line: &mut Line, kept: usize) -> Vec<E> {
        let mut nth = 0;
        self.take_if(line, |_| {
            nth += 1;
            nth > kept
        })
    }

    /// Takes out what is chosen, in its order.
    pub(super) fn take_if(&mut self, line: &mut Line, mut is_chosen: impl FnMut(&E) -> bool) -> Vec<E> {
        let mut taken = Vec::new();
        let mut rest = Line::EMPTY;
        while let Some((cost, entry)) = self.pop_front(line) {
            if is_chosen(&entry) {
                taken.push(entry);
            } else {
                self.push_back(&mut rest, cost, entry);
            }
        }
        *line = rest;
        taken
    }

    fn occupy(&mut self, next: usize, cost: u32, entry: E) -> usize {
        self.used += 1;
        let place = Place { next, cost, entry: Some(entry) };
        match self.free {
            NONE => {
                self.places.push(place);
                self.places.len() - 1
            }
            at => {
                self.free = std::mem::replace(&mut self.places[at], place).next;
                at
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::VecDeque;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_that_runs_empty_again_and_again_takes_no_more_memory() {
        let (mut lines, mut line) = (Lines::new(), Line::EMPTY);
        for number in 0..10_000 {
            lines.push_back(&mut line, 1, number);
            assert_eq!(lines.pop_front(&mut line), Some((1, number)));
        }
        assert_eq!(lines.places.len(), 1);
        (0..1000).for_each(|number| lines.push_back(&mut line, 1, number));
        while lines.pop_front(&mut line).is_some() {}
        assert_eq!(lines.places.capacity(), 0, "what a deep line needed is given back");
    }

    proptest! {
        /// Whatever is done to three lines in whatever order, each holds what a line of its own would hold.
        #[test]
        fn lines_do_not_mix(steps in proptest::collection::vec((0_u8..6, 0_usize..3), 1..300)) {
            let mut lines = Lines::new();
            let mut mine = [Line::EMPTY; 3];
            let mut model: [VecDeque<(u32, u32)>; 3] = Default::default();
            for (tick, (step, at)) in (0_u32..).zip(steps) {
                let (line, model) = (&mut mine[at], &mut model[at]);
                match step {
                    0 | 1 => { lines.push_back(line, tick, tick); model.push_back((tick, tick)); }
                    2 => { lines.push_front(line, tick, tick); model.push_front((tick, tick)); }
                    3 => prop_assert_eq!(lines.pop_front(line), model.pop_front()),
                    4 => {
                        let kept = model.len() / 2;
                        let beyond: Vec<u32> = model.split_off(kept).into_iter().map(|(_, entry)| entry).collect();
                        prop_assert_eq!(lines.split_off(line, kept), beyond);
                    }
                    _ => {
                        let even: Vec<u32> = model.iter().map(|(_, entry)| *entry).filter(|entry| entry % 2 == 0).collect();
                        prop_assert_eq!(lines.take_if(line, |entry| entry % 2 == 0), even);
                        model.retain(|(_, entry)| entry % 2 == 1);
                    }
                }
                prop_assert_eq!((line.len(), line.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(lines.front_cost(line), model.front().map(|(cost, _)| *cost));
            }
            prop_assert_eq!(lines.len(), model.iter().map(VecDeque::len).sum::<usize>());
        }
    }
}
