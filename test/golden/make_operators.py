"""Calls of ATen operators with their results, gradients and changed arguments, by PyTorch.

The calls come from PyTorch's own database of operator samples, recorded with their exact overload and arguments: once
as the front end makes them (composite operators), once below autograd (the kernels), and once during backward. Added
to them are calls written below (random numbers, optimisers, recurrent layers, sparse tensors) and the in-place,
copying and `out` forms of recorded calls. Every call is then made again from what is stored: its results then are
the golden values.

Run it with the Python of bench/requirements.txt. The database also needs numpy and expecttest, which the benchmarks'
environment must not have (PyTorch would load them), so they go into a folder of their own:

    pip install --target golden-packages numpy==2.4.6 expecttest==0.3.0
    export OMP_NUM_THREADS=1 PYTHONPATH=golden-packages
    bench/.venv/bin/python -W ignore test/golden/make_operators.py

It takes about five minutes and writes operators.json. With --dropped it lists the calls that gave no golden values.
"""

import base64
import ctypes
import json
import math
import os
import random
import sys
import warnings
from collections import Counter, defaultdict

import numpy
import torch
from torch.testing import make_tensor
from torch.testing._internal import common_methods_invocations as database
from torch.testing._internal.opinfo import core
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

# Several dtypes in one group take turns, operator by operator.
DTYPE_GROUPS = [
    [torch.float32],
    [torch.float64],
    [torch.bfloat16, torch.float16],
    [torch.complex128, torch.complex64],
    [torch.int64, torch.int32, torch.uint8],
    [torch.bool],
]
STORED_DTYPES = {dtype for group in DTYPE_GROUPS for dtype in group} | {torch.int8, torch.int16}
# How many calls of one overload are kept for a dtype, when their arguments differ in kind.
LIMITS = defaultdict(lambda: 1, {torch.float32: 3})
MOST_ELEMENTS = 200
MOST_STORED_BYTES = 1600
MOST_SAMPLES = 60

# Their results are memory that nobody wrote, or depend on more than the arguments.
SKIPPED_OPERATORS = {"aten::_efficientzerotensor", "aten::data_ptr", "aten::_debug_has_internal_overlap"}
# Their samples name lengths that only fit the database's own sizes, and the kernel does not check them.
ORIGINAL_SIZES = {"_segment_reduce"}
# LibTorch says this once in a process, and test/torch/operators.test.ts waits for it.
KEPT_FOR_OTHERS = ["Sparse CSR"]
# Vectors that are determined but for a sign or phase, which another processor's code may choose otherwise.
UP_TO_A_PHASE = {
    "_linalg_eigh": [1],
    "_linalg_svd": [0, 2],
    "linalg_eig": [1],
    "linalg_eigh": [1],
    "linalg_svd": [0, 2],
    "svd": [0, 2],
}

DISPATCHED = set(torch._C._dispatch_get_all_op_names())
DTYPE_OF_CODE = {aten.promote_types(dtype, dtype): dtype for dtype in STORED_DTYPES}


class Unstorable(Exception):
    """A value that the file has no form for."""


class Recorder(TorchDispatchMode):
    """Notes each operator that is called, with copies of its arguments."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.namespace == "aten":
            self.calls.append((func, copied(list(args)), copied(kwargs)))
        return func(*args, **kwargs)


def copied(value):
    """The same value; tensors are copied with their strides and without lazy conjugation."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        if value.layout != torch.strided or value.dtype not in STORED_DTYPES:
            return value.clone() if value.layout == torch.sparse_coo else value
        return from_span(*span_of(value))
    if isinstance(value, (list, tuple)):
        return [copied(item) for item in value]
    if isinstance(value, dict):
        return {name: copied(item) for name, item in value.items()}
    return value


