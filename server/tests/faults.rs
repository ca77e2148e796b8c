//! `--faults`, `--key-ttl` and `--max-connections`: what tests of clients build on.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{PATIENCE, Reply, World};

const PROBE: &str = "/api/auth/check";

async fn set(world: &World, switches: Value) -> Value {
    world.post("/faults", "", &switches).await
}

/// Status and `X-Auth-Failure` of a probe.
async fn probe(world: &World, token: &str) -> (u16, String) {
    let reply = world.http("HEAD", PROBE, token, "").await;
    (reply.status, reply.header("x-auth-failure").to_owned())
}

/// Mints a key; `null` leaves its life to the server.
async fn mint(world: &World, ttl_s: Value) -> Value {
    world.post("/api/auth/ephemeral-keys", "sk_test_root", &json!({"user":{"id":"u1"},"ttlSeconds":ttl_s})).await
}

/// Asks until the report is as wanted.
async fn until(world: &World, wanted: impl Fn(&Value) -> bool) {
    let asking = async {
        while !wanted(&world.get("/faults", "").await) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("the report becomes as wanted");
}

fn ok() -> (u16, String) {
    (204, String::new())
}

#[tokio::test]
async fn without_the_option_there_is_nothing() {
    let world = World::start(&[]).await;
    for (method, body) in [("GET", ""), ("POST", r#"{"reset":true}"#)] {
        let reply = world.http(method, "/faults", "sk_test_root", body).await;
        assert_eq!(reply.error(), (404, "entity_not_found".to_owned()));
    }
}

#[tokio::test]
async fn bad_switches_are_refused_whole_and_tokens_are_not_repeated() {
    let world = World::start(&["--faults"]).await;
    let refused = async |body: &str| -> Reply { world.http("POST", "/faults", "", body).await };
    assert_eq!(refused("{").await.error(), (400, "invalid_json".to_owned()));
    let reply = refused(r#"{"rules":[{"path":"/api","status":500}],"halfopen":true}"#).await;
    assert_eq!(reply.error(), (400, "invalid_body".to_owned()));
    assert_eq!(reply.json()["param"], "halfopen");
    assert!(reply.body.contains("halfOpen, expire, revoke"), "{}", reply.body);
    for (body, param) in [
        (json!({"expire":"ek_test_stranger"}), "expire"),
        (json!({"restore":"ek_test_stranger"}), "restore"),
        (json!({"close":{"code":4010,"token":"ek_test_stranger"}}), "close.token"),
        (json!({"revoke":{"ek_test_stranger":1}}), "revoke"),
        (json!({"revoke":"ek_test_a","endLogin":"ek_test_stranger"}), "endLogin"),
    ] {
        let reply = refused(&body.to_string()).await;
        assert_eq!((reply.error(), &reply.json()["param"]), ((400, "invalid_body".to_owned()), &json!(param)));
        assert!(!reply.body.contains("stranger"), "{}", reply.body);
    }
    assert_eq!(world.http("DELETE", "/faults", "", "").await.error().0, 405);
    // Nothing of it has happened.
    assert_eq!(probe(&world, "ek_test_a").await, ok());
}

#[tokio::test]
async fn rules_answer_for_the_server() {
    let world = World::start(&["--faults"]).await;
    let portal = json!({"path":"/api","status":200,"headers":{"content-type":"text/html"},"body":"<html>login</html>"});
    set(&world, json!({"rules":[portal]})).await;
    let reply = world.http("GET", "/api/sync/bootstrap", "ek_test_a", "").await;
    assert_eq!(
        (reply.status, reply.header("content-type"), reply.body.as_str()),
        (200, "text/html", "<html>login</html>")
    );
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    assert!(reply.header("access-control-expose-headers").contains("X-Auth-Failure"));
    assert_eq!(world.http("HEAD", PROBE, "", "").await.status, 200);
    let preflight = world.http("OPTIONS", PROBE, "", "").await;
    assert_eq!((preflight.status, preflight.header("content-type")), (204, ""));
    assert_eq!(world.try_socket("ek_test_a", "cursor=").await.err(), Some((200, String::new())));

    let upgrade = json!({"path":"/api/sync/ws","times":1,"status":503,"headers":{"x-auth-failure":"oops"}});
    let late = json!({"path":PROBE,"method":"HEAD","delayMs":1});
    let empty = json!({"path":"/other","status":204,"body":"which may have none"});
    set(&world, json!({"rules":[upgrade, late, empty]})).await;
    let reply = world.http("GET", "/other/page", "", "").await;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    assert_eq!(world.try_socket("ek_test_a", "cursor=").await.err(), Some((503, "oops".to_owned())));
    world.socket("ek_test_a", "cursor=").await.quiet().await;
    assert_eq!(probe(&world, "ek_test_a").await, ok());

    let report = world.get("/faults", "").await;
    let requests =
        json!({"GET /api/sync/bootstrap":1,"GET /api/sync/ws":3,"HEAD /api/auth/check":2,"OPTIONS /api/auth/check":1});
    assert_eq!(report["requests"], requests);
    let answer = set(&world, json!({"reset":true})).await;
    assert_eq!(answer["requests"], json!({}));
    assert_eq!(world.http("GET", "/api/sync/bootstrap", "", "").await.status, 401);
}

#[tokio::test]
async fn a_cut_connection_has_no_answer() {
    let world = World::start(&["--faults"]).await;
    set(&world, json!({"rules":[{"path":PROBE,"times":1,"drop":true},{"path":"/api/v1","drop":true}]})).await;
    let reply = world.http("HEAD", PROBE, "ek_test_a", "").await;
    assert_eq!((reply.status, reply.headers.len()), (0, 0));
    assert_eq!(probe(&world, "ek_test_a").await, ok());
    let operations = json!([{"action":"create","model":"tasks","id":"t1","data":{}}]);
    let commit = json!({"clientTxId":"k1","operations":operations}).to_string();
    assert_eq!(world.http("POST", "/api/v1/commits", "ek_test_a", &commit).await.status, 0);
    assert_eq!(world.get("/api/sync/bootstrap", "ek_test_a").await["lastSyncId"], 0);
}

#[tokio::test]
async fn a_stalled_request_waits_for_other_rules() {
    let mut world = World::start(&["--faults"]).await;
    set(&world, json!({"rules":[{"path":"/api/auth","stall":true}]})).await;
    let (status, ()) = tokio::join!(probe(&world, "ek_test_a"), async {
        until(&world, |report| report["requests"]["HEAD /api/auth/check"] == 1).await;
        // Everything else is served meanwhile.
        world.socket("ek_test_a", "cursor=").await.quiet().await;
        set(&world, json!({"rules":[]})).await;
    });
    assert_eq!(status, ok());
    // A server that is told to stop lets go as well.
    set(&world, json!({"rules":[{"path":"/api/auth","stall":true}]})).await;
    let stalled = world.begin("HEAD", PROBE, "ek_test_a").await;
    until(&world, |report| report["requests"]["HEAD /api/auth/check"] == 2).await;
    world.stop().await;
    assert_eq!(stalled.finish().await.status, 204);
}

#[tokio::test]
async fn sockets_are_closed_as_asked() {
    let world = World::start(&["--faults"]).await;
    let mut a = world.socket("ek_test_a", "cursor=").await;
    let mut b = world.socket("ek_test_b", "cursor=").await;
    until(&world, |report| report["sockets"] == 2).await;
    let report = set(&world, json!({"close":{"code":4999,"reason":"as asked","token":"ek_test_a"}})).await;
    assert_eq!(report["sockets"], 1);
    assert_eq!(a.closed().await, (4999, "as asked".to_owned()));
    b.quiet().await;
    set(&world, json!({"close":{"code":1013}})).await;
    assert_eq!(b.closed().await, (1013, String::new()));
}

/// RFC 6455, 7.1.1. A browser tells its page of a close when the connection ends.
#[tokio::test]
async fn a_connection_ends_when_its_close_is_answered() {
    // Half of what the server waits for an answer.
    const SOON: Duration = Duration::from_millis(2_500);
    let world = World::start(&["--faults"]).await;
    let mut socket = world.socket("ek_test_a", "cursor=").await;
    until(&world, |report| report["sockets"] == 1).await;
    set(&world, json!({"close":{"code":1013}})).await;
    assert_eq!(socket.closed().await.0, 1013);
    let ended = tokio::time::timeout(SOON, socket.vanished()).await;
    assert!(ended.expect("the server ends the connection"), "nothing comes after a close");
}

#[tokio::test]
async fn half_open_sockets_are_neither_heard_nor_closed() {
    let world = World::start(&["--faults"]).await;
    let mut dead = world.socket("ek_test_a", "cursor=").await;
    dead.sync(0).await;
    assert_eq!(set(&world, json!({"halfOpen":true})).await["sockets"], 0);
    dead.send(&json!({"type":"ping"})).await;
    dead.send(&json!({"type":"commit","payload":{"clientTxId":"k","operations":[
        {"type":"CREATE","model":"task","id":"lost","input":{}}]}}))
        .await;
    let mut alive = world.socket("ek_test_a", "cursor=").await;
    alive.sync(0).await;
    assert_eq!(alive.write("CREATE", "task", "t1", json!({})).await, 1);
    // The dead one was not asked, told or closed: it ends without a word once it is let go.
    set(&world, json!({"reset":true})).await;
    assert!(dead.vanished().await);
    alive.quiet().await;
    assert_eq!(alive.sync(1).await["currentSyncId"], 1);
}

#[tokio::test]
async fn ended_keys_are_refused_everywhere_until_restored() {
    let world = World::start(&["--faults"]).await;
    for (switch, code, close) in
        [("expire", "apikey_expired", 4010), ("revoke", "apikey_revoked", 4011), ("endLogin", "session_expired", 4001)]
    {
        let mut socket = world.socket("ek_test_a", "cursor=").await;
        let mut other = world.socket("ek_test_b", "cursor=").await;
        socket.quiet().await;
        set(&world, json!({switch:"ek_test_a"})).await;
        assert_eq!(socket.closed().await, (close, code.to_owned()));
        other.quiet().await;
        assert_eq!(probe(&world, "ek_test_a").await, (401, code.to_owned()));
        assert_eq!(world.try_socket("ek_test_a", "cursor=").await.err(), Some((401, code.to_owned())));
        for path in ["/api/auth/identity", "/api/sync/bootstrap"] {
            let reply = world.http("GET", path, "ek_test_a", "").await;
            assert_eq!(reply.error(), (401, code.to_owned()));
            assert!(!reply.body.contains("ek_test_a"));
        }
        set(&world, json!({"restore":"ek_test_a"})).await;
        assert_eq!(probe(&world, "ek_test_a").await, ok());
    }
    set(&world, json!({"revoke":"ek_test_a"})).await;
    set(&world, json!({"reset":true})).await;
    assert_eq!(probe(&world, "ek_test_a").await, ok());
}

#[tokio::test]
async fn an_hour_passes_at_once() {
    let world = World::start(&["--faults"]).await;
    let minted = mint(&world, json!(3600)).await;
    let token = minted["token"].as_str().unwrap();
    let mut socket = world.socket(token, "cursor=").await;
    let mut lasting = world.socket("ek_test_a", "cursor=").await;
    socket.quiet().await;
    set(&world, json!({"clockAheadMs":1_800_000})).await;
    socket.quiet().await;
    assert_eq!(probe(&world, token).await, ok());
    set(&world, json!({"clockAheadMs":3_600_000})).await;
    // Closed at that moment: nothing was sent that could have shown it.
    assert_eq!(socket.closed().await, (4010, "apikey_expired".to_owned()));
    assert_eq!(probe(&world, token).await, (401, "apikey_expired".to_owned()));
    lasting.quiet().await;
    // A key of that hour's end is good.
    let next = mint(&world, Value::Null).await;
    let next = next["token"].as_str().unwrap();
    assert_eq!(probe(&world, next).await, ok());
    world.socket(next, "cursor=").await.quiet().await;
}

#[tokio::test]
async fn keys_live_as_long_as_the_option_says_unless_the_request_says_otherwise() {
    let world = World::start(&["--faults", "--key-ttl", "10m"]).await;
    let short = mint(&world, Value::Null).await;
    let long = mint(&world, json!(1200)).await;
    let agent = json!({"participantKind":"agent","participantId":"agent:r"});
    let agent = world.post("/api/auth/capability", "sk_test_root", &agent).await;
    let statuses = async || {
        let mut statuses = Vec::new();
        for minted in [&short, &agent, &long] {
            statuses.push(probe(&world, minted["token"].as_str().unwrap()).await.0);
        }
        statuses
    };
    for (minutes, expected) in [(0, [204, 204, 204]), (10, [401, 401, 204]), (20, [401, 401, 401])] {
        set(&world, json!({"clockAheadMs":minutes * 60_000})).await;
        assert_eq!(statuses().await, expected, "after {minutes} minutes");
    }
}

#[tokio::test]
async fn a_full_server_says_so_to_probe_and_upgrade_alike() {
    let world = World::start(&["--faults", "--max-connections", "2"]).await;
    let first = world.socket("ek_test_a", "cursor=").await;
    assert_eq!(probe(&world, "ek_test_a").await, ok());
    let mut second = world.socket("ek_test_b", "cursor=").await;
    let full = (503, "instance_at_capacity".to_owned());
    let reply = world.http("HEAD", PROBE, "ek_test_a", "").await;
    assert_eq!((reply.status, reply.header("x-auth-failure").to_owned()), full);
    assert_eq!(reply.header("retry-after"), "1");
    let exposed = reply.header("access-control-expose-headers");
    assert!(["X-Auth-Failure", "Retry-After", "x-request-id"].iter().all(|name| exposed.contains(name)), "{exposed}");
    assert_eq!(world.try_socket("ek_test_a", "cursor=").await.err(), Some(full.clone()));
    let reply = world.http("GET", "/api/sync/ws", "ek_test_a", "").await;
    assert_eq!((reply.error(), reply.header("retry-after")), (full.clone(), "1"));
    // A bad key is told that first, and what needs no socket is served.
    assert_eq!(probe(&world, "ek_test_old").await, (401, "apikey_expired".to_owned()));
    world.get("/api/sync/bootstrap", "ek_test_a").await;
    drop(first);
    until(&world, |report| report["sockets"] == 1).await;
    assert_eq!(probe(&world, "ek_test_a").await, ok());

    set(&world, json!({"maxConnections":1})).await;
    assert_eq!(probe(&world, "ek_test_a").await, full);
    second.quiet().await;
    set(&world, json!({"maxConnections":null})).await;
    let _third = world.socket("ek_test_a", "cursor=").await;
    assert_eq!(probe(&world, "ek_test_a").await, full);
}
