//! Guards: what a write was based on has changed, and what happens then (protocol.md 10.3 to 10.7).

use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Socket,
    Http,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Refused,
    Written,
    Held,
}

/// Two users, a task and a slide in a deck; `mark` is the head after all of it was made.
struct Scene {
    rig: Rig,
    ada: Participant,
    conn: ConnectionId,
    bob: ConnectionId,
    mark: u64,
}

impl Scene {
    fn new() -> Self {
        let mut rig = Rig::new(Some(SCHEMA));
        let ada = Participant::user("ada", "acme");
        let (conn, bob) = (rig.live(&ada), rig.live(&Participant::user("bob", "acme")));
        rig.write(conn, "CREATE", "task", "t1", json!({"title":"a","rank":1}));
        rig.write(conn, "CREATE", "decks", "d1", json!({"name":"n"}));
        let mark = rig.write(conn, "CREATE", "slides", "s1", json!({"deckId":"d1"}));
        Self { rig, ada, conn, bob, mark }
    }

    /// A commit of Ada's: the receipt, or an object with the error.
    fn commit(&mut self, way: Way, operations: &Value, reads: &Value) -> Value {
        self.rig.keys += 1;
        let payload = json!({"clientTxId":format!("k{}", self.rig.keys),"operations":operations,"reads":reads});
        self.send(way, &payload)
    }

    fn send(&mut self, way: Way, payload: &Value) -> Value {
        if way == Way::Socket {
            self.rig.frame(self.conn, &json!({"type":"commit","payload":payload}));
            return self.rig.take(self.conn).pop().unwrap()["payload"].take();
        }
        let now = self.rig.time();
        let answer = self.rig.engine.commit_request(now, &self.ada, None, &payload.to_string());
        self.rig.pump();
        match answer {
            Ok(receipt) => serde_json::from_str(&receipt).unwrap(),
            Err(error) => {
                let mut object: Value =
                    error.details.as_deref().map_or(json!({}), |details| serde_json::from_str(details).unwrap());
                object["code"] = json!(error.code);
                object["message"] = json!(error.message);
                json!({"success":false,"error":object})
            }
        }
    }

    fn row(&self, id: &str) -> Value {
        let mut rows = self.rig.engine.rows("acme");
        rows.find(|row| row.1 == id).map_or(Value::Null, |row| serde_json::from_str(row.2).unwrap())
    }
}

