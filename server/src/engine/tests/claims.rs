//! Leases on rows: the line, the lease's life, and what they mean for writes (protocol.md section 11).

use super::*;

/// A claim's frame.
fn begin(id: &str, row: &str, more: Value) -> Value {
    let mut payload = json!({"claimId":id,"entityType":"task","entityId":row,"action":"editing","queue":true});
    payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"type":"claim_begin","payload":payload})
}

fn abandon(id: &str) -> Value {
    json!({"type":"claim_abandon","payload":{"claimId":id}})
}

/// An engine with a task and people.
struct Room {
    rig: Rig,
    people: Vec<(Participant, ConnectionId)>,
}

impl Room {
    fn new(names: &[&str]) -> Self {
        Self::with(Rig::new(Some(SCHEMA)), names)
    }

    fn with(mut rig: Rig, names: &[&str]) -> Self {
        let people: Vec<_> = names
            .iter()
            .map(|name| {
                let who = Participant::user(name, "acme");
                let conn = rig.live(&who);
                (who, conn)
            })
            .collect();
        for row in ["t1", "t2"] {
            rig.write(people[0].1, "CREATE", "task", row, json!({}));
        }
        let mut room = Self { rig, people };
        room.quiet();
        room
    }

    /// Forgets what was told.
    fn quiet(&mut self) {
        self.rig.mail.clear();
        self.rig.presence.clear();
    }

    fn send(&mut self, who: usize, frame: &Value) {
        self.rig.frame(self.people[who].1, frame);
    }

    /// What somebody was told about claims: `claim_acquired:c1 …`, the lines of rows left out.
    fn heard(&mut self, who: usize) -> String {
        let frames = self.rig.take(self.people[who].1);
        let one = |frame: &Value| {
            let kind = frame["type"].as_str().unwrap().strip_prefix("claim_")?;
            (kind != "queue").then(|| format!("{kind}:{} ", frame["payload"]["claimId"].as_str().unwrap()))
        };
        frames.iter().filter_map(one).collect::<String>().trim().to_owned()
    }

    fn write(&mut self, who: usize, row: &str) -> String {
        let result =
            self.rig.commit(self.people[who].1, json!([{"type":"UPDATE","model":"task","id":row,"input":{"n":1}}]));
        result["error"]["code"].as_str().unwrap_or("written").to_owned()
    }

    /// A write over HTTP under a claim.
    fn write_under(&mut self, who: usize, row: &str, more: Value) -> String {
        self.rig.keys += 1;
        let mut body = json!({"data":{"n":1},"idempotencyKey":format!("k{}", self.rig.keys)});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let target = (ablo_wasm::core::wire::OpKind::Update, "tasks", Some(row));
        let (now, who) = (self.rig.time(), self.people[who].0.clone());
        let result = self.rig.engine.write_model(now, &who, target, None, &body.to_string());
        self.rig.pump();
        result.map_or_else(|error| error.code.to_string(), |_| "written".to_owned())
    }

