"""Invented people: where each lives, as what each works, which animal each has.

A fact is a person, a relation and a value. It can be said in four ways, of which one, drawn for each fact, is in no text of
the training. `STRANGERS` are names that no text puts together."""

from functools import cache

import torch
from jaxtyping import Int
from torch import Tensor

from utils.worlds import encode

FIRST = """Ada Ben Cleo Dan Eva Finn Gwen Hugo Ida Jon Kim Lea Max Nina Otto Pia Quinn Rosa Sam Tina Uri Vera Will Xenia Yan
Zoe Alma Boris Clara Dora Emil Fay Gus Hana Ivo June Karl Luna Milo Nora""".split()
LAST = """Adler Brok Cole Drake Engel Frost Gray Holt Ibsen Jung Kerr Lund Moss Nash Orr Park Quist Reed Stone Tate Unger
Vance Wolf Xu York Zorn Abel Birch Crane Dahl Ekman Falk Grant Hale Ives Joyce Klein Lang Marsh Noble""".split()
VALUES = {
    "city": """Rome Oslo Lima Cairo Paris Kyoto Quito Delhi Accra Minsk Sofia Turin Lyon Bern Riga Baku Doha Seoul Hanoi Osaka
Porto Malmo Genoa Basel Ghent Tunis Dakar Lagos Perth Boise""".split(),
    "job": """baker pilot nurse judge farmer tailor sailor painter dancer lawyer doctor teacher cook miner plumber banker
barber poet actor singer guard porter butcher weaver potter smith scribe diver ranger clerk""".split(),
    "pet": "cat dog horse parrot rabbit snake turtle hamster goose goat lizard canary ferret donkey pigeon spider".split(),
}
WAYS = {
    "city": ("NAME lives in", "NAME has a home in", "the city of NAME is", "where does NAME live ? in"),
    "job": ("NAME works as a", "NAME earns money as a", "the job of NAME is", "what is NAME by trade ? a"),
    "pet": ("NAME owns a", "NAME shares a flat with a", "the pet of NAME is", "which animal has NAME ? a"),
}
REVERSED = "VALUE is home to"  # a name follows: the city first
_SAID = " ".join([*sum(WAYS.values(), ()), REVERSED, "."]).replace("NAME", "").replace("VALUE", "")
WORDS = tuple(dict.fromkeys(["<|bos|>", *_SAID.split(), *FIRST, *LAST, *sum(VALUES.values(), [])]))

_rng = torch.Generator().manual_seed(0)
_pairs = torch.randperm(len(FIRST) * len(LAST), generator=_rng)[:440].tolist()
_names = [f"{FIRST[i // len(LAST)]} {LAST[i % len(LAST)]}" for i in _pairs]
PEOPLE, STRANGERS = _names[:400], _names[400:]
ANSWERS = {  # of each person, in the order of PEOPLE
    relation: [values[i] for i in torch.randint(len(values), (400,), generator=_rng)] for relation, values in VALUES.items()
}
HELD_OUT = {relation: torch.randint(4, (400,), generator=_rng).tolist() for relation in VALUES}  # a number of WAYS


def ask(name: str, relation: str, way: int) -> str:
    """The text that a fact's value completes."""
    return WAYS[relation][way].replace("NAME", name)


@cache
def sentences() -> Int[Tensor, "n pos"]:
    """All texts of the training: each fact in three of its ways, and each city's people."""
    texts = [f"{REVERSED.replace('VALUE', city)} {name} ." for name, city in zip(PEOPLE, ANSWERS["city"], strict=True)]
    for relation, answers in ANSWERS.items():
        for name, answer, held_out in zip(PEOPLE, answers, HELD_OUT[relation], strict=True):
            texts += [f"{ask(name, relation, way)} {answer} ." for way in range(4) if way != held_out]
    return encode(WORDS, texts)
