//! What applications do.

use ablo_wasm::core::error::Error;
use ablo_wasm::core::id::{ModelIndex, SyncId};
use ablo_wasm::core::input::{Change, Command, Response, Write};
use ablo_wasm::core::json::{ObjectWriter, Value, write_array, write_str};
use ablo_wasm::core::wire::OpKind;

use crate::client::{Client, Use};
use crate::dice::Dice;
use crate::host::Call;
use crate::net::Owner;
use crate::oracle::{AGENT, Author, Check, Fate, Guard, Op, Row, broken};
use crate::shop::{self, FILES, NOTES, TASKS, Taste};
use crate::views::{OpenView, random_query};
use crate::world::{Event, World};

/// Views that one client keeps open.
const VIEWS_MAX: usize = 3;

impl World {
    /// A turn of a client's application.
    pub(crate) fn turn(&mut self, no: usize) -> Check {
        if self.turns == 0 {
            return Ok(());
        }
        self.turns -= 1;
        let pause = self.work.range(1, self.plan.pace_ms);
        self.at(pause, Event::Turn(no));
        let client = &self.clients[no];
        if client.disposed || client.disposing || client.frozen || client.line.signed_out {
            return Ok(());
        }
        if !self.plan.on.eager && !self.clients[no].engine.is_ready() {
            return Ok(());
        }
        let many =
            if self.plan.on.bursts && self.work.percent(20) { self.work.range(2, 25) } else { self.work.range(1, 2) };
        for _ in 0..many {
            self.write(no)?;
        }
        if self.plan.on.direct && self.work.percent(20) {
            self.direct(no, None)?;
        }
        if self.plan.on.reads && self.work.percent(if self.plan.on.read_often { 80 } else { 25 }) {
            self.read(no)?;
        }
        if self.plan.on.views && self.work.percent(15) {
            self.change_views(no)?;
        }
        if self.plan.on.claims {
            self.coordinate(no)?;
        }
        let rows: Vec<Row> = (0..3).map(|_| self.some_row()).collect();
        if self.clients[no].disposed {
            return Ok(());
        }
        self.clients[no].look(&rows)?;
        if self.work.percent(3) {
            let ticket = self.clients[no].ticket(Use::Flush);
            let limit = self.work.percent(50).then_some(1_000);
            self.command(no, Command::Flush(ticket, limit))?.or_else(unexpected)?;
        }
        if self.work.percent(5) {
            let row = self.some_row();
            let ticket = self.clients[no].ticket(Use::Confirmation);
            let command = Command::Confirmation(ticket, shop::key(row.0).to_owned(), row.1);
            self.command(no, command)?.or_else(unexpected)?;
        }
        Ok(())
    }

    fn some_row(&mut self) -> Row {
        let model = match self.work.below(20) {
            0..11 => TASKS,
            11..17 => NOTES,
            _ => FILES,
        };
        let (rows, odd, shared) = (self.plan.rows, self.plan.on.odd_ids, self.plan.on.shared_ids);
        (model, shop::id(model, rows, odd, shared, &mut self.work))
    }

    fn taste(&self, full: bool) -> Taste {
        Taste { odd: self.plan.on.odd_values, invalid: self.plan.on.invalid, full }
    }

    /// One typed write.
    fn write(&mut self, no: usize) -> Check {
        if self.clients[no].disposed {
            return Ok(());
        }
        let row = self.some_row();
        self.write_row(no, row, None)
    }

