"""The one command, `circuits`. Each of its words does what its help says and nothing more."""

import contextlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from circuits.console import Plain, plain, take_any_console
from utils.errors import CourseError


class OneLineErrors(click.Group):
    """What went wrong with a request is one line on stderr and exit status 1."""

    def main(self, *args, **kwargs):
        take_any_console()
        return super().main(*args, **kwargs)

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except CourseError as error:
            _say_error(error)
            sys.exit(1)


def _say_error(error: CourseError) -> None:
    click.echo(f"circuits: {plain(error, lines=False)}", err=True)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
def main():
    """Circuits: take a transformer apart and prove how it works."""


@main.command()
def build():
    """Build notebooks/ from solutions/ (contributors and instructors)."""
    from circuits.build import build

    for notebook in build():
        click.echo(f"built {_place(notebook)}")


@main.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("dist/site"), show_default=True, help="Folder for the site.")
@click.option("--repository", metavar="ADDRESS", default=None, help="The repository's public address (default: pyproject.toml's).")
@click.option("--no-run", is_flag=True, help="Text and code alone, without results: a minute.")
def site(out, repository, no_run):
    """Build the course as a website. `make site` sets up what this needs, and calls it.

    Chapters are run with their reference answers, minutes each; what one shows is kept until something changes it."""
    _only_in_a_clone()
    try:
        from circuits.website.build import build
    except ModuleNotFoundError as missing:
        raise CourseError(f"{missing.name} is not installed here: `make site` installs what a site needs.") from None

    build(out=out.absolute(), repository=repository, run=not no_run, say=click.echo)


@main.command("new-exercise")
@click.argument("chapter")
@click.argument("name")
@click.option("--after", metavar="EXERCISE", default=None, help="The exercise that it stands after (default: the chapter's last).")
def new_exercise(chapter, name, after):
    """Begin an exercise: skeletons of its cells, checks, mistakes and variants, next to their neighbours.

    NAME is the function's name, or better its signature, in quotes: "row_sums(counts: Int[Tensor, 'a b']) -> Int[Tensor, 'a']".
    """
    from circuits.skeletons import name_of, new_exercise

    _only_in_a_clone()
    for part in new_exercise(chapter, name, after):
        click.echo(f"wrote {_place(part.file)}:{part.first}-{part.last}")
    next_ = f"circuits dev-check {name_of(name)} --watch"
    click.echo(f"Next: `{next_}` says what is still to be written, in the order in which to do it.")


@main.command("new-chapter")
@click.argument("name")
@click.argument("title")
def new_chapter(name, title):
    """Begin a chapter: NAME is its number and its name, as in 6_superposition; TITLE is for people, in quotes."""
    from circuits.skeletons import new_chapter

    _only_in_a_clone()
    for file in new_chapter(name, title):
        click.echo(f"wrote {_place(file)}")
    click.echo(f"Next: `circuits new-exercise {name} NAME` begins its first exercise; `circuits build` makes the notebook.")


def _only_in_a_clone() -> None:
    """Raise CourseError where what is written would go into an installation."""
    from circuits.chapters import INSTALLED

    if INSTALLED:
        raise CourseError("The course grows in a clone of its repository: this is an installation of it.")


def _place(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


@main.command("dev-check")
@click.argument("exercise", required=False)
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True,
              help="How many sets of random inputs every answer meets.")
@click.option("--marks", type=click.IntRange(min=1), default=None, metavar="SEEDS",
              help="Ask only whether right answers are accepted, wrong ones refused, on so many seeds (hours for 100).")