#[test]
fn every_mode_of_every_premise_both_ways() {
    use Outcome::{Held, Refused, Written};
    let row = |fields: Value| json!({"model":"tasks","id":"t1","fields":fields});
    let premises: [(&str, Option<Value>, &str, [Outcome; 4]); 8] = [
        // What is guarded, the read dependency (none: the operation's own row), the change of it, by mode: none given,
        // reject, overwrite, notify.
        ("the row written", None, "title", [Refused, Refused, Written, Held]),
        ("another field of it", None, "rank", [Written; 4]),
        ("a row read", Some(row(Value::Null)), "rank", [Refused, Refused, Written, Held]),
        ("a field read", Some(row(json!(["rank", "title"]))), "rank", [Refused, Refused, Written, Held]),
        ("another field read", Some(row(json!(["status"]))), "rank", [Written; 4]),
        ("a group", Some(json!({"group":"deck:d1"})), "slide", [Refused, Refused, Written, Held]),
        ("another group", Some(json!({"group":"decks:d2"})), "slide", [Written; 4]),
        ("all rows", Some(json!({"group":"org:acme"})), "rank", [Refused, Refused, Written, Held]),
    ];
    for (what, read, change, outcomes) in premises {
        for (mode, outcome) in [None, Some("reject"), Some("overwrite"), Some("notify")].into_iter().zip(outcomes) {
            for way in [Way::Socket, Way::Http] {
                let label = format!("{what}, {mode:?}, {way:?}");
                let mut scene = Scene::new();
                let newest = match change {
                    "slide" => scene.rig.write(scene.bob, "UPDATE", "slides", "s1", json!({"x":1})),
                    field => scene.rig.write(
                        scene.bob,
                        "UPDATE",
                        "task",
                        "t1",
                        json!({field:if field == "rank" { json!(9) } else { json!("b") }}),
                    ),
                };
                let mut operation = json!({"type":"UPDATE","model":"task","id":"t1","input":{"title":"mine"}});
                let mut reads = json!([]);
                if let Some(read) = &read {
                    let mut read = read.clone();
                    read["readAt"] = json!(scene.mark);
                    read["onStale"] = json!(mode);
                    reads = json!([read]);
                } else {
                    operation["readAt"] = json!(scene.mark);
                    operation["onStale"] = json!(mode);
                }
                let other = json!({"type":"CREATE","model":"task","id":"t2","input":{}});
                let result = scene.commit(way, &json!([operation, other]), &reads);
                let wrote = scene.row("t1")["title"] == "mine";
                // A read dependency stops all writes, an operation's own guard only that one.
                let wrote_other = !scene.row("t2").is_null();
                match outcome {
                    Refused => {
                        assert_eq!(result["error"]["code"], "stale_context", "{label}: {result}");
                        assert!(!wrote && !wrote_other, "{label}");
                        let conflict = &result["error"]["conflicts"][0];
                        assert_eq!(
                            (&conflict["observedSyncId"], &result["error"]["readAt"]),
                            (&json!(newest), &json!(scene.mark)),
                            "{label}"
                        );
                    }
                    Written => {
                        assert!(wrote && wrote_other && result["notifications"].is_null(), "{label}: {result}");
                    }
                    Held => {
                        assert_eq!(result["success"], true, "{label}: {result}");
                        assert!(!wrote && wrote_other == read.is_none(), "{label}");
                        let told = &result["notifications"][0];
                        assert_eq!(told["writtenBy"], json!({"kind":"user","id":"bob"}), "{label}");
                        assert_eq!(
                            (&told["readAt"], &told["observedSyncId"]),
                            (&json!(scene.mark), &json!(newest)),
                            "{label}"
                        );
                        assert!(result["lastSyncId"].as_u64() >= Some(newest), "{label}: {result}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_notification_says_what_is_there_now() {
    let mut scene = Scene::new();
    let mark = scene.mark;
    let newest = scene.rig.write(scene.bob, "UPDATE", "task", "t1", json!({"title":"b","rank":2}));
    let update = json!([{"type":"UPDATE","model":"task","id":"t1","input":{"title":"x","status":"done"},"readAt":mark,"onStale":"notify"}]);
    let told = json!({"object":"stale_notification","model":"tasks","id":"t1","conflictingFields":["title"],
        "currentValues":{"title":"b"},"readAt":mark,"observedSyncId":newest,"writtenBy":{"kind":"user","id":"bob"}});
    let payload = json!({"clientTxId":"n1","operations":update});
    let receipt = scene.send(Way::Socket, &payload);
    assert_eq!(receipt["notifications"], json!([told]));
    // Again, later, another way, after a restart: the same answer, whatever the row has become.
    scene.rig.write(scene.bob, "UPDATE", "task", "t1", json!({"title":"c"}));
    assert_eq!(scene.send(Way::Http, &payload), receipt);
    scene.rig = scene.rig.restarted(Some(SCHEMA));
    scene.conn = scene.rig.live(&scene.ada);
    assert_eq!(scene.send(Way::Socket, &payload), receipt);
    // With the mark of the notification the write goes through when nothing has moved since.
    let again = scene.commit(
        Way::Socket,
        &json!([{"type":"UPDATE","model":"task","id":"t1","input":{"title":"x"},"readAt":newest + 1}]),
        &Value::Null,
    );
    assert_eq!(again["success"], true, "{again}");
}

#[test]
fn creates_and_deletes_collide_with_everything() {
    for (theirs, mine, fields, current) in [
        (
            json!({"type":"DELETE","model":"task","id":"t1"}),
            json!({"type":"UPDATE","input":{"title":"x"}}),
            json!(["title"]),
            json!({}),
        ),
        (
            json!({"type":"UPDATE","model":"task","id":"t1","input":{"rank":2}}),
            json!({"type":"DELETE"}),
            json!(["rank"]),
            json!({"rank":2}),
        ),
        (
            json!({"type":"ARCHIVE","model":"task","id":"t1"}),
            json!({"type":"UNARCHIVE"}),
            json!(["archivedAt"]),
            Value::Null,
        ),
    ] {
        let mut scene = Scene::new();
        assert_eq!(scene.rig.commit(scene.bob, json!([theirs]))["success"], true);
        let mut mine = mine;
        mine["model"] = json!("task");
        mine["id"] = json!("t1");
        mine["readAt"] = json!(scene.mark);
        let result = scene.commit(Way::Http, &json!([mine]), &Value::Null);
        let conflict = &result["error"]["conflicts"][0];
        assert_eq!(
            (&result["error"]["code"], &conflict["conflictingFields"]),
            (&json!("stale_context"), &fields),
            "{result}"
        );
        if !current.is_null() {
            assert_eq!(conflict["currentValues"], current);
        }
    }
}

#[test]
fn own_writes_do_not_make_a_write_stale() {
    let update = |mark: u64, title: &str| json!([{"type":"UPDATE","model":"task","id":"t1","input":{"title":title},"readAt":mark}]);
    let code = |result: &Value| result["error"]["code"].as_str().unwrap_or("written").to_owned();
    let mut scene = Scene::new();
    let mark = scene.mark;
    // The same connection writes again from the same mark.
    for title in ["1", "2", "3"] {
        assert_eq!(code(&scene.commit(Way::Socket, &update(mark, title), &Value::Null)), "written");
    }
    // Another of the same participant does not know of that, unless the participant has held the row all the while.
    assert_eq!(code(&scene.commit(Way::Http, &update(mark, "4"), &Value::Null)), "stale_context");
    let claim =
        json!({"type":"claim_begin","payload":{"claimId":"c1","entityType":"task","entityId":"t1","queue":true}});
    scene.rig.frame(scene.conn, &claim);
    assert_eq!(
        code(&scene.commit(Way::Http, &update(mark, "5"), &Value::Null)),
        "stale_context",
        "written before the claim"
    );
    let mark = scene.rig.engine.head().0;
    for way in [Way::Http, Way::Socket, Way::Http] {
        assert_eq!(code(&scene.commit(way, &update(mark, "6"), &Value::Null)), "written");
        let read = json!([{"model":"task","id":"t1","readAt":mark}]);
        let other = json!([{"type":"UPDATE","model":"slides","id":"s1","input":{"y":1}}]);
        assert_eq!(code(&scene.commit(way, &other, &read)), "written");
    }
    // What somebody else forces in counts all the same.
    let forced = json!([{"type":"UPDATE","model":"task","id":"t1","input":{"title":"!"},"bypass":true}]);
    assert_eq!(code(&scene.rig.commit(scene.bob, forced)), "written");
    assert_eq!(code(&scene.commit(Way::Socket, &update(mark, "7"), &Value::Null)), "stale_context");
}

#[test]
fn what_has_been_done_is_not_guarded_again() {
    let mut scene = Scene::new();
    let operation = json!([{"type":"UPDATE","model":"task","id":"t1","input":{"title":"x"},"readAt":scene.mark,"transactionId":"tx1"}]);
    assert_eq!(scene.commit(Way::Socket, &operation, &Value::Null)["success"], true);
    scene.rig.write(scene.bob, "UPDATE", "task", "t1", json!({"title":"y"}));
    scene.rig.frame(
        scene.bob,
        &json!({"type":"claim_begin","payload":{"claimId":"c1","entityType":"task","entityId":"t1","queue":true}}),
    );
    // The answer was lost; the same operation comes under another key, on another connection.
    scene.conn = scene.rig.live(&scene.ada);
    let reads = json!([{"model":"task","id":"t1","readAt":scene.mark}]);
    assert_eq!(scene.commit(Way::Socket, &operation, &reads)["success"], true);
    assert_eq!(scene.row("t1")["title"], "y");
}

#[test]
fn a_guard_that_cannot_be_checked_does_not_pass() {
    let mut scene = Scene::new();
    let mark = scene.mark;
    let head = scene.rig.write(scene.bob, "UPDATE", "task", "t1", json!({"rank":2}));
    scene.rig.disk.apply(StoreChange { history_floor: Some(SyncId(head)), ..StoreChange::default() });
    scene.rig = scene.rig.restarted(Some(SCHEMA));
    scene.conn = scene.rig.live(&scene.ada);
    let update =
        |id: &str, model: &str| json!([{"type":"UPDATE","model":model,"id":id,"input":{"title":"x"},"readAt":mark}]);
    let code = |result: &Value| result["error"]["code"].as_str().unwrap_or("written").to_owned();
    let moved = scene.commit(Way::Http, &update("t1", "task"), &Value::Null);
    assert_eq!(code(&moved), "stale_context");
    assert_eq!(moved["error"]["conflicts"][0]["observedSyncId"], head);
    assert_eq!(code(&scene.commit(Way::Http, &update("s1", "slide"), &Value::Null)), "written", "not moved since");
    let group = json!([{"group":"deck:d1","readAt":mark}]);
    let other = json!([{"type":"CREATE","model":"task","id":"t9","input":{},"readAt":mark}]);
    assert_eq!(code(&scene.commit(Way::Http, &other, &group)), "stale_context");
    assert_eq!(code(&scene.commit(Way::Http, &other, &Value::Null)), "written", "there was no such row");
    // Nothing read, nothing guarded.
    let unguarded = json!([{"type":"UPDATE","model":"task","id":"t1","input":{"title":"x"},"readAt":0}]);
    assert_eq!(code(&scene.commit(Way::Http, &unguarded, &Value::Null)), "written");
}

#[test]
fn guards_tell_nothing_of_what_cannot_be_seen() {
    let mut scene = Scene::new();
    scene.rig.write(scene.bob, "UPDATE", "task", "t1", json!({"title":"secret"}));
    scene.ada = only(&["deck:d1"]);
    scene.conn = scene.rig.live(&scene.ada);
    let good = json!([{"type":"UPDATE","model":"slide","id":"s1","input":{"x":1}}]);
    for (operations, reads) in [
        (json!([{"type":"UPDATE","model":"task","id":"t1","input":{"title":"x"},"readAt":1}]), Value::Null),
        (good.clone(), json!([{"model":"task","id":"t1","readAt":1}])),
        (good.clone(), json!([{"group":"org:acme","readAt":1}])),
        (good, json!([{"group":"tasks:t1","readAt":1}])),
    ] {
        let result = scene.commit(Way::Socket, &operations, &reads);
        assert_eq!(result["error"]["code"], "capability_scope_denied", "{operations} {reads}");
        assert!(!result.to_string().contains("secret"));
    }
    // A row that went out of sight has changed, and that is all there is to say.
    scene.rig.write(scene.bob, "UPDATE", "slide", "s1", json!({"deckId":"d2","secret":1}));
    let deck = json!([{"type":"UPDATE","model":"decks","id":"d1","input":{"x":1}}]);
    let result = scene.commit(Way::Socket, &deck, &json!([{"model":"slide","id":"s1","readAt":scene.mark}]));
    assert_eq!(
        (&result["error"]["code"], &result["error"]["conflicts"][0]["currentValues"]),
        (&json!("stale_context"), &json!({}))
    );
}

#[test]
fn what_changed_out_of_sight_counts_and_is_not_told() {
    let code = |result: &Value| result["error"]["code"].as_str().unwrap_or("written").to_owned();
    let good = json!([{"type":"UPDATE","model":"slide","id":"s1","input":{"x":1}}]);
    let read = |id: &str, mark: u64, mode: &str| json!([{"model":"slide","id":id,"readAt":mark,"onStale":mode}]);
    let mut scene = Scene::new();
    scene.ada = only(&["deck:d1"]);
    scene.conn = scene.rig.live(&scene.ada);
    let mark = scene.rig.write(scene.bob, "CREATE", "slides", "s2", json!({"deckId":"d1","text":"a"}));
    // A row that was away and is back: what became of it meanwhile has not been seen.
    scene.rig.write(scene.bob, "UPDATE", "slides", "s2", json!({"deckId":"d2"}));
    let away = scene.rig.engine.head().0;
    scene.rig.write(scene.bob, "UPDATE", "slides", "s2", json!({"text":"secret"}));
    for mode in ["reject", "notify"] {
        let result = scene.commit(Way::Socket, &good, &read("s2", away, mode));
        assert_eq!(code(&result), "capability_scope_denied", "{mode}");
        assert!(!result.to_string().contains("secret") && !result.to_string().contains("bob"), "{result}");
    }
    scene.rig.write(scene.bob, "UPDATE", "slides", "s2", json!({"deckId":"d1"}));
    let update = json!([{"type":"UPDATE","model":"slide","id":"s2","input":{"text":"mine"},"readAt":away}]);
    for way in [Way::Socket, Way::Http] {
        assert_eq!(code(&scene.commit(way, &update, &Value::Null)), "stale_context", "{way:?}");
    }
    assert_eq!(scene.row("s2")["text"], "secret");
    // One that came and went unseen was there.
    scene.rig.write(scene.bob, "CREATE", "slides", "s3", json!({"deckId":"d2"}));
    scene.rig.write(scene.bob, "DELETE", "slides", "s3", json!({}));
    assert_eq!(code(&scene.commit(Way::Http, &good, &read("s3", mark, "reject"))), "capability_scope_denied");
    assert_eq!(code(&scene.commit(Way::Http, &good, &read("s4", mark, "reject"))), "written");
}

#[test]
fn read_dependencies_that_are_none_are_refused() {
    let mut scene = Scene::new();
    let operation = json!([{"type":"UPDATE","model":"task","id":"t1","input":{"title":"x"}}]);
    let many: Vec<Value> = (0..=READS_MAX).map(|n| json!({"model":"task","id":format!("t{n}"),"readAt":1})).collect();
    let groups: Vec<Value> = (0..=GROUP_READS_MAX).map(|_| json!({"group":"org:acme","readAt":99})).collect();
    for (reads, code) in [
        (json!({}), "invalid_body"),
        (json!([1]), "invalid_body"),
        (json!([{"model":"task","id":"t1"}]), "invalid_body"),
        (json!([{"model":"task","readAt":1}]), "invalid_body"),
        (json!([{"model":"task","id":"t1","readAt":1,"fields":"title"}]), "invalid_body"),
        (json!([{"model":"task","id":"t1","readAt":1,"onStale":"maybe"}]), "invalid_body"),
        (json!([{"model":"ghosts","id":"t1","readAt":1}]), "unknown_model"),
        (json!([{"group":7,"readAt":1}]), "invalid_body"),
        (json!(many), "invalid_body"),
        (json!(groups), "invalid_body"),
    ] {
        for way in [Way::Socket, Way::Http] {
            assert_eq!(
                scene.commit(way, &operation, &reads)["error"]["code"],
                code,
                "{way:?} {:.80}",
                reads.to_string()
            );
        }
    }
    assert_eq!(scene.row("t1")["title"], "a");
}
