"""Answers that are the same up to formatting and names."""

import ast
import hashlib
import io
import tokenize
import warnings
from collections.abc import Iterator

LONGEST = 100_000  # characters of code that is read as Python; longer code is the same if its words are


def digest(code: str, name: str) -> str:
    """The same for two answers to the exercise `name` if they differ in nothing but formatting, comments, docstrings,
    annotations, and the names that they make themselves."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python thinks of such code
            text = _normal(code, name) if len(code) <= LONGEST else " ".join(code.split())
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # it does not compile, or is made to do harm
        text = " ".join(_words(code))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _normal(code: str, name: str) -> str:
    tree = ast.parse(code)
    own = _made(tree) - {name}
    numbers: dict[str, str] = {}

    def number(word: str) -> str:
        return numbers.setdefault(word, f"_{len(numbers)}") if word in own else word

    for node in _in_order(tree):
        for field in ("id", "arg", "name", "asname"):
            if isinstance(getattr(node, field, None), str) and not isinstance(node, ast.keyword):
                setattr(node, field, number(getattr(node, field)))
        if isinstance(node, ast.Global | ast.Nonlocal):
            node.names = [number(word) for word in node.names]
        for field in ("annotation", "returns", "type_comment"):
            if hasattr(node, field) and not isinstance(node, ast.AnnAssign):
                setattr(node, field, None)
        if isinstance(getattr(node, "body", None), list):
            node.body = [_plain(statement) for statement in node.body if not _says_nothing(statement)]
    return ast.dump(tree)


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, as the code has them."""
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)


def _made(tree: ast.AST) -> set[str]:
    """The names that code makes: arguments, variables, functions; imports keep theirs."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler) and node.name:
            found.add(node.name)
    return found


def _says_nothing(statement: ast.stmt) -> bool:
    """Whether a statement is a docstring, or another constant."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _plain(statement: ast.stmt) -> ast.stmt:
    """`x: int = 1` is `x = 1`."""
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        return ast.Assign([statement.target], statement.value)
    return statement


def _words(code: str) -> list[str]:
    """The words of code, without comments as far as it can be told."""
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type != tokenize.COMMENT:
                found += token.string.split()
    except (tokenize.TokenError, SyntaxError, ValueError):
        return code.split()
    return found