@click.option("--watch", "watching", is_flag=True, help="Again whenever a file of EXERCISE's chapter is saved. Ctrl-C ends.")
def dev_check(exercise, seeds, marks, watching):
    """Prove that every exercise is good: answered, checked, with mistakes and variants. Of one it says what is
    still to be done, in the order in which to do it."""
    if watching:
        if exercise is None:
            raise CourseError("Watch one exercise: `circuits dev-check EXERCISE --watch`.")
        return _watch_exercise(exercise, seeds)

    from circuits.dev_check import findings, selected

    exercises = len(selected(exercise))
    found = 0
    for problem in findings(exercise, seeds=seeds, marks=marks or 0):
        click.echo(plain(problem))
        found += 1
    if found:
        raise CourseError(f"{found} problem{'s' * (found > 1)} in {exercises} exercise{'s' * (exercises > 1)}.")
    if exercise is None:
        click.echo(f"{exercises} exercises, no problems.")
    else:
        click.echo(f"{exercise}: no problems. Next: `circuits mutants {exercise}`, which puts slips into the answer.")


def _watch_exercise(exercise, seeds) -> None:
    """`dev-check` of an exercise in a process of its own, now and after each save: what was imported is then as it is."""
    import subprocess

    from circuits import watch
    from circuits.dev_check import PARITY, files, selected

    ((chapter, _),) = selected(exercise)
    watched = [chapter.source, *files(chapter).values(), chapter.notebook, chapter.root / PARITY, chapter.root / "README.md"]
    command = [sys.executable, "-m", "circuits.cli", "dev-check", exercise, "--seeds", str(seeds)]
    try:
        saves = watch.saved(watched, watch.seconds_pass)
        subprocess.run(command)
        click.echo("Watching: save, and it is checked again. Ctrl-C ends.")
        for new in saves:
            click.echo(f"\n{', '.join(str(_place(file)) for file in new)}:")
            subprocess.run(command)
    except KeyboardInterrupt:
        sys.exit(130)


@main.command()
@click.argument("name", required=False)
@click.option("--sample", type=click.IntRange(min=1), default=None,
              help="Only so many mutants of every exercise, always the same ones.")
@click.option("--report", is_flag=True, help="Write docs/quality.md: of all chapters, or what it says of one.")
def mutants(name, sample, report):
    """Prove that the checks find every slip in an answer. NAME is an exercise or a chapter; default: all."""
    from circuits import mutants
    from circuits.chapters import chapters

    if report and (sample or name not in (None, *(chapter.name for chapter in chapters()))):
        raise CourseError("--report is of all mutants of all exercises of a chapter: give no exercise, and no --sample.")
    findings, found = [], mutants.strays()
    for finding in mutants.run(name, sample):
        findings.append(finding)
        problems = mutants.problems(finding, whole=sample is None)
        found += problems
        click.echo(f"{finding.exercise}: {finding.mutants} mutants, {len(finding.survivors)} survivors")
        for problem in problems:
            click.echo(f"  {problem}")
    if report:
        before = mutants.REPORT.read_text("utf-8") if name else ""
        mutants.REPORT.write_text(mutants.report(findings, before), "utf-8")
    click.echo(mutants.totals(findings))
    if found:
        raise CourseError(f"{len(found)} problem{'s' * (len(found) > 1)} with mutants.")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="The same, as JSON.")
def progress(as_json):
    """The chapters, their exercises and points, what you have done, and what comes next.

    Yours is kept in your copy of the notebooks: the one you are in, else the clone's `work`.
    """
    from circuits.learners_copy import WORK, copy_of
    from circuits.course_progress import Progress

    found = Progress(copy_of() or copy_of(WORK))
    click.echo(json.dumps(found.as_dict(), indent=1) if as_json else repr(found))


main.add_command(progress, "list")  # as it was called before it kept what was done


