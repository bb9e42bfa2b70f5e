"""vLLM's general plugin: the entry point `moeopt = moeopt.vllm_plugin:register`.

vLLM drops a plugin whose module fails to import with a log line and runs without it, so this module imports
nothing but the standard library; what register() raises ends the start. It runs in every process of vLLM,
several times in some, and must not touch CUDA.

    MOEOPT_MODE=off|prefer|require   default: require when VLLM_PLUGINS names moeopt, else prefer
"""

import os

NAME = "moeopt"
_installed = False


def named_by_user() -> bool:
    """Whether VLLM_PLUGINS names this plugin."""
    return NAME in [name.strip() for name in os.environ.get("VLLM_PLUGINS", "").split(",")]


def register() -> None:
    """Puts the kernel in vLLM's way of choosing experts. Raises NotApplied under require when it cannot."""
    global _installed
    from moeopt import settings, status
    chosen = settings.mode(named_by_user())
    if _installed:
        return
    if chosen is settings.Mode.OFF:
        from moeopt._vllm import log_settings
        if log_settings.wanted() is not None:
            status.logger.warning("moeopt: no routing log: MOEOPT_MODE is off, so no layer runs the kernel")
        return
    from moeopt._vllm import contract, install
    from moeopt.errors import NotApplied
    try:
        install.install(contract.probe(), chosen)
    except contract.UnknownContract as problem:
        if chosen is settings.Mode.REQUIRE:
            raise NotApplied(f"{problem} (MOEOPT_MODE=require)") from problem
        status.logger.warning("moeopt: vLLM is left as it is: %s", problem)
        return
    _installed = True
