//! Everything that goes into the engine: facts from the world and commands of the application.

use super::error::Error;
use super::id::{ModelIndex, TaskId};
use super::store::{Database, Record, StoreFailure};

/// The application's handle on something that settles later: a promise in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u32);

/// An HTTP answer, with the headers that the protocol reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// `x-request-id`
    pub request_id: Option<String>,
    /// `X-Auth-Failure`, on the probe.
    pub auth_failure: Option<String>,
    /// `Retry-After` in milliseconds, when it was given in seconds.
    pub retry_after_ms: Option<u64>,
    /// The body's bytes.
    pub body: Vec<u8>,
}

impl Response {
    /// The body of a success as text; of anything else the error that it tells of, which has the code `fallback` when
    /// the body has none.
    ///
    /// # Errors
    /// That error.
    pub fn text(self, fallback: &'static str) -> Result<String, Error> {
        let body = String::from_utf8(self.body).unwrap_or_default();
        if (200..300).contains(&self.status) {
            return Ok(body);
        }
        let mut error = Error::from_response(self.status, &body, self.request_id.as_deref(), fallback);
        error.retry_after_ms = self.retry_after_ms;
        Err(error)
    }
}

/// What the application's credential function said (protocol.md 3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Use this.
    Token {
        /// The token.
        token: String,
        /// Until when it is good, as ISO 8601 in UTC, where that is known.
        expires_at: Option<String>,
    },
    /// The login is gone.
    SignedOut,
    /// Temporary trouble; the text says what.
    Unavailable(String),
}

/// A fact from the world. Facts cannot fail; one that no longer matters is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A deadline of [`super::Engine::poll_timeout`] may have passed. Early, late or repeated is harmless.
    Timeout,
    /// The socket is open.
    SocketOpened(TaskId),
    /// A text frame arrived.
    SocketMessage(TaskId, String),
    /// The socket is closed, or never opened.
    SocketClosed {
        /// Which.
        socket: TaskId,
        /// The close code; 1006 when there was no closing handshake.
        code: u16,
    },
    /// An HTTP request ended; `Err` says how it never got an answer.
    Response(TaskId, Result<Response, String>),
    /// The credential function ended.
    Credential(TaskId, Credential),
    /// Journal records are durable, or the store refused them.
    Journaled(TaskId, Result<(), Error>),
    /// The storage has done what it was asked for: the records read, or none.
    Stored(TaskId, Result<Vec<Record>, StoreFailure>),
    /// A database was closed under us: another tab upgrades or deletes it, or the browser lost it.
    StoreClosed(Database),
    /// The lock is ours, or is not any more.
    Lock(bool),
    /// Another tab told this.
    Posted(String),
    /// The operating system says that there is a network.
    Online,
    /// The operating system says that there is none.
    Offline,
    /// The page became visible.
    Visible,
    /// The machine woke up (`ablo:wake`).
    Wake,
}

/// A write of the application on one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The model.
    pub model: ModelIndex,
    /// The row.
    pub id: String,
    /// What to do.
    pub change: Change,
    /// The text of the write options (api.md 2.5), if any were given.
    pub options: Option<String>,
}

/// What a write does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds the row: the text of an object of fields.
    Create(String),
    /// Changes fields: the text of an object of fields.
    Update(String),
    /// Removes the row.
    Delete,
}

/// What the application asks for. Each names the ticket that its answer settles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start, and settle when rows are ready.
    Start(Ticket),
    /// Write one row, optimistically.
    Write(Ticket, Write),
    /// Send one atomic batch: the text of the options of `commits.create` (api.md 4.1).
    Commit(Ticket, String),
    /// Read through the server: the text of the options of `retrieve` and `list` (api.md 2.3).
    Read(Ticket, ModelIndex, String),
    /// Settle when nothing is waiting to be confirmed, or fail after so many milliseconds.
    Flush(Ticket, Option<u64>),
    /// Settle with the newest unfinished write of a row, named by model name and id.
    Confirmation(Ticket, String, String),
    /// Use this token from now on.
    SetToken(String),
    /// Whether there is a credential function to ask, from now on.
    SetCredentialSource(bool),
    /// Reconnect now.
    Nudge,
    /// Behave as if there were no network, or stop doing so.
    SetOffline(bool),
    /// Write a refused write again, with other fields if given (the text of an object).
    Retry(Ticket, String, Option<String>),
    /// Settle with what has become of the commit of this key, as far as that is known.
    Receipt(Ticket, String),
    /// Forget a refused write.
    Discard(Ticket, String),
    /// Claim a row, or join groups: the text of the frame's payload (protocol.md 7.5, 7.7), and of the options
    /// `maxQueueDepth`, `waitTimeoutMs` and `create`. Settles when it is granted, with the row if that had to be read.
    Claim(Ticket, ModelIndex, String, String),
    /// Give a claim back.
    Release(String),
    /// Give all claims on rows back, without waiting: the page goes away.
    LeaveClaims,
    /// What the participant does now: the text of an activity (protocol.md 12.1).
    Activity(String),
    /// Tell other clients: an event's type on the wire, and the text of its payload (protocol.md 7.12).
    Broadcast(String, String),
    /// Delete everything that is stored of this identity, end, and settle.
    Purge(Ticket),
    /// Send what is waiting, close, and settle.
    Dispose(Ticket),
}
