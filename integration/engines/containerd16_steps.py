"""containerd 1.6 of Debian bookworm, driven by its own ctr: the shim is asked in the protocol's old forms. The steps are those of
containerd_steps but for a few whose flags or configuration the old one does not have."""
import re

import containerd_engine
import containerd_steps
import shim_steps
from containerd_engine import Engine
from steps import Suite
from tested import Tested

suite = Suite("containerd16")
# What the old ctr cannot express: options of a checkpoint to a shim that is not runc's, --remap-labels, plugins inspect-runtime,
# an image for `container create`; the CRI's other form; what containerd 1.6 itself forgets when it is killed.
NEWER = r"--exit to a directory|CRIU cannot save|CRI part|id mappings|read-only root|inspect-runtime|container create|again and again"
suite.steps = [(name, function) for name, function in containerd_steps.suite.steps + shim_steps.suite.steps if not re.search(NEWER, name)]


def engine(runtime):
    Engine.tested = Tested(runtime)
    return containerd_engine.engine(suite, "/opt/containerd-1.6")
