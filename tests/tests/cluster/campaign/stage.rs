//! Where the rows are played: a test bed of its own, whose parts may be broken, and what people do in it.
//!
//! Invariant: each row has a namespace, operators and an image repository of its own; all they share is the bed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use kube::api::{ListParams, Patch, PatchParams};
use robotimage_crds::api::RobotImage;
use robotimage_tests::apiproxy::Write;
use robotimage_tests::git::GitRepo;
use robotimage_tests::{Bed, Cache, Error, Namespace, Result, audit, install, node};
use serde_json::{Value, json};

use super::LIMIT;
use super::blow::Blow;
use super::cast::{Cast, Casting};
use super::judge::{Input, Known, ROUND, judge};
use super::row::{Fault, Life, Row, When};
use super::trace::{Recorder, TAG, Trace};
use crate::objects::{SHELL_ROBOT, git_repository, is_settled, is_stalled, repository, robot_image, started};
use crate::setup::{Setup, apply_definition};

/// When the controller-manager gives a node up; Kubernetes' own: 50 s.
const GRACE: &str = "--node-monitor-grace-period=20s";
/// Nothing may be written for so long once all is said.
const QUIET: Duration = Duration::from_secs(3);
const NAME: &str = "robot";

/// The second commit, and one that no image can be made of.
const SECOND: &[(&str, &[u8])] = &[("main.sh", b"echo robot says hello again\n")];
const BROKEN: &[(&str, &[u8])] = &[("robot.yaml", b"artifactsDir: output\n")];
const BROKEN_REASON: &str = "RobotYamlInvalid";

/// The bed, and what is known of right images.
#[derive(Debug)]
pub(crate) struct Stage {
    setup: Setup,
    known: Known,
    count: usize,
}

/// What a row came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Whether the fault came when it was to come.
    pub(crate) met: bool,
    pub(crate) jobs: usize,
    pub(crate) took: Duration,
    pub(crate) wrong: Vec<String>,
}

/// One who commits and edits, and tries again while the API server is away.
#[derive(Debug)]
struct Person {
    namespace: Namespace,
    repo: GitRepo,
    object: Value,
}

impl Person {
    async fn make(&self) -> Result<()> {
        self.insist("apply of the RobotImage", async || {
            self.namespace.apply::<RobotImage>(self.object.clone()).await.map(drop)
        })
        .await
    }

    /// Asks for a look now, as `kubectl annotate` does.
    async fn commit(&self, files: &[(&str, &[u8])], message: &str) -> Result<String> {
        let commit = self.repo.commit(files, message)?;
        let asked = json!({"metadata": {"annotations": {"robotimage.dev/requestedAt": message}}});
        self.patch(&asked).await.map(|()| commit)
    }

    async fn patch(&self, change: &Value) -> Result<()> {
        self.insist("patch of the RobotImage", async || {
            let images = self.namespace.api::<RobotImage>();
            let patched = images.patch(NAME, &PatchParams::default(), &Patch::Merge(change)).await;
            patched.map(drop).map_err(Error::cluster("patch of the RobotImage"))
        })
        .await
    }

