//! Whose objects are whose, where Kubernetes decides: server-side apply, preconditions and the garbage collector.

use std::time::Duration;

use serde_json::{Value, json};
use simsiam_tests::wait_until;

use super::environment::Environment;

const LIMIT: Duration = Duration::from_secs(300);

/// A Service and a NetworkPolicy of another application have the names that the run needs.
pub fn taken_names_are_left_alone(env: &mut Environment) {
    let theirs = [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web-workers"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web-workers"},
            "spec": {"podSelector": {"matchLabels": {"app": "web"}}}}),
    ];
    for object in &theirs {
        env.cluster.apply(&object.to_string()).unwrap();
    }
    let there = || {
        let read = |kind: &str| {
            let object = env.cluster.json(&["get", kind, "web-workers"]).unwrap();
            json!([object["metadata"]["uid"], object["metadata"]["ownerReferences"], object["spec"]])
        };
        [read("service"), read("networkpolicy")]
    };
    let before = there();
    env.apply("web", &env.spec("web")).unwrap();
    let taken = |status: &Value| status["reason"] == "NameTaken";
    let status = env.wait("web", Duration::from_secs(60), "refused for its name", taken);
    assert!(status["message"].as_str().is_some_and(|message| message.contains("web-workers")), "{status:#}");
    assert!(env.pods("web").is_empty());
    assert_eq!(there(), before);
    // The names are free again, and the run begins.
    for kind in ["service", "networkpolicy"] {
        env.cluster.kubectl(&["delete", kind, "web-workers"]).unwrap();
    }
    env.wait("web", LIMIT, "training", |status| status["phase"] == "Training");
    env.cluster.kubectl(&["delete", "ssr", "web"]).unwrap();

    // Deleting a run that waits for a name deletes nothing that does not belong to it.
    wait_until(Duration::from_secs(90), "the run's Service is gone", || {
        env.cluster.json(&["get", "service", "web-workers"]).err()
    });
    for object in &theirs {
        env.cluster.apply(&object.to_string()).unwrap();
    }
    let before = there();
    env.apply("web", &env.spec("web")).unwrap();
    env.wait("web", Duration::from_secs(120), "refused for its name", taken);
    env.cluster.kubectl(&["delete", "ssr", "web", "--cascade=foreground"]).unwrap();
    assert_eq!(there(), before);
    for kind in ["service", "networkpolicy"] {
        env.cluster.kubectl(&["delete", kind, "web-workers"]).unwrap();
    }
}

/// `kubectl replace --force` while the run trains: the new run continues from the checkpoints of the old one.
pub fn replaced_run_waits_for_the_old_one(env: &mut Environment) {
    let spec = env.spec("replaced");
    env.apply("replaced", &spec).unwrap();
    env.wait_for_checkpoint("replaced", "replaced");
    let before = env.run("replaced");
    env.cluster.kubectl(&["delete", "ssr", "replaced", "--wait=false"]).unwrap();
    wait_until(Duration::from_secs(60), "the old run is gone", || {
        let run = env.cluster.json(&["get", "ssr", "replaced"]);
        run.map_or(true, |run| run["metadata"]["deletionTimestamp"].is_null()).then_some(())
    });
    env.apply("replaced", &spec).unwrap();
    let after = env.run("replaced");
    assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"]);
    let status = env.wait_for("replaced", "Succeeded", LIMIT);
    assert_ne!(status["attempt"]["job"], before["status"]["attempt"]["job"]);
    assert_eq!(status["stages"][0]["attempts"], 1, "no object was lost to the garbage collector: {status:#}");
    if let Some(undisturbed) = &env.undisturbed {
        assert_eq!(status["results"]["weightsSha256"].as_str(), Some(undisturbed.as_str()), "{status:#}");
    }
}

pub fn deleted_objects_come_back_during_the_attempt(env: &mut Environment) {
    env.apply("robbed", &env.spec("robbed")).unwrap();
    env.wait("robbed", Duration::from_secs(90), "training", |status| status["phase"] == "Training");
    let selector = "simsiam.dev/run=robbed";
    for kind in ["service", "networkpolicy", "configmap"] {
        env.cluster.kubectl(&["delete", kind, "-l", selector]).unwrap();
        wait_until(Duration::from_secs(20), "the object is back", || {
            let list = env.cluster.json(&["get", kind, "-l", selector]).unwrap();
            list["items"].as_array().is_some_and(|items| items.len() == 1).then_some(())
        });
    }
    let status = env.wait_for("robbed", "Succeeded", LIMIT);
    assert_eq!(status["stages"][0]["attempts"], 1, "{status:#}");
}

/// The pods of a Job that was deleted without them train on unseen until they are deleted as well.
pub fn orphaned_pods_are_replaced(env: &mut Environment) {
    env.apply("widowed", &env.spec("widowed")).unwrap();
    env.wait_for_checkpoint("widowed", "widowed");
    let job = env.run("widowed")["status"]["attempt"]["job"].as_str().unwrap().to_owned();
    env.cluster.kubectl(&["delete", "job", &job, "--cascade=orphan"]).unwrap();
    let status = env.wait_for("widowed", "Succeeded", LIMIT);
    assert_eq!(status["stages"][0]["attempts"], 2, "{status:#}");
    assert_eq!(status["restarts"]["counted"], 0, "{status:#}");
    if let Some(undisturbed) = &env.undisturbed {
        assert_eq!(status["results"]["weightsSha256"].as_str(), Some(undisturbed.as_str()), "{status:#}");
    }
}
