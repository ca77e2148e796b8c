//! Claims over HTTP (protocol.md 5.3, 5.4). What is claimed so has no connection that keeps it alive: it ends with its
//! time, and a place in line is kept as long.

use std::sync::Arc;

use ablo_wasm::core::error::Error;
use ablo_wasm::core::json::{Kind, ObjectWriter, Value, write_array};
use ablo_wasm::core::time::Now;

use super::super::Engine;
use super::super::auth::read_object;
use super::super::group::View;
use super::super::participant::Participant;
use super::lease::Refusal;
use super::wire::{self, Ask};
use super::{Claim, ClaimNo, Claimed, End, Part, Place, Who};

/// Most claims in one answer, held and waiting each.
const LIST_MAX: usize = 1000;

/// The answer to a request for a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimAnswer {
    /// The body.
    pub body: String,
    /// The row is held by somebody else and the claim waits in line: 202. Otherwise it is held: 201.
    pub queued: bool,
}

impl Engine {
    /// The answer to `POST /v1/models/{model}/{id}/claim` (protocol.md 5.3).
    ///
    /// # Errors
    /// `malformed_claim`, `unknown_model`, `capability_scope_denied`, `entity_claimed`, `queue_too_deep`,
    /// `quota_exceeded`.
    pub fn claim_row(
        &mut self,
        now: Now,
        participant: &Participant,
        model: &str,
        row: &str,
        body: &str,
    ) -> Result<ClaimAnswer, Error> {
        self.known_model(model)?;
        let body = read_object(if body.trim().is_empty() { "{}" } else { body })?;
        let id = format!("int_{}", self.random.uuid());
        // This way there is only the row: no field, path or range.
        let whole = Value::parse("{}")?;
        let ask = Ask::parse_body(body, whole, model, row, id, true)?;
        self.request_claim(now, participant, &ask)
    }

    /// The answer to `POST /v1/claims` (protocol.md 5.4).
    ///
    /// # Errors
    /// As [`claim_row`](Self::claim_row).
    pub fn create_claim(&mut self, now: Now, participant: &Participant, body: &str) -> Result<ClaimAnswer, Error> {
        let body = read_object(body)?;
        let Some(target) = body.get("target").filter(|target| target.kind == Kind::Object) else {
            return Err(wire::malformed("a claim needs a target", "target"));
        };
        let (model, row) = (wire::needed(target, "model")?, wire::needed(target, "id")?);
        self.known_model(&model)?;
        let id = match body.get("claimId").filter(|id| !id.is_null()) {
            Some(_) => wire::needed(body, "claimId")?,
            None => format!("int_{}", self.random.uuid()),
        };
        let ask = Ask::parse_body(body, target, &model, &row, id, false)?;
        self.request_claim(now, participant, &ask)
    }

    fn request_claim(&mut self, now: Now, participant: &Participant, ask: &Ask) -> Result<ClaimAnswer, Error> {
        let holder = Arc::new(participant.clone());
        let no = match self.begin_claim(now, &holder, None, ask) {
            Ok(no) => no,
            Err(Refusal::Error(error)) => return Err(error),
            Err(Refusal::Held(no)) => {
                let held = self.claims.get(no).map(|claim| self.held_error(now, claim));
                return Err(held.unwrap_or_else(|| Error::wire("claim_conflict", "the row is held by somebody else")));
            }
        };
        self.tell_claim(now, no);
        let Some(claim) = self.claims.get(no) else {
            return Err(Error::wire("internal_error", "the claim ended as it began"));
        };
        let mut body = String::new();
        let mut object = ObjectWriter::new(&mut body);
        let queued = claim.grant.is_none();
        if queued {
            object.str("status", "queued");
            object.str("claimId", &claim.id);
            object.u64("position", self.claims.position(claim) as u64);
        } else {
            self.write_claim(now, claim, None, object.key("claim"));
        }
        object.end();
        Ok(ClaimAnswer { body, queued })
    }

    fn write_claim(&self, now: Now, claim: &Claim, position: Option<usize>, out: &mut String) {
        let slot = self.catalog.resolve(&claim.place.model);
        let model = slot.map_or(claim.detail.entity_type.as_str(), |slot| &self.catalog.entry(slot).key);
        let claimed = Claimed { model, ..self.claimed(now, claim) };
        wire::write_model_claim(out, &claimed, position, ("target", "model"));
    }

