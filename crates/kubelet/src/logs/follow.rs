//! Reads and follows one container's log.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::{mpsc, watch};

use super::line;
use crate::notify::{WatchFlags, Watcher};

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// A longer line is cut.
const LINE_BYTES_MAX: usize = 1 << 20;
/// How soon new lines are seen when the kernel does not tell of them: it watches a limited number of files.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Source: `PodLogOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogQuery {
    pub(crate) follow: bool,
    pub(crate) timestamps: bool,
    pub(crate) since: Option<Timestamp>,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
    /// `Some(true)`: only stderr; `Some(false)`: only stdout.
    pub(crate) stderr: Option<bool>,
}

/// Sends the log in pieces until its end; with `follow`, until `ended` says that the container writes no more.
/// `changes` tells that it may have ended.
pub(crate) async fn stream(
    path: PathBuf,
    query: LogQuery,
    ended: impl Fn() -> bool + Send + 'static,
    mut changes: watch::Receiver<u64>,
    sender: mpsc::Sender<Bytes>,
) -> std::io::Result<()> {
    let mut file = File::open(&path).await?;
    let start = match query.tail_lines {
        Some(lines) => start_of_tail(&mut file, lines).await?,
        None => 0,
    };
    file.seek(SeekFrom::Start(start)).await?;
    let mut reader = Reader { query, sender, rest: Vec::new(), sent: 0, continues: false };
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut watcher = if reader.query.follow { watcher(&path) } else { None };
    loop {
        changes.mark_unchanged();
        // Asked before reading, so that the last lines of an ended container are not missed.
        let over = !reader.query.follow || ended();
        loop {
            let count = file.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            if !reader.take(&buffer[..count]).await {
                return Ok(());
            }
        }
        if let Some(next) = after_rotation(&path, &mut file).await {
            file = next;
            watcher = self::watcher(&path);
            continue;
        }
        if over {
            return Ok(());
        }
        tokio::select! {
            () = grown(watcher.as_ref()) => {}
            // Without its pod nothing more can be told.
            known = changes.changed() => if known.is_err() { tokio::time::sleep(LOOK_INTERVAL).await },
            () = reader.sender.closed() => return Ok(()),
        }
    }
}

/// Sees writes to the log, and that it gets another name.
fn watcher(path: &Path) -> Option<Watcher> {
    Watcher::new(&[(path, WatchFlags::MODIFY), (path.parent()?, WatchFlags::CREATE | WatchFlags::MOVED_TO)])
}

async fn grown(watcher: Option<&Watcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => tokio::time::sleep(LOOK_INTERVAL).await,
    }
}

/// The new file, when the one being read was renamed.
async fn after_rotation(path: &Path, file: &mut File) -> Option<File> {
    use std::os::unix::fs::MetadataExt;
    let old = file.metadata().await.ok()?;
    let now = tokio::fs::metadata(path).await.ok()?;
    if old.ino() == now.ino() && old.dev() == now.dev() {
        return None;
    }
    // Everything was read before; what was written in between is read now.
    if file.stream_position().await.ok()? < old.len() {
        return None;
    }
    File::open(path).await.ok()
}

/// Where the last `lines` lines begin.
async fn start_of_tail(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let size = file.metadata().await?.len();
    if lines == 0 {
        return Ok(size);
    }
    let mut wanted = lines;
    let mut end = size;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut first = true;
    while end > 0 {
        let length = end.min(CHUNK_BYTES as u64);
        let start = end - length;
        file.seek(SeekFrom::Start(start)).await?;
        let chunk = &mut buffer[..usize::try_from(length).unwrap_or(0)];
        file.read_exact(chunk).await?;
        for (index, &byte) in chunk.iter().enumerate().rev() {
            if byte != b'\n' || (first && index + 1 == chunk.len()) {
                continue;
            }
            wanted -= 1;
            if wanted == 0 {
                return Ok(start + index as u64 + 1);
            }
        }
        first = false;
        end = start;
    }
    Ok(0)
}

struct Reader {
    query: LogQuery,
    sender: mpsc::Sender<Bytes>,
    rest: Vec<u8>,
    sent: u64,
    /// The line before was partial, so this one has no time of its own.
    continues: bool,
}

