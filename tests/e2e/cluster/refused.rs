//! Refused files and impossible runs, and their messages.

use std::time::Duration;

use serde_json::{Value, json};
use simsiam_tests::{run, text, wait_until};

use super::environment::Environment;

pub fn crd_is_accepted_and_explained(env: &mut Environment) {
    let crd = env.cluster.json(&["get", "crd", "simsiamruns.simsiam.dev"]).unwrap();
    let conditions = crd["status"]["conditions"].to_string();
    assert!(!conditions.contains("NonStructuralSchema"), "{conditions}");
    let explained = env.cluster.kubectl(&["explain", "ssr.spec.pretrain.batchSize"]).unwrap();
    assert!(explained.contains("over all ranks"), "{explained}");
    let explained = env.cluster.kubectl(&["explain", "ssr.spec.workers.network.hostNetwork"]).unwrap();
    assert!(explained.contains("NetworkPolicies do not apply"), "{explained}");
    // The client-side way, which would keep the whole object in an annotation. The one that is there is Helm's.
    let file = simsiam_tests::root().join("crds/simsiamruns.simsiam.dev.yaml");
    env.cluster.kubectl(&["apply", "--dry-run=server", "-f", text(&file)]).unwrap();
}

/// A change of the spec, and a part of the message of both.
const BAD: &[(&str, &str, &str)] = &[
    ("/pretrain/batchSize", "0", "must be between 2 and 1048576"),
    ("/pretrain/epochs", "0", "must be between 1 and 100000"),
    ("/pretrain/warmupEpochs", "9", "must be at most epochs (8)"),
    ("/pretrain/lr", "-1", "must be above 0 and at most 1000"),
    ("/pretrain/arch", "\"resnet19\"", "resnet19"),
    ("/pretrain/baseWidth", "2", "must be between 4 and 1024"),
    ("/pretrain/accumulate", "5", "must divide batchSize (32) into micro-batches of 2 images or more"),
    ("/pretrain/augment/minScale", "2", "must be above 0 and at most 1"),
    ("/pretrain/projector/layers", "4", "must be 2 or 3"),
    ("/dataset/train", "\"ftp://x\"", "must be a path, file:///path, s3://bucket/prefix"),
    ("/dataset/pack", "{\"maxSide\": 100, \"shortSide\": 100}", "must not be set when maxSide is set (100)"),
    ("/output/endpoint", "\"localhost\"", "must be http://host:port or https://host:port"),
    ("/output/credentialsSecret", "\"Keys!\"", "must be the name of a Secret"),
    ("/checkpoint/keepLast", "0", "must be between 1 and 1000"),
    ("/linear", "{\"epochs\": 0}", "must be between 1 and 100000"),
    ("/finetune", "{\"fraction\": 1.5}", "must be above 0 and at most 1"),
    ("/knn", "{\"protocols\": [{\"k\": 0, \"temperature\": 0.1}]}", "must be between 1 and 1000000"),
    ("/report", "{\"views\": 100}", "must be between 0 and 48"),
    ("/weights", "\"s3:/x\"", "must be a path, file:///path, s3://bucket/prefix"),
];

/// Fields that only a cluster has, and a part of the API server's message.
const BAD_ON_CLUSTERS: &[(&str, &str, &str)] = &[
    ("/output/uri", "\"./out\"", "on a cluster"),
    ("/workers/nodes", "0", "must be between 1 and 1024"),
    ("/workers/procsPerNode", "0", "must be between 1 and 256"),
    ("/workers/resources", "{\"memory\": \"lots\"}", "must be a quantity"),
    ("/restartPolicy/stallTimeout", "\"soon\"", "must be a duration"),
    ("/restartPolicy/scheduleTimeout", "\"0s\"", "must be a duration above zero"),
    ("/workers/resources", "{\"extended\": {\"rdma\": \"8\"}}", "must be names of extended resources or hugepages"),
    ("/workers/env", "[{\"name\": \"A\"}]", "give either value or valueFrom"),
    (
        "/workers/volumes",
        "[{\"mountPath\": \"/tmp\", \"secret\": \"a\"}]",
        "must be a folder that the trainer does not use",
    ),
    ("/workers/volumes", "[{\"mountPath\": \"/a\"}]", "give one of configMap, secret"),
    ("/workers/resourceClaims", "[{\"name\": \"a\"}]", "give either resourceClaimTemplateName or resourceClaimName"),
    ("/ttl", "\"1 day\"", "must be a duration"),
    ("/terminationGracePeriodSeconds", "5", "must be between 30 and 86400"),
    ("/workers/network", "{\"rdmaResource\": \"hca\"}", "must be the name of an extended resource"),
];

