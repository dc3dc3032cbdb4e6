//! The request key: what is asked for, in one word. A Job is made when it differs from that of the last image.
//!
//! Invariant: three parts, each the first 80 bits of a SHA-256: the spec without what changes no image, the source, and the
//! platform's configuration; then, each with a letter before it and only once it is needed, what moves by itself: the first
//! digits of the base's digest and of that of the image with rcc, and when the environment was to be solved anew. Part by part they tell why a build was made. Only the operator computes it, and it decides
//! nothing beyond its own resource, so a collision can harm nobody else; the bytes of an image depend on the build key.

use std::collections::BTreeMap;

use robotimage_crds::api::{ChangeReason, RobotImageSpec};
use robotimage_crds::build::Want;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Digits of each part.
const PART: usize = 20;
/// Parts that every key has.
const FIRST: usize = 3;

/// A part that is there only once it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The base's digest.
    Base,
    /// The digest of the image with rcc.
    Rcc,
    /// When the environment was last to be solved anew, in seconds since 1970 UTC.
    Refresh,
}

impl Part {
    const ALL: [Self; 3] = [Self::Base, Self::Rcc, Self::Refresh];

    fn letter(self) -> char {
        match self {
            Self::Base => 'b',
            Self::Rcc => 'r',
            Self::Refresh => 'e',
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Base => "BaseChanged",
            Self::Rcc => "RccChanged",
            Self::Refresh => "Refresh",
        }
    }
}

/// The parts of a key that move by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts(BTreeMap<Part, String>);

impl Parts {
    /// Those of a key.
    pub(super) fn of(key: &str) -> Self {
        let parts = key.split('-').skip(FIRST).filter_map(|text| {
            let part = Part::ALL.into_iter().find(|part| text.starts_with(part.letter()))?;
            Some((part, text[1..].to_owned()))
        });
        Self(parts.collect())
    }

    /// One of them.
    pub(super) fn get(&self, part: Part) -> Option<&String> {
        self.0.get(&part)
    }

    /// Sets one, or takes it away.
    pub(super) fn set(&mut self, part: Part, value: Option<String>) {
        match value {
            Some(value) => drop(self.0.insert(part, value)),
            None => drop(self.0.remove(&part)),
        }
    }

    /// The whole key that begins so.
    pub(super) fn complete(&self, mut key: String) -> String {
        for (part, value) in &self.0 {
            key.push('-');
            key.push(part.letter());
            key.push_str(value);
        }
        key
    }
}

/// A key without the parts that move by themselves.
pub(super) fn stem(key: &str) -> &str {
    let end = key.match_indices('-').nth(FIRST - 1).map_or(key.len(), |(at, _)| at);
    &key[..end]
}

/// Key of a request for this spec at this revision (or reference, while it is not resolved), without what moves by itself.
pub(super) fn request_key(spec: &RobotImageSpec, want: &Want, platform_hash: &str) -> String {
    let source = serde_json::to_value(want).expect("invariant: a want is plain data");
    format!(
        "{}-{}-{}",
        digits(&spec_text(spec)),
        digits(&canonical(&source)),
        digits(platform_hash)
    )
}

/// Key of a request whose source could not be resolved. No build has it.
pub(super) fn unresolved_key(spec: &RobotImageSpec, platform_hash: &str) -> String {
    format!("{}-{}-{}", digits(&spec_text(spec)), "0".repeat(PART), digits(platform_hash))
}

/// What the two keys differ in.
pub(super) fn differences(from: &str, to: &str) -> Vec<ChangeReason> {
    let parts = |key: &str| {
        key.split('-')
            .map(|part| part.get(..8).unwrap_or(part).to_owned())
            .collect::<Vec<_>>()
    };
    let (old, new) = (parts(stem(from)), parts(stem(to)));
    let (moved_from, moved_to) = (Parts::of(from), Parts::of(to));
    let moved = Part::ALL
        .into_iter()
        .filter(|part| moved_from.get(*part) != moved_to.get(*part))
        .map(|part| ChangeReason {
            kind: part.reason().to_owned(),
            from: moved_from.get(part).cloned(),
            to: moved_to.get(part).cloned(),
        });
    ["ConfigChanged", "SourceChanged", "PlatformChanged"]
        .into_iter()
        .enumerate()
        .filter(|(index, _)| old.get(*index) != new.get(*index))
        .map(|(index, kind)| ChangeReason {
            kind: kind.to_owned(),
            from: old.get(index).cloned(),
            to: new.get(index).cloned(),
        })
        .chain(moved)
        .collect()
}

fn spec_text(spec: &RobotImageSpec) -> String {
    let mut spec = serde_json::to_value(spec).expect("invariant: a spec is plain data");
    if let Some(fields) = spec.as_object_mut() {
        for name in ["suspend", "interval", "history", "build"] {
            fields.remove(name);
        }
    }
    // How a new base is followed, when packages are solved anew, and who is told makes no other image now.
    without(&mut spec, &["image", "base", "update"]);
    without(&mut spec, &["environment", "refresh"]);
    without(&mut spec, &["image", "publishTo"]);
    canonical(&spec)
}

