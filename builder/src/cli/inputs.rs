//! What a build is told by its arguments and by the machine: names, folders, programs, credentials, the base.

use std::path::PathBuf;

use robotimage_crds::build::PlanPlatform;
use robotimage_crds::reason::Reason;
use robotimage_registry::{AddressPolicy, Client, ClientOptions, Credentials, Reference};

use super::args::BuildArgs;
use super::build::{Folders, Stop, blocking};
use crate::failure::Failure;
use crate::image::Base;
use crate::image::pull::{BaseBlobs, from_layout, from_registry};
use crate::steps;

/// The folder with the robot.
pub(super) fn context(args: &BuildArgs) -> Result<PathBuf, Failure> {
    args.dir.canonicalize().ok().filter(|dir| dir.is_dir()).ok_or_else(|| {
        let message = format!("{} is no folder; give the one with the robot", args.dir.display());
        Failure::new(Reason::SourceNotFound, message)
    })
}

/// `-t` as references with a tag.
pub(super) fn names(tags: &[String]) -> Result<Vec<Reference>, Failure> {
    let wrong = |problem: String| Failure::new(Reason::NotAllowed, format!("--tag: {problem}"));
    tags.iter()
        .map(|text| {
            let reference = Reference::parse(text).map_err(|error| wrong(error.to_string()))?;
            match (reference.tag(), reference.digest()) {
                (_, Some(_)) => Err(wrong(format!(
                    "{text} names a digest, which only a finished image has; leave it out"
                ))),
                (Some(_), None) => Ok(reference),
                (None, None) => reference.with_tag("latest").map_err(|error| wrong(error.to_string())),
            }
        })
        .collect()
}

/// `$ROBOTIMAGE_CACHE`, else `~/.cache/robotimage`.
pub(super) fn cache() -> Result<PathBuf, Failure> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("ROBOTIMAGE_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("robotimage")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/robotimage")))
        .ok_or_else(|| {
            Failure::new(
                Reason::InternalError,
                "there is no place for the cache: HOME is not set; set ROBOTIMAGE_CACHE",
            )
        })
}

pub(super) fn rcc_path(args: &BuildArgs) -> Result<PathBuf, Failure> {
    let missing = |message: String| Failure::new(Reason::RccUnavailable, message);
    if let Some(path) = &args.rcc_exec {
        return path
            .canonicalize()
            .map_err(|error| missing(format!("rcc at {}: {error}; correct --rcc-exec", path.display())));
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .map(|folder| folder.join("rcc"))
        .find(|path| path.is_file())
        .ok_or_else(|| missing("there is no rcc in PATH; install it, or give --rcc-exec FILE".to_owned()))
}

pub(super) fn launcher(args: &BuildArgs) -> Result<PathBuf, Failure> {
    let path = match &args.launcher {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .map_err(|error| {
                Failure::new(
                    Reason::InternalError,
                    format!("this program cannot find itself: {error}; give --launcher FILE"),
                )
            })?
            .with_file_name("robotimage-launcher"),
    };
    if path.is_file() {
        return Ok(path);
    }
    let message = format!("the launcher {} is not there; give --launcher FILE", path.display());
    Err(Failure::new(Reason::RccUnavailable, message))
}

pub(super) fn registry(args: &BuildArgs, stop: &Stop) -> Result<Client, Failure> {
    let mut roots = Vec::new();
    for path in &args.ca {
        let bundle = steps::read_small(path)?.ok_or_else(|| {
            Failure::new(
                Reason::CertificateUntrusted,
                format!("the CA file {} does not exist", path.display()),
            )
        })?;
        roots.push(bundle);
    }
    let platform = PlanPlatform {
        plain_http: args.plain_http.clone(),
        ..PlanPlatform::default()
    };
    let mut options: ClientOptions = steps::client_options(&platform, roots, AddressPolicy::open(), None, &stop.cancel);
    for (registry, mirror) in &args.mirrors {
        options.mirrors.entry(registry.clone()).or_default().push(mirror.clone());
    }
    steps::client(&options, Some(credentials()?))
}

/// What the user is logged in with.
pub(super) fn credentials() -> Result<Credentials, Failure> {
    Credentials::from_environment().map_err(|error| Failure::new(Reason::PushUnauthorized, error.to_string()))
}

pub(super) async fn base(args: &BuildArgs, client: &Client, folders: &Folders) -> Result<(Base, BaseBlobs), Failure> {
    let facts = folders.cache.join("bases");
    if let Some(folder) = args.base_image.strip_prefix("oci:") {
        let folder = PathBuf::from(folder);
        return blocking(move || from_layout(&folder, Some(&facts)).map_err(|error| steps::pull_failure(&error))).await;
    }
    let reference = steps::base_reference(&args.base_image)?;
    from_registry(client, &reference, Some(&facts), None)
        .await
        .map_err(|error| steps::pull_failure(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_a_tag() {
        let of = |text: &str| names(&[text.to_owned()]).map(|names| names[0].to_string());
        assert_eq!(of("r.example.com/a").unwrap(), "r.example.com/a:latest");
        assert_eq!(of("r.example.com/a:1").unwrap(), "r.example.com/a:1");
        for bad in [
            "r.example.com/A",
            &format!("r.example.com/a@sha256:{}", "0".repeat(64)),
            "https://r/a:1",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
