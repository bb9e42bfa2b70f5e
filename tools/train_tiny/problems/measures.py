"""Families about time, distance and age, and bare arithmetic."""

from __future__ import annotations

from problems.base import Problem, family
from problems.words import PLACES, VEHICLES, WEEKDAYS, Draw, add, div, mul, sub


@family
def two_legs(d: Draw) -> Problem:
    vehicle = d.one_of(VEHICLES)
    speed, slow = d.number(20, 90), d.number(10, 60)
    hours, more = d.number(2, 6), d.number(2, 6)
    question = d.pick(
        f"A {vehicle.one} goes {speed} km an hour for {hours} hours and then {slow} km an hour for {more} hours. "
        f"How many km does it go in total?",
        f"For {hours} hours a {vehicle.one} travels at {speed} km per hour. For the next {more} hours it travels "
        f"at {slow} km per hour. How far does it go?",
    )
    first, second = speed * hours, slow * more
    return Problem(
        (speed, hours, slow, more),
        question,
        (
            f"The first part is {mul(speed, hours)} km.",
            f"The second part is {mul(slow, more)} km.",
            f"In total it is {add(first, second)} km.",
        ),
        first + second,
    )


@family
def distance_left(d: Draw) -> Problem:
    who = d.person()
    vehicle = d.one_of(VEHICLES)
    speed, hours = d.number(10, 90), d.number(2, 6)
    trip = speed * hours + d.number(2, 150)
    question = d.pick(
        f"{who} has a trip of {trip} km to make. The {vehicle.one} does {speed} km an hour. How many km are left "
        f"after {hours} hours?",
        f"The way to the sea is {trip} km long. {who} takes a {vehicle.one} at {speed} km per hour. After {hours} "
        f"hours, how many km are left?",
    )
    return Problem(
        (trip, speed, hours),
        question,
        (
            f"In {hours} hours the {vehicle.one} goes {mul(speed, hours)} km.",
            f"That leaves {sub(trip, speed * hours)} km.",
        ),
        trip - speed * hours,
    )


@family
def pages(d: Draw) -> Problem:
    who = d.person()
    daily, days, rest = d.number(4, 30), d.number(2, 9), d.number(2, 90)
    total = daily * days + rest
    question = d.pick(
        f"{who}'s book has {total} pages. {who.cap} reads {daily} pages a day. How many pages are left after "
        f"{days} days?",
        f"{who} reads {daily} pages every day for {days} days. The book has {total} pages. How many pages does "
        f"{who.she} still have to read?",
    )
    return Problem(
        (total, daily, days),
        question,
        (
            f"In {days} days {who} reads {mul(daily, days)} pages.",
            f"There are {sub(total, daily * days)} pages left.",
        ),
        rest,
    )


@family
def days_to_finish(d: Draw) -> Problem:
    who = d.person()
    day = d.one_of(WEEKDAYS)
    daily, days, done = d.number(3, 25), d.number(2, 12), d.number(2, 60)
    total = daily * days + done
    question = d.pick(
        f"{who} has a book of {total} pages and reads {done} pages on {day}. After that {who.she} reads {daily} "
        f"pages a day. How many more days does {who.she} need?",
        f"Of {total} pages, {who} has read {done}. Reading {daily} pages each day, how many days does {who.she} "
        f"need for the rest?",
    )
    return Problem(
        (total, done, daily),
        question,
        (
            f"There are {sub(total, done)} pages to go.",
            f"That takes {div(total - done, daily)} days.",
        ),
        days,
    )


@family
def ages(d: Draw) -> Problem:
    one, two, three = d.people(3)
    age, older, times, years = d.number(3, 15), d.number(2, 12), d.number(2, 4), d.number(2, 10)
    words = "twice" if times == 2 else f"{times} times"
    question = d.pick(
        f"{one} is {age} years old. {two} is {older} years older than {one}. {three} is {words} as old as {two}. "
        f"How old will {three} be in {years} years?",
        f"{two} is {older} years older than {one}, and {three} is {words} as old as {two}. {one} is {age}. What "
        f"will be the age of {three} in {years} years?",
    )
    second = age + older
    third = second * times
    return Problem(
        (age, older, times, years),
        question,
        (
            f"{two} is {add(age, older)} years old.",
            f"{three} is {mul(second, times)} years old.",
            f"In {years} years {three} will be {add(third, years)}.",
        ),
        third + years,
    )


