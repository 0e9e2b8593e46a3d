// The handle of a process group, shared with the CUDA shim (which adds the NCCL backend to it).
#pragma once

#include "common.h"

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <atomic>
#include <string>

namespace tchx {

struct Store {
  c10::intrusive_ptr<c10d::Store> store;
  uint16_t port;
};

struct Group : torch::CustomClassHolder {
  c10::intrusive_ptr<c10d::ProcessGroup> pg;
  std::atomic<bool> aborted{false};

  ~Group() override {
    // Gloo's destructor joins threads that may wait for a lost peer until the timeout; after an abort the process is
    // about to end, so the group is left to the operating system.
    if (aborted.load()) pg.release();
  }

  // Waits for `work`. A CPU work is waited for in slices, so that `abort` from another thread is noticed.
  void wait(const c10::intrusive_ptr<c10d::Work>& work, bool on_cpu) const;
  // Sums `tensor` (contiguous, any device) over all ranks in place, also from inside autograd.
  void sum(at::Tensor& tensor) const;
};

// What crosses the C ABI: a reference of its own to the group.
struct GroupHandle {
  c10::intrusive_ptr<Group> group;
};

}  // namespace tchx
