"""Routing logs of Mixture-of-Experts models: loading, figures, pictures, a report."""

from .log import LogError, RoutingLog, load

__all__ = ["LogError", "RoutingLog", "load"]
