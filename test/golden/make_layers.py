"""Forward and backward of layers in float64: inputs, parameters, outputs and gradients."""
import torch
from torch import nn

from golden import write

torch.manual_seed(1)
cases = {
    "linear": (nn.Linear(5, 3), (4, 5)),
    "linear_no_bias": (nn.Linear(5, 3, bias=False), (2, 4, 5)),
    "conv2d": (nn.Conv2d(3, 4, 3), (2, 3, 7, 6)),
    "conv2d_stride_padding": (nn.Conv2d(3, 4, (3, 5), stride=(2, 1), padding=(1, 2), bias=False), (2, 3, 7, 6)),
    "conv2d_dilation_groups": (nn.Conv2d(4, 6, 3, dilation=2, groups=2), (2, 4, 8, 9)),
    "conv2d_same": (nn.Conv2d(2, 3, (3, 5), padding="same"), (2, 2, 7, 6)),
    "relu": (nn.ReLU(), (3, 7)),
    "gelu": (nn.GELU(), (3, 7)),
    "gelu_tanh": (nn.GELU(approximate="tanh"), (3, 7)),
    "max_pool2d": (nn.MaxPool2d(3, stride=2, padding=1), (2, 3, 7, 6)),
    "max_pool2d_dilation_ceil": (nn.MaxPool2d(2, stride=3, dilation=2, ceil_mode=True), (2, 3, 7, 6)),
    "avg_pool2d": (nn.AvgPool2d((2, 3)), (2, 3, 7, 6)),
    "avg_pool2d_padding": (nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), (2, 3, 7, 6)),
    "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d((3, 2)), (2, 3, 7, 5)),
    "flatten": (nn.Flatten(), (2, 3, 2, 2)),
}

tensors = {}
for name, (layer, shape) in cases.items():
    layer = layer.double()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    gradient = torch.randn_like(y)
    y.backward(gradient)
    tensors[name + ".input"] = x
    tensors[name + ".output"] = y
    tensors[name + ".output_gradient"] = gradient
    tensors[name + ".input_gradient"] = x.grad
    for parameter_name, parameter in layer.named_parameters():
        tensors[f"{name}.state.{parameter_name}"] = parameter
        tensors[f"{name}.gradient.{parameter_name}"] = parameter.grad

write(__file__, tensors)
