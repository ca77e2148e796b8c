//! Filling an empty server with rows from a file.

use ablo_wasm::core::error::Error;
use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::json::{JsonStr, Kind, Value, merge};
use ablo_wasm::core::time::Now;

use super::auth::read_object;
use super::group::Routing;
use super::participant::Text;
use super::storage::{StoreChange, StoredRow};
use super::tenant::Row;
use super::{Engine, Output, row};

/// Who created seeded rows that do not say.
const SEED_AUTHOR: &str = "system:seed";

impl Engine {
    /// Adds rows to an organization: `{ "Task": [rows…], … }`, each with a string `id`. What a row says about itself
    /// (`createdAt` and so on) stays; what is missing is stamped. They come before the retained history: who connects
    /// loads them with a snapshot. The result is their number.
    ///
    /// # Errors
    /// `invalid_json`, `invalid_body`, `unknown_model`, `unique_violation`, naming the row. Nothing has happened then.
    pub fn seed(&mut self, now: Now, organization: &str, text: &str) -> Result<usize, Error> {
        let body = read_object(text)?;
        let organization: Text = organization.into();
        let iso = now.wall.to_iso();
        let mut rows: Vec<(super::Slot, Text, Row)> = Vec::new();
        let mut next = self.head;
        for (name, list) in body.members() {
            let name = name.decode();
            let Some((slot, is_new)) = self.catalog.learn(&name, true) else {
                return Err(Error::wire("unknown_model", format!("there is no model {name:.80}")));
            };
            if is_new {
                self.unsaved_models.push(slot);
            }
            if list.kind != Kind::Array {
                return Err(Error::wire("invalid_body", format!("{name:.80} must be a list of rows")));
            }
            for (index, given) in list.elements().enumerate() {
                let id = given.get("id").and_then(Value::as_json_str).and_then(JsonStr::decode_exact);
                let Some(id) = id.filter(|id| given.kind == Kind::Object && !id.is_empty()) else {
                    let why = format!("{name:.80}[{index}] must be an object with a string id");
                    return Err(Error::wire("invalid_body", why));
                };
                let stamped = row::created(&id, "{}", &organization, SEED_AUTHOR, &iso);
                // The organization is not the file's to choose.
                let owner = Value::parse(&stamped)?.get("organizationId").map_or("null", |owner| owner.raw);
                let data = merge(&merge(&stamped, given.raw), &format!("{{\"organizationId\":{owner}}}"));
                next = SyncId(next.0 + 1);
                rows.push((slot, id.as_ref().into(), Row::new(data.into(), Routing::default(), next)));
            }
        }
        let mut ids: Vec<&Text> = rows.iter().map(|(_, id, _)| id).collect();
        ids.sort();
        let twin = ids.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].to_string());
        let taken = ids.iter().find(|id| self.tenant(&organization).is_some_and(|tenant| tenant.owner(id).is_some()));
        if let Some(id) = twin.or_else(|| taken.map(|id| id.to_string())) {
            return Err(Error::wire(
                "unique_violation",
                format!("the id {id:.80} comes twice; ids are unique across models"),
            ));
        }
        let mut change = StoreChange { head: Some(next), history_floor: Some(next), ..StoreChange::default() };
        for slot in std::mem::take(&mut self.unsaved_models) {
            let entry = self.catalog.entry(slot);
            change.models.push((entry.stored.clone(), entry.typename.clone()));
        }
        let count = rows.len();
        let tenant = self.tenants.entry(organization.clone()).or_default();
        for (slot, id, row) in rows {
            change.rows.push(StoredRow {
                organization: organization.clone(),
                model: self.catalog.entry(slot).stored.clone(),
                id: id.clone(),
                data: row.text.clone(),
                last_sync_id: row.last,
            });
            tenant.put(slot, id, row);
        }
        tenant.route_all(&self.catalog);
        self.head = next;
        self.history.restore(next, std::iter::empty());
        self.outputs.push_back(Output::Store(change));
        Ok(count)
    }
}
