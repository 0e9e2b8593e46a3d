//! `cargo xtask test`: everything that is checked, in one run and one table.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use simsiam_cluster::Tools;

use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::pins::Flavour;
use crate::process::{cargo, line, run, start, succeeds};
use crate::setup::setup;
use crate::system;

/// What to run.
#[derive(Debug, Default, clap::Args)]
pub struct Options {
    /// Only formatting, clippy and the unit tests (no documentation, licences, integration tests)
    #[arg(long)]
    pub fast: bool,
    /// Only tests whose name contains this; no other checks
    pub filter: Option<String>,
}

/// How a step ended.
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

struct Step {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

/// Runs all steps, also after one has failed, and prints the table.
///
/// # Errors
/// [`Error::Steps`] with the names of those that failed.
pub fn test(options: &Options) -> Result<()> {
    let mut steps = Vec::new();
    let mut counts = Counts::default();
    let whole = Instant::now();
    step(&mut steps, "setup", || passed(setup(Flavour::Cpu)));
    // Without one, its test says so and passes.
    step(&mut steps, "browser", || match system::ensure(system::BROWSER) {
        Ok(()) => Outcome::Passed,
        Err(why) => Outcome::Skipped(why.to_string()),
    });
    if !options.fast {
        // Without it, its tests say so and pass.
        step(&mut steps, "monitoring", || match system::ensure(system::MONITORING) {
            Ok(()) => Outcome::Passed,
            Err(why) => Outcome::Skipped(why.to_string()),
        });
        // Here rather than inside the first test that wants it, where it would be minutes of silence.
        step(&mut steps, "cluster", cluster);
    }
    if options.filter.is_none() {
        step(&mut steps, "format", format);
        step(&mut steps, "clippy", clippy);
        if !options.fast {
            step(&mut steps, "licences", deny);
            step(&mut steps, "advisories", advisories);
            step(&mut steps, "documentation", documentation);
        }
    }
    step(&mut steps, "tests", || passed(tests(options, &mut counts)));

    println!("\n{}", table(&steps, whole.elapsed()));
    let failed: Vec<_> = steps.iter().filter(|s| matches!(s.outcome, Outcome::Failed(_))).map(|s| s.name).collect();
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    println!("{}", counts.closing_line());
    if failed.is_empty() { Ok(()) } else { Err(Error::Steps(failed.into_iter().map(str::to_owned).collect())) }
}

fn step(steps: &mut Vec<Step>, name: &'static str, work: impl FnOnce() -> Outcome) {
    println!("\n== {name}");
    let begun = Instant::now();
    let outcome = work();
    match &outcome {
        Outcome::Passed => {}
        Outcome::Failed(why) => println!("{why}"),
        Outcome::Skipped(why) => println!("skipped: {why}"),
    }
    steps.push(Step { name, took: begun.elapsed(), outcome });
}

fn passed(result: Result<()>) -> Outcome {
    match result {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

fn installed(subcommand: &str) -> bool {
    succeeds(cargo().args([subcommand, "--version"]))
}

fn format() -> Outcome {
    if !installed("fmt") {
        return Outcome::Skipped("rustfmt is not installed (rustup component add rustfmt)".into());
    }
    passed(run(cargo().args(["fmt", "--all", "--check"])))
}

fn clippy() -> Outcome {
    if !installed("clippy") {
        return Outcome::Skipped("clippy is not installed (rustup component add clippy)".into());
    }
    passed(run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])))
}

/// The cluster's packages and programs. Its tests say so and pass where it can't be.
fn cluster() -> Outcome {
    if let Err(why) = system::ensure(system::CLUSTER) {
        return Outcome::Skipped(why.to_string());
    }
    match simsiam_cluster::machine_obstacle().or_else(Tools::obstacle) {
        Some(why) => Outcome::Skipped(why),
        None => passed(Tools::ensure().map(drop).map_err(Error::from)),
    }
}

const NO_DENY: &str = "cargo-deny is not installed (cargo install cargo-deny --locked)";

fn deny() -> Outcome {
    if !installed("deny") {
        return Outcome::Skipped(NO_DENY.into());
    }
    passed(run(cargo().args(["deny", "check", "bans", "licenses", "sources"])))
}

fn advisories() -> Outcome {
    if !installed("deny") {
        return Outcome::Skipped(NO_DENY.into());
    }
    // A network that swallows packets would hold this up for as long as git's own patience lasts.
    let limit = ["60", "cargo", "deny", "fetch", "db"];
    if !succeeds(Command::new("timeout").args(limit).current_dir(crate::process::repo())) {
        return Outcome::Skipped("the advisory database can't be reached".into());
    }
    passed(run(cargo().args(["deny", "check", "--disable-fetch", "advisories"])))
}

fn documentation() -> Outcome {
    passed(run(cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings")))
}

/// Runs the tests, passing their output on while counting.
fn tests(options: &Options, counts: &mut Counts) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    if options.fast {
        command.args(["--lib", "--bins"]);
    }
    command.args(&options.filter).stdin(Stdio::null()).stdout(Stdio::piped());
    println!("$ {}", line(&command));
    let mut child = command.spawn().map_err(|source| start(&command, source))?;
    if let Some(out) = child.stdout.take() {
        for text in BufReader::new(out).split(b'\n').map_while(std::io::Result::ok) {
            let text = String::from_utf8_lossy(&text);
            println!("{text}");
            counts.read(&text);
        }
    }
    let status = child.wait().map_err(|source| start(&command, source))?;
    match (status.success(), counts.passed) {
        (true, 0) => Err(Error::Refused("no test ran".into())),
        (true, _) => Ok(()),
        (false, _) => Err(Error::Failed { command: line(&command), status }),
    }
}

fn table(steps: &[Step], whole: Duration) -> String {
    let mut text = String::new();
    for step in steps {
        let (word, why) = match &step.outcome {
            Outcome::Passed => ("ok", ""),
            Outcome::Failed(why) => ("FAILED", why.lines().next().unwrap_or_default()),
            Outcome::Skipped(why) => ("skipped", why.as_str()),
        };
        let row = format!("{:<14} {:>7.1} s  {word:<8} {why}", step.name, step.took.as_secs_f64());
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text.push_str(&format!("{:<14} {:>7.1} s", "all", whole.as_secs_f64()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_what_failed_and_what_was_left_out() {
        let step = |name, outcome| Step { name, took: Duration::from_millis(1500), outcome };
        let steps = [
            step("format", Outcome::Passed),
            step("clippy", Outcome::Failed("`cargo clippy` failed\nsecond line".into())),
            step("licences", Outcome::Skipped("not installed".into())),
        ];
        let text = table(&steps, Duration::from_secs(90));
        let expected = "format             1.5 s  ok\n\
                        clippy             1.5 s  FAILED   `cargo clippy` failed\n\
                        licences           1.5 s  skipped  not installed\n\
                        all               90.0 s";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_step_keeps_its_outcome() {
        let mut steps = Vec::new();
        step(&mut steps, "a", || passed(Err(Error::Refused("no".into()))));
        step(&mut steps, "b", || passed(Ok(())));
        assert!(matches!(&steps[0].outcome, Outcome::Failed(why) if why == "no"));
        assert!(matches!(steps[1].outcome, Outcome::Passed));
    }
}
