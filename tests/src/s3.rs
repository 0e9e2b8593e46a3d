//! An S3 server over a folder, with fault injection.
//!
//! ```
//! use simsiam_tests::s3::Server;
//!
//! let folder = tempfile::tempdir().unwrap();
//! std::fs::create_dir(folder.path().join("bucket")).unwrap();
//! let server = Server::start(folder.path());
//! assert!(server.endpoint().starts_with("http://127.0.0.1:"));
//! server.unavailable(1); // the next request gets a 503
//! assert_eq!(server.served(), 0);
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;

/// The accepted access key and its secret.
pub const KEYS: [&str; 2] = ["key", "secret"];

/// A running server. Each folder in its root is a bucket; signatures are checked.
pub struct Server {
    /// Its address.
    pub address: SocketAddr,
    faults: Arc<Faults>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Faults {
    unavailable: AtomicUsize,
    stalled: AtomicUsize,
    served: AtomicUsize,
}

/// For [`Server::unavailable`] and [`Server::stalled`]: until set to another number.
pub const ALL: usize = usize::MAX;

fn take_one(count: &AtomicUsize) -> bool {
    let less = |n: usize| if n == ALL { Some(n) } else { n.checked_sub(1) };
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok_and(|n| n > 0)
}

impl Server {
    /// Starts a server for the folder `root`.
    pub fn start(root: &Path) -> Self {
        Self::start_at(root, Ipv4Addr::LOCALHOST.into())
    }

    /// The same on an address of this machine that other machines can reach.
    pub fn start_at(root: &Path, host: IpAddr) -> Self {
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).expect("a folder"));
        builder.set_auth(SimpleAuth::from_single(KEYS[0], KEYS[1]));
        let service = builder.build();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind((host, 0))).expect("a port");
        let address = listener.local_addr().expect("an address");
        let faults = Arc::new(Faults::default());
        let known = faults.clone();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, faults) = (service.clone(), known.clone());
                let answer = tower::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let (service, faults) = (service.clone(), faults.clone());
                    async move {
                        faults.served.fetch_add(1, Ordering::SeqCst);
                        if take_one(&faults.stalled) {
                            tokio::time::sleep(Duration::from_secs(3600)).await;
                        }
                        if take_one(&faults.unavailable) {
                            let mut refused = hyper::Response::new(s3s::Body::empty());
                            *refused.status_mut() = hyper::StatusCode::SERVICE_UNAVAILABLE;
                            return Ok(refused);
                        }
                        hyper::service::Service::call(&service, request).await
                    }
                });
                tokio::spawn(async move {
                    let answer = TowerToHyperService::new(answer);
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), answer).await;
                });
            }
        });
        Self { address, faults, _runtime: runtime }
    }

    /// Returns its address as an endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers the next `count` requests with 503.
    pub fn unavailable(&self, count: usize) {
        self.faults.unavailable.store(count, Ordering::SeqCst);
    }

    /// Never answers the next `count` requests.
    pub fn stalled(&self, count: usize) {
        self.faults.stalled.store(count, Ordering::SeqCst);
    }

    /// Returns the number of requests so far.
    pub fn served(&self) -> usize {
        self.faults.served.load(Ordering::SeqCst)
    }
}
