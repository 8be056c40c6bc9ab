//! Command lines in the grammar of Go's `flag` package and urfave/cli, which callers of runc and of containerd's shims write: `-flag`,
//! `--flag`, `--flag=value`, `--flag value`, `--bool=false`.
//!
//! A command's flags are a table. This crate does not know any command, and it prints nothing.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::ffi::OsString;

/// The kind of value that a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// None, or `=true` and `=false`.
    Bool,
    /// Any text.
    Text,
    /// An integer, with Go's prefixes.
    Integer,
    /// Any text; the flag may be repeated.
    Texts,
    /// A decimal integer; the flag may be repeated.
    Integers,
}

/// One flag of a table.
#[derive(Debug)]
pub struct Flag {
    /// The long name first.
    pub names: &'static [&'static str],
    /// The kind of its value.
    pub kind: Kind,
    /// One line for the help.
    pub help: &'static str,
    /// The default as the help shows it; empty for none.
    pub default: &'static str,
    /// Accepted, but not in the help.
    pub hidden: bool,
    /// Not a flag of the program whose command line is followed.
    pub own: bool,
}

impl Flag {
    const fn new(names: &'static [&'static str], kind: Kind, help: &'static str) -> Self {
        Flag { names, kind, help, default: "", hidden: false, own: false }
    }

    /// A flag without a value.
    pub const fn bool(names: &'static [&'static str], help: &'static str) -> Self {
        Flag::new(names, Kind::Bool, help)
    }

    /// A flag with a text.
    pub const fn text(names: &'static [&'static str], help: &'static str) -> Self {
        Flag::new(names, Kind::Text, help)
    }

    /// A flag with an integer.
    pub const fn integer(names: &'static [&'static str], help: &'static str) -> Self {
        Flag { default: "0", ..Flag::new(names, Kind::Integer, help) }
    }

    /// A flag with a text, to be repeated.
    pub const fn texts(names: &'static [&'static str], help: &'static str) -> Self {
        Flag::new(names, Kind::Texts, help)
    }

    /// A flag with an integer, to be repeated.
    pub const fn integers(names: &'static [&'static str], help: &'static str) -> Self {
        Flag::new(names, Kind::Integers, help)
    }

    /// Shows a default in the help.
    #[must_use]
    pub const fn default(self, default: &'static str) -> Self {
        Flag { default, ..self }
    }

    /// Keeps the flag out of the help.
    #[must_use]
    pub const fn hidden(self) -> Self {
        Flag { hidden: true, ..self }
    }

    /// Marks a flag that the program whose command line is followed does not have.
    #[must_use]
    pub const fn own(self) -> Self {
        Flag { own: true, ..self }
    }
}

/// Where flags may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Before the first positional argument only: the rest is not this command's to read (`exec`, `ps`, the global flags).
    First,
    /// Anywhere before a `--`.
    Anywhere,
}

/// An error in a command line. The texts are Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Usage {
    /// Not a flag of the table.
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    /// An argument like `---x` or `-=x`.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// The last argument is a flag that needs a value.
    #[error("flag needs an argument: -{0}")]
    Missing(String),
    /// A flag without a value has one that is not a boolean.
    #[error("invalid boolean value {value:?} for -{flag}: parse error")]
    Bool {
        /// The flag as it was given.
        flag: String,
        /// Its value.
        value: String,
    },
    /// The value is not an integer.
    #[error("invalid value {value:?} for flag -{flag}: parse error")]
    Integer {
        /// The flag as it was given.
        flag: String,
        /// Its value.
        value: String,
    },
    /// The value is not a decimal integer.
    #[error("invalid value {value:?} for flag -{flag}: strconv.ParseInt: parsing {value:?}: invalid syntax")]
    Integers {
        /// The flag as it was given.
        flag: String,
        /// Its value.
        value: String,
    },
    /// An argument is not UTF-8.
    #[error("argument {index}, {argument:?}: not valid UTF-8")]
    Encoding {
        /// Its place in the command line; the program's name has 0.
        index: usize,
        /// The argument.
        argument: OsString,
    },
}

/// The arguments of a process as text, its name first.
pub fn texts(arguments: impl IntoIterator<Item = OsString>) -> Result<Vec<String>, Usage> {
    let text = |(index, argument): (usize, OsString)| {
        argument.into_string().map_err(|argument| Usage::Encoding { index, argument })
    };
    arguments.into_iter().enumerate().map(text).collect()
}

/// A parsed command line.
#[derive(Debug, Default)]
pub struct Parsed {
    /// (a flag's long name, its value), in order.
    values: Vec<(&'static str, String)>,
    /// The arguments that are not flags.
    pub positional: Vec<String>,
}

impl Parsed {
    /// The value of a flag, the last one given; empty if it was not given.
    pub fn text(&self, name: &str) -> &str {
        self.values.iter().rev().find(|(n, _)| *n == name).map_or("", |(_, v)| v)
    }

