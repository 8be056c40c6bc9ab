#!/usr/bin/env python3
"""deny.py: checks the dependencies of the workspace against deny.toml.

Runs cargo-deny if it is installed. Otherwise reads the parts of deny.toml that this repository uses: licences, bans and
sources. (Advisories need a database from the network; public CI looks at them with cargo-deny.)
"""
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict

CARGO = "integration/lab/cargo.sh"
KNOWN = {
    "graph": {"targets", "all-features"},
    "advisories": {"yanked"},
    "licenses": {"allow"},
    "bans": {"wildcards", "allow-wildcard-paths", "multiple-versions", "skip", "skip-tree", "deny"},
    "sources": {"unknown-registry", "unknown-git"},
}


def is_allowed(expression, allowed):
    """Whether an SPDX expression can be met with the licences in `allowed`; `/` is the old way to write OR."""
    toks = re.findall(r"[()]|[\w.+-]+", expression.replace("/", " OR "))
    at = 0

    def any_of():
        nonlocal at
        value = all_of()
        while toks[at:at + 1] == ["OR"]:
            at += 1
            value |= all_of()
        return value

    def all_of():
        nonlocal at
        value = one()
        while toks[at:at + 1] == ["AND"]:
            at += 1
            value &= one()
        return value

    def one():
        nonlocal at
        if toks[at:at + 1] == ["("]:
            at += 1
            value = any_of()
            if toks[at:at + 1] != [")"]:
                raise ValueError(expression)
            at += 1
            return value
        if at >= len(toks) or toks[at] in ("AND", "OR", "WITH", ")"):
            raise ValueError(expression)
        name = toks[at]
        at += 1
        if toks[at:at + 1] == ["WITH"]:
            name = " ".join([name, "WITH", *toks[at + 1:at + 2]])
            at += 2
        return name in allowed

    try:
        value = any_of()
    except ValueError:
        return False
    return value and at == len(toks)


def matches(package, pattern):
    """Whether `pattern` (NAME or NAME@MAJOR) means this package."""
    name, _, version = pattern.partition("@")
    return package["name"] == name and (not version or (package["version"] + ".").startswith(version + "."))


def below(metadata, roots):
    """The ids of the packages that those in `roots` depend on, and of these."""
    edges = {node["id"]: node["dependencies"] for node in metadata["resolve"]["nodes"]}
    found, todo = set(), list(roots)
    while todo:
        package = todo.pop()
        if package not in found:
            found.add(package)
            todo += edges.get(package, [])
    return found


def violations(config, metadata):
    """What deny.toml does not allow in the output of `cargo metadata`, one text each."""
    for table, keys in config.items():
        if table not in KNOWN:
            yield f"deny.toml: deny.py does not know [{table}]"
        else:
            yield from (f"deny.toml: deny.py does not know {key} in [{table}]" for key in keys if key not in KNOWN[table])
    packages, bans = {package["id"]: package for package in metadata["packages"]}, config["bans"]
    members = set(metadata["workspace_members"])
    for package in packages.values():
        what = f"{package['name']} {package['version']}"
        expression = package["license"]
        if not is_allowed(expression or "", set(config["licenses"]["allow"])):
            yield f"{what}: licence {expression}"
        source = package["source"]
        if source is None and not package["manifest_path"].startswith(metadata["workspace_root"] + "/"):
            yield f"{what}: a path outside the repository"
        if source is not None and not source.startswith(("registry+", "sparse+")):
            yield f"{what}: source {source}"
        if package["id"] in members:
            for dependency in package["dependencies"]:
                if dependency["req"] == "*" and not dependency.get("path"):
                    yield f"{what}: any version of {dependency['name']}"
                if dependency.get("registry"):
                    yield f"{what}: {dependency['name']} of the registry {dependency['registry']}"
    registries = {package["source"] for package in packages.values() if package["source"]}
    if len(registries) > 1:
        yield f"more than one source: {', '.join(sorted(registries))}"
    yield from duplicates(bans, metadata, packages)
    edges = [(node["id"], other) for node in metadata["resolve"]["nodes"] for other in node["dependencies"]]
    for ban in bans["deny"]:
        for user, used in edges:
            if matches(packages[used], ban["crate"]) and packages[user]["name"] not in ban.get("wrappers", []):
                yield f"{packages[user]['name']} depends on {packages[used]['name']}: {ban['reason']}"


def duplicates(bans, metadata, packages):
    """Packages that are there in two versions, but for those that are skipped."""
    roots = [id for id, package in packages.items() for skip in bans["skip-tree"] if matches(package, skip["crate"])]
    skipped = below(metadata, roots)
    versions = defaultdict(set)
    for id, package in packages.items():
        if id not in skipped and not any(matches(package, skip["crate"]) for skip in bans["skip"]):
            versions[package["name"]].add(package["version"])
    for name, found in sorted(versions.items()):
        if len(found) > 1:
            yield f"{name} in versions {', '.join(sorted(found))}"


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
    if shutil.which("cargo-deny"):
        sys.exit(subprocess.run(["cargo-deny", "--locked", "check", "licenses", "bans", "sources"], check=False).returncode)
    if sys.version_info < (3, 11):
        print("deny.py: needs Python 3.11 for TOML, or cargo-deny")
        sys.exit(77)
    import tomllib  # pylint: disable=import-outside-toplevel

    with open("deny.toml", "rb") as file:
        config = tomllib.load(file)
    found = set()
    for target in config["graph"]["targets"]:
        # As the lints have run before, what this machine needs is there; what another one needs may not be.
        command = [CARGO, "metadata", "--locked", "--all-features", "--format-version", "1", "--filter-platform", target]
        metadata = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        found.update(violations(config, json.loads(metadata)))
    print("\n".join(sorted(found)))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
