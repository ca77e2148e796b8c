//! The SQLite store: one connection, one thread, changes in groups.
//!
//! The write-ahead log with `synchronous = NORMAL` never loses consistency; after a power cut the last commits may be
//! missing, after a crash of the process none are. A commit then costs no `fsync`, which is what keeps a confirmed write
//! within its budget. What waits while one transaction is being written goes into the next one together.

use std::path::Path;
use std::sync::mpsc::Receiver;

use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::time::WallTime;
use rusqlite::{Connection, Transaction, params};

use crate::driver::{Batch, Driver};
use crate::engine::{
    Fence, StoreChange, Stored, StoredCommit, StoredDelta, StoredKey, StoredRow, StoredTransaction, Text, Verb,
};

/// Version of the tables. A database of a later version is refused.
pub const SCHEMA_VERSION: i64 = 1;
/// Most batches that go into one transaction.
const GROUP_MAX: usize = 256;

/// One step for each version: how a database of the version before becomes one of it.
const MIGRATIONS: [&str; SCHEMA_VERSION as usize] = ["
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE models (name TEXT PRIMARY KEY, spelling TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE rows (organization TEXT NOT NULL, model TEXT NOT NULL, id TEXT NOT NULL, data TEXT NOT NULL,
        last_sync_id INTEGER NOT NULL, PRIMARY KEY (organization, model, id)) WITHOUT ROWID;
    CREATE TABLE deltas (id INTEGER PRIMARY KEY, organization TEXT NOT NULL, model TEXT NOT NULL, row TEXT NOT NULL,
        verb TEXT NOT NULL, groups_before TEXT, groups_after TEXT, fields TEXT, emptied TEXT, actor TEXT NOT NULL,
        at INTEGER NOT NULL);
    CREATE TABLE commits (organization TEXT NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL, receipt TEXT NOT NULL,
        at INTEGER NOT NULL, PRIMARY KEY (organization, key)) WITHOUT ROWID;
    CREATE INDEX commits_at ON commits (at);
    CREATE TABLE transactions (organization TEXT NOT NULL, participant TEXT NOT NULL, transaction_id TEXT NOT NULL,
        digest BLOB NOT NULL, sync_id INTEGER NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (organization, participant, transaction_id)) WITHOUT ROWID;
    CREATE INDEX transactions_at ON transactions (at);
    CREATE TABLE keys (hash TEXT PRIMARY KEY, record TEXT NOT NULL, expires_at INTEGER NOT NULL) WITHOUT ROWID;
"];

/// Why a store could not be opened, written or read: what, and what to do about it.
#[derive(Debug)]
pub struct StoreError(pub String);

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

/// An open database.
pub struct Store {
    connection: Connection,
}

impl Store {
    /// Opens a file, or a database in memory for `:memory:`, and brings its tables up to date.
    ///
    /// # Errors
    /// When it cannot be opened, is no database, is in use by another server, or comes from a later version.
    pub fn open(path: &str) -> Result<Self, StoreError> {
        let in_memory = path == ":memory:";
        let opened = if in_memory { Connection::open_in_memory() } else { Connection::open(Path::new(path)) };
        let explain = |error: rusqlite::Error| {
            StoreError(format!("cannot open the database {path}: {error}; give --db a file that this user may write"))
        };
        let mut connection = opened.map_err(explain)?;
        connection
            .execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
            .map_err(explain)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(explain)?;
        if version > SCHEMA_VERSION {
            return Err(StoreError(format!(
                "the database {path} is of version {version}, this server knows up to {SCHEMA_VERSION}; use a newer server"
            )));
        }
        let transaction = connection.transaction().map_err(explain)?;
        for (index, step) in MIGRATIONS.iter().enumerate().skip(usize::try_from(version).unwrap_or(0)) {
            transaction.execute_batch(step).map_err(explain)?;
            transaction.pragma_update(None, "user_version", index as i64 + 1).map_err(explain)?;
        }
        transaction.commit().map_err(explain)?;
        Ok(Self { connection })
    }

    /// Reads everything. Rows are served from memory; the file is only read at start.
    ///
    /// # Errors
    /// When a record cannot be read: serving the rest would look like a deletion.
    pub fn load(&self) -> Result<Stored, StoreError> {
        let mut stored = Stored::default();
        let db = &self.connection;
        let mut statement = db.prepare("SELECT key, value FROM meta")?;
        for entry in statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))? {
            let (key, value) = entry?;
            match key.as_str() {
                "head" => stored.head = SyncId(number(value)),
                "fence" => stored.fence = Fence(number(value)),
                "history_floor" => stored.history_floor = SyncId(number(value)),
                "forgotten" => stored.forgotten = WallTime(number(value)),
                _ => {}
            }
        }
        let mut statement = db.prepare("SELECT name, spelling FROM models")?;
        for entry in statement.query_map([], |row| Ok((row.get::<_, Text>(0)?, row.get::<_, Text>(1)?)))? {
            let (name, spelling) = entry?;
            stored.models.insert(name, spelling);
        }
        let mut change = StoreChange::default();
        let mut statement = db.prepare("SELECT organization, model, id, data, last_sync_id FROM rows")?;
        for row in statement.query_map([], |row| {
            Ok(StoredRow {
                organization: row.get(0)?,
                model: row.get(1)?,
                id: row.get(2)?,
                data: row.get(3)?,
                last_sync_id: SyncId(number(row.get(4)?)),
            })
        })? {
            change.rows.push(row?);
        }
        change.deltas = self.load_deltas()?;
        let mut statement = db.prepare("SELECT organization, key, digest, receipt, at FROM commits")?;
        for commit in statement.query_map([], |row| {
            let at = WallTime(number(row.get(4)?));
            Ok(StoredCommit {
                organization: row.get(0)?,
                key: row.get(1)?,
                digest: row.get(2)?,
                receipt: row.get(3)?,
                at,
            })
        })? {
            change.commits.push(commit?);
        }
        let mut statement =
            db.prepare("SELECT organization, participant, transaction_id, digest, sync_id, at FROM transactions")?;
        for record in statement.query_map([], |row| {
            Ok(StoredTransaction {
                organization: row.get(0)?,
                participant: row.get(1)?,
                transaction_id: row.get(2)?,
                digest: row.get(3)?,
                sync_id: SyncId(number(row.get(4)?)),
                at: WallTime(number(row.get(5)?)),
            })
        })? {
            change.transactions.push(record?);
        }
        let mut statement = db.prepare("SELECT hash, record, expires_at FROM keys")?;
        for key in statement.query_map([], |row| {
            Ok(StoredKey { hash: row.get(0)?, record: row.get(1)?, expires_at: WallTime(number(row.get(2)?)) })
        })? {
            change.keys.push(key?);
        }
        stored.apply(change);
        Ok(stored)
    }

    fn load_deltas(&self) -> Result<Vec<StoredDelta>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT id, organization, model, row, verb, groups_before, groups_after, fields, emptied, actor, at FROM deltas",
        )?;
        let deltas = statement.query_map([], |row| {
            let list = |index: usize| {
                Ok::<_, rusqlite::Error>(row.get::<_, Option<String>>(index)?.map(|text| read_list(&text)))
            };
            Ok(StoredDelta {
                id: SyncId(number(row.get(0)?)),
                organization: row.get(1)?,
                model: row.get(2)?,
                row: row.get(3)?,
                verb: Verb::parse(&row.get::<_, String>(4)?).unwrap_or(Verb::Update),
                groups_before: list(5)?,
                groups_after: list(6)?,
                fields: list(7)?,
                emptied: list(8)?.unwrap_or_default(),
                actor: row.get(9)?,
                at: WallTime(number(row.get(10)?)),
            })
        })?;
        Ok(deltas.collect::<Result<_, _>>()?)
    }

    /// Makes changes durable, all of them or none.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn write(&mut self, changes: &[StoreChange]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        for change in changes {
            write_change(&transaction, change)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Takes batches until the driver closes the store or a write fails. Blocks: run it on a thread of its own.
    pub(crate) fn run(mut self, driver: &Driver, batches: &Receiver<Batch>) {
        while let Ok(first) = batches.recv() {
            let mut group = vec![first];
            while group.len() < GROUP_MAX
                && let Ok(next) = batches.try_recv()
            {
                group.push(next);
            }
            let changes: Vec<StoreChange> = group.iter_mut().flat_map(Batch::take_changes).collect();
            let written = if changes.is_empty() { Ok(()) } else { self.write(&changes) };
            if let Err(error) = &written {
                tracing::error!("cannot write to the database: {error}");
            }
            driver.stored(group, written.is_ok());
            if written.is_err() {
                return;
            }
        }
    }
}

