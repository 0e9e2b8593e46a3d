//! What is planned in a table of situations.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use serde_json::{Value, json};
use simsiam_operator::api::{AttemptState, Checkpoint, ConditionStatus, Phase, StageState};
use simsiam_operator::plan::{Action, Plan};
use simsiam_recipe::Stage;
use world::{World, spec};

/// What is done, in short.
fn done(plan: &Plan) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::ApplyService(_) => "Service".to_owned(),
        Action::ApplyNetworkPolicy(_) => "NetworkPolicy".to_owned(),
        Action::CreateConfigMap(_) => "ConfigMap".to_owned(),
        Action::CreateJob(job) => format!("+{}", job.metadata.name.clone().unwrap()),
        Action::DeleteJob { name, .. } => format!("-{name}"),
        Action::ForcePod { name, .. } => format!("!{name}"),
        Action::DeleteRun => "-run".to_owned(),
    };
    plan.actions.iter().map(word).collect()
}

#[track_caller]
fn stands(world: &World, phase: Phase, reason: &str) {
    let status = world.status();
    assert_eq!((status.phase, status.reason.as_deref().unwrap_or_default()), (Some(phase), reason), "{status:#?}");
}

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
fn a_gang_that_is_not_scheduled_whole_is_taken_down_and_tried_again_later() {
    let mut world = World::new(&spec());
    world.step();
    world.run();
    let pod = world.pod(1);
    (pod.node, pod.running, pod.ready, pod.unschedulable) = (None, false, false, Some("no GPU".into()));
    world.after(599);
    assert_eq!(done(&world.step()), [""; 0]);
    world.after(1);
    assert_eq!(done(&world.step()), ["-r-pretrain-1"]);
    stands(&world, Phase::Pending, "Unschedulable");
    let status = world.status();
    assert_eq!((status.restarts.unscheduled, status.restarts.counted), (1, 0));
    world.cleared();
    assert_eq!(done(&world.step()), [""; 0], "not at once");
    world.after(30);
    assert_eq!(done(&world.step()), ["+r-pretrain-2"]);
}

#[test]
fn a_missing_image_or_secret_fails_the_run_without_another_attempt() {
    for reason in ["ImagePullBackOff", "CreateContainerConfigError"] {
        let mut world = World::new(&spec());
        world.step();
        world.run();
        let pod = world.pod(0);
        (pod.running, pod.ready, pod.waiting) = (false, false, Some((reason.into(), "it says why".into())));
        world.after(600);
        let plan = world.step();
        stands(&world, Phase::Failed, reason);
        assert_eq!(done(&plan), ["-r-pretrain-1"], "its pods hold GPUs");
        world.cleared();
        world.after(3600);
        assert_eq!(done(&world.step()), [""; 0]);
    }
}

