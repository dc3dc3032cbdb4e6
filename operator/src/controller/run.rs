//! Watches, and the loop that hands objects to reconciles.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, Client, ResourceExt};
use robotimage_crds::api::RobotImage;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::asker::ClusterAsker;
use super::index::Index;
use super::random;
use super::reconcile::{Context, ReconcileError, reconcile};
use super::slots::{Slots, takes_a_slot};
use crate::apply::{ApplyError, Writer};
use crate::config::Platform;
use crate::decide::full_name;
use crate::hosts::Hosts;
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::observe::{JobView, PodView, Reader};
use crate::registry::{Registries, RegistryInspector};
use crate::source::{GitClient, Pool};
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
    images: Store<RobotImage>,
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
        let git = GitClient::new(Arc::clone(platform))?;
        let hosts = Arc::new(Hosts::new(platform.config.lookups_per_host.into()));
        let inspector = RegistryInspector::new(platform)?;
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
                git: git.clone(),
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
            let (images, writer) = reflector::store();
            scopes.push(Scope {
                images: images.clone(),
                context: Arc::clone(&context),
            });
            tasks.spawn(run_scope(
                client.clone(),
                namespace,
                watchdog.clone(),
                context,
                images,
                writer,
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
                for image in scope.images.state() {
                    let (uid, namespace) = (image.uid().unwrap_or_default(), image.namespace().unwrap_or_default());
                    if takes_a_slot(&image, &[]) {
                        running.push((uid.clone(), namespace));
                    }
                    all.insert(uid);
                }
                running.extend(scope.context.jobs.owners(|job| job.ended.is_none()));
            }
            slots.count(running, &all);
        }
    }

    /// The text of a scrape.
    pub fn metrics(&self) -> String {
        let images = self.scopes.iter().flat_map(|scope| scope.images.state());
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
    images: Store<RobotImage>,
    writer: reflector::store::Writer<RobotImage>,
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
    watches.spawn(wake_at_takeover(context.leadership.clone(), images.clone(), context.wake.clone()));
    // Without them a first pass would see no Job and make one; the name would stop it, but only just.
    context.jobs.ready().await;
    context.pods.ready().await;

    let mut listed_once = false;
    let config = watcher::Config::default().timeout(timeout).page_size(PAGE);
    let stream = watcher(image_api, config)
        .default_backoff()
        .modify(|image| image.managed_fields_mut().clear())
        .reflect(writer)
        // Not by `Store::wait_until_ready`: of two tasks that wait there one is never woken, and the controller is one.
        .inspect(move |event| {
            if matches!(event, Ok(watcher::Event::InitDone)) && !std::mem::replace(&mut listed_once, true) {
                listed.send_modify(|count| *count += 1);
            }
        })
        .applied_objects()
        // A status write of our own changes neither: it wakes nobody.
        .predicate_filter(predicates::generation.combine(predicates::annotations), PredicateConfig::default());
    let woken = futures::stream::unfold(woken, |mut woken| async move { woken.recv().await.map(|object| (object, woken)) });
    let concurrency = context.platform.config.concurrency;
    kube::runtime::Controller::for_stream(stream, images.clone())
        .with_config(Config::default().concurrency(concurrency))
        .reconcile_on(woken)
        .graceful_shutdown_on(stopped(stop))
        .run(
            move |image, context| one(image, context, images.clone()).map(Ok::<_, Infallible>),
            |_, error, _| match *error {},
            context,
        )
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "the controller says");
            }
        })
        .await;
    watches.shutdown().await;
}

/// A replica that does not lead forgets what it is woken for, so one that begins to lead looks at everything once.
async fn wake_at_takeover(leadership: Leadership, images: Store<RobotImage>, wake: mpsc::UnboundedSender<ObjectRef<RobotImage>>) {
    loop {
        leadership.gained().await;
        for image in images.state() {
            // The receiver ends with the process only.
            drop(wake.send(ObjectRef::from_obj(&*image)));
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

/// One reconcile in a task of its own: neither a panic nor a long wait of it is another object's.
async fn one(image: Arc<RobotImage>, context: Arc<Context>, images: Store<RobotImage>) -> Action {
    if !context.leadership.is_leading() {
        return Action::await_change();
    }
    let (name, uid) = (full_name(&image), image.uid().unwrap_or_default());
    let started = Instant::now();
    let work = Arc::clone(&context);
    let mut task = tokio::spawn(async move { Box::pin(reconcile(&work, RobotImage::clone(&image))).await });
    let ended = tokio::select! {
        ended = tokio::time::timeout(DEADLINE, &mut task) => ended,
        // Killed between any two writes it goes on as if nothing had happened, in another process just as in this one.
        () = context.leadership.lost() => {
            task.abort();
            return Action::await_change();
        }
    };
    let result = match ended {
        Ok(Ok(Err(ReconcileError::Apply(ApplyError::NotLeading { .. })))) => return Action::await_change(),
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(ReconcileError::Panic),
        Err(_) => {
            task.abort();
            Err(ReconcileError::Late)
        }
    };
    context
        .metrics
        .reconciled(started.elapsed(), result.as_ref().err().map(ReconcileError::class));
    context.memory.forget_all_but(
        || images.state().iter().filter_map(|image| image.uid()).collect::<HashSet<_>>(),
        images.len(),
    );
    match result {
        Ok(again) => {
            context.memory.succeeded(&uid);
            again.map_or_else(Action::await_change, Action::requeue)
        }
        Err(error) => {
            let delay = context.memory.failed(&uid, random::draw().unit);
            tracing::error!(image = name, %error, again_in = ?delay, "a reconcile failed");
            Action::requeue(delay)
        }
    }
}
