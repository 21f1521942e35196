//! A disk without room: writes fail with a reason, deletions work, and everything works again when there is room.

use std::path::{Path, PathBuf};
use std::process::Command;

use coracle_store::{
    Condition, Content, Durability, Embedded, Expectation, Key, Limits, Options, Outcome, Store, StoreError,
    Transaction, Write,
};

const DISK_BYTES: u64 = 24 * 1024 * 1024;
const VALUE_BYTES: usize = 256 * 1024;

/// A small file system of the test's own.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path) -> Self {
        std::fs::create_dir_all(path).expect("folder");
        let size = format!("size={DISK_BYTES}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "coracle-test"]).arg(path).status();
        assert!(mount.expect("mount is installed").success());
        Self(path.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn put(name: &str, bytes: usize) -> Transaction {
    let key = Key::new("things", name);
    Transaction {
        expect: vec![Expectation { key: key.clone(), condition: Condition::Absent }],
        writes: vec![Write::Put { key, content: Content::plain(vec![b'x'; bytes]), ttl: None }],
        durability: Durability::Synced,
    }
}

fn delete(name: &str) -> Transaction {
    let key = Key::new("things", name);
    Transaction { expect: Vec::new(), writes: vec![Write::Delete { key }], durability: Durability::Synced }
}

#[tokio::test]
async fn objects_can_be_deleted_when_nothing_else_goes() {
    let folder = tempfile::tempdir().expect("folder");
    let small = Small::mount(&folder.path().join("disk"));
    let limits = Limits { reserve_bytes: 4 * 1024 * 1024, ..Limits::default() };
    let store = Embedded::open(&small.0, Options { limits, ..Options::default() }).expect("store");
    assert!(small.0.join("reserve").exists());
    let mut made = 0;
    let error = loop {
        match store.commit(put(&format!("n{made}"), VALUE_BYTES)).await {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 200, "the disk never gets full");
    };
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    assert!(matches!(store.trouble(), Some(StoreError::DiskFull { .. })));
    assert!(!small.0.join("reserve").exists());
    // Nothing of what failed can be seen.
    assert_eq!(store.local_count("things"), made);
    let error = store.commit(put("more", 10)).await.expect_err("no room");
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    for number in 0..made {
        let outcome = store.commit(delete(&format!("n{number}"))).await.expect("deleted");
        assert!(matches!(outcome, Outcome::Committed { .. }));
    }
    assert_eq!(store.local_count("things"), 0);
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while store.trouble().is_some() {
        assert!(std::time::Instant::now() < limit, "the store does not notice that there is room");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    store.commit(put("again", 10)).await.expect("room");
    store.close().await;
}
