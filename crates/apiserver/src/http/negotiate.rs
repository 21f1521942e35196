//! Which form of an answer a client wants. Source: `k8s.io/apiserver/pkg/endpoints/handlers/negotiation`.

use coracle_api_meta::Status;
use http::{HeaderMap, header};

pub(crate) const JSON: &str = "application/json";
pub(crate) const YAML: &str = "application/yaml";
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const OFFERED: [&str; 3] = [JSON, YAML, PROTOBUF];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// What stands in for the object itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    Table,
    PartialMetadata,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accept {
    pub encoding: Encoding,
    pub form: Form,
    /// Of `form`: `v1` or `v1beta1`.
    pub version: String,
    pub pretty: bool,
}

/// One item of an `Accept` header.
#[derive(Debug)]
pub(crate) struct MediaType<'a> {
    pub name: &'a str,
    pub parameters: Vec<(&'a str, &'a str)>,
}

impl MediaType<'_> {
    pub(crate) fn parameter(&self, key: &str) -> &str {
        self.parameters.iter().find(|(name, _)| *name == key).map(|(_, value)| *value).unwrap_or_default()
    }

    fn quality(&self) -> f32 {
        self.parameter("q").parse().unwrap_or(1.0)
    }
}

const MEDIA_TYPES_MAX: usize = 64;

/// The items of an `Accept` header, best first.
pub(crate) fn media_types(text: &str) -> Vec<MediaType<'_>> {
    let mut types: Vec<MediaType<'_>> = text
        .split(',')
        .take(MEDIA_TYPES_MAX)
        .filter_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().filter(|name| !name.is_empty())?;
            let parameters =
                parts.filter_map(|part| part.split_once('=')).map(|(k, v)| (k.trim(), v.trim().trim_matches('"')));
            Some(MediaType { name, parameters: parameters.collect() })
        })
        .collect();
    types.sort_by(|a, b| b.quality().total_cmp(&a.quality()));
    types
}

/// The content type of a body without its parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

pub(crate) fn accept_text(headers: &HeaderMap) -> &str {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn encoding_of(name: &str) -> Option<Encoding> {
    match name {
        JSON | "*/*" | "application/*" => Some(Encoding::Json),
        YAML => Some(Encoding::Yaml),
        PROTOBUF => Some(Encoding::Protobuf),
        _ => None,
    }
}

fn form_of(media: &MediaType<'_>) -> Option<Form> {
    let (kind, group) = (media.parameter("as"), media.parameter("g"));
    match (kind, group) {
        ("", _) => Some(Form::Whole),
        ("Table", "meta.k8s.io") => Some(Form::Table),
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io") => Some(Form::PartialMetadata),
        _ => None,
    }
}

impl Accept {
    /// Chooses by the `Accept` header; without one, JSON. `protobuf` says whether the answer can be protobuf.
    pub(crate) fn read(headers: &HeaderMap, pretty: bool, protobuf: bool) -> Result<Self, Status> {
        Self::choose(headers, pretty, protobuf, true)
    }

    /// As [`Accept::read`] with protobuf, for what cannot be shown as a table.
    pub(crate) fn read_without_table(headers: &HeaderMap, pretty: bool) -> Result<Self, Status> {
        Self::choose(headers, pretty, crate::registry::objects::PROTOBUF_ANSWERS, false)
    }

    fn choose(headers: &HeaderMap, pretty: bool, protobuf: bool, tables: bool) -> Result<Self, Status> {
        let text = accept_text(headers);
        if text.is_empty() {
            return Ok(Self { encoding: Encoding::Json, form: Form::Whole, version: String::new(), pretty });
        }
        for media in media_types(text) {
            let (Some(encoding), Some(form)) = (encoding_of(media.name), form_of(&media)) else { continue };
            let version = media.parameter("v");
            if form != Form::Whole && !matches!(version, "v1" | "v1beta1") {
                continue;
            }
            if form == Form::Table && !tables {
                continue;
            }
            if encoding == Encoding::Protobuf && (!protobuf || form == Form::Table) {
                continue;
            }
            return Ok(Self { encoding, form, version: version.to_owned(), pretty });
        }
        Err(Status::not_acceptable(&OFFERED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &str) -> Option<(Encoding, Form)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().expect("header"));
        Accept::read(&headers, false, false).ok().map(|accept| (accept.encoding, accept.form))
    }

    #[test]
    fn clients_get_what_they_ask_for() {
        assert_eq!(chosen("*/*"), Some((Encoding::Json, Form::Whole)));
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(chosen(kubectl), Some((Encoding::Json, Form::Table)));
        assert_eq!(chosen("application/vnd.kubernetes.protobuf,application/json"), Some((Encoding::Json, Form::Whole)));
        assert_eq!(chosen("application/json;q=0.1,application/yaml"), Some((Encoding::Yaml, Form::Whole)));
        assert_eq!(chosen("text/html"), None);
        assert_eq!(chosen("application/json;as=Table;v=v2;g=meta.k8s.io"), None);
    }
}