/// The same mistake gets the same message, before anything runs.
pub fn bad_files_are_refused_alike_by_api_server_and_validate(env: &mut Environment) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.yaml");
    let bad = |pointer: &str, value: &str| {
        let mut spec = env.spec("bad");
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        spec.pointer_mut(parent).unwrap()[field] = serde_json::from_str(value).unwrap();
        spec
    };
    for (pointer, value, words) in BAD {
        let spec = bad(pointer, value);
        let document = json!({"apiVersion": "simsiam.dev/v1alpha1", "kind": "SimSiamRun",
            "metadata": {"name": "bad"}, "spec": spec});
        std::fs::write(&file, document.to_string()).unwrap();
        let (code, _, local) = run(&["validate", "-f", text(&file)]);
        assert_eq!(code, 78, "{pointer}: {local}");
        let refused = env.apply("bad", &spec).expect_err(pointer).to_string();
        let path = format!("spec{}", pointer.replace('/', "."));
        for said in [&local, &refused] {
            assert!(said.contains(words), "{pointer}: {said}");
            assert!(said.contains(&path), "{pointer}: {said}");
        }
    }
    for (pointer, value, words) in BAD_ON_CLUSTERS {
        let refused = env.apply("bad", &bad(pointer, value)).expect_err(pointer).to_string();
        assert!(refused.contains(words), "{pointer}: {refused}");
    }
    let refused = env.apply(&"x".repeat(41), &env.spec("x")).unwrap_err().to_string();
    assert!(refused.contains("metadata.name: Invalid value"), "{refused}");
    assert!(refused.contains("must be at most 40") && !refused.contains("<nil>"), "{refused}");
    env.apply("good", &{
        let mut spec = env.spec("good");
        spec["suspend"] = json!(true);
        spec
    })
    .unwrap();
}

pub fn training_fields_are_immutable(env: &mut Environment) {
    let mut spec = env.spec("fixed");
    spec["suspend"] = json!(true);
    env.apply("fixed", &spec).unwrap();
    let patch = |patch: Value| {
        env.cluster.kubectl(&["patch", "ssr", "fixed", "--type=merge", "-p", &json!({"spec": patch}).to_string()])
    };
    for fixed in [json!({"pretrain": {"epochs": 9}}), json!({"knn": {}}), json!({"output": {"uri": "s3://models/y"}})] {
        let refused = patch(fixed.clone()).unwrap_err().to_string();
        assert!(refused.contains("cannot be changed after creation"), "{fixed}: {refused}");
    }
    patch(json!({"workers": {"nodes": 1}, "checkpoint": {"keepLast": 5}, "ttl": "1h"})).unwrap();
    patch(json!({"dataset": {"cache": {"sizeLimit": "1Gi"}}, "output": {"region": "elsewhere"}})).unwrap();
    env.cluster.kubectl(&["scale", "ssr", "fixed", "--replicas=2"]).unwrap();
    assert_eq!(env.run("fixed")["spec"]["workers"]["nodes"], 2);
}

/// Concurrently: each shows its reason, fails, and does not retry.
pub fn impossible_run_fails_with_a_reason(env: &mut Environment) {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut spec = env.spec("refused");
        spec["restartPolicy"] = json!({"scheduleTimeout": "15s", "maxUnscheduled": 1});
        spec["workers"]["nodes"] = json!(1);
        change(&mut spec);
        spec
    };
    env.apply("no-image", &with(&|spec| spec["image"] = json!("simsiam.dev/no-such-image:1"))).unwrap();
    env.apply("no-secret", &with(&|spec| spec["output"]["credentialsSecret"] = json!("no-such-secret"))).unwrap();
    env.apply("no-bucket", &with(&|spec| spec["output"]["uri"] = json!("s3://no-such-bucket/x"))).unwrap();
    env.apply("no-gpu", &with(&|spec| spec["workers"]["gpusPerNode"] = json!(64))).unwrap();
    // The test cluster's GPUs exist for its scheduler only.
    let simulated = |spec: &mut Value| spec["workers"] = json!({"nodes": 1, "gpusPerNode": 1, "threadsPerRank": 1});
    if !env.is_external() {
        env.apply("no-driver", &with(&simulated)).unwrap();
    }
    // Divisible by what an API server knows of, not by the ranks.
    let ranks = |spec: &mut Value| spec["workers"] = json!({"nodes": 2, "procsPerNode": 3, "threadsPerRank": 1});
    env.apply("bad-recipe", &with(&ranks)).unwrap();

    let limit = Duration::from_secs(120);
    let pending = |name: &str, reasons: &[&str]| {
        let status = env.wait(name, Duration::from_secs(60), reasons[0], |status| {
            reasons.iter().any(|reason| status["reason"] == *reason)
        });
        assert!(status["pod"].as_str().is_some_and(|pod| pod.starts_with(name)), "{status:#}");
        assert!(status["message"].is_string(), "{status:#}");
    };
    pending("no-gpu", &["Unschedulable"]);
    pending("no-secret", &["CreateContainerConfigError"]);
    pending("no-image", &["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"]);
    let failed = |name: &str, reasons: &[&str], words: &str| {
        let status = env.wait_for(name, "Failed", limit);
        assert!(reasons.iter().any(|reason| status["reason"] == *reason), "{name}: {status:#}");
        assert!(status["message"].as_str().is_some_and(|message| message.contains(words)), "{name}: {status:#}");
        status
    };
    let status = failed("no-bucket", &["BadConfiguration"], "no-such-bucket");
    assert_eq!(status["attempt"]["number"], 1, "no second attempt");
    if !env.is_external() {
        let status = failed(
            "no-driver",
            &["BadConfiguration"],
            "1 GPU was requested, but CUDA is unavailable: no NVIDIA driver",
        );
        assert_eq!(status["attempt"]["number"], 1, "no second attempt");
    }
    failed("bad-recipe", &["BadConfiguration"], "batchSize");
    failed("no-secret", &["CreateContainerConfigError"], "no-such-secret");
    failed("no-image", &["ErrImagePull", "ImagePullBackOff"], "no-such-image");
    let status = failed("no-gpu", &["Unschedulable"], "Insufficient nvidia.com/gpu");
    assert_eq!(status["restarts"]["unscheduled"], 2, "one more try, and then no more");
    assert_eq!(status["restarts"]["counted"], 0);
    std::thread::sleep(Duration::from_secs(3));
    for name in ["no-image", "no-secret", "no-gpu"] {
        let pods = env.pods(name);
        assert!(pods.is_empty(), "{name} holds nothing any more: {pods:?}");
    }
}

