"""PyTorch's side of the case: the same operators called from Python."""

import platform
import time

import torch
from serve import serve

y = torch.tensor([[0.5, -1.0, 0.25], [8.0, 2.0, -3.0]])
z = y.t().contiguous()
rows = torch.tensor([1, 0, 1])


# One loop an operator, so that nothing but the call is timed.
def add(x, calls):
    for _ in range(calls):
        last = x.add(y)
    return last


def mul(x, calls):
    for _ in range(calls):
        last = x.mul(y)
    return last


def relu(x, calls):
    for _ in range(calls):
        last = x.relu()
    return last


def matmul(x, calls):
    for _ in range(calls):
        last = x.matmul(z)
    return last


def sum(x, calls):
    for _ in range(calls):
        last = x.sum()
    return last


def softmax(x, calls):
    for _ in range(calls):
        last = x.softmax(1)
    return last


def cat(x, calls):
    for _ in range(calls):
        last = torch.cat([x, y])
    return last


def select(x, calls):
    for _ in range(calls):
        last = x[1]
    return last


def slice(x, calls):
    for _ in range(calls):
        last = x[0:1]
    return last


def index(x, calls):
    for _ in range(calls):
        last = x[rows]
    return last


def view(x, calls):
    for _ in range(calls):
        last = x.view(3, 2)
    return last


def transpose(x, calls):
    for _ in range(calls):
        last = x.transpose(0, 1)
    return last


loops = {
    loop.__name__: loop
    for loop in (add, mul, relu, matmul, sum, softmax, cat, select, slice, index, view, transpose)
}


def prepare(options):
    torch.set_num_threads(options["threads"])
    return {"python": platform.python_version(), "torch": torch.__version__}


def run(options):
    loop, calls, gradient = loops[options["operator"]], options["calls"], options["gradient"]
    x = torch.tensor([[1.0, -2.0, 3.0], [-4.0, 5.0, 6.0]], requires_grad=gradient)
    start = time.perf_counter()
    loop(x, calls)
    seconds = time.perf_counter() - start
    last = loop(x, 1)
    slopes = torch.autograd.grad((last * last).sum(), x) if gradient else ()
    result = [tensor.flatten().tolist() for tensor in (last, *slopes)]
    return {"seconds": seconds, "items": calls, "result": result}


serve(prepare, run)
