//! kumo-proxy in this process, on a free port of loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use kumo_proxy::metrics::Metrics;
use kumo_proxy::options::{Limits, Options};
use kumo_proxy::rules::Rules;
use kumo_proxy::server::{Server, Stopping};
use tokio::sync::watch;

use super::PATIENCE;

/// A proxy that runs until this is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    running: Option<JoinHandle<()>>,
}

/// Lets loopback reach this port of loopback from any of its addresses.
pub(crate) fn options(port: u16) -> Options {
    let rules = Rules {
        clients: vec!["127.0.0.0/8".parse().unwrap()],
        destinations: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        ports: vec![port],
        ..Rules::default()
    };
    let limits = Limits {
        connections_max: 1000,
        connections_per_client_max: 1000,
        handshake: PATIENCE,
        connect: PATIENCE,
        idle: PATIENCE,
        drain: PATIENCE,
    };
    Options {
        listen: vec![([127, 0, 0, 1], 0).into()],
        http_listen: None,
        rules,
        limits,
        splices: true,
        tls: None,
    }
}

impl Proxy {
    pub(crate) fn start(options: Options) -> Self {
        let server = Server::bind(options).unwrap();
        let (address, metrics) = (server.addresses()[0], server.metrics());
        let (stop, stopping) = Stopping::new();
        let running = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(server.run(stopping)).unwrap();
        });
        Self { address, metrics, stop, running: Some(running) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}
