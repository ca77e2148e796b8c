//! The world: one clock, one list of events, several clients, one server.
//!
//! Everything happens in [`World::step`]: the next event is taken and handled, then whoever it concerned is checked.
//! `net` moves frames and requests, `work` is what applications do, `fault` is what goes wrong.

use std::collections::{BTreeMap, BTreeSet};

use ablo_wasm::core::error::Error;
use ablo_wasm::core::id::TaskId;
use ablo_wasm::core::input::{Command, Credential, Input, Ticket};
use ablo_wasm::core::json::{JsonStr, Value};
use ablo_wasm::core::output::Output;
use ablo_wasm::core::pool::{RowRef, Slot};
use ablo_wasm::core::queue::RowKey;
use ablo_wasm::core::time::Now;
use ablo_wasm::core::wire::{ClientFrame, OpKind, ServerFrame};

use crate::book::Book;
use crate::bugs::Tamper;
use crate::client::{Client, Persona, Source, Use};
use crate::device::{Claim, Device};
use crate::dice::Dice;
use crate::fault::Fault;
use crate::host::{self, Call, Host, LinkNo};
use crate::line::Trouble;
use crate::net::{Link, Owner, Pending};
use crate::oracle::{Author, Check, Fate, Oracle, Row, broken};
use crate::plan::Plan;
use crate::shop;
use crate::stats::Stats;
use crate::trace::Trace;

/// The wall clock at the beginning.
const WALL_START: u64 = 1_782_900_000_000;
/// Outputs of one call of an engine.
const OUTPUTS_MAX: usize = 10_000;
/// Events within one millisecond.
const EVENTS_PER_MS_MAX: u32 = 20_000;
/// After everything healed, the world must come to rest within this time.
pub const HEAL_MS: u64 = 600_000;
/// And rest for so long. Longer than any pause that a client makes before it repairs something.
const QUIET_MS: u64 = 75_000;

/// What will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client's application does something.
    Turn(usize),
    /// The agent writes.
    Agent,
    /// A client's timer, set for this author.
    Timer(usize, Author),
    /// The server's timer.
    ServerTimer,
    /// The store is done with something.
    Stored,
    /// The next of what is on its way to the server.
    Up(LinkNo),
    /// The next of what is on its way to the client.
    Down(LinkNo),
    /// The browser gives up opening a socket.
    OpenTimeout(LinkNo),
    /// The server notices that a connection is dead.
    ServerNotices(LinkNo),
    /// A call reaches the server.
    CallArrives(u64),
    /// A call's answer, or its failure, reaches its owner.
    CallDone(u64, Result<ablo_wasm::core::input::Response, String>),
    /// The journal answers.
    Journaled(usize, Author, TaskId, bool),
    /// The application's credential function answers.
    Credential(usize, Author, TaskId, Credential),
    /// The application's credential function calls the backend.
    Mint(usize, Author, TaskId),
    /// Something goes wrong.
    Fault,
    /// Something that went wrong ends.
    Repair(Fault),
    /// Something goes wrong on a line.
    Trouble,
    /// And ends.
    Relief(Trouble, Author),
    /// The page has something to say.
    Page(usize, Author, Input),
    /// Another client takes the place of one that is gone.
    Reborn(usize),
    /// A device has done something for a tab.
    Device(usize, u64),
    /// The browser tells a tab something.
    Told(usize, Author, Input),
    /// The browser tells a tab what became of its request for the lock.
    Lock(Claim, bool),
    /// A frozen tab goes on.
    Thaw(usize, Author),
    /// An application goes on with a claim.
    Hold(usize, Author, String),
}

