//! The image side of the CRI.

use async_trait::async_trait;
use coracle_cri::{AuthConfig, Error, FsUsage, Image, ImageService, Result};
use coracle_image::{Credentials, ImageRecord};

use crate::runtime::{Runtime, blocking};

pub(crate) fn image_error(error: coracle_image::Error) -> Error {
    use coracle_image::Error as From;
    let text = error.to_string();
    match error {
        From::InvalidReference(_) => Error::InvalidArgument(text),
        From::NotFound(_) => Error::NotFound(text),
        From::Denied(_) => Error::PermissionDenied(text),
        From::Registry(_) => Error::Unavailable(text),
        From::TooLarge(_) => Error::ResourceExhausted(text),
        From::Corrupt(_) | From::Host(_) => Error::Internal(text),
    }
}

fn image(record: &ImageRecord) -> Image {
    let user = record.user.split(':').next().unwrap_or_default();
    let uid = user.parse::<i64>().ok();
    Image {
        id: record.id.to_string(),
        repo_tags: record.tags.iter().cloned().collect(),
        repo_digests: record.digests.iter().cloned().collect(),
        size: record.size,
        uid,
        username: if uid.is_none() { user.to_owned() } else { String::new() },
        pinned: record.pinned,
    }
}

#[async_trait]
impl ImageService for Runtime {
    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(self.images.list().iter().map(image).collect())
    }

    async fn image_status(&self, name: &str) -> Result<Option<Image>> {
        Ok(self.images.find(name).as_ref().map(image))
    }

    async fn pull_image(&self, name: &str, auth: Option<&AuthConfig>) -> Result<String> {
        let credentials = auth.map(|auth| Credentials {
            username: auth.username.clone(),
            password: auth.password.clone(),
            identity_token: auth.identity_token.clone(),
            registry_token: auth.registry_token.clone(),
        });
        let record = self.images.pull(name, &credentials.unwrap_or_default()).await.map_err(image_error)?;
        Ok(record.id.to_string())
    }

    async fn remove_image(&self, name: &str) -> Result<()> {
        let (images, name, in_use) = (self.images.clone(), name.to_owned(), self.layers_in_use());
        blocking(move || {
            images.remove(&name).map_err(image_error)?;
            images.collect(&in_use).map_err(image_error).map(drop)
        })
        .await
    }

    async fn image_fs_info(&self) -> Result<FsUsage> {
        let images = self.images.clone();
        blocking(move || {
            let (used_bytes, inodes_used) = images.usage();
            let mountpoint = images.dir().to_string_lossy().into_owned();
            Ok(FsUsage { mountpoint, used_bytes, inodes_used })
        })
        .await
    }
}
