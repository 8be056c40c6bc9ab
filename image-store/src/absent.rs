//! JSON as Go's programs write and read it: null and empty values mean that a value is absent, and a list of one word may be
//! written as the word. No I/O.

use serde::{Deserialize, Deserializer};

/// A value; the default for null. With `#[serde(default)]` it may be missing, too.
pub(crate) fn or_default<'de, D, T>(input: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// A text; absent if it is empty.
pub(crate) fn text<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(input)?.filter(|text| !text.is_empty()))
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
enum Words {
    One(String),
    Many(Vec<Option<String>>),
}

/// The words of a command line: a list, or a single word.
pub(crate) fn words<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<String>>, D::Error> {
    Ok(Option::deserialize(input)?.map(|words| match words {
        Words::One(word) => vec![word],
        Words::Many(list) => list.into_iter().map(Option::unwrap_or_default).collect(),
    }))
}

/// Like [`words`]; a single empty word, with which Docker removes an entry point, means that there is none.
pub(crate) fn entry_point<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<String>>, D::Error> {
    Ok(words(input)?.filter(|words| words.as_slice() != [""]))
}
