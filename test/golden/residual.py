"""Residual networks in plain PyTorch, written from the papers, with torchvision's names."""
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, norm):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = norm(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inner)) + shortcut)


class ResNet18(nn.Module):
    def __init__(self, channels, small_image):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3 if small_image else 7, 1 if small_image else 2, 1 if small_image else 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.Identity() if small_image else nn.MaxPool2d(3, 2, 1)
        for layer, (inputs, outputs, stride) in enumerate([(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]):
            first = Block(inputs, outputs, stride, nn.BatchNorm2d)
            setattr(self, f"layer{layer + 1}", nn.Sequential(first, Block(outputs, outputs, 1, nn.BatchNorm2d)))

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x.mean((2, 3))


class ResidualEncoder(nn.Module):
    def __init__(self, channels, widths, strides, blocks, stem_stride, stem_kernel=3, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], stem_kernel, stem_stride, stem_kernel // 2, bias=False)
        self.bn1 = norm(widths[0])
        stages, inputs = [], widths[0]
        for width, stride, count in zip(widths, strides, blocks):
            stage = []
            for index in range(count):
                stage.append(Block(inputs, width, stride if index == 0 else 1, norm))
                inputs = width
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)

    def forward(self, x):
        return self.stages(torch.relu(self.bn1(self.conv1(x)))).mean((2, 3))


def fill(module, seed):
    """Gives every parameter and buffer values that only the seed decides, in the order of the state dict."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        values = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim == 4:
            values *= (2 / (tensor.shape[1] * tensor.shape[2] * tensor.shape[3])) ** 0.5
        elif name.endswith("running_var") or name.endswith("weight") and tensor.ndim == 1:
            values = 1 + 0.1 * values.abs()
        else:
            values *= 0.1
        tensor.copy_(values)
    return module
