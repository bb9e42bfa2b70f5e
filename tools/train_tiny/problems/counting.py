"""Families about countable things: having, giving, sharing, comparing, grouping."""

from __future__ import annotations

from problems.base import Problem, family
from problems.words import BOXES, PLACES, RELATIVES, Draw, add, div, mul, sub


@family
def gain_and_give(d: Draw) -> Problem:
    who, friend = d.people(2)
    item = d.thing()
    start, more = d.number(4, 70), d.number(3, 50)
    given = d.number(2, start + more - 1)
    got = d.pick("finds", "buys", "gets", "collects")
    question = d.pick(
        f"{who} has {start} {item}. {who.cap} {got} {more} more and then gives {given} to {friend}. "
        f"How many {item} does {who} have now?",
        f"There are {start} {item} on {who}'s desk. {who.cap} {got} another {more} {item}, and later {friend} "
        f"takes {given} of them. How many {item} does {who} have left?",
        f"{who} starts the day with {start} {item}. In the morning {who.she} {got} {more} {item}. In the "
        f"evening {who.she} gives {given} {item} to {friend}. How many {item} are left?",
    )
    total = start + more
    return Problem(
        (start, more, given),
        question,
        (
            f"With the new ones there are {add(start, more)} {item}.",
            f"After that, {sub(total, given)} are left.",
        ),
        total - given,
    )


