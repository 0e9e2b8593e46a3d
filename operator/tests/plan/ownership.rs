//! Whose objects are whose: names that are taken, objects of an earlier run of the same name, and objects that are deleted
//! or changed while a run needs them.

use serde_json::{Value, json};
use simsiam_operator::api::RunPhase;
use simsiam_operator::names;
use simsiam_operator::observe::Observed;
use simsiam_recipe::Stage;

use super::world::{World, spec};
use super::{actions, assert_phase};

/// What a run leaves behind for a moment when it is deleted and applied again.
fn left_by_an_earlier_run(keep: impl Fn(&mut Observed)) -> World {
    let mut earlier = World::training(&spec());
    let observed = &mut earlier.observed;
    let owner = Some("an earlier run".to_owned());
    for object in observed.services.iter_mut().chain(&mut observed.policies) {
        object.owner.clone_from(&owner);
    }
    for map in &mut observed.config_maps {
        map.owner.clone_from(&owner);
    }
    for job in &mut observed.jobs {
        (job.name, job.owner) = ("r-pretrain-1-zzz".to_owned(), owner.clone());
    }
    for pod in &mut observed.pods {
        pod.job = "r-pretrain-1-zzz".to_owned();
    }
    keep(observed);
    let mut world = World::new(&spec());
    world.observed = earlier.observed;
    world.observed.progress = None;
    world
}

#[test]
fn every_object_of_a_deleted_namesake_is_waited_for() {
    type Keep = fn(&mut Observed);
    let cases: [(&str, Keep); 5] = [
        ("Service", |o| *o = Observed { services: o.services.clone(), ..Observed::default() }),
        ("NetworkPolicy", |o| *o = Observed { policies: o.policies.clone(), ..Observed::default() }),
        ("ConfigMap", |o| *o = Observed { config_maps: o.config_maps.clone(), ..Observed::default() }),
        ("Job", |o| *o = Observed { jobs: o.jobs.clone(), ..Observed::default() }),
        ("pod", |o| *o = Observed { pods: o.pods.clone(), ..Observed::default() }),
    ];
    for (kind, keep) in cases {
        let mut world = left_by_an_earlier_run(keep);
        assert_eq!(actions(&world.step()), [""; 0], "{kind}");
        assert_phase(&world, RunPhase::Pending, "WaitingForOldRun");
        assert!(world.status().message.unwrap().starts_with(kind), "{kind}");
        world.observed = Observed::default();
        let all = ["Service", "NetworkPolicy", "ConfigMap", "+r-pretrain-1"];
        assert_eq!(actions(&world.step()), all, "{kind}");
    }
}

/// Its pods have ended and hold nothing; Kubernetes removes them in its own time.
#[test]
fn ended_pods_of_a_deleted_namesake_are_not_waited_for() {
    let mut world = left_by_an_earlier_run(|observed| {
        *observed = Observed { pods: observed.pods.clone(), ..Observed::default() };
    });
    for pod in &mut world.observed.pods {
        pod.ended = Some(Default::default());
    }
    assert_eq!(actions(&world.step()).last().unwrap(), "+r-pretrain-1");
}

#[test]
fn object_of_somebody_else_with_a_needed_name_is_left_alone() {
    for kind in ["Service", "NetworkPolicy", "ConfigMap"] {
        let mut world = left_by_an_earlier_run(|observed| {
            (observed.jobs, observed.pods) = Default::default();
            match kind {
                "Service" => (observed.policies, observed.config_maps) = Default::default(),
                "NetworkPolicy" => (observed.services, observed.config_maps) = Default::default(),
                _ => (observed.services, observed.policies) = Default::default(),
            }
            for object in observed.services.iter_mut().chain(&mut observed.policies) {
                object.owner = None;
            }
            for map in &mut observed.config_maps {
                map.owner = None;
            }
        });
        assert_eq!(actions(&world.step()), [""; 0], "{kind}");
        assert_phase(&world, RunPhase::Pending, "NameTaken");
        assert!(world.status().message.unwrap().starts_with(kind), "{kind}");
        world.after(3600);
        assert_eq!(actions(&world.step()), [""; 0], "{kind}");
    }
}

#[test]
fn jobs_of_two_runs_of_one_name_have_different_names() {
    let name = |uid| names::job("r", uid, Stage::Pretrain, 1);
    assert_ne!(name("8b1f"), name("8b20"));
    assert_eq!(name("8b1f"), name("8b1f"));
    assert!(name("8b1f").starts_with("r-pretrain-1-") && name("8b1f").len() == "r-pretrain-1-".len() + 3);
}

#[test]
fn deleted_objects_come_back_during_the_attempt() {
    for pods_run in [false, true] {
        let mut world = World::new(&spec());
        world.step();
        if pods_run {
            world.run();
            world.reports("training", 10);
        }
        world.step();
        let observed = &mut world.observed;
        (observed.services, observed.policies, observed.config_maps) = Default::default();
        assert_eq!(actions(&world.step()), ["Service", "NetworkPolicy", "ConfigMap"], "pods run: {pods_run}");
        assert_eq!(actions(&world.step()), [""; 0]);
    }
}

#[test]
fn changed_service_is_restored_during_the_attempt() {
    let mut world = World::training(&spec());
    let mut service: Value = world.observed.services[0].json.value();
    service["spec"]["publishNotReadyAddresses"] = json!(false);
    world.observed.services[0].json = (&service).into();
    assert_eq!(actions(&world.step()), ["Service"]);
    assert_phase(&world, RunPhase::Training, "");
}

/// The pods of the attempt mount the run file that they were created with.
#[test]
fn run_file_of_a_changed_spec_is_created_with_the_next_attempt() {
    let mut world = World::training(&spec());
    world.set("checkpoint", json!({"keepLast": 5}));
    assert_eq!(actions(&world.step()), [""; 0]);
    world.succeeds(&json!({}));
    assert_eq!(actions(&world.step()), ["ConfigMap", "+r-knn-1"]);
}
