//! The stream of one container's log, opened again where it breaks.

use std::time::{Duration, Instant};

use futures::AsyncBufReadExt as _;
use jiff::Timestamp;
use kube::api::LogParams;
use robotimage_crds::build::Step;
use robotimage_operator::observe::{ContainerState, PodView};
use serde::Serialize;

use super::line::Line;
use super::pieces::Pieces;
use crate::arguments::LogsArguments;
use crate::cluster::{Call, Cluster};
use crate::error::Error;
use crate::out::Out;

/// How long a node may not answer while its log is followed.
const PATIENCE: Duration = Duration::from_mins(2);
/// What the node writes instead of a log that it has removed, as a line without a time.
const REMOVED: &str = "unable to retrieve container logs for ";
/// Pause before a stream is opened again.
const PAUSE: Duration = Duration::from_secs(1);

/// Prints lines.
#[derive(Debug)]
pub(super) struct Printer<'a> {
    out: Out,
    number: i64,
    arguments: &'a LogsArguments,
    /// The step and pod that the last line came from, and its time.
    last: Option<(Step, String, Timestamp)>,
    away_since: Option<Instant>,
    /// A log was not there any more.
    lost: bool,
}

/// How a stream ended.
enum Cut {
    /// As streams end.
    Ended,
    /// The container's log is not there yet, or its node does not answer.
    NotNow(Error),
    /// Pod and log are gone.
    Gone,
}

impl<'a> Printer<'a> {
    /// For the log of a build.
    pub(super) fn new(out: Out, number: i64, arguments: &'a LogsArguments) -> Self {
        Self {
            out,
            number,
            arguments,
            last: None,
            away_since: None,
            lost: false,
        }
    }

    /// Whether a log was gone and no line of any other was printed.
    pub(super) fn has_lost_all(&self) -> bool {
        self.lost && self.last.is_none()
    }

    /// Prints what the log of a container has beyond what was printed; answers whether that was all there will be.
    pub(super) async fn step(&mut self, cluster: &Cluster, pod: &PodView, step: Step) -> Result<bool, Error> {
        let over = matches!(pod.container(step), Some(ContainerState::Ended { .. }));
        match self.stream(cluster, pod, step).await? {
            Cut::Gone => {
                self.lost = true;
                Ok(true)
            }
            Cut::Ended => {
                self.away_since = None;
                if !over && self.arguments.follow {
                    // The container ends a moment after its stream.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Ok(over)
            }
            Cut::NotNow(error) if !self.arguments.follow => Err(error),
            Cut::NotNow(error) => {
                let since = *self.away_since.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE {
                    return Err(error);
                }
                tokio::time::sleep(PAUSE).await;
                Ok(false)
            }
        }
    }

    async fn stream(&mut self, cluster: &Cluster, pod: &PodView, step: Step) -> Result<Cut, Error> {
        let call = Call::new("get", "pods/log");
        let since = self
            .last
            .as_ref()
            .filter(|(before, name, _)| *before == step && *name == pod.name)
            .map(|(.., at)| *at);
        let parameters = LogParams {
            container: Some(step.as_str().to_owned()),
            follow: self.arguments.follow,
            timestamps: true,
            since_time: since,
            ..LogParams::default()
        };
        let pods = cluster.pods();
        let opened = async {
            match pods.log_stream(&pod.name, &parameters).await {
                Ok(stream) => Ok(Ok(stream)),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Err(None)),
                // 400: the container has not started; 5xx: the node does not answer.
                Err(kube::Error::Api(status)) if status.code == 400 || status.code >= 500 => Ok(Err(Some(status))),
                Err(error) => Err(error),
            }
        };
        let mut stream = match cluster.timed(call, opened).await {
            Ok(Ok(stream)) => Box::pin(stream),
            Ok(Err(None)) => return Ok(Cut::Gone),
            Ok(Err(Some(status))) => return Ok(Cut::NotNow(cluster.explained(call, kube::Error::Api(status)))),
            Err(error @ (Error::Unreachable { .. } | Error::Late { .. })) => return Ok(Cut::NotNow(error)),
            Err(error) => return Err(error),
        };
        let mut pieces = Pieces::default();
        loop {
            let bytes = match stream.fill_buf().await {
                Ok(bytes) => bytes,
                Err(error) => {
                    let error = Error::Unreachable {
                        server: cluster.server.clone(),
                        problem: format!("the log of {} broke off: {error}", step.as_str()),
                    };
                    return Ok(Cut::NotNow(error));
                }
            };
            if bytes.is_empty() {
                break;
            }
            let (lines, length) = (pieces.feed(bytes), bytes.len());
            stream.consume_unpin(length);
            for line in lines {
                self.print(pod, step, since, &line)?;
            }
        }
        match pieces.rest() {
            Some(line) if line.starts_with(REMOVED) => return Ok(Cut::Gone),
            Some(line) => self.print(pod, step, since, &line)?,
            None => {}
        }
        Ok(Cut::Ended)
    }

    fn print(&mut self, pod: &PodView, step: Step, since: Option<Timestamp>, line: &str) -> Result<(), Error> {
        let line = Line::of(line);
        // The server cuts by whole seconds, so the first lines of a stream opened again were printed before.
        if let (Some(at), Some(since)) = (line.at, since)
            && at <= since
        {
            return Ok(());
        }
        if let Some(at) = line.at {
            self.last = Some((step, pod.name.clone(), at));
        }
        if self.out.json_wanted() {
            let document = LogLine {
                build: self.number,
                step: step.as_str(),
                at: line.at,
                text: &line.text,
            };
            return Out::json_line(&document);
        }
        if self.arguments.raw {
            return Out::text(&(line.text + "\n"));
        }
        let shown = self.arguments.step.is_none().then_some(step);
        Out::text(&line.painted(shown, self.out.screen))
    }
}

/// A line of `logs -o json`.
#[derive(Serialize)]
struct LogLine<'a> {
    build: i64,
    step: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    text: &'a str,
}
