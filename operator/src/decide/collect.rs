//! The end of a build, taken into the status.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use robotimage_crds::api::{
    BuildPhase, EnvironmentStatus, Inputs, LatestBuild, LatestImage, LayerStatus, RobotImageStatus, SourceStatus, StepStatus,
};
use robotimage_crds::build::{BuildPlan, Fetched, Published, Step, Want, render};
use robotimage_crds::reason::Reason;

use super::defaults::Settings;
use super::failure::{self, Terms};
use super::looping::Ended;
use super::outcome::Note;
use super::retry::Plan;
use super::start::is_forced;
use super::verdict::{Failed, Verdict};
use super::{history, looping, memory};
use crate::observe::{JobView, Revision, is_id};
use crate::text;

/// Most bytes of what the status tells of the environment cache.
const CACHE: usize = 120;

/// What a build's end means beyond the fields it sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Collected {
    /// Fetch saw the source.
    pub(super) source_seen: bool,
    /// The source could not be seen, and why.
    pub(super) source_failed: Option<(Reason, String)>,
    /// Events to tell.
    pub(super) notes: Vec<Note>,
}

/// Takes the end of the live build into the status.
pub(super) fn collect(
    status: &mut RobotImageStatus,
    build: &LatestBuild,
    job: Option<&JobView>,
    verdict: Verdict,
    settings: &Settings,
    terms: Terms,
) -> Collected {
    let now = terms.now;
    let mut build = LatestBuild {
        steps: if verdict.steps.is_empty() {
            build.steps.clone()
        } else {
            verdict.steps
        },
        duration: Some(history::elapsed(build.started_at.as_ref(), now)),
        uid: build.uid.clone().or_else(|| job.map(|job| job.uid.clone())),
        ..build.clone()
    };
    let plan = job.and_then(|job| job.plan.as_ref());
    let mut collected = Collected {
        source_seen: verdict.fetched.is_some(),
        ..Collected::default()
    };
    if let Some((fetched, revision)) = verdict
        .fetched
        .as_ref()
        .and_then(|fetched| Some((fetched, believed(plan, fetched)?)))
    {
        build.plan = Some(fetched.plan.as_str().to_owned());
        note_cache(&mut build.steps, fetched);
        build.revision = Some(revision.to_string());
        status.source = Some(source_status(&revision, fetched));
    }
    match verdict
        .result
        .and_then(|published| check(plan, verdict.fetched.as_ref(), published))
    {
        Ok(success) => succeed(status, &mut build, &success, now, &mut collected.notes),
        Err(failed) => {
            let (failed, last) = memory::judged(failed, &build, settings);
            fail(status, &mut build, &failed, last, terms, &mut collected);
        }
    }
    history::trim(status, settings);
    status.latest_build = Some(build);
    collected
}

/// A success that fits the plan and fetch's facts.
struct Success<'a> {
    plan: &'a BuildPlan,
    fetched: &'a Fetched,
    published: Published,
    revision: Revision,
}

fn check<'a>(plan: Option<&'a BuildPlan>, fetched: Option<&'a Fetched>, published: Published) -> Result<Success<'a>, Failed> {
    let unreadable = |message: &str| Failed {
        reason: Reason::ResultUnreadable,
        message: message.to_owned(),
        tail: String::new(),
        retry_after: None,
        counted: false,
        step: None,
    };
    let plan = plan.ok_or_else(|| unreadable("the build's Job carries no plan that can be read"))?;
    let fetched = fetched.ok_or_else(|| unreadable("publish ended well, but fetch left no facts"))?;
    if !is_digest(&published.digest) {
        return Err(unreadable("publish reported something that is no digest"));
    }
    seen(Some(plan), fetched).map_err(unreadable)?;
    Ok(Success {
        plan,
        fetched,
        published,
        revision: revision_of(Some(plan), fetched),
    })
}

/// The revision that fetch reports, when that can be true.
pub(super) fn believed(plan: Option<&BuildPlan>, fetched: &Fetched) -> Option<Revision> {
    seen(plan, fetched).ok().map(|()| revision_of(plan, fetched))
}

