"""How PyTorch prints tensors: each case says how to make one, the print options, and the text."""
import base64
import json
import math
import os
import random
import warnings

import torch

warnings.filterwarnings("ignore")
torch.manual_seed(7)
random.seed(7)

inf, nan = math.inf, math.nan
cases = []


def add(tensor, steps=(), options=None):
    """Adds the text of a tensor after some steps, each a method's name and its arguments."""
    source = {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "data": base64.b64encode(bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist())).decode(),
    }
    finish(source, tensor, steps, options)


def add_range(count, scale, dtype, steps, options=None):
    """As add, for 0, scale, 2 scale, ... where writing all elements down would take too much room."""
    tensor = torch.arange(count, dtype=torch.float64).mul(scale).to(dtype)
    finish({"count": count, "scale": scale, "dtype": str(dtype).removeprefix("torch.")}, tensor, steps, options)


def finish(source, tensor, steps, options):
    for name, *arguments in steps:
        tensor = getattr(tensor, name)(*arguments)
    torch.set_printoptions(profile="default")
    torch.set_printoptions(**(options or {}))
    text = repr(tensor)
    torch.set_printoptions(profile="default")
    cases.append({"source": source, "steps": list(steps), "options": options or {}, "text": text})


f32, f64, f16, bf16 = torch.float32, torch.float64, torch.float16, torch.bfloat16
i64 = torch.int64

# Single elements and short rows: which form is chosen.
for values in [
    3.5, 0.0, -0.0, 1e-10, 12345678.0, 123456789.0, inf, -inf, nan, [1.0, 2.0], [1.0, 2.5], [1.0, 1000.0], [1.0, 1001.0],
    [0.5, 500.0], [0.5, 501.0], [1e8, 1e8], [1.1e8], [1e-4, 1e-4], [0.9e-4], [1e-4, 0.1], [0.0, 0.0], [0.0, -0.0, 1.0],
    [nan, 0.0], [nan, 1.0], [nan, 1.5], [-inf, 1.5], [inf, nan], [1e-9, inf, 0.0, -3.0], [-1.0, 10.0, -100.0],
    [0.03125, 0.09375, 0.15625, -0.03125], [1.00005, 2.0], [9999.99999, 1.0], [99999.0, 100.0], [0.99999, 1.0],
    [3e38, 1e-38], [1e-45], [123456.789, 1234.5],
]:
    add(torch.tensor(values, dtype=f32))
for values in [[0.1, 1 / 3], [1e300, 1.0], [1e-300], [5e-324], [2.0**70], [1.0, 2.0], 0.1, [0.00005, 0.00015, 1.0]]:
    add(torch.tensor(values, dtype=f64))
for dtype in [f16, bf16]:
    add(torch.tensor([1.0, 2.0], dtype=dtype))
    add(torch.tensor([0.1, -2.5, 100.0], dtype=dtype))
    add(torch.tensor([60000.0, 1e-7, nan, -inf], dtype=dtype))
    add(torch.randn(3, 4).to(dtype))
for name in ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]:
    add(torch.tensor([1.0, 2.0, 0.5, 16.0]).to(getattr(torch, name)))
    add(torch.tensor([1.5, 0.1, 448.0, 0.0]).to(getattr(torch, name)))

# Integers and booleans.
for dtype in [torch.uint8, torch.int8, torch.int16, torch.int32, i64, torch.uint16, torch.uint32, torch.uint64]:
    add(torch.tensor([[1, 20], [100, 0]]).to(dtype))
add(torch.tensor([-128, 5], dtype=torch.int8))
add(torch.tensor([2**62, -1]))
add(torch.tensor([2**63 + 5], dtype=torch.uint64))
add(torch.tensor(7))
add(torch.tensor(True))
add(torch.tensor([[True, False], [False, False]]))
add(torch.tensor([True, True]))
add(torch.arange(60).reshape(3, 20))
add(torch.arange(1000))
add(torch.arange(1001))
add(torch.arange(0, 10**12, 10**10).reshape(10, 10))

