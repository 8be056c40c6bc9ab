"""Tests of rust.py and layers.py: small crates, and the violations that must be reported."""
import os
import tempfile
import unittest

import layers
import rust

TABLE = """
```text
layers small .
lib
top
middle beside
bottom
```
"""


def check(files, table=TABLE):
    """The violations in a crate of `files` (path -> text), and in the table."""
    tables, _, errors = layers.read_tables(table)
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        crate = rust.Crate("small", root)
        return errors + list(layers.violations(crate, tables["small"]))


def crate(**files):
    """lib.rs with the four modules of TABLE, of which `files` have a content."""
    names = ("top", "middle", "beside", "bottom")
    return {"lib.rs": "".join(f"mod {name};\n" for name in names)} | {
        f"{name}.rs": files.get(name, "") for name in names}


UPWARD = ["bottom.rs uses top.rs (Name): top stands above bottom"]


class Arrows(unittest.TestCase):
    def test_downward_is_allowed(self):
        self.assertEqual(check(crate(top="use crate::bottom::Name;", middle="fn f() { crate::bottom::f() }")), [])

    def test_each_way_to_name_something_is_seen(self):
        for text in (
            "use crate::top::Name;",
            "use super::top::Name;",
            "use crate::{middle_not_there::X, top::{self as other, Name as Alias}};",
            "use crate::{\n    top::{\n        Name,\n    },\n};",
            "fn f() { let x = crate::top::Name::new(); }",
            "fn f(x: super::top::Name) {}",
            "fn f() { if true { use crate::top; top::Name } }",
            "use crate as root;\nfn f() { root::top::Name }",
            "use small::top::Name;",
            "pub use crate::top::Name;",
            "mod inner { use super::super::top::Name; }",
            "const TEXT: &str = \"// no comment\"; use crate::top::Name;",
            "const MARK: char = '\"'; use crate::top::Name;",
            "fn f<'a>(x: &'a str) -> crate::top::Name {}",
            "/* /* nested */ */ use crate::top::Name;",
            "#[cfg(test)] const A: [u8; 2] = [1, 2]; use crate::top::Name;",
            "#[cfg(test)] mod tests { fn f() {} } use crate::top::Name;",
            "#[cfg(not(test))] use crate::top::Name;",
        ):
            with self.subTest(text):
                found = check(crate(bottom=text, top="pub struct Name;"))
                found = [line.replace("(top, ", "(").replace("(, ", "(") for line in found]
                self.assertTrue(any(line.startswith("bottom.rs uses top.rs (") for line in found), found)
                self.assertTrue(any(line.endswith("top stands above bottom") for line in found), found)

    def test_what_does_not_count(self):
        for text in (
            "// use crate::top::Name;",
            "/* use crate::top::Name; */",
            'const A: &str = "use crate::top::Name;";',
            'const A: &str = r#"" use crate::top::Name; "#;',
            "#[cfg(test)]\nuse crate::top::Name;",
            "#[cfg(test)]\nmod tests {\n    use crate::top::Name;\n}",
            "#[cfg(all(test, feature = \"x\"))]\nmod tests {\n    use crate::top::Name;\n}",
            "use other::top::Name;",
            "use std::top::Name;",
        ):
            with self.subTest(text):
                self.assertEqual(check(crate(bottom=text, top="pub struct Name;")), [])

    def test_modules_of_one_line(self):
        self.assertEqual(
            check(crate(middle="use crate::beside::Name;", beside="pub struct Name;")),
            ["middle.rs uses beside.rs (Name): beside stands beside middle"])

    def test_a_name_that_is_handed_on_counts_where_it_is_defined(self):
        files = crate(bottom="use crate::middle::Name;", middle="pub use super::top::Name;", top="pub struct Name;")
        self.assertIn(UPWARD[0], check(files))
        files = crate(bottom="use crate::middle::Name;", middle="pub use super::top::*;", top="pub struct Name;")
        self.assertIn(UPWARD[0], check(files))

    def test_a_module_itself_has_no_name(self):
        self.assertEqual(
            check(crate(bottom="use crate::top::{self};", top="pub struct Name;")),
            ["bottom.rs uses top.rs: top stands above bottom"])

    def test_names_that_are_handed_round_in_a_circle_end(self):
        # The compiler refuses this; the check must come to an end.
        files = crate(top="pub use crate::middle::Name;", middle="pub use crate::top::Name;")
        self.assertEqual(check(files), [])

    def test_modules_and_lines_that_are_not_there(self):
        files = crate()
        del files["middle.rs"]
        files["lib.rs"] = files["lib.rs"].replace("mod middle;", "mod new;\nmod lost;")
        files["new.rs"] = ""
        self.assertEqual(check(files), [
            "lib.rs: no file of module lost", "the table names middle, which does not exist", "new is not in the table"])


