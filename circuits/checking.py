"""How an answer is checked: the words in which checks, mistakes and variants are written, and the
guarded call of an answer. (What all checks of an exercise come to, and why a wrong answer is wrong,
is `judging.py`.)

A check is a plain function `test_...(submission, rng)` that calls `submission.NAME(...)` and
states what must be true of what comes back. It runs alike in a notebook, under pytest, and in a
grader whose `submission` calls into another process.
"""

import builtins
import contextlib
import functools
import hashlib
import inspect
import math
import traceback
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from circuits import console, limits, unchanged
from circuits.copies import copied, within
from circuits.following import UNTOLD, broken
from circuits.inputs import generator
from circuits.symmetries import Symmetric

SECONDS = 5.0  # for one check; the reference answers take less than half a second
MEMORY = 4 * limits.GIGABYTE
SEED = 0  # in a notebook; a grader picks a secret one


# Words for authors --------------------------------------------------------------------------


def exercise(
    name: str,
    points: float,
    explains: bool = False,
    in_place: bool = False,
    prepare: Callable[[], None] = lambda: None,
) -> Callable:
    """Mark a check: it belongs to the exercise `name` and is worth `points`.

    One that `explains` is a case made by hand, or says what a lazy answer does too. It gives its points to
    whoever passes another check of the exercise, one that does not.
    An answer gets copies of its arguments, so that what it does to them cannot reach the check.
    With `in_place` the check sees what the answer did to the lists, dictionaries, tensors, models
    and optimizers it was given. Such a check must know what it wants before it calls the answer.
    What `prepare` does takes none of the check's time: imports, which a slow machine needs seconds for.
    """

    def mark(check):
        check.exercise, check.points, check.explains = name, points, explains
        check.in_place, check.prepare = in_place, prepare
        return check

    return mark


def mistake(name: str, hint: str) -> Callable:
    """Mark a known wrong answer to the exercise `name`, with the hint it deserves."""

    def mark(answer):
        answer.exercise, answer.hint = name, hint
        return answer

    return mark


def variant(name: str) -> Callable:
    """Mark another right answer to the exercise `name`, which must pass."""

    def mark(answer):
        answer.exercise = name
        return answer

    return mark


class CheckFailed(AssertionError):
    """A property does not hold; the message tells the learner which, with an example."""

    pair: tuple[Tensor, Tensor] | None = None  # what came and what should have come, of `expect`


def fail(message: str, pair: tuple[Tensor, Tensor] | None = None) -> typing.NoReturn:
    """End the check: the message says what is wrong."""
    failed = CheckFailed(message)
    failed.pair = pair
    raise failed


def require(condition: bool | Tensor, message: str) -> None:
    """Unless the condition holds, the message says what is wrong."""
    if not condition:
        fail(message)


