"""Which file of a crate uses which: read from the source, without a compiler.

Reads `use` trees and paths in code, follows re-exports to the file that defines the name, and leaves out everything below
`#[cfg(test)]`. It does not see method calls (an `impl` of a type in another file), trait objects, and what a macro expands to.
"""
import os
import re
from collections import defaultdict

TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)
      | (?P<comment>/\*)
      | (?P<raw>b?c?r(?P<hashes>\#*)")
      | (?P<string>[bc]?"(?:\\.|[^"\\])*")
      | (?P<char>b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.)|[^'\\])')
      | (?P<lifetime>'\w+)
      | (?P<name>r\#\w+|\w+)
      | (?P<path>::)
      | (?P<mark>.)""",
    re.X | re.S,
)
OPEN, CLOSE = {"(": ")", "[": "]", "{": "}"}, {")", "]", "}"}
ITEMS = {
    "fn", "mod", "use", "impl", "struct", "enum", "union", "const", "static", "type", "trait", "unsafe", "extern", "async",
    "macro_rules",
}
MAIN = ("#main",)
DEFINES = {"fn", "struct", "enum", "union", "const", "static", "type", "trait"}


def tokens(text):
    """The names and marks of `text`; a string or a character is one token that begins with `"`."""
    found, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        at = match.end()
        kind = match.lastgroup
        if kind == "comment":
            at = end_of_comment(text, at)
        elif kind == "raw":
            end = text.find('"' + match.group("hashes"), at)
            at = len(text) if end < 0 else end + 1 + len(match.group("hashes"))
            found.append('"')
        elif kind in ("string", "char"):
            found.append('"' + match.group()[1:-1])
        elif kind in ("name", "path", "mark"):
            found.append(match.group().removeprefix("r#"))
    return found


def end_of_comment(text, at):
    depth = 1
    while depth and at < len(text):
        mark = text[at:at + 2]
        depth += (mark == "/*") - (mark == "*/")
        at += 2 if mark in ("/*", "*/") else 1
    return at


def closing(toks, at):
    """The index after the bracket that closes the one at `at`."""
    depth = 0
    while at < len(toks):
        depth += (toks[at] in OPEN) - (toks[at] in CLOSE)
        at += 1
        if depth == 0:
            break
    return at


def end_of_item(toks, at):
    """The index after the item, field, arm or statement that begins at `at`."""
    first = at
    if toks[first:first + 1] == ["pub"]:
        first += 1
        if toks[first:first + 1] == ["("]:
            first = closing(toks, first)
    is_item = toks[first:first + 1] and toks[first] in ITEMS
    only_semicolon = is_item and toks[first] in ("use", "static", "type") or toks[first:first + 2] == ["let"]
    while at < len(toks):
        tok = toks[at]
        if tok in CLOSE:
            return at
        if tok == ";" or tok == "," and not is_item:
            return at + 1
        if tok in OPEN:
            at = closing(toks, at)
            if tok == "{" and not only_semicolon:
                return at
        else:
            at += 1
    return at


def without_tests(toks):
    """The tokens without attributes and without what an attribute with `test` in a `cfg` applies to.

    `path = "x.rs"` in an attribute becomes the token `#x.rs`.
    """
    out, at = [], 0
    while at < len(toks):
        if toks[at] == "#" and toks[at + 1:at + 2] in (["["], ["!"]):
            begin = at + 1 if toks[at + 1] == "[" else at + 2
            end = closing(toks, begin)
            attribute = toks[begin + 1:end - 1]
            at = end
            is_test = attribute[:1] == ["cfg"] and "test" in attribute and "not" not in attribute
            if is_test and toks[begin - 1] == "!":
                return []
            if is_test:
                while toks[at:at + 2] == ["#", "["]:
                    at = closing(toks, at + 1)
                at = end_of_item(toks, at)
            elif "path" in attribute:
                out += ["#" + tok[1:] for tok in attribute if tok.endswith('.rs') and tok[0] == '"']
        else:
            out.append(toks[at])
            at += 1
    return out


def use_tree(toks, prefix=()):
    """The (path, alias) pairs of a use tree: `a::{b, c as d}` gives (a, b) as b and (a, c) as d."""
    path, at = list(prefix), 0
    while at < len(toks):
        tok = toks[at]
        if tok == "{":
            part = []
            inner = toks[at + 1:closing(toks, at) - 1] + [","]
            depth = 0
            for item in inner:
                depth += (item in OPEN) - (item in CLOSE)
                if item == "," and depth == 0:
                    if part:
                        yield from use_tree(part, tuple(path))
                    part = []
                else:
                    part.append(item)
            return
        if tok == "as":
            yield tuple(path), toks[at + 1]
            return
        if tok != "::":
            path.append(tok)
        at += 1
    # `a::{self}` is `a`.
    if path and path[-1] == "self" and len(path) > 1:
        path.pop()
    if path:
        yield tuple(path), path[-1]


class Crate:
    """The files of one crate and the arrows between them."""

    def __init__(self, name, root):
        self.name, self.root = name, root
        self.paths = defaultdict(list)  # file -> [(module, path)]: what it names
        self.module_of = {}  # file -> its module
        self.file_of = {}  # module (inline ones, too) -> file
        self.children = defaultdict(set)  # module -> names of its modules
        self.names = defaultdict(dict)  # module -> alias -> path from the crate's root, or None when it leads elsewhere
        self.globs = defaultdict(list)  # module -> modules whose names it takes
        self.defined = defaultdict(set)
        self.imports = []  # (file, module, path, alias)
        self.missing = []  # modules without a file
        tops = [top for top in ("lib.rs", "main.rs") if os.path.exists(os.path.join(root, top))]
        for top in tops:
            # A program beside a library is another crate, which uses the library by its name.
            self.load(top, MAIN if len(tops) == 2 and top == "main.rs" else ())
        for file, module, path, alias in self.imports:
            target = self.absolute(module, path)
            if path[-1] == "*":
                if target is not None:
                    self.globs[module].append(target[:-1])
            else:
                self.names[module][alias] = target
        self.edges = defaultdict(set)  # (file, file) -> names
        for file, found in self.paths.items():
            for module, path in found:
                self.add_edge(file, module, path)

    def load(self, file, module):
        self.module_of[file] = module
        self.file_of.setdefault(module, file)
        with open(os.path.join(self.root, file), encoding="utf-8") as source:
            toks = without_tests(tokens(source.read()))
        self.scan(file, module, toks)

    def scan(self, file, module, toks):
        """Collects imports, definitions, modules and paths of `toks`, the content of `module`."""
        at, files = 0, []
        while at < len(toks):
            tok = toks[at]
            if tok[0] == "#":
                files.append(tok[1:])
            elif tok not in ("pub", "(", ")", "crate", "super", "mod"):
                files = []
            following = toks[at + 1:at + 2]
            if tok == "use" and toks[at - 1:at] != ["."]:
                end = end_of_item(toks, at)
                for path, alias in use_tree([t for t in toks[at + 1:end - 1]]):
                    self.imports.append((file, module, path, alias))
                    self.paths[file].append((module, path))
                at = end
            elif tok == "mod" and toks[at + 2:at + 3] == [";"]:
                self.children[module].add(following[0])
                self.load_child(file, module, following[0], files)
                at, files = at + 3, []
            elif tok == "mod" and toks[at + 2:at + 3] == ["{"]:
                end = closing(toks, at + 2)
                child = module + (following[0],)
                self.children[module].add(following[0])
                self.file_of[child] = file
                self.scan(file, child, toks[at + 3:end - 1])
                at = end
            elif tok in DEFINES and following and re.match(r"\w", following[0]):
                self.defined[module].add(following[0])
                at += 2
            elif following == ["::"] and re.match(r"[A-Za-z_]", tok) and toks[at - 1:at] != ["::"]:
                end = at + 1
                path = [tok]
                while toks[end:end + 1] == ["::"] and re.match(r"[A-Za-z_]", toks[end + 1:end + 2][0]):
                    path.append(toks[end + 1])
                    end += 2
                if len(path) > 1:
                    self.paths[file].append((module, tuple(path)))
                at = end
            else:
                at += 1

    def load_child(self, file, module, child, files):
        base = os.path.basename(file)
        if base in ("lib.rs", "main.rs", "mod.rs"):
            directory = os.path.dirname(file)
        else:
            directory = file.removesuffix(".rs")
        # A module inside an inline module of this file lies one directory deeper.
        inline = module[len(self.module_of[file]):]
        directory = os.path.join(directory, *inline)
        paths = [os.path.join(os.path.dirname(file), other) for other in files]
        paths = paths or [os.path.join(directory, child + ".rs"), os.path.join(directory, child, "mod.rs")]
        paths = [path for path in paths if os.path.exists(os.path.join(self.root, path))]
        for path in paths:
            self.load(path, module + (child,))
        if not paths:
            self.missing.append(f"{file}: no file of module {child}")

    def absolute(self, module, path):
        """`path`, named in `module`, from the crate's root; None when it leads to another crate or to a local name."""
        first, up = path[0], 0
        if first == "crate":
            return (MAIN if module[:1] == MAIN else ()) + path[1:]
        if first == self.name.replace("-", "_") and "lib.rs" in self.module_of:
            return path[1:]
        if first == "self":
            return module + path[1:]
        while path[up:up + 1] == ("super",):
            up += 1
        if up:
            return module[:len(module) - up] + path[up:]
        if first in self.children[module]:
            return module + path
        known = self.names[module].get(first)
        return None if known is None else known + path[1:]

    def resolve(self, path, hops=0):
        """The file that defines what `path` names, and the name."""
        module, rest = (), list(path)
        while rest and rest[0] in self.children[module]:
            module += (rest.pop(0),)
        if path[:1] == MAIN:
            module, rest = MAIN, rest[1:]
            while rest and rest[0] in self.children[module]:
                module += (rest.pop(0),)
        if not rest or hops > 16:
            return self.file_of.get(module), ""
        target = self.names[module].get(rest[0])
        if target is None and rest[0] not in self.defined[module]:
            for other in self.globs[module]:
                if rest[0] in self.defined[other] or rest[0] in self.names[other]:
                    target = other + (rest[0],)
        if target is not None and target != module + (rest[0],):
            return self.resolve(target + tuple(rest[1:]), hops + 1)
        return self.file_of.get(module), rest[0]

    def add_edge(self, file, module, path):
        path = tuple(part for part in path if part != "*")
        target = self.absolute(module, path) if path else None
        if target is None:
            return
        used, name = self.resolve(target)
        if used and used != file:
            self.edges[file, used].add(name)

    def circles(self, is_exception):
        """The arrows of each group of files that use each other. A file that uses a mod.rs above it makes no circle."""
        graph = defaultdict(set)
        for a, b in self.edges:
            up, down = self.module_of[b], self.module_of[a]
            is_facade = up not in ((), MAIN) and len(up) < len(down) and down[:len(up)] == up
            if not is_facade and not is_exception(a, b):
                graph[a].add(b)
        groups = sorted(sorted(group) for group in components(graph) if len(group) > 1)
        return [[(a, b) for a in group for b in group if b in graph[a]] for group in groups]


def components(graph):
    """The strongly connected components of `graph` (Tarjan), without recursion."""
    index, low, on_stack, stack, out = {}, {}, set(), [], []
    for root in sorted(graph):
        if root in index:
            continue
        work = [(root, iter(sorted(graph[root])))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, others = work[-1]
            for other in others:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(sorted(graph.get(other, ())))))
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    group = []
                    while not group or group[-1] != node:
                        group.append(stack.pop())
                        on_stack.discard(group[-1])
                    out.append(group)
    return out
