//! Credentials have no place in an environment file: they would end up in the blueprint, in the layers and in logs.

use super::Specification;
use crate::robot::error::{Error, Role};

/// Refuses the first entry that carries credentials. The entry itself is never repeated.
pub(super) fn refuse(specification: &Specification) -> Result<(), Error> {
    let lists = [
        ("channel", &specification.channels),
        ("pip entry", &specification.pip),
        ("conda entry", &specification.conda),
        ("post-install command", &specification.post_install),
    ];
    for (what, list) in lists {
        for entry in list {
            let Some(found) = find(entry) else { continue };
            return Err(Error::Invalid {
                role: Role::Environment,
                at: specification.place(entry),
                message: format!(
                    "this {what} has {found} in its address, which would end up in the image; \
                     take it out and use an index that needs no login: its login cannot be given yet"
                ),
            });
        }
    }
    Ok(())
}

/// What kind of credentials a text carries.
pub(crate) fn find(text: &str) -> Option<&'static str> {
    let mut rest = text;
    let mut address = false;
    while let Some(at) = rest.find("://") {
        address = true;
        let scheme = rest[..at]
            .rsplit(|letter: char| !letter.is_ascii_alphanumeric() && letter != '+')
            .next()
            .unwrap_or_default();
        rest = &rest[at + 3..];
        let end = rest
            .find(|letter: char| letter.is_whitespace() || matches!(letter, '/' | '?' | '#' | '"' | '\''))
            .unwrap_or(rest.len());
        if let Some((user, _)) = rest[..end].rsplit_once('@') {
            // ssh wants a user name, which is no secret.
            if !scheme.ends_with("ssh") || user.contains(':') {
                return Some("a user or password");
            }
        }
    }
    let token = |path: &str| path.split_once("/t/").is_some_and(|(_, token)| !token.is_empty());
    (address && token(text) || text.starts_with("t/")).then_some("a token (/t/)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_credentials_in_addresses_only() {
        for (text, found) in [
            ("https://user:password@pypi.example.com/simple", true),
            ("--index-url https://token@pypi.example.com/simple", true),
            ("x @ git+https://oauth2:abc@git.example.com/x.git@v1", true),
            ("https://${USER}:${PASSWORD}@pypi.example.com", true),
            ("https://conda.example.com/t/abcdef/channel", true),
            ("t/abcdef/channel", true),
            ("--extra-index-url=https://a.example.com --index-url=https://u@b.example.com", true),
            ("git+ssh://git:password@git.example.com/x.git", true),
            ("git+ssh://git@git.example.com/x.git", false),
            ("https://conda.example.com/channel", false),
            ("https://example.com/x.git@v1", false),
            ("https://example.com/?mail=a@b", false),
            ("conda-forge", false),
            ("rich==13.7.1", false),
            ("./t/x.whl", false),
        ] {
            assert_eq!(find(text).is_some(), found, "{text}");
        }
    }
}