impl Reader {
    /// Returns whether to go on.
    async fn take(&mut self, bytes: &[u8]) -> bool {
        self.rest.extend_from_slice(bytes);
        let mut out = Vec::new();
        let mut done = 0;
        while let Some(end) = self.rest[done..].iter().position(|&byte| byte == b'\n') {
            let line = &self.rest[done..=done + end];
            render(line, &self.query, &mut self.continues, &mut out);
            done += end + 1;
        }
        self.rest.drain(..done);
        if self.rest.len() > LINE_BYTES_MAX {
            self.rest.clear();
        }
        self.send(out).await
    }

    async fn send(&mut self, mut out: Vec<u8>) -> bool {
        if let Some(limit) = self.query.limit_bytes {
            let left = usize::try_from(limit.saturating_sub(self.sent)).unwrap_or(usize::MAX);
            out.truncate(left);
        }
        self.sent += out.len() as u64;
        let full = self.query.limit_bytes.is_some_and(|limit| self.sent >= limit);
        if !out.is_empty() && self.sender.send(Bytes::from(out)).await.is_err() {
            return false;
        }
        !full
    }
}

fn render(line: &[u8], query: &LogQuery, continues: &mut bool, out: &mut Vec<u8>) {
    let Some(entry) = line::parse(line) else { return };
    if query.stderr.is_some_and(|stderr| stderr != entry.stderr) {
        return;
    }
    if let Some(since) = query.since
        && entry.time.parse::<Timestamp>().is_ok_and(|time| time < since)
    {
        return;
    }
    if query.timestamps && !*continues {
        out.extend_from_slice(entry.time.as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(entry.text);
    *continues = !entry.ends_line;
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    const LOG: &str = "2026-11-20T13:00:00.1Z stdout F one\n2026-11-20T13:00:01.1Z stderr P tw\n\
        2026-11-20T13:00:01.2Z stderr F o\n2026-11-20T13:00:02.1Z stdout F three\n";

    async fn check(query: LogQuery, want: Expect) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("0.log");
        std::fs::write(&path, LOG).expect("write");
        let (sender, mut receiver) = mpsc::channel(16);
        let (_changes, changed) = watch::channel(0);
        stream(path, query, || true, changed, sender).await.expect("stream");
        let mut all = Vec::new();
        while let Some(piece) = receiver.recv().await {
            all.extend_from_slice(&piece);
        }
        want.assert_eq(&String::from_utf8_lossy(&all));
    }

    #[tokio::test]
    async fn queries() {
        let query = LogQuery::default();
        check(
            query.clone(),
            expect![[r#"
            one
            two
            three
        "#]],
        )
        .await;
        check(
            LogQuery { tail_lines: Some(1), follow: true, ..query.clone() },
            expect![[r#"
            three
        "#]],
        )
        .await;
        check(LogQuery { tail_lines: Some(0), ..query.clone() }, expect![""]).await;
        check(LogQuery { limit_bytes: Some(1), ..query.clone() }, expect!["o"]).await;
        check(
            LogQuery { stderr: Some(false), timestamps: true, ..query.clone() },
            expect![[r#"
            2026-11-20T13:00:00.1Z one
            2026-11-20T13:00:02.1Z three
        "#]],
        )
        .await;
        let since = "2026-11-20T13:00:02Z".parse().ok();
        check(
            LogQuery { since, ..query },
            expect![[r#"
            three
        "#]],
        )
        .await;
    }

    /// Lines come as they are written, also into the file that takes the place of the first; the end is heard of.
    #[tokio::test]
    async fn a_log_is_followed_through_its_rotation() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("0.log");
        std::fs::write(&path, LOG).expect("write");
        let (sender, mut receiver) = mpsc::channel(16);
        let (changes, changed) = watch::channel(0);
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let ended = {
            let over = over.clone();
            move || over.load(std::sync::atomic::Ordering::SeqCst)
        };
        let query = LogQuery { follow: true, tail_lines: Some(1), ..LogQuery::default() };
        let following = tokio::spawn(stream(path.clone(), query, ended, changed, sender));
        let mut next = async || String::from_utf8(receiver.recv().await.expect("a piece").to_vec()).expect("text");
        assert_eq!(next().await, "three\n");
        let line = |text: &str| format!("2026-11-20T13:00:03.1Z stdout F {text}\n");
        std::fs::write(&path, format!("{LOG}{}", line("four"))).expect("write");
        assert_eq!(next().await, "four\n");
        std::fs::rename(&path, folder.path().join("0.log.1")).expect("rename");
        std::fs::write(&path, line("five")).expect("write");
        assert_eq!(next().await, "five\n");
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        changes.send_modify(|count| *count += 1);
        following.await.expect("join").expect("followed");
        assert_eq!(receiver.recv().await, None);
    }
}
