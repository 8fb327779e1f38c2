"""Learning rates of a linear warm-up followed by a cosine, by PyTorch's own schedulers."""
import warnings

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from golden import write

warnings.filterwarnings("ignore")


def rates(warmup, total, start, end, lr):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    cosine = CosineAnnealingLR(optimizer, total - warmup, eta_min=end * lr)
    schedule = cosine
    if warmup:
        line = LinearLR(optimizer, start_factor=start, total_iters=warmup)
        schedule = SequentialLR(optimizer, [line, cosine], milestones=[warmup])
    found = []
    for _ in range(total + 1):
        found.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    return found


cases = [dict(warmup=w, total=t, start=s, end=e, lr=lr) for w, t, s, e, lr in
         [(5, 20, 0.1, 0.0, 0.3), (4, 12, 1 / 5, 0.05, 1e-3), (0, 10, 1.0, 0.0, 2.0), (1, 3, 0.5, 0.25, 0.1)]]
write(__file__, {}, {"cases": [{**case, "rates": rates(**case)} for case in cases]})
