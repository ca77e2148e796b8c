//! What the numbers that the SDK passes stand for: `Ask`, `Numbers` and `Text` in `sdk/src/boundary.ts`, which says
//! with which arguments. `tests/tidy.rs` compares the two.
//!
//! Constants, because to make an enum of a number takes code in the module.

/// `Ask`.
pub(super) mod ask {
    pub(crate) const START: u32 = 0;
    pub(crate) const CREATE: u32 = 1;
    pub(crate) const UPDATE: u32 = 2;
    pub(crate) const DELETE: u32 = 3;
    pub(crate) const READ: u32 = 4;
    pub(crate) const COMMIT: u32 = 5;
    pub(crate) const FLUSH: u32 = 6;
    pub(crate) const CONFIRMATION: u32 = 7;
    pub(crate) const SET_TOKEN: u32 = 8;
    pub(crate) const SET_CREDENTIAL_SOURCE: u32 = 9;
    pub(crate) const NUDGE: u32 = 10;
    pub(crate) const SET_OFFLINE: u32 = 11;
    pub(crate) const RETRY: u32 = 12;
    pub(crate) const DISCARD: u32 = 13;
    pub(crate) const RECEIPT: u32 = 14;
    pub(crate) const CLAIM: u32 = 15;
    pub(crate) const RELEASE: u32 = 16;
    pub(crate) const LEAVE: u32 = 17;
    pub(crate) const ACTIVITY: u32 = 18;
    pub(crate) const BROADCAST: u32 = 19;
    pub(crate) const PURGE: u32 = 20;
    pub(crate) const DISPOSE: u32 = 21;
    pub(crate) const CLOSE_VIEW: u32 = 22;
    pub(crate) const TURN: u32 = 23;
    pub(crate) const TIMEOUT: u32 = 24;
    pub(crate) const STORE_CLOSED: u32 = 25;
    pub(crate) const LOCK: u32 = 26;
    pub(crate) const POSTED: u32 = 27;
    pub(crate) const SOCKET_OPENED: u32 = 28;
    pub(crate) const SOCKET_MESSAGE: u32 = 29;
    pub(crate) const SOCKET_CLOSED: u32 = 30;
    pub(crate) const RESPONSE: u32 = 31;
    pub(crate) const REQUEST_FAILED: u32 = 32;
    pub(crate) const CREDENTIAL: u32 = 33;
    pub(crate) const CREDENTIAL_FAILED: u32 = 34;
    pub(crate) const STORED: u32 = 35;
    pub(crate) const STORE_FAILED: u32 = 36;
    pub(crate) const ONLINE: u32 = 37;
    pub(crate) const OFFLINE: u32 = 38;
    pub(crate) const VISIBLE: u32 = 39;
    #[expect(dead_code, reason = "what no arm of the match names")]
    pub(crate) const WAKE: u32 = 40;
}

/// `Numbers`.
pub(super) mod numbers {
    pub(crate) const QUERY: u32 = 0;
    pub(crate) const COUNT: u32 = 1;
    #[expect(dead_code, reason = "what no arm of the match names")]
    pub(crate) const OPEN_VIEW: u32 = 2;
    pub(crate) const VIEW: u32 = 3;
}

/// `Text`.
pub(super) mod text {
    pub(crate) const STATUS: u32 = 0;
    pub(crate) const OUTBOX: u32 = 1;
    pub(crate) const ASIDE: u32 = 2;
    pub(crate) const COORDINATION: u32 = 3;
    #[expect(dead_code, reason = "what no arm of the match names")]
    pub(crate) const TOKEN: u32 = 4;
}
