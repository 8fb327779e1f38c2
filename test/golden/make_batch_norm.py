"""Batch normalisation in float64: three training batches, then evaluation, with running statistics after each."""
import torch
from torch import nn

from golden import write

torch.manual_seed(2)
cases = {
    "1d": (nn.BatchNorm1d(4), (6, 4)),
    "1d_sequence": (nn.BatchNorm1d(3, eps=1e-3, momentum=0.3), (4, 3, 5)),
    "2d": (nn.BatchNorm2d(3), (5, 3, 4, 2)),
    "2d_cumulative": (nn.BatchNorm2d(3, momentum=None), (5, 3, 4, 2)),
    "2d_no_affine": (nn.BatchNorm2d(3, affine=False), (5, 3, 4, 2)),
    "2d_untracked": (nn.BatchNorm2d(3, track_running_stats=False), (5, 3, 4, 2)),
}

tensors = {}


def run(layer, key, shape):
    x = (torch.randn(shape, dtype=torch.float64) * 2 + 1).requires_grad_()
    y = layer(x)
    gradient = torch.randn_like(y)
    layer.zero_grad()
    y.backward(gradient)
    tensors[key + ".input"] = x
    tensors[key + ".output"] = y
    tensors[key + ".output_gradient"] = gradient
    tensors[key + ".input_gradient"] = x.grad
    for name, parameter in layer.named_parameters():
        tensors[f"{key}.gradient.{name}"] = parameter.grad.clone()
    for name, buffer in layer.named_buffers():
        tensors[f"{key}.buffer.{name}"] = buffer.clone()


for name, (layer, shape) in cases.items():
    layer = layer.double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    for key, value in layer.state_dict().items():
        tensors[f"{name}.state.{key}"] = value.clone()
    for batch in range(3):
        run(layer, f"{name}.train{batch}", shape)
    layer.eval()
    run(layer, f"{name}.eval", shape)

write(__file__, tensors)
