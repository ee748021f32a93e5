//! Into a real Postfix, with its files in a folder of its own and `discard` for every delivery: its log has each message.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use traffic_gen::{ContentPlan, Plan, Report, Target, Tls, Verify, run};

use crate::program::{Program, certificate, find, free_address, output, root, said, until};

/// Where Debian keeps the servers behind the commands.
const DAEMONS: &str = "/usr/lib/postfix/sbin";
const MESSAGES: u64 = 100;

struct Postfix {
    address: SocketAddr,
    /// Where TLS comes before the banner, if it is configured.
    smtps: SocketAddr,
    log: PathBuf,
    // The order matters: Postfix ends before its files go.
    _program: Program,
    _folder: TempDir,
}

impl Postfix {
    /// `None` where it is not installed, or may not be started.
    fn start(settings: &str) -> Option<Self> {
        let postfix = find("postfix")?;
        let master = Path::new(DAEMONS).join("master");
        if !master.is_file() {
            eprintln!("skipped: {} is missing, where Debian's postfix has it", master.display());
            return None;
        }
        if !root("Postfix changes to users of its own") {
            return None;
        }
        let folder = TempDir::new().unwrap();
        let (address, smtps) = (free_address(), free_address());
        write_configuration(folder.path(), [address, smtps], settings);
        let configuration = folder.path().join("configuration");
        let check = output(Command::new(postfix).arg("-c").arg(&configuration).arg("check"));
        assert!(check.status.success(), "{}", said(&check));
        // In the foreground, so that its number is known.
        let mut command = Command::new(master);
        command.arg("-c").arg(&configuration).arg("-d").env("MAIL_CONFIG", &configuration);
        let program = Program::start(&mut command).listens(address);
        Some(Self { address, smtps, log: folder.path().join("log"), _program: program, _folder: folder })
    }

    /// What `discard` has taken by now: queue id and recipient of each.
    fn discarded(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains("status=sent")).map(str::to_owned).collect()
    }

    /// Connections that TLS was begun on.
    fn handshakes(&self) -> usize {
        fs::read_to_string(&self.log).unwrap().matches("TLS connection established from").count()
    }

    /// The message ids that came by.
    fn message_ids(&self) -> BTreeSet<String> {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines().filter_map(|line| Some(line.split_once("message-id=<")?.1.to_owned())).collect()
    }

    fn load(&self, change: impl FnOnce(&mut Plan)) -> Report {
        let mut plan = Plan::messages(self.address, MESSAGES);
        plan.concurrency = 4;
        change(&mut plan);
        run(plan)
    }
}

fn write_configuration(folder: &Path, [address, smtps]: [SocketAddr; 2], settings: &str) {
    let path = |name: &str| folder.join(name).display().to_string();
    for name in ["configuration", "queue", "data"] {
        fs::create_dir(path(name)).unwrap();
    }
    // Its servers run under its own name, and have to get here.
    crate::program::open_to_all(folder);
    let user = "postfix";
    let owned = output(Command::new("chown").arg(user).arg(path("data")));
    assert!(owned.status.success(), "{}", said(&owned));
    // Its patience with clients that err, and its pauses for them, are not what is looked at.
    let main = format!(
        "compatibility_level = 3.6\n\
        queue_directory = {}\n\
        data_directory = {}\n\
        maillog_file = {}\n\
        maillog_file_prefixes = {}\n\
        command_directory = /usr/sbin\n\
        daemon_directory = {DAEMONS}\n\
        mail_owner = {user}\n\
        setgid_group = postdrop\n\
        myhostname = localhost\n\
        mydestination =\n\
        local_recipient_maps =\n\
        alias_maps =\n\
        alias_database =\n\
        inet_interfaces = 127.0.0.1\n\
        inet_protocols = ipv4\n\
        mynetworks = 127.0.0.0/8\n\
        smtpd_relay_restrictions = permit_mynetworks, reject\n\
        smtpd_peername_lookup = no\n\
        smtpd_hard_error_limit = 1000\n\
        smtpd_soft_error_limit = 1000\n\
        default_transport = discard:\n\
        relay_transport = discard:\n\
        local_transport = discard:\n\
        {settings}\n",
        path("queue"),
        path("data"),
        path("log"),
        folder.display(),
    );
    fs::write(folder.join("configuration/main.cf"), main).unwrap();
    let master = format!(
        "{address} inet n - n - - smtpd\n\
        {smtps} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n\
        cleanup unix n - n - 0 cleanup\n\
        qmgr unix n - n 300 1 qmgr\n\
        tlsmgr unix - - n 1000? 1 tlsmgr\n\
        rewrite unix - - n - - trivial-rewrite\n\
        bounce unix - - n - 0 bounce\n\
        defer unix - - n - 0 bounce\n\
        discard unix - - n - - discard\n\
        anvil unix - - n - 1 anvil\n\
        postlog unix-dgram n - n - 1 postlogd\n"
    );
    fs::write(folder.join("configuration/master.cf"), master).unwrap();
}

fn assert_sent(report: &Report) {
    assert_eq!((report.sent, report.failed, report.unknown), (MESSAGES, 0, 0), "{:?}", report.errors);
    assert_eq!(report.exit_code(), 0);
}

