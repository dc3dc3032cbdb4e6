//! How a plan looks, for people and as JSON.

use robotimage_crds::build::PlanKind;
use serde::Serialize;

use super::progress::bytes;
use crate::image::Role;
use crate::reuse::Change;
use crate::reuse::plan::Part;

/// Everything that a plan says.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Planned {
    /// Noop, RebaseOnly, CodeOnly or Full.
    pub(super) plan: PlanKind,
    /// The image that is there now: repository@digest.
    pub(super) previous: Option<String>,
    /// The digest that the image will have, when that is known before.
    pub(super) digest: Option<String>,
    /// What differs. Empty with a plan other than Noop: there is no image of ours yet.
    pub(super) reasons: Vec<Change>,
    /// What the environment cache says; none when it is not asked.
    pub(super) environment_cache: Option<String>,
    /// Number of packages of an environment that is taken over from the cache.
    pub(super) packages: Option<i64>,
    /// Layers by role and fate, from the bottom.
    pub(super) layers: Vec<Part>,
    /// Bytes of configuration and manifest, when they are known before.
    pub(super) documents: Option<u64>,
    /// Bytes that go to the registry, as far as they are known.
    pub(super) sends: u64,
    /// Roles whose bytes are not known before they are made.
    pub(super) unknown: Vec<Role>,
}

impl Planned {
    /// For people.
    pub(super) fn text(&self) -> String {
        let why = match (self.plan, &self.previous) {
            (PlanKind::Noop, _) => "the image that is there is the one wanted",
            (_, None) => "there is no image under this name yet",
            (PlanKind::RebaseOnly, _) => "environment and code are taken over",
            (PlanKind::CodeOnly, _) => "the environment is taken over",
            (PlanKind::Full, _) => "the environment must be made",
        };
        let mut lines = vec![format!("Plan: {} ({why})", self.plan)];
        lines.extend(self.previous.iter().map(|previous| format!("Compared with: {previous}")));
        lines.extend(self.environment_cache.iter().map(|said| format!("Environment cache: {said}")));
        if !self.reasons.is_empty() {
            lines.push(String::new());
            lines.push(format!("{:<15}{:<50}TO", "REASON", "FROM"));
            for change in &self.reasons {
                let named = |value: &Option<String>| {
                    let value = value.as_deref().unwrap_or("none");
                    change
                        .name
                        .as_ref()
                        .map_or_else(|| value.to_owned(), |name| format!("{name}: {value}"))
                };
                lines.push(format!(
                    "{:<15}{:<50}{}",
                    change.aspect.as_str(),
                    named(&change.from),
                    named(&change.to)
                ));
            }
        }
        lines.push(String::new());
        lines.push(format!("{:<13}{:<13}{:>7}{:>12}{:>12}", "LAYER", "PLAN", "COUNT", "SIZE", "SENT"));
        let size = |bytes_or_none: Option<u64>| bytes_or_none.map_or_else(|| "unknown".to_owned(), bytes);
        for part in &self.layers {
            let count = if part.layers == 0 {
                "?".to_owned()
            } else {
                part.layers.to_string()
            };
            lines.push(format!(
                "{:<13}{:<13}{count:>7}{:>12}{:>12}",
                part.role.as_str(),
                part.fate.as_str(),
                size(part.size),
                size(part.sends)
            ));
        }
        lines.push(String::new());
        lines.extend(self.digest.iter().map(|digest| format!("Digest: {digest}")));
        let rest = if self.unknown.is_empty() {
            String::new()
        } else {
            let roles: Vec<&str> = self.unknown.iter().map(|role| role.as_str()).collect();
            format!(", and what is unknown until it is resolved: {}", roles.join(", "))
        };
        lines.push(format!("To be sent: {}{rest}", bytes(self.sends)));
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reuse::Aspect;
    use crate::reuse::plan::{self, Fate};

    #[test]
    fn what_a_person_reads() {
        let planned = Planned {
            plan: PlanKind::Full,
            previous: Some("r.example.com/a@sha256:0".to_owned()),
            digest: None,
            reasons: vec![
                Change {
                    aspect: Aspect::Environment,
                    name: None,
                    from: Some("0123456789ab".to_owned()),
                    to: Some("ba9876543210".to_owned()),
                },
                Change {
                    aspect: Aspect::Configuration,
                    name: Some("user".to_owned()),
                    from: None,
                    to: Some("1000:0".to_owned()),
                },
            ],
            environment_cache: Some("miss".to_owned()),
            packages: None,
            layers: plan::parts(&[
                (Role::Base, Fate::Reused, Some(28_000_000)),
                (Role::Environment, Fate::Made, None),
                (Role::Code, Fate::Made, Some(2000)),
            ]),
            documents: None,
            sends: 2000,
            unknown: vec![Role::Environment],
        };
        insta::assert_snapshot!(planned.text());
        insta::assert_json_snapshot!(planned);
    }
}
