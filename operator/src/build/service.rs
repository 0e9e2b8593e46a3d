//! The headless Service: names for the pods, before they are ready, since they find one another by them.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{metadata, pods_of};
use crate::api::{Run, SimSiamRun};
use crate::{names, progress};

/// The Service of a run.
pub fn service(object: &SimSiamRun, run: &Run) -> Service {
    let port = i32::from(progress::PORT);
    Service {
        metadata: metadata(object, run, names::service(&run.name)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(pods_of(run)),
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
