//! The life of a run: stages, suspension, queueing, what its status shows.

use serde_json::json;
use simsiam_operator::api::{ConditionStatus, RunPhase, StageState};
use simsiam_operator::observe::Waiting;
use simsiam_operator::plan::Action;
use simsiam_recipe::Stage;

use super::world::{World, short, spec};
use super::{actions, assert_phase};

#[test]
fn run_goes_through_its_stages() {
    let mut world = World::new(&spec());
    let plan = world.step();
    assert_eq!(actions(&plan), ["Service", "NetworkPolicy", "ConfigMap", "+r-pretrain-1"]);
    assert_phase(&world, RunPhase::Pending, "CreatingPods");
    assert_eq!(actions(&world.step()), [""; 0], "nothing is created twice");
    world.run();
    world.step();
    assert_phase(&world, RunPhase::Starting, "ProgressUnknown");
    for (phase, expected, reason) in [
        ("rendezvous", RunPhase::Starting, "Rendezvous"),
        ("starting", RunPhase::Starting, "FirstStep"),
        ("training", RunPhase::Training, ""),
        ("checkpointing", RunPhase::Checkpointing, ""),
        ("evaluating", RunPhase::Evaluating, ""),
    ] {
        world.after(20);
        world.reports(phase, 10);
        let plan = world.step();
        assert_phase(&world, expected, reason);
        assert_eq!(plan.first_pod.unwrap().ip, "10.0.0.1");
    }
    let progress = world.status().progress.unwrap();
    assert_eq!((progress.step, progress.images_per_second), (10, Some(1234.6)));
    assert_eq!(world.status().workers.unwrap().ready, 2);

    world.succeeds(&json!({"loss": -0.91234567, "weightsSha256": "abc"}));
    assert_eq!(actions(&world.step()), ["+r-knn-1"], "the Service and the others are there");
    assert_eq!(world.status().stage, Some(Stage::Knn));
    assert_eq!(world.job().pods, 1, "kNN asks for one pod");
    world.run();
    world.succeeds(&json!({"knn": [{"k": 200, "temperature": 0.1, "top1": 57.4}]}));
    assert_eq!(actions(&world.step()), ["+r-export-1"]);
    world.run();
    world.succeeds(
        &json!({"exports": [{"format": "safetensors", "file": "export/a.safetensors", "bytes": 1, "sha256": "00"}]}),
    );
    let plan = world.step();
    assert_phase(&world, RunPhase::Succeeded, "");
    assert!(plan.events.iter().any(|event| event.reason == "Succeeded"));
    let status = world.status();
    let results = status.results.unwrap();
    assert_eq!((results.loss, results.knn_top1), (Some(-0.9123), Some(57.4)));
    assert_eq!(results.exports, ["export/a.safetensors"]);
    assert!(status.stages.iter().all(|s| s.state == StageState::Done && s.attempts == 1 && s.finished.is_some()));
    assert_eq!(actions(&world.step()), [""; 0]);
    let condition = status.conditions.iter().find(|c| c.kind == "Succeeded").unwrap();
    assert_eq!(condition.status, ConditionStatus::True);
}

#[test]
fn run_with_waiting_pods_is_pending_with_the_reason() {
    let mut world = World::new(&spec());
    world.step();
    world.pod(1).unschedulable = Some("0/3 nodes are available: 3 Insufficient nvidia.com/gpu".into());
    world.step();
    assert_phase(&world, RunPhase::Pending, "Unschedulable");
    assert_eq!(world.status().pod.as_deref().map(short).as_deref(), Some("r-pretrain-1-1-abcde"));
    world.run();
    world.pod(1).running = false;
    world.pod(1).ready = false;
    world.step();
    assert_phase(&world, RunPhase::Pending, "ContainerCreating");
    world.pod(1).waiting = Some(Waiting { reason: "ImagePullBackOff".into(), message: "no such image".into() });
    world.step();
    assert_phase(&world, RunPhase::Pending, "ImagePullBackOff");
    assert_eq!(world.status().message.as_deref(), Some("no such image"));
}