    /// All values of a flag, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// Whether the flag was given.
    pub fn is_set(&self, name: &str) -> bool {
        self.values.iter().any(|(n, _)| *n == name)
    }

    /// Whether a flag without a value was given, and not as `=false`.
    pub fn is(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// The value of an integer flag; 0 if it was not given.
    pub fn integer(&self, name: &str) -> i64 {
        parse_integer(self.text(name)).unwrap_or(0)
    }

    /// A positional argument; empty if there are fewer.
    pub fn positional(&self, index: usize) -> &str {
        self.positional.get(index).map_or("", String::as_str)
    }
}

/// Parses `args`, which do not have the program's name, by the flags of all `tables`.
pub fn parse(tables: &[&'static [Flag]], args: &[String], order: Order) -> Result<Parsed, Usage> {
    let mut parsed = Parsed::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            parsed.positional.extend(rest.cloned());
            break;
        }
        let dashed = arg.len() > 1 && arg.starts_with('-');
        let name = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).unwrap_or(arg);
        let (name, value) = name.split_once('=').map_or((name, None), |(n, v)| (n, Some(v.to_owned())));
        let mut flags = tables.iter().copied().flatten();
        match flags.find(|flag| dashed && flag.names.contains(&name)) {
            Some(flag) => {
                let value = value_of(flag, name, value, &mut rest)?;
                parsed.values.push((flag.names[0], value));
            }
            None if !dashed || !parsed.positional.is_empty() => {
                parsed.positional.push(arg.clone());
                if order == Order::First {
                    parsed.positional.extend(rest.cloned());
                    break;
                }
            }
            None if name.is_empty() || name.starts_with('-') => return Err(Usage::Syntax(arg.clone())),
            None => return Err(Usage::Unknown(name.to_owned())),
        }
    }
    Ok(parsed)
}

fn value_of<'a>(
    flag: &Flag,
    name: &str,
    value: Option<String>,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<String, Usage> {
    if flag.kind == Kind::Bool {
        let value = value.unwrap_or_else(|| "true".to_owned());
        return match value.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok("true".to_owned()),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok("false".to_owned()),
            _ => Err(Usage::Bool { flag: name.to_owned(), value }),
        };
    }
    let value = value.or_else(|| rest.next().cloned()).ok_or_else(|| Usage::Missing(name.to_owned()))?;
    match flag.kind {
        Kind::Integer if parse_integer(&value).is_none() => {
            Err(Usage::Integer { flag: name.to_owned(), value })
        }
        Kind::Integers if value.parse::<i64>().is_err() => {
            Err(Usage::Integers { flag: name.to_owned(), value })
        }
        _ => Ok(value),
    }
}

