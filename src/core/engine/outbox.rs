//! Writes on their way and writes refused, as the application sees them, and what it may do with the refused ones.

use super::Engine;
use super::storage::Letter;
use crate::core::error::Error;
use crate::core::id::{ModelIndex, RowId};
use crate::core::input::Ticket;
use crate::core::json::{ArrayWriter, Kind, ObjectWriter, Value, merge};
use crate::core::queue::{Enqueue, NewOp, Rejected, Wait};
use crate::core::text::{concat, short};
use crate::core::wire::{OpKind, Operation, write_operations};

impl Engine {
    /// Everything that is not confirmed, as the text of a JSON array: writes on their way in their order, then refused
    /// ones, oldest first.
    pub fn outbox(&self) -> String {
        let mut entries = Vec::new();
        self.queue.write_outbox(&mut entries);
        for letter in &self.storage.letters {
            let current = Value::parse(&letter.text).ok().and_then(|text| self.current_values(text));
            let mut extra = String::new();
            let mut object = ObjectWriter::new(&mut extra);
            object.str("stage", "rejected");
            if let Some(current) = current {
                object.raw("currentValues", &current);
            }
            object.end();
            entries.push(merge(&letter.text, &extra));
        }
        let mut out = String::new();
        let mut list = ArrayWriter::new(&mut out);
        for entry in &entries {
            list.item().push_str(entry);
        }
        list.end();
        out
    }

    /// The row of a refused write as readers see it now.
    fn current_values(&self, letter: Value<'_>) -> Option<String> {
        let operation = Operation::parse(letter.at("operations").elements().next()?).ok()?;
        let model = self.config.schema.resolve(&operation.model)?;
        self.row(model, &operation.id?).map(str::to_owned)
    }

    /// Keeps a refused operation until the application decides.
    pub(super) fn keep_rejected(&mut self, rejected: &Rejected) {
        let id = rejected.letter.clone();
        // The tab that sends has told by keeping it.
        if self.letter(&id).is_ok() {
            return;
        }
        let operation = Operation {
            kind: rejected.kind,
            model: rejected.model.clone(),
            id: Some(rejected.row.1.as_str().to_owned()),
            input: rejected.input.clone(),
            transaction_id: rejected.transaction_id.clone(),
            read_at: None,
            on_stale: None,
        };
        let mut text = String::new();
        let mut object = ObjectWriter::new(&mut text);
        object.u64("v", 1);
        object.str("id", &id);
        write_operations(object.key("operations"), &[operation]);
        object.u64("attempts", u64::from(rejected.attempts));
        object.u64("createdAt", rejected.created.0);
        object.raw("error", &rejected.error.to_json());
        object.end();
        self.keep_letter(id, text);
    }

    fn letter(&self, id: &str) -> Result<&Letter, Error> {
        self.storage.letters.iter().find(|letter| letter.id == id).ok_or_else(|| {
            Error::local("entity_not_found", concat(&["no refused write ", short(id, 60), " in the outbox"]))
                .param("id")
        })
    }

    /// Writes a refused write again. It joins the queue before the entry goes, so that it is never in neither.
    pub(super) fn retry(&mut self, ticket: Ticket, id: &str, data: Option<&str>) -> Result<(), Error> {
        let letter = self.letter(id)?;
        let root = Value::parse(&letter.text)?;
        let unreadable =
            || Error::local("storage_record_unreadable", concat(&["the refused write ", short(id, 60), " is damaged"]));
        let first = root.at("operations").elements().next().ok_or_else(unreadable)?;
        let operation = Operation::parse(first)?;
        let row_id = operation.id.ok_or_else(unreadable)?;
        let model = self.config.schema.resolve(&operation.model).unwrap_or(ModelIndex(u16::MAX));
        let mut input = operation.input;
        if let Some(data) = data {
            if Value::parse(data)?.kind != Kind::Object {
                return Err(Error::local("invalid_body", "data must be an object of fields").param("data"));
            }
            input = Some(merge(input.as_deref().unwrap_or("{}"), data));
        }
        let defaults = (operation.kind == OpKind::Create).then(|| self.defaults(&row_id, &[]));
        let op = NewOp {
            kind: operation.kind,
            row: (model, RowId::from(row_id.as_str())),
            model: operation.model,
            input,
            defaults,
            refers_to: Vec::new(),
            read_at: None,
            on_stale: None,
            transaction_id: None,
        };
        let how = Enqueue { ticket, wait: Wait::Queued, key: None, terms: None };
        let outcome = self.queue.enqueue(op, how, self.now.wall, &mut self.rng)?;
        self.remove_letter(id);
        self.flush_due = true;
        self.take_outcome(outcome);
        Ok(())
    }

    pub(super) fn discard(&mut self, ticket: Ticket, id: &str) -> Result<(), Error> {
        self.letter(id)?;
        self.remove_letter(id);
        self.flush_due = true;
        self.settle(ticket, Ok(None));
        Ok(())
    }

    pub(super) fn announce_outbox(&mut self) {
        self.announce_status();
    }
}
