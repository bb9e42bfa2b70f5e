"""Families about money and work: prices, change, wages, savings, discounts."""

from __future__ import annotations

from problems.base import Problem, family
from problems.words import (
    FOODS,
    GOODS,
    GREAT_BUYS,
    MAKERS,
    WEEKDAYS,
    Draw,
    add,
    div,
    dollars,
    mul,
    sub,
)


@family
def two_goods(d: Draw) -> Problem:
    who = d.person()
    first, second = d.two_of(GOODS)
    n, m = d.number(2, 9), d.number(2, 9)
    p, q = d.number(2, 20), d.number(2, 20)
    question = d.pick(
        f"{who} buys {n} {first} for ${p} each and {m} {second} for ${q} each. How much does {who} spend in total?",
        f"A {first.one} costs ${p} and a {second.one} costs ${q}. {who} buys {n} {first} and {m} {second}. How "
        f"many dollars does {who.she} pay?",
        f"At the market one {first.one} is ${p} and one {second.one} is ${q}. How much do {n} {first} and {m} "
        f"{second} cost together?",
    )
    return Problem(
        (n, p, m, q),
        question,
        (
            f"The {first} cost {dollars(mul(n, p))}.",
            f"The {second} cost {dollars(mul(m, q))}.",
            f"Together that is {dollars(add(n * p, m * q))}.",
        ),
        n * p + m * q,
    )


