//! What a user does, one scenario a module.

mod access;
mod bad_input;
mod clients;
mod config;
mod network;
mod node;
mod pods;
pub mod reset;
pub mod restart;
pub mod rights;
mod verbs;
mod workloads;

use std::time::Duration;

use coracle_testkit::{Cluster, Kubectl};

/// What the scenarios share.
pub struct World {
    pub cluster: Cluster,
    /// busybox, in a registry of this host.
    pub image: String,
    /// The same under another tag.
    pub other_image: String,
    /// A third tag, for the one scenario that must see an image pulled.
    pub own_image: String,
}

/// For things that take a pod's start.
pub const SOON: Duration = Duration::from_secs(60);

impl World {
    /// A namespace for one scenario.
    pub fn namespace(&self, name: &str) -> Kubectl {
        let namespace = name.replace('_', "-");
        let _ = self.cluster.kubectl("default").ok(&["create", "namespace", &namespace]);
        self.cluster.kubectl(&namespace)
    }
}

type Scenario = fn(&World, &Kubectl);

/// Every scenario that may run beside the others.
pub const ALL: &[(&str, Scenario)] = &[
    ("discovery", verbs::discovery),
    ("reading", verbs::reading),
    ("writing", verbs::writing),
    ("server_side_apply", verbs::server_side_apply),
    ("port_taken", pods::two_containers_want_one_port),
    ("init_containers", pods::init_containers_wait_for_services),
    ("probes", pods::probes_and_hooks),
    ("limits", pods::limits_and_security),
    ("by_hand", node::bound_by_hand),
    ("resize", node::resized_in_place),
    ("full_volumes", node::full_volumes),
    ("pull_secrets", node::pull_secrets),
    ("attached", node::attached),
    ("own_users", node::own_users),
    ("of_a_file", node::of_a_file),
    ("local_volumes", node::local_volumes),
    ("configuration", config::every_source_of_configuration),
    ("service_accounts", config::pods_call_the_api),
    ("deployments", workloads::scaled_rolled_and_rolled_back),
    ("services", workloads::services_by_every_way),
    ("networking", network::services_names_and_host_ports),
    ("quotas", workloads::quotas_hold_in_haste),
    ("garbage", workloads::owners_take_their_objects_along),
    ("autoscaling", workloads::scaled_by_load),
    ("exec", access::exec_logs_copy_and_forward),
    ("python", clients::python),
    ("bad_manifests", bad_input::manifests),
    ("bad_images", bad_input::images),
];
