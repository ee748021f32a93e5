//! Which messages had an end other than a 250, one by one, so that an audit can tell a lost message from one that nobody promised.

/// Numbers kept of each kind. More are counted and not listed; whoever reads the list sees that it is shorter than the count.
const SEQUENCES_LISTED_MAX: usize = 1_000_000;

/// Some sequence numbers, or pairs of them with the number of a recipient, in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sequences<T = u64>(Vec<T>);

impl<T: Copy + Ord> Sequences<T> {
    pub(crate) fn add(&mut self, sequence: T) {
        if self.0.len() < SEQUENCES_LISTED_MAX {
            self.0.push(sequence);
        }
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|sequence| self.add(*sequence));
    }

    /// All of them in ascending order.
    pub(crate) fn sorted(mut self) -> Vec<T> {
        self.0.sort_unstable();
        self.0
    }
}

impl<T> Default for Sequences<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl Sequences {
    /// First and last of each run of numbers, in ascending order.
    pub(crate) fn ranges(self) -> Vec<[u64; 2]> {
        let mut ranges: Vec<[u64; 2]> = Vec::new();
        for sequence in self.sorted() {
            match ranges.last_mut() {
                Some([_, last]) if *last + 1 == sequence => *last = sequence,
                _ => ranges.push([sequence, sequence]),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_range() {
        let mut sequences = Sequences::default();
        [7, 3, 4, 9, 5].into_iter().for_each(|sequence| sequences.add(sequence));
        assert_eq!(sequences.ranges(), [[3, 5], [7, 7], [9, 9]]);
        assert!(Sequences::<u64>::default().ranges().is_empty());
    }
}
