//! The C ABI of the shim (`csrc/*.cpp`). Tensors cross as `at::Tensor*`, which is what tch's pointers are.
//!
//! Every `i32` is a code (0 = done, see `error::check`); `message` receives a malloc'ed text otherwise. Pointers to
//! tensors are borrowed for the call, and a tensor that a function hands out is the caller's.

use std::ffi::{c_char, c_void};

/// An `at::Tensor`.
pub(crate) type RawTensor = *mut c_void;

/// Opaque: `tchx::Store`.
#[repr(C)]
pub(crate) struct Store {
    _opaque: [u8; 0],
}

/// Opaque: `tchx::GroupHandle`.
#[repr(C)]
pub(crate) struct Group {
    _opaque: [u8; 0],
}

/// Opaque: `tchx::ReducerHandle`.
#[repr(C)]
pub(crate) struct Reducer {
    _opaque: [u8; 0],
}

pub(crate) type Message = *mut *mut c_char;

#[link(name = "tch_ext_shim", kind = "static")]
unsafe extern "C" {
    pub(crate) fn tchx_free(memory: *mut c_void);

    pub(crate) fn tchx_store_tcp(
        host: *const c_char,
        port: u16,
        is_server: bool,
        world: i64,
        timeout_ms: i64,
        out: *mut *mut Store,
        message: Message,
    ) -> i32;
    pub(crate) fn tchx_store_port(store: *const Store) -> u16;
    pub(crate) fn tchx_store_set(
        store: *mut Store,
        key: *const c_char,
        value: *const u8,
        n: usize,
        message: Message,
    ) -> i32;
    pub(crate) fn tchx_store_get(
        store: *mut Store,
        key: *const c_char,
        value: *mut *mut u8,
        n: *mut usize,
        message: Message,
    ) -> i32;
    pub(crate) fn tchx_store_add(
        store: *mut Store,
        key: *const c_char,
        amount: i64,
        sum: *mut i64,
        message: Message,
    ) -> i32;
    pub(crate) fn tchx_store_wait(store: *mut Store, key: *const c_char, timeout_ms: i64, message: Message) -> i32;
    pub(crate) fn tchx_store_free(store: *mut Store);

    pub(crate) fn tchx_group_new(
        store: *const Store,
        prefix: *const c_char,
        address: *const c_char,
        rank: i32,
        size: i32,
        timeout_ms: i64,
        out: *mut *mut Group,
        message: Message,
    ) -> i32;
    pub(crate) fn tchx_group_free(group: *mut Group);
    pub(crate) fn tchx_group_abort(group: *mut Group, message: Message) -> i32;
    pub(crate) fn tchx_all_reduce(group: *mut Group, tensor: RawTensor, op: i32, message: Message) -> i32;
    pub(crate) fn tchx_broadcast(
        group: *mut Group,
        tensors: *const RawTensor,
        n: usize,
        root: i32,
        message: Message,
    ) -> i32;
    pub(crate) fn tchx_all_gather(group: *mut Group, tensor: RawTensor, out: *mut RawTensor, message: Message) -> i32;
    pub(crate) fn tchx_barrier(group: *mut Group, message: Message) -> i32;

    pub(crate) fn tchx_reducer_new(
        group: *mut Group,
        params: *const RawTensor,
        names: *const *const c_char,
        n: usize,
        first_bucket_bytes: i64,
        bucket_bytes: i64,
        order_sizes: *const usize,
        buckets: usize,
        order_indices: *const usize,
        gradient_as_bucket_view: bool,
        has_sync_batch_norm: bool,
        out: *mut *mut Reducer,
        message: Message,
    ) -> i32;
    pub(crate) fn tchx_reducer_free(reducer: *mut Reducer);
    pub(crate) fn tchx_reducer_prepare_forward(
        reducer: *mut Reducer,
        exposed_nanoseconds: *mut i64,
        message: Message,
    ) -> i32;
    pub(crate) fn tchx_reducer_prepare_backward(reducer: *mut Reducer, message: Message) -> i32;
    pub(crate) fn tchx_reducer_finish(
        reducer: *mut Reducer,
        finished: *mut bool,
        missing: *mut *mut usize,
        n: *mut usize,
        message: Message,
    ) -> i32;
    pub(crate) fn tchx_reducer_order(
        reducer: *mut Reducer,
        is_final: *mut bool,
        sizes: *mut usize,
        buckets: *mut usize,
        indices: *mut usize,
        message: Message,
    ) -> i32;
    pub(crate) fn tchx_backward(loss: RawTensor, message: Message) -> i32;

    pub(crate) fn tchx_sync_batch_norm(
        group: *mut Group,
        x: RawTensor,
        weight: RawTensor,
        bias: RawTensor,
        running_mean: RawTensor,
        running_var: RawTensor,
        momentum: f64,
        eps: f64,
        out: *mut RawTensor,
        message: Message,
    ) -> i32;

    pub(crate) fn tchx_fused_sgd(
        params: *const RawTensor,
        grads: *const RawTensor,
        buffers: *const RawTensor,
        n: usize,
        lr: f64,
        momentum: f64,
        weight_decay: f64,
        first_step: bool,
        message: Message,
    ) -> i32;
    pub(crate) fn tchx_zero_grads(params: *const RawTensor, n: usize, message: Message) -> i32;
    pub(crate) fn tchx_channels_last(tensor: RawTensor, out: *mut RawTensor, message: Message) -> i32;
    pub(crate) fn tchx_make_channels_last(tensor: RawTensor, message: Message) -> i32;
    pub(crate) fn tchx_is_channels_last(tensor: RawTensor, yes: *mut bool, message: Message) -> i32;
    pub(crate) fn tchx_detach(tensor: RawTensor, out: *mut RawTensor, message: Message) -> i32;
    pub(crate) fn tchx_host_bytes(
        tensor: RawTensor,
        holder: *mut RawTensor,
        data: *mut *const u8,
        n: *mut usize,
        message: Message,
    ) -> i32;
    pub(crate) fn tchx_copy_bytes(tensor: RawTensor, data: *const u8, n: usize, message: Message) -> i32;

    pub(crate) fn tchx_autocast_enter(
        cuda: bool,
        dtype: i32,
        was_enabled: *mut bool,
        old_dtype: *mut i32,
        message: Message,
    ) -> i32;
    pub(crate) fn tchx_autocast_leave(cuda: bool, was_enabled: bool, old_dtype: i32, message: Message) -> i32;
    pub(crate) fn tchx_set_threads(n: i32, message: Message) -> i32;
    pub(crate) fn tchx_threads() -> i32;
    pub(crate) fn tchx_deterministic(on: bool, warn_only: bool, message: Message) -> i32;
    pub(crate) fn tchx_manual_seed(seed: u64, message: Message) -> i32;
    pub(crate) fn tchx_log_level(level: i32);
    pub(crate) fn tchx_version() -> *const c_char;
}
