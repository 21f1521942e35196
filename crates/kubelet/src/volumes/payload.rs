//! The files of config map, secret, downward API and projected volumes.

use coracle_api_types::Object;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Secret,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use super::atomic::{File, Files};
use crate::context::Context;
use crate::fieldpath::{self, PodFacts};
use crate::{Error, Result};

const MODE_DEFAULT: i32 = 0o644;
/// Source: `ServiceAccountTokenProjection.expirationSeconds`.
const TOKEN_SECONDS_DEFAULT: i64 = 3600;

pub(crate) struct Payload {
    /// Folder name of the volume's sort.
    pub(crate) plugin: &'static str,
    pub(crate) files: Files,
}

/// What one volume holds now; `None` when it is of another sort.
pub(crate) async fn of(
    ctx: &Context,
    pod: &Pod,
    volume: &Volume,
    facts: &PodFacts,
    refresh: &mut Option<Timestamp>,
) -> Result<Option<Payload>> {
    if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        let files = config_map(ctx, pod, &source.name, source.items.as_deref(), source.optional, mode).await?;
        return Ok(Some(Payload { plugin: "kubernetes.io~configmap", files }));
    }
    if let Some(source) = &volume.secret {
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        let name = source.secret_name.as_deref().unwrap_or_default();
        let files = secret(ctx, pod, name, source.items.as_deref(), source.optional, mode).await?;
        return Ok(Some(Payload { plugin: "kubernetes.io~secret", files }));
    }
    if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        let files = downward(pod, source.items.as_deref(), facts, mode)?;
        return Ok(Some(Payload { plugin: "kubernetes.io~downward-api", files }));
    }
    if let Some(source) = &volume.projected {
        let files = projected(ctx, pod, source, facts, refresh).await?;
        return Ok(Some(Payload { plugin: "kubernetes.io~projected", files }));
    }
    Ok(None)
}

async fn projected(
    ctx: &Context,
    pod: &Pod,
    volume: &ProjectedVolumeSource,
    facts: &PodFacts,
    refresh: &mut Option<Timestamp>,
) -> Result<Files> {
    let mode = volume.default_mode.unwrap_or(MODE_DEFAULT);
    let mut files = Files::new();
    let mut errors = Vec::new();
    for source in volume.sources.iter().flatten() {
        match project(ctx, pod, source, facts, mode, refresh).await {
            Ok(more) => files.extend(more),
            Err(error) => errors.push(error.to_string()),
        }
    }
    match errors.as_slice() {
        [] => Ok(files),
        [one] => Err(Error::message(one.clone())),
        many => Err(Error::message(format!("[{}]", many.join(", ")))),
    }
}

async fn project(
    ctx: &Context,
    pod: &Pod,
    source: &VolumeProjection,
    facts: &PodFacts,
    mode: i32,
    refresh: &mut Option<Timestamp>,
) -> Result<Files> {
    if let Some(source) = &source.config_map {
        return config_map(ctx, pod, &source.name, source.items.as_deref(), source.optional, mode).await;
    }
    if let Some(source) = &source.secret {
        return secret(ctx, pod, &source.name, source.items.as_deref(), source.optional, mode).await;
    }
    if let Some(source) = &source.downward_api {
        return downward(pod, source.items.as_deref(), facts, mode);
    }
    if let Some(source) = &source.service_account_token {
        return token(ctx, pod, source, mode, refresh).await;
    }
    Err(Error::message("ClusterTrustBundle projection is not supported in static kubelet mode"))
}

async fn token(
    ctx: &Context,
    pod: &Pod,
    source: &ServiceAccountTokenProjection,
    mode: i32,
    refresh: &mut Option<Timestamp>,
) -> Result<Files> {
    let seconds = source.expiration_seconds.unwrap_or(TOKEN_SECONDS_DEFAULT);
    let audience = source.audience.as_deref().unwrap_or_default();
    let (text, renew) = ctx.tokens.get(pod, audience, seconds).await?;
    *refresh = Some(refresh.map_or(renew, |earlier| earlier.min(renew)));
    let user = common_user(pod);
    let mode = if user.is_some() || super::fs_group(pod).is_some() { 0o600 } else { mode };
    let file = File { bytes: text.into_bytes(), mode: bits(mode), user };
    Ok([(source.path.clone(), file)].into())
}

/// The user of all containers, when they agree: tokens are theirs alone then.
fn common_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let user =
        |container: &Container| container.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod);
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let mut users = spec.containers.iter().chain(init).map(user);
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

fn bits(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0o644) & 0o777
}

async fn config_map(
    ctx: &Context,
    pod: &Pod,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
) -> Result<Files> {
    let optional = optional == Some(true);
    let Some(map) = ctx.config_maps.get(pod.namespace(), name).await? else {
        return absent(optional, format!("configmap \"{name}\" not found"));
    };
    let map: &ConfigMap = &map;
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let missing = |key: &str| format!("configmap references non-existent config key: {key}");
    choose(binary.chain(text).collect(), items, optional, mode, missing)
}

async fn secret(
    ctx: &Context,
    pod: &Pod,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
) -> Result<Files> {
    let optional = optional == Some(true);
    let Some(secret) = ctx.secrets.get(pod.namespace(), name).await? else {
        return absent(optional, format!("secret \"{name}\" not found"));
    };
    let secret: &Secret = &secret;
    let data = secret.data.iter().flatten().map(|(key, ByteString(value))| (key.clone(), value.clone()));
    choose(data.collect(), items, optional, mode, |key| format!("references non-existent secret key: {key}"))
}

fn absent(optional: bool, message: String) -> Result<Files> {
    if optional { Ok(Files::new()) } else { Err(Error::message(message)) }
}

fn choose(
    data: std::collections::BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: i32,
    missing: impl Fn(&str) -> String,
) -> Result<Files> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let all = data.into_iter().map(|(key, bytes)| (key, File { bytes, mode: bits(mode), user: None }));
        return Ok(all.collect());
    };
    let mut files = Files::new();
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => {
                let mode = bits(item.mode.unwrap_or(mode));
                files.insert(item.path.clone(), File { bytes: bytes.clone(), mode, user: None });
            }
            None if optional => {}
            None => return Err(Error::message(missing(&item.key))),
        }
    }
    Ok(files)
}

fn downward(pod: &Pod, items: Option<&[DownwardAPIVolumeFile]>, facts: &PodFacts, mode: i32) -> Result<Files> {
    let mut files = Files::new();
    for item in items.unwrap_or_default() {
        let text = if let Some(selector) = &item.field_ref {
            fieldpath::field(pod, selector, facts)?
        } else if let Some(selector) = &item.resource_field_ref {
            fieldpath::resource(pod, &Container::default(), selector, facts)?
        } else {
            continue;
        };
        let file = File { bytes: text.into_bytes(), mode: bits(item.mode.unwrap_or(mode)), user: None };
        files.insert(item.path.clone(), file);
    }
    Ok(files)
}
