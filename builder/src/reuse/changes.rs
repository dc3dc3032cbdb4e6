//! What differs between the image that is there and the one that is wanted.
//!
//! Invariant: pure, and read from the documents alone: an image says of itself all that is compared here.

use std::collections::BTreeMap;

use serde::Serialize;

use super::previous::PreviousImage;
use crate::image::oci::Run;
use crate::image::{KEY_ANNOTATION, Recipe, Role, learned};

/// Beginning of the names that describe the base; they change with it.
const OF_BASE: &str = "org.opencontainers.image.base.";
/// Longest value that is shown.
const SHOWN: usize = 48;

/// What can differ, in the order in which it is told.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Aspect {
    /// The robot's files.
    Source,
    /// The packages.
    Environment,
    /// The base image.
    Base,
    /// The layer with rcc, the launcher and the user's line in /etc/passwd.
    Rcc,
    /// How the image is run, its labels and annotations.
    Configuration,
}

impl Aspect {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Environment => "environment",
            Self::Base => "base",
            Self::Rcc => "rcc",
            Self::Configuration => "configuration",
        }
    }
}

/// One difference.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// What differs.
    #[serde(rename = "type")]
    pub aspect: Aspect,
    /// Which part of it, when it has parts: the name of a label, `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it was, in short; none: it was not there.
    pub from: Option<String>,
    /// What it is to be; none: it is not to be there.
    pub to: Option<String>,
}

/// All differences but the source's, which needs the layer itself: [`source`].
pub fn changes(recipe: &Recipe, previous: &PreviousImage) -> Vec<Change> {
    let mut found = Vec::new();
    let mut differs = |aspect, name: Option<&str>, from: Option<String>, to: Option<String>| {
        if from != to {
            found.push(Change {
                aspect,
                name: name.map(str::to_owned),
                from: from.as_deref().map(short),
                to: to.as_deref().map(short),
            });
        }
    };
    let key_of = |role: Role| {
        let layers = previous.layers(role);
        layers
            .first()
            .and_then(|layer| layer.descriptor.annotations.get(KEY_ANNOTATION).cloned())
    };
    differs(
        Aspect::Environment,
        None,
        key_of(Role::Environment),
        recipe.layer_key(Role::Environment),
    );
    let annotations = &previous.manifest.annotations;
    let base = |name: &str| annotations.get(&format!("{OF_BASE}{name}")).cloned();
    differs(Aspect::Base, None, base("digest"), Some(recipe.base.digest.clone()));
    differs(Aspect::Base, Some("name"), base("name"), recipe.base.name.clone());
    differs(Aspect::Rcc, None, key_of(Role::Rcc), recipe.layer_key(Role::Rcc));

    let (was, is) = (&previous.config.config, recipe.run());
    let same_base = base("digest").as_ref() == Some(&recipe.base.digest);
    let mut configured = |name: &str, from: String, to: String| {
        let some = |text: String| (!text.is_empty()).then_some(text);
        differs(Aspect::Configuration, Some(name), some(from), some(to));
    };
    configured("user", was.user.clone(), is.user.clone());
    configured("entrypoint", was.entrypoint.join(" "), is.entrypoint.join(" "));
    configured("command", was.cmd.join(" "), is.cmd.join(" "));
    configured("working directory", was.working_dir.clone(), is.working_dir.clone());
    // The base's own variables change with the base.
    if same_base {
        configured("variables", variables(was), variables(&is));
    }
    for (kind, from, to) in [("label", &was.labels, &is.labels), ("annotation", annotations, &recipe.annotations)] {
        for name in names(from, to) {
            let value = |map: &BTreeMap<String, String>| map.get(name).cloned();
            differs(Aspect::Configuration, Some(&format!("{kind} {name}")), value(from), value(to));
        }
    }
    found.sort_by_key(|change| change.aspect);
    found
}

/// The difference of the source: digests of the layers with the code. None when they are equal.
pub fn source(from: Option<&str>, to: Option<&str>) -> Option<Change> {
    (from != to).then(|| Change {
        aspect: Aspect::Source,
        name: None,
        from: from.map(short),
        to: to.map(short),
    })
}

fn variables(run: &Run) -> String {
    run.env.join(" ")
}

/// Names of both maps but for those that follow from base, rcc and environment.
fn names<'a>(one: &'a BTreeMap<String, String>, other: &'a BTreeMap<String, String>) -> Vec<&'a str> {
    let mut names: Vec<&str> = one.keys().chain(other.keys()).map(String::as_str).collect();
    names.retain(|name| !name.starts_with(OF_BASE) && *name != learned::ANNOTATION);
    names.sort_unstable();
    names.dedup();
    names
}

/// Keys and digests by their first twelve digits, other texts by their beginning.
fn short(text: &str) -> String {
    let hash = text.strip_prefix("sha256:").unwrap_or(text);
    if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return hash[..12].to_owned();
    }
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    if text.chars().count() > SHOWN {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short() {
        assert_eq!(short(&format!("sha256:{}", "a".repeat(64))), "a".repeat(12));
        assert_eq!(short(&"b".repeat(64)), "b".repeat(12));
        assert_eq!(short("1000:0"), "1000:0");
        assert_eq!(short(&"x\n".repeat(100)).chars().count(), SHOWN + 1);
    }

    #[test]
    fn a_source_changes_when_its_layer_does() {
        let (one, two) = (format!("sha256:{}", "1".repeat(64)), format!("sha256:{}", "2".repeat(64)));
        assert_eq!(source(Some(&one), Some(&one)), None);
        let change = source(Some(&one), Some(&two)).unwrap();
        assert_eq!(
            (change.from.as_deref(), change.to.as_deref()),
            (Some("111111111111"), Some("222222222222"))
        );
    }
}
