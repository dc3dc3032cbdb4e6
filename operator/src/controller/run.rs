//! Watches, and what a reconcile may cost others.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use robotimage_crds::api::RobotImage;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::again::again;
use super::asker::{ClusterAsker, Servers};
use super::index::Index;
use super::kept::Kept;
use super::objects::{Name, Objects};
use super::random;
use super::reconcile::{Context, ReconcileError, reconcile};
use super::slots::Slots;
use super::work::Work;
use crate::apply::{ApplyError, Writer};
use crate::config::Platform;
use crate::hosts::Hosts;
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::observe::{JobView, PodView, Reader};
use crate::registry::{Registries, RegistryInspector};
use crate::source::{GitClient, HttpClient, Pool};
use crate::watchdog::Watchdog;

/// Objects of one answer to a list: as many as are in memory whole at the same time.
pub(super) const PAGE: u32 = 100;
/// Time between two counts of all builds.
const RECOUNT: Duration = Duration::from_secs(5);
/// Time for a reconcile as a whole.
const DEADLINE: Duration = Duration::from_mins(2);

/// The controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The client for git servers cannot be made.
    #[error(transparent)]
    Git(#[from] crate::source::SetupError),
    /// The client for registries cannot be made.
    #[error("the client for registries cannot be made: {0}")]
    Registry(#[from] robotimage_registry::Error),
}

/// One namespace, or all of them: its watches and its objects.
struct Scope {
    images: Arc<Objects>,
    context: Arc<Context>,
}

/// The controller, as far as health and metrics need it. Cheap to clone.
#[derive(Clone)]
pub struct Controller {
    scopes: Arc<Vec<Scope>>,
    metrics: Arc<Metrics>,
    leadership: Leadership,
    listed: watch::Receiver<usize>,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller")
            .field("scopes", &self.scopes.len())
            .finish_non_exhaustive()
    }
}

impl Controller {
    /// Starts the watches; objects are worked on while this replica leads. Answers the controller and the future that ends when `stop` does and the running reconciles have.
    pub fn start(
        client: &Client,
        platform: &Arc<Platform>,
        leadership: &Leadership,
        watchdog: &Watchdog,
        stop: &watch::Receiver<bool>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), RunError> {
        let metrics = Arc::new(Metrics::default());
        let hosts = Arc::new(Hosts::new(platform.config.lookups_per_host.into()));
        let inspector = RegistryInspector::new(platform)?;
        let servers = Servers {
            git: GitClient::new(Arc::clone(platform))?,
            http: HttpClient::new(Arc::clone(platform))?,
            registries: inspector.clone(),
        };
        let registries = Registries::new(Arc::new(inspector), Arc::clone(&hosts));
        let slots = Arc::new(Slots::new(platform.config.build_slots));
        let (all_listed, listed) = watch::channel(0);
        let all_listed = Arc::new(all_listed);
        let mut scopes = Vec::new();
        let mut tasks = JoinSet::new();
        let namespaces: Vec<Option<String>> = match platform.config.watch_namespaces.as_slice() {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        };
        for namespace in namespaces {
            let asker = ClusterAsker {
                client: client.clone(),
                servers: servers.clone(),
                metrics: Arc::clone(&metrics),
            };
            let (wake, woken) = mpsc::unbounded_channel();
            let context = Arc::new(Context {
                platform: Arc::clone(platform),
                reader: Reader::new(client.clone()),
                writer: Writer::new(client.clone(), Arc::clone(platform), leadership.clone()),
                leadership: leadership.clone(),
                jobs: Arc::new(Index::new()),
                pods: Arc::new(Index::new()),
                pool: Pool::new(Arc::new(asker), Arc::clone(&hosts)),
                registries: registries.clone(),
                slots: Arc::clone(&slots),
                memory: Arc::default(),
                metrics: Arc::clone(&metrics),
                wake,
            });
            let images = Arc::new(Objects::default());
            scopes.push(Scope {
                images: Arc::clone(&images),
                context: Arc::clone(&context),
            });
            tasks.spawn(run_scope(
                client.clone(),
                namespace,
                watchdog.clone(),
                context,
                images,
                woken,
                stop.clone(),
                Arc::clone(&all_listed),
            ));
        }
        let controller = Self {
            scopes: Arc::new(scopes),
            metrics,
            leadership: leadership.clone(),
            listed,
        };
        let counting = slots.are_limited().then(|| tokio::spawn(controller.clone().count_builds(slots)));
        let work = async move {
            while tasks.join_next().await.is_some() {}
            if let Some(counting) = counting {
                counting.abort();
            }
        };
        Ok((controller, work))
    }

