//! The public interface is what `public-api.txt` lists, so that no change of it goes unseen. `UPDATE=1` rewrites the list.
//!
//! The list is read off the sources: the lint `unreachable_pub` sees to it that what says `pub` there is public.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// One line for each public item: its attributes that matter, where it belongs, its signature.
fn items(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines().take_while(|line| !line.starts_with("mod tests"));
    let (mut owner, mut attributes) = (String::new(), String::new());
    while let Some(line) = lines.next() {
        let start = line.trim();
        if start.starts_with("#[") {
            if start.starts_with("#[derive") || start.starts_with("#[non_exhaustive") {
                attributes = format!("{attributes}{start} ");
            }
            continue;
        }
        if line.starts_with("impl") {
            owner = line.trim_end_matches(" {").to_owned();
        } else if line == "}" {
            owner.clear();
        } else if start.starts_with("pub ") && !start.starts_with("pub mod") {
            let mut item = start.to_owned();
            let balanced = |item: &str| item.matches('(').count() == item.matches(')').count();
            let whole = |item: &str| {
                item.starts_with("pub enum") && item.ends_with('}')
                    || !item.starts_with("pub enum")
                        && (item.ends_with(['{', ';']) || item.ends_with(',') && balanced(item))
            };
            while !whole(&item) {
                let next = lines.next().unwrap().trim();
                if !next.starts_with("//") {
                    item = format!("{item} {next}");
                }
            }
            if item.starts_with("pub struct") && item.ends_with('{') {
                owner = item.trim_end_matches(" {").trim_start_matches("pub ").to_owned();
            }
            let place = if owner.is_empty() || item.starts_with("pub struct") {
                String::new()
            } else {
                format!("{owner}: ")
            };
            let item = item.trim_end_matches([' ', '{', ';', ',']);
            found.push(format!("{attributes}{place}{item}"));
        }
        attributes.clear();
    }
    found
}

#[test]
fn the_public_interface_is_the_listed_one() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    sources(&home.join("src"), &mut paths);
    paths.sort();
    let mut now = String::new();
    for path in paths {
        let list = items(&fs::read_to_string(&path).unwrap());
        if !list.is_empty() {
            let name = path.strip_prefix(home).unwrap().display();
            now += &format!("{name}\n    {}\n", list.join("\n    "));
        }
    }
    let file = home.join("public-api.txt");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &now).unwrap();
    }
    let listed = fs::read_to_string(&file).unwrap_or_default();
    let differs = now.lines().zip(listed.lines()).find(|(a, b)| a != b);
    assert!(
        now == listed,
        "the public interface has changed: {differs:?}; if that is meant: UPDATE=1 cargo test -p libcontainer --test public_api"
    );
}

/// Everything of an engine's, imported by `*`: a name that both had could not be used below.
mod by_globs {
    use libcontainer::spec::*;
    use libcontainer::*;

    pub(super) type Crate<'a> = (
        (Bundle, CgroupMode, CgroupPaths, CheckpointOptions, Container, ContainerId, CreateOptions, Delete),
        (DeleteError, Error, ErrorKind, ExecOptions, ExecProcess, ExitStatus, Features, Host, IoEntry),
        (
            Listing,
            MemoryEvents,
            Object,
            OomWatch,
            Overlay,
            Plan,
            PreparedExec<'a>,
            Pressure,
            ProgramError,
            Rdma,
        ),
        (RestoreOptions, Runtime, Signal, Stage, Stall, Starting, State, Stats, Status, Stdio, Usage),
    );
    pub(super) type Specification = (Hooks, Linux, LinuxResources, Mount, Process, Root, Spec, User);
}

#[test]
fn the_names_of_the_crate_and_of_the_specification_can_be_imported_together() {
    assert!(size_of::<by_globs::Crate<'_>>() > 0 && size_of::<by_globs::Specification>() > 0);
    let all = std::any::type_name::<by_globs::Crate<'_>>();
    let exported = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let lists = exported.lines().filter(|line| line.starts_with("pub use "));
    let names = lists.flat_map(|line| line.split([' ', ',', ':', '{', '}', ';']));
    let types = names.filter(|name| name.starts_with(char::is_uppercase) && *name != "Result");
    for name in types {
        assert!(all.contains(&format!("::{name}")), "{name} is not in the list of this test");
    }
}

#[test]
fn the_program_in_the_readme_is_the_one_that_the_documentation_compiles() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(home.join("../README.md")).unwrap();
    let documentation =
        fs::read_to_string(home.join("src/lib.rs")).unwrap().replace("//! ", "").replace("//!", "");
    let programs = |text: &str, fence: &str| -> Vec<String> {
        text.split(fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    };
    let shown = programs(&readme, "```rust\n");
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[..], programs(&documentation, "```no_run\n")[..1]);
}
