//! The whole YAML document that `simsiam run -f` and `kubectl apply -f` accept.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{Error, Violation, ViolationKind};
use crate::overrides;
use crate::recipe::Recipe;
use crate::rule_engine;
use crate::rules;
use crate::shape::nearest;
use crate::validate;
use crate::yaml::{self, Document, child};

/// The `apiVersion` of a run's file.
pub const API_VERSION: &str = "simsiam.dev/v1alpha1";

/// The `kind` of a run's file.
pub const KIND: &str = "SimSiamRun";

/// Fields of `spec` that say how a cluster runs the recipe. [`RunFile`] returns them unparsed.
pub const CLUSTER_ONLY: &[&str] = &[
    "activeDeadline",
    "image",
    "imagePullPolicy",
    "imagePullSecrets",
    "managedBy",
    "priorityClassName",
    "queueName",
    "restartPolicy",
    "suspend",
    "terminationGracePeriodSeconds",
    "ttl",
    "workers",
    "workloadPriorityClassName",
];

/// The one field inside a recipe's object that belongs to the cluster; it appears under this name in
/// [`RunFile::cluster_only`].
pub const CACHE_VOLUME: &str = "dataset.cache.volume";

/// A run file is a page of text; anything far larger is a different file.
const LIMIT_BYTES: u64 = 1 << 20;

/// Fields a Kubernetes object's `metadata` may have; only the name has a meaning here.
const METADATA: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// A `SimSiamRun` as the local commands read it: validated, with presets and defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFile {
    /// The run's name, `metadata.name`.
    pub name: String,
    /// What to train.
    pub recipe: Recipe,
    /// The fields of `spec` that only a cluster uses ([`CLUSTER_ONLY`], and `dataset.cache.volume` under that
    /// name), as written in the file.
    pub cluster_only: BTreeMap<String, Value>,
}

impl RunFile {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, and those of [`RunFile::parse`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::load_with(path, &[])
    }

    /// Reads a file and overrides fields of its `spec`, each given as `pretrain.epochs=10`.
    ///
    /// # Errors
    /// As [`RunFile::load`], and [`Error::Override`].
    pub fn load_with(path: &Path, fields: &[String]) -> Result<Self, Error> {
        let unreadable = |source| Error::Read { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
        let origin = path.display().to_string();
        if bytes > LIMIT_BYTES {
            return Err(Error::TooLarge { origin, bytes, limit: LIMIT_BYTES });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse_with(&text, &origin, fields)
    }

    /// Reads the text of a file; `origin` names it in errors.
    ///
    /// # Errors
    /// [`Error::Yaml`] if it is not one YAML document, [`Error::Invalid`] with every violation.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        Self::parse_with(text, origin, &[])
    }

    /// Validates a parsed document, such as an API server returns; `origin` names it in errors.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every violation.
    pub fn from_value(document: Value, origin: &str) -> Result<Self, Error> {
        read(document, &[]).map_err(|violations| Error::Invalid { origin: origin.to_owned(), violations })
    }

    fn parse_with(text: &str, origin: &str, fields: &[String]) -> Result<Self, Error> {
        let mut document = yaml::parse(text, origin)?;
        let mut value = std::mem::take(&mut document.value);
        fields.iter().try_for_each(|field| overrides::apply(&mut value, field))?;
        read(value, &document.not_finite).map_err(|mut violations| {
            for violation in &mut violations {
                violation.place = nearest_place(&document, &violation.path);
            }
            violations
                .sort_by_key(|violation| violation.place.map_or((u64::MAX, 0), |place| (place.line, place.column)));
            Error::Invalid { origin: origin.to_owned(), violations }
        })
    }

    /// `workers.threadsPerRank`: intra-op threads of each rank.
    pub fn threads_per_rank(&self) -> Option<u32> {
        let threads = self.cluster_only.get("workers")?.get("threadsPerRank")?;
        threads.as_u64().and_then(|n| u32::try_from(n).ok())
    }
}

fn nearest_place(document: &Document, path: &str) -> Option<crate::error::Position> {
    let mut path = path;
    loop {
        if let Some(place) = document.places.get(path) {
            return Some(*place);
        }
        path = &path[..path.rfind(['.', '['])?];
    }
}

fn read(document: Value, not_finite: &[(String, String)]) -> Result<RunFile, Vec<Violation>> {
    let mut violations: Vec<_> = not_finite
        .iter()
        .map(|(path, number)| {
            let value = ViolationKind::Invalid(number.as_str().into());
            problem(path, value, "must be a finite number")
        })
        .collect();
    let Value::Object(document) = without_nulls(document) else {
        return Err(vec![problem(
            "(document)",
            ViolationKind::Required,
            &format!("a run file has apiVersion: {API_VERSION}, kind: {KIND}, metadata and spec"),
        )]);
    };
    let name = envelope(&document, &mut violations);
    let empty = Value::Object(Map::new());
    let spec = match document.get("spec") {
        None => {
            violations.push(problem("spec", ViolationKind::Required, ""));
            None
        }
        Some(spec) => Some(spec),
    };
    let (spec_fields, cluster_only) = split(spec.unwrap_or(&empty).clone());
    threads_per_rank(&cluster_only, &mut violations);
    let recipe = match spec {
        None => Err(Vec::new()),
        Some(_) => validate::read(&spec_fields, CLUSTER_ONLY),
    };
    match recipe {
        Ok(recipe) if violations.is_empty() => Ok(RunFile { name, recipe, cluster_only }),
        Ok(_) => Err(violations),
        Err(more) => {
            violations.extend(more);
            Err(violations)
        }
    }
}

/// Checks the fields around `spec` that every Kubernetes object has; returns the run's name.
fn envelope(document: &Map<String, Value>, violations: &mut Vec<Violation>) -> String {
    const TOP: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];
    unknown(document, TOP, "", violations);
    for (key, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match document.get(key) {
            Some(value) if value == expected => {}
            Some(value) => {
                violations.push(problem(key, ViolationKind::Unsupported(value.clone()), &format!("must be {expected}")))
            }
            None => {
                violations.push(problem(key, ViolationKind::Required, &format!("must be {expected}")));
            }
        }
    }
    let nothing = Map::new();
    let metadata = match document.get("metadata") {
        Some(Value::Object(metadata)) => metadata,
        Some(other) => {
            let kind = ViolationKind::Invalid(other.clone());
            violations.push(problem("metadata", kind, "must be of type object"));
            return String::new();
        }
        None => &nothing,
    };
    unknown(metadata, METADATA, "metadata", violations);
    match metadata.get("name") {
        Some(Value::String(name)) => {
            let schema = json!({"x-kubernetes-validations": rules::run_rules()});
            let object = json!({"metadata": {"name": name}});
            for mut broken in rule_engine::broken_rules(&schema, &object, "", false) {
                "metadata.name".clone_into(&mut broken.path);
                violations.push(broken);
            }
            name.clone()
        }
        Some(other) => {
            let kind = ViolationKind::Invalid(other.clone());
            violations.push(problem("metadata.name", kind, "must be of type string: put it in quotes"));
            String::new()
        }
        None => {
            violations.push(problem("metadata.name", ViolationKind::Required, ""));
            String::new()
        }
    }
}

