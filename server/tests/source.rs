//! Data sources that dial in: who may, what they are asked, and what becomes of requests whose connection does not hold.
//! The other end, with a real connector, is tests/sdk/connector.test.mjs.

mod support;

use serde_json::{Value, json};
use support::{Reply, Scratch, Socket, World};
use tokio_tungstenite::tungstenite::protocol::Message;

const KEY: &str = "sk_test_root";
const LOAD: &str = r#"{"type":"load","model":"tasks","id":"té"}"#;

async fn dial(world: &World, token: &str) -> Result<Socket, (u16, String)> {
    world.open("/v1/source/listen", "ablo.source.v1", token).await
}

async fn listen(world: &World) -> Socket {
    let mut socket = dial(world, KEY).await.expect("the upgrade is accepted");
    socket.send(&json!({"type":"register","protocolVersion":1,"client":"test\u{1b}[31m"})).await;
    let ready = json!({"type":"ready","protocolVersion":1,"sourceId":"system:acme","organizationId":"acme",
        "environment":"sandbox"});
    assert_eq!(socket.next().await, ready);
    socket
}

async fn ask(world: &World) -> Reply {
    world.http("POST", "/v1/source/request", KEY, LOAD).await
}

fn response(request: &Value, more: Value) -> Value {
    let mut frame = json!({"type":"response","id":request["id"],"status":200,"body":"{\"row\":null}"});
    let Value::Object(more) = more else { panic!("members to replace") };
    more.into_iter().for_each(|(name, value)| frame[name] = value);
    frame
}

#[tokio::test]
async fn only_a_secret_key_opens_a_source() {
    let world = World::start(&[]).await;
    for (token, status, code) in [
        ("", 401, "apikey_missing"),
        ("sk_test_nobody", 401, "apikey_invalid"),
        ("ek_test_a", 401, "api_key_required"),
        ("pk_test_view", 401, "api_key_required"),
    ] {
        assert_eq!(dial(&world, token).await.err(), Some((status, code.to_owned())), "{token}");
        let asked = world.http("POST", "/v1/source/request", token, LOAD).await;
        assert_eq!(asked.error(), (status, code.to_owned()), "{token}");
    }
    let wrong = world.open("/v1/source/listen", "ablo.sync.v1", KEY).await;
    assert_eq!(wrong.err().unwrap().0, 400);
    assert_eq!(world.http("GET", "/v1/source/listen", KEY, "").await.error(), (400, "invalid_request".to_owned()));
    for (method, path) in [("POST", "/v1/source/listen"), ("GET", "/v1/source/request")] {
        assert_eq!(world.http(method, path, KEY, "").await.status, 405);
    }
}

#[tokio::test]
async fn a_request_goes_out_signed_and_its_answer_comes_back() {
    let world = World::start(&[]).await;
    assert_eq!(ask(&world).await.error(), (503, "source_network_error".to_owned()));
    let mut socket = listen(&world).await;
    let (asked, ()) = tokio::join!(ask(&world), async {
        let request = socket.next().await;
        assert_eq!(
            (&request["type"], &request["method"], &request["body"]),
            (&json!("request"), &json!("POST"), &json!(LOAD))
        );
        assert!(request["url"].as_str().unwrap().starts_with("https://"));
        let header = |name: &str| request["headers"][name].as_str().unwrap().to_owned();
        assert_eq!(
            (header("content-type"), header("webhook-id")),
            ("application/json".to_owned(), request["id"].as_str().unwrap().to_owned())
        );
        assert!(header("webhook-timestamp").parse::<u64>().is_ok());
        assert!(header("webhook-signature").starts_with("v1,"));
        // What makes no sense, and what nobody waits for, is passed over.
        for text in [
            "",
            "7",
            r#"{"type":"novel"}"#,
            r#"{"type":"response"}"#,
            r#"{"type":"response","id":"x","status":200,"body":""}"#,
        ] {
            socket.send_text(text).await;
        }
        let more = json!({"status":404,"headers":{"Content-Type":"text/plain"},"body":"ü"});
        // Binary frames are text too.
        socket.send_raw(Message::binary(response(&request, more).to_string())).await;
    });
    assert_eq!((asked.status, asked.header("content-type"), &*asked.body), (404, "text/plain", "ü"));
}

