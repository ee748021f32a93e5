//! Room for millions of waiting things: nodes in chunks, linked into lists by number.
//!
//! A node belongs to one list at a time and knows which, so that it moves from list to list without being copied and can be
//! taken out of the middle. Chunks never move, so growth copies nothing and at most one chunk is empty for nothing; they are given
//! back when the last node goes. Numbers are 32 bits wide: [`NODES_MAX`] is the limit, and what would go over it is handed back.

/// Nodes of one chunk: a quarter of a megabyte for nodes of 64 bytes.
const CHUNK_NODES: usize = 4096;
/// Nodes in one slab; beyond it numbers would run out.
pub(super) const NODES_MAX: usize = u32::MAX as usize - CHUNK_NODES;
/// No node has this number.
const NONE: u32 = u32::MAX;

/// Nodes in the order in which they were added.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { head: NONE, tail: NONE };

    pub(super) fn is_empty(&self) -> bool {
        self.head == NONE
    }
}

/// A place in the slab.
#[derive(Debug)]
pub(super) struct Node<T> {
    /// When it is due, in milliseconds since 1970.
    pub(super) due_ms: u64,
    before: u32,
    after: u32,
    /// What it belongs to; the owner's affair.
    pub(super) owner: u32,
    /// Which list it is in; the owner's affair.
    pub(super) home: u16,
    /// `None` when the place is free.
    item: Option<T>,
}

impl<T> Node<T> {
    /// What lies here, unless the place is free.
    pub(super) fn item(&self) -> Option<&T> {
        self.item.as_ref()
    }
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Box<[Node<T>]>>,
    /// Free places, linked by `after`.
    free: u32,
    count: usize,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), free: NONE, count: 0 }
    }

    /// Nodes in use.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Takes a place for an item, in no list yet.
    ///
    /// # Errors
    /// Hands the item back when there are [`NODES_MAX`].
    pub(super) fn add(&mut self, due_ms: u64, owner: u32, item: T) -> Result<u32, T> {
        if self.free == NONE && !self.grow() {
            return Err(item);
        }
        let number = self.free;
        let node = self.node_mut(number);
        let free = node.after;
        *node = Node { due_ms, before: NONE, after: NONE, owner, home: 0, item: Some(item) };
        self.free = free;
        self.count += 1;
        Ok(number)
    }

    /// Gives a place back that is in no list any more.
    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let free = self.free;
        let node = self.node_mut(number);
        let item = node.item.take();
        node.after = free;
        self.free = number;
        self.count -= 1;
        if self.count == 0 {
            *self = Self::new();
        }
        item
    }

    fn grow(&mut self) -> bool {
        if self.chunks.len() * CHUNK_NODES >= NODES_MAX {
            return false;
        }
        let Ok(first) = u32::try_from(self.chunks.len() * CHUNK_NODES) else { return false };
        let last = first + u32::try_from(CHUNK_NODES).unwrap_or(0) - 1;
        let vacant = |number: u32| Node {
            due_ms: 0,
            before: NONE,
            after: if number == last { NONE } else { number + 1 },
            owner: 0,
            home: 0,
            item: None,
        };
        self.chunks.push((first..=last).map(vacant).collect());
        self.free = first;
        true
    }

    pub(super) fn node(&self, number: u32) -> &Node<T> {
        &self.chunks[number as usize / CHUNK_NODES][number as usize % CHUNK_NODES]
    }

    pub(super) fn node_mut(&mut self, number: u32) -> &mut Node<T> {
        &mut self.chunks[number as usize / CHUNK_NODES][number as usize % CHUNK_NODES]
    }

    /// Numbers of the nodes in use of one chunk, for a walk over everything; `None` behind the last chunk.
    pub(super) fn chunk(&self, chunk: usize) -> Option<impl Iterator<Item = (u32, &Node<T>)>> {
        let nodes = self.chunks.get(chunk)?;
        let first = u32::try_from(chunk * CHUNK_NODES).ok()?;
        Some((first..).zip(nodes.iter()).filter(|(_, node)| node.item.is_some()))
    }

    /// Adds a node, which is in no list, to the end of one.
    pub(super) fn push(&mut self, list: &mut List, number: u32) {
        let node = self.node_mut(number);
        (node.before, node.after) = (list.tail, NONE);
        match list.tail {
            NONE => list.head = number,
            tail => self.node_mut(tail).after = number,
        }
        list.tail = number;
    }

    /// The first node, taken off.
    pub(super) fn pop(&mut self, list: &mut List) -> Option<u32> {
        let number = (list.head != NONE).then_some(list.head)?;
        self.unlink(list, number);
        Some(number)
    }

    /// Takes a node out of the list that it is in.
    pub(super) fn unlink(&mut self, list: &mut List, number: u32) {
        let node = self.node_mut(number);
        let (before, after) = (node.before, node.after);
        (node.before, node.after) = (NONE, NONE);
        match before {
            NONE => list.head = after,
            before => self.node_mut(before).after = after,
        }
        match after {
            NONE => list.tail = before,
            after => self.node_mut(after).before = before,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_is_given_back_when_the_last_one_goes() {
        let mut slab = Slab::new();
        let numbers: Vec<u32> = (0..10_000).map(|item| slab.add(0, 0, item).unwrap()).collect();
        assert_eq!(slab.chunks.len(), 3);
        let removed: Vec<u32> = numbers.iter().map(|number| slab.remove(*number).unwrap()).collect();
        assert_eq!(removed, (0..10_000).collect::<Vec<_>>());
        assert_eq!((slab.len(), slab.chunks.len()), (0, 0));
    }

    proptest! {
        #[test]
        fn lists_agree_with_vectors(steps in proptest::collection::vec((0_usize..4, any::<prop::sample::Index>()), 1..300)) {
            let mut slab = Slab::new();
            let mut lists = [List::EMPTY; 2];
            let mut model: [Vec<u32>; 2] = Default::default();
            for (tick, (step, place)) in (0_u64..).zip(steps) {
                let which = step % 2;
                if step < 2 {
                    let number = slab.add(tick, 0, tick).unwrap();
                    slab.push(&mut lists[which], number);
                    model[which].push(number);
                } else if !model[which].is_empty() {
                    let number = model[which].remove(place.index(model[which].len()));
                    slab.unlink(&mut lists[which], number);
                    prop_assert!(slab.remove(number).is_some());
                }
                prop_assert_eq!(slab.len(), model[0].len() + model[1].len());
                prop_assert_eq!(lists[0].is_empty(), model[0].is_empty());
            }
            for (list, model) in lists.iter_mut().zip(model) {
                let mut out = Vec::new();
                while let Some(number) = slab.pop(list) {
                    out.push(number);
                }
                prop_assert_eq!(out, model);
                prop_assert!(list.is_empty());
            }
        }
    }
}
