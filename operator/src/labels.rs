//! Names that we put on objects.

/// Field manager of every write, and name in events.
pub const MANAGER: &str = "robotimage-operator";
/// Which operator made it; our watches select by it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// UID of the RobotImage.
pub const UID: &str = "robotimage.dev/uid";
/// Name of the RobotImage.
pub const NAME: &str = "robotimage.dev/name";
/// Number of the build.
pub const BUILD: &str = "robotimage.dev/build";
/// Attempt of that number.
pub const ATTEMPT: &str = "robotimage.dev/attempt";
/// The ConfigMap that carries the platform's settings into a namespace.
pub const PLATFORM_CONFIG_MAP: &str = "robotimage-platform";

/// Label selector of everything that we made.
pub fn selector() -> String {
    format!("{MANAGED_BY}={MANAGER}")
}
