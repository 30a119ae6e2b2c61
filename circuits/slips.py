"""Slips: small changes that turn a right answer into what a learner writes by mistake.

A mutation library (mutmut, cosmic-ray) changes the files of a package and knows no tensors; answers are
cells of a notebook, and their slips are mostly about axes. So these operators are our own: each takes a
node of the syntax tree and yields what may stand in its place. A mutant is an answer with one slip.
"""

import ast
import builtins
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Node = ast.AST

# Words that are mistaken for each other: names, attributes, and whole strings.
EXCHANGED = [
    ("mean", "sum"), ("argmax", "argmin"), ("max", "min"), ("maximum", "minimum"),
    ("softmax", "log_softmax"), ("triu", "tril"), ("any", "all"), ("ones", "zeros"), ("real", "imag"),
    ("layer", "head"), ("n_layers", "n_heads"), ("to_layer", "to_head"), ("prev_head", "ind_head"),
    ("head0", "head1"), ("d_model", "d_head"), ("batch", "length"), ("d_vocab", "n_ctx"), ("rows", "columns"),
    ("W_Q", "W_K"), ("W_V", "W_O"), ("W_E", "W_U"), ("W_out", "W_in"), ("W_E", "W_pos"), ("W_A", "W_B"),
    ("q", "k"), ("k", "v"), ("Q", "K"), ("K", "V"), ("query", "key"), ("queries", "keys"), ("q", "z"),
    ("resid_pre", "resid_post"), ("pattern", "scores"), ("p_pair", "p_next"), ("log_p", "log_q"),
    ("clean", "corrupted"), ("at_clean", "at_corrupted"), ("z_clean", "z_corrupted"), ("right", "wrong"),
    ("first", "second"), ("early", "late"), ("before", "after"), ("source", "destination"), ("src", "dest"),
    ("sources", "destinations"), ("sender", "receiver"), ("tokens", "reference"), ("tokens", "other"),
    ("read", "write"), ("inputs", "outputs"), ("wanted", "raised"), ("previous", "induction"),
    ("x", "p"), ("x", "x_qk"), ("G", "H"), ("i", "j"), ("a", "b"), ("b", "c"), ("a1", "a2"), ("b1", "b2"),
]  # fmt: skip

# Methods and functions of one argument that are forgotten: `x.abs()` and `torch.abs(x)` become `x`.
FORGOTTEN = {
    "abs", "log", "exp", "sqrt", "relu", "softmax", "log_softmax", "masked_fill", "clamp", "float", "clone",
    "norm", "inv", "mean", "sum", "flatten", "transpose", "detach", "diagonal", "nonzero", "triu", "sorted",
}  # fmt: skip
TRANSPOSED = {"T", "mT", "real"}

# Calls whose first argument is an axis.
OVER_AN_AXIS = {
    "softmax", "log_softmax", "sum", "mean", "norm", "argmax", "argmin", "max", "min", "unbind", "cumsum",
    "gather", "diagonal", "flatten", "transpose", "unsqueeze", "squeeze", "index_add_",
}  # fmt: skip

REDUCING = {"sum", "mean", "norm", "argmax", "argmin", "max", "min", "any", "all"}  # know `keepdim`

# Keywords that cannot change what an answer returns: `strict` of zip raises or does nothing, and
# `names_filter` says what to keep of a cache. Slips in them would only be survivors to explain.
WITHOUT_EFFECT = {"strict", "names_filter"}

SYMMETRIC = {"min", "max", "minimum", "maximum"}  # calls whose arguments may come in any order


@dataclass(frozen=True)
class Slip:
    """One operator: what it does to a node."""

    name: str
    description: str
    apply: Callable[[Node], Iterator[Node]]


SLIPS: list[Slip] = []


def slip(description: str) -> Callable:
    """Put an operator in the table, under its function's name in words."""

    def register(apply):
        SLIPS.append(Slip(apply.__name__.replace("_", " ").strip(), description, apply))
        return apply

    return register


# Reading and making nodes -------------------------------------------------------------------


