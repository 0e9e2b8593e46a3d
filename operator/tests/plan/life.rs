//! A run's life: its stages, its pauses, what is shown of it.

use serde_json::{Value, json};
use simsiam_operator::api::{ConditionStatus, Phase, StageState};
use simsiam_operator::plan::Action;
use simsiam_recipe::Stage;

use super::world::{World, spec};
use super::{done, stands};

#[test]
fn a_run_goes_through_its_stages_to_the_end() {
    let mut world = World::new(&spec());
    let plan = world.step();
    assert_eq!(done(&plan), ["Service", "NetworkPolicy", "ConfigMap", "+r-pretrain-1"]);
    stands(&world, Phase::Pending, "CreatingPods");
    assert_eq!(done(&world.step()), [""; 0], "nothing is created twice");
    world.run();
    world.step();
    stands(&world, Phase::Starting, "ProgressUnknown");
    for (phase, expected, reason) in [
        ("rendezvous", Phase::Starting, "Rendezvous"),
        ("starting", Phase::Starting, "FirstStep"),
        ("training", Phase::Training, ""),
        ("checkpointing", Phase::Checkpointing, ""),
        ("evaluating", Phase::Evaluating, ""),
    ] {
        world.after(20);
        world.tells(phase, 10);
        let plan = world.step();
        stands(&world, expected, reason);
        assert_eq!(plan.follow.unwrap().ip, "10.0.0.1");
    }
    let progress = world.status().progress.unwrap();
    assert_eq!((progress.step, progress.images_per_second), (10, Some(1234.6)));
    assert_eq!(world.status().workers.unwrap().ready, 2);

    world.succeeds(&json!({"loss": -0.91234567, "weightsSha256": "abc"}));
    assert_eq!(done(&world.step()), ["+r-knn-1"], "the Service and the others are there");
    assert_eq!(world.status().stage, Some(Stage::Knn));
    assert_eq!(world.job().pods, 1, "kNN asks for one pod");
    world.run();
    world.succeeds(&json!({"knn": [{"k": 200, "top1": 57.4}]}));
    assert_eq!(done(&world.step()), ["+r-export-1"]);
    world.run();
    world.succeeds(&json!({"exports": [{"file": "export/a.safetensors"}]}));
    let plan = world.step();
    stands(&world, Phase::Succeeded, "");
    assert!(plan.notes.iter().any(|note| note.reason == "Succeeded"));
    let status = world.status();
    let results = status.results.unwrap();
    assert_eq!((results.loss, results.knn_top1), (Some(-0.9123), Some(57.4)));
    assert_eq!(results.exports, ["export/a.safetensors"]);
    assert!(status.stages.iter().all(|s| s.state == StageState::Done && s.attempts == 1 && s.finished.is_some()));
    assert_eq!(done(&world.step()), [""; 0]);
    let condition = status.conditions.iter().find(|c| c.kind == "Succeeded").unwrap();
    assert_eq!(condition.status, ConditionStatus::True);
}

#[test]
fn pending_is_not_running() {
    let mut world = World::new(&spec());
    world.step();
    world.pod(1).unschedulable = Some("0/3 nodes are available: 3 Insufficient nvidia.com/gpu".into());
    world.step();
    stands(&world, Phase::Pending, "Unschedulable");
    assert_eq!(world.status().pod.as_deref(), Some("r-pretrain-1-1-abcde"));
    world.run();
    world.pod(1).running = false;
    world.pod(1).ready = false;
    world.step();
    stands(&world, Phase::Pending, "ContainerCreating");
    world.pod(1).waiting = Some(("ImagePullBackOff".into(), "no such image".into()));
    world.step();
    stands(&world, Phase::Pending, "ImagePullBackOff");
    assert_eq!(world.status().message.as_deref(), Some("no such image"));
}

