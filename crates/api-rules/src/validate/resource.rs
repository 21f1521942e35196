//! Devices and claims on them. Whether selectors compile is for whoever can compile them.

use std::collections::{BTreeMap, BTreeSet};

use coracle_api_meta::{FieldError, Value, names};

use super::pod::requirements::{is_extended, is_native};
use super::pod::scheduling::node_selector;
use super::storage::driver_name;
use crate::at::{At, Errors};
use crate::formats::{self, regex};
use crate::meta::{self, label_name};
use crate::same::same;

const REQUESTS_MAX: usize = 32;
const CONSTRAINTS_MAX: usize = 32;
const CONFIGS_MAX: usize = 32;
const SELECTORS_MAX: usize = 32;
const CHOICES_MAX: usize = 8;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;
const PARAMETERS_BYTES_MAX: usize = 10 * 1024;
const RESERVED_MAX: usize = 256;
const RESULTS_MAX: usize = 32;
const DEVICES_MAX: usize = 128;
const RICH_DEVICES_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;
const COUNTERS_MAX: usize = 32;
const CONSUMPTIONS_MAX: usize = 2;
const ATTRIBUTES_MAX: usize = 32;
const ATTRIBUTE_VALUES_MAX: usize = 48;
const ATTRIBUTE_BYTES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 32;
const POOL_BYTES_MAX: usize = 253;
const TAINTS_MAX: usize = 16;
const BINDING_CONDITIONS_MAX: usize = 4;
const STATUS_CONDITIONS_MAX: usize = 8;
const TAINT_EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

/// The elements, unless there are too many to look at.
fn items<'v>(list: &At<'v>, max: usize, errors: &mut Errors) -> Vec<At<'v>> {
    if list.len() > max {
        list.too_many(errors, max);
        return Vec::new();
    }
    list.items()
}

fn unique<'v>(items: &[At<'v>], key: impl Fn(&At<'v>) -> String, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for item in items {
        let key = key(item);
        if !seen.insert(key.clone()) {
            item.duplicate_as(errors, key);
        }
    }
}

fn label(name: &At<'_>, errors: &mut Errors) {
    name.invalid_all(errors, names::is_dns1123_label(name.str()));
}

fn pool_name(name: &At<'_>, errors: &mut Errors) {
    if name.is_empty() {
        return name.required(errors, "");
    }
    if name.str().len() > POOL_BYTES_MAX {
        name.too_long(errors, POOL_BYTES_MAX);
    }
    for part in name.str().split('/') {
        names::is_dns1123_subdomain(part).into_iter().for_each(|detail| name.invalid_as(errors, part, detail));
    }
}

pub fn claim(claim: &At<'_>, errors: &mut Errors) {
    claim_spec(&claim.get("spec"), errors);
}

pub fn claim_template(template: &At<'_>, errors: &mut Errors) {
    let spec = template.get("spec");
    meta::labels(&spec.dig("metadata.labels"), errors);
    meta::annotations(&spec.dig("metadata.annotations"), errors);
    claim_spec(&spec.get("spec"), errors);
}

type Requests<'v> = BTreeMap<&'v str, Vec<&'v str>>;

fn requests_of<'v>(devices: &At<'v>) -> Requests<'v> {
    let name = |at: &At<'v>| at.text("name");
    let requests = devices.get("requests").items();
    requests
        .iter()
        .map(|request| (name(request), request.get("firstAvailable").items().iter().map(name).collect()))
        .collect()
}

fn claim_spec(spec: &At<'_>, errors: &mut Errors) {
    let devices = spec.get("devices");
    let known = requests_of(&devices);
    let requests = items(&devices.get("requests"), REQUESTS_MAX, errors);
    requests.iter().for_each(|one| request(one, errors));
    unique(&requests, |request| request.text("name").to_owned(), errors);
    for constraint in items(&devices.get("constraints"), CONSTRAINTS_MAX, errors) {
        request_refs(&constraint.get("requests"), &known, errors);
        let (same, distinct) = (constraint.get("matchAttribute"), constraint.get("distinctAttribute"));
        if same.exists() {
            full_name(&same, errors);
        } else if distinct.exists() {
            full_name(&distinct, errors);
        } else {
            let detail =
                r#"exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set"#;
            constraint.required(errors, detail);
        }
    }
    for config in items(&devices.get("config"), CONFIGS_MAX, errors) {
        request_refs(&config.get("requests"), &known, errors);
        configuration(&config, errors);
    }
}

