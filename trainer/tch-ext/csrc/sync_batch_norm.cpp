// Batch normalisation with statistics over all ranks, as an autograd function.
//
// Forward all-reduces [sum, sum of squares, count] per channel, backward [sum of dy, sum of dy * xhat]; the gradients
// of weight and bias stay local, since the DDP reducer averages them like all others.
#include "group.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/batch_norm_backward_elemt.h>
#include <ATen/ops/batch_norm_backward_reduce.h>
#include <ATen/ops/batch_norm_elemt.h>
#include <ATen/ops/batch_norm_gather_stats_with_counts.h>
#include <ATen/ops/batch_norm_stats.h>
#include <ATen/ops/batch_norm_update_stats.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/native_batch_norm.h>
#include <ATen/ops/native_batch_norm_backward.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace tchx {
namespace {

struct Running {  // a struct of our own, so that autograd does not take the buffers for inputs
  Tensor mean, var;
  double momentum;
};

at::ScalarType statistics_type(const Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

Tensor cast(const Tensor& t, at::ScalarType type) {
  return t.defined() ? t.to(type) : t;
}

// [N, C, *] in one of the two dense layouts: channels innermost (2-D and channels-last), or C * inner per sample.
struct Layout {
  at::MemoryFormat format;
  bool channels_innermost;
  int64_t channels, inner, samples;

  explicit Layout(const Tensor& x) {
    format = x.suggest_memory_format();
    channels = x.size(1);
    samples = x.size(0);
    inner = channels == 0 || samples == 0 ? 0 : x.numel() / (channels * samples);
    channels_innermost = x.dim() == 2 || format != at::MemoryFormat::Contiguous;
  }
};

// dx = (dy - mean_dy - (x - mean) * k) * scale, per channel.
template <typename scalar, typename acc>
void input_gradient(
    const Layout& layout, const scalar* dy, const scalar* x, scalar* dx, const acc* mean, const acc* k,
    const acc* mean_dy, const acc* scale) {
  const int64_t c = layout.channels, inner = layout.inner;
  if (layout.channels_innermost) {
    at::parallel_for(0, layout.samples * inner, std::max<int64_t>(1, 32768 / std::max<int64_t>(c, 1)),
        [&](int64_t begin, int64_t end) {
          for (int64_t row = begin; row < end; ++row) {
            const scalar *a = dy + row * c, *b = x + row * c;
            scalar* out = dx + row * c;
            for (int64_t j = 0; j < c; ++j)
              out[j] = static_cast<scalar>(
                  (static_cast<acc>(a[j]) - mean_dy[j] - (static_cast<acc>(b[j]) - mean[j]) * k[j]) * scale[j]);
          }
        });
    return;
  }
  at::parallel_for(0, layout.samples * c, std::max<int64_t>(1, 32768 / std::max<int64_t>(inner, 1)),
      [&](int64_t begin, int64_t end) {
        for (int64_t plane = begin; plane < end; ++plane) {
          const int64_t j = plane % c;
          const acc m = mean[j], kk = k[j], mdy = mean_dy[j], s = scale[j];
          const scalar *a = dy + plane * inner, *b = x + plane * inner;
          scalar* out = dx + plane * inner;
          for (int64_t i = 0; i < inner; ++i)
            out[i] = static_cast<scalar>((static_cast<acc>(a[i]) - mdy - (static_cast<acc>(b[i]) - m) * kk) * s);
        }
      });
}

void check_count(double count) {
  TORCH_CHECK(count > 1, "expected more than one value per channel over all ranks, got ", count);
}

void update_running(Running& running, const Tensor& mean, const Tensor& var, double count) {
  const double m = running.momentum;
  const Tensor unbiased = var * (count / (count - 1));
  running.mean.copy_(running.mean.to(at::kDouble) * (1 - m) + mean * m);
  running.var.copy_(running.var.to(at::kDouble) * (1 - m) + unbiased * m);
}

class SyncBatchNorm : public torch::autograd::Function<SyncBatchNorm> {
 public:
  static Tensor forward(
      AutogradContext* ctx, const Tensor& input, const std::optional<Tensor>& weight,
      const std::optional<Tensor>& bias, Running running, double eps, const c10::intrusive_ptr<Group>& group) {
    const Tensor w = weight.value_or(Tensor()), b = bias.value_or(Tensor());
    const Tensor x = input.contiguous(input.suggest_memory_format());
    ctx->saved_data["group"] = c10::IValue::make_capsule(group);
    ctx->saved_data["eps"] = eps;
    return x.is_cuda() ? forward_cuda(ctx, x, w, b, running, eps, *group)
                       : forward_cpu(ctx, x, w, b, running, eps, *group);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &w = saved[1];
    const auto capsule = ctx->saved_data["group"].toCapsule();
    const auto group = c10::static_intrusive_pointer_cast<Group>(capsule);
    const Tensor dy = grads[0].to(x.scalar_type()).contiguous(x.suggest_memory_format());
    auto out = x.is_cuda() ? backward_cuda(ctx, dy, saved, *group) : backward_cpu(ctx, dy, saved, *group);
    // An absent weight and bias have no edge in the graph, so they must not even be asked for.
    for (size_t i : {1, 2})
      out[i] = w.defined() && ctx->needs_input_grad(i) ? cast(out[i], w.scalar_type()) : Tensor();
    return {out[0], out[1], out[2], Tensor(), Tensor(), Tensor()};
  }

 private:
  static Tensor forward_cpu(
      AutogradContext* ctx, const Tensor& x, const Tensor& w, const Tensor& b, Running& running, double eps,
      const Group& group) {
    const int64_t c = x.size(1);
    const auto acc = statistics_type(x);
    const double local = x.numel() == 0 ? 0. : static_cast<double>(x.numel()) / static_cast<double>(c);
    Tensor sums = at::zeros({2 * c + 1}, at::kDouble);
    if (local > 0) {
      // The buffers given here are scratch: they make the kernel compute in `acc` for half-precision inputs too.
      auto [mean, var] = at::batch_norm_update_stats(x, at::zeros({c}, acc), at::zeros({c}, acc), 0.);
      const Tensor m = mean.to(at::kDouble), v = var.to(at::kDouble);
      sums.narrow(0, 0, c).copy_(m * local);
      sums.narrow(0, c, c).copy_((v + m * m) * local);
      sums[2 * c] = local;
    }
    group.sum(sums);
    const double count = sums[2 * c].item<double>();
    check_count(count);
    const Tensor mean64 = sums.narrow(0, 0, c) / count;
    const Tensor var64 = (sums.narrow(0, c, c) / count - mean64 * mean64).clamp_min_(0);
    update_running(running, mean64, var64, count);
    const Tensor mean = mean64.to(acc), var = var64.to(acc);
    ctx->saved_data["count"] = count;
    ctx->save_for_backward({x, w, mean, var});
    if (local == 0) return at::empty_like(x);
    return std::get<0>(at::native_batch_norm(x, cast(w, acc), cast(b, acc), mean, var, /*training=*/false, 0., eps));
  }

  static variable_list backward_cpu(
      AutogradContext* ctx, const Tensor& dy, const variable_list& saved, const Group& group) {
    const Tensor &x = saved[0], &mean = saved[2], &var = saved[3];
    const auto acc = statistics_type(x);
    const Tensor w = cast(saved[1], acc);
    const double eps = ctx->saved_data["eps"].toDouble(), count = ctx->saved_data["count"].toDouble();
    const int64_t c = x.size(1);
    Tensor grad_w = at::zeros({c}, acc), grad_b = at::zeros({c}, acc);
    if (x.numel() > 0) {
      // The evaluation-mode kernel with the global statistics gives the two local sums: dy * xhat and dy.
      const auto parts =
          at::native_batch_norm_backward(dy, x, w, mean, var, {}, {}, /*train=*/false, eps, {false, true, true});
      grad_w = std::get<1>(parts).to(acc);
      grad_b = std::get<2>(parts).to(acc);
    }
    Tensor dx;
    if (ctx->needs_input_grad(0)) {
      Tensor sums = at::cat({grad_b.to(at::kDouble), grad_w.to(at::kDouble)});
      group.sum(sums);
      const Tensor invstd = (var.to(at::kDouble) + eps).rsqrt();
      const Tensor mean_dy = (sums.narrow(0, 0, c) / count).to(acc);
      const Tensor k = (sums.narrow(0, c, c) / count * invstd).to(acc);
      const Tensor scale = (w.defined() ? invstd * w.to(at::kDouble) : invstd).to(acc).contiguous();
      dx = at::empty_like(x);
      const Layout layout(x);
      AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "sync_batch_norm_backward", [&] {
        using acc_t = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
        input_gradient<scalar_t, acc_t>(
            layout, dy.const_data_ptr<scalar_t>(), x.const_data_ptr<scalar_t>(), dx.mutable_data_ptr<scalar_t>(),
            mean.const_data_ptr<acc_t>(), k.const_data_ptr<acc_t>(), mean_dy.const_data_ptr<acc_t>(),
            scale.const_data_ptr<acc_t>());
      });
    }
    return {dx, grad_w, grad_b};
  }

  // The kernels and the order of steps of torch.nn.SyncBatchNorm; nothing here waits for the device.
  static Tensor forward_cuda(
      AutogradContext* ctx, const Tensor& x, const Tensor& w, const Tensor& b, Running& running, double eps,
      const Group& group) {
    TORCH_CHECK(x.numel() > 0, "an empty batch on one rank is not supported on CUDA");
    const int64_t c = x.size(1), world = group.pg->getSize();
    const int64_t local = x.numel() / c;
    check_count(static_cast<double>(local) * static_cast<double>(world));
    auto [mean, invstd] = at::batch_norm_stats(x, eps);
    const Tensor count = at::full({1}, static_cast<double>(local), mean.options());
    Tensor mine = at::cat({mean, invstd, count});
    Tensor all = mine.unsqueeze(0);
    if (world > 1) {
      all = at::empty({world, 2 * c + 1}, mine.options());
      Tensor flat = all.view({-1});
      group.wait(group.pg->_allgather_base(flat, mine), false);
    }
    const Tensor counts = all.select(1, 2 * c).contiguous();
    std::tie(mean, invstd) = at::batch_norm_gather_stats_with_counts(
        x, all.narrow(1, 0, c).contiguous(), all.narrow(1, c, c).contiguous(), running.mean, running.var,
        running.momentum, eps, counts);
    ctx->save_for_backward({x, w, mean, invstd, counts.to(at::kInt)});
    return at::batch_norm_elemt(x, w, b, mean, invstd, eps);
  }

  static variable_list backward_cuda(
      AutogradContext* ctx, const Tensor& dy, const variable_list& saved, const Group& group) {
    const Tensor &x = saved[0], &w = saved[1], &mean = saved[2], &invstd = saved[3], &counts = saved[4];
    auto [sum_dy, sum_dy_xmu, grad_w, grad_b] =
        at::batch_norm_backward_reduce(dy, x, mean, invstd, w, true, w.defined(), w.defined());
    Tensor dx;
    if (ctx->needs_input_grad(0)) {
      const int64_t c = sum_dy.size(0);
      Tensor sums = at::cat({sum_dy, sum_dy_xmu});
      group.sum(sums);
      dx = at::batch_norm_backward_elemt(
          dy, x, mean, invstd, w, sums.narrow(0, 0, c), sums.narrow(0, c, c), counts);
    }
    return {dx, grad_w, grad_b};
  }
};

}  // namespace
}  // namespace tchx