def expect(got: Any, want: Any, what: str, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Require that numbers are as they should be, up to float32 rounding.

    Accepts any mixture of tensors, numbers and nested lists, of any float type. `what` names the
    value in the message, for example "the counts of tokens 0 1 0".
    """
    want = torch.as_tensor(want)
    try:
        got = torch.as_tensor(got)
    except (TypeError, ValueError, RuntimeError):
        fail(f"{_cap(what).rstrip(',')} should be numbers; your answer gave {describe(got)}.{one_tensor(got)}")
    if got.shape != want.shape:
        fail(
            f"{_cap(what).rstrip(',')} should have shape {list(want.shape)}; yours has {list(got.shape)}.",
            (got, want),
        )
    if got.is_complex():
        fail(f"{_cap(what).rstrip(',')} should be real; yours is complex (dtype {got.dtype}): take `.real`.")
    truth = want.dtype == got.dtype == torch.bool
    got, want = got.double(), want.double()
    off = ~torch.isclose(got, want, rtol=rtol, atol=atol)
    if not off.any():
        return
    at = tuple(off.nonzero()[0].tolist())
    if at:
        what = f"{what.rstrip(',')}: entry [{', '.join(map(str, at))}]"
    n_off = f" ({int(off.sum())} of {off.numel()} values differ)" if off.numel() > 1 else ""
    value, should = got[at].item(), want[at].item()
    if truth:
        value, should = bool(value), bool(should)
    note = " NaN comes from 0 / 0, log of a negative number, or inf - inf." * math.isnan(value)
    fail(
        f"{_cap(what)} should be {_number(should)}; "
        f"yours is {_number(value)}{n_off}.{note}",
        (got, want),
    )


def whole_numbers(got: Any, what: str) -> list[int]:
    """A list of whole numbers, such as heads or tokens, as integers; fails if it is none. `what` names it."""
    try:
        entries = got.tolist() if isinstance(got, Tensor) and got.ndim else list(got)
    except TypeError:
        fail(f"{what} should be a list of whole numbers; it is {describe(got)}.")
    return [_whole_number(entry, what) for entry in entries]


def _whole_number(entry: Any, what: str) -> int:
    if isinstance(entry, Tensor) and entry.ndim == 0:
        entry = entry.item()
    if isinstance(entry, bool):
        fail(f"{what} holds True and False; it should hold the numbers of those that are True.")
    if not isinstance(entry, int | float):
        fail(f"{what} should be a list of whole numbers; one of yours is {describe(entry)}.")
    require(float(entry).is_integer(), f"{what} should be a list of whole numbers; one of yours is {entry:.4g}.")
    return int(entry)


def answer_to(question: str, ask: Callable, questions: Collection[str]) -> Any:
    """What an answer says to one of a few questions; fails if it says the same to all of them. Whether it is right
    about the others, or raises, is for other checks to say."""
    said, others = ask(question), []
    for other in (q for q in questions if q != question):
        try:
            others.append(ask(other))
        except AnswerError as error:
            if error.kind in FINAL:
                raise
            others.append(error)
    alike = all(same(other, said) for other in others)
    require(not alike, f"To each of {', '.join(map(repr, questions))} you say {said!r}: it should matter which is asked.")
    return said


def one_tensor(value: Any) -> str:
    """What to do about a list of numbers or tensors where one tensor is wanted; nothing for other values, such as a
    tuple of results of which one is asked for."""
    flat = list(within(value, Tensor | int | float)) if isinstance(value, list) else []
    if not flat or not isinstance(value[0], Tensor | int | float | list):
        return ""
    return f" Make one tensor of it: `{'torch.stack' if isinstance(flat[0], Tensor) else 'torch.tensor'}(...)`."


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]


def _number(x: bool | float) -> str:
    if isinstance(x, bool):
        return str(x)
    return str(int(x)) if float(x).is_integer() and abs(x) < 1e15 else f"{x:.5g}"


def describe(value: Any) -> str:
    """A short, readable name for any value, for use in messages."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {list(value.shape)}"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of very many digits"
    if isinstance(value, bool | int | float | str) or value is None:
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    if isinstance(value, list | tuple | dict | set):
        return f"a {type(value).__name__} of length {len(value)}"
    return f"a {type(value).__name__}"


# Calling an answer --------------------------------------------------------------------------

# What can go wrong with an answer, in the words a learner reads. `{name}` is the answer's.
PROBLEMS = {
    "undefined": "`{name}` is not defined yet: write it in the cell above and run it.",
    "unwritten": "`{name}` is not written yet: replace `raise NotImplementedError()` in the cell "
    "above and run it.",
    "not callable": "`{name}` should be a function; it is {detail}. "
    "Did a later cell use the name for something else?",
    "async": "`{name}` is `async def`, so calling it gave a coroutine: use plain `def`.",
    "generator": "`{name}` uses `yield`, so calling it gave a generator: use `return`.",
    "memory": "`{name}` asked for more memory than a check allows "
    "({gigabytes} GB). Which of its tensors has a dimension too many?",
    "recursion": "`{name}` calls itself without end (RecursionError).",
    "exit": "`{name}` calls exit(). An answer returns its result instead.",
    "time": "`{name}` had not finished after {seconds:g} seconds and was stopped. Is there a loop "
    "that never ends, one over every token where a tensor operation would do, or a matrix far larger "
    "than it need be?",
    "written down": "`{name}` had not finished after {seconds:g} seconds and was stopped. What you found is to be "
    "written down here: search in a cell of your own, and let the answer return the result.",
    "dead": "`{name}` ended the whole Python process: a crash, or a call that kills it.",
    "garbled": "`{name}` disturbed the program that runs it, so nothing it returned could be read.",
    "too large": "`{name}` returned far more data than any check asks for.",
    "hooks": "`{name}` leaves its hooks on the model, so that whoever uses the model next meets them: "
    "call `model.run_with_hooks(...)`, or use `with model.hooks(...)`.",
    "changed": "`{name}` {detail}.",
    "raised": "`{name}` raised {raised}{detail}.",
    "cell": "The cell of `{name}` raised {raised}{detail}, so there is nothing to call.",
    "no time left": "The submission had used up its time before `{name}` was done.",
}
# What torch says in words that only help who knows what is meant, and what is meant.
ADVICE = {
    "single memory location": "The tensor you write into repeats one row without storing it again (`expand`, "
    "`einops.repeat`): make a new one, `x = x + ...`, or take `.clone()` first",
    "a leaf Variable that requires grad": "Weights that take gradients cannot be written into: work on a "
    "`.clone()`, or under `torch.no_grad()`",
    "can't be used in an in-place operation": "What was computed with gradients cannot be written into: make a "
    "new tensor instead",
    "does not require grad and does not have a grad_fn": "There is no way back for gradients: something on the "
    "way cut it (`.detach()`, `.data`, `torch.no_grad()`, a number), or nothing takes gradients: "
    "`.requires_grad_()`",
}
UNSOLVED = ("undefined", "unwritten")
BROKEN = ("time", "written down", "dead", "garbled", "too large")  # the process that ran it is of no more use
FINAL = (*UNSOLVED, *BROKEN, "cell", "no time left")  # a further check would only say it again


class AnswerError(Exception):
    """The answer could not be used; the message tells the learner why."""

    def __init__(self, message: str, kind: str = "", raised: tuple[str, str] = ("", ""), line: str = ""):
        super().__init__(message)
        self.kind = kind  # a key of PROBLEMS; "" for a problem of its own words
        self.raised = raised  # by the answer: an exception's type and text; of a change: what and where
        self.line = line  # of the answer, in which it was raised; "" if unknown
        self.shadowed: list[str] = []  # names of Python's own that mean something else to the answer


def problem(
    name: str, kind: str, raised: tuple[str, str] = ("", ""), detail: str = "", line: str = ""
) -> AnswerError:
    """One of PROBLEMS, as an exception."""
    first_line = ": ".join(filter(None, (raised[0], *raised[1].strip().splitlines()[:1])))
    first_line = first_line if len(first_line) <= 300 else f"{first_line[:300].rpartition(' ')[0]} ..."
    message = PROBLEMS[kind].format(
        name=name, raised=first_line.rstrip("."), detail=detail,
        seconds=SECONDS, gigabytes=MEMORY // limits.GIGABYTE,
    )
    return AnswerError(console.plain(message, lines=False), kind, raised, line)


def advice(text: str) -> str:
    """What an exception's text means, to be put after it; "" if we know no better."""
    return next((f". {meant}" for words, meant in ADVICE.items() if words in text), "")


@dataclass
class Call:
    """One call of an answer: what went in, and what came of it."""

    name: str
    args: tuple
    kwargs: dict[str, Any]
    after: tuple | None = None  # the arguments as the call left them, if the check may look
    value: Any = None
    error: tuple[str, ...] | None = None
    refused: str | None = None  # what its annotation has against the value
    like: Callable | None = None  # the function whose annotation it is
    fingerprint: bytes | None = None  # of the arguments


class Submission:
    """A learner's answers, from a namespace of this process. `submission.NAME(...)` calls one,
    checks the type and shape of what comes back, and keeps a record for the diagnosis.

    Answers get copies of their arguments, or, with `in_place`, the arguments themselves. What they should take
    and return is what functions of the same names in `like` say, such as the released stubs: a learner may drop
    annotations, or get them wrong. Without, it is what the answers themselves say.
    """

    def __init__(self, namespace: Mapping[str, Any], in_place: bool = False, like: Mapping[str, Any] | None = None):
        self.namespace = namespace
        self.in_place = in_place
        self.like = like or {}
        self.rng: torch.Generator | None = None  # the check's own
        self.calls: list[Call] = []
        self.pair: tuple[Tensor, Tensor] | None = None  # the numbers on which the last check failed

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("__"):
            raise AttributeError(name)
        return functools.partial(self._call, name)

    def _call(self, name: str, *args, **kwargs) -> Any:
        if any(g is self.rng for g in within((args, list(kwargs.values())), torch.Generator)):
            raise ValueError("A check must not give its own rng away: draw a seed from it.")
        call = Call(name, copied(args), copied(kwargs))
        self.calls.append(call)
        try:
            call.value = self.run(name, args, kwargs)
        except AnswerError as error:
            call.error = (error.kind, *error.raised)
            raise
        finally:
            call.after = copied((args, kwargs)) if self.in_place else None
        call.like = self.signature(name)
        call.refused = refusal(name, call.like, args, kwargs, call.value)
        if call.refused is not None:
            raise AnswerError(call.refused)
        return copied(call.value)

    def run(self, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Call an answer; what it returned, as plain data. Raises AnswerError. (A grader calls
        into another process here.)"""
        given = args, kwargs
        if not self.in_place:
            args, kwargs = copied(given)
        if name not in self.namespace:
            raise problem(name, "undefined")
        answer = self.namespace[name]
        if not callable(answer):
            raise problem(name, "not callable", detail=describe(answer))
        drawn = torch.get_rng_state() if any(within([args, kwargs], torch.Generator)) else None
        try:
            with unchanged.usual(), unchanged.settings() as moved:
                value = copied(plain(name, answer(*args, **kwargs)))
            if any(getattr(model, "_hooks", None) for model in within([args, kwargs], torch.nn.Module)):
                raise problem(name, "hooks")
            change = ("setting", moved[0]) if moved else None
            if drawn is not None and not torch.equal(drawn, torch.get_rng_state()):
                change = "drawn", ""
            if not self.in_place:
                change = unchanged.changed(given, (args, kwargs)) or change
            if change:
                raise changed(name, change, self.signature(name))
            return value
        except AnswerError:
            raise
        except (Exception, SystemExit) as error:
            raise explain(name, error) from None

    def signature(self, name: str) -> Callable:
        """The function whose annotations say what the answer should take and return."""
        return self.like.get(name) or self.namespace[name]


def plain(name: str, value: Any) -> Any:
    """What an answer returned, as plain data. Raises AnswerError for what cannot be any."""
    if inspect.iscoroutine(value):
        value.close()
        raise problem(name, "async")
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise problem(name, "generator")
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.detach()
        return value if type(value) is Tensor else value.as_subclass(Tensor)
    if type(value).__module__ == "numpy":
        return torch.as_tensor(value.copy())  # a copy, as torch knows no negative strides
    for kind in (list, tuple, set):  # named tuples and torch's own too
        if isinstance(value, kind):
            return kind(_plain(v) for v in value)
    if isinstance(value, dict):
        return {_key(k): _plain(v) for k, v in value.items()}
    return value


def _key(key: Any) -> Any:
    return key.item() if type(key).__module__ == "numpy" else key


def changed(name: str, change: tuple[str, str], signature: Callable) -> AnswerError:
    """What `unchanged` found, as a problem."""
    try:
        kinds = inspect.signature(signature).parameters.values()
        parameters = [p.name for p in kinds if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    except (TypeError, ValueError):  # a callable of another kind
        parameters = []
    return problem(name, "changed", change, unchanged.spell(*change, parameters))


def explain(name: str, error: BaseException) -> AnswerError:
    """What an exception out of an answer means to the learner."""
    raised = type(error).__name__, str(error)
    if isinstance(error, NotImplementedError) and not str(error):  # torch's own says what it cannot do
        return problem(name, "unwritten", raised)
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return problem(name, "memory", raised)
    if isinstance(error, RecursionError):
        return problem(name, "recursion", raised)
    if isinstance(error, SystemExit):
        return problem(name, "exit", raised)
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.name == name]
    line = own[-1].line if own and own[-1].line else ""
    shadowed = _shadowed(error)
    where = f", in its line `{line}`" if line else ""
    told = problem(name, "raised", raised, where + shadowed_text(shadowed) + advice(raised[1]), line)
    told.shadowed = shadowed
    return told


def _shadowed(error: BaseException) -> list[str]:
    """Names of Python's own that mean something else where a learner's code raised: `list = [...]` in any cell."""
    found: list[str] = []
    if not isinstance(error, TypeError | AttributeError):
        return found
    for frame, _ in traceback.walk_tb(error.__traceback__):
        names = frame.f_globals
        if names.get("__name__") in ("__main__", "answers"):
            found += [n for n in frame.f_code.co_names if hasattr(builtins, n) and n in names and n not in found]
    return found


def shadowed_text(names: list[str]) -> str:
    """What to say of such names, to be put after what was raised."""
    if not names:
        return ""
    return f". `{names[0]}` is not Python's own here: a cell uses the name for something else; rename that"


# The answer's own annotation ----------------------------------------------------------------


def refusal(name: str, answer: Callable, args: tuple, kwargs: dict, value: Any) -> str | None:
    """What `check_annotation` has against a value; None if it has nothing."""
    try:
        check_annotation(name, answer, args, kwargs, value)
    except AnswerError as error:
        return str(error)
    return None


def check_annotation(name: str, answer: Callable, args: tuple, kwargs: dict, value: Any) -> None:
    """Hold a value returned by the answer `name` to the annotations of `answer`: type, then shape.

    Raises AnswerError.
    """
    try:
        hints = typing.get_type_hints(answer)
        sizes = sizes_of(answer, args, kwargs)
    except (NameError, TypeError, ValueError):
        return
    want = hints.get("return")
    if value is None and want is not type(None):
        raise AnswerError(f"`{name}` returned None: is the `return` missing?")
    if want is None:
        return
    _check_type(name, want, value, sizes)


def sizes_of(answer: Callable, args: tuple, kwargs: dict) -> dict[str, int]:
    """The sizes that a call's arguments give to names of dimensions: from annotated tensors, from
    integers of that name, and from a model's configuration. Raises TypeError for arguments that the
    answer does not take."""
    hints = typing.get_type_hints(answer)
    bound = inspect.signature(answer).bind(*args, **kwargs).arguments
    sizes: dict[str, int] = {}
    for parameter, arg in bound.items():
        if isinstance(arg, int) and not isinstance(arg, bool):
            sizes.setdefault(parameter, arg)
        if hasattr(arg, "cfg"):
            config = vars(arg.cfg).items()
            sizes |= {k: v for k, v in config if isinstance(v, int) and k not in sizes}
    for parameter, arg in bound.items():
        dims = getattr(hints.get(parameter), "dim_str", "").split()
        if isinstance(arg, Tensor) and len(dims) == arg.ndim:
            sizes |= {dim: size for dim, size in zip(dims, arg.shape, strict=True) if dim.isidentifier()}
    return sizes


def _check_type(name: str, want: Any, value: Any, sizes: dict[str, int], which: str = "") -> None:
    """`which` names one of several outputs."""
    should, its = f"`{name}` should return {which}", "it is" if which else "it returned"
    if hasattr(want, "dim_str"):  # a jaxtyping annotation
        _check_tensor(name, want, value, sizes, which)
    elif want in (int, float):
        number = isinstance(value, bool | int | float)
        if not number and not (isinstance(value, Tensor) and value.numel() == 1):
            raise AnswerError(f"{should}one number; {its} {describe(value)}.")
        if want is int and not float(value).is_integer():
            raise AnswerError(f"{should}a whole number; {its} {describe(value)}.")
    elif want is str and not isinstance(value, str):
        raise AnswerError(f"{should}a string; {its} {describe(value)}.")
    elif typing.get_origin(want) is list or want is list:
        if not isinstance(value, list | tuple | set | Tensor):
            raise AnswerError(f"{should}a list; {its} {describe(value)}.")
        if typing.get_args(want) == (int,):
            entries = value.flatten().tolist() if isinstance(value, Tensor) else value
            for entry in entries:
                if isinstance(entry, float) and not entry.is_integer():
                    raise AnswerError(f"{should}whole numbers; one of yours is {describe(entry)}.")
    elif typing.get_origin(want) is tuple:
        parts = typing.get_args(want)
        if not isinstance(value, tuple | list) or len(value) != len(parts):
            raise AnswerError(f"{should}{len(parts)} values; {its} {describe(value)}.")
        for i, (part, v) in enumerate(zip(parts, value, strict=True), 1):
            _check_type(name, part, v, sizes, f"{which}as value {i} of {len(parts)} ")
    elif isinstance(want, type) and issubclass(want, torch.nn.Module):
        if not isinstance(value, want):
            raise AnswerError(f"{should}a {want.__name__}; {its} {describe(value)}.")


def _check_tensor(name: str, want: Any, value: Any, sizes: dict[str, int], which: str = "") -> None:
    should, its = f"`{name}` should return {which}", "it is" if which else "it returned"
    dims = want.dim_str.split()
    if isinstance(value, bool | int | float) and not dims:
        return
    if not isinstance(value, Tensor):
        raise AnswerError(f"{should}a tensor; {its} {describe(value)}.{one_tensor(value)}")
    kinds = {kind.rstrip("0123456789") for kind in want.dtypes}
    kind = str(value.dtype).removeprefix("torch.").rstrip("0123456789")
    if kind.replace("bfloat", "float") not in {k.replace("bfloat", "float") for k in kinds}:
        examples = {"int": "torch.int64", "float": "torch.float32", "complex": "torch.complex64"}
        example = next((e for known, e in examples.items() if known in kinds), "torch.bool")
        raise AnswerError(
            f"{should}{' or '.join(sorted(kinds & {*examples, 'bool'}))} values "
            f"(dtype {example}); yours have dtype {value.dtype}."
        )
    if any(dim.startswith(("*", "...")) for dim in dims):
        return
    shape: list[int | None] = []
    for dim in dims:
        try:
            shape.append(int(eval(dim, {"__builtins__": {}}, sizes)))  # "pos", "3", "pos-1"
        except (NameError, SyntaxError):
            shape.append(None)  # a size that the arguments do not tell
    fits = len(shape) == value.ndim and all(
        a is None or a == b for a, b in zip(shape, value.shape, strict=True)
    )
    if not fits:
        here = ", ".join(dim if n is None else str(n) for dim, n in zip(dims, shape, strict=True))
        known = any(n is not None and str(n) != dim for dim, n in zip(dims, shape, strict=True))
        wanted = f"shape [{' '.join(dims)}]{f', here [{here}]' * known}" if dims else "one number"
        raise AnswerError(f"{should}{wanted}; yours has shape {list(value.shape)}.")


# Running checks -----------------------------------------------------------------------------


def title(check: Callable) -> str:
    """A check's name for people: its function's name, in words."""
    return check.__name__.removeprefix("test_").replace("_", " ")


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Small problems run faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def inputs(check: Callable, seed: int) -> torch.Generator:
    """Where a check's inputs come from: of one seed, each check draws others."""
    digest = hashlib.blake2b(f"{seed} {check.__module__} {check.__name__}".encode(), digest_size=7)
    return torch.Generator().manual_seed(int.from_bytes(digest.digest(), "big"))


def too_slow(submission: Submission, name: str) -> str:
    """The problem of an answer that takes too long: one without arguments only writes down."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        if not inspect.signature(submission.signature(name)).parameters:
            return "written down"
    return "time"


def run_check(
    check: Callable, submission: Submission, seed: int = SEED, follow: bool = True
) -> str | None:
    """Run one check with fresh inputs, and, unless told not to, ask whether the answer follows the
    symmetries of its exercise. None if it passes, else what is wrong.

    The inputs depend on the seed alone: torch's own generator, from which a new model draws its
    weights, is seeded too, and afterwards is as it was.
    """
    rng = inputs(check, seed)
    submission.in_place, submission.rng, submission.pair = check.in_place, rng, None
    check.prepare()
    try:
        with torch.random.fork_rng(devices=[]), threads(1), limits.memory_limit(MEMORY):
            torch.manual_seed(rng.initial_seed() + 1)  # other numbers than rng's
            first = len(submission.calls)
            with limits.time_limit(SECONDS):
                check(submission, rng)
            # Up to a dozen calls of an answer that does not follow. One still at it is slow, and right so far.
            if follow:
                with contextlib.suppress(limits.OutOfTime), limits.time_limit(3 * SECONDS):
                    _follow_symmetries(check, submission, submission.calls[first:], rng)
    except limits.OutOfTime:
        raise problem(check.exercise, too_slow(submission, check.exercise)) from None
    except AssertionError as error:
        submission.pair = getattr(error, "pair", None)
        return str(error) or "The property does not hold."
    return None


def _follow_symmetries(
    check: Callable, submission: Submission, calls: list[Call], rng: torch.Generator
) -> None:
    """Ask again what the check asked first and last, written down otherwise: the answer must say the same.

    Such calls are no part of the record, except one that fails: then a mistake is known by it too.
    """
    entry = getattr(check, "__globals__", {}).get("SYMMETRIES", {}).get(check.exercise)
    calls = [call for call in calls if call.name == check.exercise and call.error is None]
    if not isinstance(entry, Symmetric) or check.in_place or not calls:
        return

    def ask(args: tuple, kwargs: dict[str, Any]) -> Any:
        try:
            return submission.run(check.exercise, args, kwargs)
        except AnswerError as error:
            if error.kind in FINAL:
                raise
            return error

    answer = submission.signature(check.exercise)
    for call in calls[:1] + calls[1:][-1:]:
        try:
            found = broken(
                entry, answer, check.exercise, call.args, call.kwargs, call.value, ask, generator(rng)
            )
        except UNTOLD:  # by the learner's own annotations
            return
        if found:
            error = found.got if isinstance(found.got, AnswerError) else None
            submission.calls.append(Call(
                check.exercise, found.args, found.kwargs, value=None if error else found.got,
                error=error and (error.kind, *error.raised), like=answer,
            ))  # fmt: skip
            fail(found.message)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal up to rounding: the same shapes, the same NaN. A number is a
    tensor without dimensions, and a list of numbers one of a tensor's kinds too."""
    if isinstance(a, Tensor) != isinstance(b, Tensor):
        try:
            a, b = torch.as_tensor(a), torch.as_tensor(b)
        except (TypeError, ValueError, RuntimeError):
            return False
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        wide = torch.complex128 if a.is_complex() or b.is_complex() else torch.float64
        return a.shape == b.shape and torch.allclose(
            a.to(wide), b.to(wide), rtol=1e-4, atol=1e-6, equal_nan=True
        )
    if isinstance(a, torch.nn.Module) and isinstance(b, torch.nn.Module):
        return same(dict(a.state_dict()), dict(b.state_dict()))
    if isinstance(a, float) and isinstance(b, int | float) or isinstance(b, float) and isinstance(a, int):
        with contextlib.suppress(OverflowError):
            return math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-6) or (math.isnan(a) and math.isnan(b))
        return False
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, torch.Generator | torch.optim.Optimizer):
        return True  # what an answer drew or stepped shows in its other results
    return type(a) is type(b) and a == b
