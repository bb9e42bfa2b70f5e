"""Names, things and the seeded draws that every problem family uses."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Person:
    """A named person with the pronouns that go with the name."""

    name: str
    she: str
    her: str  # possessive
    obj: str

    def __str__(self) -> str:
        return self.name

    @property
    def cap(self) -> str:
        """The subject pronoun at the start of a sentence."""
        return self.she.capitalize()


@dataclass(frozen=True)
class Noun:
    """A countable thing in both numbers."""

    one: str
    many: str

    def __str__(self) -> str:
        return self.many

    def count(self, n: int) -> str:
        """`1 apple`, `7 apples`."""
        return f"{n} {self.one if n == 1 else self.many}"


_FEMALE = (
    "Ada Alma Amina Anna Aya Bella Carla Chloe Clara Dana Elena Ella Emma Eva Fatima Freya Grace Hana "
    "Ines Iris Ivy Jade Julia Kira Lara Leila Lena Lily Lucia Maja Maria Maya Mei Mia Mina Nadia Nora "
    "Olga Olivia Priya Rosa Ruby Sara Sofia Tara Vera Yara Zoe"
).split()
_MALE = (
    "Adam Ali Amir Anton Ben Boris Carlos Daniel David Diego Elias Emil Eric Felix Finn George Hugo "
    "Ivan Jack Jakob James Jonas Juan Karim Kenji Leo Liam Luca Marco Mark Mateo Max Milo Nils Noah "
    "Omar Oscar Otto Paul Peter Ravi Sam Samir Simon Theo Tim Tom Victor"
).split()


def _nouns(text: str) -> tuple[Noun, ...]:
    """Parses `apple, box/boxes, ...`; a regular plural may be left out."""
    nouns = []
    for entry in text.split(","):
        one, _, many = entry.strip().partition("/")
        nouns.append(Noun(one, many or one + "s"))
    return tuple(nouns)


THINGS = _nouns(
    "apple, marble, sticker, pencil, book, coin, shell, stamp, button, card, balloon, cookie, peach/peaches, "
    "orange, lemon, plum, carrot, toy car, crayon, bead, flower, ribbon, stone, postcard, badge, ticket, "
    "walnut, muffin, candle, key ring, puzzle, feather, magnet, notebook"
)
BOXES = _nouns("box/boxes, bag, basket, jar, crate, tray, packet, drawer, bucket, case")
GOODS = _nouns(
    "notebook, pen, cap, mug, plate, scarf/scarves, lamp, poster, ball, toy, plant, book, brush/brushes, "
    "towel, cushion, candle, ruler, kite, belt, spoon, folder, calendar, bracelet, blanket"
)
FOODS = _nouns(
    "sandwich/sandwiches, juice, salad, muffin, pie, soup, coffee, bagel, pizza, wrap, cake, tea, roll, "
    "pancake, milkshake"
)
GREAT_BUYS = _nouns(
    "bicycle, guitar, camera, tent, skateboard, drum, telescope, desk, coat, piano lesson, violin, scooter"
)
PLANTS = _nouns(
    "tulip, rose, tomato plant, bean plant, sunflower, lavender bush/lavender bushes, apple tree, cabbage, "
    "pepper plant, strawberry plant, lettuce, pumpkin"
)
VEHICLES = _nouns("train, bus/buses, car, truck, boat, ferry/ferries, van, tram")
MAKERS = (
    ("baker", Noun("loaf", "loaves"), "bakes"),
    ("potter", Noun("bowl", "bowls"), "makes"),
    ("tailor", Noun("shirt", "shirts"), "sews"),
    ("carpenter", Noun("chair", "chairs"), "builds"),
    ("florist", Noun("bouquet", "bouquets"), "ties"),
    ("printer", Noun("poster", "posters"), "prints"),
    ("shoemaker", Noun("shoe", "shoes"), "repairs"),
    ("cook", Noun("dumpling", "dumplings"), "folds"),
    ("painter", Noun("tile", "tiles"), "paints"),
    ("weaver", Noun("basket", "baskets"), "weaves"),
)
PLACES = (
    "school",
    "park",
    "library",
    "market",
    "beach",
    "museum",
    "village hall",
    "fair",
    "club",
    "zoo",
)
RELATIVES = (
    "aunt",
    "uncle",
    "brother",
    "sister",
    "cousin",
    "grandmother",
    "grandfather",
    "neighbor",
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
OPENINGS = (
    "It is a sunny morning.",
    "It is raining outside.",
    "The holidays have just begun.",
    "Here is a small story.",
    "It is a busy day.",
    "School is out for the day.",
    "The whole family is at home.",
    "Spring has come at last.",
)


class Draw:
    """One problem's random draws; every family takes all its chances from here."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def number(self, low: int, high: int) -> int:
        """A whole number in [low, high]; `high` below `low` gives `low`."""
        return self._rng.randint(low, max(low, high))

    def pick(self, *options: T) -> T:
        return options[int(self._rng.random() * len(options))]

    def one_of(self, options: Sequence[T]) -> T:
        return options[int(self._rng.random() * len(options))]

    def chance(self, probability: float) -> bool:
        return self._rng.random() < probability

    def two_of(self, options: Sequence[T]) -> tuple[T, T]:
        """Two different members."""
        first, second = self._rng.sample(range(len(options)), 2)
        return options[first], options[second]

    def person(self) -> Person:
        return self.people(1)[0]

    def people(self, count: int) -> list[Person]:
        """`count` people with different names."""
        chosen: list[Person] = []
        while len(chosen) < count:
            if self.chance(0.5):
                person = Person(self.one_of(_FEMALE), "she", "her", "her")
            else:
                person = Person(self.one_of(_MALE), "he", "his", "him")
            if all(person.name != other.name for other in chosen):
                chosen.append(person)
        return chosen

    def thing(self) -> Noun:
        return self.one_of(THINGS)


def add(*terms: int) -> str:
    """`3 + 4 = 7`: the only way a solution writes a sum, so that it can't be wrong."""
    return f"{' + '.join(map(str, terms))} = {sum(terms)}"


def sub(left: int, right: int) -> str:
    return f"{left} - {right} = {left - right}"


def mul(left: int, right: int) -> str:
    return f"{left} * {right} = {left * right}"


def div(left: int, right: int) -> str:
    if left % right:
        raise ValueError(f"{left} / {right} is not a whole number")
    return f"{left} / {right} = {left // right}"


def dollars(left: str) -> str:
    """Puts the currency on an equation's result: `3 * 4 = $12`."""
    head, result = left.rsplit(" ", 1)
    return f"{head} ${result}"
