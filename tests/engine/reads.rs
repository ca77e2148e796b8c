//! Reads through the server.

use serde_json::{Value, json};

use crate::harness::{Bench, NOTES, TASKS, tasks};

fn body(request: &ablo_wasm::core::output::Request) -> Value {
    serde_json::from_str(request.body.as_deref().unwrap()).unwrap()
}

#[test]
fn a_read_asks_once_and_remembers_only_complete_answers() {
    let mut bench = Bench::started(&tasks(&[]));
    let options = json!({"where":[["taskId","IN",["t1","t2"]],["body","x"]],"orderBy":{"body":"desc"},"limit":5});
    let first = bench.read(NOTES, options.clone()).unwrap();
    let second = bench.read(NOTES, options.clone()).unwrap();
    let (task, request) = bench.request("/sync/query");
    assert!(!bench.has_request("/sync/query"), "identical reads share one request");
    assert_eq!(
        body(&request),
        json!({"queries":[{"model":"Note","where":[["body","x"],["task","IN",["t1","t2"]]],"orderBy":"body","order":"desc","limit":5}]})
    );
    bench.answer(task, 500, &json!({"code":"model_query_failed","message":"broken"}));
    for ticket in [first, second] {
        assert_eq!(bench.outcome(ticket).unwrap().unwrap_err().code, "model_query_failed");
    }
    let third = bench.read(NOTES, options.clone()).unwrap();
    let (task, _) = bench.request("/sync/query");
    bench.answer(task, 200, &json!({"results":[[]],"lastSyncId":10}));
    assert_eq!(bench.outcome(third).unwrap().unwrap().as_deref(), Some("[]"));
    let fourth = bench.read(NOTES, options).unwrap();
    assert!(!bench.has_request("/sync/query"), "a complete answer is remembered");
    assert_eq!(bench.outcome(fourth).unwrap().unwrap().as_deref(), Some("[]"));
}

#[test]
fn rows_join_the_cache_related_ones_too() {
    let mut bench = Bench::started(&tasks(&[]));
    let ticket = bench.read(NOTES, json!({"where":[["taskId","t1"]],"expand":["task"]})).unwrap();
    let (task, request) = bench.request("/sync/query");
    assert_eq!(body(&request)["queries"][0]["related"], json!(["task"]));
    bench.answer(
        task,
        200,
        &json!({"results":[[{"__typename":"Note","id":"n1","body":"hi","taskId":"t1",
        "task":{"__typename":"Task","id":"t1","title":"A"}}]],"lastSyncId":10}),
    );
    assert!(bench.outcome(ticket).unwrap().is_ok());
    assert_eq!(bench.row(NOTES, "n1"), Some(json!({"id":"n1","body":"hi","taskId":"t1"})));
    assert_eq!(bench.row(TASKS, "t1"), Some(json!({"id":"t1","title":"A"})));
    // Live changes reach it from now on.
    bench.receive(&json!({"type":"delta","payload":{"id":11,"actionType":"U","modelName":"Note","modelId":"n1","data":"{\"body\":\"ho\"}"}}));
    assert_eq!(bench.row(NOTES, "n1").unwrap()["body"], "ho");
}

#[test]
fn local_rows_answer_at_once_and_are_checked_behind() {
    let mut bench =
        Bench::started(&tasks(&[json!({"id":"t1","title":"A","rank":2}), json!({"id":"t2","title":"A","rank":1})]));
    let ticket = bench.read(TASKS, json!({"where":[["title","A"]],"orderBy":{"rank":"asc"}})).unwrap();
    let slots: Vec<u32> = serde_json::from_str(&bench.outcome(ticket).unwrap().unwrap().unwrap()).unwrap();
    assert_eq!(slots, [1, 0], "sorted as asked");
    let (task, _) = bench.request("/sync/query");
    bench.answer(
        task,
        200,
        &json!({"results":[[{"id":"t1","title":"A","rank":9},{"id":"t2","title":"A","rank":1}]],"lastSyncId":10}),
    );
    assert_eq!(bench.field("t1", "rank"), 9);
}

