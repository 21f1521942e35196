//! Environment variables and the fields they may name.

use coracle_api_meta::names;

use crate::at::{At, Errors};
use crate::formats::{config_key, env_name};
use crate::meta::NameRule;

pub(crate) fn variables(variables: &At<'_>, errors: &mut Errors) {
    for variable in variables.items() {
        let name = variable.get("name");
        if name.is_empty() {
            name.required(errors, "");
        } else {
            name.invalid_all(errors, env_name(name.str()));
        }
        if variable.has("valueFrom") {
            value_from(&variable.get("valueFrom"), variable.text("value"), errors);
        }
    }
}

const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn value_from(from: &At<'_>, value: &str, errors: &mut Errors) {
    let mut sources = 0;
    let mut source = |field: &'static str| {
        let found = from.get(field);
        sources += usize::from(found.exists());
        found.exists().then_some(found)
    };
    if let Some(field) = source("fieldRef") {
        object_field(&field, ENV_FIELDS, errors);
    }
    if let Some(resource) = source("resourceFieldRef") {
        resource_field(&resource, false, errors);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(selector) = source(kind) {
            key_selector(&selector, errors);
        }
    }
    if let Some(file) = source("fileKeyRef") {
        file_key(&file, errors);
    }
    if sources == 0 {
        from.invalid_as(
            errors,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        );
    } else if !value.is_empty() {
        from.invalid_as(errors, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        from.invalid_as(errors, "", "may not have more than one field specified at a time");
    }
}

/// Field labels that the downward API reads, though not every place supports every one.
const FIELD_LABELS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
    "spec.host",
];

/// A `fieldRef`.
pub(crate) fn object_field(field: &At<'_>, supported: &[&str], errors: &mut Errors) {
    let (version, path) = (field.get("apiVersion"), field.get("fieldPath"));
    if version.is_empty() {
        return version.required(errors, "");
    }
    if path.is_empty() {
        return path.required(errors, "");
    }
    if version.str() != "v1" {
        return path.invalid(errors, format!("error converting fieldPath: unsupported pod version: {}", version.str()));
    }
    let text = path.str();
    let subscript = text.strip_suffix("']").and_then(|rest| rest.split_once("['"));
    match subscript {
        Some(("metadata.annotations", key)) => {
            for detail in names::is_qualified_name(&key.to_lowercase()) {
                field.invalid_as(errors, key.to_lowercase(), detail);
            }
        }
        Some(("metadata.labels", key)) => {
            for detail in names::is_qualified_name(key) {
                field.invalid_as(errors, key, detail);
            }
        }
        Some((other, _)) if FIELD_LABELS.contains(&other) => {
            path.invalid_as(
                errors,
                text,
                format!("error converting fieldPath: field label does not support subscript: {text}"),
            );
        }
        None if FIELD_LABELS.contains(&text) => {
            let name = if text == "spec.host" { "spec.nodeName" } else { text };
            if !supported.contains(&name) {
                errors.push(coracle_api_meta::FieldError::not_supported(&path.path(), name, supported));
            }
        }
        _ => path.invalid(errors, format!("error converting fieldPath: field label not supported: {text}")),
    }
}

const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
];
const BYTE_DIVISORS: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// A `resourceFieldRef`; of volumes, it must name the container.
pub(crate) fn resource_field(field: &At<'_>, in_volume: bool, errors: &mut Errors) {
    let resource = field.text("resource");
    let huge = resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if in_volume && field.text("containerName").is_empty() {
        field.get("containerName").required(errors, "");
    } else if resource.is_empty() {
        field.get("resource").required(errors, "");
    } else if !RESOURCE_FIELDS.contains(&resource) && !huge {
        field.get("resource").unsupported(errors, RESOURCE_FIELDS);
    }
    let divisor = field.get("divisor");
    let Some(amount) = crate::same::quantity(divisor.value()).filter(|amount| !amount.is_zero()) else { return };
    let text = amount.to_string();
    let bytes = match resource.rsplit('.').next().unwrap_or_default() {
        "cpu" => {
            if !matches!(text.as_str(), "1m" | "1") {
                divisor.invalid_as(
                    errors,
                    resource,
                    "only divisor's values 1m and 1 are supported with the cpu resource",
                );
            }
            return;
        }
        "memory" => "memory",
        "ephemeral-storage" => "local ephemeral storage",
        _ if huge => "hugepages",
        _ => return,
    };
    if !BYTE_DIVISORS.contains(&text.as_str()) {
        let all = BYTE_DIVISORS.join(", ");
        divisor.invalid_as(
            errors,
            resource,
            format!("only divisor's values {all} are supported with the {bytes} resource"),
        );
    }
}

fn key_selector(selector: &At<'_>, errors: &mut Errors) {
    let (name, key) = (selector.get("name"), selector.get("key"));
    name.invalid_all(errors, NameRule::Subdomain.check(name.str(), false));
    if key.is_empty() {
        key.required(errors, "");
    } else {
        key.invalid_all(errors, config_key(key.str()));
    }
}

fn file_key(file: &At<'_>, errors: &mut Errors) {
    let (key, volume, path) = (file.get("key"), file.get("volumeName"), file.get("path"));
    if key.is_empty() {
        key.required(errors, "");
    } else {
        key.invalid_all(errors, env_name(key.str()));
    }
    if volume.is_empty() {
        volume.required(errors, "");
    } else {
        volume.invalid_all(errors, names::is_dns1123_label(volume.str()));
    }
    if path.is_empty() {
        path.required(errors, "");
    } else {
        super::volumes::no_backsteps(&path, errors);
    }
}

pub(crate) fn sources(sources: &At<'_>, errors: &mut Errors) {
    for source in sources.items() {
        let prefix = source.get("prefix");
        if !prefix.is_empty() {
            prefix.invalid_all(errors, env_name(prefix.str()));
        }
        let mut count = 0;
        for reference in ["configMapRef", "secretRef"].map(|field| source.get(field)).iter().filter(|one| one.exists())
        {
            count += 1;
            let name = reference.get("name");
            if name.is_empty() {
                name.required(errors, "");
            } else {
                name.invalid_all(errors, NameRule::Subdomain.check(name.str(), true));
            }
        }
        // Upstream names the list here, and not the element.
        if count == 0 {
            sources.invalid_as(errors, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if count > 1 {
            sources.invalid_as(errors, "", "may not have more than one field specified at a time");
        }
    }
}
