"""Tests of deny.py: expressions of licences, and each kind of dependency that must be reported."""
import unittest

import deny

CONFIG = {
    "licenses": {"allow": ["MIT", "ISC"]},
    "bans": {"deny": [], "skip": [], "skip-tree": []},
    "sources": {"unknown-registry": "deny"},
}


def package(name, version="1.0.0", **other):
    source = "registry+https://index.test/"
    return {"id": f"{name}@{version}", "name": name, "version": version, "license": "MIT", "source": source,
            "manifest_path": "/cargo/x", "dependencies": []} | other


def found(packages, edges=(), bans=None):
    config = CONFIG | {"bans": CONFIG["bans"] | (bans or {})}
    own = package("own", source=None, manifest_path="/work/own/Cargo.toml")
    packages = [own, *packages] if not any(p["name"] == "own" for p in packages) else packages
    nodes = [{"id": p["id"], "dependencies": [b for a, b in edges if a == p["id"]]} for p in packages]
    return list(deny.violations(config, {
        "packages": packages, "workspace_members": ["own@1.0.0"], "workspace_root": "/work",
        "resolve": {"nodes": nodes}}))


class Licences(unittest.TestCase):
    def test_expressions(self):
        allowed = {"MIT", "ISC", "Apache-2.0 WITH LLVM-exception"}
        for expression, expected in (
            ("MIT", True), ("GPL-3.0", False), ("", False), ("MIT OR GPL-3.0", True), ("GPL-3.0/MIT", True),
            ("MIT AND GPL-3.0", False), ("MIT AND ISC", True), ("(MIT OR GPL-3.0) AND ISC", True),
            ("GPL-3.0 OR MIT AND ISC", True), ("GPL-3.0 AND MIT OR GPL-2.0", False), ("(MIT", False), ("MIT)", False),
            ("Apache-2.0 WITH LLVM-exception", True), ("MIT WITH LLVM-exception", False), ("MIT ISC", False),
        ):
            with self.subTest(expression):
                self.assertIs(deny.is_allowed(expression, allowed), expected)


class Dependencies(unittest.TestCase):
    def test_nothing_to_report(self):
        self.assertEqual(found([package("a"), package("b", license="ISC")], [("own@1.0.0", "a@1.0.0")]), [])

    def test_licence(self):
        self.assertEqual(found([package("a", license="GPL-3.0")]), ["a 1.0.0: licence GPL-3.0"])
        self.assertEqual(found([package("a", license=None)]), ["a 1.0.0: licence None"])

    def test_sources(self):
        self.assertEqual(found([package("a", source="git+https://x.test/a")])[0], "a 1.0.0: source git+https://x.test/a")
        self.assertEqual(
            found([package("a"), package("b", source="registry+https://other.test/")]),
            ["more than one source: registry+https://index.test/, registry+https://other.test/"])
        self.assertEqual(
            found([package("a", source=None, manifest_path="/elsewhere/a/Cargo.toml")]),
            ["a 1.0.0: a path outside the repository"])

    def test_requirements_of_the_workspace(self):
        own = package("own", source=None, manifest_path="/work/own/Cargo.toml", dependencies=[
            {"name": "a", "req": "*"}, {"name": "b", "req": "*", "path": "/work/b"},
            {"name": "c", "req": "^1", "registry": "https://other.test/"}])
        self.assertEqual(found([own]), ["own 1.0.0: any version of a", "own 1.0.0: c of the registry https://other.test/"])

    def test_versions(self):
        two = [package("a"), package("a", "2.0.0")]
        self.assertEqual(found(two), ["a in versions 1.0.0, 2.0.0"])
        self.assertEqual(found(two, bans={"skip": [{"crate": "a@1"}]}), [])
        self.assertEqual(found(two, bans={"skip": [{"crate": "a@3"}]}), ["a in versions 1.0.0, 2.0.0"])
        tree = [package("old"), *two]
        skip = {"skip-tree": [{"crate": "old"}]}
        self.assertEqual(found(tree, [("old@1.0.0", "a@1.0.0")], skip), [])
        self.assertEqual(found(tree, [], skip), ["a in versions 1.0.0, 2.0.0"])

    def test_bans(self):
        bans = {"deny": [{"crate": "bad", "wrappers": ["a"], "reason": "why"}]}
        packages = [package("a"), package("bad")]
        self.assertEqual(found(packages, [("a@1.0.0", "bad@1.0.0")], bans), [])
        self.assertEqual(found(packages, [("own@1.0.0", "bad@1.0.0")], bans), ["own depends on bad: why"])

    def test_what_it_cannot_read(self):
        config = CONFIG | {"licenses": {"allow": ["MIT", "ISC"], "clarify": []}, "new": {}}
        metadata = {"packages": [], "workspace_members": [], "workspace_root": "/", "resolve": {"nodes": []}}
        self.assertEqual(list(deny.violations(config, metadata)), [
            "deny.toml: deny.py does not know clarify in [licenses]", "deny.toml: deny.py does not know [new]"])


if __name__ == "__main__":
    unittest.main()
