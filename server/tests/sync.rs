//! The sync socket as 0.15 clients use it: the protocol's transcripts, fan-out, subscriptions, catching up, restarts.

mod support;

use serde_json::{Value, json};
use support::World;

/// Transcript C.1.
#[tokio::test]
async fn c1_start_with_an_ephemeral_key() {
    let world = World::start(&[]).await;
    let mut writer = world.socket("ek_test_b", "cursor=").await;
    for n in 1..=10 {
        writer.write(if n == 1 { "CREATE" } else { "UPDATE" }, "task", "t1", json!({"title":n.to_string()})).await;
    }
    let identity = world.get("/api/auth/identity", "ek_test_a").await;
    assert_eq!(
        identity,
        json!({"participantKind":"user","participantId":"a","accountScope":"acme","syncGroups":["org:acme","user:a"],"userMeta":{}})
    );
    let mut socket = world.socket("ek_test_a", "cursor=&syncGroups=org%3Aacme&syncGroups=user%3Aa").await;
    let told = socket.presence().await;
    assert_eq!((&told["kind"], &told["userId"], &told["isAgent"]), (&json!("enter"), &json!("b"), &json!(false)));
    assert_eq!((&told["syncGroups"], &told["activeClaims"]), (&json!(["org:acme"]), &json!([])));
    socket.send(&json!({"type":"update_subscription","payload":{"syncGroups":["org:acme","user:a"]}})).await;
    socket.send(&json!({"type":"presence_update","payload":{"status":"online","timezone":"Europe/Stockholm"}})).await;
    let ack = socket.expect("subscription_ack").await;
    assert_eq!(ack, json!({"success":true,"syncGroups":["org:acme","user:a"]}));
    let response = socket.sync(0).await;
    assert_eq!(response, json!({"deltas":[],"currentSyncId":10}));
    let path = "/api/sync/bootstrap?syncGroups=org%3Aacme&syncGroups=user%3Aa&models=Task%2CSlideDeck";
    let snapshot = world.get(path, "ek_test_a").await;
    assert_eq!((&snapshot["type"], &snapshot["lastSyncId"]), (&json!("full"), &json!(10)));
    assert_eq!((&snapshot["models"]["Task"][0]["title"], &snapshot["models"]["SlideDeck"]), (&json!("10"), &json!([])));
    assert!(snapshot["models"].get("Slide").is_none());
    socket.send(&json!({"type":"ack","payload":{"lastSyncId":10}})).await;
    socket.quiet().await;
    // Once more, for a client that hears presence only after its snapshot.
    assert_eq!(socket.presence().await["kind"], "enter");
}

/// Transcript C.2.
#[tokio::test]
async fn c2_guarded_write_accepted() {
    let world = World::start(&[]).await;
    let mut socket = world.socket("ek_test_a", "cursor=").await;
    socket.sync(0).await;
    for n in 1..=10 {
        socket.write(if n == 1 { "CREATE" } else { "UPDATE" }, "task", "t1", json!({"title":"A"})).await;
    }
    let text = r#"{"type":"commit","payload":{"operations":[{"type":"UPDATE","model":"task","id":"t1","input":{"title":"B"},"transactionId":"tx_1782900300000_k3j9x0p2q","readAt":10,"onStale":"reject"}],"clientTxId":"0b9d…"}}"#;
    socket.send_text(text).await;
    let delta = socket.expect("delta").await;
    assert_eq!(
        (&delta["id"], &delta["actionType"], &delta["modelName"], &delta["modelId"], &delta["transactionId"]),
        (&json!(11), &json!("U"), &json!("Task"), &json!("t1"), &Value::Null)
    );
    let row: Value = serde_json::from_str(delta["data"].as_str().unwrap()).unwrap();
    assert_eq!((&row["id"], &row["title"], &row["createdBy"]), (&json!("t1"), &json!("B"), &json!("a")));
    assert!(delta["createdAt"].is_string() && delta["syncGroups"][0] == "org:acme");
    let result = socket.expect("mutation_result").await;
    assert_eq!(
        result,
        json!({"object":"commit_receipt","clientTxId":"0b9d…","serverTxId":"11","success":true,"status":"confirmed","lastSyncId":11,"ops":1})
    );
    // Again: the same answer, no second effect.
    socket.send_text(text).await;
    assert_eq!(socket.expect("mutation_result").await, result);
    let body = json!({"clientTxId":"0b9d…","idempotencyKey":"0b9d…","operations":[{"action":"update","model":"Task","id":"t1",
        "data":{"title":"B"},"transactionId":null,"readAt":10,"onStale":"reject"}]});
    assert_eq!(world.post("/api/v1/commits", "ek_test_a", &body).await, result);
    socket.quiet().await;
}

