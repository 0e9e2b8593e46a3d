"""Writes `checkpoints/*`: small files as PyTorch users have them, to test the reader.

    python make_checkpoints.py              torch 2.11: all but the next
    python make_checkpoints.py --arrays     NumPy 1 (any below 2): numpy1.pkl

Networks are filled by the formula of README.md, "Filling a model", under the names without `module.`; momentum buffers
with 0.1 u under `momentum/<name>`.
"""

import io
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np

OUT = Path(__file__).resolve().parent / "checkpoints"
NET = {"arch": "resnet18", "stem": "cifar", "layers": 2, "hidden_dim": 32, "dim": 16, "pred_dim": 8}


def arrays() -> dict:
    """A pickle like Detectron2's, with an array in each memory order."""
    return {
        "model": {
            "stem.conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
            "columns": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
            "stem.conv1.norm.num_batches_tracked": np.array(7),
        },
        "__author__": "somebody",
        "matching_heuristics": True,
        "score": np.float64(76.25),
    }


def fill(name: str, shape: tuple) -> "torch.Tensor":
    import formula

    if len(shape) > 1:
        return formula.affine(name, shape, 0.0, formula.he_bound(shape))
    if name.endswith(".running_var"):
        return formula.affine(name, shape, 1.0, 0.2)
    if name.endswith(".weight"):
        return formula.affine(name, shape, 0.5, 0.1)
    return formula.affine(name, shape, 0.0, 0.1)


def simsiam(base_width: int):
    """The network and its optimiser with all momentum buffers."""
    import torch

    import model

    net = model.SimSiam(base_width=base_width, **NET)
    for name, tensor in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(5)
        else:
            tensor.copy_(fill(name, tuple(tensor.shape)))
    groups = [
        {"params": net.encoder.parameters(), "fix_lr": False},
        {"params": net.predictor.parameters(), "fix_lr": True},
    ]
    sgd = torch.optim.SGD(groups, 0.05, momentum=0.9, weight_decay=1e-4)
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            import formula

            buffer = formula.affine(f"momentum/{name}", tuple(parameter.shape), 0.0, 0.1)
            sgd.state[parameter]["momentum_buffer"] = buffer
    return net, sgd


def prefixed(state: dict, prefix: str) -> OrderedDict:
    renamed = OrderedDict((prefix + name, tensor) for name, tensor in state.items())
    if hasattr(state, "_metadata"):
        renamed._metadata = OrderedDict((prefix + name, value) for name, value in state._metadata.items())
    return renamed


def on_gpu(data: bytes) -> bytes:
    """The same file as if its tensors had been on a GPU: only their location differs, and a location is a text."""
    return data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")