@main.command()
def verify():
    """Say what works in this installation: Python, torch, text, models, figures, sandbox."""
    from circuits.verify import findings

    broken = 0
    for works, what, found in findings():
        mark = {True: "ok", None: "--", False: "NO"}[works]
        click.echo(f"{mark}  {what}: {found}")
        broken += works is False
    if broken:
        raise CourseError(f"{broken} thing{'s do' if broken > 1 else ' does'} not work: see above.")


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--port", type=click.IntRange(1, 65535), default=8888, show_default=True)
@click.option("--teach", is_flag=True, help="nbgrader's course folder FOLDER instead (default: this one), with its tools.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def lab(folder, port, teach, options):
    """Open JupyterLab on your own copy of the notebooks, in FOLDER (in a clone by default its `work`). It is made,
    or brought up to date; what you wrote stays. OPTIONS are JupyterLab's own, such as --no-browser."""
    from circuits.arrival import PAGE, write_page
    from circuits.chapters import INSTALLED
    from circuits.course_progress import take_over
    from circuits.lab import open_lab
    from circuits.learners_copy import WORK, prepare

    if folder is not None and str(folder).startswith("-"):
        folder, options = None, [str(folder), *options]
    if teach:
        return open_lab(folder or Path.cwd(), port, list(options), teach=True)
    if folder is None and INSTALLED:
        raise CourseError("Name a folder for your notebooks: `circuits lab FOLDER`.")
    folder = WORK if folder is None else folder.expanduser()
    for line in prepare(folder):
        click.echo(line)
    if said := take_over(folder):
        click.echo(said)
    with contextlib.suppress(OSError):  # of a folder that can only be read: the next line says so
        write_page(folder)
    open_lab(folder, port, list(options), start=PAGE)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="What was found, as JSON (for editors).")
def check(file, as_json):
    """Check the answers in FILE, a notebook or a Python file, and say what is wrong.

    Exit status: 0 if every answer is right, 1 if one is not, 2 if FILE cannot be checked.
    """
    from circuits.report import Report
    from circuits.results import points_text

    try:  # what the file prints while it runs is text, and none of the JSON
        with contextlib.redirect_stdout(Plain(sys.stderr if as_json else sys.stdout)), \
             contextlib.redirect_stderr(Plain(sys.stderr)):
            results, cell_problems = _check(file)
    except CourseError as error:
        if as_json:
            click.echo(json.dumps({"error": str(error)}))
        _say_error(error)
        sys.exit(2)
    got, of = sum(r.points for r in results), sum(r.max_points for r in results)
    if as_json:
        exercises = [
            {**asdict(r), "points": r.points, "max_points": r.max_points, "passed": r.passed} for r in results
        ]
        found = {"points": got, "max_points": of, "cells": cell_problems, "exercises": exercises}
        click.echo(json.dumps(found, indent=1))
    else:
        for message in cell_problems.values():
            click.echo(plain(message, lines=False))
        for result in results:
            click.echo(plain(Report(result).summary()))
        click.echo(f"{points_text(got)} of {points_text(of)} points")
    sys.exit(0 if all(r.passed for r in results) else 1)


def _check(file: Path):
    """The results of each exercise in a file, and a message for each cell that raised."""
    from circuits.arrival import write_page
    from circuits.chapters import chapters, load_answers
    from circuits.checking import Submission
    from circuits.course_progress import remember
    from circuits.judging import run_checks
    from circuits.learners_copy import copy_of

    namespace, cell_problems = load_answers(file)
    results, better = [], False
    copy = copy_of(file.absolute().parent)
    for chapter in chapters():
        for name in chapter.exercises:
            if name in namespace or name in cell_problems:
                submission = Submission(namespace, like=chapter.stubs)
                results.append(run_checks(chapter.checks(name), submission, lambda: chapter.mistakes(name)))
                if copy is not None and remember(name, results[-1].points, results[-1].max_points, copy):
                    better = True
    if better:
        with contextlib.suppress(OSError):
            write_page(copy)
    if not results:
        why = "".join(f" {message}" for message in cell_problems.values())
        raise CourseError(f"{file} defines no exercise of this course.{why}")
    return results, cell_problems


