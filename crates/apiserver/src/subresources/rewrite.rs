//! What backends behind `proxy` say about places, so that it leads back through the proxy: `Location` headers and the links
//! of HTML pages. Source: `k8s.io/apimachinery/pkg/util/proxy/transport.go`.

use std::io::{Read as _, Write as _};

use bytes::{Bytes, BytesMut};
use coracle_api_meta::Status;
use coracle_client::{Body, full_body};
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;

use crate::http::Reply;

/// Pages that say they are larger go through as they are.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Attributes that hold URLs, by element.
const LINKS: [(&str, &[&str]); 28] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
    // Their content is text, not markup.
    ("style", &[]),
    ("textarea", &[]),
    ("title", &[]),
];
/// Elements whose content is not markup.
const RAW: [&str; 4] = ["script", "style", "textarea", "title"];

/// How URLs of one exchange are changed.
pub(super) struct Rewriting {
    /// The path of this server that stands for the root of the backend.
    prefix: String,
    /// Path as the backend sees it.
    rest: String,
    backend: String,
    host: String,
}

impl Rewriting {
    /// `path` is that of the request, `rest` the part for the backend.
    pub(super) fn new(path: &str, rest: &str, backend: &str, host: &str) -> Self {
        let prefix = path.strip_suffix(rest).unwrap_or(path).to_owned();
        Self { prefix, rest: rest.to_owned(), backend: backend.to_owned(), host: host.to_owned() }
    }

    /// Tells the backend by which path it was called.
    pub(super) fn announce(&self, headers: &mut HeaderMap) {
        let path = join(&self.prefix, &self.rest);
        if let Ok(value) = HeaderValue::from_str(&path) {
            headers.insert("x-forwarded-uri", value);
        }
    }

    /// A URL that leads through the proxy, where it was one of the backend.
    fn url(&self, url: &str) -> String {
        let (authority, rest) = split(url);
        let elsewhere = !authority.is_empty() && authority != self.backend && authority != self.host;
        if elsewhere || !rest.starts_with('/') {
            return url.to_owned();
        }
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        let (path, tail) = rest.split_at(end);
        // Links that name this server itself keep doing so.
        let start = if !authority.is_empty() && authority == self.host {
            url.get(..url.len() - rest.len()).unwrap_or_default()
        } else {
            ""
        };
        if path.starts_with(&self.prefix) {
            return format!("{start}{rest}");
        }
        format!("{start}{}{tail}", join(&self.prefix, path))
    }
}

/// Authority and what follows it.
fn split(url: &str) -> (&str, &str) {
    let scheme = url
        .find("://")
        .filter(|at| url[..*at].bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)));
    let after = match scheme {
        Some(at) => &url[at + 3..],
        None => match url.strip_prefix("//") {
            Some(after) => after,
            None => return ("", url),
        },
    };
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    after.split_at(end)
}

/// Source: Go's `path.Join`, with the slash at the end kept.
fn join(prefix: &str, path: &str) -> String {
    let whole = format!("{prefix}/{path}");
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    let slash = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{slash}", parts.join("/"))
}

/// The answer of a backend as the client gets it.
pub(super) async fn answer(rewriting: &Rewriting, mut answer: Reply) -> Result<Reply, Status> {
    if let Some(location) = answer.headers().get(header::LOCATION) {
        let location = location
            .to_str()
            .map_err(|error| Status::internal(format!("error trying to parse Location header: {error}")))?;
        if let Ok(value) = HeaderValue::from_str(&rewriting.url(location)) {
            answer.headers_mut().insert(header::LOCATION, value);
        }
        return Ok(answer);
    }
    let Some(encoding) = encoding_of_page(answer.headers()) else { return Ok(answer) };
    let (mut parts, body) = answer.into_parts();
    let body = read_page(body).await?;
    let body = match page(rewriting, &encoding, &body) {
        Ok(changed) => Bytes::from(changed),
        Err(error) => {
            tracing::debug!(%error, "a page cannot be read");
            body
        }
    };
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    Ok(Reply::from_parts(parts, full_body(body)))
}

async fn read_page(mut body: Body) -> Result<Bytes, Status> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::internal(format!("read a page: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > PAGE_BYTES_MAX {
            return Err(Status::internal(format!("a page is larger than {PAGE_BYTES_MAX} bytes")));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// How a page is packed, where the answer is one that can be read.
fn encoding_of_page(headers: &HeaderMap) -> Option<String> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = text(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    let large = text(header::CONTENT_LENGTH).parse::<usize>().is_ok_and(|size| size > PAGE_BYTES_MAX);
    let encoding = text(header::CONTENT_ENCODING);
    (kind == "text/html" && !large && matches!(encoding, "" | "gzip" | "deflate")).then(|| encoding.to_owned())
}

fn page(rewriting: &Rewriting, encoding: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    let max = PAGE_BYTES_MAX as u64;
    match encoding {
        "gzip" => flate2::read::GzDecoder::new(body).take(max).read_to_end(&mut plain)?,
        "deflate" => flate2::read::DeflateDecoder::new(body).take(max).read_to_end(&mut plain)?,
        _ => return Ok(html(rewriting, body)),
    };
    let changed = html(rewriting, &plain);
    let level = flate2::Compression::default();
    match encoding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(&changed)?;
            encoder.finish()
        }
        _ => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(&changed)?;
            encoder.finish()
        }
    }
}

