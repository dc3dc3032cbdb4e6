//! Kill -9 at many points of a push, then the same step again: the right image, nothing uploaded twice, no tag too early.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use robotimage_builder::image::oci::Manifest;
use robotimage_crds::api::Compression;
use robotimage_tests::faultproxy::{Fault, FaultProxy, Reply, Rule, Seen};

use crate::pod::{Ground, Pod, TAGS, wait};

/// Points by time, between those by requests.
const BY_TIME: u32 = 10;
/// Pushes at once.
const AT_ONCE: usize = 3;

/// When the step is killed.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// When it sends this request, which is not done.
    Before(usize),
    /// When this request was done and its answer not given.
    After(usize),
    /// So long after its start.
    Later(Duration),
}

/// What a push without accident looks like.
struct Whole {
    digest: String,
    manifest: Manifest,
    requests: Vec<Seen>,
    took: Duration,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the real parts: make test runs it"]
async fn a_killed_push_is_finished_by_the_next() {
    let began = Instant::now();
    let ground = Ground::new().await;
    let whole = whole(&ground).await;
    let requests = whole.requests.len();
    let by_request = (0..requests).flat_map(|number| [Point::Before(number), Point::After(number)]);
    let by_time = (1..=BY_TIME).map(|part| Point::Later(whole.took * part / (BY_TIME + 1)));
    let points: Vec<Point> = by_request.chain(by_time).collect();
    assert!(points.len() >= 50, "{requests} requests give too few points");
    let whole = Arc::new(whole);
    let cases = points.iter().enumerate().map(|(number, point)| {
        let (ground, whole, point) = (Arc::clone(&ground), Arc::clone(&whole), *point);
        tokio::spawn(async move { Box::pin(case(&ground, &whole, number, point)).await })
    });
    let lines: Vec<String> = futures::stream::iter(cases).buffered(AT_ONCE).try_collect().await.unwrap();
    let mut out = std::io::stdout();
    for line in &lines {
        writeln!(out, "{line}").unwrap();
    }
    writeln!(out, "{} points in {:.1} s", lines.len(), began.elapsed().as_secs_f64()).unwrap();
}

async fn whole(ground: &Ground) -> Whole {
    let proxy = ground.proxy().await;
    let pod = Pod::new(ground, &proxy, "kill/whole", Compression::Gzip);
    let began = Instant::now();
    let digest = pod.publish().await;
    let took = began.elapsed();
    let image = ground.verify(&pod.name, &digest).await;
    assert_eq!(image.of_role(Some("environment")).count(), 2);
    assert!(pod.scratch().is_empty(), "{:?}", pod.scratch());
    let (manifest, _) = ground.documents(&pod.name, &digest).await;
    Whole {
        digest,
        manifest,
        requests: proxy.seen(),
        took,
    }
}

/// Kills the step at a point and runs it again; what happened.
async fn case(ground: &Ground, whole: &Whole, number: usize, point: Point) -> String {
    let proxy = ground.proxy().await;
    let pod = Pod::new(ground, &proxy, &format!("kill/{number}"), Compression::Gzip);
    let process = Arc::new(AtomicU32::new(0));
    arm(&proxy, point, &process);
    let mut child = pod.start();
    process.store(child.id(), Ordering::SeqCst);
    if let Point::Later(time) = point {
        tokio::time::sleep(time).await;
        end(&process);
    }
    let status = wait(&mut child).await;
    let what = format!("{point:?} ({})", last(&proxy));
    let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(Signal::SIGKILL as i32);
    // Requests of parallel uploads may come in another order and be one fewer; by time the push may have been done.
    assert!(killed || status.success(), "{what}: {status}");
    // What was under way when the process died is mostly done or dropped by now.
    tokio::time::sleep(Duration::from_millis(30)).await;

    let mut tags = Vec::new();
    for tag in TAGS {
        tags.extend(ground.tag(&pod.name, tag).await);
    }
    for digest in &tags {
        assert_eq!(*digest, whole.digest, "{what}: a tag names something else");
        ground.documents(&pod.name, digest).await;
    }
    let mut missing = 0;
    for blob in &whole.manifest.layers {
        if ground.has(&pod.name, &blob.digest).await {
            continue;
        }
        assert!(tags.is_empty(), "{what}: a tag names an image that lacks {}", blob.digest);
        // The base's layer is mounted.
        if blob.digest != ground.base_layer() {
            missing += blob.size;
        }
    }
    proxy.forget();
    assert_eq!(pod.publish().await, whole.digest, "{what}");
    let sent: u64 = proxy
        .seen()
        .iter()
        .filter(|seen| is_layer(seen, whole))
        .map(|seen| seen.length)
        .sum();
    // What was on its way may have arrived after the look.
    assert!(sent <= missing, "{what}: {sent} bytes are sent, {missing} were missing");
    for tag in TAGS {
        assert_eq!(ground.tag(&pod.name, tag).await.as_deref(), Some(whole.digest.as_str()), "{what}");
    }
    ground.verify(&pod.name, &whole.digest).await;
    assert!(pod.scratch().is_empty(), "{what}: {:?}", pod.scratch());
    let total: u64 = whole.manifest.layers.iter().map(|layer| layer.size).sum();
    format!(
        "{number:>2} {what}: {} tags before, {sent} of {total} bytes sent by the second",
        tags.len()
    )
}

/// Bytes of a layer went up, not those of the configuration, which is small and sent without asking.
fn is_layer(seen: &Seen, whole: &Whole) -> bool {
    let configuration = whole.manifest.config.digest.trim_start_matches("sha256:");
    seen.target.contains("/blobs/uploads/") && !seen.target.contains(configuration)
}

fn arm(proxy: &FaultProxy, point: Point, process: &Arc<AtomicU32>) {
    let process = Arc::clone(process);
    let rule = match point {
        Point::Later(_) => return,
        Point::Before(number) => {
            let fault = Fault::FirstThen(Arc::new(move || end(&process)), Reply::new(500));
            Rule::new(1, fault, move |request| request.number == number)
        }
        Point::After(number) => {
            let fault = Fault::Change(Arc::new(move |_| end(&process)));
            Rule::new(1, fault, move |request| request.number == number)
        }
    };
    proxy.rule(rule);
}

fn end(process: &AtomicU32) {
    let pid = loop {
        match process.load(Ordering::SeqCst) {
            0 => std::thread::yield_now(),
            pid => break pid,
        }
    };
    // It may have ended by itself.
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).ok();
}

/// The last request, in words.
fn last(proxy: &FaultProxy) -> String {
    proxy.seen().last().map_or_else(
        || "no request".to_owned(),
        |seen| {
            let tail: String = seen.target.split('/').skip(5).collect::<Vec<_>>().join("/");
            format!("{} {}", seen.method, tail.chars().take(24).collect::<String>())
        },
    )
}
