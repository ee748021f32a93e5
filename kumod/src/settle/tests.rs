//! What must be safe before what: the log, the sender's notification, and only then the end of the message.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use smtp::dsn::Notify;

use super::*;
use crate::config::Dsn;
use crate::envelope::{Envelope, MessageId, RecipientRequests};
use crate::maillog::LogLimits;
use crate::ports::{BoxFuture, Claims, Fenced, Lease, StoreError, Wanted, Withdrawn};

/// A store that remembers what was settled, and can do nothing else.
#[derive(Default)]
struct FakeStore {
    settled: Mutex<Vec<Settled>>,
}

impl FakeStore {
    fn settled(&self) -> Vec<Settled> {
        self.settled.lock().unwrap().clone()
    }
}

impl MailStore for FakeStore {
    fn accept(
        &self,
        _: (MessageId, Bytes),
        _: Vec<Arc<Envelope>>,
    ) -> BoxFuture<'_, Result<Lease, StoreError>> {
        Box::pin(std::future::ready(Err(StoreError::Failed("a fake".to_owned()))))
    }
    fn due_queues(&self, _: UnixMs, _: usize) -> Vec<Arc<str>> {
        Vec::new()
    }
    fn claim_due<'a>(&'a self, _: &'a str, _: usize) -> BoxFuture<'a, Claims> {
        Box::pin(std::future::ready(Claims::default()))
    }
    fn withdraw(&self, _: usize, _: Wanted<'_>) -> BoxFuture<'_, Withdrawn> {
        Box::pin(std::future::ready(Withdrawn::default()))
    }
    fn due(&self) -> usize {
        0
    }
    fn next_due(&self) -> Option<UnixMs> {
        None
    }
    fn due_changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<Lease, Fenced>> {
        Box::pin(std::future::ready(Ok(lease)))
    }
    fn release(&self, _: &Arc<Envelope>, _: Mark, _: Lease, _: UnixMs) {}
    fn rewrite(&self, _: Vec<Arc<Envelope>>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn settle(&self, batch: Vec<Settled>) -> BoxFuture<'_, Result<(), Fenced>> {
        self.settled.lock().unwrap().extend(batch);
        Box::pin(std::future::ready(Ok(())))
    }
    fn read_body(&self, id: MessageId) -> BoxFuture<'_, Result<Bytes, StoreError>> {
        let reason = "a fake".to_owned();
        Box::pin(std::future::ready(Err(StoreError::Body { id, reason })))
    }
    fn durability(&self) -> spool::Durability {
        spool::Durability::Commit
    }
    fn refusal(&self) -> Option<String> {
        None
    }
}

const CREATED: UnixMs = UnixMs(1_700_000_000_000);

fn envelope(sender: &str, notify: Option<Notify>) -> Envelope {
    let asked = |notify| RecipientRequests { notify: Some(notify), orcpt: None };
    let requests = notify.map(|notify| crate::envelope::Requests {
        recipients: vec![asked(notify), asked(notify)],
        ..crate::envelope::Requests::default()
    });
    Envelope {
        id: MessageId([7; 16]),
        body: MessageId([8; 16]),
        body_bytes: 10,
        sender: sender.to_owned(),
        recipients: vec!["b@there.test".to_owned(), "c@there.test".to_owned()],
        queue: "there.test".to_owned(),
        created: CREATED,
        received_from: None,
        eight_bit: false,
        smtputf8: false,
        header_prefix: Bytes::new(),
        meta: serde_json::Map::new(),
        requests: requests.map(Box::new),
        scheduling: None,
    }
}

fn attempt(envelope: Envelope, outcomes: Vec<Outcome>, dsn: Dsn) -> Attempt {
    let config = QueueConfig { dsn, ..QueueConfig::default() };
    Attempt {
        claimed: Claimed { envelope: Arc::new(envelope), mark: Mark::default(), lease: Lease::ENDLESS },
        outcomes,
        queue_config: Arc::new(config),
        hop: Hop::default(),
        at: CREATED.after(Duration::from_secs(1)),
        timings: Timings::default(),
        manner: Manner::Attempt,
    }
}

fn refused() -> Outcome {
    Outcome::Failed(Response::internal(550, (5, 1, 1), "no such user"))
}

fn delivered() -> Outcome {
    Outcome::Delivered(Response::internal(250, (2, 0, 0), "taken"))
}

/// Has one attempt settled; what is asked of the notifier is answered with `answer`. Gives back the request and the settlement.
async fn settle(attempt: Attempt, answer: bool) -> (Option<Request>, Settled) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(FakeStore::default());
    let log = MailLog::open(folder.path(), LogLimits::default()).unwrap();
    let (settle, settling, mut requests) =
        start(Arc::clone(&store) as _, log, Arc::new(Metrics::new())).unwrap();
    settle.submit(attempt).await;
    let finished = tokio::task::spawn_blocking(move || settling.finish());
    let mut request = requests.0.recv().await;
    if let Some(request) = &mut request {
        let lines =
            std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
        assert!(lines.sum::<u64>() > 0, "the log comes first");
        assert!(store.settled().is_empty(), "nothing leaves the store before the sender is told");
        let (unused, _) = oneshot::channel();
        std::mem::replace(&mut request.done, unused).send(answer).unwrap();
    }
    finished.await.unwrap();
    (request, store.settled().remove(0))
}

