//! Deltas and snapshots: every change applied, in order, whatever comes with them.

use serde_json::{Value, json};

use crate::harness::{Bench, TASKS, task_delta, tasks};

#[test]
fn several_changes_of_one_row_in_one_batch_all_count() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"})]));
    bench.receive(&json!({"type":"delta","payload":{"deltas":[
        task_delta(11, "U", "t1", &json!({"title":"B"})),
        task_delta(12, "U", "t1", &json!({"rank":2})),
        task_delta(13, "U", "t1", &json!({"title":"C"}))]}}));
    assert_eq!(bench.row(TASKS, "t1"), Some(json!({"id":"t1","title":"C","rank":2})));
    // Redelivery changes nothing.
    bench.delta(11, "U", "t1", &json!({"title":"B"}));
    assert_eq!(bench.field("t1", "title"), "C");
}

#[test]
fn every_letter_does_what_it_says() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"})]));
    bench.delta(11, "I", "t1", &json!({"id":"t1","title":"B"}));
    assert_eq!(bench.row(TASKS, "t1"), Some(json!({"id":"t1","title":"B"})), "I overwrites");
    bench.delta(12, "C", "t2", &json!({"title":"covered"}));
    assert_eq!(bench.row(TASKS, "t2"), Some(json!({"title":"covered","id":"t2"})), "the id is put in");
    bench.delta(13, "A", "t1", &json!({"id":"t1","title":"B"}));
    assert!(bench.field("t1", "archivedAt").is_string());
    bench.delta(14, "V", "t1", &Value::Null);
    assert_eq!(bench.field("t1", "archivedAt"), Value::Null);
    bench.delta(15, "U", "t1", &json!({"title":null,"tags":[],"meta":{}}));
    assert_eq!(bench.row(TASKS, "t1").unwrap()["tags"], json!([]));
    assert_eq!(bench.field("t1", "title"), Value::Null);
    bench.delta(16, "D", "t1", &Value::Null);
    assert_eq!(bench.row(TASKS, "t1"), None);
}

#[test]
fn values_that_became_empty_stay_empty() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","tags":["a"],"meta":{"b":1}})]));
    let mut delta = task_delta(11, "U", "t1", &json!({"id":"t1","tags":null,"meta":null}));
    delta["emptyValues"] = json!({"tags":[],"meta":{}});
    bench.receive(&json!({"type":"delta","payload":delta}));
    assert_eq!(bench.row(TASKS, "t1"), Some(json!({"id":"t1","tags":[],"meta":{}})));
}

