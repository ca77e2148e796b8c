//! Who is there: what each connection is told of the others (protocol.md section 12, and 7.1, 7.5, 7.6, 7.12).

use super::*;

/// Frames of presence as `kind:who(status)`.
fn brief(frames: &[Value]) -> String {
    let one = |frame: &Value| format!("{}:{} ", frame["kind"].as_str().unwrap(), frame["userId"].as_str().unwrap());
    frames.iter().map(one).collect::<String>().trim().to_owned()
}

fn say(payload: Value) -> Value {
    json!({"type":"presence_update","payload":payload})
}

#[test]
fn people_come_change_and_go() {
    let mut rig = Rig::new(Some(SCHEMA));
    let (ada, bob) = (Participant::user("ada", "acme"), Participant::user("bob", "acme"));
    let agent = Participant { kind: ParticipantKind::Agent, ..Participant::user("agent:w", "acme") };
    let eve = rig.live(&Participant::user("eve", "evil"));
    let a = rig.live(&ada);
    assert_eq!(brief(&rig.told(a)), "");
    let b = rig.live(&bob);
    let w = rig.live(&agent);
    assert_eq!(brief(&rig.told(a)), "enter:bob enter:agent:w");
    assert_eq!(brief(&rig.told(b)), "enter:ada enter:agent:w");
    let roster = rig.told(w);
    assert_eq!(brief(&roster), "enter:ada enter:bob");
    assert_eq!(
        roster[0],
        json!({"kind":"enter","userId":"ada","participantKind":"user","isAgent":false,"status":"online",
            "syncGroups":["org:acme"],"activeClaims":[],"timestamp":rig.time().wall.0})
    );
    // What a frame leaves out keeps its value, and the whole is told each time. The sender decides nothing about who it is.
    let activity = json!({"entityType":"Task","entityId":"t1","action":"editing"});
    rig.frame(
        w,
        &say(json!({"status":"online","timezone":"Europe/Stockholm","participantKind":"user","userId":"ada"})),
    );
    rig.frame(w, &say(json!({"status":"away","activity":activity})));
    rig.frame(w, &say(json!({"status":"nonsense","customStatus":"busy","activity":"none"})));
    let told = rig.told(a);
    assert_eq!(brief(&told), "update:agent:w update:agent:w update:agent:w");
    assert_eq!((&told[0]["timezone"], &told[0]["activity"]), (&json!("Europe/Stockholm"), &Value::Null));
    let last = &told[2];
    assert_eq!(
        (&last["status"], &last["timezone"], &last["customStatus"]),
        (&json!("away"), &json!("Europe/Stockholm"), &json!("busy"))
    );
    assert_eq!(
        (&last["activity"], &last["isAgent"], &last["participantKind"]),
        (&activity, &json!(true), &json!("agent"))
    );
    // Two connections are one participant, who hears nothing of itself.
    let a2 = rig.live(&ada);
    assert_eq!(brief(&rig.told(b)), "update:agent:w update:agent:w update:agent:w update:ada");
    rig.told(a2);
    rig.frame(a2, &say(json!({"status":"away"})));
    assert_eq!((rig.told(a), rig.told(b)[0]["status"].take()), (Vec::new(), json!("away")));
    rig.disconnect(a2);
    assert_eq!(rig.told(b)[0]["status"], "online", "what the other connection has said");
    rig.disconnect(a);
    assert_eq!(brief(&rig.told(b)), "leave:ada");
    // Whoever opens a connection hears who is there, and who left a short while ago.
    let b2 = rig.live(&bob);
    assert_eq!(brief(&rig.told(b2)), "enter:agent:w leave:ada");
    rig.pass(600_000);
    let b3 = rig.live(&bob);
    assert_eq!(brief(&rig.told(b3)), "enter:agent:w");
    assert!(rig.told(eve).is_empty());
}

