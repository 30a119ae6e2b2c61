"""GPT-2 small, where TransformerLens and its weights can be had; the course does not need either."""

import warnings
from contextlib import contextmanager
from threading import Thread
from typing import Any
from urllib.request import Request, urlopen


def load_gpt2() -> Any:
    """GPT-2 small (Radford et al., *Language Models are Unsupervised Multitask Learners*) as a
    TransformerLens `HookedTransformer` on the CPU, or None after one printed line that says why.

    >>> gpt2 = load_gpt2()
    >>> if gpt2 is not None: ...

    Weights on this machine are used without asking the network; otherwise they are downloaded
    (half a gigabyte), unless the network does not answer within five seconds. LayerNorm's own
    weights are folded into the matrices that read the stream and what is written to it is centred,
    TransformerLens's default, so that writing and reading weights can be multiplied.
    """
    try:
        from transformer_lens import HookedTransformer
    except ModuleNotFoundError as error:
        if error.name != "transformer_lens":
            return _skip(error)
        return _skip("TransformerLens is not installed (pip install transformer-lens==3.9.0).")
    except Exception as error:  # versions 2 and 4 do not have it, or fail on being imported
        return _skip(f"the course needs TransformerLens 3.9.0. {error}")

    def load() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of HookedTransformer in 3.x
            model = HookedTransformer.from_pretrained("gpt2", device="cpu")
        # Otherwise a hook at `hook_result` is never called, and nothing says so.
        model.set_use_attn_result(True)
        return model

    try:
        with _offline():
            return load()
    except OSError:
        pass  # not on this machine, or not all of it
    except Exception as error:
        return _skip(error)
    if not _answers(seconds=5):
        return _skip("its weights are not on this machine, and there is no network to get them.")
    try:
        return load()
    except Exception as error:
        return _skip(error)


def _skip(reason: str | Exception) -> None:
    """A reason as one line."""
    print("GPT-2 is left out:", " ".join(str(reason).split())[:300])


@contextmanager
def _offline():
    """Only what is on this machine: asking a network that swallows questions takes minutes, since
    every file of the model is asked for and every question repeated."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers(seconds: float) -> bool:
    """Whether the host of the weights answers in time. In a thread, since no timeout bounds the
    look-up of a host's name."""
    from huggingface_hub import hf_hub_url

    answers = []

    def ask() -> None:
        try:
            with urlopen(Request(hf_hub_url("gpt2", "config.json"), method="HEAD"), timeout=seconds):
                answers.append(True)
        except Exception:  # whatever it is, there is no answer
            return

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answers)
