"""What crosses between a check and an answer arrives as it was sent; what must not cross does not,
and what a stranger sends instead is refused."""

import copy
import io
import json
import math
import random
import signal
import struct
import sys
import time
from typing import Any

import pytest
import torch
from conftest import cells_of
from safetensors.torch import save
from torch import Tensor
from torch.testing import assert_close

from circuits.checking import AnswerError, Submission
from circuits.grading import wire
from circuits.grading.remote import RemoteSubmission, _undisturbed
from circuits.grading.wire import (
    FREE,
    KEY,
    LENGTHS_SIZE,
    LETTERS,
    MAX_ELEMENT,
    MAX_TREE,
    Allowance,
    Unsendable,
    WireError,
    assign,
    elements,
    pack,
    receive,
    send,
    unpack,
)
from circuits.limits import OutOfTime, time_limit
from utils.corpus import load_tokenizer
from utils.model import ActivationCache, Config, Transformer, as_matrix

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = dict(d_vocab=11, d_model=8, n_heads=2, d_head=4, n_ctx=6)
FULL = dict(n_layers=2, attn_only=False, normalization_type="LN", biases=True)
MODELS = {
    "zero layers": dict(n_layers=0),
    "one layer": dict(n_layers=1),
    "two layers": dict(n_layers=2),
    "MLP": dict(n_layers=1, attn_only=False, act_fn="relu", d_mlp=5),
    "LayerNorm": dict(n_layers=1, normalization_type="LN"),
    "biases": dict(n_layers=1, biases=True),
    "standard positions": dict(n_layers=1, positional_embedding_type="standard"),
    "shared keys": dict(n_layers=2, n_key_value_heads=1, biases=True),
    "everything": FULL | dict(positional_embedding_type="standard"),
}
TOKENS = torch.randint(11, (3, 5), generator=torch.Generator().manual_seed(0))
DTYPES = wire._DTYPES


def model(kind: str = "one layer", **more) -> Transformer:
    """A small model with every weight away from 0 and 1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Transformer(Config(**SMALL | MODELS[kind] | more))
        with torch.no_grad():
            for p in made.parameters():
                p.add_(torch.randn_like(p) / 4)
    return made


def loss_of(m: Transformer) -> Tensor:
    return m(TOKENS).log_softmax(-1)[..., 0].mean().neg()


def with_gradients(m: Transformer) -> Transformer:
    loss_of(m).backward()
    return m


def trip(value: Any, trusted: bool = True) -> Any:
    return unpack(pack(value), trusted)


def alike(a: Any, b: Any) -> bool:
    """The same value of the same type, to the last bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, complex):
        return alike((a.real, a.imag), (b.real, b.imag))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return alike(list(a.items()), list(b.items()))
    if isinstance(a, Tensor):
        bits = a.dtype == b.dtype and a.shape == b.shape and a.requires_grad == b.requires_grad
        return bits and torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    return a == b


def same_model(a: Transformer, b: Transformer) -> bool:
    mine, its = dict(a.named_parameters()), dict(b.named_parameters())
    return (
        type(a) is type(b) is Transformer
        and a.cfg == b.cfg
        and a.training == b.training
        and alike(dict(a.state_dict()), dict(b.state_dict()))
        and alike({n: p.grad for n, p in mine.items()}, {n: p.grad for n, p in its.items()})
        and [p.requires_grad for p in mine.values()] == [p.requires_grad for p in its.values()]
    )


# Round trips --------------------------------------------------------------------------------

VALUES = {
    "None": None,
    "booleans": [True, False, 1, 0],
    "integers": [0, -1, 2**31, -(2**63), 2**64, 10**4000, -(10**4000)],
    "floats": [0.1, 1e-320, 1.7976931348623157e308, -1.5, 3.0, 1e16],
    "nan and infinities": [math.nan, math.inf, -math.inf],
    "complex numbers": [1j, complex(-0.0, math.nan), complex(math.inf, 2), {3 + 4j}],
    "minus zero": -0.0,
    "strings": ["", "a", "ä€𝄞", "\x00\x1b\n\u2028\u202e", '"\\{}', "{}", "nan"],
    "lone surrogates, which stay": ["\ud800", "a\udfffb", "\udcff"],
    "a long string": "x" * 1_000_000,
    "empty containers": [[], (), set(), {}, [[]], ((),), [{}]],
    "nested containers": [(1, [2, (3, {4, 5})], {"a": [{"b": ({6},)}]})],
    "sets of tuples": {(1, 2), ("a", None), (1.5, (True,))},
    "keys of many kinds": {1: "int", "1": "str", (1, "a"): "tuple", None: 0, 2.5: 0, False: 0, -math.inf: 1},
    "dictionaries in their order": {"b": 1, "a": 2, 3: 3, 0: 4},
    "words that the wire uses": {"list": [1], "tensor": ["0", True], "unsendable": "x", "dict": {"float": "nan"}},
    "deep nesting": eval("[" * 80 + "]" * 80),
}  # fmt: skip


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("trusted", [True, False])
def test_plain_values_arrive_as_they_were(kind, trusted):
    assert alike(trip(VALUES[kind], trusted), VALUES[kind])


