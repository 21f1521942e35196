//! Cluster roles that gather the rules of others.

use coracle_api_meta::ObjectKey;
use coracle_api_types::Object;
use coracle_driver::{Planned, Queue, Request, feed_with};
use coracle_plan_controllers::aggregation;
use coracle_plan_core::Plan;

use crate::Context;

pub fn start(context: &Context) {
    let queue = Queue::new();
    let roles = context.informers.cluster_roles.clone();
    feed_with(&context.tasks, &context.stop, &roles, &queue, {
        let roles = roles.clone();
        move |_| {
            let gathering = roles.list().into_iter().filter(|role| aggregation::aggregates(role));
            gathering.map(|role| ObjectKey::new("", role.name())).collect()
        }
    });
    let plan = move |request: &Request<ObjectKey>| match roles.get_key(&request.key) {
        Some(role) => aggregation::plan(&role, &roles.list()),
        None => Plan::nothing(),
    };
    let name = "clusterrole-aggregation-controller";
    context.spawn(Planned::new(name, context.hands(name), plan), &queue, 1);
}
