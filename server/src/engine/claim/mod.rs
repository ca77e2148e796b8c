//! Claims: who has the lease on a row, and who waits for it (protocol.md section 11).
//!
//! The row is the unit: a claim on a field, path or range of it is shown as such and conflicts like any other (11.4). A
//! row has one holder, a participant, who may hold it by several claims at once; everybody else waits in one line, first
//! come, first served. Only a claim that says so (`fieldOnly`, an addition of ours) leaves the other fields of its row to
//! others: two of them on different fields are held at once. This module keeps the books and knows no connections but by
//! name. `lease` decides, `wire` reads and writes, `http` answers requests.
//!
//! Claims live in memory and are gone after a restart: clients announce theirs again when they reconnect (11.5). Fences
//! are never given out twice, not even then, and a write that names a claim this server does not know is refused.

mod http;
mod lease;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ablo_wasm::core::bug::{self, Bug};
use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::time::{Instant, Now, WallTime};

use super::participant::{Participant, Text};
use super::session::ConnectionId;

pub use http::ClaimAnswer;
pub(super) use wire::{Claimed, write_wire};

/// Life of a claim that asks for none (protocol.md 11.5).
pub const CLAIM_TTL_MS: u64 = 60_000;
/// The shortest and the longest life that can be asked for.
pub const CLAIM_TTL_MIN_MS: u64 = 1000;
/// See [`CLAIM_TTL_MIN_MS`].
pub const CLAIM_TTL_MAX_MS: u64 = 600_000;
/// A claim lives at least this long after the last frame of its connection; so does a place in a line.
pub const CLAIM_RENEWAL_MS: u64 = 90_000;
/// Most claims of one participant, waiting ones included. Everybody who sees them is told all of them each time that one
/// changes (protocol.md 12.3).
pub const CLAIMS_PER_PARTICIPANT_MAX: usize = 256;
/// Most claims that wait for one row.
pub const CLAIM_LINE_MAX: usize = 1000;
/// Fences are reserved in the store in steps of this many.
const FENCE_STEP: u64 = 1000;

/// What a grant is known by: higher than that of every grant before it, of any row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// A claim's place in the order in which claims came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClaimNo(u64);

/// The row that a claim is on, whether it exists or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub organization: Text,
    /// The model's stored name, or any other name in lower case: claims need no model.
    pub model: Text,
    pub row: Text,
}

/// A participant by organization and name.
pub(super) type Who = (Text, Text);

/// How much of its row a claim is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it, whatever part it names.
    Row,
    /// This field; the others are left to others.
    Field(Text),
}

impl Part {
    /// Whether two participants cannot have both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        *self == Self::Row || *other == Self::Row || self == other
    }
}

/// What a claim says about itself. None of it decides anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Detail {
    /// The model as its sender names it.
    pub entity_type: String,
    pub action: String,
    pub description: Option<String>,
    pub field: Option<String>,
    pub path: Option<String>,
    /// The text of an object.
    pub range: Option<String>,
    /// The text of an object.
    pub meta: Option<String>,
}

/// Makes a waiting claim a held one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub fence: Fence,
    /// The head when this participant got hold of the row: its own changes since then do not make its writes stale
    /// (protocol.md 10.3).
    pub head: SyncId,
}

/// One claim.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub no: ClaimNo,
    /// Its participant's name for it.
    pub id: Text,
    pub place: Place,
    pub holder: Arc<Participant>,
    pub who: Who,
    pub part: Part,
    pub detail: Detail,
    pub declared: WallTime,
    /// How long a grant of it lives.
    pub ttl: u64,
    /// It ends no earlier, and later while its connection is heard of.
    pub until: Instant,
    /// The connection that announced it, while it is open.
    pub connection: Option<ConnectionId>,
    /// Made by a request: never renewed.
    pub by_request: bool,
    /// `None` while it waits.
    pub grant: Option<Grant>,
}

impl Claim {
    /// When it ends if nothing more is heard of its connection, which was last heard of then.
    pub(super) fn ends(&self, heard: Option<Instant>, renewal_ms: u64) -> Instant {
        heard.map_or(self.until, |heard| self.until.max(heard.after(renewal_ms)))
    }
}

/// How a claim ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Given back, or out of the line.
    Canceled,
    /// Its time has come.
    Expired,
    /// Another claim of the same participant on the same row has taken its place.
    Replaced,
}

/// The claims on one row.
#[derive(Debug, Default)]
struct Line {
    /// Those of different participants do not overlap.
    held: Vec<ClaimNo>,
    /// In the order in which they will be granted, as far as they overlap. Empty while nobody holds the row.
    waiting: VecDeque<ClaimNo>,
}

/// A claim as checks see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownClaim {
    /// Whose it is, kind and id.
    pub who: String,
    /// Its participant's name for it.
    pub id: String,
    /// The model's stored name.
    pub model: String,
    /// The row.
    pub row: String,
    /// The field that it is on, if it leaves the others of its row to others.
    pub field: Option<String>,
    /// The grant; `None` while it waits.
    pub fence: Option<Fence>,
    /// The connection that announced it, while it is open.
    pub connection: Option<ConnectionId>,
}

