//! Disturbed runs: each must end with exactly the weights of an undisturbed one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simsiam_tests::wait_until;

use super::environment::{Environment, SYSTEM};

const LIMIT: Duration = Duration::from_secs(300);

/// Checks that the run succeeds after another attempt, with the weights of the undisturbed run.
fn ends_like_an_undisturbed_run(env: &Environment, name: &str) -> Value {
    let status = env.wait_for(name, "Succeeded", LIMIT);
    if let Some(undisturbed) = &env.undisturbed {
        assert_eq!(status["results"]["weightsSha256"].as_str(), Some(undisturbed.as_str()), "{status:#}");
    }
    assert!(status["stages"][0]["attempts"].as_u64() >= Some(2), "{status:#}");
    status
}

pub fn deleted_pod_restarts_without_loss(env: &mut Environment) {
    env.apply("deleted", &env.spec("deleted")).unwrap();
    env.wait_for_checkpoint("deleted", "deleted");
    let pods = env.pods("deleted");
    let index = |pod: &&Value| pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "1";
    let second = pods.iter().find(index).unwrap()["metadata"]["name"].as_str().unwrap();
    env.cluster.kubectl(&["delete", "pod", second, "--wait=false"]).unwrap();
    let status =
        env.wait("deleted", Duration::from_secs(60), "restarting", |status| status["restarts"]["preempted"] == 1);
    assert_eq!(status["restarts"]["counted"], 0, "{status:#}");
    let status = ends_like_an_undisturbed_run(env, "deleted");
    assert_eq!(status["stages"][0]["attempts"], 2);
    // It resumed from a checkpoint: the final one belongs to the second attempt.
    assert!(status["checkpoint"]["uri"].as_str().is_some_and(|uri| uri.ends_with("-a2")), "{status:#}");
}

pub fn run_is_suspended_resumed_and_deleted(env: &mut Environment) {
    env.apply("paused", &env.spec("paused")).unwrap();
    env.wait_for_checkpoint("paused", "paused");
    let suspend = |on: bool| {
        let patch = json!({"spec": {"suspend": on}}).to_string();
        env.cluster.kubectl(&["patch", "ssr", "paused", "--type=merge", "-p", &patch]).unwrap();
    };
    suspend(true);
    let status = env.wait("paused", Duration::from_secs(90), "suspended with no pods", |status| {
        status["phase"] == "Suspended" && status["reason"].is_null()
    });
    assert!(env.pods("paused").is_empty());
    assert!(status["checkpoint"]["step"].as_u64().is_some_and(|step| step > 0), "{status:#}");
    suspend(false);
    let status = ends_like_an_undisturbed_run(env, "paused");
    assert_eq!(status["restarts"]["counted"], 0);
    assert_eq!(status["restarts"]["preempted"], 0, "a suspension is not a failure");

    // Deleted while it trains: all its objects are removed.
    env.apply("short-lived", &env.spec("short-lived")).unwrap();
    env.wait("short-lived", Duration::from_secs(90), "training", |status| status["phase"] == "Training");
    env.cluster.kubectl(&["delete", "ssr", "short-lived", "--wait=false"]).unwrap();
    let kinds = "ssr,jobs,pods,services,configmaps,networkpolicies";
    let left = wait_until(Duration::from_secs(90), "nothing left", || {
        let list = env.cluster.json(&["get", kinds, "-l", "simsiam.dev/run=short-lived"]).unwrap();
        list["items"].as_array().is_some_and(Vec::is_empty).then_some(list)
    });
    assert!(left["items"].as_array().is_some_and(Vec::is_empty));
}

