"""Three training steps of momentum contrast, re-implemented from the paper in plain PyTorch."""
import copy

import torch
import torch.nn.functional as F
from torch import nn

from golden import write
from residual import ResidualEncoder, fill

BATCH, QUEUE, DIMENSION, TEMPERATURE, MOMENTUM, SPLITS, STEPS = 8, 20, 5, 0.2, 0.9, 2, 3


class Split(nn.Module):
    """Batch normalisation of each group of neighbouring samples by its own statistics; for images and for vectors."""

    def __init__(self, features):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x):
        self.num_batches_tracked += 1
        others = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        outputs, means, variances = [], [], []
        for group in x.chunk(SPLITS):
            mean, variance = group.mean(others), group.var(others, unbiased=False)
            normal = (group - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt()
            outputs.append(normal * self.weight.view(shape) + self.bias.view(shape))
            means.append(mean.detach())
            variances.append(group.var(others, unbiased=True).detach())
        self.running_mean.mul_(0.9).add_(torch.stack(means).mean(0), alpha=0.1)
        self.running_var.mul_(0.9).add_(torch.stack(variances).mean(0), alpha=0.1)
        return torch.cat(outputs)


class Network(nn.Module):
    def __init__(self, norm2d, norm1d):
        super().__init__()
        self.encoder = ResidualEncoder(1, [4, 6], [1, 2], [1, 1], stem_stride=2, norm=norm2d)
        self.head = nn.Sequential(nn.Linear(6, 7, bias=False), norm1d(7), nn.ReLU(), nn.Linear(7, DIMENSION))

    def forward(self, x):
        return F.normalize(self.head(self.encoder(x)), dim=1)


def train(name, answer, symmetric):
    norms = (Split, Split) if "split" in answer else (nn.BatchNorm2d, nn.BatchNorm1d)
    query = fill(Network(*norms), 10)
    key = copy.deepcopy(query)
    tensors.update({f"start.{k}": t.clone() for k, t in query.state_dict().items()})
    random = torch.Generator().manual_seed(11)
    queue = F.normalize(torch.randn(QUEUE, DIMENSION, generator=random), dim=1)
    pointer = 0
    optimizer = torch.optim.SGD(query.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    for step in range(STEPS):
        with torch.no_grad():
            for p, q in zip(key.parameters(), query.parameters()):
                p.mul_(MOMENTUM).add_(q, alpha=1 - MOMENTUM)
            if answer == "eman":
                for p, q in zip(key.buffers(), query.buffers()):
                    if p.is_floating_point():
                        p.mul_(MOMENTUM).add_(q, alpha=1 - MOMENTUM)
                    else:
                        p.copy_(q)
        key.train(answer != "eman")
        losses, entering = [], []
        views = views_of(step)
        for a, b in [views, views[::-1]] if symmetric else [views]:
            with torch.no_grad():
                if answer == "shuffle-split":
                    order = torch.randperm(BATCH, generator=random)
                    keys = torch.empty(BATCH, DIMENSION)
                    keys[order] = key(b[order])
                else:
                    keys = key(b)
            queries = query(a)
            logits = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ queue.clone().T], 1) / TEMPERATURE
            losses.append(F.cross_entropy(logits, torch.zeros(BATCH, dtype=torch.long)))
            entering.append(keys)
        loss = sum(losses) / len(losses)
        for row in torch.cat(entering):
            queue[pointer] = row
            pointer = (pointer + 1) % QUEUE
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tensors[f"{name}.loss.{step}"] = loss
    tensors[name + ".queue"] = queue
    for side, network in (("query", query), ("key", key)):
        tensors.update({f"{name}.{side}.{k}": t for k, t in network.state_dict().items()})
    values[name] = dict(answer=answer, symmetric=symmetric, pointer=pointer)


def views_of(step):
    random = torch.Generator().manual_seed(100 + step)
    return [torch.randn(BATCH, 1, 10, 10, generator=random) for _ in range(2)]


tensors, values = {}, {}
for step in range(STEPS):
    tensors[f"view_a.{step}"], tensors[f"view_b.{step}"] = views_of(step)
train("none", "none", False)
train("split", "split", False)
train("shuffle_split", "shuffle-split", True)
train("eman", "eman", True)
values |= dict(batch=BATCH, queue=QUEUE, dimension=DIMENSION, temperature=TEMPERATURE, momentum=MOMENTUM, splits=SPLITS, steps=STEPS)
write(__file__, tensors, values)
