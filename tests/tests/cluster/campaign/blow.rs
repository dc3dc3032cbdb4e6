//! A fault comes and goes, by the harness's hand.
//!
//! Invariant: what begins ends, also when it did not hit, or what was waited for did not come: [`Blow::strike`] always ends it.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PropagationPolicy};
use robotimage_tests::web::Fault as Misbehaviour;
use robotimage_tests::{Bed, Error, Namespace, Node, Result};

use super::LIMIT;
use super::cast::Cast;
use super::row::{Fault, Stroke};
use super::trace::{Recorder, Trace};
use crate::objects::is_settled;

/// What a fault can reach.
#[derive(Debug)]
pub(crate) struct Blow<'a> {
    pub(crate) bed: &'a mut Bed,
    pub(crate) namespace: &'a Namespace,
    pub(crate) cast: &'a mut Cast,
    pub(crate) recorder: &'a Recorder,
}

fn own_bed() -> Error {
    Error::Other("a kept test bed must not be broken".to_owned())
}

/// Whether the second build, with which the longest life ends, has come to its end.
fn is_over(trace: &Trace) -> bool {
    let counter = trace.status().and_then(|status| status.build_counter);
    counter >= Some(2) && trace.images.last().is_some_and(is_settled)
}

/// Whether the operator has given up what it had begun on a node that does not answer.
fn is_given_up(trace: &Trace) -> bool {
    let build = trace.status().and_then(|status| status.latest_build.as_ref());
    trace.says("NodeLost") && build.is_some_and(|build| build.attempt > 1 && build.uid.is_some())
}

