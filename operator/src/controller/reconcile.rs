//! One object: observe, decide, apply, until there is nothing more to do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use robotimage_crds::api::condition::{RECONCILING, reasons};
use robotimage_crds::api::{BuildPhase, RobotImage};
use tokio::sync::mpsc;

use super::checks::checks;
use super::index::Index;
use super::memory::Memory;
use super::random;
use super::slots::{Slots, takes_a_slot};
use crate::apply::{ApplyError, Writer};
use crate::config::Platform;
use crate::decide::{Action, Finder, Look, Next, Note, Settings, decide, full_name, gives_up, last_build, look_wish, next_look};
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::observe::{Announced, Answer, GatherError, JobView, Known, Observed, PodView, Reader, SourceKnowledge, Turn};
use crate::registry::Registries;
use crate::source::{LookupKey, Pool};

/// Writes that one reconcile makes at most; a decision that never rests is a bug that must not spin.
const ROUNDS: usize = 8;
/// How long a reconcile waits for a look-up that somebody has asked for just now, before it says that it does.
const PATIENCE: Duration = Duration::from_secs(1);
/// When an object is looked at again whose rounds were used up, or whose Job was refused.
const SOON: Duration = Duration::from_secs(5);
/// When an object asks again for a slot that asked before the builds were counted.
const UNCOUNTED: Duration = Duration::from_secs(1);

/// When an object is looked at again whose namespace is being deleted, should it still be there.
const TERMINATING: Duration = Duration::from_mins(1);

/// A reconcile did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReconcileError {
    /// Reading failed.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// Writing failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// It took too long as a whole.
    #[error("the reconcile took too long")]
    Late,
    /// A bug.
    #[error("the reconcile panicked: a bug of the operator")]
    Panic,
}

impl ReconcileError {
    /// For the metric.
    pub(super) fn class(&self) -> &'static str {
        match self {
            Self::Gather(_) => "read",
            Self::Apply(_) => "write",
            Self::Late => "timeout",
            Self::Panic => "panic",
        }
    }
}

/// Everything that reconciles share.
pub(super) struct Context {
    pub(super) platform: Arc<Platform>,
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) leadership: Leadership,
    pub(super) jobs: Arc<Index<JobView>>,
    pub(super) pods: Arc<Index<PodView>>,
    pub(super) pool: Pool,
    pub(super) registries: Registries,
    pub(super) slots: Arc<Slots>,
    pub(super) memory: Arc<Memory>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) wake: mpsc::UnboundedSender<ObjectRef<RobotImage>>,
}

/// Works on one object, which may be a part of the resource only; answers when to look again, if nothing happens before.
pub(super) async fn reconcile(context: &Context, image: RobotImage, whole: bool) -> Result<Option<Duration>, ReconcileError> {
    let mut told = Vec::new();
    let ended = Box::pin(rounds(context, image, whole, &mut told)).await;
    // Last: no Job waits for events.
    for (image, notes) in &told {
        for note in notes {
            context.writer.tell(image, note).await;
        }
    }
    ended
}

