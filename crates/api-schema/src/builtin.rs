//! The built-in kinds: reads `data/builtin.txt`, whose head describes its form.

use std::{collections::HashMap, sync::OnceLock};

use coracle_api_meta::Gvk;

use crate::model::{
    Field, ListKind, ListType, MapKind, MapType, PatchStrategy, ScalarKind, Schemas, Special, StructType, Type, TypeId,
};

const TABLE: &str = include_str!("../data/builtin.txt");
const PREFIX: &str = "io.k8s.";

/// Types of every built-in kind of Kubernetes 1.36, lists, options and reviews included. Read once, on first use.
#[must_use]
pub fn builtin() -> &'static Schemas {
    static BUILTIN: OnceLock<Schemas> = OnceLock::new();
    BUILTIN.get_or_init(|| Reader::default().read(TABLE))
}

/// The Go name of the type of a field, as decoding errors print it: `v1.PullPolicy`, `[]v1.Container`.
pub(crate) fn go_type(owner: &str, field: &str) -> Option<String> {
    let owner = owner.strip_prefix(PREFIX)?;
    let mut lines = TABLE.lines();
    lines.find(|line| line.strip_prefix("T ").is_some_and(|rest| rest.split(' ').next() == Some(owner)))?;
    let line = lines.take_while(|line| !line.starts_with("T ")).find(|line| line.split(' ').next() == Some(field))?;
    let go = line.split(' ').find_map(|word| word.strip_prefix("go="));
    Some(go_expression(line.split(' ').nth(1)?, go))
}

fn go_expression(ty: &str, go: Option<&str>) -> String {
    if let Some(item) = ty.strip_prefix("[]").or_else(|| ty.strip_prefix("<>")) {
        return format!("[]{}", go_expression(item, go));
    }
    if let Some(value) = ty.strip_prefix("{}") {
        return format!("map[string]{}", go_expression(value, go));
    }
    if let Some(go) = go {
        return go.to_owned();
    }
    let word = match ty {
        "boolean" => "bool",
        "integer" => "int",
        "double" => "float64",
        "bytes" => "[]uint8",
        "quantity" => "resource.Quantity",
        "intorstring" => "intstr.IntOrString",
        "time" => "v1.Time",
        "microtime" => "v1.MicroTime",
        "duration" => "v1.Duration",
        "any" => "interface {}",
        other => other,
    };
    let mut parts = word.rsplitn(3, '.');
    match (parts.next(), parts.next()) {
        (Some(name), Some(package)) => format!("{package}.{name}"),
        _ => word.to_owned(),
    }
}

#[derive(Default)]
struct Reader {
    schemas: Schemas,
    /// Types by the table's word for them.
    words: HashMap<String, TypeId>,
}

impl Reader {
    fn read(mut self, table: &str) -> Schemas {
        self.name_types(table);
        let mut current: Option<TypeId> = None;
        for line in table.lines() {
            match line.split_once(' ') {
                Some(("T", rest)) => current = self.words.get(rest.split(' ').next().unwrap_or_default()).copied(),
                Some(("#" | "S", _)) | None => {}
                Some(("K", rest)) => self.kind(rest),
                Some((name, rest)) => {
                    let field = self.field(name, rest);
                    if let Some(Type::Struct(owner)) = current.map(|id| &mut self.schemas.types[id.0 as usize]) {
                        owner.fields.push(field);
                    }
                }
            }
        }
        self.loosen(table);
        self.schemas.types.shrink_to_fit();
        self.schemas
    }

    /// First pass: every named type gets its id.
    fn name_types(&mut self, table: &str) {
        for line in table.lines() {
            if let Some(rest) = line.strip_prefix("T ") {
                let (name, atomic) = rest.split_once(' ').unwrap_or((rest, ""));
                let ty =
                    StructType { name: format!("{PREFIX}{name}"), atomic: !atomic.is_empty(), ..Default::default() };
                let id = self.schemas.add(Type::Struct(ty));
                self.name(name, id);
            } else if let Some((name, special)) = line.strip_prefix("S ").and_then(|rest| rest.split_once(' ')) {
                let id = self.schemas.add(Type::Any);
                self.name(name, id);
                self.schemas.special.extend(special_of(special).map(|special| (id, special)));
            }
        }
    }

