//! OpenAPI documents: what kubectl looks for is there, and every reference leads somewhere.

use coracle_api_meta::{GroupVersion, Value};
use coracle_api_schema::{
    builtin,
    openapi::{Served, hash, path_of, v2_document, v3_document, v3_index},
};
use coracle_api_types::catalogue::CATALOGUE;
use expect_test::expect;

fn served(gv: &GroupVersion) -> Vec<Served> {
    CATALOGUE.iter().filter(|row| row.group == gv.group && row.version == gv.version).map(Served::builtin).collect()
}

fn versions() -> Vec<GroupVersion> {
    let mut versions: Vec<_> = CATALOGUE.iter().map(|row| GroupVersion::new(row.group, row.version)).collect();
    versions.sort();
    versions.dedup();
    versions
}

/// Every `$ref` of a document that points nowhere.
fn dangling(document: &Value) -> Vec<String> {
    fn visit(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                if let Some(Value::String(reference)) = object.get("$ref") {
                    found.push(reference.clone());
                }
                object.values().for_each(|value| visit(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| visit(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    visit(document, &mut found);
    found.retain(|reference| document.pointer(reference.trim_start_matches('#')).is_none());
    found.sort();
    found.dedup();
    found
}

#[test]
fn references_lead_somewhere() {
    for gv in versions() {
        let document = v3_document(builtin(), &gv, &served(&gv));
        assert_eq!(dangling(&document), Vec::<String>::new(), "{gv:?}");
    }
    let all: Vec<_> = versions().into_iter().map(|gv| (served(&gv), gv)).collect();
    let document = v2_document(builtin(), "v1.36.0", all.iter().map(|(served, gv)| (gv, served.as_slice())));
    assert_eq!(dangling(&document), Vec::<String>::new());
}

#[test]
fn explain_finds_descriptions_and_types() {
    let gv = GroupVersion::new("", "v1");
    let document = v3_document(builtin(), &gv, &served(&gv));
    let container = &document["components"]["schemas"]["io.k8s.api.core.v1.Container"];
    assert!(container["description"].as_str().is_some_and(|text| text.len() > 20));
    assert!(container["properties"]["image"]["description"].as_str().is_some_and(|text| text.len() > 20));
    let mut ports = container["properties"]["ports"].clone();
    ports.as_object_mut().map(|ports| ports.shift_remove("description"));
    expect![[r##"{"type":"array","items":{"$ref":"#/components/schemas/io.k8s.api.core.v1.ContainerPort"},"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["containerPort","protocol"],"x-kubernetes-patch-strategy":"merge","x-kubernetes-patch-merge-key":"containerPort"}"##]]
        .assert_eq(&ports.to_string());
    let pod = &document["components"]["schemas"]["io.k8s.api.core.v1.Pod"];
    expect![[r#"[{"group":"","version":"v1","kind":"Pod"}]"#]]
        .assert_eq(&pod["x-kubernetes-group-version-kind"].to_string());
    let list = &document["components"]["schemas"]["io.k8s.api.core.v1.PodList"];
    assert_eq!(list["description"], "PodList is a list of objects of kind Pod.");
}

#[test]
fn patch_operations_name_field_validation() {
    let gv = GroupVersion::new("apps", "v1");
    let document = v3_document(builtin(), &gv, &served(&gv));
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    let parameters = patch["parameters"].as_array().expect("parameters");
    assert!(parameters.iter().any(|parameter| parameter["name"] == "fieldValidation" && parameter["in"] == "query"));
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
}

#[test]
fn custom_resources_are_rendered_in_both_dialects() {
    let gv = GroupVersion::new("stable.example.com", "v1");
    let schema = serde_json::json!({ "type": "object", "description": "A tab.", "properties": {
        "spec": { "type": "object", "properties": {
            "default": { "type": "string", "nullable": true },
            "port": { "x-kubernetes-int-or-string": true, "anyOf": [{ "type": "integer" }, { "type": "string" }] },
        } },
    } });
    let served = [Served {
        fingerprint: String::new(),
        plural: "crontabs".into(),
        kind: "CronTab".into(),
        list_kind: "CronTabList".into(),
        namespaced: true,
        verbs: ["create", "get", "list", "patch", "watch"].map(str::to_owned).to_vec(),
        subresources: Vec::new(),
        custom: Some(schema),
    }];
    let document = v3_document(builtin(), &gv, &served);
    assert_eq!(dangling(&document), Vec::<String>::new());
    let tab = &document["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(tab["description"], "A tab.");
    assert_eq!(tab["properties"]["spec"]["properties"]["port"]["x-kubernetes-int-or-string"], true);
    let meta = &document["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]["properties"];
    assert!(meta["creationTimestamp"]["description"].is_string(), "explain describes metadata of custom resources too");
    let path = &document["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}"];
    assert_eq!(path["patch"]["operationId"], "patchStableExampleComV1NamespacedCronTab");
    let document = v2_document(builtin(), "v1.36.0", [(&gv, served.as_slice())].into_iter());
    expect![[r#"{"type":"object","properties":{"default":{},"port":{}}}"#]]
        .assert_eq(&document["definitions"]["com.example.stable.v1.CronTab"]["properties"]["spec"].to_string());
}

#[test]
fn the_index_names_documents_by_path_and_hash() {
    let versions = [GroupVersion::new("", "v1"), GroupVersion::new("apps", "v1")];
    let index = v3_index(versions.iter().map(|gv| (gv, "AB".to_owned())));
    expect![[r#"{"paths":{"api/v1":{"serverRelativeURL":"/openapi/v3/api/v1?hash=AB"},"apis/apps/v1":{"serverRelativeURL":"/openapi/v3/apis/apps/v1?hash=AB"}}}"#]]
        .assert_eq(&index.to_string());
    let [core, apps] = &versions;
    assert_eq!(path_of(apps), "apis/apps/v1");
    assert_eq!(hash(core, &served(core)), hash(core, &served(core)));
    assert_ne!(hash(core, &served(core)), hash(core, &served(core)[1..]));
}

#[test]
fn what_is_written_piece_by_piece_is_the_whole() {
    use coracle_api_schema::openapi::{Document, write};
    use serde_json::json;
    let custom = Served {
        plural: "tabs".into(),
        kind: "Tab".into(),
        list_kind: "TabList".into(),
        namespaced: true,
        verbs: ["get", "list", "create"].map(str::to_owned).to_vec(),
        subresources: Vec::new(),
        custom: Some(json!({ "type": "object", "properties": { "spec": { "type": "string" } } })),
        fingerprint: "1".into(),
    };
    let gv = GroupVersion::new("stable.example.com", "v1");
    let apps = GroupVersion::new("apps", "v1");
    let rows = CATALOGUE.iter().filter(|row| row.group == "apps" && row.version == "v1");
    let built_in: Vec<Served> = rows.map(Served::builtin).collect();
    let versions = [(apps.clone(), built_in.clone()), (gv.clone(), vec![custom.clone()])];
    let written = |document: Document<'_>, versions: &[(GroupVersion, Vec<Served>)]| {
        let mut out = Vec::new();
        let make = |row: &Served, schema: bool| {
            let custom = row.custom.as_ref().map(|own| if schema { own.clone() } else { Value::Null });
            Served { custom, ..row.clone() }
        };
        write(document, builtin(), versions, &|row| row.custom.is_some(), &make, &mut out).expect("written");
        serde_json::from_slice::<Value>(&out).expect("a document")
    };
    let each = versions.iter().map(|(gv, rows)| (gv, rows.as_slice()));
    assert_eq!(written(Document::V2("v1"), &versions), v2_document(builtin(), "v1", each));
    let one = [(gv.clone(), vec![custom.clone()])];
    assert_eq!(written(Document::V3, &one), v3_document(builtin(), &gv, &[custom]));
    assert_eq!(written(Document::V3, &versions[..1]), v3_document(builtin(), &apps, &built_in));
}
