//! The server's claims as checks see them: after each step of the engine, what became of rows, lines and grants is
//! compared with what may become of them.

use std::collections::{BTreeMap, BTreeSet};

use ablo_server::engine::{ConnectionId, Engine, KnownClaim, StoreChange, Verb};
use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::json::Value;
use ablo_wasm::core::wire::Commit;

use crate::oracle::{Check, Violation, broken};
use crate::shop;

/// A claim's name: participant and id.
type Name = (String, String);

/// What the server's claims were after its last step.
#[derive(Debug, Default)]
pub(crate) struct Book {
    claims: Vec<KnownClaim>,
    /// In which order claims came.
    arrivals: BTreeMap<Name, u64>,
    last: u64,
    /// The server's head at each grant, and whose it is.
    grants: BTreeMap<u64, (SyncId, String)>,
    /// The highest grant so far, of any life of the server.
    fence: u64,
    /// What was broken first.
    pub(crate) violation: Option<Violation>,
    /// Grants after a wait.
    pub(crate) promoted: u64,
}

/// What a step has brought.
#[derive(Debug, Default)]
pub(crate) struct Step<'a> {
    /// A commit that is carried out.
    pub(crate) applied: Option<(&'a Commit, &'a StoreChange)>,
    /// Frames that say `claim_granted`: to whom, and of which claim.
    pub(crate) granted: BTreeSet<(ConnectionId, String)>,
}

impl Step<'_> {
    /// A frame leaves.
    pub(crate) fn sent(&mut self, connection: ConnectionId, text: &str) {
        if text.starts_with(r#"{"type":"claim_granted""#) {
            let frame = Value::parse(text).ok();
            let id = frame.and_then(|frame| frame.at("payload").get_string("claimId"));
            self.granted.extend(id.map(|id| (connection, id)));
        }
    }
}

/// Whether two participants cannot hold both.
fn overlap(one: &KnownClaim, other: &KnownClaim) -> bool {
    let same_row = one.model == other.model && one.row == other.row;
    same_row && (one.field.is_none() || other.field.is_none() || one.field == other.field)
}

impl Book {
    /// The server has lost all of it, and that it granted more than the store says: nobody had heard of that.
    pub(crate) fn clear(&mut self, reserved: u64) {
        self.fence = self.fence.min(reserved);
        self.claims.clear();
        self.arrivals.clear();
    }

    /// All claims.
    pub(crate) fn claims(&self) -> &[KnownClaim] {
        &self.claims
    }

    /// A claim by its name.
    pub(crate) fn get(&self, who: &str, id: &str) -> Option<&KnownClaim> {
        self.claims.iter().find(|claim| claim.who == who && claim.id == id)
    }

    /// The server's head at a grant, and to whom it was.
    pub(crate) fn grant(&self, fence: u64) -> Option<(SyncId, &str)> {
        self.grants.get(&fence).map(|(head, who)| (*head, who.as_str()))
    }

    /// The engine has done a step.
    pub(crate) fn look(&mut self, engine: &Engine, step: &Step<'_>) {
        if self.violation.is_some() {
            return;
        }
        let now = engine.known_claims();
        let result = self.compare(engine.head(), &now, step);
        self.claims = now;
        self.violation = result.err();
    }

