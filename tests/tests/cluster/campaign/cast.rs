//! Who plays the operator: one process, several that elect a leader and whose clocks are wrong, or rivals that all believe to lead.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use robotimage_tests::operator::OperatorOptions;
use robotimage_tests::{Error, Namespace, Result};
use serde_json::{Value, json};

use super::LIMIT;
use crate::local::Local;
use crate::replica::Replica;
use crate::setup::Setup;

/// Gives a process another wall clock.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// Which operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Casting {
    /// One that leads without asking.
    Alone,
    /// The same behind the proxy that counts its writes, so that it can die at one of them.
    Counted,
    /// Candidates for one Lease, by what their wall clocks are wrong; the first leads first.
    Candidates(&'static [&'static str]),
    /// So many that lead without asking, all at the same time.
    Rivals(usize),
}

/// The operators of one row.
#[derive(Debug)]
pub(crate) struct Cast {
    pub(crate) local: Local,
    casting: Casting,
    replicas: Vec<Replica>,
}

impl Cast {
    /// Rights and configuration; nobody runs yet.
    pub(crate) async fn prepare(setup: &Setup, namespace: &Namespace, casting: Casting) -> Result<Self> {
        let change = match casting {
            Casting::Candidates(clocks) => json!({
                "operator": {"replicas": clocks.len()},
                "leaderElection": {"enabled": true, "leaseDuration": "6s", "renewDeadline": "4s", "retryPeriod": "1s"},
            }),
            _ => json!({}),
        };
        Ok(Self {
            local: Local::prepare(setup, namespace, &change).await?,
            casting,
            replicas: Vec::new(),
        })
    }

    /// Starts all of them, if they do not run.
    pub(crate) async fn start(&mut self, namespace: &Namespace) -> Result<()> {
        if !self.replicas.is_empty() {
            return Ok(());
        }
        match self.casting {
            Casting::Counted => {
                if self.local.process().is_err() {
                    self.local.start()?;
                }
            }
            Casting::Alone => self.play("only", "")?,
            Casting::Rivals(count) => (0..count).try_for_each(|number| self.play(&format!("rival-{number}"), ""))?,
            Casting::Candidates(clocks) => {
                for (number, clock) in clocks.iter().enumerate() {
                    let host = format!("candidate-{number}");
                    self.play(&host, clock)?;
                    if number == 0 {
                        self.wait_leader(namespace, &host).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn play(&mut self, host: &str, clock: &str) -> Result<()> {
        let mut options: OperatorOptions = self.local.options().clone();
        self.local.direct().clone_into(&mut options.kubeconfig);
        options.folder = options.folder.join(host);
        options.args.retain(|argument| !argument.starts_with("--listen="));
        let mut env = |name: &str, value: &str| options.env.push((name.to_owned(), value.to_owned()));
        env("HOSTNAME", host);
        if !clock.is_empty() {
            env("LD_PRELOAD", FAKETIME);
            env("FAKETIME", clock);
            // Only what people call the time is wrong; how fast time passes is not.
            env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        self.replicas.push(Replica::start(host, options)?);
        Ok(())
    }

    /// Host name of whoever holds the Lease; empty when nobody does.
    async fn leader(namespace: &Namespace) -> Result<String> {
        let lease = namespace.api::<Lease>().get_opt("robotimage").await;
        let lease = lease.map_err(Error::cluster("get of the Lease"))?;
        let holder = lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity);
        Ok(holder.unwrap_or_default().split('_').next().unwrap_or_default().to_owned())
    }

    async fn wait_leader(&self, namespace: &Namespace, host: &str) -> Result<()> {
        let end = Instant::now() + LIMIT;
        while Self::leader(namespace).await? != host {
            if Instant::now() > end {
                return Err(Error::Other(format!("{host} does not lead:\n{}", self.logs())));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The replica that leads now.
    pub(crate) async fn leading(&mut self, namespace: &Namespace) -> Result<&mut Replica> {
        let host = Self::leader(namespace).await?;
        let found = self.replicas.iter_mut().find(|replica| replica.host == host);
        found.ok_or_else(|| Error::Other(format!("{host:?} leads, which is none of ours")))
    }

    /// SIGKILL to all; their logs stay.
    pub(crate) fn end(&mut self) {
        self.local.kill();
        for replica in &mut self.replicas {
            replica.process.kill();
        }
    }

    /// Nobody stands still any more.
    pub(crate) fn thaw(&self) {
        for replica in &self.replicas {
            replica.process.part().thaw();
        }
    }

    /// A Lease as a stranger's clock would have it, an hour ahead, who never comes back.
    pub(crate) fn stranger() -> Value {
        let ahead = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let time = format!("{ahead:.6}");
        json!({"spec": {"holderIdentity": "stranger_1", "leaseDurationSeconds": 6, "acquireTime": time, "renewTime": time}})
    }

    /// The user of all of them in the audit log.
    pub(crate) fn user(&self) -> &str {
        &self.local.user
    }

    /// The last lines of their logs, for a row that failed.
    pub(crate) fn logs(&self) -> String {
        let logs = self.replicas.iter().map(|replica| {
            let log = replica.log();
            let lines: Vec<&str> = log.lines().collect();
            format!("{}:\n{}", replica.host, lines[lines.len().saturating_sub(30)..].join("\n"))
        });
        logs.chain([self.local.tail()]).collect::<Vec<_>>().join("\n")
    }
}
