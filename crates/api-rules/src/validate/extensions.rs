//! Custom resource definitions, but for what their schemas say, and aggregated servers.

use base64::Engine;
use coracle_api_meta::{FieldError, FieldPath, Value, names};

use super::webhook;
use crate::at::{At, Errors};
use crate::formats;
use crate::same::same;

const APPROVED: &str = "api-approved.kubernetes.io";
const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const SELECTABLE_FIELDS_MAX: usize = 8;

pub fn definition(definition: &At<'_>, errors: &mut Errors) {
    if definition.get("metadata").text("name") != full_name(definition) {
        let name = definition.dig("metadata.name");
        name.invalid(errors, r#"must be spec.names.plural+"."+spec.group"#);
    }
    spec(&definition.get("spec"), true, errors);
    status(definition, errors);
    approval(definition, None, errors);
    preserve_unknown_fields(definition, errors);
}

pub fn definition_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let known = before.dig("conversion.webhook.conversionReviewVersions");
    self::spec(&spec, known.is_empty() || webhook::knows_version(&known), errors);
    let established = old
        .dig("status.conditions")
        .items()
        .iter()
        .any(|condition| condition.text("type") == "Established" && condition.text("status") == "True");
    if established {
        spec.get("scope").immutable(errors, &before.get("scope"));
        spec.dig("names.kind").immutable(errors, &before.dig("names.kind"));
    }
    spec.get("group").immutable(errors, &before.get("group"));
    spec.dig("names.plural").immutable(errors, &before.dig("names.plural"));
    status(new, errors);
    approval(new, Some(old), errors);
    if !before.flag("preserveUnknownFields") {
        preserve_unknown_fields(new, errors);
    }
}

pub fn definition_status(new: &At<'_>, _old: &At<'_>, errors: &mut Errors) {
    self::names(&new.dig("status.acceptedNames"), errors);
}

fn full_name(definition: &At<'_>) -> String {
    let spec = definition.get("spec");
    format!("{}.{}", spec.get("names").text("plural"), spec.text("group"))
}

/// Where upstream reports a field of a version: at the top if all versions say the same.
fn version_part<'v>(spec: &At<'v>, version: &At<'v>, field: &'v str) -> At<'v> {
    let versions = spec.get("versions").items();
    let first = versions.first().map(|version| version.get(field));
    let shared = first.filter(|first| {
        !first.is_empty() && versions.iter().all(|version| same(version.get(field).value(), first.value()))
    });
    let top = if field == "schema" { "validation" } else { field };
    shared.map_or_else(|| version.get(field), |shared| spec.get(top).with(shared.value()))
}

/// The part of each version, or the one part of all.
fn parts<'v>(spec: &At<'v>, field: &'v str) -> Vec<At<'v>> {
    let versions = spec.get("versions").items();
    let shared = versions.first().is_some_and(|first| {
        !first.get(field).is_empty()
            && versions.iter().all(|version| same(version.get(field).value(), first.get(field).value()))
    });
    let count = if shared { 1 } else { versions.len() };
    versions.iter().take(count).map(|version| version_part(spec, version, field)).collect()
}

fn spec(spec: &At<'_>, known_review: bool, errors: &mut Errors) {
    let group = spec.get("group");
    let bad = names::is_dns1123_subdomain(group.str());
    if group.is_empty() {
        group.required(errors, "");
    } else if !bad.is_empty() {
        group.invalid(errors, bad.join(","));
    } else if !group.str().contains('.') {
        group.invalid(errors, "should be a domain with at least one dot");
    }
    let scope = spec.get("scope");
    scope.required_one_of(errors, &["Cluster", "Namespaced"]);
    let versions = spec.get("versions");
    for version in versions.items() {
        let schema = version.get("schema").get("openAPIV3Schema");
        if !schema.exists() {
            schema.required(errors, "");
        }
    }
    let mut seen = Vec::new();
    for version in versions.items() {
        let name = version.get("name");
        let bad = names::is_dns1035_label(name.str());
        if !bad.is_empty() {
            name.invalid(errors, bad.join(","));
        }
        seen.push(name.str());
        deprecation_warning(&version, errors);
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    if seen.len() != count {
        versions.invalid(errors, "must contain unique version names");
    }
    if versions.items().iter().filter(|version| version.flag("storage")).count() != 1 {
        versions.invalid(errors, "must have exactly one version marked as storage version");
    }
    let names = spec.get("names");
    for field in ["plural", "singular", "kind", "listKind"] {
        if names.get(field).is_empty() {
            names.get(field).required(errors, "");
        }
    }
    self::names(&names, errors);
    parts(spec, "subresources").iter().for_each(|part| subresources(part, errors));
    for columns in parts(spec, "additionalPrinterColumns") {
        columns.items().iter().for_each(|one| column(one, errors));
    }
    parts(spec, "selectableFields").iter().for_each(|fields| selectable_fields(fields, errors));
    conversion(&spec.get("conversion"), known_review, errors);
}

fn deprecation_warning(version: &At<'_>, errors: &mut Errors) {
    let warning = version.get("deprecationWarning");
    if !warning.exists() {
        return;
    }
    if !version.flag("deprecated") {
        return warning.invalid(errors, "can only be set for deprecated versions");
    }
    if warning.str().len() > 256 {
        warning.invalid(errors, "must be <= 256 characters long");
    }
    if warning.str().is_empty() {
        warning.invalid(errors, "must not be an empty string");
    }
    if let Some((index, _)) = warning.str().char_indices().find(|(_, letter)| letter.is_control()) {
        let only = "must only contain printable UTF-8 characters";
        warning.invalid(errors, format!("{only}; non-printable character found at index {index}"));
    }
}

fn names(names: &At<'_>, errors: &mut Errors) {
    let check = |at: &At<'_>, mixed: bool, errors: &mut Errors| {
        let text = if mixed { at.str().to_lowercase() } else { at.str().to_owned() };
        let bad = names::is_dns1035_label(&text).join(",");
        if bad.is_empty() {
            return;
        }
        at.invalid(errors, if mixed { format!("may have mixed case, but should otherwise match: {bad}") } else { bad });
    };
    for (field, mixed) in [("plural", false), ("singular", false), ("kind", true), ("listKind", true)] {
        let name = names.get(field);
        if !name.is_empty() {
            check(&name, mixed, errors);
        }
    }
    names.get("shortNames").items().iter().for_each(|name| check(name, false, errors));
    let (kind, list) = (names.get("kind"), names.get("listKind"));
    if !kind.is_empty() && kind.str() == list.str() {
        list.invalid(errors, "kind and listKind may not be the same");
    }
    names.get("categories").items().iter().for_each(|name| check(name, false, errors));
}

