//! Claims, joined groups and activities in applications, and what must hold for them on both sides of the line.

use std::collections::{BTreeMap, BTreeSet};

use ablo_wasm::core::error::Error;
use ablo_wasm::core::input::Command;
use ablo_wasm::core::json::{ObjectWriter, Value};
use ablo_wasm::core::pool::RowRef;
use ablo_wasm::core::wire::Commit;

use crate::client::{Client, Use};
use crate::oracle::{Author, Check, Row, broken, fingerprint};
use crate::shop::{self, FILES, NOTES, TASKS};
use crate::world::{Event, World};

/// Claims that one application has at once.
const CLAIMS_MAX: usize = 3;
/// Timers of a page in the background come so late.
const LATE_MS: u64 = 65_000;

/// How far an application is with a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Asked,
    Held,
    /// Given back, refused or lost: it does not count any more.
    Over,
}

/// A claim as its application knows it.
#[derive(Clone, Debug)]
pub(crate) struct AppClaim {
    /// `None`: groups.
    pub(crate) row: Option<Row>,
    pub(crate) stage: Stage,
    /// The row need not exist.
    creates: bool,
    /// It came to be as the so-manyth.
    number: u64,
    /// The server was asked for it, and not told yet that it is given back.
    begun: bool,
    /// Its application has given it back.
    given_back: bool,
    /// The last that the client has said of it is that it is given back, whoever wanted that.
    abandoned: bool,
    /// The first grant that reached the client.
    fence: Option<u64>,
    /// By the client's clock it waits no longer than this.
    until: Option<u64>,
}

/// Whether it is a lease.
fn lease(claim: Value<'_>) -> bool {
    claim.get("entityId").is_some()
}

impl Client {
    /// The core holds this row, and knows it by the row. Its application may not have heard of that yet.
    pub(crate) fn holds(&self, row: &Row) -> bool {
        let of_row = |(_, claim): &(&String, &AppClaim)| {
            claim.row.as_ref() == Some(row) && !claim.creates && claim.stage != Stage::Over
        };
        self.claims.iter().filter(of_row).any(|(id, _)| self.has_claim(id))
    }

    /// The core knows a claim as held.
    pub(crate) fn has_claim(&self, id: &str) -> bool {
        let text = self.engine.coordination();
        let Ok(known) = Value::parse(&text) else { return false };
        let is_it = |claim: Value<'_>| {
            claim.get_bool("held") == Some(true)
                && claim.at("claim").get_str("claimId").is_some_and(|known| known == id)
        };
        known.at("own").elements().any(is_it)
    }

    /// Everything up to here is in the row as the client has it.
    pub(crate) fn has_seen(&self, row: &Row) -> ablo_wasm::core::id::SyncId {
        let pool = self.engine.pool();
        let stamp = pool.find(row.0, &row.1).map(|slot| pool.stamp(RowRef { model: row.0, slot }));
        stamp.unwrap_or_default().max(self.engine.cursor())
    }

    /// A frame about a claim has reached the client.
    pub(crate) fn note_claim(&mut self, text: &str) {
        let is_grant = |kind: &str| matches!(kind, "claim_acquired" | "claim_granted");
        let Ok(frame) = Value::parse(text) else { return };
        if !frame.get_str("type").is_some_and(|kind| is_grant(&kind)) {
            return;
        }
        let payload = frame.at("payload");
        let id = payload.get_string("claimId").unwrap_or_default();
        if let (Some(claim), Some(fence)) = (self.claims.get_mut(&id), payload.get_u64("fencingToken")) {
            claim.fence.get_or_insert(fence);
        }
    }

    /// An earlier claim on the row that its application has given back, and the client not yet.
    fn ending_before(&self, claim: &AppClaim) -> Option<&AppClaim> {
        let is_it = |other: &&AppClaim| {
            other.begun && other.given_back && other.number < claim.number && !other.creates && other.row == claim.row
        };
        self.claims.values().find(is_it).filter(|_| !claim.creates && claim.row.is_some())
    }

    /// A frame about a claim leaves. Whoever asks for a row again has given it back before: the server lets a participant
    /// that holds a row take another claim on it past everybody who waits.
    pub(crate) fn check_claim_frame(&mut self, text: &str) -> Check {
        let Ok(frame) = Value::parse(text) else { return Ok(()) };
        let begins = match frame.get_str("type").as_deref() {
            Some("claim_begin") => true,
            Some("claim_abandon") => false,
            _ => return Ok(()),
        };
        let id = frame.at("payload").get_string("claimId").unwrap_or_default();
        let Some(claim) = self.claims.get(&id) else { return Ok(()) };
        if let Some(other) = self.ending_before(claim).filter(|_| begins && !claim.begun) {
            let what = format!("{}: {id} is asked for while {other:?} is not given back", self.name());
            return broken("line-order", what);
        }
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.begun = begins;
            claim.abandoned = !begins;
        }
        Ok(())
    }

    /// A commit leaves. The claim that it was made under is still there for it.
    pub(crate) fn check_commit_frame(&self, commit: &Commit) -> Check {
        let terms = Value::parse(commit.terms.as_deref().unwrap_or("{}")).ok();
        let Some(id) = terms.and_then(|terms| terms.get_string("claim")) else { return Ok(()) };
        match self.claims.get(&id).filter(|claim| claim.given_back && claim.abandoned) {
            Some(claim) => {
                let key = &commit.client_tx_id;
                broken("given-back-early", format!("{}: {key} is sent under {id}, which is {claim:?}", self.name()))
            }
            None => Ok(()),
        }
    }

    fn can_be_asked(&self) -> bool {
        !(self.disposed || self.disposing || self.frozen || self.thawing || self.line.signed_out)
            && self.line.asleep.is_none()
    }
}