    fn name(&mut self, name: &str, id: TypeId) {
        self.words.insert(name.to_owned(), id);
        self.schemas.by_name.insert(format!("{PREFIX}{name}"), id);
    }

    fn kind(&mut self, rest: &str) {
        let mut words = rest.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (group, version, kind, name) = (word(), word(), word(), word());
        if let Some(&id) = self.words.get(name) {
            let group = if group == "-" { "" } else { group };
            self.schemas.by_gvk.insert(Gvk::new(group, version, kind), id);
        }
    }

    fn field(&mut self, name: &str, rest: &str) -> Field {
        let mut words = rest.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (ty, numbers, flags, attributes) = (word(), word(), word(), word());
        let has = |flag: char| flags.contains(flag);
        let attribute = |key: &str| {
            attributes.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
        };
        let mut numbers = numbers.rsplit('/').map(|number| number.parse().unwrap_or(0));
        let protobuf = u32::from(numbers.next().unwrap_or(0));
        let mut outer: Vec<u16> = numbers.collect();
        outer.reverse();
        Field {
            name: name.to_owned(),
            ty: self.ty(ty, attribute("list"), has('a')),
            required: has('r'),
            default: serde_json::from_str(attribute("default")).ok(),
            patch: PatchStrategy { merge: has('m'), retain_keys: has('k'), merge_key: attribute("key").to_owned() },
            protobuf,
            inlined: [outer.first().copied().unwrap_or(0), outer.get(1).copied().unwrap_or(0)],
            nullable: false,
            omit_empty: has('e'),
            omit_zero: has('z'),
            pointer: has('p'),
        }
    }

    /// The type that a word of the table stands for; lists and maps are made once per meaning.
    fn ty(&mut self, word: &str, list: &str, atomic: bool) -> TypeId {
        let key = if list.is_empty() && !atomic { word.to_owned() } else { format!("{word} {list} {atomic}") };
        if let Some(&id) = self.words.get(&key) {
            return id;
        }
        let (ty, wrapped) = if let Some(item) = word.strip_prefix("[]").or_else(|| word.strip_prefix("<>")) {
            let item = self.ty(item, "", false);
            (Type::List(ListType { item, kind: list_kind(list) }), word.starts_with('<'))
        } else if let Some(value) = word.strip_prefix("{}") {
            let value = self.ty(value, "", false);
            let kind = if atomic { MapKind::Atomic } else { MapKind::Granular };
            (Type::Map(MapType { value, kind }), false)
        } else {
            (scalar_of(word).map_or(Type::Any, Type::Scalar), false)
        };
        let id = self.schemas.add(ty);
        if wrapped {
            self.schemas.special.insert(id, Special::Wrapped);
        }
        self.words.insert(key, id);
        id
    }

    /// Fields that hold an atomic struct but are granular themselves (flag `g`) get a copy of it.
    fn loosen(&mut self, table: &str) {
        let mut owner = "";
        for line in table.lines() {
            let mut words = line.split(' ');
            let (first, second, _, flags) = (words.next(), words.next(), words.next(), words.next());
            if first == Some("T") {
                owner = second.unwrap_or_default();
            } else if flags.is_some_and(|flags| flags.contains('g')) && !matches!(first, Some("K" | "#")) {
                self.loosen_field(owner, first.unwrap_or_default());
            }
        }
    }

    fn loosen_field(&mut self, owner: &str, name: &str) {
        let Some(&owner) = self.words.get(owner) else { return };
        let Some(ty) = self.schemas.child(owner, name) else { return };
        let Type::Struct(mut copy) = self.schemas.get(ty).clone() else { return };
        copy.atomic = false;
        let id = self.schemas.add(Type::Struct(copy));
        if let Type::Struct(owner) = &mut self.schemas.types[owner.0 as usize]
            && let Some(field) = owner.fields.iter_mut().find(|field| field.name == name)
        {
            field.ty = id;
        }
    }
}

fn list_kind(list: &str) -> ListKind {
    match list.strip_prefix("map:") {
        Some(keys) => ListKind::Map { keys: keys.split(',').map(str::to_owned).collect() },
        None if list == "set" => ListKind::Set,
        None => ListKind::Atomic,
    }
}