    /// The answer to `DELETE /v1/models/{model}/{id}/claim`: the caller's claims on the row end, waiting ones included.
    ///
    /// # Errors
    /// `unknown_model`.
    pub fn release_row(
        &mut self,
        now: Now,
        participant: &Participant,
        model: &str,
        row: &str,
    ) -> Result<String, Error> {
        self.known_model(model)?;
        let place = self.place(&participant.organization, model, row);
        let who: Who = (participant.organization.clone(), participant.name().into());
        let of_caller = |claim: &&Claim| claim.who == who;
        // Waiting ones first: a place in line must not be granted only to be given back.
        let waiting = self.claims.waiting(&place).filter(of_caller);
        let ours: Vec<ClaimNo> =
            waiting.chain(self.claims.held(&place).filter(of_caller)).map(|claim| claim.no).collect();
        for no in &ours {
            self.end_claim(now, *no, End::Canceled);
        }
        Ok(format!("{{\"ok\":true,\"released\":{}}}", ours.len()))
    }

    /// The answer to `DELETE /v1/claims/{id}`: that claim of the caller's ends. Unknown ids are no mistake: the claim has
    /// ended.
    pub fn release_claim(&mut self, now: Now, participant: &Participant, id: &str) -> String {
        let who: Who = (participant.organization.clone(), participant.name().into());
        if let Some(no) = self.claims.named(&who, id).map(|claim| claim.no) {
            self.end_claim(now, no, End::Canceled);
        }
        "{\"ok\":true}".to_owned()
    }

    /// The answer to `POST /v1/models/{model}/{id}/claim/reorder`.
    ///
    /// # Errors
    /// `unknown_model`, `malformed_claim`, `capability_scope_denied`.
    pub fn reorder_row(
        &mut self,
        now: Now,
        participant: &Participant,
        model: &str,
        row: &str,
        body: &str,
    ) -> Result<String, Error> {
        self.known_model(model)?;
        self.reorder_claims(now, participant, model, row, read_object(body)?)?;
        Ok("{\"ok\":true}".to_owned())
    }

    /// The answer to `GET /v1/claims`. `parameters` are those of the query, decoded.
    ///
    /// # Errors
    /// `unknown_model`.
    pub fn list_claims(
        &self,
        now: Now,
        participant: &Participant,
        parameters: &[(String, String)],
    ) -> Result<String, Error> {
        let find = |name: &str| {
            let found = parameters.iter().find(|(key, value)| key == name && !value.is_empty());
            found.map(|(_, value)| value.as_str())
        };
        let (model, row, field) = (find("model"), find("id"), find("field"));
        let model = match model {
            Some(name) => {
                self.known_model(name)?;
                Some(self.place(&participant.organization, name, "").model)
            }
            None => None,
        };
        let view = View::of(participant, &self.catalog);
        let wanted = |place: &&Place| {
            model.as_ref().is_none_or(|model| place.model == *model)
                && row.is_none_or(|row| *place.row == *row)
                && self.shows_place(&view, place)
        };
        let places: Vec<&Place> = self.claims.places(&participant.organization).filter(wanted).collect();
        // A claim on the row as a whole is one on each of its fields.
        let field = field.map_or(Part::Row, |field| Part::Field(field.into()));
        let touches = |claim: &&Claim| claim.part.overlaps(&field);
        let held = places.iter().flat_map(|place| self.claims.held(place)).filter(touches).take(LIST_MAX);
        let waiting = places.iter().flat_map(|place| self.claims.waiting(place).enumerate());
        let waiting = waiting.filter(|(_, claim)| touches(claim)).take(LIST_MAX);
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        write_array(object.key("claims"), held, |out, claim| self.write_claim(now, claim, None, out));
        write_array(object.key("queue"), waiting, |out, (position, claim)| {
            self.write_claim(now, claim, Some(position), out);
        });
        object.end();
        Ok(out)
    }

    /// The claims that hold a row which somebody reads (protocol.md 5.1).
    pub(in crate::engine) fn write_row_claims(
        &self,
        now: Now,
        participant: &Participant,
        model: &str,
        row: &str,
        out: &mut String,
    ) {
        let place = self.place(&participant.organization, model, row);
        write_array(out, self.claims.held(&place), |out, claim| self.write_claim(now, claim, None, out));
    }
}