fn request(request: &At<'_>, errors: &mut Errors) {
    label(&request.get("name"), errors);
    let (exactly, choices) = (request.get("exactly"), request.get("firstAvailable"));
    let one = "exactly one of `exactly` or `firstAvailable` is required";
    match (exactly.exists(), !choices.is_empty()) {
        (false, false) => request.required(errors, one),
        (true, true) => request.invalid_as(errors, Value::Null, format!("{one}, but multiple fields are set")),
        (true, false) => wanted(&exactly, errors),
        (false, true) => {
            let choices = items(&choices, CHOICES_MAX, errors);
            for choice in &choices {
                label(&choice.get("name"), errors);
                wanted(choice, errors);
            }
            unique(&choices, |choice| choice.text("name").to_owned(), errors);
        }
    }
}

fn wanted(request: &At<'_>, errors: &mut Errors) {
    let class = request.get("deviceClassName");
    if class.is_empty() {
        class.required(errors, "");
    } else {
        class.invalid_all(errors, names::is_dns1123_subdomain(class.str()));
    }
    selectors(&request.get("selectors"), errors);
    let (mode, count) = (request.get("allocationMode"), request.get("count"));
    match mode.str() {
        "All" if count.int() != 0 => {
            count.invalid(errors, "must not be specified when allocationMode is 'All'");
        }
        "ExactCount" => count.positive(errors),
        "All" => {}
        _ => mode.unsupported(errors, &["All", "ExactCount"]),
    }
    request.get("tolerations").items().iter().for_each(|one| toleration(one, errors));
}

fn toleration(toleration: &At<'_>, errors: &mut Errors) {
    let get = |field| toleration.get(field);
    let (key, operator, value, effect) = (get("key"), get("operator"), get("value"), get("effect"));
    if !key.is_empty() {
        label_name(&key, key.str(), errors);
    }
    match operator.str() {
        "Exists" if !value.is_empty() => value.invalid(errors, "must be empty for operator `Exists`"),
        "Exists" => {}
        "Equal" => value.invalid_all(errors, names::is_label_value(value.str())),
        "" => operator.required(errors, ""),
        _ => operator.unsupported(errors, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        effect.one_of(errors, TAINT_EFFECTS);
    }
}

fn selectors(list: &At<'_>, errors: &mut Errors) {
    for selector in items(list, SELECTORS_MAX, errors) {
        let cel = selector.get("cel");
        if !cel.exists() {
            cel.required(errors, "");
            continue;
        }
        if cel.text("expression").len() > EXPRESSION_BYTES_MAX {
            cel.get("expression").too_long(errors, EXPRESSION_BYTES_MAX);
        }
    }
}

fn request_refs(refs: &At<'_>, known: &Requests<'_>, errors: &mut Errors) {
    let refs = items(refs, REQUESTS_MAX, errors);
    refs.iter().for_each(|one| request_ref(one, known, errors));
    unique(&refs, |one| one.str().to_owned(), errors);
}

fn request_ref(name: &At<'_>, known: &Requests<'_>, errors: &mut Errors) {
    let detail =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let parts: Vec<&str> = name.str().split('/').collect();
    if parts.len() > 2 {
        return name.invalid(errors, detail);
    }
    for part in &parts {
        names::is_dns1123_label(part).into_iter().for_each(|detail| name.invalid_as(errors, *part, detail));
    }
    let choices = parts.first().and_then(|first| known.get(first));
    let found = choices.is_some_and(|choices| parts.get(1).is_none_or(|choice| choices.contains(choice)));
    if !found {
        name.invalid(errors, detail);
    }
}

fn configuration(config: &At<'_>, errors: &mut Errors) {
    let opaque = config.get("opaque");
    if opaque.exists() {
        driver_name(&opaque.get("driver"), errors);
        raw(&opaque.get("parameters"), PARAMETERS_BYTES_MAX, errors);
    } else {
        opaque.required(errors, "");
    }
}

/// A JSON object of any kind.
fn raw(value: &At<'_>, bytes_max: usize, errors: &mut Errors) {
    if !value.exists() {
        value.required(errors, "");
    } else if value.value().to_string().len() > bytes_max {
        value.too_long(errors, bytes_max);
    } else if !value.value().is_object() {
        value.invalid_as(errors, "<value omitted>", "must be a valid JSON object");
    }
}

fn full_name(name: &At<'_>, errors: &mut Errors) {
    qualified_name(name, name.str(), errors);
    if !name.str().contains('/') {
        name.invalid(errors, "a fully qualified name must be a domain and a name separated by a slash");
    }
}

fn qualified_name(at: &At<'_>, name: &str, errors: &mut Errors) {
    let identifier = |id: &str, errors: &mut Errors| {
        if id.len() > NAME_BYTES_MAX {
            at.too_long(errors, NAME_BYTES_MAX);
        }
        formats::c_identifier(id).into_iter().for_each(|detail| at.invalid_as(errors, id, detail));
    };
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [id] => identifier(id, errors),
        [domain, id] => {
            if domain.is_empty() {
                at.invalid_as(errors, "", "the domain must not be empty");
            } else {
                let domain = Value::from(*domain);
                driver_name(&At::placed(&domain, at.path()), errors);
            }
            if id.is_empty() {
                at.invalid_as(errors, "", "the name must not be empty");
            } else {
                identifier(id, errors);
            }
        }
        _ => {}
    }
}