def _integer(node: Node) -> int | None:
    """The value of a literal such as 2 or -1; None for other nodes."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return None
    return value if type(value) is int else None


def _literal(value: object) -> Node:
    return ast.parse(repr(value), mode="eval").body


def _with(node: Node, **fields) -> Node:
    """The same node with some other fields."""
    return type(node)(**{name: getattr(node, name, None) for name in node._fields} | fields)


def _replaced(items: list, at: int, *new) -> list:
    return [*items[:at], *new, *items[at + 1 :]]


def _called(node: Node) -> str:
    """The last name of what a call calls: "softmax" of `x.softmax(-1)`; "" if it is no call."""
    if not isinstance(node, ast.Call):
        return ""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def _argument(node: ast.Call) -> Node | None:
    """What a method or a function of a module works on: x of `x.abs()` and of `torch.abs(x)`."""
    if isinstance(node.func, ast.Name) or getattr(node.func.value, "id", "") in ("torch", "math", "F"):
        return node.args[0] if node.args else None
    if isinstance(node.func.value, ast.Attribute) and node.func.value.attr == "linalg":
        return node.args[0] if node.args else None
    return node.func.value


# Ordinary slips -----------------------------------------------------------------------------

_OTHER_OPERATOR = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div, ast.MatMult], ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Mult], ast.Pow: [ast.Mult], ast.MatMult: [ast.Mult],
}  # fmt: skip
_OTHER_COMPARISON = {
    ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.GtE], ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.In: [ast.NotIn], ast.NotIn: [ast.In],
    ast.Is: [ast.IsNot], ast.IsNot: [ast.Is],
}  # fmt: skip


@slip("`+` for `-`, `*` for `/`, `@` for `*`, and back, `*` for `**`; in `+=` too")
def other_operator(node):
    if isinstance(node, ast.BinOp | ast.AugAssign):
        for op in _OTHER_OPERATOR.get(type(node.op), []):
            yield _with(node, op=op())


@slip("one side of `+`, `-`, `*`, `/`, `@`, `**` forgotten")
def operand_dropped(node):
    if isinstance(node, ast.BinOp):
        yield node.left
        if not isinstance(node.op, ast.Pow):
            yield node.right


@slip("`<` for `<=` and for `>`, `==` for `!=`, `in` for `not in`")
def other_comparison(node):
    if isinstance(node, ast.Compare):
        for op in _OTHER_COMPARISON[type(node.ops[0])]:
            yield _with(node, ops=[op()])


@slip("`and` for `or`")
def other_connective(node):
    if isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())


@slip("`not` forgotten")
def not_removed(node):
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand


@slip("a condition turned round, or the filter of a comprehension forgotten")
def other_condition(node):
    if isinstance(node, ast.If | ast.IfExp):
        yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.comprehension) and node.ifs:
        yield _with(node, ifs=[])


@slip("a whole number one larger or smaller, another doubled or halved, True for False")
def other_constant(node):
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, int):
            yield from (_literal(node.value + by) for by in (1, -1))
        elif isinstance(node.value, float):
            yield from (_literal(by * node.value or by) for by in (2.0, 0.5))


@slip("the minus sign forgotten")
def negative_dropped(node):
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand


@slip("a loop that starts one late or ends one early")
def range_moved(node):
    if _called(node) == "range" and len(node.args) == 1:
        yield _with(node, args=[ast.Constant(1), node.args[0]])
        yield _with(node, args=[ast.BinOp(node.args[0], ast.Sub(), ast.Constant(1))])


@slip("a statement that is not done: a call, `+=`, or an assignment to a part")
def statement_dropped(node):
    part = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)
    if part or isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield ast.Pass()


@slip("`=` for `+=`")
def not_added(node):
    if isinstance(node, ast.AugAssign):
        yield ast.Assign([node.target], node.value, lineno=node.lineno)


@slip("two arguments, or the two parts of a pair, exchanged")
def exchanged_arguments(node):
    items = {ast.Call: "args", ast.Tuple: "elts", ast.List: "elts"}.get(type(node))
    # An unpacked pair, exchanged on the left, is the same slip as on the right.
    left = isinstance(getattr(node, "ctx", None), ast.Store)
    if items and not left and _called(node) not in SYMMETRIC:
        values = getattr(node, items)
        for i in range(len(values) - 1):
            if ast.dump(values[i]) != ast.dump(values[i + 1]):
                yield _with(node, **{items: _replaced(values[: i + 1], i, values[i + 1], values[i]) + values[i + 2 :]})


@slip("one item of a list forgotten")
def item_dropped(node):
    if isinstance(node, ast.List):
        for i in range(len(node.elts)):
            yield _with(node, elts=_replaced(node.elts, i))


@slip("a keyword argument forgotten: `dim`, `keepdim`, `minlength`, `generator`, ...")
def keyword_dropped(node):
    if isinstance(node, ast.Call):
        for i, keyword in enumerate(node.keywords):
            if keyword.arg not in WITHOUT_EFFECT:
                yield _with(node, keywords=_replaced(node.keywords, i))


@slip("a name for its counterpart: layer and head, W_Q and W_K, clean and corrupted, mean and sum, ...")
def exchanged_name(node):
    field = {ast.Name: "id", ast.Attribute: "attr", ast.Constant: "value"}.get(type(node))
    if field and not isinstance(getattr(node, "ctx", None), ast.Store):
        for pair in EXCHANGED:
            if getattr(node, field) in pair and type(getattr(node, field)) is str:
                yield _with(node, **{field: pair[pair.index(getattr(node, field)) == 0]})


@slip("another of the function's own variables returned")
def other_local_returned(node):
    if isinstance(node, ast.FunctionDef) and isinstance(node.body[-1], ast.Return):
        local = [
            target.id
            for statement in node.body
            if isinstance(statement, ast.Assign)
            for target in ast.walk(statement.targets[0])
            if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store)
        ]
        for name in local:
            yield _with(node, body=[*node.body[:-1], ast.Return(ast.Name(name, ast.Load()))])


# Slips with tensors -------------------------------------------------------------------------


def _other_axes(node: Node) -> Iterator[Node]:
    """Other axes for a literal axis or a tuple of them."""
    if isinstance(node, ast.Tuple):
        for i, item in enumerate(node.elts):
            yield from (_with(node, elts=_replaced(node.elts, i, new)) for new in _other_axes(item))
            yield item
    elif (axis := _integer(node)) is not None:
        yield from (_literal(other) for other in (-2, -1, 0, 1) if other != axis)


def _takes_axis(node: Node) -> bool:
    """Whether it is a call such as `x.sum(-1)`, and not of Python's own `sum` or `max`."""
    return _called(node) in OVER_AN_AXIS and isinstance(node.func, ast.Attribute)