class Circles(unittest.TestCase):
    def test_two_files(self):
        files = crate(middle="mod a; mod b;") | {"middle/a.rs": "use super::b::B;", "middle/b.rs": "use super::a::A;"}
        arrows = "middle/a.rs -> middle/b.rs, middle/b.rs -> middle/a.rs"
        self.assertEqual(check(files), [f"circle of 2 files: {arrows}"])

    def test_a_file_and_its_own_mod_rs(self):
        files = crate(middle="mod a;\nuse a::A;\npub struct M;") | {"middle/a.rs": "use super::M;"}
        self.assertEqual(check(files), [])
        files = crate(middle="mod a;\nuse a::b::B;\npub struct M;") | {
            "middle/a/mod.rs": "pub mod b;", "middle/a/b.rs": "use super::super::M;"}
        self.assertEqual(check(files), [])

    def test_the_root_of_the_crate_is_no_facade(self):
        files = crate(bottom="use crate::Own;")
        files["lib.rs"] += "use bottom::X;\npub struct Own;"
        self.assertIn("circle of 2 files: bottom.rs -> lib.rs, lib.rs -> bottom.rs", check(files))

    def test_three_files_through_a_facade(self):
        files = crate(middle="pub mod a;") | {
            "middle/a/mod.rs": "mod one; pub mod two;\npub use one::One;",
            "middle/a/one.rs": "use super::super::other::X;",
            "middle/other.rs": "use super::a::One;",
        }
        files["middle.rs"] += "mod other;"
        self.assertEqual(
            [line for line in check(files) if "circle" in line],
            ["circle of 2 files: middle/a/one.rs -> middle/other.rs, middle/other.rs -> middle/a/one.rs"])


class Rules(unittest.TestCase):
    def test_only(self):
        table = TABLE.replace("bottom\n```", "bottom\ntop/child only bottom\n```")
        files = crate(top="mod child; mod friend;") | {
            "top/child.rs": "use crate::bottom::X; use super::friend::F;", "top/friend.rs": ""}
        self.assertEqual(
            check(files, table), ["top/child.rs uses top/friend.rs (F): top/child uses only bottom"])
        files["top/child.rs"] = "mod inner; use inner::I; use crate::bottom::X;"
        files["top/child/inner.rs"] = "use crate::bottom::X;"
        self.assertEqual(check(files, table), [])

    def test_names(self):
        table = TABLE.replace("bottom\n```", "bottom\ntop of bottom only Facts\n```")
        self.assertEqual(check(crate(top="use crate::bottom::Facts;"), table), [])
        self.assertEqual(
            check(crate(top="use crate::bottom::{Facts, probe};"), table),
            ["top.rs uses bottom.rs (Facts, probe): top uses only Facts of bottom"])

    def test_exceptions_need_a_reason_and_a_use(self):
        files = crate(bottom="use crate::top::Name;", top="use crate::bottom::B; pub struct Name;")
        self.assertEqual(len(check(files)), 2)
        self.assertEqual(check(files, TABLE.replace("bottom\n```", "bottom\nexcept bottom -> top: why\n```")), [])
        self.assertIn(
            "small: not a line of a table: except bottom -> top:",
            check(files, TABLE.replace("bottom\n```", "bottom\nexcept bottom -> top:\n```")))
        self.assertIn(
            "the exception bottom -> top is not needed",
            check(crate(), TABLE.replace("bottom\n```", "bottom\nexcept bottom -> top: why\n```")))

    def test_a_rule_names_what_is_not_there(self):
        self.assertEqual(
            check(crate(), TABLE.replace("bottom\n```", "bottom\nlost only bottom\n```")),
            ["a rule names lost, which does not exist"])


class Programs(unittest.TestCase):
    def test_a_program_beside_a_library(self):
        files = crate(top="use crate::run;")
        files["main.rs"] = "mod part;\nuse small::bottom::B;\npub fn run() {}"
        files["part.rs"] = "use crate::run; use small::top::T;"
        files["lib.rs"] += "pub fn run() {}"
        table = TABLE.replace("lib\n", "main\npart\nlib\n")
        self.assertEqual(check(files, table), [
            "part.rs uses main.rs (run): main stands above part",
            "top.rs uses lib.rs (run): lib stands above top"])

    def test_a_path_in_an_attribute(self):
        files = crate(bottom='#[cfg_attr(x, path = "one.rs")]\n#[cfg_attr(not(x), path = "two.rs")]\nmod entry;')
        files |= {"one.rs": "use crate::top::A;", "two.rs": "use crate::top::B;"}
        table = TABLE.replace("bottom\n", "bottom one two\n")
        self.assertEqual(check(files, table), [
            "one.rs uses top.rs (A): top stands above one", "two.rs uses top.rs (B): top stands above two"])


class Crates(unittest.TestCase):
    def test_dependencies(self):
        def package(name, *others):
            return {"name": name, "dependencies": [{"name": other} for other in others]}

        metadata = {"packages": [package("a", "b", "serde"), package("b"), package("c", "b"), package("d", "d")]}
        _, crates, _ = layers.read_tables("```text\ncrates\na: -\nb: -\nc: a b\nlost: -\n```\n")
        self.assertEqual(list(layers.crate_violations(metadata, crates)), [
            "d is not in the block `crates`", "the block `crates` names lost, which does not exist",
            "a depends on b", "c does not depend on a, as the block `crates` says"])


if __name__ == "__main__":
    unittest.main()