#[tokio::test]
async fn a_version_that_is_not_spoken_is_told_so() {
    let world = World::start(&[]).await;
    for version in [json!(2), json!("1"), Value::Null] {
        let mut socket = dial(&world, KEY).await.unwrap();
        // Before it registers, nothing else is looked at.
        socket.send_text("{").await;
        socket.send(&json!({"type":"response","id":"x","status":200,"body":""})).await;
        socket.send(&json!({"type":"register","protocolVersion":version})).await;
        let error = socket.next().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("protocol_version_mismatch")));
        assert_eq!(socket.closed().await, (1002, "protocol_version_mismatch".to_owned()));
    }
    assert_eq!(ask(&world).await.status, 503);
}

#[tokio::test]
async fn a_request_whose_connection_is_lost_is_sent_again() {
    let world = World::start(&[]).await;
    let mut first = listen(&world).await;
    // The second socket lives until the answer is there.
    let asked = tokio::join!(ask(&world), async {
        let request = first.next().await;
        drop(first);
        let mut second = listen(&world).await;
        let again = second.next().await;
        assert_eq!(again["id"], request["id"], "with the same id");
        second.send(&response(&again, json!({}))).await;
        second
    });
    assert_eq!((asked.0.status, &*asked.0.body), (200, r#"{"row":null}"#));
}

#[tokio::test]
async fn what_would_fail_again_is_not_sent_again() {
    let world = World::start(&[]).await;
    for (frame, word) in [
        (json!({"type":"error","code":"too_busy","message":"later"}), "too_busy: later"),
        (json!({"type":"response","status":101,"body":""}), "no status"),
        (json!({"type":"response","status":200}), "no body"),
    ] {
        let mut socket = listen(&world).await;
        let (asked, ()) = tokio::join!(ask(&world), async {
            let request = socket.next().await;
            let mut frame = frame.clone();
            frame["id"] = request["id"].clone();
            socket.send(&frame).await;
        });
        assert_eq!(asked.error(), (502, "source_network_error".to_owned()));
        assert!(asked.body.contains(word), "{}", asked.body);
    }
    let mut socket = listen(&world).await;
    let (asked, ()) = tokio::join!(ask(&world), async {
        let request = socket.next().await;
        socket.send_raw(Message::text(response(&request, json!({"body":"x".repeat(17 << 20)})).to_string())).await;
        assert_eq!(socket.closed().await.0, 1009);
    });
    assert_eq!(asked.error().0, 502);
    assert!(asked.body.contains("16 MiB"), "{}", asked.body);
}

#[tokio::test]
async fn a_connector_whose_key_has_ended_is_asked_no_more() {
    let scratch = Scratch::new();
    let key = |token: &str| json!({"token":token,"participantKind":"system","participantId":"system:acme","organizationId":"acme"});
    let keys = scratch.write("two.json", json!([key(KEY), key("sk_test_new")]).to_string());
    let world = World::start_with(scratch, &["--faults", "--keys", keys.to_str().unwrap()]).await;
    let mut socket = listen(&world).await;
    world.post("/faults", "", &json!({"expire":KEY})).await;
    assert_eq!(ask(&world).await.error(), (401, "apikey_expired".to_owned()));
    let asked = world.http("POST", "/v1/source/request", "sk_test_new", LOAD).await;
    assert_eq!(asked.error(), (503, "source_network_error".to_owned()));
    assert_eq!(socket.closed().await, (4010, "key ended".to_owned()));
}

#[tokio::test]
async fn connectors_count_as_sockets_and_hear_of_a_restart() {
    let mut world = World::start(&["--max-connections", "1"]).await;
    let mut socket = listen(&world).await;
    assert_eq!(dial(&world, KEY).await.err(), Some((503, "instance_at_capacity".to_owned())));
    let (closed, ()) = tokio::join!(socket.closed(), world.stop());
    assert_eq!(closed, (1012, "service restart".to_owned()));
}
