"""Imports PyTorch, computes one small sum, and says how long that took."""

import time

start = time.perf_counter()
import torch  # noqa: E402

result = torch.tensor([1.0, 2.0, 3.0, 4.0]).add(torch.tensor([4.0, 3.0, 2.0, 1.0])).sum().item()
seconds = time.perf_counter() - start

import json  # noqa: E402
import platform  # noqa: E402

try:
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
except OSError:
    peak = None
versions = {"python": platform.python_version(), "torch": torch.__version__}
print(json.dumps({"seconds": seconds, "result": result, "peakBytes": peak, "versions": versions}))