impl Blow<'_> {
    fn node(&mut self) -> Result<&mut Node> {
        self.bed.own_node().ok_or_else(own_bed)
    }

    /// The registry answers nobody, so that a step that has started does not end before the fault comes.
    pub(crate) fn stall(&mut self, stalls: bool) -> Result<()> {
        let (registry, _) = self.bed.registries().ok_or_else(own_bed)?;
        if stalls {
            registry.freeze()
        } else {
            registry.thaw()
        };
        Ok(())
    }

    /// It begins; answers whether there was anything that it could hit.
    pub(crate) async fn begin(&mut self, fault: &Fault) -> Result<bool> {
        match fault {
            Fault::None => {}
            Fault::Dies(write, moment, _) => {
                let identity = self.cast.local.process()?.identity();
                self.cast.local.proxy.kill_at(*write, *moment, identity);
            }
            Fault::Parts(parts, Stroke::Away(_)) => {
                for part in *parts {
                    self.node()?.part_mut(part)?.kill();
                }
            }
            Fault::Parts(parts, Stroke::Frozen(_)) => {
                for part in *parts {
                    self.node()?.part(part)?.freeze();
                }
            }
            Fault::Containers => return self.kill_containers(),
            Fault::NodeLost => {
                self.node()?.part_mut("kubelet")?.kill();
                let killed = self.kill_containers()?;
                self.evict_pod().await?;
                return Ok(killed);
            }
            Fault::KubeletFrozen { given_up } => {
                self.node()?.part("kubelet")?.freeze();
                if *given_up {
                    self.evict_pod().await?;
                }
            }
            Fault::Registry(Stroke::Away(_)) => self.bed.registries().ok_or_else(own_bed)?.0.stop(),
            Fault::Registry(Stroke::Frozen(_)) => {
                self.bed.registries().ok_or_else(own_bed)?.0.freeze();
            }
            Fault::GitAway(_) => self.bed.servers().ok_or_else(own_bed)?.git.server().stop(),
            Fault::GitBusy(_) => self.misbehave(Misbehaviour::Status(503))?,
            Fault::GitSilent(_) => self.misbehave(Misbehaviour::Hang)?,
            Fault::JobDeleted(how) => self.delete_job(how).await?,
            Fault::PodDeleted => self.delete_pod(DeleteParams::default().grace_period(0)).await?,
            Fault::Leader(stroke) => {
                let leader = self.cast.leading(self.namespace).await?;
                match stroke {
                    Stroke::Away(_) => leader.process.kill(),
                    Stroke::Frozen(_) => {
                        leader.process.part().freeze();
                    }
                }
            }
            Fault::LeaseDeleted => {
                let leases = self.namespace.api::<Lease>();
                let deleted = leases.delete("robotimage", &DeleteParams::default()).await;
                deleted.map_err(Error::cluster("deletion of the Lease"))?;
            }
            Fault::LeaseTaken => {
                let leases = self.namespace.api::<Lease>();
                let taken = Patch::Merge(Cast::stranger());
                let taken = leases.patch("robotimage", &PatchParams::default(), &taken).await;
                taken.map_err(Error::cluster("patch of the Lease"))?;
            }
        }
        Ok(true)
    }

    /// All that follows its begin.
    pub(crate) async fn strike(&mut self, fault: &Fault, begun: Result<bool>) -> Result<bool> {
        let held = match begun {
            Ok(true) => self.hold(fault).await,
            not => not,
        };
        self.end(fault).await.and(held)
    }

    /// It lasts for as long as it is to last; answers whether it has hit anything.
    pub(crate) async fn hold(&mut self, fault: &Fault) -> Result<bool> {
        let seconds = match fault {
            Fault::Parts(_, Stroke::Away(seconds) | Stroke::Frozen(seconds))
            | Fault::Registry(Stroke::Away(seconds) | Stroke::Frozen(seconds))
            | Fault::Leader(Stroke::Away(seconds) | Stroke::Frozen(seconds))
            | Fault::GitAway(seconds)
            | Fault::GitBusy(seconds)
            | Fault::GitSilent(seconds) => *seconds,
            Fault::Dies(..) => {
                let proxy = &self.cast.local.proxy;
                let fired = |trace: &Trace| !proxy.is_armed() || is_over(trace);
                self.recorder.wait("the write at which the operator dies", LIMIT, fired).await?;
                // The last write may still be under way to the proxy's own end.
                tokio::time::sleep(Duration::from_secs(if proxy.is_armed() { 2 } else { 0 })).await;
                return Ok(!proxy.is_armed());
            }
            Fault::NodeLost | Fault::KubeletFrozen { given_up: true } => {
                self.recorder.wait("the pod is given up", LIMIT, is_given_up).await?;
                return Ok(true);
            }
            Fault::KubeletFrozen { given_up: false } => {
                let pushed = |trace: &Trace| !trace.tag.is_empty();
                self.recorder.wait("the push goes on without the kubelet", LIMIT, pushed).await?;
                // Nobody may have been told.
                if self.recorder.trace().images.last().is_some_and(is_settled) {
                    return Ok(false);
                }
                5
            }
            Fault::None | Fault::Containers | Fault::JobDeleted(_) | Fault::PodDeleted | Fault::LeaseDeleted | Fault::LeaseTaken => 0,
        };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(true)
    }

    /// It is over.
    pub(crate) async fn end(&mut self, fault: &Fault) -> Result<()> {
        match fault {
            Fault::Dies(..) => {
                self.cast.local.kill();
                self.cast.local.proxy.reset();
                self.cast.local.start()?;
            }
            Fault::Parts(parts, Stroke::Away(_)) => {
                for part in *parts {
                    self.node()?.part_mut(part)?.restart()?;
                }
            }
            Fault::Parts(parts, Stroke::Frozen(_)) => {
                for part in *parts {
                    self.node()?.part(part)?.thaw();
                }
            }
            Fault::NodeLost => self.node()?.part_mut("kubelet")?.restart()?,
            Fault::KubeletFrozen { .. } => {
                self.node()?.part("kubelet")?.thaw();
            }
            Fault::Registry(Stroke::Away(_)) => self.bed.registries().ok_or_else(own_bed)?.0.start_again().await?,
            Fault::Registry(Stroke::Frozen(_)) => {
                self.bed.registries().ok_or_else(own_bed)?.0.thaw();
            }
            Fault::GitAway(_) => self.bed.servers().ok_or_else(own_bed)?.git.server().start_again()?,
            Fault::GitBusy(_) | Fault::GitSilent(_) => self.bed.servers().ok_or_else(own_bed)?.git.server().heal(),
            Fault::Leader(Stroke::Frozen(_)) => self.cast.thaw(),
            Fault::None
            | Fault::Containers
            | Fault::JobDeleted(_)
            | Fault::PodDeleted
            | Fault::Leader(Stroke::Away(_))
            | Fault::LeaseDeleted
            | Fault::LeaseTaken => {}
        }
        Ok(())
    }

    fn misbehave(&mut self, how: Misbehaviour) -> Result<()> {
        self.bed.servers().ok_or_else(own_bed)?.git.server().fault(how);
        Ok(())
    }

    /// SIGKILL to every container of the newest build that runs; answers whether one did.
    fn kill_containers(&mut self) -> Result<bool> {
        let ids: Vec<String> = {
            let trace = self.recorder.trace();
            let statuses = trace.pods_of_newest().filter_map(|pod| pod.status.as_ref());
            let containers = statuses.flat_map(|status| status.init_container_statuses.iter().chain(&status.container_statuses).flatten());
            let running = containers.filter(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()));
            let ids = running.filter_map(|container| container.container_id.as_ref());
            ids.filter_map(|id| id.strip_prefix("containerd://")).map(str::to_owned).collect()
        };
        let mut killed = false;
        for id in ids {
            let mut kill = self.node()?.machine().command("ctr");
            kill.args(["--namespace", "k8s.io", "tasks", "kill", "--all", "--signal", "SIGKILL", &id]);
            // One that has ended meanwhile cannot be killed.
            killed |= robotimage_tests::process::run("kill of a container", &mut kill).is_ok();
        }
        Ok(killed)
    }

    async fn delete_job(&mut self, how: &str) -> Result<()> {
        let newest = self.recorder.trace().status().and_then(|status| status.latest_build.clone());
        let name = newest.map(|build| build.job).unwrap_or_default();
        let made = |trace: &Trace| trace.jobs.values().any(|seen| seen.object.metadata.name.as_ref() == Some(&name));
        self.recorder.wait("the Job of the build", LIMIT, made).await?;
        let policy = match how {
            "Orphan" => PropagationPolicy::Orphan,
            "Foreground" => PropagationPolicy::Foreground,
            _ => PropagationPolicy::Background,
        };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            ..DeleteParams::default()
        };
        let deleted = self.namespace.api::<Job>().delete(&name, &params).await;
        deleted.map_err(Error::cluster(format!("deletion of Job {name}"))).map(drop)
    }

    /// What the controller-manager does to pods of a node that does not answer. It does so as long as another node is well; where
    /// there is only this one, it evicts nothing.
    async fn evict_pod(&mut self) -> Result<()> {
        self.delete_pod(DeleteParams::default()).await
    }

    async fn delete_pod(&mut self, how: DeleteParams) -> Result<()> {
        let pod = self
            .recorder
            .trace()
            .pods_of_newest()
            .next()
            .and_then(|pod| pod.metadata.name.clone());
        let pod = pod.unwrap_or_default();
        let deleted = self.namespace.api::<Pod>().delete(&pod, &how).await;
        deleted.map_err(Error::cluster(format!("deletion of pod {pod}"))).map(drop)
    }
}