#[test]
fn an_old_answer_does_not_overwrite_newer_rows() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"})]));
    let ticket = bench.read(TASKS, json!({"id":"t1","type":"complete"})).unwrap();
    let (task, request) = bench.request("/sync/query");
    assert_eq!(body(&request)["queries"][0]["where"], json!([["id", "t1"]]));
    bench.delta(12, "U", "t1", &json!({"title":"newer"}));
    bench.answer(task, 200, &json!({"results":[[{"id":"t1","title":"A"}]],"lastSyncId":11}));
    assert!(bench.outcome(ticket).unwrap().is_ok());
    assert_eq!(bench.field("t1", "title"), "newer");
}

#[test]
fn a_delete_that_overtakes_an_answer_counts() {
    let mut bench = Bench::started(&tasks(&[]));
    let ticket = bench.read(NOTES, json!({"id":"n1"})).unwrap();
    let (task, _) = bench.request("/sync/query");
    bench.receive(
        &json!({"type":"delta","payload":{"id":12,"actionType":"D","modelName":"Note","modelId":"n1","data":null}}),
    );
    bench.answer(task, 200, &json!({"results":[[{"id":"n1","body":"ghost"}]],"lastSyncId":11}));
    assert_eq!(bench.outcome(ticket).unwrap().unwrap().as_deref(), Some("[]"));
    assert_eq!(bench.row(NOTES, "n1"), None);
}

#[test]
fn pending_writes_stay_on_top_of_what_is_read() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"})]));
    bench.update("t1", json!({"title":"mine"}));
    bench.read(TASKS, json!({"id":"t1","type":"complete"})).unwrap();
    let (task, _) = bench.request("/sync/query");
    bench.answer(task, 200, &json!({"results":[[{"id":"t1","title":"theirs","rank":3}]],"lastSyncId":11}));
    assert_eq!((bench.field("t1", "title"), bench.field("t1", "rank")), (json!("mine"), json!(3)));
}

#[test]
fn reading_one_row_subscribes_to_it() {
    let mut bench = Bench::started(&tasks(&[]));
    bench.receive(&json!({"type":"subscription_ack","payload":{"success":true,"syncGroups":["org:acme","user:u1"]}}));
    bench.read(NOTES, json!({"id":"n1"})).unwrap();
    let frames = bench.frames();
    assert_eq!(
        frames[0],
        json!({"type":"update_subscription","payload":{"syncGroups":["org:acme","user:u1","notes:n1"]}})
    );
}

#[test]
fn a_row_that_the_server_does_not_have_any_more_goes_with_the_answer() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"}), json!({"id":"t2","title":"B"})]));
    let ticket = bench.read(TASKS, json!({"id":"t1","type":"complete"})).unwrap();
    let (task, _) = bench.request("/sync/query");
    bench.answer(task, 200, &json!({"results":[[]],"lastSyncId":20}));
    assert_eq!(bench.outcome(ticket).unwrap().unwrap().as_deref(), Some("[]"));
    assert_eq!((bench.engine.row(TASKS, "t1"), bench.engine.row(TASKS, "t2").is_some()), (None, true));
}

#[test]
fn bad_options_are_named() {
    let mut bench = Bench::started(&tasks(&[]));
    for (options, code, param) in [
        (json!({"where":[["nope",1]]}), "query_invalid_identifier", "where"),
        (json!({"where":[["title","~","x"]]}), "query_unsupported_operator", "where"),
        (json!({"where":vec![json!(["title","x"]); 65]}), "invalid_options", "where"),
        (json!({"orderBy":{"nope":"asc"}}), "invalid_options", "orderBy"),
        (json!({"expand":["nope"]}), "query_unknown_relation", "expand"),
    ] {
        let error = bench.read(TASKS, options).unwrap_err();
        assert_eq!((error.code.as_ref(), error.param.as_deref()), (code, Some(param)));
    }
}

#[test]
fn answers_that_are_no_answers_are_errors() {
    let mut bench = Bench::started(&tasks(&[]));
    for answer in [json!({}), json!([]), json!({"results":{}}), json!({"results":[]})] {
        let ticket = bench.read(NOTES, json!({})).unwrap();
        let (task, _) = bench.request("/sync/query");
        bench.answer(task, 200, &answer);
        assert_eq!(bench.outcome(ticket).unwrap().unwrap_err().code, "protocol_violation", "{answer}");
    }
}
