//! A run whose identity and spec were checked.

use std::sync::OnceLock;

use serde_json::{Value, json};
use simsiam_recipe::{API_VERSION, CACHE_VOLUME, KIND, Recipe, RunFile};

use super::identity::RunIdentity;
use super::object::{Json, SimSiamRun};
use super::spec::{CacheVolume, ClusterSpec};

/// A run with a complete identity and a valid spec: what planning and building work on.
#[derive(Debug, Clone)]
pub struct ValidatedRun {
    /// Name, namespace and uid.
    pub identity: RunIdentity,
    /// What to train.
    pub recipe: Recipe,
    /// How the cluster runs it.
    pub cluster: ClusterSpec,
    /// `dataset.cache.volume`.
    pub cache_volume: CacheVolume,
    document: OnceLock<String>,
    spec: Json,
}

impl ValidatedRun {
    /// Reads and checks a run.
    ///
    /// # Errors
    /// What is wrong with its metadata or spec, for the user.
    pub fn read(object: &SimSiamRun) -> Result<Self, String> {
        let identity = RunIdentity::of(object).map_err(|missing| missing.to_string())?;
        let mut file = RunFile::from_value(run_file(&identity, &object.spec.value()), "spec").map_err(|error| {
            // Each line begins with the origin `spec`, which adds nothing here.
            error.to_string().lines().map(|line| line.trim_start_matches("spec: ")).collect::<Vec<_>>().join("; ")
        })?;
        let cache_volume = match file.cluster_only.remove(CACHE_VOLUME) {
            Some(volume) => serde_json::from_value(volume).map_err(|e| format!("spec.{CACHE_VOLUME}: {e}"))?,
            None => CacheVolume::default(),
        };
        let cluster = serde_json::to_value(&file.cluster_only).and_then(serde_json::from_value);
        let cluster = cluster.map_err(|e| format!("spec: {e}"))?;
        Ok(Self {
            identity,
            recipe: file.recipe,
            cluster,
            cache_volume,
            document: OnceLock::new(),
            spec: object.spec.clone(),
        })
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.identity.key.name
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> &str {
        &self.identity.key.namespace
    }

    /// The run file that the pods read: the recipe without the fields that only a cluster uses, and without defaults,
    /// which the API server adds. A run may name an image older than the definition: its trainer refuses a field that it
    /// does not know, which would end the run with an upgrade of the definition.
    pub fn document(&self) -> &str {
        self.document.get_or_init(|| {
            let mut spec = self.spec.value();
            if let Some(fields) = spec.as_object_mut() {
                fields.retain(|key, _| !simsiam_recipe::CLUSTER_ONLY.contains(&key.as_str()));
            }
            if let Some(Value::Object(cache)) = spec.pointer_mut("/dataset/cache") {
                cache.remove("volume");
            }
            simsiam_recipe::without_defaults(&mut spec);
            serde_json::to_string_pretty(&run_file(&self.identity, &spec)).unwrap_or_default()
        })
    }
}

fn run_file(identity: &RunIdentity, spec: &Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": identity.key.name}, "spec": spec})
}
