//! The life of writes: optimistic, gathered, merged, split, confirmed, refused.

use ablo_wasm::core::input::{Change, Command};
use serde_json::{Value, json};

use crate::harness::{Bench, DECKS, TASKS, task_delta, tasks, text};

fn one_task() -> Bench {
    Bench::started(&tasks(&[json!({"id":"t1","title":"A","rank":1})]))
}

#[test]
fn a_write_is_visible_at_once_and_confirmed_by_answer_and_delta() {
    let mut bench = one_task();
    let ticket = bench.update("t1", json!({"title":"B"}));
    assert_eq!(bench.field("t1", "title"), "B");
    assert!(bench.frames().is_empty(), "writes of one turn are gathered");
    bench.turn();
    let (key, _) = bench.commit();
    bench.accept(&key, 11);
    assert!(bench.outcome(ticket).is_none(), "its delta is not here yet");
    bench.delta(11, "U", "t1", &json!({"id":"t1","title":"B","rank":1}));
    assert!(bench.outcome(ticket).unwrap().is_ok());
}

#[test]
fn a_write_before_ready_starts_the_client_and_is_sent() {
    let mut bench = Bench::new();
    let ticket = bench.create("t1", json!({"title":"A"}));
    bench.turn();
    assert_eq!(bench.field("t1", "title"), "A");
    bench.answer_identity();
    bench.answer_bootstrap(10, &tasks(&[]));
    bench.open();
    bench.answer_sync(10, &[]);
    let (key, operations) = bench.commit();
    assert_eq!(operations[0]["id"], "t1");
    bench.accept(&key, 11);
    bench.delta(11, "I", "t1", &json!({"id":"t1","title":"A"}));
    assert!(bench.outcome(ticket).unwrap().is_ok());
}

#[test]
fn a_missing_delta_is_asked_for() {
    let mut bench = one_task();
    let ticket = bench.update("t1", json!({"title":"B"}));
    bench.turn();
    let (key, _) = bench.commit();
    bench.accept(&key, 11);
    bench.wait();
    let frames = bench.frames();
    assert_eq!(frames.last().unwrap()["type"], "sync_request", "{frames:?}");
    bench.answer_sync(11, &[task_delta(11, "U", "t1", &json!({"id":"t1","title":"B"}))]);
    bench.answer_sync(11, &[]);
    assert!(bench.outcome(ticket).unwrap().is_ok());
}

#[test]
fn an_answer_without_sync_id_is_settled_by_the_next_catch_up() {
    let mut bench = one_task();
    let ticket = bench.update("t1", json!({"title":"B"}));
    bench.turn();
    let (key, _) = bench.commit();
    bench.accept(&key, 0);
    bench.wait();
    bench.answer_sync(10, &[]);
    assert!(bench.outcome(ticket).unwrap().is_ok());
    assert_eq!(bench.engine.pending_count(), 0);
}

#[test]
fn foreign_changes_do_not_touch_unsent_edits() {
    let mut bench = one_task();
    bench.update("t1", json!({"title":"mine"}));
    bench.delta(11, "U", "t1", &json!({"id":"t1","title":"theirs","rank":5}));
    assert_eq!((bench.field("t1", "title"), bench.field("t1", "rank")), (json!("mine"), json!(5)));
    bench.turn();
    let (key, _) = bench.commit();
    bench.refuse(&key, "check_violation");
    assert_eq!(bench.field("t1", "title"), "theirs");
}

#[test]
fn updates_of_one_turn_merge_and_share_one_completion() {
    let mut bench = one_task();
    let first = bench.update("t1", json!({"title":"B"}));
    let second = bench.update("t1", json!({"rank":2}));
    bench.turn();
    let (key, operations) = bench.commit();
    assert_eq!(operations.len(), 1);
    assert_eq!(operations[0]["input"], json!({"title":"B","rank":2}));
    bench.accept(&key, 11);
    bench.delta(11, "U", "t1", &json!({"id":"t1","title":"B","rank":2}));
    assert!(bench.outcome(first).unwrap().is_ok());
    assert!(bench.outcome(second).unwrap().is_ok());
}

