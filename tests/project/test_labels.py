"""Labels of Python are those that Python gives, whatever the tokens of the model."""

import ast
import io
import keyword
import tokenize

import pytest
import torch

from utils.corpus import load_tokenizer
from utils.labels import CLASSES, NUMBERS, label, label_files, label_library


def words(text: str, name: str) -> list[str]:
    """The text of each run of tokens of one class, without the blanks around it."""
    labels, runs = label(text), []
    marked = labels[name].tolist()
    for i, token in enumerate(labels.tokens.tolist()):
        if marked[i]:
            runs += [] if i and marked[i - 1] else [[]]
            runs[-1].append(token)
    return [load_tokenizer().decode(run).strip() for run in runs]


SAMPLE = '''"""About."""
import os.path as p
from . import thing

@wrap(1)
class Box(Base, metaclass=Meta):
    # a comment
    def size(self, *args, scale=2.5, **rest):
        \'\'\'Its size.\'\'\'
        n = len(self.items)  # more
        for i in range(n): print(f"{i:>{n}}" 'x')
        return self.f(n, key=None) + [0x1F]
'''

EXPECTED = {
    "comment": "# a comment|# more",
    "string": "\"\"\"About.\"\"\"|'''Its size.'''|f\"{i:>{n}}\" 'x'",
    "docstring": '"""About."""|\'\'\'Its size.\'\'\'',
    "keyword": "import| as|from| import|class| def| for| in| return|None",
    "builtin": "len|range|print",
    "definition": "Box|size",
    "parameter": "self|args|scale|rest",
    "keyword_argument": "metaclass|key",
    "attribute": "items|f",
    "called": "wrap|len|range|print|f",
    "assigned": "n|i",
    "number": "1|2.5|0x1F",
    "open_bracket": "(|(|(|(|(|(|(|[",
    "decorator": "wrap(1)",
    "imported": "os|path|p|thing",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_sample_of_everything(name):
    got, want = words(SAMPLE, name), EXPECTED[name].split("|")
    assert len(got) == len(want), got
    for ours, theirs in zip(got, want, strict=True):
        assert ours.startswith(theirs.strip()), got  # the last token may be more than the word


def slow(text: str) -> list[set[str]]:
    """By character: which kinds of Python's own tokens cover it, straight from `tokenize`."""
    lines = text.splitlines(keepends=True)
    starts = [sum(map(len, lines[:i])) for i in range(len(lines) + 1)]
    at = [set() for _ in text]
    for kind, word, (r1, c1), (r2, c2), _ in tokenize.generate_tokens(io.StringIO(text).readline):
        if kind == tokenize.NAME:
            name = "keyword" if keyword.iskeyword(word) else "name"
        elif kind == tokenize.OP:
            name = "open_bracket" if word in "([{" else "close_bracket" if word in ")]}" else "operator"
        else:
            name = {tokenize.NUMBER: "number", tokenize.COMMENT: "comment", tokenize.STRING: "string"}.get(kind)
        for i in range(starts[r1 - 1] + c1, starts[min(r2, len(lines)) - 1] + c2 if r2 <= len(lines) else 0):
            at[i].add(name)
    return at


@pytest.mark.skipif(hasattr(tokenize, "FSTRING_START"), reason="its f-strings are several tokens here")
def test_a_token_is_what_its_first_dark_character_is():
    """Against a slow loop, on a real file."""
    text = open(ast.__file__, encoding="utf-8").read()
    by_character, labels = slow(text), label(text)
    spans = load_tokenizer().encode(text).offsets
    for i, (start, end) in enumerate(spans):
        decides = next((k for k in range(start, end) if not text[k].isspace()), start)
        for name in ("keyword", "open_bracket", "close_bracket", "operator", "number", "comment", "string"):
            assert labels[name][i + 1] == (name in by_character[decides]), (text[start:end], name)


def test_a_token_that_straddles_is_its_first_part():
    labels = label("def f(a):\n    pass\n")
    text = [load_tokenizer().decode([int(t)]) for t in labels.tokens]
    straddling = text.index("):")
    assert labels["close_bracket"][straddling] and not labels["operator"][straddling]


def test_numbers_of_lines_blocks_and_brackets():
    text = "if a:\n    b = [1,\n  (2)]\n    # c\nd\n"
    labels = label(text)
    tokens = [load_tokenizer().decode([int(t)]).strip() for t in labels.tokens]
    rows = {name: dict(zip(tokens, labels[name].tolist(), strict=True)) for name in NUMBERS}
    assert [rows["line"][t] for t in ("a", "b", "2", "#", "d")] == [1, 2, 3, 4, 5]
    assert [rows["indent"][t] for t in ("a", "b", "2", "#", "d")] == [0, 4, 2, 4, 0]
    assert [rows["block"][t] for t in ("a", "b", "2", "d")] == [0, 1, 1, 0]
    assert [rows["bracket_depth"][t] for t in ("b", "1", "2", "d")] == [0, 1, 2, 0]


def test_first_of_line_and_newline_know_strings():
    text = 'x = """a\n  b\nc"""\ny = 1\n'
    assert words(text, "first_of_line") == ["x", "y"]
    assert label(text)["newline"].sum() == 2


@pytest.mark.parametrize(
    "text",
    [
        'f"{f\'{x!r:>{w}}\'} {{}}" + y\n',  # nested f-strings and braces that are none
        "a = 1 + \\\n    2\n",  # a continuation line
        "if a:\n\tb\n\tif c:\n\t\td\n",  # tabs
        "größe = 'ü€😀' + naïve.ñandú\n",  # characters of several bytes
        "a\r\nb = 1\r\n",  # lines as Windows ends them
        "a = 1\rb = 2\r",  # and as old Macs did
        "x\f = 1\n\fy = 2\n",  # form feeds
        "a = 1",  # no newline at the end
        "",
        "# nothing else",
        "def f(a, /, b: int = 3, *, c=lambda q: q): ...\n",
        "match x:\n    case [1, y]: pass\n",
    ],
)
def test_odd_sources_have_labels_for_every_token(text):
    labels = label(text)
    assert labels.tokens.tolist() == [0, *load_tokenizer().encode(text).ids]
    assert labels.classes.shape == (len(CLASSES), len(labels.tokens))
    assert labels.numbers.shape == (len(NUMBERS), len(labels.tokens))
    assert not labels.classes[:, 0].any()


def test_odd_sources_by_hand():
    assert words('f"{f\'{x!r:>{w}}\'} {{}}" + y\n', "operator") == ["+"]
    assert words("größe = 'ü€😀' + naïve.ñandú\n", "attribute") == ["ñandú"]
    assert words("größe = 'ü€😀' + naïve.ñandú\n", "assigned") == ["größe"]
    assert words("a\r\nb = 1\r\n", "assigned") == ["b"]
    assert words("a = 1\rb = 2\r", "number") == ["1", "2"]
    assert words("ﬁ.ﬂ(ﬁx=1)\n", "keyword_argument") == ["ﬁx"]  # Python reads these letters as others
    assert words("def f(a, /, b: int = 3, *, c=lambda q: q): ...\n", "parameter") == ["a", "b", "c", "q"]


@pytest.mark.parametrize("text", ["def f(:\n", "a = (1\n", "  a\nb\n", "print 'x'\n", "\0", "(" * 300 + ")" * 300])
def test_what_does_not_parse_is_left_out_and_counted(text):
    labels = label_files(["a = 1\n", text])
    assert (labels.n_files, labels.n_left_out) == (1, 1)
    assert labels.tokens.equal(label("a = 1\n").tokens)
    with pytest.raises(ValueError, match="no Python"):
        label(text)


def test_files_follow_each_other_as_if_alone():
    texts = ["a = (1\n)\n", "def f(): pass\n", "# x\n"]
    together, alone = label_files(texts), [label(text) for text in texts]
    assert together.tokens.equal(torch.cat([labels.tokens for labels in alone]))
    assert together.classes.equal(torch.cat([labels.classes for labels in alone], dim=1))
    assert together.numbers.equal(torch.cat([labels.numbers for labels in alone], dim=1))


def test_windows_cut_tokens_and_labels_alike():
    labels = label(SAMPLE)
    some = labels.windows(5, 7, torch.Generator().manual_seed(0))
    assert some.tokens.shape == (5, 7) and some["keyword"].shape == (5, 7) and some["line"].shape == (5, 7)
    for row, keywords in zip(some.tokens, some["keyword"], strict=True):
        at = next(i for i in range(len(labels.tokens)) if labels.tokens[i : i + 7].equal(row))
        assert labels["keyword"][at : at + 7].equal(keywords)
    with pytest.raises(ValueError, match="label more text"):
        labels.windows(1, 10_000, torch.Generator())


def test_no_label_of_that_name():
    with pytest.raises(KeyError, match="No label is called 'noun'. There are: comment"):
        label("a\n")["noun"]


def test_the_library_has_two_folds_of_held_out_files():
    folds = [label_library(fold, n_files=3) for fold in (0, 1)]
    for labels in folds:
        assert labels.n_files + labels.n_left_out == 3 and (labels.tokens == 0).sum() >= labels.n_files
    assert not folds[0].tokens.equal(folds[1].tokens)


def test_descriptions_combine_classes_tokens_and_neighbours():
    labels = label("def f(a, b):\n    return (a)\n\ndef g(): pass\n")

    def found(description):
        at = labels.where(description).nonzero()[:, 0].tolist()
        return [load_tokenizer().decode([int(labels.tokens[i])]) for i in at]

    assert [t.strip() for t in found("token 'def'")] == ["def", "def"]
    assert found("close_bracket & after parameter") == ["):"]
    assert [t.strip() for t in found("before definition")] == ["def", "def"]
    assert [t.strip() for t in found("definition & after token ' def '")] == ["f", "g"]
    assert found("token '\\n\\n' & comment") == []
    assert labels.where("after newline")[0].item() is False
    windows = labels.windows(2, 5, torch.Generator().manual_seed(0))
    assert windows.where("definition").shape == (2, 5) and not windows.where("after keyword")[:, 0].any()


@pytest.mark.parametrize("description", ["noun", "token def", "after", "", "comment | string", "token 3"])
def test_no_description(description):
    with pytest.raises(ValueError, match="is no class and no token"):
        label("a\n").where(description)


def test_what_others_hang_on_a_tree_is_not_followed():
    """IPython's tracebacks (by `executing`) give every node its parent, also `ast.Load()`, which all trees of a process share:
    from there a walk would go round in another tree, for ever or out of this text's lines."""
    other = ast.parse("\n" * 99 + "def f():\n    'd'\n    return ()")
    for node in ast.walk(other):
        for child in ast.iter_child_nodes(node):
            child.parent = node
    try:
        assert label("y = a.b")["docstring"].sum() == 0
    finally:
        for node in list(ast.walk(other)):
            vars(node).pop("parent", None)