/// Decides and carries out until there is nothing more to do; what is to be told of it is left in `told`.
async fn rounds(
    context: &Context,
    mut image: RobotImage,
    mut whole: bool,
    told: &mut Vec<(RobotImage, Vec<Note>)>,
) -> Result<Option<Duration>, ReconcileError> {
    // The object comes from a cache. Once a write was made on it, or it was read directly, it is known to be the newest.
    let mut fresh = false;
    // A build is given up by what the API server says of it now, and not by what the watches have told so far.
    let mut read = false;
    for _ in 0..ROUNDS {
        let mut observed = Box::pin(observe(context, image)).await?;
        if read {
            observed = context.reader.anew(observed, Timestamp::now()).await?;
        }
        let mut decision = decide(&observed, &context.platform, Timestamp::now(), random::draw());
        if let Some(lane) = decision.wants {
            match context
                .slots
                .ask(&observed.image, lane, queued_since(&observed.image), &context.wake)
            {
                Some(Turn::Later) => {}
                Some(Turn::Now) => {
                    observed.turn = Turn::Now;
                    decision = decide(&observed, &context.platform, Timestamp::now(), random::draw());
                }
                None => return Ok(Some(UNCOUNTED)),
            }
        }
        match decision.next {
            Next::Rest => {
                leave(context, &observed, decision.wants.is_some());
                return Ok(decision.again);
            }
            Next::Write(_) if !whole => match newest(context, &observed.image).await? {
                Some(newest) => (image, fresh, whole) = (newest, true, true),
                None => return Ok(None),
            },
            Next::Write(status) if !read && gives_up(&observed, &status) => (image, read) = (observed.image, true),
            Next::Write(status) => match context.writer.status(&observed.image, &status).await {
                Ok(written) => {
                    context.metrics.written(observed.image.status.as_ref(), &status);
                    log(&written);
                    if !decision.notes.is_empty() {
                        told.push((written.clone(), decision.notes));
                    }
                    image = written;
                    fresh = true;
                }
                Err(ApplyError::Conflict { .. } | ApplyError::Gone { .. }) => match newest(context, &observed.image).await? {
                    Some(newest) => (image, fresh) = (newest, true),
                    None => return Ok(None),
                },
                Err(error) => return Err(error.into()),
            },
            Next::Act(_) if !fresh => match newest(context, &observed.image).await? {
                Some(newest) => (image, fresh, whole) = (newest, true, true),
                None => return Ok(None),
            },
            Next::Act(actions) => {
                let created = actions.iter().any(|action| matches!(action, Action::CreateJob(_)));
                let refused = match act(context, &observed, actions).await {
                    // The object goes the same way; until then there is nothing to be done and nothing to be told.
                    Err(ReconcileError::Apply(ApplyError::Terminating { .. })) => return Ok(Some(TERMINATING)),
                    other => other?,
                };
                leave(context, &observed, decision.wants.is_some());
                // What was made or deleted tells of itself: to look for it before costs lists. A refusal, and a name that somebody
                // else has taken, are told by the next decision.
                let soon = |again: Duration| if refused || created { again.min(SOON) } else { again };
                return Ok(Some(decision.again.map_or(SOON, soon)));
            }
        }
    }
    Ok(Some(SOON))
}

/// Since when an object waits for a slot, by its status.
fn queued_since(image: &RobotImage) -> Timestamp {
    let conditions = image.status.iter().flat_map(|status| &status.conditions);
    let mut queued = conditions.filter(|condition| condition.type_ == RECONCILING && condition.reason == reasons::QUEUED);
    queued
        .next()
        .map_or_else(Timestamp::now, |condition| condition.last_transition_time.0)
}

/// Tells the queue how an object was left.
fn leave(context: &Context, observed: &Observed, wants: bool) {
    let image = &observed.image;
    let takes = takes_a_slot(image, &observed.jobs);
    let (uid, namespace) = (image.uid().unwrap_or_default(), image.namespace().unwrap_or_default());
    context.slots.seen(&uid, &namespace, takes, wants);
}

/// The object as it is now. Another one of the same name is not it.
async fn newest(context: &Context, image: &RobotImage) -> Result<Option<RobotImage>, ReconcileError> {
    let newest = context
        .reader
        .image(&image.namespace().unwrap_or_default(), &image.name_any())
        .await?;
    Ok(newest.filter(|newest| newest.metadata.uid == image.metadata.uid))
}

async fn observe(context: &Context, image: RobotImage) -> Result<Observed, ReconcileError> {
    let uid = image.uid().unwrap_or_default();
    let source = knowledge(context, &image, &uid).await;
    let checks = checks(context, &image, &source).await;
    let build = image
        .status
        .as_ref()
        .and_then(|status| status.latest_build.as_ref())
        .map(|build| build.build_id.as_str());
    let refusal = context.memory.refusal(&uid, build);
    let (jobs, pods) = (context.jobs.of(&image), context.pods.of(&image));
    let known = Known {
        source,
        checks,
        announced: context.memory.announced(&uid),
        turn: context.slots.turn(&uid),
        refusal,
    };
    Ok(context.reader.gather(image, jobs, pods, known, Timestamp::now()).await?)
}

