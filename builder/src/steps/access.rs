//! Which registry is spoken to with which credentials, and what its refusals mean for the build.
//!
//! Invariant: each request carries only the credentials of its own role, and the same refusal means something else when a
//! base is read than when an image is pushed.

use std::path::Path;
use std::time::{Duration, Instant};

use robotimage_crds::build::{PlanPlatform, paths};
use robotimage_crds::reason::Reason;
use robotimage_registry::{AddressPolicy, Client, ClientOptions, Context, Credentials, Error, ErrorKind, Missing, Operation, RetryPolicy};
use tokio_util::sync::CancellationToken;

use super::root::Root;
use crate::failure::Failure;
use crate::image::pull::PullError;
use crate::image::store::StoreError;
use crate::source::Web;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Reading the base image.
    Base,
    /// Reading rcc's image.
    Rcc,
    /// Reading the target repository.
    Target,
    /// Writing to it.
    Push,
}

/// What an error of the registry client means. A blob that is copied from the base's repository while an image is pushed
/// is still a matter of the base.
pub fn failure(error: &Error, side: Side) -> Failure {
    let operation = context(error).map(|at| at.operation);
    let side = match (side, operation) {
        (Side::Push, Some(Operation::PullBlob)) => Side::Base,
        (side, _) => side,
    };
    let denied = |push| match side {
        Side::Base => Reason::BaseNotFound,
        Side::Rcc => Reason::RccUnavailable,
        Side::Target | Side::Push => push,
    };
    let reason = match error.kind() {
        ErrorKind::Unauthorized => denied(Reason::PushUnauthorized),
        // A registry that takes upload sessions and then knows none of them.
        ErrorKind::NotFound if matches!(error, Error::NotFound { what: Missing::Upload, .. }) => Reason::RegistryProtocol,
        ErrorKind::Denied | ErrorKind::NotFound => denied(Reason::PushDenied),
        ErrorKind::PlatformMissing => denied(Reason::RegistryProtocol),
        ErrorKind::RateLimited => Reason::RegistryRateLimited,
        ErrorKind::Timeout if error.to_string().contains("deadline") => Reason::BuildTimeout,
        ErrorKind::Unavailable | ErrorKind::Timeout => Reason::RegistryUnavailable,
        ErrorKind::TlsUntrusted => Reason::CertificateUntrusted,
        ErrorKind::AddressDenied | ErrorKind::HostNotAllowed => Reason::NotAllowed,
        ErrorKind::DigestMismatch => Reason::DigestMismatch,
        ErrorKind::TagImmutable => Reason::TagImmutable,
        ErrorKind::Quota => Reason::StorageExceeded,
        ErrorKind::Canceled => Reason::Canceled,
        ErrorKind::Io => match error {
            Error::Io { source, .. } if is_full(source) => Reason::StorageExceeded,
            _ => Reason::InternalError,
        },
        ErrorKind::Configuration => match error {
            Error::Credentials(_) => denied(Reason::PushUnauthorized),
            Error::Reference(_) => denied(Reason::NotAllowed),
            _ => Reason::InternalError,
        },
        ErrorKind::Protocol | ErrorKind::BlobUnknown => Reason::RegistryProtocol,
        _ => Reason::InternalError,
    };
    let message = match reason {
        Reason::BuildTimeout => format!("{error}; the build did not end within build.timeout: raise it, or find what is slow"),
        _ => error.to_string(),
    };
    Failure {
        retry_after: error.retry_after().map(|wait| wait.as_secs()),
        ..Failure::new(reason, message)
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Where an error happened, when it happened in a request.
fn context(error: &Error) -> Option<&Context> {
    match error {
        Error::Unauthorized { at, .. }
        | Error::Denied { at, .. }
        | Error::NotFound { at, .. }
        | Error::BlobUnknown { at, .. }
        | Error::RateLimited { at, .. }
        | Error::Unavailable { at, .. }
        | Error::Timeout { at, .. }
        | Error::Protocol { at, .. }
        | Error::TlsUntrusted { at, .. }
        | Error::PlainHttp { at, .. }
        | Error::AddressDenied { at, .. }
        | Error::HostNotAllowed { at, .. }
        | Error::DigestMismatch { at, .. }
        | Error::TooLarge { at, .. }
        | Error::PlatformMissing { at, .. }
        | Error::TagImmutable { at, .. }
        | Error::Quota { at, .. }
        | Error::Canceled { at }
        | Error::Io { at, .. } => Some(at),
        Error::Configuration(_) | Error::Credentials(_) | Error::Reference(_) | Error::Layout(_) => None,
    }
}

/// What it means that a base cannot be used.
pub fn pull_failure(error: &PullError) -> Failure {
    match error {
        PullError::Registry(error) => failure(error, Side::Base),
        PullError::Layout { .. } | PullError::Documents { .. } | PullError::Layer { .. } => {
            Failure::new(Reason::BaseNotFound, error.to_string())
        }
    }
}

/// What it means that an image cannot be written to disk.
pub fn store_failure(error: &StoreError) -> Failure {
    match error {
        StoreError::Registry(error) => failure(error, Side::Base),
        _ if error.io().is_some_and(is_full) => Failure::new(Reason::StorageExceeded, error.to_string()),
        _ => Failure::new(Reason::NotAllowed, error.to_string()),
    }
}

/// The settings that all clients of a build share.
pub fn client_options(
    platform: &PlanPlatform,
    roots: Vec<Vec<u8>>,
    policy: AddressPolicy,
    deadline: Option<Instant>,
    cancel: &CancellationToken,
) -> ClientOptions {
    ClientOptions {
        ca_bundle_pem: roots,
        plain_http: platform.plain_http.clone(),
        address_policy: policy,
        // At most a minute of waiting in all: the operator retries too, and tells people why.
        retry: RetryPolicy {
            cap: Duration::from_secs(15),
            retry_after_cap: Duration::from_secs(20),
            ..RetryPolicy::default()
        },
        deadline,
        cancel: cancel.clone(),
        ..ClientOptions::default()
    }
}

/// The address policy that the platform wrote into the plan.
pub(super) fn policy(platform: &PlanPlatform) -> Result<AddressPolicy, Failure> {
    let networks = |texts: &[String]| {
        texts
            .iter()
            .map(|text| {
                text.parse::<ipnet::IpNet>()
                    .map_err(|_| Failure::new(Reason::InternalError, format!("the plan names {text:?}, which is no network")))
            })
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(AddressPolicy {
        deny: networks(&platform.deny)?,
        allow: networks(&platform.allow)?,
    })
}

/// Addresses that are no registries': git servers and download servers.
pub(super) fn web(platform: &PlanPlatform, roots: Vec<Vec<u8>>, policy: AddressPolicy) -> Web {
    Web {
        policy,
        plain_http: platform.plain_http.clone(),
        roots,
    }
}

/// The authorities that the platform gives every step.
pub(super) fn roots(root: &Root) -> Result<Vec<Vec<u8>>, Failure> {
    Ok(root
        .read(paths::PLATFORM, "ca-bundle.pem")?
        .into_iter()
        .filter(|bundle| !bundle.is_empty())
        .collect())
}

/// The credentials of the first of these Secrets that is mounted; none at all when none is.
pub(super) fn credentials(root: &Root, secrets: &[&str], side: Side) -> Result<Option<Credentials>, Failure> {
    for secret in secrets {
        let path = root.path(secret).join(".dockerconfigjson");
        if path.exists() {
            return from_file(&path, side).map(Some);
        }
    }
    Ok(None)
}

/// The credentials of the registry that the source is in.
pub(super) fn source_credentials(root: &Root) -> Result<Option<Credentials>, Failure> {
    let path = root.path(paths::SOURCE_SECRET).join(".dockerconfigjson");
    if !path.exists() {
        return Ok(None);
    }
    let credentials = Credentials::from_file(&path);
    credentials
        .map(Some)
        .map_err(|error| Failure::new(Reason::SecretMissing, format!("the Secret of the source: {error}")))
}

fn from_file(path: &Path, side: Side) -> Result<Credentials, Failure> {
    Credentials::from_file(path).map_err(|error| failure(&Error::Credentials(error), side))
}

/// A client of these settings.
pub fn client(options: &ClientOptions, credentials: Option<Credentials>) -> Result<Client, Failure> {
    Client::new(options.clone(), credentials.unwrap_or_default())
        .map_err(|error| Failure::new(Reason::CertificateUntrusted, error.to_string()))
}

/// A client that reads what others publish, bases and rcc: the platform's mirrors are asked first.
pub(super) fn reader(options: &ClientOptions, platform: &PlanPlatform, credentials: Option<Credentials>) -> Result<Client, Failure> {
    let options = ClientOptions {
        mirrors: platform.mirrors.clone(),
        ..options.clone()
    };
    client(&options, credentials)
}

#[cfg(test)]
mod tests {
    use super::*;
    use robotimage_registry::Said;

    fn at(operation: Operation) -> Context {
        Context {
            operation,
            host: "registry.example.com".to_owned(),
            subject: "registry.example.com/a".to_owned(),
        }
    }

    #[test]
    fn the_same_refusal_means_another_thing_on_each_side() {
        let unauthorized = |operation| Error::Unauthorized {
            at: Box::new(at(operation)),
            anonymous: false,
            said: Said::default(),
        };
        for (error, side, reason) in [
            (unauthorized(Operation::PushBlob), Side::Push, Reason::PushUnauthorized),
            (unauthorized(Operation::PullBlob), Side::Push, Reason::BaseNotFound),
            (unauthorized(Operation::PullManifest), Side::Base, Reason::BaseNotFound),
            (unauthorized(Operation::PullManifest), Side::Rcc, Reason::RccUnavailable),
            (
                Error::Timeout {
                    at: Box::new(at(Operation::PushBlob)),
                    what: "the deadline has passed".to_owned(),
                },
                Side::Push,
                Reason::BuildTimeout,
            ),
            (
                Error::TlsUntrusted {
                    at: Box::new(at(Operation::PullBlob)),
                    cause: String::new(),
                },
                Side::Base,
                Reason::CertificateUntrusted,
            ),
        ] {
            assert_eq!(failure(&error, side).reason, reason, "{error}");
        }
        let limited = Error::RateLimited {
            at: Box::new(at(Operation::PushTag)),
            retry_after: Some(Duration::from_secs(77)),
        };
        let failure = failure(&limited, Side::Push);
        assert_eq!((failure.reason, failure.retry_after), (Reason::RegistryRateLimited, Some(77)));
    }

    #[test]
    fn policies_are_read_or_refused() {
        let platform = PlanPlatform {
            deny: vec!["10.0.0.0/8".to_owned()],
            allow: vec!["10.1.0.0/16".to_owned()],
            ..PlanPlatform::default()
        };
        let found = policy(&platform).unwrap();
        assert!(found.permits("10.1.2.3".parse().unwrap()) && !found.permits("10.2.2.3".parse().unwrap()));
        let broken = PlanPlatform {
            deny: vec!["ten".to_owned()],
            ..PlanPlatform::default()
        };
        assert_eq!(policy(&broken).unwrap_err().reason, Reason::InternalError);
    }
}
