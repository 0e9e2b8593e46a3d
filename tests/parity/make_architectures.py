"""Writes `architectures.json` and `architectures.safetensors`: torchvision's ResNets, name by name, and their outputs.

See README.md beside this file for the format. It takes a minute or two, and 4 GB of memory.
"""

import json
from pathlib import Path

import torch
import torchvision
from safetensors.torch import save_file

import formula
import model

HERE = Path(__file__).resolve().parent
INPUT = (2, 3, 64, 64)


def fill(net: torch.nn.Module) -> None:
    """Fills each parameter and buffer with the formula's values for its name (README.md, "Filling a model")."""
    for name, tensor in net.state_dict().items():
        shape = tuple(tensor.shape)
        if name.endswith("num_batches_tracked"):
            continue
        if tensor.dim() > 1:
            value = formula.affine(name, shape, 0.0, formula.he_bound(shape))
        elif name.endswith("running_var"):
            value = formula.affine(name, shape, 1.0, 0.2)
        elif name.endswith(".weight"):
            # About one half, so that the residual branches add little and activations stay of order one.
            value = formula.affine(name, shape, 0.5, 0.1)
        else:
            value = formula.affine(name, shape, 0.0, 0.1)
        tensor.copy_(value)


@torch.no_grad()
def main() -> None:
    image = formula.affine("input", INPUT, 0.0, 2.0)
    lines, outputs = [], {}
    for arch in model.ARCHITECTURES:
        net = getattr(torchvision.models, arch)(weights=None)
        net.fc = torch.nn.Identity()
        state = net.state_dict()
        ours = model.Backbone(arch).state_dict()
        assert [(n, t.shape) for n, t in state.items()] == [(n, t.shape) for n, t in ours.items()], arch
        fill(net)
        features = net.double().eval()(image.double())
        assert 0.01 < features.std() < 100, (arch, features.std())
        outputs[arch] = features.float()
        entry = {
            "features": features.shape[1],
            "parameters": sum(p.numel() for p in net.parameters()),
            "entries": [[name, list(tensor.shape)] for name, tensor in state.items()],
        }
        lines.append(f'"{arch}":' + json.dumps(entry, separators=(",", ":")))
        mean, std = float(features.mean()), float(features.std())
        print(f"{arch}: {entry['parameters']} parameters, features mean {mean:.4f} std {std:.4f}", flush=True)
    version = torchvision.__version__.split("+")[0]
    first = ((formula.uniform("conv1.weight", (4,)) + 1) * 2**31).astype("int64").tolist()
    head = f'"torchvision":"{version}",\n"hash":{{"name":"conv1.weight","first":{json.dumps(first)}}},\n'
    text = "{" + head + '"architectures":{\n' + ",\n".join(lines) + "\n}}\n"
    json.loads(text)
    (HERE / "architectures.json").write_text(text)
    save_file(outputs, HERE / "architectures.safetensors", metadata={"torchvision": version})


if __name__ == "__main__":
    main()