/// An integer with Go's prefixes: `0x`, `0o` or a leading `0`, `0b`.
fn parse_integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_str() {
        d if d.starts_with("0x") => (16, &d[2..]),
        d if d.starts_with("0o") => (8, &d[2..]),
        d if d.starts_with("0b") => (2, &d[2..]),
        d if d.len() > 1 && d.starts_with('0') => (8, &d[1..]),
        d => (10, d),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -value } else { value }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag::text(&["bundle", "b"], "where"),
        Flag::bool(&["detach", "d"], "go"),
        Flag::texts(&["env", "e"], "var"),
        Flag::integer(&["preserve-fds"], "count"),
        Flag::integers(&["gid", "g"], "group"),
    ];

    fn read(args: &[&str], order: Order) -> Result<Parsed, Usage> {
        parse(&[FLAGS], &args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>(), order)
    }

    #[test]
    fn one_or_two_dashes_and_the_value_after_an_equals_sign_or_as_the_next_argument() {
        for args in [
            ["-bundle", "x", "id"].as_slice(),
            &["--bundle", "x", "id"],
            &["--bundle=x", "id"],
            &["-b=x", "id"],
            &["-b", "x", "id"],
            &["-b", "y", "-b", "x", "id"],
            &["id", "-b", "x"],
            &["-b", "x", "--", "id"],
        ] {
            let parsed = read(args, Order::Anywhere).unwrap();
            assert_eq!(
                (parsed.text("bundle"), parsed.positional.as_slice()),
                ("x", &["id".to_owned()][..]),
                "{args:?}"
            );
        }
        assert_eq!(read(&["-b", "-d", "id"], Order::Anywhere).unwrap().text("bundle"), "-d");
        assert_eq!(read(&["-b=", "id"], Order::Anywhere).unwrap().text("bundle"), "");
        assert_eq!(read(&["-b=a=b", "id"], Order::Anywhere).unwrap().text("bundle"), "a=b");
    }

    #[test]
    fn a_bool_takes_a_value_after_an_equals_sign_only() {
        for (args, value) in [
            (["-d", "id"], true),
            (["--detach", "id"], true),
            (["--detach=true", "id"], true),
            (["-d=1", "id"], true),
            (["-d=T", "id"], true),
            (["-d=false", "id"], false),
            (["-d=0", "id"], false),
        ] {
            let parsed = read(&args, Order::Anywhere).unwrap();
            assert_eq!((parsed.is("detach"), parsed.positional.len()), (value, 1), "{args:?}");
        }
        assert_eq!(read(&["-d", "true"], Order::Anywhere).unwrap().positional, ["true"]);
        assert!(!read(&["id"], Order::Anywhere).unwrap().is_set("detach"));
    }

    #[test]
    fn arguments_after_the_first_positional_are_not_read_with_order_first() {
        let parsed = read(&["-d", "id", "ls", "-d", "--", "-b"], Order::First).unwrap();
        assert_eq!(parsed.positional, ["id", "ls", "-d", "--", "-b"]);
        assert_eq!(read(&["--", "-d"], Order::First).unwrap().positional, ["-d"]);
        let parsed = read(&["id", "-d", "-9", "--", "-d"], Order::Anywhere).unwrap();
        assert_eq!(
            (parsed.positional.as_slice(), parsed.is("detach")),
            (&["id", "-9", "-d"].map(str::to_owned)[..], true)
        );
        assert_eq!(read(&["-", "x"], Order::Anywhere).unwrap().positional, ["-", "x"]);
    }

    #[test]
    fn lists_keep_their_order_and_commas() {
        let parsed = read(&["-e", "A=1,2", "--env=B=", "-g", "5", "-g=-1", "id"], Order::Anywhere).unwrap();
        assert_eq!(parsed.all("env").collect::<Vec<_>>(), ["A=1,2", "B="]);
        assert_eq!(parsed.all("gid").collect::<Vec<_>>(), ["5", "-1"]);
    }

    #[test]
    fn integers_have_gos_prefixes() {
        for (text, value) in [
            ("0", 0),
            ("12", 12),
            ("-3", -3),
            ("+3", 3),
            ("0x10", 16),
            ("-0X10", -16),
            ("010", 8),
            ("0o17", 15),
            ("0b101", 5),
        ] {
            assert_eq!(
                read(&["--preserve-fds", text], Order::Anywhere).unwrap().integer("preserve-fds"),
                value,
                "{text}"
            );
        }
        assert_eq!(read(&["id"], Order::Anywhere).unwrap().integer("preserve-fds"), 0);
        for bad in ["", "x", "1x", "09", "--1", "0x", "0x-1", "9223372036854775808", "1.0", " 1"] {
            assert!(parse_integer(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn errors_have_gos_texts() {
        for (args, error) in [
            (["--nope", "id"].as_slice(), "flag provided but not defined: -nope"),
            (&["-x=1"], "flag provided but not defined: -x"),
            (&["-b"], "flag needs an argument: -b"),
            (&["--bundle"], "flag needs an argument: -bundle"),
            (&["---b", "x"], "bad flag syntax: ---b"),
            (&["-=b", "x"], "bad flag syntax: -=b"),
            (&["--detach=maybe"], "invalid boolean value \"maybe\" for -detach: parse error"),
            (&["--preserve-fds", "x"], "invalid value \"x\" for flag -preserve-fds: parse error"),
            (
                &["-g", "x"],
                "invalid value \"x\" for flag -g: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(read(args, Order::Anywhere).unwrap_err().to_string(), error, "{args:?}");
        }
    }

    #[test]
    fn an_argument_that_is_not_utf_8_is_named() {
        use std::os::unix::ffi::OsStringExt;
        assert_eq!(texts(["a".into(), "b".into()]).unwrap(), ["a", "b"]);
        let bad = texts(["a".into(), OsString::from_vec(vec![b'x', 0xff])]).unwrap_err();
        assert_eq!(bad.to_string(), "argument 1, \"x\\xFF\": not valid UTF-8");
    }

    #[test]
    fn the_flags_of_all_tables_are_known() {
        const MORE: &[Flag] = &[Flag::bool(&["help", "h"], "")];
        let args = ["-h".to_owned(), "-d".to_owned()];
        let parsed = parse(&[FLAGS, MORE], &args, Order::Anywhere).unwrap();
        assert!(parsed.is("help") && parsed.is("detach"));
        assert_eq!(parse(&[FLAGS], &args, Order::Anywhere).unwrap_err(), Usage::Unknown("h".to_owned()));
    }
}
