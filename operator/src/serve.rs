//! `/healthz`, `/readyz` and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::error::Error;
use crate::metrics::Metrics;

/// What probes ask about.
#[derive(Debug, Clone)]
pub struct Health {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Set once the replica does its part: reconciles, or waits to.
    pub ready: Arc<AtomicBool>,
}

/// Listens; serves until the runtime ends.
///
/// # Errors
/// If the address can't be had.
pub async fn serve(address: SocketAddr, health: Health) -> Result<SocketAddr, Error> {
    let failed = |e| Error::Listen(address, e);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health);
    tokio::spawn(async move {
        if let Err(e) = axum::serve(listener, app).await {
            tracing::error!("the server of probes and metrics ended: {e}");
        }
    });
    Ok(bound)
}

async fn ready(State(health): State<Health>) -> impl IntoResponse {
    if health.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the caches are not filled yet\n")
    }
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], health.metrics.text())
}
