//! Tests of the engine as a whole: frames and requests in, frames and stored changes out.

use std::collections::BTreeMap;

use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::schema::Schema;
use ablo_wasm::core::time::{Now, WallTime};
use serde_json::{Value, json};

use super::*;

mod claims;
mod contention;
mod presence;
mod stale;

const SCHEMA: &str = r#"{"v":3,"models":{
    "decks":{"typename":"SlideDeck","scope":"deck","fields":{"name":{"type":"string"}},
        "relations":{"slides":{"type":"hasMany","target":"slides","foreignKey":"deckId"}}},
    "slides":{"typename":"Slide","fields":{"deckId":{"type":"string","isOptional":true},"teamIds":{"type":"json","isOptional":true}},
        "relations":{"deck":{"type":"belongsTo","target":"decks","foreignKey":"deckId","options":{"parent":true}}},
        "entityRoles":[{"kind":"team","source":{"field":"teamIds","multi":true}}]},
    "layers":{"typename":"Layer","fields":{"slideId":{"type":"string","isOptional":true}},
        "relations":{"slide":{"type":"belongsTo","target":"slides","foreignKey":"slideId","options":{"parent":true,"fk":true}}}},
    "tasks":{"typename":"Task","fields":{"title":{"type":"string","isOptional":true},"rank":{"type":"number","isOptional":true},
        "status":{"type":"enum","isOptional":true,"enumValues":["todo","done"]},"ownerName":{"type":"string","isOptional":true}}}}}"#;

/// How frames begin of which there are many.
const CHATTER: [&str; 2] = [r#"{"type":"presence_update""#, r#"{"type":"claim_queue""#];

/// An engine with a disk and the mail of its connections.
struct Rig {
    engine: Engine,
    disk: Stored,
    now: u64,
    mail: BTreeMap<ConnectionId, Vec<Value>>,
    /// The frames of presence, which come whenever anybody does.
    presence: BTreeMap<ConnectionId, Vec<Value>>,
    /// Nobody wants those, nor the lines of rows.
    deaf: bool,
    closed: Vec<(ConnectionId, u16)>,
    keys: u64,
}

impl Rig {
    fn new(schema: Option<&str>) -> Self {
        Self::with(Config { schema: schema.map(|text| Schema::parse_all(text).unwrap()), ..Config::default() })
    }

    fn with(config: Config) -> Self {
        Self {
            engine: Engine::new(config, Engine::seed_from(1)),
            disk: Stored::default(),
            now: 0,
            mail: BTreeMap::new(),
            presence: BTreeMap::new(),
            deaf: false,
            closed: Vec::new(),
            keys: 0,
        }
    }

    /// The same server, started again from its disk.
    fn restarted(self, schema: Option<&str>) -> Self {
        let mut next = Self::new(schema);
        next.engine.load(self.disk.clone()).unwrap();
        Self { disk: self.disk, now: self.now + 1000, keys: self.keys + 1000, ..next }
    }

    fn time(&self) -> Now {
        Now::new(self.now, 1_782_900_000_000 + self.now)
    }

    fn pump(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Store(change) => self.disk.apply(change),
                Output::Send { text, .. } if self.deaf && CHATTER.iter().any(|kind| text.starts_with(kind)) => {}
                Output::Send { connection, text } => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    let told = frame["type"] == "presence_update";
                    let into = if told { &mut self.presence } else { &mut self.mail };
                    into.entry(connection).or_default().push(frame);
                }
                Output::Close { connection, code, .. } => self.closed.push((connection, code)),
            }
        }
    }

    fn connect(&mut self, who: &Participant) -> ConnectionId {
        let id = self.engine.connect(self.time(), who, None);
        self.pump();
        id
    }

    /// Connects and takes the first answer.
    fn live(&mut self, who: &Participant) -> ConnectionId {
        let id = self.connect(who);
        self.sync(id, 0);
        id
    }

    fn frame(&mut self, id: ConnectionId, frame: &Value) {
        self.engine.handle_frame(self.time(), id, &frame.to_string());
        self.pump();
    }

    fn sync(&mut self, id: ConnectionId, last: u64) -> Value {
        self.frame(id, &json!({"type":"sync_request","payload":{"cursor":null,"lastSyncId":last}}));
        self.take(id).pop().map_or(Value::Null, |mut frame| frame["payload"].take())
    }

    fn commit(&mut self, id: ConnectionId, operations: Value) -> Value {
        self.keys += 1;
        let key = format!("k{}", self.keys);
        self.frame(id, &json!({"type":"commit","payload":{"clientTxId":key,"operations":operations}}));
        let mail = self.mail.get_mut(&id).unwrap();
        let at = mail.iter().rposition(|frame| frame["type"] == "mutation_result").unwrap();
        mail.remove(at)["payload"].take()
    }

    /// One operation that must pass.
    fn write(&mut self, id: ConnectionId, kind: &str, model: &str, row: &str, input: Value) -> u64 {
        let result = self.commit(id, json!([{"type":kind,"model":model,"id":row,"input":input}]));
        assert_eq!(result["success"], true, "{result}");
        result["lastSyncId"].as_u64().unwrap()
    }

    /// Time passes, and the engine is called whenever it wants to be.
    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(due) = self.engine.poll_timeout().filter(|due| due.0 <= end) {
            assert!(self.engine.soonest_timeout().is_none_or(|soonest| soonest >= due));
            self.now = self.now.max(due.0);
            self.engine.handle_timeout(self.time());
            self.pump();
        }
        self.now = end;
    }

    fn disconnect(&mut self, id: ConnectionId) {
        self.engine.disconnect(self.time(), id);
        self.pump();
    }

    /// The frames of presence that came.
    fn told(&mut self, id: ConnectionId) -> Vec<Value> {
        let frames = self.presence.remove(&id).unwrap_or_default();
        frames.into_iter().map(|mut frame| frame["payload"].take()).collect()
    }

    fn take(&mut self, id: ConnectionId) -> Vec<Value> {
        self.mail.remove(&id).unwrap_or_default()
    }

    /// The deltas that came, as letter, row and parsed data.
    fn deltas(&mut self, id: ConnectionId) -> Vec<(String, String, Value)> {
        let frames = self.take(id).into_iter().filter(|frame| frame["type"] == "delta");
        frames
            .flat_map(|mut frame| {
                let list = frame["payload"]["deltas"].as_array().cloned();
                list.unwrap_or_else(|| vec![frame["payload"].take()])
            })
            .map(|delta| summary(&delta))
            .collect()
    }

    fn letters(&mut self, id: ConnectionId) -> String {
        self.deltas(id).iter().map(|(letter, row, _)| format!("{letter}:{row} ")).collect::<String>().trim().to_owned()
    }
}

