//! What a build is told by its arguments and by the machine: names, folders, programs, credentials, the base.

use std::path::PathBuf;

use robotimage_crds::reason::Reason;
use robotimage_registry::{Client, Credentials, Reference};

use super::args::{BuildArgs, Output};
use super::build::{Folders, blocking};
use crate::failure::Failure;
use crate::image::Base;
use crate::image::pull::{BaseBlobs, from_layout, from_registry};
use crate::image::rootfs::from_rootfs;
use crate::image::store;
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
    if let Some(folder) = args.base_image.strip_prefix("rootfs:") {
        if !matches!(args.output, Some(Output::Tree(_))) {
            let message = "--base-image rootfs:DIR has no layers that an image could stand on; write --output tree:DIR with it";
            return Err(Failure::new(Reason::NotAllowed, message));
        }
        let (folder, empty) = (PathBuf::from(folder), folders.scratch.join("base"));
        return blocking(move || {
            let base = from_rootfs(&folder).map_err(|error| steps::pull_failure(&error))?;
            // It has no layers, so nothing is ever looked for there.
            let blobs = store::layout(&empty).map_err(|error| steps::store_failure(&error))?;
            Ok((base, BaseBlobs::Layout(blobs)))
        })
        .await;
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