/// All claims.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// How long a claim outlives the last frame of its connection, in milliseconds.
    pub renewal_ms: u64,
    all: BTreeMap<ClaimNo, Claim>,
    lines: BTreeMap<Place, Line>,
    names: BTreeMap<(Text, Text, Text), ClaimNo>,
    by_connection: BTreeMap<ConnectionId, BTreeSet<ClaimNo>>,
    /// When to look at a claim. Not later than its end; earlier when its connection has been heard of since.
    deadlines: BTreeSet<(Instant, ClaimNo)>,
    last: u64,
    fence: Fence,
    /// The store knows that fences up to here may be in use.
    reserved: Fence,
}

impl Claims {
    pub(super) fn new(renewal_ms: u64) -> Self {
        Self { renewal_ms, ..Self::default() }
    }

    /// Fences up to this one may be in use from a former life.
    pub(super) fn restore(&mut self, reserved: Fence) {
        self.fence = reserved;
        self.reserved = reserved;
    }

    /// A new fence. The second part, if there is one, must be stored before the fence is told to anybody.
    fn next_fence(&mut self) -> (Fence, Option<Fence>) {
        self.fence.0 += 1;
        if self.fence <= self.reserved {
            return (self.fence, None);
        }
        self.reserved = Fence(self.fence.0 + FENCE_STEP);
        (self.fence, Some(self.reserved))
    }

