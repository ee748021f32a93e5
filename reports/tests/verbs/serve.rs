//! `reports serve`: a page on loopback, for this host only.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use super::*;

/// Ends the server when the test does.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(address: &str, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_folder_is_served_on_loopback_and_to_this_host_only() {
    let folder = tempfile::tempdir().unwrap();
    for record in fixture::tiers(folder.path()) {
        record.write(&folder.path().join(&record.run_id).join("run.json")).unwrap();
    }
    let hostile = folder.path().join("hostile");
    fs::create_dir(&hostile).unwrap();
    hostile_results(&hostile);
    fs::create_dir(folder.path().join("broken")).unwrap();
    fs::write(folder.path().join("broken/run.json"), "{\"schema_version\": 1, <script>").unwrap();
    let mut process = reports()
        .arg("serve")
        .arg(folder.path())
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _server = Server(process);
    let address = line.trim().trim_start_matches("http://").trim_end_matches('/').to_owned();

    let list = get(&address, "/", &address);
    assert!(list.starts_with("HTTP/1.1 200"), "{list}");
    assert_eq!(list.matches("<a href=\"/run/").count(), 12);
    assert!(list.contains("broken/run.json: field") && !list.contains("<script>"), "{list}");
    let id = "20261122T020000Z-tiers-c2";
    assert!(get(&address, &format!("/run/{id}"), "localhost").contains("<h1>kumod delivered"));
    assert!(get(&address, "/all", "localhost").contains("6 tiers"), "one of them twice, on another machine");
    let record = get(&address, &format!("/run/{id}/run.json"), "localhost");
    let json = record.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(Record::parse(json, Path::new("served")).unwrap().run_id, id);
    for path in ["/run/..%2F..%2Fetc%2Fpasswd", "/run/nothing", "/run/broken", "/etc/passwd"] {
        assert!(get(&address, path, "localhost").starts_with("HTTP/1.1 404"), "{path}");
    }
    assert!(get(&address, "/", "evil.example").starts_with("HTTP/1.1 403"));
}
