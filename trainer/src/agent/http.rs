//! `/metrics`, `/progress` and `/healthz` of an agent.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use simsiam_contract::names::{HEALTH_PATH, METRICS_PATH, PROGRESS_PATH};
use tokio::net::TcpListener;

use crate::agent::RunStatus;
use crate::error::Error;

/// Listens on `address`; port 0 takes any free one. Serves until the runtime ends.
pub async fn serve(address: SocketAddr, board: RunStatus) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Error::Usage(format!("cannot serve metrics on {address}: {e}; choose another address with --metrics-addr"))
    })?;
    let bound = listener.local_addr().map_err(Error::io("the metrics socket"))?;
    let app = Router::new()
        .route(METRICS_PATH, get(metrics))
        .route(PROGRESS_PATH, get(progress))
        .route(HEALTH_PATH, get(|| async { "ok\n" }))
        .with_state(board);
    tokio::spawn(async move {
        if let Err(e) = axum::serve(listener, app).await {
            tracing::warn!("the metrics server ended: {e}");
        }
    });
    Ok(bound)
}

async fn metrics(State(board): State<RunStatus>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], board.metrics_text())
}

async fn progress(State(board): State<RunStatus>) -> impl IntoResponse {
    Json(board.progress())
}
