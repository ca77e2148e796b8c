//! Claims of rows, joined groups and presence: what a client announces, what it takes from the server, and how it ends.

use ablo_wasm::core::error::Error;
use ablo_wasm::core::input::{Change, Command, Ticket};
use ablo_wasm::core::output::Output;
use serde_json::{Value, json};

use crate::harness::{Bench, NOTES, TASKS, task_delta, tasks};

const WAITING: &str = "{}";

/// A client with two tasks.
fn bench() -> Bench {
    Bench::started(&tasks(&[json!({"id":"t1","title":"A"}), json!({"id":"t2","title":"B"})]))
}

fn payload(id: &str, row: &str, queue: bool) -> Value {
    json!({"claimId":id,"entityType":"task","entityId":row,"action":"editing","queue":queue})
}

fn claim(bench: &mut Bench, id: &str, options: &str) -> Ticket {
    claim_row(bench, id, "t1", true, options)
}

fn claim_row(bench: &mut Bench, id: &str, row: &str, queue: bool, options: &str) -> Ticket {
    let payload = payload(id, row, queue).to_string();
    bench.command(|ticket| Command::Claim(ticket, TASKS, payload, options.into())).unwrap()
}

fn release(bench: &mut Bench, id: &str) {
    bench.command(|_| Command::Release(id.into())).unwrap();
}

fn tell(bench: &mut Bench, kind: &str, id: &str, more: &Value) {
    let mut payload = json!({"claimId":id,"target":{"entityType":"task","entityId":"t1"}});
    payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    bench.receive(&json!({"type":kind,"payload":payload}));
}

fn acquired(bench: &mut Bench, id: &str, fence: u64) {
    tell(bench, "claim_acquired", id, &json!({"fencingToken":fence}));
}

fn granted(bench: &mut Bench, id: &str, fence: u64) {
    tell(bench, "claim_granted", id, &json!({"fencingToken":fence}));
}

/// A client that holds `t1` by `c-a`.
fn holder() -> Bench {
    let mut bench = bench();
    let ticket = claim(&mut bench, "c-a", WAITING);
    acquired(&mut bench, "c-a", 7);
    assert!(bench.outcome(ticket).unwrap().is_ok());
    bench.frames();
    bench
}

fn kinds(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect()
}

fn error(bench: &mut Bench, ticket: Ticket) -> Error {
    bench.outcome(ticket).expect("settled").expect_err("refused")
}

fn known(bench: &Bench) -> Value {
    serde_json::from_str(&bench.engine.coordination()).unwrap()
}

fn reopen(bench: &mut Bench) -> Vec<Value> {
    bench.close(1006);
    come_back(bench)
}

fn come_back(bench: &mut Bench) -> Vec<Value> {
    while !bench.outputs.iter().any(|output| matches!(output, Output::OpenSocket { .. })) {
        if bench.has_request("/auth/check") {
            bench.answer_probe(204, None);
        } else {
            bench.wait();
        }
    }
    bench.frames();
    bench.open();
    bench.frames()
}

fn update(bench: &mut Bench, title: &str, options: &str) -> Result<Ticket, Error> {
    bench.write(TASKS, "t1", Change::Update(json!({"title":title}).to_string()), Some(options))
}

/// The payload of the one commit just sent.
fn sent(bench: &mut Bench) -> Value {
    bench.turn();
    let mut commits: Vec<Value> = bench.frames().into_iter().filter(|frame| frame["type"] == "commit").collect();
    assert_eq!(commits.len(), 1, "{commits:?}");
    commits.remove(0)["payload"].take()
}

