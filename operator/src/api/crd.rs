//! The definition of the resource, as in `crds/` and, as a template, in its chart.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use simsiam_recipe::rules::{self, Rule};
use simsiam_recipe::schema;

use super::group::{GROUP, PLURAL, VERSION};
use super::spec::{CacheVolume, ClusterSpec};
use super::status::Status;

/// Training fields, which cannot change after the run is created. The others of `dataset` and `output` say how the same data
/// is reached: the cache, endpoints, regions, credentials.
const IMMUTABLE: &[&str] = &[
    "dataset.train",
    "dataset.val",
    "dataset.probe",
    "dataset.imageKey",
    "dataset.imageColumn",
    "dataset.labelColumn",
    "dataset.decode",
    "dataset.pack",
    "output.uri",
    "pretrain",
    "knn",
    "linear",
    "finetune",
    "weights",
    "export",
    "report",
];

/// On a cluster a plain path would be inside a container, which is deleted with its pod.
const OUTPUT: Rule = Rule::on(
    "uri",
    "self.matches('^(s3|gs|az|pvc)://')",
    "must be s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or pvc://claim/path on a cluster",
);

/// The definition of `simsiamruns.simsiam.dev`.
///
/// # Errors
/// If the schema is malformed, which is a bug.
pub fn crd() -> Result<CustomResourceDefinition, serde_json::Error> {
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{PLURAL}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": "SimSiamRun",
                "listKind": "SimSiamRunList",
                "plural": PLURAL,
                "singular": "simsiamrun",
                "shortNames": ["ssr"],
                "categories": ["all"],
            },
            "scope": "Namespaced",
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "additionalPrinterColumns": columns(),
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.workers.nodes",
                        "statusReplicasPath": ".status.workers.nodes",
                    },
                },
                "schema": {"openAPIV3Schema": root()},
            }],
        },
    }))
}

/// The definition as YAML, for the file in `crds/`.
///
/// # Errors
/// If the schema is malformed, which is a bug.
pub fn crd_yaml() -> Result<String, String> {
    let crd = crd().and_then(serde_json::to_value).map_err(|e| e.to_string())?;
    serde_saphyr::to_string(&crd).map_err(|e| e.to_string())
}

/// The definition as the template in `charts/simsiam-crds/`. Helm upgrades it, and keeps it, and so all runs, when its
/// release is uninstalled.
///
/// # Errors
/// If the schema is malformed, which is a bug.
pub fn crd_template() -> Result<String, String> {
    let name = format!("metadata:\n  name: {PLURAL}.{GROUP}\n");
    let more = "  labels: {{- include \"simsiam-crds.labels\" . | nindent 4 }}\n  annotations:\n    helm.sh/resource-policy: keep\n";
    // Text of descriptions that looks like a template is escaped.
    let text = crd_yaml()?.replace("{{", "{{`{{`}}");
    match text.split_once(&name) {
        Some((before, after)) => Ok(format!("{before}{name}{more}{after}")),
        None => Err("the definition has no metadata.name".into()),
    }
}

fn columns() -> Value {
    let column = |name: &str, kind: &str, path: &str, priority: u8, text: &str| json!({"name": name, "type": kind, "jsonPath": path, "priority": priority, "description": text});
    json!([
        column("Phase", "string", ".status.phase", 0, "State of the run"),
        column("Reason", "string", ".status.reason", 0, "Reason for the phase"),
        column("Stage", "string", ".status.stage", 0, "Current stage"),
        column("Epoch", "integer", ".status.progress.epoch", 0, "Finished epochs of the stage"),
        column("Of", "integer", ".status.progress.epochs", 1, "Epochs of the stage"),
        column("Loss", "number", ".status.progress.loss", 0, "Mean loss of the last interval"),
        column("Img/s", "number", ".status.progress.imagesPerSecond", 0, "Images per second over all ranks"),
        column("kNN", "number", ".status.results.knnTop1", 0, "kNN top-1 in percent"),
        column("Linear", "number", ".status.results.linearTop1", 0, "Linear top-1 in percent"),
        column("ETA", "string", ".status.progress.eta", 0, "Estimated end of the stage"),
        column("Pod", "string", ".status.pod", 1, "Pod that the reason is about"),
        column("Message", "string", ".status.message", 1, "Reason in one sentence"),
        column("Age", "date", ".metadata.creationTimestamp", 0, "Time since the run was created"),
    ])
}

fn root() -> Value {
    let mut spec = simsiam_recipe::schema();
    let cluster = schema::of::<ClusterSpec>().to_value();
    merge(&mut spec, &cluster, "properties");
    merge(&mut spec, &cluster, "x-kubernetes-validations");
    for field in IMMUTABLE {
        let rule = json!({
            "rule": format!("has(self.{field}) == has(oldSelf.{field}) \
                && (!has(self.{field}) || self.{field} == oldSelf.{field})"),
            "message": "cannot be changed after creation; create another run",
            "fieldPath": format!(".{field}"),
        });
        append(&mut spec, rule);
    }
    if let Some(cache) = spec.pointer_mut("/properties/dataset/properties/cache/properties") {
        let mut volume = schema::of::<CacheVolume>().to_value();
        describe(&mut volume, "The volume with the local copies. Default: one that is deleted with the pod.");
        cache["volume"] = volume;
    }
    if let Some(Value::Object(output)) = spec.pointer_mut("/properties/output")
        && let Ok(mut schema) = schemars::Schema::try_from(Value::Object(output.clone()))
    {
        rules::attach(&mut schema, &[OUTPUT]);
        if let Value::Object(with_rule) = schema.to_value() {
            *output = with_rule;
        }
    }
    describe(&mut spec, "What to train, and how the cluster runs it.");
    let mut status = schema::of::<Status>().to_value();
    describe(&mut status, "State of the run, and why.");
    // Named for the field path of the rule on the run's name; the API server adds the rest of the metadata.
    let metadata = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    json!({
        "type": "object",
        "description": "A SimSiam pre-training run with its evaluation and export.",
        "required": ["spec"],
        "x-kubernetes-validations": rules::run_rules(),
        "properties": {"metadata": metadata, "spec": spec, "status": status},
    })
}

fn describe(schema: &mut Value, text: &str) {
    schema["description"] = text.into();
}

fn append(schema: &mut Value, rule: Value) {
    if let Some(rules) = schema["x-kubernetes-validations"].as_array_mut() {
        rules.push(rule);
    }
}

fn merge(into: &mut Value, from: &Value, key: &str) {
    match (&mut into[key], &from[key]) {
        (Value::Object(into), Value::Object(from)) => {
            into.extend(from.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        _ => {}
    }
}
