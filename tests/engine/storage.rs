//! Rows and writes on the device: warm start, journal, tabs, trouble.

use std::cell::RefCell;
use std::rc::Rc;

use ablo_wasm::core::connection::ONLINE_MS;
use ablo_wasm::core::input::{Change, Command, Input};
use ablo_wasm::core::output::Output;
use ablo_wasm::core::store::{Database, ObjectStore, StoreFailureKind, StoreRequest};
use serde_json::json;

use crate::device::*;
use crate::harness::{DECKS, TASKS, task_delta, tasks};

/// A write of t1's title and what joined it later, its rank, are in the journal as two, and the page shows both.
fn assert_apart(tab: &Tab) {
    let journal = journal(&tab.device);
    assert_eq!(journal.len(), 2, "{journal:?}");
    assert!(journal[0].contains("one") && !journal[0].contains("rank"), "{journal:?}");
    assert!(journal[1].contains("rank") && !journal[1].contains("one"), "{journal:?}");
    assert_eq!((tab.bench.field("t1", "title"), tab.bench.field("t1", "rank")), (json!("one"), json!(5)));
}

/// The network is gone, and the engine knows.
fn offline(device: &Rc<RefCell<Device>>, no: usize) -> Tab {
    let mut tab = Tab::new(device, no);
    tab.bench.input(Input::Offline);
    tab.bench.start();
    tab.serve();
    tab
}

fn update(title: &str) -> Change {
    Change::Update(json!({ "title": title }).to_string())
}

fn first_visit(device: &Rc<RefCell<Device>>) -> Tab {
    let mut tab = Tab::started(device, 1);
    tab.connect(10, &[json!({"id":"t1","title":"A","rank":1}), json!({"id":"t2","title":"B","rank":2})]);
    tab
}

/// The first holds the lock, both are connected.
fn two_tabs() -> (Rc<RefCell<Device>>, Tab, Tab) {
    let device = device();
    let first = first_visit(&device);
    let mut second = Tab::started(&device, 2);
    second.connect(10, &[]);
    (device, first, second)
}

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
fn tabs_share_edits_and_one_of_them_sends() {
    let (device, mut first, mut second) = two_tabs();
    let ticket = second.bench.update("t1", json!({"title":"from the second"}));
    second.turn();
    assert!(second.bench.frames().iter().all(|frame| frame["type"] != "commit"), "only one tab sends");
    deliver(&mut second, &mut first);
    assert_eq!(first.bench.field("t1", "title"), "from the second");
    first.turn();
    let (key, _) = first.bench.commit();
    first.bench.accept(&key, 11);
    first.serve();
    deliver(&mut first, &mut second);
    second.bench.delta(11, "U", "t1", &json!({"title":"from the second"}));
    second.serve();
    assert!(second.bench.outcome(ticket).expect("settled").is_ok());
    first.bench.delta(11, "U", "t1", &json!({"title":"from the second"}));
    first.serve();
    assert_eq!(
        (journal_len(&device), first.bench.engine.pending_count(), second.bench.engine.pending_count()),
        (0, 0, 0)
    );
}

#[test]
fn a_sender_without_a_connection_loses_the_lock_to_a_tab_that_has_one() {
    let (_, mut first, mut second) = two_tabs();
    first.bench.close(1006);
    first.serve();
    first.bench.update("t1", json!({"title":"one"}));
    first.turn();
    deliver(&mut first, &mut second);
    second.turn();
    deliver(&mut second, &mut first);
    deliver(&mut first, &mut second);
    second.bench.elapse(1000);
    second.serve();
    let (_, operations) = second.bench.commit();
    assert_eq!(operations[0]["id"], "t1");
}

