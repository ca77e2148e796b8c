//! Everything that comes out of the engine: requests to the world and news for the application.

use super::error::Error;
use super::id::TaskId;
use super::input::Ticket;
use super::store::{Database, StoreRequest};

/// HTTP methods in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the methods' own names, RFC 9110")]
pub enum Method {
    Head,
    Get,
    Post,
    Delete,
}

impl Method {
    /// The method's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Head => "HEAD",
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// An HTTP request to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The address. Holds no secret.
    pub url: String,
    /// Credential for the `Authorization` header.
    pub bearer: Option<String>,
    /// JSON to send.
    pub body: Option<String>,
    /// Ask caches to stay out of it.
    pub no_cache: bool,
    /// Give up after so long.
    pub timeout_ms: u64,
}

/// A change of the journal: one record per commit, in the order of `order`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalOp {
    /// Store this record, in place of the one with the same number.
    Put {
        /// Its place.
        order: u64,
        /// Its text.
        record: String,
    },
    /// The record has done its work.
    Remove {
        /// Its place.
        order: u64,
    },
}

impl JournalOp {
    /// The place that it changes.
    pub fn order(&self) -> u64 {
        match self {
            Self::Put { order, .. } | Self::Remove { order } => *order,
        }
    }
}

/// Something for the shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a socket; answered by `SocketOpened` or `SocketClosed`.
    OpenSocket {
        /// Its name from now on.
        socket: TaskId,
        /// The address. Holds no secret.
        url: String,
        /// Subprotocols to offer. The first may hold the credential.
        protocols: Vec<String>,
    },
    /// Send a text frame.
    SendFrame(TaskId, String),
    /// Close the socket. Nothing about it is reported afterwards.
    CloseSocket {
        /// Which.
        socket: TaskId,
        /// Close code.
        code: u16,
        /// Close reason.
        reason: &'static str,
    },
    /// Make a request; answered by `Response`.
    Fetch(TaskId, Request),
    /// Call the application's credential function; answered by `Credential`.
    AskCredential(TaskId),
    /// Change the journal, all or nothing; answered by `Journaled`.
    Journal(TaskId, Vec<JournalOp>),
    /// Ask the storage; answered by `Stored`.
    Store(TaskId, Database, StoreRequest),
    /// Close both databases, without an answer.
    CloseStores,
    /// Ask for the exclusive lock of this name (Web Locks), hashed like a database's; `steal` takes it from whoever has
    /// it. Answered by `Lock` when it is granted, and again when it is lost.
    RequestLock {
        /// The name, unhashed.
        name: String,
        /// Take it at once.
        steal: bool,
    },
    /// Give the lock back, or stop waiting for it.
    ReleaseLock,
    /// Join the channel of this name (BroadcastChannel), hashed like a database's.
    OpenChannel(String),
    /// Tell the other tabs; what they tell comes as `Posted`.
    Post(String),
    /// Leave the channel.
    CloseChannel,
    /// A ticket's answer: text for the application, or its error.
    Settle(Ticket, Result<Option<String>, Error>),
    /// News for listeners: a name and the text of its payload.
    Event(&'static str, String),
    /// The status snapshot changed.
    StatusChanged,
}

/// Why the engine wants to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Writes of this turn are waiting to be sealed and sent: due at once.
    Flush,
    /// A commit was refused for the moment, or was not answered.
    Commit,
    /// Confirmed writes wait for their delta.
    Echo,
    /// A ping or its answer is due.
    Heartbeat,
    /// Catch-up request.
    CatchUp,
    /// The connection machine waits.
    Connection,
    /// The bootstrap waits before it is tried again.
    Bootstrap,
    /// The tab that sends is asked whether it is there, or has not answered.
    Tabs,
    /// A claim is waited for no longer, or what the participant does is due to be told.
    Claims,
    /// A ticket's time is up.
    Ticket,
}
