//! What a policy asks of DNS: from a handler, which waits for the answer on its own thread.
//!
//! The thread is lent to others meanwhile where the runtime can do that. A question has the time limit of DNS, and the time for it counts
//! for the handler's. Before the process serves there is nobody to ask, which is an error that says so.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::mpsc::sync_channel;

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::config::DnsSpec;
use crate::dns::{Dns, DnsError, DnsOptions};

/// The resolvers that a policy can ask.
#[derive(Clone, Debug)]
pub struct Lookups {
    default: Dns,
    named: BTreeMap<String, Dns>,
    runtime: Handle,
}

impl Lookups {
    /// With the resolver of next hops for what names no other.
    ///
    /// # Errors
    /// One of the others cannot be set up.
    pub fn new(default: Dns, spec: &DnsSpec, runtime: Handle) -> Result<Self, DnsError> {
        let one =
            |(name, resolver): (&String, _)| Ok((name.clone(), Dns::new(DnsOptions::of(spec, resolver))?));
        let named = spec.named.iter().map(one).collect::<Result<_, DnsError>>()?;
        Ok(Self { default, named, runtime })
    }

    /// The resolver of this name, or the one for all else.
    ///
    /// # Errors
    /// There is none of this name; the names that there are.
    pub(super) fn resolver(&self, name: Option<&str>) -> Result<Dns, String> {
        let Some(name) = name else { return Ok(self.default.clone()) };
        self.named.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.named.keys().map(String::as_str).collect();
            format!(
                "there is no resolver '{name}'; kumo.dns.define_resolver has defined: {}",
                known.join(", ")
            )
        })
    }

    /// Waits for an answer on this thread.
    ///
    /// # Errors
    /// The process is stopping.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        asking: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, String> {
        let (answer, answered) = sync_channel(1);
        self.runtime.spawn(async move {
            // Who asked is waiting, unless the process is ending.
            let _ = answer.send(asking.await);
        });
        let wait = || answered.recv().map_err(|_| "kumod is stopping".to_owned());
        let lends_thread =
            Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
        if lends_thread { tokio::task::block_in_place(wait) } else { wait() }
    }
}
