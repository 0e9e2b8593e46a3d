//! A line of the report, and the report.

use serde::Serialize;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
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
    pub state: CheckState,
    /// What was found.
    pub found: String,
    /// What to do; empty if all is well.
    pub advice: String,
}

impl Check {
    pub(super) fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), state: CheckState::Ok, found: found.into(), advice: String::new() }
    }

    pub(super) fn slow(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: CheckState::Slow, advice: advice.into(), ..Self::ok(name, found) }
    }

    pub(super) fn wrong(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: CheckState::Wrong, ..Self::slow(name, found, advice) }
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
        self.checks.iter().filter(|check| check.state == CheckState::Wrong).map(|check| check.name.as_str()).collect()
    }

    /// The report as text, one line per check and one per advice.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let state = match check.state {
                CheckState::Ok => "OK",
                CheckState::Slow => "slow",
                CheckState::Wrong => "WRONG",
            };
            text.push_str(&format!("{state:<6} {:<15} {}\n", check.name, check.found));
            if !check.advice.is_empty() {
                text.push_str(&format!("{:23}→ {}\n", "", check.advice));
            }
        }
        text
    }
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
