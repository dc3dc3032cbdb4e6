//! `make bench-operator`: what the operator costs with ten thousand resources, and how quick it is.
//!
//! Invariant: API server, etcd, git server and registry are real, the rights and the configuration are the chart's, and writes
//! are counted from the API server's audit log. What runs Jobs is a mock, named so: [`runner`]. All of it shares one machine, so
//! a rate or a latency is that of the operator with an API server that has what is left of the processors.

mod fleet;
mod ground;
mod load;
mod operator;
mod report;
mod runner;
mod usage;
mod writes;

use std::time::{Duration, Instant};

use crate::audit;
use crate::cache::{Cache, lock};
use crate::error::{Error, Result};
use crate::install::work_tree;
use crate::product;
use fleet::{Fleet, TOGETHER};
use ground::{Ground, namespace};
use load::Tenant;
use operator::Operator;
use report::{Goal, Row, percentile};
use runner::MockJobRunner;
use usage::Pauses;
use writes::Writes;

/// Time between two resources of somebody who applies one by one.
const PAUSE: Duration = Duration::from_millis(300);

/// How large it is to be.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// RobotImages at rest.
    pub objects: usize,
    /// RobotImages of a burst.
    pub burst: usize,
    /// RobotImages that are applied one by one.
    pub idle: usize,
    /// For how long the operator is left alone, to see what its polls cost.
    pub rest: Duration,
}

/// Measures, prints, and writes the figures.
pub async fn run(settings: Settings) -> Result<()> {
    if settings.objects < 2 * TOGETHER || settings.burst == 0 || settings.idle == 0 {
        return Err(Error::Other(format!(
            "at least {} objects, and one of each other, are needed",
            2 * TOGETHER
        )));
    }
    let cache = Cache::open()?;
    let _lock = lock(&cache.root().join("bench-operator.lock"))?;
    let (building, root) = (cache.clone(), work_tree());
    let program = tokio::task::spawn_blocking(move || product::operator(&building, &root))
        .await
        .map_err(|error| Error::Other(format!("release build: {error}")))??;
    let before = usage::machine()?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let others = (usage::machine()? - before) / 5.0;
    println!("before the start, others take {others:.2} processors");
    let ground = Ground::start(&cache, program).await?;
    let bench = Bench {
        runner: MockJobRunner::start(ground.client.clone(), ground.digest.clone()),
        pauses: Pauses::watch(),
        ground,
        settings,
    };
    let mut rows = bench.measure().await?;
    rows.push(Row::new("processors that others took before the start", others, "cpu", Goal::None));
    let stood = bench.pauses.total().as_secs_f64();
    rows.push(Row::new("time for which the whole run stood still", stood, "s", Goal::None));
    report::print(&rows);
    let full = Settings::default();
    let whole = settings.objects >= full.objects && settings.burst >= full.burst && settings.idle >= full.idle;
    let path = report::write(&work_tree(), if whole { "operator" } else { "operator-small" }, &rows)?;
    println!("\nwritten to {}", path.display());
    Ok(())
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            objects: 10_000,
            burst: 1000,
            idle: 100,
            rest: Duration::from_mins(1),
        }
    }
}

struct Bench {
    settings: Settings,
    runner: MockJobRunner,
    pauses: Pauses,
    /// Last, because the others are its clients.
    ground: Ground,
}

impl Bench {
    async fn measure(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let operator = Operator::start(&self.ground)?;
        operator.settled(0).await?;
        let (empty, _) = operator.memory().await?;
        println!("operator with nothing: {empty:.1} MB");
        rows.push(Row::new("resident memory with no object", empty, "MB", Goal::None));
        let mut fleet = Fleet::seed(&self.ground, &self.runner, operator, self.settings.objects).await?;
        let (status, spec, history) = fleet.size(&self.ground);
        println!(
            "{} objects have their image; a status is {status} bytes with {history} entries, a spec {spec}",
            fleet.count
        );
        let operator = self.at_rest(&mut fleet, empty, &mut rows).await?;
        self.polling(&operator, &mut rows).await?;
        self.one_by_one(&operator, &mut rows).await?;
        self.burst(&operator, &mut rows).await?;
        Ok(rows)
    }

