//! A client engine and hands to play the world for it: no network, no clock, every step visible.

use ablo_wasm::core::Engine;
use ablo_wasm::core::config::Config;
use ablo_wasm::core::error::Error;
use ablo_wasm::core::id::{ModelIndex, TaskId};
use ablo_wasm::core::input::{Change, Command, Credential, Input, Response, Ticket, Write};
use ablo_wasm::core::output::{Output, Request};
use ablo_wasm::core::time::Now;
use serde_json::{Value, json};

/// `tasks`, the first model of the schema.
pub(crate) const TASKS: ModelIndex = ModelIndex(0);
/// `decks`, parents of tasks.
pub(crate) const DECKS: ModelIndex = ModelIndex(1);
/// `notes`, loaded on demand.
pub(crate) const NOTES: ModelIndex = ModelIndex(2);

const SCHEMA: &str = r#"{"v":3,"models":{
    "tasks":{"fields":{"title":{"type":"string"},"status":{"type":"string"},"rank":{"type":"number"},"deckId":{"type":"string"}},
             "relations":{"deck":{"type":"belongsTo","target":"decks","foreignKey":"deckId"}},"typename":"Task"},
    "decks":{"fields":{"name":{"type":"string"}},"relations":{},"typename":"SlideDeck"},
    "notes":{"fields":{"body":{"type":"string"},"taskId":{"type":"string","column":"task"}},"relations":{"task":{"type":"belongsTo","target":"tasks","foreignKey":"taskId"}},"typename":"Note","load":"lazy"}}}"#;

/// An engine under test.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) now: Now,
    /// Outputs not looked at yet.
    pub(crate) outputs: Vec<Output>,
    next_ticket: u32,
    pub(crate) settled: Vec<(Ticket, Result<Option<String>, Error>)>,
    pub(crate) events: Vec<(&'static str, Value)>,
}

