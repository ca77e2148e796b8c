//! What stands between a commit and its rows: claims of others, claims that have lapsed, and staleness (protocol.md 10.3,
//! 10.4, 11.6). They are checked in the order of 17.3, after the scope and before the first change.

use ablo_wasm::core::bug::{self, Bug};
use ablo_wasm::core::error::Error;
use ablo_wasm::core::json::{ObjectWriter, Value, write_array};
use ablo_wasm::core::time::Now;
use ablo_wasm::core::wire::{Commit, OnStale, OpKind};

use super::Engine;
use super::claim::{Fence, Part, Place, Who};
use super::commit::Step;
use super::group::View;
use super::participant::{Participant, ParticipantKind};
use super::session::ConnectionId;
use super::stale::{self, Author, Conflict, Premise};

/// What a commit says beside its operations.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// The connection it came on.
    pub connection: Option<ConnectionId>,
    /// The claim under which it is made, by its id.
    claim: Option<String>,
    /// The grant of that claim that the sender knows of.
    fence: Option<Fence>,
    /// Indices of operations that want to override claims.
    bypass: Vec<usize>,
}

impl Terms {
    /// Reads what the payload of a commit, or the body of a write, says.
    ///
    /// # Errors
    /// `invalid_body`, naming the member.
    pub(super) fn parse(connection: Option<ConnectionId>, payload: Value<'_>) -> Result<Self, Error> {
        let given = |name: &str| payload.get(name).filter(|value| !value.is_null());
        let wrong = |why: &str, name: &'static str| Err(Error::wire("invalid_body", why).param(name));
        let claim = match given("claim").map(Value::as_str) {
            None => None,
            Some(Some(id)) if !id.is_empty() => Some(id.into_owned()),
            Some(_) => return wrong("claim must be the id of a claim", "claim"),
        };
        let fence = match given("fencingToken").map(Value::as_u64) {
            None => None,
            Some(Some(fence)) if claim.is_some() => Some(Fence(fence)),
            Some(Some(_)) => return wrong("a fencingToken needs the claim that it is of", "claim"),
            Some(None) => return wrong("fencingToken must be the number that came with the claim", "fencingToken"),
        };
        let operations = payload.get("operations").into_iter().flat_map(Value::elements);
        let bypass = operations.enumerate().filter(|(_, operation)| operation.get_bool("bypass") == Some(true));
        Ok(Self { connection, claim, fence, bypass: bypass.map(|(index, _)| index).collect() })
    }
}

/// What the guards decide about a commit that they let through.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Indices of operations that are not to be written (`onStale: "notify"`).
    pub held: Vec<usize>,
    /// The text of the array of stale notifications, if there are any.
    pub notifications: Option<String>,
}

/// Whether an operation writes such a part of its row. What makes, removes or archives the row concerns all of it.
fn writes(step: &Step<'_>, part: &Part) -> bool {
    match (part, step.operation.kind, step.operation.input.as_deref()) {
        (Part::Field(name), OpKind::Update, Some(input)) => {
            Value::parse(input).is_ok_and(|input| input.get(name).is_some())
        }
        _ => true,
    }
}