def span_of(tensor):
    """The bytes between a tensor's first and last element in memory, and how they are read."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    shape, strides = list(tensor.shape), list(tensor.stride())
    if 0 in shape or tensor.is_contiguous():
        flat, strides = tensor.reshape(-1).clone(memory_format=torch.contiguous_format), None
    else:
        length = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides))
        if length * tensor.element_size() > 4 * MOST_STORED_BYTES:
            raise Unstorable("a view far apart")
        # What lies between the elements is not the tensor's.
        places = torch.arange(length).as_strided(shape, strides)
        flat = torch.zeros(length, dtype=tensor.dtype)
        flat[places.reshape(-1)] = tensor.reshape(-1)
    return tensor.dtype, shape, bytes(flat.view(torch.uint8).tolist()), strides


def from_span(dtype, shape, data, strides):
    if not data:
        return torch.empty(shape, dtype=dtype)
    flat = torch.frombuffer(bytearray(data), dtype=dtype).clone()
    return flat.reshape(shape) if strides is None else flat.as_strided(shape, strides)


def base_name(func):
    return func._schema.name.removeprefix("aten::")


def full_name(func):
    overload = func._schema.overload_name
    return base_name(func) + ("." + overload if overload else "")


def takes_scalar(type_):
    """Whether a schema type is Scalar, or a tensor that a number may stand for."""
    if isinstance(type_, (torch.OptionalType, torch.ListType)):
        return takes_scalar(type_.getElementType())
    return isinstance(type_, (torch.NumberType, torch.TensorType))


def as_javascript_has_it(value, type_):
    """JavaScript cannot tell 2 from 2.0: where both would do, it passes the integer."""
    if isinstance(value, list):
        items = [as_javascript_has_it(item, type_) for item in value]
        # All items of a list of numbers are integers or none is.
        if any(isinstance(item, float) for item in items):
            items = [float(item) if type(item) is int else item for item in items]
        return items
    if not isinstance(value, float) or not takes_scalar(type_) or str(value) == "-0.0":
        return value
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


class Store:
    """The tensors of the file, each once."""

    def __init__(self):
        self.entries = []
        self.indices = {}

    def add(self, tensor):
        dtype, shape, data, strides = span_of(tensor)
        if dtype not in STORED_DTYPES:
            raise Unstorable(str(dtype))
        if len(data) > MOST_STORED_BYTES:
            raise Unstorable("a large tensor")
        entry = [str(dtype).removeprefix("torch."), shape, base64.b64encode(data).decode()]
        if strides is not None:
            entry.append(strides)
        key = json.dumps(entry)
        if key not in self.indices:
            self.indices[key] = len(self.entries)
            self.entries.append(entry)
        return self.indices[key]

    def encode(self, value):
        if isinstance(value, torch.Tensor):
            return self.encode_tensor(value)
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, int):
            return value if abs(value) < 2**53 else {"integer": str(value)}
        if isinstance(value, float):
            return value if math.isfinite(value) and str(value) != "-0.0" else {"number": str(value)}
        if isinstance(value, complex):
            return {"complex": [self.encode(value.real), self.encode(value.imag)]}
        if isinstance(value, (torch.dtype, torch.layout, torch.memory_format)):
            return str(value).removeprefix("torch.")
        if isinstance(value, torch.device):
            return str(value)
        if isinstance(value, torch.Generator):
            return {"generator": value.initial_seed()}
        if isinstance(value, (list, tuple)):
            return [self.encode(item) for item in value]
        raise Unstorable(type(value).__name__)

    def encode_tensor(self, tensor):
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.device.type != "cpu" or tensor.is_quantized:
            raise Unstorable("no plain tensor")
        if tensor.layout == torch.strided:
            return {"tensor": self.add(tensor)}
        if tensor.layout != torch.sparse_coo:
            raise Unstorable(str(tensor.layout))
        return {
            "sparse": [self.add(tensor._indices()), self.add(tensor._values())],
            "shape": list(tensor.shape),
            "coalesced": tensor.is_coalesced(),
        }

    def decode(self, value):
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "tensor" in value:
            name, shape, data, *strides = self.entries[value["tensor"]]
            return from_span(getattr(torch, name), shape, base64.b64decode(data), strides[0] if strides else None)
        if "sparse" in value:
            indices, values = (self.decode({"tensor": index}) for index in value["sparse"])
            return torch.sparse_coo_tensor(indices, values, value["shape"], is_coalesced=value["coalesced"])
        if "integer" in value:
            return int(value["integer"])
        if "number" in value:
            return float(value["number"])
        if "complex" in value:
            return complex(*self.decode(value["complex"]))
        return torch.Generator().manual_seed(value["generator"])


NAMED_VALUES = {
    str(value).removeprefix("torch."): value
    for value in vars(torch).values()
    if isinstance(value, (torch.dtype, torch.layout, torch.memory_format))
}


def typed(value, type_):
    """The Python value behind a stored string, where the schema does not want a string."""
    if isinstance(type_, torch.OptionalType):
        return typed(value, type_.getElementType())
    return (
        NAMED_VALUES.get(value, value) if isinstance(value, str) and not isinstance(type_, torch.StringType) else value
    )


store = Store()

ZEROS, FIVES = 0xFF, 0xAA


def fill_unwritten_memory(filler):
    """Memory that nobody wrote holds the inverse of this byte, from now on (glibc)."""
    m_perturb = -6
    ctypes.CDLL(None).mallopt(m_perturb, filler)


def tensors_in(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for item in value for tensor in tensors_in(item)] if isinstance(value, (list, tuple)) else []


def results_of(func, returned):
    returns = func._schema.returns
    results = [] if not returns else [returned] if len(returns) == 1 else list(returned)
    return [
        DTYPE_OF_CODE[result] if str(wanted.real_type) == "ScalarType" else result
        for result, wanted in zip(results, returns)
    ]


def is_written(argument):
    return argument.alias_info is not None and argument.alias_info.is_write


class Warned:
    """Notes whether LibTorch or PyTorch warned, and keeps it off the screen."""

    file = os.memfd_create("messages")

    def __enter__(self):
        self.catcher = warnings.catch_warnings(record=True)
        self.caught = self.catcher.__enter__()
        warnings.simplefilter("always")
        # Called by way of `torch.ops`, LibTorch warns on standard error.
        self.stderr = os.dup(2)
        os.dup2(self.file, 2)
        self.start = os.lseek(self.file, 0, os.SEEK_END)
        return self

    def __exit__(self, *error):
        os.dup2(self.stderr, 2)
        os.close(self.stderr)
        self.catcher.__exit__(*error)
        os.lseek(self.file, self.start, os.SEEK_SET)
        self.text = "".join(str(warning.message) for warning in self.caught) + os.read(self.file, 10**6).decode()


class Call:
    """One call in stored form, and what it gives."""

    def __init__(self, func, args, kwargs):
        self.func = func
        schema = {argument.name: argument for argument in func._schema.arguments}
        positional = [argument for argument in func._schema.arguments if not argument.kwarg_only]
        self.args = [
            store.encode(as_javascript_has_it(value, argument.type)) for value, argument in zip(args, positional)
        ]
        self.kwargs = {
            name: store.encode(as_javascript_has_it(value, schema[name].type)) for name, value in kwargs.items()
        }
        self.schema = schema
        self.positional = positional

    def arguments(self):
        args = [typed(store.decode(value), argument.type) for value, argument in zip(self.args, self.positional)]
        kwargs = {name: typed(store.decode(value), self.schema[name].type) for name, value in self.kwargs.items()}
        return args, kwargs

    def make(self, seed, filler):
        """Results and written arguments in stored form."""
        args, kwargs = self.arguments()
        fill_unwritten_memory(filler)
        try:
            torch.manual_seed(seed)
            with torch.no_grad():
                returned = self.func(*args, **kwargs)
        finally:
            fill_unwritten_memory(ZEROS)
        results = [store.encode(value) for value in results_of(self.func, returned)]
        written = {str(i): store.encode(args[i]) for i in range(len(args)) if is_written(self.positional[i])}
        written |= {name: store.encode(value) for name, value in kwargs.items() if is_written(self.schema[name])}
        return results, written

    def gradients(self):
        """The gradient of each floating tensor among the arguments, in their order, for fixed weights of results."""
        args, kwargs = self.arguments()
        leaves = []

        def leaf(value, written):
            if isinstance(value, list):
                return [leaf(item, written) for item in value]
            if not isinstance(value, torch.Tensor) or not (value.is_floating_point() or value.is_complex()):
                return value
            leaves.append(value.requires_grad_())
            return value.clone() if written else value

        args = [leaf(value, is_written(argument)) for value, argument in zip(args, self.positional)]
        kwargs = {name: leaf(value, is_written(self.schema[name])) for name, value in kwargs.items()}
        torch.manual_seed(0)
        returned = self.func(*args, **kwargs)
        outputs = [tensor for tensor in tensors_in(results_of(self.func, returned)) if tensor.requires_grad]
        if not outputs or any(tensor.layout != torch.strided for tensor in outputs + leaves):
            return None
        weights = [weights_for(output, position) for position, output in enumerate(outputs)]
        found = torch.autograd.grad(outputs, leaves, weights, allow_unused=True)
        if any(gradient is not None and gradient.layout != torch.strided for gradient in found):
            return None
        return [None if gradient is None else store.add(gradient) for gradient in found]


def weights_for(output, position):
    """Weights that JavaScript can make too: w(k) = ((7 k + 3 position) mod 11 - 5) / 8 for element k."""
    index = torch.arange(output.numel(), dtype=torch.float64)

    def weight(shift):
        return ((7 * (index + shift) + 3 * position) % 11 - 5) / 8

    values = torch.complex(weight(0), weight(3)) if output.is_complex() else weight(0)
    return values.reshape(output.shape).to(output.dtype)


def cleared(result):
    """The stored form of a result with nothing but its dtype, shape and strides."""
    return store.encode(store.decode(result).zero_())


def stored_case(call):
    """A call with its results as it goes into the file."""
    func = call.func
    first = call.make(seed=0, filler=ZEROS)
    again = call.make(seed=0, filler=FIVES)
    other = call.make(seed=1, filler=ZEROS)
    loose = [i for i, (a, b) in enumerate(zip(first[0], again[0])) if a != b]
    if first[1] != again[1] and not loose:
        raise Unstorable("written arguments that nothing determines")
    seeded = not loose and first != other or '"generator"' in json.dumps([call.args, call.kwargs])
    case = {"op": full_name(func), "args": call.args}
    NAMES[full_name(func)] = [argument.name for argument in call.positional]
    if call.kwargs:
        case["kwargs"] = call.kwargs
    case["results"] = [cleared(result) if i in loose else result for i, result in enumerate(first[0])]
    if first[1] and not loose:
        case["written"] = first[1]
    if any(argument.kwarg_only and is_written(argument) for argument in func._schema.arguments):
        case["toGiven"] = True
    if loose:
        case["shapeOnly"] = loose
    if seeded:
        case["seeded"] = True
    phases = UP_TO_A_PHASE.get(base_name(func))
    if phases:
        case["phases"] = phases
    exact = (torch.float64, torch.complex128)
    tensors = tensors_in(call.arguments()[0])
    if not loose and not phases and any(tensor.dtype in exact for tensor in tensors):
        try:
            gradients = call.gradients()
            if gradients is not None and gradients == call.gradients():
                case["gradients"] = gradients
        except (RuntimeError, NotImplementedError):
            pass
    return case


def kind_of(value):
    """What kind of argument this is, as far as choosing an overload and converting the value goes."""
    if isinstance(value, list):
        return ("list", min(len(value), 2), kind_of(value[0]) if value else None)
    if isinstance(value, dict) and "tensor" in value:
        dtype, shape, *_ = store.entries[value["tensor"]]
        return ("tensor", dtype, 0 if not shape else 1, 0 in shape)
    if isinstance(value, dict):
        return tuple(value)
    return type(value).__name__ if not isinstance(value, (str, bool)) else value


# The positional arguments of each overload.
NAMES = {}


class Cases:
    """The calls that are kept."""

    def __init__(self):
        self.cases = []
        self.counts = Counter()
        self.seen = set()
        self.dropped = Counter()
        # The first float32 call of each overload: its other forms are derived from it.
        self.first = {}

    def add(self, func, args, kwargs, dtype):
        name = func._schema.name
        # TorchScript's own operators on numbers and lists have the same names and are no part of the dispatcher.
        if name in SKIPPED_OPERATORS or f"aten::{full_name(func)}" not in DISPATCHED:
            return False
        is_sparse = any(tensor.layout != torch.strided for tensor in tensors_in([args, kwargs]))
        count = (full_name(func), dtype, is_sparse)
        if self.counts[count] >= LIMITS[dtype]:
            return False
        if sum(tensor.numel() for tensor in tensors_in([args, kwargs])) > MOST_ELEMENTS:
            return False
        before = len(store.entries)
        try:
            call = Call(func, args, kwargs)
            key = (*count, tuple(map(kind_of, call.args)), repr(call.kwargs))
            if key in self.seen:
                return False
            self.seen.add(key)
            with Warned() as warned:
                case = stored_case(call)
            if any(text in warned.text for text in KEPT_FOR_OTHERS):
                raise Unstorable("a warning that another test waits for")
            if warned.text:
                case["warns"] = True
        except Exception as error:  # Whatever a call says, it is no example then.
            self.dropped[f"{full_name(func)}: {type(error).__name__}: {str(error).partition(chr(10))[0][:80]}"] += 1
            self.forget(before)
            return False
        self.counts[count] += 1
        case["dtype"] = str(dtype).removeprefix("torch.")
        self.cases.append(case)
        if dtype == torch.float32 and not is_sparse:
            self.first.setdefault(func, (args, kwargs))
        return True

    @staticmethod
    def forget(count):
        for entry in store.entries[count:]:
            del store.indices[json.dumps(entry)]
        del store.entries[count:]


cases = Cases()


def seed_all(seed):
    torch.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed)


def set_sizes(small):
    """The sizes that the database builds its samples with."""
    for module in (database, core):
        module.S, module.M, module.L, module.XS = (3, 4, 5, 2) if small else (5, 10, 20, 3)


def samples_of(info, dtype, **options):
    """Samples of one operator, those of about a dozen elements first."""
    for small in (False,) if info.name in ORIGINAL_SIZES else (True, False):
        set_sizes(small)
        seed_all(7)
        samples = []
        try:
            for sample in info.sample_inputs("cpu", dtype, requires_grad=False, **options):
                elements = sum(t.numel() for t in tensors_in([sample.input, list(sample.args), sample.kwargs]))
                samples.append((abs(math.log((elements + 0.1) / 16)), len(samples), sample))
                if len(samples) == MOST_SAMPLES:
                    break
        except Exception:  # Some samples need the original sizes.
            continue
        return [sample for _, _, sample in sorted(samples, key=lambda item: item[:2])]
    return []


def record(call, backward):
    """The operators that one call of the front end leads to: as called, below autograd, and in backward."""
    calls = []
    with torch.inference_mode(), Recorder(calls):
        call(lambda value: value)
    with torch.no_grad(), Recorder(calls):
        call(lambda value: value)
    if backward:
        leaves = []

        def leaf(value):
            if isinstance(value, (list, tuple)):
                return type(value)(leaf(item) for item in value) if not hasattr(value, "_fields") else value
            if isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex()):
                leaves.append(value.detach().requires_grad_())
                return leaves[-1]
            return value

        try:
            outputs = [tensor for tensor in tensors_in([call(leaf)]) if tensor.requires_grad]
            if outputs:
                weights = [weights_for(output, position) for position, output in enumerate(outputs)]
                with Recorder(calls):
                    torch.autograd.grad(outputs, leaves, weights, allow_unused=True)
        except (RuntimeError, NotImplementedError):
            pass
    return calls


def add_samples(info, dtypes, **options):
    for dtype in dtypes:
        for sample in samples_of(info, dtype, **options):
            variants = [info.op, info.inplace_variant]
            for alias in info.aliases:
                variants += [alias.op, alias.inplace_variant]
            for variant in filter(None, variants):

                def call(change, variant=variant, sample=sample):
                    kwargs = {
                        name: change(value) for name, value in sample.kwargs.items() if name != "disable_fastpath"
                    }
                    return variant(change(sample.input), *map(change, sample.args), **kwargs)

                try:
                    calls = record(call, dtype in (torch.float32, torch.float64) and variant is info.op)
                except Exception:  # A sample that this variant does not take.
                    continue
                for func, args, kwargs in calls:
                    cases.add(func, args, kwargs, dtype)


def derive():
    """The in-place, copying and `out` forms of calls that were kept."""
    for func, (args, kwargs) in list(cases.first.items()):
        name, overload = base_name(func), func._schema.overload_name or "default"
        for other in (name + "_", name + "_copy", name.removesuffix("_")):
            packet = getattr(aten, other, None)
            form = getattr(packet, overload, None) if packet else None
            if form is not None:
                cases.add(form, copied(args), copied(kwargs), torch.float32)
        wanted = [(a.name, str(a.type)) for a in func._schema.arguments]
        packet = getattr(aten, name)
        for candidate in packet.overloads():
            form = getattr(packet, candidate)
            out = [a for a in form._schema.arguments if a.kwarg_only and is_written(a)]
            rest = [(a.name, str(a.type)) for a in form._schema.arguments if a not in out]
            # Factories lose dtype, layout and device in their `out` form.
            if not out or [item for item in wanted if item in rest] != rest:
                continue
            given = {key: value for key, value in copied(kwargs).items() if key in {name for name, _ in rest}}
            try:
                with torch.no_grad():
                    results = results_of(func, func(*copied(args), **copied(kwargs)))
                    places = {a.name: copied_zeros(result) for a, result in zip(out, results)}
            except (RuntimeError, TypeError):  # A form that takes less, or a result that is no tensor.
                continue
            cases.add(form, copied(args), {**given, **places}, torch.float32)


def copied_zeros(result):
    if isinstance(result, (list, tuple)):
        return [torch.zeros_like(item) for item in result]
    return torch.zeros_like(result)


def add(dtype, op, /, *args, **kwargs):
    """Adds a call that the database does not lead to, or leads to with little to draw or compute."""
    name, _, overload = op.partition(".")
    cases.add(getattr(getattr(aten, name), overload or "default"), list(args), kwargs, dtype)


def maker(dtype, low, high):
    """Makes random tensors of the given shapes."""
    return lambda *shape: make_tensor(shape, dtype=dtype, device="cpu", low=low, high=high)


def add_random(dtype):
    """Random numbers from the default generator and from one of their own."""
    x, zeros = maker(dtype, 0.1, 0.9)(3, 7), torch.zeros(3, 7, dtype=dtype)
    for own in ({}, {"generator": torch.Generator().manual_seed(11)}):
        add(dtype, "bernoulli", x, **own)
        add(dtype, "bernoulli.p", x, 0.7, **own)
        add(dtype, "bernoulli_.Tensor", zeros, x, **own)
        add(dtype, "bernoulli_.float", zeros, 0.3, **own)
        add(dtype, "binomial", (x * 5).round() + 5, x, *own.values())
        add(dtype, "cauchy_", zeros, 0.5, 2.0, **own)
        add(dtype, "exponential_", zeros, **own)
        add(dtype, "geometric_", zeros, 0.4, **own)
        add(dtype, "log_normal_", zeros, **own)
        add(dtype, "multinomial", x, 3, False, **own)
        add(dtype, "multinomial", x[0].contiguous(), 9, True, **own)
        add(dtype, "normal.Tensor_Tensor", x, x, **own)
        add(dtype, "normal.Tensor_float", x, 2.0, **own)
        add(dtype, "normal.float_Tensor", 0.5, x, **own)
        add(dtype, "normal.float_float", 0.5, 2.0, [20], dtype=dtype, **own)
        add(dtype, "normal_", zeros, 1.0, 3.0, **own)
        add(dtype, "poisson", x * 5, *own.values())
        add(dtype, "random_", zeros, **own)
        add(dtype, "random_.from", zeros, -3, 5, **own)
        add(dtype, "random_.to", zeros, 9, **own)
        add(dtype, "rrelu", x - 0.5, 0.1, 0.3, True, *own.values())
        add(dtype, "uniform_", zeros, -1.0, 2.0, **own)
        given = "generator" if own else ""
        for size in ([5], [4, 5]):
            add(dtype, f"rand.{given}", size, dtype=dtype, **own)
            # 16 elements and more take another way.
            add(dtype, f"randn.{given}", size, dtype=dtype, **own)
            add(dtype, f"randint.{given}", 10, size, dtype=dtype, **own)
            add(dtype, "randint.low_generator" if own else "randint.low", -5, 5, size, dtype=dtype, **own)
        add(dtype, f"randperm.{given}", 9, **own)
    for op in ("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout", "native_dropout", "dropout_"):
        add(dtype, op, x, 0.4, True)
    for op in ("rand_like", "randn_like", "_standard_gamma", "_sample_dirichlet"):
        add(dtype, op, x)
    add(dtype, "randint_like", x, 7)
    add(dtype, "randint_like.low_dtype", x, -7, 7)


def add_random_integers():
    for dtype in (torch.int64, torch.int32, torch.uint8, torch.bool):
        zeros = torch.zeros(12, dtype=dtype)
        add(dtype, "random_", zeros)
        add(dtype, "bernoulli_.float", zeros, 0.5)
    zeros = torch.zeros(6, dtype=torch.int64)
    add(torch.int64, "random_.to", zeros, 2**60)
    add(torch.int64, "random_.from", zeros, -(2**60), 2**60)
    add(torch.int32, "randint.low", -3, 100, [6], dtype=torch.int32)


def add_recurrent(dtype):
    make = maker(dtype, -1, 1)
    x, packed, batch_sizes = make(3, 2, 3), make(5, 3), torch.tensor([2, 2, 1])
    for op, gates in (("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1)):
        weights = [make(2 * gates, 3), make(2 * gates, 2), make(2 * gates), make(2 * gates)]
        state = [make(1, 2, 2), make(1, 2, 2)] if op == "lstm" else make(1, 2, 2)
        first = [part[0].clone() for part in state] if op == "lstm" else state[0].clone()
        add(dtype, f"{op}.input", x, state, weights, True, 1, 0.0, False, False, False)
        add(dtype, f"{op}.data", packed, batch_sizes, state, weights, True, 1, 0.0, False, False)
        add(dtype, f"{op}_cell", x[0].clone(), first, *weights)
    q = make(2, 3, 4)
    projections = [make(12, 4), make(12), make(4, 4), make(4)]
    add(dtype, "_native_multi_head_attention", q, q, q, 4, 2, *projections)


def add_optimisers(dtype):
    make = maker(dtype, 0.1, 2)

    def state():
        return [make(2, 3), make(4)]

    steps = [torch.tensor(3.0), torch.tensor(3.0)]
    common = {"weight_decay": 0.1, "maximize": False}
    adam = {**common, "lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    for op in ("_fused_adam_", "_fused_adamw_"):
        add(dtype, op, state(), state(), state(), state(), [], steps, amsgrad=False, **adam)
        add(dtype, op, state(), state(), state(), state(), state(), steps, amsgrad=True, **adam)
    sgd = {"momentum": 0.9, "lr": 0.1, "dampening": 0.0, "nesterov": True, "is_first_step": False}
    add(dtype, "_fused_sgd_", state(), state(), state(), **common, **sgd)
    add(dtype, "_fused_adagrad_", state(), state(), state(), steps, lr=0.1, lr_decay=0.0, eps=1e-10, **common)


def add_sparse(dtype):
    make = maker(dtype, 1, 9)
    indices, values = torch.tensor([[0, 1, 1, 2], [2, 0, 2, 2]]), make(4)
    sparse = torch.sparse_coo_tensor(indices, values, (3, 3)).coalesce()
    # The entry [0, 2] twice.
    doubled = torch.sparse_coo_tensor(torch.tensor([[0, 1, 1, 0], [2, 0, 2, 2]]), values, (3, 3))
    dense = make(3, 3)
    add(dtype, "sparse_coo_tensor.indices", indices, values)
    add(dtype, "sparse_coo_tensor.indices_size", indices, values, [3, 4], is_coalesced=True)
    add(dtype, "_sparse_coo_tensor_unsafe", indices, values, [3, 3])
    for op in """
        coalesce indices values _indices _values _nnz is_coalesced sparse_dim dense_dim dim to_dense _to_dense
        t neg clone abs sqrt sum _sparse_sum isnan sin tanh relu zeros_like
    """.split():
        add(dtype, op, sparse)
        add(dtype, op, doubled)
    add(dtype, "_coalesce", doubled)
    for op in ("mm", "_sparse_mm", "mul.Tensor", "matmul"):
        add(dtype, op, sparse, dense)
        add(dtype, op, sparse, sparse)
    add(dtype, "add.Tensor", sparse, sparse, alpha=2)
    add(dtype, "add.Tensor", dense, sparse)
    add(dtype, "sub.Tensor", sparse, doubled)
    add(dtype, "mul.Scalar", sparse, 3)
    add(dtype, "div.Scalar", sparse, 2)
    add(dtype, "sspaddmm", sparse, sparse, dense)
    add(dtype, "_sparse_addmm", dense, sparse, dense)
    add(dtype, "addmm", dense, sparse, dense, beta=2, alpha=3)
    add(dtype, "hspmm", sparse, dense)
    add(dtype, "smm", sparse, dense)
    add(dtype, "sparse_mask", dense, sparse)
    add(dtype, "to_sparse", sparse.to_dense())
    add(dtype, "to_sparse.sparse_dim", dense, 1)
    add(dtype, "index_select", sparse, 0, torch.tensor([2, 0]))
    add(dtype, "_sparse_softmax.int", sparse, 1)
    add(dtype, "_sparse_log_softmax.int", sparse, 1)
    add(dtype, "_sparse_sum.dim", sparse, [0])
    add(dtype, "sparse_resize_", sparse, [4, 4], 2, 0)
    add(dtype, "transpose.int", sparse, 0, 1)
    add(dtype, "unsqueeze", sparse, 0)
    add(dtype, "cat", [sparse, sparse], 0)


def add_others(dtype):
    make = maker(dtype, 0.1, 2)
    x, square, image, volume = make(3, 4), make(3, 3), make(1, 4, 3, 3), make(1, 2, 3, 3, 3)
    labels, scores = torch.tensor([0, 3, 1]), make(3, 4).log_softmax(1)
    q, k, v = make(1, 2, 3, 4), make(1, 2, 5, 4), make(1, 2, 5, 4)
    for op in """
        dim is_complex is_contiguous is_floating_point is_inference is_pinned is_signed numel nuclear_norm qr rot90
        storage_offset zero
    """.split():
        add(dtype, op, x)
    add(dtype, "contiguous", x.t())
    add(dtype, "is_contiguous", x.t())
    add(dtype, "is_same_size", x, square)
    add(dtype, "is_set_to", x, square)
    add(dtype, "size.int", x, 1)
    add(dtype, "stride.int", x, 1)
    add(dtype, "item", make(1))
    add(dtype, "copy", x, make(3, 4))
    add(dtype, "resize", x, [2, 3])
    add(dtype, "resize_as", x, square)
    add(dtype, "set_.source_Tensor", x, square)
    add(dtype, "type_as", x, labels)
    add(dtype, "fill_diagonal_", square, 2.5)
    add(dtype, "flatten_dense_tensors", [x, square])
    add(dtype, "unflatten_dense_tensors", make(13), [make(3, 3), make(4)])
    add(dtype, "index_reduce", x, 0, torch.tensor([0, 2, 0]), make(3, 4), "prod")
    add(dtype, "pad_sequence", [x, make(2, 4)], True, -1.0)
    add(dtype, "range", 1.5, 4.5, dtype=dtype)
    add(dtype, "unique_dim_consecutive", torch.cat([x[:1], x[:1], x]), 0, True, True)
    add(dtype, "unsafe_split_with_sizes", x, [1, 3], 1)

    add(dtype, "chain_matmul", [make(2, 3), make(3, 4), make(4, 2)])
    add(dtype, "det", square)
    add(dtype, "frobenius_norm.dim", x, [1], True)
    add(dtype, "ger", x[0].clone(), x[1].clone())
    add(dtype, "inverse", square)
    add(dtype, "linalg_matmul", square, x)
    add(dtype, "lu_solve", x, *torch.linalg.lu_factor(square))
    add(dtype, "matrix_power", square, 3)
    add(dtype, "norm_except_dim", x, 2, 0)
    add(dtype, "orgqr", *torch.geqrf(square))
    add(dtype, "slogdet", square)
    add(dtype, "triangular_solve", x, square)
    add(dtype, "vander", x[0].clone())

    add(dtype, "adaptive_max_pool3d", volume, [2, 2, 2])
    add(dtype, "affine_grid_generator", make(1, 2, 3), [1, 1, 2, 3], True)
    add(dtype, "channel_shuffle", image, 2)
    add(dtype, "native_channel_shuffle", image, 2)
    add(dtype, "conv_tbc", make(4, 2, 3), make(2, 3, 2), make(2), 1)
    add(dtype, "slow_conv3d", volume, make(1, 2, 2, 2, 2), [2, 2, 2])
    add(dtype, "slow_conv_dilated2d", image, make(2, 4, 2, 2), [2, 2])
    add(dtype, "slow_conv_dilated3d", volume, make(1, 2, 2, 2, 2), [2, 2, 2])
    add(dtype, "slow_conv_transpose2d", image, make(4, 1, 2, 2), [2, 2])
    add(dtype, "slow_conv_transpose3d", volume, make(2, 1, 2, 2, 2), [2, 2, 2])
    add(dtype, "thnn_conv2d", image, make(2, 4, 2, 2), [2, 2])
    for op in ("upsample_nearest2d", "upsample_bilinear2d"):
        corners = [False] if op == "upsample_bilinear2d" else []
        add(dtype, f"{op}.vec", image, None, *corners, [2.0, 2.0])
        add(dtype, f"{op}.vec", image, [3, 5], *corners, None)
    add(dtype, "upsample_trilinear3d", volume, [4, 2, 3], False)

    add(dtype, "embedding_renorm", x, labels[[0, 2]], 1.0, 2.0)
    add(dtype, "fake_quantize_per_tensor_affine", x, 0.1, 2, 0, 15)
    scales, zero_points = torch.full((3,), 0.1), torch.zeros(3, dtype=torch.int32)
    add(dtype, "fake_quantize_per_channel_affine", x, scales, zero_points, 0, 0, 15)
    add(dtype, "nll_loss", scores, labels)
    add(dtype, "nll_loss2d", make(1, 4, 2, 2), torch.tensor([[[0, 3], [1, 2]]]))
    frames, targets = make(4, 2, 3).log_softmax(2), torch.tensor([[1, 2], [2, 1]])
    add(dtype, "ctc_loss.Tensor", frames, targets, torch.tensor([4, 3]), torch.tensor([2, 1]))
    add(dtype, "ctc_loss.IntList", frames, targets, [4, 3], [2, 1])
    add(dtype, "scaled_dot_product_attention", q, k, v)
    add(dtype, "scaled_dot_product_attention", q, q, q, is_causal=True, scale=0.5)

    window = torch.ones(4, dtype=dtype)
    add(dtype, "stft", make(12), 4, None, None, window, False, None, True)
    spectrum = torch.stft(make(12), 4, window=window, return_complex=True)
    add(dtype, "istft", spectrum, 4, None, None, window)
    for op in ("bartlett_window", "blackman_window", "hamming_window", "hann_window", "kaiser_window"):
        add(dtype, op, 6, dtype=dtype)
        add(dtype, f"{op}.periodic", 6, False, dtype=dtype)
    for op in ("fft_fftfreq", "fft_rfftfreq"):
        add(dtype, op, 5, 0.5, dtype=dtype)


def add_arguments():
    """Arguments that are seldom passed: large integers, infinities, a negative zero, dtypes, lists of mixed numbers."""
    add(torch.int64, "full", [2], 2**53 + 1)
    add(torch.int64, "item", torch.tensor([2**60]))
    add(torch.float32, "full", [2], math.inf)
    add(torch.float32, "full", [2], math.nan)
    add(torch.float32, "copysign.Scalar", torch.tensor([2.0, -3.0]), -0.0)
    add(torch.float32, "is_neg", torch.ones(2))
    add(torch.complex64, "conj", torch.tensor([1 + 2j, 3j]))
    add(torch.complex64, "is_conj", torch.tensor([1 + 2j, 3j]))
    add(torch.complex64, "linspace", 1j, 2, 3, dtype=torch.complex64)
    add(torch.float32, "can_cast", torch.float32, torch.int64)
    add(torch.float16, "promote_types", torch.float16, torch.int64)
    add(torch.int64, "result_type.Scalar", torch.tensor([1]), 0.5)
    for dtype, scalars in (
        (torch.complex64, [1 + 2j, 0.5j]),
        (torch.float32, [1 + 2j, 0.5j]),
        (torch.float32, [True, False]),
        (torch.int64, [1, 2.5]),
    ):
        add(dtype, "_foreach_add.ScalarList", [torch.ones(2, dtype=dtype), torch.full((1,), 3, dtype=dtype)], scalars)


def dtypes_for(info, turn):
    """One dtype of each group that the operator takes."""
    for group in DTYPE_GROUPS:
        taken = [dtype for dtype in group if dtype in info.dtypes]
        if taken:
            yield taken[turn % len(taken)]


def main():
    torch.set_num_threads(1)
    fill_unwritten_memory(ZEROS)
    with Warned():
        collect()
    write()


def collect():
    torch.set_warn_always(True)
    torch.sparse.check_sparse_tensor_invariants.disable()
    seed_all(5)
    for dtype in (torch.float32, torch.float64):
        add_random(dtype)
        add_recurrent(dtype)
        add_optimisers(dtype)
        add_others(dtype)
    for dtype in (torch.float32, torch.float64, torch.int64, torch.complex64):
        add_sparse(dtype)
    add_random_integers()
    add_arguments()
    for turn, info in enumerate(database.op_db):
        add_samples(info, list(dtypes_for(info, turn)))
        if turn % 50 == 0:
            print(f"{turn} of {len(database.op_db)}: {len(cases.cases)} calls", flush=True)
    for turn, info in enumerate(
        database.foreach_unary_op_db
        + database.foreach_binary_op_db
        + database.foreach_pointwise_op_db
        + database.foreach_reduce_op_db
        + database.foreach_other_op_db
    ):
        add_samples(info, list(dtypes_for(info, turn))[:4], num_input_tensors=[3])
    derive()


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def lines(items):
    return ",\n".join(items)


def write():
    ordered = sorted(cases.cases, key=lambda case: case["op"])
    # Tensors that belong to calls which were given up are left out.
    used = {}

    def renumber(value):
        if isinstance(value, list):
            return [renumber(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "tensor" in value:
            return {"tensor": place(value["tensor"])}
        if "sparse" in value:
            return {**value, "sparse": [place(index) for index in value["sparse"]]}
        return {key: renumber(item) for key, item in value.items()}

    def place(index):
        return used.setdefault(index, len(used))

    finished = []
    for case in ordered:
        gradients = case.pop("gradients", None)
        case = renumber(case)
        if gradients is not None:
            case["gradients"] = [None if index is None else place(index) for index in gradients]
        finished.append(case)
    overloads = {case["op"] for case in finished}
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "operators.json")
    with open(path, "w") as out:
        version, capability = torch.__version__.split("+")[0], torch.backends.cpu.get_cpu_capability()
        out.write(f'{{"torch":"{version}","cpuCapability":"{capability}",\n"names":{{\n')
        out.write(lines(f"{json.dumps(op)}:{compact(names)}" for op, names in sorted(NAMES.items()) if op in overloads))
        out.write('\n},\n"tensors":[\n')
        out.write(lines(compact(store.entries[index]) for index in used))
        out.write('\n],\n"cases":[\n')
        out.write(lines(map(compact, finished)))
        out.write("\n]}\n")
    operators = {case["op"].split(".")[0] for case in finished}
    print(
        f"{len(operators)} operators, {len(overloads)} overloads, {len(finished)} calls, "
        f"{sum('gradients' in case for case in finished)} with gradients, "
        f"{sum('seeded' in case for case in finished)} seeded, {len(used)} tensors, "
        f"{os.path.getsize(path) / 1e6:.2f} MB"
    )
    if "--dropped" in sys.argv:
        for reason, count in sorted(cases.dropped.items()):
            print(count, reason)


main()
