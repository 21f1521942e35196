//! Which objects lead to which nodes: through pods, claims, volumes and attachments. Kept from request to request; only
//! what changed since is read again. Source: `plugin/pkg/auth/authorizer/node/graph.go`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coracle_api_access::node::{self, Paths};
use coracle_api_meta::Value;
use coracle_api_meta::object::ObjectExt;
use coracle_store::{Entry, Revision, Store};

/// `resource`, `namespace`, `name`.
type Place = (String, String, String);

/// What an object leads to.
#[derive(Default)]
struct Lead {
    modified: Revision,
    node: String,
    places: Vec<Place>,
}

#[derive(Default)]
struct Collection {
    seen: Option<Revision>,
    leads: HashMap<Arc<str>, Lead>,
}

#[derive(Default)]
struct State {
    collections: HashMap<&'static str, Collection>,
    /// By node.
    reach: HashMap<String, HashSet<Place>>,
}

/// The objects that each node reaches.
#[derive(Default)]
pub(super) struct Graph(Mutex<State>);

/// Collections whose objects lead to nodes, and what reads them.
const SOURCES: [(&str, fn(&Value) -> Lead); 4] = [
    ("pods", of_pod),
    ("storage.k8s.io/volumeattachments", of_attachment),
    ("resource.k8s.io/resourceslices", of_slice),
    ("certificates.k8s.io/podcertificaterequests", of_certificate_request),
];
/// Followed from what pods name: claims to volumes, volumes to secrets.
const CLAIMS: &str = "persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumes";

fn place(resource: &str, namespace: &str, name: &str) -> Place {
    (resource.to_owned(), namespace.to_owned(), name.to_owned())
}

fn of_pod(pod: &Value) -> Lead {
    let namespace = pod.namespace();
    let mut places = vec![place("pods", namespace, pod.name())];
    places.extend(node::references(pod).into_iter().map(|(resource, name)| place(resource, namespace, name)));
    Lead { node: pod.str_at(&["spec", "nodeName"]).to_owned(), places, ..Lead::default() }
}

fn of_attachment(attachment: &Value) -> Lead {
    let places = vec![place("volumeattachments", "", attachment.name())];
    Lead { node: attachment.str_at(&["spec", "nodeName"]).to_owned(), places, ..Lead::default() }
}

fn of_slice(slice: &Value) -> Lead {
    let places = vec![place("resourceslices", "", slice.name())];
    Lead { node: slice.str_at(&["spec", "nodeName"]).to_owned(), places, ..Lead::default() }
}

fn of_certificate_request(request: &Value) -> Lead {
    let places = vec![place("podcertificaterequests", request.namespace(), request.name())];
    Lead { node: request.str_at(&["spec", "nodeName"]).to_owned(), places, ..Lead::default() }
}

/// The volume of a claim.
fn of_claim(claim: &Value) -> Lead {
    let volume = claim.str_at(&["spec", "volumeName"]);
    let places = if volume.is_empty() { Vec::new() } else { vec![place(VOLUMES, "", volume)] };
    Lead { places, ..Lead::default() }
}

/// The secrets of a volume.
fn of_volume(volume: &Value) -> Lead {
    let claim = volume.str_at(&["spec", "claimRef", "namespace"]);
    let references = ["azureFile", "cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos", "csi"];
    let mut places = Vec::new();
    for source in references {
        let fields = [
            "secretRef",
            "controllerPublishSecretRef",
            "nodePublishSecretRef",
            "nodeStageSecretRef",
            "nodeExpandSecretRef",
            "controllerExpandSecretRef",
        ];
        for field in fields {
            let name = volume.str_at(&["spec", source, field, "name"]);
            let namespace = volume.str_at(&["spec", source, field, "namespace"]);
            if !name.is_empty() {
                places.push(place("secrets", if namespace.is_empty() { claim } else { namespace }, name));
            }
        }
        let (name, namespace) =
            (volume.str_at(&["spec", source, "secretName"]), volume.str_at(&["spec", source, "secretNamespace"]));
        if !name.is_empty() {
            places.push(place("secrets", if namespace.is_empty() { claim } else { namespace }, name));
        }
    }
    Lead { places, ..Lead::default() }
}

impl Graph {
    /// The graph of what the store holds now.
    pub(super) fn of(&self, store: &dyn Store) -> Reach<'_> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = false;
        for (collection, read) in SOURCES
            .into_iter()
            .chain([(CLAIMS, of_claim as fn(&Value) -> Lead), (VOLUMES, of_volume as fn(&Value) -> Lead)])
        {
            changed |= state.collections.entry(collection).or_default().refresh(store, collection, read);
        }
        if changed {
            state.reach = state.reach_of_all();
        }
        Reach(state)
    }
}

impl Collection {
    /// Reads what was written since; whether anything leads elsewhere now.
    fn refresh(&mut self, store: &dyn Store, collection: &str, read: fn(&Value) -> Lead) -> bool {
        let revision = store.local_collection_revision(collection);
        if self.seen == Some(revision) {
            return false;
        }
        self.seen = Some(revision);
        let entries: Vec<Arc<Entry>> = store.local_range(collection, "");
        let mut changed = entries.len() != self.leads.len();
        let mut leads = HashMap::with_capacity(entries.len());
        for entry in entries {
            let old = self.leads.remove(entry.name());
            let lead = match old {
                Some(old) if old.modified == entry.modified => old,
                old => {
                    let object: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
                    let lead = Lead { modified: entry.modified, ..read(&object) };
                    changed |= old.is_none_or(|old| old.node != lead.node || old.places != lead.places);
                    lead
                }
            };
            leads.insert(Arc::from(entry.name()), lead);
        }
        self.leads = leads;
        changed
    }
}

impl State {
    fn reach_of_all(&self) -> HashMap<String, HashSet<Place>> {
        let mut reach: HashMap<String, HashSet<Place>> = HashMap::new();
        for (collection, _) in SOURCES {
            let leads = self.collections.get(collection).into_iter().flat_map(|collection| collection.leads.values());
            for lead in leads.filter(|lead| !lead.node.is_empty()) {
                let known = reach.entry(lead.node.clone()).or_default();
                for place in &lead.places {
                    self.follow(place, known);
                }
            }
        }
        reach
    }

    fn follow(&self, place: &Place, known: &mut HashSet<Place>) {
        if !known.insert(place.clone()) {
            return;
        }
        let (resource, namespace, name) = place;
        let item = if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") };
        let next = match resource.as_str() {
            CLAIMS | VOLUMES => self.collections.get(resource.as_str()).and_then(|own| own.leads.get(item.as_str())),
            _ => None,
        };
        for place in next.into_iter().flat_map(|lead| &lead.places) {
            self.follow(place, known);
        }
    }
}

/// The graph, while it is asked.
pub(super) struct Reach<'a>(MutexGuard<'a, State>);

impl Paths for Reach<'_> {
    fn lead(&self, node: &str, resource: &str, namespace: &str, name: &str) -> bool {
        self.0.reach.get(node).is_some_and(|known| known.contains(&place(resource, namespace, name)))
    }
}