/// A queue admits a run, evicts it while it trains, and admits it again. The test plays the queue's part by writing what a
/// queue would: `spec.suspend` of the Job.
pub fn queued_run_is_admitted_and_evicted(env: &mut Environment) {
    let mut spec = env.spec("queued");
    spec["queueName"] = json!("a-queue");
    env.apply("queued", &spec).unwrap();
    let suspend = |on: bool| {
        let job = env.run("queued")["status"]["attempt"]["job"].as_str().unwrap().to_owned();
        let patch = json!({"spec": {"suspend": on}}).to_string();
        env.cluster.kubectl(&["patch", "job", &job, "--type=merge", "-p", &patch]).unwrap();
        println!("{job}: {}", if on { "evicted" } else { "admitted" });
    };
    let queued = |status: &Value| status["phase"] == "Queued" && status["attempt"]["job"].is_string();
    env.wait("queued", Duration::from_secs(30), "in the queue", queued);
    assert!(env.pods("queued").is_empty());
    suspend(false);
    env.wait_for_checkpoint("queued", "queued");
    suspend(true);
    let suspended = |status: &Value| {
        let job = status["attempt"]["job"].as_str().unwrap_or_default();
        queued(status) && env.cluster.json(&["get", "job", job]).is_ok_and(|job| job["spec"]["suspend"] == true)
    };
    let status = env.wait("queued", Duration::from_secs(90), "in the queue again", |status| {
        suspended(status) && env.pods("queued").is_empty()
    });
    println!("in the queue again with attempt {}, {}", status["attempt"]["number"], status["restarts"]);
    assert_eq!(status["restarts"]["counted"], 0, "{status:#}");
    // Like a queue, admit every waiting Job: this one, and that of another attempt if the Job controller treats the stopped
    // pods as failed, which it may do at any time from here on.
    let status = env.wait("queued", LIMIT, "Succeeded", |status| {
        if suspended(status) {
            suspend(false);
        }
        assert_ne!(status["phase"], "Failed", "{status:#}");
        status["phase"] == "Succeeded"
    });
    assert_eq!(status["restarts"]["counted"], 0, "{status:#}");
    if let Some(undisturbed) = &env.undisturbed {
        assert_eq!(status["results"]["weightsSha256"].as_str(), Some(undisturbed.as_str()), "{status:#}");
    }
}

/// A user suspends the Job itself, for longer than pods may take to start, and resumes it.
pub fn job_suspended_by_hand_continues(env: &mut Environment) {
    let mut spec = env.spec("held");
    spec["restartPolicy"] = json!({"scheduleTimeout": "20s"});
    env.apply("held", &spec).unwrap();
    env.wait_for_checkpoint("held", "held");
    let job = env.run("held")["status"]["attempt"]["job"].as_str().unwrap().to_owned();
    let suspend = |on: bool| {
        let patch = json!({"spec": {"suspend": on}}).to_string();
        env.cluster.kubectl(&["patch", "job", &job, "--type=merge", "-p", &patch]).unwrap();
    };
    suspend(true);
    wait_until(Duration::from_secs(60), "no pods", || env.pods("held").is_empty().then_some(()));
    std::thread::sleep(Duration::from_secs(25));
    if env.run("held")["status"]["attempt"]["job"] == job.as_str() {
        suspend(false);
    }
    let status = env.wait("held", LIMIT, "Succeeded", |status| {
        assert_ne!(status["phase"], "Failed", "{status:#}");
        assert_ne!(status["reason"], "PodsNotCreated", "{status:#}");
        status["phase"] == "Succeeded"
    });
    assert_eq!(status["restarts"]["unscheduled"], 0, "{status:#}");
    assert_eq!(status["restarts"]["counted"], 0, "{status:#}");
}

/// A typo in the image that is corrected long before `scheduleTimeout`.
pub fn corrected_image_starts_at_once(env: &mut Environment) {
    let mut spec = env.spec("mistyped");
    spec["restartPolicy"] = json!({"scheduleTimeout": "10m"});
    spec["image"] = json!("simsiam.dev/no-such-image:1");
    env.apply("mistyped", &spec).unwrap();
    let bad = ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"];
    env.wait("mistyped", Duration::from_secs(60), "without its image", |status| {
        bad.iter().any(|reason| status["reason"] == *reason)
    });
    spec["image"] = json!(env.trainer());
    env.apply("mistyped", &spec).unwrap();
    let status = env.wait("mistyped", Duration::from_secs(120), "training", |status| status["phase"] == "Training");
    assert_eq!(status["attempt"]["number"], 2, "{status:#}");
    assert_eq!((&status["restarts"]["counted"], &status["restarts"]["unscheduled"]), (&json!(0), &json!(0)));
}

