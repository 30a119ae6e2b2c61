"""What `circuits mystery` writes: a course folder of its own with one chapter, the mystery.

    FOLDER/notebooks/10_mystery/   mystery.ipynb and mystery.safetensors: what a class is given
    FOLDER/solutions, tests        the planted truth as answers, and the checks, which know the seed
    FOLDER/nbgrader_config.py      so that `circuits grade 10_mystery`, run in FOLDER, grades what is handed in
"""

import json
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

from circuits.build import build
from circuits.chapters import ROOT, Chapter
from circuits.mystery.family import Plan, draw_plan
from circuits.mystery.judge import solve
from circuits.mystery.make import ENOUGH, MysteryTraining, prove
from circuits.saved_training import packed
from utils.errors import CourseError
from utils.files import write_file
from utils.model import Transformer

CHAPTER = "10_mystery"
SECONDS = 150.0  # of training, in computing

SOURCE = '''\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · A mystery
#
# `mystery.safetensors`, beside this notebook, is a transformer of two layers. Nobody tells you what it does. It reads symbols
# from 1 to 15 (at most 11, behind token 0, `<|bos|>`), and at the end of each text it names a symbol. It holds a *rule*, and
# an *exception* to it, where it always says the same symbol. Find both, find the parts that do it, and prove it: by a
# program, a circuit and two edits. Chapters 4 and 8 have the tools.
#
# **Time**: about 120 minutes, 110 of them for the exercises. **Needs**: chapters 4 and 8. What you hand in is graded on other
# texts than you see, where the model itself is not at hand. So write down what you found.

# %% tags=["setup"]
import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor

from utils import ActivationCache, Transformer, get_act_name, load_model

# %%
from circuits.mystery.course import check

model = load_model("mystery.safetensors")

def says(*text: int) -> int:
    """What the model names at the end of a text."""
    return int(model(torch.tensor([[0, *text]]))[0, -1].argmax())

print(model.cfg)
for text in ((3, 1, 4), (1, 1, 1), (15, 2, 15, 2), (7,)):
    print(*text, "->", says(*text))

# %% [markdown]
# ### Exercise · what it does    ●●●   40 min
#
# A program that names, at the end of a text of symbols (without `<|bos|>`), what the model names: by the rule, where the exception
# applies, and on unusual texts.
#
# <details><summary>Hint 1</summary>
# Change one symbol at a time, and see whether the answer changes. Which places matter? Does it matter which symbol stands there?
# </details>
# <details><summary>Hint 2</summary>
# Look for the exception last: a symbol that is named far too often, and what those texts have in common.
# </details>

# %% exercise="predict"
def predict(tokens: list[int]) -> int:
    """What the model names at the end of a text."""
    ### BEGIN SOLUTION
    {program}
    ### END SOLUTION

# %% check="predict"
check("predict")

# %% [markdown]
# ### Exercise · the parts that do it    ●●○   20 min
#
# The nodes, heads such as `"0.3"` and MLPs (`"m0"`, `"m1"`), that are enough: with all others exchanged for what they say in other
# texts, the model says what it said. As few as you can.
#
# <details><summary>Hint 1</summary>
# Exchange one node at a time (chapter 4's <code>resample_ablate</code>). Those that change nothing have no part in it.
# </details>
# <details><summary>Hint 2</summary>
# Then all of these at once; and try each of the others again.
# </details>

# %% exercise="circuit"
def circuit() -> list[str]:
    """Nodes that are enough for all that the model does."""
    ### BEGIN SOLUTION
    return {nodes}
    ### END SOLUTION

# %% check="circuit"
check("circuit")

# %% [markdown]
# ### Exercise · switch the exception off    ●●○   20 min
#
# Return a copy of the model, edited: the exception is gone, there too the model follows the rule, and elsewhere it says what it
# said.
#
# <details><summary>Hint 1</summary>
# One node of the last layer writes the exception. Which one? Without it, the symbol is no longer named.
# </details>
# <details><summary>Hint 2</summary>
# <code>copy.deepcopy(model)</code>, then under <code>torch.no_grad()</code> set what that node writes with to 0:
# <code>W_O[head]</code>, or an MLP's <code>W_out</code> and <code>b_out</code>.
# </details>

# %% exercise="disable"
def disable(model: Transformer) -> Transformer:
    """A copy of the model that follows the rule everywhere."""
    ### BEGIN SOLUTION
    model = copy.deepcopy(model)
    with torch.no_grad():
        for W in {edit}:
            W.zero_()
    return model
    ### END SOLUTION

# %% check="disable"
check("disable")

# %% [markdown]
# ### Exercise · redirect the exception    ●●●   30 min
#
# Return a copy that names `symbol` wherever the exception applies, and elsewhere says what it said.
#
# <details><summary>Hint 1</summary>
# What that node writes raises one logit. Make it raise another one.
# </details>
# <details><summary>Hint 2</summary>
# The unembedding has more dimensions than symbols, so there is a vector of the stream that raises one logit and no other: a row of
# <code>torch.linalg.pinv</code>. Add it wherever the node writes, times twice what the node raises the old symbol's logit by. Mind the
# final LayerNorm's weights and that it takes out the mean.
# </details>

# %% exercise="redirect"
def redirect(model: Transformer, symbol: int) -> Transformer:
    """A copy of the model that names `symbol` where the exception applies."""
    ### BEGIN SOLUTION
    model = copy.deepcopy(model)
    with torch.no_grad():
        U = model.ln_final.w[:, None] * model.W_U
        U = U - U.mean(0)  # what the LayerNorm takes out is not read
        M = torch.eye(len(U)) + 2 * torch.outer(U[:, {says}], torch.linalg.pinv(U)[symbol])
        for W in {edit}:
            W.copy_(W @ M)
    return model
    ### END SOLUTION

# %% check="redirect"
check("redirect")
'''
CHECKS = '''\
"""Checks of a mystery model. Keep this file, and the seed in it, from the class."""

from pathlib import Path

from circuits.mystery.course import checks_of

globals().update(checks_of({seed}, Path(__file__).parents[2] / "notebooks" / "{chapter}" / "mystery.safetensors"))
'''
CONFIG = "nbgrader_config.py"


