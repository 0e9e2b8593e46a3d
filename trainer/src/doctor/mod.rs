//! Checks this machine for a run: each check is a line that is OK, slow, or wrong with what to do.
//!
//! `cuda` checks driver, libraries and devices, `machine` CPU, memory and disk, `reach` storage and other nodes.

mod cuda;
mod machine;
mod reach;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use simsiam_recipe::Output;

use crate::error::Error;
use crate::runtime;

/// What to check.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Number of GPUs required; the CUDA checks fail if there are fewer.
    pub gpus: usize,
    /// The output to probe by writing, listing, reading and deleting an object.
    pub output: Option<Output>,
    /// The cache's folder; by default that of a run.
    pub cache: Option<PathBuf>,
    /// Another node: address and port of its rendezvous store.
    pub master: Option<(String, u16)>,
    /// How long to wait for that node.
    pub timeout: Duration,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// A run works, but slower than it could.
    Slow,
    /// A run fails.
    Wrong,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// How it went.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; empty if all is well.
    pub advice: String,
}

impl Check {
    fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Ok, found: found.into(), advice: String::new() }
    }

    fn slow(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Slow, advice: advice.into(), ..Self::ok(name, found) }
    }

    fn wrong(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Wrong, ..Self::slow(name, found, advice) }
    }
}

/// All lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The trainer's version.
    pub version: &'static str,
    /// The checks, in the order in which they ran.
    pub checks: Vec<Check>,
}

impl Report {
    /// The names of the checks that found something wrong.
    pub fn wrong(&self) -> Vec<&str> {
        self.checks.iter().filter(|check| check.state == State::Wrong).map(|check| check.name.as_str()).collect()
    }

    /// The report as text, one line per check and one per advice.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let state = match check.state {
                State::Ok => "OK",
                State::Slow => "slow",
                State::Wrong => "WRONG",
            };
            text.push_str(&format!("{state:<6} {:<15} {}\n", check.name, check.found));
            if !check.advice.is_empty() {
                text.push_str(&format!("{:23}→ {}\n", "", check.advice));
            }
        }
        text
    }
}

/// Runs all checks.
///
/// # Errors
/// If the system refuses the threads that storage requests need.
pub fn run(asked: &Asked) -> Result<Report, Error> {
    let runtime = runtime::start()?;
    let mut checks = cuda::checks(asked.gpus);
    checks.extend(machine::checks(asked.gpus, asked.cache.clone()));
    checks.extend(asked.output.as_ref().map(|output| reach::storage(output, runtime.handle())));
    checks.extend(asked.master.as_ref().map(|(host, port)| reach::node(host, *port, asked.timeout, runtime.handle())));
    Ok(Report { version: env!("CARGO_PKG_VERSION"), checks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_shows_state_and_advice_and_names_what_is_wrong() {
        let checks = vec![
            Check::ok("CPU", "8 cores"),
            Check::slow("/dev/shm", "64 MiB", "make it larger"),
            Check::wrong("CUDA", "no driver", "install it"),
        ];
        let report = Report { version: "1", checks };
        assert_eq!(report.wrong(), ["CUDA"]);
        let text = report.text();
        assert!(text.starts_with("OK     CPU             8 cores\nslow   /dev/shm"), "{text}");
        assert!(text.contains("WRONG  CUDA            no driver\n") && text.contains("→ install it"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["checks"][1]["state"], "slow");
    }
}
