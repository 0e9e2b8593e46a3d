//! The headless Service: DNS names for the pods, even before they are ready, because they find one another by name.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use simsiam_contract::names::METRICS_PORT;

use super::metadata::metadata;
use crate::api::ValidatedRun;
use crate::names;

/// The Service of a run.
pub fn service(run: &ValidatedRun) -> Service {
    let port = i32::from(METRICS_PORT);
    Service {
        metadata: metadata(run, names::service(run.name())),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::pod_selector(run.name())),
            ports: Some(vec![ServicePort {
                name: Some("metrics".into()),
                port,
                protocol: Some("TCP".into()),
                target_port: Some(IntOrString::Int(port)),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
