//! The page in a real browser, where one is installed: no complaint on its console, no request to anywhere, and a legend,
//! a filter and a picture that work.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(dead_code, reason = "each test uses its part of the fixture")]

mod fixture;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use reports::results::Results;
use serde_json::{Value, json};

/// Messages of the browser that are read while waiting for an answer, at most.
const MESSAGES_MAX: usize = 20_000;

/// A browser that is spoken to over two pipes with its own protocol: a JSON text and a zero byte.
struct Browser {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    next_id: u64,
    session: Option<String>,
    events: Vec<Value>,
}

impl Browser {
    fn start(profile: &Path) -> Option<Self> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let program = names.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok())?;
        // The protocol is on descriptors 3 and 4, which a shell can join to the standard ones.
        let command = "exec \"$0\" \"$@\" 3<&0 4>&1 1>&2";
        let mut process = Command::new("sh")
            .args([
                "-c",
                command,
                program,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--remote-debugging-pipe",
            ])
            .args(["--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .args(["--window-size=1200,1000", "about:blank"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let (input, output) = (process.stdin.take()?, BufReader::new(process.stdout.take()?));
        Some(Self { process, input, output, next_id: 0, session: None, events: Vec::new() })
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.next_id += 1;
        let mut message = json!({"id": self.next_id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        for _ in 0..MESSAGES_MAX {
            let answer = self.read();
            if answer["id"] == json!(self.next_id) {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
        panic!("{method} was not answered");
    }

    fn read(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.output.read_until(0, &mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(0), "the browser has gone");
        serde_json::from_slice(&bytes).unwrap()
    }

    fn wait_for(&mut self, method: &str) {
        for _ in 0..MESSAGES_MAX {
            if self.events.iter().any(|event| event["method"] == method) {
                return;
            }
            let event = self.read();
            self.events.push(event);
        }
        panic!("{method} did not come");
    }

    fn open(&mut self, page: &Path) {
        let target = self.call("Target.createTarget", &json!({"url": "about:blank"}))["targetId"].clone();
        let attached = self.call("Target.attachToTarget", &json!({"targetId": target, "flatten": true}));
        self.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), &json!({}));
        }
        self.events.clear();
        self.call("Page.navigate", &json!({"url": format!("file://{}", page.display())}));
        self.wait_for("Page.loadEventFired");
    }

    fn evaluate(&mut self, script: &str) -> Value {
        let parameters = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", &parameters);
        assert!(answer["exceptionDetails"].is_null(), "{script}: {answer}");
        answer["result"]["value"].clone()
    }

    /// What the console said, and every address asked for beyond the page itself.
    fn complaints(&self, page: &Path) -> Vec<String> {
        let own = format!("file://{}", page.display());
        let loud = ["Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"];
        let is_foreign = |event: &&Value| {
            let url = event["params"]["request"]["url"].as_str().unwrap_or_default();
            event["method"] == "Network.requestWillBeSent"
                && url != own
                && !url.starts_with("data:")
                && !url.starts_with("blob:")
        };
        let is_loud = |event: &&Value| loud.iter().any(|method| event["method"] == *method);
        self.events.iter().filter(|event| is_loud(event) || is_foreign(event)).map(Value::to_string).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its whole group of processes ends with the first one; failure means that it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Checks that hold for every page: charts that are drawn, a legend that hides, a filter, a picture.
fn check(browser: &mut Browser, page: &Path, charts: u64, row: &str) {
    browser.open(page);
    assert_eq!(browser.evaluate("document.querySelectorAll('figure svg').length"), json!(charts));
    let drawn = "[...document.querySelectorAll('figure svg')].filter(s => s.getBoundingClientRect().height > 50).length";
    assert_eq!(browser.evaluate(drawn), json!(charts));
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), json!(true));

    let visible = "[...document.querySelectorAll('tr[data-k]')].filter(r => r.offsetParent).length";
    let all = browser.evaluate(visible).as_u64().unwrap();
    let toggle = "document.querySelector('.legend input[type=checkbox]').click()";
    browser.evaluate(toggle);
    let left = browser.evaluate(visible).as_u64().unwrap();
    assert!(0 < left && left < all, "{left} of {all} rows are left without the first of the legend");
    browser.evaluate(toggle);
    assert_eq!(browser.evaluate(visible), json!(all));
    let typed = format!(
        "(() => {{ const f = document.getElementById('filter'); f.value = '{row}'; f.dispatchEvent(new Event('input')); }})()"
    );
    browser.evaluate(&typed);
    let left = browser.evaluate(visible).as_u64().unwrap();
    assert!(0 < left && left < all, "{left} of {all} rows have {row} in their name");

    let over = "(() => { const s = document.querySelector('figure svg'), b = s.getBoundingClientRect(); \
        s.dispatchEvent(new PointerEvent('pointermove', {clientX: b.x + b.width / 2, clientY: b.y + b.height / 2, bubbles: true})); \
        const r = document.getElementById('readout'); return r.hidden ? '' : r.textContent; })()";
    assert_ne!(browser.evaluate(over), json!(""), "the read-out says something");
    let picture = "(async () => { let size = 0; const make = URL.createObjectURL; URL.createObjectURL = b => { size = b.size; return make(b); }; \
        HTMLAnchorElement.prototype.click = () => {}; document.querySelector('.save').click(); \
        for (let i = 0; i < 200 && !size; i++) await new Promise(r => requestAnimationFrame(r)); return size; })()";
    assert!(browser.evaluate(picture).as_u64().unwrap() > 5_000, "the picture is not empty");
    assert_eq!(browser.complaints(page), Vec::<String>::new());
}

#[test]
fn pages_work_in_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut browser) = Browser::start(&folder.path().join("profile")) else {
        eprintln!("skipped: no chromium is installed");
        return;
    };
    let record = fixture::record(folder.path());
    let page = folder.path().join("one.html");
    std::fs::write(&page, reports::render::page(&record, folder.path())).unwrap();
    check(&mut browser, &page, 17, "floor-10k");

    let results = folder.path().join("results");
    for record in fixture::tiers(&results) {
        record.write(&results.join(&record.run_id).join("run.json")).unwrap();
    }
    let text = reports::render::page_of(&Results::gather(&[&results]).entries);
    let page = folder.path().join("tiers.html");
    std::fs::write(&page, &text).unwrap();
    browser.session = None;
    let charts = text.matches("<svg ").count() as u64;
    check(&mut browser, &page, charts, "8 cpus");
}
