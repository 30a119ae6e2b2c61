"""Slips are what their names say, and none of them passes the checks of its exercise."""

import re

import pytest
from click.testing import CliRunner

from circuits import mutants
from circuits.chapters import ROOT, Chapter, chapters
from circuits.cli import main
from circuits.slips import SLIPS, changed_lines, mutants as mutants_of

ANSWER = '''
def answer(x: "dim=-1", layer, head, right, wrong):
    """sum(dim=-1)"""
{}
'''


def made(line):
    """The slips of an answer of one line, by its changed line."""
    return {m.after: m.slip for m in mutants_of(ANSWER.format(f"    {line}"))}


@pytest.mark.parametrize(
    "line, slips",
    [
        ("return x + 1", {"return x - 1": "other operator", "return x": "operand dropped", "return x + 2": "other constant", "return x + 0": "other constant"}),
        ("return 0.5 * x", {"return 1.0 * x": "other constant", "return 0.25 * x": "other constant", "return 0.5 @ x": "other operator"}),
        ("return x < right", {"return x <= right": "other comparison", "return x > right": "other comparison"}),
        ("return x if not right else wrong", {"return x if right else wrong": "not removed"}),
        ("return x and right", {"return x or right": "other connective"}),
        ("return -x.log()", {"return x.log()": "negative dropped", "return -x": "function dropped"}),
        ("return torch.sqrt(x)", {"return x": "function dropped"}),
        ("return x ** 0.5", {"return x": "operand dropped", "return x ** 1.0": "other constant"}),
        ("return [i for i in range(x)]", {
            "return [i for i in range(1, x)]": "range moved", "return [i for i in range(x - 1)]": "range moved",
        }),
        ("x += right", {"pass": "statement dropped", "x = right": "not added", "x -= right": "other operator"}),
        ("x[0] = right", {"pass": "statement dropped", "x[-1] = right": "other end"}),
        ("return right, wrong", {"return (wrong, right)": "exchanged arguments"}),
        ("return ['a', 'b']", {"return ['a']": "item dropped", "return ['b', 'a']": "exchanged arguments"}),
        ("return f(generator=x)", {"return f()": "keyword dropped"}),
        ("return x[layer, head]", {"return x[head, layer]": "other index", "return x[head, head]": "exchanged name"}),
        ("return x.W_Q", {"return x.W_K": "exchanged name"}),
        ("return x.W_V", {"return x.W_O": "exchanged name"}),
        ("return x[right]", {"return x[wrong]": "exchanged name", "return x": "other index"}),
        ("return x.mean(dim=-1)", {
            "return x.sum(dim=-1)": "exchanged name", "return x.mean(dim=0)": "other axis",
            "return x.mean(dim=-2)": "other axis", "return x.mean()": "keyword dropped",
            "return x.mean(dim=-1, keepdim=True)": "axis kept",
        }),
        ("return x.softmax(-1)", {
            "return x.log_softmax(-1)": "exchanged name", "return x.softmax(0)": "other axis", "return x.softmax()": "axis dropped",
        }),
        ("return x.sum((0, -1))", {"return x.sum((1, -1))": "other axis", "return x.sum(0)": "other axis"}),
        ("return x.T", {"return x": "transpose dropped"}),
        ("return x @ right.mT", {
            "return right.mT @ x": "product exchanged", "return x @ right": "transpose dropped", "return x * right.mT": "other operator",
            "return x.mT @ right.mT": "operand transposed",
        }),
        ("return x.masked_fill(right, -inf).softmax(-1)", {
            "return x.softmax(-1)": "function dropped", "return x.softmax(-1).masked_fill(right, 0.0)": "mask after softmax",
        }),
        ("return x.topk(3)", {"return x.topk(3, largest=False)": "other order"}),
        ("return x.argmax()", {"return x.argmin()": "exchanged name"}),
        ("return x[:, :-1]", {"return x[:, 1:]": "other slice", "return x[:, :]": "other slice", "return x[:-1]": "other index"}),
        ("return x[:, None]", {"return x[None, :]": "other index"}),
        ("return einsum(x, 'a b -> b a')", {"return einsum(x, 'b a -> b a')": "exchanged axes"}),
        ("return einsum('ab->ba', x)", {"return einsum('ab->ab', x)": "exchanged axes"}),
        ("return einsum(x, 'a (b c) -> a b c')", {"return einsum(x, 'a (c b) -> a b c')": "exchanged axes"}),
        ("return f'{layer}.x'", {"return f'{head}.x'": "exchanged name"}),
    ],
)  # fmt: skip
def test_a_slip_does_what_its_name_says(line, slips):
    assert made(line).items() >= slips.items()


def test_another_local_is_returned():
    assert made("y = x\n    return x * 2")["return y"] == "other local returned"


def test_every_slip_has_a_name_of_its_own_and_a_description():
    assert len({s.name for s in SLIPS}) == len(SLIPS)
    assert all(s.description for s in SLIPS)


