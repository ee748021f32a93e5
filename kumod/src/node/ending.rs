//! The last steps of an orderly stop, when no new mail is taken any more: what is under way may end, and what is counted is written.

use std::time::Duration;

use crate::outbound::Outbound;
use crate::store::Allowances;

/// Lets deliveries that are under way end, within the grace.
pub(super) async fn finish(outbound: &Outbound, allowances: &Allowances, grace: Duration) {
    if tokio::time::timeout(grace, outbound.finished()).await.is_err() {
        tracing::warn!(
            "deliveries under way after the grace of {grace:?} are cut, and tried again after the next start"
        );
    }
    if let Err(error) = allowances.close().await {
        tracing::warn!(%error, "a hundredth of what warming sources may send today is forfeited: the counts could not be written");
    }
}
