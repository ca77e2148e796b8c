//! Tabs of one identity: who sends, and what the next sender makes of what the last one has left.

use std::cell::RefCell;
use std::rc::Rc;

use ablo_wasm::core::input::{Command, Input, Ticket};
use ablo_wasm::core::output::Output;
use ablo_wasm::core::store::{ObjectStore, StoreFailureKind, StoreRequest};
use serde_json::json;

use crate::device::*;
use crate::harness::TASKS;

/// A write of t1's title and what joined it later, its rank, are in the journal as two, and the page shows both.
fn assert_apart(tab: &Tab) {
    let journal = journal(&tab.device);
    assert_eq!(journal.len(), 2, "{journal:?}");
    assert!(journal[0].contains("one") && !journal[0].contains("rank"), "{journal:?}");
    assert!(journal[1].contains("rank") && !journal[1].contains("one"), "{journal:?}");
    assert_eq!((tab.bench.field("t1", "title"), tab.bench.field("t1", "rank")), (json!("one"), json!(5)));
}

/// The first has sent a write of the second, who waits for the server to confirm it. That ticket, and the commit's key.
fn sent_for_another() -> (Rc<RefCell<Device>>, Tab, Tab, Ticket, String) {
    let (device, mut first, mut second) = two_tabs();
    let options = Some(r#"{"wait":"confirmed"}"#);
    let ticket = second.bench.write(TASKS, "t1", update("one"), options).expect("accepted");
    second.turn();
    deliver(&mut second, &mut first);
    first.turn();
    let (key, _) = first.bench.commit();
    (device, first, second, ticket, key)
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
    let (_, mut first, mut second, ticket, key) = sent_for_another();
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
fn a_refusal_is_told_when_it_is_on_the_disk_and_until_then_the_next_sender_may_get_another_answer() {
    for saved in [false, true] {
        let (device, mut first, mut second, ticket, key) = sent_for_another();
        if !saved {
            // The journal takes its time over another write.
            first.bench.update("t2", json!({"title":"two"}));
            first.bench.turn();
        }
        first.bench.refuse(&key, "entity_claimed");
        if saved {
            // It is on the disk, and the tab does not hear of that any more.
            let is_write =
                |output: &Output| matches!(output, Output::Store(_, _, StoreRequest::Write { strict: true, .. }));
            let index = first.bench.outputs.iter().position(is_write).expect("a write of the journal");
            let Output::Store(_, database, request) = first.bench.outputs.remove(index) else { panic!("a write") };
            first.fulfil(database, request).expect("written");
        }
        assert_eq!((first.bench.event("write:rejected").len(), first.bench.field("t1", "title")), (0, json!("one")));

        lose_lock(&mut first);
        second.bench.input(Input::Lock(true));
        second.serve();
        let frames = second.bench.frames();
        let sent = frames.iter().any(|frame| frame["payload"]["clientTxId"] == *key);
        assert_eq!(sent, !saved);
        if sent {
            second.bench.accept(&key, 11);
            second.bench.delta(11, "U", "t1", &json!({"title":"one"}));
        }
        second.serve();
        first.serve();
        deliver(&mut second, &mut first);
        let outcome = second.bench.outcome(ticket).expect("settled");
        assert_eq!(outcome.err().map(|error| error.code.to_string()), saved.then(|| "entity_claimed".to_owned()));
        for tab in [&first, &second] {
            assert_eq!(tab.bench.event("write:rejected").len(), usize::from(saved));
        }
        assert_eq!(journal(&device).iter().filter(|record| record.contains(&key)).count(), 0);
    }
}

#[test]
fn an_answer_to_what_was_sent_before_the_lock_was_lost_is_not_taken_for_one_to_what_is_sent_again() {
    let (_, mut first, _) = two_tabs();
    let options = Some(r#"{"wait":"confirmed"}"#);
    let ticket = first.bench.write(TASKS, "t1", update("one"), options).expect("accepted");
    first.turn();
    let (key, _) = first.bench.commit();
    // Another tab has the lock for a moment, and may have sent it too.
    lose_lock(&mut first);
    first.serve();
    first.bench.input(Input::Lock(true));
    first.serve();
    assert!(first.bench.frames().iter().all(|frame| frame["type"] != "commit"), "the first is not answered yet");
    first.bench.refuse(&key, "entity_claimed");
    first.serve();
    assert_eq!(first.bench.event("write:rejected").len(), 0);
    assert_eq!(first.bench.commit().0, key);
    first.bench.accept(&key, 11);
    first.bench.delta(11, "U", "t1", &json!({"title":"one"}));
    first.serve();
    assert!(first.bench.outcome(ticket).expect("settled").is_ok());
}

#[test]
fn whoever_asks_for_a_write_that_is_done_with_hears_that_it_was_refused() {
    let (device, mut first, mut second, ticket, key) = sent_for_another();
    deliver(&mut first, &mut second);
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

#[test]
fn writes_of_another_tab_stay_in_order_around_a_commit_that_is_refused_and_split() {
    let (_, mut first, mut second) = two_tabs();
    // Nobody has told the second of these: what it writes comes before what the first sends next.
    for at in [11, 12, 13] {
        first.bench.update("t1", json!({"title":at.to_string()}));
        first.turn();
        let (key, _) = first.bench.commit();
        first.bench.accept(&key, at);
        first.bench.delta(at, "U", "t1", &json!({"title":at.to_string()}));
        first.serve();
    }
    first.bench.update("t1", json!({"title":""}));
    first.bench.update("t2", json!({"title":""}));
    first.turn();
    let (key, _) = first.bench.commit();
    // One is known while the commit is on its way, the other when that is in parts.
    for (row, is_split) in [("t3", false), ("t4", true)] {
        if is_split {
            first.bench.refuse(&key, "check_violation");
            first.serve();
        }
        second.bench.create(row, json!({"title":"theirs"}));
        second.turn();
        deliver(&mut second, &mut first);
    }
    let mut rows = Vec::new();
    for _ in 0..4 {
        let (key, operations) = first.bench.commit();
        rows.push(operations[0]["id"].as_str().unwrap_or_default().to_owned());
        first.bench.refuse(&key, "check_violation");
        first.serve();
    }
    assert_eq!(rows, ["t1", "t2", "t3", "t4"]);
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
fn a_record_read_late_does_not_lie_over_a_newer_write_before_it_can_be_taken_out() {
    let (_, mut tab, _other) = two_tabs();
    tab.bench.update("t1", json!({"title":"one"}));
    tab.turn();
    let (key, _) = tab.bench.commit();
    // The journal takes its time over the next write.
    tab.bench.update("t1", json!({"title":"two"}));
    tab.bench.turn();
    tab.bench.input(Input::Posted(r#"{"v":1,"t":"who","first":"77"}"#.into()));
    let asks =
        |output: &Output| matches!(output, Output::Store(_, _, StoreRequest::Read { store: ObjectStore::Journal, .. }));
    let index = tab.bench.outputs.iter().position(asks).expect("it reads the journal");
    let Output::Store(task, database, request) = tab.bench.outputs.remove(index) else { panic!("a read") };
    let records = tab.fulfil(database, request);
    tab.bench.accept(&key, 11);
    tab.bench.delta(11, "U", "t1", &json!({"title":"one"}));
    tab.bench.input(Input::Stored(task, records));
    assert_eq!((tab.bench.field("t1", "title"), tab.bench.engine.pending_count()), (json!("two"), 1));
    tab.serve();
    let (next, _) = tab.bench.commit();
    assert_ne!(next, key);
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