#[test]
fn groups_decide_who_is_told_and_what() {
    let mut rig = Rig::new(Some(SCHEMA));
    let all = rig.live(&Participant::user("all", "acme"));
    rig.write(all, "CREATE", "decks", "d1", json!({"name":"n"}));
    rig.write(all, "CREATE", "tasks", "t1", json!({}));
    let narrow = |id: &str| Participant { id: id.into(), ..only(&["deck:d1"]) };
    let (one, two) = (rig.live(&narrow("one")), rig.live(&narrow("two")));
    let other = rig.live(&only(&["deck:d2"]));
    assert_eq!(brief(&rig.told(one)), "enter:two");
    assert!(rig.told(other).is_empty() && rig.told(all).is_empty());
    // A claim is shown to those who see its row, and so is its holder.
    rig.frame(
        all,
        &json!({"type":"claim_begin","payload":{"claimId":"c1","entityType":"slidedeck","entityId":"d1","queue":true}}),
    );
    rig.frame(
        all,
        &json!({"type":"claim_begin","payload":{"claimId":"c2","entityType":"task","entityId":"t1","queue":true}}),
    );
    let told = rig.told(one);
    assert_eq!(brief(&told), "enter:all update:all");
    let claims = told[1]["activeClaims"].as_array().unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!(
        (&claims[0]["claimId"], &claims[0]["entityType"], &claims[0]["status"]),
        (&json!("c1"), &json!("slidedeck"), &json!("active"))
    );
    assert!(rig.told(other).is_empty());
    // An activity on a row that the receiver cannot see is not told.
    rig.frame(
        all,
        &say(json!({"status":"online","activity":{"entityType":"Task","entityId":"t1","action":"editing"}})),
    );
    assert_eq!(rig.told(one)[0]["activity"], Value::Null);
    rig.frame(
        all,
        &say(json!({"status":"online","activity":{"entityType":"SlideDeck","entityId":"d1","action":"editing"}})),
    );
    assert_eq!(rig.told(one)[0]["activity"]["entityId"], "d1");
    // With the claim goes all that they shared.
    rig.frame(all, &json!({"type":"claim_abandon","payload":{"claimId":"c1"}}));
    assert_eq!(brief(&rig.told(one)), "leave:all");
    // A scope is entered: both sides learn of each other, and of the lines there.
    rig.frame(
        two,
        &json!({"type":"claim_begin","payload":{"claimId":"c3","entityType":"decks","entityId":"d1","queue":true}}),
    );
    rig.frame(
        one,
        &json!({"type":"claim_begin","payload":{"claimId":"c4","entityType":"decks","entityId":"d1","queue":true}}),
    );
    rig.frame(all, &json!({"type":"update_subscription","payload":{"syncGroups":[]}}));
    rig.take(all);
    rig.told(all);
    rig.told(one);
    rig.frame(all, &json!({"type":"update_subscription","payload":{"syncGroups":["deck:d1"]}}));
    let mail = rig.take(all);
    assert_eq!(mail[0]["payload"], json!({"success":true,"syncGroups":["deck:d1"]}));
    assert_eq!((&mail[1]["type"], &mail[1]["payload"]["queue"][0]["id"]), (&json!("claim_queue"), &json!("c4")));
    let told = rig.told(all);
    assert_eq!(
        (brief(&told), &told[1]["activeClaims"][0]["claimId"]),
        ("enter:one enter:two".to_owned(), &json!("c3"))
    );
    assert_eq!(brief(&rig.told(one)), "enter:all");
    rig.frame(all, &json!({"type":"update_subscription","payload":{"syncGroups":[]}}));
    assert_eq!(
        (brief(&rig.told(all)), brief(&rig.told(one))),
        ("leave:one leave:two".to_owned(), "leave:all".to_owned())
    );
}

#[test]
fn a_snapshot_is_followed_by_the_roster_once_more() {
    let mut rig = Rig::new(None);
    let (ada, bob) = (Participant::user("ada", "acme"), Participant::user("bob", "acme"));
    let (a, _) = (rig.live(&ada), rig.live(&bob));
    rig.told(a);
    rig.engine.bootstrap(rig.time(), &ada, BootstrapRequest::default());
    rig.pump();
    rig.pass(1000);
    assert!(rig.told(a).is_empty());
    rig.pass(2000);
    assert_eq!(brief(&rig.told(a)), "enter:bob");
    rig.pass(60_000);
    assert!(rig.told(a).is_empty());
}