#[test]
fn suspended_run_resumes_from_its_checkpoint() {
    let mut world = World::training(&spec());
    world.set("suspend", json!(true));
    assert_eq!(actions(&world.step()), ["-r-pretrain-1"]);
    assert_phase(&world, RunPhase::Suspended, "Stopping");
    world.ends(0, 85, &json!({"checkpoint": {"step": 50, "uri": "s3://x"}}));
    world.step();
    assert_eq!(world.status().checkpoint.unwrap().step, 50, "as its pods reported");
    world.cleared();
    world.step();
    assert_phase(&world, RunPhase::Suspended, "");
    assert_eq!(world.status().progress.unwrap().images_per_second, None);
    world.after(3600);
    assert_eq!(actions(&world.step()), [""; 0]);
    world.set("suspend", json!(false));
    assert_eq!(actions(&world.step()), ["+r-pretrain-2"]);
    let restarts = world.status().restarts;
    assert_eq!((restarts.counted, restarts.preempted, restarts.unscheduled), (0, 0, 0));
    let condition = world.status().conditions.into_iter().find(|c| c.kind == "Suspended").unwrap();
    assert_eq!(condition.status, ConditionStatus::False);
}

#[test]
fn run_created_suspended_creates_no_pods() {
    let mut with = spec();
    with["suspend"] = json!(true);
    let mut world = World::new(&with);
    assert_eq!(actions(&world.step()), [""; 0]);
    assert_phase(&world, RunPhase::Suspended, "");
}

#[test]
fn queued_job_is_created_suspended_and_may_wait() {
    let mut with = spec();
    with["queueName"] = json!("gpu-queue");
    let mut world = World::new(&with);
    let plan = world.step();
    let Some(Action::CreateJob(job)) = plan.actions.last() else { panic!("{plan:?}") };
    assert_eq!(job.metadata.labels.as_ref().unwrap()["kueue.x-k8s.io/queue-name"], "gpu-queue");
    assert_eq!(job.spec.as_ref().unwrap().suspend, Some(true));
    world.step();
    assert_phase(&world, RunPhase::Queued, "WaitingForQuota");
    // Time in the queue does not count as scheduling time.
    world.after(7200);
    assert_eq!(actions(&world.step()), [""; 0]);
    let now = world.now;
    (world.job().suspended, world.job().started) = (false, Some(now));
    world.step();
    assert_phase(&world, RunPhase::Pending, "CreatingPods");
}

/// A run in a queue that trains.
fn admitted() -> World {
    let mut with = spec();
    with["queueName"] = json!("gpu-queue");
    let mut world = World::new(&with);
    world.step();
    world.admit();
    world.run();
    world.reports("training", 10);
    world.step();
    assert_phase(&world, RunPhase::Training, "");
    world
}

#[test]
fn evicted_run_waits_in_its_queue_again() {
    let mut world = admitted();
    let now = world.now;
    (world.job().suspended, world.pod(0).deleting, world.pod(1).deleting) = (true, Some(now), Some(now));
    world.after(3);
    for index in 0..2 {
        world.ends(index, 85, &json!({"code": 85}));
        world.pod(index).is_gone = true;
    }
    assert_eq!(actions(&world.step()), [""; 0]);
    assert_phase(&world, RunPhase::Queued, "WaitingForQuota");
    world.after(3600);
    world.admit();
    assert_eq!(actions(&world.step()), [""; 0], "earlier exits are no cause");
    assert_phase(&world, RunPhase::Pending, "Scheduling");
    assert_eq!(world.status().restarts.preempted, 0);
}

/// In case the Job controller treats pods that it stopped as failed.
#[test]
fn job_failed_by_its_suspension_is_restarted_uncounted() {
    let mut world = admitted();
    world.job().suspended = true;
    world.after(3);
    world.ends(0, 75, &json!({"code": 75}));
    world.gives_up_for(0);
    assert_eq!(actions(&world.step()), ["-r-pretrain-1"]);
    let restarts = world.status().restarts;
    assert_eq!((restarts.counted, restarts.preempted), (0, 1));
}

