//! The source of the plan, of whatever kind, written to its folder.
//!
//! Invariant: what is left out is gone before anything else looks at the files, and is in no hash.

use std::path::Path;

use robotimage_crds::build::{PlanFrom, PlanIgnore, paths};
use robotimage_crds::reason::Reason;

use super::fetch::blocking;
use super::root::make_empty;
use super::{Context, access};
use crate::failure::Failure;
use crate::robot;
use crate::source::{
    Checkout, GitRequest, HttpRequest, Limits, OciRequest, SourceError, SourceSecret, Target, checkout, copy, download, leave_out, pull,
};

/// Fetches the source.
pub(super) async fn fetch(context: &Context, scratch: &Path) -> Result<Checkout, Failure> {
    let source = &context.plan.source;
    let into = context.root.path(paths::SOURCE);
    make_empty(&into)?;
    let found = match &source.from {
        PlanFrom::Git { url } => git(context, url, scratch, &into).await?,
        PlanFrom::Http { url, sha256 } => http(context, url, sha256.as_deref(), scratch, &into).await?,
        PlanFrom::Oci { image } => oci(context, image, scratch, &into).await?,
        PlanFrom::ConfigMap { name } => config_map(context, name, &into).await?,
    };
    let file = context.plan.robot.file.clone();
    let kind = source.from.clone();
    if !matches!(kind, PlanFrom::Git { .. }) && source.path.is_empty() {
        only_folder(&into, &file)?;
    }
    let ignore = source.ignore.clone();
    if ignore.is_nothing() {
        return Ok(found);
    }
    let limits = limits(context);
    let tree = blocking(move || without(&into, &ignore, &file, limits)).await?;
    Ok(Checkout { tree, ..found })
}

fn limits(context: &Context) -> Limits {
    Limits {
        bytes: context.plan.platform.max_source_bytes,
        entries: context.plan.platform.max_source_entries,
    }
}

/// The Secret of a git repository or a web server.
fn secret(context: &Context, field: &str) -> Result<Option<SourceSecret>, Failure> {
    let secret = SourceSecret::load(&context.root.path(paths::SOURCE_SECRET))?;
    if context.plan.source.secret && secret.is_none() {
        return Err(missing(field, "username, password, bearerToken and ca.crt"));
    }
    Ok(secret)
}

fn missing(field: &str, keys: &str) -> Failure {
    let problem = format!("that {field}.secretRef names does not exist, or has none of the keys {keys}");
    SourceError::SecretMissing { problem }.into()
}

async fn git(context: &Context, url: &str, scratch: &Path, into: &Path) -> Result<Checkout, Failure> {
    let plan = &context.plan;
    let secret = secret(context, "source.git")?;
    let policy = access::policy(&plan.platform)?;
    let request = GitRequest {
        url,
        want: &plan.source.want,
        path: &plan.source.path,
        secret: secret.as_ref(),
        require_hosts: plan.platform.require_secret_hosts,
        web: &access::web(&plan.platform, access::roots(&context.root)?, policy),
        limits: limits(context),
        scratch,
        into,
        interrupt: context.interrupt.clone(),
    };
    Ok(checkout(&request).await?)
}

async fn http(context: &Context, url: &str, sha256: Option<&str>, scratch: &Path, into: &Path) -> Result<Checkout, Failure> {
    let plan = &context.plan;
    let secret = secret(context, "source.http")?;
    let policy = access::policy(&plan.platform)?;
    let request = HttpRequest {
        url,
        want: &plan.source.want,
        sha256,
        path: &plan.source.path,
        secret: secret.as_ref(),
        require_hosts: plan.platform.require_secret_hosts,
        web: &access::web(&plan.platform, access::roots(&context.root)?, policy),
        limits: limits(context),
        scratch,
        into,
        interrupt: context.interrupt.clone(),
    };
    Ok(download(&request).await?)
}

async fn oci(context: &Context, image: &str, scratch: &Path, into: &Path) -> Result<Checkout, Failure> {
    let plan = &context.plan;
    let credentials = access::source_credentials(&context.root)?;
    if plan.source.secret && credentials.is_none() {
        return Err(missing("source.oci", ".dockerconfigjson"));
    }
    // Mirrors are for bases and rcc: their copies of an artifact may be old ones.
    let request = OciRequest {
        client: &access::client(&context.registry()?, credentials)?,
        image,
        want: &plan.source.want,
        path: &plan.source.path,
        limits: limits(context),
        scratch,
        into,
        interrupt: context.interrupt.clone(),
    };
    Ok(pull(&request).await?)
}

