//! What the service manager is told: systemd, or whoever else starts kumod with `NOTIFY_SOCKET` as sd_notify(3) describes it.
//!
//! Owns the datagram socket and the words. Says how far the start is and asks for more time while it gets on, says once that mail is
//! taken, from then on how things stand, and feeds the watchdog as long as the runtime runs its tasks and the spool can write. Where
//! nobody asked, nothing is sent. A word that cannot be sent is dropped: the start says so once, and kumod runs all the same.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::StartError;

/// A step of the start asks for so much time until its next word. It counts only after the `TimeoutStartSec` of the unit.
const STEP_TIME_MAX: Duration = Duration::from_secs(120);
/// How long one word may wait for a service manager that does not read, before and after kumod is ready.
const SEND_WAIT_MAX: Duration = Duration::from_secs(5);
/// Between two words on how things stand; half the watchdog's time where that is less.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// A watchdog that wants more than this gets less.
const PACE_MIN: Duration = Duration::from_millis(1);

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct ServiceManager {
    way: Option<Way>,
}

#[derive(Debug)]
struct Way {
    socket: UnixDatagram,
    to: SocketAddr,
    /// The watchdog's time, if it watches this process.
    watchdog: Option<Duration>,
}

/// How the node is: what [`ServiceManager::attend`] asks for.
#[derive(Debug)]
pub(super) struct Condition {
    /// False where only a restart can help.
    pub(super) is_sound: bool,
    /// One line for people.
    pub(super) status: String,
}

impl ServiceManager {
    /// The one that started this process, if the environment names one.
    pub(super) fn of_this_process() -> Self {
        Self::named(|name| env::var_os(name), std::process::id())
    }

    fn named(variable: impl Fn(&str) -> Option<OsString>, own_pid: u32) -> Self {
        let Some(name) = variable("NOTIFY_SOCKET") else { return Self::default() };
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        // A process started by the one that is watched has the variables as well, and nobody waits for its word.
        let is_watched = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(own_pid));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| is_watched && *usec > 0);
        match Way::to(&name, watchdog.map(Duration::from_micros)) {
            Ok(way) => Self { way: Some(way) },
            Err(error) => {
                tracing::warn!(?name, %error, "NOTIFY_SOCKET cannot be used; the service manager is told nothing");
                Self::default()
            }
        }
    }

    /// The start has come so far, and will say more within [`STEP_TIME_MAX`].
    pub(super) fn starting(&self, status: &str) {
        let status = line(status);
        self.send(&format!("STATUS={status}\nEXTEND_TIMEOUT_USEC={}", STEP_TIME_MAX.as_micros()));
    }

    /// Mail is taken.
    pub(super) fn ready(&self) {
        self.send("READY=1\nSTATUS=taking mail");
    }

    /// kumod does not start.
    pub(super) fn refused(&self, error: &StartError) {
        self.send(&format!("STATUS={}", line(&error.to_string())));
    }

    /// No new mail is taken, and within `grace` what is under way ends.
    pub(super) fn stopping(&self, grace: Duration) {
        let grace = grace.saturating_add(STEP_TIME_MAX).as_micros();
        self.send(&format!("STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC={grace}"));
    }

    /// Says how things stand, again and again, as long as it is polled; ends at once where nobody asked. Without a word for the
    /// time of the watchdog, which is what a runtime that is stuck or a spool that cannot write looks like, kumod is started anew.
    pub(super) async fn attend(self: Arc<Self>, look: impl Fn() -> Condition) {
        let Some(way) = &self.way else { return };
        let mut ticks = tokio::time::interval(way.pace());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Condition { is_sound, status } = look();
            let food = if is_sound && way.watchdog.is_some() { "WATCHDOG=1\n" } else { "" };
            self.send(&format!("{food}STATUS={}", line(&status)));
        }
    }

    fn send(&self, words: &str) {
        let Some(way) = &self.way else { return };
        if let Err(error) = way.socket.send_to_addr(words.as_bytes(), &way.to) {
            tracing::debug!(%error, words, "the service manager was not told");
        }
    }
}

