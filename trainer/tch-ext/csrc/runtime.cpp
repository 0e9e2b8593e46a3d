// Switches of the process: autocast, threads, determinism, seed, version.
#include "common.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <c10/util/Logging.h>
#include <torch/version.h>

using tchx::guarded;

namespace {
c10::DeviceType device_type(bool cuda) {
  return cuda ? at::kCUDA : at::kCPU;
}
}  // namespace

// Enters an autocast region (`dtype` < 0 disables autocast in it) and writes what `leave` needs to restore the state.
TCHX int32_t tchx_autocast_enter(bool cuda, int32_t dtype, bool* was_enabled, int32_t* old_dtype, char** message) {
  return guarded(message, [&] {
    const auto device = device_type(cuda);
    if (dtype >= 0) {
      const auto type = static_cast<at::ScalarType>(dtype);
      TORCH_CHECK(
          type == at::kBFloat16 || type == at::kHalf, "autocast computes in bfloat16 or float16, not in ", type);
    }
    *was_enabled = at::autocast::is_autocast_enabled(device);
    *old_dtype = static_cast<int32_t>(at::autocast::get_autocast_dtype(device));
    at::autocast::increment_nesting();
    at::autocast::set_autocast_enabled(device, dtype >= 0);
    if (dtype >= 0) at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(dtype));
  });
}

TCHX int32_t tchx_autocast_leave(bool cuda, bool was_enabled, int32_t old_dtype, char** message) {
  return guarded(message, [&] {
    const auto device = device_type(cuda);
    at::autocast::set_autocast_enabled(device, was_enabled);
    at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(old_dtype));
    // The cache holds half-precision copies of weights, which the next optimiser step makes stale.
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  });
}

TCHX int32_t tchx_set_threads(int32_t n, char** message) {
  return guarded(message, [&] { at::set_num_threads(n); });
}

TCHX int32_t tchx_threads() {
  return at::get_num_threads();
}

TCHX int32_t tchx_deterministic(bool on, bool warn_only, char** message) {
  return guarded(message, [&] {
    auto& context = at::globalContext();
    context.setDeterministicAlgorithms(on, warn_only);
    context.setDeterministicCuDNN(on);
    context.setDeterministicMkldnn(on);
    // Filling fresh memory finds bugs but costs a pass over every allocation.
    context.setDeterministicFillUninitializedMemory(false);
    if (on) context.setBenchmarkCuDNN(false);
  });
}

TCHX int32_t tchx_manual_seed(uint64_t seed, char** message) {
  return guarded(message, [&] { at::manual_seed(seed); });
}

TCHX void tchx_log_level(int32_t level) {
  FLAGS_caffe2_log_level = level;
}

TCHX const char* tchx_version() {
  return TORCH_VERSION;
}
