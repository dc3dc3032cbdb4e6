//! Which object is worked on next.
//!
//! Invariant: an object is worked on once at a time, and again when it was woken meanwhile. Namespaces take turns, and the
//! objects of one go in the order in which they were woken: whoever has thousands waits for its own. Each call takes a time that
//! grows with the logarithm of the number of objects at most.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tokio::time::Instant;

use super::objects::Name;

/// Where an object is, of which something is still to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is looked at at this time, if nothing happens before.
    Due(Instant),
    /// It is in its namespace's line.
    Waiting,
    /// It is worked on; whether it was woken since.
    Working(bool),
}

/// Objects to be worked on.
#[derive(Debug, Default)]
pub(super) struct Queue {
    states: HashMap<Name, State>,
    due: BTreeSet<(Instant, Name)>,
    /// Of each namespace with objects that wait, these in their order.
    lines: HashMap<Box<str>, VecDeque<Name>>,
    /// These namespaces, in the order of their turns.
    turns: VecDeque<Box<str>>,
}

impl Queue {
    /// An object is to be looked at as soon as possible.
    pub(super) fn wake(&mut self, name: Name) {
        match self.states.get_mut(&name) {
            Some(State::Working(woken)) => *woken = true,
            Some(State::Waiting) => {}
            Some(State::Due(at)) => {
                let at = *at;
                self.due.remove(&(at, name.clone()));
                self.line_up(name);
            }
            None => self.line_up(name),
        }
    }

    /// Wakes whose time has come.
    pub(super) fn pass(&mut self, now: Instant) {
        while self.due.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, name)) = self.due.pop_first()
        {
            self.line_up(name);
        }
    }

    /// When the next time comes.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The next object; it is worked on until [`Queue::ended`] says otherwise.
    pub(super) fn next(&mut self) -> Option<Name> {
        let namespace = self.turns.pop_front()?;
        let line = self.lines.get_mut(&namespace)?;
        let name = line.pop_front()?;
        if line.is_empty() {
            self.lines.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        self.states.insert(name.clone(), State::Working(false));
        Some(name)
    }

    /// The work on an object has ended; it is to be looked at again at this time, if nothing happens before.
    pub(super) fn ended(&mut self, name: Name, again: Option<Instant>) {
        match (self.states.remove(&name), again) {
            (Some(State::Working(true)), _) => self.line_up(name),
            (_, Some(at)) => {
                self.due.insert((at, name.clone()));
                self.states.insert(name, State::Due(at));
            }
            (_, None) => {}
        }
    }

    fn line_up(&mut self, name: Name) {
        let line = self.lines.entry(name.namespace().into()).or_default();
        if line.is_empty() {
            self.turns.push_back(name.namespace().into());
        }
        line.push_back(name.clone());
        self.states.insert(name, State::Waiting);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn name(text: &str) -> Name {
        let (namespace, name) = text.split_once('/').unwrap();
        Name::new(namespace, name)
    }

    fn all(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.next()).map(|name| name.to_string()).collect()
    }

    #[test]
    fn namespaces_take_turns() {
        let mut queue = Queue::default();
        for text in ["many/a", "many/b", "many/c", "few/x", "many/d", "other/y", "few/z"] {
            queue.wake(name(text));
        }
        let order = ["many/a", "few/x", "other/y", "many/b", "few/z", "many/c", "many/d"];
        assert_eq!(all(&mut queue), order);
    }

    #[test]
    fn who_comes_while_thousands_wait_is_next_but_few() {
        let mut queue = Queue::default();
        (0..5000).for_each(|number| queue.wake(Name::new("many", &number.to_string())));
        assert_eq!(queue.next(), Some(Name::new("many", "0")));
        queue.wake(name("other/x"));
        assert_eq!(queue.next(), Some(Name::new("many", "1")));
        assert_eq!(queue.next(), Some(name("other/x")));
    }

    #[test]
    fn once_at_a_time_and_again_when_woken_meanwhile() {
        let mut queue = Queue::default();
        queue.wake(name("a/x"));
        queue.wake(name("a/x"));
        assert_eq!(all(&mut queue), ["a/x"]);
        queue.wake(name("a/x"));
        assert_eq!(queue.next(), None, "it is worked on");
        let later = Instant::now() + Duration::from_mins(1);
        queue.ended(name("a/x"), Some(later));
        assert_eq!((all(&mut queue).len(), queue.next_due()), (1, None), "what woke it comes first");
        queue.ended(name("a/x"), None);
        assert!(queue.states.is_empty() && queue.lines.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn a_time_comes_unless_something_happens_before() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        for (text, seconds) in [("a/late", 20), ("a/soon", 10), ("a/woken", 10)] {
            queue.wake(name(text));
            queue.next();
            queue.ended(name(text), Some(at(seconds)));
        }
        queue.pass(at(9));
        assert_eq!((queue.next(), queue.next_due()), (None, Some(at(10))));
        queue.wake(name("a/woken"));
        assert_eq!(queue.next(), Some(name("a/woken")));
        queue.ended(name("a/woken"), None);
        queue.pass(at(10));
        assert_eq!((all(&mut queue), queue.next_due()), (vec!["a/soon".to_owned()], Some(at(20))));
    }
}
