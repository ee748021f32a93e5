//! What an operator orders of the queues: suspended mail waits and goes on, bounced mail is given up, and nobody else's is touched.
//!
//! Door, store and queues run inside the test, because nothing outside of the process gives these orders.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kumod::client::Client;
use kumod::clock::UnixMs;
use kumod::config::{Config, OutboundSpec, SmtpListener, SpoolSpec};
use kumod::dns::{Dns, DnsOptions};
use kumod::envelope::{IdSource, NodeId};
use kumod::intake::{Incoming, Intake, Residency};
use kumod::maillog::{LogLimits, MailLog};
use kumod::metrics::Metrics;
use kumod::outbound::{Criteria, Dispatcher, ORDER_DURATION, Outbound, Parts};
use kumod::policy::Policy;
use kumod::ports::{MailStore, Shutdown};
use kumod::pressure::Pressure;
use kumod::queue::LocalPermits;
use kumod::settle::{self, Settling};
use kumod::store::{Allowances, LocalStore};
use serde_json::Value;
use support::scripted::Scripted;
use support::until;

/// Campaign and tenant are the sender's user and domain.
const POLICY: &str = "\
kumo.on('init', function() kumo.start_esmtp_listener { listen = '127.0.0.1:0' } end)
kumo.on('smtp_server_message_received', function(msg)
  msg:set_meta('campaign', msg:sender().user)
  msg:set_meta('tenant', msg:sender().domain)
end)
";

struct House {
    outbound: Arc<Outbound>,
    intake: Arc<Intake>,
    store: Arc<LocalStore>,
    hop: Scripted,
    folder: tempfile::TempDir,
    stop: tokio::sync::watch::Sender<bool>,
    settling: Option<Settling>,
}

impl House {
    fn open(policy: &str) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (hop, path) = (Scripted::good(), folder.path().join("policy.lua"));
        std::fs::write(&path, policy).unwrap();
        let policy = Policy::load(&path, &mut Config::default()).unwrap();
        let spool = SpoolSpec { dir: folder.path().join("spool"), ..SpoolSpec::default() };
        let store = Arc::new(LocalStore::open(&spool, UnixMs::now(), &|_| ()).unwrap().0);
        let log = MailLog::open(&folder.path().join("log"), LogLimits::default()).unwrap();
        let (metrics, (stop, shutdown)) = (Arc::new(Metrics::new()), Shutdown::new());
        let (settle, settling, _) =
            settle::start(Arc::clone(&store) as _, log.clone(), Arc::clone(&metrics)).unwrap();
        let outbound = Outbound::new(Parts {
            store: Arc::clone(&store) as _,
            settle,
            dns: Dns::new(DnsOptions::default()).unwrap(),
            policy: policy.clone(),
            permits: Arc::new(LocalPermits::default()),
            allowances: Allowances::open(folder.path(), UnixMs::now()),
            metrics: Arc::clone(&metrics),
            spec: OutboundSpec {
                relay_to: Some(hop.address.to_string().parse().unwrap()),
                ..OutboundSpec::default()
            },
            hostname: "mx.test".to_owned(),
            inflow_delay_max: Duration::from_millis(1),
            shutdown,
        });
        tokio::spawn(Arc::clone(&outbound).run());
        let intake = Arc::new(Intake {
            store: Arc::clone(&store) as _,
            dispatch: Arc::new(Dispatcher(Arc::clone(&outbound))),
            policy,
            log,
            ids: IdSource::new(NodeId(1), 0),
            metrics,
            pressure: Arc::new(Pressure::new(None)),
            residency: Residency::new(1 << 20, Duration::from_millis(1)),
            queued_messages_max: 1000,
        });
        Self { outbound, intake, store, hop, folder, stop, settling: Some(settling) }
    }

    async fn accept(&self, sender: &str, recipient: &str) {
        let client = Client {
            received_from: "127.0.0.1:4321".parse().unwrap(),
            received_via: "127.0.0.1:25".parse().unwrap(),
            original: None,
            helo: "client.test".to_owned(),
            extended: true,
            user: None,
            tls: None,
            hostname: "mx.test".into(),
            listener: Arc::new(SmtpListener::default()),
        };
        let incoming = Incoming {
            client: Arc::new(client),
            sender: sender.to_owned(),
            recipients: vec![recipient.to_owned()],
            body: Bytes::from_static(b"Subject: ordered\r\n\r\n"),
            eight_bit: false,
            smtputf8: false,
            requests: None,
        };
        Arc::clone(&self.intake).accept(incoming).await.unwrap();
    }

    /// The recipients to whom mail was sent, sorted.
    fn sent(&self) -> Vec<String> {
        let mut recipients: Vec<String> =
            self.hop.accepted().into_iter().flat_map(|arrival| arrival.recipients).collect();
        recipients.sort();
        recipients
    }

    /// Records of one type.
    fn records(&self, kind: &str) -> Vec<Value> {
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        let files = std::fs::read_dir(self.folder.path().join("log")).unwrap();
        let all: String = files.map(|file| text(&file.unwrap().path())).collect();
        let whole = all.rfind('\n').map_or("", |end| &all[..end]);
        let records = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.filter(|record| record["type"] == kind).collect()
    }

    fn waiting(&self) -> usize {
        self.store.due()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        drop(self.settling.take());
    }
}

