//! Makes the table of the built-in kinds from published packages. Facts only: no description is taken over.
//!
//! The inputs folder holds
//! * `definitions.json`: `kubernetes_validate/kubernetes-json-schema/v1.36.0-local/_definitions.json` of the wheel
//!   `kubernetes-validate==1.36.0` (`pip download --no-deps`);
//! * `k8s.io/`: `/usr/share/gocode/src/k8s.io` of Debian's `golang-k8s-api-dev`, `golang-k8s-apimachinery-dev` and
//!   `golang-k8s-apiextensions-apiserver-dev` 0.36.4 (`apt-get download` from sid, `dpkg -x`).
//!
//! The Go sources give fields, JSON names, emptiness rules, patch strategies, declared defaults and protobuf numbers
//! (the struct tags are what the protobuf descriptors are made from); the definitions give required fields, list and map
//! semantics and the kinds. What both know is compared.

mod definitions;
mod go;
mod write;

use std::{fs, path::Path};

use anyhow::{Context, Result};

const HEAD: &str = "\
# Types of Kubernetes 1.36, made by `cargo xtask gen-schema`; not edited by hand.
# From: PyPI kubernetes-validate 1.36.0 (Apache-2.0), Debian golang-k8s-{api,apimachinery,apiextensions-apiserver}-dev
# 0.36.4 (Apache-2.0); apiregistration.k8s.io from kube-aggregator 0.36.
# T <type> [atomic]              a struct; its fields follow
# <field> <type> <protobuf number, inlined messages in front> [flags] [attribute=value ...]
#   flags: r required, e omitempty, z omitzero, p pointer, m patch merge, k patch retainKeys, a atomic map, g granular struct
#   list=set|map:<keys>  key=<patch merge key>  go=<Go type of a named scalar>  default=<JSON>
# type words: string boolean int32 int64 integer double bytes quantity intorstring time microtime duration any,
#   []T list, {}T map, <>T list in a protobuf message of its own, else the name of a type
# S <type> <special>             a type with its own JSON and protobuf form
# K <group> <version> <kind> <type>
";

pub fn run(inputs: &Path, out: &Path) -> Result<()> {
    let definitions = definitions::read(&inputs.join("definitions.json"))?;
    let packages = go::read_all(&inputs.join("k8s.io"))?;
    let table = write::table(&packages, &definitions)?;
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(out, format!("{HEAD}{table}")).with_context(|| format!("write {}", out.display()))
}