@main.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
def watch(file):
    """Check FILE whenever it is saved, and say only what changed; by default all notebooks of your copy. Ctrl-C ends."""
    from circuits import watch
    from circuits.chapters import chapters
    from circuits.learners_copy import WORK, copy_of

    if file is not None and not file.exists():
        raise CourseError(f"{file} does not exist.")
    copy = copy_of() or copy_of(WORK)
    if file is None and copy is None:
        raise CourseError("There is no copy of the notebooks here: name a FILE, or go where `circuits lab` made one.")
    files = [file] if file else [copy / chapter.name / chapter.notebook.name for chapter in chapters()]
    try:
        for said in watch.watch(files, watch.seconds_pass):
            click.echo(plain(said))
    except KeyboardInterrupt:
        sys.exit(130)


@main.command()
@click.argument("chapter")
@click.option("--regrade", is_flag=True, help="Grade all submissions again, also unchanged ones.")
@click.option("--jobs", type=click.IntRange(min=1), default=None,
              help="Processes that grade at a time (default: one a core).")
@click.option("--require-sandbox", is_flag=True, help="Refuse to grade where there is no sandbox.")
@click.option("--scheduler", metavar="tcp://HOST:PORT", default=None,
              help="Grade on an existing Dask cluster instead (needs the extra [cluster]).")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), default=None,
              help="Where to write the table (default: grades-CHAPTER.csv).")
def grade(chapter, regrade, jobs, require_sandbox, scheduler, csv_file):
    """Grade all submissions of CHAPTER into nbgrader's gradebook (instructors). Stopped at any
    moment, the same command goes on."""
    from tqdm import tqdm

    from circuits.chapters import Chapter
    from circuits.grading.batch import Batch, LocalGraders, alone

    root = Path.cwd()
    with alone(root):
        if scheduler:
            from circuits.grading.cluster import ClusterGraders

            graders = ClusterGraders(scheduler, require_sandbox)
        else:
            graders = LocalGraders(Chapter(chapter, root), jobs)
        batch, stopped = None, False
        try:
            batch = Batch(root, chapter, regrade, lambda: graders.unsandboxed() is None)
            if batch.gradebook.followed:
                _warn(batch.gradebook.followed)
            why = graders.unsandboxed() if batch.tasks or batch.unsandboxed else None
            if why and require_sandbox:
                n = len(batch.unsandboxed)
                before = f" {n} submission{'s' * (n > 1)} had been graded without one." * bool(n)
                raise CourseError(f"There is no sandbox here: {why}. Nothing was graded.{before}")
            if why and batch.tasks:
                _warn(f"NOT SANDBOXED: the code of every submission will run with your rights ({why}).")
            for row in [r for r in batch.rows.values() if r.status == "refused"]:
                _problem(row)
            for task in batch.tasks:
                if note := batch.notes[task.student]:
                    _line(f"{task.student!r}: {note}")
            with tqdm(total=len(batch.tasks), unit="submission", dynamic_ncols=True,
                      smoothing=0.1, disable=None if batch.tasks else True) as bar:
                for row in batch.run(graders):
                    bar.update()
                    if row.status != "graded":
                        _problem(row)
        except KeyboardInterrupt:
            stopped = True
        finally:
            graders.close()
        if stopped and batch is None:
            sys.exit(130)
        batch.read_scores()
        rows = batch.rows.values()
        csv_file = csv_file or root / f"grades-{chapter}.csv"
        batch.write_csv(csv_file)
    _summary(rows, csv_file)
    if batch.unsandboxed:
        _warn(f"{len(batch.unsandboxed)} of these were graded without a sandbox.")
    if stopped:
        left = len(batch.tasks) - sum(r.status in ("graded", "failed") for r in rows)
        click.echo(f"Stopped with {left} to go. The same command goes on from there.")
        sys.exit(130)
    if any(row.status == "failed" for row in rows):
        raise CourseError("Some submissions could not be graded: see above; the same command tries again.")


@main.command()
@click.argument("chapter")
@click.option("--anonymous", is_flag=True, help="Numbers for students' names, and nothing that may hold one.")
@click.option("--html", "html_file", type=click.Path(path_type=Path), default=None,
              help="Where to write the page (default: report-CHAPTER.html).")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), default=None,
              help="Where to write the table (default: report-CHAPTER.csv).")
