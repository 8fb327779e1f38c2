"""Starting values: what the layers and torch.nn.init draw after manual_seed."""
import torch
from torch import nn

from golden import write

tensors = {}


def seeded(name, fill, shape=(6, 5, 3, 3)):
    torch.manual_seed(3)
    tensors[name] = fill(torch.empty(shape))


for name, make in {
    "linear": lambda: nn.Linear(20, 7),
    "conv2d": lambda: nn.Conv2d(4, 6, (3, 5), groups=2),
}.items():
    torch.manual_seed(3)
    for key, value in make().state_dict().items():
        tensors[f"{name}.{key}"] = value

seeded("kaiming_uniform", lambda t: nn.init.kaiming_uniform_(t, nonlinearity="relu"))
seeded("kaiming_uniform_slope", lambda t: nn.init.kaiming_uniform_(t, a=0.3, mode="fan_out"))
seeded("kaiming_normal", lambda t: nn.init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu"))
seeded("xavier_uniform", lambda t: nn.init.xavier_uniform_(t))
seeded("xavier_normal", lambda t: nn.init.xavier_normal_(t, gain=2.0))
seeded("uniform", lambda t: nn.init.uniform_(t, -2.0, 3.0))
seeded("normal", lambda t: nn.init.normal_(t, 1.0, 0.5))

gains = {n: nn.init.calculate_gain(n) for n in ["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]}
write(__file__, tensors, {"gains": gains})
