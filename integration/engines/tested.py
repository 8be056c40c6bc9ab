"""What runs the containers, of which the argument of ./run names the program: a shim of containerd's (containerd-shim-NAME-VERSION),
or a runtime that is called by its command line, for containerd and Docker by Debian's own shim. It must not know any engine."""
import os
import re


class Tested:
    def __init__(self, path):
        self.path = path
        name = re.fullmatch(r"containerd-shim-(.+)-(v\d+)", os.path.basename(path))
        self.is_shim = bool(name)
        self.shim = os.path.basename(path) if name else "containerd-shim-runc-v2"
        self.runtime_type = "io.containerd." + ".".join(name.groups()) if name else "io.containerd.runc.v2"

        # containerd's own shim, which has some faults that a tested one must not have
        self.is_debians = self.shim == "containerd-shim-runc-v2"

    def beside(self, name):
        """A program that was built along with the tested one, or None."""
        path = f"{os.path.dirname(self.path)}/{name}"
        return path if os.path.exists(path) else None

    def of_docker(self):
        """The entry of daemon.json's `runtimes`, as docs/engines.md has it."""
        return {"runtimeType": self.runtime_type} if self.is_shim else {"path": self.path}

    def ctr_flags(self):
        return ["--runtime", self.runtime_type] if self.is_shim else ["--runc-binary", self.path]

    def of_cri(self):
        """The lines of config.toml that describe the runtime, as docs/engines.md has them. containerd 2.1 asks only a shim that is
        called io.containerd.runc.v2 what it can do, and with any other breaks when a pod wants what it might not be able to."""
        if self.is_shim:
            return f"runtime_type = 'io.containerd.runc.v2'\nruntime_path = '/usr/local/bin/{self.shim}'"
        return "\n".join(["runtime_type = 'io.containerd.runc.v2'", "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.tested.options]",
                          f"BinaryName = '{self.path}'", "SystemdCgroup = false"])
