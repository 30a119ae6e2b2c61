"""What every token of a piece of Python is, from Python's own `tokenize` and `ast`.

A model's token and Python's need not begin or end together: ` self` brings its space along, `):` is a
bracket and a colon. One rule settles it: **a token is what its first character is that is not blank; a token
of blanks alone is what its first blank is.** So `):` is a closing bracket. (A character of several bytes may
be cut into several tokens; each of them is what the character is.)
"""

import ast
import builtins
import hashlib
import itertools
import keyword
import re
import tokenize
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from utils.corpus import is_heldout, load_tokenizer, read_files, standard_library
from utils.waiting import waiting

CLASSES = {
    "comment": "in a comment",
    "string": "in a string, its prefix and quotes too (f-strings whole, with what stands in their braces)",
    "docstring": "in the string that describes a module, class or function",
    "keyword": "a word that Python reserves: def, for, None, ...",
    "builtin": "a name of Python's own: len, range, ValueError, ...",
    "definition": "the name of a function or class, where it is defined",
    "parameter": "the name of an argument, where a function is defined",
    "keyword_argument": "the name before = in a call",
    "attribute": "the name behind a dot",
    "called": "the name of what is called",
    "assigned": "a name that gets a value",
    "imported": "a name in an import statement",
    "decorator": "in a decorator",
    "number": "a number",
    "operator": "an operator or delimiter other than a bracket",
    "open_bracket": "( [ or {",
    "close_bracket": ") ] or }",
    "newline": "begins with the end of a line, outside strings",
    "first_of_line": "the first on its line that is not blank, outside strings",
}
NUMBERS = {
    "bracket_depth": "brackets open here; an opening and its closing one count as inside",
    "indent": "columns by which the line is indented",
    "block": "blocks (def, if, for, ...) that the line stands in",
    "line": "number of the line, from 1",
}
_BIT = {name: 1 << i for i, name in enumerate(CLASSES)}
_NAMES = frozenset(dir(builtins)) - frozenset(keyword.kwlist)
_FSTRING = tuple(getattr(tokenize, f"{kind}STRING_START", None) for kind in "FT")  # Python 3.12, 3.14
_FSTRING_END = tuple(getattr(tokenize, f"{kind}STRING_END", None) for kind in "FT")
_STRINGS = tuple(getattr(ast, name) for name in ("JoinedStr", "TemplateStr") if hasattr(ast, name))
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_BLANK = " \t\r\n\f\v"


@dataclass(frozen=True)
class Labels:
    """Tokens of text with their classes (`labels["comment"]`, boolean) and numbers
    (`labels["indent"]`, whole). `<|bos|>` before each file has no class, and 0 for each number."""

    tokens: Int[Tensor, "pos"]
    classes: Bool[Tensor, "n_classes pos"]
    numbers: Int[Tensor, "n_numbers pos"]
    n_files: int = 1
    n_left_out: int = 0  # files that do not parse

    def __getitem__(self, name: str) -> Tensor:
        """The labels of one name, `[pos]`. Raises KeyError, with all names, for one that is none."""
        if name in CLASSES:
            return self.classes[list(CLASSES).index(name)]
        if name in NUMBERS:
            return self.numbers[list(NUMBERS).index(name)]
        raise KeyError(f"No label is called {name!r}. There are: {', '.join([*CLASSES, *NUMBERS])}.")

    def where(self, description: str) -> Bool[Tensor, "*batch pos"]:
        """Where all conditions of a description hold: `"close_bracket & after parameter"`,
        `"token 'def'"` (any blanks around it), `"token '\\n' & string"`. A condition is a class or a
        token's text, with "after" where the token before it, or "before" where the next one is meant.
        Raises ValueError for anything else."""
        found = torch.ones_like(self.classes[0])
        for condition in description.split(" & "):
            steps, what = 0, condition.strip()
            for word, step in (("after ", 1), ("before ", -1)):
                if what.startswith(word):
                    steps, what = step, what.removeprefix(word).strip()
            if what in CLASSES:
                marks = self[what]
            else:
                marks = torch.isin(self.tokens, _spelled_so(what, description))
            found = found & (_beside(marks, steps) if steps else marks)
        return found

    def windows(self, n: int, n_ctx: int, generator: torch.Generator) -> "Labels":
        """`n` random pieces of `n_ctx` tokens: every tensor gains a dimension, `[... n n_ctx]`.
        Raises ValueError if there are fewer than `n_ctx` tokens."""
        if len(self.tokens) < n_ctx:
            raise ValueError(f"{len(self.tokens)} tokens hold no window of {n_ctx}: label more text.")
        start = torch.randint(len(self.tokens) - n_ctx + 1, (n, 1), generator=generator)
        at = start + torch.arange(n_ctx)
        return Labels(
            self.tokens[at], self.classes[:, at], self.numbers[:, at], self.n_files, self.n_left_out
        )


