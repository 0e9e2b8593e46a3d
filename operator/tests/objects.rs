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
fn claims_of_the_probe_are_mounted() {
    let mut spec = spec();
    spec["dataset"] = json!({"train": "s3://images/all", "probe": {"train": "pvc://a/train", "val": "pvc://b/val"}});
    let (_, job) = objects(&spec).into_iter().find(|(name, _)| name == "job").unwrap();
    let volumes = job["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let mut claims: Vec<_> =
        volumes.iter().filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str()).collect();
    claims.sort_unstable();
    assert_eq!(claims, ["a", "b"]);
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
        "workloadPriorityClassName": "urgent",
        "terminationGracePeriodSeconds": 300,
        "restartPolicy": {"stallTimeout": "5m", "rendezvousTimeout": "90s"},
        "workers": {
            "nodes": 4, "gpusPerNode": 8, "gpuResource": "nvidia.com/mig-3g.40gb", "threadsPerRank": 6,
            "resources": {"cpu": "96", "memory": "900Gi", "ephemeralStorage": "50Gi",
                "extended": {"vpc.amazonaws.com/efa": "32", "hugepages-2Mi": "5Gi"}},
            "resourceClaims": [{"name": "nic", "resourceClaimTemplateName": "rdma-nic"},
                {"name": "shared", "resourceClaimName": "fabric"}],
            "volumes": [
                {"mountPath": "/etc/keys", "secret": "keys", "readOnly": true},
                {"mountPath": "/etc/settings", "configMap": "settings"},
                {"mountPath": "/data", "persistentVolumeClaim": "images", "subPath": "train"},
                {"mountPath": "/fast", "hostPath": "/mnt/nvme"},
                {"mountPath": "/scratch", "emptyDir": {"sizeLimit": "10Gi"}},
            ],
            "caBundle": {"configMap": "private-ca", "key": "bundle.pem"},
            "shmSize": "16Gi",
            "network": {"hostNetwork": true, "rdmaResource": "rdma/hca", "ipcLock": true, "env": {"NCCL_IB_HCA": "mlx5"}},
            "nodeSelector": {"gpu": "h100"},
            "nodeAffinity": [{"key": "zone", "operator": "In", "values": ["a"]}],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "env": [
                {"name": "NCCL_DEBUG", "value": "INFO"},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
                {"name": "HTTPS_PROXY", "valueFrom": {"configMapKeyRef": {"name": "proxy", "key": "url", "optional": true}}},
                {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
            ],
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
fn secrets_of_storage_and_tracker_become_environment_variables() {
    let names = |output: Option<&str>, tracker: Option<&str>| {
        let mut spec = spec();
        spec["output"]["credentialsSecret"] = json!(output);
        spec["track"] = json!({"mlflow": {"uri": "https://mlflow.example.com", "credentialsSecret": tracker}});
        let (_, job) = objects(&spec).into_iter().find(|(name, _)| name == "job").unwrap();
        let sources =
            job["spec"]["template"]["spec"]["containers"][0]["envFrom"].as_array().cloned().unwrap_or_default();
        assert!(sources.iter().all(|source| source["secretRef"]["optional"] == false), "{sources:?}");
        sources.iter().map(|source| source["secretRef"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(Some("keys"), Some("mlflow")), ["mlflow", "keys"], "of a key in both, the storage's value counts");
    assert_eq!(names(Some("keys"), Some("keys")), ["keys"]);
    assert_eq!(names(None, Some("mlflow")), ["mlflow"]);
    assert_eq!(names(None, None), [""; 0]);
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

/// The container of a stage's Job.
fn container(spec: &Value, stage: Stage) -> Value {
    let run = ValidatedRun::read(&object(spec)).unwrap();
    let attempt = serde_json::from_value(json!({
        "number": 1, "job": "r-1", "state": "Creating", "created": "2026-01-01T00:00:00Z",
    }))
    .unwrap();
    let job = Objects::of(&run, stage, &attempt, &settings()).job;
    serde_json::to_value(job).unwrap()["spec"]["template"]["spec"]["containers"][0].clone()
}

/// Without requests a pod is of class BestEffort, which an overloaded node kills first.
#[test]
fn pod_without_resources_has_small_requests_and_no_limits() {
    let mut with = spec();
    with["workers"] = json!({});
    let requests = json!({"cpu": "100m", "memory": "256Mi"});
    assert_eq!(container(&with, Stage::Pretrain)["resources"], json!({"requests": requests}));
    with["workers"] = json!({"resources": {"memory": "8Gi"}});
    let expected = json!({"limits": {"memory": "8Gi"}, "requests": {"cpu": "100m", "memory": "8Gi"}});
    assert_eq!(container(&with, Stage::Pretrain)["resources"], expected);
}

/// Such a cluster assigns the IDs of each namespace, and admits no others.
#[test]
fn user_ids_are_left_to_the_cluster_unless_the_run_sets_them() {
    let ids = |omit_user_ids, security: Value| {
        let mut with = spec();
        with["workers"]["securityContext"] = security;
        let run = ValidatedRun::read(&object(&with)).unwrap();
        let attempt = serde_json::from_value(json!({
            "number": 1, "job": "r-1", "state": "Creating", "created": "2026-01-01T00:00:00Z",
        }))
        .unwrap();
        let settings = Settings { omit_user_ids, ..settings() };
        let job = Objects::of(&run, Stage::Pretrain, &attempt, &settings).job;
        let context = job.spec.unwrap().template.spec.unwrap().security_context.unwrap();
        assert_eq!(context.run_as_non_root, Some(true));
        (context.run_as_user, context.run_as_group, context.fs_group)
    };
    let default = json!({"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532});
    assert_eq!(ids(false, default.clone()), (Some(65532), Some(65532), Some(65532)));
    assert_eq!(ids(true, default), (None, None, None));
    assert_eq!(ids(true, json!({"runAsUser": 1000})), (Some(1000), Some(65532), Some(65532)));
}

#[test]
fn devices_are_requested_by_the_stages_that_use_gpus() {
    let mut with = spec();
    with["workers"] = json!({"nodes": 2, "gpusPerNode": 8, "gpuResource": "nvidia.com/mig-1g.10gb",
        "resources": {"extended": {"rdma/hca": "8"}}, "network": {"rdmaResource": "rdma/hca"},
        "resourceClaims": [{"name": "nic", "resourceClaimTemplateName": "nics"}]});
    for (stage, gpus) in [(Stage::Pretrain, "8"), (Stage::Knn, "8"), (Stage::Report, "1")] {
        let resources = &container(&with, stage)["resources"];
        let limits = json!({"rdma/hca": "8", "nvidia.com/mig-1g.10gb": gpus});
        assert_eq!(resources["limits"], limits, "{stage:?}");
        assert_eq!(resources["claims"], json!([{"name": "nic"}]), "{stage:?}");
    }
    for stage in [Stage::Prepare, Stage::Export] {
        let resources = &container(&with, stage)["resources"];
        assert!(resources["limits"].is_null() && resources["claims"].is_null(), "{stage:?}: {resources}");
    }
}

/// Both make a gang of a Job's pods by its annotation; neither does by default.
/// A value in the pod would replace that of a device plugin.
#[test]
fn only_pods_that_request_no_devices_hide_those_of_their_node() {
    let variables = |workers: Value, stage| -> Vec<(String, String)> {
        let mut spec = spec();
        spec["workers"] = workers;
        let env = container(&spec, stage)["env"].as_array().unwrap().clone();
        let word = |variable: &Value, key: &str| variable[key].as_str().unwrap_or_default().to_owned();
        let ours = ["NVIDIA_VISIBLE_DEVICES", "SIMSIAM_GPUS"];
        let all = env.iter().map(|variable| (word(variable, "name"), word(variable, "value")));
        all.filter(|(name, _)| ours.contains(&name.as_str())).collect()
    };
    let void = [("NVIDIA_VISIBLE_DEVICES".to_owned(), "void".to_owned())];
    assert_eq!(variables(json!({"nodes": 1}), Stage::Pretrain), void);
    let gpus = json!({"nodes": 1, "gpusPerNode": 4});
    assert_eq!(variables(gpus.clone(), Stage::Pretrain), [("SIMSIAM_GPUS".to_owned(), "4".to_owned())]);
    assert_eq!(variables(gpus, Stage::Export), void);
    let others = json!({"nodes": 1, "resources": {"extended": {"nvidia.com/mig-1g.10gb": "1"}}});
    assert_eq!(variables(others.clone(), Stage::Pretrain), []);
    assert_eq!(variables(others, Stage::Export), void);
    let claimed = json!({"nodes": 1, "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "gpu"}]});
    assert_eq!(variables(claimed, Stage::Knn), []);
}

#[test]
fn gang_has_the_annotations_of_its_scheduler() {
    let job = |gang: Value, scheduler: Option<&str>| {
        let mut with = spec();
        with["workers"]["gang"] = gang;
        with["workers"]["schedulerName"] = json!(scheduler);
        let objects = objects(&with);
        let job = objects.into_iter().find(|(name, _)| name == "job").unwrap().1;
        let pods = job["spec"]["template"].clone();
        (job["metadata"].clone(), pods["metadata"].clone(), pods["spec"]["schedulerName"].clone())
    };
    let (metadata, pods, scheduler) = job(json!({"scheduler": "volcano", "queue": "vision"}), None);
    assert_eq!(metadata["annotations"], json!({"scheduling.volcano.sh/group-min-member": "2"}));
    let annotations = json!({"scheduling.volcano.sh/queue-name": "vision", "linkerd.io/inject": "disabled"});
    assert_eq!(pods["annotations"], annotations);
    assert_eq!(scheduler, "volcano");
    let (metadata, pods, scheduler) = job(json!({"scheduler": "kai", "queue": "vision"}), None);
    assert_eq!(metadata["annotations"], json!({"kai.scheduler/batch-min-member": "2"}));
    for labels in [&metadata["labels"], &pods["labels"]] {
        assert_eq!(labels["kai.scheduler/queue"], "vision");
    }
    assert_eq!(scheduler, "kai-scheduler");
    let (_, _, scheduler) = job(json!({"scheduler": "kai"}), Some("kai-scheduler-2"));
    assert_eq!(scheduler, "kai-scheduler-2");
    let (metadata, _, scheduler) = job(Value::Null, None);
    assert!(metadata["annotations"].is_null() && scheduler.is_null(), "{metadata} {scheduler}");
}

#[test]
fn pods_ask_for_no_sidecars_unless_the_user_does() {
    let template = |spec: &Value| {
        let (_, job) = objects(spec).into_iter().find(|(name, _)| name == "job").unwrap();
        job["spec"]["template"]["metadata"].clone()
    };
    let metadata = template(&spec());
    assert_eq!(metadata["labels"]["sidecar.istio.io/inject"], "false");
    assert_eq!(metadata["annotations"]["linkerd.io/inject"], "disabled");
    let mut with = spec();
    with["workers"]["annotations"] = json!({"sidecar.istio.io/inject": "true", "linkerd.io/inject": "enabled"});
    let metadata = template(&with);
    assert_eq!(metadata["labels"]["sidecar.istio.io/inject"], Value::Null);
    assert_eq!(metadata["annotations"], with["workers"]["annotations"]);
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
        "number": 9999, "job": simsiam_operator::names::job(&name, "run-uid", Stage::Finetune, 9999), "state": "Creating",
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

/// `spec` as an API server stores it: with the defaults of the definition.
fn stored(spec: &Value) -> Value {
    fn fill(value: &mut Value, schema: &Value) {
        if let Value::Array(entries) = value {
            entries.iter_mut().for_each(|entry| fill(entry, &schema["items"]));
        }
        let Value::Object(fields) = value else { return };
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(default) = schema.get("default").filter(|_| !fields.contains_key(name)) {
                fields.insert(name.clone(), default.clone());
            }
            if let Some(field) = fields.get_mut(name) {
                fill(field, schema);
            }
        }
    }
    let definition = serde_json::to_value(api::crd().unwrap()).unwrap();
    let mut spec = spec.clone();
    fill(&mut spec, &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]);
    spec
}

/// An older trainer, to which a run may be pinned, refuses the fields that a newer definition adds with their defaults.
#[test]
fn run_file_of_the_pods_omits_defaults_that_the_api_server_added() {
    let mut written = spec();
    written["dataset"]["pack"] = json!({"maxSide": 500});
    written["dataset"]["cache"] = json!({});
    written["knn"] = json!({"protocols": [{"k": 20, "temperature": 0.1}]});
    written["linear"] = json!({"preset": "linear-lars"});
    written["finetune"] = json!({});
    written["report"] = json!({"views": 3});
    written["checkpoint"] = json!({"keepLast": 7});
    let stored = stored(&written);
    assert_eq!(stored["dataset"]["decode"], "exact");
    assert_eq!(stored["checkpoint"]["everyEpochs"], 1);
    let run = ValidatedRun::read(&object(&stored)).unwrap();
    let document: Value = serde_json::from_str(run.document()).unwrap();
    written.as_object_mut().unwrap().remove("workers");
    assert_eq!(document["spec"], written);
    let file = simsiam_recipe::RunFile::parse(run.document(), "run.yaml").unwrap();
    assert_eq!(file.recipe, run.recipe);
}

/// The rules of a part of the definition that `self` breaks, by the path that they report; those of changes if there is an
/// `oldSelf`.
fn broken(schema: &Value, value: &Value, old: Option<&Value>) -> Vec<String> {
    let mut paths = Vec::new();
    for rule in schema["x-kubernetes-validations"].as_array().unwrap() {
        let text = rule["rule"].as_str().unwrap();
        if text.contains("oldSelf") != old.is_some() {
            continue;
        }
        let mut context = cel::Context::default();
        context.add_variable("self", value.clone()).unwrap();
        context.add_variable("oldSelf", old.cloned().unwrap_or_default()).unwrap();
        match cel::Program::compile(text).unwrap().execute(&context).unwrap() {
            cel::Value::Bool(true) => {}
            cel::Value::Bool(false) => paths.push(rule["fieldPath"].as_str().unwrap_or_default().to_owned()),
            other => panic!("{text}: {other:?}"),
        }
    }
    paths
}

fn schema(pointer: &str) -> Value {
    let definition = serde_json::to_value(api::crd().unwrap()).unwrap();
    let root = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    definition.pointer(&format!("{root}{pointer}")).unwrap_or_else(|| panic!("{pointer}")).clone()
}

/// How the same data is reached may change: keys are renewed, and servers move.
#[test]
fn change_of_training_field_is_refused_and_of_access_allowed() {
    let mut old = spec();
    old["dataset"]["cache"] = json!({"sizeLimit": "1Gi"});
    let changed = |pointer: &str, value: Value| {
        let mut new = old.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        new.pointer_mut(parent).unwrap()[field] = value;
        broken(&schema(""), &new, Some(&old))
    };
    for (pointer, value) in [
        ("/dataset/cache", json!({"sizeLimit": "2Gi", "volume": {"hostPath": "/x"}})),
        ("/dataset/endpoint", json!("https://a")),
        ("/dataset/region", json!("a")),
        ("/output/endpoint", json!("https://a")),
        ("/output/region", json!("a")),
        ("/output/credentialsSecret", json!("other")),
        ("/track", json!({"mlflow": {"uri": "https://a"}})),
        ("/workers/nodes", json!(3)),
    ] {
        assert_eq!(changed(pointer, value), [""; 0], "{pointer}");
    }
    for (pointer, value, path) in [
        ("/dataset/train", json!("s3://other/train"), ".dataset.train"),
        ("/dataset/val", json!("s3://other/val"), ".dataset.val"),
        ("/dataset/probe", json!({"train": "s3://other/a", "val": "s3://other/b"}), ".dataset.probe"),
        ("/dataset/imageKey", json!("left.jpg"), ".dataset.imageKey"),
        ("/dataset/imageColumn", json!("img"), ".dataset.imageColumn"),
        ("/dataset/labelColumn", json!("fine_label"), ".dataset.labelColumn"),
        ("/dataset/pack", json!({}), ".dataset.pack"),
        ("/output/uri", json!("s3://other/r"), ".output.uri"),
        ("/pretrain/epochs", json!(11), ".pretrain"),
        ("/linear", json!({}), ".linear"),
    ] {
        assert_eq!(changed(pointer, value), [path], "{pointer}");
    }
}

/// A timeout of zero would end each attempt at once.
#[test]
fn zero_duration_is_refused_where_it_has_no_meaning() {
    let refused = |pointer: &str, text: &str| !broken(&schema(pointer), &json!(text), None).is_empty();
    for field in ["stallTimeout", "scheduleTimeout", "startTimeout", "rendezvousTimeout"] {
        let pointer = format!("/properties/restartPolicy/properties/{field}");
        for bad in ["0s", "0h00m0s", "", "soon"] {
            assert!(refused(&pointer, bad), "{field}: {bad}");
        }
        for good in ["1s", "10m", "1h0m30s"] {
            assert!(!refused(&pointer, good), "{field}: {good}");
        }
    }
    assert!(refused("/properties/activeDeadline", "0s"));
    assert!(!refused("/properties/ttl", "0s"), "a run may be deleted at its end");
}

#[test]
fn resource_names_quantities_and_alternatives_are_checked() {
    let workers = "/properties/workers/properties";
    let resources =
        |extended: Value| broken(&schema(&format!("{workers}/resources")), &json!({"extended": extended}), None);
    for good in [json!({"rdma/hca": "8", "hugepages-2Mi": "5Gi"}), json!({})] {
        assert_eq!(resources(good), [""; 0]);
    }
    for bad in [json!({"rdma": "8"}), json!({"cpu": "8"}), json!({"rdma/hca": "many"}), json!({"rdma/hca": ""})] {
        assert_eq!(resources(bad.clone()), [".extended"], "{bad}");
    }
    let either = |field: &str, value: Value| broken(&schema(&format!("{workers}/{field}/items")), &value, None).len();
    assert_eq!(either("env", json!({"name": "A", "value": "x"})), 0);
    assert_eq!(either("env", json!({"name": "A"})), 1);
    assert_eq!(either("env", json!({"name": "A", "value": "x", "valueFrom": {}})), 1);
    assert_eq!(either("volumes", json!({"mountPath": "/a", "secret": "x"})), 0);
    assert_eq!(either("volumes", json!({"mountPath": "/a"})), 1);
    assert_eq!(either("volumes", json!({"mountPath": "/a", "secret": "x", "hostPath": "/x"})), 1);
    assert_eq!(either("resourceClaims", json!({"name": "a", "resourceClaimName": "x"})), 0);
    assert_eq!(either("resourceClaims", json!({"name": "a"})), 1);
    let mount = schema(&format!("{workers}/volumes/items/properties/mountPath"));
    assert_eq!(broken(&mount, &json!(simsiam_contract::names::CACHE_FOLDER), None).len(), 1);
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
        workload_priority_class_name: Some("x".into()),
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
