//! Waits for changes of files and folders, by inotify.

use std::path::Path;

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

pub(crate) use rustix::fs::inotify::WatchFlags;

/// Watches paths until it is dropped.
pub(crate) struct Watcher(AsyncFd<std::os::fd::OwnedFd>);

impl Watcher {
    /// `None` when the kernel gives no more of them, or a path is not there.
    pub(crate) fn new(paths: &[(&Path, WatchFlags)]) -> Option<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
        for (path, what) in paths {
            inotify::add_watch(&fd, *path, *what).ok()?;
        }
        // The replacement is unsafe; an owned descriptor stays open for as long as this does.
        #[allow(deprecated)]
        AsyncFd::new(fd).ok().map(Self)
    }

    /// Returns after the next change, or at once when there was one since the last call.
    pub(crate) async fn changed(&self) {
        let Ok(mut guard) = self.0.readable().await else { return std::future::pending().await };
        let mut buffer = [0; 4096];
        while rustix::io::read(self.0.get_ref(), &mut buffer).is_ok_and(|count| count > 0) {}
        guard.clear_ready();
    }
}