def _spelled_so(what: str, description: str) -> Int[Tensor, "n"]:
    """The tokens that `token 'text'` means."""
    try:
        text = ast.literal_eval(what.removeprefix("token ")) if what.startswith("token ") else None
    except (SyntaxError, ValueError):
        text = None
    if not isinstance(text, str):
        raise ValueError(
            f"{what!r} in {description!r} is no class and no token. Write for example token 'def', or one "
            f"of: {', '.join(CLASSES)}."
        )
    return torch.tensor([i for i, t in enumerate(_spelled()) if t == (text.strip() or text)], dtype=torch.long)


def label(text: str) -> Labels:
    """The labels of one piece of Python. Raises ValueError for text that does not parse."""
    labels = label_files([text])
    if labels.n_left_out:
        raise ValueError("This text is no Python that this Python can parse, so it has no labels.")
    return labels


def label_files(texts: Iterable[str]) -> Labels:
    """The labels of several files, one after the other. Files that do not parse are left out, and counted."""
    texts = list(texts)
    reading = waiting(texts, "Looking at every token of some files")
    marked = [(text, marks) for text in reading if (marks := _characters(text)) is not None]
    ids, classes, numbers = [], [], []
    for encoding, (text, (bits, counts)) in zip(
        load_tokenizer().encode_batch([text for text, _ in marked]), marked, strict=True
    ):
        at = _deciding(text, np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2))
        ids.append(np.array([0, *encoding.ids]))
        classes.append(np.concatenate([[0], bits[at]]))
        numbers.append(np.concatenate([np.zeros((len(NUMBERS), 1), np.int32), counts[:, at]], axis=1))
    bits = torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *classes]))
    return Labels(
        torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *ids])),
        torch.stack([(bits & bit).bool() for bit in _BIT.values()]),
        torch.from_numpy(np.concatenate([np.zeros((len(NUMBERS), 0), np.int32), *numbers], axis=1)).long(),
        len(marked),
        len(texts) - len(marked),
    )


def label_library(fold: int, n_files: int | None = None) -> Labels:
    """Labels of half of those files of the standard library that no model of ours was trained on: fold 0 to look
    at, fold 1 to test on what was found. Of all of them, or of the first `n_files` in a shuffled order."""
    paths = sorted(texts := read_files(standard_library(), "*.py", is_heldout), key=_shuffled)
    return label_files(texts[path] for path in paths[fold::2][:n_files])


def _shuffled(path: str) -> bytes:
    return hashlib.sha256(f"order of {path}".encode()).digest()


@cache
def _spelled() -> list[str]:
    """The text of each token, without the blanks around it if it is more than blanks."""
    tokenizer = load_tokenizer()
    texts = [tokenizer.decode([i], skip_special_tokens=False) for i in range(tokenizer.get_vocab_size())]
    return [text.strip() or text for text in texts]


def _beside(marks: Tensor, steps: int) -> Tensor:
    """For each token, whether the one `steps` places before it is marked; False at the edge."""
    moved = torch.zeros_like(marks)
    if steps > 0:
        moved[..., steps:] = marks[..., :-steps]
    else:
        moved[..., :steps] = marks[..., -steps:]
    return moved


def _deciding(text: str, spans: np.ndarray) -> np.ndarray:
    """The character that decides what each token is, for tokens at the spans `[n, (start, end)]`."""
    characters = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    blank = np.append(np.isin(characters, [ord(ch) for ch in _BLANK]), False)
    here = np.where(blank, len(blank), np.arange(len(blank)))
    next_dark = np.minimum.accumulate(here[::-1])[::-1]  # at or after each character
    start, end = spans.T
    return np.where(next_dark[start] < end, next_dark[start], start)


def _characters(text: str) -> tuple[np.ndarray, np.ndarray] | None:
    """For each character its classes as bits, and its numbers; None for text that does not parse."""
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)
    plain = (line.rstrip("\r\n") + "\n" * line.endswith(("\r", "\n")) for line in lines)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as at "\d": that is the author's business
            tree = ast.parse(text)
        tokens = list(tokenize.generate_tokens(partial(next, plain, "")))
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
        return None
    marks = _Marks(lines)
    marks.of_tokens(tokens)
    marks.of_tree(tree)
    return marks.finished()


