"""run.py KNARR_INIT [PART]: what an init must do, tried on knarr-init and on tini, catatonit and dumb-init; PART picks tests by name.
As root. The last line is "N passed, N failed, N skipped"."""
import os
import signal
import sys

import inits
import life  # noqa: F401 (registers its tests)
import signals  # noqa: F401
import terminals  # noqa: F401
import in_container

if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("run.py: must be root")
    # below nohup(1) or in the background of a shell some are ignored, and what is ignored is inherited
    for number in signal.SIGHUP, signal.SIGINT, signal.SIGQUIT:
        signal.signal(number, signal.SIG_DFL)
    path = os.path.abspath(sys.argv[1])
    in_container.register(os.path.join(os.path.dirname(path), "knarr"))
    sys.exit(inits.main(path, sys.argv[2] if len(sys.argv) > 2 else ""))