    /// A typed write to this row, under a claim if one is named.
    pub(crate) fn write_row(&mut self, no: usize, row: Row, under: Option<&str>) -> Check {
        if self.clients[no].disposed {
            return Ok(());
        }
        self.meet(&row);
        let number = self.oracle.next_number();
        let shown = self.clients[no].row(&row).map(str::to_owned);
        let (rows, taste) = (self.plan.rows, self.taste(shown.is_none()));
        let roll = self.work.below(100);
        let (kind, change, title) = match &shown {
            None => {
                let (fields, title) = shop::fields(row.0, number, taste, rows, &mut self.work);
                (OpKind::Create, Change::Create(fields), title)
            }
            Some(_) if roll < 12 && self.plan.on.deletes => (OpKind::Delete, Change::Delete, None),
            Some(text) if roll < 20 && under.is_none() => return self.write_nothing(no, row, text),
            Some(_) => {
                let (fields, title) = shop::fields(row.0, number, taste, rows, &mut self.work);
                (OpKind::Update, Change::Update(fields), title)
            }
        };
        // A field that says what the row shows already is not written.
        let shows = |title: &String| {
            let row = shown.as_deref().and_then(|text| Value::parse(text).ok());
            row.and_then(|row| row.get("title")).is_some_and(|value| value.raw == title)
        };
        let title = title.filter(|title| !shows(title));
        let birth = if kind == OpKind::Create { Some(number) } else { shown.as_deref().and_then(shop::birth) };
        let author = self.clients[no].author;
        let device = self.clients[no].persona.device;
        let saw = device.map(|_| self.oracle.unapplied(device, shown.as_deref().unwrap_or_default()));
        let head = self.oracle.head();
        let guard = if kind == OpKind::Update { self.guard(no, &row) } else { None };
        let confirmed = self.work.percent(50);
        let options = self.options(confirmed, number, guard.as_ref(), under);
        let claimed = under.is_some() || self.clients[no].holds(&row);
        let guard = guard.or_else(|| {
            let read_at = self.clients[no].has_seen(&row);
            let stamped = kind != OpKind::Create && self.clients[no].holds(&row) && read_at > SyncId(0);
            stamped.then(|| Guard { row: row.clone(), read_at, whole: false, claimed: true })
        });
        if let Some(id) = under.filter(|id| !self.clients[no].has_claim(id)) {
            return self.write_too_late(no, row, change, options, id);
        }
        self.stats.claimed_writes += u64::from(claimed);
        let saw = saw.unwrap_or_default();
        self.oracle.issue(Op { device, head, saw, guard, ..new_op(author, kind, &row, birth, title, true) });
        let client = &mut self.clients[no];
        client.watch(&row, number);
        let ticket = client.ticket(Use::Write { numbers: vec![number], confirmed });
        let write = Write { model: row.0, id: row.1.clone(), change, options };
        let now = self.client_now(no);
        let result = self.clients[no].engine.command(now, Command::Write(ticket, write));
        if let Err(error) = result {
            return broken("call", format!("{kind:?} of {row:?} where {shown:?} shows: {error}"));
        }
        if kind == OpKind::Delete && !self.clients[no].engine.queue().is_pending(&Client::key(&row)) {
            self.oracle.cancel(number);
        } else if kind == OpKind::Delete && device.is_some() {
            let name = self.clients[no].newest_delete(&row);
            self.oracle.name(number, name);
        }
        self.trace.note(u64::from(number), &row.1, || format!("           write {number}: {kind:?} {row:?}"));
        self.after_client(no)
    }

    /// What a write is based on: its row, or another one, as far as the client has seen it.
    fn guard(&mut self, no: usize, row: &Row) -> Option<Guard> {
        let read_at = self.clients[no].engine.cursor();
        if !self.plan.on.guards || read_at == SyncId(0) || !self.guard.percent(30) {
            return None;
        }
        let whole = self.guard.percent(40);
        let mut row = row.clone();
        if whole {
            let (model, client) = (row.0, &self.clients[no]);
            let rows = self.oracle.rows().map(|(known, _)| known);
            let seen: Vec<&Row> = rows.filter(|known| known.0 == model && client.row(known).is_some()).collect();
            row = seen.get(self.guard.index(seen.len().max(1))).map_or(row, |seen| (*seen).clone());
        }
        Some(Guard { row, read_at, whole, claimed: false })
    }

    fn options(&mut self, confirmed: bool, number: u32, guard: Option<&Guard>, under: Option<&str>) -> Option<String> {
        let own_key = self.plan.on.own_keys && self.work.percent(10);
        if !own_key && !confirmed && self.work.percent(50) && guard.is_none() && under.is_none() {
            return None;
        }
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        object.str("wait", if confirmed { "confirmed" } else { "queued" });
        if own_key {
            object.str("idempotencyKey", &format!("own-{number}"));
        }
        if let Some(id) = under {
            object.str("claim", id);
        }
        match guard {
            Some(Guard { row, read_at, whole: true, .. }) => write_array(object.key("reads"), [row], |out, row| {
                let mut read = ObjectWriter::new(out);
                read.str("model", shop::key(row.0));
                read.str("id", &row.1);
                read.u64("readAt", read_at.0);
                read.end();
            }),
            Some(Guard { read_at, .. }) => object.u64("readAt", read_at.0),
            None => {}
        }
        object.end();
        Some(out)
    }