impl World {
    /// What an application does about others, in one turn.
    pub(crate) fn coordinate(&mut self, no: usize) -> Check {
        self.compare_claims()?;
        if !self.clients[no].can_be_asked() {
            return Ok(());
        }
        match self.coord.below(100) {
            0..22 => self.claim(no),
            22..25 => self.join(no),
            25..31 => {
                let action = self.coord.pick(&["editing", "reading", "idle"]);
                let (kind, row) = if action == "idle" { ("Unknown", "") } else { ("task", "t0") };
                let mut text = String::new();
                let mut object = ObjectWriter::new(&mut text);
                object.str("entityType", kind);
                object.str("entityId", row);
                object.str("action", action);
                object.u64("loadFactor", self.now);
                object.end();
                self.clients[no].activity = Some(text.clone());
                self.command(no, Command::Activity(text))?.or_else(unexpected)
            }
            31 => {
                let open = self.clients[no].claims.values_mut();
                open.filter(|claim| claim.row.is_some() && claim.stage != Stage::Over).for_each(|claim| {
                    claim.stage = Stage::Over;
                    claim.given_back = true;
                });
                self.command(no, Command::LeaveClaims)?.or_else(unexpected)
            }
            _ => Ok(()),
        }
    }

    fn open_claims(&self, no: usize) -> usize {
        self.clients[no].claims.values().filter(|claim| claim.stage != Stage::Over).count()
    }

    fn claim(&mut self, no: usize) -> Check {
        if self.open_claims(no) >= CLAIMS_MAX {
            return Ok(());
        }
        let hot = self.plan.on.hot_rows && self.coord.percent(80);
        let model = self.coord.pick(&[TASKS, TASKS, TASKS, NOTES, FILES]);
        let rows = if hot { 1 } else { self.plan.rows };
        let odd = self.plan.on.odd_ids && !hot;
        let row: Row = (model, shop::id(model, rows, odd, false, &mut self.coord));
        self.meet(&row);
        self.next_claim += 1;
        let id = format!("c{}", self.next_claim);
        let creates = self.clients[no].row(&row).is_none() && self.coord.percent(50);
        let mut payload = String::new();
        let mut object = ObjectWriter::new(&mut payload);
        object.str("claimId", &id);
        let kind = match model {
            TASKS => "task",
            NOTES => self.coord.pick(&["note", "notemodel"]),
            _ => "file",
        };
        object.str("entityType", kind);
        object.str("entityId", &row.1);
        object.str("action", "editing");
        if self.coord.percent(85) {
            object.bool("queue", true);
        } else if self.coord.percent(50) {
            object.bool("queue", false);
        }
        // Some leave the other fields to others, some only say which field they are about.
        if self.coord.percent(35) {
            object.str("field", self.coord.pick(&["title", "rank"]));
            if self.coord.percent(80) {
                object.bool("fieldOnly", true);
            }
        }
        if self.coord.percent(20) {
            object.u64("estimatedMs", self.coord.pick(&[1_000, 5_000, 300_000]));
        }
        object.end();
        let mut options = String::new();
        let mut object = ObjectWriter::new(&mut options);
        let mut until = None;
        if self.coord.percent(12) {
            object.u64("maxQueueDepth", self.coord.below(3));
        }
        if self.coord.percent(15) {
            let wait = self.coord.pick(&[500, 5_000, 30_000]);
            object.u64("waitTimeoutMs", wait);
            until = Some(self.client_now(no).mono.0 + wait);
        }
        if creates {
            object.bool("create", true);
        }
        object.end();
        let claim = AppClaim { creates, until, ..self.new_claim(Some(row)) };
        self.clients[no].claims.insert(id.clone(), claim);
        let ticket = self.clients[no].ticket(Use::Claim(id));
        self.command(no, Command::Claim(ticket, model, payload, options))?.or_else(unexpected)
    }