def writing(node: str) -> str:
    """The weights with which a node writes, as code."""
    if node[0] == "m":
        return "(model.blocks[{0}].mlp.W_out, model.blocks[{0}].mlp.b_out)".format(node[1:])
    return "(model.blocks[{}].attn.W_O[{}],)".format(*node.split("."))


def check(exercise: str):
    """What a cell below an exercise calls: the report of the checks, where they are at hand; else a line."""
    from circuits.checking import Submission
    from circuits.judging import run_checks
    from circuits.report import Report

    chapter = Chapter(CHAPTER, Path.cwd().parents[1])
    if not chapter.checks_file.exists():
        print("This is graded when you hand it in: your instructor has the checks.")
        return None
    answers = Submission(sys._getframe(1).f_globals, like=chapter.stubs)
    return Report(run_checks(chapter.checks(exercise), answers, list))


def checks_of(seed: int, weights: Path) -> dict[str, Callable]:
    """The checks of a class's mystery by name, for its file of checks."""
    from circuits.mystery.checks import Checks, named
    from circuits.mystery.judge import Mystery
    from utils.pretrained import load_model

    mystery = Mystery(load_model(weights).requires_grad_(False), draw_plan(seed))
    checks = Checks(lambda: mystery, getattr)
    return named({
        "test_predicts_what_the_rule_says": ("predict", 2, checks.predicts("plain")),
        "test_predicts_the_exception": ("predict", 2, checks.predicts("quirk")),
        "test_predicts_unusual_texts": ("predict", 1, checks.predicts("unusual")),
        "test_a_circuit_of_at_most_six_nodes": ("circuit", 1, checks.is_a_circuit(None)),
        "test_a_circuit_with_one_node_to_spare": ("circuit", 1, checks.is_a_circuit(1)),
        "test_a_circuit_as_small_as_the_planted_one": ("circuit", 1, checks.is_a_circuit(0)),
        "test_the_exception_is_gone_and_nothing_else": ("disable", 3, checks.disables()),
        "test_the_exception_names_another_symbol": ("redirect", 3, checks.redirects()),
    })  # fmt: skip


