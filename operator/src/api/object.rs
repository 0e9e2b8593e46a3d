//! The object as it comes from an API server, and what is read from it.

use std::borrow::Cow;
use std::sync::OnceLock;

use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use simsiam_recipe::{API_VERSION, CACHE_VOLUME, KIND, Recipe, RunFile};

use super::{CacheVolume, ClusterSpec, GROUP, PLURAL, Status, VERSION};

/// A `SimSiamRun` as it came: `spec` and `status` are text until somebody reads them, so that one malformed object
/// does not end the watch of all others, and so that ten thousand of them take little memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SimSiamRun {
    /// Kubernetes' metadata.
    pub metadata: ObjectMeta,
    /// What the user wrote.
    #[serde(default)]
    pub spec: Json,
    /// What the operator wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Json>,
}

/// A JSON document kept as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(Box<str>);

impl Json {
    /// The document.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// As a type.
    ///
    /// # Errors
    /// If it is none.
    pub fn read<T: for<'de> Deserialize<'de>>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

impl Default for Json {
    fn default() -> Self {
        Self("{}".into())
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(&Value::deserialize(deserializer)?))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

impl Resource for SimSiamRun {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        KIND.into()
    }

    fn group(_: &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version(_: &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural(_: &()) -> Cow<'_, str> {
        PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl SimSiamRun {
    /// Drops what the operator never reads: half of an object's size.
    pub fn slim(&mut self) {
        self.metadata.managed_fields = None;
        if let Some(annotations) = &mut self.metadata.annotations {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }

    /// The status it has; an unreadable one counts as none.
    pub fn status(&self) -> Status {
        self.status.as_ref().and_then(|json| json.read().ok()).unwrap_or_default()
    }
}

/// A run that was understood.
#[derive(Debug, Clone)]
pub struct Run {
    /// `metadata.name`.
    pub name: String,
    /// What to train.
    pub recipe: Recipe,
    /// How the cluster runs it.
    pub cluster: ClusterSpec,
    /// `dataset.cache.volume`.
    pub cache_volume: CacheVolume,
    /// The run file for the pods: the recipe as the user wrote it, without the cluster's fields.
    document: OnceLock<String>,
    spec: Json,
}

impl Run {
    /// Reads a run's `spec`.
    ///
    /// # Errors
    /// What is wrong with it, in a user's words.
    pub fn read(object: &SimSiamRun) -> Result<Self, String> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let spec = object.spec.value();
        let document = json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec});
        let mut file = RunFile::from_value(document, "spec").map_err(|error| {
            // The origin before each line says nothing here.
            error.to_string().lines().map(|line| line.trim_start_matches("spec: ")).collect::<Vec<_>>().join("; ")
        })?;
        let cache_volume = match file.cluster_only.remove(CACHE_VOLUME) {
            Some(volume) => serde_json::from_value(volume).map_err(|e| format!("spec.{CACHE_VOLUME}: {e}"))?,
            None => CacheVolume::default(),
        };
        let cluster = serde_json::to_value(&file.cluster_only).and_then(serde_json::from_value);
        let cluster = cluster.map_err(|e| format!("spec: {e}"))?;
        Ok(Self {
            name: file.name,
            recipe: file.recipe,
            cluster,
            cache_volume,
            document: OnceLock::new(),
            spec: object.spec.clone(),
        })
    }

    /// The run file that the pods read.
    pub fn document(&self) -> &str {
        self.document.get_or_init(|| {
            let mut spec = self.spec.value();
            if let Some(fields) = spec.as_object_mut() {
                fields.retain(|key, _| !simsiam_recipe::CLUSTER_ONLY.contains(&key.as_str()));
            }
            if let Some(Value::Object(cache)) = spec.pointer_mut("/dataset/cache") {
                cache.remove("volume");
            }
            let document =
                json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": self.name}, "spec": spec});
            serde_json::to_string_pretty(&document).unwrap_or_default()
        })
    }
}
