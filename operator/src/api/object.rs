//! The resource as an API server sends it.

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use simsiam_recipe::KIND;

use super::group::{GROUP, PLURAL, VERSION};
use super::status::Status;

/// A `SimSiamRun` as received. `spec` and `status` stay text until they are read, so that one malformed object does not
/// end the watch of all others, and so that ten thousand of them take little memory.
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

    /// Reads the document as a type.
    ///
    /// # Errors
    /// If it does not have that form.
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

    /// The run's status; an empty one if it has none.
    ///
    /// # Errors
    /// If this version cannot read it. It must not count as empty: a finished run would start again.
    pub fn status(&self) -> Result<Status, serde_json::Error> {
        self.status.as_ref().map_or_else(|| Ok(Status::default()), Json::read)
    }

    /// `metadata.generation`; 0 before the API server has set it.
    pub fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or(0)
    }
}
