"""Small TorchScript files, scripted and traced, and what PyTorch computes with them."""
import io
import json
import os
import zipfile
from enum import Enum
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor, _sources, nn

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "script")
expected = {"torch": torch.__version__.split("+")[0]}

# The files tell where their source was: by name only, so that they are the same from every folder.
lines_and_file = _sources.get_source_lines_and_file


def without_folder(*arguments):
    lines, number, file = lines_and_file(*arguments)
    return lines, number, os.path.basename(file)


_sources.get_source_lines_and_file = without_folder


def save(name, module, keep_sources=True):
    stored = io.BytesIO()
    torch.jit.save(module, stored)
    with zipfile.ZipFile(stored) as archive, zipfile.ZipFile(os.path.join(FOLDER, name + ".pt"), "w") as out:
        for entry in archive.infolist():
            if keep_sources or not entry.filename.endswith(".debug_pkl"):
                inner = entry.filename.split("/", 1)[1]
                out.writestr(zipfile.ZipInfo(f"{name}/{inner}"), archive.read(entry), zipfile.ZIP_STORED)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(x))


class Encoder(nn.Module):
    """Submodules, parameters, buffers, control flow, a default, a second method."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = Head()
        self.register_buffer("centre", torch.tensor([0.5, -0.25]))

    def forward(self, x: Tensor, normalise: bool = False, steps: int = 1) -> Tensor:
        y = self.head(self.encode(x)) - self.centre
        for i in range(steps - 1):
            y = y * 2 if bool(y.sum() > 0) else y - 1
        if normalise:
            y = nn.functional.normalize(y, dim=1)
        return y

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.body(x)))


torch.manual_seed(11)
encoder = Encoder()
with torch.no_grad():
    encoder.norm.running_mean.normal_()
    encoder.norm.running_var.uniform_(0.5, 2)
scripted = torch.jit.script(encoder)
save("encoder", scripted)
x = torch.randn(5, 3)
scripted.eval()
expected["encoder"] = {
    "input": x.tolist(),
    "parameters": {name: list(p.shape) for name, p in encoder.named_parameters()},
    "buffers": {name: list(b.shape) for name, b in encoder.named_buffers()},
    "evaluation": scripted(x).tolist(),
    "normalised": scripted(x, True).tolist(),
    "steps": scripted(x, steps=3).tolist(),
    "encoded": scripted.encode(x).tolist(),
}
scripted(x).sum().backward()
expected["encoder"]["bias_gradient"] = scripted.head.linear.bias.grad.tolist()
scripted.train()
expected["encoder"]["training"] = scripted(x).tolist()
expected["encoder"]["running_mean"] = scripted.norm.running_mean.tolist()


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.second = nn.Conv2d(2, 3, 3, stride=2)

    def forward(self, x):
        y = torch.relu(self.first(x))
        return y, {"features": self.second(y).mean([2, 3]), "input": x}


torch.manual_seed(12)
image = torch.randn(2, 1, 6, 6)
traced = torch.jit.trace(Convolutions(), image, strict=False)
# A traced module's sources are whole call stacks, with folders.
save("traced", traced, keep_sources=False)
other = torch.randn(1, 1, 5, 7)
maps, named = traced(other)
expected["traced"] = {
    "input": other.tolist(),
    "maps": maps.tolist(),
    "features": named["features"].tolist(),
}


class Colour(Enum):
    RED = "r"
    BLUE = "b"


class Pair(NamedTuple):
    value: Tensor
    count: int


class Values(nn.Module):
    """One method for each kind of argument and result."""

    def forward(self, x: Tensor) -> None:
        pass

    @torch.jit.export
    def integer(self, value: int) -> int:
        return value

    @torch.jit.export
    def number(self, value: float) -> float:
        return value / 2

    @torch.jit.export
    def boolean(self, value: bool) -> bool:
        return not value

    @torch.jit.export
    def string(self, value: str) -> str:
        return value + "!"

    @torch.jit.export
    def complexNumber(self, value: complex) -> complex:
        return value * 1j

    @torch.jit.export
    def device(self, value: torch.device) -> torch.device:
        return value

    @torch.jit.export
    def optional(self, x: Optional[Tensor] = None, scale: Optional[float] = None) -> Optional[Tensor]:
        if x is None:
            return None
        return x if scale is None else x * scale

    @torch.jit.export
    def integers(self, values: List[int]) -> List[int]:
        return values + [len(values)]

    @torch.jit.export
    def numbers(self, values: List[float]) -> List[float]:
        return [value * 2 for value in values]

    @torch.jit.export
    def nested(self, values: List[List[str]]) -> List[List[str]]:
        return [row[::-1] for row in values]

    @torch.jit.export
    def tensors(self, values: List[Tensor]) -> List[Tensor]:
        return [value + 1 for value in values]

    @torch.jit.export
    def optionals(self, values: List[Optional[Tensor]]) -> List[bool]:
        return [value is None for value in values]

    @torch.jit.export
    def byName(self, values: Dict[str, Tensor]) -> Dict[str, Tensor]:
        return {name: value * 10 for name, value in values.items()}

    @torch.jit.export
    def byNumber(self, values: Dict[int, List[float]]) -> Dict[int, float]:
        return {key: sum(value) for key, value in values.items()}

    @torch.jit.export
    def pair(self, value: Tuple[Tensor, int]) -> Tuple[int, Tensor, Tuple[str, bool]]:
        return value[1] + 1, value[0], ("in", True)

    @torch.jit.export
    def named(self, value: Pair) -> Pair:
        return Pair(value.value * value.count, value.count + 1)

    @torch.jit.export
    def either(self, value: Union[int, float, str, Tensor]) -> str:
        if isinstance(value, int):
            return "int"
        if isinstance(value, float):
            return "float"
        if isinstance(value, str):
            return "str"
        return "Tensor"

    @torch.jit.export
    def anything(self, value: Any) -> Any:
        return value

    @torch.jit.export
    def kindOf(self, value: Any) -> str:
        if isinstance(value, List[int]):
            return "List[int]"
        if isinstance(value, Dict[str, Tensor]):
            return "Dict[str, Tensor]"
        if isinstance(value, Tuple[int, str]):
            return "Tuple[int, str]"
        return "something else"

    @torch.jit.export
    def colour(self, value: Colour) -> Colour:
        return Colour.BLUE if value == Colour.RED else Colour.RED

    @torch.jit.export
    def circle(self) -> List[Any]:
        values: List[Any] = [1, torch.ones(2)]
        values.append(values)
        return values

    @torch.jit.export
    def future(self, x: Tensor) -> torch.jit.Future[Tensor]:
        return torch.jit.fork(torch.neg, x)


save("values", torch.jit.script(Values()))


class Stateful(nn.Module):
    """Attributes that change, errors, work that takes a while."""

    calls: List[int]

    def __init__(self):
        super().__init__()
        self.calls = []
        self.last = 0

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.last + 1
        self.calls.append(self.last)
        return x + self.last

    @torch.jit.export
    def history(self) -> List[int]:
        return self.calls

    @torch.jit.export
    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return self.inner(a, b)

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        scaled = a * 2
        return torch.matmul(scaled, b)

    @torch.jit.export
    def refuse(self, value: int) -> int:
        if value < 0:
            raise ValueError("value must not be negative, found {}".format(value))
        return value

    @torch.jit.export
    def check(self, value: int) -> int:
        assert value != 3, "three is not allowed"
        return value

    @torch.jit.export
    def spin(self, x: Tensor, rounds: int) -> Tensor:
        for i in range(rounds):
            x = torch.matmul(x, x) / 2
        return x

    @torch.jit.export
    def modes(self, x: Tensor) -> Tuple[Tensor, bool]:
        y = torch.matmul(x, x)
        return y, y.requires_grad

    @torch.jit.export
    def attend(self, x: Tensor) -> Tensor:
        # No operator that TorchScript's own mixed precision knows: it is left to autocast, which keeps cast weights.
        return nn.functional.scaled_dot_product_attention(x, x, x)

    @torch.jit.export
    def warn(self, x: Tensor) -> Tensor:
        out = torch.zeros(3)
        return torch.add(x, x, out=out)


save("stateful", torch.jit.script(Stateful()))

with open(os.path.join(FOLDER, "expected.json"), "w") as out:
    json.dump(expected, out, indent=1)
    out.write("\n")
