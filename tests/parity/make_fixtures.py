"""Writes `fixtures/<case>.*.safetensors`: small SimSiam models, their inputs, and PyTorch's results.

See README.md beside this file for the format. Run it with torch 2.11 and torchvision 0.26; it takes seconds.
"""

import json
import math
from pathlib import Path

import torch
import torchvision
from safetensors.torch import save_file
from torchvision.models.resnet import BasicBlock, Bottleneck

import formula
import model

HERE = Path(__file__).resolve().parent
STEPS = 5
BASE = {
    "steps": STEPS,
    "momentum": 0.9,
    "weightDecay": 1e-4,
}
CASES = {
    "basic": {
        "arch": "resnet18", "stem": "cifar", "baseWidth": 3, "projector": {"layers": 3, "hiddenDim": None},
        "dim": 32, "predDim": 8, "batch": 8, "size": [16, 16], "lr": 0.02, "salt": "1", "dtypes": ["f64", "f32"],
    },
    # Odd heights and widths, unequal to one another: padding and strides show.
    "bottleneck": {
        "arch": "resnet50", "stem": "imagenet", "baseWidth": 2, "projector": {"layers": 3, "hiddenDim": None},
        "dim": 24, "predDim": 8, "batch": 8, "size": [33, 29], "lr": 0.01, "salt": "2", "dtypes": ["f64"],
    },
    "two-layer": {
        "arch": "resnet18", "stem": "cifar", "baseWidth": 2, "projector": {"layers": 2, "hiddenDim": 24},
        "dim": 32, "predDim": 8, "batch": 8, "size": [16, 16], "lr": 0.02, "salt": "1", "dtypes": ["f64"],
    },
}  # fmt: skip
DTYPES = {"f64": torch.float64, "f32": torch.float32}


def rates(lr: float) -> dict:
    """The encoder's rate falls by a cosine of one step an epoch; the predictor's stays."""
    return {
        "encoderLr": [lr * 0.5 * (1 + math.cos(math.pi * step / STEPS)) for step in range(STEPS)],
        "predictorLr": lr,
    }


def build(case: dict) -> model.SimSiam:
    projector = case["projector"]
    return model.SimSiam(
        case["arch"], case["stem"], case["baseWidth"],
        projector["layers"], projector["hiddenDim"], case["dim"], case["predDim"],
    )  # fmt: skip


def initial_state(salt: str, net: model.SimSiam) -> dict[str, torch.Tensor]:
    """A value for each parameter and buffer, none of them trivial, each exact in f32."""
    # Smaller weights at each residual branch's end keep the network well conditioned (zero, as training starts with,
    # would hide the branches' gradients).
    last_norms = {
        f"{name}.{'bn3' if isinstance(block, Bottleneck) else 'bn2'}.weight"
        for name, block in net.named_modules()
        if isinstance(block, (BasicBlock, Bottleneck))
    }
    state = {}
    for name, tensor in net.state_dict().items():
        shape, seed = tuple(tensor.shape), f"{salt}/{name}"
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(3, dtype=torch.int64)
        elif tensor.dim() > 1:
            state[name] = formula.affine(seed, shape, 0.0, formula.he_bound(shape))
        elif name.endswith("running_var"):
            state[name] = formula.affine(seed, shape, 1.0, 0.5)
        elif name in last_norms:
            state[name] = formula.affine(seed, shape, 0.3, 0.1)
        elif name.endswith(".weight"):
            state[name] = formula.affine(seed, shape, 1.0, 0.4)
        elif name.endswith(".bias"):  # above zero, lest a narrow layer's channels die in their ReLU
            state[name] = formula.affine(seed, shape, 0.3, 0.3)
        else:
            state[name] = formula.affine(seed, shape, 0.0, 0.3)
    return state


