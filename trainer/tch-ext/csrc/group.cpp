// Process groups and their collectives. The CPU half is always Gloo; the CUDA shim may add NCCL for CUDA tensors.
#include "group.h"

#include <ATen/ops/empty_like.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <cstdlib>

namespace tchx {
namespace {

constexpr std::chrono::milliseconds kSlice{50};

c10d::ReduceOp reduce_op(int32_t op) {
  switch (op) {
    case 0: return c10d::ReduceOp::SUM;
    case 1: return c10d::ReduceOp::MAX;
    case 2: return c10d::ReduceOp::MIN;
    default: throw Failure{TCHX_TORCH, "unknown reduce operation"};
  }
}

std::shared_ptr<::gloo::transport::Device> gloo_device(const char* address) {
  // The variable that torch.distributed reads too; the first of a comma-separated list.
  if (const char* named = std::getenv("GLOO_SOCKET_IFNAME"); named != nullptr && *named != '\0') {
    const std::string list(named);
    return c10d::ProcessGroupGloo::createDeviceForInterface(list.substr(0, list.find(',')));
  }
  return c10d::ProcessGroupGloo::createDeviceForHostname(address);
}

// The raw bytes travel, so every rank must hold the same layout; `body` gets a dense tensor.
template <class F>
void on_dense(const at::Tensor& tensor, F&& body) {
  at::NoGradGuard no_grad;
  at::Tensor plain = tensor.detach();
  at::Tensor dense = plain.contiguous();
  body(dense);
  if (!dense.is_alias_of(plain)) plain.copy_(dense);
}

}  // namespace

void Group::wait(const c10::intrusive_ptr<c10d::Work>& work, bool on_cpu) const {
  if (!on_cpu) {
    work->wait();
    return;
  }
  while (true) {
    if (aborted.load()) throw Failure{TCHX_ABORTED, "the process group was aborted"};
    try {
      work->wait(kSlice);
      return;
    } catch (...) {
      if (work->isCompleted()) {
        work->wait();  // rethrows the work's own error, if it has one
        return;
      }
    }
  }
}

void Group::sum(at::Tensor& tensor) const {
  if (pg->getSize() == 1) return;
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> tensors{tensor};
  wait(pg->allreduce(tensors), tensor.is_cpu());
}

}  // namespace tchx

using namespace tchx;

TCHX int32_t tchx_group_new(
    const Store* store, const char* prefix, const char* address, int32_t rank, int32_t size, int64_t timeout_ms,
    GroupHandle** out, char** message) {
  return guarded(message, [&] {
    auto scoped = c10::make_intrusive<c10d::PrefixStore>(prefix, store->store);
    scoped->setTimeout(std::chrono::milliseconds(timeout_ms));
    auto options = c10d::ProcessGroupGloo::Options::create(std::chrono::milliseconds(timeout_ms));
    options->devices.push_back(gloo_device(address));
    auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(scoped, rank, size, options);
    auto group = c10::make_intrusive<Group>();
    group->pg = c10::make_intrusive<c10d::ProcessGroup>(scoped, rank, size);
    for (auto device : {c10::DeviceType::CPU, c10::DeviceType::CUDA})
      group->pg->setBackend(device, c10d::ProcessGroup::BackendType::GLOO, gloo);
    group->pg->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
    group->pg->setGroupName(prefix);
    *out = new GroupHandle{std::move(group)};
  }, true);
}

TCHX void tchx_group_free(GroupHandle* handle) {
  char* message = nullptr;
  guarded(&message, [&] { delete handle; });
  tchx_free(message);
}

TCHX int32_t tchx_group_abort(GroupHandle* handle, char** message) {
  return guarded(message, [&] {
    handle->group->aborted.store(true);
    handle->group->pg->abort();
  }, true);
}

TCHX int32_t tchx_all_reduce(GroupHandle* handle, at::Tensor* tensor, int32_t op, char** message) {
  return guarded(message, [&] {
    c10d::AllreduceOptions options;
    options.reduceOp = reduce_op(op);
    on_dense(*tensor, [&](at::Tensor& dense) {
      std::vector<at::Tensor> tensors{dense};
      handle->group->wait(handle->group->pg->allreduce(tensors, options), dense.is_cpu());
    });
  }, true);
}

// All broadcasts are under way at once; they complete in order.
TCHX int32_t tchx_broadcast(GroupHandle* handle, at::Tensor* const* tensors, size_t n, int32_t root, char** message) {
  return guarded(message, [&] {
    at::NoGradGuard no_grad;
    c10d::BroadcastOptions options;
    options.rootRank = root;
    std::vector<at::Tensor> plain, dense;
    std::vector<c10::intrusive_ptr<c10d::Work>> works;
    for (size_t i = 0; i < n; ++i) {
      plain.push_back(tensors[i]->detach());
      dense.push_back(plain.back().contiguous());
      std::vector<at::Tensor> one{dense.back()};
      works.push_back(handle->group->pg->broadcast(one, options));
    }
    for (size_t i = 0; i < n; ++i) {
      handle->group->wait(works[i], dense[i].is_cpu());
      if (!dense[i].is_alias_of(plain[i])) plain[i].copy_(dense[i]);
    }
  }, true);
}

// `out` has room for as many tensors as the group has ranks.
TCHX int32_t tchx_all_gather(GroupHandle* handle, at::Tensor* tensor, at::Tensor** out, char** message) {
  return guarded(message, [&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> inputs{tensor->detach().contiguous()};
    std::vector<std::vector<at::Tensor>> outputs(1);
    const int size = handle->group->pg->getSize();
    for (int i = 0; i < size; ++i) outputs[0].push_back(at::empty_like(inputs[0]));
    handle->group->wait(handle->group->pg->allgather(outputs, inputs), inputs[0].is_cpu());
    for (int i = 0; i < size; ++i) out[i] = give(outputs[0][i]);
  }, true);
}

// Over Gloo also where CUDA tensors use NCCL: it then means what it says for the host, and needs no device.
TCHX int32_t tchx_barrier(GroupHandle* handle, char** message) {
  return guarded(message, [&] {
    auto backend = handle->group->pg->getBackend(c10::DeviceType::CPU);
    handle->group->wait(backend->barrier(), true);
  }, true);
}
