"""PyTorch's side of the case: each run is a fresh Python."""

import json
import os
import subprocess
import sys
import time

from serve import serve

CHILD = [sys.executable, "-W", "ignore", os.path.join(os.path.dirname(os.path.abspath(__file__)), "first_result.py")]


def start_once():
    start = time.perf_counter()
    child = subprocess.run(CHILD, capture_output=True, text=True)
    process_seconds = time.perf_counter() - start
    if child.returncode != 0:
        raise RuntimeError(f"the fresh process failed: {child.stderr}")
    return json.loads(child.stdout), process_seconds


def prepare(options):
    return start_once()[0]["versions"]


def run(options):
    first, process_seconds = start_once()
    reply = {
        "seconds": first["seconds"] if options["from"] == "load" else process_seconds,
        "items": 1,
        "result": first["result"],
    }
    if first["peakBytes"] is not None:
        reply["peakBytes"] = first["peakBytes"]
    return reply


serve(prepare, run)
