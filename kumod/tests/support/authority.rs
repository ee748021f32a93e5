//! A name server on loopback with zones of the test's own: what is in them it answers with authority, over UDP and TCP on one port.
//!
//! It keeps count of what it was asked, and for names of the test's choice it fails or says nothing. It ends with its owner.
//! Names outside its zones are refused, so that a test that asks for one fails at once.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::Server;
use hickory_server::dnssec::NxProofKind;
use hickory_server::net::runtime::{Time, TokioRuntimeProvider};
use hickory_server::proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::{Name, RecordType};
use hickory_server::proto::serialize::txt::Parser;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, MessageResponseBuilder, ZoneType};
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// A connection over TCP on which nothing is asked for so long is closed.
const TCP_IDLE: Duration = Duration::from_secs(30);
/// Answers on one connection that wait to be written.
const TCP_ANSWERS_MAX: usize = 16;
/// A port that is free for TCP may be taken for UDP, so more than one is tried.
const PORTS_TRIED_MAX: usize = 16;

/// What the server does with questions for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// SERVFAIL.
    Fails,
    /// Nothing at all.
    Silent,
}

/// A running name server.
pub(crate) struct Authority {
    address: SocketAddr,
    desk: Arc<Desk>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Authority {
    /// Serves zones, each an origin and a text in the form of a zone file (RFC 1035 5) without `$ORIGIN` and SOA, which are put
    /// before it, with a TTL of 300 s where a record has none.
    pub(crate) fn start(zones: &[(&str, &str)]) -> Self {
        let mut catalog = Catalog::new();
        for (origin, records) in zones {
            let zone = zone(origin, records);
            catalog.upsert(zone.0.into(), vec![Arc::new(zone.1)]);
        }
        Self::serve(catalog)
    }

    /// Serves a catalog that the test put together, with signed zones for instance.
    pub(crate) fn serve(catalog: Catalog) -> Self {
        let desk = Arc::new(Desk { catalog, asked: Mutex::default(), moods: Mutex::default() });
        let (bound, address) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let counter = Arc::clone(&desk);
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (udp, tcp) = sockets().await.unwrap();
                bound.send(udp.local_addr().unwrap()).unwrap();
                let mut server = Server::new(Clerk(counter));
                server.register_socket(udp);
                server.register_listener(tcp, TCP_IDLE, TCP_ANSWERS_MAX);
                // The owner is gone when the sender is.
                let _ = stopped.await;
            });
        });
        let address = address.recv().unwrap();
        Self { address, desk, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it answers, over UDP and TCP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on questions for a name are treated so, whatever is in the zones.
    pub(crate) fn set_mood(&self, name: &str, mood: Option<Mood>) {
        let mut moods = self.desk.moods.lock().unwrap_or_else(PoisonError::into_inner);
        match mood {
            Some(mood) => moods.insert(key(name), mood),
            None => moods.remove(&key(name)),
        };
    }

    /// How often it was asked for records of this kind and name.
    pub(crate) fn asked(&self, name: &str, kind: RecordType) -> usize {
        let asked = self.desk.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(&(key(name), kind)).copied().unwrap_or(0)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A zone from its text; see [`Authority::start`].
pub(crate) fn zone(origin: &str, records: &str) -> (Name, InMemoryZoneHandler<TokioRuntimeProvider>) {
    zone_proving(origin, records, None)
}

/// The same, for a zone that is to be signed: how it is to prove that something is not there.
pub(crate) fn zone_proving(
    origin: &str,
    records: &str,
    proof: Option<NxProofKind>,
) -> (Name, InMemoryZoneHandler<TokioRuntimeProvider>) {
    let name = Name::from_str(origin).unwrap();
    let head = "$TTL 300\n@ IN SOA ns.invalid. postmaster.invalid. 1 60 60 60 60\n@ IN NS ns.invalid.\n";
    let (name, records) = Parser::new([head, records].concat(), None, Some(name)).parse().unwrap();
    let zone = InMemoryZoneHandler::new(name.clone(), records, ZoneType::Primary, AxfrPolicy::Deny, proof);
    let zone = zone.unwrap();
    (name, zone)
}

/// One port for both ways of asking.
async fn sockets() -> io::Result<(UdpSocket, TcpListener)> {
    for _ in 1..PORTS_TRIED_MAX {
        let tcp = TcpListener::bind("127.0.0.1:0").await?;
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr()?).await {
            return Ok((udp, tcp));
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// What the server and its owner both look at.
struct Desk {
    catalog: Catalog,
    asked: Mutex<HashMap<(String, RecordType), usize>>,
    moods: Mutex<HashMap<String, Mood>>,
}

/// Who takes the questions.
struct Clerk(Arc<Desk>);

impl Clerk {
    fn note(&self, request: &Request) -> Option<Mood> {
        let query = request.request_info().ok()?.query;
        let name = key(&query.name().to_string());
        let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *asked.entry((name.clone(), query.query_type())).or_default() += 1;
        self.0.moods.lock().unwrap_or_else(PoisonError::into_inner).get(&name).copied()
    }
}

#[async_trait]
impl RequestHandler for Clerk {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let mood = self.note(request);
        let Some(mood) = mood else {
            return self.0.catalog.handle_request::<R, T>(request, response_handle).await;
        };
        if mood == Mood::Fails {
            let answer = MessageResponseBuilder::from_message_request(request)
                .error_msg(&request.metadata, ResponseCode::ServFail);
            response_handle.send_response(answer).await.unwrap();
        }
        let metadata = Metadata::response_from_request(&request.metadata);
        Header { metadata, counts: HeaderCounts::default() }.into()
    }
}
