"""vLLM's endpoint plugin: GET /plugins/moeopt/status, and gauges in vLLM's own /metrics.

Loaded only where VLLM_PLUGINS names moeopt, which is vLLM's rule for routes. The workers are asked by
collective_rpc("moeopt_status"), which _vllm/install.py puts on them; between two questions the last answer
stands. Invariant: a failing worker gives a 503 with the reason, never a made-up state.
"""

import asyncio
import logging
from typing import Any

NAME = "moeopt"
REFRESH_SECONDS = 15.0
logger = logging.getLogger("moeopt")


class Plugin:
    """Satisfies vllm.plugins.endpoint_plugins.interface.EndpointPlugin."""

    name = NAME
    required_tasks = None

    def __init__(self) -> None:
        self.client: Any = None
        self.gauges: Gauges | None = None
        self._task: "asyncio.Task[None] | None" = None

    def attach_router(self, app: Any) -> None:
        from fastapi import APIRouter
        from fastapi.responses import JSONResponse
        router = APIRouter()

        @router.get("/plugins/moeopt/status")
        async def moeopt_status() -> Any:
            try:
                ranks = await self.ask()
            except Exception as problem:  # whatever the engine's transport raises
                return JSONResponse(status_code=503, content={
                    "error": {"message": f"moeopt: {problem}", "type": type(problem).__name__}})
            return JSONResponse(content={"ranks": ranks})

        app.include_router(router)

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        self.client = engine_client
        if engine_client is None:
            return
        try:
            self.gauges = Gauges()
        except ImportError:
            logger.info("moeopt: no prometheus_client, no gauges")
            return
        self._task = asyncio.get_running_loop().create_task(self._refresh())

    async def ask(self) -> list[dict[str, Any]]:
        """One report a rank. Raises when there is no engine or it does not answer."""
        if self.client is None:
            raise RuntimeError("this server has no engine")
        ranks = await asyncio.wait_for(self.client.collective_rpc("moeopt_status"), timeout=10.0)
        if self.gauges is not None:
            self.gauges.set(ranks)
        return list(ranks)

    async def _refresh(self) -> None:
        while True:
            try:
                await self.ask()
            except asyncio.CancelledError:
                raise
            except Exception as problem:
                logger.warning("moeopt: no status for the gauges: %s", problem)
            await asyncio.sleep(REFRESH_SECONDS)


class Gauges:
    """moeopt_layers{rank,state} and moeopt_launches{rank,layer}, in prometheus_client's default registry."""

    def __init__(self, registry: Any = None):
        import prometheus_client
        named = {} if registry is None else {"registry": registry}
        self.layers = prometheus_client.Gauge(
            "moeopt_layers", "MoE layers by state: applied (the kernel runs them) or declined.",
            ["rank", "state"], **named)
        self.launches = prometheus_client.Gauge(
            "moeopt_launches", "Launches of a MoE layer that the kernel itself counted.",
            ["rank", "layer"], **named)

    def set(self, ranks: list[dict[str, Any]]) -> None:
        for report in ranks:
            rank = str(report["rank"])
            for state in ("applied", "declined"):
                self.layers.labels(rank, state).set(report[state])
            for layer in report["layers"]:
                self.launches.labels(rank, layer["name"]).set(layer["launches"])
