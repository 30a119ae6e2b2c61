"""The one command, `circuits`. Each of its words does what its help says and nothing more."""

import json
import sys
from pathlib import Path

import click

from utils.errors import CourseError


class OneLineErrors(click.Group):
    """What went wrong with a request is one line on stderr and exit status 1."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except CourseError as error:
            click.echo(f"circuits: {error}", err=True)
            sys.exit(1)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
def main():
    """Circuits: take a transformer apart and prove how it works."""


@main.command()
def build():
    """Build notebooks/ from solutions/ (contributors and instructors)."""
    from utils.build import build

    for notebook in build():
        click.echo(f"built {notebook.relative_to(Path.cwd()) if notebook.is_relative_to(Path.cwd()) else notebook}")


@main.command("dev-check")
@click.argument("exercise", required=False)
def dev_check(exercise):
    """Prove that every exercise is good: answered, checked, with mistakes and variants."""
    from utils.dev_check import problems

    found, n_exercises = problems(exercise)
    for problem in found:
        click.echo(problem)
    if found:
        raise CourseError(f"{len(found)} problem{'s' * (len(found) > 1)} in {n_exercises} exercises.")
    click.echo(f"{n_exercises} exercises, no problems.")


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file):
    """Check the answers in FILE, a notebook or a Python file, and say what is wrong."""
    from utils.checking import Submission, run_checks
    from utils.course import chapters, load_answers
    from utils.exercises import Report, points_text

    namespace, cell_problems = load_answers(file)
    for problem in cell_problems.values():
        click.echo(problem)
    got = of = 0.0
    for chapter in chapters():
        names = [n for n in chapter.exercises if n in namespace or n in cell_problems]
        for name in names:
            submission = Submission(namespace)
            result = run_checks(chapter.checks(name), submission, lambda: chapter.mistakes(name))
            click.echo(Report(result).summary())
            got, of = got + result.points, of + result.max_points
    if not of:
        why = ", as it stopped before one: see above" if cell_problems else ""
        raise CourseError(f"{file} defines no exercise of this course{why}.")
    click.echo(f"{points_text(got)} of {points_text(of)} points")


@main.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), default=Path("trained"), show_default=True,
              help="Folder for the model, its curves, and the state to resume from.")
@click.option("--corpus", type=click.Path(path_type=Path), default=None,
              help="A folder of text of your own instead of Python's standard library.")
@click.option("--steps", type=click.IntRange(min=1), default=None, help="Fewer or more than the recipe.")
@click.option("--restart", is_flag=True, help="Begin anew instead of resuming.")
def train(name, out, corpus, steps, restart):
    """Train the model NAME by its recipe. Ctrl-C saves; the same command resumes."""
    import signal
    import tempfile
    from contextlib import contextmanager
    from dataclasses import replace

    from tqdm import tqdm

    from utils.corpus import load_corpus
    from utils.pretrained import save_model
    from utils.training import Training, recipe

    r = recipe(name)
    r = r if steps is None else replace(r, steps=steps)
    text = load_corpus(corpus)
    click.echo(text.description)
    training = Training(r, text)
    state, weights = out / f"{name}.state.pt", out / f"{name}.safetensors"

    @contextmanager
    def writing():
        try:
            yield
        except OSError as error:
            raise CourseError(
                f"{name} cannot be saved in {out} ({error.strerror}): put that right, "
                "or name another folder with --out."
            ) from error

    def save():
        with writing():
            training.save(state)
            save_model(training.model, weights, training.curves)

    with writing():  # fail now, not after an hour
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    if state.exists() and not restart:
        training.resume(state)
        word = "Resuming" if training.step < r.steps else "Finished:"
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not stop the saving
    save()
    if stopped:
        click.echo(f"Stopped at step {training.step:,} and saved. The same command goes on from there.")
        sys.exit(130)
    click.echo(f"Saved {weights} after {training.seconds:.0f} seconds of training.")


@main.command()
@click.argument("name", nargs=-1)
@click.option("--corpus", type=click.Path(path_type=Path), default=None,
              help="A folder of text of your own instead of Python's standard library.")
@click.option("--json", "as_json", is_flag=True, help="All figures, as JSON.")
def evaluate(name, corpus, as_json):
    """Measure models (default: all shipped) on held-out text: the figures of the model card.
    NAME is a shipped model's, or the path of a .safetensors file."""
    from utils.corpus import load_corpus
    from utils.pretrained import load_model, names
    from utils.training import evaluate

    models = {n: load_model(n) for n in name or names()}
    for n, model in models.items():
        if model.tokenizer is None:
            raise CourseError(f"{n} cannot be measured on text: it has {model.cfg.d_vocab} tokens, "
                              "not the course's.")
    text = load_corpus(corpus)
    figures = {n: evaluate(model, text) for n, model in models.items()}
    if as_json:
        click.echo(json.dumps(figures, indent=1))
        return
    click.echo(text.description)
    for n, f in figures.items():
        click.echo(f"{n}: {f['heldout_loss']:.3f} nats per token on held-out text, "
                   f"in-context-learning score {f['in_context_learning_score']:+.3f}")
        for measure in ("previous_token_score", "induction_score"):
            for layer, heads in enumerate(f.get(measure, [])):
                scores = "  ".join(f"{layer}.{h} {score:.2f}" for h, score in enumerate(heads))
                click.echo(f"  {measure.replace('_', ' ')}: {scores}")
        if "repeated_first_loss" in f:
            click.echo(f"  repeated random tokens: {f['repeated_first_loss']:.2f} nats on the first "
                       f"copy, {f['repeated_second_loss']:.2f} on the second")


if __name__ == "__main__":
    main()
