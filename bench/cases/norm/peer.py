"""PyTorch's side of the case: whitening, PowerNorm, SyncBatchNorm and batch styles as one writes them; for other layers PyTorch's own, or batch norm."""

import math
import platform
import time

import torch
from serve import serve
from torch import nn
from torch.nn import functional as F


class Whitening(nn.Module):
    """Whitens groups of channels by the batch's covariance, which running statistics follow."""

    def __init__(self, features, groups, eps, momentum=0.1):
        super().__init__()
        self.groups, self.eps, self.momentum = groups, eps, momentum
        width = features // groups
        self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_matrix", torch.eye(width).repeat(groups, 1, 1))

    def forward(self, x):
        channels_first = x.transpose(0, 1).reshape(self.groups, x.shape[1] // self.groups, -1)
        mean = channels_first.mean(2, keepdim=True)
        centred = channels_first - mean
        matrix, followed = self.matrices(centred)
        with torch.no_grad():
            self.running_mean.lerp_(mean.flatten(), self.momentum)
            self.running_matrix.lerp_(followed, self.momentum)
        y = (matrix @ centred).view(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return y * self.weight.view(shape) + self.bias.view(shape)


class CholeskyWhitening(Whitening):
    def matrices(self, centred):
        covariance = centred @ centred.mT / (centred.shape[2] - 1)
        identity = torch.eye(covariance.shape[-1])
        factor = torch.linalg.cholesky((1 - self.eps) * covariance + self.eps * identity)
        return torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False), covariance


class IterativeWhitening(Whitening):
    def __init__(self, features, groups, eps, iterations):
        super().__init__(features, groups, eps)
        self.iterations = iterations

    def matrices(self, centred):
        identity = torch.eye(centred.shape[1])
        covariance = centred @ centred.mT / centred.shape[2] + self.eps * identity
        trace = covariance.diagonal(dim1=1, dim2=2).sum(1).view(-1, 1, 1)
        scaled = covariance / trace
        p = identity.expand_as(scaled)
        for _ in range(self.iterations):
            p = 1.5 * p - 0.5 * p @ p @ p @ scaled
        matrix = p * trace.rsqrt()
        return matrix, matrix


def along_channels(x):
    """All dimensions but the channels', and the shape in which numbers a channel go with x."""
    return [d for d in range(x.dim()) if d != 1], (1, -1) + (1,) * (x.dim() - 2)


class PowerFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, running_phi, ema_gz, eps, momentum):
        dims, shape = along_channels(x)
        own = x.square().mean(dims)
        z = x / (running_phi + eps).sqrt().view(shape)
        running_phi.lerp_(own, momentum)
        ctx.save_for_backward(z, weight, own)
        ctx.ema_gz, ctx.eps, ctx.momentum = ema_gz, eps, momentum
        return z * weight.view(shape) + bias.view(shape)

    @staticmethod
    def backward(ctx, gradient):
        z, weight, own = ctx.saved_tensors
        ema_gz = ctx.ema_gz
        dims, shape = along_channels(z)
        g = gradient * weight.view(shape)
        d = g - ctx.momentum * ema_gz.view(shape) * z
        ema_gz.add_((d * z).mean(dims))
        dx = d / (own + ctx.eps).sqrt().view(shape)
        return dx, (gradient * z).sum(dims), gradient.sum(dims), None, None, None, None


class PowerNorm(nn.Module):
    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))
        self.register_buffer("running_phi", torch.ones(features))
        self.register_buffer("ema_gz", torch.zeros(features))

    def forward(self, x):
        return PowerFunction.apply(x, self.weight, self.bias, self.running_phi, self.ema_gz, self.eps, self.momentum)


def all_gather(row):
    return row.unsqueeze(0)


def all_reduce(values):
    return values


class SyncFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, running_mean, running_var, eps, momentum):
        dims, shape = along_channels(x)
        values = x.numel() // x.shape[1]
        own_variance, own_mean = torch.var_mean(x, dims, correction=0)
        count = torch.full((1,), values, dtype=torch.float64)
        rows = all_gather(torch.cat([count, own_mean.double(), own_variance.double() * values]))
        counts, means, squares = rows.split([1, x.shape[1], x.shape[1]], 1)
        count = counts.sum()
        mean = (means * (counts / count)).sum(0)
        m2 = (squares + (means - mean).square() * counts).sum(0)
        running_mean.lerp_(mean.to(x.dtype), momentum)
        running_var.lerp_((m2 / (count - 1)).to(x.dtype), momentum)
        mean, scale = mean.to(x.dtype), (m2 / count + eps).rsqrt().to(x.dtype)
        ctx.save_for_backward(x, weight, mean, scale, count)
        slope = scale * weight
        return x * slope.view(shape) + (bias - mean * slope).view(shape)

    @staticmethod
    def backward(ctx, gradient):
        x, weight, mean, scale, count = ctx.saved_tensors
        dims, shape = along_channels(x)
        total = gradient.sum(dims)
        along = (gradient * (x - mean.view(shape))).sum(dims)
        joined = all_reduce(torch.cat([total, along]).double()) / count
        mean_total, mean_along = joined.to(x.dtype).chunk(2)
        slope = scale * weight
        by_input = -slope * scale.square() * mean_along
        shift = -slope * mean_total - by_input * mean
        dx = gradient * slope.view(shape) + x * by_input.view(shape) + shift.view(shape)
        return dx, along * scale, total, None, None, None, None


class SyncBatchNorm(nn.Module):
    """The exchange of one process with itself, as on our side."""

    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x):
        return SyncFunction.apply(x, self.weight, self.bias, self.running_mean, self.running_var, self.eps, self.momentum)


class BatchStyles(nn.Module):
    """The low frequencies' amplitudes of one image, for all of them."""

    def __init__(self, area_ratio):
        super().__init__()
        self.area_ratio = area_ratio

    def forward(self, images):
        height, width = images.shape[2:]
        share = math.sqrt(self.area_ratio)
        rows, columns = round((share * height - 1) / 2), round((share * width - 1) / 2)
        spectrum = torch.fft.fftshift(torch.fft.fft2(images), dim=(2, 3))
        amplitude, phase = spectrum.abs(), spectrum.angle()
        style = torch.randint(images.shape[0], ()).item()
        low = torch.zeros(height, width, dtype=torch.bool)
        low[height // 2 - rows : height // 2 + rows + 1, width // 2 - columns : width // 2 + columns + 1] = True
        mixed = torch.where(low, amplitude[style], amplitude)
        return torch.fft.ifft2(torch.fft.ifftshift(torch.polar(mixed, phase), dim=(2, 3))).real


settings = {}


def make(layer, shape):
    features, sizes = shape[1], shape[1:]
    norm = nn.BatchNorm2d if len(shape) > 2 else nn.BatchNorm1d
    known = {
        "LayerNorm": lambda: nn.LayerNorm(sizes),
        "GroupNorm": lambda: nn.GroupNorm(settings["groups"], features),
        "InstanceNorm": lambda: nn.InstanceNorm2d(features, affine=True),
        "RMSNorm": lambda: nn.RMSNorm(sizes),
        "BatchStyles": lambda: BatchStyles(settings["areaRatio"]),
        "CholeskyWhitening": lambda: CholeskyWhitening(features, settings["whiteningGroups"], settings["eps"]),
        "IterativeWhitening": lambda: IterativeWhitening(
            features, settings["whiteningGroups"], settings["eps"], settings["iterations"]
        ),
        "PowerNorm": lambda: PowerNorm(features),
        "SyncBatchNorm": lambda: SyncBatchNorm(features),
    }
    if layer.startswith("ConvBN2d"):
        return nn.Sequential(nn.Conv2d(features, features, 1, bias=False), norm(features))
    return known.get(layer, lambda: norm(features))()


def prepare(options):
    torch.set_num_threads(options["threads"])
    settings.update(options["settings"])
    touched = [torch.ones(options["touchedBytes"] // 4, dtype=torch.uint8) for _ in range(4)]
    del touched
    return {"python": platform.python_version(), "torch": torch.__version__}


current = {}


def setup_for(layer, shape, channels_last):
    name = (layer, tuple(shape), channels_last)
    if current.get("name") != name:
        torch.manual_seed(1)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        x = torch.randn(shape).contiguous(memory_format=memory_format).requires_grad_()
        gradient = torch.randn(shape).contiguous(memory_format=memory_format)
        current.update(name=name, model=make(layer, shape), x=x, gradient=gradient)
    return current["model"], current["x"], current["gradient"]


def run(options):
    model, x, gradient = setup_for(options["layer"], options["shape"], options["channelsLast"])

    def step():
        model(x).backward(gradient)
        x.grad = None
        model.zero_grad()

    start = time.perf_counter()
    for _ in range(options["steps"]):
        step()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "items": options["steps"], "result": [options["steps"]]}


serve(prepare, run)
