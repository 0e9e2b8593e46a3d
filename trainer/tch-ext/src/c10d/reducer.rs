//! Gradient averaging that overlaps with backward: the engine of PyTorch's `DistributedDataParallel`.

use std::marker::PhantomData;
use std::time::Duration;

use tch::Tensor;

use super::group::ProcessGroup;
use crate::error::{Error, Result, check};
use crate::raw::{c_string, raw};
use crate::{ffi, tensor};

/// Buckets of parameter indices, in the order in which they are reduced. Indices count the parameters sorted by name.
pub type BucketOrder = Vec<Vec<usize>>;

/// How a [`Reducer`] packs gradients.
#[derive(Debug, Clone)]
pub struct ReducerOptions {
    /// Size limit of the bucket that is reduced first, in bytes; small, so that communication starts early.
    pub first_bucket_bytes: usize,
    /// Size limit of all others, in bytes.
    pub bucket_bytes: usize,
    /// An order that [`Reducer::order`] gave before a restart. With three or more ranks a gradient's place in its bucket
    /// decides the order in which its summands are added, so only the same order continues bit for bit.
    pub order: Option<BucketOrder>,
    /// Gradients are views into the buckets (from the start: all are zero, none undefined): one copy less. They must then
    /// be zeroed in place ([`crate::zero_grads`]).
    pub gradient_as_bucket_view: bool,
    /// Copy rank 0's parameters to all others at the start.
    pub broadcast_parameters: bool,
}

impl Default for ReducerOptions {
    /// PyTorch's: 1 MiB, then 25 MiB, views, rank 0's parameters for all.
    fn default() -> Self {
        Self {
            first_bucket_bytes: 1 << 20,
            bucket_bytes: 25 << 20,
            order: None,
            gradient_as_bucket_view: true,
            broadcast_parameters: true,
        }
    }
}

/// Averages gradients over all ranks during backward.
///
/// A step: [`Reducer::prepare_forward`], the forward passes, then [`Reducer::backward`] (which is `prepare_backward`,
/// `loss.backward()` and `finish_backward`). A micro-batch whose gradients shall only add up locally leaves all of these
/// out and calls `loss.backward()` itself, as under PyTorch's `no_sync`.
///
/// Gradients must be zeroed in place between steps and never be set to `None`. After an error the reducer refuses all
/// further use: its state on the ranks may differ.
#[derive(Debug)]
pub struct Reducer {
    raw: *mut ffi::Reducer,
    names: Vec<String>,
    exposed: Option<Duration>,
    broken: bool,
    // Autograd hooks of the parameters run on the thread that calls backward; the reducer stays there.
    _not_sync: PhantomData<*const ()>,
}

// SAFETY: c10d's reducer locks its state; it may move to another thread as a whole (it is not `Sync`).
unsafe impl Send for Reducer {}

impl Reducer {
    /// Hooks onto `params`, leaf tensors that require gradients, each with its name. They are sorted by name, so the
    /// caller's order does not matter; names, shapes and types must agree over all ranks.
    ///
    /// # Errors
    /// When parameters or names differ from rank 0's, when a name occurs twice, when a parameter does not require a
    /// gradient, when `order` does not hold each index once; [`Error::PeerLost`] and the like.
    pub fn new(pg: &ProcessGroup, params: &[(String, Tensor)], options: &ReducerOptions) -> Result<Self> {
        const OP: &str = "reducer";
        let mut sorted: Vec<&(String, Tensor)> = params.iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        check_params(OP, &sorted)?;
        let order = options.order.as_deref().unwrap_or_default();
        check_order(OP, order, options.order.is_some(), sorted.len())?;
        check_names_agree(OP, pg, &sorted)?;
        let handles: Vec<_> = sorted.iter().map(|(_, tensor)| raw(tensor)).collect();
        let names = sorted.iter().map(|(name, _)| c_string(OP, name)).collect::<Result<Vec<_>>>()?;
        let name_pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let bytes = |n: usize| i64::try_from(n).map_err(|_| Error::argument(OP, "the bucket size is too large"));
        let (first_bytes, bytes) = (bytes(options.first_bucket_bytes)?, bytes(options.bucket_bytes)?);
        let sizes: Vec<usize> = order.iter().map(Vec::len).collect();
        let indices: Vec<usize> = order.concat();
        let mut out = std::ptr::null_mut();
        // SAFETY: all arrays outlive the call and have the lengths given; the shim copies what it keeps.
        check(OP, |message| unsafe {
            ffi::tchx_reducer_new(
                pg.raw(),
                handles.as_ptr(),
                name_pointers.as_ptr(),
                handles.len(),
                first_bytes,
                bytes,
                sizes.as_ptr(),
                sizes.len(),
                indices.as_ptr(),
                options.gradient_as_bucket_view,
                pg.size() > 1,
                &mut out,
                message,
            )
        })?;
        let names = sorted.iter().map(|(name, _)| name.clone()).collect();
        let reducer = Reducer { raw: out, names, broken: false, exposed: None, _not_sync: PhantomData };
        if options.broadcast_parameters {
            let tensors: Vec<Tensor> = sorted.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
            pg.broadcast_all(&tensors, 0)?;
        }
        Ok(reducer)
    }

