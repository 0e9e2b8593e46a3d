"""Times the reference recipe's input pipeline, torchvision and PIL: the baseline of `cargo xtask bench data`.

What the reference does for each image of a folder: open and decode by PIL, convert to RGB, two views by the MoCo-v2
augmentation with PIL's own Gaussian blur, tensors, normalisation. One thread, no worker processes; files come from the
page cache. An image counts once, though it has two views. Prints one line of JSON.
"""

import argparse
import json
import os
import random
import time

import PIL
import torch
import torchvision
from PIL import ImageFilter
from torchvision import datasets, transforms


class GaussianBlur:
    """PIL's blur with a radius drawn uniformly."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(self.low, self.high)))


class TwoViews:
    """Two independent draws of one augmentation."""

    def __init__(self, augmentation):
        self.augmentation = augmentation

    def __call__(self, image):
        return self.augmentation(image), self.augmentation(image)


class Images(torch.utils.data.Dataset):
    """The images of a folder, with or without class folders."""

    def __init__(self, root, transform):
        extensions = (".jpg", ".jpeg", ".png")
        self.paths = sorted(
            os.path.join(folder, name)
            for folder, _, names in os.walk(root, followlinks=True)
            for name in names
            if name.lower().endswith(extensions)
        )
        self.transform = transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.transform(datasets.folder.pil_loader(self.paths[index]))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder")
parser.add_argument("--crop", type=int, default=224)
parser.add_argument("--seconds", type=float, default=2.0, help="at least this long; always whole passes")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

torch.set_num_threads(1)
torch.manual_seed(options.seed)
random.seed(options.seed)
augmentation = transforms.Compose(
    [
        transforms.RandomResizedCrop(options.crop, scale=(0.2, 1.0)),
        transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.RandomApply([GaussianBlur(0.1, 2.0)], p=0.5),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
)
images = Images(options.folder, TwoViews(augmentation))
batch = min(50, len(images))


def one_pass():
    """Seconds for all images once, batched as for training."""
    start = time.perf_counter()
    count = 0
    for one, two in torch.utils.data.DataLoader(images, batch_size=batch, shuffle=True, num_workers=0):
        assert one.shape == two.shape
        count += len(one)
    return time.perf_counter() - start, count


for index in range(min(50, len(images))):
    images[index]  # warms up; does not count
passes = []
while not passes or sum(seconds for seconds, _ in passes) < options.seconds:
    passes.append(one_pass())
print(
    json.dumps(
        {
            "imagesPerSecond": sum(count for _, count in passes) / sum(seconds for seconds, _ in passes),
            "fastestPass": max(count / seconds for seconds, count in passes),
            "torchvision": torchvision.__version__,
            "pillow": PIL.__version__,
        }
    )
)
