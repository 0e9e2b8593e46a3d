//! Leader election: of several replicas only the holder of the lease reconciles.

use std::time::Duration;

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::Error;

/// The lease is valid for this long after its last renewal.
const LEASE_SECONDS: u64 = 15;
/// The lease is renewed this long before its end.
const RENEWAL_MARGIN_SECONDS: u64 = 5;
/// The longest time to wait for the release of the lease at shutdown.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

type LeaseTask = JoinHandle<Result<LeaseManager, LeaseManagerError>>;

/// The held lease.
pub struct Leadership {
    leads: watch::Receiver<bool>,
    task: LeaseTask,
}

/// Waits until this replica leads. `None` if `stop` becomes true first.
///
/// # Errors
/// If the lease cannot be read or written.
pub async fn wait_for_leadership(
    client: Client,
    namespace: &str,
    identity: &str,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<Leadership>, Error> {
    let failed = |message: String| Error::Lease(message, namespace.to_owned());
    let manager = LeaseManagerBuilder::new(client, "simsiam-operator")
        .with_namespace(namespace)
        .with_identity(identity)
        .with_duration(LEASE_SECONDS)
        .with_grace(RENEWAL_MARGIN_SECONDS)
        .build()
        .await
        .map_err(|e| failed(e.to_string()))?;
    let (mut leads, task) = manager.watch().await;
    tracing::info!("waiting for the lease");
    loop {
        tokio::select! {
            _ = stop.changed() => {
                Leadership { leads, task }.release().await;
                return Ok(None);
            }
            changed = leads.changed() => {
                if changed.is_err() {
                    return Err(failed("the lease task ended".into()));
                }
                if *leads.borrow_and_update() {
                    tracing::info!("this replica is the leader");
                    return Ok(Some(Leadership { leads, task }));
                }
            }
        }
    }
}

impl Leadership {
    /// Returns once the lease is lost.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut leads = self.leads.clone();
        async move {
            while leads.changed().await.is_ok() {
                if !*leads.borrow_and_update() {
                    return;
                }
            }
        }
    }

    /// Releases the lease, so that another replica need not wait until it expires.
    pub async fn release(self) {
        let Self { leads, task } = self;
        drop(leads);
        let _ = tokio::time::timeout(RELEASE_TIMEOUT, task).await;
    }
}
