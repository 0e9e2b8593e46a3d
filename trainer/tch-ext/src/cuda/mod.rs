//! CUDA, loaded at run time: devices, memory, streams, events, graphs. One binary serves machines with and without it.
//!
//! What is behind these functions is compiled, linked and loaded by the tests, but has not run on a GPU yet.

mod device;
mod load;
mod shim;
mod stream;

pub use device::{
    MemoryStats, Properties, Versions, copy_async, device_name, empty_cache, memory, peer_access, pin, properties,
    reset_peak_memory, set_device, synchronize, versions,
};
pub(crate) use load::shim;
pub use load::{CudaState, Missing, load_cuda, load_cuda_libraries};
pub use stream::{Event, Graph, Stream, record_stream};
