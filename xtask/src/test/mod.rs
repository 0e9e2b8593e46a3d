//! `cargo xtask test`: all checks in one run and one table, or only the tests of a name, with only what those need.

#[cfg(test)]
mod circles;
mod needs;
mod select;
mod steps;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use simsiam_cluster::{Tools, machine_obstacle};

use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::pins::Flavour;
use crate::process::{cargo, line, run, start, succeeds};
use crate::{libtorch, mlflow, system};
use needs::Need;
use select::Target;
use steps::{Outcome, Steps};

/// What to run.
#[derive(Debug, Default, clap::Args)]
pub struct Options {
    /// Only formatting, clippy and the unit tests (no documentation, licences, integration tests)
    #[arg(long, conflicts_with_all = ["filter", "package", "test"])]
    pub fast: bool,
    /// Only the tests of this package; may be repeated
    #[arg(short, long, value_name = "PACKAGE")]
    pub package: Vec<String>,
    /// Only this integration test target; may be repeated
    #[arg(long, value_name = "TARGET")]
    pub test: Vec<String>,
    /// Only tests whose path (module::test_name) contains this; sets up only what they need and runs no other checks
    #[arg(value_name = "NAME")]
    pub filter: Option<String>,
}

impl Options {
    /// Whether some tests are asked for rather than all checks.
    fn selects(&self) -> bool {
        self.filter.is_some() || !self.package.is_empty() || !self.test.is_empty()
    }
}

/// Runs all steps, even after one has failed, and prints the table.
///
/// # Errors
/// [`Error::Steps`] with the names of the failed steps; [`Error::Refused`] if no test has the name.
pub fn test(options: &Options) -> Result<()> {
    let all = select::targets()?;
    let chosen = select::select(&all, &options.package, &options.test, options.filter.as_deref())?;
    let chosen: Vec<_> = chosen.into_iter().filter(|target| !options.fast || target.kind != "test").collect();
    let mut steps = Steps::start();
    let mut counts = Counts::default();
    for need in needs::union(&chosen) {
        set_up(need, &mut steps);
    }
    if !options.selects() {
        steps.run("format", format);
        steps.run("clippy", clippy);
        if !options.fast {
            steps.run("licences", deny);
            steps.run("advisories", advisories);
            steps.run("documentation", documentation);
        }
    }
    steps.run("tests", || run_all(commands(options, &chosen), &mut counts).into());

    println!("\n{}", steps.table());
    let failed = steps.failed();
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    println!("{}", counts.closing_line());
    if failed.is_empty() { Ok(()) } else { Err(Error::Steps(failed.into_iter().map(str::to_owned).collect())) }
}

/// Sets one need up. Tests that find no libtorch with CUDA, browser, Prometheus, MLflow or cluster report that and pass.
fn set_up(need: Need, steps: &mut Steps) {
    let optional = |packages| match system::ensure(packages) {
        Ok(()) => Outcome::Passed,
        Err(why) => Outcome::Skipped(why.to_string()),
    };
    match need {
        Need::Compilers => steps.run("compilers", || system::ensure(system::BUILD).into()),
        Need::Libtorch => steps.run("libtorch", || libtorch::ensure(Flavour::Cpu).map(drop).into()),
        Need::CudaLibtorch => {
            steps.run("CUDA libtorch", || match libtorch::cuda().and_then(|_| system::ensure(system::CUDA_IMAGE)) {
                Ok(()) => Outcome::Passed,
                Err(why) => Outcome::Skipped(why.to_string()),
            })
        }
        Need::Browser => steps.run("browser", || optional(system::BROWSER)),
        Need::Monitoring => steps.run("monitoring", || optional(system::MONITORING)),
        Need::Mlflow => steps.run("MLflow", || match mlflow::ensure() {
            Ok(()) => Outcome::Passed,
            Err(why) => Outcome::Skipped(why.to_string()),
        }),
        // Built here rather than in the first test that needs it, which would print nothing for minutes.
        Need::ClusterPrograms => steps.run("cluster tools", || match Tools::obstacle() {
            Some(why) => Outcome::Skipped(why),
            None => Tools::ensure().map(drop).map_err(Error::from).into(),
        }),
        // The packages come first: without them the machine is not able to run a cluster.
        Need::ClusterPackages => steps.run("cluster", || match (optional(system::CLUSTER), machine_obstacle()) {
            (Outcome::Passed, Some(why)) => Outcome::Skipped(why),
            (outcome, _) => outcome,
        }),
    }
}

fn installed(subcommand: &str) -> bool {
    succeeds(cargo().args([subcommand, "--version"]))
}

