//! Pods that are scheduled but do not start.

use serde_json::json;
use simsiam_operator::api::RunPhase;
use simsiam_operator::observe::EventFacts;
use simsiam_operator::plan::{Action, Plan};

use super::world::{World, spec};
use super::{actions, assert_phase};

/// The pods of the first attempt are on their nodes, and the second is not started.
fn stuck() -> World {
    let mut world = World::new(&spec());
    world.step();
    world.run();
    let pod = world.pod(1);
    (pod.running, pod.ready) = (false, false);
    world
}

/// A failed mount, the pod network or a sandbox: its gang must not hold GPUs for ever.
#[test]
fn pod_that_does_not_start_in_time_is_a_counted_restart() {
    let mut world = stuck();
    world.after(1199);
    assert_eq!(actions(&world.step()), [""; 0]);
    assert_phase(&world, RunPhase::Pending, "ContainerCreating");
    world.after(1);
    assert_eq!(actions(&world.step()), ["-r-pretrain-1"]);
    assert_phase(&world, RunPhase::Pending, "ContainerCreating");
    let status = world.status();
    assert!(status.message.unwrap().contains("has not started within 20m (spec.restartPolicy.startTimeout)"));
    assert_eq!((status.restarts.counted, status.restarts.unscheduled), (1, 0));
    world.cleared();
    world.after(60);
    assert_eq!(actions(&world.step()), ["+r-pretrain-2"]);
}

fn event(reason: &str, message: &str) -> EventFacts {
    EventFacts { warning: reason != "Pulling", reason: reason.into(), message: message.into() }
}

/// The kubelet's words are shown while the pod waits, and are the cause when it has waited for too long.
#[test]
fn pod_that_does_not_start_shows_its_newest_event() {
    let mut world = stuck();
    assert!(world.observed.unexplained(world.now).is_empty(), "not at once");
    world.after(20);
    let uid = world.pod(1).uid.clone();
    let unexplained = world.observed.unexplained(world.now);
    assert_eq!(unexplained.iter().map(|object| &object.uid).collect::<Vec<_>>(), [&uid]);
    world.observed.events = [(uid.clone(), event("Pulling", "Pulling image \"trainer:1\""))].into();
    let plan = world.step();
    assert_phase(&world, RunPhase::Pending, "ContainerCreating");
    assert!(world.status().message.unwrap().ends_with("are running: Pulling image \"trainer:1\""));
    assert!(plan.requeue_at.unwrap() <= world.now + jiff::SignedDuration::from_secs(30), "to look again");
    let words = "MountVolume.SetUp failed for volume \"keys\" : secret \"keys\" not found";
    world.observed.events = [(uid, event("FailedMount", words))].into();
    world.step();
    assert_phase(&world, RunPhase::Pending, "FailedMount");
    assert!(world.status().message.unwrap().ends_with(words));
    assert_eq!(world.status().pod, Some(world.pod(1).name.clone()));
    world.after(1200);
    world.step();
    assert_phase(&world, RunPhase::Pending, "FailedMount");
    let status = world.status();
    assert!(status.message.unwrap().ends_with(words));
    assert!(status.avoided_nodes.is_empty(), "the fault is not the node's");
}

/// Its timeout counts from the moment at which the pod was scheduled.
#[test]
fn pod_scheduled_late_may_take_its_time_to_start() {
    let mut world = stuck();
    world.after(500);
    let now = world.now;
    world.pod(1).scheduled = Some(now);
    world.after(1199);
    assert_eq!(actions(&world.step()), [""; 0]);
    world.after(1);
    assert_eq!(actions(&world.step()), ["-r-pretrain-1"]);
}

/// The nodes that the pods of a run's newest Job must not use.
fn avoided(world: &World, plan: &Plan) -> Vec<String> {
    let Some(Action::CreateJob(job)) = plan.actions.last() else { panic!("{plan:?}") };
    let names = world.status().attempt.unwrap().avoid_nodes;
    let affinity = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap().affinity.clone();
    let terms = affinity.and_then(|a| a.node_affinity?.required_during_scheduling_ignored_during_execution);
    let fields = terms.and_then(|terms| terms.node_selector_terms[0].match_fields.clone()).unwrap_or_default();
    let excluded: Vec<_> = fields.into_iter().flat_map(|field| field.values.unwrap()).collect();
    assert_eq!(names, excluded);
    excluded
}