    fn new_claim(&self, row: Option<Row>) -> AppClaim {
        AppClaim {
            row,
            stage: Stage::Asked,
            creates: false,
            number: self.next_claim,
            begun: false,
            given_back: false,
            abandoned: false,
            fence: None,
            until: None,
        }
    }

    fn join(&mut self, no: usize) -> Check {
        if self.open_claims(no) >= CLAIMS_MAX {
            return Ok(());
        }
        self.next_claim += 1;
        let id = format!("participant:{}", self.next_claim);
        let group = self.coord.pick(&["tasks:t0", "tasks:t1", "files:f0"]);
        let mut payload = String::new();
        let mut object = ObjectWriter::new(&mut payload);
        object.str("claimId", &id);
        object.strs("syncGroups", [group]);
        if self.coord.percent(30) {
            object.u64("ttlSeconds", self.coord.range(1, 60));
        }
        object.end();
        let claim = self.new_claim(None);
        self.clients[no].claims.insert(id.clone(), claim);
        let ticket = self.clients[no].ticket(Use::Claim(id));
        self.command(no, Command::Claim(ticket, TASKS, payload, "{}".to_owned()))?.or_else(unexpected)
    }

    /// An application has had a claim for a while.
    pub(crate) fn hold(&mut self, no: usize, author: Author, id: &str) -> Check {
        if !self.is_current(no, author) || !self.clients[no].can_be_asked() {
            return Ok(());
        }
        let Some(claim) = self.clients[no].claims.get(id).cloned() else { return Ok(()) };
        // Whoever could not get it, or has lost it, says so as well.
        if claim.stage == Stage::Over {
            self.clients[no].claims.remove(id);
            return self.command(no, Command::Release(id.to_owned()))?.or_else(unexpected);
        }
        if self.releasing {
            return if claim.stage == Stage::Held { self.give_back(no, id) } else { Ok(()) };
        }
        if self.healing || self.turns == 0 {
            return Ok(());
        }
        let forgets = if self.plan.on.forgetful { 30 } else { 4 };
        let roll = self.coord.below(100);
        if roll < forgets {
            return Ok(());
        }
        let Some(row) = claim.row.filter(|_| roll < 75) else {
            if claim.stage == Stage::Held && self.coord.percent(40) {
                self.write_claimed(no, id)?;
            }
            return self.give_back(no, id);
        };
        if claim.stage == Stage::Held {
            match self.coord.below(10) {
                0..3 => self.write_row(no, row, None)?,
                3..5 => {
                    self.write_row(no, row.clone(), None)?;
                    self.write_row(no, row, None)?;
                }
                5..8 => self.write_row(no, row, Some(id))?,
                _ => self.direct(no, Some((id.to_owned(), row)))?,
            }
        }
        self.hold_on(no, id);
        Ok(())
    }

    fn write_claimed(&mut self, no: usize, id: &str) -> Check {
        let row = self.clients[no].claims.get(id).and_then(|claim| claim.row.clone());
        row.map_or(Ok(()), |row| self.write_row(no, row, Some(id)))
    }

