// The engine of DistributedDataParallel: gradients are gathered in buckets and all-reduced while backward still runs.
#include "group.h"

#include <torch/csrc/distributed/c10d/logger.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

namespace tchx {
namespace {

// Opens what the base class keeps protected: which bucket order is in use, and whether this backward was finished.
class OpenReducer : public c10d::Reducer {
 public:
  using c10d::Reducer::Reducer;

  // The constructor's order is final: nothing is recorded for a later rebuild, and none happens.
  void keep_order() {
    has_rebuilt_bucket_ = true;
  }

  bool order_is_final() const {
    return has_rebuilt_bucket_;
  }

  std::vector<std::vector<size_t>> order() const {
    std::vector<std::vector<size_t>> all;
    for (const auto& bucket : buckets_) all.push_back(bucket.variable_indices);
    return all;
  }

  // Makes every gradient the view into its bucket that the base class would make it during the next backward. It divides
  // a view by the world size but multiplies a gradient that is none yet by the inverse, which rounds differently: without
  // this, a process's first step would not be what the same step is in a longer run.
  void adopt_views() {
    if (!gradient_as_bucket_view_) return;
    at::NoGradGuard no_grad;
    for (auto& bucket : buckets_) {
      for (size_t i = 0; i < bucket.variables.size(); ++i) {
        at::Tensor& grad = bucket.variables[i].mutable_grad();
        at::Tensor& view = bucket.bucket_views_in[i];
        if (!grad.defined()) view.zero_();
        else if (!grad.is_alias_of(view)) view.copy_(grad);
        grad = view;
      }
    }
  }

  // Takes over the order in which gradients arrived in the backward that was just finished; a collective.
  void settle_order() {
    if (has_rebuilt_bucket_ || unfinished()) return;
    if (rebuild_buckets()) adopt_views();
  }

  // Nanoseconds from the last gradient's being computed to the last bucket's being reduced and copied back, in the backward
  // before; -1 if it was not timed.
  int64_t exposed_nanoseconds() {
    if (!timer_ || !should_collect_runtime_stats()) return -1;
    using Event = c10d::Timer::Event;
    return timer_->measureDifference(Event::kBackwardComputeEnd, Event::kBackwardCommEnd).value_or(-1);
  }

  // A gradient's entry stays at -1 until its hook ran in this backward.
  void forget_readiness() {
    std::fill(backward_stats_.begin(), backward_stats_.end(), -1);
  }

  bool unfinished() const {
    return require_finalize_ || expect_autograd_hooks_;
  }

  std::vector<size_t> without_gradient() const {
    std::vector<size_t> missing;
    for (size_t i = 0; i < backward_stats_.size(); ++i)
      if (backward_stats_[i] == -1) missing.push_back(i);
    return missing;
  }
};

}  // namespace

struct ReducerHandle {
  c10::intrusive_ptr<Group> group;  // outlives the reducer
  std::shared_ptr<OpenReducer> reducer;
  std::shared_ptr<c10d::Logger> logger;
};

}  // namespace tchx

using namespace tchx;

