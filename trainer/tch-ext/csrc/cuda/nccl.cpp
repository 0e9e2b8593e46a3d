// NCCL for a group's CUDA tensors.
#include "../group.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

using namespace tchx;

// Adds NCCL to a group that has Gloo; CPU tensors go on using Gloo. All ranks must do so before the first collective.
TCHX int32_t tchx_cuda_add_nccl(
    GroupHandle* handle, const Store* store, const char* prefix, int64_t timeout_ms, char** message) {
  return guarded(message, [&] {
    auto& pg = handle->group->pg;
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = std::chrono::milliseconds(timeout_ms);
    auto scoped = c10::make_intrusive<c10d::PrefixStore>(std::string(prefix) + "/nccl", store->store);
    auto nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(scoped, pg->getRank(), pg->getSize(), options);
    pg->setBackend(c10::DeviceType::CUDA, c10d::ProcessGroup::BackendType::NCCL, nccl);
    pg->setDefaultBackend(c10d::ProcessGroup::BackendType::NCCL);
  }, true);
}
