//! Values computed from collections of the store, computed again when one of them changed.

use std::sync::{Arc, PoisonError, RwLock};

use coracle_store::{Revision, Store};

type Build<T> = Box<dyn Fn(&dyn Store) -> T + Send + Sync>;

/// A value and the revisions of the collections it was made from.
pub(crate) struct Derived<T> {
    collections: Vec<&'static str>,
    build: Build<T>,
    cached: RwLock<Option<(Vec<Revision>, Arc<T>)>>,
}

impl<T> Derived<T> {
    pub(crate) fn new(collections: &[&'static str], build: impl Fn(&dyn Store) -> T + Send + Sync + 'static) -> Self {
        Self { collections: collections.to_vec(), build: Box::new(build), cached: RwLock::new(None) }
    }

    /// The value for what the store holds now.
    pub(crate) fn get(&self, store: &dyn Store) -> Arc<T> {
        let now = || self.collections.iter().map(|name| store.local_collection_revision(name));
        {
            let cached = self.cached.read().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, value)) = cached.as_ref().filter(|(seen, _)| now().eq(seen.iter().copied())) {
                return Arc::clone(value);
            }
        }
        let revisions: Vec<Revision> = now().collect();
        let value = Arc::new((self.build)(store));
        *self.cached.write().unwrap_or_else(PoisonError::into_inner) = Some((revisions, Arc::clone(&value)));
        value
    }
}
