"""The soak in small, and that it sees what it is there to see."""

import copy

import soak
import soak_load


def test_a_short_soak(start):
    result, samples = soak.soak(start(*soak.FLAGS), 15, 40, quiet=True)
    assert result["wrong"] == []
    kinds = {name.split()[0] for name in result["outcomes"]}
    assert kinds == {make.__name__.removeprefix("make_") for make in soak_load.MIX}
    assert max(sample["waiting"] for sample in samples) > 0, "it never queued"
    assert result["outcomes"]["vanishing left"] > 0


def sample(second: float, phase: str, **changed) -> dict:
    blocks = {"free": 60, "live": 0, "cached": 40, "total": 100}
    return {"s": second, "phase": phase, "rss_mib": 100.0, "files": 10, "threads": 9, "running": 0, "waiting": 0,
            "failed_steps": 0, "preemptions": 9, "blocks": blocks, "load": 0.0, **changed}  # fmt: skip


def flat() -> list[dict]:
    return [sample(second, "pause" if second % 60 == 0 else "load") for second in range(5, 3601, 5)]


def judged(change) -> str:
    samples = copy.deepcopy(flat())
    for one in samples:
        change(one)
    return "; ".join(soak.judge(samples, 3600)[0])


def test_what_grows_is_seen():
    assert judged(lambda one: None) == ""
    assert "RSS grew" in judged(lambda one: one.update(rss_mib=100 + one["s"] / 200))
    assert "RSS rose" in judged(lambda one: one.update(rss_mib=100 if one["s"] < 3500 else 170))
    assert "open files" in judged(lambda one: one.update(files=10 + int(one["s"] / 600)))
    assert "threads" in judged(lambda one: one.update(threads=9 + int(one["s"] / 1800)))
    assert "preempted" in judged(lambda one: one.update(preemptions=0))
    assert "steps failed" in judged(lambda one: one.update(failed_steps=1))
    lost = {"free": 59, "live": 0, "cached": 40, "total": 100}
    assert "do not add up" in judged(lambda one: one.update(blocks=lost))
    held = {"free": 59, "live": 1, "cached": 40, "total": 100}
    assert "live blocks" in judged(lambda one: one.update(blocks=held))


def test_answers_that_are_lost_are_seen():
    load = soak_load.Load(0, 1, 1)
    load.answered = {"soak-1": 200, "soak-2": 400}
    load.vanished = {"soak-3": True, "soak-4": False}
    lines = [f"2026-01-01T00:00:00.000Z soak-{i} {status} POST /x ok" for i, status in ((1, 200), (2, 400), (3, 499))]
    assert load.lost("\n".join(lines)) == []
    assert len(load.lost("\n".join(lines[1:]))) == 1, "an answer without its line"
    assert len(load.lost("\n".join([*lines, lines[0]]))) == 1, "two lines for one"
    assert len(load.lost("\n".join(lines[:2]))) == 1, "a client left in the middle, and no line says so"
    cut = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    assert soak_load.verdict(soak_load.Sent(b"", (200,), True), cut) == ("broken", 200)
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"
    assert soak_load.verdict(soak_load.Sent(b"", (200,)), short) == ("broken", 200)
    unexpected = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}"
    assert soak_load.verdict(soak_load.Sent(b"", (200,)), unexpected) == ("broken", 400)
