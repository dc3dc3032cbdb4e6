//! The operator dies (SIGKILL) before and after each of its writes and at each start of a container, and is started again:
//! one Job, one result, no duplicate, no number used twice.

use std::fmt;
use std::time::{Duration, Instant};

use robotimage_crds::api::RobotImage;
use robotimage_tests::apiproxy::{Moment, Write};
use robotimage_tests::{Error, Namespace, Result};
use serde_json::json;

use crate::local::Local;
use crate::objects::{SHELL_ROBOT, git_repository, jobs, jobs_made, pods, repository, robot_image, wait_ready, wait_step};
use crate::setup::{Setup, setup};

/// For one build on a busy machine.
const LIMIT: Duration = Duration::from_mins(3);
/// Points that must have been met, or the test has not shown what it is for.
const LEAST: usize = 12;
const STEPS: [&str; 3] = ["fetch", "resolve", "publish"];

/// Where the operator dies.
#[derive(Clone, Debug)]
enum Point {
    Write(usize, Moment, String),
    Step(&'static str),
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(number, Moment::Before, what) => write!(f, "before write {number}, {what}"),
            Self::Write(number, Moment::After, what) => write!(f, "after write {number}, {what}"),
            Self::Step(step) => write!(f, "when {step} starts"),
        }
    }
}

struct Suite<'a> {
    setup: &'a Setup,
    namespace: Namespace,
    local: Local,
    url: String,
    /// One for all points: the bytes are the same, and what is there is not sent again.
    repository: String,
}