/// Changes the links of a page; everything else stays byte for byte.
fn html(rewriting: &Rewriting, page: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len() + page.len() / 16);
    let mut rest = page;
    while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let end = if rest.starts_with(b"<!--") { find(rest, b"-->").map(|at| at + 3) } else { tag_end(rest) };
        let Some(end) = end else { break };
        let tag = &rest[..end];
        rest = &rest[end..];
        let name = tag_name(tag);
        out.extend_from_slice(&with_links(rewriting, &name, tag));
        if RAW.contains(&name.as_str()) {
            let close = format!("</{name}");
            let end = find_ignoring_case(rest, close.as_bytes()).unwrap_or(rest.len());
            out.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.extend_from_slice(rest);
    out
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn find_ignoring_case(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window.eq_ignore_ascii_case(wanted))
}

/// Where a tag ends; quotes may hold `>`.
fn tag_end(text: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in text.iter().enumerate() {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            (None, b'>') => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Empty for what is no start of an element.
fn tag_name(tag: &[u8]) -> String {
    let name = tag.iter().skip(1).take_while(|byte| byte.is_ascii_alphanumeric());
    name.map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}

fn with_links(rewriting: &Rewriting, name: &str, tag: &[u8]) -> Vec<u8> {
    let known = LINKS.iter().find(|(element, _)| *element == name).map(|(_, attributes)| *attributes);
    let (Some(attributes), Ok(text)) = (known.filter(|known| !known.is_empty()), std::str::from_utf8(tag)) else {
        return tag.to_vec();
    };
    let mut out = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        let attribute = before[..at].trim_end().rsplit(|c: char| c.is_whitespace() || c == '"' || c == '\'').next();
        let attribute = attribute.unwrap_or_default().to_ascii_lowercase();
        let space = after.len() - after.trim_start().len();
        out.push_str(&after[..space]);
        let after = &after[space..];
        let (quote, value, left) = value(after);
        if attributes.contains(&attribute.as_str()) {
            out.push('"');
            out.push_str(&rewriting.url(&value.replace("&amp;", "&")).replace('&', "&amp;").replace('"', "&#34;"));
            out.push('"');
        } else {
            out.push_str(quote);
            out.push_str(value);
            out.push_str(quote);
        }
        rest = left;
    }
    out.push_str(rest);
    out.into_bytes()
}

/// The quotes of an attribute's value, the value, and what follows.
fn value(text: &str) -> (&str, &str, &str) {
    for quote in ["\"", "'"] {
        if let Some(inner) = text.strip_prefix(quote) {
            let (value, left) = inner.split_once(quote).unwrap_or((inner, ""));
            return (quote, value, left);
        }
    }
    let end = text.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(text.len());
    ("", &text[..end], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewriting() -> Rewriting {
        Rewriting::new("/api/v1/namespaces/n/pods/p/proxy/a/b", "/a/b", "10.0.0.1:80", "localhost:8001")
    }

    #[test]
    fn urls_of_the_backend_lead_through_the_proxy() {
        let prefix = "/api/v1/namespaces/n/pods/p/proxy";
        for (url, wanted) in [
            ("/x/y", format!("{prefix}/x/y")),
            ("/x/", format!("{prefix}/x/")),
            ("/x?a=/b#c", format!("{prefix}/x?a=/b#c")),
            ("/../x", "/api/v1/namespaces/n/pods/p/x".to_owned()),
            ("x/y", "x/y".to_owned()),
            ("http://10.0.0.1:80/x", format!("{prefix}/x")),
            ("http://localhost:8001/x", format!("http://localhost:8001{prefix}/x")),
            ("http://elsewhere/x", "http://elsewhere/x".to_owned()),
            (&format!("{prefix}/x"), format!("{prefix}/x")),
            ("#top", "#top".to_owned()),
            ("mailto:a@b", "mailto:a@b".to_owned()),
        ] {
            assert_eq!(rewriting().url(url), wanted, "{url}");
        }
        let mut headers = HeaderMap::new();
        rewriting().announce(&mut headers);
        assert_eq!(headers["x-forwarded-uri"], "/api/v1/namespaces/n/pods/p/proxy/a/b");
    }

    #[test]
    fn pages_keep_everything_but_their_links() {
        let prefix = "/api/v1/namespaces/n/pods/p/proxy";
        let check = |page: &str, wanted: &str| {
            let found = html(&rewriting(), page.as_bytes());
            assert_eq!(String::from_utf8_lossy(&found), wanted.replace("PREFIX", prefix));
        };
        check(
            r#"<A class='x' HREF="/foo?a=1&amp;b=2">1 < 2</A>"#,
            r#"<A class='x' HREF="PREFIX/foo?a=1&amp;b=2">1 < 2</A>"#,
        );
        check("<img src=/a.png alt='>'><p data-src=\"/no\">", "<img src=\"PREFIX/a.png\" alt='>'><p data-src=\"/no\">");
        check("<!-- <a href=\"/x\"> --><base href='/'>", "<!-- <a href=\"/x\"> --><base href=\"PREFIX/\">");
        let script = "<script src=\"/s.js\">if (a < b) { '<a href=\"/x\">' }</script>";
        check(script, "<script src=\"PREFIX/s.js\">if (a < b) { '<a href=\"/x\">' }</script>");
        check("<a href=\"/x", "<a href=\"/x");
        check("<a href=\"http://google.com\">", "<a href=\"http://google.com\">");
    }
}
