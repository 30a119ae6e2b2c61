"""What all checks of an exercise come to, and which hint a wrong answer deserves.

A hint names what the learner did. It is shown only if it is so: the answer and the known mistake
are both run on further inputs, and a hint that fits no better than another is not shown.
"""

import contextlib
import functools
import itertools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from circuits import limits, unchanged
from circuits.checking import (
    FINAL, SEED, UNSOLVED, AnswerError, Call, Submission, describe, one_tensor, refusal,
    run_check, same, threads, title,
)
from circuits.copies import copied, fingerprint, within
from circuits.deviations import Pair, deviation
from circuits.repairs import repair
from circuits.results import CheckResult, Result

MORE_SEEDS = 8  # at most so many further inputs for a diagnosis
RICH = 12  # distinct numbers: if so many agree, some failed checks may come out otherwise
DIAGNOSIS_SECONDS = 20.0  # of computing; a usual one takes less than one
ENOUGH = 6  # distinct numbers, lists or words: two answers do not agree on so many by chance


@dataclass
class Trial:
    """One run of a check for a diagnosis: whether it passed, and the calls it made."""

    passed: bool
    calls: Sequence[Call]


def run_checks(
    checks: Sequence[Callable],
    submission: Submission,
    mistakes: Sequence[Callable] | Callable[[], Sequence[Callable]] = (),
    seed: int = SEED,
) -> Result:
    """Run all checks of one exercise. On a failure, look for the known mistake (of `mistakes`, or what
    it returns when called) that the answer makes, and then for a slip that would repair it."""
    result = Result(checks[0].exercise)
    trials: list[Trial] = []
    stopped: AnswerError | None = None
    pairs: dict[int, Pair] = {}
    with limits.quiet() as printed, unchanged.usual():
        for i, check in enumerate(checks):
            submission.calls = []
            message, kind = (str(stopped), stopped.kind) if stopped else (None, "")
            if stopped is None:
                try:
                    message = run_check(check, submission, seed)
                    if submission.pair is not None:
                        pairs[i] = submission.pair
                except AnswerError as error:
                    message, kind = str(error), error.kind
                    result.unsolved |= kind in UNSOLVED
                    stopped = error if kind in FINAL else None
                except Exception as error:  # the check could not read what the answer returned
                    value = submission.calls[-1].value if submission.calls else None
                    message = (
                        f"The check could not use what `{check.exercise}` returned ({describe(value)}): "
                        f"{type(error).__name__}: {str(error).rstrip('.')}.{one_tensor(value)}"
                    )
            passed = message is None
            trials.append(Trial(passed, submission.calls))
            found = CheckResult(title(check), check.points, passed, message or "", check.explains, kind)
            result.checks.append(found)
        if not result.passed and not stopped:
            with contextlib.suppress(limits.OutOfTime), limits.time_limit(DIAGNOSIS_SECONDS):
                result.hint = _hint(checks, trials, mistakes, pairs, submission, seed)
    result.printed = printed.getvalue()[:2000]
    return result


def _hint(
    checks: Sequence[Callable], trials: Sequence[Trial],
    mistakes: Sequence[Callable] | Callable[[], Sequence[Callable]],
    pairs: dict[int, Pair], submission: Submission, seed: int,
) -> str | None:  # fmt: skip
    """What to say of a wrong answer beyond what its checks said."""
    with threads(1):
        known = mistakes() if callable(mistakes) else mistakes
        further, again = itertools.tee(_further(checks, trials, submission, seed))
        found = diagnose(known, trials, further)
        if found is None and (alike := behaviour(checks[0])):
            found = diagnose(known, trials, again, alike)
    if found:
        return found.hint
    hint = repair(checks, submission, trials, next(iter(pairs.values()), None), seed)
    return _deviation(checks, trials, pairs, submission, seed) if hint is None else hint


def behaviour(check: Callable) -> Callable[[Any], Any] | None:
    """What of an answer tells which mistake it makes, where many constructions are right, or any order or scale:
    the table BEHAVIOUR beside the checks says it."""
    return getattr(check, "__globals__", {}).get("BEHAVIOUR", {}).get(check.exercise)


def as_a_set(names: Any) -> list[str]:
    """What tells of an answer that lists names, positions or heads: not their order."""
    return sorted(set(map(str, names)))


def spectrum(eigenvalues: Any) -> Tensor:
    """What tells of an answer that lists eigenvalues: not their order."""
    x = torch.as_tensor(eigenvalues).to(torch.complex128)
    return x[(x.real + 1e-3 * x.imag).argsort()]


