//! Runs whose spec this operator cannot read: a newer definition, a rollback, a rule that became stricter.

use serde_json::json;
use simsiam_operator::api::{ConditionStatus, RunPhase};

use super::world::{World, spec};
use super::{actions, assert_phase};

/// A run that trains and whose spec has become invalid, with values that can still be read.
fn invalid(more: &[(&str, serde_json::Value)]) -> World {
    let mut world = World::training(&spec());
    world.set("aFieldOfANewerVersion", json!({"a": 1}));
    for (field, value) in more {
        world.set(field, value.clone());
    }
    world
}

fn condition(world: &World, kind: &str) -> (ConditionStatus, String) {
    let conditions = world.status().conditions;
    conditions.into_iter().find(|c| c.kind == kind).map(|c| (c.status, c.reason)).unwrap()
}

#[test]
fn invalid_run_in_progress_trains_on_and_says_so() {
    let mut world = invalid(&[]);
    world.after(20);
    world.reports("training", 30);
    let plan = world.step();
    assert_eq!(actions(&plan), [""; 0]);
    assert_phase(&world, RunPhase::Training, "");
    assert_eq!(world.status().progress.unwrap().step, 30, "it is still watched");
    assert!(plan.first_pod.is_some());
    assert_eq!(condition(&world, "Reconciled"), (ConditionStatus::False, "InvalidSpec".into()));
    assert_eq!(condition(&world, "Stalled").0, ConditionStatus::True);
    assert_eq!(plan.events.iter().filter(|event| event.reason == "InvalidSpec").count(), 1);
    assert!(world.step().events.is_empty(), "announced once");
}

#[test]
fn invalid_run_can_be_suspended_and_continues_when_corrected() {
    let mut world = invalid(&[("suspend", json!(true))]);
    assert_eq!(actions(&world.step()), ["-r-pretrain-1"]);
    assert_phase(&world, RunPhase::Suspended, "Stopping");
    assert_eq!(condition(&world, "Suspended").0, ConditionStatus::True);
    world.cleared();
    world.step();
    assert_phase(&world, RunPhase::Suspended, "");
    world.set("suspend", json!(false));
    assert_eq!(actions(&world.step()), [""; 0], "an attempt needs a valid spec");
    assert_phase(&world, RunPhase::Pending, "InvalidSpec");
    assert!(world.status().message.unwrap().contains("aFieldOfANewerVersion"));
    let mut spec = world.object.spec.value();
    spec.as_object_mut().unwrap().remove("aFieldOfANewerVersion");
    world.object.spec = (&spec).into();
    assert_eq!(actions(&world.step()), ["+r-pretrain-2"]);
    assert_eq!(condition(&world, "Stalled").0, ConditionStatus::False);
}

#[test]
fn invalid_run_past_its_deadline_fails_and_is_deleted_after_its_ttl() {
    let mut world = invalid(&[("activeDeadline", json!("1h")), ("ttl", json!("2h"))]);
    world.after(3599);
    world.step();
    assert_phase(&world, RunPhase::Training, "");
    world.after(1);
    assert_eq!(actions(&world.step()), ["-r-pretrain-1"]);
    assert_phase(&world, RunPhase::Failed, "DeadlineExceeded");
    assert_eq!(condition(&world, "Failed").0, ConditionStatus::True);
    world.cleared();
    world.after(7200);
    assert_eq!(actions(&world.step()), ["-run"]);
}

/// The pods are gone and their GPUs free; the run continues when its spec is valid again.
#[test]
fn attempt_of_an_invalid_run_that_ends_is_cleaned_up() {
    let mut world = invalid(&[]);
    world.ends(1, 139, &json!({"checkpoint": {"step": 50, "uri": "s3://x"}}));
    world.gives_up_for(1);
    assert_eq!(actions(&world.step()), ["-r-pretrain-1"]);
    let status = world.status();
    assert_eq!((status.restarts.counted, status.checkpoint.unwrap().step), (1, 50));
    world.cleared();
    world.after(60);
    assert_eq!(actions(&world.step()), [""; 0]);
    assert_phase(&world, RunPhase::Pending, "InvalidSpec");
    assert!(!world.status().conditions.iter().any(|c| c.kind == "Failed"), "it continues once it is valid");

    // Bad data stays bad data.
    let mut world = invalid(&[]);
    world.ends(1, 65, &json!({}));
    world.gives_up_for(1);
    world.step();
    assert_phase(&world, RunPhase::Failed, "BadData");
}

#[test]
fn finished_stage_of_an_invalid_run_is_recorded_when_corrected() {
    let mut world = invalid(&[]);
    world.succeeds(&json!({"loss": -0.5}));
    assert_eq!(actions(&world.step()), [""; 0]);
    assert_phase(&world, RunPhase::Pending, "InvalidSpec");
    let mut spec = world.object.spec.value();
    spec.as_object_mut().unwrap().remove("aFieldOfANewerVersion");
    world.object.spec = (&spec).into();
    assert_eq!(actions(&world.step()), ["+r-knn-1"]);
    assert_eq!(world.status().results.unwrap().loss, Some(-0.5));
}

/// One unreadable field of the restart policy leaves the others in force.
#[test]
fn readable_fields_of_an_invalid_policy_are_in_force() {
    let mut world = invalid(&[("restartPolicy", json!({"maxRestarts": 0, "stallTimeout": 5}))]);
    world.ends(1, 139, &json!({}));
    world.gives_up_for(1);
    world.step();
    assert_phase(&world, RunPhase::Failed, "Crashed");
    assert!(world.status().message.unwrap().contains("more than 0 restarts"));
}

/// `kubectl wait --for=condition=Failed` ends, and so does the run's time.
#[test]
fn run_that_was_never_valid_has_failed_by_phase_and_condition() {
    let mut with = spec();
    with["aFieldOfANewerVersion"] = json!(1);
    with["ttl"] = json!("1h");
    let mut world = World::new(&with);
    world.step();
    assert_phase(&world, RunPhase::Failed, "InvalidSpec");
    assert_eq!(condition(&world, "Failed"), (ConditionStatus::True, "InvalidSpec".into()));
    assert_eq!(condition(&world, "Succeeded").0, ConditionStatus::False);
    world.after(3599);
    assert_eq!(actions(&world.step()), [""; 0]);
    let mut corrected = world.clone();
    let mut spec = corrected.object.spec.value();
    spec.as_object_mut().unwrap().remove("aFieldOfANewerVersion");
    corrected.object.spec = (&spec).into();
    assert_eq!(actions(&corrected.step()).last().unwrap(), "+r-pretrain-1");
    assert_eq!(condition(&corrected, "Failed").0, ConditionStatus::False);
    world.after(1);
    assert_eq!(actions(&world.step()), ["-run"]);
}

/// Its own controller says what is wrong with it.
#[test]
fn invalid_run_of_another_manager_is_left_alone() {
    let mut with = spec();
    with["managedBy"] = json!("kueue.x-k8s.io/multikueue");
    with["aFieldOfANewerVersion"] = json!(1);
    let plan = World::new(&with).plan();
    assert!(plan.actions.is_empty() && plan.status == Default::default(), "{plan:?}");
}
