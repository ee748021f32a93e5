//! Injection over HTTP, in the form of KumoMTA's `/api/inject/v1`.
//!
//! A message is one request with all of its recipients; the worker, the claims, the schedule and the counts
//! are those of SMTP. It is sent when the server accepted all recipients, partial when it refused some, failed
//! when it refused all or the request (429 and 503 are refusals like any other), and unknown when the
//! connection goes first or the answer leaves it open. Of every request the status is counted. Redirections are not followed, so that load
//! goes only where it was allowed to go.

mod connection;
mod endpoint;
mod reply;
mod request;
mod watched;

use serde::{Deserialize, Serialize};

use crate::content::{Catalogue, JsonBodies};
use crate::plan::Plan;
use crate::tls::Connector;
use crate::transport::Tls;

pub(crate) use connection::run;
pub use endpoint::{Endpoint, EndpointError};

/// How a run injects over HTTP. Who we are stands in the transport's `auth` and is said as HTTP Basic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Injection {
    /// Ask the server to keep messages in memory until their first attempt has failed.
    pub defer_spool: bool,
    /// Ask the server to make the messages later; it answers before it has looked at the recipients.
    pub defer_generation: bool,
}

/// What all connections of a run that injects share.
pub(crate) struct Injector {
    injection: Injection,
    /// Of each target, in their order.
    endpoints: Vec<Endpoint>,
    bodies: JsonBodies,
    /// The value of the Authorization field.
    authorization: Option<String>,
    /// Where an endpoint wants TLS.
    connector: Option<Connector>,
}

impl Injector {
    /// `None` where the plan is for SMTP; `Err` says why there can be no such run.
    pub(crate) fn new(plan: &Plan, catalogue: &Catalogue) -> Result<Option<Self>, String> {
        let Some(injection) = plan.http else {
            return Ok(None);
        };
        let endpoints = plan.targets.iter().map(|target| Endpoint::parse(&target.name));
        let endpoints: Vec<Endpoint> =
            endpoints.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let transport = &plan.transport;
        if transport.lmtp || transport.tls != Tls::None {
            return Err(
                "LMTP and TLS of SMTP cannot be had over HTTP; leave them out, and name an https:// \
                target where the connection is to be encrypted"
                    .to_owned(),
            );
        }
        let connector = endpoints
            .iter()
            .any(|endpoint| endpoint.tls)
            .then(|| Connector::new(&transport.verify, transport.sni.as_deref()))
            .transpose()
            .map_err(|error| error.to_string())?;
        Ok(Some(Self {
            injection,
            endpoints,
            connector,
            bodies: JsonBodies::new(catalogue).map_err(|error| error.to_string())?,
            authorization: plan.transport.auth.as_ref().map(request::basic),
        }))
    }

    /// Where the connection with that number goes.
    fn endpoint(&self, connection: u64) -> &Endpoint {
        let at = connection % self.endpoints.len() as u64;
        &self.endpoints[usize::try_from(at).unwrap_or(0)]
    }
}