def attempt(seed: int, watch: Callable[[int, dict], None] = lambda *_: None) -> tuple[Transformer, Plan, dict, dict]:
    """Train the model of a seed: as it is stored, in half precision; its plan; the proof, shares of right answers; and what the
    planted truth fails in the model, by exercise."""
    plan = draw_plan(seed)
    training = MysteryTraining(plan, seed)
    training.run(SECONDS, watch=watch, enough=lambda: not solve(training.model, plan, seed))
    model = training.model.half().float().requires_grad_(False)
    return model, plan, prove(model, plan, training.fresh), solve(model, plan, seed)


def learned(seed: int, watch: Callable[[int, dict], None]) -> tuple[Transformer, Plan, dict[str, float]]:
    """The model of a seed, its plan and the proof. Raises CourseError if it has not learned it, or cannot be solved."""
    model, plan, proof, failed = attempt(seed, watch)
    short = min(proof, key=proof.get)
    if proof[short] < ENOUGH or failed:
        unsolved = f"; the planted truth fails {', '.join(failed)}" * bool(failed)
        raise CourseError(
            f"The model of seed {seed} has not learned what it should in {SECONDS:.0f} seconds ({short}: {proof[short]:.0%} of "
            f"texts, {ENOUGH:.0%} are asked for{unsolved}). Nothing was written: take another seed."
        )
    return model, plan, proof


def write_course(seed: int, folder: Path, watch: Callable[[int, dict], None] = lambda *_: None) -> dict[str, float]:
    """Train the mystery of a seed and write its course folder; returns the proof. Raises CourseError for a folder that holds
    anything, or cannot be written, and for a seed whose model does not learn; then nothing is written."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CourseError(f"{folder} is not empty: name a new folder with --out, so that nothing of yours is lost.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise CourseError(f"{folder} cannot be written ({error.strerror}): name another folder with --out.") from None
    try:
        model, plan, proof = learned(seed, watch)
    except BaseException:
        folder.rmdir()  # empty, as it was made or found
        raise
    with tempfile.TemporaryDirectory(prefix="circuits-mystery-") as made:
        root = Path(made)
        program = textwrap.indent(plan.program, "    ").strip() + "\n\n    return answer(list(tokens))"
        values = dict(program=program, nodes=plan.circuit, edit=writing(plan.quirk_node), says=plan.says)
        text = SOURCE
        for name, value in values.items():
            text = text.replace(f"{{{name}!r}}", repr(value)).replace(f"{{{name}}}", str(value))
        files = {
            f"solutions/{CHAPTER}/mystery.py": text,
            "tests/checks/test_mystery.py": CHECKS.replace("{seed}", str(seed)).replace("{chapter}", CHAPTER),
            "tests/mistakes/mystery.py": '"""No mistakes are known: what is wrong is said by what the model does."""\n',
            "tests/variants/mystery.py": '"""Any answer that passes the interventions counts."""\n',
            CONFIG: (ROOT / CONFIG).read_text("utf-8"),
        }
        for name, content in files.items():
            write_file(root / name, content.encode())
        write_file(root / "notebooks" / CHAPTER / "mystery.safetensors", packed(model, half=True))
        (notebook,) = build(root)
        proven = {"seed": seed, "rule": plan.rule_name, "quirk": plan.quirk, "circuit": plan.circuit, **proof}
        write_file(root / "proof.json", (json.dumps(proven, indent=1) + "\n").encode())
        shutil.copytree(root, folder, dirs_exist_ok=True)
    return proof
