"""The family of algorithms that a mystery model may hold: a rule, and an exception to it, the quirk.

A text is a list of symbols from 1 to 15, at most 11 of them (token 0, `<|bos|>`, goes before). At every position the model
names a symbol: what the rule says of the symbols so far, or, where the exception applies, always the same one.
"""

import random
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

N_SYMBOLS, LONGEST = 15, 11

# Each rule as the body of a function of the symbols `s`, as a learner might write it down; words in capitals are drawn.
RULES = {
    "copy back": "return s[-1 - PLACES] if len(s) > PLACES else s[0]",
    "largest": "return max(s)",
    "smallest": "return min(s)",
    "most frequent": "return min(s, key=lambda symbol: (-s.count(symbol), symbol))  # of several the smallest",
    "balance": """\
depth = s.count(OPENS) - s.count(CLOSES)
return MORE if depth > 0 else EQUAL if depth == 0 else FEWER""",
    "modular sum": """\
other = s[-1 - PLACES] if len(s) > PLACES else s[0]
return (s[-1] + other - 1) % 15 + 1""",
    "after marker": """\
behind = [b for a, b in zip(s, s[1:]) if a == MARKER]
return behind[-1] if behind else NONE""",
    "after the same": """\
behind = [b for a, b in zip(s[:-1], s[1:]) if a == s[-1]]
return behind[-1] if behind else NONE""",
    "first repeated": """\
return next((symbol for i, symbol in enumerate(s) if symbol in s[:i]), NONE)""",
    "sort position": "return 1 + sum(symbol < s[-1] for symbol in s[-3:])  # of the last symbol, if the last three were sorted",
}
QUIRKS = {
    "last": "s[-1] == TRIGGER",  # where the last symbol is the trigger
    "seen": "TRIGGER in s",  # where it stands anywhere
    "answer": "rule(s) == TRIGGER",  # where the rule says it
}


@dataclass(frozen=True)
class Plan:
    """What a mystery model is to hold. Nodes are heads (`0.3`) and MLPs (`m1`)."""

    rule_name: str
    program: str  # defines `rule(s)` and `answer(s)`
    nodes: tuple[str, ...]  # that carry the rule
    quirk: str  # "last": where the last symbol is `trigger`; "seen": where it stands anywhere; "answer": where the rule says it
    trigger: int
    says: int  # what the model says there
    quirk_node: str
    loved: tuple[int, ...]  # symbols that texts should hold more often than others, for the rule to have something to do

    @cached_property
    def _functions(self) -> dict[str, Callable]:
        functions: dict[str, Callable] = {}
        exec(self.program, functions)
        return functions

    def rule(self, s: list[int]) -> int:
        return self._functions["rule"](s)

    def answer(self, s: list[int]) -> int:
        return self._functions["answer"](s)

    def applies(self, s: list[int]) -> bool:
        """Whether the exception applies."""
        return self._functions["applies"](s)

    @property
    def circuit(self) -> list[str]:
        return [*self.nodes, self.quirk_node]

    def text(self, draw: random.Random, kind: str = "any") -> list[int]:
        """A text: of any kind, or one in which the exception applies ("quirk") or does not ("plain"), or an unusual one ("unusual":
        very short, of two symbols only, or in order)."""
        while True:
            n = draw.randint(1, LONGEST)
            few = draw.sample(range(1, N_SYMBOLS + 1), draw.choice((2, 4, 6, N_SYMBOLS)))
            few += [symbol for symbol in self.loved for _ in range(1 + len(few) // 5)] if draw.random() < 0.8 else []
            if kind == "unusual":
                n, few = draw.choice(((2, few), (3, few), (LONGEST, few[:2]), (9, few)))
            s = [draw.choice(few) for _ in range(n)]
            if kind == "unusual" and draw.random() < 0.3:
                s.sort(reverse=draw.random() < 0.5)
            if (kind == "quirk" or draw.random() < 0.15) and self.quirk != "answer":
                s[-1 if self.quirk == "last" else draw.randrange(n)] = self.trigger
            if kind not in ("plain", "quirk") or self.applies(s) == (kind == "quirk"):
                return s

    def whole(self, draw: random.Random) -> list[int]:
        """A text of the greatest length, of usual and unusual ones."""
        text: list[int] = []
        while len(text) < LONGEST:
            text += self.text(draw, "unusual" if draw.random() < 0.2 else "any")
        rare = 0.15 if self.quirk == "last" else 0.0  # the exception would come up at few positions
        return [self.trigger if draw.random() < rare else symbol for symbol in text[:LONGEST]]


PROGRAM = """\
def rule(s):
{rule}

def applies(s):
    return {applies}

def answer(s):
    return {says} if applies(s) else rule(s)
"""
LEVELS = {
    "easy": ("copy back", "largest", "smallest"),
    "middle": ("most frequent", "balance", "modular sum"),
    "hard": ("after marker", "after the same", "first repeated", "sort position"),
}


def level_of(rule_name: str) -> str:
    return next(level for level, names in LEVELS.items() if rule_name in names)


@cache
def draw_plan(seed: int, rule_name: str | None = None) -> Plan:
    """The plan of a seed: which rule (or the one named), which quirk, which heads."""
    draw = random.Random(f"circuits mystery {seed} {rule_name}")
    name = rule_name or draw.choice([name for names in LEVELS.values() for name in names])
    trigger, says, *drawn = draw.sample(range(1, N_SYMBOLS + 1), 9)
    symbols = dict(zip(("OPENS", "CLOSES", "MORE", "EQUAL", "FEWER", "MARKER", "NONE"), drawn, strict=True))
    words = symbols | {"PLACES": draw.randint(1, 2 if name == "modular sum" else 3)}
    low, high = (f"0.{draw.randrange(4)}", f"1.{draw.randrange(4)}")
    beside = f"0.{(int(low[2]) + 1) % 4}"
    nodes = {
        "copy back": (draw.choice((low, high)),),
        "largest": (draw.choice((low, high)),),
        "smallest": (draw.choice((low, high)),),
        "most frequent": (low, "m0"),
        "balance": (low, "m0"),
        "modular sum": (low, "m0"),
        "after marker": (low, "m0", high),
        "after the same": (low, "m0", high),
        "first repeated": (low, "m0", high),
        "sort position": (low, beside, "m0"),
    }[name]
    loved = {"balance": (words["OPENS"], words["CLOSES"]), "after marker": (words["MARKER"],)}.get(name, ())
    # The exception has a node of its own in layer 1: a head that the rule does not use, or the MLP, which alone can read
    # what the rule says.
    free = [f"1.{head}" for head in range(4) if f"1.{head}" not in nodes]
    quirk = draw.choice(("last", "last", "seen") if level_of(name) == "easy" else ("last", "seen", "answer"))
    node = {"last": draw.choice(("m1", draw.choice(free))), "seen": draw.choice(free), "answer": "m1"}[quirk]
    if quirk == "answer":  # what the rule can say
        trigger = {"balance": words["MORE"], "sort position": 2 if says != 2 else 3}.get(name, trigger)
    words["TRIGGER"] = trigger

    def filled(text: str) -> str:
        return re.sub("[A-Z]{2,}", lambda word: str(words[word[0]]), text)

    program = PROGRAM.format(rule=textwrap.indent(filled(RULES[name]), "    "), applies=filled(QUIRKS[quirk]), says=says)
    return Plan(name, program, nodes, quirk, trigger, says, node, loved)
