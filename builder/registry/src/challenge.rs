//! `WWW-Authenticate`: what a registry wants before it answers.
//!
//! Invariant: parsing never fails; what is not understood is no challenge. The `scope` that a registry names is not
//! used: we know ourselves what a request needs, and a mount needs more than the registry says.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// One understood challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// URL of the token service, as sent.
        realm: String,
        /// Name of the service, to be passed on.
        service: Option<String>,
    },
}

/// The strongest challenge in the headers: bearer before basic.
pub(crate) fn parse(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for header in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = header.to_str() else { continue };
        for challenge in split(text) {
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = challenge.get("realm") {
                    return Some(Challenge::Bearer {
                        realm,
                        service: challenge.get("service"),
                    });
                }
            } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

struct Raw<'a> {
    scheme: &'a str,
    parameters: Vec<(&'a str, String)>,
}

impl Raw<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let found = self.parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// Splits `Scheme a="b", c=d, Scheme2 …` into its challenges.
fn split(text: &str) -> Vec<Raw<'_>> {
    let mut challenges: Vec<Raw<'_>> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c| !is_token(c)).unwrap_or(rest.len());
        if end == 0 {
            return challenges;
        }
        let (word, tail) = rest.split_at(end);
        let after = tail.trim_start_matches([' ', '\t']);
        if let (Some(value), Some(current)) = (after.strip_prefix('='), challenges.last_mut()) {
            let (value, tail) = value_of(value.trim_start_matches([' ', '\t']));
            current.parameters.push((word, value));
            rest = tail;
        } else {
            challenges.push(Raw {
                scheme: word,
                parameters: Vec::new(),
            });
            rest = after;
        }
    }
}

/// A quoted string with its escapes resolved, or a bare word up to the next comma or space.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[index + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Option<Challenge> {
        parse(&HeaderMap::from_iter([(WWW_AUTHENTICATE, text.parse().unwrap())]))
    }

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
        }
    }

    #[test]
    fn challenges_of_real_registries() {
        let table = [
            (r#"Basic realm="Registry Realm""#, Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                Some(bearer("https://auth.docker.io/token", Some("registry.docker.io"))),
            ),
            (
                r#"bearer realm = "https://x/t" , service=plain"#,
                Some(bearer("https://x/t", Some("plain"))),
            ),
            (r#"Bearer realm="https://x/a\"b\\c""#, Some(bearer(r#"https://x/a"b\c"#, None))),
            (
                r#"Basic realm="x, Bearer realm=y", Bearer realm="https://x/t""#,
                Some(bearer("https://x/t", None)),
            ),
            (r#"Bearer realm="https://x/t", Basic realm="y""#, Some(bearer("https://x/t", None))),
            (r#"Negotiate, Basic realm="y""#, Some(Challenge::Basic)),
            ("Bearer", None),
            (r#"Bearer realm="""#, None),
            (r#"Bearer realm="unterminated"#, Some(bearer("unterminated", None))),
            ("", None),
            ("=,=,\"", None),
        ];
        for (text, expected) in table {
            assert_eq!(one(text), expected, "{text}");
        }
    }

    #[test]
    fn bearer_is_preferred_over_headers() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, "Basic realm=\"x\"".parse().unwrap());
        headers.append(
            WWW_AUTHENTICATE,
            "Bearer realm=\"https://x/t\",error=\"invalid_token\"".parse().unwrap(),
        );
        assert!(matches!(parse(&headers), Some(Challenge::Bearer { .. })));
    }

    proptest! {
        #[test]
        fn any_text_ends(text in "[ -~]{0,200}") {
            let _challenge = one(&text);
        }
    }
}
