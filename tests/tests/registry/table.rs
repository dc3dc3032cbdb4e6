//! The table: twelve kinds of faults at eleven steps of a push, and twenty-two cases of meaning.
//!
//! A kind that cannot meet a step as it is meets it in the nearest form: the first request stands for the ping, a
//! certificate goes bad by a reset before the step and a bad one after it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use futures::StreamExt as _;
use robotimage_registry::ClientOptions;
use robotimage_tests::faultproxy::{Door, Rule};

use crate::ground::{Case, Ground, reason};
use crate::kinds::{Form, Kind};
use crate::semantic;
use crate::steps::Step;

/// Cases that run at once.
const AT_ONCE: usize = 16;
/// Most requests of one step that a lasting refusal may cost: three blobs, two ways to open an upload, three tries each.
const STORM: usize = 18;
/// How much more memory a push may need that is answered nonsense of 100 MiB, in KiB.
const MEMORY: u64 = 64 << 10;

/// One line of the table.
pub(crate) struct Row {
    pub(crate) number: usize,
    pub(crate) name: String,
    pub(crate) injected: String,
    pub(crate) must: String,
    /// What did, or what was wrong about it.
    pub(crate) did: Result<String, String>,
}

/// Runs something that may panic.
pub(crate) async fn caught<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, String> {
    tokio::spawn(work).await.map_err(|error| {
        let panic = error.into_panic();
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a panic without words".to_owned())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the real registry: make test runs it"]
async fn a_push_meets_every_fault_at_every_step() {
    let began = std::time::Instant::now();
    let ground = Ground::new().await;
    let warm = Case::new(&ground, "warm", true).await;
    warm.push().await.unwrap();
    warm.assert_whole().await;

    let cells: Vec<(Kind, Step)> = Kind::ALL.into_iter().flat_map(|kind| Step::ALL.map(|step| (kind, step))).collect();
    let first = cells.len() + 1;
    let numbered = cells.into_iter().enumerate().map(|(index, cell)| (index + 1, cell));
    let (malformed, others): (Vec<_>, Vec<_>) = numbered.partition(|(_, (kind, _))| *kind == Kind::Malformed);
    let run = |(number, (kind, step))| cell(Arc::clone(&ground), number, kind, step);
    let mut rows: Vec<Row> = futures::stream::iter(others).map(run).buffered(AT_ONCE).collect().await;
    rows.extend(semantic::all(&ground, first).await);
    // One at a time, so that what they need is what one push needs.
    let before = memory("VmRSS");
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    rows.extend(Box::pin(futures::stream::iter(malformed).then(run).collect::<Vec<_>>()).await);
    let grown = memory("VmHWM").saturating_sub(before);
    rows.sort_by_key(|row| row.number);

    let mut text = String::new();
    for row in &rows {
        let (did, mark) = match &row.did {
            Ok(did) => (did, "ok"),
            Err(wrong) => (&wrong.replace('\n', " "), "WRONG"),
        };
        let Row {
            number,
            name,
            injected,
            must,
            ..
        } = row;
        writeln!(
            text,
            "{number:>3} {mark:<5} {name} | injected: {injected} | must: {must} | did: {did}"
        )
        .unwrap();
    }
    let wrong = rows.iter().filter(|row| row.did.is_err()).count();
    let seconds = began.elapsed().as_secs_f32();
    let cases = rows.len();
    writeln!(
        text,
        "{cases} cases, {wrong} wrong, {grown} KiB more memory for what is malformed, {seconds:.0} s"
    )
    .unwrap();
    // Past the harness, which would show it only after a failure.
    std::io::stdout().write_all(text.as_bytes()).unwrap();
    let numbers: Vec<usize> = rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=154).collect::<Vec<_>>(), "no case is skipped");
    assert_eq!(wrong, 0, "see the table above");
    assert!(grown < MEMORY, "{grown} KiB more memory");
}

