//! Why a build or a look-up failed: one closed list, each with its owner, whether a retry can help, and its exit code.
//!
//! Invariant: builder and operator take owner, retry and exit code from this table alone, so they cannot disagree.

use std::fmt;
use std::str::FromStr;

/// Who can mend a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Whoever wrote the robot, the RobotImage or its Secrets.
    User,
    /// Whoever runs the cluster and installed the chart.
    Platform,
    /// Time: networks, nodes, registries.
    Infrastructure,
    /// Nobody needs to: it was asked for.
    Control,
}

impl Owner {
    /// Its name in status and documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Platform => "Platform",
            Self::Infrastructure => "Infrastructure",
            Self::Control => "Control",
        }
    }
}

/// What the operator does after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Nothing, until generation, revision, base or platform configuration change.
    Never,
    /// Nothing at once, but slowly (10 min doubling to 6 h): the cure may be in a Secret or ConfigMap that the operator does not read.
    Slowly,
    /// Again with backoff, a bounded number of times.
    Backoff,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident: $owner:ident, $retry:ident, $exit:literal;)+) => {
        /// The reasons of design section 4.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
            /// Its name in conditions, reports and documentation.
            pub fn as_str(self) -> &'static str { match self { $(Self::$name => stringify!($name),)+ } }
            /// Who can mend it.
            pub fn owner(self) -> Owner { match self { $(Self::$name => Owner::$owner,)+ } }
            /// Whether trying again can help.
            pub fn retry(self) -> Retry { match self { $(Self::$name => Retry::$retry,)+ } }
            /// Exit code of a step or of the command line that ends with it.
            pub fn exit_code(self) -> u8 { match self { $(Self::$name => $exit,)+ } }
            /// What it means, one sentence.
            pub fn meaning(self) -> &'static str { match self { $(Self::$name => concat!($($doc),+).trim_ascii_start(),)+ } }
        }
    };
}

reasons! {
    /// The git server refused the credentials, or asked for some.
    GitAuthFailed: User, Slowly, 11;
    /// The branch, tag or commit does not exist.
    GitRevisionNotFound: User, Slowly, 12;
    /// The SSH host key is not among the known ones.
    GitHostKeyUnknown: User, Slowly, 11;
    /// The repository does not exist, or the host does not.
    SourceNotFound: User, Slowly, 12;
    /// The folder `source.path` is not in the source.
    SourcePathNotFound: User, Never, 12;
    /// The source has more bytes or files than the platform allows.
    SourceTooLarge: User, Never, 10;
    /// The source holds something that is never let in: a link out of the tree, a device, an address that is not allowed.
    SourceRejected: User, Never, 10;
    /// A downloaded file does not have the checksum that was given.
    ChecksumMismatch: User, Never, 10;
    /// robot.yaml is missing, is not valid, or leaves the choice of a task open.
    RobotYamlInvalid: User, Never, 10;
    /// The environment file is missing or not valid.
    EnvironmentFileInvalid: User, Never, 10;
    /// A freeze file is demanded and there is none.
    LockRequired: User, Never, 10;
    /// The packages asked for do not fit together.
    EnvironmentUnsolvable: User, Never, 10;
    /// A package, or that version of it, does not exist in the index.
    PackageNotFound: User, Never, 10;
    /// A package could not be built or installed.
    PackageBuildFailed: User, Never, 10;
    /// A command of rccPostInstall failed.
    PostInstallFailed: User, Never, 10;
    /// The package index refused the credentials, or asked for some.
    IndexAuthFailed: User, Slowly, 11;
    /// A Secret that the resource names does not exist, or lacks its keys.
    SecretMissing: User, Slowly, 11;
    /// A Secret does not name the host it would be sent to.
    CredentialHostMismatch: User, Slowly, 11;
    /// The platform does not allow what was asked for.
    NotAllowed: User, Never, 10;
    /// The registry does not accept the push credentials.
    PushUnauthorized: User, Slowly, 11;
    /// The registry knows the credentials and refuses the push.
    PushDenied: User, Slowly, 11;
    /// The tag exists with another digest and may not be moved; the image is there by digest.
    TagImmutable: User, Never, 10;
    /// A secret was found in what would have been published.
    SecretLeakDetected: User, Never, 10;
    /// The base image does not exist or cannot be read.
    BaseNotFound: Platform, Slowly, 12;
    /// The node cannot pull the builder image.
    BuilderImagePullFailed: Platform, Slowly, 20;
    /// rcc cannot be had, or is not one that works.
    RccUnavailable: Platform, Slowly, 12;
    /// No node can take the build pod.
    Unschedulable: Platform, Slowly, 20;
    /// The cluster refused the build pod.
    PodRejected: Platform, Slowly, 10;
    /// A quota of the namespace is used up.
    QuotaExceeded: Platform, Slowly, 20;
    /// A server's certificate is not trusted.
    CertificateUntrusted: Platform, Slowly, 20;
    /// The proxy refused or failed.
    ProxyFailed: Platform, Slowly, 20;
    /// The source's server could not be reached or failed.
    SourceUnreachable: Infrastructure, Backoff, 20;
    /// The package index could not be reached or failed.
    IndexUnreachable: Infrastructure, Backoff, 20;
    /// The registry could not be reached or failed.
    RegistryUnavailable: Infrastructure, Backoff, 20;
    /// The registry asked us to come back later.
    RegistryRateLimited: Infrastructure, Backoff, 21;
    /// The registry broke its protocol.
    RegistryProtocol: Infrastructure, Backoff, 20;
    /// A step used more memory than it may.
    OutOfMemory: Infrastructure, Backoff, 20;
    /// The node evicted the build pod.
    Evicted: Infrastructure, Backoff, 20;
    /// The node went away.
    NodeLost: Infrastructure, Backoff, 20;
    /// A volume or disk is full.
    StorageExceeded: Infrastructure, Backoff, 20;
    /// The build took longer than build.timeout.
    BuildTimeout: Infrastructure, Backoff, 20;
    /// What arrived is not what its digest says.
    DigestMismatch: Infrastructure, Backoff, 20;
    /// The build ended without a report that can be read.
    ResultUnreadable: Infrastructure, Backoff, 20;
    /// A bug of RobotImage.
    InternalError: Infrastructure, Backoff, 70;
    /// It was canceled.
    Canceled: Control, Never, 130;
    /// A newer build took its place.
    Superseded: Control, Never, 130;
    /// The same inputs were built again and again.
    LoopDetected: Control, Never, 10;
    /// The resource is suspended.
    Suspended: Control, Never, 10;
}

impl Reason {
    /// Whether the operator tries again by itself soon.
    pub fn retryable(self) -> bool {
        self.retry() == Retry::Backoff
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no reason of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownReason;

impl fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a reason that this version knows")
    }
}

impl std::error::Error for UnknownReason {}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == text)
            .ok_or(UnknownReason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_back() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
            assert!(reason.meaning().ends_with('.'), "{reason}");
        }
        assert_eq!("Nonsense".parse::<Reason>(), Err(UnknownReason));
    }

    #[test]
    fn infrastructure_is_what_is_retried() {
        for reason in Reason::ALL {
            assert_eq!(reason.retryable(), reason.owner() == Owner::Infrastructure, "{reason}");
        }
    }
}
