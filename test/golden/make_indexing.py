"""What PyTorch makes of index expressions: parts, gradients, assignments and sums into parts, or the error."""
import json
import os
import random
import warnings

import torch

warnings.filterwarnings("ignore")
random.seed(11)

shapes = [[], [7], [1, 3], [0, 3], [2, 3], [3, 4, 2], [2, 3, 4], [2, 2, 3, 2], [2, 1, 3, 2]]
chance = random.random


def nested_positions(size, common):
    """Positions in a dimension of this size, of a shape that broadcasts with the others of the expression."""
    shape = [1 if chance() < 0.2 else length for length in common[random.randint(0, len(common) - 1) :]]

    def level(depth):
        if depth == len(shape):
            return random.randint(-size, size - 1)
        return [level(depth + 1) for _ in range(shape[depth])]

    return level(0)


def nested_mask(shape, trues):
    """A mask with so many entries on, or one, so that it broadcasts with the positions of the expression."""
    count = torch.Size(shape).numel()
    wanted = trues if trues <= count else min(1, count)
    flat = torch.zeros(count, dtype=torch.bool)
    flat[random.sample(range(count), wanted)] = True
    return flat.reshape(shape).tolist()


def random_slice(size):
    bound = lambda: None if chance() < 0.3 else random.randint(-size - 2, size + 2)
    return {"slice": [bound(), bound(), random.choice([None, 1, 1, 2, 3])]}


def random_tensor(nested):
    """Nested lists as they are, or as a tensor."""
    kind = random.choice(["list", "int64", "int64", "int32"])
    return nested if kind == "list" and isinstance(nested, list) else {"tensor": nested, "dtype": "int64" if kind == "list" else kind}


def random_index(shape):
    common = random.choice([[2], [3], [1], [2, 3], [3, 2], [0]]) if chance() < 0.95 else [2, 2, 2]
    items, dimension, has_rest = [], 0, False
    while True:
        kind = random.choices(
            ["int", "slice", "new", "rest", "bool", "positions", "mask", "scalar", "end"], [4, 4, 1.5, 1, 0.4, 5, 2, 0.3, 1.5]
        )[0]
        left = len(shape) - dimension
        # After '...' every dimension is named, so that what stands for which is known here.
        if (kind == "end" and not has_rest) or (left == 0 and chance() < 0.6):
            return items
        if kind == "new":
            items.append(None)
        elif kind == "bool":
            items.append(chance() < 0.7)
        elif kind == "rest" and not has_rest:
            has_rest = True
            items.append("...")
            dimension += random.randint(0, left)
        elif left > 0:
            size = shape[dimension]
            if kind == "slice":
                items.append(random_slice(size))
                dimension += 1
            elif kind == "mask":
                ndim = random.randint(1, min(left, 2))
                mask = nested_mask(shape[dimension : dimension + ndim], common[-1] if len(common) == 1 else 1)
                # PyTorch takes a list for one dimension when it measures '...', whatever the list is.
                is_list = chance() < 0.4 and ndim == 1
                items.append(mask if is_list else {"tensor": mask, "dtype": "bool"})
                dimension += ndim
            elif size > 0 and kind in ("int", "scalar"):
                position = random.randint(-size, size - 1)
                if kind == "scalar":
                    items.append({"tensor": position, "dtype": random.choice(["int64", "int32", "int16", "int8"])})
                else:
                    items.append(position)
                dimension += 1
            elif size > 0 and kind == "positions":
                items.append(random_tensor(nested_positions(size, common)))
                dimension += 1


def python_item(item):
    if item == "...":
        return ...
    if isinstance(item, dict) and "slice" in item:
        return slice(*item["slice"])
    if isinstance(item, dict):
        return torch.tensor(item["tensor"], dtype=getattr(torch, item["dtype"]))
    return item


def wholes(tensor):
    return [int(element) for element in tensor.flatten().tolist()]


def read(shape, index):
    x = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(shape).requires_grad_()
    part = x[index]
    (part * (torch.arange(part.numel(), dtype=torch.float64) + 1).reshape(part.shape)).sum().backward()
    is_view = part.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() if x.numel() > 0 else None
    return {"shape": list(part.shape), "values": wholes(part), "gradient": wholes(x.grad), "isView": is_view}


def random_value_shape(shape):
    """A shape that broadcasts to this one."""
    value = [1 if chance() < 0.2 else size for size in shape[random.randint(0, len(shape)) if chance() < 0.5 else 0 :]]
    return [1] * random.randint(1, 2) + value if chance() < 0.15 else value


def write(shape, index, value_shape):
    weight = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(shape) + 1
    base = (weight * 100).requires_grad_()
    value = (-torch.arange(torch.Size(value_shape).numel(), dtype=torch.float64) - 1).reshape(value_shape).requires_grad_()
    x = base * 1
    x[index] = value
    (x * weight).sum().backward()
    return {"values": wholes(x), "baseGradient": wholes(base.grad), "valueGradient": wholes(value.grad)}


def accumulate(shape, index, value_shape):
    count = torch.Size(shape).numel()
    places = torch.arange(count).reshape(shape)[index]
    base = (torch.arange(count, dtype=torch.float64) * 100).requires_grad_()
    value = (torch.arange(torch.Size(value_shape).numel(), dtype=torch.float64) + 1).reshape(value_shape).requires_grad_()
    ones = next((i for i, size in enumerate(value_shape) if size != 1), len(value_shape))
    spread = value.reshape(value_shape[ones:]).expand(places.shape).flatten()
    x = base.index_put((places.flatten(),), spread, accumulate=True)
    (x * (torch.arange(count) + 1)).sum().backward()
    return {"values": wholes(x), "valueGradient": wholes(value.grad)}


def case_of(shape, items):
    case = {"shape": shape, "index": items}
    index = tuple(python_item(item) for item in items)
    try:
        case["read"] = read(shape, index)
    except (IndexError, ValueError) as error:
        return {**case, "error": str(error)}
    value_shape = random_value_shape(case["read"]["shape"])
    case["valueShape"] = value_shape
    case["write"] = write(shape, index, value_shape)
    case["accumulate"] = accumulate(shape, index, value_shape)
    return case


cases, seen = [], set()
while len(cases) < 400:
    shape = random.choice(shapes)
    items = random_index(shape)
    key = json.dumps([shape, items])
    if key not in seen:
        seen.add(key)
        cases.append(case_of(shape, items))

position = lambda nested, dtype="int64": {"tensor": nested, "dtype": dtype}
for items in [
    [2], [-3], [0, 3], [0, 0, 4], [0, 0, 0, 0], [[0, 2]], [0, position([0, -4])], [[True, False, True]],
    [position([[True, False]], "bool")], [[0, 1], [0, 1, 2]], [position([0.0, 1.0], "float64")], [position([0, 1], "int16")],
    [{"slice": [None, None, -1]}], [{"slice": [None, None, 0]}], [False, [0, 1]], [position(True, "bool")], [position(1, "uint8")],
    [position([1, 0], "uint8")], [[]], [[[]]], [position(2)],
    [[[True, False, True], [False, True, False]], 1], [[[True, False, True], [False, True, False]], [0, 1, 3]], [position(0.0, "float32")],
]:
    cases.append(case_of([2, 3, 4], items))

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "indexing.json"), "w") as out:
    lines = ",\n".join(json.dumps(case) for case in cases)
    version = torch.__version__.split("+")[0]
    out.write(f'{{"torch": "{version}", "tensors": {{}}, "values": {{"cases": [\n{lines}\n]}}}}\n')
print(len(cases), sum("error" in case for case in cases))
