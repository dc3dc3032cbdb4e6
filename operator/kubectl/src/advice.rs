//! What to do about a failure, from what the operator says of it.

use robotimage_crds::api::LastFailure;
use robotimage_crds::reason::{Owner, Reason, Retry};

/// What went wrong and what to do: messages of ours put the cure after the last semicolon.
pub(crate) fn split(message: &str) -> (&str, Option<&str>) {
    match message.rsplit_once("; ") {
        Some((what, cure)) if !cure.is_empty() && !what.is_empty() => (what, Some(cure)),
        _ => (message, None),
    }
}

/// Who can mend it, in words.
pub(crate) fn owner(name: &str) -> &'static str {
    match name {
        "User" => "whoever wrote the robot, the RobotImage or its Secrets",
        "Platform" => "whoever runs the cluster and installed the chart",
        "Infrastructure" => "nobody has to: networks, nodes and registries recover",
        "Control" => "nobody has to: it was asked for",
        _ => "not said",
    }
}

/// What to do.
pub(crate) fn of(failure: &LastFailure) -> String {
    let (_, cure) = split(&failure.message);
    let reason = failure.reason.parse::<Reason>().ok();
    let what = match (cure, reason) {
        (Some(cure), _) => sentence(cure),
        (None, Some(Reason::Canceled)) => "Ask for a build when it is wanted again.".to_owned(),
        (None, Some(reason)) => match reason.owner() {
            Owner::User => "Mend the robot, the RobotImage or its Secrets.".to_owned(),
            Owner::Platform => "Tell whoever runs the cluster.".to_owned(),
            Owner::Infrastructure => "Wait; look at the network, the nodes and the registry when it lasts.".to_owned(),
            Owner::Control => "Nothing has to be mended.".to_owned(),
        },
        (None, None) => "See the documentation of the installed operator.".to_owned(),
    };
    let then = match (&failure.next_retry_at, reason.map(Reason::retry)) {
        (Some(_), Some(Retry::Slowly)) => " It is tried again slowly, because the cure may be where the operator does not look.",
        (Some(_), _) => " It is tried again by itself.",
        (None, _) => " Nothing is tried before something changes.",
    };
    what + then
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.trim().chars();
    let mut out: String = chars.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    out.extend(chars);
    if !out.ends_with(['.', '!', '?']) {
        out.push('.');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(reason: &str, message: &str) -> LastFailure {
        LastFailure {
            reason: reason.to_owned(),
            message: message.to_owned(),
            ..LastFailure::default()
        }
    }

    #[test]
    fn the_cure_of_the_message_comes_first() {
        assert_eq!(
            of(&failure("PackageNotFound", "no version 9 of requests; choose one that exists")),
            "Choose one that exists. Nothing is tried before something changes."
        );
    }

    #[test]
    fn without_a_cure_it_says_whose_it_is() {
        assert!(of(&failure("PushDenied", "the registry says no")).starts_with("Mend the robot"));
        assert!(of(&failure("Unschedulable", "no node")).starts_with("Tell whoever runs the cluster"));
        assert!(of(&failure("FromTheFuture", "?")).starts_with("See the documentation"));
    }
}
