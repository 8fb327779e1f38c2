"""faiss's side of the case: its flat index."""

import platform
import time

import faiss
import torch
from serve import serve
from torch.nn import functional

made = {}


def embeddings(rows, dimension, start):
    parts = []
    for begin in range(0, rows, 100_000):
        size = min(100_000, rows - begin)
        first = (start + begin) * dimension
        places = torch.arange(first, first + size * dimension, dtype=torch.float64)
        noise = (places * 12.9898).sin() * 43758.5453
        centred = noise - noise.floor() - 0.5
        parts.append(functional.normalize(centred.view(size, dimension)).float())
    return torch.cat(parts).numpy()


def prepare(options):
    torch.set_num_threads(options["threads"])
    faiss.omp_set_num_threads(options["threads"])
    return {"python": platform.python_version(), "faiss": faiss.__version__}


def run(options):
    if not made:
        made["queries"] = embeddings(options["queries"], options["dimension"], options["keys"])
        made["index"] = faiss.IndexFlatIP(options["dimension"])
        made["index"].add(embeddings(options["keys"], options["dimension"], 0))
    start = time.perf_counter()
    scores, _ = made["index"].search(made["queries"], options["count"])
    seconds = time.perf_counter() - start
    means = [float(scores.mean(dtype="float64")), float(scores[:, -1].mean(dtype="float64"))]
    return {"seconds": seconds, "items": options["queries"], "result": [*means, 1.0]}


serve(prepare, run)