    pub(super) fn next_no(&mut self) -> ClaimNo {
        self.last += 1;
        ClaimNo(self.last)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn get(&self, no: ClaimNo) -> Option<&Claim> {
        self.all.get(&no)
    }

    pub(super) fn named(&self, who: &Who, id: &str) -> Option<&Claim> {
        self.all.get(self.names.get(&(who.0.clone(), who.1.clone(), id.into()))?)
    }

    /// The claims of a participant, held and waiting.
    pub(super) fn of(&self, who: &Who) -> impl Iterator<Item = &Claim> {
        let from = (who.0.clone(), who.1.clone(), Text::from(""));
        let mine = self
            .names
            .range(from..)
            .take_while(move |((organization, name, _), _)| *organization == who.0 && *name == who.1);
        mine.filter_map(|(_, no)| self.all.get(no))
    }

    /// The names of the participants of an organization who have claims.
    pub(super) fn claimants(&self, organization: &Text) -> BTreeSet<Text> {
        let all = self.names.range((organization.clone(), Text::from(""), Text::from(""))..);
        let ours = all.take_while(|((of, ..), _)| of == organization);
        ours.map(|((_, name, _), _)| name.clone()).collect()
    }

    /// The claims that hold a row, or parts of it.
    pub(super) fn held(&self, place: &Place) -> impl Iterator<Item = &Claim> {
        let line = self.lines.get(place);
        line.into_iter().flat_map(|line| &line.held).filter_map(|no| self.all.get(no))
    }

    /// The claims that wait for a row, in order.
    pub(super) fn waiting(&self, place: &Place) -> impl Iterator<Item = &Claim> {
        let line = self.lines.get(place);
        line.into_iter().flat_map(|line| &line.waiting).filter_map(|no| self.all.get(no))
    }

    /// What keeps a participant from a part of a row: what others hold of it.
    pub(super) fn in_the_way(&self, place: &Place, who: &Who, part: &Part) -> Option<&Claim> {
        self.held(place).find(|held| held.who != *who && held.part.overlaps(part))
    }

    pub(super) fn position(&self, claim: &Claim) -> usize {
        self.waiting(&claim.place).position(|other| other.no == claim.no).unwrap_or(0)
    }

    /// The rows of an organization on which there are claims.
    pub(super) fn places(&self, organization: &Text) -> impl Iterator<Item = &Place> {
        let from = Place { organization: organization.clone(), model: "".into(), row: "".into() };
        self.lines.range(from..).map(|(place, _)| place).take_while(move |place| place.organization == *organization)
    }

    /// All claims, row by row: those that hold it, then those that wait, in order. For checks.
    pub(super) fn known(&self) -> Vec<KnownClaim> {
        let numbers = self.lines.values().flat_map(|line| line.held.iter().chain(&line.waiting));
        let known = |claim: &Claim| KnownClaim {
            who: claim.who.1.to_string(),
            id: claim.id.to_string(),
            model: claim.place.model.to_string(),
            row: claim.place.row.to_string(),
            field: match &claim.part {
                Part::Row => None,
                Part::Field(name) => Some(name.to_string()),
            },
            fence: claim.grant.map(|grant| grant.fence),
            connection: claim.connection,
        };
        numbers.filter_map(|no| self.all.get(no)).map(known).collect()
    }

    /// Adds a claim: to those that hold its row if it is granted, to the end of the line otherwise.
    pub(super) fn add(&mut self, claim: Claim) {
        let line = self.lines.entry(claim.place.clone()).or_default();
        if claim.grant.is_some() {
            line.held.push(claim.no);
        } else {
            line.waiting.push_back(claim.no);
        }
        self.names.insert((claim.who.0.clone(), claim.who.1.clone(), claim.id.clone()), claim.no);
        self.deadlines.insert((claim.until, claim.no));
        if let Some(connection) = claim.connection {
            self.by_connection.entry(connection).or_default().insert(claim.no);
        }
        self.all.insert(claim.no, claim);
    }

    pub(super) fn remove(&mut self, no: ClaimNo) -> Option<Claim> {
        let claim = self.all.remove(&no)?;
        if let Some(line) = self.lines.get_mut(&claim.place) {
            line.held.retain(|other| *other != no);
            line.waiting.retain(|other| *other != no);
            if line.held.is_empty() && line.waiting.is_empty() {
                self.lines.remove(&claim.place);
            }
        }
        self.names.remove(&(claim.who.0.clone(), claim.who.1.clone(), claim.id.clone()));
        self.deadlines.remove(&(claim.until, no));
        self.unbind(no, claim.connection);
        Some(claim)
    }

    fn unbind(&mut self, no: ClaimNo, connection: Option<ConnectionId>) {
        let Some(connection) = connection else { return };
        if let Some(claims) = self.by_connection.get_mut(&connection) {
            claims.remove(&no);
            if claims.is_empty() {
                self.by_connection.remove(&connection);
            }
        }
    }

    /// Lets a claim end at another time.
    pub(super) fn extend(&mut self, no: ClaimNo, until: Instant) {
        if let Some(claim) = self.all.get_mut(&no) {
            self.deadlines.remove(&(claim.until, no));
            claim.until = until;
            self.deadlines.insert((until, no));
        }
    }

    /// Makes this connection the one that keeps the claim alive.
    pub(super) fn bind(&mut self, no: ClaimNo, connection: ConnectionId) {
        let Some(claim) = self.all.get_mut(&no) else { return };
        // What an older connection has still said is heard late: its client is on the newer one.
        if claim.connection >= Some(connection) {
            return;
        }
        let before = claim.connection.replace(connection);
        self.unbind(no, before);
        self.by_connection.entry(connection).or_default().insert(no);
    }

    /// A connection has gone, last heard of then: its claims live on for as long as they have left.
    pub(super) fn detach(&mut self, connection: ConnectionId, heard: Instant) {
        for no in self.by_connection.remove(&connection).unwrap_or_default() {
            let Some(claim) = self.all.get_mut(&no) else { continue };
            claim.connection = None;
            let until = claim.ends(Some(heard), self.renewal_ms);
            self.extend(no, until);
        }
    }

    /// The first in line whom nobody keeps from what it waits for: no holder, and nobody who waits before it.
    pub(super) fn next_holder(&self, place: &Place) -> Option<ClaimNo> {
        let is_free = |claim: &&Claim| self.in_the_way(place, &claim.who, &claim.part).is_none();
        if bug::on(Bug::LineNotFair) {
            return self.waiting(place).filter(is_free).last().map(|claim| claim.no);
        }
        let mut before: Vec<&Part> = Vec::new();
        for claim in self.waiting(place) {
            let is_next = before.iter().all(|part| !part.overlaps(&claim.part));
            if is_next && is_free(&claim) {
                return Some(claim.no);
            }
            if claim.part == Part::Row {
                return None;
            }
            before.push(&claim.part);
        }
        None
    }

    /// Grants a waiting claim, which lives until then.
    pub(super) fn grant(&mut self, no: ClaimNo, grant: Grant, until: Instant) {
        let Some(claim) = self.all.get_mut(&no) else { return };
        claim.grant = Some(grant);
        if let Some(line) = self.lines.get_mut(&claim.place) {
            line.waiting.retain(|other| *other != no);
            line.held.push(no);
        }
        self.extend(no, until);
    }

    /// Puts the named waiters first, in this order; the others keep theirs behind. False: nothing has moved.
    pub(super) fn reorder(&mut self, place: &Place, order: &[ClaimNo]) -> bool {
        let Some(line) = self.lines.get_mut(place) else { return false };
        let mut next: Vec<ClaimNo> = Vec::new();
        for no in order.iter().chain(&line.waiting) {
            if line.waiting.contains(no) && !next.contains(no) {
                next.push(*no);
            }
        }
        let moved = !next.iter().eq(line.waiting.iter());
        line.waiting = next.into();
        moved
    }

    /// When to look at claims next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A claim that is to be looked at.
    pub(super) fn due(&self, now: Now) -> Option<ClaimNo> {
        self.deadlines.first().filter(|(at, _)| *at <= now.mono).map(|(_, no)| *no)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_grow_and_never_come_twice() {
        let mut claims = Claims::default();
        let (first, reserve) = claims.next_fence();
        assert_eq!((first, reserve), (Fence(1), Some(Fence(1 + FENCE_STEP))));
        let mut last = first;
        for _ in 0..2 * FENCE_STEP {
            let (next, _) = claims.next_fence();
            assert!(next > last);
            last = next;
        }
        let mut again = Claims::default();
        again.restore(claims.reserved);
        assert!(again.next_fence().0 > claims.next_fence().0);
    }
}
