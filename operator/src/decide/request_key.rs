//! The request key: what is asked for, in one word. A Job is made when it differs from that of the last image.
//!
//! Invariant: three parts, each the first 80 bits of a SHA-256: the spec without what changes no image, the source, and the
//! platform's configuration. Part by part they tell why a build was made. Only the operator computes it, and it decides
//! nothing beyond its own resource, so a collision can harm nobody else; the bytes of an image depend on the build key.

use robotimage_crds::api::{ChangeReason, RobotImageSpec};
use robotimage_crds::build::Want;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Digits of each part.
const PART: usize = 20;

/// Key of a request for this spec at this revision (or reference, while it is not resolved).
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
    let (old, new) = (parts(from), parts(to));
    ["ConfigChanged", "SourceChanged", "PlatformChanged"]
        .into_iter()
        .enumerate()
        .filter(|(index, _)| old.get(*index) != new.get(*index))
        .map(|(index, kind)| ChangeReason {
            kind: kind.to_owned(),
            from: old.get(index).cloned(),
            to: new.get(index).cloned(),
        })
        .collect()
}

fn spec_text(spec: &RobotImageSpec) -> String {
    let mut spec = serde_json::to_value(spec).expect("invariant: a spec is plain data");
    if let Some(fields) = spec.as_object_mut() {
        for name in ["suspend", "interval", "history", "build"] {
            fields.remove(name);
        }
    }
    canonical(&spec)
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
