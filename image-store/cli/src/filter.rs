//! `--filter KEY=VALUE`. A command's keys are in its table, and are checked when the command line is parsed.

use std::collections::BTreeMap;

use image_store::ErrorKind;
use regex_lite::Regex;

use crate::cli::Args;
use crate::failure::{Failure, Result};

/// The filters of a command, each with its key and its parsed value.
#[derive(Debug)]
pub(crate) struct Filters<T>(Vec<(String, T)>);

/// Keys whose values must all match. Of the values of any other key one is enough, as in Docker.
const EVERY: &[&str] = &["label", "label!", "before", "since"];

impl<T> Filters<T> {
    pub(crate) fn parse(args: &Args, parse: impl Fn(&str, &str) -> Result<T>) -> Result<Self> {
        let pairs = args.all("filter").filter_map(|text| text.split_once('='));
        let parsed = pairs.map(|(key, value)| Ok((key.to_owned(), parse(key, value)?)));
        parsed.collect::<Result<_>>().map(Self)
    }

    /// The values of one key.
    pub(crate) fn of(&self, wanted: &str) -> impl Iterator<Item = &T> {
        self.0.iter().filter(move |(key, _)| key == wanted).map(|(_, value)| value)
    }

    /// Whether every key matches.
    pub(crate) fn fit(&self, fits: impl Fn(&T) -> bool) -> bool {
        let one = |key: &str| !EVERY.contains(&key) && self.of(key).any(&fits);
        self.0.iter().all(|(key, value)| fits(value) || one(key))
    }
}

/// Whether the labels include `NAME` or `NAME=VALUE`.
pub(crate) fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    let (name, value) = wanted.split_once('=').map_or((wanted, None), |(name, value)| (name, Some(value)));
    labels.get(name).is_some_and(|own| value.is_none_or(|value| value == own))
}

/// The value of a boolean key.
pub(crate) fn boolean(key: &str, value: &str) -> Result<bool> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(refused(key, value, "true or false")),
    }
}

/// The error for a value that its key does not accept.
pub(crate) fn refused(key: &str, value: &str, wanted: &str) -> Failure {
    Failure::new(ErrorKind::Invalid, format!("invalid filter '{key}={value}': must be {wanted}"))
}

/// A regular expression that matches any part of a name, as in Docker.
pub(crate) fn pattern(key: &str, value: &str) -> Result<Regex> {
    Regex::new(value).map_err(|e| refused(key, value, &format!("a regular expression: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_of_a_key_suffices_but_labels_must_all_fit() {
        for (given, fits) in [
            (&[][..], true),
            (&[("status", true)][..], true),
            (&[("status", false), ("status", true)][..], true),
            (&[("status", false), ("name", true)][..], false),
            (&[("label", false), ("label", true)][..], false),
            (&[("label", true), ("name", false), ("name", true)][..], true),
        ] {
            let filters = Filters(given.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect());
            assert_eq!(filters.fit(|value| *value), fits, "{given:?}");
        }
    }

    #[test]
    fn labels_are_found_by_name_or_by_name_and_value() {
        let labels =
            BTreeMap::from([("a.b".to_owned(), "c=d".to_owned()), ("empty".to_owned(), String::new())]);
        for (wanted, there) in [
            ("a.b", true),
            ("a.b=c=d", true),
            ("a.b=c", false),
            ("a", false),
            ("empty=", true),
            ("empty", true),
        ] {
            assert_eq!(has_label(&labels, wanted), there, "{wanted}");
        }
    }

    #[test]
    fn what_is_neither_true_nor_false_is_refused_with_its_key() {
        assert!(boolean("dangling", "1").unwrap() && !boolean("dangling", "false").unwrap());
        let error = boolean("dangling", "perhaps").unwrap_err().to_string();
        assert!(error.contains("invalid filter 'dangling=perhaps': must be true or false"), "{error}");
    }
}
