//! A real Prometheus, and queries to it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use simsiam_tests::{text, wait_until};

/// Returns whether the program is on PATH; prints a message if not.
pub fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !there {
        eprintln!("SKIPPED: no {program} on this machine (Debian: apt-get install prometheus)");
    }
    there
}

/// Runs promtool and returns whether it succeeded, with its output.
pub fn promtool(arguments: &[&str], folder: &Path) -> (bool, String) {
    let output = Command::new("promtool").args(arguments).current_dir(folder).output().expect("promtool");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64()
}

/// Returns an address with a free port.
pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").to_string()
}

/// One GET, by hand.
pub fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

/// One series of a result: its labels, and its finite values by time.
#[derive(Debug, Clone)]
pub struct Series {
    /// The labels.
    pub labels: Value,
    /// Time and value.
    pub points: Vec<(f64, f64)>,
}

/// A server that ends with the test.
pub struct Prometheus {
    child: Child,
    address: String,
}

impl Prometheus {
    /// Starts one with this configuration, its files in `folder`.
    pub fn start(folder: &Path, config: &str) -> Self {
        let address = free_address();
        let file = folder.join("prometheus.yaml");
        std::fs::write(&file, config).expect("the folder is writable");
        let log = std::fs::File::create(folder.join("prometheus.log")).expect("the folder is writable");
        let child = Command::new("prometheus")
            .args(["--config.file", text(&file), "--storage.tsdb.path", text(&folder.join("tsdb"))])
            .args(["--web.listen-address", &address, "--log.level", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus starts");
        let server = Self { child, address };
        wait_until(Duration::from_secs(60), "Prometheus is ready", || {
            get(&server.address, "/-/ready").filter(|said| said.contains("Ready"))
        });
        server
    }

    /// `data` of an answer of its API.
    pub fn api(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let query: Vec<_> = query.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value))).collect();
        let path = format!("/api/v1/{path}?{}", query.join("&"));
        let body = get(&self.address, &path).unwrap_or_else(|| panic!("no answer to {path}"));
        let mut answer: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}\n{body}"));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].take()
    }

    /// A query over the time from `start` until now, each second; values that are no numbers are left out.
    pub fn range(&self, query: &str, start: f64, end: f64) -> Vec<Series> {
        let (start, end) = (format!("{start:.3}"), format!("{end:.3}"));
        let data =
            self.api("query_range", &[("query", query), ("start", start.as_str()), ("end", &end), ("step", "1")]);
        let all = data["result"].as_array().expect("a result").iter();
        all.map(|series| {
            let points = series["values"].as_array().expect("values").iter();
            let points = points.filter_map(|pair| Some((pair[0].as_f64()?, pair[1].as_str()?.parse().ok()?)));
            let points = points.filter(|(_, value): &(f64, f64)| value.is_finite()).collect();
            Series { labels: series["metric"].clone(), points }
        })
        .filter(|series: &Series| !series.points.is_empty())
        .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
