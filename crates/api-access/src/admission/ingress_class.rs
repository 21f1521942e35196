//! DefaultIngressClass. Source: `plugin/pkg/admission/network/defaultingressclass`.

use coracle_api_meta::Value;

use super::storage::newest;
use super::{Lookup, Request, annotation, set};
use coracle_api_meta::object::ObjectExt;

const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
const OLD_CLASS: &str = "kubernetes.io/ingress.class";

pub(super) fn mutate(request: &Request<'_>, ingress: &mut Value, lookup: &dyn Lookup) {
    let named = ingress.at(&["spec", "ingressClassName"]).is_some_and(|name| !name.is_null());
    if !request.is_new("networking.k8s.io", "ingresses") || named || annotation(ingress, OLD_CLASS).is_some() {
        return;
    }
    let mut classes = lookup.all("networking.k8s.io", "ingressclasses", "");
    classes.retain(|class| annotation(class, DEFAULT) == Some("true"));
    if let (Some(class), Some(spec)) = (newest(classes), ingress.get_mut("spec")) {
        set(spec, "ingressClassName", class.name());
    }
}
