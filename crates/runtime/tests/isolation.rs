//! What containers may do and see, and what limits them.

mod support;

use coracle_cri::{
    IdMapping, LinuxContainerResources, Mount, MountPropagation, NamespaceMode, RuntimeService, SecurityProfile,
    UserNamespace,
};
use support::Bench;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_capabilities_and_paths_are_those_asked_for() {
    let bench = Bench::new().await;
    let pod = bench.pod("rights").await;
    let mut config = bench.config("main", "id; grep -E 'CapEff|NoNewPrivs' /proc/self/status; pwd; echo $HOME");
    assert_eq!(
        bench.run_of(&pod, &config).await.1,
        "uid=0(root) gid=0(root) groups=0(root)\nCapEff:\t00000000a80425fb\nNoNewPrivs:\t0\n/\n/root"
    );
    let context = &mut config.linux.security_context;
    context.run_as_username = Some("web".into());
    context.supplemental_groups = vec![2000];
    context.no_new_privs = true;
    config.working_dir = "/made/up".into();
    let shown = "uid=33(web) gid=33(web) groups=33(web),44(extra),2000\nCapEff:\t0000000000000000\n\
                 NoNewPrivs:\t1\n/made/up\n/var/www";
    assert_eq!(bench.run_of(&pod, &config).await.1, shown);
    config.linux.security_context.run_as_username = Some("nobody".into());
    let error = bench.runtime.create_container(&pod.id, &config, &pod.config).await.unwrap_err();
    assert_eq!(error.to_string(), "unable to find user nobody: no matching entries in passwd file");

    let mut config =
        bench.config("main", "touch /x; touch /tmp/x; echo y > /data/x && cat /data/x; cat /masked; ls /hidden");
    config.args[0] += "; touch /sys/x; ls /proc/kcore";
    let data = bench.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    config.mounts.push(Mount {
        container_path: "/data".into(),
        host_path: data.to_str().unwrap().into(),
        ..Mount::default()
    });
    let context = &mut config.linux.security_context;
    context.readonly_rootfs = true;
    context.masked_paths = vec!["/etc/secret".into(), "/nowhere".into()];
    context.readonly_paths = vec!["/tmp".into()];
    config.args[0] = config.args[0].replace("/masked", "/etc/secret");
    let (_, shown) = bench.run_of(&pod, &config).await;
    assert!(shown.contains("touch: /x: Read-only file system"), "{shown}");
    assert!(shown.contains("touch: /tmp/x: Read-only file system"), "{shown}");
    assert!(shown.contains("y"), "{shown}");
    assert!(!shown.contains("old"), "{shown}");
    assert!(shown.contains("touch: /sys/x: Read-only file system"), "{shown}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_and_running_out_of_memory_is_reported() {
    let bench = Bench::new().await;
    let pod = bench.pod("limits").await;
    let mut config = bench.config("main", "head -c 200000000 /dev/zero | tail");
    config.linux.resources.memory_limit = 20 << 20;
    let id = bench.start_of(&pod, &config).await;
    let status = bench.wait_exited(&id).await;
    assert_eq!(status.reason, "OOMKilled");
    let mut config = bench.config("alone", "exec tail /dev/zero");
    config.linux.resources.memory_limit = 20 << 20;
    let id = bench.start_of(&pod, &config).await;
    let status = bench.wait_exited(&id).await;
    assert_eq!((status.reason.as_str(), status.exit_code), ("OOMKilled", 137));

    let mut config = bench.config("limited", "exec sleep 1000");
    let resources = &mut config.linux.resources;
    resources.cpu_quota = 20_000;
    resources.cpu_period = 100_000;
    resources.cpu_shares = 512;
    resources.oom_score_adj = -997;
    let id = bench.start_of(&pod, &config).await;
    let limits = bench.status(&id).await.resources;
    assert_eq!((limits.cpu_quota, limits.cpu_period, limits.cpu_shares), (20_000, 100_000, 512));
    let more =
        LinuxContainerResources { cpu_quota: 50_000, memory_limit: 512 << 20, ..LinuxContainerResources::default() };
    bench.runtime.update_container_resources(&id, &more).await.unwrap();
    let limits = bench.status(&id).await.resources;
    assert_eq!((limits.cpu_quota, limits.memory_limit, limits.cpu_shares), (50_000, 512 << 20, 512));
    let stats = bench.runtime.container_stats(&id).await.unwrap();
    assert!(stats.memory_usage > 0 && stats.pids == 1 && stats.cpu_usage_core_nanos > 0, "{stats:?}");
    let pods = bench.runtime.list_pod_sandbox_stats().await.unwrap();
    assert!(pods[0].pids >= 1, "{pods:?}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_are_shared_as_asked() {
    let bench = Bench::new().await;
    let pod = bench.pod("own").await;
    let config =
        bench.config("main", "echo $$; hostname; cat /etc/hostname; cat /proc/net/dev | wc -l; ls /sys/class/net");
    assert_eq!(bench.run_of(&pod, &config).await.1, "1\nown\nown\n3\nlo");

    let mut shared = bench.pod_config("shared");
    shared.linux.security_context.namespaces.pid = NamespaceMode::Pod;
    let pod = bench.pod_of(shared).await;
    let mut config = bench.config("first", "echo x > /dev/shm/seen; exec sleep 1234");
    config.linux.security_context.namespaces.pid = NamespaceMode::Pod;
    let first = bench.start_of(&pod, &config).await;
    let mut config = bench.config("second", "until [ -e /dev/shm/seen ]; do :; done; pidof sleep && echo seen");
    config.linux.security_context.namespaces.pid = NamespaceMode::Pod;
    let (code, shown) = bench.run_of(&pod, &config).await;
    assert!(code == 0 && shown.ends_with("seen"), "{shown}");
    bench.runtime.stop_container(&first, std::time::Duration::ZERO).await.unwrap();

    let pod = bench.pod("target").await;
    let target = bench.start(&pod, "target", "exec sleep 4444").await;
    let mut config = bench.config("debugger", "cat /proc/1/cmdline; ls /proc/1/root/bin/busybox");
    config.linux.security_context.namespaces.pid = NamespaceMode::Target;
    config.linux.security_context.namespaces.target_id = target;
    config.linux.security_context.add_capabilities = words(&["SYS_PTRACE"]);
    let (_, shown) = bench.run_of(&pod, &config).await;
    assert!(shown.contains("sleep\x004444") && shown.contains("/proc/1/root/bin/busybox"), "{shown}");

    let mut host = bench.pod_config("host");
    host.hostname = String::new();
    host.linux.security_context.namespaces.network = NamespaceMode::Node;
    let pod = bench.pod_of(host).await;
    let (_, shown) =
        bench.run_of(&pod, &bench.config("main", "readlink /proc/self/ns/net; readlink /proc/self/ns/uts")).await;
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    assert_eq!(shown, format!("{}\n{}", own("net"), own("uts")));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn privileged_containers_and_images_as_volumes() {
    let bench = Bench::new().await;
    let pod = bench.pod("wide").await;
    let mut config =
        bench.config("main", "grep CapEff /proc/self/status; mkdir /m && mount -t tmpfs x /m && echo mounted");
    config.linux.security_context.privileged = true;
    let (code, shown) = bench.run_of(&pod, &config).await;
    assert!(code == 0 && shown.contains("mounted"), "{shown}");
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find(|line| line.starts_with("CapEff")).unwrap();
    assert!(shown.contains(own), "{shown}");

    let mut config = bench.config("main", "cat /image/passwd | head -1; touch /image/x");
    let image = Some(support::IMAGE.to_owned());
    let mount = Mount { container_path: "/image".into(), image, image_sub_path: "etc".into(), ..Mount::default() };
    config.mounts.push(mount);
    let (_, shown) = bench.run_of(&pod, &config).await;
    assert!(shown.contains("root:x:0:0") && shown.contains("Read-only"), "{shown}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn system_calls_are_filtered() {
    let bench = Bench::new().await;
    let pod = bench.pod("filter").await;
    let mut config =
        bench.config("main", "grep '^Seccomp:' /proc/self/status; unshare -m true; busybox arping -h 2>&1 | head -1");
    config.linux.security_context.seccomp = SecurityProfile::RuntimeDefault;
    config.linux.security_context.add_capabilities = vec!["SYS_PTRACE".into()];
    let (_, shown) = bench.run_of(&pod, &config).await;
    assert!(
        shown.contains("Seccomp:\t2") && shown.contains("unshare: unshare(0x20000): Operation not permitted"),
        "{shown}"
    );
    config.linux.security_context.no_new_privs = true;
    config.linux.security_context.run_as_user = Some(1000);
    config.args = vec!["grep '^Seccomp:' /proc/self/status; exec sleep 1000".into()];
    let id = bench.start_of(&pod, &config).await;
    let result = bench.runtime.exec_sync(&id, &words(&["grep", "^Seccomp:", "/proc/self/status"]), None).await.unwrap();
    assert_eq!(String::from_utf8(result.stdout).unwrap(), "Seccomp:\t2\n");
    bench.runtime.remove_container(&id).await.unwrap();

    let path = bench.dir.path().join("profile.json");
    let deny = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    std::fs::write(&path, deny).unwrap();
    let mut config = bench.config("own", "mkdir /tmp/x");
    config.linux.security_context.seccomp = SecurityProfile::Localhost(path.to_str().unwrap().into());
    let (_, shown) = bench.run_of(&pod, &config).await;
    assert!(shown.contains("No space left on device"), "{shown}");
    config.linux.security_context.seccomp = SecurityProfile::Localhost("/nonexistent".into());
    let error = bench.runtime.create_container(&pod.id, &config, &pod.config).await.unwrap_err().to_string();
    assert_eq!(error, "cannot load seccomp profile \"/nonexistent\": open /nonexistent: no such file or directory");
    bench.end().await;
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounts_travel_as_asked() {
    let bench = Bench::new().await;
    let pod = bench.pod("travel").await;
    let shared = bench.dir.path().join("shared");
    std::fs::create_dir_all(shared.join("in")).unwrap();
    std::fs::create_dir_all(shared.join("out")).unwrap();
    let mount = |propagation| Mount {
        container_path: "/shared".into(),
        host_path: shared.to_str().unwrap().into(),
        propagation,
        ..Mount::default()
    };
    let mut config = bench.config("both", "mount -t tmpfs x /shared/out && touch /shared/out/seen; exec sleep 1000");
    config.linux.security_context.privileged = true;
    config.mounts.push(mount(MountPropagation::Bidirectional));
    let error = bench.runtime.create_container(&pod.id, &config, &pod.config).await.unwrap_err().to_string();
    assert!(error.contains("is not a shared mount"), "{error}");
    coracle_host::mount::make_shared(&shared).unwrap();
    let both = bench.start_of(&pod, &config).await;
    bench.wait_for("the mount of the container", || shared.join("out/seen").exists()).await;
    let mut config = bench.config("down", "until [ -e /shared/in/seen ]; do :; done; umount /shared/in; echo got");
    config.linux.security_context.privileged = true;
    config.mounts.push(mount(MountPropagation::HostToContainer));
    let down = bench.start_of(&pod, &config).await;
    let mut config = bench.config("apart", "sleep 0.2; ls /shared/in");
    config.mounts.push(mount(MountPropagation::Private));
    let apart = bench.start_of(&pod, &config).await;
    coracle_host::mount::tmpfs(&shared.join("in"), 1 << 20, 0o755).unwrap();
    std::fs::write(shared.join("in/seen"), "").unwrap();
    bench.wait_exited(&down).await;
    bench.wait_exited(&apart).await;
    assert_eq!((bench.log(&pod, "down").as_str(), bench.log(&pod, "apart").as_str()), ("stdout F got\n", ""));
    assert!(shared.join("in/seen").exists());
    bench.runtime.remove_container(&both).await.unwrap();
    coracle_host::mount::umount_below(&shared).unwrap();
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_binary_cannot_be_written_to_from_inside() {
    let bench = Bench::new().await;
    let _pod = bench.pod("binary").await;
    let shims = coracle_host::cgroup::Cgroups::discover().unwrap();
    let shims = shims.group(&format!("{}/shims", bench.cgroup)).unwrap().pids();
    let path = format!("/proc/{}/exe", shims[0]);
    let flags = rustix::fs::statvfs(path).unwrap().f_flag;
    assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sandboxes_of_one_pod_do_not_disturb_each_other() {
    let bench = Bench::new().await;
    let (old, mut config) = (bench.pod("twice").await, bench.pod_config("twice"));
    config.metadata.attempt = 1;
    let new = bench.pod_of(config).await;
    let id = bench.runtime.create_container(&new.id, &bench.config("main", "true"), &new.config).await.unwrap();
    bench.runtime.remove_pod_sandbox(&old.id).await.unwrap();
    bench.runtime.start_container(&id).await.unwrap();
    assert_eq!(bench.wait_exited(&id).await.exit_code, 0);
    bench.end().await;
}

/// Root inside is somebody else outside, also for the files of image and volumes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_may_have_users_of_its_own() {
    let bench = Bench::new().await;
    let mut config = bench.pod_config("users");
    let mapping = vec![IdMapping { host_id: 200_000, container_id: 0, length: 65536 }];
    let users = UserNamespace { uids: mapping.clone(), gids: mapping };
    config.linux.security_context.namespaces.user = Some(users.clone());
    let pod = bench.pod_of(config).await;
    let data = bench.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("before"), "x").unwrap();
    let script = "id -u; stat -c '%u %g' /etc/passwd /data/before /tmp /dev/shm /dev/null /; touch /made /data/made && \
                  stat -c %u /made /data/made; cat /proc/self/uid_map; echo 1 > /proc/sys/kernel/panic; \
                  ip link add dummy0 type veth 2>&1; hostname changed && hostname; mount -t tmpfs none /tmp 2>&1; pwd";
    let mut config = bench.config("main", script);
    config.working_dir = "/new/folder".into();
    config.mounts.push(Mount {
        container_path: "/data".into(),
        host_path: data.to_str().unwrap().into(),
        ..Mount::default()
    });
    config.linux.security_context.add_capabilities = vec!["NET_ADMIN".into(), "SYS_ADMIN".into()];
    let (_, shown) = bench.run_of(&pod, &config).await;
    let expected = "0\n0 0\n0 0\n0 0\n0 0\n65534 65534\n0 0\n0\n0\n         0     200000      65536\n";
    assert!(shown.starts_with(expected), "{shown}");
    assert!(shown.ends_with("changed\n/new/folder"), "{shown}");
    assert_eq!(std::fs::metadata(data.join("made")).map(|made| std::os::unix::fs::MetadataExt::uid(&made)).unwrap(), 0);

    config.command = vec!["sh".into(), "-c".into(), "exec sleep 1000".into()];
    config.args.clear();
    let id = bench.start_of(&pod, &config).await;
    let pid = bench.status(&id).await.pid.unwrap();
    let owner = std::fs::metadata(format!("/proc/{pid}")).map(|process| std::os::unix::fs::MetadataExt::uid(&process));
    assert_eq!(owner.unwrap(), 200_000);
    let command = ["sh", "-c", "id -u; cat /proc/self/uid_map"].map(str::to_owned);
    let done = bench.runtime.exec_sync(&id, &command, None).await.unwrap();
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "0\n         0     200000      65536\n");
    assert_eq!(bench.runtime.pod_sandbox_status(&pod.id).await.unwrap().namespaces.user, Some(users));
    bench.end().await;
}

/// Each container has a folder of its own where the image declares a volume, filled with what the image has there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_of_an_image_are_anonymous() {
    let bench = Bench::new().await;
    let pod = bench.pod("volumes").await;
    let script =
        "stat -c '%a %n' /volume/*; cat /volume/kept; echo new > /volume/new; grep -c ' /volume ' /proc/mounts";
    let mut config = bench.config("main", script);
    config.linux.security_context.readonly_rootfs = true;
    for _ in 0..2 {
        assert_eq!(bench.run_of(&pod, &config).await, (0, "640 /volume/kept\nkept\n1".to_owned()));
    }
    let own = bench.dir.path().join("own");
    std::fs::create_dir(&own).unwrap();
    config.mounts.push(Mount {
        container_path: "/volume".into(),
        host_path: own.to_str().unwrap().into(),
        ..Mount::default()
    });
    config.args = vec!["ls /volume; echo end".into()];
    assert_eq!(bench.run_of(&pod, &config).await, (0, "end".to_owned()));
    bench.end().await;
}