impl Suite<'_> {
    /// A new RobotImage, while no operator runs.
    async fn create(&self, name: &str) -> Result<RobotImage> {
        let target = self.setup.bed.book().registry.reference(&self.repository);
        // Nothing of it may move by itself while the next points are tried.
        let change = json!({"spec": {"interval": "24h", "image": {"repository": target}}});
        self.namespace
            .apply::<RobotImage>(robot_image(&self.setup.bed, &self.namespace, name, &self.url, &change))
            .await
    }

    /// A build without a fault: its writes, and what it made.
    async fn reference(&mut self) -> Result<(Vec<Write>, RobotImage)> {
        self.create("reference").await?;
        self.local.proxy.reset();
        self.local.start()?;
        let object = wait_ready(&self.namespace, "reference", LIMIT).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.local.kill();
        self.check(&object, &object).await?;
        Ok((self.local.proxy.writes(), object))
    }

    /// Dies at a point and is started again; false when the build came to its end without meeting it.
    async fn die_at(&mut self, name: &str, point: &Point, reference: &RobotImage) -> Result<bool> {
        let object = self.create(name).await?;
        self.local.proxy.reset();
        let identity = self.local.start()?.identity();
        let met = match point {
            Point::Write(number, moment, _) => {
                self.local.proxy.kill_at(*number, *moment, identity);
                self.fired(&object).await?
            }
            Point::Step(step) => {
                wait_step(&self.namespace, &object, step, LIMIT).await?;
                true
            }
        };
        self.local.kill();
        if identity.is_alive() {
            return Err(Error::Other("the operator survived its SIGKILL".to_owned()));
        }
        self.local.proxy.reset();
        self.local.start()?;
        let ready = wait_ready(&self.namespace, name, LIMIT).await?;
        self.local.kill();
        self.check(&ready, reference).await?;
        Ok(met)
    }

    /// Waits until the trap has fired, or the build is over without it.
    async fn fired(&self, object: &RobotImage) -> Result<bool> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let end = Instant::now() + LIMIT;
        let mut over = None;
        while self.local.proxy.is_armed() {
            let now = self
                .namespace
                .api::<RobotImage>()
                .get(&name)
                .await
                .map_err(Error::cluster("get of a RobotImage"))?;
            // The last write may still be under way to the proxy's own end.
            if crate::objects::is_settled(&now) && over.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(2) {
                return Ok(false);
            }
            if Instant::now() > end {
                return Err(Error::Other(format!(
                    "the operator neither died nor ended the build of {name}; its log:\n{}",
                    self.local.tail()
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(true)
    }

    /// One Job, one pod, one result.
    async fn check(&self, object: &RobotImage, reference: &RobotImage) -> Result<()> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let status = object.status.clone().unwrap_or_default();
        let build = status.latest_build.clone().unwrap_or_default();
        let made: Vec<String> = jobs(&self.namespace, object)
            .await?
            .into_iter()
            .filter_map(|job| job.metadata.name)
            .collect();
        let ran = pods(&self.namespace, object).await?.len();
        let created = jobs_made(self.setup, &self.namespace, &name)?;
        let history: Vec<(i64, &str)> = status.history.iter().map(|entry| (entry.number, entry.outcome.as_str())).collect();
        let digest = |object: &RobotImage| {
            object
                .status
                .as_ref()
                .and_then(|status| status.latest_image.as_ref())
                .map(|image| image.digest.clone())
        };
        let facts = [
            ("Jobs there", format!("{made:?}"), format!("{:?}", [&build.job])),
            ("Jobs ever made", created.to_string(), "1".to_owned()),
            ("pods", ran.to_string(), "1".to_owned()),
            (
                "number and attempt",
                format!("{} {}", build.number, build.attempt),
                "1 1".to_owned(),
            ),
            ("counter", format!("{:?}", status.build_counter), "Some(1)".to_owned()),
            ("history", format!("{history:?}"), "[(1, \"Succeeded\")]".to_owned()),
            ("failure", format!("{:?}", status.last_failure), "None".to_owned()),
            ("digest", format!("{:?}", digest(object)), format!("{:?}", digest(reference))),
        ];
        let wrong: Vec<String> = facts
            .iter()
            .filter(|(_, is, wanted)| is != wanted)
            .map(|(what, is, wanted)| format!("{what}: {is}, not {wanted}"))
            .collect();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(Error::Other(format!("{name}: {}", wrong.join("; "))))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn an_operator_that_dies_anywhere_builds_once() {
    let setup = setup().await;
    let namespace = setup.unserved("kill").await.unwrap();
    let local = Local::prepare(&setup, &namespace, &json!({})).await.unwrap();
    let repo = git_repository(&setup.bed, &namespace, "robot", SHELL_ROBOT).unwrap();
    let mut suite = Suite {
        setup: &setup,
        repository: repository(&namespace, "robot"),
        url: repo.url().to_owned(),
        namespace,
        local,
    };
    let (writes, reference) = suite.reference().await.unwrap();
    let both = |(number, write): (usize, &Write)| [Moment::Before, Moment::After].map(|moment| Point::Write(number, moment, write.shown()));
    let points: Vec<Point> = writes.iter().enumerate().flat_map(both).chain(STEPS.map(Point::Step)).collect();
    let (mut met, mut wrong) = (0, Vec::new());
    for (number, point) in points.iter().enumerate() {
        let began = Instant::now();
        let result = suite.die_at(&format!("p{number:02}"), point, &reference).await;
        let said = match &result {
            Ok(true) => "one Job, one result".to_owned(),
            Ok(false) => "not met: the build had fewer writes this time".to_owned(),
            Err(error) => error.to_string(),
        };
        println!("{:>5.1} s  killed {point}: {said}", began.elapsed().as_secs_f64());
        met += usize::from(matches!(result, Ok(true)));
        wrong.extend(result.err().map(|error| format!("{point}: {error}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(met >= LEAST, "only {met} of {} points were met", points.len());
    // All points pushed to one repository: the same bytes under one tag.
    let tags = setup.bed.book().registry.tags(&suite.repository).unwrap();
    let wanted = reference
        .status
        .and_then(|status| status.latest_image)
        .map(|image| image.tags)
        .unwrap_or_default();
    assert_eq!(tags, wanted);
    suite.namespace.delete().await.unwrap();
}
