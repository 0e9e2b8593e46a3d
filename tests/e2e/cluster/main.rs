//! The operator on a real cluster: one is brought up, the operator installed by its chart and run as a pod under its own
//! rights, and runs go through it in good and bad times.
//!
//! The cluster is shared, so this is one program that runs one test after another, and takes the cluster down at the end.
//! With `KUBECONFIG` set the tests run on that cluster instead, with `SIMSIAM_TEST_IMAGES` (the operator's and the
//! trainer's image, with a comma between) and `SIMSIAM_TEST_HOST` (this machine's address as pods see it); those that
//! stop nodes are left out.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod place;

mod charts;
mod disturbed;
mod refused;
mod whole;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

use place::Place;

/// A test's name, what it does, and whether it needs nodes that may be stopped.
type Test = (&'static str, fn(&mut Place), bool);

const TESTS: &[Test] = &[
    ("the_definition_is_taken_and_explained", refused::the_definition_is_taken_and_explained, false),
    ("an_api_server_and_validate_refuse_alike", refused::an_api_server_and_validate_refuse_alike, false),
    ("training_fields_are_fixed", refused::training_fields_are_fixed, false),
    ("a_run_goes_from_images_to_weights", whole::a_run_goes_from_images_to_weights, false),
    ("what_cannot_work_says_why_and_ends", refused::what_cannot_work_says_why_and_ends, false),
    ("a_deleted_pod_costs_nothing", disturbed::a_deleted_pod_costs_nothing, false),
    ("suspend_resume_delete", disturbed::suspend_resume_delete, false),
    ("a_queue_gives_and_takes", disturbed::a_queue_gives_and_takes, false),
    ("the_operator_may_go_and_come", disturbed::the_operator_may_go_and_come, false),
    ("every_object_of_the_charts_is_taken", charts::every_object_of_the_charts_is_taken, false),
    ("the_definition_is_the_release_s_and_stays", charts::the_definition_is_the_release_s_and_stays, false),
    ("the_operator_is_confined_and_works", charts::the_operator_is_confined_and_works, false),
    ("the_first_run_succeeds", charts::the_first_run_succeeds, false),
    ("an_upgrade_goes_unnoticed", charts::an_upgrade_goes_unnoticed, false),
    ("runs_outlive_the_release", charts::runs_outlive_the_release, false),
    ("a_node_whose_kubelet_died", disturbed::a_node_whose_kubelet_died, true),
    ("a_node_that_died", disturbed::a_node_that_died, true),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, ..) in TESTS {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let chosen: Vec<_> = TESTS.iter().filter(|(name, ..)| wanted(name)).collect();
    println!("\nrunning {} tests", chosen.len());
    let out = TESTS.len() - chosen.len();
    if chosen.is_empty() {
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; {out} filtered out");
        return ExitCode::SUCCESS;
    }
    let begun = Instant::now();
    let mut place = match Place::new() {
        Ok(place) => place,
        Err(why) => {
            println!("skipped: {why}");
            let ignored = chosen.len();
            println!("\ntest result: ok. 0 passed; 0 failed; {ignored} ignored; 0 measured; {out} filtered out");
            return ExitCode::SUCCESS;
        }
    };
    println!("the cluster and the operator are up ({:.0} s)", begun.elapsed().as_secs_f64());
    let (mut passed, mut failed, mut ignored) = (0, Vec::new(), 0);
    for (name, test, stops_nodes) in chosen {
        if *stops_nodes && place.is_anothers() {
            println!("test {name} ... ignored, nodes of this cluster can't be stopped");
            ignored += 1;
            continue;
        }
        let begun = Instant::now();
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| test(&mut place)));
        let seconds = begun.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                println!("test {name} ... ok ({seconds:.0} s)");
                passed += 1;
            }
            Err(_) => {
                println!("test {name} ... FAILED ({seconds:.0} s)");
                place.tell();
                failed.push(*name);
            }
        }
        place.clear();
    }
    place.end();
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    if !failed.is_empty() {
        println!("\nfailures:\n    {}", failed.join("\n    "));
    }
    println!(
        "\ntest result: {word}. {passed} passed; {} failed; {ignored} ignored; 0 measured; {out} filtered out; finished in {:.2}s",
        failed.len(),
        begun.elapsed().as_secs_f64()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