/// What is known of the source, asked for when it is due. A slow server is not waited for, nor any in a poll, which would keep
/// others from their turn: the answer wakes the object.
async fn knowledge(context: &Context, image: &RobotImage, uid: &str) -> SourceKnowledge {
    let namespace = image.namespace().unwrap_or_default();
    let settings = Settings::of(&image.spec, &namespace, &context.platform);
    let key = settings
        .as_ref()
        .filter(|settings| settings.finder == Finder::Operator)
        .and_then(|settings| {
            Some(LookupKey {
                question: settings.source.question()?,
                secret: settings.source.secret().map(|secret| (namespace.clone(), secret.to_owned())),
            })
        });
    let known = context.memory.source(uid, key.as_ref());
    let (Some(settings), Some(key)) = (settings, key) else {
        return known;
    };
    let now = Timestamp::now();
    let due = matches!(next_look(image, &settings, &known, &context.platform.hash, now), Look::At(time) if time <= now);
    if image.metadata.deletion_timestamp.is_some() || known.asking || !due {
        return known;
    }
    context.memory.asking(uid);
    let (wish, wished) = look_wish(image);
    let (asking, memory, wake) = (context.pool.ask(&key, wished), Arc::clone(&context.memory), context.wake.clone());
    let (generation, build, object, owner, asked) = (
        image.metadata.generation.unwrap_or_default(),
        last_build(image),
        ObjectRef::from_obj(image),
        uid.to_owned(),
        key.clone(),
    );
    let mut task = tokio::spawn(async move {
        let result = asking.await;
        let answer = Answer {
            at: Timestamp::now(),
            chance: random::draw().unit,
            generation,
            build,
            wish,
            failures: 0,
            result,
        };
        memory.answered(&owner, &asked, answer);
    });
    let polls = !wished && image.status.as_ref().and_then(|status| status.observed_generation) == image.metadata.generation;
    if polls || tokio::time::timeout(PATIENCE, &mut task).await.is_err() {
        tokio::spawn(async move {
            // However the look-up ends, the object is looked at; the receiver lives as long as the process.
            let _ = task.await;
            let _ = wake.send(object);
        });
    }
    context.memory.source(uid, Some(&key))
}

/// Carries actions out; answers whether the API server refused the Job. One that fails keeps none of the others: a ConfigMap
/// that cannot be written must not hold up a build.
async fn act(context: &Context, observed: &Observed, actions: Vec<Action>) -> Result<bool, ReconcileError> {
    let image = &observed.image;
    let namespace = image.namespace().unwrap_or_default();
    let (mut refused, mut failed) = (false, None);
    for action in actions {
        let done = match action {
            Action::DeleteJob { name, uid } => {
                tracing::info!(image = full_name(image), job = name, "deleting a Job that is not needed");
                context
                    .writer
                    .delete_job(&namespace, &name, &uid)
                    .await
                    .map_err(ReconcileError::from)
            }
            Action::Announce { name, data } => announce(context, image, name, data).await,
            Action::CreateJob(job) => create(context, image, &job).await.map(|taken| refused |= !taken),
        };
        failed = failed.or(done.err());
    }
    failed.map_or(Ok(refused), Err)
}

/// Offers the live build's Job to the API server; answers whether it was taken. Why not is told by the next decision.
async fn create(context: &Context, image: &RobotImage, job: &Job) -> Result<bool, ReconcileError> {
    let uid = image.uid().unwrap_or_default();
    let status = image.status.as_ref();
    let build = status
        .and_then(|status| status.latest_build.as_ref())
        .map(|build| build.build_id.clone())
        .unwrap_or_default();
    match context.writer.create_job(job).await {
        Ok(()) => {
            tracing::info!(image = full_name(image), job = job.name_any(), "made the Job of a build");
            context.memory.refused(&uid, &build, None);
            Ok(true)
        }
        Err(ApplyError::Refused { refusal, .. }) => {
            tracing::warn!(
                image = full_name(image),
                job = job.name_any(),
                refusal = refusal.message,
                "the Job of a build is refused"
            );
            context.memory.refused(&uid, &build, Some(refusal));
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes the image into a ConfigMap; one that may not be written is told once and left.
async fn announce(context: &Context, image: &RobotImage, name: String, data: BTreeMap<String, String>) -> Result<(), ReconcileError> {
    let refused = match context.writer.announce(image, &name, &data).await {
        Ok(refused) => refused,
        Err(ApplyError::Refused { refusal, .. }) => Some(refusal.message),
        // Somebody else writes it at this moment.
        Err(ApplyError::Conflict { .. } | ApplyError::Gone { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let announced = Announced {
        name,
        data,
        at: Timestamp::now(),
        refused: refused.clone(),
    };
    let news = context.memory.announce(&image.uid().unwrap_or_default(), announced);
    if let Some(message) = refused.filter(|_| news) {
        context.writer.tell(image, &Note::warning("PublishToRefused", message)).await;
    }
    Ok(())
}

fn log(image: &RobotImage) {
    let status = image.status.clone().unwrap_or_default();
    let build = status.latest_build.unwrap_or_default();
    let live = matches!(build.phase, BuildPhase::Pending | BuildPhase::Running);
    tracing::info!(
        image = full_name(image),
        summary = status.summary.unwrap_or_default(),
        build = build.number,
        attempt = build.attempt,
        live,
        revision = status.source.map(|source| source.short).unwrap_or_default(),
        "wrote the status"
    );
}
