//! Questions to kumod and sink while they run.
//!
//! It owns the time limit and the reading of JSON and text. It only ever asks addresses that a child process announced. An
//! answer that is late, wrong or missing is the peer's fault and says which question it was.

use std::net::SocketAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};

/// A busy machine may answer late, but not later than this.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(20);

/// Reads JSON.
///
/// # Errors
/// [`Error::Peer`] when there is no answer, not 200, or not the JSON that was expected.
pub(crate) fn json<T: DeserializeOwned>(address: SocketAddr, path: &str) -> Result<T> {
    parse(&text(address, path)?, address, path)
}

/// Reads JSON; `None` where the server says that it knows nothing (404).
///
/// # Errors
/// [`Error::Peer`] when there is no answer, neither 200 nor 404, or not the JSON that was expected.
pub(crate) fn json_if_known<T: DeserializeOwned>(address: SocketAddr, path: &str) -> Result<Option<T>> {
    match fetch(&format!("http://{address}{path}")) {
        Ok(text) => parse(&text, address, path).map(Some),
        Err(ureq::Error::StatusCode(404)) => Ok(None),
        Err(error) => Err(Error::Peer(format!("http://{address}{path}: {error}"))),
    }
}

/// Reads text.
///
/// # Errors
/// [`Error::Peer`] when there is no answer or not 200.
pub(crate) fn text(address: SocketAddr, path: &str) -> Result<String> {
    let url = format!("http://{address}{path}");
    fetch(&url).map_err(|error| Error::Peer(format!("{url}: {error}")))
}

fn fetch(url: &str) -> std::result::Result<String, ureq::Error> {
    let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WAIT_MAX)).build();
    ureq::Agent::from(config).get(url).call()?.body_mut().read_to_string()
}

fn parse<T: DeserializeOwned>(text: &str, address: SocketAddr, path: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Peer(format!("http://{address}{path}: {error}")))
}

/// The metric called `name` in a `/metrics.json` document.
pub(crate) fn metric(document: &Value, name: &str) -> Option<f64> {
    document.get(name)?.get("value")?.as_f64()
}

/// The metric called `name` for one value of its only label.
pub(crate) fn metric_of(document: &Value, name: &str, label: &str, value: &str) -> Option<f64> {
    document.get(name)?.get("value")?.get(label)?.get(value)?.as_f64()
}

/// The value of a label of the metric called `name`; of the first sample where there are several.
pub(crate) fn metric_label(document: &Value, name: &str, label: &str) -> Option<String> {
    let label = document.get(name)?.get("value")?.get(0)?.get(label)?;
    label.as_str().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_and_labels_are_found() {
        let document = serde_json::json!({
            "plain": {"help": "h", "type": "counter", "value": 2},
            "of_each": {"help": "h", "type": "gauge", "value": {"service": {"smtp_client": 7}}},
            "labelled": {"help": "h", "type": "gauge", "value": [{"backend": "uring", "mode": "direct", "@": 1}]},
        });
        assert_eq!(metric(&document, "plain"), Some(2.0));
        assert_eq!(metric(&document, "labelled"), None);
        assert_eq!(metric(&document, "absent"), None);
        assert_eq!(metric_of(&document, "of_each", "service", "smtp_client"), Some(7.0));
        assert_eq!(metric_of(&document, "of_each", "service", "absent"), None);
        assert_eq!(metric_label(&document, "labelled", "backend").as_deref(), Some("uring"));
        assert_eq!(metric_label(&document, "plain", "backend"), None);
    }
}