fn format() -> Outcome {
    if !installed("fmt") {
        return Outcome::Skipped("rustfmt is not installed (rustup component add rustfmt)".into());
    }
    run(cargo().args(["fmt", "--all", "--check"])).into()
}

fn clippy() -> Outcome {
    if !installed("clippy") {
        return Outcome::Skipped("clippy is not installed (rustup component add clippy)".into());
    }
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])).into()
}

const NO_DENY: &str = "cargo-deny is not installed (cargo install cargo-deny --locked)";

fn deny() -> Outcome {
    if !installed("deny") {
        return Outcome::Skipped(NO_DENY.into());
    }
    run(cargo().args(["deny", "check", "bans", "licenses", "sources"])).into()
}

fn advisories() -> Outcome {
    if !installed("deny") {
        return Outcome::Skipped(NO_DENY.into());
    }
    // On a network that drops packets, git would try for minutes.
    let limit = ["60", "cargo", "deny", "fetch", "db"];
    if !succeeds(Command::new("timeout").args(limit).current_dir(crate::process::repo())) {
        return Outcome::Skipped("the advisory database is unreachable".into());
    }
    run(cargo().args(["deny", "check", "--disable-fetch", "advisories"])).into()
}

fn documentation() -> Outcome {
    run(cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings")).into()
}

/// The `cargo test` commands of a run: one for the workspace, or one per package with a chosen target.
fn commands(options: &Options, chosen: &[&Target]) -> Vec<Vec<String>> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let all = words(&["test", "--workspace", "--no-fail-fast"]);
    if options.fast {
        return vec![[all, words(&["--lib", "--bins"])].concat()];
    }
    if !options.selects() {
        return vec![all];
    }
    let mut packages: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for target in chosen {
        packages.entry(&target.package).or_default().extend(target.arguments());
    }
    let whole_packages = options.filter.is_none() && options.test.is_empty();
    let of_package = |(package, targets): (&str, Vec<String>)| {
        let begin = words(&["test", "--no-fail-fast", "-p", package]);
        // A whole package includes the examples in its documentation, which are in no target.
        let targets = if whole_packages { Vec::new() } else { targets };
        [begin, targets, options.filter.clone().into_iter().collect()].concat()
    };
    packages.into_iter().map(of_package).collect()
}

/// Runs the commands, passing their output on while counting.
fn run_all(commands: Vec<Vec<String>>, counts: &mut Counts) -> Result<()> {
    let mut failure = None;
    for arguments in commands {
        failure = failure.or(run_tests(&arguments, counts).err());
    }
    match (failure, counts.passed) {
        (Some(error), _) => Err(error),
        (None, 0) => Err(Error::Refused("no test ran".into())),
        (None, _) => Ok(()),
    }
}

fn run_tests(arguments: &[String], counts: &mut Counts) -> Result<()> {
    let mut command = cargo();
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    // Not for `--fast`, whose unit tests then leave CUDA out.
    if !arguments.iter().any(|word| word == "--bins")
        && let Some(libtorch) = libtorch::cuda_if_cached()
    {
        command.env("TCH_EXT_TEST_CUDA", libtorch);
    }
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
    if status.success() { Ok(()) } else { Err(Error::Failed { command: line(&command), status }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(package: &str, kind: &str, name: &str) -> Target {
        Target { package: package.into(), kind: kind.into(), name: name.into(), source: Default::default() }
    }

    fn lines(options: &Options, chosen: &[&Target]) -> Vec<String> {
        commands(options, chosen).iter().map(|words| words.join(" ")).collect()
    }

    #[test]
    fn commands_without_selection_test_the_workspace() {
        let all = Options::default();
        assert_eq!(lines(&all, &[]), ["test --workspace --no-fail-fast"]);
        let fast = Options { fast: true, ..Options::default() };
        assert_eq!(lines(&fast, &[]), ["test --workspace --no-fail-fast --lib --bins"]);
    }

    #[test]
    fn commands_with_a_filter_name_only_matching_targets() {
        let (lib, plan, data) = (target("a", "lib", "a"), target("a", "test", "plan"), target("b", "bin", "b"));
        let options = Options { filter: Some("gang".into()), ..Options::default() };
        assert_eq!(
            lines(&options, &[&lib, &plan, &data]),
            ["test --no-fail-fast -p a --lib --test plan gang", "test --no-fail-fast -p b --bin b gang"]
        );
    }

    #[test]
    fn commands_for_a_whole_package_include_its_doc_tests() {
        let lib = target("a", "lib", "a");
        let options = Options { package: vec!["a".into()], ..Options::default() };
        assert_eq!(lines(&options, &[&lib]), ["test --no-fail-fast -p a"]);
    }
}
