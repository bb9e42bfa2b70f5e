"""Hooks of the routing log in vLLM's Worker, put there only where the environment asks for a log.

Patched: load_model, before which the recorder is made, so that layers find it when their weights are packed;
compile_or_warm_up_model, after which it starts; execute_model, after which it takes the step's rows; shutdown.
Invariant: one rank of a tensor-parallel group records, since all of them route alike.
"""

import functools
from typing import Any

from moeopt import status
from moeopt._vllm import recorder
from moeopt._vllm.log_settings import Wanted


def row_order(model_runner: Any) -> list[str] | None:
    """The requests as the last step's rows lie in its batch; None: this model runner is not known.

    vLLM's second model runner keeps a step's batch with the step, the first one has one batch.
    """
    batch = getattr(getattr(model_runner, "execute_model_state", None), "input_batch", None)
    names = getattr(batch or getattr(model_runner, "input_batch", None), "req_ids", None)
    if names is None:
        return None
    return [name for name in names if name is not None]


def attach(worker: Any, asked: Wanted) -> None:
    """Patches the Worker class."""
    load_model, warm_up = worker.load_model, worker.compile_or_warm_up_model
    execute_model, shutdown = worker.execute_model, getattr(worker, "shutdown", None)

    @functools.wraps(load_model)
    def load_model_recorded(self: Any, *arguments: Any, **named: Any) -> Any:
        rank, parallel = getattr(self, "rank", 0), self.vllm_config.parallel_config
        if rank % parallel.tensor_parallel_size == 0:
            recorder.active = recorder.Recorder(asked.of_rank(rank), self.vllm_config)
        return load_model(self, *arguments, **named)

    @functools.wraps(warm_up)
    def warm_up_recorded(self: Any, *arguments: Any, **named: Any) -> Any:
        result = warm_up(self, *arguments, **named)
        if recorder.active is not None:
            recorder.active.start()
            status.logger.info("moeopt: routing log %s", recorder.active.report())
        return result

    @functools.wraps(execute_model)
    def execute_model_recorded(self: Any, scheduled: Any, *arguments: Any, **named: Any) -> Any:
        result = execute_model(self, scheduled, *arguments, **named)
        if recorder.active is not None and recorder.active.state == "recording":
            order = row_order(self.model_runner) if scheduled.num_scheduled_tokens else []
            if order is None:
                recorder.active.decline(f"{type(self.model_runner).__name__} does not say where its rows lie")
            else:
                recorder.active.step(scheduled, order)
        return result

    worker.load_model, worker.compile_or_warm_up_model = load_model_recorded, warm_up_recorded
    worker.execute_model = execute_model_recorded
    if shutdown is not None:
        @functools.wraps(shutdown)
        def shutdown_recorded(self: Any, *arguments: Any, **named: Any) -> Any:
            if recorder.active is not None:
                recorder.active.close()
            return shutdown(self, *arguments, **named)
        worker.shutdown = shutdown_recorded