    /// Before a step's (last) forward pass.
    ///
    /// # Errors
    /// When the step before was not finished, or a peer is lost.
    pub fn prepare_forward(&mut self) -> Result<()> {
        let mut nanoseconds = -1;
        self.guarded("prepare forward", |raw, message| {
            // SAFETY: the handle is alive and the place is valid.
            unsafe { ffi::tchx_reducer_prepare_forward(raw, &mut nanoseconds, message) }
        })?;
        self.exposed = u64::try_from(nanoseconds).ok().map(Duration::from_nanos);
        Ok(())
    }

    /// Of the step before, how long the all-reduce continued after the last gradient was computed: the part of it
    /// that did not overlap with backward, with the copying of the means into the gradients. Taken once, after
    /// [`prepare_forward`](Self::prepare_forward).
    ///
    /// On CPUs every step is timed by the host's clock. On GPUs, where reading the clock waits for the GPU, PyTorch times
    /// the first ten steps and then every hundredth, by CUDA events; `None` in between.
    pub fn take_exposed(&mut self) -> Option<Duration> {
        self.exposed.take()
    }

    /// Before the backward pass whose gradients shall be averaged.
    ///
    /// # Errors
    /// As [`Reducer::prepare_forward`].
    pub fn prepare_backward(&mut self) -> Result<()> {
        // SAFETY: the handle is alive.
        self.guarded("prepare backward", |raw, message| unsafe { ffi::tchx_reducer_prepare_backward(raw, message) })
    }

    /// After that backward pass: makes sure that every gradient was averaged. The first time it also rebuilds the buckets
    /// in the order in which gradients arrived, which is a collective.
    ///
    /// # Errors
    /// [`Error::UnusedParameters`] names those that got no gradient.
    pub fn finish_backward(&mut self) -> Result<()> {
        let (mut finished, mut missing, mut n) = (false, std::ptr::null_mut(), 0);
        self.guarded("finish backward", |raw, message| {
            // SAFETY: the handle is alive and the places are valid.
            unsafe { ffi::tchx_reducer_finish(raw, &mut finished, &mut missing, &mut n, message) }
        })?;
        // SAFETY: on success `missing` is malloc'ed and holds `n` indices.
        let indices = unsafe { std::slice::from_raw_parts(missing, n) }.to_vec();
        // SAFETY: it is ours and not used any more.
        unsafe { ffi::tchx_free(missing.cast()) };
        if finished {
            return Ok(());
        }
        self.broken = true;
        let names = indices.into_iter().filter_map(|i| self.names.get(i).cloned()).collect();
        Err(Error::UnusedParameters { names })
    }

    /// `prepare_backward`, `loss.backward()` and `finish_backward` in one: afterwards every parameter's gradient is the
    /// mean over all ranks.
    ///
    /// # Errors
    /// [`Error::UnusedParameters`], [`Error::PeerLost`], or what an operator says.
    pub fn backward(&mut self, loss: &Tensor) -> Result<()> {
        self.prepare_backward()?;
        self.guarded("backward", |_, message| {
            // SAFETY: the tensor is alive during the call.
            unsafe { ffi::tchx_backward(raw(loss), message) }
        })?;
        self.finish_backward()
    }

