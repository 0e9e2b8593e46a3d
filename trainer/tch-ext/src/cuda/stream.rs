//! Streams, events and graphs.

use tch::Tensor;

use super::load::shim;
use super::shim::{Raw, Shim};
use crate::error::{Error, Result, check};
use crate::raw::raw;

/// Calls a function that makes an object of the shim.
fn make(
    op: &'static str,
    call: impl FnOnce(&Shim, *mut Raw, crate::ffi::Message) -> i32,
) -> Result<(Raw, &'static Shim)> {
    let shim = shim(op)?;
    let mut out = std::ptr::null_mut();
    check(op, |message| call(shim, &mut out, message))?;
    Ok((out, shim))
}

fn index(op: &'static str, device: usize) -> Result<i32> {
    i32::try_from(device).map_err(|_| Error::argument(op, format!("there is no device {device}")))
}

/// A queue of a device's work. Streams come from PyTorch's pool and live as long as the process.
pub struct Stream {
    raw: Raw,
    shim: &'static Shim,
}

// SAFETY: the object behind is a plain value (device and stream number), which CUDA lets any thread use.
unsafe impl Send for Stream {}

impl Stream {
    /// A stream beside the current one.
    ///
    /// # Errors
    /// [`Error::NoCuda`]; CUDA's own. (So it is for all functions here.)
    pub fn new(device: usize, high_priority: bool) -> Result<Self> {
        const OP: &str = "new stream";
        let device = index(OP, device)?;
        // SAFETY: plain values and a valid place.
        let (raw, shim) = make(OP, |s, out, message| unsafe { (s.stream_new)(device, high_priority, out, message) })?;
        Ok(Stream { raw, shim })
    }

    /// The calling thread's current stream.
    ///
    /// # Errors
    /// As [`Stream::new`].
    pub fn current(device: usize) -> Result<Self> {
        const OP: &str = "current stream";
        let device = index(OP, device)?;
        // SAFETY: plain values and a valid place.
        let (raw, shim) = make(OP, |s, out, message| unsafe { (s.stream_current)(device, out, message) })?;
        Ok(Stream { raw, shim })
    }

    /// Makes this the calling thread's current stream: operators queue their work here.
    ///
    /// # Errors
    /// As [`Stream::new`].
    pub fn make_current(&self) -> Result<()> {
        // SAFETY: the handle is alive.
        check("make stream current", |message| unsafe { (self.shim.stream_make_current)(self.raw, message) })
    }

    /// Waits until all its work is done.
    ///
    /// # Errors
    /// As [`Stream::new`].
    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: the handle is alive.
        check("synchronize stream", |message| unsafe { (self.shim.stream_synchronize)(self.raw, message) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made by the shim, freed once.
        unsafe { (self.shim.stream_free)(self.raw) };
    }
}

/// Tells the allocator that `stream` uses a tensor which was made on another one.
///
/// # Errors
/// As [`Stream::new`].
pub fn record_stream(tensor: &Tensor, stream: &Stream) -> Result<()> {
    // SAFETY: both are alive during the call.
    check("record stream", |message| unsafe { (stream.shim.record_stream)(raw(tensor), stream.raw, message) })
}

/// A mark in a stream.
pub struct Event {
    raw: Raw,
    shim: &'static Shim,
}

// SAFETY: CUDA lets any thread use an event; this handle is not shared (not `Sync`).
unsafe impl Send for Event {}

impl Event {
    /// An event; only with `timing` can profilers measure it.
    ///
    /// # Errors
    /// As [`Stream::new`].
    pub fn new(timing: bool) -> Result<Self> {
        // SAFETY: a plain value and a valid place.
        let (raw, shim) = make("new event", |s, out, message| unsafe { (s.event_new)(timing, out, message) })?;
        Ok(Event { raw, shim })
    }

    /// Marks the end of what `stream` has queued so far.
    ///
    /// # Errors
    /// As [`Stream::new`].
    pub fn record(&self, stream: &Stream) -> Result<()> {
        // SAFETY: both handles are alive.
        check("record event", |message| unsafe { (self.shim.event_record)(self.raw, stream.raw, message) })
    }

    /// Lets the later work of `stream` wait for the mark; the host continues.
    ///
    /// # Errors
    /// As [`Stream::new`].
    pub fn block(&self, stream: &Stream) -> Result<()> {
        // SAFETY: both handles are alive.
        check("block on event", |message| unsafe { (self.shim.event_block)(self.raw, stream.raw, message) })
    }

    /// Waits on the host until the mark is reached.
    ///
    /// # Errors
    /// As [`Stream::new`].
    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: the handle is alive.
        check("synchronize event", |message| unsafe { (self.shim.event_synchronize)(self.raw, message) })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by the shim, freed once.
        unsafe { (self.shim.event_free)(self.raw) };
    }
}

/// Recorded work of one stream that replays with one launch, on the same memory.
pub struct Graph {
    raw: Raw,
    shim: &'static Shim,
}

// SAFETY: as for `Event`.
unsafe impl Send for Graph {}

impl Graph {
    /// Records what `f` queues; the current stream must not be the default one (see [`Stream::make_current`]), and the
    /// same work should have run there a few times before. A graph whose recording failed is not returned.
    ///
    /// # Errors
    /// As [`Stream::new`]; `f`'s own; when `f` does what can not be recorded, such as waiting for the device.
    pub fn capture<E: From<Error>>(f: impl FnOnce() -> std::result::Result<(), E>) -> std::result::Result<Self, E> {
        // SAFETY: a valid place.
        let (raw, shim) = make("new graph", |s, out, message| unsafe { (s.graph_new)(out, message) })?;
        let graph = Graph { raw, shim };
        // SAFETY: the handle is alive.
        check("begin capture", |message| unsafe { (shim.graph_begin)(graph.raw, message) })?;
        let recorded = f();
        // SAFETY: the handle is alive; a capture that has begun is always ended.
        let ended = check("end capture", |message| unsafe { (shim.graph_end)(graph.raw, message) });
        recorded?;
        ended?;
        Ok(graph)
    }

    /// Runs the recorded work again, on the current stream.
    ///
    /// # Errors
    /// As [`Stream::new`].
    pub fn replay(&self) -> Result<()> {
        // SAFETY: the handle is alive.
        check("replay graph", |message| unsafe { (self.shim.graph_replay)(self.raw, message) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by the shim, freed once.
        unsafe { (self.shim.graph_free)(self.raw) };
    }
}
