//! Postfix, Exim and OpenSMTPD by SMTP, and Dovecot by LMTP, take mail of every kind from kumod, word for word, and refuse whom they do not
//! know.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::jail::{Jail, can_jail, free_address, package};
use crate::support::client::Client;
use crate::support::home::Home;
use crate::support::policy::RETRY_SOON;
use crate::support::{trust, until};

/// The mailboxes; whoever else is written to is not known.
const USERS: [&str; 3] = ["alice", "bob", "j\u{fc}rgen"];

/// The recipients of a domain share a message, so that it has several on the wire.
const BATCHES: &str = "\
local kumo = require 'kumo'
kumo.on('init', function()
  kumo.start_http_listener { listen = '127.0.0.1:0' }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', hostname = 'mx.test', batch_handling = 'BatchByDomain' }
end)
";

/// A server with a mailbox for each of [`USERS`] at `there.test`.
struct Server {
    jail: Jail,
    address: SocketAddr,
}

impl Server {
    /// Mails of a user, without what the server wrote above the subject.
    fn mails(&self, user: &str) -> Vec<Vec<u8>> {
        let folder = self.jail.path().join("mail").join(user).join("new");
        let files = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        let read = |path: std::path::PathBuf| fs::read(path).unwrap_or_default();
        files
            .map(read)
            .filter_map(|mail| {
                let start = mail.windows(8).position(|window| window == b"Subject:")?;
                Some(mail[start..].to_vec())
            })
            .collect()
    }
}

/// A certificate for `next.test` in the folder, and a place for mail that any user may write to.
fn prepare(folder: &Path) {
    let pair = trust::Pair::new("next.test");
    fs::write(folder.join("certificate.pem"), pair.certificate()).unwrap();
    fs::write(folder.join("key.pem"), pair.key()).unwrap();
    fs::create_dir(folder.join("mail")).unwrap();
}

fn postfix() -> Result<Server, String> {
    can_jail()?;
    if !Path::new("/usr/sbin/postfix").exists() {
        return Err("Postfix is not installed".to_owned());
    }
    let (folder, address) = (Jail::folder(), free_address());
    prepare(folder.path());
    fs::create_dir(folder.path().join("etc")).unwrap();
    let main = "compatibility_level = 3.6
queue_directory = /srv/queue
data_directory = /srv/data
myhostname = next.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
virtual_mailbox_domains = there.test
virtual_mailbox_base = /srv/mail
virtual_mailbox_maps = texthash:/srv/users
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_mailbox_limit = 0
message_size_limit = 10000000
smtpd_recipient_restrictions = reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_chain_files = /srv/key.pem, /srv/certificate.pem
smtputf8_enable = yes
local_header_rewrite_clients =
maillog_file = /srv/maillog
maillog_file_prefixes = /srv
";
    fs::write(folder.path().join("etc/main.cf"), main).unwrap();
    let users = USERS.map(|user| format!("{user}@there.test {user}/\n")).concat();
    fs::write(folder.path().join("users"), users).unwrap();
    let services = format!(
        "127.0.0.3:{} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 5 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
",
        address.port()
    );
    fs::write(folder.path().join("etc/master.cf"), services).unwrap();
    let command = "chmod 755 /srv; chmod 777 /srv/mail; mkdir /srv/queue /srv/data; chown postfix /srv/data
exec postfix -c /srv/etc start-fg";
    let jail = Jail::start(folder, None, "", command).answers(address);
    Ok(Server { jail, address })
}

fn exim() -> Result<Server, String> {
    let package = package("exim4-daemon-light")?;
    let (folder, address) = (Jail::folder(), free_address());
    prepare(folder.path());
    let config = format!(
        "primary_hostname = next.test
domainlist here = there.test
local_interfaces = <; [127.0.0.3]:{}
spool_directory = /srv/spool
log_file_path = /srv/%slog
tls_advertise_hosts = *
tls_certificate = /srv/certificate.pem
tls_privatekey = /srv/key.pem
smtputf8_advertise_hosts = *
chunking_advertise_hosts = *
message_size_limit = 10M
acl_smtp_rcpt = check
acl_smtp_data = accept
never_users =
begin acl
check:
  accept domains = +here
         local_parts = {}
  deny message = 5.1.1 no such user
begin routers
mailboxes:
  driver = accept
  domains = +here
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = /srv/mail/${{lookup{{$local_part}}lsearch{{/srv/users}}}}
  maildir_format
  user = Debian-exim
begin retry
* * F,1h,1m
",
        address.port(),
        USERS.join(" : ")
    );
    fs::write(folder.path().join("exim.conf"), config).unwrap();
    let users = USERS.map(|user| format!("{user}: {user}\n")).concat();
    fs::write(folder.path().join("users"), users).unwrap();
    let command = "chmod 755 /srv; chmod 777 /srv/mail; chmod 644 /srv/*.pem /srv/users /srv/exim.conf
mkdir /srv/spool; chown Debian-exim:Debian-exim /srv /srv/spool; chown root:root /srv/exim.conf
exec exim4 -C /srv/exim.conf -bdf -q1h";
    let jail = Jail::start(folder, Some(&package), "Debian-exim", command).answers(address);
    Ok(Server { jail, address })
}

