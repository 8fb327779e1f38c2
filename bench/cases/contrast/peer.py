"""PyTorch's side of the case: the loss as it is usually written, or nothing but its four matrix products."""

import platform
import time

import torch
from serve import serve
from torch.nn import functional

work = "loss"


def embeddings(count, dimension, dtype):
    places = torch.arange(count * dimension, dtype=torch.float64)
    first = (places * 0.7391).sin()
    second = first + (places * 1.3717 + 0.5).sin() * 0.5
    return [
        functional.normalize(x.view(count, dimension)).to(dtype).requires_grad_()
        for x in (first, second)
    ]


def prepare(options):
    global work
    work = options["work"]
    torch.set_num_threads(options["threads"])
    return {"python": platform.python_version(), "torch": torch.__version__}


def loss_of(anchors, others, labels, temperature):
    scores = anchors @ others.t() / temperature
    one_way = functional.cross_entropy(scores, labels)
    return (one_way + functional.cross_entropy(scores.t(), labels)) / 2


def run(options):
    anchors, others = embeddings(options["count"], options["dimension"], getattr(torch, options["dtype"]))
    labels = torch.arange(options["count"])
    if work == "products":
        anchors, others = anchors.detach(), others.detach()
        start = time.perf_counter()
        # Scores forwards; scores again, and both gradients, backwards.
        scores = anchors @ others.t()
        scores = anchors @ others.t()
        scores @ others
        scores.t() @ anchors
        return {"seconds": time.perf_counter() - start, "items": 1, "result": [0, 0, 0]}
    start = time.perf_counter()
    loss = loss_of(anchors, others, labels, options["temperature"])
    slopes = torch.autograd.grad(loss, (anchors, others))
    seconds = time.perf_counter() - start
    sizes = [slope.double().abs().sum().item() for slope in slopes]
    return {"seconds": seconds, "items": 1, "result": [loss.item(), *sizes]}


serve(prepare, run)
