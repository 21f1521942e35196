//! What evaluation costs, for estimates and at run time alike: `k8s.io/apiserver/pkg/cel/library/cost.go` in outline.

/// Cost of making a list, and of making a map or object.
pub(crate) const LIST: u64 = 10;
pub(crate) const MAP: u64 = 30;
/// What each round of a fold costs beside its expressions.
pub(crate) const ROUND: u64 = 3;

/// Cost of a call whose target and arguments have these sizes.
pub(crate) fn call(name: &str, sizes: &[u64]) -> u64 {
    let size = |index: usize| sizes.get(index).copied().unwrap_or(1);
    let scanned = |size: u64| size.div_ceil(10);
    match name {
        "_&&_" | "_||_" | "_?_:_" => 0,
        "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => scanned(size(0).min(size(1))).max(1),
        "_+_" => scanned(size(0).saturating_add(size(1))).max(1),
        "@in" => size(1).max(1),
        "matches" | "find" | "findAll" => {
            scanned(size(0).saturating_add(1)).saturating_mul(size(1).div_ceil(4).max(1)).max(1)
        }
        "contains" | "indexOf" | "lastIndexOf" if size(1) > 1 => {
            scanned(size(0)).saturating_mul(scanned(size(1))).max(1)
        }
        "sets.contains" | "sets.intersects" | "sets.equivalent" => size(0).saturating_mul(size(1)).max(1),
        "isSorted" | "sum" | "min" | "max" | "distinct" | "sort" | "flatten" | "indexOf" | "lastIndexOf" => {
            size(0).max(1)
        }
        "startsWith" | "endsWith" => scanned(size(1)).max(1),
        "lowerAscii" | "upperAscii" | "trim" | "replace" | "split" | "substring" | "join" | "format"
        | "strings.quote" | "string" | "bytes" | "base64.encode" | "base64.decode" | "url" | "isURL" | "quantity"
        | "isQuantity" | "ip" | "isIP" | "cidr" | "isCIDR" | "semver" | "isSemver" | "contains" | "validate"
        | "charAt" | "reverse" => scanned(size(0)).max(1),
        _ => 1,
    }
}