/// Whether fetch's facts can be true.
fn seen(plan: Option<&BuildPlan>, fetched: &Fetched) -> Result<(), &'static str> {
    if !is_id(&fetched.commit) {
        return Err("fetch reported something that is no revision");
    }
    match plan.map(|plan| &plan.source.want) {
        Some(Want::Commit { id, .. }) if *id != fetched.commit => Err("fetch reported another revision than it was told"),
        _ => Ok(()),
    }
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The revision by the operator's name for it, or by fetch's where fetch resolved it.
fn revision_of(plan: Option<&BuildPlan>, fetched: &Fetched) -> Revision {
    let reference = match plan.map(|plan| &plan.source.want) {
        Some(Want::Commit { reference, .. }) => reference.clone(),
        _ => Some(text::line(&fetched.reference, 255))
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "HEAD".to_owned()),
    };
    Revision {
        reference,
        commit: fetched.commit.clone(),
    }
}

/// Puts what the environment cache said beside the step that it spares.
pub(super) fn note_cache(steps: &mut [StepStatus], fetched: &Fetched) {
    for step in steps.iter_mut().filter(|step| step.name == Step::Resolve.as_str()) {
        step.cache = Some(text::line(&fetched.cache, CACHE)).filter(|said| !said.is_empty());
    }
}

/// What the status says of a revision that fetch has seen.
pub(super) fn source_status(revision: &Revision, fetched: &Fetched) -> SourceStatus {
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    SourceStatus {
        revision: revision.to_string(),
        short: revision.short(),
        tree_hash: some(text::line(&fetched.tree, 80)),
        author: some(text::line(&fetched.author, 64)),
        message: some(text::line(&fetched.message, 72)),
    }
}

fn succeed(status: &mut RobotImageStatus, build: &mut LatestBuild, success: &Success<'_>, now: Timestamp, notes: &mut Vec<Note>) {
    let Success {
        plan,
        fetched,
        published,
        revision,
    } = success;
    build.phase = BuildPhase::Succeeded;
    status.last_failure = None;
    let key_before = status.latest_image.as_ref().map(|image| image.build_key.clone());
    let before = status
        .latest_image
        .take()
        .filter(|image| image.digest == published.digest && image.reference.starts_with(&format!("{}@", plan.image.repository)));
    let noop = fetched.noop && published.noop;
    let ended = Ended {
        build,
        build_key: &text::line(&fetched.build_key, 64),
        before: key_before.as_deref(),
        noop,
    };
    looping::count(status, &ended, now);
    let short = published.digest["sha256:".len()..][..12].to_owned();
    let tags = plan
        .image
        .tags
        .iter()
        .filter_map(|tag| render(tag, &revision.commit).ok())
        .take(10)
        .collect();
    // The same bytes were published then, and are only asked for anew.
    let image = if let Some(before) = before {
        notes.push(Note::normal(
            "ImageUnchanged",
            format!("build {} confirms {}", build.number, before.reference),
        ));
        LatestImage {
            tags,
            request_key: build.request_key.clone(),
            build_key: text::line(&fetched.build_key, 64),
            ..before
        }
    } else {
        let reference = format!("{}@{}", plan.image.repository, published.digest);
        notes.push(Note::normal(
            "ImageUpdated",
            format!("build {} published {reference}", build.number),
        ));
        LatestImage {
            reference,
            digest: published.digest.clone(),
            short: short.clone(),
            tags,
            size: published.size,
            uploaded: published.uploaded,
            layers: published
                .layers
                .iter()
                .take(8)
                .map(|layer| LayerStatus {
                    role: text::line(&layer.role, 16),
                    count: layer.count,
                    size: layer.size,
                    uploaded: layer.up,
                })
                .collect(),
            platforms: platform_names(plan),
            request_key: build.request_key.clone(),
            build_key: text::line(&fetched.build_key, 64),
            published_at: Time(now),
        }
    };
    status.latest_image = Some(image);
    if !noop || status.inputs.is_none() {
        status.inputs = Some(Inputs {
            base: text::line(&with_digest(&plan.image.base, &fetched.base), 600),
            rcc: text::line(&format!("{}@{}", fetched.rcc, fetched.rcc_digest), 120),
            rcc_image: Some(text::line(&fetched.rcc_image, 71)).filter(|digest| !digest.is_empty()),
            compatibility: plan.image.compatibility,
            unchecked: status.inputs.take().map(|inputs| inputs.unchecked).unwrap_or_default(),
        });
    }
    let kept = status
        .environment
        .take()
        .filter(|environment| environment.key == fetched.environment_key);
    let counted = (published.packages > 0).then_some(published.packages);
    let kept = kept.map(|environment| EnvironmentStatus {
        packages: environment.packages.or(counted),
        ..environment
    });
    status.environment = kept.or_else(|| {
        (!fetched.environment_key.is_empty()).then(|| EnvironmentStatus {
            key: text::line(&fetched.environment_key, 64),
            blueprint: Some(text::line(&fetched.blueprint, 64)).filter(|blueprint| !blueprint.is_empty()),
            packages: counted,
            resolved_at: Some(Time(now)),
        })
    });
    let noun = if noop { "found nothing to do" } else { "succeeded" };
    notes.push(Note::normal(
        "BuildSucceeded",
        format!("build {} {noun} at {}", build.number, revision.short()),
    ));
    if !noop {
        history::add(status, build, history::SUCCEEDED, Some(short), now);
    }
}