    /// Memory and restarts at half the size and at the whole; answers the operator that knows all.
    async fn at_rest(&self, fleet: &mut Fleet, empty: f64, rows: &mut Vec<Row>) -> Result<Operator> {
        let (half, all) = (self.settings.objects / 2, self.settings.objects);
        fleet.grow(&self.ground, half).await?;
        let operator = Operator::start(&self.ground)?;
        operator.settled(fleet.count).await?;
        let (less, _) = operator.memory().await?;
        println!("operator with {}: {less:.1} MB", fleet.count);
        operator.stop();
        let smaller = fleet.count;
        fleet.grow(&self.ground, all).await?;
        let log = self.ground.node.audit_log();
        let mark = audit::mark(&log)?;
        let operator = Operator::start(&self.ground)?;
        let settled = operator.settled(fleet.count).await?;
        let spent = operator.processor()?;
        let (more, most) = operator.memory().await?;
        println!(
            "operator with {}: {more:.1} MB, at most {most:.1}; settled after {settled:.2} s",
            fleet.count
        );
        let entries = audit::read(&log, mark)?;
        let written = Writes::of(&entries, &self.ground.user, "");
        println!("a start wrote {:?}", written.kinds);
        let slope = (more - less) * 1000.0 / real(fleet.count - smaller);
        let whole = (more - empty) * 1000.0 / real(fleet.count);
        let written = real(written.split().0 + written.split().1);
        rows.extend([
            Row::new(format!("resident memory with {all} objects"), more, "MB", Goal::AtMost(60.0)),
            Row::new(format!("most memory while it listed {all} objects"), most, "MB", Goal::None),
            Row::new(format!("memory for one more object, {smaller} to {all}"), slope, "KB", Goal::None),
            // The goal is for this one: what the allocator keeps of the list makes the slope above as often negative.
            Row::new(format!("memory for one more object, 0 to {all}"), whole, "KB", Goal::AtMost(4.0)),
            Row::new("time to settle after a restart", settled, "s", Goal::None),
            Row::new("processor time of that start", spent, "s", Goal::None),
            Row::new("API writes of that start", written, "", Goal::AtMost(0.0)),
        ]);
        Ok(operator)
    }

    /// What polling alone costs.
    async fn polling(&self, operator: &Operator, rows: &mut Vec<Row>) -> Result<()> {
        let log = self.ground.node.audit_log();
        let (mark, before) = (audit::mark(&log)?, operator.processor()?);
        tokio::time::sleep(self.settings.rest).await;
        let spent = (operator.processor()? - before) / self.settings.rest.as_secs_f64();
        let entries = audit::read(&log, mark)?;
        let written = Writes::of(&entries, &self.ground.user, "");
        println!("at rest it took {:.3} processors and wrote {:?}", spent, written.kinds);
        let written = real(written.split().0 + written.split().1);
        let read = real(writes::reads(&entries, &self.ground.user));
        rows.extend([
            Row::new("processors while it polls every source each 5 minutes", spent, "cpu", Goal::None),
            Row::new("API writes meanwhile", written, "", Goal::None),
            Row::new("API reads meanwhile", read, "", Goal::None),
        ]);
        Ok(())
    }

    async fn one_by_one(&self, operator: &Operator, rows: &mut Vec<Row>) -> Result<()> {
        self.runner.pace(Duration::from_millis(200));
        let (client, log) = (&self.ground.client, self.ground.node.audit_log());
        let tenant = self.tenant("single").await?;
        let (mark, built) = (audit::mark(&log)?, operator.succeeded().await?);
        let count = self.settings.idle;
        let mut latencies = load::one_by_one(client, &self.runner, &tenant, count, PAUSE).await?;
        operator.built(built + real(count)).await?;
        let entries = audit::read(&log, mark)?;
        let written = Writes::of(&entries, &self.ground.user, &tenant.namespace);
        println!("each build: {}", written.per(count));
        println!("refused: {:?}", writes::refused(&entries, &self.ground.user));
        let (objects, events) = written.split();
        let of = |count: usize| real(count) / real(self.settings.idle);
        rows.extend([
            Row::new("API writes of a build's life", of(objects + events), "", Goal::AtMost(5.0)),
            Row::new("of these, all but events", of(objects), "", Goal::None),
            Row::new(
                "API reads of a build's life",
                of(writes::reads(&entries, &self.ground.user)),
                "",
                Goal::None,
            ),
        ]);
        rows.extend(latency("apply to Job, one by one", &mut latencies, Goal::AtMost(100.0))?);
        Ok(())
    }

