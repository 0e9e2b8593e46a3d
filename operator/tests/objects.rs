//! Snapshots of every built object, and the definition of the resource in `crds/`, its chart and the docs.
//!
//! After an intended change run `INSTA_UPDATE=always cargo test -p simsiam-operator --test objects`, and review the
//! difference. The definition is written by `cargo xtask crds`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use serde_json::{Value, json};
use simsiam_operator::api::{self, ValidatedRun};
use simsiam_operator::build::{Objects, Settings};
use simsiam_operator::plan::Action;
use simsiam_recipe::Stage;
use world::{World, object, settings, spec};

fn objects(spec: &Value) -> Vec<(String, Value)> {
    let mut world = World::new(spec);
    let plan = world.step();
    let json = |action: &Action| match action {
        Action::ApplyService(object) => ("service".to_owned(), serde_json::to_value(object).unwrap()),
        Action::ApplyNetworkPolicy(object) => ("network-policy".to_owned(), serde_json::to_value(object).unwrap()),
        Action::CreateConfigMap(object) => ("config-map".to_owned(), serde_json::to_value(object).unwrap()),
        Action::CreateJob(object) => ("job".to_owned(), serde_json::to_value(object).unwrap()),
        other => panic!("{other:?}"),
    };
    plan.actions.iter().map(json).collect()
}

fn snapshot(name: &str, value: &Value) {
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(name, serde_json::to_string_pretty(value).unwrap());
    });
}

#[test]
fn objects_of_a_plain_run_match_their_snapshots() {
    for (name, value) in objects(&spec()) {
        snapshot(&format!("plain-{name}"), &value);
    }
}

#[test]
fn objects_of_a_run_with_all_fields_match_their_snapshots() {
    let full = json!({
        "dataset": {"train": "pvc://images/train", "val": "pvc://images/val",
            "cache": {"sizeLimit": "200Gi", "volume": {"hostPath": "/var/cache/simsiam"}}},
        "output": {"uri": "pvc://models/r"},
        "weights": "pvc://others/moco.pth.tar",
        "pretrain": {"epochs": 1},
        "image": "registry.example.com/trainer@sha256:0000",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}],
        "priorityClassName": "high",
        "queueName": "gpus",
        "terminationGracePeriodSeconds": 300,
        "restartPolicy": {"stallTimeout": "5m", "rendezvousTimeout": "90s"},
        "workers": {
            "nodes": 4, "gpusPerNode": 8, "threadsPerRank": 6,
            "resources": {"cpu": "96", "memory": "900Gi", "ephemeralStorage": "50Gi"},
            "shmSize": "16Gi",
            "network": {"hostNetwork": true, "rdmaResource": "rdma/hca", "ipcLock": true, "env": {"NCCL_IB_HCA": "mlx5"}},
            "nodeSelector": {"gpu": "h100"},
            "nodeAffinity": [{"key": "zone", "operator": "In", "values": ["a"]}],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
            "serviceAccountName": "bucket-writer",
            "runtimeClassName": "nvidia",
            "schedulerName": "volcano",
            "labels": {"team": "vision"},
            "annotations": {"note": "x"},
            "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
        },
    });
    for (name, value) in objects(&full).into_iter().filter(|(name, _)| name == "job" || name == "config-map") {
        snapshot(&format!("full-{name}"), &value);
    }
}

#[test]
fn pods_have_no_token_and_do_not_run_as_root() {
    let objects = objects(&spec());
    let (_, job) = objects.iter().find(|(name, _)| name == "job").unwrap();
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["capabilities"], json!({"drop": ["ALL"]}));
}

/// A run's objects are deleted with the run.
#[test]
fn every_object_is_owned_by_its_run() {
    for (name, value) in objects(&spec()) {
        let owner = &value["metadata"]["ownerReferences"][0];
        assert_eq!((&owner["uid"], &owner["controller"]), (&json!("run-uid"), &json!(true)), "{name}");
        assert_eq!(value["metadata"]["labels"]["simsiam.dev/run"], "r", "{name}");
    }
}

