"""Asks PyTorch, torchvision and NumPy what they make of files that the trainer wrote. Ends with an assertion if not what
they should.

    python check_exports.py step ours.pth.tar expected.pth
    python check_exports.py backbone backbone.torchvision.pth backbone.timm.safetensors backbone.detectron2.pkl maps.pth
    python check_exports.py timm backbone.timm.safetensors maps.pth              (needs timm)
    python check_exports.py huggingface FOLDER maps.pth          (needs timm)
    python check_exports.py onnx FOLDER                          (needs onnxruntime)
    python check_exports.py normalization FOLDER                 (needs onnxruntime)
    python check_exports.py documented FOLDER PAGE N             (needs what N of the page's blocks import)
    python check_exports.py arrays backbone.detectron2.pkl       (needs NumPy alone)
"""

import pickle
import sys
import warnings


def step(file: str, expected: str) -> None:
    """One more step of training by PyTorch from our checkpoint ends where ours did."""
    import torch

    import model

    torch.set_num_threads(1)
    checkpoint = torch.load(file, weights_only=True)
    case = torch.load(expected, weights_only=True)
    assert checkpoint["epoch"] == case["epoch"] and checkpoint["arch"] == case["arch"], checkpoint.keys()
    net = model.SimSiam(*(case[key] for key in ("arch", "stem", "base_width", "layers", "hidden_dim", "dim", "pred_dim")))
    state = {name.removeprefix("module."): tensor for name, tensor in checkpoint["state_dict"].items()}
    assert list(checkpoint["state_dict"]) == ["module." + name for name in net.state_dict()], "order of names"
    net.load_state_dict(state, strict=True)
    if case["fixed"]:
        groups = [
            {"params": net.encoder.parameters(), "fix_lr": False},
            {"params": net.predictor.parameters(), "fix_lr": True},
        ]
    else:
        groups = net.parameters()
    # Different settings, which the file's must replace.
    sgd = torch.optim.SGD(groups, 9.0, momentum=0.1, weight_decay=0.5)
    theirs = sgd.state_dict()
    ours = checkpoint["optimizer"]
    assert [g["params"] for g in ours["param_groups"]] == [g["params"] for g in theirs["param_groups"]]
    assert [set(g) ^ set(t) for g, t in zip(ours["param_groups"], theirs["param_groups"])] in ([set()], [set(), set()])
    sgd.load_state_dict(ours)
    frozen = [i for i, p in enumerate(net.parameters()) if not p.requires_grad]
    assert len(frozen) == 1 and frozen[0] not in ours["state"] and len(ours["state"]) + 1 == len(list(net.parameters()))
    net.train()
    value = model.loss(*net(case["view1"], case["view2"]))
    sgd.zero_grad()
    value.backward()
    sgd.step()
    assert abs(float(value.detach() - case["loss"])) < 1e-5, (value, case["loss"])
    after = net.state_dict()
    momentum = {name: sgd.state[p]["momentum_buffer"] for name, p in net.named_parameters() if p.requires_grad}
    for what, found, wanted in (("state", after, case["after"]), ("momentum", momentum, case["momentum"])):
        assert set(found) == set(wanted), what
        for name, tensor in wanted.items():
            away = (found[name].double() - tensor.double()).norm() / tensor.double().norm().clamp_min(1e-12)
            assert away < 1e-4, (what, name, float(away))
    moved = (after["encoder.conv1.weight"] - state["encoder.conv1.weight"]).norm()
    assert moved > 1e-6, moved