/// The kubelet waits for a missing volume for ever.
pub fn pods_without_their_secret_volume_are_restarted(env: &mut Environment) {
    let mut spec = env.spec("unmounted");
    spec["restartPolicy"] = json!({"startTimeout": "40s"});
    spec["workers"]["volumes"] = json!([{"mountPath": "/keys", "secret": "no-such-keys"}]);
    env.apply("unmounted", &spec).unwrap();
    let names_the_secret =
        |status: &Value| status["message"].as_str().is_some_and(|message| message.contains("no-such-keys"));
    let status =
        env.wait("unmounted", Duration::from_secs(60), "FailedMount", |status| status["reason"] == "FailedMount");
    assert_eq!(status["restarts"]["counted"], 0, "while the first attempt waits: {status:#}");
    assert!(status["phase"] == "Pending" && names_the_secret(&status), "{status:#}");
    let status =
        env.wait("unmounted", Duration::from_secs(90), "restarted", |status| status["restarts"]["counted"] == 1);
    assert!(status["reason"] == "FailedMount" && names_the_secret(&status), "{status:#}");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "no-such-keys"},
        "stringData": {"key": "value"}});
    env.cluster.apply(&secret.to_string()).unwrap();
    let status = env.wait_for("unmounted", "Succeeded", Duration::from_secs(300));
    assert!(status["avoidedNodes"].is_null(), "the fault was not the node's: {status:#}");
    env.cluster.kubectl(&["delete", "secret", "no-such-keys"]).unwrap();
}

/// What a namespace allows is set by somebody else, whose words reach the user of the run.
pub fn quota_and_limit_range_are_named(env: &mut Environment) {
    const TEAM: &str = "team";
    let apply = |kind: &str, name: &str, spec: Value| {
        let object =
            json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": TEAM}, "spec": spec});
        env.cluster.apply(&object.to_string()).unwrap();
    };
    env.cluster.kubectl(&["create", "namespace", TEAM]).unwrap();
    env.secret(TEAM);
    let wait = |name: &str, reason: &str, words: &str| {
        wait_until(Duration::from_secs(120), &format!("{name}: {reason}: {words}"), || {
            let status = env.cluster.json(&["get", "ssr", name, "-n", TEAM]).unwrap()["status"].take();
            let says = status["message"].as_str().is_some_and(|message| message.contains(words));
            (says && status["reason"] == reason).then_some(())
        });
    };
    apply("ResourceQuota", "few-pods", json!({"hard": {"pods": "1"}}));
    let mut spec = env.spec("rationed");
    spec["restartPolicy"] = json!({"scheduleTimeout": "40s"});
    env.apply_in(TEAM, "rationed", &spec).unwrap();
    wait("rationed", "CreatingPods", "exceeded quota: few-pods");
    wait("rationed", "PodsNotCreated", "exceeded quota: few-pods");
    env.cluster.kubectl(&["delete", "ssr", "rationed", "-n", TEAM]).unwrap();
    env.cluster.kubectl(&["delete", "resourcequota", "few-pods", "-n", TEAM]).unwrap();

    let limits = json!({"limits": [{"type": "Container", "default": {"memory": "256Mi"}}]});
    apply("LimitRange", "small-containers", limits);
    let mut spec = env.spec("squeezed");
    spec["workers"]["nodes"] = json!(1);
    // Its weights, gradients and momentum alone are more than that.
    let pretrain = spec["pretrain"].as_object_mut().unwrap();
    pretrain.remove("baseWidth");
    pretrain.insert("arch".into(), json!("resnet50"));
    env.apply_in(TEAM, "squeezed", &spec).unwrap();
    wait("squeezed", "OOMKilled", "limit of 256Mi, which a LimitRange of the namespace set");
    env.cluster.kubectl(&["delete", "namespace", TEAM, "--wait=false"]).unwrap();
}
