//! Process groups and their collectives.

use std::time::Duration;

use tch::Tensor;

use super::store::{Store, millis};
use crate::error::{Error, Result, check};
use crate::raw::{c_string, raw, raw_all, take};
use crate::{cuda, ffi};

/// What carries the collectives of CUDA tensors. CPU tensors always use Gloo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Gloo (TCP) for tensors of every device. Several ranks may share a GPU.
    Gloo,
    /// NCCL for CUDA tensors; one rank per GPU. Needs [`crate::load_cuda`].
    Nccl,
}

/// How values are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Their sum.
    Sum,
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

/// The ranks of a job as one group.
///
/// All methods block until the collective is done on this rank (for NCCL: until it is queued on the current stream),
/// and all ranks must call them in the same order with tensors of the same shape and type. Only [`ProcessGroup::abort`]
/// is meant for another thread.
#[derive(Debug)]
pub struct ProcessGroup {
    raw: *mut ffi::Group,
    rank: usize,
    world: usize,
}

// SAFETY: the handle is a counted reference; c10d guards its queues with locks, and the abort flag is atomic.
unsafe impl Send for ProcessGroup {}
// SAFETY: as above.
unsafe impl Sync for ProcessGroup {}

impl ProcessGroup {
    /// Joins the group `prefix` as `rank` of `world`; returns when all ranks have. `timeout` also bounds every later
    /// collective. Ranks may form several groups over one store under different prefixes; a restarted job needs a fresh
    /// store or prefix.
    ///
    /// Gloo listens on the address from which the store's host is reached, or on `GLOO_SOCKET_IFNAME`'s.
    ///
    /// # Errors
    /// [`Error::Timeout`] when ranks are missing, [`Error::NoCuda`] for [`Backend::Nccl`] without its shim.
    pub fn new(
        store: &Store,
        prefix: &str,
        backend: Backend,
        rank: usize,
        world: usize,
        timeout: Duration,
    ) -> Result<Self> {
        const OP: &str = "process group";
        if rank >= world {
            return Err(Error::argument(OP, format!("rank {rank} does not exist in a world of {world}")));
        }
        let add_nccl = if backend == Backend::Nccl { Some(cuda::shim(OP)?.add_nccl) } else { None };
        let c_prefix = c_string(OP, prefix)?;
        let address = store.local_address().map_or_else(|| "127.0.0.1".to_owned(), |ip| ip.to_string());
        let c_address = c_string(OP, &address)?;
        let timeout_ms = millis(OP, timeout)?;
        let (rank_i32, world_i32) = i32::try_from(rank)
            .ok()
            .zip(i32::try_from(world).ok())
            .ok_or_else(|| Error::argument(OP, "the world is too large"))?;
        let mut out = std::ptr::null_mut();
        // SAFETY: the strings and the store outlive the call; `out` is written only on success.
        check(OP, |message| unsafe {
            ffi::tchx_group_new(
                store.raw(),
                c_prefix.as_ptr(),
                c_address.as_ptr(),
                rank_i32,
                world_i32,
                timeout_ms,
                &mut out,
                message,
            )
        })?;
        let group = ProcessGroup { raw: out, rank, world };
        if let Some(add_nccl) = add_nccl {
            // SAFETY: the CUDA shim was built with the same handle types; both handles are alive.
            check("NCCL", |message| unsafe {
                add_nccl(group.raw, store.raw(), c_prefix.as_ptr(), timeout_ms, message)
            })?;
        }
        Ok(group)
    }

    /// Combines `tensor` over all ranks, in place.
    ///
    /// # Errors
    /// [`Error::PeerLost`], [`Error::Timeout`], [`Error::Aborted`].
    pub fn all_reduce(&self, tensor: &Tensor, op: Op) -> Result<()> {
        let code = match op {
            Op::Sum => 0,
            Op::Max => 1,
            Op::Min => 2,
        };
        // SAFETY: both handles are alive during the call.
        check("all-reduce", |message| unsafe { ffi::tchx_all_reduce(self.raw, raw(tensor), code, message) })
    }

    /// Copies rank `root`'s `tensor` into every rank's, in place.
    ///
    /// # Errors
    /// As [`ProcessGroup::all_reduce`].
    pub fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<()> {
        self.broadcast_raw(&[raw(tensor)], root)
    }

    /// As [`ProcessGroup::broadcast`] for many tensors at once.
    ///
    /// # Errors
    /// As [`ProcessGroup::all_reduce`].
    pub fn broadcast_all(&self, tensors: &[Tensor], root: usize) -> Result<()> {
        self.broadcast_raw(&raw_all(tensors), root)
    }

    fn broadcast_raw(&self, tensors: &[ffi::RawTensor], root: usize) -> Result<()> {
        const OP: &str = "broadcast";
        let root = i32::try_from(root)
            .ok()
            .filter(|_| root < self.world)
            .ok_or_else(|| Error::argument(OP, format!("root {root} does not exist in a world of {}", self.world)))?;
        // SAFETY: all handles are alive during the call.
        check(OP, |message| unsafe { ffi::tchx_broadcast(self.raw, tensors.as_ptr(), tensors.len(), root, message) })
    }

    /// Every rank's `tensor`, by rank; all must have the same shape.
    ///
    /// # Errors
    /// As [`ProcessGroup::all_reduce`].
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>> {
        let mut out = vec![std::ptr::null_mut(); self.world];
        // SAFETY: `out` has room for one pointer per rank.
        check("all-gather", |message| unsafe {
            ffi::tchx_all_gather(self.raw, raw(tensor), out.as_mut_ptr(), message)
        })?;
        // SAFETY: on success each entry is a fresh tensor of ours.
        Ok(out.into_iter().map(|tensor| unsafe { take(tensor) }).collect())
    }

    /// Returns when all ranks have called it (on the host, over Gloo, whatever the backend).
    ///
    /// # Errors
    /// As [`ProcessGroup::all_reduce`].
    pub fn barrier(&self) -> Result<()> {
        // SAFETY: the handle is alive during the call.
        check("barrier", |message| unsafe { ffi::tchx_barrier(self.raw, message) })
    }

    /// This process's rank.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.world
    }

    /// Makes collectives that wait in other threads return [`Error::Aborted`] at once, and all later ones too.
    ///
    /// A [`super::Reducer`] inside a backward pass notices only with NCCL; with Gloo it waits for the time limit, so a
    /// process that must end then exits. The group's threads and sockets are left to the operating system.
    ///
    /// # Errors
    /// When NCCL refuses.
    pub fn abort(&self) -> Result<()> {
        // SAFETY: the handle is alive; the flag is atomic and the backends' abort is made for other threads.
        check("abort", |message| unsafe { ffi::tchx_group_abort(self.raw, message) })
    }

    pub(crate) fn raw(&self) -> *mut ffi::Group {
        self.raw
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // SAFETY: made by `tchx_group_new`, freed once; reducers and autograd graphs hold references of their own.
        unsafe { ffi::tchx_group_free(self.raw) };
    }
}