pub fn claim_status(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let (status, before) = (new.get("status"), old.get("status"));
    let known = requests_of(&new.dig("spec.devices"));
    let reserved = status.get("reservedFor");
    let consumers = items(&reserved, RESERVED_MAX, errors);
    for consumer in &consumers {
        for field in ["resource", "name", "uid"] {
            if consumer.get(field).is_empty() {
                consumer.get(field).required(errors, "");
            }
        }
    }
    unique(&consumers, |consumer| consumer.text("uid").to_owned(), errors);
    let allocation = status.get("allocation");
    let device = |at: &At<'_>| {
        let id = format!("{}/{}/{}", at.text("driver"), at.text("pool"), at.text("device"));
        if at.text("shareID").is_empty() { id } else { format!("{id}/{}", at.text("shareID")) }
    };
    let allocated: BTreeSet<String> = allocation.dig("devices.results").items().iter().map(device).collect();
    let devices = status.get("devices").items();
    devices.iter().for_each(|one| device_status(one, &device(one), &allocated, errors));
    unique(&devices, device, errors);
    if !reserved.is_empty() && !allocation.exists() {
        reserved.forbidden(errors, "may not be specified when `allocated` is not set");
    } else if !new.dig("metadata.deletionTimestamp").is_empty() {
        let known = before.get("reservedFor").items();
        let is_new = |one: &At<'_>| !known.iter().any(|known| same(known.value(), one.value()));
        if consumers.iter().any(is_new) {
            let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            reserved.forbidden(errors, detail);
        }
    }
    if before.has("allocation") && allocation.exists() {
        allocation.immutable(errors, &before.get("allocation"));
    } else if allocation.exists() {
        self::allocation(&allocation, &known, errors);
    }
}

fn device_status(device: &At<'_>, id: &str, allocated: &BTreeSet<String>, errors: &mut Errors) {
    driver_name(&device.get("driver"), errors);
    pool_name(&device.get("pool"), errors);
    label(&device.get("device"), errors);
    if !allocated.contains(id) {
        device.invalid_as(errors, id, "must be an allocated device in the claim");
    }
    let conditions = device.get("conditions");
    if conditions.len() > STATUS_CONDITIONS_MAX {
        conditions.too_many(errors, STATUS_CONDITIONS_MAX);
    }
    meta::conditions(&conditions, errors);
    if device.has("data") {
        raw(&device.get("data"), PARAMETERS_BYTES_MAX, errors);
    }
}

