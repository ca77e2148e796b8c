//! What happens to claims: asked for, granted, given back, expired (protocol.md 11.2 to 11.5).

use std::sync::Arc;

use ablo_wasm::core::bug::{self, Bug};
use ablo_wasm::core::error::Error;
use ablo_wasm::core::json::{Value, write_array};
use ablo_wasm::core::time::{Instant, Now};
use ablo_wasm::core::wire::OpKind;

use super::super::group::View;
use super::super::participant::{Participant, Text, scope_denied};
use super::super::session::{Connection, ConnectionId};
use super::super::storage::StoreChange;
use super::super::{Engine, Output};
use super::wire::{self, Ask, Claimed};
use super::{
    CLAIM_LINE_MAX, CLAIM_TTL_MS, CLAIMS_PER_PARTICIPANT_MAX, Claim, ClaimNo, End, Fence, Grant, Part, Place, Who,
};

/// What reordering a line needs, beside `*`.
const REORDER: [&str; 2] = ["claim.reorder", "claim.*"];

/// Why a claim is refused.
pub(super) enum Refusal {
    /// Somebody else holds the row, or waits for it.
    Held(ClaimNo),
    /// Anything else.
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// How long a claim lives from now on, if nothing more is heard of it. A place in line is kept at least as long as that of
/// a connection which is silent.
fn life_of(is_held: bool, connection: Option<ConnectionId>, ttl: u64, renewal_ms: u64) -> u64 {
    match (is_held, connection) {
        (true, _) => ttl,
        (false, Some(_)) => renewal_ms,
        (false, None) => ttl.max(renewal_ms),
    }
}

impl Engine {
    /// The row that is meant.
    pub(in crate::engine) fn place(&self, organization: &Text, model: &str, row: &str) -> Place {
        let slot = self.catalog.resolve(model);
        let model = slot.map_or_else(|| model.to_lowercase().into(), |slot| self.catalog.entry(slot).stored.clone());
        Place { organization: organization.clone(), model, row: row.into() }
    }

    /// Whether a view shows the row of a claim. A row that does not exist (yet) is in its organization's group and in
    /// its own.
    pub(in crate::engine) fn shows_place(&self, view: &View, place: &Place) -> bool {
        let Some(slot) = self.catalog.resolve(&place.model) else { return view.shows_name(&place.model, &place.row) };
        let row = self.tenant(&place.organization).and_then(|tenant| tenant.get(slot, &place.row));
        let extra = row.map(|row| row.extra.clone()).unwrap_or_default();
        view.shows(self.catalog.entry(slot), &place.row, &extra)
    }

