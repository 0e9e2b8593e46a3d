// What tch lacks for one process: memory format, fused SGD, in-place zeroing, raw bytes.
#include "common.h"

#include <ATen/ops/_foreach_zero.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/empty.h>

#include <cstring>
#include <map>

namespace tchx {
namespace {

bool fused_takes(const at::Tensor& p) {
  const auto type = p.scalar_type();
  return (p.is_cpu() || p.is_cuda()) &&
      (type == at::kFloat || type == at::kDouble || type == at::kBFloat16 || type == at::kHalf);
}

// The fused kernel walks raw memory: parameter, gradient and buffer must be dense and laid out alike.
bool alike(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.device() == b.device() && a.sizes() == b.sizes() &&
      a.strides() == b.strides();
}

struct Batch {
  std::vector<at::Tensor> params, grads, buffers;
};

}  // namespace
}  // namespace tchx

using namespace tchx;

TCHX int32_t tchx_fused_sgd(
    at::Tensor* const* params, at::Tensor* const* grads, at::Tensor* const* buffers, size_t n, double lr,
    double momentum, double weight_decay, bool first_step, char** message) {
  return guarded(message, [&] {
    at::NoGradGuard no_grad;
    const bool has_momentum = momentum != 0;
    std::map<std::pair<std::string, int>, Batch> fused;
    for (size_t i = 0; i < n; ++i) {
      at::Tensor p = params[i]->detach();
      TORCH_CHECK(grads[i]->defined(), "gradient ", i, " is undefined");
      const at::Tensor g = grads[i]->detach();
      at::Tensor m = has_momentum ? buffers[i]->detach() : at::Tensor();
      TORCH_CHECK(
          p.sizes() == g.sizes() && (!has_momentum || p.sizes() == m.sizes()), "parameter ", i, " has shape ",
          p.sizes(), ", its gradient ", g.sizes(), ", its buffer ", has_momentum ? m.sizes() : p.sizes());
      if (fused_takes(p) && p.is_non_overlapping_and_dense() && alike(p, g) && (!has_momentum || alike(p, m))) {
        auto& batch = fused[{p.device().str(), static_cast<int>(p.scalar_type())}];
        batch.params.push_back(p);
        batch.grads.push_back(g);
        if (has_momentum) batch.buffers.push_back(m);
        continue;
      }
      at::Tensor d = weight_decay != 0 ? g.add(p, weight_decay) : g;
      if (has_momentum) {
        if (first_step) m.copy_(d);
        else m.mul_(momentum).add_(d);
        d = m;
      }
      p.add_(d, -lr);
    }
    for (auto& [key, batch] : fused)
      at::_fused_sgd_(
          batch.params, batch.grads, batch.buffers, weight_decay, momentum, lr, /*dampening=*/0., /*nesterov=*/false,
          /*maximize=*/false, first_step);
  });
}

TCHX int32_t tchx_zero_grads(at::Tensor* const* params, size_t n, char** message) {
  return guarded(message, [&] {
    at::NoGradGuard no_grad;
    std::map<std::pair<std::string, int>, std::vector<at::Tensor>> alike_grads;
    for (size_t i = 0; i < n; ++i) {
      const at::Tensor& g = params[i]->grad();
      // `detach` keeps the memory: a gradient that is a view into a bucket stays one.
      if (g.defined()) alike_grads[{g.device().str(), static_cast<int>(g.scalar_type())}].push_back(g.detach());
    }
    for (auto& [key, grads] : alike_grads) at::_foreach_zero_(grads);
  });
}

TCHX int32_t tchx_channels_last(at::Tensor* tensor, at::Tensor** out, char** message) {
  return guarded(message, [&] {
    *out = give(tensor->dim() == 4 ? tensor->contiguous(at::MemoryFormat::ChannelsLast) : *tensor);
  });
}

// Re-lays a leaf's memory; the variable stays the same to autograd.
TCHX int32_t tchx_make_channels_last(at::Tensor* tensor, char** message) {
  return guarded(message, [&] {
    if (tensor->dim() != 4) return;
    at::NoGradGuard no_grad;
    tensor->set_data(tensor->detach().contiguous(at::MemoryFormat::ChannelsLast));
  });
}

TCHX int32_t tchx_is_channels_last(at::Tensor* tensor, bool* yes, char** message) {
  return guarded(message, [&] { *yes = tensor->is_contiguous(at::MemoryFormat::ChannelsLast); });
}

TCHX int32_t tchx_detach(at::Tensor* tensor, at::Tensor** out, char** message) {
  return guarded(message, [&] { *out = give(tensor->detach()); });
}

// A CPU tensor with C-contiguous memory (the same one where it is so already), its first byte and its size in bytes.
TCHX int32_t tchx_host_bytes(
    at::Tensor* tensor, at::Tensor** holder, const uint8_t** data, size_t* n, char** message) {
  return guarded(message, [&] {
    at::NoGradGuard no_grad;
    at::Tensor host = tensor->detach().to(at::kCPU).contiguous();
    *data = static_cast<const uint8_t*>(host.const_data_ptr());
    *n = host.nbytes();
    *holder = give(std::move(host));
  });
}

// Copies C-contiguous bytes into a tensor of any device and layout.
TCHX int32_t tchx_copy_bytes(at::Tensor* tensor, const uint8_t* data, size_t n, char** message) {
  return guarded(message, [&] {
    at::NoGradGuard no_grad;
    at::Tensor target = tensor->detach();
    const size_t expected = static_cast<size_t>(target.numel()) * target.element_size();
    TORCH_CHECK(n == expected, "a tensor of shape ", target.sizes(), " takes ", expected, " bytes, got ", n);
    if (n == 0) return;
    if (target.is_cpu() && target.is_contiguous()) {
      std::memcpy(target.mutable_data_ptr(), data, n);
      return;
    }
    at::Tensor host = at::empty(target.sizes(), target.options().device(at::kCPU).memory_format(at::MemoryFormat::Contiguous));
    std::memcpy(host.mutable_data_ptr(), data, n);
    target.copy_(host);
  });
}
