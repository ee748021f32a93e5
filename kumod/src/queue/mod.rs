//! What is to be delivered when: names of queues, the wheel on which mail waits, ready queues, retry and throttle.
//!
//! Pure: no clock, no socket, no file. Times come in as arguments, so that the same inputs always give the same order.

mod limits;
mod lines;
mod name;
mod ready;
mod retry;
mod rounds;
mod schedule;
mod slab;
mod throttle;
mod turns;
mod wheel;

pub use limits::{NamedRates, NamedSlots};
pub use name::{NameError, QueueName};
pub use ready::{Ready, Step, connections_wanted};
pub use retry::next_attempt;
pub use rounds::{FlowKey, PULL_MAX, QUANTUM, Rounds, Ticket, cost_of};
pub use schedule::Schedule;
pub use throttle::LocalPermits;
pub use turns::Turns;