def views(salt: str, case: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Two views for each step, `[steps, N, 3, H, W]` as bytes b that stand for (b - 128) / 64, related but not equal."""
    shape = (STEPS, case["batch"], 3, *case["size"])
    image = formula.uniform(f"{salt}/image", shape)
    pair = []
    for name in ("view1", "view2"):
        pixels = image + 0.7 * formula.uniform(f"{salt}/{name}", shape)
        pair.append(torch.from_numpy(pixels * 64 + 128).round().clamp(0, 255).to(torch.uint8))
    return pair[0], pair[1]


def train(case: dict, state: dict[str, torch.Tensor], pair, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Five steps of training; everything the Rust side is compared with."""
    net = build(case).to(dtype)
    net.load_state_dict(state)
    net.train()
    view1, view2 = ((view.to(dtype) - 128) / 64 for view in pair)
    sgd = model.optimizer(net, case["predictorLr"], case["momentum"], case["weightDecay"])
    expected, losses = {}, []
    for step in range(STEPS):
        sgd.param_groups[0]["lr"] = case["encoderLr"][step]
        outputs = net(view1[step], view2[step])
        value = model.loss(*outputs)
        sgd.zero_grad()
        value.backward()
        if step == 0:
            for name, tensor in zip(("p1", "p2", "z1", "z2"), outputs):
                expected[name] = tensor.detach().clone()
            for name, parameter in net.named_parameters():
                if parameter.requires_grad:
                    expected[f"grad.{name}"] = parameter.grad.clone()
        losses.append(value.detach())
        sgd.step()
    expected["losses"] = torch.stack(losses)
    for name, tensor in net.state_dict().items():
        expected[f"after.{name}"] = tensor.clone()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            expected[f"momentum.{name}"] = sgd.state[parameter]["momentum_buffer"].clone()
    return expected


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """||a - b|| / ||b|| in f64."""
    a, b = a.double(), b.double()
    return float((a - b).norm() / b.norm())


def check(case_name: str, case: dict, state, pair, expected) -> None:
    """Refuses fixtures that could not detect errors: vanishing gradients, or results dominated by rounding."""
    frozen = [name for name, p in build(case).named_parameters() if not p.requires_grad]
    assert frozen == [case["frozen"]], frozen
    assert torch.equal(expected[f"after.{frozen[0]}"], state[frozen[0]].double())
    sizes = {name: float(t.norm() / t.numel() ** 0.5) for name, t in expected.items() if name.startswith("grad.")}
    weakest = min(sizes, key=sizes.get)
    assert sizes[weakest] > 1e-5, (weakest, sizes[weakest])
    # The same start, wrong by 1e-14: what it becomes in five steps must stay far below the tolerance of 1e-8.
    wrong = {
        name: tensor.double() * (1 + 1e-14 * torch.from_numpy(formula.uniform(f"wrong/{name}", tuple(tensor.shape))))
        if tensor.is_floating_point()
        else tensor
        for name, tensor in state.items()
    }
    other = train(case, wrong, pair, torch.float64)
    spread = max(distance(other[name], expected[name]) for name in expected)
    assert spread < 1e-10, spread
    moved = min(distance(expected[f"after.{name}"], tensor) for name, tensor in state.items() if name not in frozen)
    assert moved > 1e-4, moved
    print(f"{case_name}: losses {[round(float(x), 4) for x in expected['losses']]}")
    print(f"  weakest gradient {weakest} rms {sizes[weakest]:.1e}, spread of an error of 1e-14: {spread:.1e}")
    single = train(case, state, pair, torch.float32)
    worst = max(expected, key=lambda name: distance(single[name], expected[name]))
    print(f"  f32 against f64: worst {worst} {distance(single[worst], expected[worst]):.1e}")


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    out = HERE / "fixtures"
    out.mkdir(exist_ok=True)
    for case_name, case in CASES.items():
        dtypes, salt = case["dtypes"], f"{case_name}{case['salt']}"
        case = {"name": case_name, **{k: v for k, v in case.items() if k not in ("dtypes", "lr", "salt")}, **BASE, **rates(case["lr"])}
        case["frozen"] = f"encoder.fc.{3 * (case['projector']['layers'] - 1)}.bias"
        case["torch"] = torch.__version__.split("+")[0]
        case["torchvision"] = torchvision.__version__.split("+")[0]
        state = initial_state(salt, build(case))
        pair = views(salt, case)
        check(case_name, case, state, pair, train(case, state, pair, torch.float64))
        inputs = {f"state.{name}": tensor for name, tensor in state.items()}
        inputs |= {"view1": pair[0], "view2": pair[1]}
        metadata = {"case": json.dumps(case)}
        save_file(inputs, out / f"{case_name}.inputs.safetensors", metadata=metadata)
        for dtype in dtypes:
            expected = train(case, state, pair, DTYPES[dtype])
            save_file(expected, out / f"{case_name}.{dtype}.safetensors", metadata=metadata)
    for path in sorted(out.iterdir()):
        print(f"{path.stat().st_size:>9} {path.name}")


if __name__ == "__main__":
    main()