#[test]
fn edits_behind_a_sent_one_are_gathered_into_one_follow_up() {
    let mut bench = one_task();
    bench.update("t1", json!({"title":"B"}));
    bench.turn();
    let (key, _) = bench.commit();
    for rank in 2..6 {
        bench.update("t1", json!({"rank":rank}));
        bench.turn();
    }
    assert!(bench.frames().is_empty(), "one commit is under way at a time");
    bench.accept(&key, 11);
    let (_, operations) = bench.commit();
    assert_eq!(operations.len(), 1);
    assert_eq!(operations[0]["input"], json!({"rank":5}));
}

#[test]
fn guarded_updates_never_merge() {
    let mut bench = one_task();
    bench.update("t1", json!({"title":"B"}));
    let change = Change::Update(json!({"title":"C"}).to_string());
    bench.write(TASKS, "t1", change, Some(r#"{"readAt":10}"#)).unwrap();
    bench.update("t1", json!({"title":"D"}));
    bench.turn();
    let (_, operations) = bench.commit();
    let titles: Vec<&Value> = operations.iter().map(|operation| &operation["input"]["title"]).collect();
    assert_eq!(titles, ["B", "C", "D"]);
}

#[test]
fn create_update_delete_in_one_turn_sends_nothing() {
    let mut bench = one_task();
    let tickets =
        [bench.create("t2", json!({"title":"x"})), bench.update("t2", json!({"title":"y"})), bench.delete("t2")];
    bench.turn();
    assert!(bench.frames().is_empty());
    for ticket in tickets {
        assert!(bench.outcome(ticket).unwrap().is_ok());
    }
    assert_eq!((bench.row(TASKS, "t2"), bench.engine.pending_count()), (None, 0));
}

#[test]
fn a_delete_replaces_waiting_updates_and_a_new_create_follows_it() {
    let mut bench = one_task();
    let update = bench.update("t1", json!({"title":"B"}));
    let delete = bench.delete("t1");
    assert_eq!(bench.row(TASKS, "t1"), None);
    let create = bench.create("t1", json!({"title":"again"}));
    assert_eq!(bench.field("t1", "title"), "again");
    bench.turn();
    let (key, operations) = bench.commit();
    let kinds: Vec<&Value> = operations.iter().map(|operation| &operation["type"]).collect();
    assert_eq!(kinds, ["DELETE", "CREATE"]);
    bench.accept(&key, 12);
    bench.receive(&json!({"type":"delta","payload":{"deltas":[
        task_delta(11, "D", "t1", &Value::Null),
        task_delta(12, "I", "t1", &json!({"id":"t1","title":"again"}))]}}));
    for ticket in [update, delete, create] {
        assert!(bench.outcome(ticket).unwrap().is_ok());
    }
    assert_eq!(bench.row(TASKS, "t1"), Some(json!({"id":"t1","title":"again"})));
}

#[test]
fn parents_are_created_before_children() {
    let mut bench = one_task();
    bench.create("t2", json!({"title":"child","deckId":"d1"}));
    bench.update("t1", json!({"deckId":"d1"}));
    bench.write(DECKS, "d1", Change::Create(json!({"name":"parent"}).to_string()), None).unwrap();
    bench.turn();
    let (_, operations) = bench.commit();
    let order: Vec<&Value> = operations.iter().map(|operation| &operation["id"]).collect();
    assert_eq!(order, ["d1", "t2", "t1"]);
    assert_eq!(operations[0]["model"], "slidedeck");
}

#[test]
fn an_update_that_changes_nothing_sends_nothing() {
    let mut bench = one_task();
    let ticket = bench.update("t1", json!({"title":"A","rank":1}));
    assert!(bench.outcome(ticket).unwrap().is_ok());
    bench.turn();
    assert!(bench.frames().is_empty());
}

#[test]
fn one_bad_operation_fails_alone() {
    let mut bench = Bench::started(&tasks(&[]));
    let tickets: Vec<_> = (0..8).map(|n| bench.create(&format!("n{n}"), json!({"rank":n}))).collect();
    bench.turn();
    let mut keys = Vec::new();
    let mut applied = Vec::new();
    let mut head = 10;
    for _ in 0..20 {
        let frames = bench.frames();
        let Some(frame) = frames.iter().find(|frame| frame["type"] == "commit") else { break };
        let key = text(&frame["payload"]["clientTxId"]);
        assert!(!keys.contains(&key), "a refused commit is split under new keys");
        keys.push(key.clone());
        let ids: Vec<String> =
            frame["payload"]["operations"].as_array().unwrap().iter().map(|operation| text(&operation["id"])).collect();
        if ids.iter().any(|id| id == "n5") {
            bench.refuse(&key, "check_violation");
        } else {
            for id in ids {
                head += 1;
                bench.delta(head, "I", &id, &json!({"id":id}));
                applied.push(id);
            }
            bench.accept(&key, head);
        }
    }
    assert_eq!(applied, ["n0", "n1", "n2", "n3", "n4", "n6", "n7"]);
    for (index, ticket) in tickets.into_iter().enumerate() {
        let outcome = bench.outcome(ticket).unwrap();
        assert_eq!(outcome.is_err(), index == 5, "{index}");
    }
    assert_eq!(bench.row(TASKS, "n5"), None);
    assert_eq!(bench.event("write:rejected").len(), 1);
    assert_eq!(bench.event("write:rejected")[0]["transaction"]["modelId"], "n5");
}

#[test]
fn a_refused_delete_brings_the_row_back() {
    let mut bench = one_task();
    let ticket = bench.delete("t1");
    bench.turn();
    let (key, _) = bench.commit();
    bench.refuse(&key, "forbidden");
    assert_eq!(bench.outcome(ticket).unwrap().unwrap_err().code, "forbidden");
    assert_eq!(bench.field("t1", "title"), "A");
}

#[test]
fn deleting_what_is_gone_succeeds() {
    let mut bench = one_task();
    let ticket = bench.delete("t1");
    bench.turn();
    let (key, _) = bench.commit();
    bench.refuse(&key, "mutate_update_entity_not_found");
    assert!(bench.outcome(ticket).unwrap().is_ok());
}

#[test]
fn a_stale_write_is_refused_at_once() {
    let mut bench = one_task();
    let change = Change::Update(json!({"title":"B"}).to_string());
    let ticket = bench.write(TASKS, "t1", change, Some(r#"{"wait":"confirmed","readAt":9}"#)).unwrap();
    bench.turn();
    let (key, _) = bench.commit();
    bench.refuse(&key, "stale_context");
    let error = bench.outcome(ticket).unwrap().unwrap_err();
    assert_eq!((error.code.as_ref(), error.class()), ("stale_context", "AbloStaleContextError"));
    assert_eq!(bench.event("write:rejected")[0]["currentValues"]["title"], "A");
}

#[test]
fn a_passing_trouble_is_retried_under_the_same_key() {
    let mut bench = one_task();
    let ticket = bench.update("t1", json!({"title":"B"}));
    bench.turn();
    let (key, _) = bench.commit();
    for _ in 0..20 {
        bench.refuse(&key, "rate_limit_exceeded");
        assert!(bench.frames().is_empty());
        // Other timers may fire in between; the commit comes again under its key.
        let again = loop {
            bench.wait();
            if let Some(frame) = bench.frames().into_iter().find(|frame| frame["type"] == "commit") {
                break frame;
            }
        };
        assert_eq!(text(&again["payload"]["clientTxId"]), key);
    }
    assert!(bench.outcome(ticket).is_none());
    assert_eq!(bench.field("t1", "title"), "B");
}

#[test]
fn a_commit_that_always_breaks_the_server_does_not_block_the_rest() {
    let mut bench = one_task();
    let bad = bench.update("t1", json!({"title":"poison"}));
    bench.turn();
    let (key, _) = bench.commit();
    let good = bench.create("t2", json!({"title":"fine"}));
    bench.refuse(&key, "internal_error");
    let mut sent = 0;
    while bench.outcome(bad).is_none() {
        bench.wait();
        for frame in bench.frames() {
            if frame["type"] == "commit" && text(&frame["payload"]["clientTxId"]) == key {
                sent += 1;
                bench.refuse(&key, "internal_error");
                break;
            }
        }
        assert!(sent < 20, "it is given up at last");
    }
    bench.turn();
    let frames = bench.frames();
    assert!(sent >= 3, "{sent}");
    assert!(bench.outcome(good).is_none());
    let next = frames.iter().find(|frame| frame["type"] == "commit");
    // It may have been sent in the loop above already.
    assert!(next.is_some() || bench.engine.pending_count() == 1);
}

#[test]
fn being_offline_uses_up_no_attempt_and_keeps_key_and_order() {
    let mut bench = one_task();
    let first = bench.update("t1", json!({"title":"B"}));
    bench.turn();
    let (key, _) = bench.commit();
    for round in 0..10 {
        bench.close(1006);
        bench.create(&format!("x{round}"), json!({}));
        bench.turn();
        loop {
            if bench.has_request("/auth/check") {
                bench.answer_probe(204, None);
                break;
            }
            bench.wait();
        }
        bench.open();
        let frames = bench.frames();
        let commit = frames.iter().find(|frame| frame["type"] == "commit").expect("sent again");
        assert_eq!(text(&commit["payload"]["clientTxId"]), key);
    }
    assert!(bench.outcome(first).is_none());
    bench.answer_sync(10, &[]);
    bench.accept(&key, 11);
    let (_, operations) = bench.commit();
    assert_eq!(operations.len(), 10);
}

#[test]
fn a_commit_that_may_be_a_repeat_says_how_old_it_is_and_is_given_up_when_nobody_can_tell() {
    let mut bench = one_task();
    let created = bench.now.wall.0;
    let sent = |bench: &mut Bench| {
        let frames = bench.frames();
        frames.into_iter().find(|frame| frame["type"] == "commit").expect("a commit was sent")["payload"].take()
    };
    let first = bench.update("t1", json!({"title":"B"}));
    let second = bench.create("t2", json!({}));
    bench.turn();
    assert_eq!(sent(&mut bench)["createdAt"], Value::Null, "sent for the first time");
    bench.close(1006);
    bench.elapse(5000);
    bench.answer_probe(204, None);
    bench.open();
    let again = sent(&mut bench);
    assert_eq!(again["createdAt"], created);
    // The parts of a refused commit are as old as the whole.
    let mut key = text(&again["clientTxId"]);
    let mut refused = 1;
    while bench.engine.pending_count() > 0 {
        bench.refuse(&key, "idempotency_window_expired");
        if bench.engine.pending_count() > 0 {
            let part = sent(&mut bench);
            assert_eq!(part["createdAt"], created, "{part}");
            key = text(&part["clientTxId"]);
            refused += 1;
        }
    }
    assert_eq!(refused, 3);
    for ticket in [first, second] {
        let error = bench.outcome(ticket).unwrap().unwrap_err();
        assert_eq!((error.code.as_ref(), error.is_retryable()), ("idempotency_window_expired", false));
    }
    assert_eq!((bench.field("t1", "title"), bench.row(TASKS, "t2")), (json!("A"), None));
    let outbox: Value = serde_json::from_str(&bench.engine.outbox()).unwrap();
    let letters: Vec<_> =
        outbox.as_array().unwrap().iter().map(|entry| (&entry["stage"], &entry["error"]["code"])).collect();
    let (stage, code) = (json!("rejected"), json!("idempotency_window_expired"));
    assert_eq!(letters, [(&stage, &code), (&stage, &code)]);
}

#[test]
fn direct_commits_are_atomic_and_answer_with_a_receipt() {
    let mut bench = one_task();
    let options = json!({"operations":[
        {"action":"update","model":"Tasks","id":"t1","data":{"title":"B"}},
        {"action":"archive","target":{"model":"tasks"},"id":"t1"}],"idempotencyKey":"merge-1"});
    let ticket = bench.command(|ticket| Command::Commit(ticket, options.to_string())).unwrap();
    assert_eq!(bench.field("t1", "title"), "A", "nothing is shown before the server's deltas");
    bench.turn();
    let (key, operations) = bench.commit();
    assert_eq!(key, "merge-1");
    assert_eq!((&operations[0]["model"], &operations[1]["type"]), (&json!("tasks"), &json!("ARCHIVE")));
    let repeat = bench.command(|ticket| Command::Commit(ticket, options.to_string())).unwrap();
    bench.turn();
    assert!(bench.frames().is_empty(), "a key under way is not sent twice");
    bench.receive(&json!({"type":"mutation_result","payload":{"clientTxId":key,"success":true,"lastSyncId":12,
        "notifications":[{"object":"stale_notification","model":"tasks","id":"t9","readAt":1,"observedSyncId":2,
        "conflictingFields":[],"currentValues":{},"writtenBy":{"kind":"user","id":"a"}}]}}));
    bench.delta(12, "A", "t1", &json!({"id":"t1","title":"B","archivedAt":"2026-06-30T08:00:00.000Z"}));
    for ticket in [ticket, repeat] {
        let receipt: Value = serde_json::from_str(&bench.outcome(ticket).unwrap().unwrap().unwrap()).unwrap();
        assert_eq!(
            (&receipt["id"], &receipt["status"], &receipt["lastSyncId"]),
            (&json!("merge-1"), &json!("confirmed"), &json!(12))
        );
        assert_eq!(receipt["notifications"][0]["id"], "t9");
    }
    let options = json!({"operation":{"action":"update","model":"tasks","id":"t1","data":{}},"operations":[]});
    let error = bench.command(|ticket| Command::Commit(ticket, options.to_string())).unwrap_err();
    assert_eq!(error.code, "commit_operations_ambiguous");
}

#[test]
fn a_refused_direct_commit_rejects_whole_and_its_key_may_be_used_again() {
    let mut bench = one_task();
    let options = json!({"operations":[{"action":"delete","model":"tasks","id":"t1"},
        {"action":"update","model":"tasks","id":"t2","data":{}}],"idempotencyKey":"k"});
    for _ in 0..2 {
        let ticket = bench.command(|ticket| Command::Commit(ticket, options.to_string())).unwrap();
        bench.turn();
        let (key, operations) = bench.commit();
        assert_eq!((key.as_str(), operations.len()), ("k", 2));
        bench.refuse(&key, "entity_claimed");
        let error = bench.outcome(ticket).unwrap().unwrap_err();
        assert_eq!((error.code.as_ref(), error.class()), ("entity_claimed", "AbloClaimedError"));
    }
}

#[test]
fn an_own_idempotency_key_travels_with_the_write() {
    let mut bench = one_task();
    let change = Change::Update(json!({"title":"B"}).to_string());
    bench.write(TASKS, "t1", change, Some(r#"{"idempotencyKey":"mine"}"#)).unwrap();
    bench.turn();
    assert_eq!(bench.commit().0, "mine");
}

#[test]
fn held_writes_are_rolled_back_and_told() {
    let mut bench = one_task();
    let change = Change::Update(json!({"title":"B"}).to_string());
    let ticket =
        bench.write(TASKS, "t1", change, Some(r#"{"wait":"confirmed","readAt":9,"onStale":"notify"}"#)).unwrap();
    bench.turn();
    let (key, _) = bench.commit();
    bench.receive(&json!({"type":"mutation_result","payload":{"clientTxId":key,"success":true,"lastSyncId":12,
        "notifications":[{"model":"tasks","id":"t1","readAt":9,"observedSyncId":10,"conflictingFields":["title"],
        "currentValues":{"title":"A"},"writtenBy":{"kind":"user","id":"a"}}]}}));
    assert_eq!(bench.field("t1", "title"), "A");
    assert_eq!(bench.outcome(ticket).unwrap().unwrap_err().code, "stale_context");
    assert_eq!(bench.event("conflict:notified").len(), 1);
}

#[test]
fn a_held_write_takes_no_unguarded_one_of_its_row_along() {
    let mut bench = one_task();
    let change = |data: Value| Change::Update(data.to_string());
    let held = Some(r#"{"wait":"confirmed","readAt":9,"onStale":"notify"}"#);
    let held = bench.write(TASKS, "t1", change(json!({"title":"B"})), held).unwrap();
    bench.write(TASKS, "t1", change(json!({"rank":7})), None).unwrap();
    bench.turn();
    let (key, operations) = bench.commit();
    assert_eq!(operations.len(), 2);
    bench.receive(&json!({"type":"mutation_result","payload":{"clientTxId":key,"success":true,"lastSyncId":12,
        "notifications":[{"model":"tasks","id":"t1","readAt":9,"observedSyncId":10,"conflictingFields":["title"],
        "currentValues":{"title":"A"},"writtenBy":{"kind":"user","id":"a"}}]}}));
    assert_eq!((bench.field("t1", "title"), bench.field("t1", "rank")), (json!("A"), json!(7)));
    assert_eq!(bench.outcome(held).unwrap().unwrap_err().code, "stale_context");
    assert_eq!(bench.event("write:rejected").len(), 1);
}

#[test]
fn read_dependencies_travel_with_their_write_alone_and_hold_it() {
    let mut bench = one_task();
    let change = |title: &str| Change::Update(json!({"title":title}).to_string());
    let reads = json!([{"model":"tasks","id":"t9","readAt":9,"onStale":"notify"}]);
    let options = json!({"wait":"confirmed","reads":reads}).to_string();
    bench.write(TASKS, "t1", change("A1"), None).unwrap();
    let ticket = bench.write(TASKS, "t1", change("B"), Some(&options)).unwrap();
    bench.write(TASKS, "t1", Change::Update(json!({"rank":7}).to_string()), None).unwrap();
    bench.turn();
    let (first, _) = bench.commit();
    bench.accept(&first, 11);
    bench.delta(11, "U", "t1", &json!({"title":"A1"}));
    let frames = bench.frames();
    let payload = &frames.iter().find(|frame| frame["type"] == "commit").expect("a commit")["payload"];
    assert_eq!((&payload["reads"], payload["operations"].as_array().map(Vec::len)), (&reads, Some(1)));
    // The notification names what was read, not what was to be written.
    bench.receive(&json!({"type":"mutation_result","payload":{"clientTxId":payload["clientTxId"],"success":true,
        "lastSyncId":11,"notifications":[{"model":"tasks","id":"t9","readAt":9,"observedSyncId":10,
        "conflictingFields":["title"],"currentValues":{"title":"C"},"writtenBy":{"kind":"user","id":"a"}}]}}));
    assert_eq!((bench.field("t1", "title"), bench.field("t1", "rank")), (json!("A1"), json!(7)));
    assert_eq!(bench.outcome(ticket).unwrap().unwrap_err().code, "stale_context");
    assert_eq!(bench.commit().1[0]["input"], json!({"rank":7}), "what came after it is sent");
}

#[test]
fn bad_calls_fail_at_once_and_change_nothing() {
    let mut bench = one_task();
    for (id, change, options, code) in [
        ("", Change::Create("{}".into()), None, "invalid_id"),
        ("t1", Change::Create("{}".into()), None, "unique_violation"),
        ("t9", Change::Update("{}".into()), None, "entity_not_found"),
        ("t9", Change::Delete, None, "entity_not_found"),
        ("t1", Change::Update("[]".into()), None, "invalid_body"),
        ("t1", Change::Update("{".into()), None, "invalid_json"),
        ("t1", Change::Delete, Some(r#"{"idempotencyKey":""}"#), "write_options_invalid"),
    ] {
        let error = bench.write(TASKS, id, change, options).unwrap_err();
        assert_eq!(error.code, code);
    }
    let huge = format!(r#"{{"title":"{}"}}"#, "x".repeat(3 * 1024 * 1024));
    assert_eq!(bench.write(TASKS, "t1", Change::Update(huge), None).unwrap_err().code, "write_too_large");
    assert_eq!(bench.engine.pending_count(), 0);
    bench.turn();
    assert!(bench.frames().is_empty());
}

#[test]
fn a_commit_that_the_server_finds_too_big_is_split_and_the_culprit_refused() {
    let mut bench = one_task();
    let small = bench.update("t1", json!({"title":"B"}));
    let big = bench.create("t2", json!({"title":"x".repeat(200_000)}));
    bench.turn();
    for _ in 0..4 {
        let frames = bench.frames();
        let Some(commit) = frames.iter().find(|frame| frame["type"] == "commit") else { break };
        let operations = commit["payload"]["operations"].as_array().unwrap().clone();
        let key = text(&commit["payload"]["clientTxId"]);
        if operations.iter().any(|operation| operation["id"] == "t2") {
            bench.close(1009);
            while !bench.has_request("/auth/check") {
                bench.wait();
            }
            bench.answer_probe(204, None);
            bench.open();
            bench.answer_sync(10, &[]);
        } else {
            bench.delta(11, "U", "t1", &json!({"id":"t1","title":"B"}));
            bench.accept(&key, 11);
        }
    }
    assert!(bench.outcome(small).unwrap().is_ok());
    assert_eq!(bench.outcome(big).unwrap().unwrap_err().code, "write_too_large");
}