/// What a run is asked to be besides its seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) tamper: Option<Tamper>,
    pub(crate) keep_trace: bool,
    pub(crate) loud: bool,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) options: Options,
    pub(crate) now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    pub(crate) clients: Vec<Client>,
    authors: Author,
    pub(crate) host: Host,
    pub(crate) oracle: Oracle,
    pub(crate) links: BTreeMap<LinkNo, Link>,
    pub(crate) next_link: LinkNo,
    pub(crate) calls: BTreeMap<u64, Pending>,
    pub(crate) next_call: u64,
    pub(crate) net: Dice,
    pub(crate) faults: Dice,
    pub(crate) work: Dice,
    pub(crate) disk: Dice,
    pub(crate) line: Dice,
    pub(crate) guard: Dice,
    pub(crate) coord: Dice,
    seeds: Dice,
    pub(crate) devices: Vec<Device>,
    /// Every row that anybody has ever written to.
    pub(crate) universe: Vec<RowKey>,
    known: BTreeSet<Row>,
    pub(crate) trace: Trace,
    pub(crate) stats: Stats,
    pub(crate) healing: bool,
    /// Every claim is given back.
    pub(crate) releasing: bool,
    pub(crate) next_claim: u64,
    pub(crate) turns: u64,
    /// The server can be reached.
    pub(crate) reachable: bool,
    /// The server takes no more connections.
    pub(crate) full: bool,
    timer_at: Option<u64>,
    stored_at: Option<u64>,
    this_ms: (u64, u32),
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan, options: Options) -> Self {
        let mut setup = Dice::new(seed, 2);
        let all = BTreeSet::from([format!("org:{}", shop::ORGANIZATION)]);
        let mut personas: Vec<Persona> = (0..plan.clients)
            .map(|no| {
                let user = format!("u{no}");
                let restricted = plan.on.restricted && no > 0 && setup.percent(50);
                let mut groups = if restricted {
                    BTreeSet::from([format!("team:{}", setup.pick(&shop::TEAMS))])
                } else {
                    all.clone()
                };
                groups.insert(format!("user:{user}"));
                let source = match setup.below(100) {
                    0..50 => Source::Fixed,
                    50..85 => Source::Function,
                    _ if restricted => Source::Fixed,
                    _ => Source::Exchange,
                };
                // An exchanged key has its organization's group only.
                let groups = if source == Source::Exchange { all.clone() } else { groups };
                Persona { user, groups, source, durable: plan.on.journal && setup.percent(60), device: None }
            })
            .collect();
        if plan.tabs > 0 {
            let source = setup.pick(&[Source::Fixed, Source::Function]);
            let team = BTreeSet::from([format!("team:{}", setup.pick(&shop::TEAMS))]);
            let groups = if plan.on.restricted && setup.percent(30) { team } else { all.clone() };
            let user = "tabs".to_owned();
            let persona = Persona { user, groups, source, durable: false, device: Some(0) };
            personas.extend(std::iter::repeat_n(persona, plan.tabs));
        }
        let mut keys =
            vec![host::fixed_key(host::SECRET, "root", all.clone()), host::fixed_key(host::AGENT_KEY, "agent", all)];
        keys.extend(personas.iter().map(|who| host::fixed_key(&who.token(), &who.user, who.groups.clone())));
        let mut host = Host::new(seed, keys, options.tamper);
        host.book = plan.on.claims.then(Book::default);
        host.store_ms = if plan.on.slow_store { setup.pick(&[5, 50, 300]) } else { 0 };
        let mut world = Self {
            now: 0,
            sequence: 0,
            events: BTreeMap::new(),
            clients: Vec::new(),
            authors: crate::oracle::AGENT,
            host,
            oracle: Oracle::new(plan.on.claims),
            links: BTreeMap::new(),
            next_link: 0,
            calls: BTreeMap::new(),
            next_call: 0,
            net: Dice::new(seed, 3),
            faults: Dice::new(seed, 4),
            work: Dice::new(seed, 5),
            disk: Dice::new(seed, 8),
            line: Dice::new(seed, 11),
            guard: Dice::new(seed, 13),
            coord: Dice::new(seed, 15),
            seeds: Dice::new(seed, 6),
            devices: if plan.tabs > 0 { vec![Device::default()] } else { Vec::new() },
            universe: Vec::new(),
            known: BTreeSet::new(),
            trace: Trace::new(options.keep_trace, options.loud),
            stats: Stats::default(),
            healing: false,
            releasing: false,
            next_claim: 0,
            turns: plan.turns,
            reachable: true,
            full: false,
            timer_at: None,
            stored_at: None,
            this_ms: (0, 0),
            plan,
            options,
        };
        for (no, persona) in personas.into_iter().enumerate() {
            world.populate(no, persona);
        }
        world
    }

    /// Starts the clients, the applications and the trouble.
    fn begin(&mut self) -> Check {
        for no in 0..self.clients.len() {
            self.start_client(no)?;
            let pause = self.work.below(self.plan.pace_ms);
            self.at(pause, Event::Turn(no));
        }
        if self.plan.on.agent {
            self.at(self.plan.pace_ms, Event::Agent);
        }
        self.at(self.plan.fault_pace_ms, Event::Fault);
        if self.plan.on.any_line() {
            self.at(self.plan.fault_pace_ms, Event::Trouble);
        }
        Ok(())
    }

    /// Plays the whole seed.
    pub(crate) fn play(&mut self) -> Check {
        self.begin()?;
        while self.turns > 0 {
            if !self.step()? {
                return broken("stuck", "nothing more will happen");
            }
        }
        self.heal()?;
        let until = self.now + HEAL_MS;
        self.settle(until)?;
        if self.plan.on.claims {
            self.compare_claims()?;
            self.check_rosters()?;
            self.release_all()?;
            self.settle(until)?;
        }
        // Clients may still be waiting to repair something: it shows when time goes by.
        let later = self.now + QUIET_MS;
        while self.now < later && self.step()? {}
        self.settle(until)?;
        self.check_converged()?;
        self.compare_claims()?;
        self.check_rosters()?;
        self.stats.virtual_ms = self.now;
        Ok(())
    }

    /// Goes on until everything is at rest.
    fn settle(&mut self, until: u64) -> Check {
        let mut look_at = self.now;
        loop {
            if self.now >= look_at {
                if self.is_quiet() {
                    return Ok(());
                }
                look_at = self.now + 250;
            }
            if self.now > until {
                return broken("rest", self.unrest());
            }
            if !self.step()? {
                return broken("stuck", "nothing more will happen");
            }
        }
    }

    /// The next event. False when there is none.
    pub(crate) fn step(&mut self) -> Check<bool> {
        let Some(((at, _), event)) = self.events.pop_first() else { return Ok(false) };
        if at > self.now {
            self.now = at;
            self.this_ms = (at, 0);
        }
        self.this_ms.1 += 1;
        if self.this_ms.1 > EVENTS_PER_MS_MAX {
            let due: Vec<_> = self.clients.iter().map(|one| one.engine.poll_timeout()).collect();
            let what = format!("more than {EVENTS_PER_MS_MAX} events at {at}; the next is {event:?}, due {due:?}");
            return broken("busy", what);
        }
        self.stats.steps += 1;
        self.trace.note(at, "", || match &event {
            Event::CallDone(call, _) => format!("{at:>8} CallDone({call})"),
            Event::Told(no, author, input) => format!("{at:>8} c{no}.{author} <- {input:.300?}"),
            _ => format!("{at:>8} {event:?}"),
        });
        match event {
            Event::Turn(no) => self.turn(no)?,
            Event::Agent => self.agent_turn()?,
            Event::Timer(no, author) => {
                // While the machine sleeps no timer fires: waking sets it again.
                if self.is_current(no, author) && self.clients[no].timer_at == Some(at) {
                    self.clients[no].timer_at = None;
                    self.input(no, Input::Timeout)?;
                }
            }
            Event::ServerTimer => {
                if self.timer_at == Some(at) {
                    self.timer_at = None;
                    self.host.timeout(self.server_now());
                    self.after_server()?;
                }
            }
            Event::Stored => {
                if self.stored_at == Some(at) {
                    self.stored_at = None;
                    self.after_server()?;
                }
            }
            Event::Up(link) => self.arrive_up(link)?,
            Event::Down(link) => self.arrive_down(link)?,
            Event::OpenTimeout(link) => self.open_timeout(link)?,
            Event::ServerNotices(link) => self.server_notices(link)?,
            Event::CallArrives(call) => self.call_arrives(call)?,
            Event::CallDone(call, result) => self.call_done(call, result)?,
            Event::Journaled(no, author, task, good) => {
                if self.is_current(no, author) {
                    self.journal_answers(no, task, good)?;
                }
            }
            Event::Credential(no, author, task, credential) => {
                if self.is_current(no, author) {
                    let credential = self.late_answer(no, credential);
                    self.input(no, Input::Credential(task, credential))?;
                }
            }
            Event::Mint(no, author, task) => {
                if self.is_current(no, author) {
                    self.mint(no, task);
                }
            }
            Event::Fault => self.fault()?,
            Event::Repair(fault) => self.repair(fault)?,
            Event::Trouble => self.trouble()?,
            Event::Relief(trouble, author) => self.relieve(trouble, author)?,
            Event::Page(no, author, input) => {
                if self.is_current(no, author) {
                    self.input(no, input)?;
                }
            }
            Event::Reborn(no) => self.reborn(no)?,
            Event::Device(index, number) => self.device_works(index, number)?,
            Event::Told(no, author, input) => {
                self.device(no).untold -= 1;
                if self.is_current(no, author) {
                    self.input(no, input)?;
                    let index = self.clients[no].persona.device.unwrap_or(0);
                    self.compare_tabs(index)?;
                }
            }
            Event::Lock(claim, held) => self.lock_told(claim, held)?,
            Event::Hold(no, author, id) => self.hold(no, author, &id)?,
            Event::Thaw(no, author) => {
                if self.is_current(no, author) && self.clients[no].frozen && self.clients[no].line.asleep.is_none() {
                    self.thaw(no)?;
                }
            }
        }
        Ok(true)
    }

    /// Schedules an event in so many milliseconds; its time.
    pub(crate) fn at(&mut self, after: u64, event: Event) -> u64 {
        let at = self.now + after;
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
        at
    }

    pub(crate) fn server_now(&self) -> Now {
        Now::new(self.now, WALL_START + self.now)
    }

    pub(crate) fn client_now(&self, no: usize) -> Now {
        let client = &self.clients[no];
        Now::new(client.clock(self.now), (WALL_START + self.now).saturating_add_signed(client.skew))
    }

    pub(crate) fn is_current(&self, no: usize, author: Author) -> bool {
        self.clients.get(no).is_some_and(|client| client.author == author && !client.disposed)
    }

    /// Puts a new incarnation into a place.
    fn populate(&mut self, no: usize, persona: Persona) {
        self.authors += 1;
        let seed = self.seeds.seed128();
        let now = Now::new(0, WALL_START + self.now);
        if let Some(device) = persona.device {
            self.oracle.settle_on(self.authors, device);
        }
        let mut client = Client::new(no, self.authors, persona, seed, self.now, now);
        client.honest = !self.plan.lying;
        client.mixes = client.persona.device.is_some() && self.plan.on.reads;
        client.hide_changes = self.options.tamper == Some(Tamper::ChangeNotTold);
        match self.clients.get_mut(no) {
            Some(place) => *place = client,
            None => self.clients.push(client),
        }
    }

    pub(crate) fn start_client(&mut self, no: usize) -> Check {
        let ticket = self.clients[no].ticket(Use::Start);
        let result = self.command(no, Command::Start(ticket))?;
        result.or_else(|error| broken("start", error.to_string()))
    }

    /// The place of a client that is gone is taken by another of the same person.
    fn reborn(&mut self, no: usize) -> Check {
        let persona = self.clients[no].persona.clone();
        self.stats.reborn += 1;
        let cold = persona.device.is_some() && self.plan.on.cold_starts && !self.healing && self.disk.percent(40);
        self.populate(no, persona);
        if cold {
            self.lose_network(no)?;
        }
        self.start_client(no)
    }

    /// The author is gone: nothing more can be said about its unfinished writes.
    pub(crate) fn abandon(&mut self, author: Author) {
        let mine: Vec<u32> =
            self.oracle.ops().filter(|(_, op)| op.author == author && !op.safe).map(|(number, _)| number).collect();
        mine.into_iter().for_each(|number| self.oracle.abandon(number));
    }

    /// A row that somebody writes to.
    pub(crate) fn meet(&mut self, row: &Row) {
        if self.known.insert(row.clone()) {
            self.universe.push(Client::key(row));
        }
    }

    /// A fact for a client's engine.
    pub(crate) fn input(&mut self, no: usize, input: Input) -> Check {
        if self.clients[no].frozen {
            self.clients[no].backlog.push(input);
            return Ok(());
        }
        let now = self.client_now(no);
        self.clients[no].line.take(&input);
        self.clients[no].engine.handle_input(now, input);
        self.after_client(no)?;
        self.check_woken(no)
    }

    /// A command for a client's engine.
    pub(crate) fn command(&mut self, no: usize, command: Command) -> Check<Result<(), Error>> {
        let now = self.client_now(no);
        let result = self.clients[no].engine.command(now, command);
        self.after_client(no)?;
        Ok(result)
    }

    /// Performs what an engine wants, checks, and sets the timer: the contract of the core.
    pub(crate) fn after_client(&mut self, no: usize) -> Check {
        let mut count = 0;
        while let Some(output) = self.clients[no].engine.poll_output() {
            count += 1;
            if count > OUTPUTS_MAX {
                return broken("outputs", format!("{} outputs and no end: {output:?}", OUTPUTS_MAX));
            }
            self.perform(no, output)?;
            // Beside tabs that have storage, one without is not simulated: it is reloaded at once.
            if self.clients[no].memory || self.crashes_now(no) {
                return self.crash_tab(no);
            }
        }
        self.follow_login(no)?;
        self.clients[no].check(&self.universe, &self.oracle)?;
        self.set_timer(no);
        Ok(())
    }

    /// Sets a client's timer to what its engine wants.
    pub(crate) fn set_timer(&mut self, no: usize) {
        let client = &mut self.clients[no];
        let Some((at, _)) = client.engine.poll_timeout() else { return };
        let at = at.0.saturating_add(client.born + client.line.lost_ms).max(self.now);
        let late = match self.net.below(20) {
            _ if !client.background => 0,
            0 => 60_000,
            _ => self.net.below(1_000),
        };
        if client.timer_at.is_none_or(|set| set > at + late || set < self.now) {
            client.timer_at = Some(at + late);
            let author = client.author;
            self.at(at + late - self.now, Event::Timer(no, author));
        }
    }

    fn perform(&mut self, no: usize, output: Output) -> Check {
        let (now, name) = (self.now, self.clients[no].name());
        self.trace.note(no as u64, "", || format!("{now:>8}   {name} {}", crate::trace::describe(&output)));
        let author = self.clients[no].author;
        self.clients[no].line.check(now, &name, &output)?;
        match output {
            Output::OpenSocket { socket, url, protocols } => self.open_link(no, socket, &url, &protocols),
            Output::SendFrame(socket, text) => {
                if let Ok(ClientFrame::Commit(commit)) = ClientFrame::parse(&text) {
                    let payload =
                        Value::parse(&text).ok().and_then(|frame| frame.get("payload")).map(|payload| payload.raw);
                    // One that was refused may be tried again, when its claim is long gone.
                    if !self.oracle.knows_key(&commit.client_tx_id) {
                        self.clients[no].check_commit_frame(&commit)?;
                    }
                    self.oracle.sent(author, &commit, payload.unwrap_or_default())?;
                } else {
                    self.clients[no].check_claim_frame(&text)?;
                }
                self.send_up(no, socket, text)?;
            }
            Output::CloseSocket { socket, .. } => self.close_by_client(no, socket),
            Output::Fetch(task, request) => {
                if request.url.contains("/sync/bootstrap") {
                    self.stats.snapshots += 1;
                }
                let timeout_ms = request.timeout_ms;
                self.call(Call::Http(request), Owner::Client(no, author, task), Some(timeout_ms));
            }
            Output::AskCredential(task) => {
                let slow = self.plan.on.key_trouble && !self.healing && self.net.percent(10);
                let after = if slow { self.net.below(30_000) } else { self.net.below(50) };
                self.ask_credential(no, task, after);
            }
            Output::Journal(task, ops) => {
                self.stats.journaled += 1;
                let fails = self.plan.on.journal_failures && !self.healing && self.net.percent(20);
                if !fails {
                    // The change is on its way to the disk; what it says counts when the journal answers.
                    self.clients[no].journaling.insert(task, ops);
                }
                let delay = if self.plan.on.slow_journal { self.net.below(400) } else { 0 };
                // Transactions on one store are done in the order in which they were made.
                let client = &mut self.clients[no];
                client.journal_at = client.journal_at.max(now + delay);
                let after = client.journal_at - now;
                let good = !fails || self.options.tamper == Some(Tamper::JournalLies);
                self.at(after, Event::Journaled(no, author, task, good));
            }
            Output::Store(..)
            | Output::CloseStores
            | Output::RequestLock { .. }
            | Output::ReleaseLock
            | Output::OpenChannel(_)
            | Output::Post(_)
            | Output::CloseChannel => self.serve_tab(no, output),
            Output::Settle(ticket, result) => self.settled(no, ticket, result)?,
            Output::Event(name, payload) => match (name, self.clients[no].persona.device) {
                ("write:rejected", _) => self.write_rejected(no, &payload)?,
                ("claim:lost", _) => self.claim_lost(no, &payload)?,
                ("session:ended", Some(device)) => self.oracle.forget_promises(device),
                _ => {}
            },
            Output::StatusChanged => {
                if self.net.percent(30) {
                    let status = self.clients[no].engine.status();
                    if Value::parse(&status).is_err() {
                        return broken("status", status);
                    }
                }
            }
        }
        Ok(())
    }

    fn journal_answers(&mut self, no: usize, task: TaskId, good: bool) -> Check {
        if let Some(ops) = self.clients[no].journaling.remove(&task) {
            self.clients[no].write_journal(&ops);
        }
        let refused = Error::local("idb_unavailable", "the simulated journal refused");
        self.input(no, Input::Journaled(task, if good { Ok(()) } else { Err(refused) }))
    }

    /// A ticket settles: once, and truly.
    fn settled(&mut self, no: usize, ticket: Ticket, result: Result<Option<String>, Error>) -> Check {
        let client = &mut self.clients[no];
        let Some(used) = client.tickets.remove(&ticket) else {
            return broken("ticket", format!("{}: {ticket:?} settles again or never was: {result:?}", client.name()));
        };
        self.trace.note(
            u64::from(ticket.0),
            result.as_ref().map_or_else(|error| error.code.as_ref(), |_| "ok"),
            || format!("           settles {used:?}"),
        );
        match (used, result) {
            (Use::Write { numbers, confirmed }, Ok(_)) => {
                for number in numbers {
                    if confirmed {
                        self.oracle.confirmed(number)?;
                    } else if self.clients[no].persona.durable {
                        self.check_journaled(no, number)?;
                    } else if let Some(device) = self.clients[no].persona.device
                        && !self.clients[no].memory
                    {
                        self.check_stored(device, number)?;
                    }
                }
            }
            // Nobody can say any more what becomes of them.
            (Use::Write { numbers, .. }, Err(_)) if self.clients[no].engine.is_signed_out() => {
                numbers.into_iter().for_each(|number| self.oracle.abandon(number));
            }
            (Use::Write { numbers, .. }, Err(error)) => {
                for number in numbers {
                    self.oracle.rejected(number, &error.code)?;
                }
            }
            (Use::Nothing, Err(error)) => return broken("ticket", format!("nothing to do failed: {error}")),
            (Use::Read(model), Ok(slots)) => self.check_read(no, model, &slots.unwrap_or_default())?,
            (Use::Claim(id), result) => self.claim_settled(no, &id, result.map(drop))?,
            (Use::Dispose, _) => {
                let author = self.clients[no].author;
                self.abandon(author);
                if let Some((ticket, used)) = self.clients[no].tickets.iter().next() {
                    return broken(
                        "ticket",
                        format!("{ticket:?} for {used:?} never settled before the client was gone"),
                    );
                }
                self.clients[no].disposed = true;
                let after = self.faults.below(2_000);
                self.at(after, Event::Reborn(no));
            }
            (Use::Start | Use::Nothing | Use::Flush | Use::Confirmation | Use::Read(_), _) => {}
        }
        Ok(())
    }

    fn check_journaled(&self, no: usize, number: u32) -> Check {
        let client = &self.clients[no];
        let over = self.oracle.op(number).is_none_or(|op| op.applied.is_some()) || self.oracle.is_superseded(number);
        if over || client.has_journaled(number, &self.oracle) {
            return Ok(());
        }
        let what = format!("{}: write {number} settled and the journal has {:?}", client.name(), client.journal);
        broken("journal-first", what)
    }

    /// A write that a tab calls safe is on the device.
    fn check_stored(&mut self, device: usize, number: u32) -> Check {
        let Some(op) = self.oracle.op(number).cloned() else { return Ok(()) };
        if op.applied.is_some() || op.fate != Fate::Open || self.oracle.is_superseded(number) {
            return Ok(());
        }
        if !self.is_recorded(device, "j/", number) {
            return broken("journal-first", format!("write {number} settled and the device does not have it: {op:?}"));
        }
        self.oracle.promise(number);
        Ok(())
    }

    fn check_read(&self, no: usize, model: ablo_wasm::core::id::ModelIndex, slots: &str) -> Check {
        let Ok(list) = Value::parse(slots) else { return broken("read", slots) };
        for slot in list.elements() {
            let Some(slot) = slot.as_u64() else { return broken("read", slots) };
            let row = RowRef { model, slot: Slot(slot as u32) };
            if self.clients[no].engine.pool().text(row).is_none() {
                return broken("read", format!("{} is told of {row:?}, which is not there", self.clients[no].name()));
            }
        }
        Ok(())
    }

    /// The application hears of a refused write.
    fn write_rejected(&mut self, no: usize, payload: &str) -> Check {
        let author = self.clients[no].author;
        let Ok(payload) = Value::parse(payload) else { return broken("event", payload) };
        let code = payload.get("error").and_then(|error| error.get_str("code")).unwrap_or_default().into_owned();
        let Some(transaction) = payload.get("transaction") else { return broken("event", payload.raw) };
        let data = transaction.get("data").map_or("{}", |data| data.raw);
        let mut numbers = shop::markers(data);
        if numbers.is_empty() {
            numbers = self.oracle.named(author, &transaction.get_str("id").unwrap_or_default());
        }
        if numbers.is_empty() {
            // An operation of the application's own that carries no fields and no name.
            let kind = OpKind::parse(&transaction.get_str("type").unwrap_or_default());
            let id = transaction.get("modelId").and_then(Value::as_json_str).and_then(JsonStr::decode_exact);
            let found = kind.and_then(|kind| self.oracle.refused_direct(author, kind, &id?));
            numbers.extend(found);
        }
        for number in numbers {
            self.oracle.rejected(number, &code)?;
            self.refusal_told(no, number)?;
        }
        Ok(())
    }

    /// Lets leave what may, and sets the server's timers.
    pub(crate) fn after_server(&mut self) -> Check {
        for left in self.host.leaving(self.now, &mut self.oracle)? {
            match left {
                host::Left::Send(link, text) => self.send_down(link, &text),
                host::Left::Close(link, code) => self.close_by_server(link, code),
                host::Left::Reply(call, response) => self.reply(call, response),
            }
        }
        if let Some(at) = self.host.ready_at()
            && self.stored_at.is_none_or(|set| set > at)
        {
            self.stored_at = Some(at.max(self.now));
            self.at(at.saturating_sub(self.now), Event::Stored);
        }
        if let Some(at) = self.host.deadline()
            && self.timer_at.is_none_or(|set| set > at)
        {
            self.timer_at = Some(at.max(self.now));
            self.at(at.saturating_sub(self.now), Event::ServerTimer);
        }
        Ok(())
    }

    /// The server is new: its timers are too.
    pub(crate) fn forget_server_timers(&mut self) {
        self.timer_at = None;
        self.stored_at = None;
    }

    fn is_quiet(&self) -> bool {
        self.host.is_up()
            && self.host.is_idle()
            && self.calls.is_empty()
            && self.clients.iter().all(Client::is_quiet)
            && (!self.releasing || self.are_lines_empty())
            && self
                .clients
                .iter()
                .all(|client| !client.disposed && (self.plan.lying || client.engine.cursor() == self.oracle.head()))
            && self.links.values().all(Link::is_quiet)
            && self.are_devices_quiet()
    }

    fn unrest(&mut self) -> String {
        let head = self.oracle.head().0;
        let mut parts: Vec<String> = Vec::new();
        if let Some(book) = &self.host.book {
            parts.push(format!("claims {:?}", book.claims()));
        }
        for client in &mut self.clients {
            if !client.is_quiet() || client.engine.cursor().0 != head {
                parts.push(client.unrest());
            }
        }
        format!(
            "not at rest {HEAL_MS} ms after everything healed: head {head}, server {}, idle {}, calls {:?}, {}",
            self.host.is_up(),
            self.host.is_idle(),
            self.calls.keys().take(5).collect::<Vec<_>>(),
            parts.join("; "),
        )
    }

    fn check_converged(&mut self) -> Check {
        self.host.check_disk()?;
        if self.host.head() != self.oracle.head().0 {
            let what = format!("the server's head is {}, durable is {}", self.host.head(), self.oracle.head().0);
            return broken("server-row", what);
        }
        let server: BTreeMap<Row, String> = self
            .host
            .rows()
            .filter_map(|(model, id, text)| Some(((shop::model_of(model)?, id.to_owned()), text.to_owned())))
            .collect();
        for client in self.clients.iter_mut().filter(|client| client.honest) {
            client.check_converged(&self.universe, &server, &self.oracle)?;
        }
        self.check_letters()?;
        for index in 0..self.devices.len() {
            self.look_cold(index)?;
        }
        self.oracle.check_nothing_lost()
    }

    /// The frame with one of its deltas per row, and the rest as if it had never been (a deliberate mistake).
    pub(crate) fn first_delta_only(text: &str) -> Option<String> {
        let Ok(ServerFrame::Deltas(deltas)) = ServerFrame::parse(text) else { return None };
        let mut seen = BTreeSet::new();
        let kept: Vec<&str> = deltas
            .iter()
            .filter(|delta| delta.read_delta().is_ok_and(|delta| seen.insert(delta.row_id.into_owned())))
            .map(|delta| delta.raw)
            .collect();
        (kept.len() < deltas.len()).then(|| ServerFrame::deltas(&kept))
    }
}