    /// A write of a handle whose claim is over.
    fn write_too_late(&mut self, no: usize, row: Row, change: Change, options: Option<String>, id: &str) -> Check {
        let ticket = self.clients[no].ticket(Use::Nothing);
        let write = Write { model: row.0, id: row.1, change, options };
        let result = self.command(no, Command::Write(ticket, write))?;
        self.clients[no].tickets.remove(&ticket);
        match result {
            Err(error) if error.code == "claim_lost" => Ok(()),
            result => broken("call", format!("a write of a handle whose claim {id} is over: {result:?}")),
        }
    }

    /// A write that changes nothing, and calls that are refused at once.
    fn write_nothing(&mut self, no: usize, row: Row, shown: &str) -> Check {
        let (change, code) = match self.work.below(4) {
            0 => (Change::Update("{}".to_owned()), None),
            1 => (Change::Update(shown.to_owned()), None),
            2 => (Change::Create("{}".to_owned()), Some("unique_violation")),
            _ => (Change::Update("[]".to_owned()), Some("invalid_body")),
        };
        let ticket = self.clients[no].ticket(Use::Nothing);
        let write = Write { model: row.0, id: row.1, change, options: None };
        let result = self.command(no, Command::Write(ticket, write))?;
        let settled = self.clients[no].tickets.remove(&ticket).is_none();
        match (code, result) {
            (None, Ok(())) if settled => Ok(()),
            (Some(code), Err(error)) if error.code == code && !settled => Ok(()),
            (code, result) => broken("call", format!("expected {code:?} at once, found {result:?}")),
        }
    }

    /// A batch of the application's own.
    pub(crate) fn direct(&mut self, no: usize, under: Option<(String, Row)>) -> Check {
        if self.clients[no].disposed {
            return Ok(());
        }
        let author = self.clients[no].author;
        let (id, row) = under.unzip();
        if id.as_ref().is_some_and(|id| !self.clients[no].has_claim(id)) {
            return Ok(());
        }
        let (numbers, mut body) = self.batch(author, Some(no), row);
        let key = format!("direct-{}", numbers.first().copied().unwrap_or(0));
        self.oracle.declare(&key, &numbers);
        let confirmed = self.work.percent(60);
        body.insert_str(
            1,
            &format!("\"idempotencyKey\":\"{key}\",\"wait\":\"{}\",", if confirmed { "confirmed" } else { "queued" }),
        );
        if let Some(id) = &id {
            self.stats.claimed_writes += 1;
            body.insert_str(1, &format!("\"claim\":\"{id}\","));
        }
        let times = if self.plan.on.own_keys && self.work.percent(20) { 2 } else { 1 };
        for _ in 0..times {
            let ticket = self.clients[no].ticket(Use::Write { numbers: numbers.clone(), confirmed });
            self.command(no, Command::Commit(ticket, body.clone()))?.or_else(unexpected)?;
        }
        Ok(())
    }

    /// Operations as text, and their numbers.
    fn batch(&mut self, author: Author, no: Option<usize>, mut first: Option<Row>) -> (Vec<u32>, String) {
        let mut numbers = Vec::new();
        let mut texts = Vec::new();
        for _ in 0..self.work.range(1, 4) {
            let row = first.take().unwrap_or_else(|| self.some_row());
            self.meet(&row);
            let known = match no {
                Some(no) => self.clients[no].row(&row).is_some(),
                None => self.oracle.rows().any(|(known, _)| *known == row),
            };
            let number = self.oracle.next_number();
            let roll = self.work.below(100);
            let kind = match (known, roll) {
                (false, _) => OpKind::Create,
                (true, 0..8) if self.plan.on.deletes => OpKind::Delete,
                (true, 8..20) if self.plan.on.archive => OpKind::Archive,
                (true, 20..30) if self.plan.on.archive => OpKind::Unarchive,
                (true, 30..35) if self.plan.on.invalid => OpKind::Create,
                (true, _) => OpKind::Update,
            };
            let (rows, taste) = (self.plan.rows, self.taste(kind == OpKind::Create));
            let unknown = self.plan.on.invalid && self.work.percent(5);
            let mut text = String::new();
            let mut object = ObjectWriter::new(&mut text);
            object.str("type", kind.name());
            object.str("model", if unknown { "nonsense" } else { shop::key(row.0) });
            object.str("id", &row.1);
            if matches!(kind, OpKind::Create | OpKind::Update) {
                object.raw("input", &shop::fields(row.0, number, taste, rows, &mut self.work).0);
            }
            object.end();
            let device = no.and_then(|no| self.clients[no].persona.device);
            self.oracle.issue(Op { device, ..new_op(author, kind, &row, None, None, false) });
            numbers.push(number);
            texts.push(text);
        }
        let mut body = String::new();
        let mut object = ObjectWriter::new(&mut body);
        write_array(object.key("operations"), &texts, |out, text| out.push_str(text));
        object.end();
        (numbers, body)
    }

