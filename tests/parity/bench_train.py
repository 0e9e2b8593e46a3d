"""Times the training step of SimSiam in eager PyTorch: the baseline of `cargo xtask bench train`.

The same model, input size and optimiser as `simsiam bench-step`: one forward pass a view, symmetrised loss, backward,
SGD, on one batch of random images. An image counts once, though it has two views. Prints one line of JSON.
"""

import argparse
import contextlib
import json
import resource
import statistics
import time

import torch

import model as simsiam

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--arch", default="resnet18", choices=simsiam.ARCHITECTURES)
parser.add_argument("--stem", default="cifar", choices=("imagenet", "cifar"))
parser.add_argument("--base-width", type=int, default=64)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--crop", type=int, default=32)
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--warmup", type=int, default=2, help="steps before those that count")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
parser.add_argument("--channels-last", action="store_true")
parser.add_argument("--json", action="store_true", help="the only output there is")
options = parser.parse_args()

torch.set_num_threads(options.threads)
torch.manual_seed(0)
model = simsiam.SimSiam(options.arch, options.stem, options.base_width, 3, None, 2048, 512)
model = model.to(options.device)
views = [torch.randn(options.batch, 3, options.crop, options.crop, device=options.device) for _ in range(2)]
if options.channels_last:
    model = model.to(memory_format=torch.channels_last)
    views = [view.contiguous(memory_format=torch.channels_last) for view in views]
lr = 0.05 * options.batch / 256
optimizer = simsiam.optimizer(model, lr=lr, momentum=0.9, weight_decay=1e-4)


def autocast():
    if options.precision == "bf16":
        return torch.autocast(options.device, dtype=torch.bfloat16)
    return contextlib.nullcontext()


times = []
for step in range(options.warmup + options.steps):
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    with autocast():
        value = simsiam.loss(*model(*views))
    value.backward()
    optimizer.step()
    value = value.item()  # waits for a GPU
    if step >= options.warmup:
        times.append(time.perf_counter() - start)

seconds = statistics.median(times)
print(
    json.dumps(
        {
            "imagesPerSecond": options.batch / seconds,
            # ru_maxrss is in KiB on Linux.
            "peakRssMb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "stepSeconds": seconds,
            "loss": value,
            "torch": torch.__version__,
        }
    )
)