def numbers(dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.arange(1, 1 + math.prod(shape)).reshape(shape).to(dtype)


TENSORS = {
    "0-dim": torch.tensor(2.5),
    "empty": torch.empty(0),
    "empty with a shape": torch.empty(3, 0, 2, dtype=torch.int64),
    "six dimensions": numbers(torch.float32, 1, 2, 1, 2, 1, 2),
    "nan and infinities": torch.tensor([math.nan, math.inf, -math.inf, -0.0]),
    "transposed": numbers(torch.float32, 3, 4).T,
    "strided": numbers(torch.float32, 12)[1::3],
    "flipped": numbers(torch.float32, 4).flip(0),
    "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 5),
    "a view into a large one": torch.zeros(10_000_000)[5:7],
    "channels last": numbers(torch.float32, 2, 3, 4, 5).to(memory_format=torch.channels_last),
    "boolean": torch.tensor([[True, False]]),
    "a lazy conjugate": torch.tensor([1 + 2j, 3 - 1j]).conj(),
    "a lazy negative": torch.tensor([1 + 2j, 3 - 1j]).conj().imag,
    "requires_grad": torch.ones(2, requires_grad=True),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_of_every_type_arrive_as_they_were(dtype):
    for shape in ((), (0,), (3,), (2, 3)):
        assert alike(trip(numbers(dtype, *shape)), numbers(dtype, *shape))


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_of_every_form_arrive_as_they_were(kind):
    assert alike(trip(TENSORS[kind]), TENSORS[kind])
    assert len(pack(TENSORS[kind])) < 2000


def test_a_tensor_that_was_computed_arrives_as_a_leaf():
    x = torch.ones(2, requires_grad=True)
    got = trip(x * 2)
    assert got.is_leaf and got.requires_grad and got.tolist() == [2, 2]


def test_a_tensor_that_arrives_shares_memory_with_itself_alone():
    x = torch.zeros(2)
    a, b, c = trip([x, x.clone(), x])
    a += 1
    assert x.sum() == b.sum() == 0
    assert c is a, "what is one object here is one there"


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("kind", MODELS)
def test_models_arrive_as_they_were(kind, trusted):
    sent = model(kind)
    got = trip({"a": [sent]}, trusted)["a"][0]
    assert same_model(sent, got)
    assert torch.equal(sent(TOKENS), got(TOKENS))


@pytest.mark.parametrize("kind", MODELS)
def test_models_bring_their_gradients_and_can_be_trained(kind):
    sent = with_gradients(model(kind))
    got = trip(sent)
    assert same_model(sent, got)
    loss_of(got).backward()
    loss_of(sent).backward()
    assert same_model(sent, got)


def test_models_bring_gradients_of_some_weights_only():
    sent = with_gradients(model())
    sent.embed.W_E.grad = None
    assert trip(sent).embed.W_E.grad is None and same_model(sent, trip(sent))


@pytest.mark.parametrize("training", [True, False])
def test_models_stay_in_their_mode(training):
    assert trip(model().train(training)).training is training


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_models_keep_their_type_of_number(dtype):
    sent = model("everything").to(dtype)
    assert same_model(sent, trip(sent))


def test_models_bring_the_tokenizer_if_they_have_one():
    sent = Transformer(Config(d_vocab=2048, d_model=2), load_tokenizer())
    assert trip(sent).to_str_tokens("def f") == sent.to_str_tokens("def f")
    assert trip(model()).tokenizer is None


def test_a_frozen_weight_stays_frozen():
    sent = model()
    sent.embed.W_E.requires_grad_(False)
    assert [p.requires_grad for p in trip(sent).parameters()] == [p.requires_grad for p in sent.parameters()]


def test_weights_keep_the_layout_that_one_matrix_product_needs():
    """`as_matrix` shares memory with the weight, also in a model that has crossed."""
    W = trip(model()).blocks[0].attn.W_Q
    assert as_matrix(W).data_ptr() == W.data_ptr()


def test_two_models_do_not_share_a_configuration():
    a, b = trip([model(), model()])
    a.cfg.n_ctx = 1
    assert b.cfg.n_ctx == trip(model()).cfg.n_ctx == 6


def test_caches_arrive_as_they_were():
    _, cache = model("everything").run_with_cache(TOKENS)
    got = trip([cache])[0]
    assert type(got) is ActivationCache and alike(dict(got), dict(cache))
    assert alike(got["pattern", 0], cache["pattern", 0]) and alike(got["z", -1], cache["z", 1])
    with pytest.raises(KeyError):
        got["pattern", 2]


def test_generators_arrive_where_they_were():
    sent = torch.Generator().manual_seed(5)
    torch.rand(7, generator=sent)
    got = trip(sent)
    assert torch.equal(torch.rand(9, generator=got), torch.rand(9, generator=sent))


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "SGD with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.9), eps=1e-7),
    "AdamW with amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True, weight_decay=0.3),
    "RMSprop": lambda p: torch.optim.RMSprop(p, centered=True, momentum=0.5),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
}
every_optimizer = pytest.mark.parametrize("kind", OPTIMIZERS)


def step(m: Transformer, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss_of(m).backward()
    optimizer.step()


def parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


@pytest.mark.parametrize("steps", [0, 3])
@every_optimizer
def test_optimizers_arrive_over_the_model_that_crossed(kind, steps):
    sent = model("everything")
    optimizer = OPTIMIZERS[kind](sent.parameters())
    for _ in range(steps):
        step(sent, optimizer)
    got, its = trip((sent, optimizer))
    assert type(its) is type(optimizer)
    assert [id(p) for p in parameters(its)] == [id(p) for p in got.parameters()]
    assert alike(its.state_dict(), optimizer.state_dict())
    step(sent, optimizer)
    step(got, its)
    assert same_model(sent, got)


def test_optimizers_keep_their_groups():
    m = model("two layers")
    first, *rest = m.parameters()
    optimizer = torch.optim.AdamW([{"params": rest, "lr": 0.5, "weight_decay": 0}, {"params": [first]}], lr=0.1)
    got, its = trip({"m": m, "o": optimizer}).values()
    assert [g["lr"] for g in its.param_groups] == [0.5, 0.1]
    assert parameters(its)[-1] is next(got.parameters()) and len(its.param_groups[1]["params"]) == 1


def test_optimizers_over_two_models_find_both():
    a, b = model("one layer"), model("zero layers")
    optimizer = torch.optim.SGD([*b.parameters(), *a.parameters()], lr=0.1)
    x, [y], its = trip((a, [b], optimizer))
    assert [id(p) for p in parameters(its)] == [id(p) for p in (*y.parameters(), *x.parameters())]


def test_optimizers_find_a_model_that_comes_after_them():
    m = model()
    its, got = trip((torch.optim.SGD(m.parameters(), lr=0.1), m))
    assert parameters(its)[0] is next(got.parameters())


def test_optimizers_find_a_model_that_comes_twice():
    m = model()
    got, _, its = trip((m, [m], torch.optim.SGD(m.parameters(), lr=0.1)))
    assert parameters(its)[0] is next(got.parameters())


# What may not come back ---------------------------------------------------------------------


def forbidden() -> dict[str, Any]:
    m = model()
    return {
        "cache": m.run_with_cache(TOKENS)[1],
        "generator": torch.Generator(),
        "optimizer": (m, torch.optim.SGD(m.parameters(), lr=0.1)),
    }


@pytest.mark.parametrize("kind", forbidden())
def test_what_only_the_grader_sends_is_refused_from_a_submission(kind):
    with pytest.raises(WireError, match=f"a '{kind}' may not come from a submission"):
        trip({"value": [forbidden()[kind]]}, trusted=False)


class Custom:
    def __reduce__(self):
        raise AssertionError("nobody pickles here")


UNSENDABLE = {
    "type of its own": Custom(),
    "type": Custom,
    "function": lambda: 1,
    "module": json,
    "bytes": b"abc",
    "frozenset": frozenset([1]),
    "range": range(3),
    "Linear": torch.nn.Linear(2, 2),
    "device": torch.device("cpu"),
    "dtype": torch.float32,
    "odd tensor": torch.ones(2).to_sparse(),
    "very large int": 10**5000,
}


@pytest.mark.parametrize("name", UNSENDABLE)
@pytest.mark.parametrize("trusted", [True, False])
def test_what_cannot_cross_leaves_only_the_name_of_its_type(name, trusted):
    [got] = trip([UNSENDABLE[name]], trusted)
    assert isinstance(got, Unsendable) and type(got).__name__ == name
    assert vars(got) == {} and got != UNSENDABLE[name] and got != trip([UNSENDABLE[name]])[0]


@pytest.mark.parametrize("name", ["", "\n", "Mine", "<b>", "tokens were 3 1 4", "__doc__", "load"])
def test_only_names_of_types_that_everybody_has_are_told(name):
    """Any other could be a message from an answer that has seen its inputs."""
    assert type(unpack(message({"unsendable": name}))).__name__ == "type of its own"


@pytest.mark.parametrize("also", [lambda: (), lambda: (model(),)], ids=["alone", "beside another model"])
def test_an_optimizer_over_foreign_parameters_is_not_sent(also):
    with pytest.raises(TypeError, match="its parameters"):
        pack((*also(), torch.optim.SGD(model().parameters(), lr=0.1)))


def test_an_optimizer_of_ones_own_is_not_sent():
    class SGD(torch.optim.SGD):
        pass

    m = model()
    with pytest.raises(TypeError, match="one of torch.optim's"):
        pack((m, SGD(m.parameters(), lr=0.1)))


# Malformed messages -------------------------------------------------------------------------


def message(tree: Any, tensors: dict[str, Tensor] | bytes = b"") -> bytes:
    """A message put together by hand, without models. The tree may be JSON already."""
    tree = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    return raw_message(b"[[]," + tree + b"]", tensors)


def raw_message(tree: Any, tensors: dict[str, Tensor] | bytes = b"") -> bytes:
    """A message put together by hand: models and value."""
    tree = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    tensors = tensors if isinstance(tensors, bytes) else save(tensors)
    return struct.pack(">QQ", len(tree), len(tensors)) + tree + tensors


def parts(packed: bytes) -> tuple[Any, bytes]:
    n = struct.unpack_from(">Q", packed)[0]
    return json.loads(packed[LENGTHS_SIZE : LENGTHS_SIZE + n]), packed[LENGTHS_SIZE + n :]


def examples() -> list[bytes]:
    values = [1, 2.5, "x", (1, {2}), {"a": torch.ones(2, 3), 3: None}, math.inf]
    return [pack({"value": values}), pack(with_gradients(model("everything"))), pack(torch.ones(3) > 0)]


def refused_or_read(packed: bytes, trusted: bool = False) -> bool:
    """Whether a message is refused. Whatever else it raises is a failure."""
    try:
        unpack(packed, trusted)
    except WireError:
        return True
    return False


def test_messages_with_flipped_bits_are_refused_or_read():
    rng = random.Random(0)
    refused = 0
    for packed in examples():
        head = min(len(packed), 3000)  # the lengths, the tree, the header of the tensors
        for _ in range(400):
            spoiled = bytearray(packed)
            for _ in range(rng.choice([1, 1, 4])):
                spoiled[rng.randrange(head)] ^= 1 << rng.randrange(8)
            refused += refused_or_read(bytes(spoiled))
    assert refused > 600


def test_truncated_and_extended_messages_are_refused():
    rng = random.Random(1)
    for packed in examples():
        for n in [0, 1, 15, 16, 17, len(packed) - 1, *(rng.randrange(len(packed)) for _ in range(100))]:
            assert refused_or_read(packed[:n])
        assert refused_or_read(packed + b"\0") and refused_or_read(b"\0" + packed)


@pytest.mark.parametrize("trusted", [True, False])
def test_messages_with_junk_in_the_tree_are_refused_or_read(trusted):
    junk = [
        None, True, -1, 10**30, 1e308, "", "0", "x", [], {}, [[]], {"list": []}, {"float": "nan"}, {"tensor": ["0", True]},
        {"set": [{"list": []}]}, {"complex number": [0.5, "x"]}, {"complex number": [1, 2.0]}, {"model": {}}, {"optimizer": ["SGD", {"dict": []}]}, {"generator": "0"}, {"cache": [1, 1]},
    ]  # fmt: skip
    m = with_gradients(model("everything"))
    optimizer = torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)
    optimizer.step()
    tree, tensors = parts(pack({"value": [(m, optimizer), {1: torch.ones(2)}, math.nan]}))
    rng, refused = random.Random(2), 0
    for _ in range(400):
        spoiled = copy.deepcopy(tree)
        inner = spoiled
        while True:
            key = rng.choice(list(inner if isinstance(inner, dict) else range(len(inner))))
            if not (isinstance(inner[key], dict | list) and inner[key] and rng.random() < 0.9):
                break
            inner = inner[key]
        inner[key] = rng.choice(junk)
        refused += refused_or_read(raw_message(spoiled, tensors), trusted)
    assert refused > 200


BAD_TREES = {
    "empty": b"",
    "not UTF-8": b"\xff",
    "not JSON": b"{",
    "trailing junk": b"1 1",
    "a hundred thousand brackets": b"[" * 100_000,
    "a hundred thousand lists": b'{"list":[' * 100_000,
    "closed deep nesting": b'{"list":[' * 5000 + b"]}" * 5000,
    "a bare list": b"[1]",
    "an empty object": b"{}",
    "two kinds": b'{"list":[],"tuple":[]}',
    "unknown kind": b'{"pickle":"gASV"}',
    "kind in capitals": b'{"List":[]}',
    "a list of null": b'{"list":null}',
    "a list of a number": b'{"list":5}',
    "a set of lists": b'{"set":[{"list":[]}]}',
    "a key that is a list": b'{"dict":[[{"list":[]},1]]}',
    "a pair of one": b'{"dict":[{"list":[1]}]}',
    "a pair of three": b'{"dict":[[1,2,3]]}',
    "an unknown float": b'{"float":"1"}',
    "a float of a list": b'{"float":[]}',
    "a number of 5000 digits": b"9" * 5000,
    "a tensor that is missing": b'{"tensor":["0",false]}',
    "a tensor by number": b'{"tensor":[0,false]}',
    "a tensor without a flag": b'{"tensor":["0"]}',
    "a tensor of nothing": b'{"tensor":null}',
    "a model of nothing": b'{"model":null}',
    "a model without configuration": b'{"model":{"weights":{}}}',
}


@pytest.mark.parametrize("what", BAD_TREES)
@pytest.mark.parametrize("trusted", [True, False])
def test_a_tree_that_pack_would_not_write_is_refused(what, trusted):
    with pytest.raises(WireError):
        unpack(message(BAD_TREES[what]), trusted)


NOT_OURS = {
    "NaN as JSON does not know it": b"NaN",
    "a list of a string": b'{"list":"abc"}',
    "a tuple of an object": b'{"tuple":{"a":1}}',
    "a pair in a string": b'{"dict":["ab"]}',
    "a name that is none": b'{"unsendable":5}',
}


@pytest.mark.parametrize("what", NOT_OURS)
def test_a_tree_that_comes_near_is_refused_too(what):
    """"Raises WireError for anything that `pack` would not write.\""""
    with pytest.raises(WireError):
        unpack(message(NOT_OURS[what]))


def test_one_tensor_does_not_become_many():
    """A message of 4 MB would else be 4 GB."""
    tree = {"list": [{"tensor": ["0", False]}] * 90}
    got = unpack(message(tree, {"0": torch.zeros(1000)}))
    assert len({x.data_ptr() for x in got}) == 1


def test_numbers_chosen_to_collide_take_no_longer_than_others():
    """Multiples of 2**61 - 1 all have the hash 0. Sorting 100,000 of them into a set takes minutes."""
    colliding = [k * (2**61 - 1) for k in range(1, 100_000)]
    started = time.process_time()
    assert refused_or_read(message({"set": colliding}))
    assert time.process_time() - started < 20


BAD_TENSORS = {
    "no safetensors": b"junk" * 10,
    "a header longer than the message": struct.pack("<Q", 2**40) + b"{}",
    "no header": b"\0" * 8,
    "a number of 8 bits": save({"0": torch.ones(2, dtype=torch.float8_e5m2)}),
    "unsigned 16": save({"0": torch.ones(2, dtype=torch.uint16)}),
    "complex128, which it cannot name": save({"0": torch.ones(2)}).replace(b'"F32"', b'"C99"'),
}


@pytest.mark.parametrize("what", BAD_TENSORS)
def test_tensors_that_pack_would_not_write_are_refused(what):
    with pytest.raises(WireError):
        unpack(message({"tensor": ["0", False]}, BAD_TENSORS[what]), trusted=True)


def test_integers_cannot_require_a_gradient():
    with pytest.raises(WireError):
        unpack(message({"tensor": ["0", True]}, {"0": torch.ones(2, dtype=torch.int64)}))


def config(**change):
    return lambda body, tensors: body["config"].update(change)


def gradient(of_embedding: Tensor):
    def change(body, tensors):
        body["grads"]["embed.W_E"] = "new"
        tensors["new"] = of_embedding

    return change


BAD_MODELS = {
    "more settings": config(secret=1),
    "another number of layers": config(n_layers=2),
    "layers below zero": config(n_layers=-1),
    "a thousand layers": config(n_layers=1000),
    "layers in words": config(n_layers="one"),
    "layers in a list": config(n_layers=[1]),
    "another vocabulary": config(d_vocab=12),
    "a vocabulary larger than memory": config(d_vocab=10**18),
    "no vocabulary": config(d_vocab=0),
    "a width in halves": config(d_model=8.5),
    "an unknown activation": config(act_fn="eval"),
    "an unknown normalization": config(normalization_type="__import__"),
    "unknown positions": config(positional_embedding_type=["standard"]),
    "biases it does not have": config(biases=True),
    "no MLP": config(attn_only=True),
    "a setting too few": lambda body, tensors: body["config"].pop("eps"),
    "a weight too few": lambda body, tensors: body["weights"].pop("embed.W_E"),
    "a weight too many": lambda body, tensors: body["weights"].update({"embed.W": "0"}),
    "a weight of a strange name": lambda body, tensors: body["weights"].update({"__class__": "0"}),
    "a weight that is missing": lambda body, tensors: body["weights"].update({"embed.W_E": "99"}),
    "a weight of another shape": lambda body, tensors: tensors.update({body["weights"]["embed.W_E"]: torch.ones(3)}),
    "a weight of integers": lambda body, tensors: tensors.update(
        {body["weights"]["embed.W_E"]: torch.ones(11, 8, dtype=torch.int64)}
    ),
    "a gradient of no weight": lambda body, tensors: body["grads"].update({"embed.W": "0"}),
    "a gradient of another shape": gradient(torch.ones(3)),
    "a gradient of another type": gradient(torch.ones(11, 8).double()),
    "weights in a list": lambda body, tensors: body.update(weights=[]),
    "no weights": lambda body, tensors: body.pop("weights"),
    "nothing frozen": lambda body, tensors: body.pop("frozen"),
    "a frozen weight that is none": lambda body, tensors: body.update(frozen=["W"]),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_MODELS)
@pytest.mark.parametrize("trusted", [True, False])
def test_a_model_that_does_not_fit_together_is_refused(what, trusted):
    tree, raw = parts(pack(model("MLP")))
    from safetensors.torch import load

    tensors = load(raw)
    BAD_MODELS[what](tree[0][0], tensors)
    with pytest.raises(WireError):
        unpack(raw_message(tree, tensors), trusted)


BAD_OPTIMIZERS = {
    "a name that is none": lambda name, state: ("Sgd", state),
    "a name that is no optimizer": lambda name, state: ("lr_scheduler", state),
    "a name of an attribute": lambda name, state: ("__loader__", state),
    "no state": lambda name, state: (name, None),
    "no places": lambda name, state: (name, {k: v for k, v in state.items() if k != "places"}),
    "places beyond": lambda name, state: (name, {**state, "places": [[5, "embed.W_E"]] * 99}),
    "no groups": lambda name, state: (name, {**state, "param_groups": []}),
}


@pytest.mark.parametrize("what", BAD_OPTIMIZERS)
def test_an_optimizer_that_does_not_fit_is_refused(what):
    m = model()
    optimizer = torch.optim.SGD(m.parameters(), lr=0.1)
    places = [[0, name] for name, _ in m.named_parameters()]
    name, state = BAD_OPTIMIZERS[what]("SGD", {**optimizer.state_dict(), "places": places})
    tree, tensors = parts(pack((m, state)))
    tree[1]["tuple"][1] = {"optimizer": [name, tree[1]["tuple"][1]]}
    with pytest.raises(WireError):
        unpack(raw_message(tree, tensors), trusted=True)


ALL = FREE * MAX_ELEMENT  # bytes that any answer may return


@pytest.mark.parametrize(
    "lengths",
    [(MAX_TREE + 1, 0), (0, ALL + 1), (1000, ALL - 999), (2**64 - 1, 2**64 - 1), (0, 2**63)],
)
def test_a_message_over_the_limit_is_refused_before_it_is_read(lengths):
    asked = []

    def read(n):
        asked.append(n)
        return struct.pack(">QQ", *lengths)[:n]

    with pytest.raises(WireError, match="too large"):
        receive(read, Allowance())
    assert asked == [LENGTHS_SIZE]


def test_a_message_of_the_limit_is_read_and_more_if_the_right_answer_holds_more():
    packed = raw_message(b"1" * 1000, b"x" * 1000)
    assert receive(Pipe(packed).read, Allowance()) == packed
    large = pack(torch.zeros(ALL // 4 + 1))
    with pytest.raises(WireError, match="too large"):
        receive(io.BytesIO(large).read, Allowance())
    allowance = Allowance(lambda: ALL // 4)
    assert len(unpack(receive(io.BytesIO(large).read, allowance), allowance=allowance)) == ALL // 4 + 1


DEAR = {
    "one large tensor, many times": lambda: [torch.zeros(FREE // 2)] * 3,
    "one weight, many times": lambda: [m := model(), [m.W_U] * (FREE // m.W_U.numel())],
    "one model, many times": lambda: [model()] * FREE,
    "a long list": lambda: [0] * (FREE + 1),
    "a list of lists": lambda: [[[]]] * (FREE // 2),
    "long words": lambda: ["x" * (FREE // 2 * LETTERS)] * 3,
    "many keys": lambda: dict.fromkeys(range(FREE // KEY)),
    "a large set": lambda: {(i,) for i in range(FREE // KEY)},
}


@pytest.mark.parametrize("what", DEAR)
def test_what_is_small_to_send_and_dear_to_use_is_refused(what):
    value = DEAR[what]()
    packed = pack(value)
    with pytest.raises(WireError, match="too large"):
        unpack(packed)
    unpack(packed, allowance=Allowance(lambda: elements(value)))  # unless the right answer is as large




class Pipe:
    """What is written can be read, a few bytes at a time."""

    def __init__(self, data: bytes = b""):
        self.data = data

    def read(self, n: int) -> bytes:
        n = min(n, 7)
        out, self.data = self.data[:n], self.data[n:]
        return out

    def write(self, data) -> int:
        self.data += bytes(data[:5])
        return min(len(data), 5)


def test_messages_pass_through_a_pipe_piece_by_piece():
    pipe = Pipe()
    for value in ([1], "ä", torch.ones(3)):
        send(pipe.write, pack(value))
    got = [unpack(receive(pipe.read, Allowance())) for _ in range(3)]
    assert alike(got, [[1], "ä", torch.ones(3)])
    with pytest.raises(EOFError):
        receive(pipe.read, Allowance())


@pytest.mark.parametrize("n", [3, LENGTHS_SIZE, LENGTHS_SIZE + 1])
def test_a_message_that_breaks_off_ends_in_eof(n):
    with pytest.raises(EOFError):
        receive(Pipe(pack([1, 2])[:n]).read, Allowance())


# What an answer changed in place ------------------------------------------------------------


@pytest.mark.parametrize(
    "before, after",
    [
        ([1, 2], [3, 4]),
        ([1, 2, 3], [1]),
        ([], [1, [2, {"a": 3}]]),
        ([[1], [2]], [[1, 5], "x"]),
        ({"a": 1, "b": 2}, {"b": 3, "c": [4]}),
        ({1: {2: [3]}}, {1: {2: [3, 4]}}),
        ([(1, [2])], [(1, [2, 3])]),
        ([{"a": [torch.zeros(2)]}], [{"a": [torch.ones(2)]}]),
        ([None, 1, "a"], [{"a": 1}, [2], (3,)]),
    ],
)
def test_containers_become_what_they_became(before, after):
    assert assign(before, after) is before
    assert alike(before, after)


def test_what_is_inside_a_container_stays_the_same_object():
    inner, x, d = [1], torch.zeros(2), {"k": 1}
    target = [inner, x, (d,), [inner]]
    assign(target, [[2, 3], torch.ones(2), ({"k": 2},), [[4]]])
    assert target[0] is inner and target[1] is x and target[2][0] is d
    assert x.tolist() == [1, 1] and d == {"k": 2}


@pytest.mark.parametrize("value", [1, "a", None, 2.5, (1, 2), {1}])
def test_what_cannot_change_is_replaced(value):
    assert assign(value, "new") == "new"


@pytest.mark.parametrize(
    "target, after",
    [
        ([1], (1,)), ([1], {"a": 1}), ([1], None), ({"a": 1}, [1]), ((1,), (1, 2)),
        (torch.ones(2), [1]), (torch.ones(2), torch.ones(2).long()),
    ],
)  # fmt: skip
def test_what_changed_its_type_is_replaced(target, after):
    before = copy.deepcopy(target)
    assert assign(target, after) is after and alike(target, before)


@pytest.mark.parametrize(
    "target, after",
    [
        (torch.zeros(2, 3), torch.ones(2, 3)),
        (torch.zeros(2, 3), torch.ones(4)),
        (torch.zeros(3, 2).T, torch.ones(2, 3)),
        (torch.zeros(2), torch.tensor([math.nan, 1])),
        (torch.zeros(2, requires_grad=True), torch.ones(2, requires_grad=True)),
        (torch.tensor(0), torch.tensor(5)),
    ],
)
def test_tensors_become_what_they_became(target, after):
    assert assign(target, after) is target and alike(target, after)


def test_a_view_changes_what_it_looks_at():
    base = torch.zeros(2, 2)
    assign(base[0], torch.ones(2))
    assert base.tolist() == [[1, 1], [0, 0]]


def test_a_tensor_that_did_not_change_is_not_written():
    x = torch.ones(2)
    version = x._version
    assign(x, torch.ones(2))
    assert x._version == version


def test_models_become_what_they_became():
    target, after = model("everything"), with_gradients(model("everything"))
    weights = list(target.parameters())
    with torch.no_grad():
        for p in after.parameters():
            p.mul_(2)
    assign([target], [after])
    assert same_model(target, after) and all(a is b for a, b in zip(weights, target.parameters(), strict=True))
    assign(target, model("everything"))
    assert all(p.grad is None for p in target.parameters())


def test_a_model_cannot_become_another_one():
    with pytest.raises(WireError):
        assign(model("one layer"), model("two layers"))


@every_optimizer
def test_optimizers_become_what_they_became(kind):
    mine, its = model(), model()
    target, after = OPTIMIZERS[kind](mine.parameters()), OPTIMIZERS[kind](its.parameters())
    for _ in range(2):
        step(its, after)
    assign((mine, target), (trip(its), trip(after.state_dict())))
    assert same_model(mine, its) and alike(target.state_dict(), after.state_dict())
    step(mine, target)
    step(its, after)
    assert same_model(mine, its)


def test_an_optimizer_keeps_its_own_settings():
    m = model()
    optimizer = torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)
    after = copy.deepcopy(optimizer.state_dict())
    after["param_groups"][0].update(lr=100.0, params=[])
    assign(optimizer, after)
    assert optimizer.param_groups[0]["lr"] == 0.1 and len(parameters(optimizer)) == len(list(m.parameters()))


@pytest.mark.parametrize(
    "after",
    [
        None, 5, [], {}, {"state": None}, {"state": [1]}, {"state": {0: None}}, {"state": {0: [1]}}, {"state": {99: {"a": 1}}},
        {"state": {"0": {"a": 1}}}, {"state": {0: {"a": "x"}}}, {"state": {0: {"a": torch.ones(3)}}}, {"state": {0: {1: 1}}},
        {"state": {0: {"a": [1]}}}, {"state": {(0,): {"a": 1}}}, {"state": {None: {"a": 1}}},
    ],
)  # fmt: skip
def test_a_state_that_does_not_fit_the_optimizer_is_refused(after):
    optimizer = torch.optim.SGD(model().parameters(), lr=0.1, momentum=0.9)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(WireError):
        assign(optimizer, after)
    assert alike(optimizer.state_dict(), before)


# Through a sandbox --------------------------------------------------------------------------

SET_UP = "import copy\nimport collections\nimport numpy as np\nimport torch\nfrom utils import Transformer\n"


def unannotated(*args, **kwargs): ...


@pytest.fixture
def remote(sandbox):
    """`remote(code)` is the answer `f` of that code, in a sandbox."""
    opened = []

    def make(code: str, in_place: bool = False, like=unannotated) -> RemoteSubmission:
        submission = RemoteSubmission(sandbox, SET_UP, cells_of({"f": code}), {"f": like})
        submission.in_place = in_place
        opened.append(submission)
        return submission

    yield make
    for submission in opened:
        submission.stop()


def local(code: str, in_place: bool = False, like=unannotated) -> Submission:
    """The same answer in this process."""
    namespace: dict[str, Any] = {}
    exec(SET_UP + code, namespace)
    submission = Submission(namespace, in_place)
    submission.signature = lambda name: like
    return submission


def test_an_answer_takes_a_model(remote):
    m = model("everything")
    answer = remote("def f(m, tokens): return m(tokens), type(m).__name__, m.cfg.n_layers, m.training")
    logits, *rest = answer.f(m, TOKENS)
    assert_close(logits, m(TOKENS).detach())
    assert rest == ["Transformer", 2, True]


def test_an_answer_takes_a_model_with_its_tokenizer(remote):
    m = Transformer(Config(d_vocab=2048, d_model=2), load_tokenizer())
    assert remote("def f(m): return m.to_str_tokens('def f')").f(m) == m.to_str_tokens("def f")


def test_an_answer_takes_a_model_by_keyword_and_in_a_list(remote):
    m = model()
    answer = remote("def f(ms, *, other): return [float(x.W_E.sum()) for x in [*ms, other]]")
    assert answer.f([m, m], other=m) == [m.W_E.sum().item()] * 3


def test_an_answer_takes_an_activation_cache(remote):
    _, cache = model("two layers").run_with_cache(TOKENS)
    answer = remote("def f(cache): return cache['pattern', 0], cache['z', -1], sorted(cache), type(cache).__name__")
    pattern, z, names, kind = answer.f(cache)
    assert alike(pattern, cache["pattern", 0]) and alike(z, cache["z", 1])
    assert names == sorted(cache) and kind == "ActivationCache"


def test_a_generator_is_a_seed(remote):
    """The same one gives the same draws, in every call; the check's own does not move."""
    rng = torch.Generator().manual_seed(3)
    torch.rand(5, generator=rng)
    state = rng.get_state()
    answer = remote("def f(generator): return torch.rand(4, generator=generator)")
    first, second = answer.f(rng), answer.f(generator=rng)
    assert torch.equal(rng.get_state(), state)
    assert torch.equal(first, second) and torch.equal(first, torch.rand(4, generator=rng))


STEP = """
def f(model, tokens, optimizer):
    optimizer.zero_grad()
    loss = model(tokens).log_softmax(-1)[..., 0].mean().neg()
    loss.backward()
    optimizer.step()
    return loss
"""


@every_optimizer
def test_steps_of_training_are_the_same_in_a_sandbox(remote, kind):
    """Weights, gradients and momenta come back, and go there again with the next step."""
    there, here = model("everything"), model("everything")
    its, mine = OPTIMIZERS[kind](there.parameters()), OPTIMIZERS[kind](here.parameters())
    sandboxed, plain = remote(STEP, in_place=True), local(STEP, in_place=True)
    for _ in range(4):
        assert_close(sandboxed.f(there, TOKENS, its), plain.f(here, TOKENS, mine))
    assert_close(dict(there.state_dict()), dict(here.state_dict()))
    assert_close([p.grad for p in there.parameters()], [p.grad for p in here.parameters()])
    assert_close(its.state_dict()["state"], mine.state_dict()["state"])
    assert its.state_dict()["param_groups"] == mine.state_dict()["param_groups"]


def test_without_in_place_a_step_leaves_model_and_optimizer_alone(remote):
    m = model()
    optimizer = torch.optim.Adam(m.parameters())
    with pytest.raises(AnswerError, match="changes what it was given"):
        remote(STEP).f(m, TOKENS, optimizer)
    assert same_model(m, model()) and not optimizer.state


CHANGES = """
def f(numbers, table, x, y, nested):
    numbers.append(len(numbers)); table.pop("a"); table["b"] = [1]
    x.add_(1); y.resize_(3).fill_(7)
    nested[0]["k"][1].add_(5)
    return 1
"""


def changeable() -> tuple:
    return [5], {"a": 1, "c": 2}, torch.zeros(2, 2), torch.zeros(2), [{"k": (0, torch.zeros(1))}]


def test_what_an_answer_changes_is_seen_in_place(remote):
    there, here = changeable(), changeable()
    remote(CHANGES, in_place=True).f(*there)
    local(CHANGES, in_place=True).f(*here)
    assert alike(there, here) and not alike(here, changeable())


def test_what_an_answer_changes_is_said_otherwise(remote):
    given = changeable()
    with pytest.raises(AnswerError, match="argument 1 has other values after the call"):
        remote(CHANGES).f(*given)
    assert alike(given, changeable())


def test_what_an_answer_changed_before_it_raised_is_seen_too(remote):
    given = [1]
    with pytest.raises(AnswerError, match="raised KeyError"):
        remote("def f(x):\n    x.append(2)\n    raise KeyError", in_place=True).f(given)
    assert given == [1, 2]


def test_what_an_answer_changes_in_an_argument_by_keyword_is_seen(remote):
    given = [1]
    remote("def f(x):\n    x.append(2)\n    return 1", in_place=True).f(x=given)
    assert given == [1, 2]


def test_an_argument_given_twice_is_one(remote):
    x = torch.zeros(2)
    remote("def f(a, b):\n    a += 1\n    return 1", in_place=True).f(x, x)
    assert x.tolist() == [1, 1]


@pytest.mark.parametrize(
    "given",
    [
        lambda: model().run_with_cache(TOKENS)[1],
        lambda: torch.Generator(),
        lambda: [torch.Generator()],
        lambda: (lambda m: [m, torch.optim.SGD(m.parameters(), lr=0.1)])(model()),
        lambda: {1, 2},
        lambda: Custom,
    ],
    ids=["cache", "generator", "generator in a list", "optimizer in a list", "set", "class"],
)
def test_an_answer_may_leave_any_argument_alone_in_place(remote, given):
    assert remote("def f(x): return 1", in_place=True).f(given()) == 1


def test_an_optimizer_may_come_before_its_model(remote):
    m = model()
    assert remote("def f(optimizer, model): return 1").f(torch.optim.SGD(m.parameters(), lr=0.1), m) == 1


def test_a_check_that_sends_what_cannot_cross_does_not_blame_the_answer(remote):
    with pytest.raises(TypeError, match="An optimizer crosses"):
        remote("def f(o): return 1").f(torch.optim.SGD(model().parameters(), lr=0.1))


RETURNS = {
    "nested containers": "[(1, {'a': [torch.ones(2), {2}]}), None, True, 2.5, 'ä']",
    "a surrogate": "'\\ud800'",
    "a list nested in lists": "eval('[' * 90 + ']' * 90)",
    "a numpy array": "np.arange(6.0).reshape(2, 3).T",
    "a numpy number": "[np.float32(1.5), np.int64(3), np.bool_(True)]",
    "a numpy array that runs backwards": "np.arange(4)[::-1]",
    "numpy keys": "{np.int64(3): 1}",
    "a parameter": "torch.nn.Parameter(torch.ones(2))",
    "a tensor with a gradient": "(torch.ones(2, requires_grad=True) * 2)",
    "a transposed tensor": "torch.arange(6.).view(2, 3).T",
    "complex128": "torch.ones(2, dtype=torch.complex128)",
}


@pytest.mark.parametrize("what", RETURNS)
def test_what_an_answer_returns_is_what_it_is_at_home(remote, what):
    code = f"def f(): return {RETURNS[what]}"
    assert alike(remote(code).f(), local(code).f())


def test_a_tensor_subclass_arrives_as_a_plain_tensor(remote):
    code = "class Mine(torch.Tensor): pass\ndef f(): return [torch.ones(2).as_subclass(Mine)]"
    [got] = remote(code).f()
    assert type(got) is Tensor and got.tolist() == [1, 1]


def test_an_answer_returns_a_model(remote):
    m = with_gradients(model("everything")).eval()
    got = remote("def f(m):\n    m = copy.deepcopy(m)\n    m.W_E.data *= 2\n    return {'m': [m]}").f(m)["m"][0]
    assert type(got) is Transformer and not got.training and torch.equal(got.W_E, m.W_E * 2)
    assert_close(got.W_U, m.W_U)


def pair() -> tuple[Tensor, Tensor]: ...
def number() -> float: ...
def sizes() -> tuple[int, int]: ...
def a_model(m) -> Transformer: ...


@pytest.mark.parametrize(
    "code, like, args",
    [
        ("def f(): return torch.ones(3, 2).max(0)", pair, ()),
        ("def f(): return collections.namedtuple('Pair', 'a b')(torch.ones(1), torch.ones(1))", pair, ()),
        ("def f(): return torch.ones(3, 2).shape", sizes, ()),
        ("def f():\n    yield 1", number, ()),
        ("async def f(): return 1", number, ()),
        ("async def f():\n    yield 1", number, ()),
        ("def f(): return (x for x in [1])", number, ()),
        ("def f(): return range(3)", number, ()),
        ("def f(): return object()", number, ()),
        ("def f(): return f", number, ()),
        ("def f(): pass", number, ()),
        ("def f(): raise NotImplementedError", number, ()),
        ("def f(): return f()", number, ()),
        ("def f(): exit()", number, ()),
        ("def f(): return torch.Generator()", number, ()),
        ("def f(): return torch.optim.SGD([torch.ones(1)], lr=1)", number, ()),
        ("def f(m): return m.run_with_cache(torch.tensor([[1]]))[1]", number, (model(),)),
        ("def f(m): return m.run_with_cache(torch.tensor([[1]]))", number, (model(),)),
        ("def f(m): return torch.nn.Linear(1, 1)", a_model, (model(),)),
        ("def g(): return 1", number, ()),
    ],
)  # fmt: skip
def test_what_an_answer_does_wrong_is_called_what_it_is_called_at_home(remote, code, like, args):
    def says(submission) -> str:
        try:
            submission.f(*args)
            return ""
        except AnswerError as error:
            return str(error)

    assert says(remote(code, like=like)) == says(local(code, like=like))


def test_a_custom_object_arrives_without_its_contents(remote):
    got = remote("class Mine:\n    secret = 1\ndef f(): return [Mine(), 1]").f()
    assert isinstance(got[0], Unsendable) and type(got[0]).__name__ == "type of its own" and got[1] == 1
    assert not hasattr(got[0], "secret")


def test_a_worker_outlives_an_answer_that_returns_what_cannot_cross(remote):
    answer = remote("calls = []\ndef f():\n    calls.append(1)\n    return [len(calls), object()]")
    assert [answer.f()[0] for _ in range(3)] == [1, 2, 3]


def test_a_cell_that_does_not_end_is_called_that(remote):
    with pytest.raises(AnswerError, match="seconds"):
        remote("def g(): return 1\nwhile True: pass").f()


FORGED = """
def f():
    import sys
    from circuits.grading import wire
    frame = sys._getframe()
    while "ticket" not in frame.f_locals.get("request", {}):
        frame = frame.f_back
    ticket = frame.f_locals["request"]["ticket"]
    while "write" not in frame.f_locals:
        frame = frame.f_back
    wire.send(frame.f_locals["write"], wire.pack({**REPLY, "ticket": ticket}))
"""


@pytest.mark.parametrize(
    "reply",
    [
        "{}", "{'problem': None}", "{'problem': []}", "{'problem': {1}}", "{'problem': 5}", "{'problem': 'nonsense {name}'}",
        "{'problem': torch.ones(2)}", "{'problem': 'raised', 'raised': 5, 'line': 'x'}",
        "{'problem': 'raised', 'raised': ['__import__', '\\x1b[2J'], 'line': 10**30}",
        "{'problem': 'cell', 'raised': ['a', 'b', 'c'], 'line': True}",
    ],
)  # fmt: skip
def test_a_forged_reply_is_an_answer_that_cannot_be_used(remote, reply):
    with pytest.raises(AnswerError) as told:
        remote(FORGED.replace("REPLY", reply)).f()
    assert str(told.value).isprintable() and "nonsense" not in str(told.value)


@pytest.mark.parametrize("after", ["5", "()", "([1], 2, 3)", "({'a': 1},)", "(torch.ones(2),)", "{}"])
def test_a_forged_change_leaves_the_argument_usable(remote, after):
    given = [1]
    code = FORGED.replace("REPLY", f"{{'value': 1, 'after': {after}}}").replace("def f():", "def f(x):")
    assert remote(code, in_place=True).f(given) == 1
    assert given == [1]


def test_two_alarms_that_were_held_back_leave_no_timer_behind():
    """Both may be due when a long reply has been read. A timer left armed would end the grader."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGPROF)}
    try:
        with pytest.raises(OutOfTime), time_limit(60), _undisturbed():
            signal.raise_signal(signal.SIGALRM)
            signal.raise_signal(signal.SIGPROF)
        left = signal.getitimer(signal.ITIMER_REAL), signal.getitimer(signal.ITIMER_PROF)
        assert left == ((0, 0), (0, 0)) and sys.gettrace() is None
        assert {number: signal.getsignal(number) for number in handlers} == handlers
    finally:
        for timer, number in ((signal.ITIMER_REAL, signal.SIGALRM), (signal.ITIMER_PROF, signal.SIGPROF)):
            signal.setitimer(timer, 0)
            signal.signal(number, handlers[number])
        sys.settrace(None)


@pytest.mark.parametrize(
    ("code", "like", "told"),
    [
        ("m.blocks = m.blocks[:0]; return m", a_model, "it returned a Transformer unlike its cfg"),
        ("m.extra = torch.nn.Linear(1, 1); return m", a_model, "it returned a Transformer unlike its cfg"),
    ],
)
def test_what_the_boundary_does_not_carry_is_named(remote, code, like, told):
    with pytest.raises(AnswerError, match=told):
        remote(f"import copy\ndef f(m): m = copy.deepcopy(m); {code}", like=like).f(model())