#[test]
fn exotic_rows_survive() {
    let mut bench = Bench::started(&tasks(&[]));
    let row =
        r#"{"id":"\u0000é😀\"","n":9007199254740993,"__proto__":{"a":1},"empty":"","big":12345678901234567890.5}"#;
    let frame = json!({"type":"delta","payload":{"id":11,"actionType":"I","modelName":"Task","modelId":"\u{0}é😀\"","data":row}});
    bench.receive(&frame);
    let id = "\u{0}é😀\"";
    assert_eq!(bench.engine.row(TASKS, id), Some(row), "the row's bytes are untouched");
    bench.update(id, json!({"empty":"no more"}));
    let text = bench.engine.row(TASKS, id).unwrap();
    assert!(text.contains("9007199254740993") && text.contains(r#""__proto__":{"a":1}"#), "{text}");
    bench.turn();
    let (_, operations) = bench.commit();
    assert_eq!(operations[0]["id"], id);
}

#[test]
fn garbage_is_reported_and_what_follows_is_applied() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"})]));
    let socket = bench.engine.socket().unwrap();
    for text in [
        "",
        "nonsense",
        "[]",
        "{}",
        r#"{"type":7}"#,
        r#"{"type":"delta"}"#,
        r#"{"type":"delta","payload":[1]}"#,
        r#"{"type":"sync_response"}"#,
        r#"{"type":"mutation_result"}"#,
        r#"{"type":"subscription_ack","payload":null}"#,
    ] {
        bench.input(ablo_wasm::core::input::Input::SocketMessage(socket, text.into()));
    }
    bench.receive(&json!({"type":"delta","payload":{"deltas":[
        {"id":11,"actionType":"?","modelName":"Task","modelId":"t1","data":"{}"},
        {"id":12,"actionType":"U","modelName":"Task","modelId":"t1","data":"not json"},
        task_delta(13, "U", "t1", &json!({"title":"B"}))]}}));
    assert_eq!(bench.field("t1", "title"), "B");
    assert!(bench.engine.is_connected());
    assert!(!bench.event("sync:error").is_empty());
    // What the unreadable changes did is learnt from a snapshot.
    bench.wait();
    assert!(bench.has_request("/sync/bootstrap"));
    bench.answer_bootstrap(13, &tasks(&[json!({"id":"t1","title":"repaired"})]));
    assert_eq!(bench.field("t1", "title"), "repaired");
}

#[test]
fn an_update_of_an_absent_row_fetches_it() {
    let mut bench = Bench::started(&tasks(&[]));
    bench.delta(11, "U", "t1", &json!({"rank":7}));
    let (task, request) = bench.request("/sync/query");
    let body: Value = serde_json::from_str(request.body.as_deref().unwrap()).unwrap();
    assert_eq!(body["queries"][0]["where"], json!([["id", "IN", ["t1"]]]));
    // A later change overtakes the answer.
    bench.delta(12, "U", "t1", &json!({"rank":8}));
    bench.answer(
        task,
        200,
        &json!({"results":[[{"__typename":"Task","id":"t1","title":"A","rank":7}]],"lastSyncId":11}),
    );
    assert_eq!(bench.row(TASKS, "t1"), Some(json!({"id":"t1","title":"A","rank":8})));
}

#[test]
fn unknown_models_are_passed_over() {
    let mut bench = Bench::started(&tasks(&[]));
    bench.receive(
        &json!({"type":"delta","payload":{"id":11,"actionType":"I","modelName":"task","modelId":"t1","data":"{}"}}),
    );
    assert_eq!(bench.engine.cursor().0, 11);
    assert_eq!(bench.row(TASKS, "t1"), None);
}

#[test]
fn a_snapshot_replaces_confirmed_rows_and_keeps_pending_ones() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"}), json!({"id":"t2","title":"gone soon"})]));
    bench.create("mine", json!({"title":"unsent"}));
    bench.update("t1", json!({"title":"edited"}));
    bench.receive(&json!({"type":"sync_response","payload":{"requiresBootstrap":true}}));
    // Deltas that arrive meanwhile are applied after it.
    bench.delta(21, "U", "t1", &json!({"rank":9}));
    bench.answer_bootstrap(
        20,
        &tasks(&[json!({"id":"t1","title":"server","rank":1}), json!({"id":"t3","title":"new"})]),
    );
    assert_eq!((bench.field("t1", "title"), bench.field("t1", "rank")), (json!("edited"), json!(1)));
    assert_eq!(bench.row(TASKS, "t2"), None);
    assert_eq!((bench.field("mine", "title"), bench.field("t3", "title")), (json!("unsent"), json!("new")));
    bench.answer_sync(21, &[task_delta(21, "U", "t1", &json!({"rank":9}))]);
    assert_eq!(bench.field("t1", "rank"), 9);
}

#[test]
fn a_broken_snapshot_leaves_the_rows_alone_and_is_asked_for_again() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"})]));
    bench.receive(&json!({"type":"sync_response","payload":{"requiresBootstrap":true}}));
    let (task, _) = bench.request("/sync/bootstrap");
    let body = br#"{"type":"full","lastSyncId":20,"models":{"Task":[{"id":"t9","title":"half"#.to_vec();
    bench.input(ablo_wasm::core::input::Input::Response(
        task,
        Ok(ablo_wasm::core::input::Response { status: 200, body, ..Default::default() }),
    ));
    assert_eq!((bench.field("t1", "title"), bench.row(TASKS, "t9")), (json!("A"), None));
    bench.wait();
    assert!(bench.has_request("/sync/bootstrap"));
}

#[test]
fn a_group_that_is_taken_away_asks_for_a_snapshot() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"})]));
    bench.receive(&json!({"type":"delta","payload":{"id":11,"actionType":"G","modelName":"x","modelId":"g","data":"{\"group\":\"deck:d7\",\"userId\":\"u1\"}"}}));
    assert!(!bench.has_request("/sync/bootstrap"), "an added group brings its rows by itself");
    bench.receive(&json!({"type":"delta","payload":{"id":12,"actionType":"S","modelName":"x","modelId":"g","data":{"group":"user:u1"}}}));
    let (task, request) = bench.request("/sync/bootstrap");
    assert!(request.url.contains("deck%3Ad7") && !request.url.contains("user%3Au1"), "{}", request.url);
    bench.answer(task, 200, &json!({"type":"full","lastSyncId":12,"models":tasks(&[])}));
    assert_eq!(bench.row(TASKS, "t1"), None);
}