#[test]
fn c3_the_first_gets_the_row() {
    let mut bench = bench();
    bench.receive(&json!({"type":"subscription_ack","payload":{"success":true,"syncGroups":["org:acme","user:u1"]}}));
    let ticket = claim(&mut bench, "c-a", WAITING);
    let frames = bench.frames();
    assert_eq!(
        frames,
        [
            json!({"type":"update_subscription","payload":{"syncGroups":["org:acme","user:u1","tasks:t1"]}}),
            json!({"type":"claim_begin","payload":payload("c-a", "t1", true)}),
        ]
    );
    bench.receive(
        &json!({"type":"subscription_ack","payload":{"success":true,"syncGroups":["org:acme","user:u1","tasks:t1"]}}),
    );
    assert!(bench.outcome(ticket).is_none());
    acquired(&mut bench, "c-a", 7);
    assert!(bench.outcome(ticket).unwrap().is_ok());
    assert_eq!(known(&bench)["own"][0]["held"], true);
    assert!(!bench.has_request("/sync/query"), "the row is current");

    bench.receive(&json!({"type":"claim_queue","payload":{"target":{"type":"task","id":"t1"},
        "queue":[{"object":"claim","id":"c-b","heldBy":"b","position":0}]}}));
    assert_eq!(known(&bench)["lines"][0]["queue"][0]["id"], "c-b");
    bench.receive(&json!({"type":"claim_queue","payload":{"target":{"type":"task","id":"t1"},"queue":[]}}));
    assert_eq!(known(&bench)["lines"], json!([]));

    release(&mut bench, "c-a");
    let frames = bench.frames();
    assert_eq!(frames[0], json!({"type":"claim_abandon","payload":payload("c-a", "t1", true)}));
    // Its group is left with it.
    assert_eq!(frames[1]["payload"]["syncGroups"], json!(["org:acme", "user:u1"]));
    assert_eq!(known(&bench)["own"], json!([]));
}