    /// Whether every watch has listed its objects once.
    pub fn is_ready(&self) -> bool {
        *self.listed.borrow() == self.scopes.len()
            && self
                .scopes
                .iter()
                .all(|scope| scope.context.jobs.is_ready() && scope.context.pods.is_ready())
    }

    /// Counts the builds of all namespaces, again and again, once every watch has listed its objects.
    async fn count_builds(self, slots: Arc<Slots>) {
        let mut ticks = tokio::time::interval(RECOUNT);
        loop {
            ticks.tick().await;
            if !self.is_ready() {
                continue;
            }
            let mut all = HashSet::new();
            let mut running = Vec::new();
            for scope in self.scopes.iter() {
                let told: Vec<_> = scope.images.each(|name, image| {
                    (
                        image.uid().to_owned(),
                        image.standing().lives().then(|| name.namespace().to_owned()),
                    )
                });
                for (uid, namespace) in told {
                    running.extend(namespace.map(|namespace| (uid.clone(), namespace)));
                    all.insert(uid);
                }
                running.extend(scope.context.jobs.owners(|job| job.ended.is_none()));
            }
            slots.count(running, &all);
        }
    }

    /// The text of a scrape.
    pub fn metrics(&self) -> String {
        let images = self
            .scopes
            .iter()
            .flat_map(|scope| scope.images.each::<_, Vec<_>>(|_, image| image.standing()));
        self.metrics.render(images, self.leadership.is_leading())
    }
}

fn api<K>(client: &Client, namespace: Option<&String>) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
}

#[expect(clippy::too_many_arguments, reason = "the parts of one scope, each used once")]
async fn run_scope(
    client: Client,
    namespace: Option<String>,
    watchdog: Watchdog,
    context: Arc<Context>,
    images: Arc<Objects>,
    woken: mpsc::UnboundedReceiver<ObjectRef<RobotImage>>,
    stop: watch::Receiver<bool>,
    listed: Arc<watch::Sender<usize>>,
) {
    let mut watches = JoinSet::new();
    let (jobs, pods) = (Arc::clone(&context.jobs), Arc::clone(&context.pods));
    let (job_api, pod_api): (Api<Job>, Api<Pod>) = (api(&client, namespace.as_ref()), api(&client, namespace.as_ref()));
    let image_api: Api<RobotImage> = api(&client, namespace.as_ref());
    for path in [job_api.resource_url(), pod_api.resource_url(), image_api.resource_url()] {
        watchdog.expect(path, Instant::now());
    }
    let timeout = watchdog.timeout_seconds();
    let (wake_jobs, wake_pods) = (context.wake.clone(), context.wake.clone());
    watches.spawn(async move { jobs.follow(job_api, timeout, |job, _| JobView::of(job), wake_jobs).await });
    watches.spawn(async move { pods.follow(pod_api, timeout, seen_pod, wake_pods).await });
    watches.spawn(wake_at_takeover(
        context.leadership.clone(),
        Arc::clone(&images),
        context.wake.clone(),
    ));
    // Without them a first pass would see no Job and make one; the name would stop it, but only just.
    context.jobs.ready().await;
    context.pods.ready().await;

    let config = watcher::Config::default().timeout(timeout).page_size(PAGE);
    let work = Work {
        images: Arc::clone(&images),
        events: watcher(image_api, config).backoff(again()).boxed(),
        woken,
        listed,
        leadership: context.leadership.clone(),
        at_once: context.platform.config.concurrency.into(),
    };
    let one = |name, kept| one(name, kept, Arc::clone(&context), Arc::clone(&images));
    work.run(one, stopped(stop)).await;
    watches.shutdown().await;
}

