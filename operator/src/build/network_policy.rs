//! Which pods may connect to the pods of a run: each other on every port (NCCL and Gloo use ephemeral ones), and the
//! operator and Prometheus on the metrics port. NetworkPolicies do not apply to pods on the host network.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use simsiam_contract::names::METRICS_PORT;

use super::metadata::metadata;
use super::settings::Settings;
use crate::api::ValidatedRun;
use crate::names;

/// The NetworkPolicy of a run.
pub fn network_policy(run: &ValidatedRun, settings: &Settings) -> NetworkPolicy {
    let gang = NetworkPolicyPeer {
        pod_selector: Some(labels(names::pod_selector(run.name()))),
        ..NetworkPolicyPeer::default()
    };
    let mut clients = vec![NetworkPolicyPeer {
        namespace_selector: Some(namespace(Some(&settings.namespace))),
        pod_selector: Some(labels(settings.operator_labels.clone())),
        ..NetworkPolicyPeer::default()
    }];
    clients.extend(settings.prometheus.as_ref().map(|peer| NetworkPolicyPeer {
        namespace_selector: Some(namespace(peer.namespace.as_deref())),
        pod_selector: Some(labels(peer.labels.clone())),
        ..NetworkPolicyPeer::default()
    }));
    let metrics = NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(METRICS_PORT))),
        protocol: Some("TCP".into()),
        ..NetworkPolicyPort::default()
    };
    NetworkPolicy {
        metadata: metadata(run, names::network_policy(run.name())),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labels(names::pod_selector(run.name()))),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule { from: Some(vec![gang]), ports: None },
                NetworkPolicyIngressRule { from: Some(clients), ports: Some(vec![metrics]) },
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
