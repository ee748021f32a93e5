//! A host that has run out of something: disk or descriptors.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;

use crate::support::client::Client;
use crate::support::home::Home;
use crate::support::scripted::Scripted;
use crate::support::{policy, sink, until};

/// The spare segments, the floor under which intake stops, and some more.
const IMAGE_BYTES: u64 = 1200 << 20;
const FILES_MAX: u32 = 64;
const CLIENTS: usize = 200;

/// A small file system of its own, in a file.
struct Image {
    mounted: PathBuf,
}

impl Image {
    /// Says why, where the host does not let us.
    fn mount(home: &Home) -> Result<Self, String> {
        let (file, mounted) = (home.path().join("image"), home.path().join("disk"));
        fs::create_dir(&mounted).unwrap();
        fs::File::create(&file).and_then(|file| file.set_len(IMAGE_BYTES)).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", text(&file)])?;
        run("mount", &["-o", "loop", text(&file), text(&mounted)])?;
        Ok(Self { mounted })
    }

    /// Fills the disk until so many bytes are free.
    fn fill(&self, free_bytes: u64) -> PathBuf {
        let ballast = self.mounted.join("ballast");
        let file = fs::File::create(&ballast).unwrap();
        let piece = vec![1; 1 << 20];
        let mut at = 0;
        while rustix::fs::statvfs(&self.mounted).map(|stat| stat.f_bavail * stat.f_frsize).unwrap()
            > free_bytes
        {
            file.write_all_at(&piece, at).unwrap();
            at += piece.len() as u64;
        }
        ballast
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // The kernel lets go of a ring's files a moment after its process has ended; `--lazy` leaves that to the kernel.
        if let Err(error) = run("umount", &["--lazy", text(&self.mounted)]) {
            eprintln!("{error}");
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

#[test]
fn a_full_disk_stops_intake_and_nothing_else() {
    let folder = Home::new();
    let image = match Image::mount(&folder) {
        Ok(image) => image,
        Err(reason) => {
            return eprintln!("skipped, because there is no loop-mounted file system to be had: {reason}");
        }
    };
    let (home, address) = (Home::with_spool(&image.mounted.join("spool")), "127.0.0.3:0");
    let address = std::net::TcpListener::bind(address).unwrap().local_addr().unwrap();
    let kumod = home.start_policy(&policy::hops(&[("later.test", address)]));
    let mut open = Client::greeted(kumod.smtp());
    let message = [&b"Subject: disk\r\n\r\n"[..], &b"a line of mail\r\n".repeat(6000)].concat();
    for _ in 0..20 {
        assert!(open.send(&["b@later.test"], &message).starts_with("250 "));
    }

    let ballast = image.fill(100 << 20);
    until("kumod to notice", || kumod.get("/api/check-liveness/v1").0 == 503);
    assert!(
        open.send(&["b@later.test"], &message).starts_with("452 4.3.1"),
        "an open connection is told to wait"
    );
    assert!(Client::connect(kumod.smtp()).reply().starts_with("421 4.3.2"), "a new one is not let in");
    // Deliveries go on, and their marks and deletes find room.
    let sink =
        sink::Server::start(sink::Config { listen: address, ..sink::Config::on_free_ports() }).unwrap();
    kumod.drained();
    assert_eq!(sink.stats().accepted, 20);

    fs::remove_file(ballast).unwrap();
    until("kumod to recover", || kumod.get("/api/check-liveness/v1").0 == 200);
    assert!(Client::greeted(kumod.smtp()).send(&["b@later.test"], &message).starts_with("250 "));
    kumod.drained();
    assert_eq!(sink.stats().accepted, 21);
    kumod.stop();
}

#[test]
fn more_clients_than_descriptors_are_served_one_after_the_other() {
    let (home, sink) = (Home::new(), sink());
    let kumod = home.start_with_files(FILES_MAX, &policy::hops(&[("there.test", sink.smtp_addr)]));
    let (address, all_connected) = (kumod.smtp(), Barrier::new(CLIENTS));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                all_connected.wait();
                assert_eq!(client.code(), 220);
                assert!(client.send(&["b@there.test"], b"Subject: patience\r\n\r\n").starts_with("250 "));
                client.quit();
            });
        }
    });
    assert_eq!(kumod.metric_of("total_messages_received", "esmtp_listener"), CLIENTS as u64);
    kumod.drained();
    assert_eq!(sink.stats().accepted, CLIENTS as u64);
    kumod.stop();
}

/// The clients keep all descriptors and say nothing; once they go, it is as if nothing had been.
#[test]
fn idle_clients_that_hold_every_descriptor_lose_no_mail() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let kumod = home.start_with_files(FILES_MAX, &policy::hops(&[("there.test", next_hop.address)]));
    let mut first = Client::greeted(kumod.smtp());
    let idle: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(kumod.smtp())).collect();
    assert!(first.send(&["b@there.test"], b"Subject: squeezed\r\n\r\n").starts_with("250 "));
    drop(idle);
    next_hop.wait_for(1);
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["b@there.test"], b"Subject: free\r\n\r\n").starts_with("250 "));
    next_hop.wait_for(2);
    kumod.drained();
    kumod.stop();
}