def backbone(torchvision_file: str, safetensors_file: str, detectron2_file: str, maps_file: str) -> None:
    """torchvision's own network loads the backbone and computes the same feature maps."""
    import torch
    import torchvision

    maps = torch.load(maps_file, weights_only=True)
    state = torch.load(torchvision_file, weights_only=True)
    net = getattr(torchvision.models, maps["arch"])()
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert (sorted(missing), unexpected) == (["fc.bias", "fc.weight"], []), (missing, unexpected)
    assert list(state) == [name for name in net.state_dict() if not name.startswith("fc.")], "order of names"
    found = {}
    for name in ("layer1", "layer2", "layer3", "layer4"):
        hook = lambda _, __, out, name=name: found.__setitem__(name, out.detach())  # noqa: E731
        getattr(net, name).register_forward_hook(hook)
    net.eval()
    net(maps["input"])
    for name, tensor in found.items():
        away = float((tensor - maps[name]).norm() / maps[name].norm())
        assert tensor.shape == maps[name].shape and away < 1e-5, (name, away)
    with open(detectron2_file, "rb") as file:
        model = pickle.load(file)["model"]
    assert len(model) == len(state)
    for array, tensor in zip(model.values(), state.values()):
        assert torch.equal(torch.from_numpy(array), tensor)
    try:
        import timm
        import safetensors.torch
    except ImportError:
        print("timm is not here: its names were not compared")
        return
    timm.create_model(maps["arch"], num_classes=0).load_state_dict(safetensors.torch.load_file(safetensors_file), strict=True)


def timm(safetensors_file: str, maps_file: str) -> None:
    """timm's own network loads every tensor of the backbone and computes the same last feature map."""
    import timm
    import torch

    maps = torch.load(maps_file, weights_only=True)
    bare = timm.create_model(maps["arch"], pretrained=False, num_classes=0)
    # Loads strictly.
    net = timm.create_model(maps["arch"], pretrained=False, num_classes=0, checkpoint_path=safetensors_file)
    changed = sum(not torch.equal(a, b) for a, b in zip(bare.state_dict().values(), net.state_dict().values()))
    assert changed > 60, changed
    net.eval()
    with torch.no_grad():
        found = net.forward_features(maps["input"])
    away = float((found - maps["layer4"]).norm() / maps["layer4"].norm())
    assert found.shape == maps["layer4"].shape and away < 1e-5, away


def huggingface(folder: str, maps_file: str) -> None:
    """timm makes the network of the folder, with our preprocessing, and the model card's code runs."""
    import json
    import os

    import timm
    import torch
    from PIL import Image

    maps = torch.load(maps_file, weights_only=True)
    net = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        found = net(maps["images"])
    away = float((found - maps["features"]).norm() / maps["features"].norm())
    assert found.shape == maps["features"].shape and away < 1e-5, away
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net), is_training=False)
    resize, crop, _, normalize = transform.transforms
    assert resize.size in (256, [256]) and resize.interpolation.value == "bilinear", resize
    assert tuple(crop.size) == (224, 224), crop
    with open(f"{folder}/config.json", encoding="utf-8") as file:
        config = json.load(file)["pretrained_cfg"]
    wanted = [*config["mean"], *config["std"]]
    if net.conv1.in_channels == 3:
        assert wanted == [0.485, 0.456, 0.406, 0.229, 0.224, 0.225], wanted
    assert len(wanted) == 2 * net.conv1.in_channels
    assert [round(float(x), 3) for x in (*normalize.mean, *normalize.std)] == [round(x, 3) for x in wanted]
    tuned = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=7)
    assert tuned(maps["images"]).shape == (len(maps["images"]), 7)
    assert torch.equal(tuned.state_dict()["conv1.weight"], net.state_dict()["conv1.weight"])
    with open(f"{folder}/README.md", encoding="utf-8") as file:
        code = file.read().split("```python\n")[1].split("```")[0]
    os.chdir(folder)
    Image.new("L", (300, 280), 77).save("image.jpg")
    scope = {}
    exec(code, scope)
    assert scope["features"].shape == (1, found.shape[1])