@family
def two_losses(d: Draw) -> Problem:
    who, friend = d.people(2)
    item = d.thing()
    start = d.number(20, 120)
    first = d.number(2, start // 2)
    second = d.number(2, start - first - 1)
    relative = d.one_of(RELATIVES)
    question = d.pick(
        f"{who} had {start} {item}. {who.cap} lost {first} of them at the {d.one_of(PLACES)} and gave {second} to "
        f"{who.her} {relative}. How many {item} does {who.she} still have?",
        f"{who} takes {start} {item} to the {d.one_of(PLACES)}. {friend} gets {first} of them and {who.her} "
        f"{relative} gets {second}. How many {item} does {who} bring home?",
        f"Out of {start} {item}, {who} gives {first} to {friend} and {second} to {who.her} {relative}. "
        f"How many {item} remain?",
    )
    left = start - first
    return Problem(
        (start, first, second),
        question,
        (
            f"After the first part, {sub(start, first)} {item} are left.",
            f"Then {sub(left, second)} are left.",
        ),
        left - second,
    )


@family
def boxes_and_loose(d: Draw) -> Problem:
    who = d.person()
    item, box = d.thing(), d.one_of(BOXES)
    boxes, each, loose = d.number(2, 12), d.number(3, 20), d.number(2, 40)
    question = d.pick(
        f"{who} has {boxes} {box} with {each} {item} in each, and {loose} loose {item}. How many {item} does "
        f"{who} have in all?",
        f"There are {each} {item} in every {box.one}. {who} owns {boxes} {box} and finds {loose} more {item}. "
        f"How many {item} is that in total?",
        f"{who} fills {boxes} {box} with {each} {item} each. {loose} {item} do not fit. How many {item} were "
        f"there altogether?",
    )
    return Problem(
        (boxes, each, loose),
        question,
        (
            f"The {box} hold {mul(boxes, each)} {item}.",
            f"In all there are {add(boxes * each, loose)} {item}.",
        ),
        boxes * each + loose,
    )


@family
def boxes_minus(d: Draw) -> Problem:
    who, friend = d.people(2)
    item, box = d.thing(), d.one_of(BOXES)
    boxes, each = d.number(2, 12), d.number(3, 20)
    used = d.number(2, boxes * each - 1)
    question = d.pick(
        f"{who} buys {boxes} {box} of {item}. Each {box.one} holds {each} {item}. {who.cap} gives {used} "
        f"{item} away. How many {item} are left?",
        f"A shop gets {boxes} {box} of {item} with {each} in each {box.one}. It sells {used} {item}. How many "
        f"{item} does the shop still have?",
        f"{who} and {friend} have {boxes} {box} with {each} {item} in every {box.one}. They use {used} {item} "
        f"for a game. How many {item} do they not use?",
    )
    total = boxes * each
    return Problem(
        (boxes, each, used),
        question,
        (f"At first there are {mul(boxes, each)} {item}.", f"So {sub(total, used)} are left."),
        total - used,
    )


@family
def pool_and_share(d: Draw) -> Problem:
    who, friend = d.people(2)
    item = d.thing()
    children, each = d.number(2, 12), d.number(3, 15)
    total = children * each
    first = d.number(2, total - 2)
    second = total - first
    question = d.pick(
        f"{who} has {first} {item} and {friend} has {second}. They put them together and share them equally "
        f"among {children} children. How many {item} does each child get?",
        f"{who} brings {first} {item} to the {d.one_of(PLACES)} and {friend} brings {second} {item}. All of them are "
        f"split equally between {children} people. How many {item} does one person get?",
    )
    return Problem(
        (first, second, children),
        question,
        (
            f"Together there are {add(first, second)} {item}.",
            f"Each one gets {div(total, children)}.",
        ),
        each,
    )


@family
def share_after_keeping(d: Draw) -> Problem:
    who = d.person()
    item = d.thing()
    friends, each, kept = d.number(2, 12), d.number(2, 15), d.number(2, 30)
    total = friends * each + kept
    question = d.pick(
        f"{who} has {total} {item}. {who.cap} keeps {kept} and shares the rest equally among {friends} friends. "
        f"How many {item} does each friend get?",
        f"From {total} {item}, {who} puts {kept} aside. The others are shared equally by {friends} friends. "
        f"How many {item} does every friend get?",
    )
    return Problem(
        (total, kept, friends),
        question,
        (
            f"There are {sub(total, kept)} {item} to share.",
            f"Each friend gets {div(total - kept, friends)}.",
        ),
        each,
    )


@family
def more_than(d: Draw) -> Problem:
    who, friend = d.people(2)
    item = d.thing()
    base, extra = d.number(5, 80), d.number(2, 50)
    question = d.pick(
        f"{who} has {base} {item}. {friend} has {extra} more {item} than {who}. How many {item} do they have "
        f"together?",
        f"{friend} owns {extra} {item} more than {who}, who owns {base}. How many {item} do the two own in all?",
    )
    return Problem(
        (base, extra),
        question,
        (
            f"{friend} has {add(base, extra)} {item}.",
            f"Together they have {add(base, base + extra)} {item}.",
        ),
        2 * base + extra,
    )


@family
def fewer_than(d: Draw) -> Problem:
    who, friend = d.people(2)
    item = d.thing()
    base = d.number(10, 120)
    less = d.number(2, base - 2)
    question = d.pick(
        f"{who} collects {base} {item}. {friend} collects {less} fewer than {who}. How many {item} do they "
        f"collect in total?",
        f"{friend} has {less} {item} fewer than {who}. {who} has {base} {item}. How many do they have together?",
    )
    return Problem(
        (base, less),
        question,
        (
            f"{friend} has {sub(base, less)} {item}.",
            f"Together they have {add(base, base - less)} {item}.",
        ),
        2 * base - less,
    )


@family
def times_as_many(d: Draw) -> Problem:
    who, friend = d.people(2)
    item = d.thing()
    base, times = d.number(3, 60), d.number(2, 9)
    words = "twice" if times == 2 else f"{times} times"
    wants_sum = d.chance(0.5)
    ask = (
        d.pick("How many {0} do they have together?", "How many {0} is that for both of them?")
        if wants_sum
        else d.pick(
            f"How many more {{0}} does {friend} have than {who}?",
            f"How many fewer {{0}} does {who} have?",
        )
    ).format(item)
    question = d.pick(
        f"{who} has {base} {item}. {friend} has {words} as many {item} as {who}. {ask}",
        f"{friend} has {words} as many {item} as {who}, who has {base}. {ask}",
    )
    big = base * times
    last = (
        f"Together they have {add(base, big)} {item}."
        if wants_sum
        else f"The difference is {sub(big, base)} {item}."
    )
    return Problem(
        (base, times, int(wants_sum)),
        question,
        (f"{friend} has {mul(base, times)} {item}.", last),
        base + big if wants_sum else big - base,
    )


@family
def three_people(d: Draw) -> Problem:
    one, two, three = d.people(3)
    item = d.thing()
    base, extra, times = d.number(3, 30), d.number(2, 20), d.number(2, 4)
    words = "twice" if times == 2 else f"{times} times"
    question = d.pick(
        f"{one} has {base} {item}. {two} has {extra} more than {one}. {three} has {words} as many as {two}. "
        f"How many {item} do all three have together?",
        f"{two} found {extra} {item} more than {one}, and {three} found {words} as many as {two}. {one} found "
        f"{base}. How many {item} did the three find in all?",
    )
    second = base + extra
    third = second * times
    return Problem(
        (base, extra, times),
        question,
        (
            f"{two} has {add(base, extra)} {item}.",
            f"{three} has {mul(second, times)} {item}.",
            f"Together that is {add(base, second)}, and {add(base + second, third)} {item}.",
        ),
        base + second + third,
    )


@family
def part_given(d: Draw) -> Problem:
    who, friend = d.people(2)
    item = d.thing()
    parts, name = d.pick(
        (2, "half"), (3, "a third"), (4, "a quarter"), (5, "a fifth"), (10, "a tenth")
    )
    share = d.number(2, 20)
    start, more = parts * share, d.number(2, 40)
    question = d.pick(
        f"{who} has {start} {item}. {who.cap} gives {name} of them to {friend} and then gets {more} new ones. "
        f"How many {item} does {who} have now?",
        f"{who} had {start} {item} and gave {name} of them away. Later {who.she} bought {more} more. How many "
        f"{item} does {who.she} have in the end?",
    )
    left = start - share
    return Problem(
        (start, parts, more),
        question,
        (
            f"{who} gives away {div(start, parts)} {item}.",
            f"That leaves {sub(start, share)}.",
            f"Now there are {add(left, more)} {item}.",
        ),
        left + more,
    )


@family
def at_first(d: Draw) -> Problem:
    who, friend = d.people(2)
    item = d.thing()
    given, lost, left = d.number(2, 40), d.number(2, 30), d.number(2, 60)
    question = d.pick(
        f"{who} gave {given} {item} to {friend} and lost {lost} more. Now {who.she} has {left}. How many {item} "
        f"did {who} have at first?",
        f"After giving {friend} {given} {item} and losing {lost}, {who} has {left} {item}. How many did "
        f"{who.she} have in the beginning?",
    )
    return Problem(
        (given, lost, left),
        question,
        (
            f"{who} gave away or lost {add(given, lost)} {item}.",
            f"At first there were {add(left, given + lost)} {item}.",
        ),
        given + lost + left,
    )
