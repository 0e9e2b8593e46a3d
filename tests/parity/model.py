"""SimSiam on torchvision's residual blocks, as small as the fixtures need it.

Written from the paper (arXiv 2011.10566, sections 3 and 4, algorithm 1): an encoder whose `fc` is the projector,
a predictor, the symmetrised negative cosine similarity with a stop-gradient on the target. The attribute names are
those of the published checkpoints (`encoder.…`, `predictor.…`), so that state dicts can be exchanged.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

# torchvision's named architectures: block, blocks per stage, groups, width per group.
ARCHITECTURES = {
    "resnet18": (BasicBlock, (2, 2, 2, 2), 1, 64),
    "resnet34": (BasicBlock, (3, 4, 6, 3), 1, 64),
    "resnet50": (Bottleneck, (3, 4, 6, 3), 1, 64),
    "resnet101": (Bottleneck, (3, 4, 23, 3), 1, 64),
    "resnet152": (Bottleneck, (3, 8, 36, 3), 1, 64),
    "wide_resnet50_2": (Bottleneck, (3, 4, 6, 3), 1, 128),
    "wide_resnet101_2": (Bottleneck, (3, 4, 23, 3), 1, 128),
    "resnext50_32x4d": (Bottleneck, (3, 4, 6, 3), 32, 4),
    "resnext101_32x8d": (Bottleneck, (3, 4, 23, 3), 32, 8),
    "resnext101_64x4d": (Bottleneck, (3, 4, 23, 3), 64, 4),
}


class Backbone(ResNet):
    """A torchvision ResNet of any width: `conv1` has `base_width` planes, the stages 1, 2, 4 and 8 times as many.

    `stem` is "imagenet" (7x7 convolution of stride 2, max-pool) or "cifar" (3x3 convolution of stride 1, no
    max-pool). Blocks and forward pass are torchvision's; `fc` is the identity until a projector takes its place.
    """

    def __init__(self, arch: str, stem: str = "imagenet", base_width: int = 64, zero_init: bool = True):
        nn.Module.__init__(self)
        block, layers, self.groups, self.base_width = ARCHITECTURES[arch]
        self._norm_layer = nn.BatchNorm2d
        self.dilation = 1
        self.inplanes = base_width
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(3, base_width, 7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        elif stem == "cifar":
            self.conv1 = nn.Conv2d(3, base_width, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        else:
            raise ValueError(f"stem is {stem!r}, expected 'imagenet' or 'cifar'")
        self.bn1 = nn.BatchNorm2d(base_width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = self._make_layer(block, base_width, layers[0])
        self.layer2 = self._make_layer(block, base_width * 2, layers[1], stride=2)
        self.layer3 = self._make_layer(block, base_width * 4, layers[2], stride=2)
        self.layer4 = self._make_layer(block, base_width * 8, layers[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Identity()
        self.features = base_width * 8 * block.expansion
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if zero_init and isinstance(module, (BasicBlock, Bottleneck)):
                last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
                nn.init.zeros_(last.weight)


def projector(features: int, hidden: int, dim: int, layers: int) -> nn.Sequential:
    """`layers` linear maps with batch norm (and ReLU between them); the last norm is without weight and bias.

    The last linear map keeps a bias, which that norm cancels: it is frozen at its initial value.
    """
    parts: list[nn.Module] = []
    for index in range(layers - 1):
        width = features if index == 0 else hidden
        parts += [nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
    last = nn.Linear(hidden, dim)
    last.bias.requires_grad = False
    return nn.Sequential(*parts, last, nn.BatchNorm1d(dim, affine=False))


class SimSiam(nn.Module):
    """Encoder and predictor. `hidden_dim` None means the backbone's own width."""

    def __init__(self, arch, stem, base_width, layers, hidden_dim, dim, pred_dim):
        super().__init__()
        self.encoder = Backbone(arch, stem, base_width)
        hidden = hidden_dim or self.encoder.features
        self.encoder.fc = projector(self.encoder.features, hidden, dim, layers)
        self.predictor = nn.Sequential(
            nn.Linear(dim, pred_dim, bias=False),
            nn.BatchNorm1d(pred_dim),
            nn.ReLU(inplace=True),
            nn.Linear(pred_dim, dim),
        )

    def forward(self, view1: torch.Tensor, view2: torch.Tensor):
        """Views `[N, 3, H, W]` to `(p1, p2, z1, z2)`, each `[N, dim]`; one pass a view, view 1 first."""
        z1 = self.encoder(view1)
        z2 = self.encoder(view2)
        p1 = self.predictor(z1)
        p2 = self.predictor(z2)
        return p1, p2, z1, z2


def loss(p1, p2, z1, z2) -> torch.Tensor:
    """Equation 4 of the paper: minus half the mean cosine similarity of each prediction and the other's target."""
    one = F.cosine_similarity(p1, z2.detach(), dim=1).mean()
    two = F.cosine_similarity(p2, z1.detach(), dim=1).mean()
    return -(one + two) / 2


def optimizer(model: SimSiam, lr: float, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """SGD with the encoder in group 0 and the predictor in group 1. The frozen bias has no gradient: it is skipped."""
    groups = [{"params": list(model.encoder.parameters())}, {"params": list(model.predictor.parameters())}]
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