    /// The application goes on with a claim later.
    fn hold_on(&mut self, no: usize, id: &str) {
        let author = self.clients[no].author;
        let pause = self.coord.range(1, self.plan.pace_ms.min(8_000) * 2);
        self.at(pause, Event::Hold(no, author, id.to_owned()));
    }

    fn give_back(&mut self, no: usize, id: &str) -> Check {
        if let Some(claim) = self.clients[no].claims.get_mut(id) {
            claim.stage = Stage::Over;
            claim.given_back = true;
        }
        self.command(no, Command::Release(id.to_owned()))?.or_else(unexpected)
    }

    /// A claim's ticket settles.
    pub(crate) fn claim_settled(&mut self, no: usize, id: &str, result: Result<(), Error>) -> Check {
        let author = self.clients[no].author;
        let name = self.clients[no].name();
        let Some(claim) = self.clients[no].claims.get_mut(id) else { return Ok(()) };
        if let Err(error) = result {
            const CODES: [&str; 14] = [
                "entity_claimed",
                "claim_conflict",
                "queue_too_deep",
                "grant_timeout",
                "claim_wait_aborted",
                "claim_lost",
                "claim_lease_unavailable",
                "capability_scope_denied",
                "client_disposed",
                "session_expired",
                // The row could not be read.
                "wait_for_timeout",
                "model_query_failed",
                "protocol_violation",
                "sync_not_ready",
            ];
            claim.stage = Stage::Over;
            self.stats.claims_refused += 1;
            let known = CODES.contains(&error.code.as_ref()) || error.status.is_some() || self.plan.lying;
            if !known && !self.clients[no].engine.is_signed_out() {
                return broken("claim-code", format!("{name}: {id} is refused with {error}"));
            }
            self.at(0, Event::Hold(no, author, id.to_owned()));
            return Ok(());
        }
        if claim.stage != Stage::Asked {
            return broken("ticket", format!("{name}: {id} is granted, and it is {claim:?}"));
        }
        claim.stage = Stage::Held;
        let claim = claim.clone();
        match &claim.row {
            None => self.stats.joined += 1,
            Some(_) if claim.fence.is_none() && !self.plan.lying => {
                return broken("one-holder", format!("{name}: {id} is granted, and the server never said so"));
            }
            Some(row) => {
                self.stats.claimed += 1;
                self.check_trace(no, id, row, &claim)?;
            }
        }
        if self.releasing {
            self.at(0, Event::Hold(no, author, id.to_owned()));
        } else {
            self.hold_on(no, id);
        }
        Ok(())
    }

    /// Whoever gets a row has it as those before have left it.
    fn check_trace(&self, no: usize, id: &str, row: &Row, claim: &AppClaim) -> Check {
        let client = &self.clients[no];
        let Some((head, who)) = self.host.book.as_ref().and_then(|book| book.grant(claim.fence?)) else {
            return Ok(());
        };
        if !client.persona.sees_all() || !client.honest || claim.creates {
            return Ok(());
        }
        let Some(last) = self.oracle.last_by_others(row, who, head) else { return Ok(()) };
        let versions = self.oracle.versions(row);
        let from = versions.iter().rposition(|version| version.id <= last);
        let newer = versions.get(from.unwrap_or(0)..).unwrap_or_default();
        let text = client.engine.base_row(row.0, &row.1);
        let base = text.map(fingerprint);
        let fits = newer.iter().any(|version| version.text == base);
        let absent = base.is_none() && newer.iter().any(|version| version.archived);
        let mixed = text.is_some_and(|text| self.oracle.is_complete(row, text, last));
        if fits || absent || mixed {
            return Ok(());
        }
        let what = format!(
            "{}: {id} on {row:?} is granted at {} and its row is {text:?}, from before {}: {versions:?}",
            client.name(),
            head.0,
            last.0
        );
        broken("claim-trace", what)
    }

