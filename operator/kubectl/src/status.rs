//! `status`: a table of all, or one in detail.

use jiff::Timestamp;
use robotimage_crds::api::{ChangeReason, LastFailure, LatestBuild, LatestImage};

use crate::advice;
use crate::arguments::StatusArguments;
use crate::cluster::{Cluster, Listed};
use crate::error::Error;
use crate::out::Out;
use crate::paper::Paper;
use crate::report::{Document, Report, ReportList};
use crate::resource::Resource;
use crate::screen::{Screen, Tone, clean, clean_lines};
use crate::table::{self, Cell, Column, Give};
use crate::words::{age, lasted, moment, size};

/// Runs it; the exit code.
pub(crate) async fn run(cluster: &Cluster, arguments: &StatusArguments, out: Out) -> Result<u8, Error> {
    let now = Timestamp::now();
    if let Some(name) = &arguments.name {
        let resource = cluster.get(name).await?;
        if out.json_wanted() {
            Out::json(&Document::new("Status", Report::of(&resource)))?;
        } else {
            Out::text(&detail(&resource, now, out.screen))?;
        }
        return Ok(0);
    }
    let listed = cluster.list(arguments.all_namespaces, arguments.selector.as_deref()).await?;
    if out.json_wanted() {
        Out::json(&ReportList::of(&listed))?;
    } else if listed.is_empty() {
        let place = if arguments.all_namespaces {
            "any namespace".to_owned()
        } else {
            format!("namespace {}", cluster.namespace)
        };
        out.note(&format!("There is no RobotImage in {place}."));
    } else {
        Out::text(&list(&listed, arguments.all_namespaces, now, out.screen))?;
    }
    Ok(0)
}

/// The table of all.
pub(crate) fn list(listed: &[Listed], namespaces: bool, now: Timestamp, screen: Screen) -> String {
    let columns = [
        Column::new("NAMESPACE").give(Give::Middle).rank(4),
        Column::new("NAME").give(Give::Middle),
        Column::new("STATUS").give(Give::End),
        Column::new("REVISION").give(Give::Middle).rank(3),
        Column::new("DIGEST").rank(2),
        Column::new("BUILD").right().rank(5),
        Column::new("PLAN").rank(6),
        Column::new("TOOK").right().rank(7),
        Column::new("AGE").right().rank(1),
    ];
    let rows: Vec<Vec<Cell>> = listed.iter().map(|one| row(one, now)).collect();
    if namespaces {
        table::render(&columns, &rows, 0, screen)
    } else {
        let rows: Vec<Vec<Cell>> = rows.into_iter().map(|row| row.into_iter().skip(1).collect()).collect();
        table::render(&columns[1..], &rows, 0, screen)
    }
}

fn row(one: &Listed, now: Timestamp) -> Vec<Cell> {
    let resource = match one {
        Listed::Known(resource) => resource,
        Listed::Unreadable { namespace, name, .. } => {
            return vec![
                namespace.clone().into(),
                name.clone().into(),
                Cell::toned(Tone::Bad, "Unreadable: needs a newer plugin"),
            ];
        }
    };
    let status = &resource.status;
    let build = status.latest_build.as_ref();
    vec![
        resource.namespace().into(),
        resource.name().into(),
        Cell::toned(resource.state().tone(), clean(&resource.summary())),
        status.source.as_ref().map(|source| clean(&source.short)).unwrap_or_default().into(),
        status
            .latest_image
            .as_ref()
            .map(|image| clean(&image.short))
            .unwrap_or_default()
            .into(),
        build.map(|build| build.number.to_string()).unwrap_or_default().into(),
        build.and_then(|build| build.plan.clone()).unwrap_or_default().into(),
        build.map(|build| took(build, now)).unwrap_or_default().into(),
        created(resource).map(|time| age(time, now)).unwrap_or_default().into(),
    ]
}