    /// A claim as it is told.
    pub(in crate::engine) fn claimed<'a>(&self, now: Now, claim: &'a Claim) -> Claimed<'a> {
        let model = if self.catalog.resolve(&claim.place.model).is_some() {
            &*claim.place.model
        } else {
            claim.detail.entity_type.as_str()
        };
        Claimed::new(claim, self.claim_ends(claim), now, model)
    }

    fn claim_ends(&self, claim: &Claim) -> Instant {
        let connection = claim.connection.and_then(|id| self.connections.get(&id));
        claim.ends(connection.map(|connection| connection.heard), self.claims.renewal_ms)
    }

    /// A participant asks for a claim.
    pub(super) fn begin_claim(
        &mut self,
        now: Now,
        holder: &Arc<Participant>,
        connection: Option<ConnectionId>,
        ask: &Ask,
    ) -> Result<ClaimNo, Refusal> {
        let who: Who = (holder.organization.clone(), holder.name().into());
        let place = self.place(&holder.organization, &ask.model, &ask.row);
        let ttl = ask.ttl.unwrap_or(CLAIM_TTL_MS);
        // A claim whose time has come holds nobody up, even if the timer is late.
        self.expire_claims(now);
        if let Some(known) = self.claims.named(&who, &ask.id) {
            let (no, is_held, known_ttl) = (known.no, known.grant.is_some(), known.ttl);
            if known.place != place {
                let why = "this claimId is in use for another row; make up a new one";
                return Err(wire::malformed(why, "claimId").into());
            }
            if let Some(connection) = connection {
                self.claims.bind(no, connection);
            }
            let life = life_of(is_held, connection, ask.ttl.unwrap_or(known_ttl), self.claims.renewal_ms);
            self.claims.extend(no, now.mono.after(life));
            return Ok(no);
        }
        self.check_claim_scope(holder, &place)?;
        if self.claims.of(&who).nth(CLAIMS_PER_PARTICIPANT_MAX - 1).is_some() {
            let why = format!("{CLAIMS_PER_PARTICIPANT_MAX} claims are the most for one participant; give some back");
            return Err(Error::wire("quota_exceeded", why).into());
        }
        let own = |held: &&Claim| held.who == who && held.part.overlaps(&ask.part);
        let again = self.claims.held(&place).find(own).and_then(|held| held.grant);
        // Nobody is let in past those who wait, but to what it holds already.
        let passes = again.is_some() || (ask.part != Part::Row && bug::on(Bug::FieldPassesLine));
        let is_before = |other: &&Claim| !passes && other.part.overlaps(&ask.part);
        let in_the_way = self.claims.in_the_way(&place, &who, &ask.part);
        let head = match in_the_way.or_else(|| self.claims.waiting(&place).find(is_before)) {
            None => Some(again.map_or(self.head, |grant| grant.head)),
            Some(other) if !ask.queue => return Err(Refusal::Held(other.no)),
            Some(_) if self.claims.waiting(&place).nth(CLAIM_LINE_MAX - 1).is_some() => {
                let why = format!("{CLAIM_LINE_MAX} claims wait for this row already; try again later");
                return Err(Error::wire("queue_too_deep", why).into());
            }
            Some(_) => None,
        };
        // Whoever claims a row twice has come back without the first claim, unless that one's connection is still open.
        let gone = |held: &&Claim| own(held) && held.connection.is_none();
        let replaced: Vec<ClaimNo> = match head {
            Some(_) => self.claims.held(&place).filter(gone).map(|held| held.no).collect(),
            None => Vec::new(),
        };
        let no = self.claims.next_no();
        let grant = head.map(|head| Grant { fence: self.next_fence(), head });
        let life = life_of(grant.is_some(), connection, ttl, self.claims.renewal_ms);
        self.claims.add(Claim {
            no,
            id: ask.id.as_str().into(),
            place,
            holder: holder.clone(),
            who,
            part: ask.part.clone(),
            detail: ask.detail.clone(),
            declared: now.wall,
            ttl,
            until: now.mono.after(life),
            connection,
            by_request: connection.is_none(),
            grant,
        });
        for old in replaced {
            self.end_claim(now, old, End::Replaced);
        }
        Ok(no)
    }

    fn check_claim_scope(&self, holder: &Participant, place: &Place) -> Result<(), Error> {
        let slot = self.catalog.resolve(&place.model);
        let key = slot.map_or(&place.model, |slot| &self.catalog.entry(slot).key);
        if !self.shows_place(&View::of(holder, &self.catalog), place) {
            let why = format!("{}/{:.80} is outside this key's groups", place.model, place.row);
            return Err(scope_denied(why, &format!("{}.update", key.to_lowercase()), &[]));
        }
        // A lease keeps others from writing, so it takes a key that may write itself.
        let mut verbs = OpKind::ALL.into_iter().map(|kind| holder.check_operation(key, kind));
        if verbs.any(|allowed| allowed.is_ok()) {
            return Ok(());
        }
        holder.check_operation(key, OpKind::Update)
    }

    fn next_fence(&mut self) -> Fence {
        let (fence, reserve) = self.claims.next_fence();
        if let Some(reserve) = reserve {
            self.outputs.push_back(Output::Store(StoreChange { fence: Some(reserve), ..StoreChange::default() }));
        }
        fence
    }

    /// After [`begin_claim`](Self::begin_claim) and its answer: everybody else learns of it.
    pub(super) fn tell_claim(&mut self, now: Now, no: ClaimNo) {
        let Some(claim) = self.claims.get(no) else { return };
        let (who, place, waits) = (claim.who.clone(), claim.place.clone(), claim.grant.is_none());
        if waits {
            self.tell_queue(now, &place);
        } else {
            self.tell_presence(now, &who, None);
        }
    }

    /// A claim ends, and whatever follows from that, in the order of protocol.md 11.5.
    pub(super) fn end_claim(&mut self, now: Now, no: ClaimNo, end: End) {
        let Some(claim) = self.claims.remove(no) else { return };
        match end {
            End::Canceled => {}
            End::Expired => self.send_lost(&claim, "expired"),
            End::Replaced => self.send_lost(&claim, "preempted"),
        }
        if claim.grant.is_some() {
            let told = (end == End::Expired).then_some((&claim, "expired"));
            self.tell_presence(now, &claim.who, told);
        }
        if self.promote_next(now, &claim.place) || claim.grant.is_none() {
            self.tell_queue(now, &claim.place);
        }
    }

    fn send_lost(&mut self, claim: &Claim, reason: &str) {
        if let Some(connection) = claim.connection {
            self.send(connection, wire::answer("claim_lost", claim, |payload| payload.str("reason", reason)));
        }
    }

    /// What nobody holds goes to the first in line whose time is not up as well. True: the line has moved.
    fn promote_next(&mut self, now: Now, place: &Place) -> bool {
        let mut moved = false;
        if bug::on(Bug::NobodyPromoted) {
            return moved;
        }
        while let Some(next) = self.claims.next_holder(place) {
            moved = true;
            if self.claims.get(next).is_some_and(|next| self.claim_ends(next) > now.mono) {
                self.promote(now, next);
            } else if let Some(late) = self.claims.remove(next) {
                self.send_lost(&late, "expired");
            }
        }
        moved
    }

    /// The head of a line gets the lease.
    fn promote(&mut self, now: Now, no: ClaimNo) {
        let grant = Grant { fence: self.next_fence(), head: self.head };
        let Some(claim) = self.claims.get(no) else { return };
        // One that has lost its connection, and may never come back, holds the others up no longer than that.
        let absent = claim.connection.is_none() && !claim.by_request;
        let life = if absent { claim.ttl.min(self.claims.renewal_ms) } else { claim.ttl };
        self.claims.grant(no, grant, now.mono.after(life));
        let Some(claim) = self.claims.get(no) else { return };
        let who = claim.who.clone();
        if let Some(connection) = claim.connection {
            let fence = grant.fence.0;
            self.send(connection, wire::answer("claim_granted", claim, |payload| payload.u64("fencingToken", fence)));
        }
        self.tell_presence(now, &who, None);
    }

    /// Time has passed.
    pub(in crate::engine) fn expire_claims(&mut self, now: Now) {
        while let Some(no) = self.claims.due(now) {
            let Some(claim) = self.claims.get(no) else { return };
            let ends = self.claim_ends(claim);
            if ends > now.mono {
                self.claims.extend(no, ends);
            } else {
                self.end_claim(now, no, End::Expired);
            }
        }
    }

    /// The waiting line of a row, to everybody who can see the row (protocol.md 8.12).
    fn tell_queue(&mut self, now: Now, place: &Place) {
        let frame: Arc<str> = self.queue_frame(now, place).into();
        let ours = self.connections.iter().filter(|(_, known)| known.participant.organization == place.organization);
        let to: Vec<ConnectionId> =
            ours.filter(|(_, known)| self.shows_place(&known.view, place)).map(|(id, _)| *id).collect();
        for connection in to {
            self.outputs.push_back(Output::Send { connection, text: frame.clone() });
        }
    }

    fn queue_frame(&self, now: Now, place: &Place) -> String {
        let waiting: Vec<Claimed<'_>> = self.claims.waiting(place).map(|claim| self.claimed(now, claim)).collect();
        let model = waiting.first().map_or(&*place.model, |first| first.model);
        wire::queue(model, &place.row, &waiting)
    }

    /// The waiting lines that a connection sees now and did not before.
    pub(in crate::engine) fn send_queues(&mut self, now: Now, id: ConnectionId, before: Option<&View>) {
        let Some(connection) = self.connections.get(&id) else { return };
        let lines = self.claims.places(&connection.participant.organization).filter(|place| {
            self.claims.waiting(place).next().is_some()
                && self.shows_place(&connection.view, place)
                && !before.is_some_and(|view| self.shows_place(view, place))
        });
        let frames: Vec<String> = lines.map(|place| self.queue_frame(now, place)).collect();
        for frame in frames {
            self.send(id, frame);
        }
    }

    /// `claim_begin` (protocol.md 7.7, 11.3).
    pub(in crate::engine) fn claim_begin(&mut self, now: Now, id: ConnectionId, payload: Value<'_>) {
        let Some(Connection { participant, .. }) = self.connections.get(&id) else { return };
        let participant = participant.clone();
        let ask = match Ask::parse(payload) {
            Ok(ask) => ask,
            Err(error) => {
                if let Some(frame) = wire::rejected_malformed(payload, &error) {
                    self.send(id, frame);
                }
                return;
            }
        };
        let frame = match self.begin_claim(now, &participant, Some(id), &ask) {
            Ok(no) => {
                let Some(claim) = self.claims.get(no) else { return };
                let frame = match claim.grant {
                    Some(grant) => {
                        wire::answer("claim_acquired", claim, |payload| payload.u64("fencingToken", grant.fence.0))
                    }
                    None => {
                        let position = self.claims.position(claim) as u64;
                        let in_the_way = self.claims.in_the_way(&claim.place, &claim.who, &claim.part);
                        // Whoever it waits behind waits for somebody.
                        let holder = in_the_way.or_else(|| self.claims.held(&claim.place).next());
                        let holder = holder.map(|holder| self.claimed(now, holder));
                        wire::answer("claim_queued", claim, |payload| {
                            payload.u64("position", position);
                            if let Some(holder) = &holder {
                                wire::write_holder(payload, holder);
                            }
                        })
                    }
                };
                self.send(id, frame);
                return self.tell_claim(now, no);
            }
            Err(Refusal::Held(no)) => {
                let Some(claim) = self.claims.get(no) else { return };
                wire::rejected(&ask, &self.held_error(now, claim), Some(&self.claimed(now, claim)))
            }
            Err(Refusal::Error(error)) => wire::rejected(&ask, &error, None),
        };
        self.send(id, frame);
    }

    /// `entity_claimed`, with all claims that hold the row (protocol.md 11.6).
    pub(in crate::engine) fn held_error(&self, now: Now, claim: &Claim) -> Error {
        let holder = self.claimed(now, claim);
        let who = &claim.holder.id;
        let mut error =
            Error::wire("entity_claimed", format!("{}/{:.80} is claimed by {who}", holder.model, claim.place.row));
        let mut details = String::new();
        let mut object = ablo_wasm::core::json::ObjectWriter::new(&mut details);
        write_array(object.key("claims"), self.claims.held(&claim.place), |out, claim| {
            wire::write_summary(out, &self.claimed(now, claim));
        });
        wire::write_holder(&mut object, &holder);
        object.end();
        error.details = Some(details);
        error
    }

    /// `claim_abandon` (protocol.md 7.8).
    pub(in crate::engine) fn claim_abandon(&mut self, now: Now, participant: &Participant, payload: Value<'_>) {
        let who: Who = (participant.organization.clone(), participant.name().into());
        let id = payload.get_str("claimId").unwrap_or_default();
        if let Some(no) = self.claims.named(&who, &id).map(|claim| claim.no) {
            self.end_claim(now, no, End::Canceled);
        }
    }

    /// `claim_reorder` (protocol.md 7.9). An unauthorised sender is ignored.
    pub(in crate::engine) fn claim_reorder(&mut self, now: Now, participant: &Participant, payload: Value<'_>) {
        let (Some(model), Some(row)) = (payload.get_str("entityType"), payload.get_str("entityId")) else { return };
        // There is no frame to say so in.
        let _ = self.reorder_claims(now, participant, &model, &row, payload);
    }

    pub(super) fn reorder_claims(
        &mut self,
        now: Now,
        participant: &Participant,
        model: &str,
        row: &str,
        body: Value<'_>,
    ) -> Result<(), Error> {
        let place = self.place(&participant.organization, model, row);
        let may = |granted: &String| granted == "*" || REORDER.contains(&granted.as_str());
        self.check_claim_scope(participant, &place)?;
        if !participant.operations.iter().any(may) {
            let why = "this key does not allow claim.reorder; mint one whose operations include it";
            return Err(scope_denied(why.to_owned(), REORDER[0], &[]));
        }
        let Some(order) = wire::read_order(body) else {
            return Err(wire::malformed("order must be a list of {heldBy, claimId}", "order"));
        };
        let named = |(held_by, id): &(std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| {
            let mut waiting = self.claims.waiting(&place);
            waiting.find(|claim| *claim.id == **id && *claim.holder.id == **held_by).map(|claim| claim.no)
        };
        let order: Vec<ClaimNo> = order.iter().filter_map(named).collect();
        if self.claims.reorder(&place, &order) {
            self.tell_queue(now, &place);
        }
        Ok(())
    }
}
