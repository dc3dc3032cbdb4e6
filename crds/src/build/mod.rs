//! The contract between the operator and the three steps of a build pod.
//!
//! A plan goes in by the environment variable [`PLAN_VARIABLE`]; a report comes out in the container's termination message.
//! Invariant: a report is at most [`MAX_REPORT_BYTES`] long and carries the build id of its plan; what does not is no report.

mod kind;
mod plan;
mod report;
mod source;
mod template;

pub use kind::PlanKind;
pub use plan::{BuildPlan, PlanEnvironment, PlanImage, PlanPlatform, PlanRcc, PlanRobot, Previous};
pub use report::{BuildReport, Failure, Fetched, LayerReport, Outcome, Published, ReportError, Resolved, Step};
pub use source::{PlanFrom, PlanIgnore, PlanSource, Want};
pub use template::{TemplateError, render};

/// Environment variable that carries the [`BuildPlan`] as JSON.
pub const PLAN_VARIABLE: &str = "ROBOTIMAGE_PLAN";

/// Largest termination message that we write. The kubelet cuts at 4 KiB a container and 12 KiB a pod.
pub const MAX_REPORT_BYTES: usize = 1024;

/// Where things are inside the build pod.
pub mod paths {
    /// The robot's code, written by fetch, read by publish.
    pub const SOURCE: &str = "/workspace/source";
    /// The build's facts and the files resolve may see, written by fetch only.
    pub const SPEC: &str = "/workspace/spec";
    /// Home of rcc while it resolves; the sealed environment is below it, at the path it has in the image.
    pub const RCC_HOME: &str = "/opt/rcc";
    /// Private scratch of a step.
    pub const SCRATCH: &str = "/workspace/scratch";
    /// HOME of resolve: the robot's home in the image, because rcc derives the name of the environment from it.
    pub const HOME: &str = "/home/robot";
    /// Platform settings: ca-bundle.pem, settings.yaml, piprc, micromambarc. All optional.
    pub const PLATFORM: &str = "/platform";
    /// Credentials of the source: username, password, bearerToken, hosts, ca.crt; of a registry .dockerconfigjson.
    pub const SOURCE_SECRET: &str = "/secrets/source";
    /// The ConfigMap that is the source.
    pub const SOURCE_CONFIG_MAP: &str = "/workspace/config-map";
    /// Registry read credentials for the target repository: .dockerconfigjson.
    pub const PULL_SECRET: &str = "/secrets/pull";
    /// Registry read credentials for the base.
    pub const BASE_SECRET: &str = "/secrets/base";
    /// Registry read credentials for the rcc image.
    pub const RCC_SECRET: &str = "/secrets/rcc";
    /// Registry push credentials: .dockerconfigjson.
    pub const PUSH_SECRET: &str = "/secrets/push";
    /// Termination message of a container, the kubelet's default.
    pub const TERMINATION: &str = "/dev/termination-log";
}
