#!/usr/bin/env python3
"""layers.py [--arrows CRATE]: checks the imports of each crate against the tables in docs/architecture.md.

A table is a fenced block whose first line is `layers CRATE DIRECTORY`. In it,

    lib                             a layer: one or more modules. A module uses only modules on lines below its own.
    container exec
    error
    DIR/FILE only A B/C             the module (with its children) uses nothing of the crate but A and B/C (with theirs)
    MODULE of HOST only X Y         of HOST, MODULE uses only the names X and Y
    except A -> B: reason           one import that breaks the rules, and why

The block that begins with `crates` lists which of the workspace's crates each crate depends on. Prints one violation a line,
and exits 1 if there is one. Files that use each other are violations, too, but for a module and its own mod.rs.
"""
import json
import os
import re
import subprocess
import sys

import rust

DOCUMENT = "docs/architecture.md"
NAME = r"[\w/-]+"


class Table:
    def __init__(self, directory):
        self.directory = directory
        self.layers, self.lines = {}, 0  # module -> number of its line
        self.only, self.names, self.exceptions = [], [], {}

    def add(self, line):
        """Takes in a line of the table; an error text if it is not one."""
        if match := re.fullmatch(rf"except ({NAME}) -> ({NAME}): (\S.*)", line):
            self.exceptions[match.group(1), match.group(2)] = match.group(3)
        elif match := re.fullmatch(rf"({NAME}) of ({NAME}) only( [\w ]+)", line):
            self.names.append((match.group(1), match.group(2), set(match.group(3).split())))
        elif match := re.fullmatch(rf"({NAME}) only((?: {NAME})+)", line):
            self.only.append((match.group(1), match.group(2).split()))
        elif re.fullmatch(r"[\w ]+", line):
            self.lines += 1
            for module in line.split():
                if module in self.layers:
                    return f"{module} has two lines"
                self.layers[module] = self.lines
        else:
            return f"not a line of a table: {line}"
        return None


def read_tables(text):
    """({crate: Table}, {crate: crates it depends on}, errors)"""
    tables, crates, errors = {}, {}, []
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, re.M | re.S):
        head, *lines = [line.rstrip() for line in block.splitlines() if line.strip()] or [""]
        if match := re.fullmatch(r"layers ([\w-]+) (\S+)", head):
            table = tables[match.group(1)] = Table(match.group(2))
            errors += [f"{match.group(1)}: {error}" for error in map(table.add, lines) if error]
        elif head == "crates":
            for line in lines:
                name, _, others = line.partition(":")
                crates[name.strip()] = set(others.split()) - {"-"}
    return tables, crates, errors


def short(file):
    """The module's name as the table writes it: launch/child for launch/child.rs and launch/child/mod.rs."""
    return re.sub(r"(/mod)?\.rs$", "", file)


def within(file, module):
    return short(file) == module or file.startswith(module + "/")


def violations(crate, table):
    """What is wrong with the crate's imports, one text each."""
    used_exceptions = set()
    for file in crate.missing:
        yield file
    tops = {short(file).split("/")[0] for file in crate.module_of}
    yield from (f"the table names {module}, which does not exist" for module in table.layers if module not in tops)
    yield from (f"{top} is not in the table" for top in sorted(tops) if table.layers and top not in table.layers)
    for module in [module for module, _ in table.only] + [part for user, used, _ in table.names for part in (user, used)]:
        if not any(within(file, module) for file in crate.module_of):
            yield f"a rule names {module}, which does not exist"
    for (a, b), names in sorted(crate.edges.items()):
        arrow = f"{a} uses {b}" + (f" ({', '.join(sorted(n for n in names if n))})" if any(names) else "")
        if (short(a), short(b)) in table.exceptions:
            used_exceptions.add((short(a), short(b)))
            continue
        upper, lower = short(a).split("/")[0], short(b).split("/")[0]
        if upper != lower and upper in table.layers and lower in table.layers:
            if table.layers[lower] <= table.layers[upper]:
                where = "beside" if table.layers[lower] == table.layers[upper] else "above"
                yield f"{arrow}: {lower} stands {where} {upper}"
        for module, allowed in table.only:
            if within(a, module) and not within(b, module) and not any(within(b, other) for other in allowed):
                yield f"{arrow}: {module} uses only {' '.join(allowed)}"
        for user, used, allowed in table.names:
            if within(a, user) and within(b, used) and names - allowed - {""}:
                yield f"{arrow}: {user} uses only {' '.join(sorted(allowed))} of {used}"
    for a, b in table.exceptions.keys() - used_exceptions:
        yield f"the exception {a} -> {b} is not needed"
    for arrows in crate.circles(lambda a, b: (short(a), short(b)) in table.exceptions):
        files = {file for arrow in arrows for file in arrow}
        yield f"circle of {len(files)} files: {', '.join(f'{a} -> {b}' for a, b in arrows)}"


def crate_violations(metadata, crates):
    """Dependencies between the workspace's crates, and from them, against the block `crates`."""
    members = {package["name"]: package for package in metadata["packages"]}
    for name in sorted(members.keys() - crates.keys()):
        yield f"{name} is not in the block `crates`"
    for name in sorted(crates.keys() - members.keys()):
        yield f"the block `crates` names {name}, which does not exist"
    for name in sorted(members.keys() & crates.keys()):
        found = {d["name"] for d in members[name]["dependencies"] if d["name"] in members}
        for other in sorted(found - crates[name] - {name}):
            yield f"{name} depends on {other}"
        for other in sorted(crates[name] - found):
            yield f"{name} does not depend on {other}, as the block `crates` says"


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
    with open(DOCUMENT, encoding="utf-8") as document:
        tables, crates, found = read_tables(document.read())
    if not tables or not crates:
        found.append(f"{DOCUMENT} has no table")
    for name, table in tables.items():
        if not os.path.isdir(table.directory):
            found.append(f"{name}: no directory {table.directory}")
            continue
        crate = rust.Crate(name, table.directory)
        found += [f"{name}: {text}" for text in violations(crate, table)]
        if sys.argv[1:] == ["--arrows", name]:
            for (a, b), names in sorted(crate.edges.items()):
                print(f"{a} -> {b}: {' '.join(sorted(names))}")
    metadata = subprocess.run(
        ["integration/lab/cargo.sh", "metadata", "--no-deps", "--format-version", "1", "--offline"],
        stdout=subprocess.PIPE, check=True)
    metadata = json.loads(metadata.stdout)
    found += [f"crates: {text}" for text in crate_violations(metadata, crates)]
    directories = {os.path.realpath(table.directory) for table in tables.values()}
    for package in metadata["packages"]:
        source = os.path.join(os.path.dirname(package["manifest_path"]), "src")
        if os.path.isdir(source) and os.path.realpath(source) not in directories:
            found.append(f"crates: {package['name']} has no table")
    print("\n".join(found))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