@family
def age_sum(d: Draw) -> Problem:
    one, two = d.people(2)
    age, gap, years = d.number(5, 60), d.number(2, 25), d.number(2, 12)
    question = d.pick(
        f"{one} is {age} and {two} is {gap} years older. What will the sum of their ages be in {years} years?",
        f"{two} is {gap} years older than {one}, who is {age} now. How old will both be together in {years} years?",
    )
    other = age + gap
    now = age + other
    return Problem(
        (age, gap, years),
        question,
        (
            f"{two} is {add(age, gap)} years old.",
            f"Now the sum is {add(age, other)}.",
            f"Both get older, so it grows by {mul(2, years)}.",
            f"The sum will be {add(now, 2 * years)}.",
        ),
        now + 2 * years,
    )


@family
def minutes(d: Draw) -> Problem:
    who = d.person()
    hours, extra, later = d.number(2, 6), d.number(5, 55), d.number(5, 58)
    question = d.pick(
        f"{who} spends {hours} hours and {extra} minutes at the {d.one_of(PLACES)} and {later} minutes on the way "
        f"home. How many minutes is that in total?",
        f"A film lasts {hours} hours and {extra} minutes. After it {who} talks to friends for {later} minutes. How "
        f"many minutes pass altogether?",
    )
    whole = hours * 60
    return Problem(
        (hours, extra, later),
        question,
        (
            f"{hours} hours are {mul(hours, 60)} minutes.",
            f"With the {extra} minutes that is {add(whole, extra)} minutes.",
            f"In total it is {add(whole + extra, later)} minutes.",
        ),
        whole + extra + later,
    )


@family
def weekly(d: Draw) -> Problem:
    who = d.person()
    does = d.pick(
        "runs {0} km",
        "drinks {0} cups of water",
        "learns {0} words",
        "does {0} push-ups",
        "waters {0} plants",
    )
    daily, weeks, off = d.number(2, 12), d.number(2, 8), d.number(2, 6)
    unit = does.split("{0} ")[1]
    question = d.pick(
        f"{who} {does.format(daily)} every day, except on {off} days when {who.she} is ill. How many {unit} is "
        f"that in {weeks} weeks?",
        f"Every day {who} {does.format(daily)}. In {weeks} weeks {who.she} is ill on {off} days and does nothing. "
        f"How many {unit} are there in that time?",
    )
    days = weeks * 7
    return Problem(
        (daily, weeks, off),
        question,
        (
            f"{weeks} weeks have {mul(weeks, 7)} days.",
            f"{who} is well on {sub(days, off)} days.",
            f"That makes {mul(days - off, daily)} {unit}.",
        ),
        (days - off) * daily,
    )


@family
def arithmetic(d: Draw) -> Problem:
    ask = d.pick("What is {0}?", "Calculate {0}.", "How much is {0}?", "{0} = ?")
    kind = d.number(0, 3)
    if kind == 0:
        a, b = d.number(2, 500), d.number(2, 499)
        line, text, answer = add(a, b), f"{a} + {b}", a + b
    elif kind == 1:
        a = d.number(10, 999)
        b = d.number(2, a - 1)
        line, text, answer = sub(a, b), f"{a} - {b}", a - b
    elif kind == 2:
        a, b = d.number(2, 99), d.number(2, 12)
        line, text, answer = mul(a, b), f"{a} * {b}", a * b
    else:
        b, quotient = d.number(2, 12), d.number(2, 60)
        a = b * quotient
        line, text, answer = div(a, b), f"{a} / {b}", quotient
    return Problem((kind, a, b), ask.format(text), (f"{line}.",), answer)
