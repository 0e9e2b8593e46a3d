//! A headless Chromium, controlled by the DevTools protocol over a pipe: JSON messages that end with a zero byte.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};

/// Names of the browser, in the order in which they are tried.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const TIMEOUT: Duration = Duration::from_secs(30);

/// A browser with one page.
pub struct Browser {
    child: Child,
    messages: Receiver<Value>,
    events: VecDeque<Value>,
    session: Option<String>,
    last: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser with an empty page; returns `None` with a message if there is none.
    pub fn start() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).flat_map(|dir| NAMES.map(|name| dir.join(name))).find(|p| p.is_file());
        let Some(program) = found else {
            eprintln!("SKIPPED: no Chromium on this machine (Debian: apt-get install chromium)");
            return None;
        };
        let profile = tempfile::tempdir().expect("a profile");
        // The protocol uses file descriptors 3 and 4; a shell redirects our pipes there.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null"]).arg(program).args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
            "--remote-debugging-pipe",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("Chromium starts");
        let mut out = child.stdout.take().expect("its pipe");
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let (mut bytes, mut buffer) = (Vec::new(), [0; 1 << 16]);
            while let Ok(n @ 1..) = out.read(&mut buffer) {
                bytes.extend_from_slice(&buffer[..n]);
                while let Some(end) = bytes.iter().position(|b| *b == 0) {
                    let message: Vec<u8> = bytes.drain(..=end).collect();
                    if let Ok(message) = serde_json::from_slice(&message[..end])
                        && sender.send(message).is_err()
                    {
                        return;
                    }
                }
            }
        });
        let mut browser = Self { child, messages, events: VecDeque::new(), session: None, last: 0, _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        browser.session = browser.call("Target.attachToTarget", target)["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Calls a method of the protocol and returns its result.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let pipe = self.child.stdin.as_mut().expect("its pipe");
        pipe.write_all(format!("{message}\0").as_bytes()).expect("Chromium listens");
        let start = Instant::now();
        loop {
            let left = TIMEOUT.saturating_sub(start.elapsed());
            let mut answer = self.messages.recv_timeout(left).unwrap_or_else(|e| panic!("{method}: {e}"));
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.events.push_back(answer);
        }
    }

    /// Opens an address in a window of this size and returns all events until the page is loaded.
    pub fn open(&mut self, address: &str, width: u32, height: u32) -> Vec<Value> {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700});
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        self.events.clear();
        self.call("Page.navigate", json!({"url": address}));
        let start = Instant::now();
        while !self.events.iter().any(|e| e["method"] == "Page.loadEventFired") {
            let left = TIMEOUT.saturating_sub(start.elapsed());
            let event = self.messages.recv_timeout(left).unwrap_or_else(|e| panic!("{address} does not load: {e}"));
            self.events.push_back(event);
        }
        self.events.drain(..).collect()
    }

    /// Returns the value of a JavaScript expression on the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let mut answer = self
            .call("Runtime.evaluate", json!({"expression": expression, "returnByValue": true, "awaitPromise": true}));
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Writes the whole page to a PNG file.
    pub fn screenshot(&mut self, path: &Path) {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true}));
        let png = base64::engine::general_purpose::STANDARD.decode(answer["data"].as_str().expect("a picture"));
        std::fs::write(path, png.expect("base64")).expect("a writable folder");
    }

    /// Returns the events since the page was loaded.
    pub fn events(&mut self) -> Vec<Value> {
        self.call("Runtime.evaluate", json!({"expression": "0"}));
        self.events.drain(..).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
