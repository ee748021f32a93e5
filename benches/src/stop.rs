//! The wish to stop: Ctrl-C and SIGTERM, seen by every loop that waits.
//!
//! It owns the one thread that listens for signals. It ends nothing itself: whoever waits is told, and takes down what it
//! started. Where signals cannot be listened for, the laboratory does not start.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{During, Error, Result};

/// A flag that can be waited on. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    wanted: Mutex<bool>,
    told: Condvar,
}

impl Stop {
    /// A flag that SIGINT and SIGTERM set from now on.
    ///
    /// # Errors
    /// [`Error::Host`] when no thread or no signal handler can be had.
    pub fn on_signals() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let stop = Self::default();
        let setter = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.during(|| "prepare for signals".into())?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            let interrupt = signal(SignalKind::interrupt()).during(|| "listen for SIGINT".into())?;
            (interrupt, signal(SignalKind::terminate()).during(|| "listen for SIGTERM".into())?)
        };
        let listen = move || {
            runtime.block_on(async {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            });
            setter.request();
        };
        let thread = std::thread::Builder::new().name("signals".into()).spawn(listen);
        thread.during(|| "start the signal thread".into())?;
        Ok(stop)
    }

    /// Sets the flag and wakes all who pause.
    pub fn request(&self) {
        *self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.told.notify_all();
    }

    /// Fails once the flag is set.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn check(&self) -> Result<()> {
        self.pause(Duration::ZERO)
    }

    /// Waits for `pause`, or less when the flag is set.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when the flag is set.
    pub fn pause(&self, pause: Duration) -> Result<()> {
        let wanted = self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.told.wait_timeout_while(wanted, pause, |wanted| !*wanted);
        let (wanted, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *wanted { Err(Error::Interrupted) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_every_pause() {
        let stop = Stop::default();
        assert!(stop.check().is_ok());
        stop.clone().request();
        assert!(matches!(stop.pause(Duration::from_secs(3600)), Err(Error::Interrupted)));
    }
}