def saved(value, legacy: bool = False, gpu: bool = True) -> bytes:
    import torch

    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=not legacy)
    if not gpu:
        return out.getvalue()
    if legacy:
        return on_gpu(out.getvalue())
    moved = io.BytesIO()
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(moved, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            content = old.read(name)
            # A fixed date keeps the file the same each time.
            new.writestr(zipfile.ZipInfo(name), on_gpu(content) if name.endswith("data.pkl") else content)
    return moved.getvalue()


def values() -> dict:
    import torch

    base = torch.arange(12, dtype=torch.float32)
    return {
        "dense": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "transposed": torch.arange(6, dtype=torch.float32).reshape(2, 3).t(),
        "strided": torch.arange(10, dtype=torch.int64)[1::3],
        "shared": [base, base[4:8].reshape(2, 2), base.reshape(3, 4)[:, 1]],
        "expanded": torch.tensor(2.0).expand(2, 3),
        "parameter": torch.nn.Parameter(torch.tensor([1.5, -2.5])),
        "scalar": torch.tensor(3.25, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "types": [
            torch.tensor([1.5], dtype=torch.float16),
            torch.tensor([1.5], dtype=torch.bfloat16),
            torch.tensor([200], dtype=torch.uint8),
            torch.tensor([-3], dtype=torch.int8),
            torch.tensor([-300], dtype=torch.int16),
            torch.tensor([-70000], dtype=torch.int32),
            torch.tensor([True, False]),
        ],
        "size": torch.Size([2, 3]),
        "plain": (None, True, False, 0, 255, 256, -1, 70000, 2**40, -(2**40), 0.1, "ä", "", [], (), {}, {1: "a"}),
        "numpy": [np.float64(76.25), np.float32(0.5), np.int64(-7), np.bool_(True)],
    }


class Command:
    """What must never be called."""

    def __reduce__(self):
        return os.system, ("touch /tmp/a-checkpoint-was-executed",)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    if "--arrays" in sys.argv:
        assert np.__version__.startswith("1."), np.__version__
        (OUT / "numpy1.pkl").write_bytes(pickle.dumps(arrays(), protocol=3))
        return
    import torch

    import formula

    (OUT / "numpy2.pkl").write_bytes(pickle.dumps(arrays(), protocol=4))
    (OUT / "numpy2-protocol5.pkl").write_bytes(pickle.dumps(arrays(), protocol=5))
    (OUT / "values.pth").write_bytes(saved(values()))
    (OUT / "values-legacy.pth").write_bytes(saved(values(), legacy=True))
    (OUT / "command.pth").write_bytes(saved({"state_dict": {}, "args": Command()}, gpu=False))

    net, sgd = simsiam(4)
    whole = {
        "epoch": 3, "arch": "resnet18", "state_dict": prefixed(net.state_dict(), "module."), "optimizer": sgd.state_dict(),
    }  # fmt: skip
    (OUT / "reference.pth.tar").write_bytes(saved(whole))
    net, sgd = simsiam(2)
    small = {
        "epoch": 3, "arch": "resnet18", "state_dict": prefixed(net.state_dict(), "module."), "optimizer": sgd.state_dict(),
        "best_acc1": torch.tensor(68.125),
    }  # fmt: skip
    (OUT / "legacy.pth.tar").write_bytes(saved(small, legacy=True))
    backbone = {n.removeprefix("encoder."): t for n, t in net.state_dict().items()
                if n.startswith("encoder.") and ".fc." not in n}  # fmt: skip
    net.eval()
    maps = {"input": formula.affine("input", (2, 3, 16, 16), 0.0, 2.0)}
    for stage in range(1, 5):
        layer = getattr(net.encoder, f"layer{stage}")
        layer.register_forward_hook(lambda _, __, out, name=f"layer{stage}": maps.__setitem__(name, out.detach()))
    net.encoder(maps["input"])
    (OUT / "feature-maps.pth").write_bytes(saved(maps, gpu=False))
    moco = prefixed(backbone, "module.encoder_q.") | prefixed(backbone, "module.encoder_k.")
    for side in "qk":
        for layer, shape in ((0, (16, 16)), (2, (8, 16))):
            moco[f"module.encoder_{side}.fc.{layer}.weight"] = torch.zeros(shape)
            moco[f"module.encoder_{side}.fc.{layer}.bias"] = torch.zeros(shape[0])
    moco |= {"module.queue": torch.zeros(8, 32), "module.queue_ptr": torch.zeros(1, dtype=torch.int64)}
    (OUT / "moco.pth.tar").write_bytes(saved({"epoch": 200, "arch": "resnet18", "state_dict": moco, "optimizer": {}}))
    linear = prefixed(backbone, "module.") | {
        "module.fc.weight": fill("fc.weight", (10, 16)), "module.fc.bias": fill("fc.bias", (10,)),
    }  # fmt: skip
    (OUT / "linear.pth.tar").write_bytes(
        saved({"epoch": 90, "arch": "resnet18", "state_dict": linear, "best_acc1": np.float64(68.125), "optimizer": {}})
    )
    for path in sorted(OUT.iterdir()):
        print(f"{path.stat().st_size:>9} {path.name}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    main()
