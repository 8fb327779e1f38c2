"""PyTorch's side of the case: the whole batch at once, or the same in chunks by a plain loop."""

import platform
import time
from pathlib import Path

import torch
from serve import serve
from torch import nn
from torch.nn import functional

state = {}


class Encoder(nn.Module):
    def __init__(self, work):
        super().__init__()
        self.dropout = work["dropout"]
        sizes = [work["inputSize"], *[work["hiddenSize"]] * work["hiddenLayers"]]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])])
        self.last = nn.Linear(work["hiddenSize"], work["embeddingSize"])

    def forward(self, x, masks=None):
        for i, layer in enumerate(self.layers):
            x = functional.gelu(layer(x))
            x = functional.dropout(x, self.dropout) if masks is None else x * masks[i]
        return self.last(x)


def weigh(encoder, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in encoder.parameters():
            values = torch.randn(parameter.shape)
            scale = (2 / parameter.shape[1]) ** 0.5 if parameter.ndim == 2 else 0.1
            parameter.copy_(values * scale)


def prepare(options):
    torch.set_num_threads(options["threads"])
    state["work"], state["how"] = options["work"], options["how"]
    state["encoder"] = Encoder(options["work"])
    weigh(state["encoder"], options["work"]["seed"])
    return {"python": platform.python_version(), "torch": torch.__version__}


def views(batch):
    size = state["work"]["inputSize"]
    samples = torch.randn(batch, size)
    return [samples + 0.5 * torch.randn(batch, size) for _ in range(2)]


def objective(first, second):
    scores = functional.normalize(first) @ functional.normalize(second).t() / state["work"]["temperature"]
    labels = torch.arange(len(first))
    return (functional.cross_entropy(scores, labels) + functional.cross_entropy(scores.t(), labels)) / 2


def masks_of(batch, chunk):
    """What dropout draws for a view, chunk after chunk and layer after layer, of the whole view."""
    keep, work = 1 - state["work"]["dropout"], state["work"]
    masks = [torch.empty(batch, work["hiddenSize"]) for _ in range(work["hiddenLayers"])]
    for parts in zip(*[mask.split(chunk) for mask in masks]):
        for part in parts:
            part.bernoulli_(keep)
    return [mask.div_(keep) for mask in masks]


def at_once(inputs, chunk):
    encoder = state["encoder"]
    loss = objective(*[encoder(x, masks_of(len(x), chunk)) for x in inputs])
    loss.backward()
    return loss


def in_chunks(inputs, chunk):
    encoder = state["encoder"]
    leaves, replays = [], []
    for x in inputs:
        parts = []
        for part in x.split(chunk):
            replays.append(torch.get_rng_state())
            with torch.no_grad():
                parts.append(encoder(part))
        leaves.append(torch.cat(parts).requires_grad_())
    after = torch.get_rng_state()
    loss = objective(*leaves)
    loss.backward()
    replay = iter(replays)
    for x, leaf in zip(inputs, leaves):
        for part, gradient in zip(x.split(chunk), leaf.grad.split(chunk)):
            torch.set_rng_state(next(replay))
            encoder(part).backward(gradient)
    torch.set_rng_state(after)
    return loss.detach()


def resident(name):
    """A number of the process's memory in bytes, as the system tells it; 0 where it does not."""
    file = Path("/proc/self/status")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":")), 0)


def run(options):
    encoder, seed = state["encoder"], state["work"]["seed"]
    torch.manual_seed(seed)
    inputs = views(options["batch"])
    chunk = -(-options["batch"] // options["chunks"])
    encoder.zero_grad()
    before = resident("VmRSS")
    start = time.perf_counter()
    torch.manual_seed(seed + 1)
    loss = (at_once if state["how"] == "at once" else in_chunks)(inputs, chunk)
    seconds = time.perf_counter() - start
    if options.get("ask") == "memory":
        result = {"resident": resident("VmHWM") - before}
    else:
        gradients = [parameter.grad.double() for parameter in encoder.parameters()]
        result = [loss.item(), *[x for g in gradients for x in (g.abs().sum().item(), g.norm().item())]]
    return {"seconds": seconds, "items": options["batch"], "result": result}


serve(prepare, run)
