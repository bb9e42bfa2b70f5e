"""Routes of an engine's steps, from the kernel to the process that writes them (routing_writer.py).

Used by routing_log.py, which hooks it into vLLM. Each recorded layer's launches write ids and weights to buffers of
this module, in CUDA graphs too; after every step one copy per array takes the step's rows to pinned memory, behind
the kernels on their stream, and a thread hands them on. Nobody waits: a step that finds no free memory is lost, with
the requests that it was of, and counted. Dummy runs and padding never come here, since rows are those that the
scheduler asked for.
Invariant: only the kernel writes what is recorded, and nothing is recorded before start().
"""

import atexit
import contextlib
import dataclasses
import datetime
import fcntl
import os
import pathlib
import queue
import re
import subprocess
import sys
import threading
from typing import Any

import torch

from moeopt import status
from moeopt._version import __version__
from moeopt._vllm.log_settings import Wanted, selected
from moeopt.errors import ArgumentError
from moeopt.routing_writer import frame_bytes

PACKAGES = pathlib.Path(__file__).parents[2]  # where this package was found
# Steps on the way to the writer: of as many tokens as a batch has requests, and of any size.
SMALL_SLOTS, LARGE_SLOTS = 128, 6
PIPE_BYTES = 1 << 20
IOV_MAX = os.sysconf("SC_IOV_MAX")
active: "Recorder | None" = None  # of this process, while its model is loaded and runs
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")


class Buffers:
    """Where one layer's launches leave their routes: ids [capacity, k] int32, weights [capacity, k] float32."""

    def __init__(self, ids: torch.Tensor, weights: torch.Tensor):
        self.ids, self.weights = ids, weights


@dataclasses.dataclass
class _Slot:
    """Pinned memory for one step, the event behind its copies, and where it goes back to."""

    ids: torch.Tensor
    weights: torch.Tensor
    event: Any
    home: "queue.SimpleQueue[_Slot]"


def _take(source: "queue.SimpleQueue[Any]", empty: Any = None) -> Any:
    """The next item, or `empty` where there is none."""
    try:
        return source.get_nowait()
    except queue.Empty:
        return empty


def _write(pipe: int, parts: list[Any]) -> None:
    """All bytes of all parts, in as few calls as may be."""
    while parts:
        written = os.writev(pipe, parts[:IOV_MAX])
        while parts and written >= len(parts[0]):
            written -= len(parts.pop(0))
        if parts:
            parts[0] = parts[0][written:]