#[test]
fn run_past_its_deadline_fails_and_is_deleted_after_its_ttl() {
    let mut with = spec();
    with["activeDeadline"] = json!("1h");
    with["ttl"] = json!("2h");
    let mut world = World::training(&with);
    world.after(3599);
    world.step();
    assert_phase(&world, RunPhase::Training, "");
    world.after(1);
    assert_eq!(actions(&world.step()), ["-r-pretrain-1"]);
    assert_phase(&world, RunPhase::Failed, "DeadlineExceeded");
    world.cleared();
    world.after(7199);
    assert_eq!(actions(&world.step()), [""; 0]);
    world.after(1);
    assert_eq!(actions(&world.step()), ["-run"]);
}

#[test]
fn runs_of_other_managers_and_deleted_runs_are_left_alone() {
    let mut with = spec();
    with["managedBy"] = json!("kueue.x-k8s.io/multikueue");
    let plan = World::new(&with).plan();
    assert!(plan.actions.is_empty() && plan.status == Default::default(), "{plan:?}");
    let mut world = World::training(&spec());
    world.object.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    world.job().complete = Some(world.now);
    assert!(world.plan().actions.is_empty());
}

#[test]
fn invalid_spec_fails_the_run_until_it_is_corrected() {
    let mut with = spec();
    with["pretrain"] = json!({"preset": "cifar10", "warmupEpochs": 90000});
    let mut world = World::new(&with);
    world.step();
    assert_phase(&world, RunPhase::Failed, "InvalidSpec");
    assert!(world.status().message.unwrap().contains("spec.pretrain.warmupEpochs"));
    world.set("pretrain.warmupEpochs", json!(1));
    assert_eq!(actions(&world.step()).last().unwrap(), "+r-pretrain-1");
}

#[test]
fn silent_run_is_shown_as_stalled_once() {
    let mut world = World::training(&spec());
    world.reports("training", 10);
    world.observed.progress.as_mut().unwrap().progress.quiet = true;
    let plan = world.step();
    assert_phase(&world, RunPhase::Stalled, "Silent");
    assert!(plan.events.iter().any(|event| event.warning && event.reason == "Stalled"));
    assert!(world.step().events.is_empty(), "announced once");
}

#[test]
fn failed_poll_is_no_stall() {
    let mut world = World::training(&spec());
    world.after(3600);
    world.step();
    assert_phase(&world, RunPhase::Training, "");
    world.observed.progress = None;
    world.step();
    assert_phase(&world, RunPhase::Starting, "ProgressUnknown");
}

#[test]
fn progress_alone_is_written_at_most_every_15_seconds() {
    let mut world = World::training(&spec());
    let seen = |world: &World| world.status().progress.unwrap().step;
    world.after(5);
    world.reports("training", 20);
    world.step();
    assert_eq!(seen(&world), 10);
    world.after(10);
    world.reports("training", 30);
    world.step();
    assert_eq!(seen(&world), 30);
}

#[test]
fn transition_time_changes_only_with_the_status_of_a_condition() {
    let mut world = World::training(&spec());
    let at = |world: &World| {
        let conditions = world.status().conditions;
        conditions.into_iter().find(|c| c.kind == "PodsReady").map(|c| (c.status, c.last_transition_time)).unwrap()
    };
    let first = at(&world);
    assert_eq!(first.0, ConditionStatus::True);
    world.after(60);
    world.reports("training", 20);
    world.step();
    assert_eq!(at(&world), first);
    world.pod(1).ready = false;
    world.step();
    assert_eq!(at(&world), (ConditionStatus::False, world.now));
}

/// The leader's termination message may appear after its Job is complete.
#[test]
fn late_results_are_waited_for() {
    let mut world = World::training(&spec());
    world.job().complete = Some(world.now);
    assert_eq!(actions(&world.step()), [""; 0]);
    world.succeeds(&json!({"loss": -0.5}));
    assert_eq!(actions(&world.step()), ["+r-knn-1"]);
    assert_eq!(world.status().results.unwrap().loss, Some(-0.5));
    // But not forever.
    let mut world = World::training(&spec());
    world.job().complete = Some(world.now);
    world.after(11);
    assert_eq!(actions(&world.step()), ["+r-knn-1"]);
}