#[test]
fn without_a_connection_no_tab_asks_for_the_sender() {
    let device = device();
    let first = first_visit(&device);
    let mut second = offline(&device, 2);
    second.bench.update("t1", json!({"title":"one"}));
    second.turn();
    assert!(second.posts.iter().all(|text| !text.contains(r#""t":"who""#)), "{:?}", second.posts);
    drop(first);
}

#[test]
fn a_silent_sender_loses_the_lock_and_the_next_one_goes_on() {
    let (_, mut first, mut second) = two_tabs();
    first.bench.update("t1", json!({"title":"one"}));
    first.turn();
    let (key, _) = first.bench.commit();
    // The first tab freezes with a commit on its way; nobody hears what it said.
    first.posts.clear();
    second.bench.update("t2", json!({"title":"two"}));
    second.turn();
    let who = second.posts.iter().any(|text| text.contains(r#""t":"who""#));
    assert!(who, "{:?}", second.posts);
    second.bench.elapse(1000);
    second.serve();
    let (again, operations) = second.bench.commit();
    assert_eq!((again, operations[0]["id"].clone()), (key, json!("t1")), "from the journal, under its own key");
    first.bench.input(Input::Lock(false));
    first.serve();
    first.bench.update("t1", json!({"title":"late"}));
    first.turn();
    assert!(first.bench.frames().iter().all(|frame| frame["type"] != "commit"));
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

/// A timer that is due and stays due would have the page do nothing else.
fn is_at_rest(tab: &mut Tab) -> bool {
    tab.bench.turn();
    tab.bench.engine.poll_timeout().is_none_or(|(at, _)| at > tab.bench.now.mono)
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
fn a_tab_that_gives_up_its_storage_asks_for_the_sender_no_more() {
    let (device, first, mut second) = two_tabs();
    second.bench.update("t1", json!({"title":"B"}));
    second.turn();
    device.borrow_mut().failure = Some(StoreFailureKind::Unknown);
    second.bench.update("t2", json!({"title":"C"}));
    second.turn();
    second.bench.now.mono = second.bench.now.mono.after(1000);
    assert!(is_at_rest(&mut second));
    drop(first);
}

#[test]
fn late_word_of_a_write_that_is_done_does_not_send_it_again() {
    let (device, mut first, mut second) = two_tabs();
    first.bench.update("t1", json!({"title":"one"}));
    first.turn();
    let late = std::mem::take(&mut first.posts);
    let (key, _) = first.bench.commit();
    first.bench.accept(&key, 11);
    first.bench.delta(11, "U", "t1", &json!({"title":"one"}));
    first.serve();
    assert_eq!(journal_len(&device), 0);
    drop(first);
    second.bench.input(Input::Lock(true));
    second.serve();
    for text in late {
        second.bench.input(Input::Posted(text));
        second.serve();
    }
    second.turn();
    assert!(second.bench.frames().iter().all(|frame| frame["type"] != "commit"));
    assert_eq!(second.bench.engine.pending_count(), 0);
}

#[test]
fn a_refusal_that_nobody_has_told_is_found_in_the_journal() {
    let (_, mut first, mut second) = two_tabs();
    let options = Some(r#"{"wait":"confirmed"}"#);
    let ticket = second.bench.write(TASKS, "t1", update(""), options).expect("accepted");
    second.turn();
    deliver(&mut second, &mut first);
    first.turn();
    let (key, _) = first.bench.commit();
    first.bench.refuse(&key, "check_violation");
    first.serve();
    // It crashes before anybody has heard of it.
    drop(first);
    second.bench.input(Input::Lock(true));
    second.serve();
    assert_eq!(second.bench.outcome(ticket).expect("settled").expect_err("refused").code, "check_violation");
    assert_eq!((second.bench.field("t1", "title"), second.bench.engine.pending_count()), (json!("A"), 0));
}

#[test]
fn whoever_asks_for_a_write_that_is_done_with_hears_that_it_was_refused() {
    let (device, mut first, mut second) = two_tabs();
    let options = Some(r#"{"wait":"confirmed"}"#);
    let ticket = second.bench.write(TASKS, "t1", update(""), options).expect("accepted");
    second.turn();
    deliver(&mut second, &mut first);
    deliver(&mut first, &mut second);
    first.turn();
    let (key, _) = first.bench.commit();
    first.bench.refuse(&key, "check_violation");
    first.serve();
    // It crashes before anybody has heard of it, and the next sender finds the refusal when it starts.
    drop(first);
    device.borrow_mut().lock.clear();
    let mut third = Tab::started(&device, 3);
    third.connect(10, &[]);
    third.posts.clear();
    second.bench.elapse(5_000);
    second.serve();
    deliver(&mut second, &mut third);
    deliver(&mut third, &mut second);
    assert_eq!(second.bench.outcome(ticket).expect("settled").expect_err("refused").code, "check_violation");
    assert_eq!((second.bench.field("t1", "title"), second.bench.engine.pending_count()), (json!("A"), 0));
}

#[test]
fn a_commit_that_another_tab_has_sent_settles_before_its_own_tab_hears_that_it_is_journaled() {
    let (_, _first, mut second) = two_tabs();
    let options = json!({"operation":{"action":"update","model":"tasks","id":"t1","data":{"title":"one"}},
        "idempotencyKey":"mine","wait":"queued"});
    let ticket = second.bench.command(|ticket| Command::Commit(ticket, options.to_string())).expect("accepted");
    second.bench.turn();
    assert!(second.bench.outcome(ticket).is_none(), "the journal has not answered");
    let result = json!({"object":"commit_receipt","clientTxId":"mine","serverTxId":"10","success":true,
        "status":"confirmed","lastSyncId":10,"ops":1});
    second.bench.input(Input::Posted(json!({"v":1,"t":"result","result":result}).to_string()));
    assert!(second.bench.outcome(ticket).expect("settled").is_ok());
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
fn a_tab_that_loses_the_lock_leaves_what_is_journaled_to_the_next_one() {
    let device = device();
    let mut tab = first_visit(&device);
    tab.bench.input(Input::Offline);
    tab.bench.update("t1", json!({"title":"one"}));
    tab.turn();
    assert_eq!(journal_len(&device), 1);
    // This joins the waiting write. Before the journal has it another tab sends, from the journal.
    tab.bench.update("t1", json!({"rank":5}));
    lose_lock(&mut tab);
    tab.turn();
    assert_apart(&tab);
}

#[test]
fn after_the_lock_is_lost_each_caller_waits_for_its_own_part_of_a_write() {
    let device = device();
    let mut tab = first_visit(&device);
    tab.bench.input(Input::Offline);
    let first = tab.bench.update("t1", json!({"title":"one"}));
    tab.turn();
    let second = tab.bench.update("t1", json!({"rank":5}));
    lose_lock(&mut tab);
    tab.turn();
    // The next tab has sent what was journaled; what joined it later is a write of its own and still waits.
    let record: serde_json::Value = serde_json::from_str(&journal(&device)[0]).expect("JSON");
    let result = json!({"object":"commit_receipt","clientTxId":record["key"],"serverTxId":"1",
        "success":true,"status":"confirmed","lastSyncId":10,"ops":1});
    tab.bench.input(Input::Posted(json!({"v":1,"t":"result","result":result}).to_string()));
    tab.serve();
    assert!(tab.bench.outcome(first).expect("settled").is_ok());
    assert!(tab.bench.outcome(second).is_none());
}

#[test]
fn parts_of_a_refused_commit_have_the_same_keys_whichever_tab_splits_it() {
    let (device, mut first, _) = two_tabs();
    first.bench.update("t1", json!({"title":""}));
    first.bench.update("t2", json!({"title":""}));
    first.turn();
    // What another tab knows when no record of the parts reaches it.
    let copy = Rc::new(RefCell::new(Device { databases: device.borrow().databases.clone(), ..Device::default() }));
    let mut second = Tab::started(&copy, 3);
    second.reach(10, &[]);
    second.turn();
    let [parts, again] = [(device, first), (copy, second)].map(|(device, mut tab)| {
        let (key, operations) = tab.bench.commit();
        assert_eq!(operations.len(), 2);
        tab.bench.refuse(&key, "check_violation");
        tab.serve();
        journal(&device)
    });
    assert_eq!(parts.len(), 2);
    assert_eq!(parts, again);
}

#[test]
fn a_new_tab_tells_of_writes_whose_author_is_gone() {
    let device = device();
    let mut first = first_visit(&device);
    let mut second = Tab::started(&device, 2);
    second.connect(10, &[]);
    second.bench.update("t1", json!({"title":"one"}));
    second.turn();
    // It crashes before anybody has heard of it.
    drop(second);
    let mut third = Tab::started(&device, 3);
    third.connect(10, &[]);
    third.bench.update("t1", json!({"rank":5}));
    third.turn();
    // Asking whether the sender is there would tell it too, but of the first write only.
    third.posts.retain(|text| !text.contains(r#""t":"who""#));
    deliver(&mut third, &mut first);
    first.turn();
    let (key, operations) = first.bench.commit();
    assert_eq!(operations[0]["input"]["title"], "one");
    first.bench.accept(&key, 11);
    first.bench.delta(11, "U", "t1", &json!({"title":"one"}));
    first.serve();
    assert_eq!(first.bench.commit().1[0]["input"]["rank"], 5);
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

#[test]
fn a_write_whose_journaling_was_aborted_is_journaled_after_the_lock_is_lost() {
    let device = device();
    let mut tab = first_visit(&device);
    tab.bench.input(Input::Offline);
    let ticket = tab.bench.write(TASKS, "t1", update("one"), Some(r#"{"wait":"queued"}"#));
    tab.bench.turn();
    abort_write(&mut tab);
    lose_lock(&mut tab);
    tab.serve();
    tab.turn();
    assert!(matches!(journal(&device).as_slice(), [record] if record.contains("one")), "{:?}", journal(&device));
    assert!(tab.bench.outcome(ticket.expect("accepted")).expect("settled").is_ok());
    assert_eq!(tab.bench.field("t1", "title"), "one");
}

#[test]
fn what_was_merged_into_a_write_is_journaled_whichever_comes_first_the_abort_or_the_loss_of_the_lock() {
    for lock_first in [false, true] {
        let device = device();
        let mut tab = first_visit(&device);
        tab.bench.input(Input::Offline);
        tab.bench.update("t1", json!({"title":"one"}));
        tab.turn();
        tab.bench.update("t1", json!({"rank":5}));
        tab.bench.turn();
        if lock_first {
            lose_lock(&mut tab);
            abort_write(&mut tab);
        } else {
            abort_write(&mut tab);
            lose_lock(&mut tab);
        }
        tab.serve();
        tab.turn();
        // The next tab may have sent the first record as it is.
        assert_apart(&tab);
    }
}

#[test]
fn what_was_merged_into_a_write_stays_before_a_delete_of_its_row() {
    let device = device();
    let mut tab = first_visit(&device);
    tab.bench.input(Input::Offline);
    tab.bench.update("t1", json!({"title":"one"}));
    tab.turn();
    tab.bench.update("t1", json!({"rank":5}));
    tab.bench.delete("t1");
    lose_lock(&mut tab);
    tab.serve();
    tab.turn();
    let journal = journal(&device);
    let place = |text: &str| journal.concat().find(text).expect(text);
    assert!(place("one") < place(r#""rank":5"#) && place(r#""rank":5"#) < place("DELETE"), "{journal:?}");
    assert!(tab.bench.row(TASKS, "t1").is_none());
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

#[test]
fn a_record_read_late_does_not_lie_over_a_newer_write_when_the_server_has_it() {
    let (_, mut first, mut second) = two_tabs();
    // Nobody has told the second of these, so its own next write comes before the third of them.
    for (title, at) in [("one", 11), ("two", 12), ("theirs", 13)] {
        first.bench.update("t1", json!({"title":title}));
        first.turn();
        let (key, _) = first.bench.commit();
        first.bench.accept(&key, at);
        second.bench.delta(at, "U", "t1", &json!({"title":title}));
        if at < 13 {
            first.bench.delta(at, "U", "t1", &json!({"title":title}));
            first.serve();
        }
    }
    second.bench.update("t1", json!({"title":"mine"}));
    // The first says what the server answered and crashes before it takes the record out; the second takes over.
    let result = first.bench.outputs.iter().find_map(|output| match output {
        Output::Post(text) if text.contains("result") => Some(text.clone()),
        _ => None,
    });
    drop(first);
    second.bench.input(Input::Lock(true));
    second.bench.input(Input::Posted(r#"{"v":1,"t":"who","first":"77"}"#.into()));
    second.bench.input(Input::Posted(result.expect("posted")));
    let asks =
        |output: &Output| matches!(output, Output::Store(_, _, StoreRequest::Read { store: ObjectStore::Journal, .. }));
    let index = second.bench.outputs.iter().position(asks).expect("it reads the journal");
    let Output::Store(task, database, request) = second.bench.outputs.remove(index) else { panic!("a read") };
    assert!(second.bench.outputs.iter().any(asks), "and once more");
    let records = second.fulfil(database, request);
    assert_eq!(records.as_ref().expect("read").len(), 1, "{records:?}");
    second.bench.input(Input::Stored(task, records));
    assert_eq!(second.bench.field("t1", "title"), "mine");
    second.serve();
    assert_eq!(second.bench.field("t1", "title"), "mine");
}

#[test]
fn a_row_that_was_made_and_deleted_does_not_come_back_with_a_record_that_nobody_has_taken_out() {
    let (device, mut first, mut second) = two_tabs();
    first.bench.create("t9", json!({"title":"made"}));
    first.turn();
    deliver(&mut first, &mut second);
    assert!(second.bench.row(TASKS, "t9").is_some());
    let (key, _) = first.bench.commit();
    first.bench.accept(&key, 11);
    first.serve();
    deliver(&mut first, &mut second);
    second.bench.delta(11, "I", "t9", &json!({"title":"made"}));
    second.bench.delta(12, "D", "t9", &json!(null));
    second.serve();
    // The first freezes before it hears of the delta and takes the record out; the second takes over.
    assert_eq!(journal_len(&device), 1);
    drop(first);
    second.bench.input(Input::Lock(true));
    second.serve();
    assert!(second.bench.row(TASKS, "t9").is_none());
    second.turn();
    assert!(second.bench.frames().iter().all(|frame| frame["type"] != "commit"), "the server has it");
    assert_eq!((journal_len(&device), second.bench.engine.pending_count()), (0, 0));
}
