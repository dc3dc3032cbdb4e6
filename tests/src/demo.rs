//! The demo: from an empty machine to a running robot, and from a pushed commit to the next image, on real parts.
//!
//! Invariant: nothing in it is arranged behind the user's back: chart, Secrets, RobotImage, commit and pod are what a team
//! would write, and whatever it started has ended when it returns, failure included.

use std::fs;
use std::time::Duration;

use robotimage_crds::api::{LatestImage, RobotImage};
use serde_json::Value;

use crate::bed::Bed;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::git::GitRepo;

use crate::install::{self, SYSTEM};
use crate::kubectl::Kubectl;
use crate::namespace::{Namespace, REGISTRY_SECRET};
use crate::pods::{self, RunOptions};
use crate::process::Lifetime;
use crate::timeline::{Timeline, bytes};

/// Namespace of the demo.
const NAMESPACE: &str = "finance";
/// Name of the RobotImage.
const NAME: &str = "invoice-reader";
/// How long a first build may take here; the figure that is promised is printed, not enforced.
const LIMIT: Duration = Duration::from_mins(10);

/// Runs all of it.
pub async fn run() -> Result<()> {
    let mut timeline = Timeline::start();
    timeline.title("Setting up: a real cluster, registries, a git server, a conda channel");
    let bed = Bed::start(&Cache::open()?, Lifetime::Harness).await?;
    timeline.done("Kubernetes node is Ready; registry, git server, conda channel and package index answer");
    let shown = Box::pin(show(&bed, &mut timeline)).await;
    if shown.is_err() {
        explain(&bed);
    }
    let stopped = bed.stop();
    if shown.is_ok() && stopped.is_ok() {
        timeline.done("everything that was started has ended");
    }
    shown.and(stopped)
}

async fn show(bed: &Bed, timeline: &mut Timeline) -> Result<()> {
    let (_, images) = Box::pin(install::images(bed)).await?;
    timeline.done("operator and builder images built, assembled and pushed");
    // The chart makes a Role in it, so it comes first.
    let namespace = Namespace::create(bed, NAMESPACE).await?;
    install::chart(bed, &install::values(bed.book(), &images, &[NAMESPACE])?)?;
    timeline.done("chart installed by Helm; the operator is available");

    let repository = bed.book().git.create("invoices", Some(&bed.book().git_login))?;
    let commit = commit_example(&repository, &[], "Read the invoices")?;
    timeline.done(&format!("robot committed to a private git repository: {}", &commit[..12]));

    timeline.title("The robot becomes an image");
    let object = install::robot_image(bed.book(), NAME, repository.url());
    let yaml = serde_saphyr::to_string(&object).map_err(|error| Error::Other(format!("YAML of the RobotImage: {error}")))?;
    timeline.quote(&yaml);
    namespace.apply::<RobotImage>(object).await?;
    timeline.done("kubectl apply");
    let first = wait_ready(&namespace, timeline, |_| true).await?;
    let image = published(&first)?;
    timeline.done(&format!("Ready=True: {}", image.reference));
    run_image(&namespace, timeline, image).await?;
    timeline.quote(&layers(image));

    timeline.title("A commit is pushed; nobody touches the cluster");
    let code = fs::read_to_string(example().join("invoices.py")).map_err(Error::io("read", example()))?;
    let code = code.replace("VERSION = 1", "VERSION = 2");
    let commit = commit_example(&repository, &[("invoices.py", code.as_bytes())], "Say the version")?;
    timeline.done(&format!("git push: {}", &commit[..12]));
    let before = image.digest.clone();
    let second = wait_ready(&namespace, timeline, move |image| image.digest != before).await?;
    let image = published(&second)?;
    timeline.done(&format!("Ready=True: {}", image.reference));
    run_image(&namespace, timeline, image).await?;
    timeline.quote(&layers(image));
    let kubectl = Kubectl::within(bed, NAMESPACE);
    timeline.title("$ kubectl get robotimages -o wide");
    timeline.quote(&kubectl.run(&["get", "robotimages", "-o", "wide"])?);
    timeline.title(&format!("Done in {:.0} s", timeline.elapsed().as_secs_f64()));
    Ok(())
}

/// The folder of the example robot.
pub fn example() -> std::path::PathBuf {
    install::work_tree().join("examples/invoice-robot")
}

/// Commits the example robot, some of its files replaced.
pub fn commit_example(repository: &GitRepo, replaced: &[(&str, &[u8])], message: &str) -> Result<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(example()).map_err(Error::io("read", example()))? {
        let entry = entry.map_err(Error::io("read", example()))?;
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let bytes = fs::read(entry.path()).map_err(Error::io("read", entry.path()))?;
            files.push((entry.file_name().to_string_lossy().into_owned(), bytes));
        }
    }
    files.sort();
    let mut files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    for (name, bytes) in replaced {
        files.retain(|(known, _)| known != name);
        files.push((name, bytes));
    }
    repository.commit(&files, message)
}