#[test]
fn who_holds_something_over_http_is_there_for_that_long() {
    let mut rig = Rig::new(None);
    let a = rig.live(&Participant::user("ada", "acme"));
    let worker = Participant { kind: ParticipantKind::Agent, ..Participant::user("agent:w", "acme") };
    rig.write(a, "CREATE", "task", "t1", json!({}));
    rig.engine.claim_row(rig.time(), &worker, "task", "t1", r#"{"ttl":5}"#).unwrap();
    rig.pump();
    let told = rig.told(a);
    assert_eq!((brief(&told), &told[0]["activeClaims"][0]["entityId"]), ("enter:agent:w".to_owned(), &json!("t1")));
    let late = rig.live(&Participant::user("bob", "acme"));
    assert_eq!(brief(&rig.told(late)), "enter:agent:w enter:ada");
    rig.pass(5000);
    assert_eq!(brief(&rig.told(late)), "leave:agent:w");
    // A holder whose connection goes has left, though the lease lives on.
    let bob = rig.live(&Participant::user("carl", "acme"));
    rig.frame(
        bob,
        &json!({"type":"claim_begin","payload":{"claimId":"c","entityType":"task","entityId":"t1","queue":true}}),
    );
    rig.disconnect(bob);
    assert!(brief(&rig.told(late)).ends_with("leave:carl"));
    let refused = rig.commit(a, json!([{"type":"UPDATE","model":"task","id":"t1","input":{}}]));
    assert_eq!(refused["error"]["code"], "entity_claimed");
    rig.pass(CLAIM_RENEWAL_MS);
    assert!(rig.told(late).is_empty());
}

#[test]
fn groups_are_joined_for_a_while() {
    let mut rig = Rig::new(Some(SCHEMA));
    let ada = Participant::user("ada", "acme");
    let a = rig.live(&ada);
    rig.write(a, "CREATE", "decks", "d1", json!({"name":"n"}));
    rig.write(a, "CREATE", "decks", "d2", json!({"name":"n"}));
    let two = Participant {
        sync_groups: ["deck:d1".to_owned(), "deck:d2".to_owned()].into(),
        ..Participant::user("two", "acme")
    };
    let conn = rig.engine.connect(rig.time(), &two, Some(vec!["deck:d1".to_owned()]));
    rig.sync(conn, 0);
    rig.take(conn);
    let join = |id: &str, groups: Value, more: Value| {
        let mut payload = json!({"claimId":id,"syncGroups":groups});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"type":"claim","payload":payload})
    };
    rig.frame(conn, &join("p1", json!(["deck:d2"]), json!({"ttlSeconds":120})));
    assert_eq!(
        rig.take(conn)[0]["payload"],
        json!({"claimId":"p1","success":true,"syncGroups":["deck:d2"],"ttlSeconds":120})
    );
    rig.frame(conn, &join("p2", json!(["deck:d2"]), json!({})));
    assert_eq!(rig.take(conn)[0]["payload"], json!({"claimId":"p2","success":true,"syncGroups":["deck:d2"]}));
    rig.write(a, "UPDATE", "decks", "d2", json!({"name":"1"}));
    assert_eq!(rig.letters(conn), "U:d2");
    // A new subscription leaves them joined.
    rig.frame(conn, &json!({"type":"update_subscription","payload":{"syncGroups":[]}}));
    rig.take(conn);
    rig.pass(120_000);
    assert_eq!(rig.take(conn)[0], json!({"type":"claim_expired","payload":{"claimId":"p1"}}));
    rig.write(a, "UPDATE", "decks", "d2", json!({"name":"2"}));
    assert_eq!(rig.letters(conn), "U:d2", "by the other one");
    rig.frame(conn, &json!({"type":"release","payload":{"claimId":"p2"}}));
    rig.frame(conn, &json!({"type":"release","payload":{"claimId":"unknown"}}));
    rig.write(a, "UPDATE", "decks", "d2", json!({"name":"3"}));
    assert_eq!(rig.letters(conn), "");
    for (groups, more, code) in [
        (json!(["org:acme"]), json!({}), "capability_scope_denied"),
        (json!(["deck:d1", "user:ada"]), json!({}), "capability_scope_denied"),
        (json!("deck:d1"), json!({}), "malformed_subscription"),
        (json!(["deck:d1"]), json!({"capabilityToken":"rk_unknown"}), "apikey_invalid"),
    ] {
        rig.frame(conn, &join("p3", groups, more));
        let ack = rig.take(conn).remove(0);
        assert_eq!((&ack["payload"]["success"], &ack["payload"]["error"]["code"]), (&json!(false), &json!(code)));
    }
    rig.frame(conn, &join("p3", json!(["org:acme"]), json!({})));
    let capability = rig.take(conn)[0]["payload"]["error"]["requiredCapability"].take();
    assert_eq!(capability, json!({"scope":"subscribe","constraints":{"syncGroup":["org:acme"]}}));
    for n in 0..JOINS_MAX {
        rig.frame(conn, &join(&format!("j{n}"), json!(["deck:d1"]), json!({})));
    }
    rig.take(conn);
    rig.frame(conn, &join("one more", json!(["deck:d1"]), json!({})));
    assert_eq!(rig.take(conn)[0]["payload"]["error"]["code"], "quota_exceeded");
}

