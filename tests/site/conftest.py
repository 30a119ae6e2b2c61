"""Two sites: the real one without results, which takes half a minute, and one of two tiny chapters, with results."""

import shutil
from pathlib import Path

import pytest
from circuits.build import build as release
from circuits.chapters import ROOT
from circuits.website.build import build

REPOSITORY = "https://github.com/owner/circuits"

# A chapter's exercise is one of the real course's, since its checks are those that a kernel finds.
TINY = '''\
# %% [markdown]
# # {number} · {title}
#
# Here a residual stream meets another residual stream. See *Attention Is All You Need*, or (Geva et al., 2021).
#
# **After this chapter you can**
#
# - multiply matrices.
#
# **Time**: about 1 minute. **Needs**: nothing.

# %% tags=["setup"]
import torch

from circuits import check, progress

# %%
from utils.figures import plots

print("ran {name}")
plots.lines({{"one": ([0, 1, 2], [2, 1, 0])}}, "A curve", "step", "loss (nats)");

# %% [markdown]
# ## A section
#
# A formula, $a_1 \\le \\frac{{1}}{{2}}$, and the residual stream again.
#
# | what | how |
# |---|---|
# | a bar | $|x|$ |

# %% [markdown]
# ### Exercise · do it    ●○○   1 min
#
# Twice.
#
# <details><summary>Hint 1</summary>
# It is $2x$, or <code>$2</code>.
# </details>

# %% exercise="{exercise}" was="old_{exercise}"
def {exercise}({arguments}):
    \"\"\"What it does.\"\"\"
    ### BEGIN SOLUTION
    the_answer = {answer}
    return the_answer
    ### END SOLUTION

# %% check="{exercise}"
check("{exercise}")

# %%
progress()
'''
CHECKS = '''
from circuits.checking import exercise, expect

@exercise("{exercise}", points=3)
def test_it(submission, rng):
    expect(0, 0, "nothing")
'''
CHAPTERS = [
    dict(number=1, name="one", title="One", exercise="direct_path", arguments="W_E, W_U", answer="W_E @ W_U"),
    dict(
        number=2, name="two", title="Two", exercise="bigram_counts", arguments="tokens, d_vocab",
        answer="torch.bincount(tokens[:-1] * d_vocab + tokens[1:], minlength=d_vocab**2).reshape(d_vocab, d_vocab)",
    ),
]  # fmt: skip
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
    for chapter in CHAPTERS:
        name = chapter["name"]
        files[f"solutions/{chapter['number']}_{name}/{name}.py"] = TINY.format(**chapter)
        files[f"tests/checks/test_{name}.py"] = CHECKS.format(**chapter)
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
