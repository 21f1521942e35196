//! Files that configure components: read once, and again whenever they change.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use crate::cluster::Scope;

const FILE_BYTES_MAX: u64 = 4 << 20;

/// The text of a file that a flag names.
pub(crate) fn read(flag: &str, path: &Path) -> Result<String> {
    let context = || format!("{flag} {}", path.display());
    let size = std::fs::metadata(path).with_context(context)?.len();
    ensure!(size <= FILE_BYTES_MAX, "{flag} {}: larger than {FILE_BYTES_MAX} bytes", path.display());
    std::fs::read_to_string(path).with_context(context)
}

/// Tells `on_change` what stands in the file whenever that is no longer `seen`, for as long as the cluster runs.
pub(crate) fn watch(
    flag: &'static str,
    path: PathBuf,
    mut seen: String,
    scope: &Scope,
    mut on_change: impl FnMut(&str) -> Result<(), String> + Send + 'static,
) -> Result<()> {
    // The folder, as files are replaced by renaming others, and links to folders too.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).context("watch files")?;
    let kinds = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR;
    inotify::add_watch(&events, folder, kinds).with_context(|| format!("watch {}", folder.display()))?;
    // The descriptor is owned by what waits on it, so the unsafe `register` would promise nothing more.
    #[allow(deprecated)]
    let events = AsyncFd::new(events).context("watch files")?;
    let follow = async move {
        let mut buffer = [0; 4096];
        while let Ok(mut ready) = events.readable().await {
            while rustix::io::read(events.get_ref(), &mut buffer).is_ok() {}
            ready.clear_ready();
            let text = match read(flag, &path) {
                Ok(text) if text != seen => text,
                Ok(_) => continue,
                // Between two steps of a replacement there may be no file.
                Err(_) if !path.exists() => continue,
                Err(error) => {
                    tracing::error!("{error:#}: the configuration of before stays");
                    continue;
                }
            };
            match on_change(&text) {
                Ok(()) => tracing::info!("{flag} {}: taken over", path.display()),
                Err(why) => tracing::error!("{flag} {}: {why}: the configuration of before stays", path.display()),
            }
            seen = text;
        }
    };
    scope.tasks.spawn(scope.stop.clone().run_until_cancelled_owned(follow));
    Ok(())
}
