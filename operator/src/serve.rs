//! The HTTP server of `/healthz`, `/readyz` and `/metrics`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::error::Error;
use crate::metrics::Metrics;

/// What the endpoints report.
#[derive(Debug, Clone)]
pub struct Health {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether the replica reconciles, or waits for the lease.
    pub ready: Arc<AtomicBool>,
}

/// Starts the HTTP server, which runs until the runtime ends. Returns the address it listens on.
///
/// # Errors
/// If it cannot listen on the address.
pub async fn serve(address: SocketAddr, health: Health) -> Result<SocketAddr, Error> {
    let failed = |e| Error::Listen(address, e);
    let listener = bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let app = Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health);
    tokio::spawn(async move {
        if let Err(e) = axum::serve(listener, app).await {
            tracing::error!("the HTTP server of probes and metrics ended: {e}");
        }
    });
    Ok(bound)
}

/// Binds `[::]`, which also accepts IPv4, or `0.0.0.0` on a host without IPv6; any other address as it is.
async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        result => result,
    }
}

/// Fails if the replica no longer sees the cluster and a restart may help.
async fn alive(State(health): State<Health>) -> impl IntoResponse {
    match health.metrics.watches.hopeless(Instant::now()) {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
    }
}

async fn ready(State(health): State<Health>) -> impl IntoResponse {
    if health.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the caches are not complete yet\n")
    }
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], health.metrics.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn unspecified_address_accepts_ipv4_and_ipv6() {
        let health = Health { metrics: Arc::new(Metrics::new().unwrap()), ready: Arc::default() };
        let bound = serve("[::]:0".parse().unwrap(), health).await.unwrap();
        let connect = async |ip: IpAddr| tokio::net::TcpStream::connect((ip, bound.port())).await;
        connect(Ipv4Addr::LOCALHOST.into()).await.unwrap();
        if bound.is_ipv6() {
            connect(Ipv6Addr::LOCALHOST.into()).await.unwrap();
        }
    }
}