#[test]
fn suspend_and_resume() {
    let mut world = World::training(&spec());
    world.set("suspend", json!(true));
    assert_eq!(done(&world.step()), ["-r-pretrain-1"]);
    stands(&world, Phase::Suspended, "Stopping");
    world.ends(0, 85, &json!({"checkpoint": {"step": 50, "uri": "s3://x"}}));
    world.step();
    assert_eq!(world.status().checkpoint.unwrap().step, 50, "what its pods said at their end");
    world.cleared();
    world.step();
    stands(&world, Phase::Suspended, "");
    assert_eq!(world.status().progress.unwrap().images_per_second, None);
    world.after(3600);
    assert_eq!(done(&world.step()), [""; 0]);
    world.set("suspend", json!(false));
    assert_eq!(done(&world.step()), ["+r-pretrain-2"]);
    let restarts = world.status().restarts;
    assert_eq!((restarts.counted, restarts.preempted, restarts.unscheduled), (0, 0, 0));
    let condition = world.status().conditions.into_iter().find(|c| c.kind == "Suspended").unwrap();
    assert_eq!(condition.status, ConditionStatus::False);
}

#[test]
fn a_run_may_begin_suspended() {
    let mut with = spec();
    with["suspend"] = json!(true);
    let mut world = World::new(&with);
    assert_eq!(done(&world.step()), [""; 0]);
    stands(&world, Phase::Suspended, "");
}

#[test]
fn a_queue_decides_when_pods_are_made() {
    let mut with = spec();
    with["queueName"] = json!("gpu-queue");
    let mut world = World::new(&with);
    let plan = world.step();
    let Some(Action::CreateJob(job)) = plan.actions.last() else { panic!("{plan:?}") };
    assert_eq!(job.metadata.labels.as_ref().unwrap()["kueue.x-k8s.io/queue-name"], "gpu-queue");
    assert_eq!(job.spec.as_ref().unwrap().suspend, Some(true));
    world.step();
    stands(&world, Phase::Queued, "WaitingForQuota");
    // Hours in the queue are no hours of futile scheduling.
    world.after(7200);
    assert_eq!(done(&world.step()), [""; 0]);
    let now = world.now;
    (world.job().suspended, world.job().started) = (false, Some(now));
    world.step();
    stands(&world, Phase::Pending, "CreatingPods");
}

/// As far as training, in a queue.
fn admitted() -> World {
    let mut with = spec();
    with["queueName"] = json!("gpu-queue");
    let mut world = World::new(&with);
    world.step();
    world.admit();
    world.run();
    world.tells("training", 10);
    world.step();
    stands(&world, Phase::Training, "");
    world
}

#[test]
fn a_queue_may_take_back_what_it_gave() {
    let mut world = admitted();
    let now = world.now;
    (world.job().suspended, world.pod(0).deleting, world.pod(1).deleting) = (true, Some(now), Some(now));
    world.after(3);
    for index in 0..2 {
        world.ends(index, 85, &json!({"code": 85}));
        world.pod(index).is_gone = true;
    }
    assert_eq!(done(&world.step()), [""; 0]);
    stands(&world, Phase::Queued, "WaitingForQuota");
    world.after(3600);
    world.admit();
    assert_eq!(done(&world.step()), [""; 0], "what ended before is no cause");
    stands(&world, Phase::Pending, "Scheduling");
    assert_eq!(world.status().restarts.preempted, 0);
}

/// Should the Job controller take pods that it stopped for failed ones.
#[test]
fn a_job_that_fails_of_its_suspension_is_followed_by_another() {
    let mut world = admitted();
    world.job().suspended = true;
    world.after(3);
    world.ends(0, 75, &json!({"code": 75}));
    world.gives_up_for(0);
    assert_eq!(done(&world.step()), ["-r-pretrain-1"]);
    let restarts = world.status().restarts;
    assert_eq!((restarts.counted, restarts.preempted), (0, 1));
}

#[test]
fn deadlines_and_time_to_live() {
    let mut with = spec();
    with["activeDeadline"] = json!("1h");
    with["ttl"] = json!("2h");
    let mut world = World::training(&with);
    world.after(3599);
    world.step();
    stands(&world, Phase::Training, "");
    world.after(1);
    assert_eq!(done(&world.step()), ["-r-pretrain-1"]);
    stands(&world, Phase::Failed, "DeadlineExceeded");
    world.cleared();
    world.after(7199);
    assert_eq!(done(&world.step()), [""; 0]);
    world.after(1);
    assert_eq!(done(&world.step()), ["-run"]);
}

