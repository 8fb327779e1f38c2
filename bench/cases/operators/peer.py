"""PyTorch's side of the case: the same operators called from Python."""

import platform
import time

import torch
from serve import serve

a = torch.tensor([1.0, 2.0, 3.0, 4.0])
b = torch.tensor([0.5, -1.0, 0.25, 8.0])
square = torch.arange(64, dtype=torch.float32).view(8, 8).div(64)


# One loop an operator, so that nothing but the call is timed.
def add(calls):
    for _ in range(calls):
        last = a.add(b)
    return last


def mul(calls):
    for _ in range(calls):
        last = a.mul(b)
    return last


def matmul(calls):
    for _ in range(calls):
        last = square.matmul(square)
    return last


def sum(calls):
    for _ in range(calls):
        last = a.sum()
    return last


loops = {"add": add, "mul": mul, "matmul": matmul, "sum": sum}


def prepare(options):
    torch.set_num_threads(options["threads"])
    return {"python": platform.python_version(), "torch": torch.__version__}


def run(options):
    loop, calls = loops[options["operator"]], options["calls"]
    start = time.perf_counter()
    last = loop(calls)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "items": calls, "result": last.flatten().tolist()}


serve(prepare, run)
