//! Rows and writes on the device: warm start, journal, trouble.

use std::cell::RefCell;
use std::rc::Rc;

use ablo_wasm::core::connection::ONLINE_MS;
use ablo_wasm::core::input::{Change, Command, Input};
use ablo_wasm::core::output::Output;
use ablo_wasm::core::store::{Database, ObjectStore, StoreFailureKind, StoreRequest};
use serde_json::json;

use crate::device::*;
use crate::harness::{DECKS, TASKS, task_delta, tasks};

#[test]
fn rows_are_there_without_a_network() {
    let device = device();
    let mut tab = first_visit(&device);
    tab.bench.receive(&json!({"type":"delta","payload":task_delta(11, "U", "t2", &json!({"title":"C"}))}));
    tab.serve();
    drop(tab);
    let mut tab = Tab::new(&device, 2);
    tab.bench.input(Input::Offline);
    let ready = tab.bench.start();
    tab.serve();
    assert!(tab.bench.outcome(ready).expect("settled").is_ok());
    assert_eq!((tab.bench.field("t1", "title"), tab.bench.field("t2", "title")), (json!("A"), json!("C")));
    assert_eq!(tab.bench.engine.cursor().0, 11);
    let status: serde_json::Value = serde_json::from_str(&tab.bench.engine.status()).expect("JSON");
    assert_eq!((&status["durability"], &status["participantId"]), (&json!("indexeddb"), &json!("u1")));
    // Back online it resumes, without a snapshot.
    tab.bench.input(Input::Online);
    tab.bench.elapse(ONLINE_MS);
    tab.bench.answer_identity();
    tab.serve();
    tab.bench.open();
    let asked = tab.bench.frames().into_iter().any(|frame| frame["payload"]["lastSyncId"] == 11);
    assert!(asked, "it asks for what came after");
    assert!(!tab.bench.has_request("/sync/bootstrap"));
}