/// Takes a field away, and what held nothing else.
fn without(value: &mut Value, path: &[&str]) {
    let (Some(fields), [name, rest @ ..]) = (value.as_object_mut(), path) else {
        return;
    };
    let had = match (fields.get_mut(*name), rest) {
        (None, _) => return,
        (Some(_), []) => true,
        (Some(inner), rest) => {
            let before = inner.clone();
            without(inner, rest);
            before != *inner && inner.as_object().is_some_and(serde_json::Map::is_empty)
        }
    };
    if had {
        fields.remove(*name);
    }
}

/// JSON with the keys of objects sorted, whatever order the map of the library keeps.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by(|a, b| a.0.cmp(b.0));
            let fields: Vec<_> = sorted
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}

fn digits(text: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(text));
    digits.truncate(PART);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(change: &str) -> RobotImageSpec {
        serde_json::from_str(&format!(
            r#"{{"source":{{"git":{{"url":"https://git.example.com/a.git"}}}},"image":{{"repository":"registry.example.com/a"}}{change}}}"#
        ))
        .unwrap()
    }

    fn want(commit: &str) -> Want {
        Want::Commit {
            id: commit.repeat(40),
            reference: "main".to_owned(),
        }
    }

    #[test]
    fn the_key_of_a_fixed_request_never_changes() {
        // Changing it builds the whole fleet anew: that is a decision, not a refactoring.
        assert_eq!(
            request_key(&spec(""), &want("a"), "platform"),
            "b309449889f01718c60d-89893e752fb7f7cd453d-d294fcce0cc885878430"
        );
    }

    #[test]
    fn what_makes_no_other_image_is_not_in_it() {
        let key = |change: &str| request_key(&spec(change), &want("a"), "p");
        let plain = key("");
        for change in [
            r#","suspend":true"#,
            r#","interval":"1m""#,
            r#","build":{"timeout":"1m"}"#,
            r#","history":{"failed":1}"#,
        ] {
            assert_eq!(plain, key(change), "{change}");
        }
        assert_ne!(plain, key(r#","robot":{"task":"x"}"#));
    }

    #[test]
    fn what_is_followed_later_is_not_in_it() {
        let key = |base: &str| {
            let mut spec = spec("");
            spec.image.base = serde_json::from_str(base).unwrap();
            request_key(&spec, &want("a"), "p")
        };
        assert_eq!(key(r#"{"image":"b:1"}"#), key(r#"{"image":"b:1","update":"Pin"}"#));
        assert_eq!(key("null"), key(r#"{"update":"Rebuild"}"#));
        assert_ne!(key("null"), key(r#"{"image":"b:1"}"#));
        assert_ne!(key("null"), key("{}"), "the key of a spec that was there before stays");
        let refreshed = spec(r#","environment":{"refresh":"0 3 * * *"}"#);
        assert_eq!(key("null"), request_key(&refreshed, &want("a"), "p"));
    }

    #[test]
    fn what_moves_by_itself_follows() {
        let key = request_key(&spec(""), &want("a"), "p");
        assert_eq!(Parts::of(&key).complete(key.clone()), key);
        let mut parts = Parts::default();
        parts.set(Part::Rcc, Some("22".to_owned()));
        parts.set(Part::Base, Some("11".to_owned()));
        let whole = parts.complete(key.clone());
        assert_eq!(whole, format!("{key}-b11-r22"));
        assert_eq!((stem(&whole), stem(&key), stem("")), (&*key, &*key, ""));
        assert_eq!(Parts::of(&whole), parts);
        let told: Vec<_> = differences(&format!("{key}-b00"), &whole)
            .into_iter()
            .map(|reason| (reason.kind, reason.from, reason.to))
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told,
            [
                ("BaseChanged".to_owned(), some("00"), some("11")),
                ("RccChanged".to_owned(), None, some("22"))
            ]
        );
    }

    #[test]
    fn the_parts_tell_what_changed() {
        let kinds = |from: &str, to: &str| differences(from, to).into_iter().map(|reason| reason.kind).collect::<Vec<_>>();
        let key = request_key(&spec(""), &want("a"), "p");
        assert_eq!(kinds(&key, &key), Vec::<String>::new());
        assert_eq!(kinds(&key, &request_key(&spec(""), &want("b"), "p")), ["SourceChanged"]);
        assert_eq!(
            kinds(&key, &request_key(&spec(r#","robot":{"task":"x"}"#), &want("a"), "p")),
            ["ConfigChanged"]
        );
        assert_eq!(kinds(&key, &request_key(&spec(""), &want("a"), "q")), ["PlatformChanged"]);
        assert_eq!(kinds("", &key).len(), 3);
        assert_ne!(unresolved_key(&spec(""), "p"), key);
    }
}
