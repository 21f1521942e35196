//! What a request is about, read from its path. Source: `k8s.io/apiserver/pkg/endpoints/request/requestinfo.go`.

use coracle_api_meta::FieldSelector;
use http::Method;

use super::query::{Query, decode};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// False for paths such as `/healthz`.
    pub is_resource: bool,
    pub path: String,
    pub verb: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What follows the subresource: the path of `proxy`.
    pub rest: String,
}

impl RequestInfo {
    /// Exempt from the time limit and from the limit of requests in flight.
    pub(crate) fn is_long_running(&self, query: &Query) -> bool {
        self.verb == "watch"
            || matches!(self.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy")
            || (self.subresource == "log" && query.flag("follow"))
    }

    pub(crate) fn is_mutating(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch" | "head" | "options")
    }

    pub(crate) fn read(method: &Method, raw_path: &str, query: &Query) -> Self {
        let path = decode(raw_path, false);
        let lower = method.as_str().to_ascii_lowercase();
        let mut info = Self { path: path.clone(), verb: lower, ..Self::default() };
        let mut parts: Vec<String> =
            raw_path.split('/').filter(|part| !part.is_empty()).map(|part| decode(part, false)).collect();
        let rooted = match parts.first().map(String::as_str) {
            Some("api") if parts.len() >= 3 => 1,
            Some("apis") if parts.len() >= 4 => 2,
            _ => return info,
        };
        if rooted == 2 {
            info.group.clone_from(&parts[1]);
        }
        info.version.clone_from(&parts[rooted]);
        parts.drain(..=rooted);
        info.is_resource = true;
        info.verb = verb_of(method).to_owned();
        if parts.len() > 1 && matches!(parts[0].as_str(), "watch" | "proxy") {
            info.verb = parts.remove(0);
        }
        info.read_parts(&parts, raw_path);
        info.refine_verb(query);
        info
    }

    fn read_parts(&mut self, parts: &[String], raw_path: &str) {
        let mut parts = parts;
        if parts[0] == "namespaces"
            && let Some(namespace) = parts.get(1)
        {
            self.namespace.clone_from(namespace);
            let own = parts.get(2).is_some_and(|sub| matches!(sub.as_str(), "status" | "finalize"));
            if parts.len() > 2 && !own {
                parts = &parts[2..];
            }
        }
        self.resource.clone_from(&parts[0]);
        self.name = parts.get(1).cloned().unwrap_or_default();
        self.subresource = parts.get(2).cloned().unwrap_or_default();
        if parts.len() > 3 {
            self.rest = parts[3..].join("/");
        }
        if self.subresource == "proxy" && raw_path.ends_with('/') {
            self.rest.push('/');
        }
        if self.resource == "namespaces" {
            // The namespace of a namespace is itself, for authorization.
            self.namespace.clone_from(&self.name);
        }
    }

    fn refine_verb(&mut self, query: &Query) {
        if self.name.is_empty() {
            match self.verb.as_str() {
                "get" => self.verb = if query.flag("watch") { "watch" } else { "list" }.to_owned(),
                "delete" => self.verb = "deletecollection".to_owned(),
                _ => {}
            }
        }
        if matches!(self.verb.as_str(), "list" | "watch" | "deletecollection") && self.name.is_empty() {
            let selector = FieldSelector::parse(query.get("fieldSelector")).unwrap_or_default();
            if let Some(name) = selector.required("metadata.name") {
                name.clone_into(&mut self.name);
            }
        }
    }
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, url: &str, wanted: &str) {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let i = RequestInfo::read(&method, path, &Query::parse(query));
        let fields = [&i.verb, &i.group, &i.version, &i.namespace, &i.resource, &i.name, &i.subresource, &i.rest];
        let text = fields.map(String::as_str).join("|");
        assert_eq!(format!("{}|{text}", i.is_resource), wanted, "{url}");
    }

    #[test]
    fn paths_say_what_they_are_about() {
        check(Method::GET, "/healthz", "false|get|||||||");
        check(Method::GET, "/apis/apps/v1", "false|get|||||||");
        check(Method::GET, "/api/v1/namespaces", "true|list||v1||namespaces|||");
        check(Method::GET, "/api/v1/namespaces/a", "true|get||v1|a|namespaces|a||");
        check(Method::PUT, "/api/v1/namespaces/a/finalize", "true|update||v1|a|namespaces|a|finalize|");
        check(Method::GET, "/api/v1/namespaces/a/pods?watch=true", "true|watch||v1|a|pods|||");
        check(
            Method::DELETE,
            "/apis/apps/v1/namespaces/a/deployments",
            "true|deletecollection|apps|v1|a|deployments|||",
        );
        check(Method::GET, "/api/v1/namespaces/a/pods/p/proxy/x/y/", "true|get||v1|a|pods|p|proxy|x/y/");
        check(Method::GET, "/api/v1/pods?fieldSelector=metadata.name%3Dx", "true|list||v1||pods|x||");
        check(Method::GET, "/api/v1/watch/pods", "true|watch||v1||pods|||");
    }
}