#[test]
fn names_of_a_long_run_fit_63_characters() {
    let mut object = object(&spec());
    let name = "a".repeat(40);
    object.metadata.name = Some(name.clone());
    let run = ValidatedRun::read(&object).unwrap();
    let attempt = serde_json::from_value(json!({
        "number": 9999, "job": simsiam_operator::names::job(&name, Stage::Finetune, 9999), "state": "Creating",
        "created": "2026-01-01T00:00:00Z",
    }))
    .unwrap();
    let objects = Objects::of(&run, Stage::Finetune, &attempt, &Settings::default());
    let host = format!("{}-1023", objects.job.metadata.name.unwrap());
    assert!(host.len() <= 63, "{host}");
    assert!(objects.service.metadata.name.unwrap().len() <= 63);
    assert!(objects.config_map.metadata.name.unwrap().len() <= 63);
}

#[test]
fn run_file_of_the_pods_has_only_the_recipe() {
    let mut with = spec();
    with["dataset"]["cache"] = json!({"volume": {"hostPath": "/x"}});
    let run = ValidatedRun::read(&object(&with)).unwrap();
    let file = simsiam_recipe::RunFile::parse(run.document(), "run.yaml").unwrap();
    assert!(file.cluster_only.is_empty(), "{:?}", file.cluster_only);
    assert_eq!(file.recipe, run.recipe);
}

#[test]
fn crd_in_crds_chart_and_docs_is_current_and_small() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/simsiamruns.simsiam.dev.yaml");
    let there = std::fs::read_to_string(path).unwrap();
    assert!(there == api::crd_yaml().unwrap(), "crds/ is not current: run `cargo xtask crds`");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/simsiam-crds/templates/simsiamruns.simsiam.dev.yaml");
    let template = std::fs::read_to_string(path).unwrap();
    assert!(template == api::crd_template().unwrap(), "charts/simsiam-crds is not current: run `cargo xtask crds`");
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md")).unwrap();
    assert!(page == api::reference().unwrap(), "docs/reference.md is not current: run `cargo xtask crds`");
    let bytes = serde_json::to_string(&api::crd().unwrap()).unwrap().len();
    // `kubectl apply` keeps the whole in an annotation of at most 262,144 bytes.
    assert!(bytes < 100_000, "{bytes}");
}

/// The cluster fields that a run file may have are exactly those of the definition.
#[test]
fn recipe_lists_exactly_the_cluster_fields() {
    let spec = serde_json::to_value(simsiam_operator::api::ClusterSpec {
        image: Some("x".into()),
        image_pull_policy: Some(api::ImagePullPolicy::Never),
        image_pull_secrets: vec![api::NamedReference { name: "x".into() }],
        termination_grace_period_seconds: Some(60),
        priority_class_name: Some("x".into()),
        queue_name: Some("x".into()),
        managed_by: Some("x".into()),
        ttl: Some("1s".into()),
        active_deadline: Some("1s".into()),
        ..Default::default()
    })
    .unwrap();
    let mut fields: Vec<_> = spec.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, simsiam_recipe::CLUSTER_ONLY);
}

#[test]
fn network_policy_without_prometheus_admits_only_the_operator() {
    let run = ValidatedRun::read(&object(&spec())).unwrap();
    let attempt = serde_json::from_value(json!({
        "number": 1, "job": "r-pretrain-1", "state": "Creating", "created": "2026-01-01T00:00:00Z",
    }))
    .unwrap();
    let settings = Settings { prometheus: None, ..settings() };
    let objects = Objects::of(&run, Stage::Pretrain, &attempt, &settings);
    let ingress = objects.network_policy.spec.unwrap().ingress.unwrap();
    assert_eq!(ingress[1].from.as_ref().unwrap().len(), 1);
}
