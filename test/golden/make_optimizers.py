"""Parameters and state after each of five steps, for given gradients; the second parameter has none in step 2."""
import torch

from golden import write

shapes = [(3, 4), (4, 3, 2, 2), (5,)]
steps = 5
cases = {
    "sgd": (torch.optim.SGD, dict(lr=0.1)),
    "sgd_momentum": (torch.optim.SGD, dict(lr=0.1, momentum=0.9, weight_decay=0.01)),
    "sgd_dampening": (torch.optim.SGD, dict(lr=0.1, momentum=0.9, dampening=0.3)),
    "sgd_nesterov": (torch.optim.SGD, dict(lr=0.1, momentum=0.8, weight_decay=0.02, nesterov=True)),
    "sgd_maximize": (torch.optim.SGD, dict(lr=0.1, momentum=0.9, maximize=True)),
    "adamw": (torch.optim.AdamW, dict(lr=0.01)),
    "adamw_options": (torch.optim.AdamW, dict(lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)),
    "adamw_amsgrad": (torch.optim.AdamW, dict(lr=0.02, amsgrad=True)),
    "adamw_maximize": (torch.optim.AdamW, dict(lr=0.02, maximize=True)),
}

torch.manual_seed(4)
start = [torch.randn(shape) for shape in shapes]
gradients = [[torch.randn(shape) for shape in shapes] for _ in range(steps)]
tensors = {f"start.{i}": t for i, t in enumerate(start)}
tensors |= {f"gradient.{s}.{i}": g for s, list_ in enumerate(gradients) for i, g in enumerate(list_)}

for name, (make, options) in cases.items():
    parameters = [t.clone().requires_grad_() for t in start]
    # Two groups: the last parameter has a learning rate of its own.
    groups = [{"params": parameters[:2]}, {"params": parameters[2:], "lr": options["lr"] * 3}]
    optimizer = make(groups, **options, foreach=False)
    for step in range(steps):
        for index, parameter in enumerate(parameters):
            parameter.grad = None if step == 2 and index == 1 else gradients[step][index].clone()
        optimizer.step()
        if step in (0, steps - 1):
            tensors |= {f"{name}.{step}.{i}": p.detach().clone() for i, p in enumerate(parameters)}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if torch.is_tensor(value):
                tensors[f"{name}.state.{index}.{key}"] = value.clone()

values = {"steps": steps, "cases": {name: {"class": make.__name__, **options} for name, (make, options) in cases.items()}}

# One norm over all gradients.
for p in (1, 2, float("inf")):
    parameters = [t.clone().requires_grad_() for t in start]
    for parameter, gradient in zip(parameters, gradients[0]):
        parameter.grad = gradient.clone()
    tensors[f"clip.{p}.norm"] = torch.nn.utils.clip_grad_norm_(parameters, 1.5, norm_type=p)
    tensors |= {f"clip.{p}.{i}": q.grad for i, q in enumerate(parameters)}

write(__file__, tensors, values)
