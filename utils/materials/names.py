"""The world of chapter 8's `names` models: two people, and one gives something to the other. A token is a word."""

import torch

from utils.model import Transformer
from utils.pretrained import load_model
from utils.worlds import tokenizer

NAMES = (
    "Ada Ali Amy Ann Ben Bob Cal Cleo Dan Dora Eli Emma Eva Finn Fay Gus Gwen Hal Hugo Ida Ian Iris Jack Jane Jim Joan Kai Kate Kim Lea Leo "
    "Lily Lou Luca Mary Max Mia Mo Nina Noah Nora Olga Omar Oscar Pam Paul Pia Ravi Rosa Ruth Sam Sara Tess Tim Tom Uma Vera Will Yara Zoe"
).split()
PLACES = "store park school beach office garden station library market harbour".split()
THINGS = "drink book ring letter ball key cake map pen hat".split()
OPENINGS = ("", "Then , ", "One day , ", "Later that day , ")
TEMPLATES = (
    "{first} and {second} went to the {place} , {giver} gave a {thing} to",
    "{first} and {second} were at the {place} . {giver} handed a {thing} to",
    "when {first} met {second} at the {place} , {giver} sold a {thing} to",
    "{first} saw {second} near the {place} and so {giver} passed a {thing} to",
    "at the {place} {first} had an idea , and with {second} there {giver} threw a {thing} to",
    "after {first} and {second} left the {place} , the {thing} was what {giver} sent to",
)
_OTHERS = {word for text in (*OPENINGS, *TEMPLATES) for word in text.split() if "{" not in word}
WORDS = ("<|bos|>", *NAMES, *PLACES, *THINGS, *sorted(_OTHERS))  # token i is the word i


def load_names(name: str = "names") -> Transformer:
    """The shipped model, or one of its relatives, with its tokenizer, whose tokens are the words of this world."""
    model = load_model(f"discovery/{name}")
    model.tokenizer = tokenizer(WORDS)
    return model.requires_grad_(False)


def draw(n: int, generator: torch.Generator) -> list[dict[str, str]]:
    """What fills a template, n times: `first` and `second`, of whom one is the `giver`; a `third` person; `place`, `thing`."""
    fields = []
    for _ in range(n):
        first, second, third = (NAMES[i] for i in torch.randperm(len(NAMES), generator=generator)[:3].tolist())
        place, thing, which = torch.randint(10, (3,), generator=generator).tolist()
        fields.append(dict(first=first, second=second, third=third, giver=(first, second)[which % 2],
                           place=PLACES[place], thing=THINGS[thing]))  # fmt: skip
    return fields