    /// The application hears that a claim is lost.
    pub(crate) fn claim_lost(&mut self, no: usize, payload: &str) -> Check {
        let Ok(payload) = Value::parse(payload) else { return broken("event", payload) };
        let id = payload.get_string("claimId").unwrap_or_default();
        let name = self.clients[no].name();
        if let Some(claim) = self.clients[no].claims.get_mut(&id) {
            if claim.stage == Stage::Asked {
                return broken("ticket", format!("{name}: {id} is lost and its ticket is open"));
            }
            claim.stage = Stage::Over;
            claim.begun = false;
            claim.given_back = false;
            self.stats.claims_lost += 1;
        }
        Ok(())
    }

    /// Where nothing is on the way between a client and the server, both know the same about its claims; and nobody is
    /// in their own roster.
    pub(crate) fn compare_claims(&mut self) -> Check {
        let Some(book) = self.host.book.as_ref().filter(|_| !self.plan.lying) else { return Ok(()) };
        if !self.host.is_up() || !self.host.is_idle() {
            return Ok(());
        }
        let connections = self.host.connections();
        let mut looks = 0;
        for client in &self.clients {
            let Some(connection) = self.settled_connection(client) else { continue };
            let Some((_, who, _)) = connections.iter().find(|(id, ..)| *id == connection) else { continue };
            looks += 1;
            let text = client.engine.coordination();
            let Ok(known) = Value::parse(&text) else { return broken("coordination", text) };
            let disagree = |what: String| broken("claims-agree", format!("{} as {who}: {what}: {text}", client.name()));
            let mut own = BTreeSet::new();
            // Rows that are still to be given back: they are asked for again after that.
            let mut ending = BTreeSet::new();
            for claim in known.at("own").elements() {
                let id = claim.at("claim").get_string("claimId").unwrap_or_default();
                own.insert(id.clone());
                let row = claim.at("claim").get_string("entityId");
                let Some(app) = client.claims.get(&id).filter(|app| app.stage != Stage::Over) else {
                    ending.insert(row);
                    continue;
                };
                if !lease(claim.at("claim")) {
                    continue;
                }
                let held = claim.get_bool("held") == Some(true);
                let at_server = book.get(who, &id);
                match at_server.map(|at_server| at_server.fence) {
                    Some(Some(fence)) if held => {
                        if app.fence.is_some_and(|first| first != fence.0) {
                            return broken(
                                "lapse-told",
                                format!("{}: {id} is {app:?} and {at_server:?}", client.name()),
                            );
                        }
                    }
                    Some(None) if !held => {}
                    None if !app.begun && ending.contains(&row) => {}
                    _ => return disagree(format!("{id} is {app:?} here and {at_server:?} at the server")),
                }
                let clock = client.clock(self.now);
                if !held && app.until.is_some_and(|until| until + LATE_MS < clock) {
                    return broken("claim-stuck", format!("{}: {id} still waits at {clock}: {app:?}", client.name()));
                }
            }
            for (id, app) in &client.claims {
                if app.stage != Stage::Over && !own.contains(id) {
                    return disagree(format!("{id} is forgotten: {app:?}"));
                }
                let at_server = book.get(who, id).filter(|_| app.abandoned);
                if let Some(at_server) = at_server {
                    let what = format!("{}: {id} is given back, and at the server {at_server:?}", client.name());
                    return broken("left-behind", what);
                }
            }
            let (_, me) = who.split_once(':').unwrap_or_default();
            if known.at("peers").elements().any(|peer| peer.get_str("userId").is_some_and(|peer| peer == me)) {
                return broken("own-presence", format!("{} is {who} and in their own roster: {text}", client.name()));
            }
        }
        self.stats.claim_looks += looks;
        Ok(())
    }

    /// The connection of a client, if nothing is on its way there or back.
    fn settled_connection(&self, client: &Client) -> Option<ablo_server::engine::ConnectionId> {
        if !client.can_be_asked() || !client.backlog.is_empty() {
            return None;
        }
        let link = self.links.get(client.links.get(&client.engine.socket()?)?)?;
        link.connection.filter(|_| link.is_settled())
    }

    /// Everything held is given back.
    pub(crate) fn release_all(&mut self) -> Check {
        self.releasing = true;
        self.clients.iter_mut().for_each(|client| client.patient = false);
        for no in 0..self.clients.len() {
            if !self.clients[no].can_be_asked() {
                continue;
            }
            // Who waits gets what the others give back; if the server can be believed.
            let lying = self.plan.lying;
            let open = self.clients[no]
                .claims
                .iter()
                .filter(|(_, claim)| claim.stage == Stage::Held || (lying && claim.stage == Stage::Asked));
            let open: Vec<String> = open.map(|(id, _)| id.clone()).collect();
            for id in open {
                self.give_back(no, &id)?;
            }
        }
        Ok(())
    }

