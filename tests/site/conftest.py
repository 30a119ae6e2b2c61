"""Two sites: the real one without results, which takes half a minute, and one of two tiny chapters, with results."""

import shutil
from pathlib import Path

import pytest
from circuits.build import build as release
from circuits.chapters import ROOT
from circuits.website.build import build

REPOSITORY = "https://github.com/owner/circuits"

TINY = '''\
# %% [markdown]
# # {number} · {title}
#
# Here a residual stream meets another residual stream. See *Attention Is All You Need*, or (Geva et al., 2021).
#
# **After this chapter you can**
#
# - double a number.
#
# **Time**: about 1 minute. **Needs**: nothing.

# %% tags=["setup"]
from circuits import check, progress

# %%
from utils.figures import plots

print("ran {name}")
plots.lines({{"one": ([0, 1, 2], [2, 1, 0])}}, "A curve", "step", "loss (nats)");

# %% [markdown]
# ## A section
#
# A formula, $a_1 \\le \\frac{{1}}{{2}}$, and the residual stream again.

# %% [markdown]
# ### Exercise · {name} it    ●○○   1 min
#
# Twice.
#
# <details><summary>Hint 1</summary>
# It is $2x$, or <code>$2</code>.
# </details>

# %% exercise="{name}" was="old_{name}"
def {name}(x: float) -> float:
    """Twice x."""
    ### BEGIN SOLUTION
    the_answer = 2 * x
    return the_answer
    ### END SOLUTION

# %% check="{name}"
check("{name}")

# %%
progress()
'''
CHECKS = '''
import torch
from circuits.checking import exercise, expect

SYMMETRIES = {{"{name}": "its argument is a number"}}

@exercise("{name}", points=2)
def test_doubles(submission, rng):
    x = torch.rand(1, generator=rng).item()
    expect(submission.{name}(x), 2 * x, "twice")
'''
README = """\
# Tiny

See [one](notebooks/1_one/one.ipynb), [the code](utils/model.py), [words](docs/glossary.md). `git clone ADDRESS-OF-THIS-REPOSITORY`.

| | chapter | minutes | exercises | needs | afterwards you can |
|---|---|--:|--:|---|---|
| 1 | [One](notebooks/1_one/one.ipynb) | 1 | 1 | nothing | double |
"""
GLOSSARY = """\
# Glossary

| word | what it is | chapter and section |
|---|---|---|
| **residual stream** | What every part reads and adds to. | [1, “A section”](../notebooks/1_one/one.ipynb) |
"""
ADDRESSES = "index\nmap\nchapters/one\nchapters/two\nglossary\nreferences\nold/page chapters/one\n"


def tiny_course(root: Path) -> Path:
    """A course of two chapters, with all that a site needs, built."""
    files = {
        "README.md": README, "docs/glossary.md": GLOSSARY, "docs/addresses.txt": ADDRESSES,
        "docs/references.md": (ROOT / "docs" / "references.md").read_text("utf-8"), "pyproject.toml": "[project]\ndependencies = []\n",
    }  # fmt: skip
    for number, name in ((1, "one"), (2, "two")):
        files[f"solutions/{number}_{name}/{name}.py"] = TINY.format(number=number, name=name, title=name.title())
        files[f"tests/checks/test_{name}.py"] = CHECKS.format(name=name)
        files[f"tests/mistakes/{name}.py"] = files[f"tests/variants/{name}.py"] = ""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")
    (root / "notebooks").mkdir()
    shutil.copy(ROOT / "nbgrader_config.py", root)
    release(root)
    return root


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The real site, without results."""
    return build(out=tmp_path_factory.mktemp("real") / "site", repository=REPOSITORY, run=False, say=lambda line: None)


@pytest.fixture(scope="session")
def course(tmp_path_factory) -> Path:
    """The tiny course. Its results are kept below it; what a test changes, it puts back."""
    return tiny_course(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny(course) -> Path:
    """The tiny site, with results."""
    return build(course, course / "site", course / "kept", repository="", say=lambda line: None)