# Complex numbers.
for dtype in [torch.complex64, torch.complex128]:
    add(torch.tensor([1 + 2j, -3.5 - 4j], dtype=dtype))
    add(torch.randn(3, 5, dtype=torch.complex128).to(dtype))
    add(torch.tensor([complex(nan, -inf), complex(inf, 2.0)], dtype=dtype))
add(torch.tensor(1 + 2j))
add(torch.tensor([1e10 + 1e-10j, 1 + 1j]))
add(torch.tensor([1 + 2j, 3.0 - 4.5j]).to(torch.complex32))
add(torch.tensor([1 + 2j, 3 - 4j]), [["conj"]])
add_range(2000, 0.5, torch.complex64, [["reshape", [40, 50]], ["conj"]])

# Shapes, with line breaks where lines are full.
for shape in [(1,), (7,), (10,), (40,), (2, 3), (3, 1), (1, 1, 1), (2, 2, 2), (2, 1, 3, 2), (2, 2, 1, 2, 2), (3, 25), (999,), (5, 11, 2)]:
    add(torch.randn(shape).mul(4).round().div(4))
    add(torch.randint(-1000, 1000, shape))
for scale in [1e-6, 1e-3, 1.0, 1e3, 1e6]:
    add(torch.randn(4, 6).mul(scale))
    add(torch.randn(4, 6, dtype=f64).mul(scale))
for shape in [(0,), (0, 3), (2, 0), (3, 0, 2)]:
    for dtype in [f32, f64, i64, torch.bool, torch.complex64]:
        add(torch.zeros(shape, dtype=dtype))

# Notes after the elements.
for count in range(9, 18):
    add(torch.zeros(count, dtype=f64))
    add(torch.zeros(count, dtype=f64), [["requires_grad_", True]])
add(torch.ones(3), [["requires_grad_", True]])
add(torch.ones(2, 3, dtype=bf16), [["requires_grad_", True]])
add(torch.zeros(0, 2), [["requires_grad_", True]])
for shape, dtype in [((2, 3), f32), ((3,), i64), ((), f32), ((2, 0), f64), ((2,), torch.bool)]:
    add(torch.zeros(shape, dtype=dtype), [["to", "meta"]])
add(torch.zeros(2, 3), [["to", "meta"], ["requires_grad_", True]])

# Large tensors show their edges; the form is chosen by what is shown.
add_range(1200, 1, f32, [["reshape", [2, 3, 200]]])
add_range(1001, 1, f32, [])
add_range(5000, 0.25, f32, [["reshape", [100, 50]]])
add_range(5000, 0.25, f64, [["reshape", [50, 100]], ["t"]])
add_range(6000, 1, i64, [["reshape", [10, 20, 30]]])
add_range(6000, 1, i64, [["reshape", [10, 20, 30]], ["permute", [2, 0, 1]]])
add_range(6000, 1, torch.int32, [["reshape", [6, 10, 100]]])
add_range(6000, 1, bf16, [["reshape", [5, 1200]]])
add_range(4000, 0.001, f16, [["reshape", [2000, 2]]])
add_range(3000, 1, torch.bool, [["reshape", [3, 1000]]])
add_range(3, 1.5, f32, [["unsqueeze", 1], ["expand", [3, 4000]]])
add_range(2400, 1, torch.uint8, [["reshape", [2, 2, 2, 3, 100]]])
add_range(7000, 1, f32, [["reshape", [7, 1000]], ["requires_grad_", True]])

# Sparse layouts.
for name in ["to_sparse", "to_sparse_csr", "to_sparse_csc"]:
    add(torch.eye(3), [[name]])
