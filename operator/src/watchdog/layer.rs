//! Between kube's client and its connections: hears what comes of each watch, bookmarks included, which the layers above keep
//! to themselves, and lets no request wait for ever for the beginning of its answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::http::{Method, Request, Response, StatusCode};
use futures::future::{BoxFuture, FutureExt};
use http_body::{Body, Frame, SizeHint};
use tower::{BoxError, Layer, Service};

use super::Watchdog;

/// Time to the head of any answer. Callers have shorter ones; the lists that kube's watcher makes have none of their own.
const HEAD: Duration = Duration::from_secs(30);

/// Makes [`Listener`]s.
#[derive(Clone, Debug)]
pub struct Listen(Watchdog);

/// A client's service that tells the watchdog what it hears.
#[derive(Clone, Debug)]
pub struct Listener<S> {
    service: S,
    watchdog: Watchdog,
}

/// An answer's body, every piece of which is a sound of the watch at this path.
#[derive(Debug)]
pub struct Heard<B> {
    body: B,
    watch: Option<(Watchdog, String)>,
}

impl Watchdog {
    /// For the client whose watches it is to hear.
    pub fn layer(&self) -> Listen {
        Listen(self.clone())
    }
}

impl<S> Layer<S> for Listen {
    type Service = Listener<S>;

    fn layer(&self, service: S) -> Listener<S> {
        Listener {
            service,
            watchdog: self.0.clone(),
        }
    }
}

impl<S, Q, B> Service<Request<Q>> for Listener<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Send + 'static,
{
    type Response = Response<Heard<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let path = request.uri().path();
        let read = request.method() == Method::GET && self.watchdog.expects(path);
        let watched = read.then(|| (self.watchdog.clone(), path.to_owned()));
        let is_watch = request
            .uri()
            .query()
            .is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
        let call = self.service.call(request);
        async move {
            let late = || format!("no answer of the API server within {} seconds", HEAD.as_secs());
            let response = tokio::time::timeout(HEAD, call).await.map_err(|_| late())?.map_err(Into::into)?;
            // A refusal for want of rights is a clear word, and no new process would get another one: the namespace may be gone.
            let sound = response.status() == StatusCode::FORBIDDEN || (is_watch && response.status().is_success());
            if let Some((watchdog, path)) = watched.as_ref().filter(|_| sound) {
                watchdog.hear(path, Instant::now());
            }
            let watch = watched.filter(|_| is_watch && response.status().is_success());
            Ok(response.map(|body| Heard { body, watch }))
        }
        .boxed()
    }
}

impl<B: Body + Unpin> Body for Heard<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let (Poll::Ready(Some(Ok(_))), Some((watchdog, path))) = (&polled, &self.watch) {
            watchdog.hear(path, Instant::now());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use tower::ServiceExt as _;

    use super::*;

    const PODS: &str = "/api/v1/pods";

    /// One piece, then for ever nothing.
    struct Piece(Option<Bytes>);

    impl Body for Piece {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.0
                .take()
                .map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
        }
    }

    fn watchdog() -> Watchdog {
        let watchdog = Watchdog::new(Duration::ZERO);
        watchdog.expect(PODS, Instant::now());
        watchdog
    }

    /// Whether something was heard while `work` ran.
    async fn hears<T>(watchdog: &Watchdog, work: impl Future<Output = T>) -> (bool, T) {
        let before = Instant::now();
        tokio::time::sleep(Duration::from_millis(2)).await;
        let done = work.await;
        let heard = watchdog.silence(before + Duration::from_millis(1)).is_none();
        (heard, done)
    }

    async fn asked(watchdog: &Watchdog, path: &str, status: u16) -> (bool, Response<Heard<Piece>>) {
        let service = tower::service_fn(move |_: Request<()>| async move {
            let answer = Response::builder().status(status).body(Piece(Some(Bytes::from_static(b"{}"))));
            Ok::<_, BoxError>(answer.unwrap())
        });
        let request = Request::get(path).body(()).unwrap();
        hears(watchdog, async { watchdog.layer().layer(service).oneshot(request).await.unwrap() }).await
    }

    #[tokio::test]
    async fn a_watch_is_heard_when_it_begins_and_with_every_piece() {
        let watchdog = watchdog();
        let (heard, answer) = asked(&watchdog, "/api/v1/pods?limit=1&watch=true", 200).await;
        assert!(heard);
        let mut body = answer.into_body();
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        assert!(hears(&watchdog, frame).await.0);
    }

    #[tokio::test]
    async fn other_requests_and_failures_are_no_sound() {
        for (path, status, expected) in [
            ("/api/v1/pods?watch=true", 410, false),
            ("/api/v1/pods?watch=true", 401, false),
            ("/api/v1/pods?watch=true", 500, false),
            ("/api/v1/pods?watch=true", 403, true),
            ("/api/v1/pods?limit=500", 403, true),
            ("/api/v1/pods?limit=500", 200, false),
            ("/api/v1/nodes?watch=true", 200, false),
        ] {
            assert_eq!(asked(&watchdog(), path, status).await.0, expected, "{path} {status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_an_error() {
        let service = tower::service_fn(|_: Request<()>| std::future::pending::<Result<Response<Piece>, BoxError>>());
        let answer = watchdog()
            .layer()
            .layer(service)
            .oneshot(Request::get(PODS).body(()).unwrap())
            .await;
        assert!(answer.err().unwrap().to_string().contains("within 30 seconds"));
    }
}
