//! Housekeeping: log rotation, images that nobody uses, folders of pods that are gone.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use coracle_cri::Image;

use crate::context::{Context, Ctx};
use crate::{logs, volumes};

/// Source: kubelet `containerLogMonitorInterval`.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Rounds of the log interval between two looks at images. Source: kubelet `ImageGCPeriod`, 5 minutes.
const ROUNDS_PER_IMAGE_GC: u64 = 30;
pub(crate) async fn run(ctx: Ctx) {
    let mut ticks = tokio::time::interval(LOG_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round: u64 = 0;
    loop {
        ticks.tick().await;
        round += 1;
        logs::rotate_all(&ctx).await;
        if round.is_multiple_of(ROUNDS_PER_IMAGE_GC) {
            collect_images(&ctx).await;
            collect_folders(&ctx).await;
        }
    }
}

/// When the disk is fuller than the high mark, removes unused images until the low mark should be met.
async fn collect_images(ctx: &Context) {
    let Ok(usage) = ctx.images.service().image_fs_info().await else { return };
    let Ok(stat) = coracle_host::info::statfs(Path::new(&usage.mountpoint)) else { return };
    let used_percent = (stat.capacity.saturating_sub(stat.available)) * 100 / stat.capacity.max(1);
    if used_percent < ctx.config.image_gc_high_percent || stat.available >= ctx.config.image_gc_disk_available {
        return;
    }
    let target = stat.capacity / 100 * (100 - ctx.config.image_gc_low_percent);
    let mut to_free = target.saturating_sub(stat.available);
    for image in unused_images(ctx).await {
        if to_free == 0 {
            return;
        }
        match ctx.images.service().remove_image(&image.id).await {
            Ok(()) => to_free = to_free.saturating_sub(image.size),
            Err(error) => tracing::warn!(%error, image = image.id, "remove an unused image"),
        }
    }
}

/// Whatever the marks: the disk is short.
pub(crate) async fn remove_unused_images(ctx: &Context) {
    for image in unused_images(ctx).await {
        if let Err(error) = ctx.images.service().remove_image(&image.id).await {
            tracing::warn!(%error, image = image.id, "remove an unused image");
        }
    }
}

async fn unused_images(ctx: &Context) -> Vec<Image> {
    let Ok(images) = ctx.images.service().list_images().await else { return Vec::new() };
    let Ok(containers) = ctx.runtime.list_containers().await else { return Vec::new() };
    let used: BTreeSet<String> = containers
        .into_iter()
        .flat_map(|container| {
            let volumes = container.mounts.into_iter().filter_map(|mount| mount.image);
            volumes.chain([container.image_id, container.image_ref, container.image]).collect::<Vec<_>>()
        })
        .collect();
    let is_used = |image: &Image| {
        let names = image.repo_digests.iter().chain(&image.repo_tags);
        image.pinned || used.contains(&image.id) || names.into_iter().any(|name| used.contains(name))
    };
    images.into_iter().filter(|image| !is_used(image)).collect()
}

/// Folders that a crash left behind.
async fn collect_folders(ctx: &Context) {
    let Ok(entries) = std::fs::read_dir(ctx.pods_dir()) else { return };
    for entry in entries.flatten() {
        let uid = entry.file_name().to_string_lossy().into_owned();
        if ctx.workers.get(&uid).is_none()
            && let Err(error) = volumes::tear_down(entry.path()).await
        {
            tracing::warn!(%error, uid, "remove the folder of a pod that is gone");
        }
    }
}
