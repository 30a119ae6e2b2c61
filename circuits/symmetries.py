"""What cannot matter to an answer: six ways to write down the same model, or the same text, otherwise.

    regauge     W_Q M and W_K M^-T for W_Q and W_K, W_V N and N^-1 W_O for W_V and W_O, head by head
    rotate      every vector of the residual stream, and all that reads or writes one, rotated
    heads       the heads of each layer in another order
    neurons     the neurons of each layer's MLP in another order
    vocabulary  the tokens numbered in another order
    constant    one number added to all logits of a position, for a model one vector to all columns of W_U

A table beside the checks says which of them an answer must follow: numbers that mean the same stay, and those
that name a head, a token or a dimension go along. What an argument or the answer is made of is read off the
annotations, by the names of dimensions; where they do not tell, the table does.

    SYMMETRIES = {
        "copying_heads": symmetric("regauge rotate heads vocabulary", returns="head 0"),
        "predict_ranks": "its arguments are sizes",
    }
"""

import copy
import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from circuits.copies import copied
from circuits.inputs import normal, orthogonal, shuffle

ALL = "regauge rotate heads vocabulary constant"  # of attention-only models
FULL = "regauge heads neurons vocabulary constant"  # LayerNorm knows the basis of the stream

# Of each change, "depends on ...: after ..., which changes ..., the answer was". To regauge is two of them.
CHANGES = {
    "QK": ("how W_Q and W_K share their work",
           "W_Q was multiplied by an invertible matrix and W_K by the transpose of its inverse", "no attention score"),
    "OV": ("how W_V and W_O share their work",
           "W_V was multiplied by an invertible matrix and W_O by its inverse", "nothing that a head does"),
    "rotate": ("the basis of the residual stream",
               "the residual stream was rotated in all that reads or writes it", "nothing that a model does"),
    "heads": ("the order of the heads",
              "the heads of each layer were put in another order", "nothing but their numbers"),
    "neurons": ("the order of the neurons",
                "the neurons of each layer were put in another order", "nothing but their numbers"),
    "vocabulary": ("the numbers of the tokens",
                   "the tokens were numbered in another order", "nothing but their numbers"),
    "constant": ("a number that all logits share",
                 "one number was added to all logits (or scores) of a position", "no probability"),
}  # fmt: skip