#[test]
fn node_that_cannot_start_a_pod_is_avoided_by_the_next_attempt() {
    let mut world = stuck();
    let uid = world.pod(1).uid.clone();
    world.observed.events = [(uid, event("FailedCreatePodSandBox", "failed to set up the pod's network"))].into();
    world.after(1200);
    let plan = world.step();
    assert_phase(&world, RunPhase::Pending, "FailedCreatePodSandBox");
    assert!(plan.events.iter().any(|event| event.reason == "NodeAvoided" && event.message.contains("node-1")));
    world.cleared();
    world.after(60);
    let plan = world.step();
    assert_eq!(avoided(&world, &plan), ["node-1"]);
}

/// The scheduler counted on devices that the node does not have.
#[test]
fn nodes_that_refuse_pods_are_avoided_up_to_a_limit() {
    let mut world = World::new(&spec());
    let mut plan = world.step();
    let reasons =
        ["UnexpectedAdmissionError", "OutOfnvidia.com/gpu", "TopologyAffinityError", "UnexpectedAdmissionError"];
    for (number, reason) in (1..).zip(reasons) {
        world.run();
        world.ends(0, 1, &json!({}));
        let ended = world.pod(0).ended.as_mut().unwrap();
        (ended.code, ended.reason) = (None, reason.into());
        world.pod(0).node = Some(format!("bad-{number}"));
        world.gives_up_for(0);
        world.step();
        assert_phase(&world, RunPhase::Pending, reason);
        world.cleared();
        world.after(600);
        plan = world.step();
    }
    assert_eq!(avoided(&world, &plan), ["bad-2", "bad-3", "bad-4"], "the newest");
    let status = world.status();
    assert_eq!(status.avoided_nodes[0].reason, "OutOfnvidia.com/gpu");
    // Without them the gang does not fit: then rather they than none.
    world.pod(0).unschedulable = Some("no GPU".into());
    world.after(600);
    let plan = world.step();
    assert!(plan.events.iter().any(|event| event.reason == "NodesUsedAgain"), "{:?}", plan.events);
    world.cleared();
    world.after(900);
    let plan = world.step();
    assert_eq!(avoided(&world, &plan), [""; 0]);
}

#[test]
fn crash_of_the_trainer_blames_no_node() {
    let mut world = World::training(&spec());
    world.ends(1, 139, &json!({}));
    world.gives_up_for(1);
    world.step();
    assert_phase(&world, RunPhase::Pending, "Crashed");
    assert!(world.status().avoided_nodes.is_empty());
}

/// A node is avoided for a day: it may have been repaired.
#[test]
fn avoided_node_is_used_again_after_a_day() {
    let mut world = World::training(&spec());
    world.ends(0, 1, &json!({}));
    world.pod(0).ended.as_mut().unwrap().reason = "StartError".into();
    world.gives_up_for(0);
    world.step();
    assert_eq!(world.status().avoided_nodes[0].name, "node-0");
    world.cleared();
    world.after(60);
    let plan = world.step();
    assert_eq!(avoided(&world, &plan), ["node-0"]);
    world.run();
    world.step();
    world.after(24 * 3600);
    world.ends(1, 139, &json!({}));
    world.gives_up_for(1);
    world.step();
    world.cleared();
    world.after(600);
    let plan = world.step();
    assert_eq!(avoided(&world, &plan), [""; 0]);
}

/// A quota, Pod Security or an admission policy refuses the pods.
#[test]
fn job_without_pods_shows_why_they_were_refused() {
    let mut world = World::new(&spec());
    world.step();
    world.observed.pods.clear();
    world.after(20);
    let uid = world.job().uid.clone();
    assert_eq!(world.observed.unexplained(world.now)[0].uid, uid);
    let words = "Error creating: pods \"r-pretrain-1-0-x\" is forbidden: exceeded quota: compute, used: pods=2, limited: pods=2";
    world.observed.events = [(uid, event("FailedCreate", words))].into();
    world.step();
    assert_phase(&world, RunPhase::Pending, "CreatingPods");
    assert!(world.status().message.unwrap().ends_with(words));
    world.after(600);
    world.step();
    assert_phase(&world, RunPhase::Pending, "PodsNotCreated");
    assert_eq!(world.status().message.unwrap(), format!("0 of 2 pods were created: {words}"));
}