impl Way {
    fn to(name: &OsString, watchdog: Option<Duration>) -> io::Result<Self> {
        let to = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::other("only paths and names that begin with @ are known")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_WAIT_MAX))?;
        Ok(Self { socket, to, watchdog })
    }

    /// Between two words on how things stand.
    fn pace(&self) -> Duration {
        let half = self.watchdog.map_or(STATUS_INTERVAL, |watchdog| watchdog / 2);
        half.clamp(PACE_MIN, STATUS_INTERVAL)
    }
}

/// A line break would begin another word of the protocol.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A service manager with an abstract socket, and kumod's end of it under these other variables.
    fn pair(name: &str, others: &[(&str, &str)]) -> (UnixDatagram, ServiceManager) {
        let name = format!("kumod-test-{}-{name}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let variable = |wanted: &str| match wanted {
            "NOTIFY_SOCKET" => Some(format!("@{name}").into()),
            wanted => others.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.into()),
        };
        (socket, ServiceManager::named(variable, 77))
    }

    fn told(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 4096];
        let mut words = || socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec());
        std::iter::from_fn(|| words().map(|words| String::from_utf8(words).unwrap())).collect()
    }

    #[test]
    fn a_start_says_how_far_it_is_and_asks_for_time() {
        let (socket, manager) = pair("start", &[]);
        manager.starting("reading the spool:\nhalf");
        manager.ready();
        manager.stopping(Duration::from_secs(30));
        assert_eq!(
            told(&socket),
            [
                "STATUS=reading the spool: half\nEXTEND_TIMEOUT_USEC=120000000",
                "READY=1\nSTATUS=taking mail",
                "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=150000000",
            ]
        );
    }

    #[test]
    fn without_a_socket_that_can_be_used_nothing_is_said() {
        assert!(ServiceManager::named(|_| None, 77).way.is_none());
        for name in ["", "run/notify", "vsock:2:1234"] {
            let variable = |wanted: &str| (wanted == "NOTIFY_SOCKET").then(|| name.into());
            assert!(ServiceManager::named(variable, 77).way.is_none(), "{name:?}");
        }
        let nobody = |wanted: &str| (wanted == "NOTIFY_SOCKET").then(|| "/nobody/listens/here".into());
        ServiceManager::named(nobody, 77).ready();
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let watchdog = |others: &[(&str, &str)], name| pair(name, others).1.way.unwrap().watchdog;
        let time = ("WATCHDOG_USEC", "30000000");
        assert_eq!(watchdog(&[time], "no-pid"), Some(Duration::from_secs(30)));
        assert_eq!(watchdog(&[time, ("WATCHDOG_PID", "77")], "own-pid"), Some(Duration::from_secs(30)));
        assert_eq!(watchdog(&[time, ("WATCHDOG_PID", "78")], "other-pid"), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "0")], "off"), None);
    }

    #[test]
    fn the_watchdog_is_fed_twice_in_its_time_or_more() {
        let pace = |others: &[(&str, &str)], name| pair(name, others).1.way.unwrap().pace();
        assert_eq!(pace(&[], "no-watchdog"), STATUS_INTERVAL);
        assert_eq!(pace(&[("WATCHDOG_USEC", "8000000")], "short"), Duration::from_secs(4));
        assert_eq!(pace(&[("WATCHDOG_USEC", "90000000")], "long"), STATUS_INTERVAL);
        assert_eq!(pace(&[("WATCHDOG_USEC", "1")], "mad"), Duration::from_millis(1));
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_by_a_sound_node_only() {
        for (is_sound, expected) in [(true, "WATCHDOG=1\nSTATUS=well"), (false, "STATUS=well")] {
            let (socket, manager) = pair(expected, &[("WATCHDOG_USEC", "2000")]);
            let socket = tokio::net::UnixDatagram::from_std(socket).unwrap();
            let look = move || Condition { is_sound, status: "well".into() };
            let attending = tokio::spawn(Arc::new(manager).attend(look));
            for _ in 0..3 {
                let mut buffer = [0; 64];
                let length = socket.recv(&mut buffer).await.unwrap();
                assert_eq!(str::from_utf8(&buffer[..length]).unwrap(), expected);
            }
            attending.abort();
        }
    }
}
