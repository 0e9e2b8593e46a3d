//! Who may talk to the pods of a run: one another on every port (NCCL and Gloo use ephemeral ones), the operator and
//! Prometheus on the metrics port, nobody else. Pods on the host's network are outside its reach.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Settings, metadata, pods_of};
use crate::api::{Run, SimSiamRun};
use crate::{names, progress};

/// The NetworkPolicy of a run.
pub fn network_policy(object: &SimSiamRun, run: &Run, settings: &Settings) -> NetworkPolicy {
    let gang = NetworkPolicyPeer { pod_selector: Some(labels(pods_of(run))), ..NetworkPolicyPeer::default() };
    let mut askers = vec![NetworkPolicyPeer {
        namespace_selector: Some(namespace(Some(&settings.namespace))),
        pod_selector: Some(labels(settings.operator_labels.clone())),
        ..NetworkPolicyPeer::default()
    }];
    askers.extend(settings.prometheus.as_ref().map(|peer| NetworkPolicyPeer {
        namespace_selector: Some(namespace(peer.namespace.as_deref())),
        pod_selector: Some(labels(peer.labels.clone())),
        ..NetworkPolicyPeer::default()
    }));
    let metrics = NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(progress::PORT))),
        protocol: Some("TCP".into()),
        ..NetworkPolicyPort::default()
    };
    NetworkPolicy {
        metadata: metadata(object, run, names::network_policy(&run.name)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labels(pods_of(run))),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule { from: Some(vec![gang]), ports: None },
                NetworkPolicyIngressRule { from: Some(askers), ports: Some(vec![metrics]) },
            ]),
            egress: None,
        }),
    }
}

fn labels(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: (!labels.is_empty()).then_some(labels), match_expressions: None }
}

fn namespace(name: Option<&str>) -> LabelSelector {
    let label = |name: &str| [("kubernetes.io/metadata.name".to_owned(), name.to_owned())].into();
    labels(name.filter(|name| !name.is_empty()).map(label).unwrap_or_default())
}
