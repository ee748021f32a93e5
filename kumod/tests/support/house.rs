//! Door, store and queues inside the test, for what has to be set up in a way that no policy and no flag can: name servers, ports, trust.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kumod::client::Client;
use kumod::clock::UnixMs;
use kumod::config::{Config, OutboundSpec, SmtpListener, SpoolSpec};
use kumod::dns::{Dns, DnsOptions};
use kumod::envelope::{IdSource, NodeId, Requests};
use kumod::intake::{Incoming, Intake, Residency};
use kumod::maillog::{LogLimits, MailLog};
use kumod::metrics::Metrics;
use kumod::outbound::{Dispatcher, Outbound, Parts};
use kumod::policy::Policy;
use kumod::ports::Shutdown;
use kumod::pressure::Pressure;
use kumod::queue::LocalPermits;
use kumod::settle::{self, Settling};
use kumod::store::{Allowances, LocalStore};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::eventually;
use super::home::Home;

pub(crate) struct House {
    pub(crate) home: Home,
    pub(crate) metrics: Arc<Metrics>,
    intake: Arc<Intake>,
    stop: tokio::sync::watch::Sender<bool>,
    settling: Option<Settling>,
    runtime: Runtime,
}

impl House {
    pub(crate) fn open(policy: &str, dns: DnsOptions, spec: OutboundSpec) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let entered = runtime.enter();
        let home = Home::new();
        let policy = Policy::load(&home.policy(policy), &mut Config::default()).unwrap();
        let place = SpoolSpec { dir: home.spool().to_owned(), ..SpoolSpec::default() };
        let store = Arc::new(LocalStore::open(&place, UnixMs::now(), &|_| ()).unwrap().0);
        let log = MailLog::open(&home.log_dir(), LogLimits::default()).unwrap();
        let (metrics, (stop, shutdown)) = (Arc::new(Metrics::new()), Shutdown::new());
        let (settle, settling, _) =
            settle::start(Arc::clone(&store) as _, log.clone(), Arc::clone(&metrics)).unwrap();
        let outbound = Outbound::new(Parts {
            store: Arc::clone(&store) as _,
            settle,
            dns: Dns::new(dns).unwrap(),
            policy: policy.clone(),
            permits: Arc::new(LocalPermits::default()),
            allowances: Allowances::open(home.path(), UnixMs::now()),
            metrics: Arc::clone(&metrics),
            spec,
            hostname: "mx.test".to_owned(),
            inflow_delay_max: Duration::from_millis(1),
            shutdown,
        });
        tokio::spawn(Arc::clone(&outbound).run());
        let intake = Arc::new(Intake {
            store: Arc::clone(&store) as _,
            dispatch: Arc::new(Dispatcher(outbound)),
            policy,
            log,
            ids: IdSource::new(NodeId(1), 0),
            metrics: Arc::clone(&metrics),
            pressure: Arc::new(Pressure::new(None)),
            residency: Residency::new(1 << 20, Duration::from_millis(1)),
            queued_messages_max: 1000,
        });
        drop(entered);
        Self { home, metrics, intake, stop, settling: Some(settling), runtime }
    }

    pub(crate) fn send(&self, recipient: &str) {
        self.send_asking(recipient, None);
    }

    pub(crate) fn send_asking(&self, recipient: &str, requests: Option<Requests>) {
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
            sender: "sender@client.test".to_owned(),
            recipients: vec![recipient.to_owned()],
            body: Bytes::from_static(b"Subject: 1\r\n\r\nhello\r\n"),
            eight_bit: false,
            smtputf8: false,
            requests: requests.map(Box::new),
        };
        self.runtime.block_on(Arc::clone(&self.intake).accept(incoming)).unwrap();
    }

    /// What the first attempt came to, as `TYPE CODE CLASS.SUBJECT.DETAIL CONTENT`, the enhanced code where there is one.
    pub(crate) fn first_attempt(&self, recipient: &str) -> String {
        let is_attempt = |record: &Value| {
            ["Delivery", "TransientFailure", "Bounce"].iter().any(|kind| record["type"] == *kind)
        };
        let record = eventually(&format!("a record of {recipient}"), || {
            let mut records = self.home.records().into_iter();
            records.find(|record| record["recipient"] == recipient && is_attempt(record))
        });
        let (kind, response) = (record["type"].as_str().unwrap(), &record["response"]);
        let enhanced = response["enhanced_code"].as_object().map_or(String::new(), |code| {
            format!("{}.{}.{} ", code["class"], code["subject"], code["detail"])
        });
        format!("{kind} {} {enhanced}{}", response["code"], response["content"].as_str().unwrap())
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        drop(self.settling.take());
    }
}
