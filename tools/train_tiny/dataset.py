"""Turns conversations and plain text into packed rows of tokens."""

from __future__ import annotations

import multiprocessing
import os
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import chat
import prose

ROW_TOKENS = 1024
PROMPT_WEIGHT = (
    0.1  # a question's tokens count this much in the loss; replies and plain text count 1
)
_ROWS_PER_JOB = 256


@dataclass(frozen=True)
class Rows:
    """Packed rows, all arrays [rows, ROW_TOKENS]. Attention stays inside equal values of `document`."""

    token: np.ndarray  # int16 ids
    document: np.ndarray  # uint8, from 1 up within a row; 0 is padding
    weight: np.ndarray  # uint8, loss weight of predicting this token, in tenths

    def __len__(self) -> int:
        return len(self.token)


def _conversation_tokens(tokenizer: Tokenizer, rng: random.Random) -> tuple[list[int], list[int]]:
    ids: list[int] = []
    weights: list[int] = []
    for turn in chat.draw_conversation(rng):
        for text, weight in ((turn.prompt, round(10 * PROMPT_WEIGHT)), (turn.reply, 10)):
            part = tokenizer.encode(text).ids
            ids += part
            weights += [weight] * len(part)
    return ids, weights


def _chat_rows(tokenizer: Tokenizer, rng: random.Random, rows: Rows) -> None:
    """Fills the rows with whole conversations."""
    row, column, document = 0, 0, 0
    while True:
        ids, weights = _conversation_tokens(tokenizer, rng)
        if len(ids) > ROW_TOKENS:
            continue
        if column + len(ids) > ROW_TOKENS:
            row, column, document = row + 1, 0, 0
        if row == len(rows):
            return
        end, document = column + len(ids), document + 1
        rows.token[row, column:end] = ids
        rows.weight[row, column:end] = weights
        rows.document[row, column:end] = document
        column = end


def _prose_rows(tokenizer: Tokenizer, rng: random.Random, rows: Rows) -> None:
    """Fills the rows with one stream of plain text, cut wherever a row ends."""
    stream: list[int] = []
    while len(stream) < rows.token.size:
        texts = [prose.draw_prose(rng, from_held_out=False) for _ in range(rng.randint(2, 20))]
        stream += tokenizer.encode("\n\n".join(texts) + "\n" + chat.END_OF_TEXT).ids
    rows.token[:] = np.array(stream[: rows.token.size]).reshape(rows.token.shape)
    rows.weight[:] = 10
    rows.document[:] = 1


def _job(arguments: tuple[str, int, bool, int]) -> Rows:
    path, seed, is_prose, padding = arguments
    tokenizer = Tokenizer.from_file(path)
    rng = random.Random(seed)
    shape = (_ROWS_PER_JOB, ROW_TOKENS)
    rows = Rows(
        np.full(shape, padding, np.int16), np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    )
    (_prose_rows if is_prose else _chat_rows)(tokenizer, rng, rows)
    return rows


def build_rows(tokenizer_file: Path, count: int, prose_share: float, seed: int) -> Rows:
    """At least `count` rows in an order fixed by the seed, made on all cores."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    padding = Tokenizer.from_file(str(tokenizer_file)).token_to_id(chat.END_OF_TEXT)
    total = -(-count // _ROWS_PER_JOB)
    prose_jobs = max(1, round(total * prose_share))
    jobs = [
        (str(tokenizer_file), seed * 1_000_003 + i, i < prose_jobs, padding) for i in range(total)
    ]
    with multiprocessing.get_context("fork").Pool(len(os.sched_getaffinity(0))) as pool:
        parts = pool.map(_job, jobs, chunksize=1)
    order = np.random.default_rng(seed).permutation(total * _ROWS_PER_JOB)
    return Rows(
        np.concatenate([part.token for part in parts])[order],
        np.concatenate([part.document for part in parts])[order],
        np.concatenate([part.weight for part in parts])[order],
    )
