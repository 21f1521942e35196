//! The suite of every store, run on the embedded one, and what only the embedded one promises.

mod suite;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use coracle_store::{Durability, Embedded, Key, Options, Store, StoreError};
use suite::{delete, put};

fn open(folder: &std::path::Path) -> Arc<dyn Store> {
    Arc::new(Embedded::open(folder, Options::default()).expect("open"))
}

#[tokio::test]
async fn suite_holds() {
    let mut folders = Vec::new();
    suite::all(|| {
        let folder = tempfile::tempdir().expect("folder");
        let store = open(folder.path());
        folders.push(folder);
        store
    })
    .await;
}

#[tokio::test]
async fn survives_close_and_refuses_a_second_opener() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path());
    put(&*store, "pods", "a/b", "1", Durability::Relaxed).await;
    put(&*store, "pods", "a/c", "2", Durability::Synced).await;
    delete(&*store, "pods", "a/c").await;
    let second = Embedded::open(folder.path(), Options::default());
    let message = second.err().expect("locked").to_string();
    assert!(message.contains(&format!("in use by process {}", std::process::id())), "{message}");
    let before = store.local_revision();
    store.close().await;
    let store = open(folder.path());
    assert_eq!(store.local_revision(), before);
    assert_eq!(store.local_range("pods", "").len(), 1);
    let entry = store.local_get(&Key::new("pods", "a/b")).expect("kept");
    assert_eq!(&entry.value[..], format!("1@{}", entry.modified).as_bytes());
    let old = store.watch("pods", "", coracle_store::Revision(1)).err();
    assert!(matches!(old, Some(StoreError::Compacted { .. })));
}

#[tokio::test]
async fn refuses_a_newer_format() {
    let folder = tempfile::tempdir().expect("folder");
    open(folder.path()).close().await;
    let db = rusqlite::Connection::open(folder.path().join("state.db")).expect("open");
    db.execute("UPDATE meta SET value = 99 WHERE name = 'format'", []).expect("update");
    drop(db);
    let error = Embedded::open(folder.path(), Options::default()).err().expect("refused").to_string();
    assert!(error.contains("has format 99, this program reads up to 1"), "{error}");
}

const CHILD: &str = "STORE_TEST_CHILD_FOLDER";

/// Does nothing unless it runs as the child of the test below.
#[tokio::test(flavor = "multi_thread")]
async fn child_writes_until_killed() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let store = open(folder.as_ref());
    let writers = (0..8).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in 0.. {
                let name = format!("{writer}/{number}");
                let revision = put(&*store, "pods", &name, "x", Durability::Synced).await;
                println!("\nacked {name} {revision}");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("writer");
    }
}

#[test]
fn kill_loses_no_acknowledged_write() {
    let folder = tempfile::tempdir().expect("folder");
    let mut last = 0;
    for round in 0..3 {
        let acked = run_and_kill(folder.path(), 200 + round * 50);
        let store = Embedded::open(folder.path(), Options::default()).expect("open after kill");
        for (name, revision) in &acked {
            let entry = store.local_get(&Key::new("pods", name.as_str())).unwrap_or_else(|| panic!("{name} is lost"));
            assert!(entry.modified.0 >= *revision, "{name}");
        }
        let highest = acked.iter().map(|(_, revision)| *revision).max().expect("some");
        assert!(highest > last && store.local_revision().0 >= highest, "revisions never repeat");
        last = highest;
        futures_block(store.close());
    }
}

fn futures_block(future: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().expect("runtime").block_on(future);
}

fn run_and_kill(folder: &std::path::Path, lines: usize) -> Vec<(String, u64)> {
    let mut child = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "child_writes_until_killed", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("child");
    let mut output = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let mut acked = Vec::new();
    while acked.len() < lines {
        let line = output.next().expect("output goes on").expect("utf-8");
        if let Some((name, revision)) = line.strip_prefix("acked ").and_then(|rest| rest.split_once(' ')) {
            acked.push((name.to_owned(), revision.parse().expect("number")));
        }
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    acked
}
