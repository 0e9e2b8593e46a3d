//! A real Kubernetes cluster for tests on one machine: no Docker, no registry, no other machine.
//!
//! [`Cluster::up`] starts etcd, the API server, controllers, scheduler and CoreDNS as processes, and each node (2 by
//! default) as a containerd, kubelet and kube-proxy in its own namespaces, with an address, a network for its pods and
//! simulated GPUs. Nodes can be stopped, killed, disconnected and started again, which is the purpose of this crate.
//!
//! ```no_run
//! use simsiam_cluster::{Cluster, Options};
//!
//! let cluster = Cluster::up(&Options { gpus_per_node: 2, ..Options::default() })?;
//! cluster.import_image("target/images/trainer.tar".as_ref())?;
//! println!("{}", cluster.kubectl(&["get", "nodes"])?);
//! cluster.node(2)?.kill()?;
//! cluster.down()?;
//! # Ok::<(), simsiam_cluster::Error>(())
//! ```
//!
//! Everything that the cluster adds to the host is found by name: sandboxes of processes (`sandbox.rs`, by their command
//! line), interfaces `simsiam0` and `simsiam-n…`, control groups `simsiam-cluster`, and a state folder. Everything else
//! (mounts, packet filters, pod networks) is inside the sandboxes and is removed with them.

mod addresses;
mod cgroups;
mod cluster;
mod command;
mod control_plane;
mod error;
mod handle;
mod host;
pub mod images;
mod kubectl;
mod leftovers;
mod network;
mod node;
pub mod oci;
mod options;
mod pki;
mod processes;
mod progress;
mod sandbox;
mod state;
mod tools;
mod up;
mod worker;

pub use cluster::condition;
pub use control_plane::NODE_GRACE;
pub use error::{Error, Result};
pub use handle::{Cluster, GPU};
pub use host::obstacle as machine_obstacle;
pub use leftovers::existing as left_behind;
pub use node::Node;
pub use options::{Options, default_state};
pub use tools::{POD_IMAGE, Tools, go};
pub use up::down;
