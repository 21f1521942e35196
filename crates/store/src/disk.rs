//! The format on disk: one SQLite file, one row for each key that exists.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, params};

use crate::reserve::Reserve;
use crate::{Entry, Key, Revision, Seal, StoreError};

const FORMAT: i64 = 1;
const FILE_NAME: &str = "state.db";
/// Revisions that may be given out between two commits; skipped after a crash, so that none is given out twice.
const RESERVE: u64 = 100_000;

pub(crate) struct Disk {
    connection: Connection,
    path: PathBuf,
    reserved: u64,
    reserve: Reserve,
}

pub(crate) struct Loaded {
    pub(crate) disk: Disk,
    pub(crate) revision: Revision,
    pub(crate) entries: Vec<(Key, Entry)>,
}

/// One row to write or, without an entry, to remove.
pub(crate) struct Row<'a> {
    pub(crate) key: &'a Key,
    pub(crate) entry: Option<&'a Entry>,
    /// What is written in place of the entry's value.
    pub(crate) sealed: Option<&'a [u8]>,
}

impl Disk {
    pub(crate) fn exists(folder: &Path) -> bool {
        folder.join(FILE_NAME).exists()
    }

    pub(crate) fn open(folder: &Path, seal: Option<&dyn Seal>, reserve_bytes: u64) -> Result<Loaded, StoreError> {
        let path = folder.join(FILE_NAME);
        let failed = |error: rusqlite::Error| failure(&path, &error);
        let connection = Connection::open(&path).map_err(failed)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=2000; PRAGMA cache_size=-2000;
                 PRAGMA journal_size_limit=16777216;",
            )
            .map_err(failed)?;
        check_format(&connection, &path)?;
        connection
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS entry(collection TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL,
                   created INTEGER NOT NULL, modified INTEGER NOT NULL, version INTEGER NOT NULL, expires_at INTEGER,
                   revision_at INTEGER, PRIMARY KEY(collection, name));",
            )
            .map_err(failed)?;
        let reserve = Reserve::new(folder, reserve_bytes);
        let mut disk = Self { connection, path: path.clone(), reserved: 0, reserve };
        let clean = disk.meta("clean").map_err(failed)?.unwrap_or(1) == 1;
        let last = disk.meta("revision").map_err(failed)?.unwrap_or(0).cast_unsigned();
        let reserved = disk.meta("reserved").map_err(failed)?.unwrap_or(0).cast_unsigned();
        let revision = if clean { last } else { last.max(reserved) };
        let mut entries = disk.load().map_err(failed)?;
        if let Some(seal) = seal {
            unseal(seal, &mut entries)?;
        }
        disk.reserved = revision + RESERVE;
        let reserved = disk.reserved;
        disk.set_meta(&[
            ("format", FORMAT.cast_unsigned()),
            ("clean", 0),
            ("reserved", reserved),
            ("revision", revision),
        ])
        .map_err(failed)?;
        disk.hold_reserve().unwrap_or_else(|error| tracing::warn!(%error, "keep some room on the disk"));
        Ok(Loaded { disk, revision: Revision(revision), entries })
    }

    fn meta(&self, name: &str) -> rusqlite::Result<Option<i64>> {
        let mut query = self.connection.prepare("SELECT value FROM meta WHERE name = ?1")?;
        let mut rows = query.query([name])?;
        rows.next()?.map(|row| row.get(0)).transpose()
    }

    fn set_meta(&mut self, values: &[(&str, u64)]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for (name, value) in values {
            transaction.execute("INSERT OR REPLACE INTO meta VALUES(?1, ?2)", params![name, value.cast_signed()])?;
        }
        transaction.commit()
    }

    fn load(&self) -> rusqlite::Result<Vec<(Key, Entry)>> {
        let mut query = self.connection.prepare(
            "SELECT collection, name, value, created, modified, version, expires_at, revision_at FROM entry ORDER BY 1, 2",
        )?;
        let mut rows = query.query([])?;
        let mut entries: Vec<(Key, Entry)> = Vec::new();
        while let Some(row) = rows.next()? {
            let collection: String = row.get(0)?;
            let shared =
                entries.last().filter(|(key, _)| *key.collection == *collection).map(|(key, _)| key.collection.clone());
            let key =
                Key { collection: shared.unwrap_or_else(|| collection.into()), name: row.get::<_, String>(1)?.into() };
            let number = |column| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(column)?.cast_unsigned()) };
            let entry = Entry {
                value: row.get::<_, Vec<u8>>(2)?.into(),
                created: Revision(number(3)?),
                modified: Revision(number(4)?),
                version: number(5)?,
                expires_at: row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned),
                revision_at: row.get::<_, Option<i64>>(7)?.and_then(|at| usize::try_from(at).ok()),
                ..Entry::default()
            };
            entries.push((key, entry));
        }
        Ok(entries)
    }

    /// The last revision that may be acknowledged before the next commit.
    pub(crate) fn reserved(&self) -> Revision {
        Revision(self.reserved)
    }

    /// Writes all rows in one transaction and waits until they are on the disk.
    pub(crate) fn commit(&mut self, rows: &[Row<'_>], revision: Revision) -> Result<(), StoreError> {
        let reserved = if revision.0 + RESERVE / 2 > self.reserved { revision.0 + RESERVE } else { self.reserved };
        write_rows(&mut self.connection, rows, revision, reserved).map_err(|error| failure(&self.path, &error))?;
        self.reserved = reserved;
        Ok(())
    }

    /// Keeps room for deletions. Fails while the disk is full.
    pub(crate) fn hold_reserve(&self) -> Result<(), StoreError> {
        self.reserve.hold().map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull => StoreError::DiskFull { path: self.path.clone() },
            _ => StoreError::Io { path: self.path.clone(), detail: error.to_string() },
        })
    }

    /// Looks whether there is room again: on the disk, or in the file, which never shrinks.
    pub(crate) fn find_room(&self) -> Result<(), StoreError> {
        // The log of writes may be what fills the disk.
        let _ = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        self.hold_reserve().or_else(|error| {
            let number = |pragma: &str| self.connection.query_row(pragma, [], |row| row.get::<_, i64>(0)).unwrap_or(0);
            let free = number("PRAGMA freelist_count") * number("PRAGMA page_size");
            if free.cast_unsigned() >= 2 * self.reserve.bytes() { Ok(()) } else { Err(error) }
        })
    }

    /// Gives up that room. False when it was given up before.
    pub(crate) fn release_reserve(&self) -> bool {
        self.reserve.release()
    }

    /// Marks a shutdown after which no revision was given out that is not on disk.
    pub(crate) fn close(&mut self, revision: Revision) -> Result<(), StoreError> {
        self.set_meta(&[("revision", revision.0), ("clean", 1)]).map_err(|error| failure(&self.path, &error))
    }
}