pub fn failed_run_is_reopened_by_its_annotation(env: &mut Environment) {
    let mut spec = env.spec("reopened");
    spec["activeDeadline"] = json!("4s");
    env.apply("reopened", &spec).unwrap();
    let status = env.wait_for("reopened", "Failed", LIMIT);
    assert_eq!(status["reason"], "DeadlineExceeded", "{status:#}");
    spec["activeDeadline"] = json!("1h");
    env.apply("reopened", &spec).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(env.run("reopened")["status"]["phase"], "Failed", "not without the annotation");
    env.cluster.kubectl(&["annotate", "ssr", "reopened", "simsiam.dev/retry=1"]).unwrap();
    env.wait("reopened", Duration::from_secs(60), "reopened", |status| status["phase"] != "Failed");
    let status = ends_like_an_undisturbed_run(env, "reopened");
    let failed =
        status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == "Failed").cloned();
    assert_eq!(failed.map(|condition| condition["status"].clone()), Some(json!("False")), "{status:#}");
}

/// The operator is killed while the run trains and a new one takes over without disturbing the run.
pub fn operator_restart_keeps_the_attempt(env: &mut Environment) {
    env.apply("orphan", &env.spec("orphan")).unwrap();
    env.wait("orphan", Duration::from_secs(90), "training", |status| status["phase"] == "Training");
    let selector = "app.kubernetes.io/name=simsiam-operator";
    env.cluster.kubectl(&["delete", "pod", "-n", SYSTEM, "-l", selector, "--force", "--grace-period=0"]).unwrap();
    let status = env.wait_for("orphan", "Succeeded", LIMIT);
    assert_eq!(status["stages"][0]["attempts"], 1, "{status:#}");
    if let Some(undisturbed) = &env.undisturbed {
        assert_eq!(status["results"]["weightsSha256"].as_str(), Some(undisturbed.as_str()));
    }
}

/// Moves the operator off the node that will be stopped; otherwise it would be unavailable for five minutes.
fn move_operator_off(env: &Environment, node: usize) {
    let name = format!("node-{node}");
    env.cluster.kubectl(&["cordon", &name]).unwrap();
    let pods = env.cluster.json(&["get", "pods", "-n", SYSTEM]).unwrap();
    let here = pods["items"].as_array().unwrap().iter().any(|pod| pod["spec"]["nodeName"] == name.as_str());
    if here {
        env.cluster.kubectl(&["rollout", "restart", "deployment", "-n", SYSTEM]).unwrap();
        env.cluster.kubectl(&["rollout", "status", "deployment", "-n", SYSTEM, "--timeout=90s"]).unwrap();
    }
    env.cluster.kubectl(&["uncordon", &name]).unwrap();
}

fn recovers(env: &Environment, name: &str, stop: impl FnOnce(usize)) {
    move_operator_off(env, 2);
    env.apply(name, &env.spec(name)).unwrap();
    env.wait_for_checkpoint(name, name);
    let pods = env.pods(name);
    assert!(pods.iter().any(|pod| pod["spec"]["nodeName"] == "node-2"), "{pods:#?}");
    let start = Instant::now();
    stop(2);
    let status = env.wait(name, Duration::from_secs(150), "on its second attempt", |status| {
        assert_ne!(status["phase"], "Failed", "{status:#}");
        status["attempt"]["number"] == 2 || status["phase"] == "Succeeded"
    });
    println!("{name}: the next attempt came {:.0} s after the node's end", start.elapsed().as_secs_f64());
    assert_eq!(status["restarts"]["counted"], 0, "a lost node is not counted: {status:#}");
    ends_like_an_undisturbed_run(env, name);
}

/// Its containers keep running and writing; their checkpoints belong to another attempt and must cause no confusion.
pub fn node_without_kubelet_restarts_the_run(env: &mut Environment) {
    recovers(env, "headless", |node| env.cluster.node(node).unwrap().stop_kubelet().unwrap());
    env.cluster.node(2).unwrap().start().unwrap();
}

pub fn dead_node_restarts_the_run(env: &mut Environment) {
    recovers(env, "bereaved", |node| env.cluster.node(node).unwrap().kill().unwrap());
    env.cluster.node(2).unwrap().start().unwrap();
}