/// Transcript C.6: the key ends, the probe says so, a new key resumes.
#[tokio::test]
async fn c6_expired_key() {
    let world = World::start(&[]).await;
    let mint = json!({"user":{"id":"u1"},"ttlSeconds":1});
    let minted = world.post("/api/auth/ephemeral-keys", "sk_test_root", &mint).await;
    let old = minted["token"].as_str().unwrap().to_owned();
    assert_eq!(world.http("HEAD", "/api/auth/check", &old, "").await.status, 204);
    let mut socket = world.socket(&old, "cursor=").await;
    socket.write("CREATE", "task", "t1", json!({})).await;
    assert_eq!(socket.closed().await, (4010, "apikey_expired".to_owned()));
    let probe = world.http("HEAD", "/api/auth/check", &old, "").await;
    assert_eq!((probe.status, probe.header("x-auth-failure")), (401, "apikey_expired"));
    assert_eq!(world.try_socket(&old, "cursor=").await.err(), Some((401, "apikey_expired".to_owned())));
    let minted = world.post("/api/auth/ephemeral-keys", "sk_test_root", &json!({"user":{"id":"u1"}})).await;
    let new = minted["token"].as_str().unwrap();
    assert_eq!(world.http("HEAD", "/api/auth/check", new, "").await.status, 204);
    assert_eq!(world.get("/api/sync/bootstrap", new).await["lastSyncId"], 1);
    let query = "cursor=&syncGroups=org%3Aacme&syncGroups=user%3Au1&syncGroups=tasks%3At1";
    let mut socket = world.socket(new, query).await;
    socket
        .send(&json!({"type":"update_subscription","payload":{"syncGroups":["org:acme","user:u1","tasks:t1"]}}))
        .await;
    assert_eq!(socket.expect("subscription_ack").await["success"], true);
    socket.send(&json!({"type":"presence_update","payload":{"status":"online","timezone":"Europe/Stockholm"}})).await;
    socket.send(&json!({"type":"ack","payload":{"lastSyncId":1}})).await;
    assert_eq!(socket.sync(1).await, json!({"deltas":[],"currentSyncId":1}));
}

