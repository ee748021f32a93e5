//! How large bodies are.
//!
//! A distribution becomes a short list of sizes with their weights before the run; messages choose from it.

use serde::{Deserialize, Serialize};

use super::plan::{BODY_BYTES_MAX, ContentError};

/// Bodies made of one size, unless the operator says otherwise.
const BODIES_OF_ONE_SIZE: usize = 256;

/// The sizes of the bodies of one run, in bytes after the empty line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SizeDistribution {
    /// All alike.
    Fixed(usize),
}

impl SizeDistribution {
    /// The sizes of the bodies to make, with the weight of each.
    pub(super) fn sizes(&self, bodies: Option<usize>) -> Result<Vec<(usize, f64)>, ContentError> {
        let Self::Fixed(bytes) = *self;
        if bytes > BODY_BYTES_MAX {
            return Err(ContentError::TooLarge(bytes));
        }
        Ok(vec![(bytes, 1.0); bodies.unwrap_or(BODIES_OF_ONE_SIZE)])
    }
}
