"""Writes `schedule.json`, `sgd.json`, `larc.json` and `initialisation.json`: what PyTorch computes without a model's forward pass.

See README.md beside this file for the formats.
"""

import json
import math
from pathlib import Path

import torch
from torch import nn

import formula
import model

HERE = Path(__file__).resolve().parent


def write(name: str, value: dict, rows: str) -> None:
    """JSON with one line for each element of the list `rows`, so that differences read well."""
    head = json.dumps({k: v for k, v in value.items() if k != rows})[:-1]
    text = head + f', "{rows}": [\n' + ",\n".join(json.dumps(row) for row in value[rows]) + "\n]}\n"
    json.loads(text)
    (HERE / name).write_text(text)


def schedule() -> None:
    """lr(e) = lr0 * (1 + cos(pi * e / epochs)) / 2 for each epoch e from 0, lr0 = lr * batch / 256."""
    cases = []
    for lr, batch, epochs in ((0.05, 512, 100), (0.05, 256, 100), (0.03, 512, 800)):
        peak = lr * batch / 256
        rates = [peak * 0.5 * (1 + math.cos(math.pi * epoch / epochs)) for epoch in range(epochs)]
        parameter = nn.Parameter(torch.zeros(1))
        sgd = torch.optim.SGD([parameter], lr=peak)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=epochs)
        for rate in rates:  # PyTorch's own scheduler, which works by recurrence, agrees
            assert abs(sgd.param_groups[0]["lr"] - rate) < 1e-12 * peak
            sgd.step()
            cosine.step()
        cases.append({"lr": lr, "batchSize": batch, "epochs": epochs, "rates": rates})
    write("schedule.json", {"schedule": "cosinePerEpoch", "cases": cases}, "cases")


def sgd_steps() -> None:
    """Five updates of two parameters from given gradients, in f64."""
    start = {"a": formula.affine("sgd/a", (3, 2), 0.0, 1.0), "b": formula.affine("sgd/b", (4,), 0.0, 1.0)}
    parameters = {name: nn.Parameter(value.double()) for name, value in start.items()}
    momentum, weight_decay = 0.9, 1e-2
    optimizer = torch.optim.SGD(parameters.values(), lr=0.1, momentum=momentum, weight_decay=weight_decay)
    steps = []
    for step, lr in enumerate((0.1, 0.07, 0.04, 0.02, 0.01)):
        optimizer.param_groups[0]["lr"] = lr
        row = {"lr": lr, "grad": {}, "value": {}, "momentum": {}}
        for name, parameter in parameters.items():
            parameter.grad = formula.affine(f"sgd/{name}/{step}", tuple(parameter.shape), 0.0, 1.0).double()
            row["grad"][name] = parameter.grad.flatten().tolist()
        optimizer.step()
        for name, parameter in parameters.items():
            row["value"][name] = parameter.detach().flatten().tolist()
            row["momentum"][name] = optimizer.state[parameter]["momentum_buffer"].flatten().tolist()
        steps.append(row)
    value = {
        "momentumFactor": momentum,
        "weightDecay": weight_decay,
        "shapes": {name: list(tensor.shape) for name, tensor in start.items()},
        "start": {name: tensor.double().flatten().tolist() for name, tensor in start.items()},
        "steps": steps,
    }
    write("sgd.json", value, "steps")