/// Waits for Ready with an image that `wanted` takes, and prints each new summary on the way.
async fn wait_ready(namespace: &Namespace, timeline: &mut Timeline, wanted: impl Fn(&LatestImage) -> bool) -> Result<RobotImage> {
    let mut last = None;
    let seen = |object: &RobotImage| {
        let summary = object.status.as_ref().and_then(|status| status.summary.clone());
        if summary != last && !install::is_ready(object) {
            timeline.done(summary.as_deref().unwrap_or("not seen by the operator yet"));
        }
        last = summary;
    };
    let done = |object: &RobotImage| {
        let failed = install::condition(object, "Stalled").is_some_and(|(status, ..)| status == "True");
        let image = object.status.as_ref().and_then(|status| status.latest_image.as_ref());
        failed || (install::is_ready(object) && image.is_some_and(&wanted))
    };
    let object = install::wait_for(namespace, NAME, LIMIT, seen, done).await?;
    match install::condition(&object, "Stalled") {
        Some((_, reason, message)) => {
            let failure = object.status.as_ref().and_then(|status| status.last_failure.as_ref());
            let tail = failure.and_then(|failure| failure.log_tail.clone());
            Err(Error::Other(format!(
                "the build failed: {reason}: {message}\n{}",
                tail.unwrap_or_default()
            )))
        }
        None => Ok(object),
    }
}

fn published(object: &RobotImage) -> Result<&LatestImage> {
    let image = object.status.as_ref().and_then(|status| status.latest_image.as_ref());
    image.ok_or_else(|| Error::Other("the RobotImage is Ready and names no image".to_owned()))
}

async fn run_image(namespace: &Namespace, timeline: &mut Timeline, image: &LatestImage) -> Result<()> {
    let options = RunOptions {
        pull_secret: Some(REGISTRY_SECRET.to_owned()),
        ..RunOptions::default()
    };
    let pod: Value = pods::pod("run-invoices", &image.reference, &options);
    let finished = pods::run(namespace.client(), namespace.name(), &pod, Duration::from_mins(2)).await?;
    if finished.exit_code != 0 {
        return Err(Error::Other(format!(
            "the robot ended with {}:\n{}",
            finished.exit_code, finished.log
        )));
    }
    timeline.done("a pod ran status.latestImage.ref; the robot's own words:");
    timeline.quote(&own_words(&finished.log));
    Ok(())
}

/// What the robot printed, without what rcc prints around it.
fn own_words(log: &str) -> String {
    let begin = log.lines().position(|line| line.contains("Invoices, robot version")).unwrap_or(0);
    let lines: Vec<&str> = log.lines().skip(begin).collect();
    let end = lines
        .iter()
        .position(|line| line.starts_with("due:"))
        .map_or(lines.len(), |last| last + 1);
    lines[..end].join("\n")
}

fn layers(image: &LatestImage) -> String {
    let mut text = format!(
        "{:<12} {:>6} {:>10} {:>10} {:>10}\n",
        "layer", "count", "size", "uploaded", "reused"
    );
    for layer in &image.layers {
        let reused = bytes(layer.size - layer.uploaded);
        let (size, uploaded) = (bytes(layer.size), bytes(layer.uploaded));
        let row = format!("{:<12} {:>6} {size:>10} {uploaded:>10} {reused:>10}", layer.role, layer.count);
        text.push_str(&row);
        text.push('\n');
    }
    text
}

/// After a failure: what the operator and the build pods said last.
fn explain(bed: &Bed) {
    let kubectl = Kubectl::within(bed, NAMESPACE);
    let system = Kubectl::within(bed, SYSTEM);
    let views: [(&Kubectl, &[&str]); 5] = [
        (&kubectl, &["get", "robotimages,jobs,pods", "-o", "wide"]),
        (&kubectl, &["describe", "robotimages"]),
        (
            &kubectl,
            &[
                "logs",
                "-l",
                "app.kubernetes.io/managed-by=robotimage",
                "--all-containers",
                "--prefix",
                "--tail=20",
            ],
        ),
        (&system, &["get", "pods", "-o", "wide"]),
        (&system, &["logs", "deployment/robotimage", "--tail=30"]),
    ];
    for (kubectl, args) in views {
        let text = kubectl.run(args).unwrap_or_else(|error| error.to_string());
        eprintln!("\n$ kubectl {}\n{}", args.join(" "), text.trim_end());
    }
}