#[test]
fn c3_the_second_waits_and_reads_the_row_again() {
    let mut bench = bench();
    let ticket = claim(&mut bench, "c-b", WAITING);
    bench.frames();
    tell(&mut bench, "claim_queued", "c-b", &json!({"position":0,"heldBy":"a","heldByClaimId":"c-a"}));
    assert!(bench.outcome(ticket).is_none());
    granted(&mut bench, "c-b", 8);
    assert!(bench.outcome(ticket).is_none(), "not before the row is here");
    let (task, request) = bench.request("/sync/query");
    let body: Value = serde_json::from_str(request.body.as_deref().unwrap()).unwrap();
    assert_eq!(body["queries"][0]["where"], json!([["id", "t1"]]));
    bench.answer(task, 200, &json!({"results":[[{"id":"t1","title":"by A"}]],"lastSyncId":12}));
    assert!(bench.outcome(ticket).unwrap().is_ok());
    assert_eq!(bench.field("t1", "title"), "by A");
    let own = known(&bench)["own"][0].clone();
    assert_eq!((&own["held"], &own["waited"], &own["readAt"]), (&json!(true), &json!(true), &json!(12)));
    let write = update(&mut bench, "by B", r#"{"claim":"c-b"}"#).unwrap();
    let commit = sent(&mut bench);
    assert_eq!((&commit["claim"], &commit["fencingToken"]), (&json!("c-b"), &json!(8)));
    assert_eq!(
        (&commit["operations"][0]["readAt"], &commit["operations"][0]["onStale"]),
        (&json!(12), &json!("reject"))
    );
    assert!(bench.outcome(write).is_none());
}

#[test]
fn c4_a_lost_lease_is_told() {
    let mut bench = holder();
    tell(&mut bench, "claim_lost", "c-a", &json!({"reason":"expired"}));
    let lost = bench.event("claim:lost");
    assert_eq!((&lost[0]["claimId"], &lost[0]["error"]["code"]), (&json!("c-a"), &json!("claim_lost")));
    assert_eq!(known(&bench)["own"], json!([]));
    assert_eq!(kinds(&bench.frames()), Vec::<&str>::new(), "nothing to give back");
    let error = update(&mut bench, "X", r#"{"claim":"c-a"}"#).unwrap_err();
    assert_eq!(error.code, "claim_lost");
    assert_eq!(bench.field("t1", "title"), "A");
}

#[test]
fn a_claim_granted_before_the_catch_up_reads_its_row() {
    let mut bench = bench();
    bench.close(1006);
    let ticket = claim(&mut bench, "c-a", WAITING);
    while !bench.outputs.iter().any(|output| matches!(output, Output::OpenSocket { .. })) {
        if bench.has_request("/auth/check") {
            bench.answer_probe(204, None);
        } else {
            bench.wait();
        }
    }
    bench.open();
    acquired(&mut bench, "c-a", 7);
    assert!(bench.outcome(ticket).is_none(), "what has changed meanwhile is not here yet");
    let (task, _) = bench.request("/sync/query");
    bench.answer(task, 200, &json!({"results":[[{"id":"t1","title":"newer"}]],"lastSyncId":12}));
    assert!(bench.outcome(ticket).unwrap().is_ok());
    assert_eq!(bench.field("t1", "title"), "newer");
}

#[test]
fn a_row_that_only_an_own_write_shows_is_read() {
    let mut bench = bench();
    bench.write(NOTES, "n1", Change::Create(json!({"body":"mine"}).to_string()), None).unwrap();
    let payload = json!({"claimId":"c-a","entityType":"note","entityId":"n1","action":"editing","queue":true});
    let payload = payload.to_string();
    let ticket = bench.command(|ticket| Command::Claim(ticket, NOTES, payload, "{}".into())).unwrap();
    acquired(&mut bench, "c-a", 7);
    assert!(bench.outcome(ticket).is_none(), "the server may have the row, and newer");
    let (task, _) = bench.request("/sync/query");
    bench.answer(task, 200, &json!({"results":[[{"id":"n1","body":"theirs","taskId":null}]],"lastSyncId":12}));
    assert!(bench.outcome(ticket).unwrap().is_ok());
    assert_eq!(known(&bench)["own"][0]["readAt"], 12);
}

#[test]
fn a_new_connection_announces_again_under_the_same_id() {
    let mut bench = holder();
    let waiting = claim_row(&mut bench, "c-w", "t2", true, WAITING);
    let frames = reopen(&mut bench);
    let claims: Vec<&Value> = frames.iter().filter(|frame| frame["type"] == "claim_begin").collect();
    assert_eq!(claims[0]["payload"], payload("c-a", "t1", true));
    assert_eq!(claims[1]["payload"], payload("c-w", "t2", true));
    bench.answer_sync(10, &[]);
    acquired(&mut bench, "c-a", 7);
    assert_eq!(known(&bench)["own"][0]["held"], true);
    assert!(bench.event("claim:lost").is_empty());
    acquired(&mut bench, "c-w", 9);
    assert!(bench.outcome(waiting).unwrap().is_ok());
}

#[test]
fn another_grant_than_before_is_a_lost_claim() {
    let mut bench = holder();
    reopen(&mut bench);
    bench.answer_sync(10, &[]);
    acquired(&mut bench, "c-a", 8);
    assert_eq!(bench.event("claim:lost").len(), 1);
    // The new grant is nobody's: it is given back.
    assert!(kinds(&bench.frames()).contains(&"claim_abandon"));
    assert_eq!(known(&bench)["own"], json!([]));
}

#[test]
fn a_place_in_line_instead_of_the_row_is_a_lost_claim() {
    let mut bench = holder();
    reopen(&mut bench);
    tell(&mut bench, "claim_queued", "c-a", &json!({"position":0,"heldBy":"b"}));
    assert_eq!(bench.event("claim:lost").len(), 1);
    assert!(kinds(&bench.frames()).contains(&"claim_abandon"));
}

#[test]
fn who_does_not_wait_is_refused() {
    let mut bench = bench();
    let ticket = claim_row(&mut bench, "c-b", "t1", false, WAITING);
    let rejection = json!({"reason":"conflict","heldBy":"user_a","heldByClaimId":"c-a"});
    tell(&mut bench, "claim_rejected", "c-b", &rejection);
    let refused = error(&mut bench, ticket);
    assert_eq!(refused.code, "entity_claimed");
    assert!(refused.details.as_deref().unwrap().contains("user_a"));
    let ticket = claim(&mut bench, "c-c", WAITING);
    tell(&mut bench, "claim_rejected", "c-c", &rejection);
    assert_eq!(error(&mut bench, ticket).code, "claim_conflict");
    let ticket = claim(&mut bench, "c-d", WAITING);
    tell(&mut bench, "claim_rejected", "c-d", &json!({"reason":"quota_exceeded"}));
    assert_eq!(error(&mut bench, ticket).code, "claim_lease_unavailable");
}

#[test]
fn a_line_that_is_too_long_is_left() {
    let mut bench = bench();
    let ticket = claim(&mut bench, "c-b", r#"{"maxQueueDepth":2}"#);
    bench.frames();
    tell(&mut bench, "claim_queued", "c-b", &json!({"position":1}));
    assert!(bench.outcome(ticket).is_none());
    tell(&mut bench, "claim_queued", "c-b", &json!({"position":2}));
    assert_eq!(error(&mut bench, ticket).code, "queue_too_deep");
    assert_eq!(bench.frames()[0]["type"], "claim_abandon");
}

#[test]
fn patience_ends() {
    let mut bench = bench();
    let ticket = claim(&mut bench, "c-b", r#"{"waitTimeoutMs":500}"#);
    tell(&mut bench, "claim_queued", "c-b", &json!({"position":0}));
    bench.frames();
    bench.elapse(499);
    assert!(bench.outcome(ticket).is_none());
    bench.elapse(1);
    assert_eq!(error(&mut bench, ticket).code, "grant_timeout");
    assert_eq!(bench.frames()[0]["type"], "claim_abandon");
}

#[test]
fn giving_back_ends_the_wait() {
    let mut bench = bench();
    let ticket = claim(&mut bench, "c-b", WAITING);
    bench.frames();
    release(&mut bench, "c-b");
    assert_eq!(error(&mut bench, ticket).code, "claim_wait_aborted");
    assert_eq!(bench.frames()[0]["type"], "claim_abandon");
    granted(&mut bench, "c-b", 9);
    assert_eq!(known(&bench)["own"], json!([]));
}

/// A claim that is granted, and its row is being read.
fn reading() -> (Bench, Ticket) {
    let mut bench = bench();
    let ticket = claim(&mut bench, "c-b", WAITING);
    tell(&mut bench, "claim_queued", "c-b", &json!({"position":0}));
    granted(&mut bench, "c-b", 8);
    bench.frames();
    (bench, ticket)
}

#[test]
fn what_ends_while_its_row_is_read_is_not_granted() {
    let (mut bench, ticket) = reading();
    release(&mut bench, "c-b");
    assert_eq!(error(&mut bench, ticket).code, "claim_wait_aborted");
    assert_eq!(bench.frames()[0]["type"], "claim_abandon");
    let (task, _) = bench.request("/sync/query");
    bench.answer(task, 200, &json!({"results":[[{"id":"t1","title":"by A"}]],"lastSyncId":12}));
    assert!(bench.outcome(ticket).is_none());
    assert_eq!(bench.field("t1", "title"), "by A");

    let (mut bench, ticket) = reading();
    tell(&mut bench, "claim_lost", "c-b", &json!({"reason":"expired"}));
    assert_eq!(error(&mut bench, ticket).code, "claim_lost");
    assert!(bench.event("claim:lost").is_empty());
}

#[test]
fn a_page_that_goes_away_waits_for_nothing() {
    let mut bench = holder();
    let waiting = claim_row(&mut bench, "c-w", "t2", true, WAITING);
    bench.frames();
    bench.command(|_| Command::LeaveClaims).unwrap();
    assert_eq!(moves(&bench.frames()), ["-c-w", "-c-a"]);
    assert_eq!(error(&mut bench, waiting).code, "claim_lost");
    // It may come back, and does not hold the row then.
    assert_eq!(bench.event("claim:lost")[0]["claimId"], "c-a");
    assert_eq!(moves(&reopen(&mut bench)), ["-c-w", "-c-a"]);
}

#[test]
fn a_page_that_goes_away_keeps_a_claim_for_the_writes_under_it() {
    let mut bench = holder();
    update(&mut bench, "X", "{}").unwrap();
    bench.command(|_| Command::LeaveClaims).unwrap();
    assert!(!bench.has_request("/v1/claims/c-a"));
    bench.turn();
    let commit = sent(&mut bench);
    assert_eq!(moves(&bench.frames()), [""; 0]);
    bench.delta(11, "U", "t1", &json!({"id":"t1","title":"X"}));
    bench.accept(commit["clientTxId"].as_str().unwrap(), 11);
    assert_eq!(moves(&bench.frames()), ["-c-a"]);
}

#[test]
fn a_page_that_comes_back_is_in_its_groups() {
    let mut bench = bench();
    let join = json!({"claimId":"participant:1","syncGroups":["tasks:t1"]}).to_string();
    bench.command(|ticket| Command::Claim(ticket, TASKS, join, WAITING.into())).unwrap();
    bench.command(|_| Command::LeaveClaims).unwrap();
    assert_eq!(kinds(&reopen(&mut bench)).iter().filter(|kind| **kind == "claim").count(), 1);
}

#[test]
fn what_is_given_back_without_a_connection_is_given_back_on_the_next() {
    let mut bench = holder();
    bench.close(1006);
    release(&mut bench, "c-a");
    let frames = come_back(&mut bench);
    let about: Vec<&str> = kinds(&frames).into_iter().filter(|kind| kind.starts_with("claim")).collect();
    assert_eq!(about, ["claim_abandon"], "it is not asked for again");
    assert_eq!(known(&bench)["own"], json!([]));
}

#[test]
fn what_is_given_back_is_given_back_again_where_the_server_may_not_have_heard() {
    let mut bench = holder();
    release(&mut bench, "c-a");
    claim(&mut bench, "c-b", WAITING);
    assert_eq!(moves(&bench.frames()), ["-c-a", "+c-b"]);
    // First of all: whoever holds the row would get it again, past everybody who waits.
    assert_eq!(moves(&reopen(&mut bench)), ["-c-a", "+c-b"]);
    assert_eq!(moves(&reopen(&mut bench)), ["-c-a", "+c-b"]);
    bench.answer_sync(10, &[]);
    release(&mut bench, "c-b");
    assert_eq!(moves(&reopen(&mut bench)), ["-c-b"], "the answer to what was asked after c-a, and before c-b");
    bench.answer_sync(10, &[]);
    assert_eq!(moves(&reopen(&mut bench)), [""; 0]);
}

#[test]
fn a_page_that_goes_away_asks_by_request_too() {
    let mut bench = holder();
    bench.close(1001);
    bench.command(|_| Command::LeaveClaims).unwrap();
    let (_, request) = bench.request("/v1/claims/c-a");
    assert_eq!((request.method.name(), request.bearer.is_some()), ("DELETE", true));
}

#[test]
fn dispose_gives_back_and_settles() {
    let mut bench = holder();
    let waiting = claim_row(&mut bench, "c-w", "t2", true, WAITING);
    bench.frames();
    let disposed = bench.command(Command::Dispose).unwrap();
    assert!(bench.outcome(disposed).unwrap().is_ok());
    assert!(bench.outcome(waiting).expect("settled").is_err());
    let frames = bench.frames();
    assert_eq!(kinds(&frames).iter().filter(|kind| **kind == "claim_abandon").count(), 2, "{frames:?}");
}

#[test]
fn stamps_follow_own_writes() {
    let mut bench = holder();
    update(&mut bench, "X", "{}").unwrap();
    let first = sent(&mut bench);
    assert_eq!((&first["claim"], &first["operations"][0]["readAt"]), (&json!("c-a"), &json!(10)));
    let key = first["clientTxId"].as_str().unwrap().to_owned();
    bench.delta(11, "U", "t1", &json!({"id":"t1","title":"X"}));
    bench.accept(&key, 11);
    bench.frames();
    update(&mut bench, "Y", "{}").unwrap();
    assert_eq!(sent(&mut bench)["operations"][0]["readAt"], 11);
}

#[test]
fn what_the_caller_says_goes_before_the_claim() {
    let mut bench = holder();
    update(&mut bench, "X", r#"{"readAt":4,"onStale":"overwrite"}"#).unwrap();
    let commit = sent(&mut bench);
    assert_eq!(
        (&commit["operations"][0]["readAt"], &commit["operations"][0]["onStale"]),
        (&json!(4), &json!("overwrite"))
    );
    assert_eq!(commit["claim"], "c-a");
}

#[test]
fn other_rows_are_not_under_the_claim() {
    let mut bench = holder();
    bench.write(TASKS, "t2", Change::Update(json!({"title":"X"}).to_string()), None).unwrap();
    let commit = sent(&mut bench);
    assert_eq!((&commit["claim"], &commit["operations"][0]["readAt"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_claim_is_kept_until_the_writes_under_it_are_through() {
    let mut bench = holder();
    update(&mut bench, "X", "{}").unwrap();
    release(&mut bench, "c-a");
    let frames = bench.frames();
    assert!(!kinds(&frames).contains(&"claim_abandon"), "{frames:?}");
    let commit = sent(&mut bench);
    bench.delta(11, "U", "t1", &json!({"id":"t1","title":"X"}));
    bench.accept(commit["clientTxId"].as_str().unwrap(), 11);
    assert!(kinds(&bench.frames()).contains(&"claim_abandon"));
    assert_eq!(known(&bench)["own"], json!([]));
}

/// The claims in frames about claims, in order: `-` gives back.
fn moves(frames: &[Value]) -> Vec<String> {
    let mut moves = Vec::new();
    for frame in frames {
        let id = frame["payload"]["claimId"].as_str().unwrap_or_default();
        match frame["type"].as_str().unwrap() {
            "claim_begin" => moves.push(format!("+{id}")),
            "claim_abandon" => moves.push(format!("-{id}")),
            _ => {}
        }
    }
    moves
}

#[test]
fn who_claims_a_row_again_before_it_is_given_back_takes_a_new_place_in_line() {
    let mut bench = holder();
    update(&mut bench, "X", "{}").unwrap();
    release(&mut bench, "c-a");
    let again = claim(&mut bench, "c-b", WAITING);
    let other = claim_row(&mut bench, "c-c", "t2", true, WAITING);
    assert_eq!(moves(&bench.frames()), ["+c-c"]);
    bench.turn();
    let commit = sent(&mut bench);
    bench.delta(11, "U", "t1", &json!({"id":"t1","title":"X"}));
    bench.accept(commit["clientTxId"].as_str().unwrap(), 11);
    assert_eq!(moves(&bench.frames()), ["-c-a", "+c-b"]);
    acquired(&mut bench, "c-b", 8);
    assert!(bench.outcome(again).unwrap().is_ok() && bench.outcome(other).is_none());
    // Without a connection the row is given back on the next.
    bench.close(1006);
    release(&mut bench, "c-b");
    claim(&mut bench, "c-d", WAITING);
    assert_eq!(moves(&come_back(&mut bench)), ["-c-a", "+c-c", "-c-b", "+c-d"]);
}

#[test]
fn who_holds_a_row_twice_keeps_it_when_one_claim_is_given_back() {
    let mut bench = holder();
    let again = claim(&mut bench, "c-b", WAITING);
    acquired(&mut bench, "c-b", 8);
    assert!(bench.outcome(again).unwrap().is_ok());
    update(&mut bench, "X", "{}").unwrap();
    release(&mut bench, "c-a");
    bench.frames();
    assert_eq!(moves(&reopen(&mut bench)), ["+c-a", "+c-b"]);
}

#[test]
fn groups_are_joined_and_left() {
    let mut bench = bench();
    let payload = json!({"claimId":"participant:1","syncGroups":["decks:d1"]});
    let text = payload.to_string();
    let ticket = bench.command(|ticket| Command::Claim(ticket, NOTES, text, "{}".into())).unwrap();
    assert_eq!(bench.frames(), [json!({"type":"claim","payload":payload})]);
    bench.receive(&json!({"type":"claim_ack","payload":{"claimId":"participant:1","success":true}}));
    assert!(bench.outcome(ticket).unwrap().is_ok());
    assert!(reopen(&mut bench).iter().any(|frame| frame["type"] == "claim"));
    bench.receive(&json!({"type":"claim_expired","payload":{"claimId":"participant:1"}}));
    assert_eq!(bench.event("claim:lost").len(), 1);
    let text = payload.to_string();
    let ticket = bench.command(|ticket| Command::Claim(ticket, NOTES, text, "{}".into())).unwrap();
    bench.receive(&json!({"type":"claim_ack","payload":{"claimId":"participant:1","success":false,
        "error":{"code":"capability_scope_denied","message":"no"}}}));
    assert_eq!(error(&mut bench, ticket).code, "capability_scope_denied");
}

#[test]
fn activities_are_told_ten_times_a_second_and_again_after_a_reconnect() {
    let mut bench = bench();
    bench.elapse(1000);
    bench.frames();
    let activity = |row: &str| json!({"entityType":"task","entityId":row,"action":"editing"});
    let told = |frames: Vec<Value>| -> Vec<Value> {
        let told = frames.into_iter().filter(|frame| frame["type"] == "presence_update");
        told.map(|frame| frame["payload"]["activity"].clone()).collect()
    };
    for row in ["t1", "t2", "t3"] {
        bench.command(|_| Command::Activity(activity(row).to_string())).unwrap();
    }
    bench.turn();
    let mut first = told(bench.frames());
    bench.command(|_| Command::Activity(activity("t4").to_string())).unwrap();
    bench.turn();
    bench.command(|_| Command::Activity(activity("t5").to_string())).unwrap();
    bench.elapse(99);
    assert_eq!(told(bench.frames()), Vec::<Value>::new());
    bench.elapse(1);
    first.extend(told(bench.frames()));
    assert_eq!(first, [activity("t1"), activity("t5")]);
    assert_eq!(told(reopen(&mut bench)), [activity("t5")]);
}

#[test]
fn the_roster_has_others_while_they_are_there() {
    let mut bench = bench();
    let presence = |who: &str, kind: &str| {
        json!({"type":"presence_update","payload":{"kind":kind,"userId":who,
        "participantKind":"user","status":"online","activeClaims":[]}})
    };
    bench.receive(&presence("u1", "enter"));
    assert_eq!(known(&bench)["peers"], json!([]), "that is us");
    bench.receive(&presence("u2", "enter"));
    bench.receive(&presence("u3", "update"));
    bench.receive(&presence("u2", "update"));
    let who: Vec<Value> =
        known(&bench)["peers"].as_array().unwrap().iter().map(|peer| peer["userId"].clone()).collect();
    assert_eq!(who, ["u3", "u2"]);
    bench.receive(&presence("u2", "leave"));
    assert_eq!(known(&bench)["peers"].as_array().unwrap().len(), 1);
    bench.receive(&json!({"type":"claim_queue","payload":{"target":{"type":"task","id":"t1"},"queue":[{"id":"c-b"}]}}));
    reopen(&mut bench);
    assert_eq!((&known(&bench)["peers"], &known(&bench)["lines"]), (&json!([]), &json!([])));
}

#[test]
fn a_delta_moves_no_stamp_of_a_row_that_it_does_not_change() {
    let mut bench = holder();
    bench.receive(&json!({"type":"delta","payload":task_delta(11, "U", "t2", &json!({"id":"t2","title":"Z"}))}));
    bench.frames();
    update(&mut bench, "X", "{}").unwrap();
    assert_eq!(sent(&mut bench)["operations"][0]["readAt"], 10);
}
