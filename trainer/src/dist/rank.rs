//! One rank: its place among its peers, its device, its collectives, and the stop that SIGTERM asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use simsiam_contract::RankPhase;
use tch::{Device, Tensor};
use tch_ext::c10d::{Backend, Op, ProcessGroup, Reducer, ReducerOptions, Store};

use crate::dist::bucket_sizes::BucketSizes;
use crate::dist::device;
use crate::error::Error;
use crate::model::Params;
use crate::model::params::Role;
use crate::telemetry::Sink;
use crate::telemetry::event::Event;

/// Identity of a rank and how it reaches its peers, as its agent (or torchrun, or Slurm) set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankInfo {
    /// Global rank, from 0.
    pub rank: usize,
    /// Number of ranks.
    pub world: usize,
    /// Rank among those of this machine, which is also the index of its GPU.
    pub local_rank: usize,
    /// Host of node 0's store.
    pub master_addr: String,
    /// Port of node 0's store.
    pub master_port: u16,
    /// Longest wait for peers, at the start and in every collective.
    pub timeout: Duration,
    /// Intra-op threads of libtorch.
    pub threads: u32,
}

/// A rank that has joined its peers.
pub struct Rank {
    /// Its identity.
    pub info: RankInfo,
    /// The GPU of its local rank, or the CPU.
    pub device: Device,
    /// All ranks; `None` if it is alone.
    pub group: Option<ProcessGroup>,
    /// Where its events go.
    pub sink: Sink,
    store: Option<Store>,
    /// Number of calls of [`broadcast_object`](Self::broadcast_object).
    broadcasts: AtomicU64,
    stop: Arc<AtomicBool>,
}

