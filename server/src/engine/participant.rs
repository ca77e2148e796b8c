//! Who speaks: participants and what their credential allows.
//!
//! Looking a token up is `auth`; which rows a group holds is `group`.

use std::collections::BTreeSet;
use std::sync::Arc;

use ablo_wasm::core::error::Error;
use ablo_wasm::core::json::ObjectWriter;
use ablo_wasm::core::time::WallTime;
use ablo_wasm::core::wire::OpKind;

/// Text that is shared rather than copied.
pub type Text = Arc<str>;

/// What sort of participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParticipantKind {
    /// A person.
    User,
    /// A program that acts for somebody.
    Agent,
    /// A backend.
    System,
}

impl ParticipantKind {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Agent => "agent",
            Self::System => "system",
        }
    }

    /// Reads the word; older senders say `human` for a user.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "user" | "human" => Some(Self::User),
            "agent" => Some(Self::Agent),
            "system" => Some(Self::System),
            _ => None,
        }
    }
}

/// What a key may do, decided by its prefix alone (protocol.md 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// `sk_`: full authority, and may mint other keys.
    Secret,
    /// `rk_`, `ek_` and keys without a known prefix: its groups and operations.
    Restricted,
    /// `pk_`: read only.
    Publishable,
}

impl KeyKind {
    /// The kind of a token.
    pub fn of(token: &str) -> Self {
        if token.starts_with("sk_") {
            Self::Secret
        } else if token.starts_with("pk_") {
            Self::Publishable
        } else {
            Self::Restricted
        }
    }
}

/// A participant, as its credential describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// What sort.
    pub kind: ParticipantKind,
    /// Its id.
    pub id: Text,
    /// Its tenant. Nothing of another one is ever visible to it.
    pub organization: Text,
    /// The groups it may read.
    pub sync_groups: BTreeSet<String>,
    /// What it may write: `*`, `tasks.*` or `tasks.update`.
    pub operations: Vec<String>,
    /// What its key may do.
    pub key: KeyKind,
    /// When the credential ends.
    pub expires_at: Option<WallTime>,
    /// The hash of the token, by which its sockets are found when it ends early. Whoever looks a key up sets it.
    pub key_hash: Option<Text>,
}

impl Participant {
    /// A user of `organization` with the usual groups and every operation.
    pub fn user(id: &str, organization: &str) -> Self {
        Self {
            kind: ParticipantKind::User,
            id: id.into(),
            organization: organization.into(),
            sync_groups: BTreeSet::from([format!("org:{organization}"), format!("user:{id}")]),
            operations: vec!["*".to_owned()],
            key: KeyKind::Restricted,
            expires_at: None,
            key_hash: None,
        }
    }

    /// Kind and id in one: what idempotency of single operations is kept by.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.kind.name(), self.id)
    }

    /// Whether the credential may do this to rows of the model with this schema key.
    ///
    /// # Errors
    /// `capability_scope_denied`, with the capability that is missing.
    pub(super) fn check_operation(&self, key: &str, kind: OpKind) -> Result<(), Error> {
        let model = key.to_lowercase();
        let verb = kind.name().to_lowercase();
        let archives = matches!(kind, OpKind::Archive | OpKind::Unarchive);
        let allows = |granted: &String| {
            let Some((left, right)) = granted.split_once('.') else { return granted == "*" };
            let right_fits = right == "*" || right == verb || (archives && right == "update");
            (left == "*" || left.to_lowercase() == model) && right_fits
        };
        if self.key != KeyKind::Publishable && self.operations.iter().any(allows) {
            return Ok(());
        }
        let why = if self.key == KeyKind::Publishable {
            format!("a publishable key cannot write: {model}.{verb} needs an ek_, rk_ or sk_ key")
        } else {
            format!("this key does not allow {model}.{verb}; mint one whose operations include it")
        };
        Err(scope_denied(why, &format!("{model}.{verb}"), &[]))
    }
}

/// `capability_scope_denied` with what would have been needed (protocol.md 13.3).
pub(super) fn scope_denied(message: String, scope: &str, groups: &[&str]) -> Error {
    let mut details = String::new();
    let mut object = ObjectWriter::new(&mut details);
    object.object("requiredCapability", |capability| {
        capability.str("scope", scope);
        if !groups.is_empty() {
            capability.object("constraints", |constraints| constraints.strs("syncGroup", groups));
        }
    });
    object.end();
    let mut error = Error::wire("capability_scope_denied", message);
    error.details = Some(details);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_matched_by_model_and_verb() {
        let with = |operations: &[&str], key| Participant {
            operations: operations.iter().map(|&operation| operation.to_owned()).collect(),
            key,
            ..Participant::user("u", "acme")
        };
        for (operations, key, kind, allowed) in [
            (&["*"][..], KeyKind::Restricted, OpKind::Delete, true),
            (&["*"], KeyKind::Publishable, OpKind::Update, false),
            (&["tasks.update"], KeyKind::Restricted, OpKind::Update, true),
            (&["tasks.update"], KeyKind::Restricted, OpKind::Archive, true),
            (&["tasks.update"], KeyKind::Restricted, OpKind::Create, false),
            (&["decks.update"], KeyKind::Restricted, OpKind::Update, false),
            (&["tasks.*"], KeyKind::Restricted, OpKind::Create, true),
            (&[], KeyKind::Restricted, OpKind::Create, false),
        ] {
            let result = with(operations, key).check_operation("Tasks", kind);
            assert_eq!(result.is_ok(), allowed, "{operations:?} {key:?} {kind:?}");
            if let Err(error) = result {
                assert!(error.details.as_ref().is_some_and(|details| details.contains("\"scope\":\"tasks.")));
            }
        }
    }
}
