//! Connections that end in every way, and what comes after.

use ablo_wasm::core::connection::RETRY_AFTER_MAX_MS;
use ablo_wasm::core::input::{Command, Credential, Input, Response};
use ablo_wasm::core::output::Output;
use ablo_wasm::core::queue::COMMIT_BYTES_MAX;
use serde_json::json;

use crate::harness::{Bench, tasks};

#[test]
fn resumes_by_cursor() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"})]));
    bench.delta(11, "U", "t1", &json!({"title":"B"}));
    bench.frames();
    bench.close(1012);
    bench.answer_probe(204, None);
    bench.open();
    let frames = bench.frames();
    let request = frames.iter().find(|frame| frame["type"] == "sync_request").unwrap();
    assert_eq!(request["payload"]["lastSyncId"], 11);
    assert!(!bench.has_request("/sync/bootstrap"));
}

#[test]
fn a_dead_line_is_noticed_without_its_close_event() {
    let mut bench = Bench::started(&tasks(&[]));
    for _ in 0..6 {
        bench.wait();
        if bench.has_request("/auth/check") {
            break;
        }
    }
    assert!(bench.now.mono.0 <= 1000 + 42_000, "{}", bench.now.mono.0);
    assert!(bench.outputs.iter().any(|output| matches!(output, Output::CloseSocket { .. })));
    bench.answer_probe(204, None);
    bench.open();
}

#[test]
fn session_close_codes_sign_out_only_if_the_probe_agrees() {
    for code in [1008, 4001, 4003] {
        let mut bench = Bench::started(&tasks(&[json!({"id":"t1"})]));
        bench.close(code);
        bench.answer_probe(204, None);
        bench.open();
        assert!(bench.engine.is_connected());
        bench.answer_sync(10, &[]);
        bench.close(code);
        // The second that ends so soon: after a pause.
        bench.wait();
        bench.answer_probe(401, Some("session_expired"));
        assert_eq!(bench.event("session:ended").len(), 1);
        assert_eq!(bench.row(crate::harness::TASKS, "t1"), None, "rows go before anybody is told");
    }
}

#[test]
fn a_server_that_closes_instead_of_catching_up_gets_a_bootstrap_request() {
    let mut bench = Bench::started(&tasks(&[]));
    bench.close(1006);
    bench.answer_probe(204, None);
    for _ in 0..2 {
        bench.open();
        assert!(!bench.has_request("/sync/bootstrap"), "once may be chance");
        bench.close(4000);
        while !bench.has_request("/auth/check") {
            bench.wait();
        }
        bench.answer_probe(204, None);
    }
    bench.open();
    assert!(bench.has_request("/sync/bootstrap"));
    assert_eq!(bench.event("reconciliation:needed").len(), 1);
}

#[test]
fn a_server_that_went_back_in_time_is_followed() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"})]));
    bench.close(1006);
    bench.answer_probe(204, None);
    bench.open();
    bench.answer_sync(3, &[]);
    bench.answer_bootstrap(3, &tasks(&[json!({"id":"t2","title":"other"})]));
    assert_eq!(bench.engine.cursor().0, 3);
    assert_eq!(bench.row(crate::harness::TASKS, "t1"), None);
    assert_eq!(bench.field("t2", "title"), "other");
}

#[test]
fn the_network_toggle_stops_and_resumes() {
    let mut bench = Bench::started(&tasks(&[]));
    bench.command(|_| Command::SetOffline(true)).unwrap();
    assert!(!bench.engine.is_connected());
    bench.create("t1", json!({"title":"offline"}));
    bench.input(Input::Online);
    assert!(!bench.has_request("/auth/check"), "the application's word stands");
    bench.command(|_| Command::SetOffline(false)).unwrap();
    bench.answer_probe(204, None);
    bench.open();
    bench.answer_sync(10, &[]);
    bench.turn();
    assert!(bench.frames().iter().any(|frame| frame["type"] == "commit"));
}

