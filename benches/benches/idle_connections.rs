//! What a client costs that is connected and silent: resident memory of kumod for each connection.
//!
//! It owns the limit ([`KIBIBYTES_MAX`]) and fails when it is missed. It starts kumod as its users do, opens the connections over loopback, and
//! looks at the process from outside: after EHLO, and again after every client has sent a message, because a buffer that is
//! kept after use costs as much as one that was taken too early. Without `--bench`, which cargo says when it is to measure, it does nothing.

#![expect(clippy::print_stdout, reason = "a command-line tool answers on standard output")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use benches::arguments;
use benches::client::Client;
use benches::error::{During, Error, Result};
use benches::figures;
use benches::processes::{Launch, Process, Programs};
use benches::scratch::Scratch;
use benches::stop::Stop;
use benches::writers::plan::asked_to_measure;
use clap::Parser;
use reports::machine::Machine;
use reports::software::Software;

/// Memory for one connection; above it the bench fails.
const KIBIBYTES_MAX: f64 = 12.0;
/// Connections that come and go before anything is measured, so that what the first ones cost once is not counted.
const WARM_UP: u32 = 200;
/// Bytes of the body that each client sends.
const BODY_BYTES: usize = 4 << 10;
/// To whom each client sends; the policy throws it away.
const RECIPIENT: &[&str] = &["b@there.test"];
/// Open files beside the connections.
const FILES_RESERVED: usize = 64;
/// Bytes of disk for kumod's spool and log.
const NEEDED_BYTES: u64 = 1 << 30;

/// Mail is thrown away once it is accepted, and silence is allowed for as long as the bench takes.
const POLICY: &str = "local kumo = require 'kumo'
kumo.on('init', function()
  kumo.start_http_listener { listen = '127.0.0.1:0' }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', client_timeout = '1 hour' }
end)
kumo.on('smtp_server_message_received', function(msg) msg:set_meta('queue', 'null') end)
";

const EXAMPLES: &str = "Examples:
  ./scripts/bench idle_connections                     15,000 connections
  ./scripts/bench idle_connections --connections 1000

Exit codes: 0 the limit is kept, 1 failed, 2 usage, 99 it is missed.";

/// Measures the memory of connections that are silent.
#[derive(Debug, Parser)]
#[command(name = "idle_connections", version, after_help = EXAMPLES)]
struct Arguments {
    /// Connections at once.
    #[arg(long, value_name = "N", default_value = "15_000", value_parser = number)]
    connections: u32,

    /// Write the figures to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Said by cargo bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn number(text: &str) -> std::result::Result<u32, String> {
    let digits: String = text.chars().filter(|c| !matches!(c, ',' | '_')).collect();
    let number = digits.parse().ok().filter(|number| (100..=25_000).contains(number));
    number
        .ok_or_else(|| format!("{text}: 100 to 25,000 are expected; one address has no more ports to offer"))
}

fn main() -> ExitCode {
    if !asked_to_measure(std::env::args()) {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse();
    // Cargo runs benches in their package; paths are meant from where the script runs, the checkout. Elsewhere they stay as they are.
    let _ = std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(99),
        Err(error) => {
            eprintln!("idle_connections: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// True when the limit holds.
fn run(arguments: &Arguments) -> Result<bool> {
    let connections = arguments.connections;
    let files = traffic_gen::file_limit_raise();
    if files < connections as usize + FILES_RESERVED {
        return Err(Error::Operator(format!(
            "{connections} connections do not fit under a limit of {files} open files; raise it (ulimit -Hn) or ask for fewer"
        )));
    }
    let scratch =
        Scratch::make(Path::new(env!("CARGO_TARGET_TMPDIR")), "idle", NEEDED_BYTES, "CARGO_TARGET_DIR")?;
    let mut kumod = start(scratch.path())?;
    let figures = Figures::measure(&mut kumod, connections)?;
    kumod.stop()?;
    let command = format!("./scripts/bench idle_connections --connections {connections}");
    let machine = Machine::probe(scratch.path());
    let profile = Some(if cfg!(debug_assertions) { "dev" } else { "release" }.into());
    let software = Software { profile, ..Software::probe(Path::new(".")) };
    let heading = figures::heading("Memory of silent connections", &machine, &software, &command);
    println!("{heading}");
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&figures).during(|| "write JSON".into())?;
        std::fs::write(path, text + "\n").during(|| format!("write {}", path.display()))?;
    }
    Ok(figures.tell())
}

fn start(folder: &Path) -> Result<Process> {
    let bench = std::env::current_exe().during(|| "find this executable".into())?;
    // Cargo puts benches into a folder below the one with the programs.
    let beside = bench.parent().and_then(Path::parent).map_or_else(PathBuf::new, Path::to_path_buf);
    let policy = folder.join("policy.lua");
    std::fs::write(&policy, POLICY).during(|| format!("write {}", policy.display()))?;
    let launch = Launch {
        name: "kumod",
        before: Vec::new(),
        program: Programs::in_folder(&beside, &bench).find("kumod")?,
        arguments: arguments![
            "--policy",
            policy,
            "--spool",
            folder.join("spool"),
            "--log-dir",
            folder.join("log"),
        ],
        environment: &[],
        log_folder: folder.to_owned(),
    };
    Process::start_server(&launch, &Stop::on_signals()?)
}

/// What was measured.
#[derive(Debug, serde::Serialize)]
struct Figures {
    connections: u32,
    /// Resident bytes before the first of them.
    empty_bytes: u64,
    after_ehlo_kib_each: f64,
    after_a_message_kib_each: f64,
}

impl Figures {
    fn measure(kumod: &mut Process, connections: u32) -> Result<Self> {
        let address = kumod.smtp()?;
        let mut early = greeted(address, WARM_UP)?;
        early.iter_mut().try_for_each(send)?;
        drop(early);
        let empty_bytes = kumod.sample().rss_bytes;
        let each = |bytes: u64| bytes.saturating_sub(empty_bytes) as f64 / 1024.0 / f64::from(connections);
        let mut clients = greeted(address, connections)?;
        let after_ehlo = kumod.sample().rss_bytes;
        clients.iter_mut().try_for_each(send)?;
        let after_a_message = kumod.sample().rss_bytes;
        Ok(Self {
            connections,
            empty_bytes,
            after_ehlo_kib_each: each(after_ehlo),
            after_a_message_kib_each: each(after_a_message),
        })
    }

    fn tell(&self) -> bool {
        println!(
            "{} connections, {:.1} MiB without them",
            self.connections,
            self.empty_bytes as f64 / f64::from(1 << 20)
        );
        let mut holds = true;
        for (when, figure) in
            [("after EHLO", self.after_ehlo_kib_each), ("after a message", self.after_a_message_kib_each)]
        {
            let kept = figure <= KIBIBYTES_MAX;
            holds &= kept;
            let verdict = if kept { "kept" } else { "MISSED" };
            println!("KiB for each, silent {when:<16} {figure:>8.2}  limit <= {KIBIBYTES_MAX}  {verdict}");
        }
        holds
    }
}

fn greeted(address: SocketAddr, connections: u32) -> Result<Vec<Client>> {
    (0..connections).map(|_| Client::greeted(address)).collect()
}

fn send(client: &mut Client) -> Result<()> {
    client.send(RECIPIENT, BODY_BYTES)
}
