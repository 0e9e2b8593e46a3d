//! Carries out what was planned. Every write is idempotent.

use futures_util::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::api::{RunIdentity, SimSiamRun};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::names;
use crate::plan::Action;

/// The API server.
#[derive(Clone, Copy)]
pub struct Cluster<'a> {
    /// The client.
    pub client: &'a Client,
    /// Counts the requests.
    pub metrics: &'a Metrics,
}

/// Nodes that are looked up at once. A gang has up to a thousand.
const NODES: usize = 32;

/// Whether a status was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was written.
    Yes,
    /// It was current already.
    Unchanged,
    /// The object has changed since it was read, so the plan is outdated.
    Stale,
}

impl Cluster<'_> {
    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Writes the status over the version that was planned from, and over no other: this function owns that invariant.
    ///
    /// # Errors
    /// If the server refuses it for any reason but a change of the object.
    pub async fn write_status(
        &self,
        run: &RunIdentity,
        object: &SimSiamRun,
        status: &impl Serialize,
    ) -> Result<Written, Error> {
        let before = object.status.as_ref().map(|json| json.value()).unwrap_or_else(|| json!({}));
        let after = serde_json::to_value(status).map_err(|e| Error::Internal(e.to_string()))?;
        let Some(difference) = difference(&before, &after) else { return Ok(Written::Unchanged) };
        let patch = json!({"metadata": {"resourceVersion": object.metadata.resource_version}, "status": difference});
        self.metrics.count_request("patch");
        let api: Api<SimSiamRun> = self.api(&run.key.namespace);
        match api.patch_status(&run.key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => Ok(Written::Yes),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Written::Stale),
            Err(source) => {
                let name = run.key.name.clone();
                Err(Error::Api { action: "write the status of", kind: "SimSiamRun", name, source })
            }
        }
    }

    /// Carries out one action.
    ///
    /// # Errors
    /// If the server refuses it. An object that exists already, or is gone already, is no error.
    pub async fn perform(&self, run: &RunIdentity, action: &Action) -> Result<(), Error> {
        let namespace = run.key.namespace.as_str();
        match action {
            Action::ApplyService(service) => self.apply::<Service>(namespace, "Service", service).await,
            Action::ApplyNetworkPolicy(policy) => self.apply::<NetworkPolicy>(namespace, "NetworkPolicy", policy).await,
            Action::CreateConfigMap(map) => self.create::<ConfigMap>(namespace, "ConfigMap", map).await,
            Action::CreateJob(job) => self.create::<Job>(namespace, "Job", job).await,
            Action::DeleteJob { name, uid } => {
                let how = DeleteParams::foreground();
                self.delete::<Job>(namespace, "Job", name, uid, how).await
            }
            Action::ForceDeletePod { name, uid } => {
                let how = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
                self.delete::<Pod>(namespace, "Pod", name, uid, how).await
            }
            Action::DeleteRun => {
                let (name, how) = (&run.key.name, DeleteParams::foreground());
                self.delete::<SimSiamRun>(namespace, "SimSiamRun", name, &run.uid, how).await
            }
        }
    }

    /// Looks up whether nodes are ready. A node that cannot be read is left out; one that does not exist is not ready.
    pub async fn nodes(&self, names: Vec<String>) -> Vec<(String, bool)> {
        let found = futures_util::stream::iter(names).map(|name| self.node(name)).buffer_unordered(NODES);
        found.filter_map(std::future::ready).collect().await
    }

    async fn node(&self, name: String) -> Option<(String, bool)> {
        let api: Api<Node> = Api::all(self.client.clone());
        self.metrics.count_request("get");
        match api.get_opt(&name).await {
            Ok(Some(node)) => {
                let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
                let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
                Some((name, ready))
            }
            Ok(None) => Some((name, false)),
            Err(e) => {
                tracing::warn!(node = name, "cannot read the node: {e}");
                None
            }
        }
    }

    async fn apply<K>(&self, namespace: &str, kind: &'static str, object: &K) -> Result<(), Error>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Serialize
            + Clone
            + std::fmt::Debug
            + for<'de> serde::Deserialize<'de>,
    {
        let name = name_of(kind, object)?;
        self.metrics.count_request("apply");
        let how = PatchParams::apply(names::OPERATOR).force();
        match self.api::<K>(namespace).patch(&name, &how, &Patch::Apply(object)).await {
            Ok(_) => Ok(()),
            Err(source) => Err(Error::Api { action: "apply", kind, name, source }),
        }
    }

    async fn create<K>(&self, namespace: &str, kind: &'static str, object: &K) -> Result<(), Error>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Serialize
            + Clone
            + std::fmt::Debug
            + for<'de> serde::Deserialize<'de>,
    {
        let name = name_of(kind, object)?;
        self.metrics.count_request("create");
        let how = PostParams { field_manager: Some(names::OPERATOR.into()), ..PostParams::default() };
        match self.api::<K>(namespace).create(&how, object).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(source) => Err(Error::Api { action: "create", kind, name, source }),
        }
    }

    async fn delete<K>(
        &self,
        namespace: &str,
        kind: &'static str,
        name: &str,
        uid: &str,
        how: DeleteParams,
    ) -> Result<(), Error>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + for<'de> serde::Deserialize<'de>,
    {
        self.metrics.count_request("delete");
        let how = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..how
        };
        match self.api::<K>(namespace).delete(name, &how).await {
            Ok(_) => Ok(()),
            // Gone, or replaced by another object of the same name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(source) => Err(Error::Api { action: "delete", kind, name: name.to_owned(), source }),
        }
    }
}

fn name_of<K: kube::Resource>(kind: &str, object: &K) -> Result<String, Error> {
    object.meta().name.clone().ok_or_else(|| Error::Internal(format!("a {kind} was built without a name")))
}

/// The JSON merge patch that turns `before` into `after`; `None` if they are equal.
fn difference(before: &Value, after: &Value) -> Option<Value> {
    // API servers return 11800 for 11800.0.
    let same_number = matches!((before.as_f64(), after.as_f64()), (Some(old), Some(new)) if old == new);
    if before == after || same_number {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (before, after) else { return Some(after.clone()) };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        match old.get(key) {
            Some(there) => {
                if let Some(inner) = difference(there, value) {
                    patch.insert(key.clone(), inner);
                }
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_removes_fields_that_are_gone() {
        let before = json!({"phase": "Training", "progress": {"loss": -0.5, "step": 1}, "same": [1]});
        let after = json!({"phase": "Pending", "progress": {"step": 2}, "same": [1], "reason": "X"});
        let patch = json!({"phase": "Pending", "progress": {"loss": null, "step": 2}, "reason": "X"});
        assert_eq!(difference(&before, &after), Some(patch));
        assert_eq!(difference(&before, &before), None);
        assert_eq!(difference(&json!({"x": {"y": 11800}}), &json!({"x": {"y": 11800.0}})), None);
    }
}