@slip("another axis: dim=0, 1, -1 or -2, by keyword or position")
def other_axis(node):
    if isinstance(node, ast.keyword) and node.arg in ("dim", "axis", "dim1", "dim2"):
        yield from (_with(node, value=new) for new in _other_axes(node.value))
    if _takes_axis(node) and node.args:
        yield from (_with(node, args=[new, *node.args[1:]]) for new in _other_axes(node.args[0]))


@slip("the axis forgotten: `x.sum(-1)` as `x.sum()`")
def axis_dropped(node):
    if _takes_axis(node) and len(node.args) == 1:
        yield _with(node, args=[])


@slip("`keepdim=True` where it was not, so that what follows meets another shape")
def axis_kept(node):
    if _called(node) in REDUCING and isinstance(node.func, ast.Attribute):
        if node.args or {"dim"} == {keyword.arg for keyword in node.keywords}:
            yield _with(node, keywords=[*node.keywords, ast.keyword("keepdim", ast.Constant(True))])


@slip("`.T`, `.mT` or `.real` forgotten")
def transpose_dropped(node):
    if isinstance(node, ast.Attribute) and node.attr in TRANSPOSED:
        yield node.value


@slip("the operands of `@` exchanged")
def product_exchanged(node):
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        yield _with(node, left=node.right, right=node.left)


@slip("one operand of `@` transposed")
def operand_transposed(node):
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        for side in ("left", "right"):
            yield _with(node, **{side: ast.Attribute(getattr(node, side), "mT", ast.Load())})


@slip("log, sqrt, abs, softmax, masked_fill, clone, ... forgotten")
def function_dropped(node):
    if _called(node) in FORGOTTEN:
        argument = _argument(node)
        if argument is not None:
            yield argument


@slip("the mask after the softmax instead of before it")
def mask_after_softmax(node):
    if _called(node) == "softmax" and _called(node.func.value) == "masked_fill":
        mask = node.func.value
        softmax = _with(node, func=_with(node.func, value=mask.func.value))
        yield _with(mask, func=_with(mask.func, value=softmax), args=[mask.args[0], ast.Constant(0.0)])


@slip("the smallest instead of the largest: `topk(k, largest=False)`, `sorted(..., reverse=True)`")
def other_order(node):
    for name, keyword, value in (("topk", "largest", False), ("sorted", "reverse", True)):
        if _called(node) == name:
            yield _with(node, keywords=[*node.keywords, ast.keyword(keyword, ast.Constant(value))])


