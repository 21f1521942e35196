//! The whole thing, as a user has it: the real binary, a registry from Debian's packages, stock kubectl.
//!
//! One cluster serves all scenarios; each works in a namespace of its own, side by side with the others. Then the cluster is
//! killed, started again, stopped and removed.

mod scenarios;

use std::panic::{AssertUnwindSafe, catch_unwind};

use coracle_testkit::{Cluster, Options, Registry, busybox_files, write_layout};
use scenarios::World;

#[test]
fn a_cluster_from_start_to_reset() {
    let cluster = Cluster::start(Options {
        binary: env!("CARGO_BIN_EXE_coracle").into(),
        pod_cidr: "10.241.0.0/24".to_owned(),
        service_cidr: "10.113.0.0/16".to_owned(),
        arguments: vec!["--log".to_owned(), "info,nlink=error".to_owned()],
    })
    .expect("the cluster starts");
    let registry = Registry::start().expect("the registry starts");
    let layout = cluster.scratch().join("busybox");
    write_layout(&layout, "1.0", &busybox_files().expect("busybox")).expect("layout");
    for tag in ["1.0", "2.0", "3.0"] {
        registry.push(&layout, "1.0", &format!("busybox:{tag}")).expect("push");
    }
    let mut world = World {
        image: registry.image("busybox:1.0"),
        other_image: registry.image("busybox:2.0"),
        own_image: registry.image("busybox:3.0"),
        cluster,
    };

    let failures: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = scenarios::ALL
            .iter()
            .map(|(name, scenario)| {
                let world = &world;
                scope.spawn(move || {
                    let kubectl = world.namespace(name);
                    let begin = std::time::Instant::now();
                    let result = catch_unwind(AssertUnwindSafe(|| scenario(world, &kubectl)));
                    println!("{name}: {} in {:?}", if result.is_ok() { "good" } else { "FAILED" }, begin.elapsed());
                    result.err().map(|_| (*name).to_owned())
                })
            })
            .collect();
        running.into_iter().filter_map(|scenario| scenario.join().expect("panics are caught")).collect()
    });
    if !failures.is_empty() {
        eprintln!("log of the cluster:\n{}", tail(&world.cluster.log()));
        panic!("failed: {failures:?}");
    }
    scenarios::rights::nothing_of_ours_is_refused(&world);
    scenarios::restart::survives_sigkill(&mut world);
    scenarios::restart::stops_and_goes_on(&mut world);
    scenarios::reset::leaves_nothing(&mut world);
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(200)..].join("\n")
}

#[test]
fn the_demo_answers() {
    let cluster = Cluster::start(Options {
        binary: env!("CARGO_BIN_EXE_coracle").into(),
        pod_cidr: "10.242.0.0/24".to_owned(),
        service_cidr: "10.114.0.0/16".to_owned(),
        arguments: vec!["--demo".to_owned()],
    })
    .expect("the cluster starts");
    let shown = coracle_testkit::wait_for("the demo's answer", std::time::Duration::from_secs(90), || {
        let output = cluster.output();
        output.contains("answers:").then_some(output)
    });
    assert!(shown.contains("http://demo.default.svc.cluster.local/ answers: Hello from demo-"), "{shown}");
    let own = cluster.coracle(&["kubectl", "get", "deployment", "demo", "-o", "jsonpath={.status.availableReplicas}"]);
    assert_eq!(String::from_utf8_lossy(&own.expect("kubectl").stdout), "2");
}