    fn compare(&mut self, head: SyncId, now: &[KnownClaim], step: &Step<'_>) -> Check {
        if let Some((commit, change)) = step.applied {
            self.check_applied(now, commit, change)?;
        }
        if self.claims == now {
            return Ok(());
        }
        let names: BTreeSet<Name> = now.iter().map(|claim| (claim.who.clone(), claim.id.clone())).collect();
        self.arrivals.retain(|name, _| names.contains(name));
        for name in names {
            let last = &mut self.last;
            self.arrivals.entry(name).or_insert_with(|| {
                *last += 1;
                *last
            });
        }
        let came = |claim: &KnownClaim| self.arrivals.get(&(claim.who.clone(), claim.id.clone())).copied();
        let mut highest = self.fence;
        let mut grants = Vec::new();
        let mut promoted = 0;
        for claim in now {
            let others = || now.iter().filter(|other| overlap(other, claim));
            let before = self.get(&claim.who, &claim.id);
            let Some(fence) = claim.fence else {
                let mut ahead = others().take_while(|other| other.id != claim.id || other.who != claim.who);
                if !ahead.any(|other| other.fence.is_none() || other.who != claim.who) {
                    return broken("promotes", format!("nobody is in the way of {claim:?}, which waits"));
                }
                if before.is_some_and(|before| before.fence.is_some()) {
                    return broken("line-order", format!("{claim:?} was held and waits now"));
                }
                let mut ahead = others().take_while(|other| other.id != claim.id || other.who != claim.who);
                if let Some(wrong) = ahead.find(|other| other.fence.is_none() && came(other) > came(claim)) {
                    return broken("line-order", format!("{wrong:?} came later and is before {claim:?}"));
                }
                continue;
            };
            if let Some(other) = others().find(|other| other.fence.is_some() && other.who != claim.who) {
                return broken("one-holder", format!("{claim:?} and {other:?} are held at once"));
            }
            if let Some(known) = before.and_then(|before| before.fence) {
                if known != fence {
                    return broken("fences", format!("the grant of {claim:?} was {known:?} before"));
                }
                continue;
            }
            if fence.0 <= self.fence {
                return broken("fences", format!("{claim:?} is granted under a number that was used before"));
            }
            highest = highest.max(fence.0);
            grants.push((fence.0, (head, claim.who.clone())));
            let again =
                self.claims.iter().any(|held| overlap(held, claim) && held.who == claim.who && held.fence.is_some());
            let mut earlier = others().filter(|other| other.fence.is_none() && came(other) < came(claim));
            if let (Some(passed), false) = (earlier.next(), again) {
                return broken("line-order", format!("{claim:?} is granted before {passed:?}, which came earlier"));
            }
            if before.is_some() {
                promoted += 1;
                let told = claim.connection.is_none_or(|at| step.granted.contains(&(at, claim.id.clone())));
                if !told {
                    return broken("promotes", format!("{claim:?} was granted, and its sender was not told"));
                }
            }
        }
        self.promoted += promoted;
        self.grants.extend(grants);
        self.fence = highest;
        Ok(())
    }

    /// A commit is carried out: under a claim that is held, if it names one, and on no row that somebody else holds.
    ///
    /// A step begins with what time has ended, so what was and what is both count.
    fn check_applied(&self, now: &[KnownClaim], commit: &Commit, change: &StoreChange) -> Check {
        let Some(first) = change.deltas.first() else { return Ok(()) };
        let who = &*first.actor;
        let terms = Value::parse(commit.terms.as_deref().unwrap_or("{}")).ok();
        if let Some(id) = terms.and_then(|terms| terms.get_string("claim")) {
            let fence = terms.and_then(|terms| terms.get_u64("fencingToken"));
            let mut held = now.iter().chain(&self.claims).filter(|claim| claim.who == who && claim.id == id);
            let fits = |claim: &KnownClaim| claim.fence.is_some_and(|held| fence.is_none_or(|fence| fence == held.0));
            if !held.any(fits) {
                let key = &commit.client_tx_id;
                let what = format!("{key} of {who} is carried out under {id} of grant {fence:?}; there are {now:?}");
                return broken("lapsed-writes", what);
            }
        }
        for delta in change.deltas.iter().filter(|delta| delta.verb != Verb::Reroute) {
            let model = shop::model_of(&delta.model);
            let fields = delta.fields.as_ref().filter(|_| delta.verb == Verb::Update);
            let is_left = |field: &String| fields.is_some_and(|fields| fields.iter().all(|name| **name != **field));
            let holds = |claim: &&KnownClaim| {
                let same = shop::model_of(&claim.model) == model && claim.row == *delta.row;
                same && claim.fence.is_some() && claim.who != who && !claim.field.as_ref().is_some_and(is_left)
            };
            if let Some(holder) = self.claims.iter().find(holds).filter(|holder| now.contains(holder)) {
                let key = &commit.client_tx_id;
                let what = format!("{key} of {who} changes {:?}/{}, which {holder:?} holds", delta.model, delta.row);
                return broken("foreign-write", what);
            }
        }
        Ok(())
    }
}
