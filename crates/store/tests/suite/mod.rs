//! What every store must do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_store::{
    Condition, Content, Durability, Expectation, Key, Outcome, Range, Revision, Store, StoreError, Transaction, Write,
};

/// `value` is stored as `value@<revision>`.
pub async fn put(store: &dyn Store, collection: &str, name: &str, value: &str, durability: Durability) -> Revision {
    let write = write(collection, name, value);
    match store.commit(Transaction { writes: vec![write], durability, ..Transaction::default() }).await {
        Ok(Outcome::Committed { revision, .. }) => revision,
        other => panic!("{other:?}"),
    }
}

pub async fn delete(store: &dyn Store, collection: &str, name: &str) -> Revision {
    let writes = vec![Write::Delete { key: Key::new(collection, name) }];
    match store.commit(Transaction { writes, ..Transaction::default() }).await {
        Ok(Outcome::Committed { revision, .. }) => revision,
        other => panic!("{other:?}"),
    }
}

fn write(collection: &str, name: &str, value: &str) -> Write {
    let text = format!("{value}@");
    let content = Content { revision_at: Some(text.len()), bytes: Bytes::from(text) };
    Write::Put { key: Key::new(collection, name), content, ttl: None }
}

pub async fn all(mut make: impl FnMut() -> Arc<dyn Store>) {
    transactions(&*make()).await;
    ranges(&*make()).await;
    watches(&*make()).await;
    expiry(&*make()).await;
}

async fn transactions(store: &dyn Store) {
    let key = Key::new("pods", "a/b");
    let expect = |condition| vec![Expectation { key: key.clone(), condition }];
    let create = Transaction {
        expect: expect(Condition::Absent),
        writes: vec![write("pods", "a/b", "1")],
        ..Default::default()
    };
    let Ok(Outcome::Committed { revision, entries }) = store.commit(create.clone()).await else { panic!("created") };
    let entry = entries[0].clone().expect("entry");
    assert_eq!((entry.created, entry.modified, entry.version), (revision, revision, 1));
    assert_eq!(&entry.value[..], format!("1@{revision}").as_bytes());
    let again = store.commit(create).await.expect("answer");
    assert!(matches!(again, Outcome::Refused { index: 0, current: Some(_) }), "{again:?}");
    let update = |at| Transaction {
        expect: expect(Condition::Modified(at)),
        writes: vec![write("pods", "a/b", "2"), write("nodes", "n", "3")],
        durability: Durability::Relaxed,
    };
    let Ok(Outcome::Committed { revision: second, entries }) = store.commit(update(revision)).await else {
        panic!("updated")
    };
    assert!(second > revision && entries[1].as_ref().expect("both").modified == second);
    assert!(matches!(store.commit(update(revision)).await, Ok(Outcome::Refused { .. })));
    let deletion = delete(store, "pods", "a/b").await;
    assert!(deletion > second && store.get(&key).await.expect("get").is_none());
    assert_eq!(entry.value_at(deletion), format!("1@{deletion}"));
}

async fn ranges(store: &dyn Store) {
    for name in ["a/1", "a/2", "a/3", "b/1"] {
        put(store, "pods", name, "x", Durability::Synced).await;
    }
    let then = store.revision().await.expect("revision");
    delete(store, "pods", "a/2").await;
    put(store, "pods", "a/3", "y", Durability::Synced).await;
    put(store, "pods", "a/4", "y", Durability::Synced).await;
    let read = async |prefix: &str, after: Option<&str>, limit, at| {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        let page = store.range(Range { collection: "pods".into(), prefix, after, limit, at }).await.expect("range");
        let text: Vec<String> = page.entries.iter().map(|e| format!("{}={}", e.name(), e.value[0] as char)).collect();
        (text.join(" "), page.remaining)
    };
    assert_eq!(read("", None, 0, None).await, ("a/1=x a/3=y a/4=y b/1=x".to_owned(), 0));
    assert_eq!(read("a/", None, 2, None).await, ("a/1=x a/3=y".to_owned(), 1));
    assert_eq!(read("a/", Some("a/3"), 2, None).await, ("a/4=y".to_owned(), 0));
    assert_eq!(read("", None, 0, Some(then)).await, ("a/1=x a/2=x a/3=x b/1=x".to_owned(), 0));
    assert_eq!(read("a/", Some("a/1"), 1, Some(then)).await, ("a/2=x".to_owned(), 1));
    store.compact(store.revision().await.expect("revision")).await.expect("compact");
    let range = |at| Range { collection: "pods".into(), at: Some(at), ..Range::default() };
    assert!(matches!(store.range(range(then)).await, Err(StoreError::Compacted { .. })));
    assert!(matches!(store.range(range(Revision(u64::MAX))).await, Err(StoreError::Future { .. })));
}

async fn watches(store: &dyn Store) {
    let start = put(store, "pods", "a/1", "x", Durability::Synced).await;
    let mut watch = store.watch("pods", "a/", start).expect("watch");
    put(store, "pods", "a/1", "y", Durability::Relaxed).await;
    put(store, "pods", "b/1", "y", Durability::Synced).await;
    put(store, "nodes", "a/1", "y", Durability::Synced).await;
    let deleted = delete(store, "pods", "a/1").await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(watch.next().await.expect("batch").events);
    }
    let text: Vec<String> = seen.iter().map(|event| format!("{event:?}")).collect();
    assert_eq!(text, [format!("{} update a/1", start.0 + 1), format!("{deleted} delete a/1")]);
    assert_eq!(seen[1].prev.as_ref().map(|prev| prev.value[0]), Some(b'y'));
    let waiting = tokio::time::timeout(Duration::from_millis(20), watch.next()).await;
    assert!(waiting.is_err(), "nothing more happened");
    assert_eq!(watch.now().expect("position").revision, store.local_revision());
    let mut other = store.watch("none-yet", "", start).expect("watch");
    put(store, "none-yet", "x", "y", Durability::Synced).await;
    assert_eq!(other.next().await.expect("batch").events.len(), 1);
}

async fn expiry(store: &dyn Store) {
    let start = store.local_revision();
    let Write::Put { key, content, .. } = write("events", "a", "x") else { unreachable!() };
    let writes = vec![Write::Put { key, content, ttl: Some(Duration::from_secs(1)) }];
    store.commit(Transaction { writes, durability: Durability::Relaxed, ..Default::default() }).await.expect("put");
    let mut watch = store.watch("events", "", start).expect("watch");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let batch = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("expires in time");
        seen.extend(batch.expect("batch").events);
    }
    assert!(seen[1].entry.is_none() && store.local_get(&Key::new("events", "a")).is_none());
}
