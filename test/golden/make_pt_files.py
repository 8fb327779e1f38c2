"""Files of torch.save, in pt/, and what they hold, in pt_files.json. Needs numpy and safetensors besides PyTorch."""
import base64
import collections
import json
import os
import zipfile

import numpy
import safetensors.torch
import torch
from torch import nn

here = os.path.dirname(os.path.abspath(__file__))
folder = os.path.join(here, "pt")
os.makedirs(folder, exist_ok=True)
expected = {}
refused = {}

DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.uint16, torch.uint32, torch.uint64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.complex32, torch.complex64, torch.complex128,
    torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
]  # fmt: skip


def raw(tensor):
    """A tensor's elements in row-major order, as bytes."""
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return b"" if flat.numel() == 0 else bytes(flat.view(torch.uint8).tolist())


def describe(value):
    """A value as JSON that says its kind, as the test describes what it read."""
    if isinstance(value, torch.Tensor):
        return {
            "tensor": str(value.dtype).removeprefix("torch."),
            "shape": list(value.shape),
            "strides": list(value.stride()),
            "offset": value.storage_offset(),
            "requiresGrad": value.requires_grad,
            "data": base64.b64encode(raw(value)).decode(),
        }
    if isinstance(value, torch.storage.TypedStorage):
        return describe(torch.tensor(value.tolist(), dtype=value.dtype))
    if isinstance(value, torch.UntypedStorage):
        return describe(torch.tensor(value.tolist(), dtype=torch.uint8))
    if isinstance(value, dict):
        return {"dict": [[describe(k), describe(v)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [describe(item) for item in value]}
    if isinstance(value, (set, frozenset)):
        return {"set": sorted(describe(item) for item in value)}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, (torch.dtype, torch.device)):
        return str(value).removeprefix("torch.")
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, numpy.generic):
        return describe(value.item())
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53 - 1:
        return {"integer": str(value)}
    if isinstance(value, float) and not -1e308 < value < 1e308:
        return {"float": str(value)}
    return value


def save(name, value, **options):
    torch.save(value, os.path.join(folder, name), **options)
    expected[name] = describe(value)


def save_both(name, value):
    save(f"{name}.pt", value)
    save(f"{name}_legacy.pt", value, _use_new_zipfile_serialization=False)


def patterned(dtype):
    """Six elements whose bytes all differ."""
    size = torch.empty(0, dtype=dtype).element_size()
    data = [i % 2 for i in range(6)] if dtype == torch.bool else [(i * 37 + 5) % 251 for i in range(6 * size)]
    return torch.tensor(data, dtype=torch.uint8).view(dtype).reshape(2, 3)


torch.manual_seed(5)
model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 2, 5])
model(torch.randn(4, 2, 4, 4)).square().mean().backward()
optimizer.step()
schedule.step()

save_both("state_dict", model.state_dict())
save_both(
    "checkpoint",
    {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "epoch": 3,
        "best": 0.1 + 0.2,
        "rng": torch.get_rng_state()[:16].clone(),
    },
)
save_both("dtypes", {str(dtype): patterned(dtype) for dtype in DTYPES})

base = torch.arange(24, dtype=torch.float32)
tied = torch.ones(2, 2)
save_both(
    "views",
    {
        "base": base,
        "row": base.view(4, 6)[1],
        "transposed": base.view(4, 6).t(),
        "stepped": base[1::3],
        "channels_last": torch.arange(16.0).view(1, 2, 2, 4).to(memory_format=torch.channels_last),
        "expanded": torch.tensor([7]).expand(3, 2),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "tied": [tied, tied],
        "conj": torch.tensor([1 + 2j, 3 - 4j]).conj(),
        "neg": torch.tensor([1 + 2j, 3 - 4j]).conj().imag,
    },
)

annotated = torch.ones(2)
annotated.note = "an attribute"
parameter = nn.Parameter(torch.zeros(2))
parameter.note = "an attribute"
save_both(
    "parameters",
    {
        "parameter": nn.Parameter(torch.arange(3.0)),
        "frozen": nn.Parameter(torch.arange(3.0), requires_grad=False),
        "leaf": torch.ones(2, requires_grad=True),
        "annotated": annotated,
        "annotated_parameter": parameter,
        "buffer": nn.Buffer(torch.ones(1)),
    },
)

