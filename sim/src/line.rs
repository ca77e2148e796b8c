//! What happens between a client and its server besides lost frames: machines that sleep, credentials that do not come,
//! captive portals, a server that is full, logins that end, pages that say the same ten times. And the rules about it.

use ablo_wasm::core::connection::ANSWER_MS;
use ablo_wasm::core::id::TaskId;
use ablo_wasm::core::input::{Command, Credential, Input, Response};
use ablo_wasm::core::output::{Method, Output};

use crate::client::{Client, Source, Use};
use crate::host::LinkNo;
use crate::oracle::{Author, Check, broken};
use crate::world::{Event, World};

/// Probes are counted over so long.
const PROBES_MS: u64 = 10_000;
/// And there may be so many: ten that events of the page cause, one a second, and one more at the edge; the others
/// follow pauses of 0.5, 1, 2 and 4 s after a first one.
const PROBES_MAX: usize = 16;
/// A moment in which nobody would notice that a clock stood still.
const NAP_MS: u64 = 60_000;
/// The longest sleep.
const NIGHT_MS: u64 = 4 * 3_600_000;

/// What a client's line is like at the moment, and what it has asked for.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// The machine sleeps since then, and until then.
    pub(crate) asleep: Option<(u64, u64)>,
    /// So long has its clock stood still.
    pub(crate) lost_ms: u64,
    /// A login page answers in the server's place.
    pub(crate) portal: bool,
    /// Whoever supplies credentials says that the login is over.
    no_login: bool,
    /// The server says so.
    pub(crate) ended: bool,
    /// The server says that the key was taken back, whichever it is.
    revoked: bool,
    /// This one was taken back for good.
    dead_token: Option<String>,
    /// Its engine has signed out, and its application has seen it.
    pub(crate) signed_out: bool,
    /// Credentials that it has asked for and not been given, and when it asked.
    asked: Vec<(TaskId, u64)>,
    /// Sockets that it has and has not closed.
    sockets: Vec<TaskId>,
    /// When it probed.
    probes: Vec<u64>,
    /// It has woken, and its engine has not been called since.
    woken: bool,
    /// A ping is on its way.
    pinged: bool,
    /// When something else made it try at once: the application, a clock that jumped.
    pushed: Vec<u64>,
}

impl Line {
    /// The world has ended the login, one way or the other.
    pub(crate) fn login_is_over(&self) -> bool {
        self.no_login || self.ended
    }

    /// A clock jumped, or the application wants it now: the core has reason to try, and to give up what is under way.
    pub(crate) fn push(&mut self, now: u64) {
        self.pushed.push(now);
    }

    /// Its clock has jumped, or stood still, since it asked for a credential.
    fn asked_before_push(&self) -> bool {
        let last = self.pushed.last().copied();
        last.is_some_and(|last| self.asked.iter().any(|(_, at)| *at <= last))
    }

