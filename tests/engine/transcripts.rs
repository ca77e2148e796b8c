//! The transcripts of the protocol's appendix C that concern this client so far.

use ablo_wasm::core::input::Credential;
use ablo_wasm::core::output::{Method, Output};
use serde_json::json;

use crate::harness::{Bench, TASKS, task_delta, tasks};

#[test]
fn c1_start_in_memory() {
    let mut bench = Bench::new();
    let ready = bench.start();
    let (task, request) = bench.request("/auth/identity");
    assert_eq!((request.method, request.bearer.as_deref()), (Method::Get, Some("ek_test_1")));
    bench.answer(
        task,
        200,
        &json!({"participantKind":"user","participantId":"u1","accountScope":"acme",
        "syncGroups":["org:acme","user:u1"],"userMeta":{}}),
    );
    let Some(Output::OpenSocket { url, protocols, .. }) =
        bench.outputs.iter().find(|output| matches!(output, Output::OpenSocket { .. }))
    else {
        panic!("the socket opens beside the bootstrap")
    };
    assert_eq!(url, "ws://h/api/sync/ws?cursor=&syncGroups=org%3Aacme&syncGroups=user%3Au1");
    assert_eq!(protocols, &["ablo.bearer.ek_test_1", "ablo.sync.v1"]);
    bench.open();
    let frames = bench.frames();
    assert_eq!(frames[0], json!({"type":"update_subscription","payload":{"syncGroups":["org:acme","user:u1"]}}));
    assert_eq!(
        frames[1],
        json!({"type":"presence_update","payload":{"status":"online","timezone":"Europe/Stockholm"}})
    );
    bench.receive(&json!({"type":"subscription_ack","payload":{"success":true,"syncGroups":["org:acme","user:u1"]}}));
    bench.receive(&json!({"type":"presence_update","payload":{"kind":"enter","userId":"agent:writer"}}));
    let (task, request) = bench.request("/sync/bootstrap");
    assert_eq!(
        request.url,
        "http://h/api/sync/bootstrap?syncGroups=org%3Aacme&syncGroups=user%3Au1&models=Task%2CSlideDeck"
    );
    bench.answer(
        task,
        200,
        &json!({"type":"full","lastSyncId":10,"timestamp":1_782_900_000_000_u64,
        "models":{"Task":[{"id":"t1","title":"A"}],"SlideDeck":[]}}),
    );
    assert!(bench.outcome(ready).unwrap().is_ok());
    let frames = bench.frames();
    assert_eq!(frames[0], json!({"type":"ack","payload":{"lastSyncId":10}}));
    assert_eq!(frames[1]["type"], "sync_request");
    assert_eq!(frames[1]["payload"]["lastSyncId"], 10);
    assert_eq!(frames[1]["payload"]["cursor"], json!(null));
    // The server of the transcript repeats the last change so that the last delta has the head's id.
    bench.answer_sync(10, &[task_delta(10, "U", "t1", &json!({"id":"t1","title":"A"}))]);
    assert_eq!(bench.row(TASKS, "t1"), Some(json!({"id":"t1","title":"A"})));
    assert!(bench.frames().is_empty());
}

#[test]
fn c1_frames_and_bootstrap_interleave_in_any_way() {
    let mut bench = Bench::new();
    bench.start();
    bench.answer_identity();
    bench.open();
    // A live delta overtakes the snapshot; it is applied after it.
    bench.delta(12, "U", "t1", &json!({"id":"t1","title":"newer"}));
    bench.delta(11, "I", "t2", &json!({"id":"t2","title":"second"}));
    bench.answer_bootstrap(10, &tasks(&[json!({"id":"t1","title":"old"})]));
    bench.answer_sync(
        12,
        &[
            task_delta(11, "I", "t2", &json!({"id":"t2","title":"second"})),
            task_delta(12, "U", "t1", &json!({"id":"t1","title":"newer"})),
        ],
    );
    assert_eq!(bench.field("t1", "title"), "newer");
    assert_eq!(bench.field("t2", "title"), "second");
    assert_eq!(bench.engine.cursor().0, 12);
}

#[test]
fn c2_guarded_write_accepted() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"})]));
    let change = ablo_wasm::core::input::Change::Update(json!({"title":"B"}).to_string());
    let options = r#"{"wait":"confirmed","readAt":10,"onStale":"reject"}"#;
    let ticket = bench.write(TASKS, "t1", change, Some(options)).unwrap();
    bench.turn();
    let (key, operations) = bench.commit();
    assert_eq!(operations.len(), 1);
    let operation = &operations[0];
    assert_eq!(
        (&operation["type"], &operation["model"], &operation["id"], &operation["input"]),
        (&json!("UPDATE"), &json!("task"), &json!("t1"), &json!({"title":"B"}))
    );
    assert_eq!((&operation["readAt"], &operation["onStale"]), (&json!(10), &json!("reject")));
    assert!(operation["transactionId"].as_str().unwrap().starts_with("tx_1782900000000_"));
    bench.delta(11, "U", "t1", &json!({"id":"t1","title":"B","rank":1}));
    assert_eq!(bench.frames(), [json!({"type":"ack","payload":{"lastSyncId":11}})]);
    assert!(bench.outcome(ticket).is_none());
    bench.accept(&key, 11);
    assert!(bench.outcome(ticket).unwrap().is_ok());
    assert_eq!(bench.engine.pending_count(), 0);
    assert_eq!(bench.row(TASKS, "t1"), Some(json!({"id":"t1","title":"B","rank":1})));
}

#[test]
fn c6_expired_key() {
    let mut bench = Bench::with(r#""apiKeyFunction":true"#);
    bench.start();
    bench.credential(Credential::Token { token: "ek_test_1".into(), expires_at: None });
    bench.answer_identity();
    bench.answer_bootstrap(11, &tasks(&[]));
    bench.open();
    bench.answer_sync(11, &[]);
    bench.frames();
    bench.close(4010);
    bench.answer_probe(401, Some("apikey_expired"));
    bench.credential(Credential::Token { token: "ek_test_2".into(), expires_at: None });
    let (task, probe) = bench.request("/auth/check");
    assert_eq!(probe.bearer.as_deref(), Some("ek_test_2"));
    bench.input(ablo_wasm::core::input::Input::Response(
        task,
        Ok(ablo_wasm::core::input::Response { status: 204, ..Default::default() }),
    ));
    let Some(Output::OpenSocket { protocols, .. }) =
        bench.outputs.iter().find(|output| matches!(output, Output::OpenSocket { .. }))
    else {
        panic!("no socket")
    };
    assert_eq!(protocols[0], "ablo.bearer.ek_test_2");
    bench.open();
    let kinds: Vec<String> = bench.frames().iter().map(|frame| frame["type"].as_str().unwrap().into()).collect();
    assert_eq!(kinds, ["update_subscription", "presence_update", "ack", "sync_request"]);
    // Resumed by cursor: no snapshot was fetched.
    assert!(!bench.has_request("/sync/bootstrap"));
}
