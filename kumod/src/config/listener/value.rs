//! How one option is read, so that it can stand in a listener or in a change to one.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::{BatchHandling, Constants, LineEndings, ListenerTls, TraceHeaders};
use crate::config::{CidrSet, KeySource, duration};

/// A type that an option can have.
pub(super) trait OptionValue<'de>: Sized {
    fn read<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// For `#[serde(deserialize_with)]`: an option.
pub(super) fn value<'de, D: Deserializer<'de>, T: OptionValue<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::read(deserializer)
}

/// The same where the option may be left out.
pub(super) fn given<'de, D: Deserializer<'de>, T: OptionValue<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::read(deserializer).map(Some)
}

impl<'de> OptionValue<'de> for Duration {
    fn read<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        duration::deserialize(deserializer)
    }
}

/// An empty Lua table may come as an empty list.
impl<'de> OptionValue<'de> for Constants {
    fn read<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Object(map) => Ok(map),
            serde_json::Value::Array(list) if list.is_empty() => Ok(Self::new()),
            _ => Err(serde::de::Error::custom("a table with names is wanted, such as { x_site = 'berlin' }")),
        }
    }
}

macro_rules! as_serde_reads {
    ($($type:ty),+ $(,)?) => {
        $(
            impl<'de> OptionValue<'de> for $type {
                fn read<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    Self::deserialize(deserializer)
                }
            }
        )+
    };
}

as_serde_reads!(
    bool,
    u32,
    u64,
    usize,
    String,
    Option<String>,
    CidrSet,
    BatchHandling,
    LineEndings,
    ListenerTls,
    Option<KeySource>,
    TraceHeaders,
);
