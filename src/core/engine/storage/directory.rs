//! The directory: who used this application here last, so that a start without a network finds its rows.

use super::*;
use crate::core::text::{concat, hex};

impl Engine {
    pub(super) fn open_directory(&mut self) {
        self.ask(Database::Directory, StoreRequest::Open { name: "directory".to_owned() }, Job::OpenDirectory);
    }

    /// Under which key the directory knows this application, and as far as it was told, this user.
    pub(super) fn directory_key(&self) -> String {
        let config = &self.config;
        // A key that was given as such stands for its owner; only a fingerprint of it is written down.
        let token = config.token.as_deref().map_or(0, |token| fingerprint(token.as_bytes()));
        let asked = concat(&[config.participant.as_deref().unwrap_or_default(), "\n", &config.kind]);
        concat(&[&config.base_url, "\n", &asked, "\n", &hex(token, 1)])
    }

    /// Writes into the directory who is here.
    pub(in crate::core::engine) fn note_identity(&mut self, who: &Identity) {
        let mut text = String::new();
        let mut object = ObjectWriter::new(&mut text);
        object.str("participant", &who.participant);
        object.str("organization", &who.organization);
        object.str("kind", &who.kind);
        object.strs("groups", &who.sync_groups);
        object.end();
        let change =
            StoreChange::Put { store: ObjectStore::Cache, key: self.directory_key(), value: text.into_bytes() };
        self.ask(Database::Directory, StoreRequest::Write { changes: vec![change], strict: false }, Job::Quiet);
    }
}

/// Who the directory says was here last.
pub(super) fn read(records: &[Record]) -> Option<Identity> {
    let (_, value) = records.first()?;
    let value = Value::parse(std::str::from_utf8(value).ok()?).ok()?;
    Some(Identity {
        kind: value.get_string("kind").unwrap_or_default(),
        participant: value.get_string("participant").unwrap_or_default(),
        organization: value.get_string("organization").unwrap_or_default(),
        sync_groups: value.get_strings("groups"),
    })
}
