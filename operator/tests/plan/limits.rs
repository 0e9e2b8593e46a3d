//! Limits of a run: its deadline, its restart budgets, its name, and statuses that cannot be read.

use serde_json::json;
use simsiam_operator::api::{Json, RunPhase, ValidatedRun};

use super::world::{World, object, spec};
use super::{actions, assert_phase};

/// Only time in which the pods run counts towards `activeDeadline`.
#[test]
fn deadline_does_not_count_queueing_and_suspension() {
    let mut with = spec();
    with["activeDeadline"] = json!("1h");
    with["queueName"] = json!("gpu-queue");
    let mut world = World::new(&with);
    world.step();
    world.step();
    world.after(7200);
    assert_eq!(actions(&world.step()), [""; 0]);
    assert_phase(&world, RunPhase::Queued, "WaitingForQuota");
    world.admit();
    world.run();
    world.reports("training", 10);
    world.step();
    world.after(1800);
    world.set("suspend", json!(true));
    world.step();
    world.cleared();
    world.after(7200);
    world.step();
    assert_phase(&world, RunPhase::Suspended, "");
    world.set("suspend", json!(false));
    world.step();
    world.admit();
    world.run();
    world.reports("training", 20);
    world.step();
    assert_phase(&world, RunPhase::Training, "");
    world.after(1799);
    world.step();
    assert_phase(&world, RunPhase::Training, "");
    world.after(1);
    world.step();
    assert_phase(&world, RunPhase::Failed, "DeadlineExceeded");
}

/// A gang that cannot be scheduled is retried forever by default, and does not use the budget of pre-emptions.
#[test]
fn unscheduled_gang_is_retried_without_limit() {
    let mut with = spec();
    with["restartPolicy"] = json!({"maxPreemptions": 1});
    let mut world = World::new(&with);
    world.step();
    for attempt in 1..=40 {
        world.pod(0).unschedulable = Some("no GPU".into());
        world.after(600);
        assert_eq!(actions(&world.step()), [format!("-r-pretrain-{attempt}")]);
        assert_phase(&world, RunPhase::Pending, "Unschedulable");
        world.cleared();
        world.after(900);
        assert_eq!(actions(&world.step()), [format!("+r-pretrain-{}", attempt + 1)]);
    }
    assert_eq!(world.status().restarts.unscheduled, 40);
    world.run();
    world.step();
    world.ends(1, 85, &json!({}));
    world.gives_up_for(1);
    world.step();
    assert_phase(&world, RunPhase::Pending, "Preempted");
}

/// After a rollback the status may be one of a newer version: a finished run must not start again.
#[test]
fn run_with_unreadable_status_is_left_alone() {
    for status in [json!({"phase": "Archived", "completionTime": "2026-01-01T00:00:00Z"}), json!("?")] {
        let mut world = World::new(&spec());
        world.object.status = Some(Json::from(&status));
        assert_eq!(actions(&world.plan()), [""; 0], "{status}");
    }
}

/// The name of a run begins the name of its Service, which must be a DNS-1035 label.
#[test]
fn name_that_begins_with_a_digit_is_refused() {
    let mut object = object(&spec());
    object.metadata.name = Some("1st-run".into());
    let message = ValidatedRun::read(&object).unwrap_err();
    assert!(message.contains("DNS-1035"), "{message}");
}