def session(file: str):
    import onnxruntime

    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def onnx(folder: str) -> None:
    """ONNX Runtime computes the features of each graph."""
    import json

    import numpy as np

    with open(f"{folder}/cases.json", encoding="utf-8") as file:
        cases = json.load(file)
    assert len(cases) > 10
    for case in cases:
        read = lambda what, shape: np.fromfile(f"{folder}/{case['name']}.{what}", "<f4").reshape(shape)  # noqa: E731
        images, wanted = read("images", case["shape"]), read("features", [case["shape"][0], case["width"]])
        net = session(f"{folder}/{case['name']}.onnx")
        assert net.get_modelmeta().custom_metadata_map["architecture"] == case["architecture"], case
        (found,) = net.run(["features"], {"images": images})
        away = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
        differ = float(np.linalg.norm(wanted[0] - wanted[1]) / np.linalg.norm(wanted))
        assert found.shape == wanted.shape and away < 1e-4 and differ > 1e-3, (case, away, differ)
        (other,) = net.run(["features"], {"images": np.zeros((1, case["shape"][1], 40, 72), "f4")})
        assert other.shape == (1, case["width"])


def normalization(folder: str) -> None:
    """The graph that normalises computes from images what the bare one computes from normalised images."""
    import json

    import numpy as np

    with open(f"{folder}/facts.json", encoding="utf-8") as file:
        facts = json.load(file)
    images = np.fromfile(f"{folder}/images", "<f4").reshape(facts["shape"])
    channels = lambda values: np.asarray(values, "f4").reshape(1, -1, 1, 1)  # noqa: E731
    bare, whole = session(f"{folder}/bare.onnx"), session(f"{folder}/whole.onnx")
    (wanted,) = bare.run(None, {"images": (images - channels(facts["mean"])) / channels(facts["std"])})
    (found,) = whole.run(None, {"images": images})
    (other,) = bare.run(None, {"images": images})
    away = lambda a: float(np.linalg.norm(a - wanted) / np.linalg.norm(wanted))  # noqa: E731
    assert away(found) < 1e-5 and away(other) > 1e-2, (away(found), away(other))
    assert json.loads(whole.get_modelmeta().custom_metadata_map["mean"]) == facts["mean"]


def documented(folder: str, page: str, expected: str) -> None:
    """Runs the Python blocks of a page whose packages are here, in the folder with the exports; `expected` of them at least."""
    import importlib.util
    import os
    import re

    from PIL import Image

    with open(page, encoding="utf-8") as file:
        blocks = re.findall(r"```python\n(.*?)```", file.read(), re.DOTALL)
    assert len(blocks) == 6, len(blocks)
    os.chdir(folder)
    Image.effect_noise((300, 280), 80).save("image.jpg")
    run = 0
    for block in blocks:
        packages = re.findall(r"^(?:import|from) (\w+)", block, re.MULTILINE)
        if not all(importlib.util.find_spec(package) for package in packages):
            continue
        scope = {}
        exec(block, scope)
        if "features" in scope:
            assert scope["features"].shape == (1, 2048), scope["features"].shape
        run += 1
    assert run >= int(expected), f"{run} of {len(blocks)} blocks ran, not {expected}"


def arrays(file: str) -> None:
    """Opens without a warning, with writable arrays."""
    import numpy as np

    warnings.simplefilter("error")
    with open(file, "rb") as opened:
        content = pickle.load(opened, encoding="latin1")
    assert content["matching_heuristics"] is True and content["__author__"].startswith("simsiam"), content.keys()
    model = content["model"]
    weight = model["stem.conv1.weight"]
    assert type(weight) is np.ndarray and weight.dtype == np.float32 and weight.shape[1] == 3, weight.dtype
    assert weight.flags.writeable and weight.flags.c_contiguous and weight.flags.owndata
    assert model["stem.conv1.norm.num_batches_tracked"].shape == () and np.isfinite(weight).all() and weight.std() > 0


if __name__ == "__main__":
    checks = (step, backbone, timm, huggingface, onnx, normalization, documented, arrays)
    {check.__name__: check for check in checks}[sys.argv[1]](*sys.argv[2:])