fn campaign(name: &str) -> Criteria {
    Criteria { campaign: Some(name.to_owned()), ..Criteria::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_campaign_waits_and_goes_on_when_the_order_is_cancelled() {
    let house = House::open(POLICY);
    house.accept("spring@acme.test", "before@there.test").await;
    until("the first", || house.sent() == ["before@there.test"]);
    let id = house.outbound.suspend(campaign("spring"), "complaints", ORDER_DURATION).unwrap();
    for number in 0..3 {
        house.accept("spring@acme.test", &format!("b{number}@there.test")).await;
    }
    house.accept("autumn@acme.test", "other@there.test").await;
    until("the other campaign", || house.sent().len() == 2);
    until("three in the store", || house.waiting() == 3);
    let orders = house.outbound.orders();
    assert_eq!((orders.len(), orders[0].id, orders[0].reason.as_str()), (1, id, "complaints"));
    assert!(house.outbound.cancel(id) && !house.outbound.cancel(id));
    until("everything", || house.sent().len() == 5);
    assert!(house.outbound.orders().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_ends_by_itself() {
    let house = House::open(POLICY);
    house.outbound.suspend(Criteria::default(), "a pause", Duration::from_secs(1)).unwrap();
    house.accept("spring@acme.test", "b@there.test").await;
    until("the end of the order", || house.outbound.orders().is_empty());
    until("the message", || house.sent() == ["b@there.test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_queue_is_suspended_by_its_name() {
    let house = House::open(POLICY);
    let name = format!("unspecified->{}@smtp_client", house.hop.address);
    let id = house.outbound.suspend_ready_queue(&name, "their wish", ORDER_DURATION).unwrap();
    for number in 0..100 {
        house.accept("spring@acme.test", &format!("b{number}@there.test")).await;
    }
    until("all in the store", || house.waiting() == 100);
    assert_eq!(house.hop.connections(), 0);
    house.outbound.cancel(id);
    until("all to arrive", || house.sent().len() == 100);
    assert_eq!(house.waiting(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rebound_mail_goes_by_its_new_queue() {
    let house = House::open(POLICY);
    house.outbound.suspend(campaign("spring"), "a mistake", ORDER_DURATION).unwrap();
    for number in 0..3 {
        house.accept("spring@acme.test", &format!("b{number}@there.test")).await;
    }
    until("all in the store", || house.waiting() == 3);
    let data = serde_json::json!({ "campaign": "autumn" });
    let moved = house.outbound.rebind(campaign("spring"), data.as_object().unwrap(), "theirs", false).await;
    assert_eq!(moved, Ok(3));
    until("their deliveries", || house.records("Delivery").len() == 3);
    for record in house.records("Delivery") {
        assert_eq!(record["queue"], "autumn:acme.test@there.test");
        assert_eq!(record["meta"]["campaign"], "autumn");
    }
    assert_eq!(house.outbound.orders().len(), 1, "only the suspension stands still");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rebound_is_found_in_its_new_queue_after_a_restart() {
    let house = House::open(POLICY);
    house.outbound.suspend(Criteria::default(), "all is still", ORDER_DURATION).unwrap();
    house.accept("spring@acme.test", "b@there.test").await;
    let data = serde_json::json!({ "queue": "elsewhere.test" });
    let data = data.as_object().unwrap();
    assert_eq!(house.outbound.rebind(campaign("winter"), data, "none is meant", false).await, Ok(0));
    assert_eq!(house.outbound.rebind(campaign("spring"), data, "moved", false).await, Ok(1));
    let nonsense = serde_json::json!({ "queue": "a b@@c" });
    let named = Criteria { queue_names: vec!["elsewhere.test".to_owned()], ..Criteria::default() };
    assert_eq!(house.outbound.rebind(named, nonsense.as_object().unwrap(), "no queue", false).await, Ok(0));
    house.store.close().unwrap();
    let spool = SpoolSpec { dir: house.folder.path().join("spool"), ..SpoolSpec::default() };
    let (store, found) = LocalStore::open(&spool, UnixMs::now(), &|_| ()).unwrap();
    assert_eq!(found.messages, 1);
    let queues = store.due_queues(UnixMs::now(), 10);
    assert_eq!(queues.iter().map(|queue| &**queue).collect::<Vec<_>>(), ["elsewhere.test"]);
}

/// A rate that is used up after one message.
const ONE_AN_HOUR: &str = "kumo.on('get_egress_path_config', function() return { max_message_rate = '1/h', prohibited_hosts = {} } end)\n";

#[tokio::test(flavor = "multi_thread")]
async fn bounced_mail_is_given_up_wherever_it_waits_and_as_it_comes() {
    let house = House::open(&[POLICY, ONE_AN_HOUR].concat());
    house.accept("first@acme.test", "first@there.test").await;
    until("the first", || house.sent().len() == 1);
    // Each waits for a permit: in a ready queue, or with a connection that has taken it.
    for number in 0..20 {
        house.accept("spring@acme.test", &format!("b{number}@there.test")).await;
    }
    house.accept("spring@other.test", "kept@there.test").await;
    let acme = Criteria { tenant: Some("acme.test".to_owned()), ..campaign("spring") };
    let id = house.outbound.bounce(acme, "wrong prices", ORDER_DURATION, false).unwrap();
    until("all to be given up", || house.records("AdminBounce").len() == 20);
    house.accept("spring@acme.test", "late@there.test").await;
    until("what comes later, too", || house.records("AdminBounce").len() == 21);
    let record = house.records("AdminBounce").remove(0);
    assert_eq!(record["response"]["code"], 551);
    assert!(record["response"]["content"].as_str().unwrap().contains("wrong prices"), "{record}");
    let order = house.outbound.orders().remove(0);
    assert_eq!(order.bounced.values().sum::<u64>(), 21, "{order:?}");
    assert_eq!(order.bounced["spring:acme.test@there.test"], 21);
    house.outbound.cancel(id);
    assert_eq!((house.sent().len(), house.records("Bounce").len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bounced_silently_leaves_no_record() {
    let house = House::open(POLICY);
    house.outbound.bounce(campaign("spring"), "a test", ORDER_DURATION, true).unwrap();
    house.accept("spring@acme.test", "b@there.test").await;
    until("it to be counted", || house.outbound.orders()[0].bounced.len() == 1);
    house.accept("autumn@acme.test", "other@there.test").await;
    until("the delivery behind it", || house.records("Delivery").len() == 1);
    assert!(house.records("AdminBounce").is_empty());
}