impl Rank {
    /// Picks the device, then connects to the peers.
    pub fn join(info: RankInfo, sink: Sink) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, stop.clone()).map_err(Error::system("register a signal handler"))?;
        }
        sink.send(&Event::Hello { rank: info.rank });
        sink.send(&Event::Phase { phase: RankPhase::Rendezvous });
        let device = prepare(info.threads, info.local_rank)?;
        let (store, group) = if info.world > 1 || device.is_cuda() {
            let lost = |e: tch_ext::Error| Error::Rendezvous {
                address: format!("{}:{}", info.master_addr, info.master_port),
                message: format!("rank {} of {}: {e}", info.rank, info.world),
            };
            let store = Store::tcp(&info.master_addr, info.master_port, None, false, info.timeout).map_err(lost)?;
            let backend = if device.is_cuda() { Backend::Nccl } else { Backend::Gloo };
            let group =
                ProcessGroup::new(&store, "default", backend, info.rank, info.world, info.timeout).map_err(lost)?;
            (Some(store), Some(group))
        } else {
            (None, None)
        };
        Ok(Self { info, device, group, sink, store, broadcasts: AtomicU64::new(0), stop })
    }

    /// A rank without peers, agent or signals, for commands and tests.
    pub fn alone(threads: u32) -> Result<Self, Error> {
        let info = RankInfo {
            rank: 0,
            world: 1,
            local_rank: 0,
            master_addr: String::new(),
            master_port: 0,
            timeout: Duration::from_secs(60),
            threads,
        };
        let device = prepare(threads, 0)?;
        let stop = Arc::new(AtomicBool::new(false));
        Ok(Self { info, device, group: None, sink: Sink::none(), store: None, broadcasts: AtomicU64::new(0), stop })
    }

    /// Whether this is rank 0, which writes checkpoints and reports for all.
    pub fn is_first(&self) -> bool {
        self.info.rank == 0
    }

    /// Whether SIGTERM or SIGINT arrived.
    pub fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The process group, if there is more than one rank.
    pub fn peers(&self) -> Option<&ProcessGroup> {
        self.group.as_ref().filter(|_| self.info.world > 1)
    }

    /// Sums `values` over all ranks; every rank gets the same sums.
    pub fn all_reduce_sum(&self, values: &[f64], during: &str) -> Result<Vec<f64>, Error> {
        let Some(group) = &self.group else { return Ok(values.to_vec()) };
        let tensor = Tensor::f_from_slice(values)?.f_to_device(self.device)?;
        group.all_reduce(&tensor, Op::Sum).map_err(peer_lost(during))?;
        Ok(Vec::<f64>::try_from(&tensor.f_to_device(Device::Cpu)?)?)
    }

    /// Waits until every rank has called this.
    pub fn barrier(&self, during: &str) -> Result<(), Error> {
        self.group.as_ref().map_or(Ok(()), |group| group.barrier().map_err(peer_lost(during)))
    }

    /// Sends an object from rank 0 to every rank; the others pass `None`. All ranks must make the same calls in the same
    /// order.
    pub fn broadcast_object<T: Serialize + DeserializeOwned>(&self, during: &str, own: Option<T>) -> Result<T, Error> {
        let lost_it = |message: String| Error::PeerLost { during: during.to_owned(), message };
        // A key for each call: an earlier one would answer at once, with the earlier object.
        let key = format!("{during} {}", self.broadcasts.fetch_add(1, Ordering::Relaxed));
        if let Some(own) = own {
            if let Some(store) = &self.store {
                let text = serde_json::to_vec(&own).map_err(|e| lost_it(e.to_string()))?;
                store.set(&key, &text).map_err(peer_lost(during))?;
            }
            return Ok(own);
        }
        let store = self.store.as_ref().ok_or_else(|| lost_it("rank 0 is this rank, and it sent nothing".into()))?;
        let text = store.get(&key).map_err(peer_lost(during))?;
        serde_json::from_slice(&text).map_err(|e| lost_it(e.to_string()))
    }

    /// DDP's Reducer for the trained tensors of `params`; `None` for a single rank. `order` is the rebuilt order of an
    /// interrupted run.
    pub fn reducer(
        &self,
        params: &Params,
        buckets: BucketSizes,
        order: Option<Vec<Vec<usize>>>,
    ) -> Result<Option<Reducer>, Error> {
        let Some(group) = self.peers() else { return Ok(None) };
        let trained: Vec<_> =
            params.with_role(Role::Trained).map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).collect();
        let options = ReducerOptions {
            first_bucket_bytes: buckets.first,
            bucket_bytes: buckets.other,
            order,
            ..ReducerOptions::default()
        };
        Reducer::new(group, &trained, &options).map(Some).map_err(peer_lost("creation of the Reducer"))
    }

    /// Overwrites `tensors` with those of rank 0.
    pub fn broadcast<'a>(&self, tensors: impl IntoIterator<Item = &'a Tensor>, during: &str) -> Result<(), Error> {
        let Some(group) = self.peers() else { return Ok(()) };
        for tensor in tensors {
            let tensor = tensor.f_detach()?;
            if self.device.is_cuda() && tensor.device() == Device::Cpu {
                let staged = tensor.f_to_device(self.device)?;
                group.broadcast(&staged, 0).map_err(peer_lost(during))?;
                tensor.shallow_clone().f_copy_(&staged)?;
            } else {
                group.broadcast(&tensor, 0).map_err(peer_lost(during))?;
            }
        }
        Ok(())
    }

    /// Concatenates the rows of every rank's `[n, …]`, in rank order; n may differ between ranks.
    pub fn all_gather_rows(&self, rows: &Tensor, during: &str) -> Result<Tensor, Error> {
        let Some(group) = self.peers() else { return Ok(rows.shallow_clone()) };
        let mine = rows.size()[0];
        let count = Tensor::f_from_slice(&[mine])?.f_to_device(self.device)?;
        let counts: Result<Vec<i64>, Error> =
            group.all_gather(&count).map_err(peer_lost(during))?.iter().map(|n| Ok(n.f_int64_value(&[0])?)).collect();
        let counts = counts?;
        let most = counts.iter().copied().max().unwrap_or(0);
        let mut shape = rows.size();
        shape[0] = most;
        let padded = Tensor::f_zeros(&shape, (rows.kind(), rows.device()))?;
        padded.f_narrow(0, 0, mine)?.f_copy_(rows)?;
        let parts: Result<Vec<_>, _> = group
            .all_gather(&padded)
            .map_err(peer_lost(during))?
            .iter()
            .zip(counts)
            .map(|(part, n)| part.f_narrow(0, 0, n))
            .collect();
        Ok(Tensor::f_cat(&parts?, 0)?)
    }
}

/// Sets libtorch's switches, which must precede its first operation, and picks the device of a local rank.
fn prepare(threads: u32, local_rank: usize) -> Result<Device, Error> {
    tch_ext::tune_allocator();
    tch_ext::set_intraop_threads(threads as usize)?;
    tch_ext::deterministic(true, true)?;
    let device = device::pick(local_rank)?;
    if local_rank == 0 {
        tracing::info!("{}: {}", device::name(device), device::describe(&tch_ext::load_cuda()));
    }
    if let Device::Cuda(index) = device {
        tch_ext::cuda::set_device(index)?;
    }
    Ok(device)
}

/// A failed collective: almost always a lost peer. Memory that ran out is this rank's own failure.
pub fn peer_lost(during: &str) -> impl FnOnce(tch_ext::Error) -> Error {
    let during = during.to_owned();
    move |e| match e {
        tch_ext::Error::OutOfMemory { .. } => Error::Ext(e),
        e => Error::PeerLost { during, message: e.to_string() },
    }
}
