//! Pulls from Debian's registry, filled by skopeo, and loads what other tools write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coracle_image::{Config, Credentials, ImageStore, NewContent, NewFile, ProcessConfig, Proxies};

const WAIT_MAX: Duration = Duration::from_secs(30);
/// User `me`, password `secret`.
const HTPASSWD: &str = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    fn start(dir: &Path, password_file: Option<&Path>) -> Self {
        // Whoever takes a port that is free now may find it taken a moment later: try again then.
        for _ in 0..20 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap().to_string();
            drop(free);
            let mut text = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
                dir.join("registry").display()
            );
            if let Some(file) = password_file {
                text += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display());
            }
            let config = dir.join("registry.yml");
            std::fs::write(&config, text).unwrap();
            let mut command = Command::new("docker-registry");
            command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            let end = Instant::now() + WAIT_MAX;
            while Instant::now() < end && child.try_wait().unwrap().is_none() {
                if std::net::TcpStream::connect(&address).is_ok() {
                    return Self { child, address };
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            child.kill().ok();
            child.wait().ok();
        }
        panic!("no registry");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn skopeo(arguments: &[&str]) {
    let output = Command::new("skopeo").args(["--insecure-policy"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn store(dir: &Path, name: &str) -> ImageStore {
    ImageStore::open(Config { dir: dir.join(name), ..Config::default() }).unwrap()
}

/// An OCI layout of one image with two layers, made by umoci.
fn layout(dir: &Path) -> PathBuf {
    let (layout, bundle) = (dir.join("layout"), dir.join("bundle"));
    let image = format!("{}:latest", layout.display());
    let umoci = |arguments: &[&str]| {
        let output = Command::new("umoci").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    umoci(&["init", "--layout", layout.to_str().unwrap()]);
    umoci(&["new", "--image", &image]);
    umoci(&["unpack", "--image", &image, bundle.to_str().unwrap()]);
    std::fs::create_dir(bundle.join("rootfs/etc")).unwrap();
    std::fs::write(bundle.join("rootfs/etc/old"), "old").unwrap();
    std::fs::write(bundle.join("rootfs/big"), random(3 << 20)).unwrap();
    umoci(&["repack", "--refresh-bundle", "--image", &image, bundle.to_str().unwrap()]);
    std::fs::remove_file(bundle.join("rootfs/etc/old")).unwrap();
    std::fs::write(bundle.join("rootfs/etc/new"), "new").unwrap();
    umoci(&["repack", "--refresh-bundle", "--image", &image, bundle.to_str().unwrap()]);
    umoci(&["config", "--image", &image, "--config.cmd", "/app", "--config.user", "33"]);
    layout
}

fn random(bytes: usize) -> Vec<u8> {
    use std::io::Read;
    let mut content = vec![0; bytes];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut content).unwrap();
    content
}

fn check_content(store: &ImageStore, name: &str) {
    let record = store.find(name).unwrap();
    assert_eq!(record.layers.len(), 2);
    assert_eq!(record.user, "33");
    let layers = store.layer_dirs(&record.layers);
    assert_eq!(std::fs::read_to_string(layers[1].join("etc/new")).unwrap(), "new");
    assert!(layers[0].join("etc/old").is_file());
    let tree = coracle_host::mount::overlay(&layers, None).unwrap();
    let read = |path: &str| coracle_host::fs::read_in_root(&tree, Path::new(path), 10).unwrap();
    assert_eq!((read("/etc/old"), read("/etc/new")), (None, Some(b"new".to_vec())));
    assert_eq!(store.image_config(&record.id).unwrap().config.cmd, ["/app"]);
}

#[tokio::test]
async fn images_are_pulled_again_and_by_digest() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(dir.path());
    let registry = Registry::start(dir.path(), None);
    let name = format!("{}/team/app:v1", registry.address);
    skopeo(&[
        "copy",
        "--dest-tls-verify=false",
        &format!("oci:{}:latest", layout.display()),
        &format!("docker://{name}"),
    ]);
    let store = store(dir.path(), "store");
    let nobody = Credentials::default();
    let record = store.pull(&name, &nobody).await.unwrap();
    check_content(&store, &name);
    assert_eq!(store.pull(&name, &nobody).await.unwrap(), record);
    let digest = record.digests.first().unwrap().clone();
    store.remove(&name).unwrap();
    store.collect(&Default::default()).unwrap();
    assert!(store.list().is_empty());
    store.pull(&digest, &nobody).await.unwrap();
    check_content(&store, &digest);

    let missing = format!("{}/team/nope:v1", registry.address);
    let error = store.pull(&missing, &nobody).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "failed to pull and unpack image \"{missing}\": failed to resolve reference \"{missing}\": {missing}: not found"
        )
    );
    let address = registry.address.clone();
    drop(registry);
    let error = store.pull(&name, &nobody).await.unwrap_err().to_string();
    assert!(error.ends_with(&format!("dial tcp {address}: connect: connection refused")), "{error}");
}

#[tokio::test]
async fn passwords_and_mirrors_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(dir.path());
    let passwords = dir.path().join("htpasswd");
    std::fs::write(&passwords, HTPASSWD).unwrap();
    let registry = Registry::start(dir.path(), Some(&passwords));
    let name = format!("{}/library/app:v1", registry.address);
    let source = format!("oci:{}:latest", layout.display());
    skopeo(&["copy", "--dest-tls-verify=false", "--dest-creds", "me:secret", &source, &format!("docker://{name}")]);
    let mirrors = BTreeMap::from([("docker.io".to_owned(), vec![format!("http://{}", registry.address)])]);
    let config = Config { dir: dir.path().join("store"), mirrors, ..Config::default() };
    let store = ImageStore::open(config).unwrap();
    let error = store.pull(&name, &Credentials::default()).await.unwrap_err().to_string();
    assert!(error.contains("pull access denied") && error.contains("unauthorized"), "{error}");
    let me = Credentials { username: "me".into(), password: "secret".into(), ..Credentials::default() };
    store.pull(&name, &me).await.unwrap();
    store.pull("app:v1", &me).await.unwrap();
    check_content(&store, "app:v1");
    let wrong = Credentials { password: "wrong".into(), ..me };
    assert!(store.pull(&name, &wrong).await.is_err());
}