// `order` is a flat list of bucket sizes and parameter indices: `order_sizes[b]` indices belong to bucket b.
// No order (`buckets` = 0) means PyTorch's initial assignment, which gives way to the order of arrival after the first step.
TCHX int32_t tchx_reducer_new(
    GroupHandle* handle, at::Tensor* const* params, const char* const* names, size_t n, int64_t first_bucket_bytes,
    int64_t bucket_bytes, const size_t* order_sizes, size_t buckets, const size_t* order_indices,
    bool gradient_as_bucket_view, bool has_sync_batch_norm, ReducerHandle** out, char** message) {
  return guarded(message, [&] {
    const auto& pg = handle->group->pg;
    const auto tensors = collect(params, n);
    c10d::verify_params_across_processes(pg, tensors, std::nullopt);

    std::vector<std::vector<size_t>> assignment;
    if (buckets == 0) {
      assignment = std::get<0>(c10d::compute_bucket_assignment_by_size(
          tensors, {static_cast<size_t>(first_bucket_bytes), static_cast<size_t>(bucket_bytes)},
          std::vector<bool>(n, false)));
      // Backward produces gradients from the last parameter to the first.
      std::reverse(assignment.begin(), assignment.end());
    } else {
      for (size_t b = 0; b < buckets; ++b) {
        assignment.emplace_back(order_indices, order_indices + order_sizes[b]);
        order_indices += order_sizes[b];
      }
    }
    std::unordered_map<size_t, std::string> by_index;
    for (size_t i = 0; i < n; ++i) by_index[i] = names[i];

    auto reducer = std::make_shared<OpenReducer>(
        tensors, std::move(assignment), pg, std::vector<bool>(n, false), bucket_bytes,
        /*find_unused_parameters=*/false, gradient_as_bucket_view, std::move(by_index), first_bucket_bytes,
        /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false, std::vector<int64_t>{});
    if (buckets != 0) reducer->keep_order();
    // Reading a GPU's clock waits for it, so that is done now and then, as PyTorch does; the host's costs nothing.
    if (n > 0 && !tensors[0].is_cuda()) reducer->set_ddp_runtime_logging_sample_rate(1);
    reducer->adopt_views();
    auto logger = std::make_shared<c10d::Logger>(reducer);
    reducer->set_logger(logger);
    std::vector<int> devices;
    int output = -1;
    if (n > 0 && tensors[0].is_cuda()) {
      output = tensors[0].get_device();
      devices.push_back(output);
    }
    logger->set_construction_data_and_log(
        "tch-ext", devices, output, /*broadcast_buffers=*/false, has_sync_batch_norm, /*static_graph=*/false);
    *out = new ReducerHandle{handle->group, std::move(reducer), std::move(logger)};
  }, true);
}

TCHX void tchx_reducer_free(ReducerHandle* handle) {
  char* message = nullptr;
  guarded(&message, [&] {
    handle->reducer->remove_autograd_hooks();
    handle->logger.reset();
    handle->reducer.reset();
    delete handle;
  });
  tchx_free(message);
}

TCHX int32_t tchx_reducer_prepare_forward(ReducerHandle* handle, int64_t* exposed_nanoseconds, char** message) {
  return guarded(message, [&] {
    *exposed_nanoseconds = handle->reducer->exposed_nanoseconds();
    handle->logger->set_runtime_stats_and_log();
    handle->reducer->prepare_for_forward();
    handle->reducer->settle_order();
  }, true);
}

TCHX int32_t tchx_reducer_prepare_backward(ReducerHandle* handle, char** message) {
  return guarded(message, [&] {
    handle->reducer->prepare_for_backward({});
    handle->reducer->forget_readiness();
  }, true);
}

TCHX int32_t tchx_backward(at::Tensor* loss, char** message) {
  return guarded(message, [&] { loss->backward(); }, true);
}

// Whether the last prepared backward reduced every gradient. If so, and it was the first, the bucket order is settled;
// if not, `*missing` (malloc'ed, `*n` entries) lists the parameters that got none.
TCHX int32_t tchx_reducer_finish(ReducerHandle* handle, bool* finished, size_t** missing, size_t* n, char** message) {
  return guarded(message, [&] {
    *finished = !handle->reducer->unfinished();
    const auto indices = *finished ? std::vector<size_t>{} : handle->reducer->without_gradient();
    auto* copy = static_cast<size_t*>(std::malloc(sizeof(size_t) * (indices.size() + 1)));
    if (copy == nullptr) throw std::bad_alloc();
    std::copy(indices.begin(), indices.end(), copy);
    *missing = copy;
    *n = indices.size();
    if (*finished) handle->reducer->settle_order();
  }, true);
}

// The order in use: `indices` has room for every parameter, `sizes` likewise (no bucket is empty).
TCHX int32_t tchx_reducer_order(
    ReducerHandle* handle, bool* is_final, size_t* sizes, size_t* buckets, size_t* indices, char** message) {
  return guarded(message, [&] {
    *is_final = handle->reducer->order_is_final();
    const auto order = handle->reducer->order();
    *buckets = order.size();
    for (const auto& bucket : order) {
      *sizes++ = bucket.size();
      indices = std::copy(bucket.begin(), bucket.end(), indices);
    }
  });
}
