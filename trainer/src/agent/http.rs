//! `/metrics`, `/progress` and `/healthz` of an agent.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use simsiam_contract::names::{HEALTH_PATH, METRICS_PATH, PROGRESS_PATH};
use tokio::net::TcpListener;

use super::RunStatus;
use crate::error::Error;

/// Listens on `address`, where port 0 takes any free one, and serves until the runtime ends. Returns the bound address.
pub async fn serve(address: SocketAddr, status: RunStatus) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Error::Usage(format!("cannot serve metrics on {address}: {e}; choose another address with --metrics-addr"))
    })?;
    let bound = listener.local_addr().map_err(Error::system("read the address of the metrics socket"))?;
    let app = Router::new()
        .route(METRICS_PATH, get(metrics))
        .route(PROGRESS_PATH, get(progress))
        .route(HEALTH_PATH, get(|| async { "ok\n" }))
        .with_state(status);
    tokio::spawn(async move {
        if let Err(e) = axum::serve(listener, app).await {
            tracing::warn!("the metrics server ended: {e}");
        }
    });
    Ok(bound)
}

async fn metrics(State(status): State<RunStatus>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], status.metrics_text())
}

async fn progress(State(status): State<RunStatus>) -> impl IntoResponse {
    Json(status.progress())
}