fn write_change(db: &Transaction<'_>, change: &StoreChange) -> Result<(), rusqlite::Error> {
    let meta = "INSERT INTO meta (key, value) VALUES (?1, ?2)
        ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)";
    if let Some(head) = change.head {
        db.prepare_cached(meta)?.execute(params!["head", signed(head.0)])?;
    }
    if let Some(fence) = change.fence {
        db.prepare_cached(meta)?.execute(params!["fence", signed(fence.0)])?;
    }
    for (name, spelling) in &change.models {
        let mut statement = db.prepare_cached("INSERT OR REPLACE INTO models (name, spelling) VALUES (?1, ?2)")?;
        statement.execute(params![name, spelling])?;
    }
    for row in &change.rows {
        let mut statement = db.prepare_cached(
            "INSERT OR REPLACE INTO rows (organization, model, id, data, last_sync_id) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        statement.execute(params![row.organization, row.model, row.id, row.data, signed(row.last_sync_id.0)])?;
    }
    for (organization, model, id) in &change.removed {
        let mut statement = db.prepare_cached("DELETE FROM rows WHERE organization = ?1 AND model = ?2 AND id = ?3")?;
        statement.execute(params![organization, model, id])?;
    }
    for delta in &change.deltas {
        let mut statement = db.prepare_cached(
            "INSERT INTO deltas (id, organization, model, row, verb, groups_before, groups_after, fields, emptied, actor, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?;
        let list = |list: &Option<Vec<Text>>| list.as_deref().map(write_list);
        statement.execute(params![
            signed(delta.id.0),
            delta.organization,
            delta.model,
            delta.row,
            delta.verb.letter(),
            list(&delta.groups_before),
            list(&delta.groups_after),
            list(&delta.fields),
            (!delta.emptied.is_empty()).then(|| write_list(&delta.emptied)),
            delta.actor,
            signed(delta.at.0),
        ])?;
    }
    for commit in &change.commits {
        let mut statement = db.prepare_cached(
            "INSERT OR REPLACE INTO commits (organization, key, digest, receipt, at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        statement.execute(params![
            commit.organization,
            commit.key,
            commit.digest,
            commit.receipt,
            signed(commit.at.0)
        ])?;
    }
    for record in &change.transactions {
        let mut statement = db.prepare_cached(
            "INSERT OR REPLACE INTO transactions (organization, participant, transaction_id, digest, sync_id, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        statement.execute(params![
            record.organization,
            record.participant,
            record.transaction_id,
            record.digest,
            signed(record.sync_id.0),
            signed(record.at.0)
        ])?;
    }
    for key in &change.keys {
        let mut statement =
            db.prepare_cached("INSERT OR REPLACE INTO keys (hash, record, expires_at) VALUES (?1, ?2, ?3)")?;
        statement.execute(params![key.hash, key.record, signed(key.expires_at.0)])?;
    }
    if let Some(floor) = change.history_floor {
        db.prepare_cached(meta)?.execute(params!["history_floor", signed(floor.0)])?;
        db.prepare_cached("DELETE FROM deltas WHERE id <= ?1")?.execute([signed(floor.0)])?;
    }
    if let Some(moment) = change.forget_before {
        db.prepare_cached(meta)?.execute(params!["forgotten", signed(moment.0)])?;
        db.prepare_cached("DELETE FROM commits WHERE at < ?1")?.execute([signed(moment.0)])?;
        db.prepare_cached("DELETE FROM transactions WHERE at < ?1")?.execute([signed(moment.0)])?;
    }
    if let Some(moment) = change.forget_keys_before {
        db.prepare_cached("DELETE FROM keys WHERE expires_at < ?1")?.execute([signed(moment.0)])?;
    }
    Ok(())
}

