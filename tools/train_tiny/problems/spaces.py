"""Families about rooms, gardens, animals, water and work in a team."""

from __future__ import annotations

from problems.base import Problem, family
from problems.words import MAKERS, PLANTS, Draw, add, mul, sub


@family
def seats(d: Draw) -> Problem:
    rows, each = d.number(3, 15), d.number(4, 20)
    taken = d.number(3, rows * each - 2)
    place = d.pick("hall", "theater", "cinema", "tent", "church", "stadium block", "lecture room")
    question = d.pick(
        f"A {place} has {rows} rows with {each} seats in each row. {taken} seats are taken. How many seats are free?",
        f"In a {place} there are {rows} rows of {each} chairs. {taken} people sit down, one on each chair. How "
        f"many chairs stay empty?",
    )
    return Problem(
        (rows, each, taken),
        question,
        (f"There are {mul(rows, each)} seats.", f"So {sub(rows * each, taken)} are free."),
        rows * each - taken,
    )


@family
def garden(d: Draw) -> Problem:
    who = d.person()
    first, second = d.two_of(PLANTS)
    rows, each = d.number(2, 12), d.number(3, 15)
    other, lost = d.number(2, 50), d.number(2, 20)
    lost = min(lost, rows * each)
    question = d.pick(
        f"{who} plants {rows} rows of {each} {first} and also {other} {second}. In the winter {lost} plants die. "
        f"How many plants are left?",
        f"In a garden there are {rows} rows with {each} {first} each, and {other} {second}. A storm takes {lost} "
        f"plants. How many plants does {who} still have?",
    )
    planted = rows * each
    return Problem(
        (rows, each, other, lost),
        question,
        (
            f"There are {mul(rows, each)} {first}.",
            f"With the {second} there are {add(planted, other)} plants.",
            f"That leaves {sub(planted + other, lost)} plants.",
        ),
        planted + other - lost,
    )


@family
def rectangle(d: Draw) -> Problem:
    who = d.person()
    length, width = d.number(3, 30), d.number(2, 20)
    if d.chance(0.5):
        question = d.pick(
            f"{who} puts a fence around a field that is {length} m long and {width} m wide. How many meters of "
            f"fence does {who.she} need?",
            f"A pool is {length} m long and {width} m wide. How many meters does {who} walk in one lap around it?",
        )
        return Problem(
            (length, width, 0),
            question,
            (
                f"Two sides together are {add(length, width)} m.",
                f"All the way around is {mul(2, length + width)} m.",
            ),
            2 * (length + width),
        )
    width, tile = d.number(2, 12), d.number(2, 6)
    question = d.pick(
        f"A floor is {length} m long and {width} m wide. For each square meter {who} needs {tile} tiles. How many "
        f"tiles are needed?",
        f"{who} seeds a lawn of {length} m by {width} m. Every square meter takes {tile} spoons of seed. How many "
        f"spoons does {who.she} use?",
    )
    return Problem(
        (length, width, tile),
        question,
        (
            f"The area is {mul(length, width)} square meters.",
            f"That needs {mul(length * width, tile)}.",
        ),
        length * width * tile,
    )


@family
def legs(d: Draw) -> Problem:
    who = d.person()
    two = d.pick("chickens", "ducks", "geese", "hens", "turkeys", "doves")
    four = d.pick("cows", "goats", "sheep", "horses", "pigs", "donkeys", "dogs", "cats", "rabbits")
    birds, beasts = d.number(2, 40), d.number(2, 40)
    question = d.pick(
        f"{who} keeps {birds} {two} and {beasts} {four}. How many legs do the animals have in all?",
        f"A farm has {beasts} {four} and {birds} {two}. How many legs is that together?",
    )
    return Problem(
        (birds, beasts),
        question,
        (
            f"The {two} have {mul(birds, 2)} legs.",
            f"The {four} have {mul(beasts, 4)} legs.",
            f"Together that is {add(2 * birds, 4 * beasts)} legs.",
        ),
        2 * birds + 4 * beasts,
    )


@family
def water_tank(d: Draw) -> Problem:
    vessel = d.pick("tank", "barrel", "pool", "pond", "tub")
    start, flow, minutes = d.number(5, 80), d.number(3, 20), d.number(2, 15)
    out = d.number(2, start + flow * minutes - 2)
    question = d.pick(
        f"A {vessel} holds {start} liters. {flow} liters flow in every minute for {minutes} minutes. Then {out} "
        f"liters are taken out. How many liters are left?",
        f"There are {start} liters of water in a {vessel}. A pipe adds {flow} liters a minute for {minutes} "
        f"minutes, and afterwards {out} liters are used. How much water remains, in liters?",
    )
    added = flow * minutes
    return Problem(
        (start, flow, minutes, out),
        question,
        (
            f"In {minutes} minutes {mul(flow, minutes)} liters flow in.",
            f"Then there are {add(start, added)} liters.",
            f"That leaves {sub(start + added, out)} liters.",
        ),
        start + added - out,
    )


@family
def team_work(d: Draw) -> Problem:
    maker, product, _ = d.one_of(MAKERS)
    one, two = d.people(2)
    fast, slow, hours = d.number(3, 20), d.number(2, 15), d.number(2, 9)
    question = d.pick(
        f"{one} and {two} work for a {maker}. {one} finishes {fast} {product} an hour and {two} finishes {slow}. "
        f"How many {product} do they finish together in {hours} hours?",
        f"Each hour {one} completes {fast} {product} and {two} completes {slow} {product}. They work for {hours} "
        f"hours. How many {product} are done?",
    )
    return Problem(
        (fast, slow, hours),
        question,
        (
            f"In one hour they finish {add(fast, slow)} {product}.",
            f"In {hours} hours they finish {mul(fast + slow, hours)}.",
        ),
        (fast + slow) * hours,
    )
