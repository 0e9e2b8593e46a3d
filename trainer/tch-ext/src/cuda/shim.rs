//! The functions of the CUDA shim, found by name in the loaded library.

use std::ffi::{CString, c_char, c_void};

use crate::ffi::{Group, Message, RawTensor, Store};

/// An opaque object of the shim.
pub(crate) type Raw = *mut c_void;

/// Declares the table and its loader from one list of names and types.
macro_rules! table {
    ($($field:ident : $symbol:literal, fn($($arg:ty),*) $(-> $ret:ty)?;)*) => {
        /// Entry points of `libtch_ext_cuda.so` (`csrc/cuda/*.cpp`); they stay valid, since it is never unloaded.
        #[derive(Clone, Copy)]
        pub(crate) struct Shim {
            $(pub(crate) $field: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)*
        }

        impl Shim {
            /// Finds all functions in a library that `dlopen` gave.
            ///
            /// # Safety
            /// `library` must be a handle of `dlopen` to the shim that was built with this version of the crate.
            pub(crate) unsafe fn find(library: *mut c_void) -> Result<Self, String> {
                $(
                    let name = CString::new($symbol).map_err(|e| e.to_string())?;
                    // SAFETY: a valid handle (by contract) and a NUL-terminated name.
                    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
                    if address.is_null() {
                        return Err(format!("it has no function {}; it is of another build", $symbol));
                    }
                    // SAFETY: the shim defines this name with this signature; function and data pointers have the same
                    // size on every platform that CUDA supports.
                    let $field = unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($arg),*) $(-> $ret)?>(address)
                    };
                )*
                Ok(Shim { $($field),* })
            }
        }
    };
}

table! {
    versions: "tchx_cuda_versions", fn(*mut i32, Message) -> i32;
    add_nccl: "tchx_cuda_add_nccl", fn(*mut Group, *const Store, *const c_char, i64, Message) -> i32;
    device_error: "tchx_cuda_device_error", fn(*mut *mut c_char, Message) -> i32;
    device_properties: "tchx_cuda_device_properties", fn(i32, *mut i64, Message) -> i32;
    peer_access: "tchx_cuda_peer_access", fn(i32, i32, *mut bool, Message) -> i32;
    device_name: "tchx_cuda_device_name", fn(i32, *mut *mut c_char, Message) -> i32;
    set_device: "tchx_cuda_set_device", fn(i32, Message) -> i32;
    synchronize: "tchx_cuda_synchronize", fn(i32, Message) -> i32;
    memory: "tchx_cuda_memory", fn(i32, *mut u64, Message) -> i32;
    reset_peak_memory: "tchx_cuda_reset_peak_memory", fn(i32, Message) -> i32;
    empty_cache: "tchx_cuda_empty_cache", fn(Message) -> i32;
    stream_new: "tchx_cuda_stream_new", fn(i32, bool, *mut Raw, Message) -> i32;
    stream_current: "tchx_cuda_stream_current", fn(i32, *mut Raw, Message) -> i32;
    stream_make_current: "tchx_cuda_stream_make_current", fn(Raw, Message) -> i32;
    stream_synchronize: "tchx_cuda_stream_synchronize", fn(Raw, Message) -> i32;
    stream_free: "tchx_cuda_stream_free", fn(Raw);
    record_stream: "tchx_cuda_record_stream", fn(RawTensor, Raw, Message) -> i32;
    event_new: "tchx_cuda_event_new", fn(bool, *mut Raw, Message) -> i32;
    event_record: "tchx_cuda_event_record", fn(Raw, Raw, Message) -> i32;
    event_block: "tchx_cuda_event_block", fn(Raw, Raw, Message) -> i32;
    event_synchronize: "tchx_cuda_event_synchronize", fn(Raw, Message) -> i32;
    event_free: "tchx_cuda_event_free", fn(Raw);
    pin: "tchx_cuda_pin", fn(RawTensor, *mut RawTensor, Message) -> i32;
    copy_async: "tchx_cuda_copy_async", fn(RawTensor, RawTensor, Message) -> i32;
    graph_new: "tchx_cuda_graph_new", fn(*mut Raw, Message) -> i32;
    graph_begin: "tchx_cuda_graph_begin", fn(Raw, Message) -> i32;
    graph_end: "tchx_cuda_graph_end", fn(Raw, Message) -> i32;
    graph_replay: "tchx_cuda_graph_replay", fn(Raw, Message) -> i32;
    graph_free: "tchx_cuda_graph_free", fn(Raw);
}
