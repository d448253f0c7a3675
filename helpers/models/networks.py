"""The architectures: images (B, C, H, W) in, logits (B, T, K) out; no text anywhere."""

import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, resnet18


class ResNet18(nn.Module):
    """torchvision's ResNet18 with a `conv1` for gray images and one linear head per character position.

    ImageNet's head sees the mean over the whole image and so forgets where a character stood. Here each head sees the
    last feature map whole: (B, 512, H/32, W/32), flattened.
    Source: He et al. 2015, "Deep Residual Learning", https://arxiv.org/abs/1512.03385
    """

    def __init__(
        self, classes: int, image_size: tuple[int, int], channels: int = 1, length: int = 4, pretrained: bool = False
    ) -> None:
        super().__init__()
        try:
            backbone = resnet18(weights=ResNet18_Weights.DEFAULT if pretrained else None)
        except OSError as error:
            raise RuntimeError(
                f"the ImageNet weights are not to be had ({error}): switch Internet on, put"
                f" {ResNet18_Weights.DEFAULT.url.rpartition('/')[2]} into {torch.hub.get_dir()}/checkpoints, or leave"
                " pretrained off"
            ) from error
        rgb = backbone.conv1
        backbone.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        if pretrained:  # a gray image is the same value in three channels: the sum of the filters answers as RGB did
            gray = rgb.weight.detach().sum(1, keepdim=True) / channels
            backbone.conv1.weight = nn.Parameter(gray.repeat(1, channels, 1, 1))
        self.features = nn.Sequential(*list(backbone.children())[:-2])  # all but the pooling and the classifier
        columns = -(-image_size[0] // 32) * -(-image_size[1] // 32)
        self.dropout = nn.Dropout(0.2)
        self.heads = nn.ModuleList(nn.Linear(512 * columns, classes) for _ in range(length))

    def forward(self, images: Tensor) -> Tensor:
        features = self.dropout(self.features(images).flatten(1))  # (B, 512 * H/32 * W/32)
        return torch.stack([head(features) for head in self.heads], dim=1)  # (B, T = length, K)


class CNNGRU(nn.Module):
    """Two convolutions, columns of 640, a bidirectional GRU: the published CNN-GRU-CTC layers, at 40 x 150.

    What is ours: BatchNorm, and ReLU after the pooling, which gives the same and costs a quarter. Shapes are as published.
    """

    def __init__(self, classes: int, image_size: tuple[int, int], channels: int = 3) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 128, kernel_size=3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 64, kernel_size=3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        )
        column = 64 * (image_size[0] // 4)
        self.gru = nn.GRU(column, 32, num_layers=2, batch_first=True, bidirectional=True, dropout=0.25)
        self.head = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.convolutions(images)  # (B, 64, H/4, W/4)
        columns = features.permute(0, 3, 1, 2).flatten(2)  # (B, T = W/4, 64 * H/4)
        context, _ = self.gru(columns)  # (B, T, 2 * 32)
        return self.head(context)  # (B, T, K)


class Contrast(nn.Module):
    """Each image (C, H, W) around its own mean and in units of its own deviation, turned so that the ink is bright.

    Ink covers the smaller part of a captcha, so that the sign of the skewness of the gray values tells dark ink from
    bright: both look the same to the layers that follow.
    """

    def forward(self, images: Tensor) -> Tensor:
        gray = images.mean(1, keepdim=True)
        gray = gray - gray.mean((2, 3), keepdim=True)
        deviation = gray.pow(2).mean((2, 3), keepdim=True).sqrt()
        ink = gray.pow(3).mean((2, 3), keepdim=True).sign()
        return (images - images.mean((2, 3), keepdim=True)) * ink / (deviation + 0.02)


def _convolution(
    before: int, after: int, *pooling: nn.Module, kernel: int = 3, stride: int | tuple[int, int] = 1
) -> nn.Sequential:
    """Convolution, then pooling, then BatchNorm and ReLU on what is left: the order that costs least."""
    convolution = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, *pooling, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two 3x3 convolutions around which the input goes; a 1x1 convolution where the channels change.

    Source: He et al. 2015, "Deep Residual Learning", https://arxiv.org/abs/1512.03385
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        last = nn.Conv2d(after, after, kernel_size=3, padding=1, bias=False)
        self.convolutions = nn.Sequential(_convolution(before, after), last, nn.BatchNorm2d(after))
        self.shortcut = nn.Identity()
        if before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, kernel_size=1, bias=False), nn.BatchNorm2d(after))

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.convolutions(features) + self.shortcut(features))


class ConvCTC(nn.Module):
    """A compact fully convolutional network without recurrence: 4 pixels of width become one step.

    The mean over the height of the last feature map is a step's column; a convolution over 5 columns reads it among its
    neighbours, some 45 pixels in all: the width of an m, which a narrower view takes for an n and something.
    """

    def __init__(self, classes: int, image_size: tuple[int, int], channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            Contrast(),
            _convolution(channels, 16, kernel=5, stride=2),
            _convolution(16, 48, nn.MaxPool2d(2)),
            _convolution(48, 96, nn.MaxPool2d((2, 1))),
            _convolution(96, 96),
        )
        context = nn.Conv1d(96, 96, kernel_size=5, padding=2, bias=False)
        self.context = nn.Sequential(context, nn.BatchNorm1d(96), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(96, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)  # (B, 96, H/8, W/4)
        columns = self.context(features.mean(2)).transpose(1, 2)  # (B, T = W/4, 96)
        return self.head(self.dropout(columns))  # (B, T, K)


class TallConvCTC(nn.Module):
    """A compact one for look-alikes such as O and 0: strides instead of pooling, and a step sees its column whole.

    Pooling forgets where in its window an edge lay, the mean over the height how a stroke runs; both are all that tells
    such characters apart. Two residual blocks, and then a step is a convolution over the whole height and 5 columns.
    """

    def __init__(self, classes: int, image_size: tuple[int, int], channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            Contrast(),
            _convolution(channels, 24, kernel=5, stride=2),
            _convolution(24, 64, stride=2),
            Residual(64, 64),
            _convolution(64, 96, stride=(2, 1)),
            Residual(96, 96),
        )
        context = nn.Conv2d(96, 128, kernel_size=(-(-image_size[0] // 8), 5), padding=(0, 2), bias=False)
        self.context = nn.Sequential(context, nn.BatchNorm2d(128), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(128, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)  # (B, 96, H/8, W/4)
        columns = self.context(features).squeeze(2).transpose(1, 2)  # (B, T = W/4, 128)
        return self.head(self.dropout(columns))  # (B, T, K)


class DeepConvCTC(nn.Module):
    """`ConvCTC` with residual blocks and colour, for captchas that the compact one does not read well."""

    def __init__(self, classes: int, image_size: tuple[int, int], channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            Contrast(),
            _convolution(channels, 32, kernel=5, stride=2),
            _convolution(32, 64, nn.MaxPool2d(2)),
            Residual(64, 128),
            Residual(128, 128),
            nn.MaxPool2d((2, 1)),
            Residual(128, 192),
            Residual(192, 192),
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(192, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)  # (B, 192, H/8, W/4)
        return self.head(self.dropout(features.mean(2).transpose(1, 2)))  # (B, T = W/4, K)