class _Marks:
    """Classes and numbers of the characters of one file, while they are being found."""

    def __init__(self, lines: list[str]):
        self.lines = lines
        self.starts = [0, *itertools.accumulate(map(len, lines))]
        self.bits = np.zeros(self.starts[-1] + 1, np.int64)
        self.depth, self.block = (np.zeros(len(self.bits) + 1, np.int32) for _ in range(2))  # rises and falls
        self.name_from: dict[int, int] = {}  # where each name begins: where it ends; and the other way round
        self.name_to: dict[int, int] = {}

    def at(self, row: int, column: int) -> int:
        """The number of a character; rows count from 1."""
        return min(self.starts[min(row, len(self.starts)) - 1] + column, self.starts[-1])

    def mark(self, name: str, start: int, end: int) -> None:
        self.bits[start:end] |= _BIT[name]

    def of_tokens(self, tokens: list[tokenize.TokenInfo]) -> None:
        before, fstring = "", None
        for kind, word, (row, column), end, _ in tokens:
            start, stop = self.at(row, column), self.at(*end)
            if kind in _FSTRING:  # with whatever it holds, to its own end: they nest
                fstring = [*(fstring or []), start]
            elif kind in _FSTRING_END:
                self.mark("string", fstring.pop(), stop)
            elif fstring:
                pass
            elif kind == tokenize.NAME:
                self.name_from[start], self.name_to[stop] = stop, start
                if keyword.iskeyword(word):
                    self.mark("keyword", start, stop)
                elif before in ("def", "class"):
                    self.mark("definition", start, stop)
            elif kind == tokenize.OP:
                if word in "([{":
                    self.mark("open_bracket", start, stop)
                    self.depth[start] += 1
                elif word in ")]}":
                    self.mark("close_bracket", start, stop)
                    self.depth[stop] -= 1
                else:
                    self.mark("operator", start, stop)
            elif kind == tokenize.STRING:
                self.mark("string", start, stop)
            elif kind == tokenize.NUMBER:
                self.mark("number", start, stop)
            elif kind == tokenize.COMMENT:
                self.mark("comment", start, stop)
            elif kind == tokenize.INDENT:
                self.block[self.at(row, 0)] += 1
            elif kind == tokenize.DEDENT:
                self.block[self.at(row, 0)] -= 1
            before = word

    def of_tree(self, tree: ast.AST) -> None:
        todo = [tree]
        while todo:
            node = todo.pop()
            kind = type(node)
            if kind is ast.Name:
                if type(node.ctx) is ast.Store:
                    self.mark_name("assigned", self.start(node))
                elif node.id in _NAMES:
                    self.mark_name("builtin", self.start(node))
                continue
            if kind in _STRINGS:
                continue
            if kind is ast.Attribute:
                self.mark_name_to("attribute", self.end(node))
            elif kind is ast.Call:
                if type(node.func) is ast.Name:
                    self.mark_name("called", self.start(node.func))
                elif type(node.func) is ast.Attribute:
                    self.mark_name_to("called", self.end(node.func))
            elif kind is ast.arg:
                self.mark_name("parameter", self.start(node))
            elif kind is ast.keyword:
                if node.arg is not None:
                    self.mark_name("keyword_argument", self.start(node))
            elif kind in (ast.Import, ast.ImportFrom):
                for start in range(self.start(node), self.end(node)):
                    if not self.bits[start] & _BIT["keyword"]:
                        self.mark_name("imported", start)
            elif kind in _DOCUMENTED:
                for decorator in getattr(node, "decorator_list", []):
                    self.mark("decorator", self.start(decorator), self.end(decorator))
                if ast.get_docstring(node, clean=False) is not None:
                    place = node.body[0].value
                    self.mark("docstring", self.start(place), self.end(place))
            # Not vars(node): IPython's tracebacks write into nodes that all trees share, such as ast.Load, which tree
            # they were in last.
            for child in (getattr(node, field, None) for field in node._fields):
                if isinstance(child, list):
                    todo += [c for c in child if isinstance(c, ast.AST)]
                elif isinstance(child, ast.AST):
                    todo.append(child)

    def mark_name(self, name: str, start: int) -> None:
        self.mark(name, start, self.name_from.get(start, start))

    def mark_name_to(self, name: str, end: int) -> None:
        self.mark(name, self.name_to.get(end, end), end)

    def start(self, node: ast.AST) -> int:
        return self.byte(node.lineno, node.col_offset)

    def end(self, node: ast.AST) -> int:
        return self.byte(node.end_lineno, node.end_col_offset)

    def byte(self, row: int, column: int) -> int:
        """The number of a character whose column is given in bytes, as `ast` does."""
        line = self.lines[row - 1]
        if not line.isascii():
            column = len(line.encode()[:column].decode(errors="ignore"))
        return self.at(row, column)

    def finished(self) -> tuple[np.ndarray, np.ndarray]:
        bits, n = self.bits, self.starts[-1]
        string, docstring = _BIT["string"], _BIT["docstring"]
        bits[(bits & string) == 0] &= ~docstring  # between the parts of one
        indents, inside = [], (bits & string) != 0
        for line, start in zip(self.lines, self.starts, strict=False):
            text = line.rstrip("\r\n")
            dark = text.lstrip(_BLANK)
            indents.append(len(text[: len(text) - len(dark)].replace("\f", "").expandtabs(8)))
            first, end = start + len(text) - len(dark), start + len(text)
            if dark and not (start and inside[start - 1] and inside[start]):
                bits[first] |= _BIT["first_of_line"]
            if not inside[end] and len(line) > len(text):
                bits[end : start + len(line)] |= _BIT["newline"]
        row = np.repeat(np.arange(len(self.lines)), [len(line) for line in self.lines])
        numbers = np.stack(
            [
                self.depth.cumsum()[:n],
                np.array(indents, np.int32)[row] if n else row,
                self.block.cumsum()[:n],
                row + 1,
            ]
        )
        return bits[:n], numbers.astype(np.int32)
