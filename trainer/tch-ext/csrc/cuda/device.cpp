// Devices, memory figures, streams, events, pinned memory and graphs.
#include "../common.h"

#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <dlfcn.h>
#include <nccl.h>

#include <cstring>

using tchx::guarded;

namespace {

struct Stream {
  c10::cuda::CUDAStream stream;
};

struct Event {
  at::cuda::CUDAEvent event;
};

struct Graph {
  at::cuda::CUDAGraph graph;
};

}  // namespace

// [driver, runtime, cuDNN, NCCL], as each library counts: CUDA 13.0 is 13000, NCCL 2.28.9 is 22809. The driver's is 0
// where there is none.
TCHX int32_t tchx_cuda_versions(int32_t versions[4], char** message) {
  return guarded(message, [&] {
    if (cudaDriverGetVersion(&versions[0]) != cudaSuccess) versions[0] = 0;
    // Answers without a driver too, but then leaves the driver's error as the last one.
    if (cudaRuntimeGetVersion(&versions[1]) != cudaSuccess && versions[1] == 0) versions[1] = CUDART_VERSION;
    cudaGetLastError();
    // Not by libtorch's hooks, which refuse to answer without a driver.
    using CudnnVersion = size_t (*)();
    const auto cudnn = reinterpret_cast<CudnnVersion>(dlsym(RTLD_DEFAULT, "cudnnGetVersion"));
    versions[2] = cudnn == nullptr ? 0 : static_cast<int32_t>(cudnn());
    if (ncclGetVersion(&versions[3]) != ncclSuccess) versions[3] = 0;
  });
}

// Why there is no usable device; empty where there is one.
TCHX int32_t tchx_cuda_device_error(char** text, char** message) {
  return guarded(message, [&] {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    cudaGetLastError();
    *text = strdup(status == cudaSuccess ? "" : cudaGetErrorString(status));
  });
}

// [total memory, compute capability's major, its minor, multiprocessors].
TCHX int32_t tchx_cuda_device_properties(int32_t device, int64_t properties[4], char** message) {
  return guarded(message, [&] {
    const auto* found = at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(device));
    properties[0] = static_cast<int64_t>(found->totalGlobalMem);
    properties[1] = found->major;
    properties[2] = found->minor;
    properties[3] = found->multiProcessorCount;
  });
}

// Whether `device` can read the memory of `peer` directly (NVLink, or PCIe below one root).
TCHX int32_t tchx_cuda_peer_access(int32_t device, int32_t peer, bool* can, char** message) {
  return guarded(message, [&] {
    int access = 0;
    C10_CUDA_CHECK(cudaDeviceCanAccessPeer(&access, device, peer));
    *can = access != 0;
  });
}

TCHX int32_t tchx_cuda_device_name(int32_t device, char** name, char** message) {
  return guarded(message, [&] { *name = strdup(at::cuda::getDeviceProperties(device)->name); });
}

TCHX int32_t tchx_cuda_set_device(int32_t device, char** message) {
  return guarded(message, [&] { c10::cuda::set_device(static_cast<c10::DeviceIndex>(device)); });
}

TCHX int32_t tchx_cuda_synchronize(int32_t device, char** message) {
  return guarded(message, [&] {
    c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
    c10::cuda::device_synchronize();
  });
}

// [allocated now, allocated peak, reserved now, reserved peak] by the caching allocator, then [free, total] of the device.
TCHX int32_t tchx_cuda_memory(int32_t device, uint64_t figures[6], char** message) {
  return guarded(message, [&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(index);
    constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    figures[0] = static_cast<uint64_t>(stats.allocated_bytes[kAll].current);
    figures[1] = static_cast<uint64_t>(stats.allocated_bytes[kAll].peak);
    figures[2] = static_cast<uint64_t>(stats.reserved_bytes[kAll].current);
    figures[3] = static_cast<uint64_t>(stats.reserved_bytes[kAll].peak);
    c10::cuda::CUDAGuard guard(index);
    size_t free = 0, total = 0;
    C10_CUDA_CHECK(cudaMemGetInfo(&free, &total));
    figures[4] = free;
    figures[5] = total;
  });
}

