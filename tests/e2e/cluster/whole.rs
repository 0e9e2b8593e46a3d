//! An undisturbed run.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use simsiam_tests::weights;

use super::environment::Environment;

/// `kubectl apply`, and the run goes from images in a bucket to weights in a bucket.
pub fn run_goes_from_images_to_weights(env: &mut Environment) {
    let mut spec = env.spec("whole");
    spec["linear"] = json!({"epochs": 2, "batchSize": 64, "lr": 0.5, "optimizer": "sgd"});
    spec["export"] = json!(["safetensors", "torchvision"]);
    // The keys one by one instead of the whole Secret, and files beside them.
    let secret = spec["output"].as_object_mut().unwrap().remove("credentialsSecret").unwrap();
    let key = |name: &str| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}});
    spec["workers"]["env"] = json!([key("AWS_ACCESS_KEY_ID"), key("AWS_SECRET_ACCESS_KEY")]);
    spec["workers"]["volumes"] = json!([
        {"mountPath": "/etc/keys", "secret": secret, "readOnly": true},
        {"mountPath": "/scratch", "emptyDir": {"sizeLimit": "1Gi"}},
    ]);
    env.apply("whole", &spec).unwrap();

    env.wait("whole", Duration::from_secs(90), "training", |status| status["phase"] == "Training");
    let pods = env.pods("whole");
    let nodes: BTreeSet<_> = pods.iter().map(|pod| pod["spec"]["nodeName"].to_string()).collect();
    assert_eq!((pods.len(), nodes.len()), (2, 2), "a pod on each node: {nodes:?}");
    assert_eq!(pods[0]["status"]["qosClass"], "Burstable", "not BestEffort: {:#}", pods[0]["spec"]);
    let status = env.wait("whole", Duration::from_secs(90), "with a loss", |status| {
        status["progress"]["loss"].is_number() && status["progress"]["imagesPerSecond"].is_number()
    });
    assert_eq!(status["workers"], json!({"nodes": 2, "ready": 2, "gpus": 0}));
    let table = env.cluster.kubectl(&["get", "ssr"]).unwrap();
    assert!(table.contains("PHASE") && table.contains("REASON") && table.contains("pretrain"), "{table}");
    println!("{table}");

    let status = env.wait_for("whole", "Succeeded", Duration::from_secs(300));
    let results = &status["results"];
    assert!(results["linearTop1"].as_f64().is_some_and(|top1| top1 > 0.0), "{results}");
    assert!(status["completionTime"].is_string(), "{status}");
    env.cluster.kubectl(&["wait", "ssr/whole", "--for=condition=Ready", "--timeout=10s"]).unwrap();
    assert!(results["checkpoint"].as_str().is_some_and(|uri| uri.ends_with("step-000000096-a1")), "{results}");
    let states: Vec<_> = status["stages"].as_array().unwrap().iter().map(|s| (&s["name"], &s["state"])).collect();
    let done = json!("Done");
    assert_eq!(states, [(&json!("pretrain"), &done), (&json!("linear"), &done), (&json!("export"), &done)]);

    // What the status names is there, and loads.
    let output = env.buckets().join("models/whole");
    let exports = results["exports"].as_array().unwrap();
    assert_eq!(exports.len(), 2, "{results}");
    let file = exports.iter().filter_map(Value::as_str).find(|file| file.ends_with(".safetensors")).unwrap();
    let tensors = weights(&fs::read(output.join(file)).unwrap());
    assert!(tensors.contains_key("conv1.weight") && tensors.len() > 50, "{} tensors", tensors.len());
    let written: Value = serde_json::from_slice(&fs::read(output.join("result.json")).unwrap()).unwrap();
    assert_eq!(written["weightsSha256"], results["weightsSha256"]);
    assert_eq!(written["linear"]["top1"].as_f64().map(f64::round), results["linearTop1"].as_f64().map(f64::round));
    env.undisturbed = results["weightsSha256"].as_str().map(str::to_owned);

    let events = env.cluster.kubectl(&["get", "events", "--field-selector", "involvedObject.name=whole"]).unwrap();
    for reason in ["StageStarted", "StageDone", "Succeeded"] {
        assert!(events.contains(reason), "{events}");
    }
    let metrics = operator_metrics(env);
    assert!(metrics.contains("simsiam_operator_runs{phase=\"Succeeded\"} 1"), "{metrics}");
    assert!(metrics.contains("simsiam_operator_leader 1"), "{metrics}");
}

/// The operator's metrics, by the API server's proxy.
pub fn operator_metrics(env: &Environment) -> String {
    let selector = "app.kubernetes.io/name=simsiam-operator";
    let pods = env.cluster.json(&["get", "pods", "-n", super::environment::SYSTEM, "-l", selector]).unwrap();
    let name = pods["items"][0]["metadata"]["name"].as_str().unwrap();
    let path = format!("/api/v1/namespaces/{}/pods/{name}:8080/proxy/metrics", super::environment::SYSTEM);
    env.cluster.kubectl(&["get", "--raw", &path]).unwrap()
}
