//! What single operations of kumod cost: time, allocations, and instructions where the host counts them.
//!
//! It owns the operations, each made once and done as often as asked, so that a criterion bench and the table of
//! `cost_per_operation` measure the same thing. It refuses to guess: what the host cannot count is told as unknown, with the reason.
//! An operation that fails ends the bench.

use std::time::Duration;

use crate::allocator::Asked;
use crate::error::Result;

pub mod bodies;
pub mod end_to_end;
pub mod header;
pub mod protocol;
pub mod queue;
pub mod spools;

pub mod catalogue;
pub mod instructions;
pub mod measure;
pub mod plan;
pub mod report;
pub mod run;

/// Something that can be done again and again.
pub trait Operation {
    /// Does it so many times, or as often as makes a whole, and says what that took. What is only preparation is not counted.
    ///
    /// # Errors
    /// What kept it from being done.
    fn run(&mut self, operations: u64) -> Result<Spent>;

    /// The fewest that are worth doing at once.
    fn operations_min(&self) -> u64 {
        1
    }
}

/// What so many operations took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// How many there were.
    pub operations: u64,
    /// From the first to the end of the last.
    pub elapsed: Duration,
    /// What was asked of the allocator; nothing, unless [`crate::allocator::CountingByThread`] is declared.
    pub asked: Asked,
}

impl Spent {
    /// Both together.
    fn and(self, other: Self) -> Self {
        let asked = Asked {
            allocations: self.asked.allocations + other.asked.allocations,
            bytes: self.asked.bytes + other.asked.bytes,
        };
        Self { operations: self.operations + other.operations, elapsed: self.elapsed + other.elapsed, asked }
    }
}

/// Whose allocations are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Those of the one thread that works.
    Caller,
    /// Those of all threads of the process.
    Process,
    /// Those of kumod's threads: of generator and sink none.
    Kumod,
}