def larc_steps() -> None:
    """Ten updates in f64 with layer-wise adaptive rates around `torch.optim.SGD`, one of the parameters starting at zero.

    For each parameter p with gradient g, neither of norm 0: g <- (g + wd p) trust |p| / (|g| + wd |p| + 1e-8), and SGD
    itself decays nothing; otherwise g stays as it is. In step 5 the first gradient is zero.
    """
    start = {"bias": torch.zeros(3), "weight": formula.affine("larc/weight", (3, 4), 0.0, 0.1)}
    cases = []
    for trust, weight_decay in ((0.001, 0.0), (0.02, 0.1)):
        parameters = {name: nn.Parameter(value.double()) for name, value in start.items()}
        momentum = 0.9
        sgd = torch.optim.SGD(parameters.values(), lr=1.6, momentum=momentum, weight_decay=0)
        steps = []
        for step in range(10):
            lr = 1.6 * 0.5 * (1 + math.cos(math.pi * step / 10))
            sgd.param_groups[0]["lr"] = lr
            row = {"lr": lr, "grad": {}, "value": {}, "momentum": {}}
            for name, parameter in parameters.items():
                gradient = formula.affine(f"larc/{name}/{step}", tuple(parameter.shape), 0.0, 1.0).double()
                if step == 5 and name == "bias":
                    gradient.zero_()
                row["grad"][name] = gradient.flatten().tolist()
                with torch.no_grad():
                    size, slope = parameter.norm(), gradient.norm()
                    if size != 0 and slope != 0:
                        rate = trust * size / (slope + weight_decay * size + 1e-8)
                        gradient = (gradient + weight_decay * parameter) * rate
                parameter.grad = gradient
            sgd.step()
            for name, parameter in parameters.items():
                row["value"][name] = parameter.detach().flatten().tolist()
                row["momentum"][name] = sgd.state[parameter]["momentum_buffer"].flatten().tolist()
            steps.append(row)
        cases.append({"trust": trust, "weightDecay": weight_decay, "steps": steps})
    value = {
        "momentumFactor": momentum,
        "shapes": {name: list(tensor.shape) for name, tensor in start.items()},
        "start": {name: tensor.double().flatten().tolist() for name, tensor in start.items()},
        "cases": cases,
    }
    write("larc.json", value, "cases")


def distribution(net: nn.Module, name: str, tensor: torch.Tensor, last_norms: set[str]) -> dict:
    """What `tensor` is drawn from before the first step; checked against what PyTorch drew."""
    module = net.get_submodule(name.rpartition(".")[0])
    if isinstance(module, nn.Conv2d):
        fan_out = module.out_channels * math.prod(module.kernel_size)  # groups do not count, as in PyTorch
        std = math.sqrt(2 / fan_out)
        # Five standard errors of a mean and of a standard deviation.
        assert abs(tensor.mean()) < 5 * std / math.sqrt(tensor.numel()), name
        assert abs(tensor.std() / std - 1) < 5 / math.sqrt(2 * tensor.numel()), name
        return {"normal": {"std": std}}
    if isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(module.in_features)
        assert float(tensor.abs().max()) <= bound * (1 + 1e-6), name
        if tensor.numel() >= 1000:
            assert abs(tensor.std() / (bound / math.sqrt(3)) - 1) < 5 / math.sqrt(2 * tensor.numel()), name
        return {"uniform": {"bound": bound}}
    constant = 0.0 if name in last_norms or not name.endswith(("weight", "running_var")) else 1.0
    assert torch.all(tensor == constant), name
    return {"constant": constant}


def initialisation() -> None:
    """Initial distribution of each parameter and buffer of a few models."""
    torch.manual_seed(0)
    cases = []
    for arch, stem, base_width, layers, hidden, dim, pred_dim in (
        ("resnet18", "cifar", 64, 2, 2048, 2048, 512),
        ("resnet50", "imagenet", 64, 3, None, 2048, 512),
        ("resnext50_32x4d", "imagenet", 64, 3, None, 2048, 512),
    ):
        net = model.SimSiam(arch, stem, base_width, layers, hidden, dim, pred_dim)
        last = "bn2" if arch == "resnet18" else "bn3"
        last_norms = {n for n in net.state_dict() if n.endswith(f".{last}.weight")}
        entries = [
            [name, list(tensor.shape), distribution(net, name, tensor, last_norms)]
            for name, tensor in net.state_dict().items()
        ]
        cases.append({
            "arch": arch, "stem": stem, "baseWidth": base_width, "projector": {"layers": layers, "hiddenDim": hidden},
            "dim": dim, "predDim": pred_dim, "entries": entries,
        })  # fmt: skip
    write("initialisation.json", {"torch": torch.__version__.split("+")[0], "cases": cases}, "cases")


if __name__ == "__main__":
    schedule()
    sgd_steps()
    larc_steps()
    initialisation()
