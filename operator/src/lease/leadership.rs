//! What everybody else knows of the election: whether this replica may act now.

use std::time::Instant;

use tokio::sync::watch;

/// The side that says it; owned by the keeper of the Lease.
#[derive(Debug)]
pub struct Leader(watch::Sender<Option<Instant>>);

/// Whether this replica leads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership(Option<watch::Receiver<Option<Instant>>>);

impl Leader {
    /// Nobody leads yet.
    pub fn new() -> (Self, Leadership) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), Leadership(Some(receiver)))
    }

    /// This replica leads until that moment, or does not.
    pub fn set(&self, until: Option<Instant>) {
        self.0.send_replace(until);
    }
}

impl Leadership {
    /// Without an election: the only replica always leads.
    pub fn always() -> Self {
        Self(None)
    }

    /// Whether it leads at this moment. Asked of the clock each time: a process that stood still for a while must not go on by
    /// what it knew before.
    pub fn is_leading(&self) -> bool {
        match &self.0 {
            None => true,
            Some(receiver) => receiver.borrow().is_some_and(|until| Instant::now() < until),
        }
    }

    /// Waits until it leads.
    pub async fn gained(&self) {
        let Some(mut receiver) = self.0.clone() else { return };
        let leads = |until: &Option<Instant>| until.is_some_and(|until| Instant::now() < until);
        if receiver.wait_for(leads).await.is_err() {
            // The keeper has ended: it will never be.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until it leads no more.
    pub async fn lost(&self) {
        let Some(mut receiver) = self.0.clone() else {
            return std::future::pending().await;
        };
        loop {
            let Some(until) = *receiver.borrow_and_update() else { return };
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {
                    if !self.is_leading() {
                        return;
                    }
                }
                changed = receiver.changed() => if changed.is_err() {
                    return tokio::time::sleep_until(until.into()).await;
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_ends_by_the_clock_or_by_word() {
        let (leader, leadership) = Leader::new();
        assert!(!leadership.is_leading());
        leadership.lost().await;
        leader.set(Some(Instant::now() + Duration::from_millis(30)));
        leadership.gained().await;
        assert!(leadership.is_leading());
        leadership.lost().await;
        assert!(!leadership.is_leading());

        leader.set(Some(Instant::now() + Duration::from_hours(1)));
        let waits = leadership.clone();
        let waiting = tokio::spawn(async move { waits.lost().await });
        leader.set(None);
        waiting.await.unwrap();
        assert!(!leadership.is_leading());
    }

    #[tokio::test]
    async fn without_an_election_there_is_nothing_to_lose() {
        let leadership = Leadership::always();
        leadership.gained().await;
        assert!(leadership.is_leading());
        let lost = tokio::time::timeout(Duration::from_millis(10), leadership.lost()).await;
        assert!(lost.is_err());
    }
}