    fn claims(&self, who: usize) -> Value {
        let text = self.rig.engine.list_claims(self.rig.time(), &self.people[who].0, &[]).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

#[test]
fn first_come_first_served() {
    let mut room = Room::new(&["a", "b", "c", "d"]);
    room.send(0, &begin("ca", "t1", json!({})));
    assert_eq!(room.heard(0), "acquired:ca");
    room.send(1, &begin("cb", "t1", json!({})));
    let queued = room.rig.take(room.people[1].1).remove(0);
    assert_eq!((&queued["type"], &queued["payload"]["position"]), (&json!("claim_queued"), &json!(0)));
    assert_eq!((&queued["payload"]["heldBy"], &queued["payload"]["heldByClaimId"]), (&json!("a"), &json!("ca")));
    assert_eq!(queued["payload"]["heldByClaim"]["entityType"], "task");
    room.send(2, &begin("cc", "t1", json!({})));
    room.send(3, &begin("cd", "t1", json!({"queue":false})));
    let rejected = room.rig.take(room.people[3].1).pop().unwrap();
    assert_eq!((&rejected["type"], &rejected["payload"]["reason"]), (&json!("claim_rejected"), &json!("conflict")));
    assert_eq!(rejected["payload"]["heldByExpiresAt"], room.rig.time().wall.0 + CLAIM_RENEWAL_MS);
    // The line, as everybody who sees the row is told.
    let line = room.rig.take(room.people[0].1).pop().unwrap();
    assert_eq!((&line["type"], &line["payload"]["target"]), (&json!("claim_queue"), &json!({"type":"task","id":"t1"})));
    let ids: Vec<&str> =
        line["payload"]["queue"].as_array().unwrap().iter().map(|claim| claim["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["cb", "cc"]);
    let second = &line["payload"]["queue"][1];
    assert_eq!((&second["heldBy"], &second["position"], &second["status"]), (&json!("c"), &json!(1), &json!("queued")));
    room.quiet();
    // Another row is free.
    room.send(3, &begin("cd", "t2", json!({})));
    assert_eq!(room.heard(3), "acquired:cd");
    // Who leaves the line is passed over; unknown ids, and those of others, are ignored.
    room.send(1, &abandon("ca"));
    room.send(1, &abandon("nobody's"));
    room.send(1, &abandon("cb"));
    room.send(0, &abandon("ca"));
    assert_eq!((room.heard(1), room.heard(2)), (String::new(), "granted:cc".to_owned()));
    room.send(2, &abandon("cc"));
    assert_eq!(room.claims(0)["claims"].as_array().unwrap().len(), 1);
    assert_eq!(room.heard(0), "");
}

#[test]
fn the_row_is_the_unit_whatever_part_is_claimed_and_however_it_is_spelled() {
    for (first, second) in [
        (json!({"field":"title"}), json!({"field":"rank"})),
        (json!({"field":"title"}), json!({"field":"title"})),
        (json!({"field":"title"}), json!({})),
        (json!({"path":"body/0"}), json!({"path":"body/1"})),
        (json!({"range":{"startLine":1,"endLine":2}}), json!({"range":{"startLine":5,"endLine":9}})),
        (json!({"entityType":"Task"}), json!({"entityType":"tasks"})),
        (json!({"entityType":"TASK"}), json!({})),
        (json!({"entityType":"Whiteboard"}), json!({"entityType":"whiteboard"})),
    ] {
        let mut room = Room::new(&["a", "b"]);
        room.send(0, &begin("ca", "t1", first.clone()));
        assert_eq!(room.heard(0), "acquired:ca", "{first}");
        room.send(1, &begin("cb", "t1", second.clone()));
        assert_eq!(room.heard(1), "queued:cb", "{first} {second}");
        // The same participant is let in beside itself.
        room.send(0, &begin("ca2", "t1", second.clone()));
        assert_eq!(room.heard(0), "acquired:ca2", "{first} {second}");
        room.send(0, &abandon("ca"));
        assert_eq!(room.heard(1), "", "still held by the second");
        room.send(0, &abandon("ca2"));
        assert_eq!(room.heard(1), "granted:cb");
        let shown = &room.claims(0)["claims"][0]["target"];
        for part in ["field", "path", "range"] {
            assert_eq!(shown[part], second[part], "{second}");
        }
    }
}

#[test]
fn claims_that_say_so_leave_the_other_fields_to_others() {
    let only = |field: &str| json!({"field":field,"fieldOnly":true});
    let mut room = Room::new(&["a", "b", "c", "d"]);
    room.send(0, &begin("ca", "t1", only("title")));
    room.send(1, &begin("cb", "t1", only("n")));
    assert_eq!((room.heard(0), room.heard(1)), ("acquired:ca".to_owned(), "acquired:cb".to_owned()));
    assert_eq!(room.claims(0)["claims"][1]["target"]["fieldOnly"], true);
    // Each writes its own field, others none of the two, and what is claimed by nobody is free.
    let mut write = |who: usize, input: Value| {
        let result =
            room.rig.commit(room.people[who].1, json!([{"type":"UPDATE","model":"task","id":"t1","input":input}]));
        result["error"]["code"].as_str().unwrap_or("written").to_owned()
    };
    assert_eq!(write(0, json!({"title":"x"})), "written");
    assert_eq!(write(1, json!({"n":1})), "written");
    assert_eq!(write(0, json!({"n":2})), "entity_claimed");
    assert_eq!(write(2, json!({"done":true,"title":"y"})), "entity_claimed");
    assert_eq!(write(2, json!({"done":true})), "written");
    let delete = room.rig.commit(room.people[0].1, json!([{"type":"DELETE","model":"task","id":"t1"}]));
    assert_eq!(delete["error"]["code"], "entity_claimed");

    // The same field, the whole row, and a field named by a client that takes the row for the unit: all wait.
    room.heard(2);
    room.send(2, &begin("cc", "t1", json!({"field":"done"})));
    room.send(3, &begin("cd", "t1", only("title")));
    assert_eq!((room.heard(2), room.heard(3)), ("queued:cc".to_owned(), "queued:cd".to_owned()));
    room.send(3, &begin("no", "t1", json!({"field":"done","fieldOnly":true,"queue":false})));
    assert_eq!(room.heard(3), "rejected:no", "who waits for the whole row goes first");
    // Beside what it holds, its holder gets no more past those who wait; of that itself, it does.
    room.send(0, &begin("ca2", "t1", only("done")));
    room.send(0, &begin("ca3", "t1", only("title")));
    assert_eq!(room.heard(0), "queued:ca2 acquired:ca3");
    room.send(0, &abandon("ca2"));
    room.send(0, &abandon("ca3"));

    room.send(0, &abandon("ca"));
    assert_eq!((room.heard(2), room.heard(3)), (String::new(), String::new()), "cc waits for n, cd for cc");
    room.send(1, &abandon("cb"));
    assert_eq!((room.heard(2), room.heard(3)), ("granted:cc".to_owned(), String::new()));
    room.send(2, &abandon("cc"));
    assert_eq!(room.heard(3), "granted:cd");
    room.send(1, &begin("cb", "t1", json!({"fieldOnly":true})));
    assert_eq!(room.heard(1), "rejected:cb", "fieldOnly needs a field");
}

#[test]
fn a_line_for_several_fields_goes_on_in_each() {
    let only = |field: &str| json!({"field":field,"fieldOnly":true});
    let mut room = Room::new(&["a", "b", "c", "d", "e"]);
    room.send(0, &begin("ca", "t1", json!({})));
    for (who, claim, field) in [(1, "cb", "title"), (2, "cc", "title"), (3, "cd", "n")] {
        room.send(who, &begin(claim, "t1", only(field)));
    }
    room.send(4, &begin("ce", "t1", json!({})));
    room.quiet();
    room.send(0, &abandon("ca"));
    let heard: Vec<String> = (1..5).map(|who| room.heard(who)).collect();
    assert_eq!(heard, ["granted:cb", "", "granted:cd", ""]);
    // The whole row is granted when both fields are free, and after everybody who came before.
    room.send(3, &abandon("cd"));
    room.send(1, &abandon("cb"));
    assert_eq!((room.heard(2), room.heard(4)), ("granted:cc".to_owned(), String::new()));
    room.send(2, &abandon("cc"));
    assert_eq!(room.heard(4), "granted:ce");
}

#[test]
fn a_held_row_is_written_by_its_holder_alone() {
    let mut room = Room::new(&["a", "b"]);
    room.send(0, &begin("ca", "t1", json!({"queue":false,"meta":{"description":"intro"}})));
    assert_eq!(
        (room.write(0, "t1"), room.write(1, "t1"), room.write(1, "t2")),
        ("written".into(), "entity_claimed".into(), "written".into())
    );
    // All ways, all verbs, with all that there is to know about the holder.
    let b = room.people[1].0.clone();
    let now = room.rig.time();
    let body = r#"{"clientTxId":"h1","operations":[{"action":"create","model":"task","id":"t3","data":{}},{"action":"delete","model":"tasks","id":"t1"}]}"#;
    let refused = room.rig.engine.commit_request(now, &b, None, body).unwrap_err();
    assert_eq!((&*refused.code, refused.param.as_deref()), ("entity_claimed", Some("operations[1]")));
    let details: Value = serde_json::from_str(refused.details.as_deref().unwrap()).unwrap();
    assert_eq!(
        details["claims"],
        json!([{"claimId":"ca","action":"editing","declaredAt":now.wall.0,"expiresAt":now.wall.0 + CLAIM_RENEWAL_MS,
            "entityType":"task","entityId":"t1","meta":{"description":"intro"}}])
    );
    assert_eq!((&details["heldBy"], &details["heldByClaim"]), (&json!("a"), &details["claims"][0]));
    assert_eq!(room.write_under(1, "t1", json!({})), "entity_claimed");
    let on_socket = room.rig.commit(room.people[1].1, json!([{"type":"ARCHIVE","model":"task","id":"t1"}]));
    assert_eq!(on_socket["error"]["claims"], details["claims"]);
    // Those who may override say so. An agent may not.
    let bypass = json!([{"type":"UPDATE","model":"task","id":"t1","input":{"n":2},"bypass":true}]);
    assert_eq!(room.rig.commit(room.people[1].1, bypass.clone())["success"], true);
    let agent = room.rig.live(&Participant { kind: ParticipantKind::Agent, ..Participant::user("x", "acme") });
    assert_eq!(room.rig.commit(agent, bypass)["error"]["code"], "entity_claimed");
    // A refused commit may come again under its key.
    room.send(0, &abandon("ca"));
    let now = room.rig.time();
    assert!(room.rig.engine.commit_request(now, &b, None, body).is_ok());
    // A row that is yet to be made can be claimed too.
    room.send(0, &begin("cn", "new", json!({})));
    let create = json!([{"type":"CREATE","model":"task","id":"new","input":{}}]);
    assert_eq!(room.rig.commit(room.people[1].1, create.clone())["error"]["code"], "entity_claimed");
    assert_eq!(room.rig.commit(room.people[0].1, create)["success"], true);
}

#[test]
fn a_lease_lives_while_its_connection_is_heard_of_and_then_out() {
    let mut room = Room::new(&["a", "b", "c"]);
    room.send(0, &begin("ca", "t1", json!({"estimatedMs":1000})));
    room.send(1, &begin("cb", "t1", json!({})));
    room.send(2, &begin("cc", "t1", json!({})));
    room.quiet();
    for _ in 0..20 {
        for who in 0..3 {
            room.send(who, &json!({"type":"ping"}));
        }
        room.rig.pass(30_000);
    }
    assert_eq!((room.heard(0), room.heard(1)), (String::new(), String::new()));
    // The first falls silent; the others go on.
    for _ in 0..2 {
        room.send(1, &json!({"type":"ping"}));
        room.send(2, &json!({"type":"ping"}));
        room.rig.pass(30_000);
    }
    assert_eq!((room.heard(0), room.heard(1), room.heard(2)), ("lost:ca".into(), "granted:cb".into(), String::new()));
    let told = room.rig.told(room.people[2].1);
    let states: Vec<_> = told
        .iter()
        .map(|frame| (frame["userId"].as_str().unwrap(), frame["activeClaims"][0]["status"].as_str().unwrap_or("")))
        .collect();
    assert_eq!(states, [("a", "expired"), ("b", "active")]);
    assert_eq!(room.write(0, "t1"), "entity_claimed");
    // Everybody falls silent: both claims end, each once.
    room.rig.pass(200_000);
    assert_eq!((room.heard(1), room.heard(2)), ("lost:cb".into(), "lost:cc".into()));
    assert_eq!(room.claims(0), json!({"claims":[],"queue":[]}));
    assert_eq!(room.rig.engine.soonest_timeout(), None);
}

#[test]
fn a_claim_outlives_its_connection_for_as_long_as_was_asked() {
    let schema = Some(Schema::parse_all(SCHEMA).unwrap());
    let rig = Rig::with(Config { schema, claim_renewal_ms: 5000, ..Config::default() });
    let mut room = Room::with(rig, &["a", "b", "c"]);
    room.send(0, &begin("ca", "t1", json!({"estimatedMs":1000})));
    room.send(1, &begin("cb", "t1", json!({"estimatedMs":1000})));
    room.quiet();
    room.rig.disconnect(room.people[0].1);
    room.rig.pass(4999);
    room.send(1, &json!({"type":"ping"}));
    assert_eq!(room.heard(1), "");
    room.rig.pass(1);
    assert_eq!(room.heard(1), "granted:cb");
    // And a place in line as well.
    room.send(2, &begin("cc", "t1", json!({"estimatedMs":1000})));
    room.rig.disconnect(room.people[2].1);
    for ms in [2500, 2499] {
        room.send(1, &json!({"type":"ping"}));
        room.rig.pass(ms);
    }
    assert_eq!(room.claims(1)["queue"].as_array().map(Vec::len), Some(1));
    room.rig.pass(1);
    assert_eq!(room.claims(1)["queue"], json!([]));
}

#[test]
fn a_holder_that_comes_back_in_time_goes_on_and_one_that_does_not_has_lost() {
    let mut room = Room::new(&["a", "b"]);
    room.send(0, &begin("ca", "t1", json!({})));
    room.send(1, &begin("cb", "t1", json!({})));
    room.quiet();
    let (ada, old) = room.people[0].clone();
    room.rig.disconnect(old);
    room.rig.pass(CLAIM_RENEWAL_MS - 1);
    room.send(1, &json!({"type":"ping"}));
    assert_eq!(room.write(1, "t1"), "entity_claimed");
    let conn = room.rig.live(&ada);
    room.people[0].1 = conn;
    room.send(0, &begin("ca", "t1", json!({})));
    assert_eq!(room.heard(0), "acquired:ca");
    // It says so twice: the same answer.
    room.send(0, &begin("ca", "t1", json!({})));
    assert_eq!(room.heard(0), "acquired:ca");
    room.rig.pass(60_000);
    room.send(1, &json!({"type":"ping"}));
    assert_eq!((room.write(0, "t1"), room.heard(1)), ("written".into(), String::new()));
    room.rig.disconnect(conn);
    room.rig.pass(CLAIM_RENEWAL_MS / 2);
    room.send(1, &json!({"type":"ping"}));
    room.rig.pass(CLAIM_RENEWAL_MS / 2);
    assert_eq!(room.heard(1), "granted:cb");
    room.people[0].1 = room.rig.live(&ada);
    room.send(0, &begin("ca", "t1", json!({})));
    assert_eq!((room.heard(0), room.write(0, "t1")), ("queued:ca".into(), "entity_claimed".into()));
    // A place in the line is kept as long.
    let waiting = room.people[0].1;
    room.rig.disconnect(waiting);
    room.send(1, &json!({"type":"ping"}));
    room.rig.pass(CLAIM_RENEWAL_MS - 1000);
    room.people[0].1 = room.rig.live(&ada);
    room.send(0, &begin("ca", "t1", json!({})));
    assert_eq!(room.heard(0), "queued:ca");
    room.send(1, &abandon("cb"));
    assert_eq!(room.heard(0), "granted:ca");
}

#[test]
fn a_claim_stays_with_the_newest_connection_of_its_client() {
    let mut room = Room::new(&["a", "b"]);
    room.send(0, &begin("ca", "t1", json!({})));
    room.send(1, &begin("cb", "t1", json!({})));
    let (bob, old) = room.people[1].clone();
    room.people[1].1 = room.rig.live(&bob);
    room.send(1, &begin("cb", "t1", json!({})));
    // What was said before the connection broke arrives after what was said on the next.
    room.rig.frame(old, &begin("cb", "t1", json!({})));
    room.rig.disconnect(old);
    room.quiet();
    room.send(0, &abandon("ca"));
    assert_eq!(room.heard(1), "granted:cb");
}

#[test]
fn a_second_claim_takes_over_from_one_whose_connection_is_gone() {
    let mut room = Room::new(&["a", "b"]);
    room.send(0, &begin("before-reload", "t1", json!({})));
    let (ada, old) = room.people[0].clone();
    room.rig.disconnect(old);
    room.people[0].1 = room.rig.live(&ada);
    room.send(0, &begin("after-reload", "t1", json!({})));
    room.send(1, &begin("cb", "t1", json!({})));
    room.quiet();
    room.send(0, &abandon("after-reload"));
    assert_eq!(room.heard(1), "granted:cb");
}

#[test]
fn a_write_under_a_lapsed_claim_is_refused() {
    let mut room = Room::new(&["a", "b"]);
    let (a, b) = (room.people[0].0.clone(), room.people[1].0.clone());
    let claim = |room: &mut Room, who: &Participant, id: &str, queue: bool| {
        let body = json!({"claimId":id,"target":{"model":"tasks","id":"t1"},"ttl":"30s","queue":queue});
        let now = room.rig.time();
        let answer = room.rig.engine.create_claim(now, who, &body.to_string());
        room.rig.pump();
        answer.map(|answer| (answer.queued, serde_json::from_str::<Value>(&answer.body).unwrap()))
    };
    let (queued, held) = claim(&mut room, &a, "int_a", false).unwrap();
    let token = held["claim"]["fencingToken"].as_u64().unwrap();
    assert!(!queued);
    assert_eq!(room.write_under(0, "t1", json!({"claim":"int_a","fencingToken":token})), "written");
    assert_eq!(room.write_under(0, "t1", json!({"claim":"int_a","fencingToken":token + 1})), "claim_lost");
    assert_eq!(room.write_under(0, "t1", json!({"claim":"int_none"})), "claim_lost");
    assert_eq!(room.write_under(1, "t2", json!({"claim":"int_a"})), "claim_lost", "not theirs");
    assert_eq!(room.write_under(0, "t1", json!({"claim":7})), "invalid_body");
    assert_eq!(room.write_under(0, "t1", json!({"fencingToken":1})), "invalid_body");
    assert!(claim(&mut room, &b, "int_b", true).unwrap().0);
    assert_eq!(room.write_under(1, "t2", json!({"claim":"int_b"})), "claim_queued");
    // Requests do not prolong it. The line moves on, and on.
    room.rig.pass(30_000);
    assert_eq!(room.write_under(0, "t2", json!({"claim":"int_a"})), "claim_lost");
    assert_eq!(room.write_under(1, "t1", json!({"claim":"int_b"})), "written");
    room.rig.pass(30_000);
    assert_eq!(room.write_under(1, "t1", json!({"claim":"int_b"})), "claim_lost");
    // The same name again is another grant: what was written under the first does not pass for it.
    let (_, again) = claim(&mut room, &a, "int_a", false).unwrap();
    assert!(again["claim"]["fencingToken"].as_u64().unwrap() > token);
    assert_eq!(room.write_under(0, "t1", json!({"claim":"int_a","fencingToken":token})), "claim_lost");
    // Even if the timer is late.
    room.rig.now += 30_000;
    assert_eq!(room.write_under(0, "t2", json!({"claim":"int_a"})), "claim_lost");
    assert_eq!(room.write_under(1, "t1", json!({})), "written");
    // And after a restart, when nobody remembers who held what.
    let (_, held) = claim(&mut room, &a, "int_a", false).unwrap();
    let old = held["claim"]["fencingToken"].as_u64().unwrap();
    room.rig = room.rig.restarted(Some(SCHEMA));
    assert_eq!(room.write_under(0, "t1", json!({"claim":"int_a","fencingToken":old})), "claim_lost");
    let (_, theirs) = claim(&mut room, &b, "int_b", false).unwrap();
    assert!(theirs["claim"]["fencingToken"].as_u64().unwrap() > old);
    assert_eq!(room.write_under(0, "t1", json!({})), "entity_claimed");
    let frame = json!({"type":"commit","payload":{"clientTxId":"s","claim":"int_a","fencingToken":old,
        "operations":[{"type":"UPDATE","model":"task","id":"t2","input":{"n":1}}]}});
    room.people[0].1 = room.rig.live(&a);
    room.send(0, &frame);
    assert_eq!(room.rig.take(room.people[0].1).pop().unwrap()["payload"]["error"]["code"], "claim_lost");
}

#[test]
fn a_line_is_put_in_another_order_by_those_who_may() {
    let mut room = Room::new(&["a", "b", "c", "d"]);
    room.send(0, &begin("ca", "t1", json!({})));
    for (who, id) in [(1, "cb"), (2, "cc"), (3, "cd")] {
        room.send(who, &begin(id, "t1", json!({})));
    }
    let line = |room: &Room| -> Vec<String> {
        let claims = room.claims(0);
        claims["queue"].as_array().unwrap().iter().map(|claim| claim["id"].as_str().unwrap().to_owned()).collect()
    };
    let order =
        |order: Value| json!({"type":"claim_reorder","payload":{"entityType":"task","entityId":"t1","order":order}});
    let weak = Participant { operations: vec!["tasks.update".into()], ..Participant::user("w", "acme") };
    let weak = room.rig.live(&weak);
    room.quiet();
    room.rig.frame(weak, &order(json!([{"heldBy":"d","claimId":"cd"}])));
    room.send(1, &order(json!("mine first")));
    room.send(1, &order(json!([{"heldBy":"b","claimId":"cd"}])));
    assert_eq!((line(&room).join(" "), room.rig.take(room.people[0].1).len()), ("cb cc cd".to_owned(), 0));
    room.send(1, &order(json!([{"heldBy":"d","claimId":"cd"},{"heldBy":"zz","claimId":"no"},{"heldBy":"a","claimId":"ca"},{"heldBy":"c","claimId":"cc"}])));
    assert_eq!(line(&room).join(" "), "cd cc cb");
    assert_eq!(room.rig.take(room.people[0].1)[0]["payload"]["queue"][0]["id"], "cd");
    let body = json!({"order":[{"heldBy":"b","claimId":"cb"}]}).to_string();
    let (now, a) = (room.rig.time(), room.people[0].0.clone());
    room.rig.engine.reorder_row(now, &a, "tasks", "t1", &body).unwrap();
    assert_eq!(line(&room).join(" "), "cb cd cc");
    let narrow = Participant { operations: vec!["tasks.*".into()], ..a };
    assert_eq!(
        room.rig.engine.reorder_row(now, &narrow, "tasks", "t1", &body).unwrap_err().code,
        "capability_scope_denied"
    );
}

#[test]
fn claims_over_http() {
    let mut room = Room::new(&["a", "b"]);
    let (a, b) = (room.people[0].0.clone(), room.people[1].0.clone());
    let now = room.rig.time();
    let body = r#"{"action":"reviewing","ttl":"2m","description":"intro","meta":{"description":"intro"},"queue":true}"#;
    let answer = room.rig.engine.claim_row(now, &a, "tasks", "t1", body).unwrap();
    let claim: Value = serde_json::from_str(&answer.body).unwrap();
    let claim = &claim["claim"];
    assert!(!answer.queued && claim["id"].as_str().unwrap().starts_with("int_"));
    for (member, value) in [
        ("actor", json!("a")),
        ("heldBy", json!("a")),
        ("participantKind", json!("user")),
        ("reason", json!("reviewing")),
        ("description", json!("intro")),
        ("status", json!("active")),
        ("expiresAt", json!(now.wall.0 + 120_000)),
        ("target", json!({"model":"tasks","id":"t1","meta":{"description":"intro"}})),
    ] {
        assert_eq!(claim[member], value, "{member}");
    }
    let read: Value = serde_json::from_str(&room.rig.engine.read_model(now, &b, "task", "t1").unwrap()).unwrap();
    assert_eq!(read["claims"], json!([claim]));
    let waiting = room.rig.engine.claim_row(now, &b, "tasks", "t1", "").unwrap();
    let waiting_body: Value = serde_json::from_str(&waiting.body).unwrap();
    assert!(waiting.queued && waiting_body["status"] == "queued" && waiting_body["position"] == 0);
    let refused = room.rig.engine.claim_row(now, &b, "tasks", "t1", r#"{"queue":false}"#).unwrap_err();
    assert_eq!(refused.code, "entity_claimed");
    for (parameters, held, queued) in [
        (&[][..], 1, 1),
        (&[("model", "Task"), ("id", "t1")], 1, 1),
        (&[("model", "task"), ("id", "t2")], 0, 0),
        (&[("model", "slides")], 0, 0),
        (&[("field", "title")], 1, 1),
    ] {
        let parameters: Vec<(String, String)> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let list: Value = serde_json::from_str(&room.rig.engine.list_claims(now, &b, &parameters).unwrap()).unwrap();
        let count = |name: &str| list[name].as_array().unwrap().len();
        assert_eq!((count("claims"), count("queue")), (held, queued), "{parameters:?}");
    }
    assert_eq!(room.rig.engine.release_row(now, &b, "tasks", "t2").unwrap(), r#"{"ok":true,"released":0}"#);
    assert_eq!(room.rig.engine.release_row(now, &a, "tasks", "t1").unwrap(), r#"{"ok":true,"released":1}"#);
    // The waiting one has been granted; its holder learns by asking.
    let list: Value = serde_json::from_str(&room.rig.engine.list_claims(now, &b, &[]).unwrap()).unwrap();
    assert_eq!((&list["claims"][0]["id"], &list["queue"]), (&waiting_body["claimId"], &json!([])));
    let id = waiting_body["claimId"].as_str().unwrap();
    assert_eq!(room.rig.engine.release_claim(now, &a, id), r#"{"ok":true}"#);
    assert_eq!(room.claims(0)["claims"].as_array().unwrap().len(), 1, "somebody else's");
    room.rig.engine.release_claim(now, &b, id);
    assert_eq!(room.claims(0)["claims"], json!([]));
    for (body, code) in [
        ("[]", "invalid_body"),
        ("{}", "malformed_claim"),
        (r#"{"target":{"model":"tasks"}}"#, "malformed_claim"),
        (r#"{"target":{"model":"ghosts","id":"x"}}"#, "unknown_model"),
        (r#"{"target":{"model":"tasks","id":"t1"},"ttl":"soon"}"#, "malformed_claim"),
        (r#"{"target":{"model":"tasks","id":"t1","range":7}}"#, "malformed_claim"),
        (r#"{"target":{"model":"tasks","id":"t1"},"action":["x"]}"#, "malformed_claim"),
    ] {
        assert_eq!(room.rig.engine.create_claim(now, &a, body).unwrap_err().code, code, "{body}");
    }
}

#[test]
fn claims_have_limits_and_every_refusal_is_answered() {
    let mut room = Room::new(&["a", "b"]);
    room.send(1, &begin("other", "t1", json!({})));
    room.rig.deaf = true;
    for n in 0..CLAIMS_PER_PARTICIPANT_MAX {
        room.send(0, &begin(&format!("c{n}"), &format!("r{n}"), json!({})));
    }
    room.quiet();
    room.send(0, &begin("more", "t2", json!({})));
    let refused = room.rig.take(room.people[0].1).pop().unwrap();
    assert_eq!((&refused["type"], &refused["payload"]["reason"]), (&json!("claim_rejected"), &json!("quota_exceeded")));
    room.send(0, &abandon("c0"));
    room.send(0, &begin("more", "t2", json!({})));
    assert_eq!(room.heard(0), "acquired:more");
    // A key that cannot write keeps nobody else from it, and rows out of sight are nobody's business.
    let view = Participant { key: KeyKind::Publishable, ..Participant::user("v", "acme") };
    for who in [view, only(&["deck:d1"])] {
        let conn = room.rig.live(&who);
        room.rig.frame(conn, &begin("x", "t1", json!({})));
        let refused = room.rig.take(conn).pop().unwrap();
        assert_eq!(refused["payload"]["reason"], "capability_scope_denied", "{refused}");
    }
    for payload in [
        json!({"claimId":"m","queue":true}),
        json!({"claimId":"m","entityType":"task"}),
        json!({"claimId":"m","entityType":"task","entityId":"t1","estimatedMs":"long"}),
        json!({"claimId":"m","entityType":"task","entityId":"t1","range":[]}),
        json!({"claimId":"m","entityType":"task","entityId":"t1","action":"x".repeat(9999)}),
        json!({"claimId":"more","entityType":"task","entityId":"t1"}),
    ] {
        room.send(0, &json!({"type":"claim_begin","payload":payload}));
        let refused = room.rig.take(room.people[0].1).pop().unwrap();
        assert_eq!(refused["payload"]["reason"], "malformed_claim", "{payload:.200}");
    }
    room.send(0, &json!({"type":"claim_begin","payload":{"entityType":"task","entityId":"t1"}}));
    assert!(room.rig.take(room.people[0].1).is_empty(), "there is nobody to answer");
}

#[test]
fn odd_values_in_frames_of_coordination_are_survived() {
    let mut room = Room::new(&["a", "b"]);
    room.rig.deaf = true;
    let frames = [
        (
            "claim_begin",
            json!({"claimId":"c","entityType":"task","entityId":"t1","path":"p","range":{"startLine":1,"endLine":2},
            "field":"f","action":"x","meta":{"description":"d"},"estimatedMs":5,"queue":true}),
        ),
        ("claim_abandon", json!({"claimId":"c","entityType":"task","entityId":"t1"})),
        ("claim_reorder", json!({"entityType":"task","entityId":"t1","order":[{"heldBy":"a","claimId":"c"}]})),
        ("claim", json!({"claimId":"p","syncGroups":["org:acme"],"capabilityToken":"x","ttlSeconds":1})),
        ("release", json!({"claimId":"p"})),
        (
            "presence_update",
            json!({"status":"online","timezone":"x","customStatus":"y","activity":{"entityType":"Task","entityId":"t1","action":"x"}}),
        ),
        ("slide_cursor", json!({"deckId":"d","timestamp":1})),
        ("update_subscription", json!({"syncGroups":["org:acme"]})),
    ];
    let odd = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}"),
        json!(":"),
        json!("x".repeat(100_000)),
        json!([]),
        json!([[[]]]),
        json!({}),
        json!({"description":7,"order":null}),
        json!([{"claimId":1}]),
    ];
    for (kind, base) in &frames {
        let base = base.as_object().unwrap();
        for member in base.keys() {
            for value in &odd {
                let mut payload = base.clone();
                payload.insert(member.clone(), value.clone());
                room.send(0, &json!({"type":kind,"payload":payload}));
            }
            let mut payload = base.clone();
            payload.remove(member);
            room.send(0, &json!({"type":kind,"payload":payload}));
        }
        for value in &odd {
            room.send(0, &json!({"type":kind,"payload":value}));
        }
        room.rig.pass(1000);
    }
    room.quiet();
    // Nothing of it has stayed in the way.
    room.rig.disconnect(room.people[0].1);
    room.rig.pass(2 * CLAIM_TTL_MAX_MS);
    assert_eq!(room.write(1, "t1"), "written");
    assert_eq!(room.rig.engine.soonest_timeout(), None);
}

#[test]
fn a_row_that_is_yet_to_be_is_not_made_by_who_cannot_see_its_claim() {
    let mut rig = Rig::new(Some(SCHEMA));
    let all = rig.live(&Participant::user("a", "acme"));
    let one = rig.live(&only(&["deck:d1"]));
    let payload = json!({"claimId":"c1","entityType":"slide","entityId":"s1","action":"creating","queue":true});
    rig.frame(all, &json!({"type":"claim_begin","payload":payload}));
    let create = json!([{"type":"CREATE","model":"slide","id":"s1","input":{"deckId":"d1"}}]);
    let refused = rig.commit(one, create.clone());
    assert_eq!(refused["error"]["code"], "entity_claimed", "{refused}");
    // Whose claim it is stays unsaid.
    assert!(!refused.to_string().contains("c1"), "{refused}");
    rig.frame(all, &abandon("c1"));
    assert_eq!(rig.commit(one, create)["success"], true);
}