    /// The bucket order, once it is final: after the first step, or at once when it was given. To be saved with a checkpoint, and given back in [`ReducerOptions::order`].
    pub fn order(&self) -> Option<BucketOrder> {
        self.current_order().filter(|(_, is_final)| *is_final).map(|(order, _)| order)
    }

    /// The bucket order in use now, and whether it is final.
    fn current_order(&self) -> Option<(BucketOrder, bool)> {
        let count = self.names.len();
        let (mut sizes, mut indices) = (vec![0usize; count], vec![0usize; count]);
        let (mut is_final, mut buckets) = (false, 0usize);
        // SAFETY: there are at most `count` buckets and exactly `count` indices.
        check("bucket order", |message| unsafe {
            ffi::tchx_reducer_order(
                self.raw,
                &mut is_final,
                sizes.as_mut_ptr(),
                &mut buckets,
                indices.as_mut_ptr(),
                message,
            )
        })
        .ok()?;
        let mut rest = indices.as_slice();
        let order = sizes
            .iter()
            .take(buckets)
            .map(|&size| {
                let (bucket, tail) = rest.split_at(size.min(rest.len()));
                rest = tail;
                bucket.to_vec()
            })
            .collect();
        Some((order, is_final))
    }

    /// The parameters' names in the order that [`BucketOrder`]'s indices count.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn guarded(&mut self, op: &'static str, call: impl FnOnce(*mut ffi::Reducer, ffi::Message) -> i32) -> Result<()> {
        if self.broken {
            return Err(Error::ReducerBroken { op });
        }
        let done = check(op, |message| call(self.raw, message));
        self.broken = done.is_err();
        done
    }
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // SAFETY: made by `tchx_reducer_new`, freed once; it takes its hooks off the parameters.
        unsafe { ffi::tchx_reducer_free(self.raw) };
    }
}

fn check_params(op: &'static str, sorted: &[&(String, Tensor)]) -> Result<()> {
    if sorted.is_empty() {
        return Err(Error::argument(op, "there are no parameters"));
    }
    for pair in sorted.windows(2) {
        if let [a, b] = pair
            && a.0 == b.0
        {
            return Err(Error::argument(op, format!("the parameter {} is there twice", a.0)));
        }
    }
    for (name, tensor) in sorted {
        if !tensor.requires_grad() {
            return Err(Error::argument(op, format!("the parameter {name} does not require a gradient; leave it out")));
        }
    }
    Ok(())
}

fn check_order(op: &'static str, order: &[Vec<usize>], given: bool, count: usize) -> Result<()> {
    if !given {
        return Ok(());
    }
    let mut seen = vec![false; count];
    let mut wrong = order.iter().any(Vec::is_empty);
    for &index in order.iter().flatten() {
        match seen.get_mut(index) {
            Some(place) if !*place => *place = true,
            _ => wrong = true,
        }
    }
    if wrong || seen.contains(&false) {
        return Err(Error::argument(
            op,
            format!("the bucket order given does not hold each of the {count} parameters once; it is of another model"),
        ));
    }
    Ok(())
}

/// Shapes and types are compared by PyTorch; names decide which parameter is which, so they must agree too.
fn check_names_agree(op: &'static str, pg: &ProcessGroup, sorted: &[&(String, Tensor)]) -> Result<()> {
    // FNV-1a over the names, each with a terminator.
    let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
    for (name, _) in sorted {
        for byte in name.bytes().chain([0]) {
            digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let mine = tensor::from_bytes(&digest.to_ne_bytes(), tch::Kind::Int64, &[1])?;
    for (rank, theirs) in pg.all_gather(&mine)?.iter().enumerate() {
        if tensor::bytes(theirs)? != digest.to_ne_bytes() {
            return Err(Error::argument(
                op,
                format!("the parameters' names on rank {} differ from those on rank {rank}", pg.rank()),
            ));
        }
    }
    Ok(())
}
