"""What crosses between a check in the grader and an answer in the sandbox: JSON and safetensors.

What may cross, in both directions: None, booleans, numbers, strings; lists, tuples, sets
and dictionaries of what may cross; tensors, and `Transformer` models with their gradients.
Towards an answer also: an activation cache, a random generator (as its state: a seed), and an
optimizer of `torch.optim` over the parameters of a model in the same call.
Whatever else an answer returns arrives as an `Unsendable`, which knows only the name of its type.

Nothing here runs code that a message brings: no pickle, no class or function by name but those
listed in this file. A message from the sandbox is hostile until `decode` has returned.
"""

import builtins
import copy
import functools
import json
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from utils.model import ActivationCache, Config, Transformer

MAX_REPLY = 128 * 1024**2  # bytes from the sandbox; the largest answer of the course is 17 million
MAX_TREE = 4 * 1024**2  # of these, bytes of JSON
MAX_TENSORS, MAX_MODELS = 10_000, 8  # in a message
MAX_KEYS = 10_000  # of all dictionaries and sets in a message
FREE = 100_000  # elements that any answer may return; beyond, as many times the reference's answer as
TIMES = 10
MAX_ELEMENT = 64  # bytes of an element; a part of a list takes up to 30 in JSON, and a word its length
LETTERS = 16  # that count for an element
KEY = 100  # elements that a key counts for: keys can be chosen to make a table of them slow
MAX_BITS = 14_000  # of an integer; Python reads and writes 4,300 digits
_LENGTHS = struct.Struct(">QQ")  # of the JSON, of the tensors
LENGTHS_SIZE = _LENGTHS.size

# Names of types beside those of Python and torch that a message may tell of.
_NAMES = ("very large int", "Transformer unlike its cfg", "odd tensor", "ActivationCache", "function",
          "module")
_DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
)


class WireError(Exception):
    """The message is not one that `encode` writes."""


class Unsendable:
    """Stands for a value that cannot cross. It equals nothing and computes nothing; what is left of
    the value is the name of its type, for messages."""

    @staticmethod
    def named(type_name: str) -> "Unsendable":
        return _unsendable_class(type_name)()


@functools.lru_cache(maxsize=64)
def _unsendable_class(type_name: str) -> type[Unsendable]:
    return type(type_name, (Unsendable,), {})


# Messages -----------------------------------------------------------------------------------


def pack(value: Any, reply: bool = False) -> bytes:
    """A value as one message. In a reply, what may not come from a submission is `Unsendable`.

    Raises TypeError for an optimizer that cannot cross."""
    writer = _Writer(value, reply)
    models = [writer.write_model(model) for model in writer.models]
    tree = json.dumps([models, writer.write(value)], separators=(",", ":")).encode()
    tensors = save(writer.tensors) if writer.tensors else b""
    return _LENGTHS.pack(len(tree), len(tensors)) + tree + tensors


class Allowance:
    """How much a reply may hold, in elements: each number of a tensor as often as it is mentioned, and each part of a
    list. What is small may be. Then `more` is asked, once, what the reference's own answer holds."""

    def __init__(self, more: Callable[[], int] = lambda: 0):
        self.left, self._more = FREE, [more]

    def need(self, elements: int) -> None:
        """Raise WireError if no so many are left."""
        if elements > self.left and self._more:
            self.left += TIMES * self._more.pop()()
        if elements > self.left:
            raise WireError("too large")

    def spend(self, elements: int) -> None:
        """Raises WireError if there are not so many left."""
        self.need(elements)
        self.left -= elements