def report(chapter, anonymous, html_file, csv_file):
    """What the class did with CHAPTER, as a page and a table, from what is graded (instructors): points, checks that
    fail, known mistakes, limits hit, refused, late and like submissions. Nothing is run."""
    from circuits.grading.class_page import page
    from circuits.grading.class_report import pseudonyms, read, write_csv
    from utils.files import write_file

    root = Path.cwd()
    found = read(root, chapter)
    named = pseudonyms(root, found) if anonymous else str
    html_file, csv_file = html_file or root / f"report-{chapter}.html", csv_file or root / f"report-{chapter}.csv"
    try:
        write_file(html_file, page(found, named, reasons=not anonymous).encode("utf-8", "replace"))
        write_csv(csv_file, found, named, reasons=not anonymous)
    except OSError as error:
        raise CourseError(f"The report cannot be written ({error.strerror}): name other files with --html and --csv.") from None
    left = len(found.not_graded)
    click.echo(f"{len(found.students)} submissions" + f"; {left} not graded as they are now" * bool(left))
    click.echo(f"page: {html_file}\ntable: {csv_file}")


def _problem(row) -> None:
    _line(f"{row.student!r}: {row.status}: {row.note}")


def _line(text: str) -> None:
    from tqdm import tqdm

    tqdm.write(plain(text, lines=False), file=sys.stderr)


def _warn(text: str) -> None:
    click.secho(f"\n  {text}\n", fg="white", bg="red", bold=True, err=True)


def _summary(rows, csv_file) -> None:
    """How many of each status, and how the points lie."""
    counted = {}
    for row in rows:
        counted[row.status] = counted.get(row.status, 0) + 1
    for status in ("graded", "unchanged", "refused", "failed"):
        if status in counted:
            click.echo(f"{counted[status]:>6}  {status}")
    scores = sorted(row.score for row in rows if row.score is not None)
    if scores:
        of = max(row.max_points for row in rows if row.score is not None)
        middle = scores[len(scores) // 2]
        click.echo(f"score: median {middle:g} of {of:g}, from {scores[0]:g} to {scores[-1]:g}")
        late = sorted((row for row in rows if row.penalty), key=lambda row: row.student)
        for row in late[:20]:
            click.echo(f"late: {ascii(row.student)}: {row.score:g}, with a penalty of {row.penalty:g}")
        if len(late) > 20:
            click.echo(f"late: {len(late) - 20} more, see the table")
    elif not rows:
        click.echo("There are no submissions.")
    click.echo(f"table: {csv_file}")


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
    from circuits.train import train

    train(name, out, corpus, steps, restart)


@main.command()
@click.option("--seed", type=click.IntRange(min=0), required=True, help="Which mystery: keep it from the class.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder, for a course of one chapter.")
def mystery(seed, out):
    """Train a mystery model and write a course folder with it: notebook and weights for a class, the checks, and the truth
    (chapter 8; docs/instructors.md). Takes three minutes at most."""
    from tqdm import tqdm

    from circuits.mystery.course import CHAPTER, SECONDS, write_course

    with tqdm(total=0, bar_format="training, {elapsed} gone, at most " + f"{SECONDS:.0f} s" + "{postfix}") as bar:

        def watch(step: int, proof: dict) -> None:
            bar.set_postfix_str(f": step {step}, least learned: {min(proof, key=proof.get)}, {min(proof.values()):.0%}")

        proof = write_course(seed, out, watch)
    click.echo("Learned and solvable: " + ", ".join(f"{what} {share:.0%}" for what, share in proof.items()))
    click.echo(
        f"For the class: {out / 'notebooks' / CHAPTER}. To grade, in {out}: `nbgrader generate_assignment {CHAPTER} --force` "
        f"once, and then `circuits grade {CHAPTER}`."
    )


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
