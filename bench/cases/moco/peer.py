"""PyTorch's side of the case, eager and in float32: the same networks, written as one writes them in PyTorch.

Parameter names are those of kontrast's modules, so its state loads by name. Every run starts again from the shared state.
"""

import json
import os
import platform
import time

import torch
from serve import serve
from torch import nn
from torch.nn import functional as F


class SplitBatchNorm:
    """Statistics over groups of the batch: sample i belongs to group i modulo the number of groups, which costs no copy."""

    splits = 1

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        samples, features = x.shape[:2]
        mean, variance = self.running_mean.repeat(self.splits), self.running_var.repeat(self.splits)
        grouped = x.reshape(samples // self.splits, features * self.splits, *x.shape[2:])
        weight, bias = self.weight.repeat(self.splits), self.bias.repeat(self.splits)
        y = F.batch_norm(grouped, mean, variance, weight, bias, True, self.momentum, self.eps)
        with torch.no_grad():
            self.running_mean.copy_(mean.view(self.splits, features).mean(0))
            self.running_var.copy_(variance.view(self.splits, features).mean(0))
            self.num_batches_tracked.add_(1)
        return y.view_as(x)


class SplitBatchNorm1d(SplitBatchNorm, nn.BatchNorm1d):
    pass


class SplitBatchNorm2d(SplitBatchNorm, nn.BatchNorm2d):
    pass


class BasicBlock(nn.Module):
    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = SplitBatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = SplitBatchNorm2d(channels_out)
        self.downsample = None
        if stride != 1 or channels_in != channels_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), SplitBatchNorm2d(channels_out)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return F.relu(y, inplace=True)


class Encoder(nn.Module):
    def __init__(self, recipe):
        super().__init__()
        widths = recipe["widths"]
        self.conv1 = nn.Conv2d(1, widths[0], 3, recipe["stemStride"], 1, bias=False)
        self.bn1 = SplitBatchNorm2d(widths[0])
        self.pool_size = recipe["poolSize"]
        inputs = [widths[0], *widths[:-1]]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(BasicBlock(before, width, 1 if stage == 0 else 2))
                for stage, (before, width) in enumerate(zip(inputs, widths))
            )
        )

    def forward(self, x):
        y = self.stages(F.relu(self.bn1(self.conv1(x)), inplace=True))
        return F.adaptive_avg_pool2d(y, self.pool_size).flatten(1)


class EncoderWithHead(nn.Module):
    def __init__(self, recipe):
        super().__init__()
        self.encoder = Encoder(recipe)
        width = recipe["widths"][-1] * recipe["poolSize"] ** 2
        self.head = nn.Sequential(
            nn.Linear(width, width, bias=False),
            SplitBatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, recipe["embeddingSize"]),
        )

    def forward(self, x):
        return F.normalize(self.head(self.encoder(x)), dim=1)


class MoCo:
    def __init__(self, recipe, state):
        SplitBatchNorm.splits = recipe["splits"]
        self.recipe, self.state = recipe, state
        self.query, self.key = EncoderWithHead(recipe), EncoderWithHead(recipe)
        self.key.requires_grad_(False)
        self.generator = torch.Generator()
        # kontrast puts neighbours into a group, this SplitBatchNorm every n-th sample: `interleave` turns one order into
        # the other. Batches are put into it beforehand, so it costs nothing here.
        count, splits = recipe["batch"], recipe["splits"]
        self.interleave = torch.arange(count).view(splits, count // splits).t().flatten()
        self.back = self.interleave.argsort()

    def restart(self):
        for prefix, module in (("pair.query.", self.query), ("pair.key.", self.key)):
            names = [name for name in self.state if name.startswith(prefix)]
            module.load_state_dict({name[len(prefix) :]: self.state[name] for name in names})
        self.queue = self.state["queue.keys"].clone()
        self.pointer = 0
        self.generator.set_state(self.state["generator.state"])
        self.steps = 0
        parameters = list(self.query.parameters())
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.recipe["weightDecay"]},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=self.recipe["learningRate"],
            fused=True,
        )

    @torch.no_grad()
    def keys_of(self, view):
        order = torch.randperm(len(view), generator=self.generator)
        order = self.back[order[self.interleave]]
        return self.key(view[order])[order.argsort()]

    def contrast(self, query_view, key_view, negatives):
        keys = self.keys_of(key_view)
        queries = self.query(query_view)
        if self.recipe["inBatchNegatives"]:
            # The positive of a query is the key at its own place among the keys of the batch.
            logits = torch.cat([queries @ keys.t(), queries @ negatives.t()], 1)
            labels = torch.arange(len(queries))
        else:
            logits = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ negatives.t()], 1)
            labels = torch.zeros(len(queries), dtype=torch.long)
        return F.cross_entropy(logits / self.recipe["temperature"], labels), keys

    @torch.no_grad()
    def follow(self):
        momentum = min(self.recipe["momentum"], (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        torch._foreach_lerp_(list(self.key.parameters()), list(self.query.parameters()), 1 - momentum)

    @torch.no_grad()
    def enqueue(self, keys):
        end = self.pointer + len(keys)
        self.queue[self.pointer : end] = keys
        self.pointer = end % len(self.queue)

    def train_step(self, view_a, view_b):
        self.follow()
        negatives = self.queue.clone()
        pairs = [(view_a, view_b), (view_b, view_a)] if self.recipe["symmetric"] else [(view_a, view_b)]
        losses, keys = zip(*(self.contrast(query, key, negatives) for query, key in pairs))
        self.enqueue(torch.cat(keys))
        loss = sum(losses) / len(losses)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def read_safetensors(path):
    dtypes = {"F32": torch.float32, "I64": torch.int64, "U8": torch.uint8}
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = bytearray(file.read())
    header.pop("__metadata__", None)
    return {
        name: torch.frombuffer(data[slice(*entry["data_offsets"])], dtype=dtypes[entry["dtype"]]).view(entry["shape"])
        for name, entry in header.items()
    }


def prepare(options):
    global moco, batches
    torch.set_num_threads(options["threads"])
    recipe, folder = options["recipe"], options["folder"]
    moco = MoCo(recipe, read_safetensors(os.path.join(folder, "state.safetensors")))
    size = recipe["imageSize"]
    with open(os.path.join(folder, "views.bin"), "rb") as file:
        views = torch.frombuffer(bytearray(file.read()), dtype=torch.float32)
    views = views.view(recipe["steps"], 2, recipe["batch"], 1, size, size)[:, :, moco.interleave]
    batches = [tuple(pair) for pair in views]
    return {"python": platform.python_version(), "torch": torch.__version__, "precision": "float32"}


def run(options):
    moco.restart()
    losses = []
    start = time.perf_counter()
    for view_a, view_b in batches:
        losses.append(moco.train_step(view_a, view_b))
    seconds = time.perf_counter() - start
    recipe = moco.recipe
    return {"seconds": seconds, "items": recipe["steps"] * recipe["batch"], "result": losses[: recipe["stepsCompared"]]}


serve(prepare, run)