/// Names of the image's platforms, as the API writes them.
fn platform_names(plan: &BuildPlan) -> Vec<String> {
    serde_json::to_value(plan.image.platform)
        .ok()
        .and_then(|name| name.as_str().map(str::to_owned))
        .into_iter()
        .collect()
}

/// A reference by the digest of its platform manifest; without the digest it may have had.
fn with_digest(reference: &str, digest: &str) -> String {
    let name = reference.split('@').next().unwrap_or(reference);
    if is_digest(digest) {
        format!("{name}@{digest}")
    } else {
        reference.to_owned()
    }
}

/// A failed build. A mere look that found no new revision leaves the image what it was: the newest one asked for.
fn fail(status: &mut RobotImageStatus, build: &mut LatestBuild, failed: &Failed, last: bool, terms: Terms, collected: &mut Collected) {
    build.phase = BuildPhase::Failed;
    if of_source(failed.reason) {
        collected.source_failed = Some((failed.reason, failed.message.clone()));
    }
    let confirmed = status
        .latest_image
        .as_ref()
        .is_some_and(|image| image.request_key == build.request_key);
    if confirmed && !collected.source_seen && !is_forced(build) {
        collected.source_failed = Some((failed.reason, failed.message.clone()));
        collected
            .notes
            .push(Note::warning("SourceFailed", format!("{}: {}", failed.reason, failed.message)));
        return;
    }
    let plan = failure::record_build(status, build, failed, last, terms);
    let (event, then) = match plan {
        Plan::Again(_) => ("BuildRetrying", "it is tried again"),
        Plan::Slowly(_) => ("BuildFailed", "it is tried again much later, or when something changes"),
        Plan::Never => ("BuildFailed", "only a change helps"),
    };
    let told = format!(
        "build {} attempt {}: {}: {}; {then}",
        build.number, build.attempt, failed.reason, failed.message
    );
    collected.notes.push(Note::warning(event, told));
    if !matches!(plan, Plan::Again(_)) {
        history::add(status, build, failed.reason.as_str(), None, terms.now);
    }
}

/// Whether a failure says that the source could not be had.
fn of_source(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::GitAuthFailed
            | Reason::SourceAuthFailed
            | Reason::GitRevisionNotFound
            | Reason::GitHostKeyUnknown
            | Reason::SourceNotFound
            | Reason::SourcePathNotFound
            | Reason::SourceTooLarge
            | Reason::SourceRejected
            | Reason::SourceUnreachable
            | Reason::CredentialHostMismatch
    )
}
