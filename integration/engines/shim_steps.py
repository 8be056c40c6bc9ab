"""The steps for a shim in their order: each topic is a file."""
from shim_engine import engine, suite
import shim_life  # noqa: F401
import shim_faults  # noqa: F401  last: it restarts and kills the daemon

__all__ = ["engine", "suite"]