fn created(resource: &Resource) -> Option<Timestamp> {
    resource.image.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// How long a build took, or has taken so far.
fn took(build: &LatestBuild, now: Timestamp) -> String {
    match (&build.duration, &build.started_at) {
        (Some(duration), _) => duration.clone(),
        (None, Some(started)) => lasted(now.duration_since(started.0).max(jiff::SignedDuration::ZERO).unsigned_abs()),
        (None, None) => String::new(),
    }
}

/// One in detail.
pub(crate) fn detail(resource: &Resource, now: Timestamp, screen: Screen) -> String {
    let status = &resource.status;
    let mut paper = Paper::new(screen);
    let state = resource.state();
    let title = format!("{}/{}", resource.namespace(), resource.name());
    paper.title(&title, state.tone(), &clean(&resource.summary()));
    if !resource.observed() && status.observed_generation.unwrap_or(-1) >= 0 {
        paper.line(&format!(
            "What follows speaks of generation {} of the spec; the newest is {}.",
            status.observed_generation.unwrap_or_default(),
            resource.generation()
        ));
    }
    conditions(&mut paper, resource, now);
    source(&mut paper, resource);
    if let Some(made) = &status.latest_image {
        image(&mut paper, resource, made, now);
    }
    if let Some(build) = &status.latest_build {
        self::build(&mut paper, build, now);
    }
    if let Some(failed) = &status.last_failure {
        failure(&mut paper, failed, now);
    }
    history(&mut paper, resource, now);
    paper.into_text()
}

fn conditions(paper: &mut Paper, resource: &Resource, now: Timestamp) {
    if resource.status.conditions.is_empty() {
        return;
    }
    let columns = [
        Column::new("CONDITION"),
        Column::new("STATUS"),
        Column::new("REASON"),
        Column::new("FOR").right().rank(2),
        Column::new("MESSAGE").give(Give::End).rank(1),
    ];
    let rows: Vec<Vec<Cell>> = resource
        .status
        .conditions
        .iter()
        .map(|condition| {
            let tone = match (condition.type_.as_str(), condition.status.as_str()) {
                ("Stalled", "True") | ("Ready" | "SourceReady", "False") => Tone::Bad,
                ("Ready" | "Available" | "SourceReady", "True") => Tone::Good,
                ("Reconciling", "True") | (_, "Unknown") => Tone::Busy,
                _ => Tone::Quiet,
            };
            vec![
                clean(&condition.type_).into(),
                Cell::toned(tone, clean(&condition.status)),
                clean(&condition.reason).into(),
                age(condition.last_transition_time.0, now).into(),
                clean(&condition.message).into(),
            ]
        })
        .collect();
    paper.heading("Conditions").table(&columns, &rows);
}

fn source(paper: &mut Paper, resource: &Resource) {
    let spec = &resource.image.spec.source;
    paper.heading("Source");
    if let Some(git) = &spec.git {
        paper.field("repository", &clean(&git.url));
        let reference = git.reference.clone().unwrap_or_default();
        let named = [
            ("branch", reference.branch),
            ("tag", reference.tag),
            ("version", reference.semver),
            ("commit", reference.commit),
        ];
        for (kind, name) in named {
            paper.field(kind, &name.as_deref().map(clean).unwrap_or_default());
        }
    }
    if let Some(http) = &spec.http {
        paper.field("archive", &clean(&http.url));
    }
    if let Some(oci) = &spec.oci {
        paper.field("artifact", &clean(&oci.image));
    }
    if let Some(config_map) = &spec.config_map {
        paper.field("ConfigMap", &clean(&config_map.name));
    }
    paper.field("folder", &spec.path.as_deref().map(clean).unwrap_or_default());
    if let Some(source) = &resource.status.source {
        paper.field("revision", &clean(&source.revision));
        let said = [source.author.as_deref(), source.message.as_deref()]
            .into_iter()
            .flatten()
            .map(clean)
            .collect::<Vec<_>>();
        paper.field("last commit", &said.join(": "));
    }
}

fn image(paper: &mut Paper, resource: &Resource, image: &LatestImage, now: Timestamp) {
    paper
        .heading("Image")
        .field("deploy", &clean(&image.reference))
        .field("tags", &clean(&image.tags.join(", ")))
        .field("platforms", &clean(&image.platforms.join(", ")))
        .field("published", &moment(image.published_at.0, now))
        .field("size", &format!("{}, {} of it uploaded", size(image.size), size(image.uploaded)));
    if let Some(inputs) = &resource.status.inputs {
        paper.field("base", &clean(&inputs.base)).field("rcc", &clean(&inputs.rcc));
    }
    if let Some(environment) = &resource.status.environment {
        let key = environment.key.get(..12).unwrap_or(&environment.key);
        let packages = environment
            .packages
            .map(|packages| format!(", {packages} packages"))
            .unwrap_or_default();
        paper.field("environment", &clean(&format!("{key}{packages}")));
    }
    let columns = [
        Column::new("LAYERS"),
        Column::new("COUNT").right().rank(1),
        Column::new("SIZE").right(),
        Column::new("UPLOADED").right(),
    ];
    let rows: Vec<Vec<Cell>> = image
        .layers
        .iter()
        .map(|layer| {
            let uploaded = if layer.uploaded == 0 {
                Cell::toned(Tone::Quiet, "reused")
            } else {
                size(layer.uploaded).into()
            };
            vec![
                clean(&layer.role).into(),
                layer.count.to_string().into(),
                size(layer.size).into(),
                uploaded,
            ]
        })
        .collect();
    if !rows.is_empty() {
        paper.table(&columns, &rows);
    }
}

fn build(paper: &mut Paper, build: &LatestBuild, now: Timestamp) {
    let title = format!("Build {}, attempt {}", build.number, build.attempt);
    let tone = match build.phase {
        robotimage_crds::api::BuildPhase::Succeeded => Tone::Good,
        robotimage_crds::api::BuildPhase::Failed | robotimage_crds::api::BuildPhase::Canceled => Tone::Bad,
        _ => Tone::Busy,
    };
    paper.title(&title, tone, &format!("{:?}", build.phase));
    paper
        .field("reasons", &reasons(&build.reasons))
        .field("plan", &clean(&build.plan.clone().unwrap_or_default()));
    paper.field("revision", &clean(&build.revision.clone().unwrap_or_default()));
    if let Some(started) = &build.started_at {
        paper.field("started", &moment(started.0, now));
    }
    paper.field("took", &took(build, now)).field("job", &clean(&build.job));
    let columns = [
        Column::new("STEP"),
        Column::new("TOOK").right(),
        Column::new("STARTED").rank(1),
        Column::new("ENVIRONMENT CACHE").give(Give::End).rank(2),
    ];
    let rows: Vec<Vec<Cell>> = build
        .steps
        .iter()
        .map(|step| {
            vec![
                clean(&step.name).into(),
                clean(step.duration.as_deref().unwrap_or_default()).into(),
                step.started_at.as_ref().map(|time| time.0.to_string()).unwrap_or_default().into(),
                clean(step.cache.as_deref().unwrap_or_default()).into(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        paper.table(&columns, &rows);
    }
}

/// Why a build was made, in one line.
pub(crate) fn reasons(reasons: &[ChangeReason]) -> String {
    if reasons.is_empty() {
        return "a look for a new revision".to_owned();
    }
    let told: Vec<String> = reasons
        .iter()
        .map(|reason| match (&reason.from, &reason.to) {
            (Some(from), Some(to)) => format!("{} {from} → {to}", reason.kind),
            (None, Some(to)) => format!("{} → {to}", reason.kind),
            (Some(from), None) => format!("{} from {from}", reason.kind),
            (None, None) => reason.kind.clone(),
        })
        .collect();
    clean(&told.join(", "))
}

fn failure(paper: &mut Paper, failed: &LastFailure, now: Timestamp) {
    let (what, _) = advice::split(&failed.message);
    let retry = match &failed.next_retry_at {
        Some(time) => moment(time.0, now),
        None => "not before something changes".to_owned(),
    };
    paper
        .title("Last failure", Tone::Bad, &clean(&failed.reason))
        .field("message", &clean(what))
        .field("advice", &clean(&advice::of(failed)))
        .field("owner", &clean(&format!("{}: {}", failed.owner, advice::owner(&failed.owner))))
        .field("attempts", &failed.attempts.to_string())
        .field("next retry", &retry);
    if let Some(tail) = &failed.log_tail {
        paper.field("log", "the last lines of the failed step:").quoted(&clean_lines(tail));
    }
}

fn history(paper: &mut Paper, resource: &Resource, now: Timestamp) {
    if resource.status.history.is_empty() {
        return;
    }
    let columns = [
        Column::new("BUILD").right(),
        Column::new("OUTCOME").give(Give::End),
        Column::new("REVISION").give(Give::Middle).rank(1),
        Column::new("DIGEST").rank(3),
        Column::new("REASONS").give(Give::End).rank(5),
        Column::new("STARTED").rank(4),
        Column::new("TOOK").right().rank(2),
    ];
    let rows: Vec<Vec<Cell>> = resource
        .status
        .history
        .iter()
        .map(|entry| {
            let tone = if entry.outcome == "Succeeded" { Tone::Good } else { Tone::Bad };
            vec![
                entry.number.to_string().into(),
                Cell::toned(tone, clean(&entry.outcome)),
                clean(entry.revision.as_deref().unwrap_or_default()).into(),
                clean(entry.digest.as_deref().unwrap_or_default()).into(),
                clean(&entry.reasons.join(", ")).into(),
                entry
                    .started_at
                    .as_ref()
                    .map(|time| format!("{} ago", age(time.0, now)))
                    .unwrap_or_default()
                    .into(),
                clean(entry.duration.as_deref().unwrap_or_default()).into(),
            ]
        })
        .collect();
    paper.heading("History").table(&columns, &rows);
}

#[cfg(test)]
mod tests;
