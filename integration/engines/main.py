"""main.py RUNTIME ENGINE...: runs the steps of each engine with the runtime; exit status 1 when one failed."""
import importlib
import sys

import image
import steps

MODULES = {name: f"{name}_steps" for name in ("docker", "compose", "containerd", "containerd16", "shim", "stress", "cri", "podman", "buildah")}


def main(runtime, *engines):
    unknown = [e for e in engines if e not in MODULES]
    if unknown:
        sys.exit(f"unknown engine {unknown[0]!r}: known are {' '.join(MODULES)}")
    # gRPC's hook around fork, which a terminal needs, waits for threads of gRPC's that never rest
    engines = sorted(engines, key="cri".__eq__)
    image.build()
    tally = steps.Tally()
    for engine in engines:
        module = importlib.import_module(MODULES[engine])
        start, stop = module.engine(runtime)
        steps.run_suite(tally, module.suite, start, stop)
    steps.say(f"1..{tally.number}")
    tally.summary()
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
