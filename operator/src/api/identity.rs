//! Which run: its name, namespace and uid, checked once.

use kube::core::ObjectMeta;
use kube::runtime::reflector::ObjectRef;

use super::object::SimSiamRun;

/// A run's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunKey {
    /// The namespace.
    pub namespace: String,
    /// The run's name.
    pub name: String,
}

impl RunKey {
    /// The key as kube's queue needs it.
    pub fn to_reference(&self) -> ObjectRef<SimSiamRun> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

/// What the API server gives every object. No object is built, looked up or deleted without it, so that a missing uid can
/// never match another missing uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunIdentity {
    /// `metadata.namespace` and `metadata.name`.
    pub key: RunKey,
    /// `metadata.uid`.
    pub uid: String,
}

/// Metadata that every stored object has is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the object {name} has no metadata.{field}")]
pub struct MissingMetadata {
    /// The object's name, if it has one.
    pub name: String,
    /// The missing field.
    pub field: &'static str,
}

impl RunIdentity {
    /// Reads the identity of a run.
    ///
    /// # Errors
    /// If name, namespace or uid is missing.
    pub fn of(object: &SimSiamRun) -> Result<Self, MissingMetadata> {
        let metadata = &object.metadata;
        let required = |value: &Option<String>, field| required(metadata, value, field);
        Ok(Self {
            key: RunKey {
                namespace: required(&metadata.namespace, "namespace")?,
                name: required(&metadata.name, "name")?,
            },
            uid: required(&metadata.uid, "uid")?,
        })
    }
}

fn required(metadata: &ObjectMeta, value: &Option<String>, field: &'static str) -> Result<String, MissingMetadata> {
    let found = value.clone().filter(|value| !value.is_empty());
    found.ok_or_else(|| MissingMetadata { name: metadata.name.clone().unwrap_or_else(|| "?".to_owned()), field })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn identity_with_missing_metadata_is_refused() {
        let whole = json!({"metadata": {"name": "r", "namespace": "n", "uid": "u"}, "spec": {}});
        let identity = |value: &Value| RunIdentity::of(&serde_json::from_value(value.clone()).unwrap());
        assert_eq!(identity(&whole).unwrap().uid, "u");
        for field in ["name", "namespace", "uid"] {
            let mut without = whole.clone();
            without["metadata"].as_object_mut().unwrap().remove(field);
            assert_eq!(identity(&without).unwrap_err().field, field);
            without["metadata"][field] = json!("");
            assert_eq!(identity(&without).unwrap_err().field, field);
        }
    }
}