async fn config_map(context: &Context, name: &str, into: &Path) -> Result<Checkout, Failure> {
    let (name, mounted) = (name.to_owned(), context.root.path(paths::SOURCE_CONFIG_MAP));
    let (path, limits) = (context.plan.source.path.clone(), limits(context));
    let (into, interrupt) = (into.to_owned(), context.interrupt.clone());
    blocking(move || {
        let target = Target {
            of: &format!("ConfigMap {name}"),
            path: &path,
            limits,
            into: &into,
            interrupt: &interrupt,
        };
        Ok(copy(&name, &mounted, target)?)
    })
    .await
}

/// Says what to do when an archive holds one folder and the robot is in it, as it is in archives of whole repositories. The
/// folder is not taken away: its name often has a version, and a source that changes shape by itself is a riddle.
fn only_folder(context: &Path, file: &str) -> Result<(), Failure> {
    let list = |error| Failure::io("list", context, &error);
    let mut entries = std::fs::read_dir(context).map_err(list)?;
    let (Some(first), None) = (entries.next().transpose().map_err(list)?, entries.next()) else {
        return Ok(());
    };
    let here = |at: &Path| at.symlink_metadata().is_ok();
    if here(&context.join(file)) || !here(&first.path().join(file)) {
        return Ok(());
    }
    let name: String = first.file_name().to_string_lossy().escape_debug().take(200).collect();
    Err(Failure::new(
        Reason::SourcePathNotFound,
        format!("the source has no {file} at its top, where everything is in the folder \"{name}\"; set source.path to it"),
    ))
}

/// Takes away what is left out; the hash of the rest.
fn without(context: &Path, ignore: &PlanIgnore, file: &str, limits: Limits) -> Result<String, Failure> {
    let robot = if ignore.from_robot {
        let robot = robot::load(context, file)?;
        let texts = robot.ignored(context)?;
        Some((robot.folder().to_owned(), texts))
    } else {
        None
    };
    let robot = robot.as_ref().map(|(folder, texts)| (folder.as_path(), texts.as_slice()));
    Ok(leave_out(context, &ignore.patterns, robot, limits)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        bytes: 1 << 20,
        entries: 100,
    };

    fn tree(files: &[(&str, &str)], ignore: &PlanIgnore) -> Result<String, Failure> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let at = folder.path().join(name);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(at, text).unwrap();
        }
        without(folder.path(), ignore, "bot/robot.yaml", LIMITS)
    }

    #[test]
    fn what_is_left_out_is_in_no_hash() {
        let robot = "tasks: {Main: {shell: sh main.sh}}\nartifactsDir: output\nignoreFiles: [.ignored]\n";
        let plain = [
            ("bot/robot.yaml", robot),
            ("bot/.ignored", "*.log\n"),
            ("bot/a.log", "1"),
            ("doc/b.log", "2"),
        ];
        let by_rcc = [plain[0], plain[1], plain[3]];
        let by_both = [plain[0], plain[1]];
        let nothing = PlanIgnore::default();
        let patterns = PlanIgnore {
            patterns: "doc/\n".to_owned(),
            ..PlanIgnore::default()
        };
        let from_robot = PlanIgnore {
            from_robot: true,
            ..PlanIgnore::default()
        };
        let both = PlanIgnore {
            from_robot: true,
            ..patterns.clone()
        };
        // rcc looks at the robot's folder only.
        assert_eq!(tree(&plain, &from_robot).unwrap(), tree(&by_rcc, &nothing).unwrap());
        assert_eq!(tree(&plain, &patterns).unwrap(), tree(&plain[..3], &nothing).unwrap());
        assert_eq!(tree(&plain, &both).unwrap(), tree(&by_both, &nothing).unwrap());
        let missing = tree(&plain[..1], &from_robot).unwrap_err();
        assert_eq!(missing.reason, Reason::RobotYamlInvalid);
        assert!(missing.message.contains("ignore file \"bot/.ignored\" does not exist"), "{missing}");
    }

    #[test]
    fn an_archive_of_one_folder_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("robot-1.2");
        std::fs::create_dir(&inside).unwrap();
        assert!(only_folder(folder.path(), "robot.yaml").is_ok(), "no robot there either");
        std::fs::write(inside.join("robot.yaml"), "").unwrap();
        let failure = only_folder(folder.path(), "robot.yaml").unwrap_err();
        assert_eq!(failure.reason, Reason::SourcePathNotFound);
        assert!(failure.message.contains("\"robot-1.2\"; set source.path"), "{failure}");
        assert!(only_folder(folder.path(), "robot-1.2/robot.yaml").is_ok());
        std::fs::write(folder.path().join("README"), "").unwrap();
        assert!(only_folder(folder.path(), "robot.yaml").is_ok());
    }
}
