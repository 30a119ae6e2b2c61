"""How an answer is checked: the words in which checks, mistakes and variants are written, the
guarded call of an answer, and the diagnosis of a wrong one.

A check is a plain function `test_...(submission, rng)` that calls `submission.NAME(...)` and
states what must be true of what comes back. It runs alike in a notebook, under pytest, and in a
grader whose `submission` calls into another process.
"""

import contextlib
import copy
import functools
import hashlib
import inspect
import math
import traceback
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from utils import limits
from utils.results import CheckResult, Result

SECONDS = 5.0  # for one check; the reference answers take less than half a second
MEMORY = 4 * limits.GIGABYTE
SEED = 0  # in a notebook; a grader picks a secret one


# Words for authors --------------------------------------------------------------------------


def exercise(name: str, points: float, in_place: bool = False) -> Callable:
    """Mark a check: it belongs to the exercise `name` and is worth `points`.

    An answer gets copies of its arguments, so that what it does to them cannot reach the check.
    With `in_place` the check sees what the answer did to the lists, dictionaries, tensors, models
    and optimizers it was given. Such a check must know what it wants before it calls the answer.
    """

    def mark(check):
        check.exercise, check.points, check.in_place = name, points, in_place
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


def fail(message: str) -> typing.NoReturn:
    """End the check: the message says what is wrong."""
    raise CheckFailed(message)


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
        fail(f"{_cap(what)} should be numbers; your answer gave {describe(got)}.{_stack(got)}")
    if got.shape != want.shape:
        fail(f"{_cap(what).rstrip(',')} should have shape {list(want.shape)}; yours has {list(got.shape)}.")
    if got.is_complex():
        fail(f"{_cap(what).rstrip(',')} should be real; yours is complex (dtype {got.dtype}): take `.real`.")
    got, want = got.double(), want.double()
    off = ~torch.isclose(got, want, rtol=rtol, atol=atol)
    if not off.any():
        return
    at = tuple(off.nonzero()[0].tolist())
    if at:
        what = f"{what.rstrip(',')}: entry [{', '.join(map(str, at))}]"
    n_off = f" ({int(off.sum())} of {off.numel()} values differ)" if off.numel() > 1 else ""
    value = got[at].item()
    note = " NaN comes from 0 / 0, log of a negative number, or inf - inf." * math.isnan(value)
    fail(
        f"{_cap(what)} should be {_number(want[at].item())}; "
        f"yours is {_number(value)}{n_off}.{note}"
    )


def _stack(value: Any) -> str:
    """What to do about a list where one tensor is wanted; nothing for other values."""
    if not isinstance(value, list | tuple):
        return ""
    call = "torch.stack" if list(_within(value, Tensor)) else "torch.tensor"
    return f" Make one tensor of it: `{call}(...)`."


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]


def _number(x: float) -> str:
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
    "dead": "`{name}` ended the whole Python process: a crash, or a call that kills it.",
    "garbled": "`{name}` disturbed the program that runs it, so nothing it returned could be read.",
    "too large": "`{name}` returned far more data than any check asks for.",
    "hooks": "`{name}` leaves its hooks on the model, so that whoever uses the model next meets them: "
    "call `model.run_with_hooks(...)`, or use `with model.hooks(...)`.",
    "raised": "`{name}` raised {raised}{detail}.",
    "cell": "The cell of `{name}` raised {raised}{detail}, so there is nothing to call.",
    "no time left": "The submission had used up its time before `{name}` was done.",
}
UNSOLVED = ("undefined", "unwritten")
BROKEN = ("time", "dead", "garbled", "too large")  # the process that ran it is of no more use
FINAL = (*UNSOLVED, *BROKEN, "cell", "no time left")  # a further check would only say it again


class AnswerError(Exception):
    """The answer could not be used; the message tells the learner why."""

    def __init__(self, message: str, kind: str = "", raised: tuple[str, str] = ("", ""), line: int = 0):
        super().__init__(message)
        self.kind = kind  # a key of PROBLEMS; "" for a problem of its own words
        self.raised = raised  # by the answer: the exception's type and text
        self.line = line  # of the answer's cell, from 1; 0 if unknown