@pytest.mark.parametrize("line", ["return max(2, 3)", "return zip(x, right, strict=True)", "return (x)"])
def test_what_changes_nothing_is_no_slip(line):
    assert not {"return max(3, 2)", "return zip(x, right)", "return zip(x, right, strict=False)", "return x"} & set(made(line))


def test_annotations_and_docstrings_are_let_alone():
    assert all('x: \'dim=-1\'' in m.code and '"""sum(dim=-1)"""' in m.code for m in mutants_of(ANSWER.format("    return -x")))


def test_a_change_is_told_by_its_lines():
    assert changed_lines("a\n  b\nc", "a\n  x\nc") == ["b", "x"]
    assert changed_lines("a\nb\nb2\nc", "a\nx\nc") == ["b / b2", "x"]


# The proof ----------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A chapter with one exercise, whose one check lets `return x + y` pass for `return y + x`."""
    files = {
        "solutions/1_tiny/tiny.py": '# %% exercise="double"\ndef double(x: float) -> float:\n'
        '    """Twice x."""\n    return x + x * 1\n',
        "tests/checks/test_tiny.py": "from circuits.checking import exercise, expect\n"
        '@exercise("double", points=1)\ndef test_doubles(submission, rng):\n    expect(submission.double(3.0), 6.0, "it")\n',
        "tests/mutants/explained.py": "EXPLAINED = {}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(mutants, "EXPLAINED", tmp_path / "tests/mutants/explained.py")
    return Chapter("1_tiny", tmp_path)


SURVIVES = "return x + x * 1 -> return x + x"


def test_who_passes_the_checks_is_found(tiny):
    finding = mutants.examine(tiny, "double")
    assert SURVIVES in {s.change for s in finding.survivors}
    assert any(SURVIVES in problem for problem in mutants.problems(finding))
    assert finding.mutants > len(finding.survivors) > 0
    assert finding.raised  # return x @ x * 1


def test_a_reason_settles_a_survivor_and_must_have_one(tiny):
    reasons = {("double", s.change): "x * 1 is x" for s in mutants.examine(tiny, "double").survivors}
    mutants.EXPLAINED.write_text(f"EXPLAINED = {reasons!r}  # all\n")
    assert mutants.problems(mutants.examine(tiny, "double")) == []
    mutants.EXPLAINED.write_text(f"EXPLAINED = {reasons | {('double', 'no -> line'): 'why'}!r}  # and one more\n")
    assert mutants.problems(mutants.examine(tiny, "double")) == [
        "double: explained.py explains what does not survive: no -> line"
    ]


def test_a_sample_is_always_the_same(tiny):
    first, again = (mutants.examine(tiny, "double", sample=2) for _ in range(2))
    assert first.mutants == 2 and first.survivors == again.survivors


def test_every_explanation_is_of_an_exercise():
    assert mutants.strays() == []


@pytest.mark.proof
@pytest.mark.filterwarnings("ignore")  # what a mutant does may be deprecated
@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_a_sample_of_the_mutants_of_every_exercise_fails(chapter):
    findings = list(mutants.run(chapter.name, sample=2))
    assert [problem for finding in findings for problem in mutants.problems(finding, whole=False)] == []


def test_the_command_says_what_it_found():
    done = CliRunner().invoke(main, ["mutants", "bilinear", "--sample", "3"])
    assert done.exit_code == 0 and "bilinear: 3 mutants, 0 survivors" in done.output


@pytest.mark.parametrize("args", [["no_such_exercise"], ["bilinear", "--report"], ["--sample", "2", "--report"]])
def test_a_wrong_request_is_refused(args):
    assert CliRunner().invoke(main, ["mutants", *args]).exit_code == 1


def test_a_report_on_one_chapter_keeps_what_is_said_of_the_others():
    """And of none, all: the sums too."""
    before = mutants.REPORT.read_text("utf-8")
    again = mutants.report([], before)

    def told(report: str) -> str:
        return re.sub(r"(?m)^\d{4}-\d\d-\d\d: ", "", report.partition("## Slips")[0])

    assert told(again) == told(before) and again.count("## ") == before.count("## ")
    chapter = next(c for c in chapters() if c.name == "1_bigrams")
    one = mutants.report([mutants.Finding(chapter, "direct_path", 7, raised=3)], before)
    own = one[one.index(f"## {chapter.title}"):].split("\n## ")[0]
    assert "1 exercises, 7 mutants, 7 killed (3 raise), 0 survivors" in own and own.count("| `") == 1
    other = next(c for c in chapters() if c.name == "4_patching")
    of_other = [report[report.index(f"## {other.title}"):].split("\n## ")[0] for report in (one, before)]
    assert of_other[0] == of_other[1]


def test_the_report_has_every_exercise():
    report = (ROOT / "docs" / "quality.md").read_text("utf-8")
    assert [name for c in chapters() for name in c.exercise_names if f"| `{name}` |" not in report] == []