impl Engine {
    /// Checks claims, then staleness. `fresh` are the steps that have not been done before, with their indices: what has
    /// been done is done, and guards no more.
    ///
    /// # Errors
    /// `entity_claimed`, `claim_lost`, `claim_queued`, `stale_context`; `invalid_body` or `capability_scope_denied` for
    /// read dependencies that are none, or are none of the sender's business.
    pub(super) fn check_guards(
        &self,
        now: Now,
        author: &Participant,
        commit: &Commit,
        terms: &Terms,
        fresh: &[(usize, &Step<'_>)],
    ) -> Result<Verdict, Error> {
        let who: Who = (author.organization.clone(), author.name().into());
        let view = View::of(author, &self.catalog);
        self.check_claims(now, author, &who, &view, terms, fresh)?;
        self.check_lease(&who, terms)?;

        let author = Author { who: &who, participant: author, view: &view, connection: terms.connection };
        let mut premises: Vec<Premise> = Vec::new();
        for (index, step) in fresh {
            premises.extend(stale::of_operation(*index, step));
        }
        if let Some(reads) = commit.reads() {
            // A repeat of what has been done depends on nothing any more.
            let dependencies = self.read_dependencies(&author, reads)?;
            premises.extend(dependencies.into_iter().filter(|_| !fresh.is_empty()));
        }
        let conflicts = self.conflicts(&author, &premises);
        self.check_sight(&author, &premises, &conflicts)?;
        let rejecting: Vec<&(usize, Conflict)> =
            conflicts.iter().filter(|(at, _)| premises[*at].mode == OnStale::Reject).collect();
        if let Some((at, _)) = rejecting.first() {
            return Err(self.stale_error(&author, &premises[*at], &rejecting, &premises));
        }
        let told: Vec<&(usize, Conflict)> =
            conflicts.iter().filter(|(at, _)| premises[*at].mode == OnStale::Notify).collect();
        if told.is_empty() {
            return Ok(Verdict::default());
        }
        let holds_all = told.iter().any(|(at, _)| premises[*at].operation.is_none());
        let held = if holds_all {
            (0..commit.operations.len()).collect()
        } else {
            told.iter().filter_map(|(at, _)| premises[*at].operation).collect()
        };
        let mut notifications = String::new();
        write_array(&mut notifications, told, |out, (at, conflict)| {
            self.write_notification(&author, &premises[*at], conflict, out);
        });
        Ok(Verdict { held, notifications: Some(notifications) })
    }

    /// Rows held by others are not written (11.6). Who decides is the participant, not the connection or the claim.
    fn check_claims(
        &self,
        now: Now,
        author: &Participant,
        who: &Who,
        view: &View,
        terms: &Terms,
        fresh: &[(usize, &Step<'_>)],
    ) -> Result<(), Error> {
        if self.claims.is_empty() || bug::on(Bug::ForeignWriteAccepted) {
            return Ok(());
        }
        for (index, step) in fresh {
            let model = self.catalog.entry(step.slot).stored.clone();
            let place = Place { organization: author.organization.clone(), model, row: step.id.clone() };
            if bug::on(Bug::FieldTakesRow) && self.claims.held(&place).any(|claim| claim.who == *who) {
                continue;
            }
            let mut held = self.claims.held(&place);
            let Some(holder) = held.find(|claim| claim.who != *who && writes(step, &claim.part)) else { continue };
            let overrides = terms.bypass.contains(index) && author.kind != ParticipantKind::Agent;
            // Who cannot see the row is refused for that, and learns nothing about its holder.
            let error = if overrides {
                continue;
            } else if self.shows_place(view, &place) {
                self.held_error(now, holder)
            } else if !self.has_row(&place) {
                // It may still see what it would make.
                Error::wire("entity_claimed", format!("{}/{:.80} is claimed", step.operation.model, step.id))
            } else {
                continue;
            };
            return Err(error.param(format!("operations[{index}]")));
        }
        Ok(())
    }

    fn has_row(&self, place: &Place) -> bool {
        let slot = self.catalog.resolve(&place.model);
        let tenant = self.tenant(&place.organization);
        slot.is_some_and(|slot| tenant.is_some_and(|tenant| tenant.get(slot, &place.row).is_some()))
    }

    /// A write that names a claim is made under that claim or not at all: whoever has lost it may not know yet.
    fn check_lease(&self, who: &Who, terms: &Terms) -> Result<(), Error> {
        let Some(id) = &terms.claim else { return Ok(()) };
        if bug::on(Bug::LapsedWriteAccepted) {
            return Ok(());
        }
        let lost = |why: String| Err(Error::wire("claim_lost", why).param("claim"));
        let Some(claim) = self.claims.named(who, id) else {
            return lost(format!("the claim {id:.80} has ended; claim the row again and read it before writing"));
        };
        let Some(grant) = claim.grant else {
            let why = format!("the claim {id:.80} still waits in line; write when it is granted");
            return Err(Error::wire("claim_queued", why).param("claim"));
        };
        if terms.fence.is_some_and(|fence| fence != grant.fence) {
            return lost(format!(
                "the claim {id:.80} has been granted anew since (fencing token {}); read the row again",
                grant.fence.0
            ));
        }
        Ok(())
    }

    fn stale_error(
        &self,
        author: &Author<'_>,
        first: &Premise,
        conflicts: &[&(usize, Conflict)],
        premises: &[Premise],
    ) -> Error {
        let mut details = String::new();
        let mut object = ObjectWriter::new(&mut details);
        object.u64("readAt", first.read_at.0);
        write_array(object.key("conflicts"), conflicts, |out, (at, conflict)| {
            self.write_notification(author, &premises[*at], conflict, out);
        });
        object.end();
        let mut error = Error::wire("stale_context", format!("{} changed after {}", first.said, first.read_at.0));
        error.details = Some(details);
        error.param(if first.operation.is_some() { "readAt" } else { "reads" })
    }
}