fn allocation(allocation: &At<'_>, known: &Requests<'_>, errors: &mut Errors) {
    let devices = allocation.get("devices");
    for result in items(&devices.get("results"), RESULTS_MAX, errors) {
        request_ref(&result.get("request"), known, errors);
        driver_name(&result.get("driver"), errors);
        pool_name(&result.get("pool"), errors);
        label(&result.get("device"), errors);
        binding_conditions(&result, errors);
    }
    for config in items(&devices.get("config"), 2 * CONFIGS_MAX, errors) {
        config.get("source").required_one_of(errors, &["FromClaim", "FromClass"]);
        request_refs(&config.get("requests"), known, errors);
        configuration(&config, errors);
    }
    if allocation.has("nodeSelector") {
        node_selector(&allocation.get("nodeSelector"), errors);
    }
}

fn binding_conditions(device: &At<'_>, errors: &mut Errors) {
    let (wanted, failing) = (device.get("bindingConditions"), device.get("bindingFailureConditions"));
    for list in [&wanted, &failing] {
        items(list, BINDING_CONDITIONS_MAX, errors).iter().for_each(|name| label_name(name, name.str(), errors));
    }
    unique(&wanted.items(), |name| name.str().to_owned(), errors);
    unique(&failing.items(), |name| name.str().to_owned(), errors);
    for name in failing.items().iter().filter(|name| wanted.strings().contains(&name.str())) {
        name.invalid(errors, "bindingFailureConditions must not overlap with bindingConditions");
    }
    if wanted.is_empty() && !failing.is_empty() {
        wanted.invalid(errors, "bindingConditions are required to use bindingFailureConditions");
    }
    if failing.is_empty() && !wanted.is_empty() {
        failing.invalid(errors, "bindingFailureConditions are required to use bindingConditions");
    }
}

pub fn device_class(class: &At<'_>, errors: &mut Errors) {
    let spec = class.get("spec");
    selectors(&spec.get("selectors"), errors);
    items(&spec.get("config"), CONFIGS_MAX, errors).iter().for_each(|one| configuration(one, errors));
    let name = spec.get("extendedResourceName");
    if name.exists() && !is_extended(name.str()) {
        name.invalid(errors, "must be a valid extended resource name");
    }
}

