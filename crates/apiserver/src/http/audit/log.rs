//! The file of the audit log: bounded, rotating, written by a thread of its own.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use coracle_api_meta::Value;

use crate::config::AuditConfig;

/// Lines that wait to be written; when full, lines are dropped and told of in the log of the program.
const QUEUE_LINES_MAX: usize = 10_000;

pub(super) struct Lines {
    queue: Option<SyncSender<Vec<u8>>>,
    writer: Option<JoinHandle<()>>,
}

impl Lines {
    pub(super) fn start(config: &AuditConfig) -> std::io::Result<Self> {
        let log = Log::open(config.clone())?;
        let (queue, lines) = sync_channel(QUEUE_LINES_MAX);
        let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(move || log.run(&lines))?;
        Ok(Self { queue: Some(queue), writer: Some(writer) })
    }

    pub(super) fn send(&self, event: &Value) {
        let mut line = event.to_string().into_bytes();
        line.push(b'\n');
        if self.queue.as_ref().is_some_and(|queue| queue.try_send(line).is_err()) {
            tracing::warn!("the audit log is behind; a line was dropped");
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

struct Log {
    config: AuditConfig,
    file: Box<dyn Write + Send>,
    written: u64,
}

fn append(path: &PathBuf) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Log {
    fn open(config: AuditConfig) -> std::io::Result<Self> {
        if config.path.as_os_str() == "-" {
            return Ok(Self { config, file: Box::new(std::io::stdout()), written: 0 });
        }
        if let Some(folder) = config.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = append(&config.path)?;
        let written = file.metadata()?.len();
        let log = Self { config, file: Box::new(file), written };
        log.forget_old();
        Ok(log)
    }

    fn run(mut self, queue: &Receiver<Vec<u8>>) {
        while let Ok(mut lines) = queue.recv() {
            while let Ok(more) = queue.try_recv() {
                lines.extend_from_slice(&more);
            }
            let result = self.rotate_if_full().and_then(|()| self.file.write_all(&lines));
            self.written += lines.len() as u64;
            if let Err(error) = result {
                tracing::error!(%error, path = %self.config.path.display(), "write the audit log");
            }
        }
    }

    fn rotated(&self, number: usize) -> PathBuf {
        let mut name = self.config.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn rotate_if_full(&mut self) -> std::io::Result<()> {
        if self.written < self.config.file_bytes_max || self.config.path.as_os_str() == "-" {
            return Ok(());
        }
        for number in (1..self.config.files_max.max(2) - 1).rev() {
            let from = self.rotated(number);
            if from.exists() {
                std::fs::rename(from, self.rotated(number + 1))?;
            }
        }
        std::fs::rename(&self.config.path, self.rotated(1))?;
        self.file = Box::new(append(&self.config.path)?);
        self.written = 0;
        self.forget_old();
        Ok(())
    }

    /// Removes files that are older than they may get.
    fn forget_old(&self) {
        let Some(age_max) = self.config.age_max else { return };
        for number in 1..self.config.files_max.max(2) {
            let path = self.rotated(number);
            let modified = path.metadata().and_then(|file| file.modified()).ok();
            let age = modified.and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or(Duration::ZERO);
            if age > age_max {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_rotate_and_the_oldest_goes() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("audit.log");
        let config = AuditConfig { file_bytes_max: 10, files_max: 3, ..AuditConfig::new(path.clone()) };
        let (lines, queue) = sync_channel(100);
        let log = Log::open(config).expect("log");
        let writer = std::thread::spawn(move || log.run(&queue));
        for number in 0..6 {
            lines.send(format!("line number {number}\n").into_bytes()).expect("sent");
            while !std::fs::read_to_string(&path).unwrap_or_default().contains(&number.to_string()) {
                std::thread::yield_now();
            }
        }
        drop(lines);
        writer.join().expect("writer");
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        assert_eq!(read("audit.log"), "line number 5\n");
        assert_eq!(
            (read("audit.log.1").as_str(), read("audit.log.2").as_str()),
            ("line number 4\n", "line number 3\n")
        );
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 3);
    }

    #[test]
    fn old_files_go_by_age() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("audit.log");
        let old = folder.path().join("audit.log.1");
        let file = File::create(&old).expect("file");
        file.set_modified(SystemTime::now() - Duration::from_secs(3 * 24 * 3600)).expect("aged");
        let config = AuditConfig { age_max: Some(Duration::from_secs(24 * 3600)), ..AuditConfig::new(path) };
        Log::open(config).expect("log");
        assert!(!old.exists());
    }
}