#[test]
fn a_write_is_queued_when_it_is_on_the_disk_and_survives() {
    let device = device();
    drop(first_visit(&device));
    let mut tab = offline(&device, 2);
    let options = Some(r#"{"wait":"queued"}"#);
    let change = Change::Update(json!({"title":"offline"}).to_string());
    let ticket = tab.bench.write(TASKS, "t1", change, options).expect("accepted");
    assert_eq!(tab.bench.field("t1", "title"), "offline");
    assert!(tab.bench.outcome(ticket).is_none(), "not on the disk yet");
    tab.turn();
    assert!(tab.bench.outcome(ticket).expect("settled").is_ok());
    assert_eq!(journal_len(&device), 1);
    drop(tab);
    device.borrow_mut().lock.clear();

    let tab = offline(&device, 3);
    assert_eq!(tab.bench.field("t1", "title"), "offline");
    assert_eq!(tab.bench.engine.pending_count(), 1);
    drop(tab);
    device.borrow_mut().lock.clear();

    let mut tab = Tab::started(&device, 4);
    tab.bench.answer_identity();
    tab.serve();
    tab.bench.open();
    tab.bench.answer_sync(10, &[]);
    tab.turn();
    let (key, operations) = tab.bench.commit();
    assert_eq!(operations[0]["input"], json!({"title":"offline"}));
    tab.bench.accept(&key, 11);
    tab.serve();
    assert_eq!(journal_len(&device), 1, "kept until its delta is here");
    tab.bench.delta(11, "U", "t1", &json!({"title":"offline"}));
    tab.serve();
    assert_eq!((journal_len(&device), tab.bench.engine.pending_count()), (0, 0));
}

#[test]
fn rows_of_another_login_are_never_shown() {
    let device = device();
    drop(first_visit(&device));
    device.borrow_mut().lock.clear();
    let mut tab = Tab::started(&device, 2);
    assert!(tab.bench.row(TASKS, "t1").is_none(), "the server has not said who this is");
    let (task, _) = tab.bench.request("/auth/identity");
    let who = json!({"participantKind":"user","participantId":"u2","accountScope":"acme",
        "syncGroups":["org:acme","user:u2"],"userMeta":{}});
    tab.bench.answer(task, 200, &who);
    tab.serve();
    assert!(tab.bench.row(TASKS, "t1").is_none());
    assert!(tab.bench.has_request("/sync/bootstrap"));
    assert_eq!(device.borrow().databases.len(), 3, "directory and two identities");
}

#[test]
fn a_full_disk_costs_the_cache_first_then_durability_but_no_write() {
    let device = device();
    let mut tab = first_visit(&device);
    device.borrow_mut().failure = Some(StoreFailureKind::Quota);
    let ticket = tab.bench.update("t1", json!({"title":"B"}));
    tab.turn();
    let status: serde_json::Value = serde_json::from_str(&tab.bench.engine.status()).expect("JSON");
    assert_eq!(status["durability"], "memory");
    assert_eq!(status["storage"]["problem"]["code"], "storage_quota_exceeded");
    assert!(!tab.bench.event("storage:problem").is_empty());
    tab.turn();
    let (key, _) = tab.bench.commit();
    tab.bench.accept(&key, 11);
    tab.bench.delta(11, "U", "t1", &json!({"title":"B"}));
    assert!(tab.bench.outcome(ticket).expect("settled").is_ok());
}

#[test]
fn a_lost_connection_is_opened_again_and_the_write_repeated() {
    let device = device();
    let mut tab = first_visit(&device);
    tab.open.remove(&Database::Identity);
    tab.bench.update("t1", json!({"title":"B"}));
    tab.turn();
    assert_eq!(journal_len(&device), 1);
    assert!(tab.bench.event("storage:problem").is_empty());
}

#[test]
fn a_refused_write_is_kept_until_it_is_retried_or_discarded() {
    let device = device();
    let mut tab = first_visit(&device);
    tab.bench.update("t1", json!({"title":""}));
    tab.turn();
    let (key, _) = tab.bench.commit();
    tab.bench.refuse(&key, "check_violation");
    tab.serve();
    drop(tab);
    device.borrow_mut().lock.clear();

    let mut tab = offline(&device, 2);
    let outbox: serde_json::Value = serde_json::from_str(&tab.bench.engine.outbox()).expect("JSON");
    let entry = &outbox[0];
    assert_eq!((&entry["stage"], &entry["error"]["code"]), (&json!("rejected"), &json!("check_violation")));
    assert_eq!(entry["currentValues"]["title"], "A");
    let id = entry["id"].as_str().expect("an id").to_owned();
    let again = id.clone();
    tab.bench.command(|ticket| Command::Retry(ticket, again, Some(r#"{"title":"better"}"#.into()))).expect("accepted");
    tab.turn();
    assert_eq!(tab.bench.field("t1", "title"), "better");
    assert_eq!(journal_len(&device), 1);
    assert!(tab.bench.command(|ticket| Command::Discard(ticket, id)).is_err(), "it is gone");
}

#[test]
fn purge_leaves_nothing() {
    let device = device();
    let mut tab = first_visit(&device);
    let ticket = tab.bench.command(Command::Purge).expect("accepted");
    tab.serve();
    assert!(tab.bench.outcome(ticket).expect("settled").is_ok());
    assert!(device.borrow().databases.is_empty());
}

#[test]
fn purge_before_the_start_deletes_what_the_last_user_left_and_no_more() {
    let device = device();
    drop(first_visit(&device));
    let other = ((ObjectStore::Cache, "another application".to_owned()), b"{}".to_vec());
    device.borrow_mut().databases.get_mut("directory").expect("there").extend([other]);
    let mut tab = Tab::new(&device, 2);
    let ticket = tab.bench.command(Command::Purge).expect("accepted");
    assert!(tab.bench.outcome(ticket).is_none());
    tab.serve();
    assert!(tab.bench.outcome(ticket).expect("settled").is_ok());
    assert_eq!(device.borrow().databases.keys().collect::<Vec<_>>(), ["directory"]);
    assert_eq!(device.borrow().databases["directory"].len(), 1);
}

#[test]
fn a_deleted_database_is_made_anew_with_everything_unsent() {
    let device = device();
    let mut tab = first_visit(&device);
    tab.bench.input(Input::Offline);
    tab.bench.write(TASKS, "t1", update("one"), Some(r#"{"idempotencyKey":"k"}"#)).expect("accepted");
    tab.turn();
    assert_eq!(journal_len(&device), 1);
    device.borrow_mut().databases.clear();
    tab.open.clear();
    tab.bench.input(Input::StoreClosed(Database::Identity));
    tab.turn();
    assert_eq!(journal_len(&device), 1);
    drop(tab);
    device.borrow_mut().lock.clear();
    let mut tab = offline(&device, 2);
    tab.bench.input(Input::Online);
    tab.bench.elapse(ONLINE_MS);
    tab.connect(10, &[json!({"id":"t1","title":"A","rank":1})]);
    assert_eq!(tab.bench.field("t1", "title"), "one");
}

#[test]
fn writes_that_were_under_way_when_the_connection_was_lost_are_all_repeated() {
    let device = device();
    let mut tab = first_visit(&device);
    tab.bench.input(Input::Offline);
    tab.open.remove(&Database::Identity);
    for (at, id) in ["t1", "t2"].iter().enumerate() {
        let options = format!(r#"{{"idempotencyKey":"k{at}"}}"#);
        tab.bench.write(TASKS, id, update("one"), Some(&options)).expect("accepted");
        // The device is slow: both requests wait for it.
        tab.bench.turn();
    }
    tab.serve();
    assert_eq!(journal_len(&device), 2);
    assert!(tab.bench.event("storage:problem").is_empty());
}

#[test]
fn an_unreadable_record_is_set_aside() {
    let device = device();
    drop(first_visit(&device));
    device.borrow_mut().lock.clear();
    for records in device.borrow_mut().databases.values_mut() {
        records.insert((ObjectStore::Journal, "j/00000000000000ff".into()), b"{oops".to_vec());
    }
    let tab = offline(&device, 2);
    let problems = tab.bench.event("storage:problem");
    assert_eq!(problems[0]["code"], "storage_record_unreadable");
    assert_eq!(tab.bench.field("t1", "title"), "A");
    assert_eq!(journal_len(&device), 2, "one in each database, as they were");
    assert_eq!(tab.bench.engine.records_aside(), r#"{"j/00000000000000ff":"{oops"}"#);
}

#[test]
fn a_damaged_record_is_written_again_by_whoever_knows_what_it_said() {
    let (device, _first, mut second) = two_tabs();
    second.bench.update("t1", json!({"title":"one"}));
    second.turn();
    let before = journal(&device);
    assert_eq!(before.len(), 1);
    for (_, record) in
        device.borrow_mut().databases.values_mut().flatten().filter(|((_, key), _)| key.starts_with("j/"))
    {
        *record = vec![255, 255];
    }
    second.open.clear();
    second.bench.input(Input::StoreClosed(Database::Identity));
    second.turn();
    assert!(journal(&device)[0].contains("one"));
    assert!(second.bench.event("storage:problem").is_empty());
}

#[test]
fn a_record_of_a_newer_version_is_set_aside_as_such() {
    let device = device();
    drop(first_visit(&device));
    device.borrow_mut().lock.clear();
    for records in device.borrow_mut().databases.values_mut() {
        records.insert((ObjectStore::Journal, "j/00000000000000ff".into()), br#"{"v":99}"#.to_vec());
    }
    let tab = offline(&device, 2);
    assert_eq!(tab.bench.event("storage:problem")[0]["code"], "storage_newer_version");
}

#[test]
fn refused_writes_are_listed_oldest_first_after_a_restart_too() {
    let device = device();
    drop(first_visit(&device));
    device.borrow_mut().lock.clear();
    for records in device.borrow_mut().databases.values_mut() {
        for id in ["tx_1", "tx_2", "tx_3"] {
            let text = format!(r#"{{"v":1,"id":"{id}","operations":[]}}"#);
            records.insert((ObjectStore::Journal, format!("l/{id}")), text.into_bytes());
        }
    }
    let tab = offline(&device, 2);
    let outbox: serde_json::Value = serde_json::from_str(&tab.bench.engine.outbox()).expect("JSON");
    let ids: Vec<&serde_json::Value> = outbox.as_array().expect("a list").iter().map(|entry| &entry["id"]).collect();
    assert_eq!(ids, ["tx_1", "tx_2", "tx_3"]);
}

#[test]
fn a_snapshot_that_is_not_written_out_leaves_the_old_rows() {
    let device = device();
    let mut tab = first_visit(&device);
    // From now on nothing reaches the disk: as if the tab died while it writes the new rows.
    tab.bench.receive(&json!({"type":"sync_response","payload":{"requiresBootstrap":true,"currentSyncId":90}}));
    tab.bench.answer_bootstrap(90, &tasks(&[json!({"id":"t9","title":"new","rank":1})]));
    drop(tab);
    device.borrow_mut().lock.clear();
    let tab = offline(&device, 2);
    assert_eq!(tab.bench.field("t1", "title"), "A");
    assert_eq!(tab.bench.engine.cursor().0, 10);
}

#[test]
fn while_the_storage_is_opened_nothing_is_due() {
    let device = device();
    let mut tab = Tab::new(&device, 1);
    tab.bench.start();
    tab.bench.answer_identity();
    assert!(is_at_rest(&mut tab));
    tab.serve();
    assert!(tab.bench.has_request("/sync/bootstrap"));
}

#[test]
fn the_journal_is_written_one_change_after_the_other() {
    let device = device();
    let mut tab = first_visit(&device);
    tab.bench.input(Input::Offline);
    for id in ["t1", "t2"] {
        tab.bench.update(id, json!({"title":"one"}));
        tab.bench.turn();
    }
    let is_write = |output: &&Output| matches!(output, Output::Store(_, _, StoreRequest::Write { strict: true, .. }));
    assert_eq!(tab.bench.outputs.iter().filter(is_write).count(), 1, "the second may build on the first");
    tab.serve();
    let outbox: serde_json::Value = serde_json::from_str(&tab.bench.engine.outbox()).expect("JSON");
    assert_eq!(outbox[0]["stage"], "journaled");
    assert_eq!(outbox[0]["operations"].as_array().expect("a list").len(), 2);
}

/// Which rows count.
fn generation(device: &Rc<RefCell<Device>>) -> u64 {
    let device = device.borrow();
    let meta = device.databases.values().find_map(|records| records.get(&(ObjectStore::Cache, "meta".to_owned())));
    let meta: serde_json::Value = serde_json::from_slice(meta.expect("written")).expect("JSON");
    meta["generation"].as_u64().expect("a number")
}

#[test]
fn rows_that_another_tab_had_begun_to_write_are_not_mixed_with_new_ones() {
    let (device, first, mut second) = two_tabs();
    let begun = generation(&device) + 1_000_000;
    let chunk = (ObjectStore::Cache, format!("{begun:012x}/c/000001"));
    let old = tasks(&[json!({"id":"t9","title":"old"})]).to_string().into_bytes();
    device.borrow_mut().databases.values_mut().for_each(|records| drop(records.insert(chunk.clone(), old.clone())));
    drop(first);
    second.bench.input(Input::Lock(true));
    second.serve();
    assert!(generation(&device) > begun, "{} {begun}", generation(&device));
}

#[test]
fn an_account_that_was_empty_is_loaded_again_however_late_its_storage_is_read() {
    let device = device();
    let mut tab = Tab::started(&device, 1);
    tab.connect(0, &[]);
    drop(tab);
    device.borrow_mut().lock.clear();
    let mut tab = Tab::new(&device, 2);
    tab.bench.start();
    tab.bench.answer_identity();
    tab.bench.open();
    tab.serve();
    assert!(tab.bench.has_request("/sync/bootstrap"), "a catch-up from nothing may leave out what came before");
}

#[test]
fn stored_rows_do_not_make_older_ones_current_that_were_read_before_them() {
    let device = device();
    drop(first_visit(&device));
    device.borrow_mut().lock.clear();
    let mut tab = Tab::new(&device, 2);
    tab.bench.start();
    tab.bench.answer_identity();
    tab.bench.command(|ticket| Command::Read(ticket, TASKS, "{}".into())).expect("accepted");
    let (task, _) = tab.bench.request("/sync/query");
    tab.bench.answer(task, 200, &json!({"results":[[{"id":"t9","title":"old"}]],"lastSyncId":3}));
    tab.serve();
    assert!(tab.bench.has_request("/sync/bootstrap"), "what became of t9 since only the server knows");
}

/// Fulfils what is asked of the device, but leaves what is asked with `unanswered` in it without an answer.
fn serve_but(tab: &mut Tab, unanswered: &str) {
    while let Some(index) = tab.bench.outputs.iter().position(|output| matches!(output, Output::Store(..))) {
        let Output::Store(task, database, request) = tab.bench.outputs.remove(index) else { return };
        let silent = format!("{request:?}").contains(unanswered);
        let answer = tab.fulfil(database, request);
        if !silent {
            tab.bench.input(Input::Stored(task, answer));
        }
    }
}

/// A first visit, while a task is being written to the device and a deck is not yet.
fn writing_tasks(device: &Rc<RefCell<Device>>) -> Tab {
    let mut tab = Tab::started(device, 1);
    tab.bench.answer_identity();
    tab.serve();
    tab.bench.answer_bootstrap(10, &json!({"Task":[{"id":"t1","title":"A"}],"SlideDeck":[{"id":"d1","name":"A"}]}));
    tab.bench.open();
    tab.bench.answer_sync(10, &[]);
    tab
}

#[test]
fn what_the_log_has_of_before_is_not_put_over_rows_that_were_written_later() {
    let device = device();
    let mut tab = writing_tasks(&device);
    // The log stops after the first of these.
    for (id, data) in [(11, json!({"name":"B"})), (12, json!({"name":"C","cover":"c.png"}))] {
        let mut delta = task_delta(id, "U", "d1", &data);
        delta["modelName"] = json!("SlideDeck");
        tab.bench.receive(&json!({"type":"delta","payload":delta}));
    }
    serve_but(&mut tab, "/g/");
    drop(tab);
    device.borrow_mut().lock.clear();
    let tab = offline(&device, 2);
    assert_eq!((tab.bench.engine.cursor().0, tab.bench.field("t1", "title")), (11, json!("A")));
    let deck = tab.bench.row(DECKS, "d1").expect("a row");
    assert_eq!((&deck["name"], &deck["cover"]), (&json!("C"), &json!("c.png")));
}

#[test]
fn rows_are_not_written_while_they_are_known_to_be_wrong() {
    let device = device();
    let mut tab = writing_tasks(&device);
    let mut torn = task_delta(11, "I", "d1", &json!({"name":"B"}));
    torn["modelName"] = json!("SlideDeck");
    torn["data"] = json!(null);
    tab.bench.receive(&json!({"type":"delta","payload":torn}));
    tab.serve();
    let decks = device.borrow().databases.values().flat_map(|records| records.keys().cloned()).collect::<Vec<_>>();
    assert!(!decks.iter().any(|(_, key)| key.contains("/c/000002") || key == "meta"), "{decks:?}");
    tab.serve();
    tab.bench.answer_bootstrap(11, &json!({"Task":[{"id":"t1","title":"A"}],"SlideDeck":[{"id":"d1","name":"B"}]}));
    tab.serve();
    drop(tab);
    device.borrow_mut().lock.clear();
    let tab = offline(&device, 2);
    assert_eq!(tab.bench.row(DECKS, "d1").expect("a row")["name"], "B");
}