# The dimensions of a model's weights and activations. What is d_head elsewhere says here what regauging does
# to it: d_q of queries is multiplied by M, d_k by its inverse, d_v of values by N, d_o by its inverse.
WEIGHTS = {
    "W_E": "d_vocab d_model", "W_pos": "n_ctx d_model", "W_U": "d_model d_vocab",
    "W_Q": "n_heads d_model d_q", "W_K": "n_heads d_model d_k",
    "W_V": "n_heads d_model d_v", "W_O": "n_heads d_o d_model",
    "W_in": "d_model d_mlp", "W_out": "d_mlp d_model",
    "b_Q": "n_heads d_q", "b_K": "n_heads d_k", "b_V": "n_heads d_v", "b_O": "d_model",
    "b_in": "d_mlp", "b_out": "d_model", "b_U": "d_vocab", "w": "d_model", "b": "d_model",
}  # fmt: skip
STREAM = ("embed", "pos_embed", "resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
CACHE = dict.fromkeys(STREAM, "batch pos d_model") | {
    "q": "batch pos n_heads d_q", "k": "batch pos n_heads d_k", "v": "batch pos n_heads d_v",
    "z": "batch pos n_heads d_v", "result": "batch pos n_heads d_model",
    "attn_scores": "batch n_heads dest src", "pattern": "batch n_heads dest src",
    "pre": "batch pos d_mlp", "post": "batch pos d_mlp",
}  # fmt: skip
LOGITS = ("logits", "scores")  # arguments to which a constant may be added
WIDEST = 512  # dimensions; to draw a rotation of more takes a check too long

# What a value is made of: dimensions ("pos d_model"), "token", "head 1" or "neuron 1" (its number in layer 1), "(layer, head)",
# "edge" (text such as "0.4->1.3.k"), "model", "layer"; by part for a tuple, by name for activations; None for
# what never changes; or a function of the arguments that says which.
Kind = str | tuple | dict | None | Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Symmetric:
    """The changes that an exercise's answers must follow, and what the annotations do not tell of its values."""

    changes: tuple[str, ...]
    kinds: dict[str, Kind] = field(default_factory=dict)


def symmetric(names: str, **kinds: Kind) -> Symmetric:
    """An entry of the table: symmetries by name, and kinds of arguments by name, of the answer by `returns`."""
    unknown = set(names.split()) - {*ALL.split(), *FULL.split()}
    if unknown or not names:
        raise ValueError(f"No symmetry is called {', '.join(unknown) or names!r}.")
    return Symmetric(tuple(names.replace("regauge", "QK OV").split()), kinds)


def head_of_layer(arguments: dict[str, Any]) -> str:
    """The kind of a head's number, in the layer that another argument says."""
    return f"head {arguments['layer']}"


def kinds_of(answer: Callable, entry: Symmetric) -> dict[str, Kind]:
    """The kind of each argument and of the answer. LookupError if nothing tells one, or if the table
    says one of an argument that is not there."""
    hints = typing.get_type_hints(answer)
    names = [*inspect.signature(answer).parameters, "returns"]
    strange = set(entry.kinds) - set(names)
    if strange:
        raise LookupError(f"it has no argument {', '.join(strange)}")
    return {
        name: entry.kinds[name] if name in entry.kinds else _kind(hints["return" if name == "returns" else name])
        for name in names
    }


def _kind(hint: Any) -> Kind:
    if hint is Tensor:
        raise LookupError("a tensor has no names of dimensions")
    if hasattr(hint, "dim_str"):
        numbers = all(dtype.startswith(("int", "uint")) for dtype in hint.dtypes)
        return "token" if numbers and "d_vocab" not in hint.dim_str else hint.dim_str
    if isinstance(hint, type) and issubclass(hint, torch.nn.Module):
        return "model"
    if typing.get_origin(hint) is tuple:
        return tuple(map(_kind, typing.get_args(hint)))
    return next((_kind(arm) for arm in typing.get_args(hint) if hasattr(arm, "dim_str")), None)


class Change:
    """Some changes, drawn for the arguments of one call. None of them: everything stays."""

    def __init__(self, names: tuple[str, ...], rng: torch.Generator, kinds: dict[str, Kind], arguments: dict[str, Any]):
        self.names, self.rng, self.kinds, self.arguments = names, rng, kinds, arguments
        self.drawn: dict[tuple, Any] = {}
        self.sizes = {"n_heads": 1, "d_mlp": 1, "d_vocab": arguments.get("d_vocab")}
        for name, value in arguments.items():
            if kinds[name] == "model":
                cfg = value.cfg
                self.sizes |= {"n_heads": cfg.n_heads, "d_mlp": cfg.d_mlp or 1, "d_vocab": cfg.d_vocab}
            elif isinstance(kinds[name], str) and isinstance(value, Tensor):
                self.sizes |= {dim: n for dim, n in zip(kinds[name].split(), value.shape) if dim in self.sizes}

    def all_arguments(self) -> dict[str, Any]:
        changed = {name: self.value(value, self.kinds[name]) for name, value in self.arguments.items()}
        for name in LOGITS if "constant" in self.names else ():
            if name in changed:
                changed[name] = changed[name] + normal(self.rng, *changed[name].shape[:-1], 1, scale=3.0)
        return changed

    def value(self, x: Any, kind: Kind) -> Any:
        """An argument or an answer, after the changes."""
        kind = kind(self.arguments) if callable(kind) else kind
        if kind is None or kind == "layer" or x is None:
            return x
        if isinstance(kind, tuple):
            return tuple(self.value(part, k) for part, k in zip(x, kind, strict=True))
        if isinstance(kind, dict):
            new = copy.copy(x)
            for name in x:
                layer = int((re.findall(r"\d+", name) or [0])[0])
                new[name] = self.tensor(dict.__getitem__(x, name), kind[name.rpartition("hook_")[2]].split(), layer)
            return new
        if kind == "model":
            return self.model(x)
        if kind in ("token", "(layer, head)", "edge") or kind.startswith(("head ", "neuron ")):
            return self.numbers(x, kind)
        layer = self.arguments.get("layer")
        return self.tensor(torch.as_tensor(x), kind.split(), layer if isinstance(layer, int) else 0)

    def numbers(self, x: Any, kind: str) -> Any:
        """What names heads or tokens."""
        if isinstance(x, Tensor) and kind == "token":
            return torch.tensor(self.order("d_vocab"))[x.long()].to(x.dtype)
        if isinstance(x, Tensor):
            return self.numbers(x.tolist(), kind)
        if isinstance(x, dict):
            return {self.numbers(name, kind): value for name, value in x.items()}
        if kind == "(layer, head)" and isinstance(x, tuple | list) and x and not isinstance(x[0], tuple | list):
            return (x[0], self.numbers(x[1], f"head {int(x[0])}"), *x[2:])
        if isinstance(x, list | tuple | set):
            return type(x)(self.numbers(item, kind) for item in x)
        if kind == "edge":
            return re.sub(r"(\d+)\.(\d+)", lambda m: f"{m[1]}.{self.numbers(int(m[2]), f'head {m[1]}')}", x)
        if kind == "token":
            return self.order("d_vocab")[int(x)]
        what, layer = kind.split()
        return self.order({"head": "n_heads", "neuron": "d_mlp"}[what], int(layer))[int(x)]

    def order(self, dim: str, layer: int = 0) -> list[int]:
        """The new number of each token, or of each head or neuron of a layer."""
        n = self.sizes[dim]
        if n is None:
            raise LookupError("nothing tells how many tokens there are")
        if n == 1 or {"d_vocab": "vocabulary", "n_heads": "heads", "d_mlp": "neurons"}[dim] not in self.names:
            return list(range(n))
        return self.draw((dim, 0 if dim == "d_vocab" else layer), lambda: shuffle(self.rng, n))

    def draw(self, what: tuple, draw: Callable[[], Any]) -> Any:
        """The same thing each time it is asked for."""
        if what not in self.drawn:
            self.drawn[what] = draw()
        return self.drawn[what]

    def model(self, model: torch.nn.Module) -> torch.nn.Module:
        new = copied(model)
        for name, W in new.state_dict().items():  # shares memory with the model
            layer = int(name.split(".")[1]) if name.startswith("blocks.") else 0
            last = name.rpartition(".")[2]
            dims = WEIGHTS[last.lstrip("_")]  # `_W_K`, which heads share, has no axis for them: neither regauge nor heads
            dims = dims.replace("n_heads", "n_key_value_heads") if last.startswith("_") else dims
            W.copy_(self.tensor(W, dims.split(), layer))
        return new

    def tensor(self, x: Tensor, dims: list[str], layer: int = 0, head: int = 0) -> Tensor:
        """A tensor whose dimensions have these names; of several n_heads, each is of the layer after the last."""
        if len(dims) != x.ndim:
            raise LookupError(f"a tensor of shape {list(x.shape)} has not the dimensions {' '.join(dims)}")
        grad, by_layer = x.requires_grad, "n_layers" in dims and "n_heads" in dims
        x = x.detach()
        if by_layer or ("n_heads" in dims and {"d_q", "d_k", "d_v", "d_o"} & {*dims}):  # one by one
            dim = dims.index("n_layers" if by_layer else "n_heads")
            rest = dims[:dim] + dims[dim + 1 :]
            places = [(i, head) if by_layer else (layer, i) for i in range(x.shape[dim])]
            x = torch.stack([self.tensor(part, rest, *p) for part, p in zip(x.unbind(dim), places)], dim)
            dims = [] if by_layer else [d if d == "n_heads" else "" for d in dims]  # the rest is done
        for i, dim in enumerate(dims):
            if dim in ("d_vocab", "d_mlp", "n_heads", "n_heads+1"):
                order = self.order(dim.removesuffix("+1"), layer)
                order = [0, *(1 + new for new in order)] if dim.endswith("+1") else order
                x = x.index_select(i, torch.tensor(order).argsort())
                layer += dim == "n_heads"
            elif (matrix := self.matrix(dim, x.shape[i], layer, head)) is not None:
                x = (x.movedim(i, -1).double() @ matrix).movedim(-1, i).to(x.dtype)
        if dims == ["d_model", "d_vocab"] and "constant" in self.names:  # W_U
            x = x + 3 * x.std() * self.draw(("constant", len(x)), lambda: normal(self.rng, len(x), 1)).to(x.dtype)
        return x.requires_grad_(grad)

    def matrix(self, dim: str, n: int, layer: int, head: int) -> Tensor | None:
        """What a dimension is multiplied by, if by anything."""
        if dim == "d_model" and "rotate" in self.names and n <= WIDEST:
            return self.draw((dim, n), lambda: orthogonal(self.rng, n).double())
        change = {"d_q": "QK", "d_k": "QK", "d_v": "OV", "d_o": "OV"}.get(dim)
        if change not in self.names:
            return None
        M = self.draw((change, n, layer, head), lambda: self.gauge(n))
        return torch.linalg.inv(M).T if dim in ("d_k", "d_o") else M

    def gauge(self, n: int) -> Tensor:
        """An invertible matrix, of another size for each head."""
        stretch = torch.diag(torch.logspace(-0.7, 0.7, n) * 10 ** normal(self.rng, 1, scale=0.5))
        return (orthogonal(self.rng, n) @ stretch @ orthogonal(self.rng, n)).double()
