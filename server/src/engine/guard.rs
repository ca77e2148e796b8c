//! The place of claims and stale checks in a commit (protocol.md 10.3, 10.4, 11.6, 17.3).
//!
//! Both belong between the scope check and the first change, in this order: rows held by others, then write targets that
//! moved past `readAt`, then read dependencies. Neither is enforced yet: every write counts as unguarded. The history
//! already keeps what the checks will need (the fields of each change and who made it). What a claim frame is answered
//! with meanwhile is also here, so that no client waits for ever.

use std::borrow::Cow;

use ablo_wasm::core::error::Error;
use ablo_wasm::core::json::{ObjectWriter, Value, write_array};
use ablo_wasm::core::wire::{Commit, OnStale};

use super::Engine;
use super::participant::Participant;

/// What the guards decide about a commit that they let through.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Indices of operations that are not to be written (`onStale: "notify"`).
    pub held: Vec<usize>,
    /// The text of the array of stale notifications, if there are any.
    pub notifications: Option<String>,
}

impl Engine {
    /// Checks claims held by others, then staleness.
    ///
    /// # Errors
    /// Will be `entity_claimed` and `stale_context`; for now only `invalid_body` for read dependencies that are no list.
    #[expect(clippy::unused_self, reason = "the checks to come read claims and history")]
    pub(super) fn check_guards(&self, _participant: &Participant, commit: &Commit) -> Result<Verdict, Error> {
        let reads = commit.reads.as_deref().and_then(|reads| Value::parse(reads).ok());
        for read in reads.into_iter().flat_map(Value::elements) {
            let mode = read.get_str("onStale");
            if mode.is_some_and(|mode| OnStale::parse(&mode).is_none()) {
                let why = "onStale of a read dependency must be reject, overwrite or notify";
                return Err(Error::wire("invalid_body", why).param("reads"));
            }
        }
        Ok(Verdict::default())
    }
}

/// The answer to a claim frame, if it needs one: claims are not kept yet.
pub(super) fn claim_answer(kind: &str, payload: Value<'_>) -> Option<String> {
    let id = payload.get_str("claimId").unwrap_or(Cow::Borrowed(""));
    let mut out = String::new();
    match kind {
        "claim_begin" => {
            let mut frame = ObjectWriter::new(&mut out);
            frame.str("type", "claim_rejected");
            frame.object("payload", |answer| {
                answer.str("claimId", &id);
                answer.str("reason", "unsupported");
                if let (Some(model), Some(row)) = (payload.get_str("entityType"), payload.get_str("entityId")) {
                    answer.object("target", |target| {
                        target.str("entityType", &model);
                        target.str("entityId", &row);
                    });
                }
            });
            frame.end();
        }
        "claim" => {
            let mut frame = ObjectWriter::new(&mut out);
            frame.str("type", "claim_ack");
            frame.object("payload", |answer| {
                answer.str("claimId", &id);
                answer.bool("success", false);
                write_array(answer.key("syncGroups"), std::iter::empty::<&str>(), |_, _| {});
                answer.object("error", |error| {
                    error.str("code", "claim_rejected");
                    error.str("message", "this server does not keep participant claims; use update_subscription");
                });
            });
            frame.end();
        }
        _ => return None,
    }
    Some(out)
}