#[tokio::test]
async fn downloads_go_on_where_they_broke_off() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(dir.path());
    let registry = Registry::start(dir.path(), None);
    let name = format!("{}/app:v1", registry.address);
    skopeo(&[
        "copy",
        "--dest-tls-verify=false",
        &format!("oci:{}:latest", layout.display()),
        &format!("docker://{name}"),
    ]);
    let store = store(dir.path(), "store");
    // What an earlier process left: the first half of a layer, and the whole of another with a wrong end.
    let blobs = std::fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let big = blobs.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let content = std::fs::read(&big).unwrap();
    let partial = dir.path().join("store/tmp").join(format!("{}.partial", big.file_name().unwrap().to_str().unwrap()));
    std::fs::write(&partial, &content[..content.len() / 2]).unwrap();
    store.pull(&name, &Credentials::default()).await.unwrap();
    check_content(&store, &name);
    assert!(!partial.exists());
    store.remove(&name).unwrap();
    store.collect(&Default::default()).unwrap();
    std::fs::write(&partial, vec![0; content.len() / 2]).unwrap();
    let error = store.pull(&name, &Credentials::default()).await.unwrap_err().to_string();
    assert!(error.contains("does not match its digest"), "{error}");
    // What was wrong is gone, and the next try is whole.
    store.pull(&name, &Credentials::default()).await.unwrap();
}

#[test]
fn layouts_and_archives_are_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(dir.path());
    let source = format!("oci:{}:latest", layout.display());
    let archive = dir.path().join("saved.tar");
    skopeo(&["copy", &source, &format!("docker-archive:{}:example.test/app:v2", archive.display())]);
    let oci = dir.path().join("oci.tar");
    skopeo(&["copy", &source, &format!("oci-archive:{}:example.test/app:v3", oci.display())]);
    let (by_archive, by_oci) = (store(dir.path(), "a"), store(dir.path(), "b"));
    by_archive.load(&archive).unwrap();
    check_content(&by_archive, "example.test/app:v2");
    by_oci.load(&oci).unwrap();
    check_content(&by_oci, "example.test/app:v3");
    let by_folder = store(dir.path(), "c");
    let loaded = by_folder.load(&layout).unwrap();
    check_content(&by_folder, loaded[0].id.as_str());
    std::fs::write(dir.path().join("junk.tar"), b"not an archive").unwrap();
    assert!(by_folder.load(&dir.path().join("junk.tar")).is_err());
}