fn opensmtpd() -> Result<Server, String> {
    let package = package("opensmtpd")?;
    let (folder, address) = (Jail::folder(), free_address());
    prepare(folder.path());
    let config = format!(
        "pki next.test cert \"/srv/certificate.pem\"
pki next.test key \"/srv/key.pem\"
smtp max-message-size \"10M\"
table known {{ \"alice@there.test\", \"bob@there.test\" }}
table users {{ \"alice\" = \"mailbox\", \"bob\" = \"mailbox\" }}
listen on 127.0.0.3 port {} tls pki next.test hostname next.test
action \"keep\" maildir \"/srv/mail/%{{rcpt.user}}\" virtual <users>
match from any for domain \"there.test\" rcpt-to <known> action \"keep\"
",
        address.port()
    );
    fs::write(folder.path().join("smtpd.conf"), config).unwrap();
    let command =
        "chmod 755 /srv; chmod 777 /srv/mail; chmod 600 /srv/*.pem; mkdir -p /var/lib/opensmtpd/empty
sed -i 's,^\\(mailbox:.*\\):/nonexistent:,\\1:/srv/mail:,' /etc/passwd
exec smtpd -d -f /srv/smtpd.conf";
    let users = "opensmtpd opensmtpq mailbox";
    let jail = Jail::start(folder, Some(&package), users, command).answers(address);
    Ok(Server { jail, address })
}

fn dovecot() -> Result<Server, String> {
    let package = package("dovecot-lmtpd")?;
    let (folder, address) = (Jail::folder(), free_address());
    prepare(folder.path());
    let config = format!(
        "protocols = lmtp
base_dir = /run/dovecot
log_path = /dev/stderr
ssl = no
hostname = next.test
postmaster_address = postmaster@next.test
mail_location = maildir:/srv/mail/%n
passdb {{
  driver = passwd-file
  args = /srv/users
}}
userdb {{
  driver = passwd-file
  args = /srv/users
}}
service lmtp {{
  inet_listener lmtp {{
    address = {}
    port = {}
  }}
}}
",
        address.ip(),
        address.port()
    );
    fs::write(folder.path().join("dovecot.conf"), config).unwrap();
    // The third of the users that the jail makes owns the mailboxes.
    let users = USERS.map(|user| format!("{user}@there.test::64003:64003::/srv/mail/{user}\n")).concat();
    fs::write(folder.path().join("users"), users).unwrap();
    let command = "chmod 755 /srv; chmod 777 /srv/mail; chmod 644 /srv/users
exec dovecot -F -c /srv/dovecot.conf";
    let jail = Jail::start(folder, Some(&package), "dovecot dovenull mailbox", command).answers(address);
    Ok(Server { jail, address })
}

/// All mail goes to the server.
fn policy(address: SocketAddr, path: &str) -> String {
    format!(
        "{BATCHES}{RETRY_SOON}
kumo.on('get_egress_path_config', function()
  return kumo.make_egress_path {{ prohibited_hosts = {{}}, {path} }}
end)
kumo.on('smtp_server_message_received', function(msg)
  msg:set_meta('routing_domain', '[{}]:{}')
end)
",
        address.ip(),
        address.port()
    )
}

/// A mail, and what MAIL says of it beyond the sender.
struct Mail {
    what: &'static str,
    parameters: &'static str,
    recipients: &'static [&'static str],
    message: Vec<u8>,
}

fn mails() -> Vec<Mail> {
    let large = |line: &[u8]| [b"Subject: large\r\n\r\n", &line.repeat(40_000)[..]].concat();
    let mail = |what, parameters, recipients, message: &[u8]| Mail {
        what,
        parameters,
        recipients,
        message: message.to_vec(),
    };
    vec![
        mail("plain", "", &["alice"], b"Subject: plain\r\n\r\nhello\r\n"),
        mail("8-bit", " BODY=8BITMIME", &["alice"], "Subject: 8-bit\r\n\r\nGr\u{fc}\u{df}e\r\n".as_bytes()),
        mail("dots", "", &["alice"], b"Subject: dots\r\n\r\n.\r\n..\r\n.one\r\n\r\n.\r\nend\r\n"),
        mail("large", "", &["alice"], &large(&[&[b'x'; 74][..], b"\r\n"].concat())),
        mail("several", "", &["alice", "bob"], b"Subject: several\r\n\r\nhello both\r\n"),
        mail("stranger", "", &["alice", "stranger", "bob"], b"Subject: one too many\r\n\r\nhello\r\n"),
    ]
}

/// Hands a mail to kumod.
fn send(client: &mut Client, mail: &Mail) {
    let mut bytes = format!("MAIL FROM:<sender@client.test>{}\r\n", mail.parameters).into_bytes();
    for user in mail.recipients {
        bytes.extend_from_slice(format!("RCPT TO:<{user}@there.test>\r\n").as_bytes());
    }
    bytes.extend_from_slice(format!("BDAT {} LAST\r\n", mail.message.len()).as_bytes());
    bytes.extend_from_slice(&mail.message);
    client.write(&bytes);
    for _ in 0..mail.recipients.len() + 2 {
        assert_eq!(client.code(), 250, "{}", mail.what);
    }
}

/// What a maildir holds of a message.
fn as_file(message: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(message).replace("\r\n", "\n").into_bytes()
}

/// Everything arrives once and unchanged, and each refusal is a bounce.
fn takes_all(make: fn() -> Result<Server, String>, name: &str, offers_utf8: bool) {
    for enable_tls in ["Disabled", "RequiredInsecure"] {
        match make() {
            Ok(server) if enable_tls == "Disabled" || shakes_hands(server.address) => {
                takes_all_over(&server, name, offers_utf8, &format!("enable_tls = '{enable_tls}'"));
            }
            // Of Debian 12 OpenSMTPD is one: its process without the key cannot sign with OpenSSL 3.
            Ok(_) => eprintln!("skipped: {name} with TLS: openssl s_client gets no handshake out of it"),
            Err(reason) => return eprintln!("skipped: {name}: {reason}"),
        }
    }
}

/// Whether somebody other than kumod can speak TLS with the server.
fn shakes_hands(address: SocketAddr) -> bool {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-starttls", "smtp", "-verify_quiet", "-connect", &address.to_string()]);
    client.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}

fn takes_all_over(server: &Server, name: &str, offers_utf8: bool, path: &str) {
    let home = Home::new();
    let kumod = home.start_policy(&policy(server.address, path));
    let mut client = Client::greeted(kumod.smtp());
    let mut all = mails();
    let utf8 = Mail {
        what: "utf-8",
        parameters: " BODY=8BITMIME SMTPUTF8",
        recipients: &["j\u{fc}rgen"],
        message: "Subject: Gr\u{fc}\u{df}e\r\n\r\nf\u{fc}r J\u{fc}rgen\r\n".into(),
    };
    send(&mut client, &utf8);
    for mail in &all {
        send(&mut client, mail);
    }
    kumod.drained();
    let bounce = |recipient: &str| home.record("Bounce", recipient)["response"].clone();
    let stranger = bounce("stranger@there.test");
    assert_eq!(stranger["code"], 550, "{name}: {stranger}");
    if offers_utf8 {
        all.push(utf8);
    } else {
        let response = bounce("j\u{fc}rgen@there.test");
        assert_eq!(
            (&response["code"], &response["enhanced_code"]["subject"]),
            (&554.into(), &6.into()),
            "{name}"
        );
    }
    for user in USERS {
        let mut wanted: Vec<Vec<u8>> = all
            .iter()
            .filter(|mail| mail.recipients.contains(&user))
            .map(|mail| as_file(&mail.message))
            .collect();
        wanted.sort();
        // Delivery to the mailbox is the server's own affair, some time after its 250.
        until(&format!("mail of {user} at {name}: {}", server.jail.said()), || {
            server.mails(user).len() >= wanted.len()
        });
        let mut mails = server.mails(user);
        mails.sort();
        assert!(mails == wanted, "{name} has other mail of {user}: {:?}", shortened(&mails));
    }
    let records = home.records();
    let deliveries: Vec<_> = records.iter().filter(|record| record["type"] == "Delivery").collect();
    let wants_tls = path.contains("Required");
    let is_right = |record: &&Value| {
        let by_tls = record["tls_protocol_version"].is_string() && record["tls_cipher"].is_string();
        record["peer_address"]["addr"] == "127.0.0.3" && by_tls == wants_tls
    };
    assert!(deliveries.len() >= 8 && deliveries.iter().all(is_right), "{name}: {deliveries:?}");
    let handshakes = deliveries.iter().filter(|record| record.get("tls_ms").is_some()).count();
    assert_eq!(handshakes > 0, wants_tls, "{name}");
    kumod.stop();
}

fn shortened(mails: &[Vec<u8>]) -> Vec<String> {
    mails.iter().map(|mail| String::from_utf8_lossy(&mail[..mail.len().min(200)]).into_owned()).collect()
}

#[test]
fn postfix_takes_mail_of_every_kind() {
    takes_all(postfix, "Postfix", true);
}

#[test]
fn exim_takes_mail_of_every_kind() {
    takes_all(exim, "Exim", true);
}

#[test]
fn dovecot_takes_mail_of_every_kind_by_lmtp() {
    match dovecot() {
        Ok(server) => takes_all_over(&server, "Dovecot", false, "use_lmtp = true, enable_tls = 'Disabled'"),
        Err(reason) => eprintln!("skipped: Dovecot: {reason}"),
    }
}

#[test]
fn opensmtpd_takes_mail_of_every_kind() {
    takes_all(opensmtpd, "OpenSMTPD", false);
}