/// How pods end, who is named by the Job, and what follows.
#[test]
fn causes_and_their_precedence() {
    struct Case {
        ends: &'static [(u32, i32)],
        expected: (Phase, &'static str),
        counted: u32,
        preempted: u32,
    }
    let cases = [
        Case { ends: &[(0, 78)], expected: (Phase::Failed, "BadConfiguration"), counted: 0, preempted: 0 },
        Case { ends: &[(1, 64)], expected: (Phase::Failed, "BadUsage"), counted: 0, preempted: 0 },
        Case { ends: &[(0, 75), (1, 65)], expected: (Phase::Failed, "BadData"), counted: 0, preempted: 0 },
        Case { ends: &[(0, 86), (1, 85)], expected: (Phase::Failed, "Diverged"), counted: 0, preempted: 0 },
        Case { ends: &[(1, 85), (0, 75)], expected: (Phase::Pending, "Preempted"), counted: 0, preempted: 1 },
        Case { ends: &[(0, 75), (1, 139)], expected: (Phase::Pending, "Crashed"), counted: 1, preempted: 0 },
        Case { ends: &[(0, 75), (1, 75)], expected: (Phase::Pending, "Temporary"), counted: 1, preempted: 0 },
        Case { ends: &[(0, 137), (1, 0)], expected: (Phase::Pending, "Crashed"), counted: 1, preempted: 0 },
        Case { ends: &[(0, 1), (1, 101)], expected: (Phase::Pending, "Crashed"), counted: 1, preempted: 0 },
    ];
    for case in cases {
        let mut world = World::training(&spec());
        for (index, code) in case.ends {
            world.ends(*index, *code, &json!({}));
        }
        world.gives_up_for(case.ends[0].0);
        world.step();
        stands(&world, case.expected.0, case.expected.1);
        let restarts = world.status().restarts;
        assert_eq!((restarts.counted, restarts.preempted), (case.counted, case.preempted), "{:?}", case.ends);
    }
}

#[test]
fn a_pod_that_ran_out_of_memory_is_named_as_that() {
    let mut world = World::training(&spec());
    world.ends(1, 137, &json!({}));
    world.pod(1).ended.as_mut().unwrap().reason = "OOMKilled".into();
    world.gives_up_for(1);
    world.step();
    stands(&world, Phase::Pending, "OOMKilled");
    assert!(world.status().message.unwrap().contains("workers.resources.memory"));
}

/// The clean-up ends the others with SIGTERM: they write a checkpoint and say 85, which makes nothing a pre-emption.
#[test]
fn what_the_clean_up_brings_about_is_no_cause() {
    let mut world = World::training(&spec());
    world.ends(1, 139, &json!({}));
    world.gives_up_for(1);
    // In the very second in which the Job gave up.
    world.ends(0, 85, &json!({}));
    world.step();
    stands(&world, Phase::Pending, "Crashed");
    assert_eq!(world.status().restarts.counted, 1);

    let mut world = World::training(&spec());
    world.ends(1, 139, &json!({}));
    world.gives_up_for(1);
    world.after(3);
    world.ends(0, 65, &json!({}));
    world.step();
    stands(&world, Phase::Pending, "Crashed");
}

#[test]
fn a_deleted_pod_that_wrote_a_checkpoint_costs_nothing() {
    let mut world = World::training(&spec());
    let now = world.now;
    world.pod(1).deleting = Some(now);
    world.step();
    stands(&world, Phase::Training, "");
    world.after(4);
    world.ends(1, 85, &json!({"checkpoint": {"step": 40, "uri": "s3://models/r/checkpoints/step-000000040-a1"}}));
    world.gives_up_for(1);
    assert_eq!(done(&world.step()), ["-r-pretrain-1"]);
    let status = world.status();
    assert_eq!((status.restarts.counted, status.restarts.preempted), (0, 1));
    assert_eq!(status.checkpoint.unwrap().step, 40);
    assert_eq!(status.attempt.unwrap().state, AttemptState::Ended);
}

#[test]
fn peers_of_a_dead_node_wait_for_the_news_of_its_death() {
    let mut world = World::training(&spec());
    world.ends(0, 75, &json!({"message": "peer lost"}));
    world.gives_up_for(0);
    world.after(5);
    assert_eq!(done(&world.step()), [""; 0]);
    stands(&world, Phase::Pending, "Judging");
    assert_eq!(world.observed.doubtful_nodes(), ["node-1"], "only where a pod has not ended");
    world.observed.nodes = [("node-1".to_owned(), false)].into();
    world.after(40);
    let plan = world.step();
    stands(&world, Phase::Pending, "NodeLost");
    assert_eq!(world.status().restarts.preempted, 1);
    assert_eq!(done(&plan), ["-r-pretrain-1", "!r-pretrain-1-1-abcde"], "its node will not say that it is gone");

    // No such news: it was a lost peer and no more.
    let mut world = World::training(&spec());
    world.ends(0, 75, &json!({}));
    world.gives_up_for(0);
    world.observed.nodes = [("node-1".to_owned(), true)].into();
    world.after(80);
    world.step();
    stands(&world, Phase::Pending, "Temporary");
    assert_eq!(world.status().restarts.counted, 1);
}

/// A kubelet alone is dead: its containers train on, and so do the others.
#[test]
fn a_disrupted_pod_ends_its_attempt_although_the_gang_trains_on() {
    let mut world = World::training(&spec());
    let now = world.now;
    world.pod(1).disrupted = Some((now, "DeletionByTaintManager".into(), "the node is tainted".into()));
    world.pod(1).deleting = Some(now);
    let plan = world.step();
    stands(&world, Phase::Pending, "DeletionByTaintManager");
    assert_eq!(done(&plan), ["-r-pretrain-1"]);
    assert_eq!(world.status().restarts.preempted, 1);
    // The node does not answer: its pod is removed, and only then comes the next attempt.
    world.observed.nodes = [("node-1".to_owned(), false)].into();
    assert_eq!(done(&world.step()), ["!r-pretrain-1-1-abcde"]);
    world.after(60);
    assert_eq!(done(&world.step()), [""; 0]);
    world.cleared();
    assert_eq!(done(&world.step()), ["+r-pretrain-2"]);
}

#[test]
fn a_pod_stuck_on_a_living_node_is_forced_after_a_bound() {
    let mut world = World::training(&spec());
    world.ends(0, 139, &json!({}));
    world.gives_up_for(0);
    world.step();
    world.after(120 + 59);
    assert_eq!(done(&world.step()), [""; 0]);
    world.after(1);
    assert_eq!(done(&world.step()), ["!r-pretrain-1-1-abcde"]);
}

#[test]
fn a_vanished_pod_is_a_lost_one() {
    let mut world = World::training(&spec());
    let pod = world.pod(1);
    (pod.is_gone, pod.running, pod.ready) = (true, false, false);
    world.step();
    stands(&world, Phase::Pending, "PodDeleted");
}

#[test]
fn a_job_deleted_by_somebody_is_followed_by_another() {
    let mut world = World::training(&spec());
    let now = world.now;
    world.job().deleting = Some(now);
    world.step();
    stands(&world, Phase::Pending, "JobDeleted");
    world.cleared();
    world.after(5);
    assert_eq!(done(&world.step()), ["+r-pretrain-2"]);
    world.observed.jobs.clear();
    world.observed.pods.clear();
    world.object.status = Some({
        let mut status = world.status();
        status.attempt.as_mut().unwrap().state = AttemptState::Active;
        (&serde_json::to_value(status).unwrap()).into()
    });
    world.step();
    stands(&world, Phase::Pending, "JobDeleted");
}

#[test]
fn restarts_without_a_newer_checkpoint_end_the_run() {
    let mut with = spec();
    with["restartPolicy"] = json!({"maxRestarts": 2});
    let mut world = World::training(&with);
    let crash = |world: &mut World, step: u64| {
        world.ends(0, 139, &json!({"message": "segfault", "checkpoint": {"step": step, "uri": "s3://x"}}));
        world.gives_up_for(0);
        world.step();
        if world.status().phase == Some(Phase::Failed) {
            return;
        }
        world.cleared();
        world.after(600);
        world.step();
        world.run();
        world.step();
    };
    crash(&mut world, 10);
    crash(&mut world, 10);
    crash(&mut world, 20);
    crash(&mut world, 20);
    assert_eq!(world.status().restarts.counted, 4);
    assert_eq!(world.job().name, "r-pretrain-5");
    crash(&mut world, 20);
    stands(&world, Phase::Failed, "Crashed");
    let status = world.status();
    let message = status.message.unwrap();
    assert!(
        message.contains("more than 2 restarts") && message.contains("maxRestarts") && message.contains("segfault")
    );
    assert_eq!(status.checkpoint, Some(Checkpoint { step: 20, uri: "s3://x".into() }));
    assert_eq!(status.stages[0].state, StageState::Failed);
}

/// Steps of a classifier are few beside those of pre-training; its checkpoints count all the same.
#[test]
fn a_stage_has_checkpoints_and_a_budget_of_its_own() {
    let mut with = spec();
    with["restartPolicy"] = json!({"maxRestarts": 1});
    with["linear"] = json!({});
    with["knn"] = Value::Null;
    let mut world = World::training(&with);
    world.after(20);
    world.tells("training", 90_000);
    let checkpoint = Checkpoint { step: 90_000, uri: "s3://x".into() };
    world.observed.progress.as_mut().unwrap().checkpoint = Some(checkpoint.clone());
    world.step();
    assert_eq!(world.status().checkpoint, Some(checkpoint));
    world.succeeds(&json!({"checkpoint": "s3://models/r/checkpoints/step-000090000-a1"}));
    assert_eq!(done(&world.step()), ["+r-linear-1"]);
    let status = world.status();
    assert_eq!(status.checkpoint, None);
    assert!(status.results.unwrap().checkpoint.unwrap().ends_with("step-000090000-a1"));
    for step in [10, 20, 30] {
        world.run();
        world.step();
        world.ends(0, 139, &json!({"checkpoint": {"step": step, "uri": "s3://x"}}));
        world.gives_up_for(0);
        world.step();
        stands(&world, Phase::Pending, "Crashed");
        assert_eq!(world.status().checkpoint.unwrap().step, step);
        world.cleared();
        world.after(600);
        world.step();
    }
    assert_eq!(world.job().name, "r-linear-4");
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
