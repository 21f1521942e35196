//! ImageLocality: rather where the images are already.

use super::{SCORE_MAX, State};
use crate::info::{NodeInfo, PodInfo};

const MIN_BYTES: i64 = 23 << 20;
const MAX_BYTES_PER_CONTAINER: i64 = 1000 << 20;

fn full_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || image.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

fn size_on(node: &NodeInfo, image: &str) -> Option<i64> {
    let images = node.node.status.as_ref()?.images.as_ref()?;
    let has = |names: &Option<Vec<String>>| names.iter().flatten().any(|name| name == image);
    images.iter().find(|candidate| has(&candidate.names))?.size_bytes
}

/// Bytes that need not be pulled, weighted by how many nodes have them.
#[must_use]
pub fn score(state: &State<'_>, pod: &PodInfo, node: &NodeInfo) -> i64 {
    let Some(spec) = pod.spec() else { return 0 };
    let nodes = i64::try_from(state.cluster.nodes().len()).unwrap_or(1).max(1);
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut bytes = 0;
    let mut count = 0;
    for image in containers.filter_map(|container| container.image.as_deref()) {
        count += 1;
        let image = full_name(image);
        let Some(size) = size_on(node, &image) else { continue };
        let having = state.cluster.nodes().filter(|other| size_on(other, &image).is_some()).count();
        bytes += size / nodes * i64::try_from(having).unwrap_or(1);
    }
    let most = MAX_BYTES_PER_CONTAINER * count;
    if most <= MIN_BYTES { 0 } else { SCORE_MAX * (bytes.clamp(MIN_BYTES, most) - MIN_BYTES) / (most - MIN_BYTES) }
}
