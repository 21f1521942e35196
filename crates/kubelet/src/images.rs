//! Images for containers: present already, or pulled, a few at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coracle_cri::{AuthConfig, Image, ImageService};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;

/// One pull of an image serves everyone who waits for it with the same credentials.
pub(crate) struct ImagePuller {
    service: Arc<dyn ImageService>,
    permits: Arc<Semaphore>,
    running: Arc<Mutex<HashMap<PullKey, Pull>>>,
    folder: tokio::sync::OnceCell<String>,
}

type PullKey = (String, Option<String>);
type Pull = Shared<BoxFuture<'static, Result<Pulled, coracle_cri::Error>>>;

/// A finished pull.
#[derive(Debug, Clone)]
pub(crate) struct Pulled {
    pub(crate) id: String,
    /// Without the wait for a free place.
    pub(crate) took: Duration,
}

impl ImagePuller {
    pub(crate) fn new(service: Arc<dyn ImageService>, parallel_max: usize) -> Self {
        let permits = Arc::new(Semaphore::new(parallel_max.max(1)));
        Self { service, permits, running: Arc::default(), folder: tokio::sync::OnceCell::new() }
    }

    pub(crate) fn service(&self) -> &Arc<dyn ImageService> {
        &self.service
    }

    /// Where images are kept.
    pub(crate) async fn folder(&self) -> Option<String> {
        let asked = self
            .folder
            .get_or_try_init(|| async { Ok::<_, coracle_cri::Error>(self.service.image_fs_info().await?.mountpoint) });
        asked.await.ok().cloned()
    }

    pub(crate) async fn status(&self, image: &str) -> coracle_cri::Result<Option<Image>> {
        self.service.image_status(image).await
    }

    /// Tries the credentials in turn, without any at last. May be dropped: the pull goes on for others.
    pub(crate) async fn pull(&self, image: &str, credentials: &[AuthConfig]) -> coracle_cri::Result<Pulled> {
        let mut last = None;
        for auth in credentials {
            match self.pull_with(image, Some(auth.clone())).await {
                Ok(pulled) => return Ok(pulled),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error),
            None => self.pull_with(image, None).await,
        }
    }

    async fn pull_with(&self, image: &str, auth: Option<AuthConfig>) -> coracle_cri::Result<Pulled> {
        let key = (image.to_owned(), auth.as_ref().map(|auth| format!("{}\0{}", auth.username, auth.password)));
        let pull = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.entry(key.clone()).or_insert_with(|| self.begin(key, auth)).clone()
        };
        pull.await
    }

    fn begin(&self, key: PullKey, auth: Option<AuthConfig>) -> Pull {
        let (service, permits, running) = (self.service.clone(), self.permits.clone(), self.running.clone());
        let task = tokio::spawn(async move {
            let permit = permits.acquire_owned().await;
            let begun = Instant::now();
            let result = service.pull_image(&key.0, auth.as_ref()).await;
            drop(permit);
            running.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            result.map(|id| Pulled { id, took: begun.elapsed() })
        });
        let joined = task.map(|joined| match joined {
            Ok(result) => result,
            Err(error) => Err(coracle_cri::Error::Internal(format!("the pull was interrupted: {error}"))),
        });
        joined.boxed().shared()
    }
}

/// The reference with its default tag, or why it is none. Source: distribution reference grammar.
pub(crate) fn with_default_tag(image: &str) -> Result<String, String> {
    let invalid = || format!("couldn't parse image name {image:?}: invalid reference format");
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[slash..].find(':') {
        Some(at) => (&rest[..slash + at], Some(&rest[slash + at + 1..])),
        None => (rest, None),
    };
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, name),
    };
    let part_is_fine = |part: &str| {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        !part.is_empty() && part.chars().all(inside) && part.starts_with(edge) && part.ends_with(edge)
    };
    let tag_is_fine = |tag: &str| {
        let inside = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        (1..=128).contains(&tag.len()) && tag.chars().all(inside) && !tag.starts_with(['.', '-'])
    };
    let host_is_fine = |host: &str| host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c));
    let digest_is_fine = |digest: &str| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())
        })
    };
    let fine = path.split('/').all(part_is_fine)
        && host.is_none_or(host_is_fine)
        && tag.is_none_or(tag_is_fine)
        && digest.is_none_or(digest_is_fine)
        && image.len() <= 4096;
    match fine {
        false => Err(invalid()),
        true if tag.is_none() && digest.is_none() => Ok(format!("{image}:latest")),
        true => Ok(image.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_get_a_tag() {
        for (image, want) in [
            ("nginx", Some("nginx:latest")),
            ("nginx:1.2", Some("nginx:1.2")),
            ("r.example:5000/a/b", Some("r.example:5000/a/b:latest")),
            ("a@sha256:0123456789abcdef0123456789abcdef", Some("a@sha256:0123456789abcdef0123456789abcdef")),
            ("Nginx", None),
            ("a b", None),
            ("a:", None),
            ("", None),
        ] {
            assert_eq!(with_default_tag(image).ok().as_deref(), want, "{image}");
        }
    }
}
