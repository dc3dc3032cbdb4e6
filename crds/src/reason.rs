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
    ($($(#[doc = $doc:literal])+ $name:ident: $owner:ident, $retry:ident, $exit:literal, $advice:literal;)+) => {
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
            /// What to do about it, for whoever can mend it.
            pub fn advice(self) -> &'static str { match self { $(Self::$name => $advice,)+ } }
            /// What it means, one sentence.
            pub fn meaning(self) -> &'static str { match self { $(Self::$name => concat!($($doc),+).trim_ascii_start(),)+ } }
        }
    };
}

reasons! {
    /// The git server refused the credentials, or asked for some.
    GitAuthFailed: User, Slowly, 11,
        "Give a Secret (or the credentials that git uses on this machine) that may read the repository.";
    /// The server or registry of a source that is no git repository refused the credentials, or asked for some.
    SourceAuthFailed: User, Slowly, 11,
        "Give a Secret that may read the file or the artifact.";
    /// The branch, tag or commit does not exist.
    GitRevisionNotFound: User, Slowly, 12,
        "Correct the branch, tag, version range or commit.";
    /// The SSH host key is not among the known ones.
    GitHostKeyUnknown: User, Slowly, 11,
        "Add the server's key to `known_hosts` of the Secret.";
    /// The repository, file, artifact or ConfigMap does not exist, or its host does not.
    SourceNotFound: User, Slowly, 12,
        "Correct the address or the path; a private repository looks like one that is not there.";
    /// The folder `source.path` is not in the source.
    SourcePathNotFound: User, Never, 12,
        "Correct `source.path`: upper and lower case count.";
    /// The source has more bytes or files than the platform allows.
    SourceTooLarge: User, Never, 10,
        "Leave out what the robot does not need (`ignore`, a smaller `path`), or have the platform raise its limits.";
    /// The source holds something that is never let in: a link out of the tree, a device, a damaged archive, an address that is
    /// not allowed.
    SourceRejected: User, Never, 10,
        "Remove or replace the entry that the message names.";
    /// A downloaded file does not have the checksum that was given.
    ChecksumMismatch: User, Never, 10,
        "Compare the checksum with the one that the publisher states; do not just copy the new one.";
    /// robot.yaml is missing, is not valid, or leaves the choice of a task open.
    RobotYamlInvalid: User, Never, 10,
        "Run `robotimage check`: it names line and column. Choose a task where there are several.";
    /// The environment file is missing or not valid.
    EnvironmentFileInvalid: User, Never, 10,
        "Run `robotimage check`: it names line and column.";
    /// A freeze file is demanded and there is none.
    LockRequired: User, Never, 10,
        "Commit the freeze file that rcc writes into the artifacts folder, and list it first in `environmentConfigs`.";
    /// The packages asked for do not fit together.
    EnvironmentUnsolvable: User, Never, 10,
        "Change one of the versions that the message names, or loosen it.";
    /// A package, or that version of it, does not exist in the index.
    PackageNotFound: User, Never, 10,
        "Correct name or version, or add the channel or index that has it.";
    /// A package could not be built or installed.
    PackageBuildFailed: User, Never, 10,
        "Take a version that has a wheel, or add what its build needs to the conda packages.";
    /// A command of rccPostInstall failed.
    PostInstallFailed: User, Never, 10,
        "Run the command in the robot's folder with `rcc`, and read the last lines of its output.";
    /// The package index refused the credentials, or asked for some.
    IndexAuthFailed: User, Slowly, 11,
        "Use an index or a mirror that needs no login: the login of an index cannot be given yet.";
    /// A Secret that the resource names does not exist, or lacks its keys.
    SecretMissing: User, Slowly, 11,
        "Create the Secret in the namespace of the resource, with the keys that the message names.";
    /// A Secret does not name the host it would be sent to.
    CredentialHostMismatch: User, Slowly, 11,
        "Add the host to the key `hosts` of the Secret, if it may have these credentials.";
    /// The platform does not allow what was asked for.
    NotAllowed: User, Never, 10,
        "Use what the platform allows, or ask its administrator to allow this.";
    /// The registry does not accept the push credentials.
    PushUnauthorized: User, Slowly, 11,
        "Log in again, or renew the Secret: the registry does not know these credentials.";
    /// The registry knows the credentials and refuses the push.
    PushDenied: User, Slowly, 11,
        "Give the account the right to push to this repository, or create the repository where the registry wants that.";
    /// The tag exists with another digest and may not be moved; the image is there by digest.
    TagImmutable: User, Never, 10,
        "Use a tag that is not taken, such as one with the revision, or deploy by digest.";
    /// A secret was found in what would have been published.
    SecretLeakDetected: User, Never, 10,
        "Take the secret out of the file that the message names, and replace it: others may have read it.";
    /// The base image does not exist or cannot be read.
    BaseNotFound: Platform, Slowly, 12,
        "Correct the base image, and check that it may be read and is for linux/amd64.";
    /// The node cannot pull the builder image.
    BuilderImagePullFailed: Platform, Slowly, 20,
        "Check `builder.image` and `builder.imagePullSecrets` of the chart, and that the node reaches the registry.";
    /// rcc cannot be had, or is not one that works.
    RccUnavailable: Platform, Slowly, 12,
        "Name an rcc for Linux x86-64 of line 17, 18 or 19: `--rcc-exec`, `--rcc-url` with `--rcc-sha256`, or the platform's setting.";
    /// No node can take the build pod.
    Unschedulable: Platform, Slowly, 20,
        "Add room to the cluster, or lower the build's requests; see the events of the pod.";
    /// The cluster refused the build pod.
    PodRejected: Platform, Slowly, 10,
        "Read the message of the admission that refused it; the pod needs no more than Pod Security `restricted`.";
    /// A quota of the namespace is used up.
    QuotaExceeded: Platform, Slowly, 20,
        "Wait for other builds, or raise the namespace's quota.";
    /// A server's certificate is not trusted.
    CertificateUntrusted: Platform, Slowly, 20,
        "Add the authority to the CA bundle of the platform (`--ca` on the command line), or renew the certificate.";
    /// The proxy refused or failed.
    ProxyFailed: Platform, Slowly, 20,
        "Correct proxy and exceptions in the platform's settings, and its credentials.";
    /// The source's server could not be reached or failed.
    SourceUnreachable: Infrastructure, Backoff, 20,
        "Wait, or check name resolution, network policies and proxy on the way to the server.";
    /// The package index could not be reached or failed.
    IndexUnreachable: Infrastructure, Backoff, 20,
        "Wait, or check name resolution, network policies and proxy on the way to the index.";
    /// The registry could not be reached or failed.
    RegistryUnavailable: Infrastructure, Backoff, 20,
        "Wait, or check that the registry works and can be reached.";
    /// The registry asked us to come back later.
    RegistryRateLimited: Infrastructure, Backoff, 21,
        "Wait, log in, or name a mirror.";
    /// The registry broke its protocol.
    RegistryProtocol: Infrastructure, Backoff, 20,
        "Try again; when it stays, tell who runs the registry what the message says.";
    /// A step used more memory than it may.
    OutOfMemory: Infrastructure, Backoff, 20,
        "Raise `build.resources.limits.memory`; the operator does so by itself up to the platform's limit.";
    /// The node evicted the build pod.
    Evicted: Infrastructure, Backoff, 20,
        "Give the node room, or raise the requests so that the pod lands where there is some.";
    /// The node went away.
    NodeLost: Infrastructure, Backoff, 20,
        "Nothing: it is tried again on another node.";
    /// A volume or disk is full.
    StorageExceeded: Infrastructure, Backoff, 20,
        "Raise the size of the volume that the message names, or free the disk.";
    /// The build took longer than build.timeout.
    BuildTimeout: Infrastructure, Backoff, 20,
        "Raise `build.timeout`, or see in the step's log what is slow.";
    /// What arrived is not what its digest says.
    DigestMismatch: Infrastructure, Backoff, 20,
        "Try again; when it stays, what is stored is damaged: push or download it anew.";
    /// The build ended without a report that can be read.
    ResultUnreadable: Infrastructure, Backoff, 20,
        "Nothing at first: it is tried again. When it stays, look at the pod's log.";
    /// A bug of RobotImage.
    InternalError: Infrastructure, Backoff, 70,
        "Report it with the message and the log.";
    /// It was canceled.
    Canceled: Control, Never, 130,
        "Nothing: start it again when it is wanted.";
    /// A newer build took its place.
    Superseded: Control, Never, 130,
        "Nothing: the newer build goes on.";
    /// The same inputs were built again and again.
    LoopDetected: Control, Never, 10,
        "Find what changes the source or the base at every build, such as a pipeline that commits the digest to the same branch.";
    /// The resource is suspended.
    Suspended: Control, Never, 10,
        "Set `suspend` to false.";
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
            assert!(reason.meaning().ends_with('.') && reason.advice().ends_with('.'), "{reason}");
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