def diagnose(
    mistakes: Sequence[Callable],
    trials: Sequence[Trial],
    further: Iterator[Sequence[Trial]] = iter(()),
    behaviour: Callable[[Any], Any] | None = None,
) -> Callable | None:
    """The known mistake that does what the answer did, on these trials and on the further ones, which
    are made as they are needed; None if there is none, or if two fit equally well."""
    score = {mistake: repeated(mistake, trials, behaviour) for mistake in mistakes}
    score = {mistake: n for mistake, n in score.items() if n}
    outcomes: list = []
    while score and (more := next(further, None)) is not None:
        for mistake in list(score):
            failed, passed = repeated(mistake, more, behaviour), [trial for trial in more if trial.passed]
            score[mistake] += failed
            wrong = len(passed) < len(more) and not failed
            if wrong or not all(_repeats(mistake, call, behaviour) for trial in passed for call in trial.calls):
                del score[mistake]  # nor is it made by an answer that is right where the mistake is not
        _add(outcomes, more)
        if sum(map(_weight, outcomes)) >= ENOUGH and list(score.values()).count(max(score.values(), default=0)) == 1:
            break
    best = [mistake for mistake in score if score[mistake] == max(score.values())]
    return best[0] if len({mistake.hint for mistake in best}) == 1 else None


def _add(outcomes: list, trials: Sequence[Trial]) -> None:
    """Collect the distinct outcomes of failed checks."""
    for trial in trials:
        for call in trial.calls if not trial.passed else ():
            if not any(same(call.value, other) for other in outcomes):
                outcomes.append(call.value)


def _weight(outcome: Any) -> int:
    """How much it says that two answers agree on an outcome: of a tensor each number, of a list two at
    least, of a number, a word or a truth value one, of NaN alone nothing; a model
    is full of numbers."""
    if isinstance(outcome, Tensor):
        numbers = torch.view_as_real(outcome) if outcome.is_complex() else outcome
        return len(numbers[numbers == numbers].unique())
    if isinstance(outcome, list | tuple | dict):
        outcome = outcome.values() if isinstance(outcome, dict) else outcome
        return max(2, sum(_weight(part) for part in outcome if isinstance(part, Tensor | float)))
    return RICH if isinstance(outcome, torch.nn.Module) else 1


def _further(
    checks: Sequence[Callable], trials: Sequence[Trial], submission: Submission, seed: int
) -> Iterator[Sequence[Trial]]:
    """The checks that failed, again on other inputs. Some are always asked the same: that tells nothing new."""
    failed = [check for check, trial in zip(checks, trials, strict=True) if not trial.passed]
    asked, repetitions = _asked([trial for trial in trials if not trial.passed]), 0
    if not any(args or kwargs for args, kwargs in asked):
        return
    for more in range(1, MORE_SEEDS + 1):
        again = []
        for check in failed:
            submission.calls, passed = [], False
            try:
                passed = run_check(check, submission, seed + more, follow=False) is None
            except AnswerError as error:
                if error.kind in FINAL:
                    return
            except Exception:  # it failed in the same way before
                pass
            again.append(Trial(passed, submission.calls))
        if not same(_asked(again), asked):
            yield again
        elif (repetitions := repetitions + 1) == 3:
            return


def _deviation(
    checks: Sequence[Callable], trials: Sequence[Trial], pairs: dict[int, Pair], submission: Submission, seed: int
) -> str | None:
    """What the numbers on which checks fail have in common with the right ones, if it is the same in all of them.
    `pairs` are those numbers, by the index of the check."""
    said = set()
    for i, pair in pairs.items():
        value = trials[i].calls[-1].value if trials[i].calls else None
        further = _further_pairs(checks[i], submission, seed)
        sentence = deviation(pair, further, whole=isinstance(value, Tensor) and same(value, pair[0]))
        if sentence:
            said.add(sentence)
    return said.pop() if len(said) == 1 else None


def _further_pairs(check: Callable, submission: Submission, seed: int) -> Iterator[Pair]:
    """The numbers on which a check fails on other inputs."""
    for more in range(1, MORE_SEEDS + 1):
        try:
            if run_check(check, submission, seed + more, follow=False) is None:
                continue
        except Exception:
            return
        if submission.pair is not None:
            yield submission.pair


def _asked(trials: Sequence[Trial]) -> list:
    """What an answer was called with."""
    return [(call.args, call.kwargs) for trial in trials for call in trial.calls]