fn simple_path(path: &At<'_>, errors: &mut Errors) -> bool {
    let good = path.str().starts_with('.');
    if !good {
        path.invalid(errors, "must be a simple json path starting with .");
    }
    good
}

fn subresources(subresources: &At<'_>, errors: &mut Errors) {
    let scale = subresources.get("scale");
    if !scale.exists() {
        return;
    }
    for (field, root, under) in [
        ("specReplicasPath", ".spec.", "should be a json path under .spec"),
        ("statusReplicasPath", ".status.", "should be a json path under .status"),
    ] {
        let path = scale.get(field);
        if path.is_empty() {
            path.required(errors, "");
        } else if simple_path(&path, errors) && !path.str().starts_with(root) {
            path.invalid(errors, under);
        }
    }
    let path = scale.get("labelSelectorPath");
    let under = [".spec.", ".status."].iter().any(|root| path.str().starts_with(root));
    if !path.is_empty() && simple_path(&path, errors) && !under {
        path.invalid(errors, "should be a json path under either .spec or .status");
    }
}

fn column(column: &At<'_>, errors: &mut Errors) {
    let get = |field| column.get(field);
    let (name, kind, format, path) = (get("name"), get("type"), get("format"), get("jsonPath"));
    if name.is_empty() {
        name.required(errors, "");
    }
    let types = format!("must be one of {}", COLUMN_TYPES.join(","));
    if kind.is_empty() {
        kind.required(errors, types);
    } else if !COLUMN_TYPES.contains(&kind.str()) {
        kind.invalid(errors, types);
    }
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format.str()) {
        format.invalid(errors, format!("must be one of {}", COLUMN_FORMATS.join(",")));
    }
    // Upstream says the field's name of the first beta.
    let path = column.get("JSONPath").with(path.value());
    if path.is_empty() {
        path.required(errors, "");
    } else {
        simple_path(&path, errors);
    }
}

fn selectable_fields(fields: &At<'_>, errors: &mut Errors) {
    let mut seen = Vec::new();
    for field in fields.items() {
        let path = field.get("jsonPath");
        if path.is_empty() {
            path.required(errors, "");
            continue;
        }
        if path.str().starts_with(".metadata.") {
            path.invalid(errors, "must not point to fields in metadata");
        }
        if seen.contains(&path.str()) {
            path.duplicate(errors);
        } else {
            seen.push(path.str());
        }
    }
    if seen.len() > SELECTABLE_FIELDS_MAX {
        errors.push(FieldError::too_many(&fields.path(), seen.len(), SELECTABLE_FIELDS_MAX));
    }
}

fn conversion(conversion: &At<'_>, known_review: bool, errors: &mut Errors) {
    if !conversion.exists() {
        return;
    }
    let strategy = conversion.get("strategy");
    strategy.required_one_of(errors, &["None", "Webhook"]);
    let webhook = conversion.get("webhook");
    // Upstream's internal form has both beside the strategy.
    let (config, versions) = (webhook.get("clientConfig"), webhook.get("conversionReviewVersions"));
    let config = conversion.get("webhookClientConfig").with(config.value());
    let versions = conversion.get("conversionReviewVersions").with(versions.value());
    if strategy.str() == "Webhook" {
        if config.exists() {
            webhook::client(&config, errors);
        } else {
            config.required(errors, "required when strategy is set to Webhook");
        }
        webhook::review_versions(&versions, "", known_review, errors);
    } else {
        let detail = "should not be set when strategy is not set to Webhook";
        if config.exists() {
            config.forbidden(errors, detail);
        }
        if !versions.is_empty() {
            versions.forbidden(errors, detail);
        }
    }
}

