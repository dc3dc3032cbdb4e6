//! Code only: the environment is in the registry already, as a layer of the previous image.

use std::path::Path;

use super::Bench;
use super::corpus::Environment;
use super::counter::{Counter, Request};
use super::fresh::Stand;
use super::measure::measure;
use super::peers::TAR;
use super::pod::{Pod, Previous, robot};
use super::report::{Goal, Row, shown};
use super::stats::Sample;
use crate::error::{Error, Result};
use crate::parts;

/// Beside this, two requests a tag.
const REQUESTS: f64 = 12.0;
const TAGS: f64 = 1.0;
/// Bytes beside code, manifest and configuration.
const BYTES: f64 = 2048.0;
/// Each run takes less than a second, so more of them than of others.
const RUNS: usize = 4;
const REPOSITORY: &str = "bench/ours";

pub(super) async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let crane = parts::crane(&bench.cache)?;
    let program = std::fs::read(&crane).map_err(Error::io("read", &crane))?;
    let mut rows = edits(bench, "60 files, 0.2 MB", &[], true).await?;
    let megabytes = program.len() / 1_000_000;
    let program = [("bin/tool".to_owned(), program)];
    rows.extend(edits(bench, &format!("the same and a static program of {megabytes} MB"), &program, false).await?);
    Ok(rows)
}

/// Edits of a robot that has these files beside its own; counts requests and bytes as well when asked to.
async fn edits(bench: &Bench, name: &str, beside: &[(String, Vec<u8>)], counted: bool) -> Result<Vec<Row>> {
    let environment = Environment::Small.get(&bench.own)?;
    let stand = Stand::start(&bench.cache, &bench.place("code")).await?;
    let mut pod = Pod::new(&bench.cache, &stand, &bench.binaries, &environment, &robot(0))?;
    pod.commit(beside)?;
    let mut previous = first(&pod)?;
    let crane = parts::crane(&bench.cache)?;
    let kept = stand.reference("bench/crane:environment");
    let inside = robotimage_builder::environment::SEALED_PATH.trim_start_matches('/');
    let script = format!(
        "{TAR} -C {} -cf - {inside} | {} append --insecure -b {} -f - -t {kept}",
        pod.root().display(),
        crane.display(),
        stand.base()
    );
    shell("environment by crane", &script)?;

    let mut took: [Vec<f64>; 5] = std::array::from_fn(|_| Vec::new());
    for edition in 1..=bench.settings.runs * RUNS {
        pod.commit(&robot(edition))?;
        let (fetch, fetched) = pod.fetch(REPOSITORY, Some(&previous))?;
        if !fetched.reuse {
            return Err(Error::Other(
                "fetch does not reuse the environment of the previous image".to_owned(),
            ));
        }
        let tag = stand.reference(&format!("bench/crane:{edition}"));
        let script = append(&crane, &pod.source(), &kept, &tag);
        let (peer, publish, published);
        // In turns, each first as often as the other.
        if edition % 2 == 0 {
            peer = shell("crane append of the code", &script)?;
            (publish, published) = pod.publish(REPOSITORY, Some(&previous))?;
        } else {
            (publish, published) = pod.publish(REPOSITORY, Some(&previous))?;
            peer = shell("crane append of the code", &script)?;
        }
        previous = Previous {
            fetched,
            digest: published.digest,
        };
        let times = [publish.wall, peer.wall, publish.cpu, peer.cpu, fetch.wall];
        took.iter_mut().zip(times).for_each(|(all, time)| all.push(time));
    }
    let [ours, peers, cpus, peer_cpus, fetches] = took.map(|times| Sample::new(name, times));
    let (ours, peers, cpus, peer_cpus, fetches) = (ours?, peers?, cpus?, peer_cpus?, fetches?);
    println!(
        "{name}: publish {} s, crane append {} s; fetch before it {} s",
        shown(&ours),
        shown(&peers),
        shown(&fetches)
    );
    let figure = format!("code-only publish, {name}");
    let peer = "crane append";
    let mut rows = vec![
        Row::beside(&figure, ours.median(), "s", (peer, peers.median()), Goal::Ratio(0.4)),
        Row::beside(
            format!("{figure}: processor time"),
            cpus.median(),
            "s",
            (peer, peer_cpus.median()),
            Goal::None,
        ),
        Row::alone(format!("{figure}: fetch before it"), fetches.median(), "s", Goal::None),
    ];
    if counted {
        rows.extend(count(bench, &stand, &mut pod, &previous).await?);
    }
    Ok(rows)
}

/// The first image, from which the others go on.
fn first(pod: &Pod) -> Result<Previous> {
    let (_, fetched) = pod.fetch(REPOSITORY, None)?;
    let (_, published) = pod.publish(REPOSITORY, None)?;
    Ok(Previous {
        fetched,
        digest: published.digest,
    })
}

fn append(crane: &Path, source: &Path, on: &str, to: &str) -> String {
    format!(
        "{TAR} -C {} --transform 's,^\\.,home/robot/app,' -cf - . | {} append --insecure -b {on} -f - -t {to}",
        source.display(),
        crane.display()
    )
}

fn shell(what: &str, script: &str) -> Result<super::measure::Usage> {
    let words = ["bash", "-euo", "pipefail", "-c", script].map(str::to_owned);
    measure(what, &words, &[]).map(|(usage, _)| usage)
}

/// One more edition, with every request and byte counted on its way.
async fn count(bench: &Bench, stand: &Stand, pod: &mut Pod, previous: &Previous) -> Result<Vec<Row>> {
    let counter = Counter::before(stand.registry().address()).await?;
    pod.through(counter.address());
    pod.commit(&robot(bench.settings.runs * RUNS + 1))?;
    let (_, fetched) = pod.fetch(REPOSITORY, Some(previous))?;
    if !fetched.reuse {
        return Err(Error::Other("by another address fetch does not reuse the environment".to_owned()));
    }
    let of_fetch = counter.take();
    let (_, published) = pod.publish(REPOSITORY, Some(previous))?;
    let of_publish = counter.take();
    for request in &of_publish {
        println!(
            "  {} {} {} B",
            request.method,
            request.path.split(['?', '&']).next().unwrap_or_default(),
            request.body
        );
    }
    let at = stand.registry().at();
    let image = at.reference(&format!("{REPOSITORY}@{}", published.digest));
    let config = at.crane(&["config", &image])?.len() as u64;
    let code: i64 = published
        .layers
        .iter()
        .filter(|layer| layer.role == "code")
        .map(|layer| layer.up)
        .sum();
    let is_manifest = |request: &&Request| request.method == "PUT" && request.path.contains("/manifests/");
    let manifests: u64 = of_publish.iter().filter(is_manifest).map(|request| request.body).sum();
    let sent: u64 = of_publish.iter().map(|request| request.body).sum();
    let code = u64::try_from(code).unwrap_or(0);
    println!("sent: {sent} B in bodies, of it manifests {manifests}, configuration {config}, code {code}");
    let beside = sent.saturating_sub(manifests + config + code);
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    Ok(vec![
        Row::alone(
            "code-only publish: requests, one tag",
            number(of_publish.len()),
            "",
            Goal::AtMost(REQUESTS + 2.0 * TAGS),
        ),
        Row::alone("code-only: requests of fetch before it", number(of_fetch.len()), "", Goal::None),
        Row::alone(
            "code-only publish: bytes beside code, manifest, config",
            f64::from(u32::try_from(beside).unwrap_or(u32::MAX)),
            "B",
            Goal::AtMost(BYTES),
        ),
    ])
}
