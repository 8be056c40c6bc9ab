//! Command lines as Go's flag package and urfave/cli read them, which is what callers of runc write: `-flag`, `--flag`, `--flag=value`,
//! `--flag value`, `--bool=false`. The same tables give the help texts. This room knows no command and prints nothing.

use std::fmt::Write;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing, or `=true` and `=false`.
    Bool,
    Text,
    Integer,
    /// May be given many times.
    Texts,
    /// May be given many times.
    Integers,
}

/// One flag of a table.
#[derive(Debug)]
pub(crate) struct Flag {
    /// The long name first.
    pub(crate) names: &'static [&'static str],
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
    /// What the help shows as default; empty for nothing.
    pub(crate) default: &'static str,
    /// Accepted, but not in the help.
    pub(crate) hidden: bool,
}

impl Flag {
    const fn new(names: &'static [&'static str], kind: Kind, help: &'static str) -> Self {
        Flag { names, kind, help, default: "", hidden: false }
    }
    pub(crate) const fn bool(names: &'static [&'static str], help: &'static str) -> Self {
        Flag::new(names, Kind::Bool, help)
    }
    pub(crate) const fn text(names: &'static [&'static str], help: &'static str) -> Self {
        Flag::new(names, Kind::Text, help)
    }
    pub(crate) const fn integer(names: &'static [&'static str], help: &'static str) -> Self {
        Flag { default: "0", ..Flag::new(names, Kind::Integer, help) }
    }
    pub(crate) const fn texts(names: &'static [&'static str], help: &'static str) -> Self {
        Flag::new(names, Kind::Texts, help)
    }
    pub(crate) const fn integers(names: &'static [&'static str], help: &'static str) -> Self {
        Flag::new(names, Kind::Integers, help)
    }
    pub(crate) const fn default(self, default: &'static str) -> Self {
        Flag { default, ..self }
    }
    pub(crate) const fn hidden(self) -> Self {
        Flag { hidden: true, ..self }
    }
}

/// Every command has it.
const HELP: Flag = Flag::bool(&["help", "h"], "show help");

/// Where flags may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Before the first positional argument only: what follows belongs to someone else (`exec`, `ps`, the global flags).
    First,
    /// Anywhere before a `--`.
    Anywhere,
}

/// A parsed command line.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// (a flag's long name, its value), in order.
    values: Vec<(&'static str, String)>,
    pub(crate) positional: Vec<String>,
}

impl Parsed {
    /// The value of a flag, the last one given; empty when there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.values.iter().rev().find(|(n, _)| *n == name).map_or("", |(_, v)| v)
    }
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(n, _)| *n == name).map(|(_, v)| v.as_str())
    }
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.values.iter().any(|(n, _)| *n == name)
    }
    pub(crate) fn is(&self, name: &str) -> bool {
        self.text(name) == "true"
    }
    /// The value of an integer flag; 0 when it is not given.
    pub(crate) fn integer(&self, name: &str) -> i64 {
        parse_integer(self.text(name)).unwrap_or(0)
    }
    pub(crate) fn positional(&self, index: usize) -> &str {
        self.positional.get(index).map_or("", String::as_str)
    }
}

/// Parses `args` by a table. The error is the text that runc prints after `Incorrect Usage`.
pub(crate) fn parse(flags: &'static [Flag], args: &[String], order: Order) -> Result<Parsed, String> {
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
        let flag = dashed.then(|| find(flags, name)).flatten();
        match flag {
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
            None if name.is_empty() || name.starts_with('-') => {
                return Err(format!("bad flag syntax: {arg}"));
            }
            None => return Err(format!("flag provided but not defined: -{name}")),
        }
    }
    Ok(parsed)
}

fn find(flags: &'static [Flag], name: &str) -> Option<&'static Flag> {
    const WITH_HELP: &[Flag] = &[HELP];
    flags.iter().chain(WITH_HELP).find(|f| f.names.contains(&name))
}

fn value_of<'a>(
    flag: &Flag,
    name: &str,
    value: Option<String>,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<String, String> {
    if flag.kind == Kind::Bool {
        let value = value.as_deref().unwrap_or("true");
        return match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok("true".to_owned()),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok("false".to_owned()),
            _ => Err(format!("invalid boolean value {value:?} for -{name}: parse error")),
        };
    }
    let value = match value {
        Some(value) => value,
        None => rest.next().cloned().ok_or_else(|| format!("flag needs an argument: -{name}"))?,
    };
    match flag.kind {
        Kind::Integer if parse_integer(&value).is_none() => {
            Err(format!("invalid value {value:?} for flag -{name}: parse error"))
        }
        Kind::Integers if value.parse::<i64>().is_err() => Err(format!(
            "invalid value {value:?} for flag -{name}: strconv.ParseInt: parsing {value:?}: invalid syntax"
        )),
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

/// The flags of a table as help lines, names and texts in two columns.
pub(crate) fn describe_flags(flags: &[Flag], global: bool) -> String {
    const VERSION: Flag = Flag::bool(&["version", "v"], "print the version");
    let extra: &[Flag] = if global { &[HELP, VERSION] } else { &[] };
    let rows: Vec<(String, &Flag)> =
        flags.iter().chain(extra).filter(|f| !f.hidden).map(|f| (left(f), f)).collect();
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0) + 2;
    let mut text = String::new();
    for (left, flag) in &rows {
        let _ = write!(text, "   {left:width$}{}", flag.help);
        let _ = match (flag.kind, flag.default) {
            (_, "") => Ok(()),
            (Kind::Text, default) => write!(text, " (default: \"{default}\")"),
            (_, default) => write!(text, " (default: {default})"),
        };
        text.push('\n');
    }
    text
}

fn left(flag: &Flag) -> String {
    let value = if flag.kind == Kind::Bool { "" } else { " value" };
    let names =
        flag.names.iter().map(|name| format!("{}{name}{value}", if name.len() == 1 { "-" } else { "--" }));
    names.collect::<Vec<_>>().join(", ")
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

    fn read(args: &[&str], order: Order) -> Result<Parsed, String> {
        parse(FLAGS, &args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>(), order)
    }

    #[test]
    fn one_or_two_dashes_and_a_value_after_an_equal_sign_or_as_the_next_word() {
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
    fn a_bool_takes_a_value_by_equal_sign_only() {
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
    fn what_follows_the_first_positional_is_left_alone_where_it_belongs_to_someone_else() {
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
    fn errors_have_gos_words() {
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
            assert_eq!(read(args, Order::Anywhere).unwrap_err(), error, "{args:?}");
        }
    }

    #[test]
    fn every_command_line_may_ask_for_help() {
        for args in [["-h"].as_slice(), &["--help"], &["id", "-h"], &["-help", "-b", "x"]] {
            assert!(read(args, Order::Anywhere).unwrap().is("help"), "{args:?}");
        }
        assert!(!read(&["id", "-h"], Order::First).unwrap().is("help"));
    }

    #[test]
    fn help_has_two_aligned_columns_and_hides_what_is_hidden() {
        const SHOWN: &[Flag] = &[
            Flag::text(&["format", "f"], "which").default("table"),
            Flag::bool(&["quiet", "q"], "ids"),
            Flag::integer(&["n"], "count"),
            Flag::text(&["old"], "gone").hidden(),
        ];
        let expected = "   --format value, -f value  which (default: \"table\")\n   --quiet, -q               ids\n   -n value                  count (default: 0)\n";
        assert_eq!(describe_flags(SHOWN, false), expected);
    }
}