/// Where a slice or a device is: the fields that are set, quoted for the reader.
fn places(at: &At<'_>, of_slice: bool, empty: &str, errors: &mut Errors) -> Vec<&'static str> {
    let mut found = Vec::new();
    let (name, selector) = (at.get("nodeName"), at.get("nodeSelector"));
    if name.exists() && name.is_empty() {
        name.invalid(errors, empty);
    } else if name.exists() {
        found.push("`nodeName`");
        name.invalid_all(errors, names::is_dns1123_subdomain(name.str()));
    }
    if selector.exists() {
        found.push("`nodeSelector`");
        node_selector(&selector, errors);
        let terms = selector.get("nodeSelectorTerms");
        if of_slice && terms.len() != 1 {
            terms.invalid(errors, "must have exactly one node selector term");
        }
    }
    let flags = [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")];
    for (field, quoted) in flags.into_iter().take(if of_slice { 2 } else { 1 }) {
        let flag = at.get(field);
        if flag.bool() {
            found.push(quoted);
        } else if flag.exists() {
            flag.invalid(errors, "must be either unset or set to true");
        }
    }
    found
}

fn one_place(at: &At<'_>, found: &[&str], missing: &str, many: &str, errors: &mut Errors) {
    match found.len() {
        0 => at.required(errors, missing),
        1 => {}
        _ => at.invalid_as(errors, format!("{{{}}}", found.join(", ")), many),
    }
}

pub fn slice(slice: &At<'_>, errors: &mut Errors) {
    slice_spec(&slice.get("spec"), None, errors);
}

pub fn slice_update(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    slice_spec(&new.get("spec"), Some(&old.get("spec")), errors);
}

fn slice_spec(spec: &At<'_>, old: Option<&At<'_>>, errors: &mut Errors) {
    driver_name(&spec.get("driver"), errors);
    let pool = spec.get("pool");
    pool_name(&pool.get("name"), errors);
    pool.get("resourceSliceCount").positive(errors);
    if pool.number("generation") < 0 {
        pool.get("generation").invalid(errors, "must be greater than or equal to zero");
    }
    if let Some(old) = old {
        pool.get("name").immutable(errors, &old.dig("pool.name"));
        spec.get("driver").immutable(errors, &old.get("driver"));
        spec.get("nodeName").immutable(errors, &old.get("nodeName"));
    }
    let found = places(spec, true, "must be either unset or set to a non-empty string", errors);
    let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    one_place(spec, &found, one, &format!("{one}, but multiple fields are set"), errors);
    let (devices, counters) = (spec.get("devices"), spec.get("sharedCounters"));
    if devices.exists() && counters.exists() {
        spec.invalid_as(errors, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let rich = |device: &At<'_>| {
        let lists = ["bools", "ints", "strings", "versions"];
        let attributes = device.get("attributes").entries();
        !device.get("taints").is_empty()
            || !device.get("consumesCounters").is_empty()
            || attributes.iter().any(|(_, attribute)| lists.iter().any(|field| attribute.has(field)))
    };
    let max = if devices.items().iter().any(rich) { RICH_DEVICES_MAX } else { DEVICES_MAX };
    let devices = items(&devices, max, errors);
    let per_device = spec.flag("perDeviceNodeSelection");
    for device in &devices {
        let known = old.map(|old| old.get("devices").items()).unwrap_or_default();
        let before = known.iter().find(|before| before.text("name") == device.text("name"));
        self::device(device, before, per_device, errors);
    }
    unique(&devices, |device| device.text("name").to_owned(), errors);
    let sets = items(&counters, COUNTER_SETS_MAX, errors);
    for set in &sets {
        if set.get("name").is_empty() {
            set.get("name").required(errors, "");
        } else {
            label(&set.get("name"), errors);
        }
        counter_map(&set.get("counters"), errors);
    }
    unique(&sets, |set| set.text("name").to_owned(), errors);
}

fn counter_map(counters: &At<'_>, errors: &mut Errors) {
    if counters.is_empty() {
        return counters.required(errors, "");
    }
    if counters.len() > COUNTERS_MAX {
        return counters.too_many(errors, COUNTERS_MAX);
    }
    for (key, _) in counters.entries() {
        names::is_dns1123_label(key).into_iter().for_each(|detail| counters.invalid_as(errors, key, detail));
    }
}

fn device(device: &At<'_>, old: Option<&At<'_>>, per_device: bool, errors: &mut Errors) {
    label(&device.get("name"), errors);
    let (attributes, capacity) = (device.get("attributes"), device.get("capacity"));
    let count = attributes.len() + capacity.len();
    if count > ATTRIBUTES_MAX {
        let detail = format!("the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}");
        device.invalid_as(errors, count, detail);
    }
    let lists = ["bools", "ints", "strings", "versions"];
    let values = |attribute: &At<'_>| lists.iter().map(|field| attribute.get(field).len()).sum::<usize>().max(1);
    let count: usize = attributes.entries().iter().map(|(_, attribute)| values(attribute)).sum();
    if count > ATTRIBUTE_VALUES_MAX {
        let detail = format!("the total number of attribute values must not exceed {ATTRIBUTE_VALUES_MAX}");
        device.invalid_as(errors, count, detail);
    }
    for (key, attribute) in attributes.sorted_entries() {
        qualified_name(&attributes, key, errors);
        self::attribute(&attribute, errors);
    }
    for (key, amount) in capacity.sorted_entries() {
        qualified_name(&capacity, key, errors);
        let policy = amount.get("requestPolicy");
        if policy.exists() && !device.flag("allowMultipleAllocations") {
            policy.forbidden(errors, "allowMultipleAllocations must be true");
        } else {
            request_policy(&policy, errors);
        }
    }
    let list = device.get("taints");
    if old.is_none_or(|old| !same(old.get("taints").value(), list.value())) {
        items(&list, TAINTS_MAX, errors).iter().for_each(|one| taint(one, errors));
    }
    let consumptions = items(&device.get("consumesCounters"), CONSUMPTIONS_MAX, errors);
    for consumption in &consumptions {
        let set = consumption.get("counterSet");
        if set.is_empty() {
            set.required(errors, "");
        } else {
            label(&set, errors);
        }
        counter_map(&consumption.get("counters"), errors);
    }
    unique(&consumptions, |consumption| consumption.text("counterSet").to_owned(), errors);
    if per_device {
        let found = places(device, false, "must not be empty", errors);
        let one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        one_place(device, &found, one, one, errors);
    } else if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| device.has(field)) {
        let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        device.invalid_as(errors, Value::Null, detail);
    }
    binding_conditions(device, errors);
    for (name, mapping) in device.get("nodeAllocatableResourceMappings").sorted_entries() {
        if !is_native(name) {
            mapping.invalid_as(errors, name, "must be a node allocatable resource name");
        }
        let (multiplier, key) = (mapping.get("allocationMultiplier"), mapping.get("capacityKey"));
        if !multiplier.exists() && !key.exists() {
            mapping.invalid_as(errors, "", "at least one of allocationMultiplier or capacityKey must be set");
        }
        if key.exists() && key.is_empty() {
            key.invalid(errors, "capacityKey must not be an empty string");
        } else if key.exists() && !capacity.has(key.str()) {
            key.not_found(errors);
        }
    }
}

fn request_policy(policy: &At<'_>, errors: &mut Errors) {
    let (values, range, default) = (policy.get("validValues"), policy.get("validRange"), policy.get("default"));
    if !values.is_empty() && range.exists() {
        let detail =
            r#"exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time"#;
        policy.forbidden(errors, detail);
    } else if !values.is_empty() && !default.exists() {
        default.required(errors, "required when validValues is defined");
    } else if range.exists() && !default.exists() {
        default.required(errors, "required when validRange is defined");
    } else if range.exists() && !range.has("min") {
        range.get("min").required(errors, "required when validRange is defined");
    }
}

fn attribute(attribute: &At<'_>, errors: &mut Errors) {
    let text = |value: &At<'_>, errors: &mut Errors| {
        if value.str().len() > ATTRIBUTE_BYTES_MAX {
            value.too_long(errors, ATTRIBUTE_BYTES_MAX);
        }
    };
    let version = |value: &At<'_>, errors: &mut Errors| {
        if !is_semantic_version(value.str()) {
            value.invalid(errors, "must be a string compatible with semver.org spec 2.0.0");
        }
        text(value, errors);
    };
    if attribute.has("string") {
        text(&attribute.get("string"), errors);
    }
    if attribute.has("version") {
        version(&attribute.get("version"), errors);
    }
    let fields = ["bool", "int", "string", "version", "bools", "ints", "strings", "versions"];
    for field in fields.into_iter().skip(4) {
        let list = attribute.get(field);
        if list.exists() && list.is_empty() {
            list.invalid(errors, "must not be empty if specified");
        }
        match field {
            "strings" => list.items().iter().for_each(|value| text(value, errors)),
            "versions" => list.items().iter().for_each(|value| version(value, errors)),
            _ => {}
        }
    }
    let detail = "exactly one value must be specified";
    match fields.iter().filter(|field| attribute.has(field)).count() {
        0 => attribute.invalid_as(errors, "", detail),
        1 => {}
        _ => errors.push(FieldError::invalid(&attribute.path(), attribute.value().clone(), detail)),
    }
}

fn is_semantic_version(text: &str) -> bool {
    regex!(
        r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$"
    )
    .is_match(text)
}

fn taint(taint: &At<'_>, errors: &mut Errors) {
    label_name(&taint.get("key"), taint.text("key"), errors);
    let value = taint.get("value");
    value.invalid_all(errors, names::is_label_value(value.str()));
    taint.get("effect").required_one_of(errors, TAINT_EFFECTS);
}
