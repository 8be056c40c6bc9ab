//! Makes the text of servers and files safe for messages: without credentials and control characters. No I/O.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::Error;

/// The error of malformed JSON. serde's message quotes the value, which may be a password.
pub(super) fn without_values(error: &serde_json::Error) -> Error {
    let place = format!("line {} column {}", error.line(), error.column());
    match error.classify() {
        serde_json::error::Category::Data => {
            Error::invalid(format!("value of an unexpected type at {place}"))
        }
        _ => Error::invalid(error.to_string()),
    }
}

/// The secrets in an `Authorization` header that a server may echo: the token, and the password in it.
pub(super) fn of_header(value: &str) -> Vec<String> {
    let (scheme, token) = value.split_once(' ').unwrap_or(("", value));
    let decoded = STANDARD.decode(token).ok().filter(|_| scheme == "Basic");
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let password =
        text.as_deref().and_then(|text| text.split_once(':')).map(|(_, password)| password.to_owned());
    std::iter::once(token.to_owned()).chain(password).collect()
}

/// Replaces secrets in a text by `***`, and escapes control and invisible characters.
pub(super) fn redact(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    // The longest first: one may be part of another.
    let mut secrets: Vec<&str> = secrets.iter().map(String::as_str).filter(|s| !s.is_empty()).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        text = text.replace(secret, "***");
    }
    let escape = |c: char| match c {
        '"' | '\'' | '\\' => c.to_string(),
        other => other.escape_debug().to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_control_characters_are_not_shown() {
        let basic = of_header("Basic dXNlcjpzZTpjcmV0");
        let bearer = of_header("Bearer a.b.c");
        let none = Vec::new();
        for (text, secrets, expected) in [
            ("no such thing: \"x\" \\ ä 漢", &none, "no such thing: \"x\" \\ ä 漢"),
            ("Authorization: Basic dXNlcjpzZTpjcmV0!", &basic, "Authorization: Basic ***!"),
            ("user:se:cret, se:cret", &basic, "user:***, ***"),
            ("a.b.c is wrong", &bearer, "*** is wrong"),
            ("\u{1b}[2J\u{9b}31m\r\n\0x", &none, "\\u{1b}[2J\\u{9b}31m\\r\\n\\0x"),
            ("\u{202e}evil", &none, "\\u{202e}evil"),
        ] {
            assert_eq!(redact(text, secrets), expected, "{text:?}");
        }
        assert_eq!(redact("said", &[String::new()]), "said");
        assert_eq!(redact("good-better", &["good".to_owned(), "good-better".to_owned()]), "***");
    }

    #[test]
    fn json_that_is_wrong_is_not_quoted() {
        for bad in [
            "\"SECRET\"",
            "5318008",
            "[\"SECRET\"]",
            "{\"SECRET",
            "{\"a\": SECRET}",
            "{\"a\":{\"SECRET\":1}}",
        ] {
            let error = serde_json::from_str::<std::collections::BTreeMap<String, u8>>(bad).unwrap_err();
            let said = without_values(&error).to_string();
            assert!(said.contains("line 1 column"), "{bad}: {said}");
            assert!(!said.contains("SECRET") && !said.contains("5318008"), "{bad}: {said}");
        }
    }
}
