//! Recent mail in memory, for whoever wants to look at it: `GET /messages` and `GET /messages/<id>`.
//!
//! A ring of so many messages as were asked for, within [`BYTES_MAX`]; the oldest goes first. Of a flood only
//! some are remembered each second, so that looking at mail does not cost its speed. Text of a message
//! is what a stranger wrote: it leaves here as JSON strings and as plain text that no browser may take for
//! anything else.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use message::header::find;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::server::Shared;

/// How much of a message is kept, in bytes.
pub(crate) const RAW_BYTES_MAX: usize = 64 << 10;

/// What all remembered messages may take, in bytes.
const BYTES_MAX: usize = 64 << 20;

/// Messages remembered in one second; further ones are counted as skipped.
const PER_SECOND_MAX: u64 = 100;

/// Messages in one answer unless it is asked for more.
const LIMIT_DEFAULT: usize = 50;

/// Messages in one answer.
const LIMIT_MAX: usize = 1000;

/// Characters of a header field in an answer.
const FIELD_CHARACTERS_MAX: usize = 300;

/// Recipients of a message in an answer.
pub(crate) const RECIPIENTS_MAX: usize = 100;

/// The ring.
#[derive(Debug)]
pub(crate) struct Messages {
    count_max: usize,
    ring: Mutex<Ring>,
    /// The second that messages are counted in, and how many it has had, in 32 bits each.
    this_second: AtomicU64,
    skipped: AtomicU64,
}

#[derive(Debug, Default)]
struct Ring {
    messages: VecDeque<Arc<Remembered>>,
    bytes: usize,
    next_id: u64,
}

/// One message as it is remembered.
#[derive(Debug, Serialize)]
pub(crate) struct Remembered {
    pub(crate) id: u64,
    /// When it arrived, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// Its size in bytes.
    pub(crate) bytes: u64,
    pub(crate) from: String,
    /// The first of its recipients.
    pub(crate) to: Vec<String>,
    /// How many there were.
    pub(crate) recipients: usize,
    pub(crate) client: IpAddr,
    pub(crate) helo: String,
    pub(crate) tls: bool,
    pub(crate) connection: u64,
    /// The run and number that the laboratory's header names.
    pub(crate) run: Option<String>,
    pub(crate) seq: Option<u64>,
    /// Whether the body has the promised sum.
    pub(crate) intact: bool,
    #[serde(flatten)]
    pub(crate) header: Summary,
    /// Whether less is kept than arrived.
    pub(crate) cut: bool,
    #[serde(skip)]
    pub(crate) raw: Vec<u8>,
}

/// The fields that tell one message from another.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    subject: Option<String>,
    header_from: Option<String>,
    header_to: Option<String>,
    message_id: Option<String>,
}

impl Summary {
    /// Reads what is there of a message.
    pub(crate) fn of(raw: &[u8]) -> Self {
        let field = |name| find(raw, name).map(|value| value.chars().take(FIELD_CHARACTERS_MAX).collect());
        Self {
            subject: field("Subject"),
            header_from: field("From"),
            header_to: field("To"),
            message_id: field("Message-ID"),
        }
    }
}

impl Messages {
    /// Remembers so many messages, at least one.
    pub(crate) fn new(count_max: usize) -> Self {
        Self {
            count_max: count_max.max(1),
            ring: Mutex::default(),
            this_second: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
        }
    }

    /// Whether a message that begins in that second is to be remembered.
    pub(crate) fn admits(&self, second: u64) -> bool {
        let second = second << 32;
        let state = self.this_second.load(Ordering::Relaxed);
        let count = if state & !0xffff_ffff == second { state & 0xffff_ffff } else { 0 };
        if count >= PER_SECOND_MAX {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        // Two workers at the same moment may count as one; a few more are remembered then.
        self.this_second.store(second | (count + 1), Ordering::Relaxed);
        true
    }

    /// Keeps a message under a number of its own.
    pub(crate) fn keep(&self, mut message: Remembered) {
        let mut ring = self.lock();
        message.id = ring.next_id;
        ring.next_id += 1;
        ring.bytes += message.memory_bytes();
        ring.messages.push_back(Arc::new(message));
        while ring.messages.len() > self.count_max || ring.bytes > BYTES_MAX {
            let Some(oldest) = ring.messages.pop_front() else { break };
            ring.bytes -= oldest.memory_bytes();
        }
    }

    /// Those that fit, the latest first.
    fn recent(&self, query: &MessagesQuery) -> Vec<Arc<Remembered>> {
        let fits = |message: &&Arc<Remembered>| message.fits(query);
        let limit = query.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
        self.lock().messages.iter().rev().filter(fits).take(limit).cloned().collect()
    }

    fn find(&self, id: u64) -> Option<Arc<Remembered>> {
        let ring = self.lock();
        let at = ring.messages.binary_search_by_key(&id, |message| message.id).ok()?;
        ring.messages.get(at).cloned()
    }

    /// A push or pop cannot panic half-way.
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn memory_bytes(&self) -> usize {
        let addresses = self.from.len() + self.to.iter().map(String::len).sum::<usize>();
        size_of::<Self>() + self.raw.capacity() + addresses + 4 * FIELD_CHARACTERS_MAX
    }

    fn fits(&self, query: &MessagesQuery) -> bool {
        let run = query.run.as_ref().is_none_or(|run| self.run.as_ref() == Some(run));
        let to = query.to.as_ref().is_none_or(|part| {
            let part = part.to_lowercase();
            self.to.iter().any(|address| address.to_lowercase().contains(&part))
        });
        run && to
    }
}

/// The time in milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What may follow `/messages?`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessagesQuery {
    limit: Option<usize>,
    /// Only of that run.
    run: Option<String>,
    /// Only with a recipient that has this in it, whatever its case.
    to: Option<String>,
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/messages", get(list)).route("/messages/{id}", get(raw))
}

