"""What the steps for a shim share. It must not know single steps."""
import containerd_engine
from containerd_engine import Engine
from steps import Suite
from tested import Tested

suite = Suite("shim")


def ended(events, task):
    """The topics of a task that is gone. Go's shim may end before its last event is out, then that one is added here."""
    if not Engine.tested.is_debians:
        return events.wait(task)
    topics = events.wait(task, "exit")
    return topics if topics[-1] == "delete" else topics + ["delete"]


def engine(runtime):
    Engine.tested = Tested(runtime)
    return containerd_engine.engine(suite)
