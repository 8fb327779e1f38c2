"""ResNet-18: names and shapes of the state, and outputs for weights that a seed decides."""
import torch

from golden import write
from residual import ResNet18, fill

tensors, values = {}, {}
for name, channels, small, size in (("small_image", 1, True, 28), ("large_image", 3, False, 64)):
    network = fill(ResNet18(channels, small), 6)
    x = torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(7))
    values[name] = {key: list(t.shape) for key, t in network.state_dict().items()}
    with torch.no_grad():
        network.eval()
        tensors[name + ".eval"] = network(x)
        network.train()
        tensors[name + ".train"] = network(x)
    tensors[name + ".running_mean"] = network.layer4[1].bn2.running_mean

write(__file__, tensors, values)