/// Gives every entry the value that it was written with.
fn unseal(seal: &dyn Seal, entries: &mut [(Key, Entry)]) -> Result<(), StoreError> {
    for (key, entry) in entries {
        let opened = seal.open(key, &entry.value).map_err(|detail| StoreError::Seal { key: key.clone(), detail })?;
        entry.seal = opened.id;
        if let Some(value) = opened.value {
            entry.value = value.into();
        }
    }
    Ok(())
}

fn write_rows(
    connection: &mut Connection,
    rows: &[Row<'_>],
    revision: Revision,
    reserved: u64,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut put =
            transaction.prepare_cached("INSERT OR REPLACE INTO entry VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
        let mut delete = transaction.prepare_cached("DELETE FROM entry WHERE collection = ?1 AND name = ?2")?;
        for row in rows {
            match row.entry {
                Some(entry) => put.execute(params![
                    &*row.key.collection,
                    &*row.key.name,
                    row.sealed.unwrap_or(&entry.value),
                    entry.created.0.cast_signed(),
                    entry.modified.0.cast_signed(),
                    entry.version.cast_signed(),
                    entry.expires_at.map(u64::cast_signed),
                    entry.revision_at.map(|at| i64::try_from(at).unwrap_or(i64::MAX)),
                ])?,
                None => delete.execute(params![&*row.key.collection, &*row.key.name])?,
            };
        }
        let mut meta = transaction.prepare_cached("INSERT OR REPLACE INTO meta VALUES(?1, ?2)")?;
        meta.execute(params!["revision", revision.0.cast_signed()])?;
        meta.execute(params!["reserved", reserved.cast_signed()])?;
    }
    transaction.commit()
}

fn check_format(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let has_meta: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_master WHERE name = 'meta'", [], |row| row.get(0))
        .map_err(|error| failure(path, &error))?;
    if has_meta == 0 {
        return Ok(());
    }
    let found: i64 = connection
        .query_row("SELECT coalesce(max(value), 0) FROM meta WHERE name = 'format'", [], |row| row.get(0))
        .map_err(|error| failure(path, &error))?;
    if found > FORMAT {
        let folder = path.parent().unwrap_or(path).to_owned();
        return Err(StoreError::NewerFormat { path: folder, found, supported: FORMAT });
    }
    Ok(())
}

fn failure(path: &Path, error: &rusqlite::Error) -> StoreError {
    let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull) || error.to_string().contains("No space left");
    if full {
        return StoreError::DiskFull { path: path.to_owned() };
    }
    StoreError::Io { path: path.to_owned(), detail: error.to_string() }
}
