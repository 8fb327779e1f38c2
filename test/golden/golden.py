"""Writes golden values: tensors as base64 of their little-endian bytes, everything else as JSON."""
import base64
import json
import os

import torch


def write(script, tensors, values=None):
    """Writes the golden set that belongs to a script: make_<name>.py makes <name>.json."""
    folder, file = os.path.split(os.path.abspath(script))
    name = file.removeprefix("make_").removesuffix(".py")
    stored = {}
    for key, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        stored[key] = {
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "data": base64.b64encode(tensor.numpy().tobytes()).decode(),
        }
    with open(os.path.join(folder, name + ".json"), "w") as out:
        json.dump({"torch": torch.__version__.split("+")[0], "values": values or {}, "tensors": stored}, out, indent=0)
        out.write("\n")