/// `VmRSS`, what this process holds, or `VmHWM`, the most it has held since that was reset, in KiB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// All forms of a kind at a step.
async fn cell(ground: Arc<Ground>, number: usize, kind: Kind, step: Step) -> Row {
    let name = |form: usize| format!("n{number}f{form}");
    let count = kind.forms(step, &Case::new(&ground, &name(0), kind == Kind::Tls).await).len();
    let (mut injected, mut must, mut did) = (Vec::new(), Vec::new(), Ok(Vec::new()));
    for index in 0..count {
        let case = Case::new(&ground, &name(index + 1), kind == Kind::Tls).await;
        let form = kind.forms(step, &case).swap_remove(index);
        injected.push(form.name.clone());
        must.push(form.expected.map_or("success", |reason| reason.as_str()));
        let form_name = form.name.clone();
        match (caught(run(case, kind, step, form)).await, &mut did) {
            (Ok(text), Ok(all)) => all.push(text),
            (Err(wrong), Ok(_)) => did = Err(format!("{form_name}: {wrong}")),
            (_, Err(_)) => {}
        }
    }
    Row {
        number,
        name: format!("{} at {}", kind.name(), step.name()),
        injected: injected.join(", "),
        must: must.join(", "),
        did: did.map(|all| all.join(", ")),
    }
}

/// One push that meets a fault, and what must be true afterwards.
async fn run(case: Case, kind: Kind, step: Step, form: Form) -> String {
    let image = case.image.digest().to_string();
    let at = form.at.unwrap_or(step);
    case.proxy
        .rule(Rule::new(form.times, form.fault.clone(), move |request| at.is(request, &image)));
    let patience = kind.patience();
    let options = ClientOptions {
        connect_timeout: patience,
        idle_timeout: patience,
        request_timeout: patience,
        commit_timeout: patience,
        ..case.options()
    };
    let outcome = case.push_with(options).await;
    let seen = case.proxy.seen();
    let hits: Vec<_> = seen.iter().filter(|seen| seen.fault.is_some()).collect();
    assert!(!hits.is_empty(), "the fault was never met");
    case.assert_credentials_stayed();
    if kind == Kind::Tls {
        assert!(seen.iter().all(|seen| seen.door != Door::Other), "something went out without TLS");
    }
    match (&outcome, form.expected) {
        (Ok(_), None) => case.assert_whole().await,
        (Err(error), Some(expected)) => {
            assert_eq!(reason(error), expected, "{error}");
            let text = error.to_string();
            assert!(
                text.contains(&case.stored_name()) && !text.contains('<') && text.len() < 1000,
                "{text}"
            );
            case.assert_no_tag().await;
        }
        (Ok(_), Some(expected)) => panic!("it should have ended with {expected}"),
        (Err(error), None) => panic!("it should have ended well: {error}"),
    }
    if matches!(kind, Kind::Unauthorized | Kind::Denied | Kind::NameUnknown) {
        assert!(hits.len() <= STORM, "{} requests", hits.len());
    }
    if matches!(kind, Kind::Unauthorized | Kind::Denied) {
        let most = if kind == Kind::Unauthorized { 3 } else { 2 };
        // All uploads are opened at one address, and many requests wait for one token.
        for hit in hits.iter().filter(|hit| hit.method != "POST" && hit.door == Door::Registry) {
            let same = hits.iter().filter(|other| other.method == hit.method && other.target == hit.target);
            let count = same.count();
            assert!(count <= most, "{count} times {} {}", hit.method, hit.target);
        }
    }
    if kind == Kind::Lost && step == Step::PutBlob {
        let sent = seen.iter().filter(|seen| seen.method == "PUT" && seen.status == Some(201));
        let mut digests: Vec<&str> = sent.filter_map(|seen| seen.target.split("digest=").nth(1)).collect();
        let all = digests.len();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), all, "a blob was uploaded twice");
    }
    if !form.waits.is_zero() {
        let hit = hits[0];
        // What was on its way when the answer came is let through.
        let early = seen
            .iter()
            .filter(|seen| seen.door == hit.door && seen.at > hit.at + form.waits / 2 && seen.at < hit.at + form.waits);
        assert_eq!(early.count(), 0, "requests while it wants none");
    }
    match outcome {
        Ok(_) => "success".to_owned(),
        Err(error) => reason(&error).to_string(),
    }
}