impl Bench {
    /// A client with a token that has not started.
    pub(crate) fn new() -> Self {
        Self::with(r#""authToken":"ek_test_1""#)
    }

    /// As [`Bench::with`], for a client that draws other ids.
    pub(crate) fn reseed(&mut self, seed: u128, options: &str) {
        self.engine = Engine::new(Self::config(options), seed, self.now);
    }

    fn config(options: &str) -> Config {
        let text = format!(r#"{{"schema":{SCHEMA},"baseUrl":"http://h","timezone":"Europe/Stockholm",{options}}}"#);
        Config::parse(&text).unwrap()
    }

    /// A client with these members in its configuration.
    pub(crate) fn with(options: &str) -> Self {
        let now = Now::new(1000, 1_782_900_000_000);
        Self {
            engine: Engine::new(Self::config(options), 42, now),
            now,
            outputs: Vec::new(),
            next_ticket: 0,
            settled: Vec::new(),
            events: Vec::new(),
        }
    }

    /// A client that has loaded `rows` at sync id 10 and follows the stream.
    pub(crate) fn started(models: &Value) -> Self {
        let mut bench = Self::new();
        bench.start();
        bench.answer_identity();
        bench.answer_bootstrap(10, models);
        bench.open();
        bench.answer_sync(10, &[]);
        bench.frames();
        bench
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.engine.handle_input(self.now, input);
        self.drain();
    }

    pub(crate) fn command(&mut self, make: impl FnOnce(Ticket) -> Command) -> Result<Ticket, Error> {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        let result = self.engine.command(self.now, make(ticket));
        self.drain();
        result.map(|()| ticket)
    }

    pub(crate) fn start(&mut self) -> Ticket {
        self.command(Command::Start).unwrap()
    }

    pub(crate) fn write(
        &mut self,
        model: ModelIndex,
        id: &str,
        change: Change,
        options: Option<&str>,
    ) -> Result<Ticket, Error> {
        let write = Write { model, id: id.into(), change, options: options.map(Into::into) };
        self.command(|ticket| Command::Write(ticket, write))
    }

    pub(crate) fn create(&mut self, id: &str, data: Value) -> Ticket {
        self.write(TASKS, id, Change::Create(data.to_string()), Some(r#"{"wait":"confirmed"}"#)).unwrap()
    }

    pub(crate) fn update(&mut self, id: &str, data: Value) -> Ticket {
        self.write(TASKS, id, Change::Update(data.to_string()), Some(r#"{"wait":"confirmed"}"#)).unwrap()
    }

    pub(crate) fn delete(&mut self, id: &str) -> Ticket {
        self.write(TASKS, id, Change::Delete, Some(r#"{"wait":"confirmed"}"#)).unwrap()
    }

    pub(crate) fn read(&mut self, model: ModelIndex, options: Value) -> Result<Ticket, Error> {
        self.command(|ticket| Command::Read(ticket, model, options.to_string()))
    }

    /// The end of the turn: gathered writes are sent.
    pub(crate) fn turn(&mut self) {
        self.input(Input::Timeout);
    }

    pub(crate) fn elapse(&mut self, ms: u64) {
        self.now.mono = self.now.mono.after(ms);
        self.now.wall.0 += ms;
        self.input(Input::Timeout);
    }

    /// Waits for the next deadline.
    pub(crate) fn wait(&mut self) {
        let (at, _) = self.engine.poll_timeout().expect("something is due");
        let ms = at.since(self.now.mono);
        self.elapse(ms);
    }

    /// The oldest request not yet answered whose address contains `part`.
    pub(crate) fn request(&mut self, part: &str) -> (TaskId, Request) {
        let index = self
            .outputs
            .iter()
            .position(|output| matches!(output, Output::Fetch(_, request) if request.url.contains(part)))
            .unwrap_or_else(|| panic!("no request for {part} in {:?}", self.outputs));
        let Output::Fetch(task, request) = self.outputs.remove(index) else { unreachable!("just found") };
        (task, request)
    }

    /// Whether a request is waiting whose address contains `part`.
    pub(crate) fn has_request(&self, part: &str) -> bool {
        self.outputs.iter().any(|output| matches!(output, Output::Fetch(_, request) if request.url.contains(part)))
    }

    pub(crate) fn answer(&mut self, task: TaskId, status: u16, body: &Value) {
        let response = Response { status, body: body.to_string().into_bytes(), ..Response::default() };
        self.input(Input::Response(task, Ok(response)));
    }

    pub(crate) fn answer_identity(&mut self) {
        let (task, _) = self.request("/auth/identity");
        self.answer(
            task,
            200,
            &json!({"participantKind":"user","participantId":"u1","accountScope":"acme",
            "syncGroups":["org:acme","user:u1"],"userMeta":{}}),
        );
    }

    pub(crate) fn answer_bootstrap(&mut self, last_sync_id: u64, models: &Value) {
        let (task, _) = self.request("/sync/bootstrap");
        self.answer(task, 200, &json!({"type":"full","lastSyncId":last_sync_id,"models":models}));
    }

    pub(crate) fn answer_probe(&mut self, status: u16, failure: Option<&str>) {
        let (task, _) = self.request("/auth/check");
        let response = Response { status, auth_failure: failure.map(Into::into), ..Response::default() };
        self.input(Input::Response(task, Ok(response)));
    }

    /// Opens the socket that was asked for; its name.
    pub(crate) fn open(&mut self) -> TaskId {
        let index = self.outputs.iter().position(|output| matches!(output, Output::OpenSocket { .. }));
        let Output::OpenSocket { socket, .. } = self.outputs.remove(index.expect("a socket was asked for")) else {
            unreachable!("just found")
        };
        self.input(Input::SocketOpened(socket));
        socket
    }

    fn last_socket(&self) -> TaskId {
        self.engine.socket().expect("an open socket")
    }

    pub(crate) fn receive(&mut self, frame: &Value) {
        let socket = self.last_socket();
        self.input(Input::SocketMessage(socket, frame.to_string()));
    }

    pub(crate) fn close(&mut self, code: u16) {
        let socket = self.last_socket();
        self.input(Input::SocketClosed { socket, code });
    }

    pub(crate) fn answer_sync(&mut self, head: u64, deltas: &[Value]) {
        self.receive(&json!({"type":"sync_response","payload":{"deltas":deltas,"currentSyncId":head}}));
    }

    pub(crate) fn delta(&mut self, id: u64, action: &str, row: &str, data: &Value) {
        self.receive(&json!({"type":"delta","payload":task_delta(id, action, row, data)}));
    }

    /// Frames sent since this was last asked.
    pub(crate) fn frames(&mut self) -> Vec<Value> {
        let mut frames = Vec::new();
        self.outputs.retain(|output| match output {
            Output::SendFrame(_, text) => {
                frames.push(serde_json::from_str(text).expect("frames are JSON"));
                false
            }
            _ => true,
        });
        frames
    }

    /// The one commit sent since frames were last asked for: its key and operations.
    pub(crate) fn commit(&mut self) -> (String, Vec<Value>) {
        let commits: Vec<Value> = self.frames().into_iter().filter(|frame| frame["type"] == "commit").collect();
        assert_eq!(commits.len(), 1, "{commits:?}");
        let payload = &commits[0]["payload"];
        (text(&payload["clientTxId"]), payload["operations"].as_array().expect("operations").clone())
    }

    pub(crate) fn accept(&mut self, key: &str, last_sync_id: u64) {
        self.receive(&json!({"type":"mutation_result","payload":{"object":"commit_receipt","clientTxId":key,
            "serverTxId":"1","success":true,"status":"confirmed","lastSyncId":last_sync_id,"ops":1}}));
    }

    pub(crate) fn refuse(&mut self, key: &str, code: &str) {
        self.receive(&json!({"type":"mutation_result","payload":{"object":"commit_receipt","clientTxId":key,
            "serverTxId":"","success":false,"status":"rejected","error":{"code":code,"message":"no"}}}));
    }

    /// How a ticket was settled, once.
    pub(crate) fn outcome(&mut self, ticket: Ticket) -> Option<Result<Option<String>, Error>> {
        let index = self.settled.iter().position(|(settled, _)| *settled == ticket)?;
        let outcome = self.settled.remove(index).1;
        assert!(!self.settled.iter().any(|(settled, _)| *settled == ticket), "settled twice");
        Some(outcome)
    }

    pub(crate) fn row(&self, model: ModelIndex, id: &str) -> Option<Value> {
        self.engine.row(model, id).map(|text| serde_json::from_str(text).expect("rows are JSON"))
    }

    pub(crate) fn field(&self, id: &str, name: &str) -> Value {
        self.row(TASKS, id).unwrap_or(Value::Null)[name].clone()
    }

    pub(crate) fn event(&self, name: &str) -> Vec<&Value> {
        self.events.iter().filter(|(event, _)| *event == name).map(|(_, payload)| payload).collect()
    }

    pub(crate) fn credential(&mut self, credential: Credential) {
        let index = self.outputs.iter().position(|output| matches!(output, Output::AskCredential(_)));
        let Output::AskCredential(task) = self.outputs.remove(index.expect("a credential was asked for")) else {
            unreachable!("just found")
        };
        self.input(Input::Credential(task, credential));
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Settle(ticket, result) => self.settled.push((ticket, result)),
                Output::Event(name, payload) => {
                    self.events.push((name, serde_json::from_str(&payload).expect("payloads are JSON")));
                }
                Output::StatusChanged => {}
                other => self.outputs.push(other),
            }
        }
        let status: Value = serde_json::from_str(&self.engine.status()).expect("the status is JSON");
        assert_eq!(status["pendingWrites"], self.engine.pending_count());
        self.engine.take_changes();
    }
}

/// A delta of a task, data as text as servers send it.
pub(crate) fn task_delta(id: u64, action: &str, row: &str, data: &Value) -> Value {
    let data = if data.is_null() { Value::Null } else { Value::String(data.to_string()) };
    json!({"id":id,"actionType":action,"modelName":"Task","modelId":row,"data":data,
        "syncGroups":["org:acme"],"transactionId":null,"createdAt":"2026-06-30T08:00:00.000Z"})
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

/// The rows of a task list for a bootstrap.
pub(crate) fn tasks(rows: &[Value]) -> Value {
    json!({"Task": rows, "SlideDeck": []})
}
