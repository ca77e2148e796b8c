//! Coordination over real sockets and requests: the protocol's transcripts C.3 to C.5, presence, and leases that end.

mod support;

use serde_json::{Value, json};
use support::{Socket, World};

fn begin(id: &str, queue: bool) -> Value {
    json!({"type":"claim_begin","payload":{"claimId":id,"entityType":"task","entityId":"t1","action":"editing","queue":queue}})
}

async fn open(world: &World, token: &str) -> Socket {
    let mut socket = world.socket(token, "cursor=").await;
    socket.sync(0).await;
    socket
}

/// What a waiting line says: ids of its claims.
fn line(payload: &Value) -> Vec<&str> {
    let queue = payload["queue"].as_array().expect("a list");
    queue.iter().map(|claim| claim["id"].as_str().expect("an id")).collect()
}

/// Transcript C.3.
#[tokio::test]
async fn c3_two_participants_and_one_row() {
    let world = World::start(&[]).await;
    world.post("/api/v1/models/tasks", "ek_test_a", &json!({"id":"t1","data":{"title":"A"}})).await;
    let (mut a, mut b) = (open(&world, "ek_test_a").await, open(&world, "ek_test_b").await);
    assert_eq!(a.presence().await["kind"], "enter");
    for (socket, user) in [(&mut a, "a"), (&mut b, "b")] {
        let groups = json!(["org:acme", format!("user:{user}"), "tasks:t1"]);
        socket.send(&json!({"type":"update_subscription","payload":{"syncGroups":groups}})).await;
        assert_eq!(socket.expect("subscription_ack").await, json!({"success":true,"syncGroups":groups}));
    }
    a.send(&begin("c-a", true)).await;
    let acquired = a.expect("claim_acquired").await;
    assert_eq!(acquired["target"], json!({"entityType":"task","entityId":"t1"}));
    let seen = loop {
        let seen = b.presence().await;
        if seen["activeClaims"] != json!([]) {
            break seen;
        }
    };
    let claim = &seen["activeClaims"][0];
    assert_eq!(
        (&claim["claimId"], &claim["entityType"], &claim["status"]),
        (&json!("c-a"), &json!("task"), &json!("active"))
    );
    b.send(&begin("c-b", true)).await;
    let queued = b.expect("claim_queued").await;
    assert_eq!(
        (&queued["position"], &queued["heldBy"], &queued["heldByClaimId"]),
        (&json!(0), &json!("a"), &json!("c-a"))
    );
    assert_eq!(line(&a.expect("claim_queue").await), ["c-b"]);
    assert_eq!(line(&b.expect("claim_queue").await), ["c-b"]);
    let write = json!([{"type":"UPDATE","model":"task","id":"t1","input":{"title":"X"}}]);
    let refused = b.commit(write.clone()).await;
    assert_eq!((&refused["status"], &refused["error"]["code"]), (&json!("rejected"), &json!("entity_claimed")));
    assert_eq!(refused["error"]["message"], "task/t1 is claimed by a");
    a.send(&json!({"type":"claim_abandon","payload":{"claimId":"c-a","entityType":"task","entityId":"t1"}})).await;
    let granted = b.expect("claim_granted").await;
    assert_eq!(granted["claimId"], "c-b");
    assert!(granted["fencingToken"].as_u64() > acquired["fencingToken"].as_u64());
    assert_eq!(line(&a.expect("claim_queue").await), Vec::<&str>::new());
    assert_eq!(b.commit(write).await["success"], true);
}