def elements(value: Any) -> int:
    """What a value costs of an `Allowance`."""
    if isinstance(value, Tensor):
        return 1 + value.numel()
    if isinstance(value, Transformer):
        return 1 + sum(2 * W.numel() for W in value.state_dict().values())  # with gradients
    if isinstance(value, dict):
        return 1 + sum(KEY + elements(k) + elements(v) for k, v in value.items())
    if isinstance(value, list | tuple | set):
        return 1 + sum(elements(v) + KEY * isinstance(value, set) for v in value)
    return 1 + (len(value) // LETTERS if isinstance(value, str) else 0)


def unpack(message: bytes, trusted: bool = False, allowance: Allowance | None = None) -> Any:
    """The value in a message. Raises WireError for anything that `pack` would not write, or more than is allowed. Only
    a trusted message may build caches, generators and optimizers."""
    try:
        n_tree, n_tensors = _LENGTHS.unpack_from(message)
        body = memoryview(message)[LENGTHS_SIZE:]
        if len(body) != n_tree + n_tensors:
            raise WireError("lengths do not add up")
        models, tree = json.loads(bytes(body[:n_tree]), parse_constant=_no_constant)
        tensors = load(bytes(body[n_tree:])) if n_tensors else {}
        if not trusted and (len(tensors) > MAX_TENSORS or len(_list(models)) > MAX_MODELS):
            raise WireError("too many tensors or models")
        reader = _Reader(tensors, trusted, allowance or Allowance())
        reader.models = [reader.read_model(model) for model in _list(models)]
        return reader.read(tree)
    except WireError:
        raise
    except Exception as error:  # each way to be malformed raises another kind
        raise WireError(f"{type(error).__name__}: {error}") from None


def _no_constant(name: str) -> None:
    raise WireError(f"{name} is not JSON")


def send(write: Callable[[bytes], int], message: bytes) -> None:
    """Write all of a message. Raises OSError if nobody reads."""
    view = memoryview(message)
    while view:
        view = view[write(view) :]


def receive(read: Callable[[int], bytes], allowance: Allowance | None = None) -> bytes:
    """Read one message. Raises EOFError if the other side is gone, and WireError, before any of it
    is read, for a message of more than is allowed."""
    head = _exactly(read, LENGTHS_SIZE)
    n_tree, n_tensors = _LENGTHS.unpack(head)
    if allowance is not None:
        if n_tree > MAX_TREE or n_tree + n_tensors > MAX_REPLY:
            raise WireError("too large")
        allowance.need(math.ceil((n_tree + n_tensors) / MAX_ELEMENT))
    return head + _exactly(read, n_tree + n_tensors)


def _exactly(read: Callable[[int], bytes], n: int) -> bytes:
    parts = []
    while n:
        part = read(min(n, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


# Values -------------------------------------------------------------------------------------
#
# A message is [models, value]. In JSON, null, booleans, finite numbers and strings stand for
# themselves; everything else is an object with one key that names its kind. What is one object on
# this side (a model given twice, a tensor that is a model's weight) is one on the other.


class _Writer:
    def __init__(self, value: Any, reply: bool):
        self.reply = reply
        self.tensors: dict[str, Tensor] = {}
        self.keys: dict[int, str] = {}  # of tensors, by id
        self.seen: list[Tensor] = []  # kept, so that no id is given twice
        self.models: list[Transformer] = []
        for model in models_in(value):
            if model not in self.models and type(model) is Transformer and _fits(model):
                self.models.append(model)
        self.weights = {
            id(p): [i, name]
            for i, model in enumerate(self.models)
            for name, p in model.named_parameters()
        }

    def write(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, str):
            return value
        if kind is int:
            return value if value.bit_length() <= MAX_BITS else {"unsendable": "very large int"}
        if kind is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if kind is complex:
            return {"complex number": [self.write(value.real), self.write(value.imag)]}
        if kind in (list, tuple, set):
            return {kind.__name__: [self.write(v) for v in value]}
        if kind is dict:
            return {"dict": [[self.write(k), self.write(v)] for k, v in value.items()]}
        if id(value) in self.weights:
            return {"weight": self.weights[id(value)]}
        if isinstance(value, Tensor) and value.layout is torch.strided:
            if value.is_complex():
                return {"complex": self.store(torch.view_as_real(value.resolve_conj()))}
            if value.dtype in _DTYPES:
                return {"tensor": [self.store(value), value.requires_grad]}
        if kind is Transformer and value in self.models:
            return {"model": self.models.index(value)}
        if not self.reply:
            if kind is ActivationCache:
                return {"cache": [self.write(dict(value.items())), value.n_layers]}
            if kind is torch.Generator:
                return {"generator": self.store(value.get_state())}
            if isinstance(value, torch.optim.Optimizer):
                return {"optimizer": [kind.__name__, self.write(self.optimizer_state(value))]}
        return {"unsendable": _type_name(value)}

    def store(self, tensor: Tensor) -> str:
        key = self.keys.get(id(tensor))
        if key is None:
            key = self.keys[id(tensor)] = str(len(self.tensors))
            self.seen.append(tensor)
            self.tensors[key] = tensor.detach().clone(memory_format=torch.contiguous_format)
        return key

    def write_model(self, model: Transformer) -> dict[str, Any]:
        parameters = dict(model.named_parameters())
        return dict(
            config=model.config_dict(),
            weights={name: self.store(W) for name, W in model.state_dict(keep_vars=True).items()},
            grads={n: self.store(p.grad) for n, p in parameters.items() if p.grad is not None},
            frozen=[n for n, p in parameters.items() if not p.requires_grad],
            training=model.training,
            tokenizer=model.tokenizer is not None,
        )

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """An optimizer's state, its parameters named by their place in the models of the call."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        known = getattr(torch.optim, type(optimizer).__name__, None) is type(optimizer)
        if not known or any(id(p) not in self.weights for p in parameters):
            raise TypeError(
                "An optimizer crosses to an answer if it is one of torch.optim's and all its "
                "parameters belong to a model in the same call."
            )
        return {**optimizer.state_dict(), "places": [self.weights[id(p)] for p in parameters]}


class _Reader:
    def __init__(self, tensors: dict[str, Tensor], trusted: bool, allowance: Allowance):
        self.raw, self.trusted, self.allowance = tensors, trusted, allowance
        self.parameters: dict[int, dict[str, Tensor]] = {}  # of models, by their place
        self.taken: dict[str, Tensor] = {}
        self.models: list[Transformer] = []
        self.keys_left = math.inf if trusted else MAX_KEYS
        if any(t.dtype not in _DTYPES for t in tensors.values()):
            raise WireError("a type of number that is not ours")

    def read(self, node: Any) -> Any:
        self.spend(1)
        if node is None or isinstance(node, bool | int | float | str):
            self.spend(len(node) // LETTERS if isinstance(node, str) else 0)
            return node
        ((kind, body),) = node.items()
        if kind == "float":
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[body]
        if kind == "complex number":
            real, imag = map(self.read, _list(body))
            if type(real) is not float or type(imag) is not float:
                raise WireError("no complex number")
            return complex(real, imag)
        if kind in ("list", "tuple"):
            return {"list": list, "tuple": tuple}[kind](self.read(v) for v in _list(body))
        if kind in ("set", "dict"):
            self.spend(KEY * len(_list(body)))
            self.keys_left -= len(body)
            if self.keys_left < 0:  # keys can be chosen to make a table of them very slow
                raise WireError("too many keys")
            if kind == "set":
                return {self.read(v) for v in body}
            return {self.read(k): self.read(v) for k, v in map(_list, body)}
        if kind == "tensor":
            key, requires_grad = _list(body)
            tensor = self.tensor(key)
            return tensor.requires_grad_() if requires_grad is True else tensor
        if kind == "complex":
            return torch.view_as_complex(self.tensor(body))
        if kind == "weight":
            index, name = _list(body)
            model = self.models[index]
            if index not in self.parameters:
                self.parameters[index] = dict(model.named_parameters())
            weight = self.parameters[index][name]
            self.spend(weight.numel())
            return weight
        if kind == "model":
            model = self.models[body]
            self.spend(sum(W.numel() for W in model.parameters()))
            return model
        if kind == "unsendable":
            if type(body) is not str:
                raise WireError("no name of a type")
            return Unsendable.named(body if _is_known(body) else "type of its own")
        if not self.trusted:
            raise WireError(f"a {kind!r} may not come from a submission")
        if kind == "cache":
            return ActivationCache(self.read(body[0]), body[1])
        if kind == "generator":
            return torch.Generator().set_state(self.tensor(body))
        if kind == "optimizer":
            return self.read_optimizer(*body)
        raise WireError(f"no kind {kind!r}")

    def tensor(self, key: str) -> Tensor:
        """A tensor of the message, with memory of its own; the same one for the same key."""
        self.spend(self.raw[key].numel())
        if key not in self.taken:
            self.taken[key] = self.raw[key].clone()
        return self.taken[key]

    def spend(self, elements: int) -> None:
        if not self.trusted:
            self.allowance.spend(elements)

    def read_model(self, body: dict[str, Any]) -> Transformer:
        settings = body["config"]
        if set(settings) != {f.name for f in fields(Config)} or settings["n_layers"] not in range(65):
            raise WireError("no configuration of a model")
        skeleton = _skeleton(tuple(settings.items()))
        weights = {name: self.tensor(key) for name, key in body["weights"].items()}
        if _shapes(weights) != _shapes(skeleton.state_dict()):
            raise WireError("weights that do not fit the configuration")
        model = copy.deepcopy(skeleton).to_empty(device="cpu")  # as large as the message, no larger
        for name, W in model.state_dict(keep_vars=True).items():
            W.data = W.data.to(weights[name].dtype)
        model.load_state_dict(weights)
        parameters = dict(model.named_parameters())
        for name, key in body["grads"].items():
            weight = parameters[name]
            weight.grad = torch.empty_like(weight).copy_(_shaped(self.tensor(key), weight))
        for name in _list(body["frozen"]):
            parameters[name].requires_grad_(False)
        if body["tokenizer"] is True:
            from utils.corpus import load_tokenizer

            model.tokenizer = load_tokenizer()
        return model.train(body["training"] is True)

    def read_optimizer(self, name: str, node: Any) -> torch.optim.Optimizer:
        state = self.read(node)
        parameters = [dict(self.models[i].named_parameters())[name] for i, name in state.pop("places")]
        groups = [
            {**group, "params": [parameters[i] for i in group["params"]]}
            for group in state["param_groups"]
        ]
        optimizer = getattr(torch.optim, name)(groups, lr=groups[0]["lr"])
        optimizer.load_state_dict(state)
        return optimizer


def _shaped(tensor: Tensor, like: Tensor) -> Tensor:
    if tensor.shape != like.shape or tensor.dtype != like.dtype:
        raise WireError("a gradient that does not fit its weight")
    return tensor


def _is_known(type_name: str) -> bool:
    """Whether this is the name of a type that everybody has. Any other could be a message."""
    places = (builtins, torch, torch.nn, torch.optim)
    return type_name in _NAMES or any(isinstance(getattr(p, type_name, None), type) for p in places)


def _list(node: Any) -> list:
    if type(node) is not list:
        raise WireError("a list was expected")
    return node


@functools.lru_cache(maxsize=32)
def _skeleton(settings: tuple) -> Transformer:
    """A model without weights: on the "meta" device it takes no memory, whatever its size."""
    with torch.device("meta"):
        return Transformer(Config(**dict(settings)))


def _shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: W.shape for name, W in weights.items()}


def _fits(model: Transformer) -> bool:
    """Whether a model has the parts that its configuration says, no more and no fewer."""
    try:
        skeleton = _skeleton(tuple(model.config_dict().items()))
    except Exception:  # a configuration that an answer has spoilt
        return False
    return _shapes(model.state_dict()) == _shapes(skeleton.state_dict())


def models_in(value: Any) -> Iterator[Transformer]:
    """The models in nested lists, tuples and dictionaries, in order."""
    if isinstance(value, Transformer):
        yield value
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from models_in(item)


def _type_name(value: Any) -> str:
    if isinstance(value, Tensor):
        return "odd tensor"  # sparse, or of numbers that cannot cross
    if isinstance(value, Transformer):
        return "Transformer unlike its cfg"
    return str(getattr(type(value), "__name__", "object"))


# What an answer changed in place ------------------------------------------------------------


def assign(target: Any, after: Any) -> Any:
    """Change `target` in place to what it became on the other side. Returns what stands in its
    place: `target` itself, or, for what cannot change (a number) or changed its type, `after`."""
    if isinstance(target, Tensor) and isinstance(after, Tensor) and target.dtype == after.dtype:
        if target.shape != after.shape:
            target.data = after
        elif not torch.equal(target, after):
            with torch.no_grad():
                target.copy_(after)
    elif type(target) is type(after) is list:
        target[:] = [assign(t, a) for t, a in zip(target, after, strict=False)] + after[len(target) :]
    elif isinstance(target, dict) and isinstance(after, dict):
        new = {k: assign(target.get(k), a) for k, a in after.items()}
        target.clear()
        target.update(new)
    elif type(target) is type(after) is tuple and len(target) == len(after):
        return tuple(map(assign, target, after))
    elif isinstance(target, Transformer) and isinstance(after, Transformer):
        if target.cfg != after.cfg:
            raise WireError("a model changed its shape")
        target.load_state_dict(after.state_dict())
        for mine, its in zip(target.parameters(), after.parameters(), strict=True):
            mine.grad = its.grad
    elif isinstance(target, torch.optim.Optimizer):
        _assign_state(target, after)
    else:
        return after
    return target


def _assign_state(optimizer: torch.optim.Optimizer, after: Any) -> None:
    """An optimizer's momenta and counts, if they fit its parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    try:
        for index, values in after["state"].items():
            if type(index) is not int or not 0 <= index < len(parameters):
                raise WireError("an optimizer has no such parameter")
            for name, value in values.items():
                fits = isinstance(value, Tensor) and value.shape in ((), parameters[index].shape)
                if not isinstance(name, str) or not (fits or value is None or type(value) in (int, float)):
                    raise WireError(f"an optimizer's {name!r} does not fit")
        settings = {**optimizer.state_dict(), "state": after["state"]}
        optimizer.load_state_dict(settings)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise WireError(f"no state of an optimizer: {error}") from None
