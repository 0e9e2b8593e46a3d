//! How attempts end: what counts as the cause, and what happens next.

use serde_json::{Value, json};
use simsiam_operator::api::{AttemptState, CheckpointStatus, ConditionStatus, RunPhase, StageState};
use simsiam_operator::observe::{Disruption, JobFacts, MemoryLimit, Waiting};

use super::world::{World, short, spec};
use super::{actions, assert_phase};

#[test]
fn gang_not_fully_scheduled_is_deleted_and_retried_later() {
    let mut world = World::new(&spec());
    world.step();
    world.run();
    let pod = world.pod(1);
    (pod.node, pod.running, pod.ready, pod.unschedulable) = (None, false, false, Some("no GPU".into()));
    world.after(599);
    assert_eq!(actions(&world.step()), [""; 0]);
    world.after(1);
    assert_eq!(actions(&world.step()), ["-r-pretrain-1"]);
    assert_phase(&world, RunPhase::Pending, "Unschedulable");
    let status = world.status();
    assert_eq!((status.restarts.unscheduled, status.restarts.counted), (1, 0));
    world.cleared();
    assert_eq!(actions(&world.step()), [""; 0], "not at once");
    world.after(30);
    assert_eq!(actions(&world.step()), ["+r-pretrain-2"]);
}

#[test]
fn missing_image_or_secret_fails_the_run_without_retry() {
    for reason in ["ImagePullBackOff", "CreateContainerConfigError"] {
        let mut world = World::new(&spec());
        world.step();
        world.run();
        let pod = world.pod(0);
        (pod.running, pod.ready, pod.waiting) =
            (false, false, Some(Waiting { reason: reason.into(), message: "the kubelet's message".into() }));
        world.after(600);
        let plan = world.step();
        assert_phase(&world, RunPhase::Failed, reason);
        assert_eq!(actions(&plan), ["-r-pretrain-1"], "its pods hold GPUs");
        world.cleared();
        world.after(3600);
        assert_eq!(actions(&world.step()), [""; 0]);
    }
}

