//! Who did what: one JSON line per request at metadata level, in files that rotate. Source: `audit.k8s.io/v1 Event`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use super::Ctx;
use crate::config::AuditConfig;
use crate::time;

/// Lines that wait to be written; when full, lines are dropped and counted in the log of the program.
const QUEUE_LINES_MAX: usize = 10_000;

pub(crate) struct Audit {
    lines: Option<SyncSender<Vec<u8>>>,
    writer: Option<JoinHandle<()>>,
}

impl Audit {
    pub(crate) fn start(config: Option<&AuditConfig>) -> std::io::Result<Self> {
        let Some(config) = config else { return Ok(Self { lines: None, writer: None }) };
        let log = Log::open(config.clone())?;
        let (lines, queue) = sync_channel(QUEUE_LINES_MAX);
        let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(move || log.run(&queue))?;
        Ok(Self { lines: Some(lines), writer: Some(writer) })
    }

    pub(crate) fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Reads by the cluster's own components are not worth a line.
    pub(crate) fn wants(&self, ctx: &Ctx) -> bool {
        self.is_on()
            && (ctx.info.is_mutating() || !ctx.user.username.starts_with("system:"))
            && !(ctx.info.resource == "leases" || ctx.info.resource == "events")
    }

    pub(crate) fn record(&self, ctx: &Ctx, started: jiff::Timestamp, code: u16) {
        let Some(lines) = &self.lines else { return };
        let mut line = event(ctx, started, code).to_string().into_bytes();
        line.push(b'\n');
        if lines.try_send(line).is_err() {
            tracing::warn!("the audit log is behind; a line was dropped");
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn event(ctx: &Ctx, started: jiff::Timestamp, code: u16) -> Value {
    let info = &ctx.info;
    let uri = if ctx.raw_query.is_empty() { info.path.clone() } else { format!("{}?{}", info.path, ctx.raw_query) };
    let mut event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": ctx.audit_id,
        "stage": "ResponseComplete", "requestURI": uri, "verb": info.verb, "user": ctx.user,
        "userAgent": ctx.user_agent(), "responseStatus": {"metadata": {}, "code": code},
        "requestReceivedTimestamp": time::rfc3339_micro(started), "stageTimestamp": time::rfc3339_micro(time::now()),
    });
    if info.is_resource {
        let fields = [
            ("resource", &info.resource),
            ("namespace", &info.namespace),
            ("name", &info.name),
            ("apiGroup", &info.group),
            ("apiVersion", &info.version),
            ("subresource", &info.subresource),
        ];
        let reference = fields.into_iter().filter(|(_, value)| !value.is_empty());
        event["objectRef"] = reference.map(|(key, value)| (key.to_owned(), Value::from(value.as_str()))).collect();
    }
    let annotations = ctx.annotations();
    if !annotations.is_empty() {
        event["annotations"] = annotations.into_iter().map(|(key, value)| (key, Value::from(value))).collect();
    }
    event
}

struct Log {
    config: AuditConfig,
    file: File,
    written: u64,
}

impl Log {
    fn open(config: AuditConfig) -> std::io::Result<Self> {
        if let Some(folder) = config.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&config.path)?;
        let written = file.metadata()?.len();
        Ok(Self { config, file, written })
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
        if self.written < self.config.file_bytes_max {
            return Ok(());
        }
        for number in (1..self.config.files_max.max(2) - 1).rev() {
            let from = self.rotated(number);
            if from.exists() {
                std::fs::rename(from, self.rotated(number + 1))?;
            }
        }
        std::fs::rename(&self.config.path, self.rotated(1))?;
        self.file = OpenOptions::new().create(true).append(true).open(&self.config.path)?;
        self.written = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_rotate_and_the_oldest_goes() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("audit.log");
        let config = AuditConfig { path: path.clone(), file_bytes_max: 10, files_max: 3 };
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
}
