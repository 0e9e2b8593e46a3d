"""A small SimSiam training run in eager PyTorch on a CIFAR-10 folder: the baseline for our own run of that size.

    python trial_cifar.py /data/cifar10 --images 10000 --epochs 10

The folder holds `train/<class>/*` and `test/<class>/*`. Printed is one JSON object a line: the top-1 of nearest
neighbours on raw pixels and on the untrained encoder's features, then loss, top-1 and seconds of each epoch. The
recipe is the `cifar10` preset's (2-layer projector, MoCo-v2 augmentation without blur) with a narrower backbone.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import transforms as T

import model

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PROTOCOLS = ((200, 0.1), (20, 0.07))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=10000, help="training images, the first of each class by name")
    parser.add_argument("--test-images", type=int, default=10000)
    parser.add_argument("--arch", default="resnet18", choices=model.ARCHITECTURES)
    parser.add_argument("--base-width", type=int, default=16)
    parser.add_argument("--hidden-dim", type=int, default=2048)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--pred-dim", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--lr", type=float, default=0.03, help="for a batch of 256")
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch; 0 leaves its default")
    parser.add_argument("--workers", type=int, default=2, help="loader processes")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def read(folder: Path, count: int) -> tuple[list[Image.Image], torch.Tensor]:
    """`count` images, the same number per class, decoded, with their labels."""
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    images, labels = [], []
    for label, entry in enumerate(classes):
        for path in sorted(entry.iterdir())[: count // len(classes)]:
            images.append(Image.open(path).convert("RGB"))
            labels.append(label)
    return images, torch.tensor(labels)


class TwoViews(torch.utils.data.Dataset):
    """Two random views of each image."""

    def __init__(self, images: list[Image.Image]):
        self.images = images
        self.view = T.Compose([
            T.RandomResizedCrop(32, scale=(0.2, 1.0)),
            T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            T.RandomGrayscale(p=0.2),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize(MEAN, STD),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        return self.view(self.images[index]), self.view(self.images[index])


def plain(images: list[Image.Image]) -> torch.Tensor:
    """`[N, 3, 32, 32]`, normalised, not augmented."""
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def knn(bank: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """Top-1 by each protocol (k, T): cosine similarity, a neighbour's vote weighs exp(similarity / T)."""
    bank, correct = F.normalize(bank, dim=1), {protocol: 0 for protocol in PROTOCOLS}
    classes = int(labels.max()) + 1
    for part, answer in zip(F.normalize(queries, dim=1).split(500), truth.split(500)):
        near, index = (part @ bank.T).topk(min(max(k for k, _ in PROTOCOLS), len(bank)), dim=1)
        for k, temperature in PROTOCOLS:
            votes = torch.zeros(len(part), classes)
            votes.scatter_add_(1, labels[index[:, :k]], (near[:, :k] / temperature).exp())
            correct[k, temperature] += int((votes.argmax(1) == answer).sum())
    return {f"k={k},T={temperature}": hits / len(truth) for (k, temperature), hits in correct.items()}


@torch.no_grad()
def features(net: model.SimSiam, pixels: torch.Tensor) -> torch.Tensor:
    """Pooled features of the backbone in evaluation mode."""
    head, net.encoder.fc = net.encoder.fc, torch.nn.Identity()
    net.eval()
    found = torch.cat([net.encoder(part) for part in pixels.split(500)])
    net.train()
    net.encoder.fc = head
    return found


def main() -> None:
    args = arguments()
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    train, labels = read(args.folder / "train", args.images)
    test, truth = read(args.folder / "test", args.test_images)
    bank, queries = plain(train), plain(test)
    net = model.SimSiam(args.arch, "cifar", args.base_width, 2, args.hidden_dim, args.dim, args.pred_dim)
    peak = args.lr * args.batch_size / 256
    sgd = model.optimizer(net, peak, 0.9, args.weight_decay)

    def evaluate() -> dict[str, float]:
        return knn(features(net, bank), labels, features(net, queries), truth)

    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k != "folder"}
    print(json.dumps({"settings": settings, "torchThreads": torch.get_num_threads()}), flush=True)
    print(json.dumps({"rawPixels": knn(bank.flatten(1), labels, queries.flatten(1), truth)}), flush=True)
    print(json.dumps({"untrained": evaluate()}), flush=True)
    loader = torch.utils.data.DataLoader(
        TwoViews(train), args.batch_size, shuffle=True, drop_last=True,
        num_workers=args.workers, persistent_workers=args.workers > 0,
    )  # fmt: skip
    for epoch in range(args.epochs):
        start = time.monotonic()
        sgd.param_groups[0]["lr"] = peak * 0.5 * (1 + math.cos(math.pi * epoch / args.epochs))
        losses, spread = [], 0.0
        for view1, view2 in loader:
            outputs = net(view1, view2)
            value = model.loss(*outputs)
            sgd.zero_grad()
            value.backward()
            sgd.step()
            losses.append(value.item())
            spread = float(F.normalize(outputs[2].detach(), dim=1).std(0, correction=0).mean())
        seconds = time.monotonic() - start
        row = {
            "epoch": epoch + 1,
            "loss": sum(losses) / len(losses),
            "outputStd": spread,
            "healthyStd": args.dim**-0.5,
            "seconds": round(seconds, 2),
            "imagesPerSecond": round(len(losses) * args.batch_size / seconds, 1),
            "knn": evaluate(),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
