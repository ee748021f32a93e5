//! What a machine can do at most, by size of message, and which of its resources sets that.
//!
//! It owns the words that tuner writes and the page draws. The model behind the numbers is tuner's: every message crosses two
//! sockets, is stored durably once, and its bytes are passed over a few times. It refuses nothing.

use serde::{Deserialize, Serialize};

/// What sets a ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Durable writes.
    Disk,
    /// Sockets.
    Loopback,
    /// Processor time.
    Processor,
}

impl Resource {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Loopback => "loopback",
            Self::Processor => "processor",
        }
    }
}

/// The ceiling for one size of messages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Size of each message.
    pub body_bytes: u64,
    /// Million messages an hour: the least of the three below.
    pub mmh: f64,
    /// What sets it.
    pub set_by: Resource,
    /// Million messages an hour by the disk alone.
    pub disk_mmh: f64,
    /// By sockets alone.
    pub loopback_mmh: f64,
    /// By processor time alone.
    pub processor_mmh: f64,
}

impl Ceiling {
    /// What each resource alone would allow, million messages an hour.
    pub const fn by_resource(&self) -> [(Resource, f64); 3] {
        [
            (Resource::Disk, self.disk_mmh),
            (Resource::Loopback, self.loopback_mmh),
            (Resource::Processor, self.processor_mmh),
        ]
    }
}