/// Another may have led meanwhile, whose writes wake nobody here: who begins to lead looks at everything once.
async fn wake_at_takeover(leadership: Leadership, images: Arc<Objects>, wake: mpsc::UnboundedSender<ObjectRef<RobotImage>>) {
    loop {
        leadership.gained().await;
        for object in images.each::<_, Vec<_>>(|name, _| name.reference()) {
            // The receiver ends with the process only.
            drop(wake.send(object));
        }
        leadership.lost().await;
    }
}

fn seen_pod(pod: &Pod, before: Option<&PodView>) -> PodView {
    PodView::of(pod).by_our_clock(before, Timestamp::now())
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that whoever could stop us is gone: that is a stop, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One reconcile; answers when to look again, if nothing happens before.
async fn one(name: Name, kept: Arc<Kept>, context: Arc<Context>, images: Arc<Objects>) -> Option<Duration> {
    let started = Instant::now();
    let (work, opened) = (Arc::clone(&context), Arc::clone(&kept));
    let reconcile = async move {
        let (image, whole) = opened.open();
        Box::pin(reconcile(&work, image, whole)).await
    };
    // Without the lead nothing of it is begun before this replica leads again.
    let Some(result) = contained(reconcile, context.leadership.lost()).await else {
        return Some(Duration::ZERO);
    };
    context
        .metrics
        .reconciled(started.elapsed(), result.as_ref().err().map(ReconcileError::class));
    context
        .memory
        .forget_all_but(|| images.each(|_, image| image.uid().to_owned()), images.len());
    match result {
        Ok(again) => {
            context.memory.succeeded(kept.uid());
            again
        }
        Err(error) => {
            let delay = context.memory.failed(kept.uid(), random::draw().unit);
            tracing::error!(image = %name, %error, again_in = ?delay, "a reconcile failed");
            Some(delay)
        }
    }
}

/// Runs a reconcile in a task of its own: neither a panic nor a long wait of it is another object's. When this answers, it is
/// over. `None`: the lead is lost.
async fn contained<T: Send + 'static>(
    reconcile: impl Future<Output = Result<T, ReconcileError>> + Send + 'static,
    lost: impl Future<Output = ()>,
) -> Option<Result<T, ReconcileError>> {
    let mut task = tokio::spawn(reconcile);
    let ended = tokio::select! {
        ended = tokio::time::timeout(DEADLINE, &mut task) => ended.ok(),
        // Killed between any two writes it goes on as if nothing had happened, in another process just as in this one.
        () = lost => {
            task.abort();
            // Its end is all that is waited for: what it came to does not matter any more.
            drop(task.await);
            return None;
        }
    };
    match ended {
        Some(Ok(Err(ReconcileError::Apply(ApplyError::NotLeading { .. })))) => None,
        Some(Ok(result)) => Some(result),
        Some(Err(_)) => Some(Err(ReconcileError::Panic)),
        None => {
            task.abort();
            drop(task.await);
            Some(Err(ReconcileError::Late))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::task::Poll;

    use super::*;

    /// Set when what holds it is gone.
    struct Gone(Arc<watch::Sender<bool>>);

    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.send_replace(true);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_panics_or_never_ends_is_over_and_counted() {
        let bug = poll_fn(|_| -> Poll<Result<(), ReconcileError>> { panic!("a bug") });
        let fails = contained(bug, pending()).await;
        assert_eq!(fails.unwrap().unwrap_err().class(), "panic");
        for lost in [false, true] {
            let gone = Arc::new(watch::Sender::new(false));
            let held = Gone(Arc::clone(&gone));
            let hangs = async move {
                let _held = held;
                pending::<Result<(), ReconcileError>>().await
            };
            let word = async move {
                if !lost {
                    pending::<()>().await;
                }
            };
            let ended = contained(hangs, word).await;
            assert_eq!(ended.map(|ended| ended.unwrap_err().class()), (!lost).then_some("timeout"));
            assert!(*gone.borrow(), "it is over before it can be begun again");
        }
        assert_eq!(contained(async { Ok(7) }, pending()).await.unwrap().unwrap(), 7);
    }

    #[tokio::test]
    async fn who_is_told_that_it_does_not_lead_has_not_failed() {
        let refused = async { Err::<(), _>(ApplyError::NotLeading { what: "the status" }.into()) };
        assert!(contained(refused, pending()).await.is_none());
    }
}
