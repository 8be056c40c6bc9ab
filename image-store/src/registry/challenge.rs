//! The `WWW-Authenticate` header (RFC 9110, 11.6.1): one or several challenges, with commas inside quotes. No I/O.

/// A way to authenticate that a registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with each request (RFC 7617).
    Basic,
    /// A token from a token server (RFC 6750).
    Bearer { realm: String, service: Option<String>, scope: Option<String>, error: Option<String> },
}

/// The known challenges of a header's value, in order.
pub(super) fn parse(value: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = value.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', ',', '\t']).unwrap_or(rest.len());
        let scheme = &rest[..end];
        let (parameters, after) = parameters(&rest[end..]);
        rest = after.trim_start_matches([' ', ',', '\t']);
        let named = |key: &str| parameters.iter().find(|(k, _)| k.eq_ignore_ascii_case(key));
        // An empty value is absent.
        let get = |key: &str| named(key).map(|(_, value)| value.clone()).filter(|value| !value.is_empty());
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if let Some(realm) = get("realm").filter(|_| scheme.eq_ignore_ascii_case("bearer")) {
            let (service, scope, error) = (get("service"), get("scope"), get("error"));
            challenges.push(Challenge::Bearer { realm, service, scope, error });
        }
    }
    challenges
}

/// Parses `key=value` and `key="quoted value"` up to the next scheme, which has no `=` after it.
fn parameters(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        let start = rest.trim_start_matches([' ', ',', '\t']);
        let end = start
            .find(|c: char| !(c.is_ascii_alphanumeric() || "_-!#$%&'*+.^`|~".contains(c)))
            .unwrap_or(start.len());
        let (key, after) = start.split_at(end);
        let Some(value) = after.trim_start().strip_prefix('=').filter(|_| !key.is_empty()) else {
            // A scheme, or malformed: skip at least one character then.
            let broken = key.is_empty() && !start.is_empty();
            let skip = start.chars().next().map_or(0, char::len_utf8);
            return (found, if broken { &start[skip..] } else { start });
        };
        let value = value.trim_start();
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find([',', ' ', '\t']).unwrap_or(value.len());
                (value[..end].to_owned(), &value[end..])
            }
        };
        found.push((key.to_owned(), value));
        rest = after;
    }
}

fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.into(), service: owned(service), scope: owned(scope), error: None }
    }

    #[test]
    fn challenges_of_real_registries_parse() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push""#;
        assert_eq!(
            parse(hub),
            [bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:library/alpine:pull,push")
            )]
        );
        assert_eq!(parse(r#"Basic realm="Registry""#), [Challenge::Basic]);
        assert_eq!(
            parse(r#"basic realm=x, BEARER realm="https://a\"b", service=s, Negotiate abc=="#),
            [Challenge::Basic, bearer("https://a\"b", Some("s"), None)]
        );
        assert_eq!(parse(r#"Bearer realm="r" , Basic"#), [bearer("r", None, None), Challenge::Basic]);
        assert_eq!(parse(r#"Bearer realm="r",service="",scope="""#), [bearer("r", None, None)]);
        assert_eq!(parse(r#"Bearer realm="", Basic"#), [Challenge::Basic]);
    }

    #[test]
    fn nonsense_yields_nothing_and_ends() {
        for text in [
            "",
            ",,,",
            "Bearer",
            "Bearer realm",
            "=",
            "\"",
            "Bearer =x",
            "Bearer realm=\"unterminated",
            "ü ü=ü",
        ] {
            assert!(parse(text).len() <= 1, "{text}");
        }
        let mut state = 5_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(
                    ["Bearer", " ", ",", "=", "\"", "\\", "realm", "ü", "x"]
                        [usize::try_from(state >> 33).unwrap() % 9],
                );
            }
            let _ = parse(&text);
        }
    }
}