def problem(
    name: str, kind: str, raised: tuple[str, str] = ("", ""), detail: str = "", line: int = 0
) -> AnswerError:
    """One of PROBLEMS, as an exception."""
    first_line = ": ".join(filter(None, (raised[0], *raised[1].strip().splitlines()[:1])))[:300]
    message = PROBLEMS[kind].format(
        name=name, raised=first_line.rstrip("."), detail=detail,
        seconds=SECONDS, gigabytes=MEMORY // limits.GIGABYTE,
    )
    return AnswerError(message, kind, raised, line)


@dataclass
class Call:
    """One call of an answer: what went in, and what came of it."""

    name: str
    args: tuple
    kwargs: dict[str, Any]
    after: tuple | None = None  # the arguments as the call left them, if the check may look
    value: Any = None
    error: tuple[str, ...] | None = None


class Submission:
    """A learner's answers, from a namespace of this process. `submission.NAME(...)` calls one,
    checks the type and shape of what comes back, and keeps a record for the diagnosis.

    Answers get copies of their arguments, or, with `in_place`, the arguments themselves.
    """

    def __init__(self, namespace: dict[str, Any], in_place: bool = False):
        self.namespace = namespace
        self.in_place = in_place
        self.rng: torch.Generator | None = None  # the check's own
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("__"):
            raise AttributeError(name)
        return functools.partial(self._call, name)

    def _call(self, name: str, *args, **kwargs) -> Any:
        if any(g is self.rng for g in _within((args, list(kwargs.values())), torch.Generator)):
            raise ValueError("A check must not give its own rng away: draw a seed from it.")
        call = Call(name, _copy(args), _copy(kwargs))
        self.calls.append(call)
        try:
            call.value = self.run(name, args, kwargs)
        except AnswerError as error:
            call.error = (error.kind, *error.raised)
            raise
        finally:
            call.after = _copy((args, kwargs)) if self.in_place else None
        check_annotation(name, self.signature(name), args, kwargs, call.value)
        return _copy(call.value)

    def run(self, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Call an answer; what it returned, as plain data. Raises AnswerError. (A grader calls
        into another process here.)"""
        if not self.in_place:
            args, kwargs = _copy((args, kwargs))
        if name not in self.namespace:
            raise problem(name, "undefined")
        answer = self.namespace[name]
        if not callable(answer):
            raise problem(name, "not callable", detail=describe(answer))
        try:
            value = _copy(plain(name, answer(*args, **kwargs)))
            if any(getattr(model, "_hooks", None) for model in _within([args, kwargs], torch.nn.Module)):
                raise problem(name, "hooks")
            return value
        except AnswerError:
            raise
        except (Exception, SystemExit) as error:
            raise explain(name, error) from None

    def signature(self, name: str) -> Callable:
        """The function whose annotations say what the answer should return."""
        return self.namespace[name]


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


def explain(name: str, error: BaseException) -> AnswerError:
    """What an exception out of an answer means to the learner."""
    raised = type(error).__name__, str(error)
    if isinstance(error, NotImplementedError):
        return problem(name, "unwritten", raised)
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return problem(name, "memory", raised)
    if isinstance(error, RecursionError):
        return problem(name, "recursion", raised)
    if isinstance(error, SystemExit):
        return problem(name, "exit", raised)
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.name == name]
    where = f", in its line `{own[-1].line}`" if own and own[-1].line else ""
    return problem(name, "raised", raised, where, own[-1].lineno if own else 0)


def _copy(value: Any) -> Any:
    """A deep copy, in which an optimizer goes with the copy of its model, and gradients and random
    generators are copied too, as `copy.deepcopy` alone would not."""
    memo = {id(g): torch.Generator().set_state(g.get_state()) for g in _within(value, torch.Generator)}
    try:
        copied = copy.deepcopy(value, memo)
    except Exception:  # an exotic return value: the check itself will say what it makes of it
        return value
    models = zip(_within(value, torch.nn.Module), _within(copied, torch.nn.Module), strict=True)
    for model, new in models:
        for param, new_param in zip(model.parameters(), new.parameters(), strict=True):
            new_param.grad = None if param.grad is None else param.grad.clone()
    return copied


def _within(value: Any, kind: type) -> Iterator[Any]:
    """Everything of one kind in nested lists, tuples and dicts."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _within(item, kind)


# The answer's own annotation ----------------------------------------------------------------


def check_annotation(name: str, answer: Callable, args: tuple, kwargs: dict, value: Any) -> None:
    """Hold a value returned by the answer `name` to the annotations of `answer`: type, then shape.

    Raises AnswerError. Names of dimensions take their sizes from the arguments: from annotated
    tensors, from integers of that name, and from a model's configuration.
    """
    try:
        hints = typing.get_type_hints(answer)
        bound = inspect.signature(answer).bind(*args, **kwargs).arguments
    except (NameError, TypeError, ValueError):
        return
    want = hints.get("return")
    if value is None and want is not type(None):
        raise AnswerError(f"`{name}` returned None: is the `return` missing?")
    if want is None:
        return
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
    _check_type(name, want, value, sizes)


def _check_type(name: str, want: Any, value: Any, sizes: dict[str, int]) -> None:
    if hasattr(want, "dim_str"):  # a jaxtyping annotation
        _check_tensor(name, want, value, sizes)
    elif want in (int, float):
        number = isinstance(value, bool | int | float)
        if not number and not (isinstance(value, Tensor) and value.numel() == 1):
            raise AnswerError(f"`{name}` should return one number; it returned {describe(value)}.")
    elif want is str and not isinstance(value, str):
        raise AnswerError(f"`{name}` should return a string; it returned {describe(value)}.")
    elif typing.get_origin(want) is list or want is list:
        if not isinstance(value, list | tuple | set | Tensor):
            raise AnswerError(f"`{name}` should return a list; it returned {describe(value)}.")
    elif typing.get_origin(want) is tuple:
        parts = typing.get_args(want)
        if not isinstance(value, tuple | list) or len(value) != len(parts):
            raise AnswerError(
                f"`{name}` should return {len(parts)} values; it returned {describe(value)}."
            )
        for part, v in zip(parts, value, strict=True):
            _check_type(name, part, v, sizes)
    elif isinstance(want, type) and issubclass(want, torch.nn.Module):
        if not isinstance(value, want):
            raise AnswerError(
                f"`{name}` should return a {want.__name__}; it returned {describe(value)}."
            )


def _check_tensor(name: str, want: Any, value: Any, sizes: dict[str, int]) -> None:
    dims = want.dim_str.split()
    if isinstance(value, bool | int | float) and not dims:
        return
    if not isinstance(value, Tensor):
        raise AnswerError(
            f"`{name}` should return a tensor; it returned {describe(value)}.{_stack(value)}"
        )
    kinds = {kind.rstrip("0123456789") for kind in want.dtypes}
    kind = str(value.dtype).removeprefix("torch.").rstrip("0123456789")
    if kind.replace("bfloat", "float") not in {k.replace("bfloat", "float") for k in kinds}:
        examples = {"int": "torch.int64", "float": "torch.float32", "complex": "torch.complex64"}
        example = next((e for known, e in examples.items() if known in kinds), "torch.bool")
        raise AnswerError(
            f"`{name}` should return {' or '.join(sorted(kinds & {*examples, 'bool'}))} values "
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
        wanted = ", ".join(dim if s is None else str(s) for dim, s in zip(dims, shape, strict=True))
        raise AnswerError(
            f"`{name}` should return shape [{' '.join(dims)}], here [{wanted}]; "
            f"yours has shape {list(value.shape)}."
        )


# Running checks -----------------------------------------------------------------------------


def title(check: Callable) -> str:
    """A check's name for people: its function's name, in words."""
    return check.__name__.removeprefix("test_").replace("_", " ")


@contextlib.contextmanager
def _threads(n: int) -> Iterator[None]:
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


def run_check(check: Callable, submission: Submission, seed: int = SEED) -> str | None:
    """Run one check with fresh inputs. None if it passes, else what is wrong.

    The inputs depend on the seed alone: torch's own generator, from which a new model draws its
    weights, is seeded too, and afterwards is as it was.
    """
    rng = inputs(check, seed)
    submission.in_place, submission.rng = check.in_place, rng
    try:
        with (
            torch.random.fork_rng(devices=[]), _threads(1),
            limits.time_limit(SECONDS), limits.memory_limit(MEMORY),
        ):
            torch.manual_seed(rng.initial_seed() + 1)  # other numbers than rng's
            check(submission, rng)
    except limits.OutOfTime:
        raise problem(check.exercise, "time") from None
    except AssertionError as error:
        return str(error) or "The property does not hold."
    return None


def run_checks(
    checks: Sequence[Callable],
    submission: Submission,
    mistakes: Sequence[Callable] | Callable[[], Sequence[Callable]] = (),
    seed: int = SEED,
) -> Result:
    """Run all checks of one exercise. On a failure, `mistakes` (or what it returns when called)
    are searched for one that behaves as this answer does."""
    result = Result(checks[0].exercise)
    calls: list[tuple[bool, list[Call]]] = []
    stopped: str | None = None
    with limits.quiet() as printed:
        for check in checks:
            submission.calls = []
            message = stopped
            if stopped is None:
                try:
                    message = run_check(check, submission, seed)
                except AnswerError as error:
                    message = str(error)
                    result.unsolved |= error.kind in UNSOLVED
                    stopped = message if error.kind in FINAL else None
                except Exception as error:  # the check could not read what the answer returned
                    value = submission.calls[-1].value if submission.calls else None
                    message = (
                        f"The check could not use what `{check.exercise}` returned "
                        f"({describe(value)}): {type(error).__name__}: {str(error).rstrip('.')}.{_stack(value)}"
                    )
            passed = message is None
            calls.append((passed, submission.calls))
            result.checks.append(CheckResult(title(check), check.points, passed, message or ""))
        if not result.passed and not stopped:
            with _threads(1):
                found = diagnose(mistakes() if callable(mistakes) else mistakes, calls)
            result.hint = found and found.hint
    result.printed = printed.getvalue()[:2000]
    return result


# Diagnosis ----------------------------------------------------------------------------------


def diagnose(mistakes: Sequence[Callable], checks: Sequence[tuple[bool, Sequence[Call]]]) -> Callable | None:
    """The known mistake that does what the answer did; None if there is none.

    `checks` says of each check whether it passed, and which calls it made. A mistake qualifies if it
    repeats every call of at least half of the checks that failed; of several, the one that repeats
    the most calls is meant. (Not of all of them: who takes columns for rows may also guard against
    0 / 0, or not. Not of one alone: in a case made by hand many mistakes may come to the same.)
    """

    def repeated(mistake: Callable) -> int:
        @functools.cache
        def repeats(check: int, call: int) -> bool:
            return _repeats(mistake, checks[check][1][call])

        # Most mistakes differ on the first call of a failed check, and are done with there.
        every_call = [[(i, j) for j in range(len(calls))] for i, (_, calls) in enumerate(checks)]
        failed = [at for at, (passed, _) in zip(every_call, checks, strict=True) if at and not passed]
        differing = 0
        for at in failed:
            differing += not all(repeats(*place) for place in at)
            if 2 * differing > len(failed):
                return 0
        return sum(repeats(*place) for at in every_call for place in at) if failed else 0

    counts = [repeated(mistake) for mistake in mistakes]
    return mistakes[counts.index(max(counts))] if any(counts) else None


def _repeats(answer: Callable, call: Call) -> bool:
    args, kwargs = _copy(call.args), _copy(call.kwargs)
    try:
        value, error = Submission({call.name: answer}, in_place=True).run(call.name, args, kwargs), None
    except AnswerError as e:
        value, error = None, (e.kind, *e.raised)
    if error != call.error or not same(value, call.value):
        return False
    return call.after is None or same((args, kwargs), call.after)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal up to rounding: the same shapes, the same NaN."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        wide = torch.complex128 if a.is_complex() or b.is_complex() else torch.float64
        return a.shape == b.shape and torch.allclose(
            a.to(wide), b.to(wide), rtol=1e-4, atol=1e-6, equal_nan=True
        )
    if isinstance(a, torch.nn.Module) and isinstance(b, torch.nn.Module):
        return same(dict(a.state_dict()), dict(b.state_dict()))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-6) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, torch.Generator | torch.optim.Optimizer):
        return True  # what an answer drew or stepped shows in its other results
    return type(a) is type(b) and a == b