def repeated(
    mistake: Callable, trials: Sequence[Trial], behaviour: Callable[[Any], Any] | None = None
) -> int:
    """How many calls a mistake repeats, if it repeats every call of the checks that failed; else 0. Half of them
    do if many different numbers agree there: who takes columns for rows may also guard against 0 / 0, or not.
    (Of a few numbers, as in a case made by hand, many mistakes may make the same.)"""

    @functools.cache
    def repeats(i: int, j: int) -> bool:
        return _repeats(mistake, trials[i].calls[j], behaviour)

    # Most mistakes differ on the first call of a failed check, and are done with there.
    every_call = [[(i, j) for j in range(len(trial.calls))] for i, trial in enumerate(trials)]
    failed = [at for at, trial in zip(every_call, trials, strict=True) if at and not trial.passed]
    differing = 0
    for at in failed:
        differing += not all(repeats(*place) for place in at)
        if 2 * differing > len(failed):
            return 0
    if differing:
        alike = [trials[i].calls[j].value for at in failed for i, j in at if all(repeats(*p) for p in at)]
        if sum(map(_weight, alike)) < RICH:
            return 0
    return sum(repeats(*place) for at in every_call for place in at) if failed else 0


def _repeats(answer: Callable, call: Call, behaviour: Callable[[Any], Any] | None) -> bool:
    """Whether a mistake does the same in a call, down to what its type is refused for."""
    args, kwargs = call.args, call.kwargs
    if call.after is not None:
        args, kwargs = copied((args, kwargs))  # else the answer gets copies
        value, error = _outcome(answer, call.name, args, kwargs, in_place=True)
    else:
        value, error = _known_outcome(answer, call)
    alike = _same_numbers(value, call.value) or behaviour and _behave_alike(value, call.value, behaviour)
    if error != call.error or not alike:
        return False
    if error is None:
        refused = refusal(call.name, call.like, call.args, call.kwargs, value)
        if _in_words(refused) != _in_words(call.refused):
            return False
    return call.after is None or same((args, kwargs), call.after)


def _outcome(answer: Callable, name: str, args: tuple, kwargs: dict, in_place: bool = False) -> tuple[Any, Any]:
    try:
        return Submission({name: answer}, in_place).run(name, args, kwargs), None
    except AnswerError as error:
        return None, (error.kind, *error.raised)


_known: OrderedDict[tuple[Callable, bytes], tuple[Any, Any]] = OrderedDict()  # what mistakes came to, newest last
KNOWN, LARGE = 4096, 10_000  # outcomes; numbers in one of them


def _known_outcome(answer: Callable, call: Call) -> tuple[Any, Any]:
    """What a mistake makes of a call's arguments, remembered: whoever checks an exercise again is asked the same."""
    if call.fingerprint is None:
        call.fingerprint = fingerprint((call.args, call.kwargs))
    key = answer, call.fingerprint
    if key in _known:
        _known.move_to_end(key)
        return _known[key]
    outcome = _outcome(answer, call.name, call.args, call.kwargs)
    if sum(x.numel() for x in within(outcome[0], Tensor)) < LARGE and not list(within(outcome[0], torch.nn.Module)):
        _known[key] = outcome
        if len(_known) > KNOWN:
            _known.popitem(last=False)
    return outcome


def _same_numbers(a: Any, b: Any) -> bool:
    """The same up to what another process rounds otherwise: in sums of large numbers, small ones move."""
    if same(a, b):
        return True
    if _form(a) != _form(b):
        return False
    (a, b) = (torch.cat([x.detach().double().flatten() for x in _numbers(v)] or [torch.zeros(0)]) for v in (a, b))
    scale = b[b.isfinite()].abs().max().item() if b.isfinite().any() else 0.0
    return bool(len(b)) and torch.allclose(a, b, rtol=1e-4, atol=1e-5 * scale, equal_nan=True)


def _form(value: Any) -> Any:
    """A value without its fractions: lengths, keys, shapes, whole numbers, words."""
    if isinstance(value, Tensor):
        return value.shape if value.is_floating_point() else (value.shape, value.tolist())
    if isinstance(value, dict):
        return {key: _form(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [*map(_form, value)]
    return "number" if isinstance(value, float) else value


def _numbers(value: Any) -> Iterator[Tensor]:
    """The fractions in it."""
    for x in within(value, Tensor | float):
        if isinstance(x, float) or x.is_floating_point():
            yield torch.as_tensor(x)


def _behave_alike(a: Any, b: Any, behaviour: Callable[[Any], Any]) -> bool:
    try:
        return _mostly_same(behaviour(a), behaviour(b))
    except Exception:  # what the answer returned is nothing that behaves
        return False


def _mostly_same(a: Any, b: Any) -> bool:
    """The same, but for a tenth of places where another gain may tip the scales."""
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_mostly_same, a, b))
    if isinstance(a, Tensor) and a.dtype == torch.long:
        return a.shape == b.shape and (a == b).double().mean().item() > 0.9
    return same(a, b)


def _in_words(message: str | None) -> str | None:
    """A refusal without its numbers, whose last digits another process may round otherwise."""
    return message and re.sub(r"[-+]?\d[\d.e+-]*", "#", message)