    async fn burst(&self, operator: &Operator, rows: &mut Vec<Row>) -> Result<()> {
        // A pod that does not start within seconds is asked for its events; one that lasts long is told of in the status.
        self.runner.pace(Duration::from_secs(3));
        let (client, log, count) = (&self.ground.client, self.ground.node.audit_log(), self.settings.burst);
        let (tenant, other) = (self.tenant("storm").await?, self.tenant("other").await?);
        let (mark, built) = (audit::mark(&log)?, operator.succeeded().await?);
        let (before, servers) = (operator.processor()?, self.ground.servers()?);
        let (machine, began) = (usage::machine()?, Instant::now());
        let mut burst = load::burst(client, &self.runner, &tenant, &other, count).await?;
        let spent = operator.processor()? - before;
        let seconds = began.elapsed().as_secs_f64();
        let shares = self.ground.servers()?.map(|now| now / seconds);
        let (api_server, etcd) = (shares[0] - servers[0] / seconds, shares[1] - servers[1] / seconds);
        let machine = (usage::machine()? - machine) / seconds;
        let all = real(count + burst.other.len());
        operator.built(built + all).await?;
        let life = operator.processor()? - before;
        let served = self.ground.servers()?[0] - servers[0];
        let (memory, _) = operator.memory().await?;
        let entries = audit::read(&log, mark)?;
        let written = Writes::of(&entries, &self.ground.user, &tenant.namespace);
        println!("each build: {}", written.per(count));
        println!("refused: {:?}", writes::refused(&entries, &self.ground.user));
        println!(
            "all applied after {:.2} s, the last Job came after {:.2} s",
            burst.applied, burst.seconds
        );
        rows.push(Row::new(
            format!("Jobs a second in a burst of {count}"),
            real(count) / burst.seconds,
            "/s",
            Goal::AtLeast(200.0),
        ));
        rows.extend(latency(
            &format!("apply to Job in a burst of {count}"),
            &mut burst.latencies,
            Goal::None,
        )?);
        rows.extend(latency(
            "apply to Job of another tenant meanwhile",
            &mut burst.other,
            Goal::AtMost(1000.0),
        )?);
        rows.extend([
            Row::new("processors until the last Job of the burst", spent / seconds, "cpu", Goal::None),
            Row::new("the same of the API server", api_server, "cpu", Goal::None),
            Row::new("the same of etcd", etcd, "cpu", Goal::None),
            Row::new("the same of the whole machine", machine, "cpu", Goal::None),
            Row::new(
                "API server's processor time of a build's life in a burst",
                served * 1000.0 / all,
                "ms",
                Goal::None,
            ),
            Row::new("processor time of a build's life in a burst", life * 1000.0 / all, "ms", Goal::None),
            Row::new(
                "API writes of a build's life in a burst, without events",
                real(written.split().0) / real(count),
                "",
                Goal::None,
            ),
            Row::new("resident memory after the burst", memory, "MB", Goal::None),
        ]);
        Ok(())
    }

    /// A tenant whose robots lie in one repository.
    async fn tenant(&self, name: &str) -> Result<Tenant> {
        namespace(&self.ground.client, name).await?;
        let repo = self.ground.repository(name)?;
        Ok(Tenant {
            namespace: name.to_owned(),
            sources: vec![(repo.url().to_owned(), "main".to_owned())],
            repository: self.ground.repository.clone(),
        })
    }
}

fn latency(name: &str, seconds: &mut [f64], goal: Goal) -> Result<[Row; 2]> {
    let middle = percentile(seconds, 50)? * 1000.0;
    Ok([
        Row::new(format!("{name}, p50"), middle, "ms", Goal::None),
        Row::new(format!("{name}, p99"), percentile(seconds, 99)? * 1000.0, "ms", goal),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "counts of objects are far below 2^52")]
fn real(count: usize) -> f64 {
    count as f64
}
