//! The exported class in a real browser: conversions, callbacks and re-entrancy, timers, sockets that fail. What needs a
//! server is tested end to end in `tests/e2e`.
#![cfg(target_arch = "wasm32")]
#![expect(clippy::unwrap_used, reason = "a test that meets something else must fail")]

use std::rc::Rc;

use ablo_wasm::js::{Core, Host};
use js_sys::{Array, Promise, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

#[wasm_bindgen(inline_js = r#"
export class TestHost {
  constructor() {
    this.calls = []; this.settled = {}; this.waiting = {}; this.statusWaiters = []; this.during = undefined;
  }
  note(...call) { this.calls.push(call); const during = this.during; this.during = undefined; during?.(); }
  changed(model, slots) { this.calls.push(['changed', model, [...slots]]); }
  views(ids) { this.note('views', [...ids]); }
  put() {}
  perform(kind, id, number, first, second) {
    const kinds = ['settle', 'event', 'status', 'turn', 'timer', 'credential', 'request', 'openSocket'];
    const name = kinds[kind];
    if (name === 'settle') {
      this.settled[id] = first ?? second ?? 'done';
      this.waiting[id]?.(this.settled[id]);
    } else if (name === 'status') for (const waiter of this.statusWaiters.splice(0)) waiter();
    else if (name === 'turn') queueMicrotask(() => this.ask(23, 0, 0));
    else if (name === 'timer') {
      clearTimeout(this.timer);
      if (number) this.timer = setTimeout(() => this.ask(24, 0, 0), number);
    } else if (name === 'credential') queueMicrotask(() => this.ask(33, 0, id));
    else if (name === 'request') queueMicrotask(() => {
      if (!this.answer) return this.ask(32, 0, id, 'nothing listens there');
      this.give(this.answer.body);
      this.ask(31, this.answer.status, id, 'req_7');
    });
    this.note(name ?? kind, id, number, first, second);
  }
  outcome(ticket) {
    if (ticket in this.settled) return Promise.resolve(this.settled[ticket]);
    return new Promise((resolve) => { this.waiting[ticket] = resolve; });
  }
  nextStatus() { return new Promise((resolve) => this.statusWaiters.push(resolve)); }
}
export function makeHost() { return new TestHost(); }
export function onNext(host, callback) { host.during = callback; }
export function answerWith(host, status, body) { host.answer = { status, body: new TextEncoder().encode(body) }; }
export function connect(host, ask, give) { Object.assign(host, { ask, give }); }
export function turn() { return new Promise((resolve) => queueMicrotask(() => queueMicrotask(resolve))); }
"#)]
extern "C" {
    #[wasm_bindgen(js_name = makeHost)]
    fn make_host() -> JsValue;
    #[wasm_bindgen(js_name = onNext)]
    fn on_next(host: &JsValue, callback: &js_sys::Function);
    #[wasm_bindgen(js_name = answerWith)]
    fn answer_with(host: &JsValue, status: u16, body: &str);
    fn turn() -> Promise;
    /// What the page tells goes to these.
    fn connect(host: &JsValue, ask: &JsValue, give: &JsValue);

    type TestHost;
    #[wasm_bindgen(method)]
    fn outcome(this: &TestHost, ticket: u32) -> Promise;
    #[wasm_bindgen(method, js_name = nextStatus)]
    fn next_status(this: &TestHost) -> Promise;
}

/// What the SDK asks for, by its name (`Ask` in `sdk/src/boundary.ts`).
trait Asks {
    fn send(&self, kind: u32, ticket: u32, number: u32, texts: [Option<String>; 3]) -> Result<(), JsValue>;

    fn start(&self, ticket: u32) -> Result<(), JsValue> {
        self.send(0, ticket, 0, [None, None, None])
    }

    fn create(&self, ticket: u32, model: u32, id: &str, data: &str) -> Result<(), JsValue> {
        self.write(1, ticket, model, id, Some(data))
    }

    fn update(&self, ticket: u32, model: u32, id: &str, data: &str) -> Result<(), JsValue> {
        self.write(2, ticket, model, id, Some(data))
    }

    fn delete(&self, ticket: u32, model: u32, id: &str) -> Result<(), JsValue> {
        self.write(3, ticket, model, id, None)
    }

    fn write(&self, kind: u32, ticket: u32, model: u32, id: &str, data: Option<&str>) -> Result<(), JsValue> {
        self.send(kind, ticket, model, [Some(id.to_owned()), data.map(str::to_owned), None])
    }

    fn read(&self, ticket: u32, model: u32, options: String) -> Result<(), JsValue> {
        self.send(4, ticket, model, [Some(options), None, None])
    }

    fn commit(&self, ticket: u32, options: String) -> Result<(), JsValue> {
        self.send(5, ticket, 0, [Some(options), None, None])
    }

    fn dispose(&self, ticket: u32) -> Result<(), JsValue> {
        self.send(21, ticket, 0, [None, None, None])
    }
}

impl Asks for Core {
    fn send(&self, kind: u32, ticket: u32, number: u32, texts: [Option<String>; 3]) -> Result<(), JsValue> {
        let [first, second, third] = texts;
        self.ask(kind, ticket, f64::from(number), first, second, third)
    }
}

const SCHEMA: &str =
    r#"{"v":3,"models":{"tasks":{"fields":{"title":{"type":"string"},"rank":{"type":"number"}},"typename":"Task"}}}"#;

/// As the core numbers what it reads.
trait Reads {
    fn query(&self, model: u32, options: Option<String>) -> Result<Vec<u32>, JsValue>;
    fn count(&self, model: u32, options: Option<String>) -> Result<u32, JsValue>;
    fn view_open(&self, model: u32, options: Option<String>) -> Result<u32, JsValue>;
    fn view_read(&self, view: u32) -> Vec<u32>;
    fn view_close(&self, view: u32);
    fn status(&self) -> String;
}

impl Reads for Core {
    fn query(&self, model: u32, options: Option<String>) -> Result<Vec<u32>, JsValue> {
        self.numbers(0, model, options)
    }

    fn count(&self, model: u32, options: Option<String>) -> Result<u32, JsValue> {
        self.numbers(1, model, options).map(|numbers| numbers[0])
    }

    fn view_open(&self, model: u32, options: Option<String>) -> Result<u32, JsValue> {
        self.numbers(2, model, options).map(|numbers| numbers[0])
    }

    fn view_read(&self, view: u32) -> Vec<u32> {
        self.numbers(3, view, None).unwrap()
    }

    fn view_close(&self, view: u32) {
        self.ask(22, 0, f64::from(view), None, None, None).unwrap();
    }

    fn status(&self) -> String {
        self.text(0).unwrap()
    }
}

fn make(config: &str, host: &JsValue) -> Result<Rc<Core>, JsValue> {
    let core = Rc::new(Core::new(config, &[7; 16], host.clone().unchecked_into::<Host>())?);
    let (asked, given) = (Rc::downgrade(&core), Rc::downgrade(&core));
    let ask = move |kind: u32, ticket: u32, number: f64, text: Option<String>| {
        if let Some(core) = asked.upgrade() {
            core.ask(kind, ticket, number, text, None, None).unwrap();
        }
    };
    let give = move |bytes: Vec<u8>| {
        if let Some(core) = given.upgrade() {
            core.give(String::new(), bytes);
        }
    };
    let ask = Closure::<dyn FnMut(u32, u32, f64, Option<String>)>::new(ask).into_js_value();
    connect(host, &ask, &Closure::<dyn FnMut(Vec<u8>)>::new(give).into_js_value());
    Ok(core)
}

fn client(options: &str) -> (Rc<Core>, JsValue) {
    let host = make_host();
    let config = format!(r#"{{"schema":{SCHEMA},"baseUrl":"http://127.0.0.1:9",{options}}}"#);
    let core = make(&config, &host).expect("the configuration is fine");
    (core, host)
}

fn calls(host: &JsValue, name: &str) -> Vec<Array> {
    let calls: Array = Reflect::get(host, &"calls".into()).unwrap().unchecked_into();
    calls.iter().map(|call| Array::from(&call)).filter(|call| call.get(0) == JsValue::from_str(name)).collect()
}

async fn outcome(host: &JsValue, ticket: u32) -> String {
    let promise = host.unchecked_ref::<TestHost>().outcome(ticket);
    JsFuture::from(promise).await.unwrap().as_string().unwrap()
}

#[wasm_bindgen_test]
async fn rows_are_written_read_and_told_about() {
    let (core, host) = client(r#""authToken":"ek_test_1""#);
    assert_eq!(core.find(0, "t1"), 0);
    core.create(1, 0, "t1", r#"{"title":"A","rank":2}"#).unwrap();
    core.create(2, 0, "ü\u{0}😀", r#"{"title":"B","rank":1}"#).unwrap();
    let slot = core.find(0, "t1") - 1;
    assert!(core.rows(0, &[slot, 999]).starts_with(r#"[{"id":"t1","#));
    assert!(core.rows(0, &[slot, 999]).ends_with(",null]"));
    assert_eq!(core.count(0, None).unwrap(), 2);
    let order = core.query(0, Some(r#"{"orderBy":{"rank":"asc"}}"#.into())).unwrap();
    assert_eq!(order, [core.find(0, "ü\u{0}😀") - 1, slot]);
    core.update(3, 0, "t1", r#"{"title":"C"}"#).unwrap();
    let told = calls(&host, "changed").pop().unwrap();
    assert_eq!(Array::from(&told.get(2)).get(0).as_f64(), Some(f64::from(slot * 2)), "a seen row changed");
    core.delete(4, 0, "t1").unwrap();
    let told = calls(&host, "changed").pop().unwrap();
    assert_eq!(Array::from(&told.get(2)).get(0).as_f64(), None, "nobody had seen it since");
    assert_eq!(outcome(&host, 4).await, "done");
}

#[wasm_bindgen_test]
async fn views_are_told_once_per_turn() {
    let (core, host) = client(r#""authToken":"ek_test_1""#);
    let view = core.view_open(0, Some(r#"{"orderBy":{"rank":"asc"}}"#.into())).unwrap();
    assert_eq!(core.view_read(view), [1]);
    for rank in 0..3 {
        core.create(rank + 1, 0, &format!("t{rank}"), &format!(r#"{{"rank":{rank}}}"#)).unwrap();
    }
    assert!(calls(&host, "views").is_empty(), "never inside the call that caused it");
    JsFuture::from(turn()).await.unwrap();
    assert_eq!(calls(&host, "views").len(), 1);
    assert_eq!(core.view_read(view).first(), Some(&2));
    assert_eq!(core.view_read(view), [0]);
    core.view_close(view);
    core.create(9, 0, "t9", "{}").unwrap();
    JsFuture::from(turn()).await.unwrap();
    assert_eq!(calls(&host, "views").len(), 1);
}

#[wasm_bindgen_test]
async fn calls_from_inside_callbacks_are_ordinary() {
    let (core, host) = client(r#""authToken":"ek_test_1""#);
    let inner = core.clone();
    let callback = Closure::once_into_js(move || {
        inner.create(2, 0, "inner", "{}").unwrap();
        assert!(inner.find(0, "inner") > 0, "visible at once, even here");
        inner.view_open(0, None).unwrap();
        inner.status();
    });
    on_next(&host, callback.unchecked_ref());
    core.create(1, 0, "outer", "{}").unwrap();
    assert_eq!((outcome(&host, 1).await, outcome(&host, 2).await), ("done".into(), "done".into()));
    assert_eq!(core.count(0, None).unwrap(), 2);
}

#[wasm_bindgen_test]
async fn a_server_that_is_not_there_is_waited_for() {
    let (core, host) = client(r#""authToken":"ek_test_1""#);
    core.start(1).unwrap();
    while !core.status().contains(r#""state":"waiting""#) {
        JsFuture::from(host.unchecked_ref::<TestHost>().next_status()).await.unwrap();
    }
    let before = calls(&host, "request").len();
    // The timer brings the next attempt.
    while calls(&host, "request").len() == before {
        JsFuture::from(host.unchecked_ref::<TestHost>().next_status()).await.unwrap();
        core.status();
    }
    core.dispose(2).unwrap();
    assert_eq!(outcome(&host, 2).await, "done");
    assert!(outcome(&host, 1).await.contains("client_disposed"));
}

#[wasm_bindgen_test]
async fn answers_of_the_server_become_coded_errors() {
    let (core, host) = client(r#""authToken":"ek_test_1""#);
    answer_with(&host, 401, r#"{"code":"apikey_revoked","message":"withdrawn"}"#);
    core.start(1).unwrap();
    let error = outcome(&host, 1).await;
    for part in [r#""code":"apikey_revoked""#, r#""class":"AbloAuthenticationError""#, r#""requestId":"req_7""#] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains("ek_test_1"));
}

#[wasm_bindgen_test]
async fn a_credential_function_that_says_null_is_no_login() {
    let (core, host) = client(r#""apiKeyFunction":true"#);
    core.start(1).unwrap();
    assert!(outcome(&host, 1).await.contains("auth_no_credentials"));
    core.dispose(2).unwrap();
    assert_eq!(outcome(&host, 2).await, "done");
}

#[wasm_bindgen_test]
fn bad_calls_throw_the_text_of_an_error() {
    let host = make_host();
    let thrown = make("{", &host).err().unwrap().as_string().unwrap();
    assert!(thrown.contains("invalid_options"), "{thrown}");
    let (core, _host) = client(r#""authToken":"ek_test_1""#);
    let code = |result: Result<(), JsValue>| result.unwrap_err().as_string().unwrap();
    assert!(code(core.update(1, 0, "nope", "{}")).contains("entity_not_found"));
    assert!(code(core.create(1, 7, "x", "{}")).contains("unknown_model"));
    assert!(code(core.commit(1, "{}".into())).contains("commit_operation_required"));
    assert!(code(core.read(1, 0, "[".into())).contains("invalid_json"));
    assert!(core.query(0, Some(r#"{"where":7}"#.into())).unwrap_err().as_string().unwrap().contains("where"));
    assert_eq!(core.query(u32::MAX, None).unwrap(), Vec::<u32>::new());
    assert_eq!(core.view_read(u32::MAX), [0]);
}

#[wasm_bindgen_test]
fn clients_come_and_go() {
    for _ in 0..200 {
        let (core, _host) = client(r#""authToken":"ek_test_1""#);
        core.create(1, 0, "t1", r#"{"title":"A"}"#).unwrap();
        core.dispose(2).unwrap();
        assert!(core.create(3, 0, "t2", "{}").is_err());
    }
}