@family
def change(d: Draw) -> Problem:
    who = d.person()
    item = d.one_of((*GOODS, *FOODS))
    bill = d.pick(20, 50, 100, 200)
    n = d.number(2, 9)
    price = d.number(2, min(25, (bill - 1) // n))
    question = d.pick(
        f"{who} buys {n} {item} for ${price} each and pays with ${bill}. How much change does {who.she} get?",
        f"One {item.one} costs ${price}. {who} has ${bill} and buys {n} {item}. How many dollars are left?",
        f"With ${bill} in {who.her} pocket, {who} pays for {n} {item} at ${price} each. How much money does "
        f"{who.she} have afterwards?",
    )
    return Problem(
        (bill, n, price),
        question,
        (
            f"The {item} cost {dollars(mul(n, price))}.",
            f"That leaves {dollars(sub(bill, n * price))}.",
        ),
        bill - n * price,
    )


@family
def saving_for(d: Draw) -> Problem:
    who = d.person()
    goal = d.one_of(GREAT_BUYS)
    weekly, weeks, have = d.number(3, 20), d.number(2, 12), d.number(2, 50)
    saved = weekly * weeks + have
    price = saved + d.number(2, 80)
    question = d.pick(
        f"{who} wants a {goal.one} that costs ${price}. {who.cap} has ${have} and saves ${weekly} a week for "
        f"{weeks} weeks. How many more dollars does {who.she} need?",
        f"A {goal.one} costs ${price}. {who} starts with ${have} and puts ${weekly} aside every week. How much "
        f"is still missing after {weeks} weeks?",
    )
    return Problem(
        (price, have, weekly, weeks),
        question,
        (
            f"In {weeks} weeks {who} saves {dollars(mul(weekly, weeks))}.",
            f"With the first ${have} that is {dollars(add(weekly * weeks, have))}.",
            f"{who} still needs {dollars(sub(price, saved))}.",
        ),
        price - saved,
    )


@family
def weeks_to_save(d: Draw) -> Problem:
    who = d.person()
    goal = d.one_of(GREAT_BUYS)
    weekly, weeks, have = d.number(3, 20), d.number(2, 12), d.number(2, 60)
    price = weekly * weeks + have
    question = d.pick(
        f"A {goal.one} costs ${price}. {who} already has ${have} and saves ${weekly} each week. After how many "
        f"weeks can {who.she} buy it?",
        f"{who} needs ${price} for a {goal.one}. {who.cap} has ${have} now and earns ${weekly} a week. How many "
        f"weeks does {who.she} have to wait?",
    )
    return Problem(
        (price, have, weekly),
        question,
        (
            f"{who} still needs {dollars(sub(price, have))}.",
            f"That takes {div(price - have, weekly)} weeks.",
        ),
        weeks,
    )


@family
def discount(d: Draw) -> Problem:
    who = d.person()
    item = d.one_of((*GREAT_BUYS, *GOODS))
    percent, parts = d.pick((10, 10), (20, 5), (25, 4), (50, 2))
    off = d.number(2, 30)
    price = parts * off
    question = d.pick(
        f"A {item.one} costs ${price}. Today it is {percent}% off. How much does {who} pay for it?",
        f"{who} buys a {item.one} in a sale. The old price was ${price} and the discount is {percent}%. What is "
        f"the new price in dollars?",
    )
    return Problem(
        (price, percent),
        question,
        (
            f"{percent}% of ${price} is {dollars(div(price, parts))}.",
            f"The new price is {dollars(sub(price, off))}.",
        ),
        price - off,
    )


@family
def wages(d: Draw) -> Problem:
    who = d.person()
    day, other_day = d.two_of(WEEKDAYS)
    pay, first, second = d.number(6, 25), d.number(2, 8), d.number(2, 8)
    question = d.pick(
        f"{who} earns ${pay} an hour. On {day} {who.she} works {first} hours and on {other_day} {second} hours. "
        f"How many dollars does {who.she} earn?",
        f"For every hour of work {who} gets ${pay}. {who.cap} works {first} hours on {day} and {second} hours on "
        f"{other_day}. How much money is that?",
    )
    return Problem(
        (pay, first, second),
        question,
        (
            f"{who} works {add(first, second)} hours.",
            f"For that {who.she} gets {dollars(mul(pay, first + second))}.",
        ),
        pay * (first + second),
    )


@family
def wages_and_spending(d: Draw) -> Problem:
    who = d.person()
    item = d.one_of(GOODS)
    pay, hours = d.number(6, 25), d.number(3, 9)
    price = d.number(2, pay * hours - 2)
    question = d.pick(
        f"{who} works {hours} hours for ${pay} an hour and then buys a {item.one} for ${price}. How much of the "
        f"money is left?",
        f"A job pays ${pay} per hour. {who} does it for {hours} hours and spends ${price} on a {item.one}. How "
        f"many dollars does {who.she} keep?",
    )
    return Problem(
        (pay, hours, price),
        question,
        (
            f"{who} earns {dollars(mul(pay, hours))}.",
            f"After buying, {dollars(sub(pay * hours, price))} is left.",
        ),
        pay * hours - price,
    )


@family
def sell_products(d: Draw) -> Problem:
    maker, product, makes = d.one_of(MAKERS)
    rate, hours, price = d.number(2, 9), d.number(2, 8), d.number(2, 9)
    question = d.pick(
        f"A {maker} {makes} {rate} {product} an hour and works {hours} hours. Each {product.one} brings in "
        f"${price}. How many dollars do all of them bring in?",
        f"Every hour a {maker} {makes} {rate} {product}, and every {product.one} is worth ${price}. How much are "
        f"the {product} of {hours} hours worth?",
    )
    made = rate * hours
    return Problem(
        (rate, hours, price),
        question,
        (
            f"In {hours} hours there are {mul(rate, hours)} {product}.",
            f"They are worth {dollars(mul(made, price))}.",
        ),
        made * price,
    )


@family
def profit(d: Draw) -> Problem:
    who = d.person()
    food = d.one_of(FOODS)
    n, price = d.number(5, 30), d.number(2, 9)
    cost = d.number(3, n * price - 2)
    question = d.pick(
        f"{who} spends ${cost} to make {n} {food} and sells them for ${price} each. What is the profit in dollars?",
        f"At the school fair {who} sells {n} {food} for ${price} each. Making them cost ${cost}. How much money "
        f"does {who.she} gain?",
    )
    return Problem(
        (cost, n, price),
        question,
        (
            f"The sale brings {dollars(mul(n, price))}.",
            f"The profit is {dollars(sub(n * price, cost))}.",
        ),
        n * price - cost,
    )


@family
def split_the_bill(d: Draw) -> Problem:
    who = d.person()
    first, second = d.two_of(FOODS)
    people, each = d.number(2, 8), d.number(3, 20)
    total = people * each
    one = d.number(2, total - 2)
    friends = people - 1
    group = f"{who} and {friends} {'friend' if friends == 1 else 'friends'}"
    question = d.pick(
        f"{group} order {first} for ${one} and {second} for ${total - one}. They split the bill equally. How many "
        f"dollars does each of them pay?",
        f"The {first} cost ${one} and the {second} cost ${total - one}. {group} pay the same amount each. How "
        f"much does one person pay?",
    )
    return Problem(
        (one, total - one, people),
        question,
        (
            f"The bill is {dollars(add(one, total - one))}.",
            f"There are {add(friends, 1)} people.",
            f"Each pays {dollars(div(total, people))}.",
        ),
        each,
    )
