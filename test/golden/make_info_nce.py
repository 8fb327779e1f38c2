"""InfoNCE as a cross-entropy over explicit logits, in float64."""
import torch
import torch.nn.functional as F

from golden import write

torch.manual_seed(5)
n, k, d = 5, 9, 6
query, positive, queue = (torch.randn(rows, d, dtype=torch.float64) for rows in (n, n, k))
tensors = {"query": query, "positive": positive, "negatives": queue}

for temperature in (0.07, 0.5):
    for normalize in (True, False):
        for candidates in ("queue", "batch", "both"):
            q, p, m = (t.clone().requires_grad_() for t in (query, positive, queue))
            a, b, c = (F.normalize(t, dim=1) if normalize else t for t in (q, p, m))
            if candidates == "queue":
                logits = torch.cat([(a * b).sum(1, keepdim=True), a @ c.T], 1)
                target = torch.zeros(n, dtype=torch.long)
            else:
                logits = a @ b.T if candidates == "batch" else torch.cat([a @ b.T, a @ c.T], 1)
                target = torch.arange(n)
            losses = F.cross_entropy(logits / temperature, target, reduction="none")
            losses.mean().backward()
            key = f"{temperature}.{str(normalize).lower()}.{candidates}"
            tensors[key + ".losses"] = losses
            for name, t in (("query", q), ("positive", p), ("negatives", m)):
                if t.grad is not None:
                    tensors[f"{key}.{name}_gradient"] = t.grad

write(__file__, tensors)