#[tokio::test]
async fn a_message_goes_when_its_sender_is_told_and_not_before() {
    let (request, settled) =
        settle(attempt(envelope("a@here.test", None), vec![refused()], Dsn::Failure), true).await;
    assert_eq!(request.unwrap().told.len(), 2);
    assert!(matches!(settled.change, Change::Gone { .. }));
}

#[tokio::test]
async fn a_sender_that_cannot_be_told_keeps_the_message_for_those_that_were_given_up() {
    let outcomes = vec![delivered(), refused()];
    let attempt = attempt(envelope("a@here.test", None), outcomes, Dsn::Failure);
    let due = attempt.at.after(NOTIFY_RETRY_DELAY);
    let (request, settled) = settle(attempt, false).await;
    assert_eq!(request.unwrap().told.len(), 1);
    let Change::Again(mark) = settled.change else { panic!("{settled:?}") };
    assert_eq!(mark, Mark { attempts: 1, due, done: vec![true, false] });
}

#[tokio::test]
async fn what_is_told_is_what_was_asked_for() {
    let asked = |success, failure, delay| Some(Notify { success, failure, delay });
    let retry = || Outcome::Retry(Response::internal(450, (4, 2, 1), "later"));
    let (nothing, never) = (None, asked(false, false, false));
    for (sender, notify, outcome, dsn, told) in [
        ("a@here.test", nothing, refused(), Dsn::Requested, false),
        ("a@here.test", nothing, refused(), Dsn::Failure, true),
        ("a@here.test", never, refused(), Dsn::Failure, false),
        ("a@here.test", asked(false, true, false), refused(), Dsn::Requested, true),
        ("a@here.test", asked(false, true, false), refused(), Dsn::Never, false),
        ("a@here.test", asked(true, false, true), refused(), Dsn::Failure, false),
        ("a@here.test", asked(true, false, false), delivered(), Dsn::Requested, true),
        ("a@here.test", asked(false, true, true), delivered(), Dsn::Failure, false),
        // RFC 5321 6.1: whatever was asked for, nobody is not told.
        ("", asked(true, true, true), refused(), Dsn::Failure, false),
        ("", nothing, refused(), Dsn::Failure, false),
        ("a@here.test", nothing, retry(), Dsn::Failure, false),
    ] {
        let what = format!("{sender:?} {notify:?} {outcome:?} {dsn:?}");
        let (request, _) = settle(attempt(envelope(sender, notify), vec![outcome], dsn), true).await;
        assert_eq!(request.is_some(), told, "{what}");
    }
}

#[tokio::test]
async fn an_operator_who_gives_mail_up_tells_only_those_who_asked() {
    let asked = Some(Notify { success: false, failure: true, delay: false });
    for (manner, notify, told) in [
        (Manner::Attempt, None, true),
        (Manner::AdminBounce, None, false),
        (Manner::Unlogged, None, false),
        (Manner::AdminBounce, asked, true),
    ] {
        let mut attempt = attempt(envelope("a@here.test", notify), vec![refused()], Dsn::Failure);
        attempt.manner = manner;
        let (request, _) = settle(attempt, true).await;
        assert_eq!(request.is_some(), told, "{manner:?} {notify:?}");
    }
}

#[tokio::test]
async fn a_server_that_was_asked_tells_of_the_delivery_itself() {
    let notify = Some(Notify { success: true, failure: true, delay: false });
    let mut attempt = attempt(envelope("a@here.test", notify), vec![delivered(), refused()], Dsn::Requested);
    attempt.hop.dsn = true;
    let (request, _) = settle(attempt, true).await;
    let failed: Vec<_> = request.unwrap().told.iter().map(Told::failed).collect();
    assert_eq!(failed, [Some(1)]);
}

/// However the attempts of a message lie in time, exactly one of them is the one after which its sender hears of the delay.
#[test]
fn a_delay_is_told_once() {
    let notify = Some(Notify { success: false, failure: false, delay: true });
    let retry = Outcome::Retry(Response::internal(450, (4, 2, 1), "later"));
    let mut attempt = attempt(envelope("a@here.test", notify), Vec::new(), Dsn::Requested);
    let (mut at, mut told) = (CREATED, Vec::new());
    for nth in 1..8 {
        let next = next_attempt(&attempt.queue_config, nth, CREATED, at, 0).unwrap();
        attempt.at = at;
        told.extend(Told::of(&attempt, 0, &retry, Some(next)).map(|_| nth));
        attempt.claimed.mark = Mark { attempts: nth, due: next, done: Vec::new() };
        // Its turn comes a while after it is due.
        at = next.after(Duration::from_secs(400));
    }
    assert_eq!(told, [4], "20, 40, 80 and 160 minutes: the fourth wait ends after four hours");
}