fn unknown(object: &Map<String, Value>, known: &[&str], path: &str, out: &mut Vec<Violation>) {
    for key in object.keys().filter(|key| !known.contains(&key.as_str())) {
        let detail = match nearest(key, known.iter().copied()) {
            Some(name) => format!("did you mean {name:?}?"),
            None => format!("known fields: {}", known.join(", ")),
        };
        out.push(problem(&child(path, key), ViolationKind::Unknown, &detail));
    }
}

/// Separates the cluster's fields from `spec`.
fn split(mut spec: Value) -> (Value, BTreeMap<String, Value>) {
    let mut cluster_only = BTreeMap::new();
    if let Some(fields) = spec.as_object_mut() {
        for key in CLUSTER_ONLY {
            if let Some(value) = fields.remove(*key) {
                cluster_only.insert((*key).to_owned(), value);
            }
        }
        if let Some(Value::Object(cache)) = spec.pointer_mut("/dataset/cache")
            && let Some(volume) = cache.remove("volume")
        {
            cluster_only.insert(CACHE_VOLUME.to_owned(), volume);
        }
    }
    (spec, cluster_only)
}

fn threads_per_rank(cluster_only: &BTreeMap<String, Value>, out: &mut Vec<Violation>) {
    let Some(threads) = cluster_only.get("workers").and_then(|workers| workers.get("threadsPerRank")) else {
        return;
    };
    if !threads.as_u64().is_some_and(|n| (1..=1024).contains(&n)) {
        out.push(problem(
            "spec.workers.threadsPerRank",
            ViolationKind::Invalid(threads.clone()),
            "must be between 1 and 1024",
        ));
    }
}

/// Removes fields that are null, as an API server does.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        Value::Array(entries) => Value::Array(entries.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

fn problem(path: &str, kind: ViolationKind, detail: &str) -> Violation {
    Violation { path: path.to_owned(), kind, detail: detail.to_owned(), place: None }
}
