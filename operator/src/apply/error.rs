//! Why a write did not succeed, and which of the API server's answers are refusals that a person must know of.

use std::time::Duration;

use kube::core::Status;
use robotimage_crds::reason::Reason;

use crate::observe::Refusal;

/// Time for one write.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);

/// A write did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The object is not the one that the decision was made from: observe again.
    #[error("{what} has changed since it was read")]
    Conflict {
        /// What was written.
        what: &'static str,
    },
    /// The object is gone.
    #[error("{what} is gone")]
    Gone {
        /// What was written.
        what: &'static str,
    },
    /// The API server does not take it: a quota, an admission rule, or a value that it does not allow.
    #[error("the API server refuses {what}: {}", .refusal.message)]
    Refused {
        /// What was written.
        what: &'static str,
        /// For the status.
        refusal: Refusal,
    },
    /// Its namespace is being deleted, and takes nothing new.
    #[error("{what} cannot be made: its namespace is being deleted")]
    Terminating {
        /// What was written.
        what: &'static str,
    },
    /// It answered with an error.
    #[error("cannot write {what}: {source}")]
    Api {
        /// What was written.
        what: &'static str,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Another replica leads by now: it decides, not we.
    #[error("{what} is not written: this replica leads no more")]
    NotLeading {
        /// What was to be written.
        what: &'static str,
    },
    /// It did not answer.
    #[error("cannot write {what}: no answer within {} seconds", DEADLINE.as_secs())]
    Late {
        /// What was written.
        what: &'static str,
    },
}

/// Which of these a client's error is.
pub(super) fn classify(what: &'static str, error: kube::Error) -> ApplyError {
    let kube::Error::Api(status) = &error else {
        return ApplyError::Api {
            what,
            source: Box::new(error),
        };
    };
    if is_terminating(status) {
        return ApplyError::Terminating { what };
    }
    if let Some(refusal) = refusal(what, status) {
        ApplyError::Refused { what, refusal }
    } else if status.is_not_found() {
        ApplyError::Gone { what }
    } else if status.is_conflict() && !status.is_already_exists() {
        ApplyError::Conflict { what }
    } else {
        ApplyError::Api {
            what,
            source: Box::new(error),
        }
    }
}

/// Why the API server does not take it, when the same would be refused again. An admission webhook chooses the code of its
/// denial, so its words are what counts.
fn refusal(what: &str, status: &Status) -> Option<Refusal> {
    let told = &status.message;
    if let Some((_, rest)) = told.split_once("failed calling webhook \"") {
        // Why it cannot be called differs from try to try: ports, and who gave up first.
        let name = rest.split('"').next().unwrap_or_default();
        let message = format!(
            "the API server cannot ask the admission webhook \"{name}\", which must agree to {what}; it has to be mended, or taken out of the cluster"
        );
        return Some(Refusal::new(Reason::PodRejected, &message));
    }
    let denied = told.contains("admission webhook \"") && told.contains("denied the request");
    if !denied && !status.is_forbidden() && !status.is_invalid() && status.code != 400 {
        return None;
    }
    let reason = if told.contains("exceeded quota") {
        Reason::QuotaExceeded
    } else {
        Reason::PodRejected
    };
    Some(Refusal::new(reason, &format!("the API server refuses {what}: {told}")))
}

/// Whether a namespace that is being deleted refuses it.
fn is_terminating(status: &Status) -> bool {
    let causes = status.details.as_ref().map_or(&[][..], |details| &details.causes[..]);
    status.is_forbidden() && causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Whether it is there already.
pub(super) fn already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_already_exists())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let error = |code: u16, reason: &str, message: &str, cause: &str| {
            let status = serde_json::from_value(json!({
                "status": "Failure", "code": code, "reason": reason, "message": message,
                "details": {"causes": [{"reason": cause, "message": "", "field": ""}]},
            }));
            classify("it", kube::Error::Api(Box::new(status.unwrap())))
        };
        let terminating = "jobs.batch \"a\" is forbidden: unable to create new content in namespace b because it is being terminated";
        assert!(matches!(
            error(403, "Forbidden", terminating, "NamespaceTerminating"),
            ApplyError::Terminating { .. }
        ));
        for (message, wanted) in [
            ("jobs.batch \"a\" is forbidden: exceeded quota: q", Reason::QuotaExceeded),
            ("jobs.batch \"a\" is forbidden: some policy says no", Reason::PodRejected),
        ] {
            let ApplyError::Refused { refusal, .. } = error(403, "Forbidden", message, "") else {
                panic!("{message}")
            };
            assert_eq!(refusal.reason, wanted);
        }
        // What admission webhooks say, whatever code they choose, and that one of them cannot be asked.
        let denied = "admission webhook \"policy.example.com\" denied the request: no builds on Fridays";
        for (code, reason) in [
            (400, ""),
            (403, "Forbidden"),
            (404, "NotFound"),
            (409, "Conflict"),
            (422, "Invalid"),
            (500, "InternalError"),
        ] {
            let ApplyError::Refused { refusal, .. } = error(code, reason, denied, "") else {
                panic!("{code}")
            };
            assert_eq!(refusal.message, format!("the API server refuses it: {denied}"));
        }
        let mut told = Vec::new();
        for why in [
            "dial tcp 10.0.0.1:443: connect: connection refused",
            "read tcp 10.0.0.2:40123->10.0.0.1:443: i/o timeout",
        ] {
            let failed = format!(
                "Internal error occurred: failed calling webhook \"policy.example.com\": failed to call webhook: Post \"https://policy\": {why}"
            );
            let ApplyError::Refused { refusal, .. } = error(500, "InternalError", &failed, "") else {
                panic!("{why}")
            };
            assert_eq!(refusal.reason, Reason::PodRejected);
            told.push(refusal.message);
        }
        assert!(told[0].contains("\"policy.example.com\""), "{told:?}");
        assert_eq!(told[0], told[1], "one cause, one text");
        assert!(matches!(
            error(400, "BadRequest", "strict decoding error", ""),
            ApplyError::Refused { .. }
        ));
        assert!(matches!(error(409, "Conflict", "changed", ""), ApplyError::Conflict { .. }));
        assert!(matches!(error(409, "AlreadyExists", "there", ""), ApplyError::Api { .. }));
        assert!(matches!(error(404, "NotFound", "gone", ""), ApplyError::Gone { .. }));
        assert!(matches!(error(500, "InternalError", "etcd", ""), ApplyError::Api { .. }));
    }
}
