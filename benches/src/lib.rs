//! Benchmarks: `lifecycle.py` compares runtimes by their binaries; see `Makefile.inc`.
