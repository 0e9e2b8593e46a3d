//! How attempts end, what is a cause, and what follows.

use serde_json::{Value, json};
use simsiam_operator::api::{AttemptState, Checkpoint, Phase, StageState};

use super::world::{World, spec};
use super::{done, stands};

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