    async fn insist(&self, what: &str, act: impl AsyncFn() -> Result<()>) -> Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            let said = match tokio::time::timeout(Duration::from_secs(10), act()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() > end {
                return Err(Error::Other(format!("{what}: not within {LIMIT:?}: {said}")));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// What must be Ready in the end, or stalled.
#[derive(Debug)]
enum Wanted {
    Ready(Input),
    Stalled,
}

impl Wanted {
    fn is_reached(&self, trace: &Trace) -> bool {
        let Some(image) = trace.images.last() else { return false };
        match self {
            Self::Ready(input) => is_settled(image) && super::judge::input(image) == *input,
            Self::Stalled => is_stalled(image) && trace.says(BROKEN_REASON),
        }
    }
}

impl Stage {
    /// A bed whose node is given up sooner than Kubernetes does it by itself.
    pub(crate) async fn start() -> Result<Self> {
        let options = node::Options {
            manager_flags: vec![GRACE.to_owned()],
            ..node::Options::default()
        };
        let bed = Bed::with_node(&Cache::open()?, options).await?;
        apply_definition(&bed)?;
        let (binaries, images) = install::images(&bed).await?;
        let mark = audit::mark(&bed.node().audit_log())?;
        let setup = Setup {
            bed: Arc::new(bed),
            binaries,
            images,
            mark,
        };
        Ok(Self {
            setup,
            known: Known::new(),
            count: 0,
        })
    }

    /// Ends it.
    pub(crate) fn stop(self) -> Result<()> {
        Arc::into_inner(self.setup.bed).map_or(Ok(()), Bed::stop)
    }

    /// Learns the right digest of whatever this life makes, without a fault. Gives the writes of it.
    pub(crate) async fn learn(&mut self, life: Life) -> Result<Vec<Write>> {
        let mut play = self.prepare(Casting::Counted).await?;
        play.cast.start(&play.person.namespace).await?;
        let wanted = play.live(life).await?;
        play.recorder
            .wait("a build without a fault", LIMIT, |trace| wanted.is_reached(trace))
            .await?;
        for image in &play.recorder.trace().images {
            if let Some(digest) = image.status.as_ref().and_then(|status| status.latest_image.as_ref())
                && install::is_ready(image)
                && !super::judge::is_looking(image)
            {
                self.known.insert(super::judge::input(image), digest.digest.clone());
            }
        }
        Ok(play.finish().await?.local.proxy.writes())
    }

    /// Plays a row.
    pub(crate) async fn play(&mut self, row: &Row) -> Result<Outcome> {
        let began = Instant::now();
        let mut play = self.prepare(row.casting).await?;
        let played = play.row(self, row).await;
        let met = !matches!(played, Ok(false));
        let mut wrong: Vec<String> = played.err().map(|error| error.to_string()).into_iter().collect();
        wrong.extend(play.quiet(self).await.err().map(|error| error.to_string()));
        let jobs = {
            let trace = play.recorder.trace();
            wrong.extend(judge(&trace, &self.known));
            if met && !row.says.is_empty() && !trace.says(row.says) {
                wrong.push(format!("no status ever said {}", row.says));
            }
            trace.jobs.len()
        };
        if met && !row.jobs.contains(&jobs) {
            wrong.push(format!("{jobs} Jobs, not {:?}", row.jobs));
        }
        wrong.extend(play.made_twice(self)?);
        let cast = play.finish().await?;
        if !wrong.is_empty() {
            println!("{}", cast.logs());
        }
        Ok(Outcome {
            met,
            jobs,
            took: began.elapsed(),
            wrong,
        })
    }

    async fn prepare(&mut self, casting: Casting) -> Result<Play> {
        self.count += 1;
        let bed = &self.setup.bed;
        let namespace = Namespace::create(bed, &format!("faults-{}", self.count)).await?;
        let cast = Cast::prepare(&self.setup, &namespace, casting).await?;
        let repo = git_repository(bed, &namespace, NAME, SHELL_ROBOT)?;
        let change = json!({"spec": {"interval": "24h", "image": {"tags": [TAG]}}});
        let person = Person {
            object: robot_image(bed, &namespace, NAME, repo.url(), &change),
            repo,
            namespace,
        };
        let recorder = Recorder::start(&person.namespace, &bed.book().registry, &repository(&person.namespace, NAME));
        let mark = audit::mark(&bed.node().audit_log())?;
        Ok(Play {
            person,
            cast,
            recorder,
            mark,
        })
    }
}

/// One row under way.
#[derive(Debug)]
struct Play {
    person: Person,
    cast: Cast,
    recorder: Recorder,
    /// Where the audit log was when it began.
    mark: u64,
}

impl Play {
    fn first(&self) -> Result<Input> {
        Ok((self.person.repo.id("main")?, String::new()))
    }

    /// What must be there before people do what the row is about.
    async fn before(&mut self, life: Life) -> Result<()> {
        if matches!(life, Life::First | Life::Supersede) {
            return Ok(());
        }
        self.cast.start(&self.person.namespace).await?;
        self.person.make().await?;
        let ready = Wanted::Ready(self.first()?);
        self.recorder.wait("the image before", LIMIT, |trace| ready.is_reached(trace)).await
    }

    /// What people do; gives what must come of it.
    async fn act(person: &Person, recorder: &Recorder, life: Life) -> Result<Wanted> {
        let input = |commit: String| Wanted::Ready((commit, String::new()));
        match life {
            Life::First => {
                person.make().await?;
                Ok(input(person.repo.id("main")?))
            }
            Life::Next => person.commit(SECOND, "Second").await.map(input),
            Life::Supersede => {
                person.make().await?;
                let fetches = |trace: &Trace| has_started(trace, "fetch");
                recorder.wait("the first build", LIMIT, fetches).await?;
                person.commit(SECOND, "Second").await.map(input)
            }
            Life::Spec => {
                person.patch(&json!({"spec": {"image": {"labels": {ROUND: "2"}}}})).await?;
                Ok(Wanted::Ready((person.repo.id("main")?, "2".to_owned())))
            }
            Life::Broken => {
                person.commit(BROKEN, "Broken").await?;
                Ok(Wanted::Stalled)
            }
        }
    }

    /// A whole life without a fault.
    async fn live(&mut self, life: Life) -> Result<Wanted> {
        self.before(life).await?;
        Self::act(&self.person, &self.recorder, life).await
    }

    /// Until all is as people want it; answers whether the fault came when it was to come.
    async fn row(&mut self, stage: &mut Stage, row: &Row) -> Result<bool> {
        self.before(row.life).await?;
        self.cast.start(&self.person.namespace).await?;
        let bed = Arc::get_mut(&mut stage.setup.bed).ok_or_else(|| Error::Other("somebody else holds the bed".to_owned()))?;
        let (person, recorder, fault) = (&self.person, &self.recorder, &row.fault);
        let mut blow = Blow {
            bed,
            namespace: &person.namespace,
            cast: &mut self.cast,
            recorder,
        };
        let (wanted, met) = if row.when == When::Before {
            let begun = blow.begin(fault).await;
            let (acted, hit) = tokio::join!(Self::act(person, recorder, row.life), blow.strike(fault, begun));
            (acted?, hit?)
        } else {
            let wanted = Self::act(person, recorder, row.life).await?;
            let number = if row.life == Life::First { 1 } else { 2 };
            let come = async |when: When| recorder.wait(&when.to_string(), LIMIT, |trace| has_come(trace, when, number)).await;
            if let When::Step(step) = row.when {
                come(if step == "fetch" { When::Begun } else { When::Step("resolve") }).await?;
                blow.stall(true)?;
            }
            let came = come(row.when).await;
            let begun = match came {
                Ok(()) => blow.begin(fault).await,
                Err(error) => Err(error),
            };
            if !matches!(fault, Fault::Registry(_)) {
                blow.stall(false)?;
            }
            (wanted, blow.strike(fault, begun).await?)
        };
        recorder
            .wait("all is as it is wanted", LIMIT, |trace| wanted.is_reached(trace))
            .await?;
        Ok(met)
    }

    /// Whoever has settled writes no more.
    async fn quiet(&self, stage: &Stage) -> Result<()> {
        let log = stage.setup.bed.node().audit_log();
        let mut said = String::new();
        for _ in 0..5 {
            let mark = audit::mark(&log)?;
            tokio::time::sleep(QUIET).await;
            let entries = audit::read(&log, mark)?;
            let ours = entries.iter().filter(|entry| entry.user == self.cast.user() && entry.is_write());
            let writes: Vec<String> = ours
                .filter(|entry| !["leases", "events"].contains(&entry.resource.as_str()))
                .map(|entry| format!("{} {} {}", entry.verb, entry.resource, entry.code))
                .collect();
            if writes.is_empty() {
                return Ok(());
            }
            said = writes.join(", ");
        }
        Err(Error::Other(format!("it does not come to rest, and writes: {said}")))
    }

    /// Names of Jobs that were made more than once, by the API server's own account.
    fn made_twice(&self, stage: &Stage) -> Result<Vec<String>> {
        let mut names: Vec<String> = audit::read(&stage.setup.bed.node().audit_log(), self.mark)?
            .into_iter()
            .filter(|entry| entry.namespace == self.person.namespace.name() && entry.resource == "jobs")
            .filter(|entry| entry.verb == "create" && entry.is_success())
            .map(|entry| entry.name)
            .collect();
        names.sort();
        let twice = names.windows(2).filter(|pair| pair[0] == pair[1]);
        Ok(twice.map(|pair| format!("Job {} was made twice", pair[0])).collect())
    }

    /// Ends the operators and removes the namespace; nothing of it may go on beside the next row.
    async fn finish(mut self) -> Result<Cast> {
        self.cast.end();
        let namespace = &self.person.namespace;
        let jobs = namespace.api::<Job>();
        let params = kube::api::DeleteParams::background();
        let deleted = jobs.delete_collection(&params, &ListParams::default()).await;
        deleted.map_err(Error::cluster("deletion of Jobs"))?;
        self.person.namespace.delete().await?;
        Ok(self.cast)
    }
}

fn has_started(trace: &Trace, step: &str) -> bool {
    trace.pods_of_newest().any(|pod| started(pod).iter().any(|name| name == step))
}

fn has_come(trace: &Trace, when: When, number: i64) -> bool {
    let newest = trace.status().and_then(|status| status.latest_build.as_ref());
    let is_it = newest.is_some_and(|build| build.number == number);
    match when {
        When::Before | When::Begun => is_it,
        When::Step(step) => is_it && has_started(trace, step),
    }
}