plain = {
    "none": None,
    "booleans": (True, False),
    "integers": [0, 1, 255, 256, 65535, 65536, -1, 2**31 - 1, -(2**31), 2**31, 2**53 - 1, 2**53, -(2**63), 2**64, 2**100],
    "floats": [0.5, -0.0, 1e-300, float("inf"), float("-inf"), float("nan")],
    "strings": ["", "a", "ü€😀", "x" * 300, "__proto__"],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "nested": {"a": [{"b": ({"c": []},)}]},
    "keys": {1: "int", -5: "negative", 2.5: "float", None: "none", "__proto__": "name", "constructor": "name"},
    "ordered": collections.OrderedDict([("z", 1), ("a", 2)]),
    "counter": collections.Counter("abca"),
    "sets": [{1, 2, 3}, frozenset({4}), set()],
    "bytes": [b"", b"\x00\xff", bytearray(b"ab\xe9"), bytearray()],
    "complex": 1 - 2j,
    "size": torch.Size([2, 3]),
    "dtypes": [torch.float32, torch.bfloat16, torch.int64, torch.bool],
    "devices": [torch.device("cpu"), torch.device("cuda:1"), torch.device("cuda")],
}
save_both("plain", plain)
for protocol in [3, 4, 5]:
    save(f"plain_protocol{protocol}.pt", plain, pickle_protocol=protocol)

NUMPY = ["bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"]
save("numpy.pt", {name: getattr(numpy, name)(1) / 2 if "float" in name else getattr(numpy, name)(3) for name in NUMPY})
save("storages.pt", [torch.FloatStorage([1, 2]), torch.tensor([1, 2], dtype=torch.int16).untyped_storage()])
save("tensor.pt", torch.arange(4))

torch.serialization.set_crc32_options(False)
save("no_checksums.pt", torch.arange(4))
torch.serialization.set_crc32_options(True)


class Net(nn.Module):
    """An object whose class only Python has."""


def refuse(name, value, reason, **options):
    torch.save(value, os.path.join(folder, name), **options)
    refused[name] = reason


refuse("module.pt", nn.Linear(1, 1), "'torch.nn.modules.linear.Linear'")
refuse("object.pt", {"model": Net()}, "'__main__.Net'")
refuse("object_legacy.pt", {"f": print}, "'__builtin__.print'", _use_new_zipfile_serialization=False)
refuse("sparse.pt", torch.eye(2).to_sparse(), "'torch._utils._rebuild_sparse_tensor'|'torch.serialization._get_layout'")
refuse("ndarray.pt", numpy.arange(3), r"'numpy\._?core\.multiarray\._reconstruct'")
refuse("protocol0.pt", [1], "the instruction 0x", pickle_protocol=0)
circle = []
circle.append(circle)
refuse("circle.pt", circle, "holds itself")
torch.jit.save(torch.jit.script(nn.ReLU()), os.path.join(folder, "script.pt"))
refused["script.pt"] = "TorchScript"

# PyTorch writes neither: another byte order, and compressed entries.
with zipfile.ZipFile(os.path.join(folder, "tensor.pt")) as source:
    with zipfile.ZipFile(os.path.join(folder, "big_endian.pt"), "w") as target:
        for entry in source.infolist():
            content = b"big" if entry.filename.endswith("byteorder") else source.read(entry)
            target.writestr(zipfile.ZipInfo(entry.filename), content)
    with zipfile.ZipFile(os.path.join(folder, "compressed.pt"), "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(zipfile.ZipInfo(entry.filename), source.read(entry), zipfile.ZIP_DEFLATED)
refused["big_endian.pt"] = "in the order 'big'"
refused["compressed.pt"] = "is compressed"

safe = {str(dtype).removeprefix("torch."): patterned(dtype) for dtype in DTYPES}
for unknown in ["complex32", "complex128"]:
    del safe[unknown]
safe["scalar"] = torch.tensor(5)
safe["empty"] = torch.zeros(0, 3)
safe["float4_e2m1fn_x2"] = torch.arange(8, dtype=torch.uint8).reshape(2, 4).view(torch.float4_e2m1fn_x2)
metadata = {"format": "pt", "ü": "€"}
safetensors.torch.save_file(safe, os.path.join(folder, "python.safetensors"), metadata)

written = {
    "torch": torch.__version__.split("+")[0],
    "safetensors": safetensors.__version__,
    "expected": expected,
    "refused": refused,
    "python.safetensors": {"metadata": metadata, "tensors": {name: describe(value) for name, value in safe.items()}},
}
with open(os.path.join(here, "pt_files.json"), "w") as out:
    json.dump(written, out, indent=0)
    out.write("\n")