#[test]
fn start_up_fails_with_what_the_server_said_and_can_be_tried_again() {
    let mut bench = Bench::new();
    let ready = bench.start();
    let (task, _) = bench.request("/auth/identity");
    bench.answer(task, 401, &json!({"code":"apikey_invalid","message":"no such key"}));
    assert_eq!(bench.outcome(ready).unwrap().unwrap_err().code, "apikey_invalid");
    bench.command(|_| Command::SetToken("ek_test_2".into())).unwrap();
    let ready = bench.start();
    bench.answer_identity();
    bench.answer_bootstrap(1, &tasks(&[]));
    assert!(bench.outcome(ready).unwrap().is_ok());
}

#[test]
fn start_up_waits_for_a_server_that_is_not_there_yet() {
    let mut bench = Bench::new();
    let ready = bench.start();
    for _ in 0..3 {
        let (task, _) = bench.request("/auth/identity");
        bench.input(Input::Response(task, Err("connection refused".into())));
        bench.wait();
    }
    bench.answer_identity();
    bench.answer_bootstrap(1, &tasks(&[]));
    assert!(bench.outcome(ready).unwrap().is_ok());
}

#[test]
fn no_credential_is_no_login() {
    let mut bench = Bench::with(r#""apiKeyFunction":true"#);
    let ready = bench.start();
    bench.credential(Credential::SignedOut);
    assert_eq!(bench.outcome(ready).unwrap().unwrap_err().code, "auth_no_credentials");
}

#[test]
fn a_secret_key_is_exchanged_and_its_token_used() {
    let mut bench = Bench::with(r#""apiKey":"sk_test_1""#);
    bench.start();
    let (task, request) = bench.request("/auth/capability");
    assert_eq!(request.bearer.as_deref(), Some("sk_test_1"));
    assert_eq!(request.body.as_deref(), Some(r#"{"participantKind":"system","wideScope":true,"ttlSeconds":3600}"#));
    bench.answer(
        task,
        200,
        &json!({"capabilityId":"c","token":"rk_test_9","expiresAt":"2027-01-01T00:00:00.000Z",
        "organizationId":"acme","scope":{"organizationId":"acme","syncGroups":["org:acme"],"operations":["*"],
        "participantKind":"system","participantId":"system:acme"},"userMeta":{}}),
    );
    let (_, request) = bench.request("/sync/bootstrap");
    assert_eq!(request.bearer.as_deref(), Some("rk_test_9"));
}

#[test]
fn an_expired_key_in_an_answer_keeps_the_write() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"})]));
    let ticket = bench.update("t1", json!({"title":"B"}));
    bench.turn();
    let (key, _) = bench.commit();
    bench.refuse(&key, "apikey_expired");
    assert!(bench.outcome(ticket).is_none());
    bench.answer_probe(204, None);
    bench.open();
    assert!(bench.frames().iter().any(|frame| frame["payload"]["clientTxId"] == key.as_str()));
}

#[test]
fn dispose_waits_for_what_is_under_way_and_refuses_more() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"})]));
    let write = bench.update("t1", json!({"title":"B"}));
    let disposed = bench.command(Command::Dispose).unwrap();
    let (key, _) = bench.commit();
    assert!(bench.outcome(disposed).is_none());
    assert_eq!(bench.command(Command::Start).unwrap_err().code, "client_disposed");
    bench.delta(11, "U", "t1", &json!({"title":"B"}));
    bench.accept(&key, 11);
    assert!(bench.outcome(write).unwrap().is_ok());
    assert!(bench.outcome(disposed).unwrap().is_ok());
    assert!(bench.outputs.iter().any(|output| matches!(output, Output::CloseSocket { .. })));
    assert_eq!(bench.engine.poll_timeout(), None);
    let again = bench.command(Command::Dispose).unwrap();
    assert!(bench.outcome(again).unwrap().is_ok());
}

#[test]
fn dispose_does_not_wait_for_ever() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"})]));
    let write = bench.update("t1", json!({"title":"B"}));
    let disposed = bench.command(Command::Dispose).unwrap();
    bench.wait();
    bench.elapse(2000);
    assert!(bench.outcome(disposed).unwrap().is_ok());
    assert_eq!(bench.outcome(write).unwrap().unwrap_err().code, "client_disposed");
}

#[test]
fn a_bootstrap_that_fails_is_tried_again() {
    let mut bench = Bench::new();
    let ready = bench.start();
    bench.answer_identity();
    for _ in 0..2 {
        while !bench.has_request("/sync/bootstrap") {
            bench.wait();
        }
        let (task, _) = bench.request("/sync/bootstrap");
        bench.input(Input::Response(task, Ok(Response { status: 503, ..Default::default() })));
    }
    while !bench.has_request("/sync/bootstrap") {
        bench.wait();
    }
    bench.answer_bootstrap(1, &tasks(&[]));
    assert!(bench.outcome(ready).unwrap().is_ok());
}

#[test]
fn a_server_that_is_full_does_not_put_the_first_rows_off_for_ever() {
    let mut bench = Bench::new();
    bench.start();
    bench.answer_identity();
    let (task, _) = bench.request("/sync/bootstrap");
    let busy = Response { status: 503, retry_after_ms: Some(u64::MAX), ..Response::default() };
    bench.input(Input::Response(task, Ok(busy)));
    bench.open();
    let mut waited = 0;
    while !bench.has_request("/sync/bootstrap") && waited <= RETRY_AFTER_MAX_MS {
        bench.elapse(5_000);
        bench.receive(&json!({"type":"pong"}));
        waited += 5_000;
    }
    assert!(bench.has_request("/sync/bootstrap"), "not asked again within {waited} ms");
}

#[test]
fn a_machine_that_slept_is_noticed_without_any_event() {
    let mut bench = Bench::started(&tasks(&[]));
    bench.now.wall.0 += 3_600_000;
    bench.input(Input::Timeout);
    assert!(bench.frames().iter().any(|frame| frame["type"] == "ping"));
    // Nobody answers.
    bench.elapse(10_000);
    bench.answer_probe(204, None);
    bench.open();
    assert!(bench.engine.is_connected());
    // A clock that goes back, or is put right by a little, is nothing.
    bench.frames();
    bench.now.wall.0 -= 1_800_000;
    bench.input(Input::Timeout);
    bench.now.wall.0 += 5_000;
    bench.input(Input::Timeout);
    assert!(bench.frames().is_empty());
}

#[test]
fn what_waits_for_the_line_is_bounded() {
    let mut bench = Bench::started(&tasks(&[]));
    for at in 0..5_000 {
        bench.create(&format!("n{at}"), json!({"title":"x".repeat(200)}));
        if at % 50 == 0 {
            bench.turn();
        }
    }
    bench.turn();
    let frames = bench.frames();
    let bytes: usize = frames.iter().map(|frame| frame.to_string().len()).sum();
    assert_eq!(frames.iter().filter(|frame| frame["type"] == "commit").count(), 1, "one at a time");
    assert!(bytes <= COMMIT_BYTES_MAX + 1_000, "{bytes}");
}

#[test]
fn who_believes_to_be_ahead_of_the_snapshots_asks_the_stream() {
    let mut bench = Bench::started(&tasks(&[json!({"id":"t1","title":"A"})]));
    bench.receive(&json!({"type":"sync_response","payload":{"deltas":[],"currentSyncId":9_007_199_254_740_991_u64}}));
    bench.receive(&json!({"type":"sync_response","payload":{"requiresBootstrap":true}}));
    bench.frames();
    bench.answer_bootstrap(20, &tasks(&[json!({"id":"t1","title":"B"})]));
    assert_eq!(bench.field("t1", "title"), "A", "a replica may lag behind");
    let frames = bench.frames();
    assert!(frames.iter().any(|frame| frame["type"] == "sync_request"), "{frames:?}");
    // Not a replica: the server itself has less.
    bench.answer_sync(20, &[]);
    bench.wait();
    bench.answer_bootstrap(20, &tasks(&[json!({"id":"t1","title":"B"})]));
    assert_eq!((bench.field("t1", "title"), bench.engine.cursor().0), (json!("B"), 20));
}
