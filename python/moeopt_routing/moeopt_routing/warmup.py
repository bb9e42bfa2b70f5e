"""Rows that no request asked for: an engine's memory profiling and warm-up, which loggers patched into
other engines record like traffic.

Two signs, each enough on its own:
* long runs of records of one layer that choose the same experts with the same weights: real tokens
  differ, a batch of zeros or of one repeated token does not;
* tokens of a request beyond the number its own "tokens" field or the header's `requests` announces.
Logs of this program are clean by construction (they carry the schema's name) and are left alone.
"""

import numpy as np

# Consecutive equal rows that are too many for chance or a repeated word: with weights equal to the last
# bit, 16 are; without weights, ids alone must repeat 64 times.
RUN_WITH_WEIGHTS = 16
RUN_OF_IDS = 64


def warmup_rows(log):
    """Boolean mask of the records to leave out."""
    out = np.zeros(len(log), bool)
    if "schema" not in log.missing:
        return out
    for layer in log.layers:
        rows = np.flatnonzero(log.layer == layer)
        out[rows[_repeated(log, rows)]] = True
    announced = log.header.get("requests")
    if isinstance(announced, dict):  # {"r1": tokens, ...}
        for number, name in enumerate(log.requests):
            n_tokens = announced.get(name)
            mine = log.request == number
            if n_tokens is None:
                out |= mine
            elif isinstance(n_tokens, int):
                out |= mine & (log.token >= n_tokens)
    return out


def _repeated(log, rows):
    ids = log.ids[rows]
    same = np.zeros(len(rows), bool)
    same[1:] = (ids[1:] == ids[:-1]).all(axis=1)
    least = RUN_OF_IDS
    if log.weights is not None:
        weights = log.weights[rows]
        same[1:] &= (weights[1:] == weights[:-1]).all(axis=1)
        least = RUN_WITH_WEIGHTS
    starts = np.flatnonzero(~same)
    lengths = np.diff(np.append(starts, len(rows)))
    return np.repeat(lengths >= least, lengths)
