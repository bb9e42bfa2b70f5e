"""Description.check and moeopt_moe_create accept and refuse alike, with the same kind of error."""

import dataclasses

import pytest

import moeopt
from moeopt import _library

BASE = moeopt.Description(hidden=2048, intermediate=768, experts=128, top_k=8)
CHANGES = [
    {}, dict(hidden=0), dict(hidden=-64), dict(hidden=32), dict(hidden=100), dict(hidden=16384), dict(hidden=16448),
    dict(intermediate=64), dict(intermediate=65), dict(intermediate=32768), dict(intermediate=32832),
    dict(experts=0, top_k=1), dict(experts=1, top_k=1), dict(experts=512), dict(experts=513), dict(experts=4),
    dict(top_k=0), dict(top_k=16), dict(top_k=17), dict(slots=-1), dict(slots=16), dict(slots=512), dict(slots=513),
    dict(dtype="fp8"), dict(dtype="fp8", hidden=2112), dict(dtype="fp8", intermediate=64),
    dict(score="sigmoid"), dict(groups=8, top_k_groups=4), dict(groups=8, top_k_groups=0),
    dict(groups=8, top_k_groups=9), dict(groups=7, top_k_groups=2), dict(groups=33, top_k_groups=2),
    dict(groups=-1), dict(groups=32, top_k_groups=1), dict(groups=128, top_k_groups=8),
    dict(groups=8, top_k_groups=1, group_score="top2"), dict(top_k_groups=1), dict(top_k_groups=2),
    dict(experts=8, top_k=2, groups=8, top_k_groups=4, group_score="top2"),
    dict(renormalise=True, renormalise_epsilon=1e-20), dict(renormalise_epsilon=-1.0),
    dict(renormalise_epsilon=float("inf")), dict(scale=2.5), dict(scale=float("nan")), dict(scale=0.0),
    dict(shared_intermediate=1408), dict(shared_intermediate=100), dict(shared_intermediate=1408, shared_gate=True),
    dict(shared_gate=True), dict(shared_intermediate=32832),
]


@pytest.fixture(scope="module")
def library():
    try:
        return _library.library()
    except moeopt.Unsupported as missing:
        pytest.skip(str(missing))


def verdict(action):
    try:
        action()
    except moeopt.MoeoptError as refused:
        return type(refused), str(refused)
    return None, ""


@pytest.mark.parametrize("change", CHANGES, ids=[str(c) for c in CHANGES])
def test_same_verdict_as_the_library(library, change):
    description = dataclasses.replace(BASE, **change)
    ours, text = verdict(description.check)
    theirs, their_text = verdict(lambda: _library.Handle(description.fields(64)))
    assert ours == theirs, (text, their_text)
    if ours is not None:
        assert text.split(" is ")[0] == their_text.split(" is ")[0], (text, their_text)


@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_a_scratch_serves_smaller_calls(library, dtype):
    """A call in pieces has one scratch, made for its largest piece."""
    description = dataclasses.replace(BASE, dtype=dtype)
    sizes = [_library.Handle(description.fields(tokens)).scratch_bytes for tokens in [*range(1, 140), 4096]]
    assert sizes == sorted(sizes)


def test_tokens_within_a_bound(library):
    fields = BASE.fields(4096)
    whole = _library.Handle(fields).sizes.workspace_bytes
    assert _library.tokens_within(fields, whole) == 4096
    tokens = _library.tokens_within(fields, whole // 2)
    assert 0 < tokens < 4096 and tokens % 128 == 0
    assert _library.Handle(BASE.fields(tokens)).sizes.workspace_bytes <= whole // 2
    with pytest.raises(moeopt.Unsupported, match="one token takes"):
        _library.tokens_within(fields, 100)


def test_choices_are_named():
    for change in (dict(dtype="int8"), dict(score="relu"), dict(group_score="mean")):
        with pytest.raises(moeopt.ArgumentError, match=next(iter(change))):
            dataclasses.replace(BASE, **change).check()


def test_limits_without_the_library():
    """The verdicts themselves, for machines that have no library to compare with."""
    verdicts = [verdict(dataclasses.replace(BASE, **change).check)[0] for change in CHANGES]
    assert verdicts.count(None) == 19
    assert moeopt.Unsupported in verdicts and moeopt.ArgumentError in verdicts


def test_float32_is_for_the_cpu():
    with pytest.raises(moeopt.Unsupported, match="CPU alone"):
        dataclasses.replace(BASE, dtype="f32").fields(1)