#[test]
fn a_crash_leaves_nothing_that_counts() {
    let dir = tempfile::tempdir().unwrap();
    let store_dir = dir.path().join("store");
    let files = [NewFile { path: "x".into(), mode: 0o644, content: NewContent::Bytes(b"x".to_vec()) }];
    let record = store(dir.path(), "store").import_single_layer("a", &files, ProcessConfig::default()).unwrap();
    std::fs::create_dir(store_dir.join("tmp/layer-1-1")).unwrap();
    std::fs::create_dir(store_dir.join("layers").join("0".repeat(64))).unwrap();
    let store = store(dir.path(), "store");
    assert_eq!(store.list(), vec![record]);
    assert!(!store_dir.join("tmp/layer-1-1").exists());
    store.collect(&Default::default()).unwrap();
    assert_eq!(std::fs::read_dir(store_dir.join("layers")).unwrap().count(), 1);
    std::fs::write(store_dir.join("index.json"), r#"{"version": 99, "images": {}}"#).unwrap();
    let error = ImageStore::open(Config { dir: store_dir.clone(), ..Config::default() }).err().unwrap().to_string();
    assert!(error.contains("index.json is of version 99"), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_said_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(dir.path());
    let registry = Registry::start(dir.path(), None);
    let name = format!("{}/app:v1", registry.address);
    skopeo(&[
        "copy",
        "--dest-tls-verify=false",
        &format!("oci:{}:latest", layout.display()),
        &format!("docker://{name}"),
    ]);
    let small = dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    coracle_host::mount::tmpfs(&small, 2 << 20, 0o755).unwrap();
    let store = store(&small, "store");
    let files = |bytes| [NewFile { path: "x".into(), mode: 0o644, content: NewContent::Bytes(random(bytes)) }];
    let errors = [
        store.pull(&name, &Credentials::default()).await.unwrap_err().to_string(),
        store.load(&layout).unwrap_err().to_string(),
        store.import_single_layer("big", &files(3 << 20), ProcessConfig::default()).unwrap_err().to_string(),
    ];
    for error in errors {
        assert!(error.ends_with("no space left on device"), "{error}");
    }
    let left = std::fs::read_dir(small.join("store/tmp")).unwrap().flatten().map(|entry| entry.path());
    assert_eq!(left.collect::<Vec<_>>(), Vec::<PathBuf>::new());
    store.collect(&Default::default()).unwrap();
    store.import_single_layer("small", &files(1 << 10), ProcessConfig::default()).unwrap();
    assert_eq!(store.list().len(), 1);
    drop(store);
    coracle_host::mount::umount(&small).unwrap();
}

/// Its archives end with the last byte of the last file.
#[test]
fn what_umoci_inserted_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    let image = format!("{}:one", layout.display());
    let file = dir.path().join("file");
    std::fs::write(&file, "hello").unwrap();
    for arguments in [
        &["init", "--layout", layout.to_str().unwrap()][..],
        &["new", "--image", &image],
        &["insert", "--image", &image, file.to_str().unwrap(), "/etc/file"],
    ] {
        let output = Command::new("umoci").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let store = store(dir.path(), "store");
    let loaded = store.load(&layout).unwrap();
    let folder = &store.layer_dirs(&loaded[0].layers)[0];
    assert_eq!(std::fs::read_to_string(folder.join("etc/file")).unwrap(), "hello");
}

#[test]
fn junk_is_called_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), "store");
    let check = |name: &str, content: &[u8], end: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = store.load(&path).unwrap_err().to_string();
        assert_eq!(error, format!("load {}: {end}", path.display()));
    };
    check("text", &[b'x'; 2000], "neither an OCI layout nor an archive of `docker save`");
    check("empty", b"", "neither an OCI layout nor an archive of `docker save`");
    check("gzip", &[0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 5, 6, 7], "neither an OCI layout nor an archive of `docker save`");
    let left = std::fs::read_dir(dir.path().join("store/tmp")).unwrap().count();
    assert_eq!(left, 0);
}

/// A proxy that knows one registry: what is asked of anybody is asked there. Returns its address.
fn proxy(registry: &str) -> String {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let registry = registry.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let registry = registry.clone();
            std::thread::spawn(move || {
                let mut from_client = BufReader::new(client.try_clone().unwrap());
                let mut first = String::new();
                from_client.read_line(&mut first).unwrap();
                // An address with its host, as proxies are told.
                let path = first.strip_prefix("GET http://far.test:81/").unwrap();
                let mut server = std::net::TcpStream::connect(&registry).unwrap();
                server.write_all(format!("GET /{path}").as_bytes()).unwrap();
                let (mut answer, mut to_client) = (server.try_clone().unwrap(), client);
                std::thread::spawn(move || {
                    std::io::copy(&mut answer, &mut to_client).ok();
                    to_client.shutdown(std::net::Shutdown::Both).ok();
                });
                std::io::copy(&mut from_client, &mut server).ok();
            });
        }
    });
    address
}

#[tokio::test]
async fn mirrors_and_proxies_lead_to_an_image() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(dir.path());
    let registry = Registry::start(dir.path(), None);
    let target = format!("docker://{}/library/app:v1", registry.address);
    skopeo(&["copy", "--dest-tls-verify=false", &format!("oci:{}:latest", layout.display()), &target]);
    let open = |name: &str, config: Config| ImageStore::open(Config { dir: dir.path().join(name), ..config }).unwrap();

    let mirrors = vec!["http://127.0.0.1:1".to_owned(), format!("http://{}/", registry.address)];
    let mirrored =
        open("mirrored", Config { mirrors: [("docker.io".to_owned(), mirrors)].into(), ..Config::default() });
    let record = mirrored.pull("app:v1", &Credentials::default()).await.unwrap();
    assert!(record.tags.contains("docker.io/library/app:v1"));

    let proxies = Proxies { http: format!("http://{}", proxy(&registry.address)), ..Proxies::default() };
    let insecure_registries = vec!["far.test:81".to_owned()];
    let far = open("far", Config { proxies, insecure_registries, ..Config::default() });
    let record = far.pull("far.test:81/library/app:v1", &Credentials::default()).await.unwrap();
    assert!(record.tags.contains("far.test:81/library/app:v1"));
}

/// Nobody answers: the pull fails soon, says why, and leaves nothing.
#[tokio::test]
async fn a_dead_registry_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), "store");
    let error = store.pull("127.0.0.1:1/app:v1", &Credentials::default()).await.unwrap_err().to_string();
    assert!(error.ends_with("dial tcp 127.0.0.1:1: connect: connection refused"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path().join("store/tmp")).unwrap().count(), 0);
}