fn status(definition: &At<'_>, errors: &mut Errors) {
    self::names(&definition.dig("status.acceptedNames"), errors);
    let stored = definition.dig("status.storedVersions");
    if stored.is_empty() {
        return stored.invalid_as(errors, Value::Null, "must have at least one stored version");
    }
    let versions = definition.dig("spec.versions").items();
    let names = stored.strings();
    for version in &versions {
        let name = version.text("name");
        if version.flag("storage") && !names.contains(&name) {
            stored.invalid(errors, format!("must have the storage version {name}"));
        }
    }
    for name in stored.items() {
        let text = name.str();
        if !versions.iter().any(|version| version.text("name") == text) {
            let detail = format!(
                "missing from spec.versions; {text} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {text} and removes {text} from status.storedVersions"
            );
            name.invalid(errors, detail);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Approval {
    Missing,
    Invalid,
    Given,
    Bypassed,
}

fn approval_of(definition: &At<'_>) -> Approval {
    match definition.dig("metadata.annotations").text(APPROVED) {
        "" => Approval::Missing,
        text if text.starts_with("unapproved") => Approval::Bypassed,
        text if text.split_once("://").is_some_and(|(_, rest)| !rest.is_empty() && !rest.starts_with('/')) => {
            Approval::Given
        }
        _ => Approval::Invalid,
    }
}

/// Groups of the project itself need a word from it.
fn approval(new: &At<'_>, old: Option<&At<'_>>, errors: &mut Errors) {
    let group = new.get("spec").text("group");
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|root| group.strip_suffix(root).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    let state = approval_of(new);
    if !protected || old.is_some_and(|old| approval_of(old) == state) {
        return;
    }
    let path = FieldPath::new("metadata").child("annotations").key(APPROVED);
    match state {
        Approval::Missing => {
            let detail = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111";
            errors.push(FieldError::required(&path, detail));
        }
        Approval::Invalid => {
            let text = new.dig("metadata.annotations").text(APPROVED);
            let detail = "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111";
            errors.push(FieldError::invalid(&path, text, detail));
        }
        Approval::Given | Approval::Bypassed => {}
    }
}

fn preserve_unknown_fields(definition: &At<'_>, errors: &mut Errors) {
    let flag = definition.dig("spec.preserveUnknownFields");
    if flag.bool() {
        let instead = "set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        flag.invalid(errors, format!("cannot set to true, {instead}"));
    }
}

pub fn api_service(service: &At<'_>, errors: &mut Errors) {
    let spec = service.get("spec");
    let (group, version) = (spec.get("group"), spec.get("version"));
    let name = service.dig("metadata.name");
    let wanted = format!("{}.{}", version.str(), group.str());
    if name.str() != wanted && names::is_path_segment(name.str()).is_empty() {
        name.invalid(errors, format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"));
    }
    if group.is_empty() && version.str() != "v1" {
        group.required(errors, "only v1 may have an empty group and it better be legacy kube");
    }
    if !group.is_empty() {
        group.invalid_all(errors, names::is_dns1123_subdomain(group.str()));
    }
    version.invalid_all(errors, names::is_dns1035_label(version.str()));
    for (field, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = spec.get(field);
        if !(1..=max).contains(&priority.int()) {
            priority.invalid_as(errors, priority.int(), format!("must be positive and less than {max}"));
        }
    }
    let (target, bundle, insecure) = (spec.get("service"), spec.get("caBundle"), spec.get("insecureSkipTLSVerify"));
    if !target.exists() {
        if !bundle.is_empty() {
            let bytes = base64::engine::general_purpose::STANDARD.decode(bundle.str()).map_or(0, |bytes| bytes.len());
            bundle.invalid_as(errors, format!("{bytes} bytes"), "local APIServices may not have a caBundle");
        }
        if insecure.bool() {
            insecure.invalid(errors, "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    }
    for field in ["namespace", "name"] {
        if target.get(field).is_empty() {
            target.get(field).required(errors, "");
        }
    }
    let port = target.get("port");
    let bad = formats::port_number(port.int());
    if !bad.is_empty() {
        port.invalid_as(errors, port.int(), format!("port is not valid: {}", bad.join(", ")));
    }
    if insecure.bool() && !bundle.is_empty() {
        insecure.invalid(errors, "may not be true if caBundle is present");
    }
}

pub fn api_service_status(new: &At<'_>, _old: &At<'_>, errors: &mut Errors) {
    for condition in new.dig("status.conditions").items() {
        condition.get("status").one_of(errors, &["True", "False", "Unknown"]);
    }
}