add(torch.eye(3), [["to_sparse"], ["requires_grad_", True]])
add(torch.eye(3), [["to_sparse", 1]])
add(torch.eye(3, dtype=f64), [["to_sparse"]])
add(torch.zeros(2, 3), [["to_sparse"]])
add(torch.eye(4), [["to_sparse_bsr", [2, 2]]])
add(torch.eye(4), [["to_sparse_bsc", [2, 2]]])
add(torch.eye(4), [["to_sparse_csr", 0]])
add(torch.arange(24.0).reshape(2, 3, 4), [["to_sparse", 2]])
add(torch.ones(40, 40), [["to_sparse"]])
add(torch.ones(40, 40, dtype=torch.int32), [["to_sparse_csr"]])
add(torch.arange(6.0).reshape(2, 3), [["to_mkldnn"]])

# Options.
mixed = torch.tensor([[1.0, -2.5, 1000.25], [0.03125, 3.75, 0.0]])
for options in [
    {"precision": 2}, {"precision": 0}, {"precision": 10}, {"sci_mode": True}, {"sci_mode": False}, {"linewidth": 20}, {"linewidth": 1},
    {"threshold": 3}, {"threshold": 3, "edgeitems": 1}, {"threshold": 0, "edgeitems": 0}, {"profile": "short"}, {"profile": "full"},
    {"profile": "short", "precision": 5}, {"precision": 1, "sci_mode": True, "linewidth": 30}, {"threshold": 1e9},
]:
    add(mixed, options=options)
    add(torch.arange(-5, 9).reshape(2, 7), options=options)
    add(mixed.to(torch.complex64) * (1 - 2j), options=options)
    add(torch.zeros(3), options=options)
add(torch.tensor([0.5, 1.5, 2.5, 10.75]), options={"precision": 0})
add(torch.tensor([1e-8, 2.5e10]), options={"sci_mode": False})
add(torch.tensor([1e25, -0.5], dtype=f64), options={"sci_mode": False})
add(torch.tensor([1.0, 2.5e10]), options={"sci_mode": False})
add(torch.tensor([1.5, 2.5, 3.5]) * 1e3, options={"sci_mode": True, "precision": 0})
add_range(1200, 0.5, f64, [["reshape", [3, 400]]], {"profile": "full", "linewidth": 120})
add_range(1200, 0.5, f64, [["reshape", [3, 400]]], {"edgeitems": 0})
add_range(1200, 0.5, f64, [], {"edgeitems": 0})
add_range(1200, 1, i64, [["reshape", [30, 40]]], {"edgeitems": 5, "linewidth": 40})

# Numbers of every size.
for _ in range(40):
    shape = random.choice([(4,), (2, 5), (3, 2, 2), (9, 1)])
    dtype = random.choice([f32, f64, f16, bf16, torch.complex64])
    values = torch.randn(shape, dtype=torch.float64) * 10.0 ** random.randint(-6, 6)
    if random.random() < 0.4:
        values = values.round()
    if random.random() < 0.3:
        values[0] = random.choice([nan, inf, -inf, 0.0])
    add(values.to(dtype))

# Results whose gradients flow on name the function they flow by.
wanted = ["requires_grad_", True]
for steps in [
    [["exp"]], [["neg"], ["abs"]], [["sum"]], [["sum", 0]], [["t"]], [["select", 0, 1]], [["clone"], ["detach"]],
    [["clone"], ["detach"], wanted], [["clone"], ["select", 0, 1], ["mul_", 2]], [["to", "meta"]], [["narrow", 0, 0, 0]],
    [["to_sparse"]], [["to_mkldnn"]],
]:
    add(torch.arange(6.0).reshape(2, 3), [wanted, *steps])
add(torch.tensor([1 + 2j, 3 - 4j]), [wanted, ["conj"]])
for count in range(8, 14):
    add(torch.zeros(count, dtype=f64), [wanted, ["neg"]])
add_range(7000, 1, f32, [["reshape", [7, 1000]], wanted, ["exp"]])

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "format.json"), "w") as out:
    lines = ",\n".join(json.dumps(case, allow_nan=False) for case in cases)
    version = torch.__version__.split("+")[0]
    out.write(f'{{"torch": "{version}", "tensors": {{}}, "values": {{"cases": [\n{lines}\n]}}}}\n')
print(len(cases))
