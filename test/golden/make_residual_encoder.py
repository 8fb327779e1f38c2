"""The small residual encoder in float64: state, output and gradients."""
import torch

from golden import write
from residual import ResidualEncoder, fill

network = fill(ResidualEncoder(2, [4, 6, 8], [1, 2, 2], [1, 2, 1], stem_stride=2, stem_kernel=5), 8).double()
generator = torch.Generator().manual_seed(9)
tensors = {"state." + key: t.clone() for key, t in network.state_dict().items()}
x = torch.randn(4, 2, 13, 12, generator=generator, dtype=torch.float64).requires_grad_()
y = network(x)
gradient = torch.randn(y.shape, generator=generator, dtype=torch.float64)
y.backward(gradient)
tensors |= {"input": x, "output": y, "output_gradient": gradient, "input_gradient": x.grad}
tensors |= {"gradient." + key: p.grad for key, p in network.named_parameters()}
tensors |= {"after." + key: t for key, t in network.named_buffers()}
write(__file__, tensors)