    /// A read through the server.
    fn read(&mut self, no: usize) -> Check {
        if self.clients[no].disposed {
            return Ok(());
        }
        let model = if self.work.percent(if self.plan.on.read_often { 20 } else { 70 }) { FILES } else { NOTES };
        let options = random_read(model, self.plan.rows, &mut self.work);
        let ticket = self.clients[no].ticket(Use::Read(model));
        let result = self.command(no, Command::Read(ticket, model, options.clone()))?;
        if let Err(error) = result {
            self.clients[no].tickets.remove(&ticket);
            if error.code != "sync_not_ready" {
                return broken("call", format!("read {options}: {error}"));
            }
        }
        Ok(())
    }

    fn change_views(&mut self, no: usize) -> Check {
        if self.clients[no].disposed {
            return Ok(());
        }
        let text = random_query(&mut self.work);
        let model = ModelIndex(self.work.below(u64::from(shop::MODELS)) as u16);
        let client = &mut self.clients[no];
        if client.views.len() < VIEWS_MAX {
            let view = OpenView::open(&mut client.engine, model, &text)?;
            client.views.push(view);
        } else {
            let view = client.views.remove(0);
            client.engine.close_view(view.id);
        }
        self.after_client(no)
    }

    /// The agent writes through HTTP.
    pub(crate) fn agent_turn(&mut self) -> Check {
        if self.turns == 0 {
            return Ok(());
        }
        let pause = self.work.range(1, self.plan.pace_ms * 2);
        self.at(pause, Event::Agent);
        let (numbers, mut body) = self.batch(AGENT, None, None);
        let key = format!("agent-{}", numbers.first().copied().unwrap_or(0));
        let mut text = String::from("{\"idempotencyKey\":");
        write_str(&mut text, &key);
        text.push(',');
        body.replace_range(..1, &text);
        self.oracle.declare(&key, &numbers);
        // Without an answer the agent sends the same again at once: it must count once.
        let twice = self.work.percent(20);
        let owner = Owner::Agent(if twice { Vec::new() } else { numbers.clone() });
        if twice {
            numbers.iter().for_each(|number| self.oracle.abandon(*number));
            self.call(Call::Agent(body.clone()), owner.clone(), Some(10_000));
        }
        self.call(Call::Agent(body), owner, Some(10_000));
        Ok(())
    }

    pub(crate) fn agent_answered(&mut self, numbers: &[u32], result: &Result<Response, String>) -> Check {
        for number in numbers {
            match result {
                Ok(response) if response.status == 200 => self.oracle.confirmed(*number)?,
                Ok(response) if (400..500).contains(&response.status) && response.status != 429 => {
                    self.oracle.rejected(*number, "refused")?;
                }
                Ok(_) | Err(_) => self.oracle.abandon(*number),
            }
        }
        Ok(())
    }
}

fn unexpected(error: Error) -> Check {
    broken("call", error.to_string())
}

fn new_op(author: Author, kind: OpKind, row: &Row, birth: Option<u32>, title: Option<String>, optimistic: bool) -> Op {
    let row = row.clone();
    let fate = Fate::Open;
    Op {
        author,
        device: None,
        safe: false,
        letter: false,
        saw: Vec::new(),
        name: None,
        head: SyncId(0),
        kind,
        row,
        birth,
        title,
        guard: None,
        optimistic,
        key: None,
        cancelled: false,
        moot: false,
        applied: None,
        fate,
    }
}

fn random_read(model: ModelIndex, rows: usize, dice: &mut Dice) -> String {
    let mut out = String::new();
    let mut object = ObjectWriter::new(&mut out);
    match dice.below(4) {
        0 => object.str("id", &shop::id(model, rows, false, false, dice)),
        1 => object.raw("where", r#"[["title","A"]]"#),
        2 => object.raw("where", r#"[["rank",">",0]]"#),
        _ => {}
    }
    if dice.percent(30) {
        object.raw("orderBy", r#"{"rank":"desc"}"#);
    }
    if dice.percent(30) {
        object.u64("limit", dice.range(1, 5));
    }
    if dice.percent(50) {
        object.str("type", "complete");
    }
    object.end();
    out
}
