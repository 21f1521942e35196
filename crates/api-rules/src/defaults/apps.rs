//! Defaults of group `apps`. Source: `pkg/apis/apps/v1/defaults.go`.

use coracle_api_meta::Value;

use super::core::persistent_volume_claim;
use super::pod::template;
use crate::edit::{blank, each, fill, fill_blank, fill_empty, make, object, put};

fn is(value: &Value, field: &str, expected: &str) -> bool {
    value.get(field).and_then(Value::as_str) == Some(expected)
}

pub fn deployment(deployment: &mut Value) {
    fill_empty(deployment, "status");
    let Some(spec) = make(deployment, "spec") else { return };
    fill(spec, "replicas", 1);
    template(spec, "template");
    if let Some(strategy) = make(spec, "strategy") {
        fill_blank(strategy, "type", "RollingUpdate");
        if is(strategy, "type", "RollingUpdate")
            && let Some(rolling) = make(strategy, "rollingUpdate")
        {
            fill(rolling, "maxUnavailable", "25%");
            fill(rolling, "maxSurge", "25%");
        }
    }
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
}

pub fn replica_set(set: &mut Value) {
    if let Some(spec) = make(set, "spec") {
        fill(spec, "replicas", 1);
        template(spec, "template");
    }
    if let Some(status) = make(set, "status") {
        fill(status, "replicas", 0);
    }
}

pub fn daemon_set(set: &mut Value) {
    if let Some(spec) = make(set, "spec") {
        template(spec, "template");
        if let Some(strategy) = make(spec, "updateStrategy") {
            fill_blank(strategy, "type", "RollingUpdate");
            if is(strategy, "type", "RollingUpdate")
                && let Some(rolling) = make(strategy, "rollingUpdate")
            {
                fill(rolling, "maxUnavailable", 1);
                fill(rolling, "maxSurge", 0);
            }
        }
        fill(spec, "revisionHistoryLimit", 10);
    }
    if let Some(status) = make(set, "status") {
        for field in ["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"] {
            fill(status, field, 0);
        }
    }
}

pub fn stateful_set(set: &mut Value) {
    if let Some(spec) = make(set, "spec") {
        fill_blank(spec, "podManagementPolicy", "OrderedReady");
        fill(spec, "serviceName", "");
        template(spec, "template");
        update_strategy(spec);
        if let Some(retention) = make(spec, "persistentVolumeClaimRetentionPolicy") {
            fill_blank(retention, "whenDeleted", "Retain");
            fill_blank(retention, "whenScaled", "Retain");
        }
        fill(spec, "replicas", 1);
        fill(spec, "revisionHistoryLimit", 10);
        for claim in each(spec, "volumeClaimTemplates") {
            put(claim, "apiVersion", "v1");
            put(claim, "kind", "PersistentVolumeClaim");
            fill_empty(claim, "metadata");
            persistent_volume_claim(claim);
        }
    }
    if let Some(status) = make(set, "status") {
        fill(status, "replicas", 0);
        fill(status, "availableReplicas", 0);
    }
}

fn update_strategy(spec: &mut Value) {
    let Some(strategy) = make(spec, "updateStrategy") else { return };
    if blank(strategy, "type") {
        put(strategy, "type", "RollingUpdate");
        fill_empty(strategy, "rollingUpdate");
    }
    if is(strategy, "type", "RollingUpdate")
        && let Some(rolling) = object(strategy, "rollingUpdate")
    {
        fill(rolling, "partition", 0);
    }
}
