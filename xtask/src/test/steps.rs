//! The steps of `cargo xtask test` and the table of their outcomes.

use std::time::{Duration, Instant};

use crate::error::Result;

/// How a step ended.
pub enum Outcome {
    /// Without a finding.
    Passed,
    /// With an error.
    Failed(String),
    /// Not run, and why.
    Skipped(String),
}

impl From<Result<()>> for Outcome {
    fn from(result: Result<()>) -> Self {
        result.map_or_else(|error| Self::Failed(error.to_string()), |()| Self::Passed)
    }
}

struct Step {
    name: &'static str,
    duration: Duration,
    outcome: Outcome,
}

/// The steps that have run.
pub struct Steps {
    steps: Vec<Step>,
    start: Instant,
}

impl Steps {
    /// Starts the clock.
    pub fn start() -> Self {
        Self { steps: Vec::new(), start: Instant::now() }
    }

    /// Runs a step and keeps its outcome.
    pub fn run(&mut self, name: &'static str, work: impl FnOnce() -> Outcome) {
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = work();
        match &outcome {
            Outcome::Passed => {}
            Outcome::Failed(why) => println!("{why}"),
            Outcome::Skipped(why) => println!("skipped: {why}"),
        }
        self.steps.push(Step { name, duration: start.elapsed(), outcome });
    }

    /// The names of the failed steps.
    pub fn failed(&self) -> Vec<&'static str> {
        self.steps.iter().filter(|step| matches!(step.outcome, Outcome::Failed(_))).map(|step| step.name).collect()
    }

    /// One line per step, and the total time.
    pub fn table(&self) -> String {
        table(&self.steps, self.start.elapsed())
    }
}

fn table(steps: &[Step], total: Duration) -> String {
    let mut text = String::new();
    for step in steps {
        let (word, why) = match &step.outcome {
            Outcome::Passed => ("ok", ""),
            Outcome::Failed(why) => ("FAILED", why.lines().next().unwrap_or_default()),
            Outcome::Skipped(why) => ("skipped", why.as_str()),
        };
        let row = format!("{:<14} {:>7.1} s  {word:<8} {why}", step.name, step.duration.as_secs_f64());
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text.push_str(&format!("{:<14} {:>7.1} s", "total", total.as_secs_f64()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn table_names_failed_and_skipped_steps() {
        let step = |name, outcome| Step { name, duration: Duration::from_millis(1500), outcome };
        let steps = [
            step("format", Outcome::Passed),
            step("clippy", Outcome::Failed("`cargo clippy` failed\nsecond line".into())),
            step("licences", Outcome::Skipped("not installed".into())),
        ];
        let text = table(&steps, Duration::from_secs(90));
        let expected = "format             1.5 s  ok\n\
                        clippy             1.5 s  FAILED   `cargo clippy` failed\n\
                        licences           1.5 s  skipped  not installed\n\
                        total             90.0 s";
        assert_eq!(text, expected);
    }

    #[test]
    fn failed_steps_are_kept_by_name() {
        let mut steps = Steps::start();
        steps.run("a", || Err(Error::Refused("no".into())).into());
        steps.run("b", || Ok(()).into());
        assert!(matches!(&steps.steps[0].outcome, Outcome::Failed(why) if why == "no"));
        assert_eq!(steps.failed(), ["a"]);
    }
}
