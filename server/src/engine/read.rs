//! Snapshots and single rows over HTTP (protocol.md 4.5, 4.6).

use ablo_wasm::core::error::Error;
use ablo_wasm::core::json::{ObjectWriter, write_str};
use ablo_wasm::core::time::Now;

use super::Engine;
use super::catalog::Slot;
use super::group::View;
use super::participant::Participant;

/// Most models that one bootstrap names.
const BOOTSTRAP_MODELS_MAX: usize = 1000;

/// What a bootstrap asks for.
#[derive(Clone, Debug, Default)]
pub struct BootstrapRequest {
    /// The groups; `None` for all that the credential allows.
    pub sync_groups: Option<Vec<String>>,
    /// Typenames; `None` for all models.
    pub models: Option<Vec<String>>,
}

impl Engine {
    /// The answer to `GET /sync/bootstrap`: always in full, which is simpler and the only thing that repairs what a
    /// persistent 0.15 client has missed (protocol.md 4.5). Archived rows are left out: such a client would show them
    /// among the live ones.
    pub fn bootstrap(&mut self, now: Now, participant: &Participant, request: BootstrapRequest) -> String {
        let groups = self.allowed_groups(participant, request.sync_groups);
        let view = View::new(groups.into_iter().collect(), &participant.organization, &self.catalog);
        let wanted = self.wanted_models(request.models);
        self.bootstraps.add(now, participant, self.head);
        self.repeat_presence(now, participant);

        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        object.str("type", "full");
        object.u64("lastSyncId", self.head.0);
        let models = object.key("models");
        models.push('{');
        for (index, slot) in wanted.into_iter().enumerate() {
            if index > 0 {
                models.push(',');
            }
            write_str(models, &self.catalog.entry(slot).typename);
            models.push_str(":[");
            self.write_rows(models, slot, participant, &view);
            models.push(']');
        }
        models.push('}');
        object.raw("failedModels", "[]");
        object.u64("timestamp", now.wall.0);
        object.end();
        out
    }

    fn wanted_models(&mut self, names: Option<Vec<String>>) -> Vec<Slot> {
        let Some(names) = names else { return self.catalog.served().map(|(slot, _)| slot).collect() };
        let mut slots: Vec<Slot> = Vec::new();
        for name in names.iter().take(BOOTSTRAP_MODELS_MAX) {
            // Bootstraps name typenames exactly, so they decide the spelling where there is no schema.
            let Some((slot, is_new)) = self.catalog.learn(name, true) else { continue };
            if is_new {
                self.unsaved_models.push(slot);
            }
            if !slots.contains(&slot) {
                slots.push(slot);
            }
        }
        slots
    }

    fn write_rows(&self, out: &mut String, slot: Slot, participant: &Participant, view: &View) {
        let Some(tenant) = self.tenant(&participant.organization) else { return };
        let entry = self.catalog.entry(slot);
        let all = view.shows_all();
        let live = || tenant.rows(slot).filter(|(id, row)| !row.archived && (all || view.shows(entry, id, &row.extra)));
        // One allocation: growing through 24 MB would copy it several times.
        out.reserve(live().map(|(_, row)| row.text.len() + 1).sum());
        for (index, (_, row)) in live().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(&row.text);
        }
    }

    /// The answer to `GET /sync/entity/{model}/{id}`: the row, archived or not.
    ///
    /// # Errors
    /// `unknown_model`, `entity_not_found`.
    pub fn entity(&self, participant: &Participant, model: &str, id: &str) -> Result<String, Error> {
        let slot = self.known_model(model)?;
        let view = View::of(participant, &self.catalog);
        let row = slot.and_then(|slot| {
            let row = self.tenant(&participant.organization)?.get(slot, id)?;
            view.shows(self.catalog.entry(slot), id, &row.extra).then(|| row.text.to_string())
        });
        row.ok_or_else(|| Error::wire("entity_not_found", format!("there is no {model:.80} {id:.80}")))
    }

    /// The model of a read. `None` without a schema, for a model that has never been written.
    pub(super) fn known_model(&self, name: &str) -> Result<Option<Slot>, Error> {
        match self.catalog.resolve(name) {
            None if !self.catalog.is_open() => {
                let why = format!("there is no model {name:.80}; the schema decides which there are");
                Err(Error::wire("unknown_model", why).param("model"))
            }
            slot => Ok(slot),
        }
    }
}