#[test]
fn runs_of_others_and_dying_runs_are_left_alone() {
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
fn a_wrong_spec_says_what_is_wrong_until_it_is_mended() {
    let mut with = spec();
    with["pretrain"] = json!({"preset": "cifar10", "warmupEpochs": 90000});
    let mut world = World::new(&with);
    world.step();
    stands(&world, Phase::Failed, "InvalidSpec");
    assert!(world.status().message.unwrap().contains("spec.pretrain.warmupEpochs"));
    world.set("pretrain.warmupEpochs", json!(1));
    assert_eq!(done(&world.step()).last().unwrap(), "+r-pretrain-1");
}

#[test]
fn a_job_of_an_earlier_run_of_the_same_name_is_waited_for() {
    let mut world = World::training(&spec());
    world.job().owner = "an earlier run".into();
    let old = world.observed.clone();
    let mut world = World::new(&spec());
    world.observed = old;
    assert_eq!(done(&world.step()), [""; 0]);
    stands(&world, Phase::Pending, "WaitingForOldJob");
    world.observed = Default::default();
    assert_eq!(done(&world.step()).last().unwrap(), "+r-pretrain-1");
}

#[test]
fn silence_is_shown_before_the_watchdog_ends_it() {
    let mut world = World::training(&spec());
    world.tells("training", 10);
    world.observed.progress.as_mut().unwrap().quiet = true;
    let plan = world.step();
    stands(&world, Phase::Stalled, "Silent");
    assert!(plan.notes.iter().any(|note| note.warning && note.reason == "Stalled"));
    assert!(world.step().notes.is_empty(), "said once");
}

#[test]
fn a_failed_pull_is_no_stall() {
    let mut world = World::training(&spec());
    world.after(3600);
    world.step();
    stands(&world, Phase::Training, "");
    world.observed.progress = None;
    world.step();
    stands(&world, Phase::Starting, "ProgressUnknown");
}

#[test]
fn progress_alone_is_not_written_more_often_than_people_look() {
    let mut world = World::training(&spec());
    let seen = |world: &World| world.status().progress.unwrap().step;
    world.after(5);
    world.tells("training", 20);
    world.step();
    assert_eq!(seen(&world), 10);
    world.after(10);
    world.tells("training", 30);
    world.step();
    assert_eq!(seen(&world), 30);
}

#[test]
fn transition_times_change_with_the_status_of_a_condition_alone() {
    let mut world = World::training(&spec());
    let at = |world: &World| {
        let conditions = world.status().conditions;
        conditions.into_iter().find(|c| c.kind == "PodsReady").map(|c| (c.status, c.last_transition_time)).unwrap()
    };
    let first = at(&world);
    assert_eq!(first.0, ConditionStatus::True);
    world.after(60);
    world.tells("training", 20);
    world.step();
    assert_eq!(at(&world), first);
    world.pod(1).ready = false;
    world.step();
    assert_eq!(at(&world), (ConditionStatus::False, world.now));
}

/// A leader's last words may come after its Job's end.
#[test]
fn results_are_waited_for() {
    let mut world = World::training(&spec());
    world.job().complete = Some(world.now);
    assert_eq!(done(&world.step()), [""; 0]);
    world.succeeds(&json!({"loss": -0.5}));
    assert_eq!(done(&world.step()), ["+r-knn-1"]);
    assert_eq!(world.status().results.unwrap().loss, Some(-0.5));
    // But not for ever.
    let mut world = World::training(&spec());
    world.job().complete = Some(world.now);
    world.after(11);
    assert_eq!(done(&world.step()), ["+r-knn-1"]);
}

#[test]
fn a_change_of_the_service_is_mended_with_the_next_attempt() {
    let mut world = World::training(&spec());
    let mut service: Value = world.observed.services[0].json.value();
    service["spec"]["publishNotReadyAddresses"] = json!(false);
    world.observed.services[0].json = (&service).into();
    world.succeeds(&json!({}));
    assert_eq!(done(&world.step()), ["Service", "+r-knn-1"]);
}