fn summary(delta: &Value) -> (String, String, Value) {
    let data = delta["data"].as_str().map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
    (delta["actionType"].as_str().unwrap().to_owned(), delta["modelId"].as_str().unwrap().to_owned(), data)
}

/// The deltas of a `sync_response` as `letter@id:row`.
fn told(response: &Value) -> String {
    let one = |delta: &Value| {
        format!("{}@{}:{}", delta["actionType"].as_str().unwrap(), delta["id"], delta["modelId"].as_str().unwrap())
    };
    response["deltas"].as_array().unwrap().iter().map(one).collect::<Vec<_>>().join(" ")
}

fn only(groups: &[&str]) -> Participant {
    Participant {
        sync_groups: groups.iter().map(|&group| group.to_owned()).collect(),
        ..Participant::user(groups[0], "acme")
    }
}

#[test]
fn rows_follow_their_parents_through_groups() {
    let mut rig = Rig::new(Some(SCHEMA));
    let all = rig.live(&Participant::user("a", "acme"));
    let one = rig.live(&only(&["deck:d1"]));
    let two = rig.live(&only(&["deck:d2"]));
    let team = rig.live(&only(&["team:t"]));
    let own = rig.live(&only(&["layers:l1"]));
    rig.write(all, "CREATE", "slidedeck", "d1", json!({"name":"one"}));
    rig.write(all, "CREATE", "slide", "s1", json!({"deckId":"d1","teamIds":["t",""]}));
    rig.write(all, "CREATE", "layer", "l1", json!({"slideId":"s1"}));
    assert_eq!(rig.letters(one), "I:d1 I:s1 I:l1");
    assert_eq!(rig.letters(team), "I:s1 I:l1");
    assert_eq!(rig.letters(own), "I:l1");
    assert_eq!(rig.letters(two), "");
    // The slide moves, and its layer with it.
    let id = rig.write(all, "UPDATE", "slide", "s1", json!({"deckId":"d2","teamIds":null}));
    assert_eq!(rig.letters(one), "D:s1 D:l1");
    assert_eq!(rig.letters(two), "C:s1 C:l1");
    assert_eq!(rig.letters(team), "D:s1 D:l1");
    assert_eq!(rig.letters(own), "");
    assert_eq!(rig.letters(all), "I:d1 I:s1 I:l1 U:s1");
    // The move of the layer has an id of its own.
    assert_eq!((id, rig.engine.head()), (5, SyncId(5)));
    // What was missed is told alike.
    assert_eq!(told(&rig.sync(one, 3)), "D@4:s1 D@5:l1");
    assert_eq!(told(&rig.sync(two, 3)), "C@4:s1 C@5:l1");
    assert_eq!(told(&rig.sync(all, 3)), "U@4:s1 U@5:l1");
    let mut again = rig.restarted(Some(SCHEMA));
    let two = again.live(&only(&["deck:d2"]));
    assert_eq!(again.write(two, "UPDATE", "layer", "l1", json!({"x":1})), 6);
    assert_eq!(again.letters(two), "U:l1");
}

