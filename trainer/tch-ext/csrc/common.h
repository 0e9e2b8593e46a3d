// What all files of the shim share: the C ABI's error convention and the way tensors cross it.
//
// Every exported function that can fail returns a code of `TchxCode` and, unless that is OK, writes a malloc'ed
// message to `*message`, which the caller frees with `tchx_free`. No exception leaves a function.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#define TCHX extern "C" __attribute__((visibility("default")))

enum TchxCode : int32_t {
  TCHX_OK = 0,
  TCHX_TORCH = 1,           // an error of an operator or of an argument
  TCHX_COMMUNICATION = 2,   // a peer is gone, a connection broke
  TCHX_TIMEOUT = 3,
  TCHX_ADDRESS_IN_USE = 4,
  TCHX_OUT_OF_MEMORY = 5,
  TCHX_ABORTED = 6,
};

TCHX void tchx_free(void* memory);

namespace tchx {

// Thrown by our own code where the code is known.
struct Failure {
  TchxCode code;
  std::string text;
};

// Writes the message of the exception that is being handled and returns its code. `collective` says that an exception
// which is not PyTorch's own comes from the transport (Gloo throws plain std::runtime_error subclasses).
int32_t report_current_exception(char** message, bool collective) noexcept;

template <class F>
int32_t guarded(char** message, F&& body, bool collective = false) noexcept {
  try {
    std::forward<F>(body)();
    return TCHX_OK;
  } catch (...) {
    return report_current_exception(message, collective);
  }
}

// An `at::Tensor*` that Rust owns from here on (tch frees it with `delete`).
inline at::Tensor* give(at::Tensor tensor) {
  return new at::Tensor(std::move(tensor));
}

inline std::vector<at::Tensor> collect(at::Tensor* const* tensors, size_t n) {
  std::vector<at::Tensor> all;
  all.reserve(n);
  for (size_t i = 0; i < n; ++i) all.push_back(*tensors[i]);
  return all;
}

}  // namespace tchx
