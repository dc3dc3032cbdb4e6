//! How long is waited, and for what: between attempts, while a host wants to be left alone, until the deadline.
//!
//! Invariant: every wait ends at the deadline and at the caller's cancellation, and the wait that a host asks one call for
//! is kept by all.

use std::sync::PoisonError;
use std::time::Instant;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use url::Url;

use crate::context::Context;
use crate::error::Error;
use crate::retry;
use crate::transport::Transport;

impl Transport {
    /// Waits before the next attempt; false when none is left or the deadline would pass.
    pub(crate) async fn pause(&self, at: &Context, attempt: u32, error: &Error) -> Result<bool, Error> {
        let policy = &self.options.retry;
        if attempt >= policy.attempts {
            return Ok(false);
        }
        let delay = policy.delay(attempt, retry::random(), error.retry_after());
        if self.options.deadline.is_some_and(|deadline| Instant::now() + delay >= deadline) {
            return Ok(false);
        }
        tracing::debug!(%error, attempt, ?delay, "trying again");
        self.guard(at, async {
            tokio::time::sleep(delay).await;
            Ok(true)
        })
        .await
    }

    /// Ends `work` at cancellation and at the deadline.
    pub(crate) async fn guard<T>(&self, at: &Context, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let deadline = async {
            match self.options.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.options.cancel.cancelled() => Err(Error::Canceled { at: Box::new(at.clone()) }),
            result = work => result,
            () = deadline => Err(Error::Timeout { at: Box::new(at.clone()), what: "the deadline has passed".to_owned() }),
        }
    }

    /// Waits while a host wants to be left alone.
    pub(crate) async fn rest(&self, url: &Url) {
        let until = {
            let quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
            quiet.get(&url.origin().ascii_serialization()).copied()
        };
        if let Some(until) = until {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// Takes note that a host asks for a pause.
    pub(crate) fn heed(&self, url: &Url, status: StatusCode, headers: &HeaderMap) {
        if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return;
        }
        if let Some(asked) = retry::retry_after(headers, jiff::Timestamp::now()) {
            let until = Instant::now() + asked.min(self.options.retry.retry_after_cap);
            let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
            quiet.retain(|_, until| *until > Instant::now());
            quiet.insert(url.origin().ascii_serialization(), until);
        }
    }
}