#[test]
fn archiving_speaks_in_the_letters_a_snapshot_reader_needs() {
    let mut rig = Rig::new(Some(SCHEMA));
    let ada = Participant::user("a", "acme");
    let conn = rig.live(&ada);
    rig.write(conn, "CREATE", "task", "t1", json!({"title":"x"}));
    rig.write(conn, "ARCHIVE", "task", "t1", Value::Null);
    let deltas = rig.deltas(conn);
    assert_eq!(deltas[1].0, "A");
    assert!(deltas[1].2["archivedAt"].is_string() && deltas[1].2["id"] == "t1");
    let snapshot = rig.engine.bootstrap(rig.time(), &ada, BootstrapRequest::default());
    assert!(snapshot.contains(r#""Task":[]"#), "{snapshot}");
    // An update of an archived row leaves it archived.
    rig.write(conn, "UPDATE", "task", "t1", json!({"title":"y"}));
    assert_eq!(rig.letters(conn), "A:t1");
    assert_eq!(rig.write(conn, "UNARCHIVE", "task", "t1", Value::Null), 5);
    let deltas = rig.deltas(conn);
    assert_eq!(deltas.iter().map(|delta| delta.0.as_str()).collect::<String>(), "CU");
    assert_eq!(deltas[1].2["archivedAt"], Value::Null);
    assert_eq!(told(&rig.sync(conn, 3)), "C@4:t1 U@5:t1");
    assert_eq!(told(&rig.sync(conn, 1)), "C@4:t1 U@5:t1");
    // Doing it again changes nothing, and is confirmed all the same.
    assert_eq!(rig.write(conn, "UNARCHIVE", "task", "t1", Value::Null), 5);
}

#[test]
fn fields_that_become_empty_are_cleared_with_null_and_stored_as_they_are() {
    let mut rig = Rig::new(None);
    let ada = Participant::user("a", "acme");
    let conn = rig.live(&ada);
    rig.write(conn, "CREATE", "Task", "t1", json!({"tags":["x"],"meta":{},"n":1}));
    rig.write(conn, "UPDATE", "Task", "t1", json!({"tags":[],"meta":{}}));
    let deltas = rig.deltas(conn);
    assert_eq!((&deltas[1].2["tags"], &deltas[1].2["meta"]), (&Value::Null, &json!({})));
    let missed = rig.sync(conn, 1);
    assert_eq!(summary(&missed["deltas"][0]).2["tags"], Value::Null);
    assert_eq!(rig.engine.rows("acme").next().unwrap().2.matches(r#""tags":[]"#).count(), 1);
}

#[test]
fn a_commit_is_all_or_nothing_and_its_refusal_says_why() {
    let mut rig = Rig::new(Some(SCHEMA));
    let conn = rig.live(&Participant::user("a", "acme"));
    rig.write(conn, "CREATE", "task", "t1", json!({}));
    let readonly = rig.live(&Participant { key: KeyKind::Publishable, ..Participant::user("p", "acme") });
    let narrow = rig.live(&Participant { operations: vec!["tasks.update".into()], ..Participant::user("n", "acme") });
    let blind = rig.live(&only(&["deck:d9"]));
    let good = json!({"type":"CREATE","model":"task","id":"t2","input":{}});
    for (who, bad, code) in [
        (conn, json!({"type":"UPDATE","model":"task","id":"nope","input":{}}), "mutate_update_entity_not_found"),
        (conn, json!({"type":"ARCHIVE","model":"task","id":"nope"}), "mutate_update_entity_not_found"),
        (conn, json!({"type":"CREATE","model":"task","id":"t1","input":{}}), "unique_violation"),
        (conn, json!({"type":"CREATE","model":"slide","id":"t1","input":{}}), "unique_violation"),
        (conn, json!({"type":"CREATE","model":"ghosts","id":"g","input":{}}), "unknown_model"),
        (conn, json!({"type":"CREATE","model":"decks","id":"d","input":{}}), "not_null_violation"),
        (conn, json!({"type":"CREATE","model":"task","id":"x","input":{"status":"maybe"}}), "check_violation"),
        (conn, json!({"type":"CREATE","model":"layer","id":"x","input":{"slideId":"none"}}), "foreign_key_violation"),
        (conn, json!({"type":"UPDATE","model":"task","input":{}}), "invalid_id"),
        (conn, json!({"type":"EXPLODE","model":"task","id":"x"}), "commit_operation_unsupported"),
        (readonly, json!({"type":"UPDATE","model":"task","id":"t1","input":{}}), "capability_scope_denied"),
        (narrow, json!({"type":"UPDATE","model":"task","id":"t1","input":{}}), "capability_scope_denied"),
        (blind, json!({"type":"UPDATE","model":"task","id":"t1","input":{}}), "capability_scope_denied"),
    ] {
        let result = rig.commit(who, json!([good, bad]));
        assert_eq!((&result["success"], &result["error"]["code"]), (&json!(false), &json!(code)), "{bad}: {result}");
    }
    assert_eq!((rig.engine.head(), rig.disk.rows.len()), (SyncId(1), 1));
    assert_eq!(
        rig.commit(narrow, json!([{"type":"UPDATE","model":"Task","id":"t1","input":{"title":"ok"}}]))["success"],
        true
    );
    let denied = rig.commit(narrow, json!([good]));
    assert_eq!(denied["error"]["requiredCapability"]["scope"], "tasks.create");
    let many: Vec<Value> =
        (0..=OPERATIONS_MAX).map(|n| json!({"type":"DELETE","model":"task","id":format!("x{n}")})).collect();
    assert_eq!(rig.commit(conn, json!(many))["error"]["code"], "commit_too_many_operations");
    assert_eq!(rig.commit(conn, json!([]))["error"]["code"], "commit_operation_required");
}

#[test]
fn deleting_what_is_not_there_succeeds_with_a_positive_id() {
    let mut rig = Rig::new(None);
    let conn = rig.live(&Participant::user("a", "acme"));
    assert_eq!(rig.write(conn, "DELETE", "task", "gone", Value::Null), 1);
    assert_eq!(rig.write(conn, "CREATE", "task", "t1", json!({})), 2);
}

#[test]
fn repeats_have_one_effect() {
    let mut rig = Rig::new(None);
    let ada = Participant::user("a", "acme");
    let conn = rig.live(&ada);
    let frame = |key: &str, title: &str, tx: &str| {
        json!({"type":"commit","payload":{"clientTxId":key,"operations":[
            {"type":"CREATE","model":"task","id":"t1","input":{"title":title},"transactionId":tx}]}})
    };
    rig.frame(conn, &frame("k1", "a", "tx1"));
    let first = rig.take(conn).pop().unwrap();
    rig.frame(conn, &frame("k1", "a", "tx1"));
    assert_eq!(rig.take(conn), std::slice::from_ref(&first));
    rig.frame(conn, &frame("k1", "b", "tx1"));
    assert_eq!(rig.take(conn)[0]["payload"]["error"]["code"], "idempotency_conflict");
    // The same operation under another key: skipped, and counted as success.
    rig.frame(conn, &frame("k2", "a", "tx1"));
    let again = rig.take(conn);
    assert_eq!(
        (again.len(), &again[0]["payload"]["success"], &again[0]["payload"]["lastSyncId"]),
        (1, &json!(true), &json!(1))
    );
    // HTTP shares the memory, whatever the spelling.
    let body = r#"{"clientTxId":"k1","idempotencyKey":"k1","operations":[{"action":"create","model":"TASK","id":"t1","data":{"title":"a"},"transactionId":null,"readAt":null,"onStale":null}]}"#;
    let receipt: Value =
        serde_json::from_str(&rig.engine.commit_request(rig.time(), &ada, None, body).unwrap()).unwrap();
    assert_eq!(receipt, first["payload"]);
    // And so does the next run; a week later it is forgotten.
    let mut rig = rig.restarted(None);
    let conn = rig.live(&ada);
    rig.frame(conn, &frame("k1", "a", "tx1"));
    assert_eq!(rig.take(conn), [first]);
    rig.now += IDEMPOTENCY_WINDOW_MS;
    rig.frame(conn, &frame("k1", "a", "tx1"));
    assert_eq!(rig.take(conn)[0]["payload"]["error"]["code"], "unique_violation");
}

#[test]
fn a_commit_older_than_the_window_is_refused_unless_its_key_is_known() {
    let mut rig = Rig::new(None);
    let conn = rig.live(&Participant::user("a", "acme"));
    let start = rig.time().wall.0;
    let frame = |key: &str, id: &str, created_at: u64| {
        json!({"type":"commit","payload":{"clientTxId":key,"createdAt":created_at,"operations":[
            {"type":"CREATE","model":"task","id":id,"input":{},"transactionId":id}]}})
    };
    let answer = |rig: &mut Rig, frame: &Value| {
        rig.frame(conn, frame);
        let payload = rig.take(conn).pop().unwrap()["payload"].take();
        payload["error"]["code"].as_str().unwrap_or("accepted").to_owned()
    };
    assert_eq!(answer(&mut rig, &frame("old", "t1", start)), "accepted");
    rig.now += IDEMPOTENCY_WINDOW_MS - 1;
    assert_eq!(answer(&mut rig, &frame("old", "t1", start)), "accepted", "its key is known");
    assert_eq!(answer(&mut rig, &frame("young", "t2", start + 1)), "accepted", "young enough to be new");
    // Deleted meanwhile: applying the first commit again would bring the row back.
    rig.write(conn, "DELETE", "task", "t1", Value::Null);
    rig.now += 1;
    assert_eq!(answer(&mut rig, &frame("old", "t1", start)), "idempotency_window_expired");
    assert_eq!(rig.engine.rows("acme").count(), 1);
    // A client that does not say how old its commit is goes on as before.
    let mut silent = frame("silent", "t3", 0);
    silent["payload"].as_object_mut().unwrap().remove("createdAt");
    assert_eq!(answer(&mut rig, &silent), "accepted");
    let mut odd = frame("odd", "t4", 0);
    odd["payload"]["createdAt"] = json!("yesterday");
    assert_eq!(answer(&mut rig, &odd), "invalid_body");
}

#[test]
fn old_records_are_deleted_as_time_passes_and_a_longer_window_does_not_bring_trust_back() {
    let mut rig = Rig::with(Config { idempotency_window_ms: 60_000, ..Config::default() });
    let ada = Participant::user("a", "acme");
    let conn = rig.live(&ada);
    let created = rig.time().wall.0;
    let body = json!({"clientTxId":"k1","createdAt":created,"operations":[
        {"action":"create","model":"task","id":"t1","data":{},"transactionId":"tx1"}]})
    .to_string();
    rig.engine.commit_request(rig.time(), &ada, None, &body).unwrap();
    rig.engine.sweep(rig.time());
    rig.pump();
    assert_eq!((rig.disk.commits.len(), rig.disk.transactions.len()), (1, 1));
    rig.engine.disconnect(rig.time(), conn);
    while !rig.disk.commits.is_empty() {
        let due = rig.engine.poll_timeout().unwrap().0;
        assert!(due > rig.now && due <= 120_000, "not deleted by {due} ms");
        rig.now = due;
        rig.engine.handle_timeout(rig.time());
        rig.pump();
    }
    assert!(rig.disk.transactions.is_empty() && rig.now >= 60_000);

    let mut rig = rig.restarted(None);
    let refused = rig.engine.commit_request(rig.time(), &ada, None, &body).unwrap_err();
    assert_eq!(refused.code, "idempotency_window_expired");
}

#[test]
fn refusals_are_not_remembered() {
    let mut rig = Rig::new(None);
    let conn = rig.live(&Participant::user("a", "acme"));
    let frame = json!({"type":"commit","payload":{"clientTxId":"k","operations":[{"type":"UPDATE","model":"task","id":"t1","input":{"a":1}}]}});
    rig.frame(conn, &frame);
    assert_eq!(rig.take(conn)[0]["payload"]["success"], false);
    rig.write(conn, "CREATE", "task", "t1", json!({}));
    rig.take(conn);
    rig.frame(conn, &frame);
    assert_eq!(rig.take(conn).pop().unwrap()["payload"]["success"], true);
}

#[test]
fn live_deltas_wait_for_the_first_answer() {
    let mut rig = Rig::new(None);
    let writer = rig.live(&Participant::user("a", "acme"));
    rig.write(writer, "CREATE", "task", "t0", json!({}));
    let bob = Participant::user("b", "acme");
    let conn = rig.connect(&bob);
    rig.write(writer, "CREATE", "task", "t1", json!({}));
    rig.write(writer, "CREATE", "task", "t2", json!({}));
    rig.write(writer, "UPDATE", "task", "t1", json!({"a":1}));
    rig.write(writer, "DELETE", "task", "t2", Value::Null);
    assert!(rig.take(conn).is_empty());
    let response = rig.sync(conn, 0);
    assert_eq!((told(&response), &response["currentSyncId"]), ("I@2:t1 U@4:t1 D@5:t2".to_owned(), &json!(5)));
    rig.write(writer, "UPDATE", "task", "t1", json!({"a":2}));
    assert_eq!(rig.letters(conn), "U:t1");
    // One that never asks gets what it missed after a second.
    let silent = rig.connect(&bob);
    rig.write(writer, "UPDATE", "task", "t1", json!({"a":3}));
    assert_eq!(rig.engine.poll_timeout().map(|at| at.0), Some(rig.now + HOLD_BACK_MS));
    rig.now += HOLD_BACK_MS;
    rig.engine.handle_timeout(rig.time());
    rig.pump();
    assert_eq!(rig.letters(silent), "U:t1");
    assert_eq!(rig.engine.poll_timeout(), None);
    rig.write(writer, "UPDATE", "task", "t1", json!({"a":4}));
    assert_eq!(rig.letters(silent), "U:t1");
}

#[test]
fn a_fresh_client_hears_what_its_snapshot_may_lack_and_ends_at_the_head() {
    let mut rig = Rig::new(None);
    let writer = rig.live(&Participant::user("a", "acme"));
    let other = rig.live(&Participant::user("x", "other"));
    for n in 0..5 {
        rig.write(writer, "CREATE", "task", &format!("t{n}"), json!({}));
    }
    let bob = Participant::user("b", "acme");
    // Snapshot at 5, a change, then the upgrade.
    rig.engine.bootstrap(rig.time(), &bob, BootstrapRequest::default());
    rig.write(writer, "UPDATE", "task", "t1", json!({"a":1}));
    rig.write(other, "CREATE", "task", "z", json!({}));
    let conn = rig.connect(&bob);
    assert_eq!(told(&rig.sync(conn, 0)), "U@6:t1 U@7:t1");
    // Nothing missed: nothing sent, not the whole history.
    rig.now += 700_000;
    rig.engine.bootstrap(rig.time(), &bob, BootstrapRequest::default());
    let conn = rig.connect(&bob);
    let response = rig.sync(conn, 0);
    assert_eq!((told(&response), &response["currentSyncId"]), (String::new(), &json!(7)));
    // Beyond the head: the client steps back.
    let response = rig.sync(conn, 99);
    assert_eq!((told(&response), &response["currentSyncId"]), (String::new(), &json!(7)));
}

#[test]
fn behind_the_history_a_snapshot_is_asked_for_once() {
    let mut rig = Rig::new(None);
    let ada = Participant::user("a", "acme");
    let conn = rig.live(&ada);
    rig.write(conn, "CREATE", "task", "t1", json!({}));
    rig.write(conn, "CREATE", "task", "t2", json!({}));
    rig.disk.apply(StoreChange { history_floor: Some(SyncId(1)), ..StoreChange::default() });
    let mut rig = rig.restarted(None);
    let conn = rig.connect(&ada);
    assert_eq!(rig.sync(conn, 1)["currentSyncId"], 2);
    rig.engine.load(Stored { history_floor: SyncId(2), head: SyncId(2), ..Stored::default() }).unwrap();
    rig.sync(conn, 1);
    assert_eq!(rig.closed.pop().map(|(_, code)| code), Some(4011));
    // After its snapshot it asks again with the same number, and is answered.
    rig.engine.bootstrap(rig.time(), &ada, BootstrapRequest::default());
    let conn = rig.connect(&ada);
    assert_eq!(rig.sync(conn, 1)["currentSyncId"], 2);
    assert!(rig.closed.is_empty());
}

#[test]
fn subscriptions_are_answered_one_by_one_in_order() {
    let mut rig = Rig::new(Some(SCHEMA));
    let ada = Participant::user("a", "acme");
    let conn = rig.live(&ada);
    rig.write(conn, "CREATE", "decks", "d1", json!({"name":"n"}));
    rig.write(conn, "CREATE", "tasks", "t1", json!({}));
    rig.take(conn);
    let ask = |rig: &mut Rig, groups: Value| {
        rig.frame(conn, &json!({"type":"update_subscription","payload":{"syncGroups":groups}}));
        let mut acks = rig.take(conn);
        assert_eq!(acks.len(), 1);
        acks.remove(0)["payload"].take()
    };
    let full = json!(["user:a", "org:acme", "tasks:t1", "deck:d1", "decks:d1", "tasks:not-yet", "deck:not-yet"]);
    let ack = ask(&mut rig, full.clone());
    assert_eq!((&ack["success"], &ack["syncGroups"]), (&json!(true), &full));
    for (groups, code) in [
        (json!(["org:acme", "org:other"]), "capability_scope_denied"),
        (json!(["user:b"]), "capability_scope_denied"),
        (json!(["team:t"]), "capability_scope_denied"),
        (json!(["nonsense"]), "capability_scope_denied"),
        (json!("org:acme"), "malformed_subscription"),
        (json!([1]), "malformed_subscription"),
        (json!([""]), "malformed_subscription"),
        (Value::Null, "malformed_subscription"),
    ] {
        let ack = ask(&mut rig, groups);
        assert_eq!((&ack["success"], &ack["error"]["code"], &ack["syncGroups"]), (&json!(false), &json!(code), &full));
    }
    assert_eq!(ask(&mut rig, json!([]))["success"], true);
    let other = rig.live(&Participant::user("b", "acme"));
    rig.write(other, "UPDATE", "task", "t1", json!({}));
    assert_eq!(rig.letters(conn), "");
    // A credential that sees one deck gets that one and no other.
    let narrow = rig.live(&only(&["deck:d1"]));
    rig.write(other, "CREATE", "slides", "s1", json!({"deckId":"d1"}));
    for (group, granted) in [("slides:s1", true), ("decks:d1", true), ("tasks:t1", false), ("deck:d2", false)] {
        rig.take(narrow);
        rig.frame(narrow, &json!({"type":"update_subscription","payload":{"syncGroups":["deck:d1", group]}}));
        assert_eq!(rig.take(narrow)[0]["payload"]["success"], granted, "{group}");
    }
    // At the upgrade, what is not allowed is left out in silence.
    let groups = ["org:acme", "org:other", "deck:d1"].map(str::to_owned).to_vec();
    assert_eq!(rig.engine.allowed_groups(&ada, Some(groups)), ["org:acme", "deck:d1"]);
}

#[test]
fn organizations_do_not_meet() {
    let mut rig = Rig::new(None);
    let (ada, eve) = (Participant::user("a", "acme"), Participant::user("e", "evil"));
    let (ours, theirs) = (rig.live(&ada), rig.live(&eve));
    rig.write(ours, "CREATE", "task", "t1", json!({"secret":1}));
    assert!(rig.take(theirs).is_empty());
    assert_eq!(told(&rig.sync(theirs, 0)), "");
    assert!(!rig.engine.bootstrap(rig.time(), &eve, BootstrapRequest::default()).contains("t1"));
    assert_eq!(rig.engine.entity(&eve, "task", "t1").unwrap_err().code, "entity_not_found");
    assert!(!rig.engine.query(&eve, r#"{"queries":[{"model":"task","where":[]}]}"#).unwrap().contains("t1"));
    assert!(!rig.engine.list_models(&eve, "task", &[]).unwrap().contains("t1"));
    let stolen = rig.commit(theirs, json!([{"type":"UPDATE","model":"task","id":"t1","input":{"x":1}}]));
    assert_eq!(stolen["error"]["code"], "mutate_update_entity_not_found");
    // The same id is free there, and so is the same key.
    rig.keys = 0;
    rig.write(theirs, "CREATE", "task", "t1", json!({"mine":1}));
    assert_eq!(rig.letters(ours), "I:t1");
}

#[test]
fn restarts_keep_everything_and_never_reuse_an_id() {
    let mut rig = Rig::new(Some(SCHEMA));
    let ada = Participant::user("a", "acme");
    let conn = rig.live(&ada);
    rig.write(conn, "CREATE", "task", "t1", json!({"n":9_007_199_254_740_993_u64}));
    rig.write(conn, "CREATE", "task", "t2", json!({}));
    assert_eq!(rig.write(conn, "DELETE", "task", "t2", Value::Null), 3);
    let before: Vec<String> = rig.engine.rows("acme").map(|row| row.2.to_owned()).collect();
    assert!(before[0].contains("9007199254740993"));
    let mut rig = rig.restarted(Some(SCHEMA));
    assert_eq!(rig.engine.rows("acme").map(|row| row.2.to_owned()).collect::<Vec<_>>(), before);
    let conn = rig.connect(&ada);
    assert_eq!(told(&rig.sync(conn, 1)), "D@3:t2");
    assert_eq!(rig.write(conn, "UPDATE", "task", "t1", json!({})), 4);
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let run = || {
        let mut rig = Rig::new(None);
        let ada = Participant { key: KeyKind::Secret, ..Participant::user("a", "acme") };
        let conn = rig.live(&ada);
        let made = rig.engine.write_model(
            rig.time(),
            &ada,
            (ablo_wasm::core::wire::OpKind::Create, "task", None),
            None,
            r#"{"data":{}}"#,
        );
        let minted = rig.engine.mint_ephemeral_key(rig.time(), &ada, "sk_test_x", r#"{"user":{"id":"u"}}"#).unwrap();
        rig.pump();
        (made.unwrap(), minted, rig.take(conn), format!("{:?}", rig.disk))
    };
    assert_eq!(run(), run());
}

#[test]
fn without_a_schema_bootstraps_spell_the_models() {
    let mut rig = Rig::new(None);
    let ada = Participant::user("a", "acme");
    let conn = rig.live(&ada);
    let models = Some(vec!["Task".to_owned(), "SlideDeck".to_owned()]);
    let text = rig.engine.bootstrap(rig.time(), &ada, BootstrapRequest { models, ..BootstrapRequest::default() });
    assert!(text.contains(r#""models":{"Task":[],"SlideDeck":[]}"#), "{text}");
    rig.write(conn, "CREATE", "slidedeck", "d1", json!({}));
    let frame = rig.take(conn).remove(0);
    assert_eq!(frame["payload"]["modelName"], "SlideDeck");
    let rig = rig.restarted(None);
    assert_eq!(rig.engine.rows("acme").next().unwrap().0, "SlideDeck");
}

#[test]
fn keys_are_minted_kept_and_expire() {
    let root = Participant { key: KeyKind::Secret, ..Participant::user("root", "acme") };
    let mut rig = Rig::new(None);
    let now = rig.time();
    let minted =
        rig.engine.mint_ephemeral_key(now, &root, "sk_live_x", r#"{"user":{"id":"u1"},"ttlSeconds":2}"#).unwrap();
    let minted: Value = serde_json::from_str(&minted).unwrap();
    let token = minted["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("ek_live_") && minted["syncGroups"] == json!(["org:acme", "user:u1"]), "{minted}");
    rig.pump();
    assert!(!format!("{:?}", rig.disk).contains(&token));
    let agent = rig
        .engine
        .mint_capability(
            now,
            &root,
            "sk_test_x",
            r#"{"participantKind":"agent","participantId":"reviewer","operations":["tasks.update"],"ttlSeconds":1}"#,
        )
        .unwrap();
    let agent: Value = serde_json::from_str(&agent).unwrap();
    assert_eq!(
        (&agent["scope"]["participantId"], &agent["scope"]["operations"]),
        (&json!("reviewer"), &json!(["tasks.update"]))
    );
    let system = rig
        .engine
        .mint_capability(now, &root, "sk_test_x", r#"{"participantKind":"system","wideScope":true,"ttlSeconds":3600}"#)
        .unwrap();
    assert!(system.contains(r#""participantId":"system:acme""#));
    for (body, code) in [
        (r#"{"participantKind":"user"}"#, "invalid_participant_kind"),
        (r#"{"syncGroups":["org:other"]}"#, "invalid_sync_group"),
        (r#"{"ttlSeconds":"soon"}"#, "invalid_body"),
        ("[]", "invalid_body"),
        ("{", "invalid_json"),
    ] {
        assert_eq!(rig.engine.mint_capability(now, &root, "sk_test_x", body).unwrap_err().code, code, "{body}");
    }
    let user = Participant::user("u", "acme");
    assert_eq!(rig.engine.mint_capability(now, &user, "ek_test_x", "{}").unwrap_err().code, "forbidden");

    let mut rig = rig.restarted(None);
    let who = rig.engine.authenticate(rig.time(), Some(&token)).unwrap();
    assert_eq!((&*who.id, who.kind), ("u1", ParticipantKind::User));
    let conn = rig.live(&who);
    rig.now += 1000;
    rig.engine.handle_timeout(rig.time());
    rig.pump();
    assert_eq!(rig.closed, [(conn, 4010)]);
    for (token, code) in
        [(Some(token.as_str()), "apikey_expired"), (Some("ek_test_nobody"), "apikey_invalid"), (None, "apikey_missing")]
    {
        assert_eq!(rig.engine.authenticate(rig.time(), token).unwrap_err().code, code);
    }
}

#[test]
fn queries_compare_sort_limit_and_nest() {
    let mut rig = Rig::new(Some(SCHEMA));
    let ada = Participant::user("a", "acme");
    let conn = rig.live(&ada);
    for (id, rank, owner) in
        [("t1", json!(2), "Ada"), ("t2", json!(10), "Bob"), ("t3", Value::Null, "Ada"), ("t4", json!(1), "Cyd")]
    {
        rig.write(conn, "CREATE", "task", id, json!({"rank":rank,"ownerName":owner}));
    }
    rig.write(conn, "ARCHIVE", "task", "t4", Value::Null);
    rig.write(conn, "CREATE", "decks", "d1", json!({"name":"n"}));
    rig.write(conn, "CREATE", "slides", "s1", json!({"deckId":"d1"}));
    let ids = |rig: &Rig, query: &str| {
        let answer = rig.engine.query(&ada, &format!(r#"{{"queries":[{query}]}}"#)).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let rows = answer["results"][0].as_array().unwrap().clone();
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    for (query, expected) in [
        (r#"{"model":"Task","where":[]}"#, "t1 t2 t3"),
        (r#"{"model":"tasks","where":[["owner_name","Ada"]]}"#, "t1 t3"),
        (r#"{"model":"task","where":[["rank",">",1]],"orderBy":"rank","order":"desc"}"#, "t2 t1"),
        (r#"{"model":"task","where":[],"orderBy":"rank","limit":2}"#, "t1 t2"),
        (r#"{"model":"task","where":[],"orderBy":"rank","order":"desc"}"#, "t3 t2 t1"),
        (r#"{"model":"task","where":[["id","IN",["t3","t1","zz"]]]}"#, "t1 t3"),
        (r#"{"model":"task","where":[["id","t4"]]}"#, "t4"),
        (r#"{"model":"task","where":[["archived_at","IS NOT",null]]}"#, "t4"),
        (r#"{"model":"task","ids":["t2"]}"#, "t2"),
        (r#"{"model":"task","where":[["owner_name","ILIKE","b%"]]}"#, "t2"),
        (r#"{"model":"task","where":[],"limit":0}"#, ""),
    ] {
        assert_eq!(ids(&rig, query), expected, "{query}");
    }
    let answer = rig.engine.query(&ada, r#"{"queries":[{"model":"SlideDeck","where":[],"related":["slides"]},{"model":"Slide","where":[],"related":["deck"]}]}"#).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["results"][0][0]["slides"][0]["__typename"], "Slide");
    assert_eq!(answer["results"][1][0]["deck"]["id"], "d1");
    assert_eq!(answer["lastSyncId"], 7);
    let many = vec![r#"{"model":"task","where":[]}"#; QUERIES_MAX + 1].join(",");
    for (body, code) in [
        (r#"{"queries":1}"#.to_owned(), "queries_required"),
        (r#"{"queries":[{"model":"ghost","where":[]}]}"#.to_owned(), "unknown_model"),
        (r#"{"queries":[{"model":"task","where":[["a","~",1]]}]}"#.to_owned(), "query_unsupported_operator"),
        (r#"{"queries":[{"model":"task","where":[],"related":["x"]}]}"#.to_owned(), "query_unknown_relation"),
        (r#"{"queries":[{"model":"task","where":[],"orderBy":""}]}"#.to_owned(), "query_invalid_identifier"),
        (format!(r#"{{"queries":[{many}]}}"#), "invalid_request"),
        ("{}".to_owned(), "queries_required"),
    ] {
        assert_eq!(rig.engine.query(&ada, &body).unwrap_err().code, code, "{body:.60}");
    }
}

#[test]
fn lists_have_pages_and_filters() {
    let mut rig = Rig::new(None);
    let ada = Participant::user("a", "acme");
    let conn = rig.live(&ada);
    for n in 0..5 {
        rig.write(conn, "CREATE", "task", &format!("t{n}"), json!({"n":n,"even":n % 2 == 0}));
    }
    let list = |rig: &Rig, parameters: &[(&str, &str)]| {
        let parameters: Vec<(String, String)> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let answer: Value = serde_json::from_str(&rig.engine.list_models(&ada, "task", &parameters).unwrap()).unwrap();
        let ids: Vec<&str> = answer["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
        (ids.join(" "), answer["has_more"].as_bool().unwrap(), answer["next_cursor"].as_str().map(str::to_owned))
    };
    assert_eq!(list(&rig, &[("limit", "2")]), ("t0 t1".into(), true, Some("t1".into())));
    assert_eq!(list(&rig, &[("limit", "2"), ("starting_after", "t3")]), ("t4".into(), false, None));
    assert_eq!(list(&rig, &[("even", "true"), ("order_by", "n"), ("order", "desc")]).0, "t4 t2 t0");
    assert_eq!(list(&rig, &[("n", "3")]).0, "t3");
    let page = [("limit".to_owned(), "none".to_owned())];
    assert_eq!(rig.engine.list_models(&ada, "task", &page).unwrap_err().code, "invalid_request");
}

#[test]
fn garbage_frames_are_survived_and_waiters_are_answered() {
    let mut rig = Rig::new(None);
    let conn = rig.live(&Participant::user("a", "acme"));
    let deep = format!(
        r#"{{"type":"commit","payload":{{"clientTxId":"deep","operations":[{{"type":"CREATE","model":"t","id":"x","input":{}}}]}}}}"#,
        "[".repeat(200) + &"]".repeat(200)
    );
    for (text, code) in [
        ("", None),
        ("null", None),
        ("[]", None),
        ("{", None),
        (r#"{"type":7}"#, None),
        (r#"{"type":"future","payload":[]}"#, None),
        (r#"{"type":"presence_update","payload":{"status":"online"}}"#, None),
        (r#"{"type":"ack","payload":{"lastSyncId":1}}"#, None),
        (r#"{"type":"claim_abandon","payload":{"claimId":"c"}}"#, None),
        (r#"{"type":"commit","payload":{"clientTxId":"k"}}"#, Some("commit_operation_required")),
        (r#"{"type":"commit","payload":{"operations":[]}}"#, Some("invalid_body")),
        (
            r#"{"type":"commit","payload":{"clientTxId":"k","operations":[{"type":"CREATE","model":"t","id":"\ud800"}]}}"#,
            Some("invalid_id"),
        ),
        (deep.as_str(), Some("invalid_json")),
    ] {
        rig.engine.handle_frame(rig.time(), conn, text);
        rig.pump();
        let mail = rig.take(conn);
        assert_eq!(mail.first().and_then(|frame| frame["payload"]["error"]["code"].as_str()), code, "{text:.80}");
        assert_eq!(mail.len(), usize::from(code.is_some()), "{text:.80}");
    }
    rig.frame(
        conn,
        &json!({"type":"claim_begin","payload":{"claimId":"c1","entityType":"task","entityId":"t1","queue":true}}),
    );
    rig.frame(conn, &json!({"type":"claim","payload":{"claimId":"c2","syncGroups":[]}}));
    rig.frame(conn, &json!({"type":"ping"}));
    let kinds: Vec<String> = rig.take(conn).iter().map(|frame| frame["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["claim_acquired", "claim_ack", "pong"]);
}

#[test]
fn seeds_come_before_history_and_keep_their_stamps() {
    let mut rig = Rig::new(None);
    let now = rig.time();
    let text = r#"{"Task":[{"id":"t1","createdAt":"2020-01-01T00:00:00.000Z","organizationId":"evil"},{"id":"t2"}]}"#;
    assert_eq!(rig.engine.seed(now, "acme", text).unwrap(), 2);
    rig.pump();
    let ada = Participant::user("a", "acme");
    let conn = rig.connect(&ada);
    assert_eq!(told(&rig.sync(conn, 0)), "");
    let row: Value = serde_json::from_str(&rig.engine.entity(&ada, "task", "t1").unwrap()).unwrap();
    assert_eq!((&row["createdAt"], &row["organizationId"]), (&json!("2020-01-01T00:00:00.000Z"), &json!("acme")));
    for (text, code) in [
        (r#"{"Task":[{"id":"t1"}]}"#, "unique_violation"),
        (r#"{"Task":[{"id":"n"},{"id":"n"}]}"#, "unique_violation"),
        (r#"{"Task":[{}]}"#, "invalid_body"),
        (r#"{"Task":{}}"#, "invalid_body"),
        ("[]", "invalid_body"),
    ] {
        assert_eq!(rig.engine.seed(now, "acme", text).unwrap_err().code, code, "{text}");
    }
    assert_eq!(rig.restarted(None).engine.rows("acme").count(), 2);
    assert_eq!(WallTime(0).to_iso().len(), 24);
}
