//! Resources whose objects are computed when they are asked for: what nodes and pods use.

use std::sync::{Arc, LazyLock};

use coracle_api_meta::object::ObjectExt;
use coracle_api_meta::{FieldSelector, LabelSelector, Status, Value};
use http::StatusCode;
use serde_json::json;

use super::forms::{self, Include};
use super::resources::Resource;
use super::{Target, storage};
use crate::http::negotiate::Form;
use crate::http::{Ctx, Reply, reply};

pub(crate) const GROUP: &str = "metrics.k8s.io";

/// The rows of `metrics.k8s.io/v1beta1`, written as definitions of custom resources are.
pub(crate) fn rows() -> &'static [Arc<Resource>] {
    static ROWS: LazyLock<Vec<Arc<Resource>>> = LazyLock::new(|| {
        let quantities = json!({"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": true}});
        let times = json!({"timestamp": {"type": "string", "format": "date-time"}, "window": {"type": "string"}});
        let container = json!({"type": "object", "properties": {"name": {"type": "string"}, "usage": quantities}});
        let nodes = ("NodeMetrics", "nodes", "Cluster", "usage", quantities);
        let pods = ("PodMetrics", "pods", "Namespaced", "containers", json!({"type": "array", "items": container}));
        [nodes, pods].into_iter().flat_map(|(kind, plural, scope, field, of)| {
            let mut properties = times.clone();
            properties[field] = of;
            let columns = [("CPU", ".usage.cpu"), ("Memory", ".usage.memory"), ("Window", ".window")];
            let columns: Vec<Value> = columns
                .iter()
                .filter(|(_, path)| kind == "NodeMetrics" || *path == ".window")
                .map(|(name, path)| json!({"name": name, "type": "string", "jsonPath": path}))
                .collect();
            let definition = json!({"spec": {
                "group": GROUP, "scope": scope, "names": {"plural": plural, "kind": kind, "singular": plural.trim_end_matches('s')},
                "versions": [{"name": "v1beta1", "served": true, "storage": true, "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}}],
            }});
            crate::subresources::crd::rows_of(&definition).into_iter().map(|row| {
                let verbs = vec!["get".to_owned(), "list".to_owned()];
                Arc::new(Resource { stored: false, verbs, ..Resource::clone(&row) })
            })
        }).collect()
    });
    &ROWS
}

pub(crate) async fn handle(ctx: &Arc<Ctx>, target: &Target) -> Result<Reply, Status> {
    let source = ctx.server.config.metrics.as_ref().ok_or_else(Status::no_such_path)?;
    let resource = &target.resource;
    let mut objects = source.list(&resource.plural, &target.namespace).await?;
    let accept = ctx.accept()?;
    if !target.name.is_empty() {
        let found = objects.into_iter().find(|own| own.name() == target.name);
        let found = found.ok_or_else(|| Status::not_found(&resource.gvr(), &target.name))?;
        return forms::one(ctx, resource, StatusCode::OK, found.to_string().into());
    }
    select(ctx, &mut objects)?;
    let meta = json!({"resourceVersion": ctx.server.store.local_revision().0.to_string()});
    let list = match accept.form {
        Form::Table => forms::table(resource, &objects, meta, &accept, Include::read(ctx)?, true),
        Form::PartialMetadata => {
            let items: Vec<Value> = objects.iter().map(|own| forms::partial(own, &accept)).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": forms::api_version(&accept), "metadata": meta, "items": items})
        }
        Form::Whole => {
            json!({"kind": resource.list_kind, "apiVersion": format!("{GROUP}/v1beta1"), "metadata": meta, "items": objects})
        }
    };
    reply::encoded(StatusCode::OK, &accept, list.to_string().into())
}

fn select(ctx: &Ctx, objects: &mut Vec<Value>) -> Result<(), Status> {
    let labels = LabelSelector::parse(ctx.query.get("labelSelector"))
        .map_err(|error| Status::bad_request(format!("unable to parse requirement: {error}")))?;
    let fields =
        FieldSelector::parse(ctx.query.get("fieldSelector")).map_err(|error| Status::bad_request(error.to_string()))?;
    if let Some(term) =
        fields.terms.iter().find(|term| !matches!(term.field.as_str(), "metadata.name" | "metadata.namespace"))
    {
        return Err(Status::bad_request(format!("field label not supported: {}", term.field)));
    }
    objects.retain(|own| {
        let field = |name: &str| std::borrow::Cow::Borrowed(own.meta_str(name.trim_start_matches("metadata.")));
        labels.matches(own.labels()) && fields.matches_with(field)
    });
    // A continue token is never given out: the lists are short.
    storage::revision(ctx.query.get("resourceVersion")).map(drop)
}