using namespace tchx;

TCHX int32_t tchx_sync_batch_norm(
    GroupHandle* handle, at::Tensor* x, at::Tensor* weight, at::Tensor* bias, at::Tensor* running_mean,
    at::Tensor* running_var, double momentum, double eps, at::Tensor** out, char** message) {
  return guarded(message, [&] {
    TORCH_CHECK(x->dim() >= 2, "expected an input of two or more dimensions [N, C, ...], got ", x->sizes());
    TORCH_CHECK(x->is_floating_point(), "expected a floating-point input, got ", x->scalar_type());
    const int64_t c = x->size(1);
    for (const auto* t : {weight, bias, running_mean, running_var})
      TORCH_CHECK(
          t == nullptr || (t->dim() == 1 && t->size(0) == c && t->device() == x->device()),
          "expected weight, bias and running statistics of shape [", c, "] on ", x->device(), ", got ", t->sizes(),
          " on ", t->device());
    const auto optional = [](const at::Tensor* t) {
      return t == nullptr ? std::optional<Tensor>() : std::optional<Tensor>(*t);
    };
    const Running running{running_mean->detach(), running_var->detach(), momentum};
    *out = give(SyncBatchNorm::apply(*x, optional(weight), optional(bias), running, eps, handle->group));
  }, true);
}
