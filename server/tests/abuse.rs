//! Input that no client should send: a coded answer or a clean close, and a server that goes on serving.

mod support;

use serde_json::{Value, json};
use support::World;
use tokio_tungstenite::tungstenite::protocol::Message;

#[tokio::test]
async fn malformed_frames_are_passed_over() {
    let world = World::start(&[]).await;
    let mut socket = world.socket("ek_test_a", "cursor=").await;
    for text in [
        "",
        " ",
        "{",
        "[",
        "nul",
        "\"",
        "{}",
        "[]",
        "7",
        r#"{"type":null}"#,
        r#"{"type":"?","payload":1}"#,
        r#"{"type":"sync_request"}{}"#,
        r#"{"type":"commit","payload":"x"}"#,
        r#"{"type":"\ud800"}"#,
        "\u{feff}{}",
    ] {
        socket.send_text(text).await;
    }
    socket.send_text(&("[".repeat(100_000) + &"]".repeat(100_000))).await;
    assert!(socket.send_raw(Message::binary(vec![0xff; 1000])).await);
    // The commit without a key is answered even so.
    assert_eq!(socket.expect("mutation_result").await["error"]["code"], "invalid_body");
    socket.quiet().await;
}

#[tokio::test]
async fn a_huge_frame_ends_its_socket_cleanly() {
    let world = World::start(&[]).await;
    let mut socket = world.socket("ek_test_a", "cursor=").await;
    // The close arrives while this is still being sent.
    socket.send_raw(Message::text("x".repeat(100 << 20))).await;
    assert_eq!(socket.closed().await.0, 1009);
    world.socket("ek_test_a", "cursor=").await.quiet().await;
}

#[tokio::test]
async fn odd_values_come_back_as_they_went_in() {
    let mut world = World::start(&[]).await;
    let mut socket = world.socket("ek_test_a", "cursor=").await;
    socket.sync(0).await;
    let million = "é".repeat(500_000);
    let input = format!(
        r#"{{"__proto__":{{"x":1}},"constructor":"c","toString":null,"":"","n":123456789012345678901234567890,"f":-0.0,"e":1E+400,"lone":"\ud800","nul":"\u0000","big":"{million}"}}"#
    );
    let ids = ["__proto__", "constructor", "a:b", "../x", "💥", "\u{0}", " ", "q\"\\"];
    for (index, id) in ids.iter().enumerate() {
        let frame = format!(
            r#"{{"type":"commit","payload":{{"clientTxId":"k{index}","operations":[{{"type":"CREATE","model":"task","id":{},"input":{input}}}]}}}}"#,
            serde_json::to_string(id).unwrap()
        );
        socket.send_text(&frame).await;
        let delta = socket.expect("delta").await;
        assert_eq!(delta["modelId"], **id);
        assert_eq!(socket.expect("mutation_result").await["success"], true);
    }
    world.restart().await;
    let text = world.http("GET", "/api/sync/bootstrap?models=Task", "ek_test_a", "").await.body;
    for piece in [
        r#""__proto__":{"x":1}"#,
        r#""n":123456789012345678901234567890"#,
        r#""f":-0.0"#,
        r#""e":1E+400"#,
        r#""lone":"\ud800""#,
        r#""nul":"\u0000""#,
        r#""id":"__proto__""#,
        r#""id":"💥""#,
        r#""id":"\u0000""#,
    ] {
        assert!(text.contains(piece), "{piece}");
    }
    assert_eq!(text.matches(million.as_str()).count(), ids.len());
}

#[tokio::test]
async fn a_commit_that_nests_too_deeply_is_answered() {
    let world = World::start(&[]).await;
    let mut socket = world.socket("ek_test_a", "cursor=").await;
    let deep = "[".repeat(5000) + &"]".repeat(5000);
    let operations = format!(r#"[{{"type":"CREATE","model":"task","id":"x","input":{{"a":{deep}}}}}]"#);
    socket
        .send_text(&format!(r#"{{"type":"commit","payload":{{"operations":{operations},"clientTxId":"deep"}}}}"#))
        .await;
    let refused = socket.expect("mutation_result").await;
    assert_eq!((&refused["clientTxId"], &refused["error"]["code"]), (&json!("deep"), &json!("invalid_json")));
    let body = format!(r#"{{"clientTxId":"deep","operations":{operations}}}"#);
    assert_eq!(
        world.http("POST", "/api/v1/commits", "ek_test_a", &body).await.error(),
        (400, "invalid_json".to_owned())
    );
    socket.quiet().await;
}

#[tokio::test]
async fn a_thousand_rows_at_once_and_no_more() {
    let world = World::start(&[]).await;
    let operation = |n: usize| json!({"action":"create","model":"tasks","id":format!("t{n}"),"data":{"title":"x"}});
    let batch = |count: usize, key: &str| json!({"clientTxId":key,"operations":(0..count).map(operation).collect::<Vec<Value>>()});
    let refused = world.http("POST", "/api/v1/commits", "ek_test_a", &batch(1001, "a").to_string()).await;
    assert_eq!(refused.error(), (400, "commit_too_many_operations".to_owned()));
    assert_eq!(world.post("/api/v1/commits", "ek_test_a", &batch(1000, "b")).await["lastSyncId"], 1000);
    assert_eq!(world.get("/api/sync/bootstrap", "ek_test_a").await["models"]["Task"].as_array().unwrap().len(), 1000);
}
