//! The loop that hands objects to whoever works on them.
//!
//! Invariant: while this replica leads, whoever is new, was woken or is due is worked on, as many at a time as are allowed and each
//! once at a time. While it does not, all of that waits: nothing is forgotten, however briefly the lead was lost.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{BoxStream, FuturesUnordered};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use robotimage_crds::api::RobotImage;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::kept::Kept;
use super::objects::{Listing, Name, Objects};
use super::queue::Queue;
use crate::lease::Leadership;

/// What the loop listens to.
pub(super) struct Work {
    pub(super) images: Arc<Objects>,
    /// What the watch tells.
    pub(super) events: BoxStream<'static, watcher::Result<watcher::Event<RobotImage>>>,
    /// Objects of which something has happened.
    pub(super) woken: mpsc::UnboundedReceiver<ObjectRef<RobotImage>>,
    /// How many watches have listed their objects once.
    pub(super) listed: Arc<watch::Sender<usize>>,
    pub(super) leadership: Leadership,
    /// Objects that are worked on at the same time.
    pub(super) at_once: usize,
}

impl Work {
    /// Works until `stop`, and until what was begun has ended. `one` works on an object and answers when to do so again, if nothing
    /// happens before.
    pub(super) async fn run<F>(mut self, one: impl Fn(Name, Arc<Kept>) -> F, stop: impl Future<Output = ()>)
    where
        F: Future<Output = Option<Duration>>,
    {
        let (mut queue, mut listing, mut listed_once) = (Queue::default(), Listing::default(), false);
        let mut running = FuturesUnordered::new();
        let mut stop = pin!(stop);
        loop {
            queue.pass(Instant::now());
            let leads = self.leadership.is_leading();
            while leads
                && running.len() < self.at_once
                && let Some(name) = queue.next()
            {
                match self.images.get(&name) {
                    Some(kept) => {
                        let work = one(name.clone(), kept);
                        running.push(async move { (name, work.await) });
                    }
                    None => queue.ended(name, None),
                }
            }
            let next_due = queue.next_due();
            tokio::select! {
                () = &mut stop => break,
                Some((name, again)) = running.next() => queue.ended(name, again.map(|again| Instant::now() + again)),
                Some(event) = self.events.next() => match event {
                    Ok(event) => {
                        let done = matches!(event, watcher::Event::InitDone);
                        self.images.take(event, &mut listing).into_iter().for_each(|name| queue.wake(name));
                        if done && !std::mem::replace(&mut listed_once, true) {
                            self.listed.send_modify(|count| *count += 1);
                        }
                    }
                    Err(error) => tracing::warn!(kind = "RobotImage", %error, "a watch failed; it is tried again"),
                },
                Some(object) = self.woken.recv() => queue.wake(Name::from(&object)),
                () = self.leadership.gained(), if !leads => {}
                () = tokio::time::sleep_until(next_due.unwrap_or_else(Instant::now)), if next_due.is_some() => {}
            }
        }
        while running.next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::stream;
    use tokio::sync::Semaphore;

    use super::super::kept::tests::image;
    use super::*;
    use crate::lease::Leader;

    /// The loop, with work of which nothing ends before it is let.
    struct Bench {
        events: mpsc::UnboundedSender<watcher::Result<watcher::Event<RobotImage>>>,
        wake: mpsc::UnboundedSender<ObjectRef<RobotImage>>,
        listed: watch::Receiver<usize>,
        stop: watch::Sender<bool>,
        begun: Arc<Mutex<Vec<String>>>,
        gate: Arc<Semaphore>,
        again: Arc<Mutex<Option<Duration>>>,
        ended: tokio::task::JoinHandle<()>,
    }

    impl Bench {
        fn new(leadership: Leadership, at_once: usize) -> Self {
            let (events, told) = mpsc::unbounded_channel();
            let (wake, woken) = mpsc::unbounded_channel();
            let (count, listed) = watch::channel(0);
            let (stop, mut stopped) = watch::channel(false);
            let (begun, gate) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(Semaphore::new(0)));
            let again = Arc::<Mutex<Option<Duration>>>::default();
            let work = Work {
                images: Arc::default(),
                events: stream::unfold(told, |mut told| async move { Some((told.recv().await?, told)) }).boxed(),
                woken,
                listed: Arc::new(count),
                leadership,
                at_once,
            };
            let (names, passes, answer) = (Arc::clone(&begun), Arc::clone(&gate), Arc::clone(&again));
            let one = move |name: Name, _| {
                names.lock().unwrap().push(name.to_string());
                let (passes, answer) = (Arc::clone(&passes), Arc::clone(&answer));
                async move {
                    passes.acquire().await.unwrap().forget();
                    *answer.lock().unwrap()
                }
            };
            let stop_word = async move { drop(stopped.wait_for(|stop| *stop).await) };
            let ended = tokio::spawn(work.run(one, stop_word));
            Self {
                events,
                wake,
                listed,
                stop,
                begun,
                gate,
                again,
                ended,
            }
        }

        /// The watch tells of objects.
        fn tell(&self, names: &[&str]) {
            for name in names {
                self.events.send(Ok(watcher::Event::Apply(image(name, 1)))).unwrap();
            }
        }

        fn wake(&self, name: &str) {
            self.wake.send(ObjectRef::new(name).within("finance")).unwrap();
        }

        /// Lets work end.
        fn let_end(&self, count: usize) {
            self.gate.add_permits(count);
        }

        /// What was begun since the last time, once everybody has had time for it.
        async fn begun(&self) -> Vec<String> {
            // The clock stands still until all others wait.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let begun = std::mem::take(&mut *self.begun.lock().unwrap());
            begun.into_iter().map(|name| name["finance/".len()..].to_owned()).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_at_once_and_each_once_at_a_time() {
        let bench = Bench::new(Leadership::always(), 2);
        bench.tell(&["a", "b", "c"]);
        assert_eq!(bench.begun().await, ["a", "b"]);
        bench.wake("a");
        bench.wake("a");
        bench.tell(&["a"]);
        assert!(bench.begun().await.is_empty());
        bench.let_end(1);
        assert_eq!(bench.begun().await, ["c"]);
        bench.let_end(2);
        assert_eq!(bench.begun().await, ["a"], "woken while it was worked on");
        bench.let_end(1);
        assert!(bench.begun().await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn again_when_it_is_due_or_woken_and_not_when_it_is_gone() {
        let bench = Bench::new(Leadership::always(), 8);
        *bench.again.lock().unwrap() = Some(Duration::from_mins(5));
        bench.let_end(100);
        bench.tell(&["a", "b"]);
        assert_eq!(bench.begun().await, ["a", "b"]);
        tokio::time::sleep(Duration::from_mins(4)).await;
        bench.wake("b");
        // A watch that fails is one that goes on.
        bench.events.send(Err(watcher::Error::NoResourceVersion)).unwrap();
        assert_eq!(bench.begun().await, ["b"]);
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(bench.begun().await, ["a"]);
        bench.events.send(Ok(watcher::Event::Delete(image("a", 1)))).unwrap();
        tokio::time::sleep(Duration::from_mins(6)).await;
        bench.wake("a");
        bench.wake("never-seen");
        assert_eq!(bench.begun().await, ["b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_told_of_once_and_wakes_who_is_new() {
        let bench = Bench::new(Leadership::always(), 8);
        bench.let_end(100);
        for _ in 0..2 {
            bench.events.send(Ok(watcher::Event::Init)).unwrap();
            bench.events.send(Ok(watcher::Event::InitApply(image("a", 1)))).unwrap();
            bench.events.send(Ok(watcher::Event::InitDone)).unwrap();
        }
        assert_eq!(bench.begun().await, ["a"]);
        assert_eq!(*bench.listed.borrow(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_done_and_nothing_forgotten_without_the_lead() {
        let (leader, leadership) = Leader::new();
        let bench = Bench::new(leadership, 8);
        *bench.again.lock().unwrap() = Some(Duration::from_mins(5));
        bench.let_end(100);
        bench.tell(&["a"]);
        assert!(bench.begun().await.is_empty());
        leader.set(Some(std::time::Instant::now() + Duration::from_hours(1)));
        assert_eq!(bench.begun().await, ["a"]);
        leader.set(None);
        bench.wake("a");
        bench.tell(&["b"]);
        tokio::time::sleep(Duration::from_mins(6)).await;
        assert!(bench.begun().await.is_empty());
        leader.set(Some(std::time::Instant::now() + Duration::from_hours(1)));
        let mut begun = bench.begun().await;
        begun.sort();
        assert_eq!(begun, ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_what_was_begun_and_begins_nothing() {
        let bench = Bench::new(Leadership::always(), 1);
        bench.tell(&["a", "b"]);
        assert_eq!(bench.begun().await, ["a"]);
        bench.stop.send_replace(true);
        assert!(bench.begun().await.is_empty());
        assert!(!bench.ended.is_finished());
        bench.let_end(2);
        assert!(bench.begun().await.is_empty());
        bench.ended.await.unwrap();
    }
}