/// SQLite's integers are signed; ids and times never come near the difference.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn write_list(list: &[Text]) -> String {
    let mut out = String::new();
    ablo_wasm::core::json::write_array(&mut out, list, |out, item| ablo_wasm::core::json::write_str(out, item));
    out
}

fn read_list(text: &str) -> Vec<Text> {
    use ablo_wasm::core::json::Value;
    let list = Value::parse(text).ok();
    list.into_iter().flat_map(Value::elements).filter_map(|item| item.as_str().map(|item| Text::from(&*item))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let text = |text: &str| Text::from(text);
        let change = StoreChange {
            head: Some(SyncId(9)),
            models: vec![(text("task"), text("Task"))],
            rows: vec![StoredRow {
                organization: text("acme"),
                model: text("task"),
                id: text("t\u{0}ü"),
                data: text("{\"id\":\"t\\u0000ü\"}"),
                last_sync_id: SyncId(9),
            }],
            deltas: vec![StoredDelta {
                id: SyncId(9),
                organization: text("acme"),
                model: text("task"),
                row: text("t\u{0}ü"),
                verb: Verb::Restore,
                groups_before: None,
                groups_after: Some(vec![text("deck:\"d\"")]),
                fields: Some(Vec::new()),
                emptied: vec![text("tags")],
                actor: text("user:u"),
                at: WallTime(5),
            }],
            commits: vec![StoredCommit {
                organization: text("acme"),
                key: text("k"),
                digest: [7; 32],
                receipt: text("{}"),
                at: WallTime(5),
            }],
            transactions: vec![StoredTransaction {
                organization: text("acme"),
                participant: text("user:u"),
                transaction_id: text("tx"),
                digest: [8; 32],
                sync_id: SyncId(9),
                at: WallTime(5),
            }],
            keys: vec![StoredKey { hash: text("ab"), record: text("{}"), expires_at: WallTime(6) }],
            fence: Some(Fence(1001)),
            ..StoreChange::default()
        };
        let mut expected = Stored::default();
        expected.apply(change.clone());
        let mut store = Store::open(":memory:").unwrap();
        store.write(&[change]).unwrap();
        assert_eq!(store.load().unwrap(), expected);

        let cut = StoreChange {
            removed: vec![(text("acme"), text("task"), text("t\u{0}ü"))],
            history_floor: Some(SyncId(9)),
            forget_before: Some(WallTime(6)),
            forget_keys_before: Some(WallTime(7)),
            ..StoreChange::default()
        };
        expected.apply(cut.clone());
        store.write(&[cut]).unwrap();
        assert_eq!(store.load().unwrap(), expected);
    }

    #[test]
    fn a_newer_database_is_refused() {
        let file = std::env::temp_dir().join(format!("ablo-store-{}.db", std::process::id()));
        let path = file.to_str().unwrap();
        drop(Store::open(path).unwrap());
        Connection::open(path).unwrap().pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
        let error = Store::open(path).err().unwrap();
        assert!(error.0.contains("use a newer server"), "{error}");
        std::fs::remove_file(file).unwrap();
    }
}