fn special_of(word: &str) -> Option<Special> {
    Some(match word {
        "RawExtension" => Special::RawExtension,
        "FieldsV1" => Special::FieldsV1,
        "JSON" => Special::Json,
        "JSONSchemaPropsOrArray" => Special::SchemaOrArray,
        "JSONSchemaPropsOrBool" => Special::SchemaOrBool,
        "JSONSchemaPropsOrStringArray" => Special::SchemaOrStringArray,
        _ => return None,
    })
}

fn scalar_of(word: &str) -> Option<ScalarKind> {
    Some(match word {
        "string" => ScalarKind::String,
        "boolean" => ScalarKind::Boolean,
        "int32" => ScalarKind::Int32,
        "int64" => ScalarKind::Int64,
        "integer" => ScalarKind::Integer,
        "double" => ScalarKind::Double,
        "bytes" => ScalarKind::Bytes,
        "quantity" => ScalarKind::Quantity,
        "intorstring" => ScalarKind::IntOrString,
        "time" => ScalarKind::Time,
        "microtime" => ScalarKind::MicroTime,
        "duration" => ScalarKind::Duration,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(owner: &str, name: &str) -> Field {
        let schemas = builtin();
        let id = schemas.named(&format!("io.k8s.{owner}")).expect("type");
        schemas.as_struct(id).and_then(|ty| ty.field(name)).expect("field").clone()
    }

    #[test]
    fn every_row_of_the_catalogue_has_a_type() {
        for row in coracle_api_types::catalogue::CATALOGUE {
            let gvk = Gvk::new(row.group, row.version, row.kind);
            assert!(builtin().kind(&gvk).is_some(), "{gvk:?}");
            if row.verbs.contains(&"list") {
                let list = Gvk::new(row.group, row.version, format!("{}List", row.kind));
                assert!(builtin().kind(&list).is_some(), "{list:?}");
            }
        }
    }

    #[test]
    fn options_exist_in_every_version() {
        assert!(builtin().kind(&Gvk::new("apps", "v1", "DeleteOptions")).is_some());
        assert!(builtin().kind(&Gvk::new("apps", "v1", "NoSuchKind")).is_none());
    }

    #[test]
    fn fields_carry_their_facts() {
        let ports = field("api.core.v1.Container", "ports");
        assert_eq!((ports.protobuf, ports.patch.merge, ports.patch.merge_key.as_str()), (6, true, "containerPort"));
        let Type::List(list) = builtin().get(ports.ty) else { panic!("no list") };
        assert_eq!(list.kind, ListKind::Map { keys: vec!["containerPort".to_owned(), "protocol".to_owned()] });
        let protocol = field("api.core.v1.ContainerPort", "protocol");
        assert_eq!(protocol.default, Some("TCP".into()));
        assert_eq!(field("api.core.v1.Volume", "secret").inlined, [2, 0]);
        let rules = field("api.admissionregistration.v1.NamedRuleWithOperations", "apiGroups");
        assert_eq!((rules.inlined, rules.protobuf), ([2, 2], 1));
        assert!(field("api.core.v1.PodSpec", "volumes").patch.retain_keys);
    }

    #[test]
    fn claim_reference_is_granular() {
        let schemas = builtin();
        let claim = field("api.core.v1.PersistentVolumeSpec", "claimRef").ty;
        assert!(schemas.as_struct(claim).is_some_and(|ty| !ty.atomic && !ty.fields.is_empty()));
        let reference = schemas.named("io.k8s.api.core.v1.ObjectReference").expect("type");
        assert!(schemas.as_struct(reference).is_some_and(|ty| ty.atomic));
    }

    #[test]
    fn go_types_are_spelt_as_go_does() {
        for (owner, name, expected) in [
            ("api.core.v1.Container", "imagePullPolicy", "v1.PullPolicy"),
            ("api.core.v1.PodSpec", "containers", "[]v1.Container"),
            ("apimachinery.pkg.apis.meta.v1.ObjectMeta", "labels", "map[string]string"),
            ("apimachinery.pkg.apis.meta.v1.ObjectMeta", "creationTimestamp", "v1.Time"),
            ("api.core.v1.ResourceRequirements", "limits", "map[string]resource.Quantity"),
        ] {
            assert_eq!(go_type(&format!("io.k8s.{owner}"), name).as_deref(), Some(expected));
        }
    }
}