class Recorder:
    """One engine's log. vllm_config: vLLM's own; the file is opened by start(), after warm-up."""

    def __init__(self, asked: Wanted, vllm_config: Any):
        config = vllm_config.model_config.hf_text_config
        self.asked = asked
        self.state, self.reason = "waiting", ""
        self.tokens = self.lost_steps = 0
        self.capacity = int(vllm_config.scheduler_config.max_num_batched_tokens)
        self.small = min(self.capacity, int(vllm_config.scheduler_config.max_num_seqs))
        self.n_layers = int(config.num_hidden_layers)
        self.model_id = asked.model_id or str(vllm_config.model_config.model)
        self.router = "sigmoid" if getattr(config, "scoring_func", "") == "sigmoid" else "softmax"
        self.rows = selected(asked.layers, range(self.n_layers))
        if not self.rows:
            raise ArgumentError(f"layers to log are {asked.layers!r}; the model has 0-{self.n_layers - 1}")
        parallel = vllm_config.parallel_config
        if getattr(parallel, "data_parallel_size", 1) > 1:
            self.decline("data parallelism: a rank's rows are not its own requests'")
        elif getattr(vllm_config, "speculative_config", None) is not None:
            self.decline("speculative decoding: draft tokens are not told from accepted ones")
        self.layers: list[int] = []  # of the model, by place in the buffers
        self.n_experts = self.top_k = 0
        self.ids: torch.Tensor | None = None  # [rows, capacity, k]
        self.weights: torch.Tensor | None = None
        self.known: set[str] = set()
        self.free_small: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        self.free_large: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        self.work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.process: subprocess.Popen[bytes] | None = None
        self.thread: threading.Thread | None = None

    def decline(self, reason: str) -> None:
        self.state, self.reason = "declined", reason
        status.logger.warning("moeopt: no routing log: %s", reason)

    def report(self) -> dict[str, Any]:
        return {"file": self.asked.file, "state": self.state, "reason": self.reason, "tokens": self.tokens,
                "lost_steps": self.lost_steps}

    # --- while the model is loaded -------------------------------------------------------------

    def buffers(self, name: str, n_experts: int, top_k: int, device: torch.device) -> Buffers | None:
        """A layer's buffers, None where it is not to be logged; for every layer of a model the same k."""
        match = LAYER.search(name)
        if self.state != "waiting" or match is None or int(match[1]) not in self.rows:
            return None
        if self.ids is None:
            self.n_experts, self.top_k = n_experts, top_k
            shape = (len(self.rows), self.capacity, top_k)
            self.ids = torch.full(shape, -1, dtype=torch.int32, device=device)
            self.weights = torch.zeros(shape, dtype=torch.float32, device=device)
        if (n_experts, top_k) != (self.n_experts, self.top_k) or len(self.layers) == len(self.rows):
            self.decline(f"{name} has {n_experts} experts and top {top_k}, or comes twice")
            return None
        assert self.weights is not None
        place = len(self.layers)
        self.layers.append(int(match[1]))
        return Buffers(self.ids[place], self.weights[place])

    # --- while it runs -------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to record: after warm-up, before the first request."""
        if self.state != "waiting":
            return
        if self.ids is None or self.weights is None:
            self.decline("no layer that is to be logged runs the kernel")
            return
        self._make_slots(self.free_small, SMALL_SLOTS, self.small)
        self._make_slots(self.free_large, LARGE_SLOTS, self.capacity)
        path = os.pathsep.join(filter(None, (str(PACKAGES), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen([sys.executable, "-m", "moeopt.routing_writer", self.asked.file],
                                        stdin=subprocess.PIPE, bufsize=0, start_new_session=True,
                                        env=os.environ | {"PYTHONPATH": path})
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # a smaller pipe does, too
            fcntl.fcntl(self.process.stdin.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.state = "recording"
        self.thread = threading.Thread(target=self._feed, name="moeopt routing log", daemon=True)
        self.thread.start()
        now = datetime.datetime.now(datetime.timezone.utc)
        self.work.put(({"kind": "meta", "program": f"moeopt {__version__} in vLLM", "model_id": self.model_id,
                        "n_layers": self.n_layers, "n_experts": self.n_experts, "top_k": self.top_k,
                        "router": self.router, "seed": self.asked.seed, "part_of": self.layers,
                        "started": now.strftime("%Y-%m-%dT%H:%M:%SZ")}, None, 0))
        atexit.register(self.close)

    def _make_slots(self, free: "queue.SimpleQueue[_Slot]", count: int, tokens: int) -> None:
        """Slots of so many tokens, all in one piece of pinned memory for each array."""
        assert self.ids is not None
        cuda = self.ids.device.type == "cuda"
        shape = (count, len(self.layers) * tokens * self.top_k)
        kind = torch.uint8 if self.n_experts <= 255 else torch.int16
        ids = torch.empty(shape, dtype=kind, pin_memory=cuda)
        weights = torch.empty(shape, dtype=torch.float16, pin_memory=cuda)
        for i in range(count):
            free.put(_Slot(ids[i], weights[i], torch.cuda.Event() if cuda else None, free))

    def step(self, scheduled: Any, order: list[str]) -> None:
        """Takes the routes of the step that was just enqueued. scheduled: vLLM's SchedulerOutput; order: the
        requests as their rows lie in the batch."""
        if self.state != "recording":
            return
        rows, new = self._rows(scheduled, order)
        done = [name for name in scheduled.finished_req_ids if name in self.known]
        self.known.difference_update(done)
        if not rows and not done:
            return
        about: dict[str, Any] = {"kind": "step", "rows": rows, "new": new, "done": done}
        tokens = scheduled.total_num_scheduled_tokens
        slot = None
        if rows:
            # Rows that do not add up are somebody else's order: nothing is guessed.
            slot = self._copy(tokens) if sum(count for *_, count in rows) == tokens else None
            if slot is None:
                about["lost"] = True
                self.lost_steps += 1
            else:
                self.tokens += tokens
        self.work.put((about, slot, tokens))

    def _rows(self, scheduled: Any, order: list[str]) -> tuple[list[list[Any]], dict[str, list[int]]]:
        """[[request, first position, tokens], ...] and, of requests not seen before, [prompt, cached] tokens."""
        counts = scheduled.num_scheduled_tokens
        starts, new = {}, {}
        for request in scheduled.scheduled_new_reqs:
            starts[request.req_id] = request.num_computed_tokens
            if request.req_id not in self.known:
                self.known.add(request.req_id)
                new[request.req_id] = [len(request.prompt_token_ids or ()), request.num_computed_tokens]
        cached = scheduled.scheduled_cached_reqs
        starts.update(zip(cached.req_ids, cached.num_computed_tokens))
        return [[name, starts[name], counts[name]] for name in order if counts.get(name)], new

    def _copy(self, tokens: int) -> _Slot | None:
        assert self.ids is not None and self.weights is not None
        slot = _take(self.free_small) if tokens <= self.small else None
        if slot is None and tokens <= self.capacity:
            slot = _take(self.free_large)
        if slot is None:
            return None
        size = len(self.layers) * tokens * self.top_k
        count = len(self.layers)
        # -1, no expert, becomes all ones in either width.
        slot.ids[:size].copy_(self.ids[:count, :tokens].to(slot.ids.dtype).view(-1), non_blocking=True)
        slot.weights[:size].copy_(self.weights[:count, :tokens].to(torch.float16).view(-1), non_blocking=True)
        if slot.event is not None:
            slot.event.record()
        return slot

    def _feed(self) -> None:
        """The thread: waits for steps' copies and writes them to the pipe, as many at a time as there are, since
        every wait may also be one for Python's lock."""
        assert self.process is not None and self.process.stdin is not None
        pipe = self.process.stdin.fileno()
        going = True
        while going:
            items = [self.work.get()]
            while len(items) < SMALL_SLOTS and (more := _take(self.work, empty=False)) is not False:
                items.append(more)
            going = items[-1] is not None
            slots = [item[1] for item in items if item is not None and item[1] is not None]
            if self.state == "recording":
                try:
                    if slots and slots[-1].event is not None:
                        slots[-1].event.synchronize()  # one stream: those before it are done, too
                    _write(pipe, [part for item in items if item is not None for part in self._frame(*item)])
                except OSError as problem:
                    self.state, self.reason = "ended", f"its writer is gone: {problem.strerror}"
                    status.logger.warning("moeopt: the routing log ended: %s", self.reason)
            for slot in slots:
                slot.home.put(slot)

    def _frame(self, about: dict[str, Any], slot: _Slot | None, tokens: int) -> list[Any]:
        """The bytes of one frame."""
        if self.asked.request and about["kind"] == "step":
            about["new"] = {name: of for name, of in about["new"].items() if self.asked.names(name)}
        arrays: list[Any] = []
        if slot is not None:
            size = len(self.layers) * tokens * self.top_k
            arrays = [memoryview(part[:size].view(torch.uint8).numpy()) for part in (slot.ids, slot.weights)]
        return [memoryview(frame_bytes(about, sum(len(array) for array in arrays))), *arrays]

    def close(self) -> None:
        """Ends the log; what had not ended is marked partial in it."""
        if self.process is None or self.thread is None:
            return
        self.work.put(None)
        self.thread.join(timeout=60)
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            code = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if self.state == "recording":
            self.state, self.reason = ("closed", "") if code == 0 else ("ended", f"its writer exited with {code}")
        self.process = None
