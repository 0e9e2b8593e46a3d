//! The operator on a real cluster: the cluster is started, the chart installs the operator with its own service account
//! and role, and runs go through it with and without disturbances.
//!
//! The tests share the cluster, so this program runs them one after another and takes the cluster down at the end.
//! With `KUBECONFIG` set they run on that cluster instead, with `SIMSIAM_TEST_IMAGES` (the images of operator and
//! trainer, separated by a comma) and `SIMSIAM_TEST_HOST` (this machine's address as pods see it); tests that stop nodes
//! are then ignored.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod environment;

mod charts;
mod disturbed;
mod ownership;
mod refused;
mod whole;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

use environment::Environment;

struct Test {
    name: &'static str,
    run: fn(&mut Environment),
    /// Whether it needs nodes that may be stopped.
    stops_nodes: bool,
}

/// A test by its path. `cargo xtask test NAME` finds the tests of this program by lines that begin with this macro.
macro_rules! test {
    ($module:ident::$name:ident) => {
        Test { name: stringify!($name), run: $module::$name, stops_nodes: false }
    };
    ($module:ident::$name:ident, stops_nodes) => {
        Test { name: stringify!($name), run: $module::$name, stops_nodes: true }
    };
}

const TESTS: &[Test] = &[
    test!(refused::crd_is_accepted_and_explained),
    test!(refused::bad_files_are_refused_alike_by_api_server_and_validate),
    test!(refused::training_fields_are_immutable),
    test!(whole::run_goes_from_images_to_weights),
    test!(refused::impossible_run_fails_with_a_reason),
    test!(refused::pods_without_their_secret_volume_are_restarted),
    test!(refused::quota_and_limit_range_are_named),
    test!(disturbed::deleted_pod_restarts_without_loss),
    test!(disturbed::run_is_suspended_resumed_and_deleted),
    test!(disturbed::queued_run_is_admitted_and_evicted),
    test!(ownership::taken_names_are_left_alone),
    test!(ownership::replaced_run_waits_for_the_old_one),
    test!(ownership::deleted_objects_come_back_during_the_attempt),
    test!(ownership::orphaned_pods_are_replaced),
    test!(disturbed::job_suspended_by_hand_continues),
    test!(disturbed::corrected_image_starts_at_once),
    test!(disturbed::failed_run_is_reopened_by_its_annotation),
    test!(disturbed::operator_restart_keeps_the_attempt),
    test!(charts::chart_objects_are_accepted_by_the_api_server),
    test!(charts::crd_belongs_to_the_release_and_is_kept),
    test!(charts::confined_operator_runs_a_run),
    test!(charts::getting_started_first_run_succeeds),
    test!(charts::upgrade_during_a_run_keeps_the_attempt),
    test!(charts::runs_outlive_the_release),
    test!(disturbed::node_without_kubelet_restarts_the_run, stops_nodes),
    test!(disturbed::dead_node_restarts_the_run, stops_nodes),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        for test in TESTS {
            println!("{}: test", test.name);
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let selected = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let chosen: Vec<_> = TESTS.iter().filter(|test| selected(test.name)).collect();
    println!("\nrunning {} tests", chosen.len());
    let filtered = TESTS.len() - chosen.len();
    if chosen.is_empty() {
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; {filtered} filtered out");
        return ExitCode::SUCCESS;
    }
    let start = Instant::now();
    let mut env = match Environment::new() {
        Ok(env) => env,
        Err(why) => {
            println!("skipped: {why}");
            let ignored = chosen.len();
            println!("\ntest result: ok. 0 passed; 0 failed; {ignored} ignored; 0 measured; {filtered} filtered out");
            return ExitCode::SUCCESS;
        }
    };
    println!("the cluster and the operator are up ({:.0} s)", start.elapsed().as_secs_f64());
    let (mut passed, mut failed, mut ignored) = (0, Vec::new(), 0);
    for Test { name, run, stops_nodes } in chosen {
        if *stops_nodes && env.is_external() {
            println!("test {name} ... ignored, the nodes of this cluster can't be stopped");
            ignored += 1;
            continue;
        }
        let start = Instant::now();
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| run(&mut env)));
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                println!("test {name} ... ok ({seconds:.0} s)");
                passed += 1;
            }
            Err(_) => {
                println!("test {name} ... FAILED ({seconds:.0} s)");
                env.print_diagnostics();
                failed.push(*name);
            }
        }
        env.clear();
    }
    env.end();
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    if !failed.is_empty() {
        println!("\nfailures:\n    {}", failed.join("\n    "));
    }
    println!(
        "\ntest result: {word}. {passed} passed; {} failed; {ignored} ignored; 0 measured; {filtered} filtered out; finished in {:.2}s",
        failed.len(),
        start.elapsed().as_secs_f64()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
