//! Many clients, few rows: whatever happens to connections and to the server, a row has one holder and its line is fair.

use std::collections::BTreeSet;

use super::*;

const CLIENTS: usize = 50;
const ROWS: usize = 5;
const STEPS: usize = 2000;

/// Small and repeatable.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Idle,
    Waiting { claim: String, row: usize },
    Held { claim: String, row: usize, fence: u64 },
}

struct Client {
    who: Participant,
    conn: Option<ConnectionId>,
    state: State,
    claims: u64,
}

#[derive(Debug, PartialEq)]
struct Entry {
    holder: Text,
    id: Text,
    fence: u64,
}

#[derive(Debug)]
struct Line {
    held: Vec<Entry>,
    waiting: Vec<Entry>,
}

struct Crowd {
    rig: Rig,
    clients: Vec<Client>,
    /// The last fence granted on each row.
    fences: [u64; ROWS],
    grants: u64,
    refused: u64,
    written: u64,
}

impl Crowd {
    /// Who holds each row and who waits for it.
    fn lines(&self) -> Vec<Line> {
        let claims = &self.rig.engine.claims;
        let place = |row: usize| self.rig.engine.place(&"acme".into(), "task", &format!("r{row}"));
        let entry = |claim: &claim::Claim| Entry {
            holder: claim.holder.id.clone(),
            id: claim.id.clone(),
            fence: claim.grant.map_or(0, |grant| grant.fence.0),
        };
        (0..ROWS)
            .map(|row| Line {
                held: claims.held(&place(row)).map(entry).collect(),
                waiting: claims.waiting(&place(row)).map(entry).collect(),
            })
            .collect()
    }

    fn send(&mut self, at: usize, frame: &Value) {
        if let Some(conn) = self.clients[at].conn {
            self.rig.frame(conn, frame);
        }
    }

    fn ask(&mut self, at: usize, claim: &str, row: usize) {
        let payload = json!({"claimId":claim,"entityType":"task","entityId":format!("r{row}"),"queue":true});
        self.send(at, &json!({"type":"claim_begin","payload":payload}));
    }

    /// Everybody reads what came.
    fn read(&mut self) {
        for at in 0..CLIENTS {
            let Some(conn) = self.clients[at].conn else { continue };
            for frame in self.rig.take(conn) {
                let payload = &frame["payload"];
                let named = payload["claimId"].as_str();
                let (State::Waiting { claim, row } | State::Held { claim, row, .. }) = self.clients[at].state.clone()
                else {
                    continue;
                };
                if named != Some(&*claim) {
                    continue;
                }
                self.clients[at].state = match frame["type"].as_str() {
                    Some("claim_acquired" | "claim_granted") => {
                        let fence = payload["fencingToken"].as_u64().unwrap();
                        assert!(fence >= self.fences[row], "an older grant is told after a newer one");
                        self.grants += u64::from(fence > self.fences[row]);
                        self.fences[row] = fence;
                        State::Held { claim, row, fence }
                    }
                    Some("claim_queued") => State::Waiting { claim, row },
                    Some("claim_lost" | "claim_rejected") => State::Idle,
                    _ => continue,
                };
            }
        }
    }

    fn write(&mut self, at: usize) {
        let State::Held { claim, row, fence } = self.clients[at].state.clone() else { return };
        let Some(conn) = self.clients[at].conn else { return };
        self.rig.keys += 1;
        let payload = json!({"clientTxId":format!("k{}", self.rig.keys),"claim":claim,"fencingToken":fence,
            "operations":[{"type":"UPDATE","model":"task","id":format!("r{row}"),"input":{"by":at}}]});
        let line = self.lines().swap_remove(row);
        self.rig.frame(conn, &json!({"type":"commit","payload":payload}));
        let mail = self.rig.mail.entry(conn).or_default();
        let answer = mail.iter().rposition(|frame| frame["type"] == "mutation_result").unwrap();
        let answer = mail.remove(answer);
        let own = Entry { holder: self.clients[at].who.id.clone(), id: claim.as_str().into(), fence };
        let may = line.held.contains(&own);
        assert_eq!(answer["payload"]["success"], may, "{answer}");
        if may {
            self.written += 1;
        } else {
            self.refused += 1;
        }
    }

