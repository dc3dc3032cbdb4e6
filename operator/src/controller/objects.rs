//! All RobotImages of a watch, as they are kept.
//!
//! Invariant: what the watch has told last is here, and nothing of a list that has not ended.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use robotimage_crds::api::RobotImage;

use super::kept::Kept;

/// Namespace and name of an object; cheap to clone, because several tables hold it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name(Arc<(Box<str>, Box<str>)>);

impl Name {
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self(Arc::new((namespace.into(), name.into())))
    }

    /// The namespace.
    pub(super) fn namespace(&self) -> &str {
        &self.0.0
    }

    /// How the object is called where it is woken.
    pub(super) fn reference(&self) -> ObjectRef<RobotImage> {
        ObjectRef::new(&self.0.1).within(self.namespace())
    }
}

impl From<&ObjectRef<RobotImage>> for Name {
    fn from(reference: &ObjectRef<RobotImage>) -> Self {
        Self::new(reference.namespace.as_deref().unwrap_or_default(), &reference.name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.0, self.0.1)
    }
}

type Table = HashMap<Name, Arc<Kept>>;

/// The objects.
#[derive(Debug, Default)]
pub(super) struct Objects {
    table: RwLock<Table>,
}

/// A list that has not ended.
#[derive(Debug, Default)]
pub(super) struct Listing(Table);

impl Objects {
    /// One of them.
    pub(super) fn get(&self, name: &Name) -> Option<Arc<Kept>> {
        self.read(|table| table.get(name).cloned())
    }

    /// Something of each of them.
    pub(super) fn each<T, C: FromIterator<T>>(&self, of: impl Fn(&Name, &Kept) -> T) -> C {
        self.read(|table| table.iter().map(|(name, kept)| of(name, kept)).collect())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.read(Table::len)
    }

    /// Takes what the watch tells; answers whom it wakes: who is new, or has another generation or other annotations. A status
    /// write of our own wakes nobody.
    pub(super) fn take(&self, event: watcher::Event<RobotImage>, listing: &mut Listing) -> Vec<Name> {
        match event {
            watcher::Event::Apply(image) => {
                let name = name_of(&image);
                let kept = Arc::new(Kept::of(image));
                let before = self.write(|table| table.insert(name.clone(), Arc::clone(&kept)));
                Vec::from_iter(before.is_none_or(|before| kept.stirs(&before)).then_some(name))
            }
            watcher::Event::Delete(image) => {
                self.write(|table| table.remove(&name_of(&image)));
                Vec::new()
            }
            watcher::Event::Init => {
                listing.0.clear();
                Vec::new()
            }
            watcher::Event::InitApply(image) => {
                let name = name_of(&image);
                // A list after a lost watch tells most of what is here: it is not kept twice.
                let here = self.get(&name).filter(|here| here.is_version(&image));
                listing.0.insert(name, here.unwrap_or_else(|| Arc::new(Kept::of(image))));
                Vec::new()
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut listing.0);
                let stirred = |(name, kept): (&Name, &Arc<Kept>)| {
                    let before = self.get(name);
                    before.is_none_or(|before| kept.stirs(&before)).then(|| name.clone())
                };
                let woken = listed.iter().filter_map(stirred).collect();
                self.write(|table| *table = listed);
                woken
            }
        }
    }

    fn read<T>(&self, work: impl FnOnce(&Table) -> T) -> T {
        work(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, work: impl FnOnce(&mut Table) -> T) -> T {
        work(&mut self.table.write().unwrap_or_else(PoisonError::into_inner))
    }
}

fn name_of(image: &RobotImage) -> Name {
    Name::new(image.metadata.namespace.as_deref().unwrap_or_default(), &image.name_any())
}

#[cfg(test)]
mod tests {
    use super::super::kept::tests::image;
    use super::*;

    fn names(woken: &[Name]) -> Vec<String> {
        let mut names: Vec<_> = woken.iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn who_is_new_or_asked_for_something_else_is_woken() {
        let (objects, mut listing) = (Objects::default(), Listing::default());
        let mut take = |event| names(&objects.take(event, &mut listing));
        assert_eq!(take(watcher::Event::Apply(image("a", 1))), ["finance/a"]);
        assert_eq!(take(watcher::Event::Apply(image("a", 1))), Vec::<String>::new());
        assert_eq!(take(watcher::Event::Apply(image("a", 2))), ["finance/a"]);
        let mut wished = image("a", 2);
        wished
            .annotations_mut()
            .insert("robotimage.dev/requestedAt".to_owned(), "now".to_owned());
        assert_eq!(take(watcher::Event::Apply(wished)), ["finance/a"]);
        let mut again = image("a", 2);
        again.metadata.uid = Some("another".to_owned());
        assert_eq!(take(watcher::Event::Apply(again)), ["finance/a"]);
        assert_eq!(take(watcher::Event::Delete(image("a", 2))), Vec::<String>::new());
        assert_eq!(objects.len(), 0);
    }

    #[test]
    fn a_list_counts_when_it_has_ended() {
        let (objects, mut listing) = (Objects::default(), Listing::default());
        objects.take(watcher::Event::Apply(image("gone", 1)), &mut listing);
        objects.take(watcher::Event::Apply(image("same", 1)), &mut listing);
        let same = objects.get(&Name::new("finance", "same")).unwrap();
        for event in [
            watcher::Event::Init,
            watcher::Event::InitApply(image("lost", 1)),
            watcher::Event::Init,
            watcher::Event::InitApply(image("same", 1)),
            watcher::Event::InitApply(image("new", 1)),
        ] {
            assert!(objects.take(event, &mut listing).is_empty());
        }
        assert!(objects.get(&Name::new("finance", "gone")).is_some(), "the list goes on");
        assert_eq!(names(&objects.take(watcher::Event::InitDone, &mut listing)), ["finance/new"]);
        let mut all: Vec<String> = objects.each(|name, _| name.to_string());
        all.sort();
        assert_eq!(all, ["finance/new", "finance/same"]);
        let kept = objects.get(&Name::new("finance", "same")).unwrap();
        assert!(Arc::ptr_eq(&kept, &same), "what is here is not kept twice");
    }
}
