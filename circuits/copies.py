"""Copies of what an answer is given and of what it returns, so that what one does with them cannot reach the other."""

import copy
import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def copied(value: Any) -> Any:
    """A deep copy, in which an optimizer goes with the copy of its model, and gradients and random
    generators are copied too, as `copy.deepcopy` alone would not."""
    memo = {id(g): torch.Generator().set_state(g.get_state()) for g in within(value, torch.Generator)}
    try:
        for model in within(value, torch.nn.Module):
            _copied_module(model, memo)
        return copy.deepcopy(value, memo)
    except Exception:  # an exotic return value: the check itself will say what it makes of it
        return value


_PLAIN = {bool, int, type(None)}  # half of what a part of a model consists of


def _copied_module(module: torch.nn.Module, memo: dict[int, Any]) -> torch.nn.Module:
    """A copy of a model with its gradients, noted in a deep copy's memo with all its weights. Checks copy
    models often, and `copy.deepcopy` looks into every empty dictionary of hooks of every part."""

    def new(value: Any) -> Any:
        if isinstance(value, dict):  # of weights, parts or hooks, and most of them are empty
            return type(value)((key, new(v)) for key, v in value.items()) if value else type(value)()
        if isinstance(value, torch.nn.Module):
            return _copied_module(value, memo)
        if isinstance(value, Tensor):
            if id(value) not in memo:
                made = memo[id(value)] = value.detach().clone()
                if isinstance(value, torch.nn.Parameter):
                    made = memo[id(value)] = torch.nn.Parameter(made, value.requires_grad)
                made.grad = None if value.grad is None else value.grad.clone()
        elif isinstance(value, (list, set)) or hasattr(value, "__dataclass_fields__"):  # hooks, the configuration
            return copy.copy(value)
        return memo.get(id(value), value)  # the tokenizer, numbers, functions are shared

    if id(module) not in memo:
        made = memo[id(module)] = module.__new__(type(module))
        made.__dict__ = {k: value if type(value) in _PLAIN else new(value) for k, value in vars(module).items()}
    return memo[id(module)]


def within(value: Any, kind: type) -> Iterator[Any]:
    """Everything of one kind in nested lists, tuples and dicts."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from within(item, kind)


def fingerprint(value: Any) -> bytes:
    """A digest that is the same for equal arguments, and for no others."""
    digest = hashlib.blake2b(digest_size=16)
    _add(digest, value)
    return digest.digest()


def _add(digest: Any, value: Any) -> None:
    digest.update(f"{type(value).__name__}:".encode())
    if isinstance(value, Tensor):
        x = value.detach().contiguous()
        x = x.clone(memory_format=torch.contiguous_format) if x.numel() == 1 else x  # its stride may be 0 all the same
        digest.update(f"{x.dtype} {tuple(x.shape)} {value.requires_grad}".encode())
        digest.update(x.flatten().view(torch.uint8).numpy() if x.numel() else b"")
        if value.is_leaf and value.grad is not None:
            _add(digest, value.grad)
    elif isinstance(value, torch.nn.Module):
        digest.update(f"{getattr(value, 'cfg', None)} {value.training}".encode())
        _add(digest, dict(value.state_dict(keep_vars=True)))
    elif isinstance(value, torch.Generator):
        _add(digest, value.get_state())
    elif isinstance(value, torch.optim.Optimizer):
        _add(digest, value.state_dict())
    elif isinstance(value, dict):
        _add(digest, [part for item in value.items() for part in item])
    elif isinstance(value, list | tuple):
        for part in value:
            _add(digest, part)
    else:
        digest.update(repr(value).encode())
    digest.update(b";")
