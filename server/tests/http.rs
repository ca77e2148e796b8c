//! Requests: rows and batches, queries, errors, cross-origin rules, files.

mod support;

use serde_json::json;
use support::{Scratch, World};

#[tokio::test]
async fn rows_live_and_die_over_http() {
    let world = World::start(&[]).await;
    let token = "ek_test_a";
    let create = json!({"idempotencyKey":"k1","id":"t/1 é","data":{"title":"a"}});
    let receipt = world.post("/api/v1/models/tasks", token, &create).await;
    assert_eq!(
        (&receipt["success"], &receipt["status"], &receipt["lastSyncId"]),
        (&json!(true), &json!("confirmed"), &json!(1))
    );
    assert_eq!(world.post("/api/v1/models/tasks", token, &create).await, receipt);
    let clash = world.http("POST", "/api/v1/models/tasks", token, r#"{"idempotencyKey":"k1","data":{}}"#).await;
    assert_eq!(clash.error(), (409, "idempotency_conflict".to_owned()));
    let path = "/api/v1/models/tasks/t%2F1%20%C3%A9";
    let row = world.get(path, token).await;
    assert_eq!(
        (&row["object"], &row["id"], &row["stamp"], &row["data"]["title"]),
        (&json!("model"), &json!("t/1 é"), &json!(1), &json!("a"))
    );
    let header = [("Idempotency-Key", "k2")];
    let patch =
        world.http_with("PATCH", path, token, &header, r#"{"data":{"title":"b"},"readAt":1,"onStale":"reject"}"#).await;
    assert_eq!(patch.json()["clientTxId"], "k2");
    let list = world.get("/api/v1/models/Task?title=b&limit=5", token).await;
    assert_eq!((list["data"].as_array().unwrap().len(), &list["has_more"]), (1, &json!(false)));
    assert_eq!(world.http("DELETE", path, token, r#"{"idempotencyKey":"k3"}"#).await.status, 200);
    assert_eq!(world.http("DELETE", path, token, "").await.status, 200);
    assert_eq!(world.http("GET", path, token, "").await.error(), (404, "entity_not_found".to_owned()));
    let missing = world.http("PATCH", path, token, r#"{"data":{}}"#).await;
    assert_eq!(missing.error(), (404, "mutate_update_entity_not_found".to_owned()));
    let batch = json!({"operations":[{"action":"create","model":"tasks","id":"c","data":{}},{"action":"archive","model":"tasks","id":"c"}]});
    let made =
        world.http_with("POST", "/api/v1/commits", token, &[("Idempotency-Key", "k4")], &batch.to_string()).await;
    assert_eq!((&made.json()["clientTxId"], &made.json()["ops"]), (&json!("k4"), &json!(2)));
    assert_eq!(world.get("/api/sync/bootstrap", token).await["models"], json!({"Task":[],"SlideDeck":[],"Slide":[]}));
}

#[tokio::test]
async fn what_is_older_than_the_window_is_deleted_at_start_and_not_done_again() {
    let mut world = World::start(&["--idempotency-window", "12h"]).await;
    let token = "ek_test_a";
    let ms = |age: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::try_from(now.as_millis()).unwrap() - age
    };
    let (young, old) = (ms(11 * 3_600_000), ms(13 * 3_600_000));
    let create = |key: &str, moment: u64| json!({"idempotencyKey":key,"createdAt":moment,"id":key,"data":{}});
    for key in ["k1", "k2"] {
        world.post("/api/v1/models/tasks", token, &create(key, young)).await;
    }
    world.stop().await;
    let count = |database: &rusqlite::Connection| {
        database.query_row("SELECT count(*) FROM commits", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    {
        let database = rusqlite::Connection::open(world.scratch.path("rows.db")).unwrap();
        assert_eq!(
            database.execute("UPDATE commits SET at = ?1 WHERE key = 'k1'", [i64::try_from(old).unwrap()]).unwrap(),
            1
        );
    }
    world.restart().await;
    let known = world.post("/api/v1/models/tasks", token, &create("k2", young)).await;
    assert_eq!(known["lastSyncId"], 2);
    for (path, body) in [
        ("/api/v1/models/tasks", create("k1", old).to_string()),
        (
            "/api/v1/commits",
            json!({"clientTxId":"k1","createdAt":old,"operations":[{"action":"delete","model":"tasks","id":"k2"}]})
                .to_string(),
        ),
    ] {
        let reply = world.http("POST", path, token, &body).await;
        assert_eq!(reply.error(), (409, "idempotency_window_expired".to_owned()));
        assert!(reply.body.contains("12h"), "{}", reply.body);
    }
    assert_eq!(world.get("/api/v1/models/tasks", token).await["data"].as_array().unwrap().len(), 2);
    world.stop().await;
    assert_eq!(count(&rusqlite::Connection::open(world.scratch.path("rows.db")).unwrap()), 1);
}

#[tokio::test]
async fn every_refusal_has_a_code() {
    let world = World::start(&[]).await;
    let a = "ek_test_a";
    for (method, path, token, body, status, code) in [
        ("GET", "/api/auth/identity", "", "", 401, "apikey_missing"),
        ("GET", "/api/auth/identity", "ek_test_nobody", "", 401, "apikey_invalid"),
        ("GET", "/api/auth/identity", "ek_test_old", "", 401, "apikey_expired"),
        ("GET", "/api/sync/bootstrap", "x", "", 401, "apikey_invalid"),
        ("POST", "/api/auth/capability", a, "{}", 403, "forbidden"),
        (
            "POST",
            "/api/auth/capability",
            "sk_test_root",
            r#"{"participantKind":"user"}"#,
            400,
            "invalid_participant_kind",
        ),
        ("POST", "/api/auth/ephemeral-keys", "sk_test_root", "{}", 400, "invalid_body"),
        (
            "POST",
            "/api/auth/ephemeral-keys",
            "sk_test_root",
            r#"{"user":{"id":"u"},"organizationId":"evil"}"#,
            403,
            "forbidden",
        ),
        ("POST", "/api/v1/commits", a, "{", 400, "invalid_json"),
        ("POST", "/api/v1/commits", a, "[]", 400, "invalid_body"),
        (
            "POST",
            "/api/v1/commits",
            a,
            r#"{"clientTxId":"k","operations":[{"action":"update","model":"nope","id":"x"}]}"#,
            400,
            "unknown_model",
        ),
        ("POST", "/api/v1/commits", a, r#"{"clientTxId":7,"operations":[]}"#, 400, "invalid_body"),
        ("POST", "/api/v1/models/tasks", a, r#"{"data":[]}"#, 400, "invalid_body"),
        ("POST", "/api/v1/models/tasks", a, r#"{"data":{},"id":"\ud800"}"#, 400, "invalid_id"),
        ("POST", "/api/sync/query", a, "{}", 400, "queries_required"),
        ("GET", "/api/v1/models/ghosts", a, "", 400, "unknown_model"),
        ("GET", "/api/sync/entity/Task/none", a, "", 404, "entity_not_found"),
        ("GET", "/api/nothing", a, "", 404, "entity_not_found"),
        ("GET", "/nothing", "", "", 404, "entity_not_found"),
        ("GET", "/api/%ff", "", "", 404, "entity_not_found"),
        ("POST", "/nothing", "", "", 404, "entity_not_found"),
        ("DELETE", "/api/sync/bootstrap", a, "", 405, "invalid_request"),
        ("GET", "/api/v1/commits", a, "", 405, "invalid_request"),
        ("POST", "/api/auth/check", a, "", 405, "invalid_request"),
        ("GET", "/api/sync/ws", a, "", 400, "invalid_request"),
        ("GET", "/api/sync/ws", "", "", 401, "apikey_missing"),
    ] {
        let reply = world.http(method, path, token, body).await;
        assert_eq!(reply.error(), (status, code.to_owned()), "{method} {path} {body}");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
        if status == 401 {
            assert_eq!(reply.header("x-auth-failure"), code);
        }
    }
    let large = world.http("POST", "/api/v1/commits", a, &" ".repeat((16 << 20) + 1)).await;
    assert!(large.status == 413 || large.status == 0, "{large:?}");
    assert_eq!(world.http("POST", "/api/v1/commits", a, "\u{feff}{}").await.error().1, "invalid_json");
    // The probe agrees with the upgrade.
    for (token, code) in [("", "apikey_missing"), ("nobody", "apikey_invalid"), ("ek_test_old", "apikey_expired")] {
        let probe = world.http("HEAD", "/api/auth/check", token, "").await;
        assert_eq!((probe.status, probe.header("x-auth-failure")), (401, code));
        assert_eq!(world.try_socket(token, "cursor=").await.err(), Some((401, code.to_owned())));
    }
    assert_eq!(world.http("HEAD", "/api/api/auth/check", a, "").await.status, 204);
    assert_eq!(world.get("/api/health", "").await, json!({"status":"healthy"}));
}

#[tokio::test]
async fn browsers_of_any_origin_may_ask() {
    let world = World::start(&[]).await;
    let asked = [
        ("Origin", "https://app.test"),
        ("Access-Control-Request-Method", "PATCH"),
        ("Access-Control-Request-Headers", "authorization, x-custom"),
    ];
    let reply = world.http_with("OPTIONS", "/api/v1/models/tasks/t1", "", &asked, "").await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (204, "*"));
    assert_eq!(reply.header("access-control-allow-headers"), "authorization, x-custom");
    for method in ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"] {
        assert!(reply.header("access-control-allow-methods").contains(method));
    }
    let reply = world.http("GET", "/api/sync/bootstrap", "ek_test_a", "").await;
    for header in ["X-Auth-Failure", "x-request-id", "ETag", "Retry-After", "Content-Length"] {
        assert!(reply.header("access-control-expose-headers").contains(header), "{header}");
    }
    assert_eq!(reply.header("content-length"), reply.body.len().to_string());
}

#[tokio::test]
async fn secret_keys_are_exchanged() {
    let world = World::start(&[]).await;
    let body = json!({"participantKind":"system","wideScope":true,"ttlSeconds":3600});
    let answer = world.post("/api/auth/capability", "sk_test_root", &body).await;
    assert_eq!(
        answer["scope"],
        json!({"organizationId":"acme","syncGroups":["org:acme"],"operations":["*"],"participantKind":"system","participantId":"system:acme"})
    );
    let identity = world.get("/api/auth/identity", answer["token"].as_str().unwrap()).await;
    assert_eq!((&identity["participantKind"], &identity["accountScope"]), (&json!("system"), &json!("acme")));
    world.socket(answer["token"].as_str().unwrap(), "cursor=&kind=system").await.quiet().await;
}

#[tokio::test]
async fn files_are_served_and_nothing_around_them() {
    let scratch = Scratch::new();
    scratch.write("www/index.html", "<p>home");
    scratch.write("www/a.mjs", "export {}");
    scratch.write("www/sub/index.html", "<p>sub");
    scratch.write("pkg/core.wasm", [0, 97, 115, 109]);
    scratch.write("secret.txt", "secret");
    #[cfg(unix)]
    std::os::unix::fs::symlink(scratch.path("secret.txt"), scratch.path("www/link.txt")).unwrap();
    let (www, pkg) = (scratch.path("www"), format!("/pkg={}", scratch.path("pkg").display()));
    let world = World::start_with(scratch, &["--static", www.to_str().unwrap(), "--static", &pkg]).await;
    for (path, mime, body) in [
        ("/", "text/html; charset=utf-8", "<p>home"),
        ("/?a=b", "text/html; charset=utf-8", "<p>home"),
        ("/a.mjs", "text/javascript; charset=utf-8", "export {}"),
        ("/sub/", "text/html; charset=utf-8", "<p>sub"),
        ("/pkg/core.wasm", "application/wasm", "\0asm"),
    ] {
        let reply = world.http("GET", path, "", "").await;
        assert_eq!((reply.status, reply.header("content-type"), reply.body.as_str()), (200, mime, body), "{path}");
        let head = world.http("HEAD", path, "", "").await;
        assert_eq!(
            (head.status, head.header("content-length"), head.body.as_str()),
            (200, body.len().to_string().as_str(), "")
        );
        let again = world.http_with("GET", path, "", &[("If-None-Match", reply.header("etag"))], "").await;
        assert_eq!((again.status, again.body.as_str()), (304, ""));
    }
    for path in [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%5csecret.txt",
        "/link.txt",
        "/a.mjs%00.html",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/pkg",
        "/pkg/",
        "/pkg/../secret.txt",
        "/none",
        "/%",
        "/./a.mjs",
    ] {
        let reply = world.http("GET", path, "", "").await;
        assert!((400..=404).contains(&reply.status), "{path}: {reply:?}");
        assert!(!reply.body.contains("secret\n") && reply.body != "secret" && !reply.body.contains("root:"), "{path}");
    }
    assert_eq!(world.http("GET", "/", "", "").await.status, 200);
}