/// How pods end, who is named by the Job, and what happens next.
#[test]
fn exit_codes_of_a_gang_decide_by_precedence() {
    struct Case {
        ends: &'static [(u32, u8)],
        expected: (RunPhase, &'static str),
        counted: u32,
        preempted: u32,
    }
    let cases = [
        Case { ends: &[(0, 78)], expected: (RunPhase::Failed, "BadConfiguration"), counted: 0, preempted: 0 },
        Case { ends: &[(1, 64)], expected: (RunPhase::Failed, "BadUsage"), counted: 0, preempted: 0 },
        Case { ends: &[(0, 75), (1, 65)], expected: (RunPhase::Failed, "BadData"), counted: 0, preempted: 0 },
        Case { ends: &[(0, 86), (1, 85)], expected: (RunPhase::Failed, "Diverged"), counted: 0, preempted: 0 },
        Case { ends: &[(1, 85), (0, 75)], expected: (RunPhase::Pending, "Preempted"), counted: 0, preempted: 1 },
        Case { ends: &[(0, 75), (1, 139)], expected: (RunPhase::Pending, "Crashed"), counted: 1, preempted: 0 },
        Case { ends: &[(0, 75), (1, 75)], expected: (RunPhase::Pending, "Temporary"), counted: 1, preempted: 0 },
        Case { ends: &[(0, 137), (1, 0)], expected: (RunPhase::Pending, "Crashed"), counted: 1, preempted: 0 },
        Case { ends: &[(0, 1), (1, 101)], expected: (RunPhase::Pending, "Crashed"), counted: 1, preempted: 0 },
    ];
    for case in cases {
        let mut world = World::training(&spec());
        for (index, code) in case.ends {
            world.ends(*index, *code, &json!({}));
        }
        world.gives_up_for(case.ends[0].0);
        world.step();
        assert_phase(&world, case.expected.0, case.expected.1);
        let restarts = world.status().restarts;
        assert_eq!((restarts.counted, restarts.preempted), (case.counted, case.preempted), "{:?}", case.ends);
    }
}

/// The reason of the termination message decides; without one, or if it is about another exit, the code does.
#[test]
fn reason_of_the_termination_message_wins_over_the_code() {
    let cases = [
        (86, json!({"code": 86, "reason": "Collapsed"}), RunPhase::Failed, "Collapsed"),
        (86, json!({"code": 86, "reason": "Diverged", "message": "no collapse"}), RunPhase::Failed, "Diverged"),
        (86, json!({"message": "the representation collapsed"}), RunPhase::Failed, "Diverged"),
        (65, json!({"code": 65, "reason": "ShardTruncated"}), RunPhase::Failed, "ShardTruncated"),
        (137, json!({"code": 85, "reason": "Preempted"}), RunPhase::Pending, "Crashed"),
    ];
    for (code, message, phase, reason) in cases {
        let mut world = World::training(&spec());
        world.ends(0, code, &message);
        world.gives_up_for(0);
        world.step();
        assert_phase(&world, phase, reason);
    }
}

#[test]
fn pod_out_of_memory_is_reported_as_oom_killed() {
    let mut world = World::training(&spec());
    world.ends(1, 137, &json!({}));
    world.pod(1).ended.as_mut().unwrap().reason = "OOMKilled".into();
    world.gives_up_for(1);
    let failed = world.clone();
    world.step();
    assert_phase(&world, RunPhase::Pending, "OOMKilled");
    let world = failed;
    let message = |limit: Option<(&str, bool)>| {
        let mut world = world.clone();
        world.pod(1).memory_limit =
            limit.map(|(quantity, by_limit_range)| MemoryLimit { quantity: quantity.into(), by_limit_range });
        world.step();
        world.status().message.unwrap()
    };
    assert!(message(Some(("8Gi", false))).contains("limit of 8Gi (workers.resources.memory)"));
    assert!(message(Some(("512Mi", true))).contains("limit of 512Mi, which a LimitRange of the namespace set"));
    assert!(message(None).contains("its node ran out of memory"));
}

/// The clean-up stops the others with SIGTERM. They write a checkpoint and exit with 85, which is no pre-emption.
#[test]
fn exits_caused_by_the_clean_up_are_no_cause() {
    let mut world = World::training(&spec());
    world.ends(1, 139, &json!({}));
    world.gives_up_for(1);
    // In the very second in which the Job gave up.
    world.ends(0, 85, &json!({}));
    world.step();
    assert_phase(&world, RunPhase::Pending, "Crashed");
    assert_eq!(world.status().restarts.counted, 1);

    let mut world = World::training(&spec());
    world.ends(1, 139, &json!({}));
    world.gives_up_for(1);
    world.after(3);
    world.ends(0, 65, &json!({}));
    world.step();
    assert_phase(&world, RunPhase::Pending, "Crashed");
}

#[test]
fn deleted_pod_that_wrote_a_checkpoint_is_not_counted() {
    let mut world = World::training(&spec());
    let now = world.now;
    world.pod(1).deleting = Some(now);
    world.step();
    assert_phase(&world, RunPhase::Training, "");
    world.after(4);
    world.ends(1, 85, &json!({"checkpoint": {"step": 40, "uri": "s3://models/r/checkpoints/step-000000040-a1"}}));
    world.gives_up_for(1);
    assert_eq!(actions(&world.step()), ["-r-pretrain-1"]);
    let status = world.status();
    assert_eq!((status.restarts.counted, status.restarts.preempted), (0, 1));
    assert_eq!(status.checkpoint.unwrap().step, 40);
    assert_eq!(status.attempt.unwrap().state, AttemptState::Ended);
}

#[test]
fn exit_of_peers_waits_until_a_lost_node_is_known() {
    let mut world = World::training(&spec());
    world.ends(0, 75, &json!({"message": "peer lost"}));
    world.gives_up_for(0);
    world.after(5);
    assert_eq!(actions(&world.step()), [""; 0]);
    assert_phase(&world, RunPhase::Pending, "Undetermined");
    assert_eq!(world.observed.suspect_nodes(), ["node-1"], "only where a pod has not ended");
    world.observed.nodes = [("node-1".to_owned(), false)].into();
    world.after(40);
    let plan = world.step();
    assert_phase(&world, RunPhase::Pending, "NodeLost");
    assert_eq!(world.status().restarts.preempted, 1);
    assert_eq!(
        actions(&plan),
        ["-r-pretrain-1", "!r-pretrain-1-1-abcde"],
        "its node cannot confirm that the pod is gone"
    );

    // No node was lost: only a peer.
    let mut world = World::training(&spec());
    world.ends(0, 75, &json!({}));
    world.gives_up_for(0);
    world.observed.nodes = [("node-1".to_owned(), true)].into();
    world.after(80);
    world.step();
    assert_phase(&world, RunPhase::Pending, "Temporary");
    assert_eq!(world.status().restarts.counted, 1);
}

/// Only a kubelet is dead: its containers continue to train, and so do the others.
#[test]
fn disrupted_pod_ends_the_attempt_of_a_training_gang() {
    let mut world = World::training(&spec());
    let now = world.now;
    world.pod(1).disrupted =
        Some(Disruption { at: now, reason: "DeletionByTaintManager".into(), message: "the node is tainted".into() });
    world.pod(1).deleting = Some(now);
    let plan = world.step();
    assert_phase(&world, RunPhase::Pending, "DeletionByTaintManager");
    assert_eq!(actions(&plan), ["-r-pretrain-1"]);
    assert_eq!(world.status().restarts.preempted, 1);
    // The node is not ready: its pod is deleted by force, and only then the next attempt starts.
    world.observed.nodes = [("node-1".to_owned(), false)].into();
    assert_eq!(actions(&world.step()), ["!r-pretrain-1-1-abcde"]);
    world.after(60);
    assert_eq!(actions(&world.step()), [""; 0]);
    world.cleared();
    assert_eq!(actions(&world.step()), ["+r-pretrain-2"]);
}

#[test]
fn pod_stuck_on_a_ready_node_is_deleted_by_force() {
    let mut world = World::training(&spec());
    world.ends(0, 139, &json!({}));
    world.gives_up_for(0);
    world.step();
    world.after(120 + 59);
    assert_eq!(actions(&world.step()), [""; 0]);
    world.after(1);
    assert_eq!(actions(&world.step()), ["!r-pretrain-1-1-abcde"]);
}

#[test]
fn vanished_pod_restarts_the_attempt() {
    let mut world = World::training(&spec());
    let pod = world.pod(1);
    (pod.is_gone, pod.running, pod.ready) = (true, false, false);
    world.step();
    assert_phase(&world, RunPhase::Pending, "PodDeleted");
}

#[test]
fn job_deleted_by_a_user_is_replaced() {
    let mut world = World::training(&spec());
    let now = world.now;
    world.job().deleting = Some(now);
    world.step();
    assert_phase(&world, RunPhase::Pending, "JobDeleted");
    world.cleared();
    world.after(5);
    assert_eq!(actions(&world.step()), ["+r-pretrain-2"]);
    world.observed.jobs.clear();
    world.observed.pods.clear();
    world.object.status = Some({
        let mut status = world.status();
        status.attempt.as_mut().unwrap().state = AttemptState::Active;
        (&serde_json::to_value(status).unwrap()).into()
    });
    world.step();
    assert_phase(&world, RunPhase::Pending, "JobDeleted");
}

#[test]
fn restarts_without_a_newer_checkpoint_fail_the_run() {
    let mut with = spec();
    with["restartPolicy"] = json!({"maxRestarts": 2});
    let mut world = World::training(&with);
    let crash = |world: &mut World, step: u64| {
        world.ends(0, 139, &json!({"message": "segfault", "checkpoint": {"step": step, "uri": "s3://x"}}));
        world.gives_up_for(0);
        world.step();
        if world.status().phase == Some(RunPhase::Failed) {
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
    assert_eq!(short(&world.job().name), "r-pretrain-5");
    crash(&mut world, 20);
    assert_phase(&world, RunPhase::Failed, "Crashed");
    let status = world.status();
    let message = status.message.unwrap();
    assert!(
        message.contains("more than 2 restarts") && message.contains("maxRestarts") && message.contains("segfault")
    );
    assert_eq!(status.checkpoint, Some(CheckpointStatus { step: 20, uri: "s3://x".into() }));
    assert_eq!(status.stages[0].state, StageState::Failed);
}

/// A classifier has fewer steps than pre-training; its checkpoints reset the budget all the same.
#[test]
fn stage_has_its_own_checkpoints_and_budget() {
    let mut with = spec();
    with["restartPolicy"] = json!({"maxRestarts": 1});
    with["linear"] = json!({});
    with["knn"] = Value::Null;
    let mut world = World::training(&with);
    world.after(20);
    world.reports("training", 90_000);
    let checkpoint = simsiam_contract::Checkpoint { step: 90_000, uri: "s3://x".into() };
    world.observed.progress.as_mut().unwrap().progress.checkpoint = Some(checkpoint);
    world.step();
    assert_eq!(world.status().checkpoint, Some(CheckpointStatus { step: 90_000, uri: "s3://x".into() }));
    world.succeeds(&json!({"checkpoint": "s3://models/r/checkpoints/step-000090000-a1"}));
    assert_eq!(actions(&world.step()), ["+r-linear-1"]);
    let status = world.status();
    assert_eq!(status.checkpoint, None);
    assert!(status.results.unwrap().checkpoint.unwrap().ends_with("step-000090000-a1"));
    for step in [10, 20, 30] {
        world.run();
        world.step();
        world.ends(0, 139, &json!({"checkpoint": {"step": step, "uri": "s3://x"}}));
        world.gives_up_for(0);
        world.step();
        assert_phase(&world, RunPhase::Pending, "Crashed");
        assert_eq!(world.status().checkpoint.unwrap().step, step);
        world.cleared();
        world.after(600);
        world.step();
    }
    assert_eq!(short(&world.job().name), "r-linear-4");
}

/// The image was there when pods ran: it is the registry that fails, and not for ever.
#[test]
fn image_that_cannot_be_pulled_by_a_later_attempt_is_retried() {
    for reason in ["ImagePullBackOff", "CreateContainerError"] {
        let mut world = World::training(&spec());
        world.after(60);
        world.ends(1, 139, &json!({}));
        world.gives_up_for(1);
        world.step();
        world.cleared();
        world.after(60);
        assert_eq!(actions(&world.step()), ["+r-pretrain-2"]);
        world.pod(0).waiting = Some(Waiting { reason: reason.into(), message: "503".into() });
        world.after(600);
        assert_eq!(actions(&world.step()), ["-r-pretrain-2"]);
        assert_phase(&world, RunPhase::Pending, reason);
        assert_eq!(world.status().restarts.counted, 2);
        world.cleared();
        world.after(60);
        assert_eq!(actions(&world.step()), ["+r-pretrain-3"]);
    }
}

#[test]
fn changed_spec_after_a_bad_start_begins_the_next_attempt_at_once() {
    let bad: [fn(&mut World); 2] = [
        |world| world.pod(0).waiting = Some(Waiting { reason: "ImagePullBackOff".into(), message: String::new() }),
        |world| world.pod(1).unschedulable = Some("no GPU".into()),
    ];
    for stick in bad {
        let mut world = World::new(&spec());
        world.step();
        stick(&mut world);
        world.step();
        world.after(5);
        assert_eq!(actions(&world.step()), [""; 0], "the spec is the same");
        world.set("image", json!("trainer:2"));
        assert_eq!(actions(&world.step()), ["-r-pretrain-1"]);
        assert_phase(&world, RunPhase::Pending, "SpecChanged");
        world.cleared();
        assert_eq!(actions(&world.step()), ["+r-pretrain-2"]);
        let restarts = world.status().restarts;
        assert_eq!((restarts.counted, restarts.preempted, restarts.unscheduled), (0, 0, 0));
    }
}

#[test]
fn changed_spec_of_a_training_run_keeps_its_attempt() {
    let mut world = World::training(&spec());
    world.set("image", json!("trainer:2"));
    assert_eq!(actions(&world.step()), [""; 0]);
    assert_phase(&world, RunPhase::Training, "");
}

#[test]
fn failed_run_is_reopened_by_a_new_value_of_its_annotation() {
    let mut world = World::training(&spec());
    // Seen before the failure: no reason to reopen.
    world.retry("1");
    world.step();
    world.ends(0, 78, &json!({"message": "403", "checkpoint": {"step": 40, "uri": "s3://x"}}));
    world.gives_up_for(0);
    world.step();
    assert_phase(&world, RunPhase::Failed, "BadConfiguration");
    world.after(60);
    world.step();
    assert_phase(&world, RunPhase::Failed, "BadConfiguration");
    world.retry("2");
    assert_eq!(actions(&world.step()), ["-r-pretrain-1"]);
    let status = world.status();
    assert_eq!((status.phase, status.completion_time), (Some(RunPhase::Pending), None));
    let failed = status.conditions.iter().find(|condition| condition.kind == "Failed").unwrap();
    assert_eq!(failed.status, ConditionStatus::False);
    assert_eq!((status.stages[0].state, status.stages[0].finished), (StageState::Active, None));
    world.cleared();
    assert_eq!(actions(&world.step()), ["+r-pretrain-2"]);
    assert_eq!(world.status().checkpoint.unwrap().step, 40);
    // Once.
    world.run();
    world.ends(0, 78, &json!({}));
    world.gives_up_for(0);
    world.step();
    world.step();
    assert_phase(&world, RunPhase::Failed, "BadConfiguration");
}

/// A sidecar that was injected into the pods keeps them, and so the Job, from ending.
#[test]
fn job_whose_trainers_have_all_succeeded_is_ended() {
    let mut world = World::training(&spec());
    world.ends(0, 0, &json!({"result": {"loss": -0.5}}));
    world.after(60);
    assert_eq!(actions(&world.step()), [""; 0], "one of them trains");
    world.ends(1, 0, &json!({}));
    world.after(29);
    assert_eq!(actions(&world.step()), [""; 0], "the Job may complete");
    world.after(1);
    assert_eq!(actions(&world.step()), ["-r-pretrain-1", "+r-knn-1"]);
    assert_eq!(world.status().results.unwrap().loss, Some(-0.5));
}

/// `kubectl delete job --cascade=orphan`.
#[test]
fn orphaned_pods_of_the_attempt_are_deleted() {
    let mut world = World::training(&spec());
    world.observed.jobs.clear();
    for pod in &mut world.observed.pods {
        pod.owner = None;
    }
    assert_eq!(actions(&world.step()), ["~r-pretrain-1-0-abcde", "~r-pretrain-1-1-abcde"]);
    assert_phase(&world, RunPhase::Pending, "JobDeleted");
    world.after(60);
    assert_eq!(actions(&world.step()), [""; 0], "they are stopping");
    world.observed.pods.clear();
    assert_eq!(actions(&world.step()), ["+r-pretrain-2"]);
}

/// As when a leader that has lost its lease creates it late.
#[test]
fn job_of_an_attempt_nobody_looks_at_is_deleted() {
    let mut world = World::training(&spec());
    let mut late = world.job().clone();
    world.ends(1, 139, &json!({}));
    world.gives_up_for(1);
    world.step();
    world.cleared();
    world.after(60);
    world.step();
    late.uid = "late".into();
    world.observed.jobs.push(late);
    assert_eq!(actions(&world.step()), ["-r-pretrain-1"]);
    assert_eq!(actions(&world.step()), [""; 0]);
    // Without its labels nothing is known of it.
    world.observed.jobs.retain(|job| job.deleting.is_none());
    let job = world.job().clone();
    world.observed.jobs.push(JobFacts { name: "bare".into(), uid: "bare".into(), stage: None, ..job });
    assert!(!actions(&world.plan()).iter().any(|action| action.starts_with('-')));
    // A status that is older than the Job is no reason to delete it.
    let mut world = World::training(&spec());
    world.job().attempt = Some(2);
    world.job().name = "r-pretrain-2-zzz".into();
    assert!(!actions(&world.plan()).iter().any(|action| action.starts_with('-')));
}

/// A token that has expired, or a policy that somebody changed: access that has worked once may work again.
#[test]
fn denied_access_is_permanent_only_before_storage_was_used() {
    let denied = |world: &mut World| {
        world.ends(0, 78, &json!({"code": 78, "reason": "AccessDenied", "message": "spec.output.uri: 403"}));
        world.gives_up_for(0);
        world.step();
    };
    let mut world = World::new(&spec());
    world.step();
    world.run();
    world.step();
    denied(&mut world);
    assert_phase(&world, RunPhase::Failed, "AccessDenied");

    // It has read images: it has made steps.
    let mut world = World::training(&spec());
    denied(&mut world);
    assert_phase(&world, RunPhase::Pending, "AccessDenied");
    assert_eq!(world.status().restarts.counted, 1);
    assert_eq!(world.status().message.as_deref(), Some("spec.output.uri: 403"));
    // A later attempt that cannot even begin.
    for attempt in 2..=11 {
        world.cleared();
        world.after(600);
        assert_eq!(actions(&world.step()), [format!("+r-pretrain-{attempt}")]);
        world.run();
        denied(&mut world);
    }
    assert_phase(&world, RunPhase::Failed, "AccessDenied");
    assert!(world.status().message.unwrap().contains("more than 10 restarts"));

    // It has written a checkpoint, which only its last words tell.
    let mut world = World::new(&spec());
    world.step();
    world.run();
    let checkpoint = json!({"step": 7, "uri": "s3://models/r/checkpoints/step-000000007-a1"});
    world.ends(0, 78, &json!({"code": 78, "reason": "AccessDenied", "checkpoint": checkpoint}));
    world.gives_up_for(0);
    world.step();
    assert_phase(&world, RunPhase::Pending, "AccessDenied");

    // An earlier stage has written its results.
    let mut world = World::training(&spec());
    world.succeeds(&json!({}));
    world.step();
    world.run();
    denied(&mut world);
    assert_phase(&world, RunPhase::Pending, "AccessDenied");
}
