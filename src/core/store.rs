//! What the engine asks of the storage of the browser, in terms that any ordered key-value store can fulfil.
//!
//! Two databases: a directory, which says whose rows were last used here, and one per identity. Records are bytes
//! under text keys, in two object stores that are written independently, so that a large write of the cache does not
//! hold up the journal. Which keys there are and what is in the records is decided in `engine::storage`.

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Database {
    /// Who used this application here last.
    Directory,
    /// The rows and the writes of one identity.
    Identity,
}

/// Which object store of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectStore {
    /// Writes on their way, and writes refused: nothing in it may be lost.
    Journal,
    /// Confirmed rows, and what is known about them: can be fetched again.
    Cache,
}

/// A change of one record, or of a range of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChange {
    /// Keep this value under this key, in place of what is there.
    Put {
        /// Where.
        store: ObjectStore,
        /// The key.
        key: String,
        /// The record.
        value: Vec<u8>,
    },
    /// Forget the records whose keys are at least `from` and less than `to`.
    Remove {
        /// Where.
        store: ObjectStore,
        /// First key.
        from: String,
        /// First key that stays.
        to: String,
    },
}

/// What the storage is asked for. Requests to one database are fulfilled in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreRequest {
    /// Open the database, made if it is not there. The name is hashed (SHA-256) by who fulfils this: it tells who uses
    /// the application.
    Open {
        /// What the database is for, unhashed.
        name: String,
    },
    /// All records whose keys are at least `from` and less than `to`, in the order of keys.
    Read {
        /// Where.
        store: ObjectStore,
        /// First key.
        from: String,
        /// First key that does not belong to it.
        to: String,
    },
    /// Change records, all of them or none. Answered when the transaction is complete.
    Write {
        /// What to change, in order.
        changes: Vec<StoreChange>,
        /// Whether to wait until the disk has it ("strict" durability, IndexedDB 3.0, 2.7.2).
        strict: bool,
    },
    /// Close the database and delete it.
    Delete,
}

/// A record and its key.
pub type Record = (String, Vec<u8>);

/// What kept the storage from doing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreFailureKind {
    /// There is no storage here: an old browser, an insecure page, some private modes.
    Unavailable,
    /// Another tab holds the database open and does not let go.
    Blocked,
    /// A newer version of the code has written the database.
    Newer,
    /// The connection to the database is gone.
    Lost,
    /// The disk, or what the browser allows of it, is full.
    Quota,
    /// The transaction was aborted.
    Aborted,
    /// Records are there, but this key does not open them.
    WrongKey,
    /// Anything else.
    Unknown,
}

/// A request to the storage that failed. Nothing of it was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFailure {
    /// The class.
    pub kind: StoreFailureKind,
    /// What the browser said.
    pub message: String,
}

/// FNV-1a: tells texts apart, and says nothing about them.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // What JSON numbers carry exactly.
    hash >> 11
}
