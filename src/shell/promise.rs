//! Waiting for a promise.
//!
//! Callbacks instead of futures: nothing here waits for more than two promises in a row, and an executor for that would
//! be a hundredth of the package (docs/decisions/size.md).

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::Promise;
use wasm_bindgen::prelude::*;

/// What to do with what a promise comes to.
pub(super) type Done = Box<dyn FnOnce(Result<JsValue, JsValue>)>;

type Callback = Closure<dyn FnMut(JsValue)>;

#[derive(Default)]
struct Waiting {
    done: Option<Done>,
    callbacks: Option<[Callback; 2]>,
}

/// Calls `done` when `promise` settles, always in a later turn. What `done` holds stays alive until then, so it should
/// hold its owner weakly.
pub(super) fn follow(promise: &Promise, done: Done) {
    let waiting = Rc::new(RefCell::new(Waiting { done: Some(done), callbacks: None }));
    let callback = |fulfilled: bool| {
        let waiting = waiting.clone();
        Callback::new(move |value| {
            // Both callbacks go at the end of this one: a promise settles once.
            let Waiting { done, callbacks: _callbacks } = waiting.take();
            if let Some(done) = done {
                done(if fulfilled { Ok(value) } else { Err(value) });
            }
        })
    };
    let callbacks = [callback(true), callback(false)];
    let [resolve, reject] = &callbacks;
    drop(promise.then2(resolve, reject));
    waiting.borrow_mut().callbacks = Some(callbacks);
}