/// Transcript C.4, with a lease over HTTP, whose time can be short: nothing but the clock ends it.
#[tokio::test]
async fn c4_a_lease_that_ends_goes_to_the_next_in_line() {
    let world = World::start(&[]).await;
    world.post("/api/v1/models/tasks", "ek_test_a", &json!({"id":"t1","data":{}})).await;
    let mut a = open(&world, "ek_test_a").await;
    let claim =
        json!({"claimId":"int_1","target":{"model":"tasks","id":"t1"},"action":"editing","ttl":"1s","queue":false});
    let made = world.http("POST", "/api/v1/claims", "ek_test_b", &claim.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let told = a.presence().await;
    assert_eq!(
        (&told["kind"], &told["userId"], &told["activeClaims"][0]["claimId"]),
        (&json!("enter"), &json!("b"), &json!("int_1"))
    );
    a.send(&begin("c-a", true)).await;
    assert_eq!(a.expect("claim_queued").await["heldByClaimId"], "int_1");
    assert_eq!(line(&a.expect("claim_queue").await), ["c-a"]);
    // Who held it without a connection is shown to have left: there is nothing of it any more.
    assert_eq!(a.presence().await["kind"], "leave");
    assert_eq!(a.expect("claim_granted").await["claimId"], "c-a");
    let late = json!({"data":{"title":"late"},"claim":"int_1"}).to_string();
    let refused = world.http("PATCH", "/api/v1/models/tasks/t1", "ek_test_b", &late).await;
    assert_eq!(refused.error(), (409, "entity_claimed".to_owned()));
    a.send(&json!({"type":"claim_abandon","payload":{"claimId":"c-a"}})).await;
    assert_eq!(line(&a.expect("claim_queue").await), Vec::<&str>::new());
    a.quiet().await;
    let refused = world.http("PATCH", "/api/v1/models/tasks/t1", "ek_test_b", &late).await;
    assert_eq!(refused.error(), (409, "claim_lost".to_owned()));
}

/// Transcript C.5.
#[tokio::test]
async fn c5_stale_three_ways() {
    let world = World::start(&[]).await;
    let (mut a, mut b) = (open(&world, "ek_test_a").await, open(&world, "ek_test_b").await);
    let mark = a.write("CREATE", "task", "t1", json!({"title":"A"})).await;
    let newest = a.write("UPDATE", "task", "t1", json!({"title":"B"})).await;
    let stale = |mode: &str| json!([{"type":"UPDATE","model":"task","id":"t1","input":{"title":"C"},"readAt":mark,"onStale":mode}]);
    let refused = b.commit(stale("reject")).await;
    assert_eq!((&refused["success"], &refused["error"]["code"]), (&json!(false), &json!("stale_context")));
    assert_eq!(refused["error"]["message"], format!("task/t1 changed after {mark}"));
    let told = json!({"object":"stale_notification","model":"tasks","id":"t1","readAt":mark,"observedSyncId":newest,
        "conflictingFields":["title"],"currentValues":{"title":"B"},"writtenBy":{"kind":"user","id":"a"}});
    assert_eq!(refused["error"]["conflicts"], json!([told]));
    let held = b.commit(stale("notify")).await;
    assert_eq!(
        (&held["success"], &held["lastSyncId"], &held["notifications"]),
        (&json!(true), &json!(newest), &json!([told]))
    );
    assert_eq!(world.get("/api/v1/models/tasks/t1", "ek_test_b").await["data"]["title"], "B");
    let written = b.commit(stale("overwrite")).await;
    assert_eq!((&written["success"], &written["lastSyncId"]), (&json!(true), &json!(newest + 1)));
    // The same over HTTP, with the status that belongs to it.
    let patch = json!({"data":{"title":"D"},"readAt":mark}).to_string();
    let refused = world.http("PATCH", "/api/v1/models/tasks/t1", "ek_test_a", &patch).await;
    assert_eq!(refused.error(), (409, "stale_context".to_owned()));
    assert_eq!((&refused.json()["readAt"], &refused.json()["type"]), (&json!(mark), &json!("AbloStaleContextError")));
    assert_eq!(refused.json()["conflicts"][0]["currentValues"], json!({"title":"C"}));
}

#[tokio::test]
async fn claims_have_addresses() {
    let world = World::start(&[]).await;
    let (a, b) = ("ek_test_a", "ek_test_b");
    world.post("/api/v1/models/tasks", a, &json!({"id":"t 1","data":{}})).await;
    let path = "/api/v1/models/tasks/t%201/claim";
    let made = world.http("POST", path, a, r#"{"action":"editing","ttl":120,"queue":true}"#).await;
    assert_eq!((made.status, &made.json()["claim"]["target"]["id"]), (201, &json!("t 1")), "{}", made.body);
    let read = world.get("/api/v1/models/tasks/t%201", b).await;
    assert_eq!((&read["claims"][0]["actor"], &read["claims"][0]["status"]), (&json!("a"), &json!("active")));
    let refused = world.http("POST", path, b, r#"{"queue":false}"#).await;
    assert_eq!(refused.error(), (409, "entity_claimed".to_owned()));
    assert_eq!(
        (&refused.json()["type"], &refused.json()["claims"][0]["action"]),
        (&json!("AbloClaimedError"), &json!("editing"))
    );
    let queued = world.http("POST", path, b, "").await;
    assert_eq!(
        (queued.status, &queued.json()["status"], &queued.json()["position"]),
        (202, &json!("queued"), &json!(0))
    );
    let id = queued.json()["claimId"].as_str().unwrap().to_owned();
    let order = json!({"order":[{"heldBy":"b","claimId":id}]});
    world.post(&format!("{path}/reorder"), a, &order).await;
    let narrow = world.http("POST", &format!("{path}/reorder"), "rk_test_deck", &order.to_string()).await;
    assert_eq!(narrow.error(), (403, "capability_scope_denied".to_owned()));
    let list = world.get("/api/v1/claims?model=tasks&id=t%201", b).await;
    assert_eq!((list["claims"].as_array().unwrap().len(), &list["queue"][0]["id"]), (1, &json!(id)));
    assert_eq!(world.http("DELETE", path, a, "").await.json(), json!({"ok":true,"released":1}));
    assert_eq!(world.get("/api/v1/claims", a).await["claims"][0]["id"], json!(id));
    assert_eq!(world.http("DELETE", &format!("/api/v1/claims/{id}"), b, "").await.json(), json!({"ok":true}));
    assert_eq!(world.get("/api/v1/claims", a).await, json!({"claims":[],"queue":[]}));
    for (method, path, body, status, code) in [
        ("PATCH", "/api/v1/claims", "", 405, "invalid_request"),
        ("GET", "/api/v1/claims/x", "", 405, "invalid_request"),
        ("GET", path, "", 405, "invalid_request"),
        ("POST", "/api/v1/claims", "{}", 400, "malformed_claim"),
        ("POST", "/api/v1/models/ghosts/x/claim", "{}", 400, "unknown_model"),
        ("GET", "/api/v1/claims?model=ghosts", "", 400, "unknown_model"),
    ] {
        let reply = world.http(method, path, a, body).await;
        assert_eq!(reply.error(), (status, code.to_owned()), "{method} {path}");
    }
    assert_eq!(
        world.http("POST", path, "pk_test_view", "{}").await.error(),
        (403, "capability_scope_denied".to_owned())
    );
}

#[tokio::test]
async fn fences_outlive_a_restart_and_claims_do_not() {
    let mut world = World::start(&[]).await;
    world.post("/api/v1/models/tasks", "ek_test_a", &json!({"id":"t1","data":{}})).await;
    let claim = json!({"claimId":"int_1","target":{"model":"tasks","id":"t1"}}).to_string();
    let fence = |reply: support::Reply| reply.json()["claim"]["fencingToken"].as_u64().unwrap();
    let before = fence(world.http("POST", "/api/v1/claims", "ek_test_a", &claim).await);
    world.restart().await;
    let stale = json!({"data":{"title":"x"},"claim":"int_1","fencingToken":before}).to_string();
    let refused = world.http("PATCH", "/api/v1/models/tasks/t1", "ek_test_a", &stale).await;
    assert_eq!(refused.error(), (409, "claim_lost".to_owned()));
    let after = fence(world.http("POST", "/api/v1/claims", "ek_test_a", &claim).await);
    assert!(after > before);
    let refused = world.http("PATCH", "/api/v1/models/tasks/t1", "ek_test_a", &stale).await;
    assert_eq!(refused.error(), (409, "claim_lost".to_owned()));
    let good = json!({"data":{"title":"x"},"claim":"int_1","fencingToken":after}).to_string();
    assert_eq!(world.http("PATCH", "/api/v1/models/tasks/t1", "ek_test_a", &good).await.status, 200);
}

#[tokio::test]
async fn groups_are_joined_until_their_time_is_up() {
    let world = World::start(&[]).await;
    let mut a = open(&world, "ek_test_a").await;
    a.send(&json!({"type":"claim","payload":{"claimId":"participant:1","syncGroups":["org:acme"],"ttlSeconds":1}}))
        .await;
    let ack = a.expect("claim_ack").await;
    assert_eq!(ack, json!({"claimId":"participant:1","success":true,"syncGroups":["org:acme"],"ttlSeconds":1}));
    assert_eq!(a.expect("claim_expired").await, json!({"claimId":"participant:1"}));
}
