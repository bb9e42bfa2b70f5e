#!/usr/bin/env python3
"""How often two logs of the same prompts route alike: two engines, one model.

    moeopt eval models/tiny-moe --answers models/tiny-moe/eval/answers.jsonl --routing-log ours.moer
    PYTHONPATH=python/moeopt_routing python3 bench/plugins/routing_agreement.py ours.moer tiny-moe.moer

Requests are paired by the number in their ids (r1 and 0-1a2b3c4d are both the first). Of the positions and layers that
both have: the share with the same set of experts, by phase, and how far their weights are apart where it is the same.
"""

import re
import sys

import numpy as np
from moeopt_routing.log import load


def rows_of(path):
    """By request in order: {(position, layer): (phase, ids, weights)}, both sorted by id."""
    log = load(path)
    found = [{} for _ in log.requests]
    for request, token, layer, phase, ids, weights in zip(log.request, log.token, log.layer, log.phase, log.ids,
                                                          log.weights):
        order = np.argsort(ids)
        found[request][int(token), int(layer)] = int(phase), ids[order], weights[order].astype(float)
    numbers = [int(re.search(r"\d+", name)[0]) for name in log.requests]
    return [found[i] for i in np.argsort(numbers)]


def main():
    first, second = (rows_of(path) for path in sys.argv[1:3])
    pairs = list(zip(first, second))
    for phase, name in ((0, "prefill"), (1, "decode")):
        alike = apart = rows = 0
        for a, b in pairs:
            for key in a.keys() & b.keys():
                if a[key][0] != phase or b[key][0] != phase:
                    continue
                rows += 1
                if np.array_equal(a[key][1], b[key][1]):
                    alike += 1
                    apart += np.abs(a[key][2] - b[key][2]).max()
        print(f"{name:8s} {alike} of {rows} rows alike ({alike / max(1, rows):.2%}), weights apart by {apart / max(1, alike):.4f} "
              "on average")
    return 0


if __name__ == "__main__":
    sys.exit(main())