    /// Why the server refuses this bearer.
    fn refusal(&self, token: Option<&str>) -> Option<&'static str> {
        let dead = self.dead_token.is_some() && self.dead_token.as_deref() == token;
        match self {
            Self { ended: true, .. } => Some("session_expired"),
            Self { revoked: true, .. } => Some("apikey_revoked"),
            _ => dead.then_some("apikey_revoked"),
        }
    }

    /// An answer has reached the engine, or a socket is gone.
    pub(crate) fn take(&mut self, input: &Input) {
        if let Input::Credential(task, _) | Input::Response(task, _) = input {
            self.asked.retain(|(asked, _)| asked != task);
        }
        if let Input::SocketMessage(socket, _) = input
            && self.sockets.contains(socket)
        {
            self.pinged = false;
        }
        if let Input::SocketClosed { socket, .. } = input {
            self.sockets.retain(|open| open != socket);
        }
    }

    /// The engine wants something done.
    pub(crate) fn check(&mut self, now: u64, name: &str, output: &Output) -> Check {
        let asks = matches!(output, Output::Fetch(..) | Output::OpenSocket { .. } | Output::AskCredential(_));
        if self.signed_out && asks {
            return broken("signed-out", format!("{name} is signed out and wants {output:.300?}"));
        }
        let mints = match output {
            Output::AskCredential(task) => Some(*task),
            Output::Fetch(task, request) if request.url.ends_with("/auth/capability") => Some(*task),
            _ => None,
        };
        if let Some(task) = mints {
            let since = self.pushed.last().copied().unwrap_or(0);
            let early = self.asked.iter().find(|(_, at)| at + ANSWER_MS > now && *at > since);
            if let Some((other, at)) = early {
                let what = format!("{name} asks for a credential as {task:?}, and waits for {other:?} since {at}");
                return broken("second-mint", what);
            }
            self.asked.push((task, now));
        }
        match output {
            Output::Fetch(_, request) if request.method == Method::Head => {
                self.probes.retain(|at| at + PROBES_MS > now);
                self.pushed.retain(|at| at + ANSWER_MS > now);
                self.probes.push(now);
                let pushed = self.pushed.iter().filter(|at| **at + PROBES_MS > now).count();
                if self.probes.len() > PROBES_MAX + pushed {
                    return broken("probe-storm", format!("{name} probed at {:?}", self.probes));
                }
            }
            Output::SendFrame(_, text) if text.contains("\"type\":\"ping\"") => self.pinged = true,
            Output::OpenSocket { socket, .. } => {
                self.pinged = false;
                self.sockets.push(*socket);
                if self.sockets.len() > 1 {
                    return broken("second-socket", format!("{name} has the sockets {:?}", self.sockets));
                }
            }
            Output::CloseSocket { socket, .. } => self.sockets.retain(|open| open != socket),
            _ => {}
        }
        Ok(())
    }
}

/// What may happen to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Sleep(usize),
    Portal(usize),
    Capacity,
    LoginEnds(usize),
    Revoked(usize),
    PageBurst(usize),
}

impl World {
    /// Something goes wrong on a line, and the next thing is on its way.
    pub(crate) fn trouble(&mut self) -> Check {
        if self.healing {
            return Ok(());
        }
        let pause = self.line.below(self.plan.fault_pace_ms * 2);
        self.at(pause + 1, Event::Trouble);
        let no = self.line.index(self.clients.len());
        let on = &self.plan.on;
        let menu: Vec<Trouble> = [
            (on.sleeps, Trouble::Sleep(no)),
            (on.portals, Trouble::Portal(no)),
            (on.capacity, Trouble::Capacity),
            (on.logins_end, Trouble::LoginEnds(no)),
            (on.revoked, Trouble::Revoked(no)),
            (on.page_bursts, Trouble::PageBurst(no)),
        ]
        .into_iter()
        .filter_map(|(is_on, trouble)| is_on.then_some(trouble))
        .collect();
        let client = &self.clients[no];
        if menu.is_empty() || client.disposed || client.disposing || client.line.signed_out {
            return Ok(());
        }
        let trouble = self.line.pick(&menu);
        let now = self.now;
        self.trace.note(0, "trouble", || format!("{now:>8} TROUBLE {trouble:?}"));
        self.stats.faults += 1;
        let author = self.clients[no].author;
        match trouble {
            Trouble::Sleep(no) => self.sleep(no),
            Trouble::Portal(no) => {
                self.clients[no].line.portal = true;
                // People come back to the page to see why nothing moves.
                if self.plan.on.page_bursts {
                    self.page_burst(no);
                }
                let after = self.line.range(500, 60_000);
                self.at(after, Event::Relief(trouble, author));
                let told = self.line.percent(50);
                self.cut_all(no, told)
            }
            Trouble::Capacity => {
                self.full = true;
                let after = self.line.range(500, 40_000);
                self.at(after, Event::Relief(trouble, author));
                Ok(())
            }
            Trouble::LoginEnds(no) => self.end_login(no),
            Trouble::Revoked(no) => {
                let client = &mut self.clients[no];
                client.line.revoked = true;
                // Another fixed key, or a secret one, nobody has.
                if client.persona.source == Source::Function {
                    client.line.dead_token = client.engine.token().map(str::to_owned);
                }
                let after = self.line.range(500, 90_000);
                self.at(after, Event::Relief(trouble, author));
                self.drop_all(no, &[4011, 1008, 1006]);
                Ok(())
            }
            Trouble::PageBurst(no) => {
                self.page_burst(no);
                Ok(())
            }
        }
    }

