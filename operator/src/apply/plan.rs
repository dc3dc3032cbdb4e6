//! The plan that a build pod gets. Names of Secrets and their contents are not in it.

use robotimage_crds::api::RobotImageStatus;
use robotimage_crds::build::{BuildPlan, PlanImage, PlanRcc, PlanRobot, PlanSource, Previous};

use super::job::JobInput;
use crate::decide::is_forced;

/// Makes the plan of an attempt.
pub(super) fn plan(input: &JobInput<'_>) -> BuildPlan {
    let settings = input.settings;
    let image = &settings.image;
    let timeout = i64::try_from(settings.timeout.as_secs()).unwrap_or(i64::MAX / 4);
    let previous = input.image.status.as_ref().and_then(|status| previous(status, &image.repository));
    BuildPlan {
        version: 1,
        build_id: input.build.build_id.clone(),
        namespace: input.image.metadata.namespace.clone().unwrap_or_default(),
        name: input.image.metadata.name.clone().unwrap_or_default(),
        number: input.build.number,
        attempt: input.build.attempt,
        deadline: input.now.as_second() + timeout,
        source: PlanSource {
            from: settings.source.plan(),
            want: input.want.clone(),
            secret: settings.source.secret().is_some(),
            path: settings.path.clone(),
            ignore: settings.ignore.clone(),
        },
        robot: PlanRobot {
            file: settings.robot_file.clone(),
            task: settings.task.clone(),
        },
        environment: input.environment,
        image: PlanImage {
            repository: image.repository.clone(),
            tags: image.tags.clone(),
            push_secret: image.push_secret.is_some(),
            platform: image.platform,
            base: at(&image.base, input.base),
            rcc: match &image.rcc {
                PlanRcc::Image(image) => PlanRcc::Image(at(image, input.rcc)),
                PlanRcc::Http(file) => PlanRcc::Http(file.clone()),
            },
            compression: image.compression,
            user: image.user.clone(),
            labels: image.labels.clone(),
            annotations: image.annotations.clone(),
            compatibility: image.compatibility,
        },
        previous: previous.filter(|_| !is_forced(input.build)),
        platform: input.platform.plan(&image.repository),
    }
}

/// A reference at a digest; one that has a digest keeps it.
fn at(reference: &str, digest: Option<&str>) -> String {
    match digest {
        Some(digest) if !reference.contains('@') => format!("{reference}@{digest}"),
        _ => reference.to_owned(),
    }
}

/// The image that is there, when it is in the repository that is asked for.
fn previous(status: &RobotImageStatus, repository: &str) -> Option<Previous> {
    let image = status.latest_image.as_ref()?;
    let here = image.reference.strip_prefix(repository).is_some_and(|rest| rest.starts_with('@'));
    here.then(|| Previous {
        build_key: image.build_key.clone(),
        digest: image.digest.clone(),
        environment_key: status
            .environment
            .as_ref()
            .map(|environment| environment.key.clone())
            .unwrap_or_default(),
        packages: status
            .environment
            .as_ref()
            .and_then(|environment| environment.packages)
            .unwrap_or_default(),
        rcc_image: status
            .inputs
            .as_ref()
            .and_then(|inputs| inputs.rcc_image.clone())
            .unwrap_or_default(),
    })
}
