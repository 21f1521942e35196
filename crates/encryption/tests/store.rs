//! A store under encryption: what is on its disk, and what is read from that.

use std::path::Path;
use std::sync::Arc;

use coracle_encryption::{ClusterKey, Encryption};
use coracle_store::{Content, Embedded, Key, Options, Store, StoreError, Transaction, Write};

const SECRET: &str = "very-secret-value";

fn cluster_key() -> ClusterKey {
    ClusterKey::from_random([9; 32])
}

fn encryption(configuration: Option<&str>) -> Arc<Encryption> {
    Arc::new(Encryption::new(&cluster_key(), configuration).expect("a configuration"))
}

fn open(folder: &Path, encryption: Option<&Arc<Encryption>>) -> Result<Embedded, StoreError> {
    let seal = encryption.map(|encryption| Arc::clone(encryption) as _);
    Embedded::open(folder, Options { seal, ..Options::default() })
}

async fn put(store: &Embedded, collection: &str, name: &str) {
    let content = Content::plain(format!("{{\"data\":\"{SECRET}\"}}"));
    let write = Write::Put { key: Key::new(collection, name), content, ttl: None };
    store.commit(Transaction { writes: vec![write], ..Transaction::default() }).await.expect("committed");
}

fn value(store: &Embedded, collection: &str, name: &str) -> String {
    let entry = store.local_get(&Key::new(collection, name)).expect("an entry");
    String::from_utf8(entry.value.to_vec()).expect("text")
}

fn stale(store: &Embedded, collection: &str, name: &str) -> bool {
    store.is_stale(collection, &store.local_get(&Key::new(collection, name)).expect("an entry"))
}

/// All bytes of the store's files.
fn disk(folder: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(folder).expect("folder");
    files.flat_map(|file| std::fs::read(file.expect("file").path()).expect("readable")).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

fn with(resources: &str, providers: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: [{{resources: [{resources}], providers: [{providers}]}}]\n"
    )
}

const OLD: &str = "aescbc: {keys: [{name: old, secret: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=}]}";
const NEW: &str = "secretbox: {keys: [{name: new, secret: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=}]}";

#[tokio::test]
async fn secrets_never_reach_the_disk_as_they_are() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path(), Some(&encryption(None))).expect("store");
    put(&store, "secrets", "a/b").await;
    assert!(holds(&disk(folder.path()), "k8s:enc:aesgcm:v1:cluster:") && !holds(&disk(folder.path()), SECRET));
    put(&store, "configmaps", "a/b").await;
    store.close().await;
    assert!(holds(&disk(folder.path()), SECRET), "only secrets");
    let store = open(folder.path(), Some(&encryption(None))).expect("store");
    assert!(value(&store, "secrets", "a/b").contains(SECRET) && !stale(&store, "secrets", "a/b"));
}

#[tokio::test]
async fn stores_of_before_are_read_and_change_with_the_next_write() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path(), None).expect("store");
    put(&store, "secrets", "a/b").await;
    store.close().await;
    let store = open(folder.path(), Some(&encryption(None))).expect("store");
    assert!(value(&store, "secrets", "a/b").contains(SECRET) && stale(&store, "secrets", "a/b"));
    put(&store, "secrets", "a/b").await;
    assert!(!stale(&store, "secrets", "a/b"));
}

#[tokio::test]
async fn keys_rotate_under_an_open_store() {
    let folder = tempfile::tempdir().expect("folder");
    let encryption = encryption(Some(&with("secrets, '*.apps'", &format!("{{{OLD}}}"))));
    let store = open(folder.path(), Some(&encryption)).expect("store");
    put(&store, "secrets", "a/b").await;
    put(&store, "apps/deployments", "a/b").await;
    assert!(holds(&disk(folder.path()), "k8s:enc:aescbc:v1:old:") && !holds(&disk(folder.path()), SECRET));
    encryption.reload(&with("'*.*'", &format!("{{{NEW}}}, {{{OLD}}}"))).expect("reloaded");
    assert!(stale(&store, "secrets", "a/b") && stale(&store, "apps/deployments", "a/b"));
    put(&store, "secrets", "a/b").await;
    assert!(!stale(&store, "secrets", "a/b") && holds(&disk(folder.path()), "k8s:enc:secretbox:v1:new:"));
    assert!(encryption.reload("kind: Nothing").is_err());
    store.close().await;
    let store = open(folder.path(), Some(&encryption)).expect("store");
    assert!(value(&store, "apps/deployments", "a/b").contains(SECRET));
    assert!(stale(&store, "apps/deployments", "a/b") && !stale(&store, "secrets", "a/b"));
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path(), Some(&encryption(Some(&with("secrets", &format!("{{{OLD}}}")))))).expect("store");
    put(&store, "secrets", "a/b").await;
    store.close().await;
    let error = open(folder.path(), Some(&encryption(None))).err().expect("not readable").to_string();
    assert_eq!(
        error,
        r#"seal or open secrets/a/b: no provider of the encryption configuration reads "k8s:enc:aescbc:v1:old"; add the one that wrote it"#
    );
    let other = Arc::new(Encryption::new(&ClusterKey::from_random([1; 32]), None).expect("encryption"));
    let other_folder = tempfile::tempdir().expect("folder");
    let store = open(other_folder.path(), Some(&encryption(None))).expect("store");
    put(&store, "secrets", "a/b").await;
    store.close().await;
    let error = open(other_folder.path(), Some(&other)).err().expect("not readable").to_string();
    assert!(error.contains("written with another key"), "{error}");
}

/// The cluster's own key stays readable, whatever the configuration says.
#[tokio::test]
async fn a_configuration_takes_over_from_the_default() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path(), Some(&encryption(None))).expect("store");
    put(&store, "secrets", "a/b").await;
    store.close().await;
    let store = open(folder.path(), Some(&encryption(Some(&with("secrets", &format!("{{{NEW}}}")))))).expect("store");
    assert!(value(&store, "secrets", "a/b").contains(SECRET) && stale(&store, "secrets", "a/b"));
}
