//! Tables of command lines and their meaning.
use super::*;

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split_whitespace().map(|w| w.as_bytes().to_vec()).collect()
}

fn ask<T>(line: &str, env: &[(&str, &str)], then: impl Fn(Result<Request, Bad<'_>>) -> T) -> T {
    let words = words(line);
    let lookup = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_bytes());
    then(read(|n| words.get(n).map(Vec::as_slice), lookup))
}

fn run(line: &str, env: &[(&str, &str)]) -> Options {
    ask(line, env, |request| match request {
        Ok(Request::Run(options)) => options,
        other => panic!("{line}: {other:?}"),
    })
}

#[test]
fn the_program_is_the_first_argument_that_is_not_an_option() {
    for (line, want) in [
        ("knarr-init sh", 1),
        ("knarr-init -- sh -c", 2),
        ("docker-init -- sh", 2),
        ("/run/podman-init -- top", 2),
        ("knarr-init -s -g sh -e 5", 3),
        ("knarr-init -sgv sh", 2),
        ("knarr-init -e 5 -e6 sh", 4),
        ("knarr-init -vvvp TERM sh", 3),
        ("knarr-init --rewrite 1:2 sh", 3),
        ("knarr-init --rewrite=1:2 --single-child --verbose sh", 4),
        ("knarr-init - x", 1),
        ("knarr-init -g -- -x", 3),
        ("knarr-init -- --", 2),
    ] {
        assert_eq!(run(line, &[]).program, want, "{line}");
    }
}

#[test]
fn options_of_tini_are_understood() {
    let o = run("knarr-init -s -w -v -v -p SIGKILL -e 143 -e 7 -g sh", &[]);
    assert!(o.subreaper && o.warn && o.zero.has(143) && o.zero.has(7) && !o.zero.has(0));
    assert_eq!((o.verbosity, o.parent_death, o.target), (3, 9, Target::Group));
    let env = [("TINI_SUBREAPER", ""), ("TINI_VERBOSITY", "2"), ("TINI_KILL_PROCESS_GROUP", "")];
    let o = run("knarr-init sh", &env);
    assert_eq!((o.subreaper, o.verbosity, o.target), (true, 2, Target::Group));
}

#[test]
fn options_of_dumb_init_are_understood() {
    let o = run("knarr-init -r 15:3 --rewrite=HUP:0 sh", &[]);
    assert_eq!((o.rewrite.of(15), o.rewrite.of(1), o.rewrite.of(20)), (Some(3), None, Some(20)));
    let o = run("/usr/bin/dumb-init -r 20:0 sh", &[]);
    assert_eq!((o.target, o.rewrite.of(20), o.rewrite.of(21)), (Target::Session, None, Some(19)));
    assert_eq!(run("dumb-init -c sh", &[]).target, Target::Child);
    assert_eq!(run("dumb-init sh", &[("DUMB_INIT_SETSID", "0")]).target, Target::Child);
    assert_eq!(run("knarr-init sh", &[("DUMB_INIT_SETSID", "1")]).target, Target::Session);
    assert_eq!(run("knarr-init sh", &[("DUMB_INIT_DEBUG", "1")]).verbosity, 3);
}

#[test]
fn help_and_version_are_printed_with_any_other_options() {
    for (line, want) in [
        ("knarr-init --version", crate::messages::VERSION),
        ("knarr-init -V", crate::messages::VERSION),
        ("knarr-init -h", crate::messages::HELP),
        ("knarr-init --help sh", crate::messages::HELP),
        ("knarr-init -l", crate::messages::LICENCE),
        ("knarr-init -L", crate::messages::LICENCE),
    ] {
        ask(line, &[], |request| assert_eq!(request, Ok(Request::Say(want)), "{line}"));
    }
    ask("knarr-init -P", &[], |request| assert!(matches!(request, Ok(Request::Pause(_)))));
}

#[test]
fn errors_name_the_option_and_the_argument() {
    for (line, option, why, word) in [
        ("knarr-init", 0, "no program given: see -h", ""),
        ("knarr-init -g", 0, "no program given: see -h", ""),
        ("knarr-init --", 0, "no program given: see -h", ""),
        ("knarr-init -P sh", b'P', "cannot be used with a program", ""),
        ("knarr-init -e 256 sh", b'e', "must be an exit status from 0 to 255", "256"),
        ("knarr-init -e -1 sh", b'e', "must be an exit status from 0 to 255", "-1"),
        ("knarr-init -e", b'e', "requires a value", ""),
        ("knarr-init -p SIGFOO sh", b'p', "must be a signal", "SIGFOO"),
        ("knarr-init -k 0 sh", b'k', "must be a number of seconds from 1 to 86400", "0"),
        ("knarr-init -r 15 sh", b'r', "must be FROM:TO, two signals", "15"),
        ("knarr-init -r 15:99 sh", b'r', "must be FROM:TO, two signals", "15:99"),
        ("knarr-init -r 0:15 sh", b'r', "must be FROM:TO, two signals", "0:15"),
        ("knarr-init --rewrite", b'r', "requires a value", ""),
        ("knarr-init --help=x sh", b'h', "takes no value", "x"),
        ("knarr-init --nope sh", 0, "unknown option", "--nope"),
        ("knarr-init -gx sh", b'x', "unknown option", "gx"),
    ] {
        let want = Bad { option, why, word: word.as_bytes() };
        ask(line, &[], |request| assert_eq!(request, Err(want), "{line}"));
    }
}

#[test]
fn a_broken_environment_changes_nothing() {
    assert_eq!(
        run("knarr-init sh", &[("TINI_VERBOSITY", "much"), ("DUMB_INIT_DEBUG", "0")]),
        run("knarr-init sh", &[])
    );
    assert_eq!(run("knarr-init -vvvv sh", &[("TINI_VERBOSITY", "99")]).verbosity, 3);
}
