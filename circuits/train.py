"""`circuits train`: a model by its recipe. What is trained is never lost: Ctrl-C saves, the same command goes on, and a folder that cannot
be written is noticed before the first step."""

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
from tqdm import tqdm

from circuits import discovery_models, saved_training, world_models
from utils.corpus import load_corpus
from utils.errors import CourseError
from utils.training import RECIPES, Training


def training_of(name: str, corpus: Path | None, steps: int | None) -> Training:
    """The training of a model by its recipe, or with more or fewer `steps`. Raises CourseError for a name that is none, and for a
    `corpus` where texts are drawn."""
    worlds, discovery = world_models.RECIPES, discovery_models.RECIPES
    own = dict.fromkeys(worlds, world_models.WorldTraining) | dict.fromkeys(discovery, discovery_models.training)
    if name in own:
        if corpus:
            raise CourseError(f"{name} is trained on texts of its own world: leave --corpus out.")
        return own[name](name, steps)
    if name not in RECIPES:
        raise CourseError(f"No model is called {name!r}. There are: {', '.join((*RECIPES, *own))}.")
    text = load_corpus(corpus)
    click.echo(text.description)
    return Training(replace(RECIPES[name], steps=steps or RECIPES[name].steps), text)


def train(name: str, out: Path, corpus: Path | None, steps: int | None, restart: bool) -> None:
    """Train the model NAME, from where it was left unless `restart`, and save it in `out`. Raises CourseError if that cannot be."""
    training = training_of(name, corpus, steps)
    r = training.recipe
    state, weights = out / f"{name}.state.pt", out / f"{name}.safetensors"

    @contextmanager
    def writing() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CourseError(
                f"{name} cannot be saved in {out} ({error.strerror}): put that right, "
                "or name another folder with --out."
            ) from error

    def save() -> None:
        with writing():
            saved_training.save(training, state)
            saved_training.save_model(training.model, weights, training.curves)

    with writing():  # fail now, not after an hour
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    if state.exists() and not restart:
        saved_training.resume(training, state)
        word = "Finished:" if training.finished else "Resuming"
        click.echo(f"{word} {name} at step {training.step:,} of {r.steps:,}.")
    stopped = False
    try:
        with tqdm(total=r.steps, initial=training.step, unit="step", dynamic_ncols=True) as bar:
            for loss in training:
                bar.update()
                bar.set_postfix(loss=f"{loss:.2f} nats", refresh=False)
                if training.step % r.evaluate_every == 0:
                    save()
    except KeyboardInterrupt:
        stopped = True
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not stop the saving, nor what is said of it
    save()
    if stopped:
        click.echo(f"Stopped at step {training.step:,} and saved. The same command goes on from there.")
        sys.exit(130)
    signal.signal(signal.SIGINT, before)
    click.echo(f"Saved {weights} after {training.seconds:.0f} seconds of training.")