    /// No claim is left at the server.
    pub(crate) fn are_lines_empty(&self) -> bool {
        self.host.book.as_ref().is_none_or(|book| book.claims().is_empty())
    }

    /// Everybody knows of exactly those who are there, what they hold and what they do.
    pub(crate) fn check_rosters(&self) -> Check {
        let Some(book) = self.host.book.as_ref().filter(|_| !self.plan.lying) else { return Ok(()) };
        let connections = self.host.connections();
        let activities = self.activities();
        for client in &self.clients {
            let Some(connection) = self.settled_connection(client) else { continue };
            let Some((_, me, mine)) = connections.iter().find(|(id, ..)| *id == connection) else { continue };
            let mut there: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            let others = connections.iter().filter(|(_, who, _)| who != me);
            for (_, who, groups) in others {
                if !groups.is_disjoint(mine) {
                    there.entry(who).or_default();
                }
            }
            for claim in book.claims().iter().filter(|claim| claim.fence.is_some() && claim.who != *me) {
                if let Some(claims) = there.get_mut(claim.who.as_str()) {
                    claims.insert(&claim.id);
                }
            }
            let text = client.engine.coordination();
            let Ok(known) = Value::parse(&text) else { return broken("coordination", text) };
            let mut found = BTreeSet::new();
            for peer in known.at("peers").elements() {
                let kind = peer.get_string("participantKind").unwrap_or_default();
                let who = format!("{kind}:{}", peer.get_string("userId").unwrap_or_default());
                let is_active = |claim: &Value<'_>| claim.get_str("status").is_none_or(|status| status == "active");
                let claims = peer.at("activeClaims").elements().filter(is_active);
                let claims: BTreeSet<String> = claims.filter_map(|claim| claim.get_string("claimId")).collect();
                let claims: BTreeSet<&str> = claims.iter().map(String::as_str).collect();
                let wrong = |what: &str| broken("roster", format!("{} as {me}: {what} {who}: {text}", client.name()));
                match there.get(who.as_str()) {
                    // A participant without the group of everybody may be told less, and of others by their claims.
                    Some(held) if client.persona.sees_all() && *held != claims => {
                        return wrong(&format!("other claims than {held:?} of"));
                    }
                    Some(held) if !claims.is_subset(held) => return wrong("claims that are over of"),
                    None if claims.is_empty() => return wrong("nobody called"),
                    // Claims are shown to whoever sees their rows, whatever groups they share.
                    None if !claims.iter().all(|id| book.get(&who, id).is_some_and(|claim| claim.fence.is_some())) => {
                        return wrong("claims of");
                    }
                    _ => {}
                }
                let activity = peer.get("activity").map(|activity| activity.raw);
                let said = activities.get(who.as_str()).filter(|_| client.persona.sees_all());
                if said.is_some_and(|said| Some(said.as_str()) != activity) {
                    return wrong(&format!("not the activity {said:?} of"));
                }
                found.insert(who);
            }
            if let Some(missing) = there.keys().find(|who| !found.contains(**who)) {
                return broken("roster", format!("{} as {me} does not know of {missing}: {text}", client.name()));
            }
        }
        Ok(())
    }

    /// What participants with one connection do, as far as they have said so.
    fn activities(&self) -> BTreeMap<String, String> {
        let connections = self.host.connections();
        let mut out = BTreeMap::new();
        for client in &self.clients {
            let Some(connection) = self.settled_connection(client) else { continue };
            let Some((_, who, _)) = connections.iter().find(|(id, ..)| *id == connection) else { continue };
            let alone = connections.iter().filter(|(_, other, _)| other == who).count() == 1;
            if let (Some(activity), true) = (&client.activity, alone) {
                out.insert(who.clone(), activity.clone());
            }
        }
        out
    }
}

fn unexpected(error: Error) -> Check {
    broken("call", error.to_string())
}