#[test]
fn events_reach_those_who_share_a_group() {
    let schema = Some(Schema::parse_all(SCHEMA).unwrap());
    let mut rig = Rig::with(Config { schema, events: vec!["board_cursor".to_owned()], ..Config::default() });
    let ada = Participant::user("ada", "acme");
    let (a, a2) = (rig.live(&ada), rig.live(&ada));
    let b = rig.live(&Participant::user("bob", "acme"));
    let (apart, eve) = (rig.live(&only(&["deck:d1"])), rig.live(&Participant::user("eve", "evil")));
    rig.frame(a, &json!({"type":"slide_cursor","payload":{"deckId":"d1","slideId":"s1","x":1.5,"y":2,"timestamp":7,"userId":"bob"}}));
    let event = json!({"type":"slide_cursor","payload":{"deckId":"d1","slideId":"s1","x":1.5,"y":2,"timestamp":7,"userId":"ada"}});
    assert_eq!((rig.take(b), rig.take(a2)), (vec![event.clone()], vec![event]));
    assert!(rig.take(a).is_empty() && rig.take(apart).is_empty() && rig.take(eve).is_empty());
    rig.frame(a, &json!({"type":"board_cursor","payload":{"x":1}}));
    assert_eq!(rig.take(b), [json!({"type":"board_cursor","payload":{"x":1,"userId":"ada"}})]);
    rig.take(a2);
    // Nobody speaks as the server.
    for kind in ["delta", "claim_lost", "claim_granted", "sync_response", "mutation_result", "presence", "ping "] {
        rig.frame(a, &json!({"type":kind,"payload":{"claimId":"c","reason":"expired"}}));
    }
    rig.frame(a, &json!({"type":"slide_cursor","payload":{"deckId":"x".repeat(1 << 20)}}));
    assert!(rig.take(b).is_empty());
}

/// Somebody who sees a deck only, and the holder of one of its slides.
fn apart() -> (Rig, ConnectionId, ConnectionId, Participant) {
    let mut rig = Rig::new(Some(SCHEMA));
    let a = rig.live(&Participant::user("ada", "acme"));
    rig.write(a, "CREATE", "slide", "s1", json!({"deckId":"d1"}));
    let who = only(&["deck:d1"]);
    let one = rig.live(&who);
    let payload = json!({"claimId":"c1","entityType":"slide","entityId":"s1","action":"editing","queue":true});
    rig.told(one);
    rig.frame(a, &json!({"type":"claim_begin","payload":payload}));
    let told = rig.told(one);
    assert_eq!((&told[0]["kind"], &told[0]["activeClaims"][0]["claimId"]), (&json!("enter"), &json!("c1")));
    (rig, a, one, who)
}

#[test]
fn who_was_seen_by_a_claim_leaves_when_it_expires() {
    let (mut rig, a, one, _) = apart();
    rig.frame(one, &json!({"type":"ping"}));
    rig.pass(CLAIM_TTL_MS.max(CLAIM_RENEWAL_MS));
    assert_eq!(rig.told(one).last().map(|told| told["kind"].clone()), Some(json!("leave")));
    rig.frame(a, &json!({"type":"presence_update","payload":{"status":"away"}}));
    assert!(rig.told(one).is_empty());
}

#[test]
fn who_is_out_of_sight_is_not_kept_when_all_are_told_again() {
    let (mut rig, a, one, who) = apart();
    rig.write(a, "UPDATE", "slide", "s1", json!({"deckId":null}));
    assert!(rig.told(one).is_empty());
    rig.engine.bootstrap(rig.time(), &who, BootstrapRequest::default());
    rig.pass(3000);
    assert_eq!(rig.told(one).last().map(|told| told["kind"].clone()), Some(json!("leave")));
}