#[tokio::test]
async fn writes_reach_those_who_may_see_them() {
    let world = World::start(&[]).await;
    let mut ada = world.socket("ek_test_a", "cursor=").await;
    let mut bob = world.socket("ek_test_b", "cursor=&syncGroups=org%3Aacme&syncGroups=org%3Aevil").await;
    let mut agent = world.socket("rk_test_deck", "cursor=&kind=agent&syncGroups=deck%3Ad1&syncGroups=org%3Aacme").await;
    let mut eve = world.socket("ek_test_eve", "cursor=").await;
    for socket in [&mut ada, &mut bob, &mut agent, &mut eve] {
        socket.sync(0).await;
    }
    ada.write("CREATE", "slidedeck", "d1", json!({"name":"n"})).await;
    ada.write("CREATE", "task", "t1", json!({})).await;
    let result = ada
        .commit(json!([
            {"type":"CREATE","model":"slide","id":"s1","input":{"deckId":"d1"}},
            {"type":"CREATE","model":"slide","id":"s2","input":{"deckId":"d2"}}
        ]))
        .await;
    assert_eq!((&result["lastSyncId"], &result["ops"]), (&json!(4), &json!(2)));
    let ids = |payload: Value| match payload["deltas"].as_array() {
        Some(list) => list.iter().map(|delta| delta["id"].as_u64().unwrap()).collect::<Vec<_>>(),
        None => vec![payload["id"].as_u64().unwrap()],
    };
    for expected in [vec![1], vec![2], vec![3, 4]] {
        assert_eq!(ids(bob.expect("delta").await), expected);
    }
    for expected in [vec![1], vec![3]] {
        assert_eq!(ids(agent.expect("delta").await), expected);
    }
    // The slide changes decks: one side loses it.
    ada.write("UPDATE", "slide", "s1", json!({"deckId":"d2"})).await;
    assert_eq!(agent.expect("delta").await["actionType"], "D");
    ada.write("UPDATE", "slide", "s2", json!({"deckId":"d1"})).await;
    assert_eq!(agent.expect("delta").await["actionType"], "C");
    agent.quiet().await;
    eve.quiet().await;
    // Keys do what they may and no more.
    for (operation, code) in [
        (json!({"type":"UPDATE","model":"task","id":"t1","input":{}}), "capability_scope_denied"),
        (json!({"type":"UPDATE","model":"slidedeck","id":"d1","input":{}}), "capability_scope_denied"),
        (json!({"type":"CREATE","model":"slide","id":"s3","input":{"deckId":"d2"}}), "capability_scope_denied"),
    ] {
        let refused = agent.commit(json!([operation])).await;
        assert_eq!((&refused["status"], &refused["error"]["code"]), (&json!("rejected"), &json!(code)), "{refused}");
    }
    agent.write("CREATE", "slide", "s4", json!({"deckId":"d1"})).await;
    let view = world.http("POST", "/api/v1/models/tasks", "pk_test_view", r#"{"id":"t9","data":{}}"#).await;
    assert_eq!(view.error(), (403, "capability_scope_denied".to_owned()));
    assert_eq!(view.json()["requiredCapability"]["scope"], "tasks.create");
    assert_eq!(world.get("/api/sync/bootstrap?models=Task", "pk_test_view").await["models"]["Task"][0]["id"], "t1");
}

#[tokio::test]
async fn catching_up_works_across_a_restart() {
    let mut world = World::start(&[]).await;
    let mut ada = world.socket("ek_test_a", "cursor=").await;
    ada.write("CREATE", "task", "t1", json!({"title":"1","big":9_007_199_254_740_993_u64})).await;
    ada.write("CREATE", "task", "t2", json!({})).await;
    let frame = json!({"type":"commit","payload":{"clientTxId":"kept","operations":[{"type":"UPDATE","model":"task","id":"t1","input":{"title":"2"}}]}});
    ada.send(&frame).await;
    let receipt = ada.expect("mutation_result").await;
    ada.write("DELETE", "task", "t2", Value::Null).await;
    let minted = world.post("/api/auth/ephemeral-keys", "sk_test_root", &json!({"user":{"id":"u"}})).await;
    world.stop().await;
    assert_eq!(ada.closed().await.0, 1012);
    world.restart().await;
    let mut ada = world.socket("ek_test_a", "cursor=").await;
    let missed = ada.sync(1).await;
    let told: Vec<String> = missed["deltas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|delta| {
            format!("{}{}:{}", delta["actionType"].as_str().unwrap(), delta["id"], delta["modelId"].as_str().unwrap())
        })
        .collect();
    assert_eq!((told, &missed["currentSyncId"]), (vec!["U3:t1".to_owned(), "D4:t2".to_owned()], &json!(4)));
    ada.send(&frame).await;
    assert_eq!(ada.expect("mutation_result").await, receipt);
    assert_eq!(ada.write("CREATE", "task", "t3", json!({})).await, 5);
    let row = world.http("GET", "/api/sync/entity/Task/t1", minted["token"].as_str().unwrap(), "").await;
    assert!(row.body.contains(r#""big":9007199254740993"#), "{}", row.body);
    assert_eq!(world.http("GET", "/api/sync/entity/Task/t2", "ek_test_a", "").await.error().0, 404);
}

#[tokio::test]
async fn a_slow_reader_is_let_go_and_nobody_else_notices() {
    let world = World::start(&[]).await;
    let mut slow = world.socket("ek_test_b", "cursor=").await;
    slow.sync(0).await;
    let mut ada = world.socket("ek_test_a", "cursor=").await;
    ada.write("CREATE", "task", "t1", json!({})).await;
    ada.write("UPDATE", "task", "t1", json!({"title":"x".repeat(1 << 20)})).await;
    // Each is answered with a megabyte: more than the buffers of both ends and the server's own together can hold.
    for _ in 0..100 {
        slow.send(&json!({"type":"sync_request","payload":{"cursor":null,"lastSyncId":1}})).await;
    }
    // Tasks take turns, so after as many round trips here the server has come to all of them.
    let mut other = world.socket("ek_test_a", "cursor=").await;
    other.sync(2).await;
    for _ in 0..100 {
        other.quiet().await;
    }
    // It comes back to life: it reads what was on its way, then the end.
    let (code, _) = slow.closed().await;
    assert_eq!(code, 1013);
    let mut again = world.socket("ek_test_b", "cursor=").await;
    assert_eq!(again.sync(2).await["currentSyncId"], 2);
}
