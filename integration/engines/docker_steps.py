"""The Docker steps in their order: each topic is a file."""
from docker_engine import engine, suite
import docker_life  # noqa: F401
import docker_limits  # noqa: F401
import docker_storage  # noqa: F401
import docker_network  # noqa: F401
import docker_init  # noqa: F401
import docker_daemon  # noqa: F401  last: it restarts the daemon

__all__ = ["engine", "suite"]