TCHX int32_t tchx_cuda_reset_peak_memory(int32_t device, char** message) {
  return guarded(message, [&] {
    c10::cuda::CUDACachingAllocator::resetPeakStats(static_cast<c10::DeviceIndex>(device));
  });
}

TCHX int32_t tchx_cuda_empty_cache(char** message) {
  return guarded(message, [&] { c10::cuda::CUDACachingAllocator::emptyCache(); });
}

// A stream of PyTorch's pool (they live as long as the process).
TCHX int32_t tchx_cuda_stream_new(int32_t device, bool high_priority, Stream** out, char** message) {
  return guarded(message, [&] {
    *out = new Stream{c10::cuda::getStreamFromPool(high_priority, static_cast<c10::DeviceIndex>(device))};
  });
}

TCHX int32_t tchx_cuda_stream_current(int32_t device, Stream** out, char** message) {
  return guarded(message, [&] {
    *out = new Stream{c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device))};
  });
}

TCHX int32_t tchx_cuda_stream_make_current(Stream* stream, char** message) {
  return guarded(message, [&] { c10::cuda::setCurrentCUDAStream(stream->stream); });
}

TCHX int32_t tchx_cuda_stream_synchronize(Stream* stream, char** message) {
  return guarded(message, [&] { stream->stream.synchronize(); });
}

// The allocator then keeps the tensor's memory until what `stream` has queued so far is done.
TCHX int32_t tchx_cuda_record_stream(at::Tensor* tensor, Stream* stream, char** message) {
  return guarded(message, [&] { tensor->record_stream(stream->stream.unwrap()); });
}

TCHX void tchx_cuda_stream_free(Stream* stream) {
  delete stream;
}

TCHX int32_t tchx_cuda_event_new(bool timing, Event** out, char** message) {
  return guarded(message, [&] {
    *out = new Event{at::cuda::CUDAEvent(timing ? cudaEventDefault : cudaEventDisableTiming)};
  });
}

TCHX int32_t tchx_cuda_event_record(Event* event, Stream* stream, char** message) {
  return guarded(message, [&] { event->event.record(stream->stream); });
}

// The stream's later work waits for the event; the host does not.
TCHX int32_t tchx_cuda_event_block(Event* event, Stream* stream, char** message) {
  return guarded(message, [&] { event->event.block(stream->stream); });
}

TCHX int32_t tchx_cuda_event_synchronize(Event* event, char** message) {
  return guarded(message, [&] { event->event.synchronize(); });
}

TCHX void tchx_cuda_event_free(Event* event) {
  delete event;
}

TCHX int32_t tchx_cuda_pin(at::Tensor* tensor, at::Tensor** out, char** message) {
  return guarded(message, [&] { *out = tchx::give(tensor->pin_memory()); });
}

TCHX int32_t tchx_cuda_copy_async(at::Tensor* target, at::Tensor* source, char** message) {
  return guarded(message, [&] {
    at::NoGradGuard no_grad;
    target->detach().copy_(source->detach(), /*non_blocking=*/true);
  });
}

TCHX int32_t tchx_cuda_graph_new(Graph** out, char** message) {
  return guarded(message, [&] { *out = new Graph{}; });
}

TCHX int32_t tchx_cuda_graph_begin(Graph* graph, char** message) {
  return guarded(message, [&] { graph->graph.capture_begin(); });
}

TCHX int32_t tchx_cuda_graph_end(Graph* graph, char** message) {
  return guarded(message, [&] { graph->graph.capture_end(); });
}

TCHX int32_t tchx_cuda_graph_replay(Graph* graph, char** message) {
  return guarded(message, [&] { graph->graph.replay(); });
}

TCHX void tchx_cuda_graph_free(Graph* graph) {
  delete graph;
}
