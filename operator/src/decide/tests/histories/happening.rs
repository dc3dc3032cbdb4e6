//! What people, pods and the garbage collector do to the model's API server.

use k8s_openapi::api::batch::v1::Job;
use robotimage_crds::api::annotation;
use robotimage_crds::build::Want;
use serde_json::json;

use super::super::pods::{ended, running, waiting};
use super::event::{Event, Wish};
use super::simulation::Simulation;
use crate::decide::Action;
use crate::observe::JobView;

impl Simulation {
    pub(super) fn person(&mut self, event: &Event) {
        let world = &mut self.world;
        match event {
            Event::EditTask(task) => world.edit(|spec| spec.robot.get_or_insert_default().task = Some(format!("task {task}"))),
            Event::EditInterval => world.edit(|spec| spec.interval = Some(if spec.interval.is_none() { "1m" } else { "2m" }.to_owned())),
            Event::EditBuild(retries, way) => world.edit(|spec| {
                let build = spec.build.get_or_insert_default();
                (build.retries, build.supersede) = (*retries, Some(*way));
            }),
            Event::Suspend(suspend) => world.edit(|spec| spec.suspend = Some(*suspend)),
            Event::Wish(wish, value) => {
                let name = match wish {
                    Wish::Request => annotation::REQUESTED_AT,
                    Wish::Flux => annotation::FLUX_REQUESTED_AT,
                    Wish::Force => annotation::FORCE_AT,
                };
                world.annotate(name, &value.to_string());
            }
            Event::Cancel(off) => {
                let number = world.status().latest_build.map_or(0, |build| build.number) + off;
                world.annotate(annotation::CANCEL, &number.to_string());
            }
            other => unreachable!("{other:?} is not a person's"),
        }
        self.changed();
    }

    pub(super) fn reap(&mut self) {
        let deleting = |job: &&Job| job.metadata.deletion_timestamp.is_some();
        let gone: Vec<_> = self
            .world
            .jobs
            .iter()
            .filter(deleting)
            .filter_map(|job| job.metadata.uid.clone())
            .collect();
        for uid in gone {
            self.world.apply(Action::DeleteJob { name: String::new(), uid });
        }
    }

    /// The live build's Job, if it is there and not over.
    pub(super) fn live_job(&self) -> Option<JobView> {
        let build = self.world.status().latest_build?;
        let job = self.world.jobs.iter().find(|job| job.metadata.name.as_ref() == Some(&build.job))?;
        job.status.is_none().then(|| JobView::of(job))
    }

    /// Something happens to the live build's Job, if there is one.
    pub(super) fn build_event(&mut self, event: &Event) {
        let Some(job) = self.live_job() else { return };
        let plan = job.plan.expect("a plan");
        let commit = match plan.source.want {
            Want::Commit { id, .. } => id,
            Want::Reference(_) => self
                .world
                .server
                .as_ref()
                .map_or_else(|_| "f".repeat(40), |found| found.commit.clone()),
        };
        if matches!(
            event,
            Event::PodBlocked | Event::Fail(..) | Event::JobTakenAway | Event::PodTakenAway
        ) {
            self.looked(job.number);
        }
        let world = &mut self.world;
        match event {
            Event::PodBlocked => {
                let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no"});
                world.pod_with(
                    json!({"phase": "Pending", "conditions": [condition]}),
                    [waiting(""), waiting(""), waiting("")],
                );
            }
            Event::PodStarts => world.pod("Running", [running(world.now), waiting(""), waiting("")]),
            Event::FetchEnds => {
                let fetched = world.done_fetch(&commit);
                world.pod("Running", [fetched, running(world.now), waiting("")]);
            }
            Event::Succeed(noop) => {
                let before = plan.previous.filter(|_| *noop).and_then(|previous| previous.digest.chars().nth(7));
                let digest = before.unwrap_or_else(|| commit.chars().last().unwrap_or('0'));
                if before.is_some() {
                    self.seen.looks.insert(job.number);
                }
                world.succeed(&commit, digest, before.is_some());
                self.seen.succeeded.insert(job.name);
            }
            Event::Fail(step, reason) => world.fail(*step, *reason),
            Event::OutOfMemory => {
                let fetched = world.done_fetch(&commit);
                world.pod("Failed", [fetched, ended(137, "OOMKilled", ""), waiting("")]);
                world.end_job("Failed");
            }
            Event::JobTakenAway => {
                let (name, uid) = (job.name, job.uid);
                world.apply(Action::DeleteJob { name, uid });
            }
            _ => {
                world.pods.clear();
                world.end_job("Failed");
            }
        }
    }

    /// A look that fails leaves the image what it was, and no entry.
    pub(super) fn looked(&mut self, number: i64) {
        let status = self.world.status();
        let key = status.latest_build.map(|build| build.request_key);
        if status.latest_image.is_some_and(|image| Some(image.request_key) == key) {
            self.seen.looks.insert(number);
        }
    }
}
