//! `explain`: why the last build was made, why none runs, and what comes next.

mod coming;
mod looks;
mod platform;
mod reasoning;

use jiff::Timestamp;
use robotimage_crds::api::condition::reasons;
use robotimage_operator::observe::{Checks, JobView, Observed, PodView, SourceKnowledge, Turn, refusal_of_events};
use serde::Serialize;

use crate::arguments::ExplainArguments;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::out::Out;
use crate::paper::Paper;
use crate::report::Document;
use crate::resource::Resource;
use crate::screen::{Screen, Tone};
use crate::words::moment;
use reasoning::{Explanation, Facts, explain};

/// The document of `-o json`.
#[derive(Serialize, Debug)]
struct Explained<'a> {
    namespace: &'a str,
    name: &'a str,
    #[serde(flatten)]
    explanation: &'a Explanation,
}

/// Runs it; the exit code.
pub(crate) async fn run(cluster: &Cluster, arguments: &ExplainArguments, out: Out) -> Result<u8, Error> {
    let resource = cluster.get(&arguments.name).await?;
    let now = Timestamp::now();
    let facts = Facts {
        observed: observe(cluster, &resource, now).await.map_err(|error| error.to_string()),
        platform: platform::read(cluster, &arguments.system_namespace).await,
        resource,
        now,
    };
    let explanation = explain(&facts);
    if out.json_wanted() {
        Out::json(&Document::new(
            "Explanation",
            Explained {
                namespace: facts.resource.namespace(),
                name: facts.resource.name(),
                explanation: &explanation,
            },
        ))?;
    } else {
        Out::text(&painted(&facts.resource, &explanation, now, out.screen))?;
    }
    Ok(0)
}

/// What an operator would see that was started just now.
async fn observe(cluster: &Cluster, resource: &Resource, now: Timestamp) -> Result<Observed, Error> {
    let jobs: Vec<JobView> = cluster.build_jobs(resource.uid()).await?.iter().map(JobView::of).collect();
    let pods: Vec<PodView> = cluster.build_pods(resource.uid()).await?.iter().map(PodView::of).collect();
    let live = resource.live().and_then(|build| jobs.iter().find(|job| job.name == build.job));
    let refusal = match live {
        // Why a Job has no pod is told in events alone.
        Some(job) if !pods.iter().any(|pod| pod.owner == job.uid) => refusal_of_events(cluster.events_of(&job.uid).await?, ""),
        _ => None,
    };
    let conditions = &resource.status.conditions;
    let queued = conditions.iter().any(|condition| condition.reason == reasons::QUEUED);
    let turn = if queued { Turn::Later } else { Turn::Now };
    Ok(Observed {
        image: resource.image.clone(),
        jobs,
        pods,
        source: SourceKnowledge {
            seen_at: now,
            seen_chance: 0.5,
            answer: None,
            asking: false,
        },
        checks: Checks::default(),
        announced: None,
        turn,
        refusal,
    })
}

fn painted(resource: &Resource, explanation: &Explanation, now: Timestamp, screen: Screen) -> String {
    let mut paper = Paper::new(screen);
    let title = format!("{}/{}", resource.namespace(), resource.name());
    paper.title(&title, resource.state().tone(), &resource.summary());
    let mut section = |heading: &str, tone: Tone, lines: &[String]| {
        if !lines.is_empty() {
            paper.title(heading, tone, "");
            for line in lines {
                paper.line(line);
            }
        }
    };
    section("Last build", Tone::Plain, &explanation.last);
    section("Now", Tone::Plain, &explanation.now);
    let next: Vec<String> = explanation
        .next
        .iter()
        .map(|coming| match (coming.at, coming.by) {
            (Some(at), _) => format!("{}: {}", moment(at, now), coming.what),
            (None, Some(by)) => format!("by {}: {}", moment(by, now), coming.what),
            (None, None) => coming.what.clone(),
        })
        .collect();
    section("Next, by itself", Tone::Plain, &next);
    section("What would help", Tone::Plain, &explanation.helps);
    section("Not known from here", Tone::Plain, &explanation.unknown);
    paper.into_text()
}