#[test]
fn every_message_passes_its_queue_in_every_way_to_send_it() {
    let Some(postfix) = Postfix::start("") else { return };
    let ways = [(true, true), (true, false), (false, true), (false, false)];
    for (pipelining, chunking) in ways {
        let report = postfix.load(|plan| {
            (plan.transport.pipelining, plan.transport.chunking) = (pipelining, chunking);
            plan.content = ContentPlan::fixed(3_000);
        });
        assert_sent(&report);
    }
    let total = ways.len() * usize::try_from(MESSAGES).unwrap();
    let discarded = until("every message is discarded", || {
        Some(postfix.discarded()).filter(|discarded| discarded.len() >= total)
    });
    assert_eq!((discarded.len(), postfix.message_ids().len()), (total, total));
}

#[test]
fn each_recipient_is_one_delivery() {
    let Some(postfix) = Postfix::start("") else { return };
    let report = postfix.load(|plan| {
        (plan.recipients.per_message.min, plan.recipients.per_message.max) = (1, 5);
        plan.recipients.spread = true;
    });
    assert_sent(&report);
    let promised = usize::try_from(report.recipients_accepted).unwrap();
    let discarded = until("every recipient is served", || {
        Some(postfix.discarded()).filter(|discarded| discarded.len() >= promised)
    });
    assert!(promised > usize::try_from(MESSAGES).unwrap());
    assert_eq!(discarded.len(), promised);
}

#[test]
fn what_it_will_not_take_is_not_sent() {
    // It announces its limit, so nothing is put on the wire; what it refuses at RCPT it refuses for good.
    let Some(postfix) = Postfix::start("message_size_limit = 20000") else { return };
    let report = postfix.load(|plan| plan.content = ContentPlan::fixed(50_000));
    assert_eq!((report.sent, report.exit_code()), (0, 1));
    assert!(report.errors.keys().any(|error| error.contains("20000 bytes")), "{:?}", report.errors);

    let Some(postfix) = Postfix::start("smtpd_recipient_restrictions = reject") else { return };
    let report = postfix.load(|_| {});
    assert_eq!((report.sent, report.failed), (0, MESSAGES), "{:?}", report.errors);
    assert_eq!(report.reply_codes.keys().copied().collect::<Vec<_>>(), [554]);
    assert_eq!(postfix.discarded().len(), 0);
}

#[test]
fn through_tls_begun_either_way_and_only_with_a_certificate_that_is_trusted() {
    let folder = TempDir::new().unwrap();
    let other = TempDir::new().unwrap();
    let (Some((own, key)), Some((strange, _))) = (certificate(folder.path()), certificate(other.path()))
    else {
        return;
    };
    let settings = format!(
        "smtpd_tls_security_level = encrypt\n\
        smtpd_tls_cert_file = {own}\n\
        smtpd_tls_key_file = {key}\n\
        smtpd_tls_loglevel = 1"
    );
    let Some(postfix) = Postfix::start(&settings) else { return };
    let (own, strange) = (fs::read_to_string(own).unwrap(), fs::read_to_string(strange).unwrap());
    let ways = [
        (Tls::StartTls, Verify::Nothing),
        (Tls::StartTls, Verify::Ca(own.clone())),
        (Tls::Implicit, Verify::Ca(own)),
    ];
    for (round, (tls, verify)) in (1..).zip(ways) {
        let report = postfix.load(|plan| {
            if tls == Tls::Implicit {
                plan.targets = vec![Target::from(postfix.smtps)];
            }
            (plan.transport.tls, plan.transport.verify) = (tls, verify);
        });
        assert_sent(&report);
        assert!(report.phases_us["tls"].max > 0.0, "{:?}", report.phases_us);
        until("every handshake is in the log", || (postfix.handshakes() == 4 * round).then_some(()));
    }
    let report = postfix.load(|plan| {
        (plan.transport.tls, plan.transport.verify) = (Tls::StartTls, Verify::Ca(strange));
    });
    assert_eq!((report.sent, report.exit_code()), (0, 1));
    assert!(report.errors.keys().any(|error| error.contains("certificate")), "{:?}", report.errors);
    // It insists on TLS, too. Behind a refused BDAT it closes the connection, so the body comes by DATA.
    let report = postfix.load(|plan| plan.transport.chunking = false);
    assert_eq!((report.sent, report.failed), (0, MESSAGES), "{:?}", report.errors);
    assert_eq!(report.reply_codes.keys().copied().collect::<Vec<_>>(), [530]);
}

#[test]
fn without_tls_on_offer_nothing_is_sent() {
    let Some(postfix) = Postfix::start("smtpd_tls_security_level = none") else { return };
    let report = postfix.load(|plan| plan.transport.tls = Tls::StartTls);
    assert_eq!((report.sent, report.failed, report.exit_code()), (0, 0, 1));
    assert!(
        report.errors.keys().any(|error| error.contains("does not offer STARTTLS")),
        "{:?}",
        report.errors
    );
    assert_eq!(postfix.message_ids().len(), 0);
}