    fn step(&mut self, dice: &mut Dice) {
        let at = dice.roll(CLIENTS);
        match (dice.roll(100), self.clients[at].state.clone(), self.clients[at].conn) {
            (0..40, State::Idle, Some(_)) => {
                self.clients[at].claims += 1;
                let (claim, row) = (format!("c{at}-{}", self.clients[at].claims), dice.roll(ROWS));
                self.clients[at].state = State::Waiting { claim: claim.clone(), row };
                self.ask(at, &claim, row);
            }
            (0..35, State::Held { claim, .. }, Some(_)) | (0..4, State::Waiting { claim, .. }, Some(_)) => {
                self.send(at, &json!({"type":"claim_abandon","payload":{"claimId":claim}}));
                self.clients[at].state = State::Idle;
            }
            (0..65, State::Held { .. }, Some(_)) => self.write(at),
            (65..72, _, Some(conn)) => {
                // It crashes; the server notices, and what was on its way is lost.
                self.rig.disconnect(conn);
                self.rig.take(conn);
                self.clients[at].conn = None;
            }
            (40..72, state, None) => {
                let conn = self.rig.live(&self.clients[at].who.clone());
                self.clients[at].conn = Some(conn);
                if dice.roll(2) == 0 {
                    // It does not know how long it was away.
                    self.write(at);
                }
                if let State::Waiting { claim, row } | State::Held { claim, row, .. } = state {
                    self.ask(at, &claim, row);
                }
            }
            (72..99, ..) => {
                let ms = dice.roll(6000) as u64;
                self.rig.pass(ms);
            }
            (99, ..) if dice.roll(10) == 0 => self.restart(),
            _ => self.send(at, &json!({"type":"ping"})),
        }
    }

    fn restart(&mut self) {
        let rig = std::mem::replace(&mut self.rig, Rig::new(None));
        self.rig = rig.restarted(None);
        self.rig.deaf = true;
        for client in &mut self.clients {
            client.conn = None;
        }
    }
}

/// Whoever was in line before a step and is after it stands in the same order, and whoever is granted was the first.
fn check_order(before: &[Line], after: &[Line]) {
    for (row, (before, after)) in before.iter().zip(after).enumerate() {
        let holders: BTreeSet<&Text> = after.held.iter().map(|entry| &entry.holder).collect();
        assert!(holders.len() <= 1, "r{row} is held by {holders:?}");
        assert!(!after.held.is_empty() || after.waiting.is_empty(), "somebody waits for r{row}, which is free");
        let stayed: Vec<&Entry> = before.waiting.iter().filter(|entry| after.waiting.contains(entry)).collect();
        let still: Vec<&Entry> = after.waiting.iter().filter(|entry| before.waiting.contains(entry)).collect();
        assert_eq!(stayed, still, "the line of r{row} has changed its order");
        let is_granted =
            |entry: &&Entry| after.held.iter().any(|held| (&held.holder, &held.id) == (&entry.holder, &entry.id));
        if before.waiting.iter().any(|entry| is_granted(&entry)) {
            let first = before.waiting.iter().find(|entry| after.waiting.contains(entry) || is_granted(entry));
            assert!(first.is_some_and(|entry| is_granted(&entry)), "{first:?} was passed over for r{row}");
        }
    }
}

fn run(seed: u64) -> (u64, u64, u64) {
    let mut dice = Dice(seed);
    let mut rig = Rig::new(None);
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|n| Client { who: Participant::user(&format!("u{n}"), "acme"), conn: None, state: State::Idle, claims: 0 })
        .collect();
    let writer = rig.live(&Participant::user("maker", "acme"));
    for row in 0..ROWS {
        rig.write(writer, "CREATE", "task", &format!("r{row}"), json!({}));
    }
    rig.disconnect(writer);
    rig.deaf = true;
    let mut crowd = Crowd { rig, clients, fences: [0; ROWS], grants: 0, refused: 0, written: 0 };
    for at in 0..CLIENTS {
        crowd.clients[at].conn = Some(crowd.rig.live(&crowd.clients[at].who.clone()));
    }
    let mut before = crowd.lines();
    for _ in 0..STEPS {
        crowd.step(&mut dice);
        crowd.read();
        let after = crowd.lines();
        check_order(&before, &after);
        before = after;
    }
    // In the end everybody goes home and nothing is left behind.
    for at in 0..CLIENTS {
        if let Some(conn) = crowd.clients[at].conn.take() {
            crowd.rig.disconnect(conn);
        }
    }
    crowd.rig.pass(2 * CLAIM_TTL_MAX_MS);
    while crowd.lines().iter().any(|line| !line.held.is_empty() || !line.waiting.is_empty()) {
        crowd.rig.pass(CLAIM_TTL_MAX_MS);
    }
    assert_eq!(crowd.rig.engine.soonest_timeout(), None);
    (crowd.grants, crowd.refused, crowd.written)
}

#[test]
fn fifty_clients_and_five_rows() {
    let mut all_refused = 0;
    for seed in 1..=3 {
        let (grants, refused, written) = run(seed);
        assert!(grants > 60 && written > 20, "seed {seed}: {grants} grants, {written} writes");
        all_refused += refused;
    }
    assert!(all_refused > 0, "nobody wrote under a claim that it had lost");
}