@slip("the first for the last: `[0]` for `[-1]`")
def other_end(node):
    if isinstance(node, ast.Subscript):
        for i, item in enumerate(_indices(node)):
            if _integer(item) in (0, -1):
                yield _indexed(node, i, _literal(-1 - _integer(item)))


@slip("`[:-1]` for `[1:]`, and the bound of a slice forgotten")
def other_slice(node):
    if isinstance(node, ast.Slice):
        text = ast.unparse(node)
        if text in (":-1", "1:"):
            yield ast.Slice(ast.Constant(1)) if text == ":-1" else ast.Slice(None, _literal(-1))
        if node.lower:
            yield _with(node, lower=None)
        if node.upper:
            yield _with(node, upper=None)


@slip("an index forgotten or exchanged with the next one: `x[:, None]` as `x[None]`, `x[a, b]` as `x[b, a]`")
def other_index(node):
    if isinstance(node, ast.Subscript):
        indices = _indices(node)
        for i in range(len(indices)):
            if len(indices) > 1:
                yield _indexed(node, i)
            if i + 1 < len(indices) and ast.dump(indices[i]) != ast.dump(indices[i + 1]):
                moved = [*indices[:i], indices[i + 1], indices[i], *indices[i + 2 :]]
                yield _with(node, slice=ast.Tuple(moved, ast.Load()))
        if isinstance(node.ctx, ast.Load):
            yield node.value


def _indices(node: ast.Subscript) -> list[Node]:
    return node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]


def _indexed(node: ast.Subscript, at: int, *new: Node) -> Node:
    indices = _replaced(_indices(node), at, *new)
    return _with(node, slice=indices[0] if len(indices) == 1 else ast.Tuple(indices, ast.Load()))


@slip("two axes of a term exchanged in the pattern of einsum or rearrange")
def exchanged_axes(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and "->" in node.value:
        text = node.value
        axes = list(re.finditer(r"\w+" if " " in text else r"\w", text))
        for a, b in itertools.pairwise(axes):
            between = text[a.end() : b.start()]
            if not {",", ">"} & set(between):  # of one term
                yield ast.Constant(text[: a.start()] + b[0] + between + a[0] + text[b.end() :])


# Applying them ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    """An answer with one slip in it."""

    slip: str
    code: str  # of the whole cell
    before: str  # the line that the slip is in, or the lines
    after: str

    @property
    def change(self) -> str:
        return f"{self.before} -> {self.after}"


def mutants(code: str) -> list[Mutant]:
    """All answers that are one slip away from this one, each once."""
    tree = ast.parse(code)
    right = ast.unparse(tree)
    known = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | set(dir(builtins))
    known |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    found: dict[str, Mutant] = {}
    for node, put in _places(tree):
        for operator in SLIPS:
            for new in operator.apply(node):
                if isinstance(new, ast.Name) and new.id not in known:
                    continue  # a name that is not there raises at once: no slip to speak of
                put(new)
                text = ast.unparse(ast.fix_missing_locations(tree))
                if text != right:
                    found.setdefault(text, Mutant(operator.name, text, *changed_lines(right, text)))
                put(node)
    return list(found.values())


def _places(node: Node) -> Iterator[tuple[Node, Callable[[Node], None]]]:
    """Every node of what an answer does, and how to put another in its place. (Annotations, default
    values and docstrings say what the answer is: no slips there.)"""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "args") and isinstance(node, ast.FunctionDef | ast.Lambda | ast.AnnAssign):
            continue
        for i, child in enumerate(value if isinstance(value, list) else [value]):
            docstring = isinstance(node, ast.FunctionDef) and i == 0 and isinstance(child, ast.Expr)
            text = isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)
            if not isinstance(child, ast.AST) or docstring or text or getattr(child, "arg", "") in WITHOUT_EFFECT:
                continue

            def put(new, i=i, value=value, field=field):
                if isinstance(value, list):
                    value[i] = new
                else:
                    setattr(node, field, new)

            yield child, put
            yield from _places(child)


def changed_lines(before: str, after: str) -> list[str]:
    """The lines in which two texts differ, of each of them."""
    a, b = before.splitlines(), after.splitlines()
    while a and b and a[0] == b[0]:
        del a[0], b[0]
    while a and b and a[-1] == b[-1]:
        del a[-1], b[-1]
    return [" / ".join(line.strip() for line in lines) for lines in (a, b)]
