"""The process that runs a submission's code: it executes cells and calls answers, on request.

It knows nothing that a submission may not know: no check, no expected value, no mark. What it says
is believed by nobody; `remote.py` reads it as a stranger's words.
"""

import os
import sys
import types
from collections.abc import Callable
from typing import Any

import torch

from circuits import limits
from circuits.cells import cell_namespace, compile_cell, run_code, run_own
from circuits.checking import AnswerError, Submission, explain, problem
from circuits.grading.wire import pack, receive, send, unpack


def serve(read: Callable[[int], bytes], write: Callable[[bytes], int]) -> None:
    """Answer requests until the other side hangs up."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")  # where dataclasses and such look names up
    answers = cell_namespace(vars(main))
    while True:
        try:
            request = unpack(receive(read), trusted=True)
        except (EOFError, OSError):
            return
        run = _call if "code" not in request else _run_own if request.get("own") else _run_cell
        reply = run(answers, request)
        try:
            message = pack({**reply, "ticket": request["ticket"]}, reply=True)
        except Exception:  # what the answer returned defends itself against being read
            message = pack({"problem": "garbled", "ticket": request["ticket"]})
        send(write, message)


def _run_cell(answers: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    name = request["name"]
    parts = _parts.setdefault(name, [])
    parts.append(request["code"])
    try:
        with limits.time_limit(request["seconds"]):
            try:
                code = compile_cell(name, parts[-1], answers)
            except SyntaxError:  # a cell that was split in the middle of a function is whole with what came before
                if len(parts) == 1:
                    raise
                code = compile_cell(name, "\n\n".join(parts), answers)
            run_code(code, answers)
    except limits.OutOfTime:
        return {"problem": "time"}
    except BaseException as error:
        return _described(explain("<module>", error))
    return {}


_parts: dict[str, list[str]] = {}  # by exercise, the cells that were run for it


def _run_own(answers: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    try:
        error = run_own(request["name"], request["code"], answers, request["seconds"])
    except BaseException as interrupt:  # which only a person's own process heeds
        error = interrupt
    if isinstance(error, limits.OutOfTime):
        return {"problem": "time"}
    return _described(explain("<module>", error)) if error else {}


def _call(answers: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    args, kwargs, in_place = request["args"], request["kwargs"], request["in_place"]
    try:
        with limits.time_limit(request["seconds"]):
            reply = {"value": Submission(answers, in_place).run(request["name"], args, kwargs)}
    except limits.OutOfTime:
        reply = _described(problem(request["name"], "time"))
    except AnswerError as error:
        reply = _described(error)
    except BaseException as error:
        reply = _described(explain(request["name"], error))
    if in_place:
        reply["after"] = _state((args, kwargs))
    return reply


def _state(value: Any) -> Any:
    """What the other side may want to know of the arguments after the call: the state of an
    optimizer, the content of a cache, of a generator nothing."""
    if isinstance(value, torch.optim.Optimizer):
        return value.state_dict()
    if isinstance(value, torch.Generator):
        return None
    if isinstance(value, dict):
        return {k: _state(v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_state, value))
    return value


def _described(error: AnswerError) -> dict[str, Any]:
    kind, text = error.raised
    return {"problem": error.kind, "raised": [kind, text[:2000]], "line": error.line, "shadowed": error.shadowed}


def main() -> None:
    """A worker without a sandbox, on this process's standard input and output."""
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    torch.set_num_threads(1)
    _limit()
    serve(lambda n: os.read(requests, n), lambda data: os.write(replies, data))


def _limit() -> None:
    """What limits the system has."""
    try:
        import resource
    except ImportError:  # Windows has none of these
        return
    from circuits.grading.lockdown import CPU_SECONDS, FILE_BYTES

    for limit, value in ((resource.RLIMIT_CPU, CPU_SECONDS), (resource.RLIMIT_FSIZE, FILE_BYTES)):
        resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    sys.exit(main())
