//! Carries out what was planned. Every write is idempotent.

use futures_util::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::api::{RunIdentity, SimSiamRun};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::names;
use crate::observe::{EventFacts, Unexplained};
use crate::plan::Action;

/// The API server.
#[derive(Clone, Copy)]
pub struct Cluster<'a> {
    /// The client.
    pub client: &'a Client,
    /// Counts the requests.
    pub metrics: &'a Metrics,
}

/// Requests for nodes or Events that are sent at once. A gang has up to a thousand nodes.
const CONCURRENT: usize = 32;

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

/// A kind of object that runs have.
trait Child:
    kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Serialize
    + Clone
    + std::fmt::Debug
    + for<'de> serde::Deserialize<'de>
{
}

impl Child for Service {}
impl Child for NetworkPolicy {}
impl Child for ConfigMap {}
impl Child for Job {}

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
    /// If the server refuses it, or if an object of this name exists that is not the run's: such an object is neither
    /// changed nor deleted. An object of the run that exists already, or is gone already, is no error.
    pub async fn perform(&self, run: &RunIdentity, action: &Action) -> Result<(), Error> {
        let namespace = run.key.namespace.as_str();
        match action {
            Action::ApplyService(service) => self.apply::<Service>(run, "Service", service).await,
            Action::ApplyNetworkPolicy(policy) => self.apply::<NetworkPolicy>(run, "NetworkPolicy", policy).await,
            Action::CreateConfigMap(map) => self.create::<ConfigMap>(run, "ConfigMap", map).await,
            Action::CreateJob(job) => self.create::<Job>(run, "Job", job).await,
            Action::DeleteJob { name, uid } => {
                let how = DeleteParams::foreground();
                self.delete::<Job>(namespace, "Job", name, uid, how).await
            }
            Action::DeletePod { name, uid } => {
                self.delete::<Pod>(namespace, "Pod", name, uid, DeleteParams::default()).await
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
        let found = futures_util::stream::iter(names).map(|name| self.node(name)).buffer_unordered(CONCURRENT);
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

    /// The newest Events of objects of a namespace, by their uid. Events only explain: without them nothing else changes.
    pub async fn events(&self, namespace: &str, objects: Vec<Unexplained>) -> Vec<(String, EventFacts)> {
        let found = futures_util::stream::iter(objects).map(|object| self.newest_event(namespace, object));
        found.buffer_unordered(CONCURRENT).filter_map(std::future::ready).collect().await
    }

    async fn newest_event(&self, namespace: &str, object: Unexplained) -> Option<(String, EventFacts)> {
        let events: Api<Event> = self.api(namespace);
        self.metrics.count_request("list");
        let how = ListParams::default().fields(&format!("regarding.uid={}", object.uid)).limit(100);
        match events.list(&how).await {
            Ok(list) => EventFacts::newest(&list.items, Some(object.since)).map(|event| (object.uid, event)),
            Err(e) => {
                tracing::warn!(namespace, uid = object.uid, "cannot list the Events of an object: {e}");
                None
            }
        }
    }

    /// Creates an object, or updates it if it exists and belongs to the run.
    async fn apply<K>(&self, run: &RunIdentity, kind: &'static str, object: &K) -> Result<(), Error>
    where
        K: Child,
    {
        let Some(uid) = self.create_or_find(run, kind, object).await? else { return Ok(()) };
        let name = name_of(kind, object)?;
        // The uid makes the server refuse to change another object of this name.
        let mut owned = object.clone();
        owned.meta_mut().uid = Some(uid);
        self.metrics.count_request("apply");
        let how = PatchParams::apply(names::OPERATOR).force();
        match self.api::<K>(&run.key.namespace).patch(&name, &how, &Patch::Apply(&owned)).await {
            Ok(_) => Ok(()),
            Err(source) => Err(Error::Api { action: "apply", kind, name, source }),
        }
    }

    /// Creates an object that is never changed.
    async fn create<K>(&self, run: &RunIdentity, kind: &'static str, object: &K) -> Result<(), Error>
    where
        K: Child,
    {
        self.create_or_find(run, kind, object).await.map(drop)
    }

    /// Creates an object. If the run has one of this name already, returns its uid; one that is not the run's is an error.
    async fn create_or_find<K>(
        &self,
        run: &RunIdentity,
        kind: &'static str,
        object: &K,
    ) -> Result<Option<String>, Error>
    where
        K: Child,
    {
        let name = name_of(kind, object)?;
        let api = self.api::<K>(&run.key.namespace);
        self.metrics.count_request("create");
        let how = PostParams { field_manager: Some(names::OPERATOR.into()), ..PostParams::default() };
        let refusal = match api.create(&how, object).await {
            Ok(_) => return Ok(None),
            Err(kube::Error::Api(status)) if status.code == 409 => kube::Error::Api(status),
            Err(source) => return Err(Error::Api { action: "create", kind, name, source }),
        };
        self.metrics.count_request("list");
        let listed = api.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await;
        let listed = listed.map_err(|source| Error::Api { action: "look up", kind, name: name.clone(), source })?;
        let Some(found) = listed.items.into_iter().find(|found| found.meta().name.as_ref() == Some(&name)) else {
            return Err(Error::Api { action: "create", kind, name, source: refusal });
        };
        let owner = found.owner_references().iter().find(|owner| owner.controller == Some(true));
        match (owner, &found.meta().uid) {
            (Some(owner), Some(uid)) if owner.uid == run.uid => Ok(Some(uid.clone())),
            (Some(owner), _) => {
                let owner = format!("its controller is {} {} with the uid {}", owner.kind, owner.name, owner.uid);
                Err(Error::NameTaken { kind, name, owner })
            }
            (None, _) => Err(Error::NameTaken { kind, name, owner: "it has no controller".into() }),
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