async fn list(State(shared): State<Arc<Shared>>, Query(query): Query<MessagesQuery>) -> Response {
    let Some(messages) = shared.messages() else {
        return Json(json!({ "remembers": 0, "skipped": 0, "messages": [] })).into_response();
    };
    let skipped = messages.skipped.load(Ordering::Relaxed);
    let recent = messages.recent(&query);
    let recent: Vec<&Remembered> = recent.iter().map(AsRef::as_ref).collect();
    Json(json!({ "remembers": messages.count_max, "skipped": skipped, "messages": recent })).into_response()
}

async fn raw(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    let found = id.parse().ok().and_then(|id| shared.messages()?.find(id));
    let Some(message) = found else {
        let error =
            format!("there is no message {id:?}, or newer ones have taken its place; --remember keeps more");
        return (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox; frame-ancestors 'none'"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let sizes = [("x-sink-bytes", message.bytes.to_string()), ("x-sink-cut", message.cut.to_string())];
    (headers, sizes, message.raw.clone()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(to: &str, raw: Vec<u8>) -> Remembered {
        Remembered {
            id: 0,
            at_ms: 0,
            bytes: raw.len() as u64,
            from: String::new(),
            to: vec![to.to_owned()],
            recipients: 1,
            client: IpAddr::from([127, 0, 0, 1]),
            helo: String::new(),
            tls: false,
            connection: 1,
            run: None,
            seq: None,
            intact: true,
            header: Summary::of(&raw),
            cut: false,
            raw,
        }
    }

    #[test]
    fn the_oldest_makes_room_by_number_and_by_size() {
        let messages = Messages::new(3);
        (0..10).for_each(|_| messages.keep(remembered("a@b", Vec::new())));
        let ids = |messages: &Messages| -> Vec<u64> {
            messages.recent(&MessagesQuery::default()).iter().map(|message| message.id).collect()
        };
        assert_eq!(ids(&messages), [9, 8, 7]);
        assert!(messages.find(6).is_none() && messages.find(7).is_some_and(|message| message.id == 7));
        let messages = Messages::new(1_000_000);
        let large = BYTES_MAX / 4;
        (0..10).for_each(|_| messages.keep(remembered("a@b", vec![0; large])));
        assert_eq!(ids(&messages), [9, 8, 7]);
    }

    #[test]
    fn of_a_flood_so_many_a_second_are_remembered() {
        let messages = Messages::new(10);
        assert_eq!((0..1000).filter(|_| messages.admits(5)).count() as u64, PER_SECOND_MAX);
        assert!(messages.admits(6));
        assert_eq!(messages.skipped.load(Ordering::Relaxed), 1000 - PER_SECOND_MAX);
    }

    #[test]
    fn recipients_are_found_by_a_part_of_them() {
        let messages = Messages::new(10);
        ["Ann@Example.org", "bob@example.org"]
            .iter()
            .for_each(|to| messages.keep(remembered(to, Vec::new())));
        let found = |to: &str| {
            messages.recent(&MessagesQuery { to: Some(to.to_owned()), ..MessagesQuery::default() }).len()
        };
        assert_eq!([found("ann@"), found("EXAMPLE"), found("carol")], [1, 2, 0]);
    }

    #[test]
    fn a_summary_is_short_whatever_was_sent() {
        let raw = format!("Subject: {}\r\nFrom: a\r\n\r\nTo: not a header\r\n", "x".repeat(100_000));
        let summary = Summary::of(raw.as_bytes());
        assert_eq!(summary.subject.map(|subject| subject.len()), Some(FIELD_CHARACTERS_MAX));
        assert_eq!((summary.header_from.as_deref(), summary.header_to), (Some("a"), None));
    }
}
