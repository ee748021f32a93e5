//! One message of a plan, to look at before anything is sent.

use crate::plan::Plan;
use crate::run::Shared;

/// The first message of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// The envelope's sender.
    pub sender: String,
    /// The envelope's recipients.
    pub recipients: Vec<String>,
    /// Header, empty line and body as they would go out, without dot-stuffing.
    pub message: Vec<u8>,
    /// The mean of all bodies, in bytes.
    pub body_bytes_mean: f64,
}

/// Makes the first message of a plan; an error is what the run itself would have said.
pub fn preview(plan: &Plan) -> Result<Preview, String> {
    let shared = Shared::new(plan.clone()).map_err(|error| error.to_string())?;
    let mut message = shared.catalogue.message();
    let now_ns = shared.wire_ns(crate::clock::now_ns());
    shared.catalogue.compose(&mut message, plan.share.index, 0, now_ns);
    Ok(Preview {
        sender: message.sender().to_owned(),
        recipients: message.recipients().to_vec(),
        message: [message.header(), message.verbatim(&shared.catalogue)].concat(),
        body_bytes_mean: shared.catalogue.body_bytes_mean(),
    })
}