    /// Trouble ends.
    pub(crate) fn relieve(&mut self, trouble: Trouble, author: Author) -> Check {
        match trouble {
            Trouble::Sleep(no) if self.is_current(no, author) => self.wake(no),
            Trouble::Portal(no) if self.is_current(no, author) => {
                self.clients[no].line.portal = false;
                Ok(())
            }
            Trouble::Capacity => {
                self.full = false;
                Ok(())
            }
            Trouble::LoginEnds(no) if self.is_current(no, author) && !self.clients[no].disposing => {
                // The application lets the user sign in again, and makes a new client.
                self.clients[no].disposing = true;
                let ticket = self.clients[no].ticket(Use::Dispose);
                self.command(no, Command::Dispose(ticket)).map(drop)
            }
            Trouble::Revoked(no) if self.is_current(no, author) => {
                let client = &mut self.clients[no];
                client.line.revoked = false;
                if client.persona.source == Source::Fixed && !client.frozen && self.line.percent(50) {
                    let token = self.clients[no].persona.token();
                    self.clients[no].line.push(self.now);
                    return self.command(no, Command::SetToken(token)).map(drop);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// All of it ends.
    pub(crate) fn heal_lines(&mut self) -> Check {
        self.full = false;
        for no in 0..self.clients.len() {
            if self.clients[no].disposed {
                continue;
            }
            let author = self.clients[no].author;
            self.relieve(Trouble::Portal(no), author)?;
            self.relieve(Trouble::Sleep(no), author)?;
            if self.clients[no].line.revoked {
                self.relieve(Trouble::Revoked(no), author)?;
            }
        }
        Ok(())
    }

    /// Its machine sleeps: all of a device, or the one client.
    fn sleep(&mut self, no: usize) -> Check {
        let device = self.clients[no].persona.device;
        let length =
            if self.line.percent(50) { self.line.range(NAP_MS, 600_000) } else { self.line.range(NAP_MS, NIGHT_MS) };
        let told = self.line.percent(50);
        for one in 0..self.clients.len() {
            let client = &mut self.clients[one];
            let same = one == no || (device.is_some() && client.persona.device == device);
            if !same || client.disposed || client.disposing || client.frozen {
                continue;
            }
            self.stats.sleeps += 1;
            client.frozen = true;
            client.line.asleep = Some((self.now, self.now + length));
            client.timer_at = None;
            let author = client.author;
            self.at(length, Event::Relief(Trouble::Sleep(one), author));
            self.cut_all(one, told)?;
        }
        Ok(())
    }

    /// The machine wakes: its clock goes on where it stopped.
    fn wake(&mut self, no: usize) -> Check {
        let now = self.now;
        let Some((since, until)) = self.clients[no].line.asleep.take() else { return Ok(()) };
        let client = &mut self.clients[no];
        client.line.lost_ms += now - since;
        client.line.push(now);
        client.line.woken = true;
        // Healing wakes them early: for the client it was the whole night.
        client.skew += until.saturating_sub(now) as i64;
        if self.line.percent(50) {
            for _ in 0..self.line.range(1, 6) {
                self.say(no, 3_000, &[Input::Wake, Input::Visible, Input::Online]);
            }
        }
        self.thaw(no)?;
        if !self.clients[no].disposed {
            self.set_timer(no);
        }
        Ok(())
    }

    /// The page has news, some time soon.
    fn say(&mut self, no: usize, within_ms: u64, menu: &[Input]) {
        let author = self.clients[no].author;
        let index = self.line.index(menu.len());
        let after = self.line.below(within_ms);
        let Some(input) = menu.get(index) else { return };
        self.at(after, Event::Page(no, author, input.clone()));
    }

    /// The page has the same news many times a second, for a few seconds.
    fn page_burst(&mut self, no: usize) {
        let author = self.clients[no].author;
        let seconds = self.line.range(1, 4);
        let menu = [Input::Visible, Input::Wake, Input::Online, Input::Offline];
        let kinds = if self.line.percent(50) { 2 } else { menu.len() };
        for second in 0..seconds {
            for _ in 0..self.line.range(5, 20) {
                let after = second * 1_000 + self.line.below(1_000);
                let input = menu.get(self.line.index(kinds)).cloned().unwrap_or(Input::Visible);
                self.at(after, Event::Page(no, author, input));
            }
        }
        self.at(seconds * 1_000, Event::Page(no, author, Input::Online));
    }

    /// Whoever has slept with an open connection asks at once whether it still stands.
    pub(crate) fn check_woken(&mut self, no: usize) -> Check {
        let client = &mut self.clients[no];
        if client.frozen || !std::mem::take(&mut client.line.woken) || self.plan.on.wall_jumps {
            return Ok(());
        }
        let client = &self.clients[no];
        if client.disposed || !client.engine.is_connected() || client.line.pinged {
            return Ok(());
        }
        broken("slept", format!("{} has slept and does not ask whether its connection stands", client.name()))
    }

    /// What a credential function says that was given up long ago does not matter: it may well be `null`. Where timers
    /// are late nobody can tell whether it was given up.
    pub(crate) fn late_answer(&self, no: usize, credential: Credential) -> Credential {
        let client = &self.clients[no];
        let unsure = client.background || client.frozen || client.line.asked_before_push();
        if credential == Credential::SignedOut && unsure && !client.line.no_login {
            return Credential::Unavailable("too late".to_owned());
        }
        credential
    }

    /// Whoever supplies credentials, or the server, or both say from now on that the login is over.
    fn end_login(&mut self, no: usize) -> Check {
        let client = &mut self.clients[no];
        // Tabs of one person share a login, and what one of them deletes the others have open: not simulated.
        if client.persona.device.is_some() || client.line.login_is_over() {
            return Ok(());
        }
        let server = client.persona.source != Source::Function || self.line.percent(60);
        client.line.ended = server;
        client.line.no_login = client.persona.source == Source::Function && (!server || self.line.percent(50));
        self.stats.logins_ended += 1;
        if server {
            self.drop_all(no, &[4001, 4001, 4003, 1008, 1006]);
        }
        Ok(())
    }

    /// The engine says that the login is over. It must be; and the application makes a new client later.
    pub(crate) fn follow_login(&mut self, no: usize) -> Check {
        let client = &mut self.clients[no];
        if client.line.signed_out || client.disposed || !client.engine.is_signed_out() {
            return Ok(());
        }
        if !client.line.login_is_over() {
            return broken("signed-out", format!("{} signed out, and its login is good", client.name()));
        }
        client.line.signed_out = true;
        client.views.clear();
        let left = client.tickets.iter().find(|(_, used)| **used != Use::Dispose);
        if let Some((ticket, used)) = left {
            return broken("ticket", format!("{ticket:?} for {used:?} is open after the end of the login"));
        }
        let author = client.author;
        self.abandon(author);
        let after = self.line.below(20_000);
        self.at(after, Event::Relief(Trouble::LoginEnds(no), author));
        Ok(())
    }

    fn links_of(&self, no: usize) -> Vec<LinkNo> {
        self.clients[no].links.values().copied().collect()
    }

    /// Every connection breaks, and the server learns of it much later.
    fn cut_all(&mut self, no: usize, tell_client: bool) -> Check {
        for link in self.links_of(no) {
            self.cut(link, false, tell_client)?;
        }
        Ok(())
    }

    /// The server closes every connection.
    fn drop_all(&mut self, no: usize, codes: &[u16]) {
        for link in self.links_of(no) {
            let code = self.line.pick(codes);
            self.drop_connection(link, code);
        }
    }

    /// What answers a client's request before it has left the building.
    pub(crate) fn portal_answer(&mut self, no: usize) -> Option<Response> {
        if !self.clients[no].line.portal {
            return None;
        }
        let status = if self.line.percent(80) { 200 } else { 302 };
        let body = b"<!doctype html><title>Welcome to the hotel</title>".to_vec();
        Some(Response { status, body, ..Response::default() })
    }

    /// What stands before the server's engine answers a client's request.
    pub(crate) fn gate_answer(&mut self, no: usize, author: Author, token: Option<&str>) -> Option<Response> {
        if self.is_current(no, author)
            && let Some(code) = self.clients[no].line.refusal(token)
        {
            let mut response = refuse(401, code);
            // The header is on every answer of the real server; proxies may take it off all but the probe's.
            response.auth_failure = Some(code.to_owned());
            return Some(response);
        }
        if !self.full {
            return None;
        }
        let mut response = refuse(503, "instance_at_capacity");
        response.auth_failure = Some("instance_at_capacity".to_owned());
        response.retry_after_ms = match self.line.below(10) {
            0..6 => None,
            6..9 => Some(self.line.below(20_000)),
            _ => Some(self.line.pick(&[u64::MAX, 86_400_000, 1 << 53])),
        };
        Some(response)
    }

    /// Whether a client's socket may not open.
    pub(crate) fn is_gate_shut(&self, no: usize, author: Author, token: Option<&str>) -> bool {
        let line = &self.clients[no].line;
        self.full || (self.is_current(no, author) && (line.portal || line.refusal(token).is_some()))
    }

    /// The engine asks the credential function, which otherwise gets to work after so long.
    pub(crate) fn ask_credential(&mut self, no: usize, task: TaskId, after: u64) {
        let author = self.clients[no].author;
        let (after, event) = match self.mute() {
            None => (after, Event::Mint(no, author, task)),
            Some(None) => return,
            Some(Some(late)) if late > ANSWER_MS && self.line.percent(50) => {
                (late, Event::Credential(no, author, task, Credential::SignedOut))
            }
            Some(Some(late)) => (late, Event::Mint(no, author, task)),
        };
        self.at(after, event);
    }

    /// What the credential function does instead of asking the backend.
    pub(crate) fn odd_mint(&mut self, no: usize) -> Option<Credential> {
        self.clients[no].line.no_login.then_some(Credential::SignedOut)
    }

    /// When a credential function that is in trouble gets to work, in how many milliseconds; `Some(None)`: never.
    fn mute(&mut self) -> Option<Option<u64>> {
        if !self.plan.on.mute_credentials || self.healing {
            return None;
        }
        match self.line.below(100) {
            0..15 => Some(None),
            15..30 => Some(Some(self.line.range(ANSWER_MS, ANSWER_MS * 3))),
            30..40 => Some(Some(self.line.range(1_000, ANSWER_MS))),
            _ => None,
        }
    }
}

impl Client {
    /// The clock of its page: it stands still while the machine sleeps.
    pub(crate) fn clock(&self, now: u64) -> u64 {
        let awake = self.line.asleep.map_or(now, |(since, _)| since);
        awake.saturating_sub(self.born + self.line.lost_ms)
    }
}

fn refuse(status: u16, code: &str) -> Response {
    let body = format!("{{\"code\":\"{code}\",\"message\":\"simulated\"}}").into_bytes();
    Response { status, body, ..Response::default() }
}
