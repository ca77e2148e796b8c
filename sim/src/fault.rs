//! What goes wrong, and how it is mended.

use ablo_wasm::core::input::{Command, Input};

use crate::client::Use;
use crate::host::LinkNo;
use crate::net::Page;
use crate::oracle::Check;
use crate::world::{Event, World};

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Cut,
    HalfOpen,
    Close,
    Stall,
    Crash,
    Unreachable,
    Network(usize),
    Background(usize),
    Recreate,
    WallJump,
    Resnapshot,
    Nudge,
    Tab(usize),
}

impl World {
    /// Something goes wrong, and the next thing is on its way.
    pub(crate) fn fault(&mut self) -> Check {
        if self.healing {
            return Ok(());
        }
        let pause = self.faults.below(self.plan.fault_pace_ms);
        self.at(pause + 1, Event::Fault);
        let on = &self.plan.on;
        let no = self.faults.index(self.clients.len());
        let tab = if self.plan.tabs > 0 { self.plan.clients + self.disk.index(self.plan.tabs) } else { 0 };
        let mut menu = vec![Fault::Nudge];
        for (is_on, fault) in [
            (on.cuts, Fault::Cut),
            (on.half_open, Fault::HalfOpen),
            (on.closes, Fault::Close),
            (on.slow_consumer || (on.reads && on.read_often), Fault::Stall),
            (on.crashes, Fault::Crash),
            (on.unreachable, Fault::Unreachable),
            (on.network_events, Fault::Network(no)),
            (on.background, Fault::Background(no)),
            (on.recreate, Fault::Recreate),
            (on.wall_jumps, Fault::WallJump),
            (on.resnapshot, Fault::Resnapshot),
            (self.plan.tabs > 0, Fault::Tab(tab)),
            (self.plan.tabs > 0, Fault::Tab(tab)),
            (self.plan.tabs > 0, Fault::Tab(tab)),
        ] {
            if is_on {
                menu.push(fault);
            }
        }
        let fault = self.faults.pick(&menu);
        let now = self.now;
        self.trace.note(0, "fault", || format!("{now:>8} FAULT {fault:?}"));
        self.stats.faults += 1;
        match fault {
            Fault::Cut => self.on_link(|world, link| world.cut(link, true, true)),
            Fault::HalfOpen => {
                let server_knows = self.faults.percent(50);
                self.on_link(|world, link| world.cut(link, server_knows, !server_knows))
            }
            Fault::Close => {
                let code = self.faults.pick(&[1000, 1001, 1006, 1011, 1012, 1013, 4010, 1008, 4001, 4003]);
                self.on_link(|world, link| {
                    world.drop_connection(link, code);
                    Ok(())
                })
            }
            Fault::Stall => {
                // Shorter than a client's patience with a commit: see the note on late commits in `net`.
                let until = self.now + self.faults.range(500, 8_000);
                self.on_link(|world, link| {
                    world.links.get_mut(&link).into_iter().for_each(|link| link.down_at = link.down_at.max(until));
                    Ok(())
                })
            }
            Fault::Crash => self.crash(),
            Fault::Unreachable => {
                self.reachable = false;
                let after = self.faults.range(200, 30_000);
                self.at(after, Event::Repair(fault));
                Ok(())
            }
            Fault::Network(no) => self.lose_network(no),
            Fault::Background(no) => {
                self.clients[no].background = true;
                let after = self.faults.range(1_000, 120_000);
                self.at(after, Event::Repair(fault));
                Ok(())
            }
            Fault::Recreate => self.recreate(no),
            Fault::WallJump => {
                let jump = self.faults.pick(&[-3_600_000, -5_000, 5_000, 3_600_000, 86_400_000]);
                self.clients[no].skew += jump;
                self.clients[no].line.push(self.now);
                Ok(())
            }
            Fault::Resnapshot => self.on_link(|world, link| {
                world.ask_for_snapshot(link);
                Ok(())
            }),
            Fault::Nudge => self.nudge(no),
            Fault::Tab(no) => self.tab_trouble(no),
        }
    }

    /// Does something to one of the links that are up.
    fn on_link(&mut self, act: impl FnOnce(&mut Self, LinkNo) -> Check) -> Check {
        let up = |link: &crate::net::Link| link.connection.is_some() && link.page != Page::Closed;
        let candidates: Vec<LinkNo> =
            self.links.iter().filter(|(_, link)| up(link)).map(|(number, _)| *number).collect();
        if candidates.is_empty() {
            return Ok(());
        }
        let number = self.faults.pick(&candidates);
        act(self, number)
    }

    fn crash(&mut self) -> Check {
        if !self.host.is_up() {
            return Ok(());
        }
        self.stats.crashes += 1;
        let kept = if self.faults.percent(40) { self.faults.index(3) } else { 0 };
        self.host.crash(kept, &mut self.oracle)?;
        self.forget_server_timers();
        let open: Vec<LinkNo> =
            self.links.iter().filter(|(_, link)| link.connection.is_some()).map(|(number, _)| *number).collect();
        for number in open {
            self.links.get_mut(&number).into_iter().for_each(|link| link.connection = None);
            let silent = self.plan.on.half_open && self.faults.percent(30);
            self.cut(number, true, !silent)?;
        }
        let lost: Vec<u64> = self.calls.iter().filter(|(_, call)| call.at_server).map(|(number, _)| *number).collect();
        for call in lost {
            let after = self.faults.below(1_000);
            self.at(after, Event::CallDone(call, Err("the connection broke".to_owned())));
        }
        let after = self.faults.range(10, 8_000);
        self.at(after, Event::Repair(Fault::Crash));
        Ok(())
    }

    pub(crate) fn lose_network(&mut self, no: usize) -> Check {
        if !self.clients[no].online || self.clients[no].disposed {
            return Ok(());
        }
        self.clients[no].online = false;
        let links: Vec<LinkNo> = self.clients[no].links.values().copied().collect();
        for link in links {
            self.cut(link, false, false)?;
        }
        if self.faults.percent(70) {
            self.clients[no].told_offline = true;
            self.input(no, Input::Offline)?;
        }
        let after = self.faults.range(100, 60_000);
        self.at(after, Event::Repair(Fault::Network(no)));
        Ok(())
    }

    fn recreate(&mut self, no: usize) -> Check {
        if self.clients[no].disposing || self.clients[no].disposed || self.clients[no].frozen {
            return Ok(());
        }
        if self.faults.percent(50) {
            self.clients[no].disposing = true;
            let ticket = self.clients[no].ticket(Use::Dispose);
            return self.command(no, Command::Dispose(ticket)).map(drop);
        }
        if self.clients[no].persona.device.is_some() {
            return self.crash_tab(no);
        }
        // The tab dies.
        let links: Vec<LinkNo> = self.clients[no].links.values().copied().collect();
        for link in links {
            let told = self.faults.percent(70);
            self.cut(link, told, false)?;
        }
        let author = self.clients[no].author;
        self.clients[no].disposed = true;
        self.abandon(author);
        let after = self.faults.below(3_000);
        self.at(after, Event::Reborn(no));
        Ok(())
    }

    /// Harmless news: they must stay harmless.
    fn nudge(&mut self, no: usize) -> Check {
        if self.clients[no].disposed {
            return Ok(());
        }
        match self.faults.below(5) {
            0 => self.input(no, Input::Visible),
            1 => self.input(no, Input::Wake),
            2 => self.input(no, Input::Timeout),
            3 if !self.clients[no].frozen => {
                self.clients[no].line.push(self.now);
                self.command(no, Command::Nudge).map(drop)
            }
            _ => self.input(no, Input::Online),
        }
    }

    /// Trouble ends.
    pub(crate) fn repair(&mut self, fault: Fault) -> Check {
        match fault {
            Fault::Crash if !self.host.is_up() => {
                self.host.start();
                self.host.check_disk()?;
                self.after_server()
            }
            Fault::Unreachable => {
                self.reachable = true;
                Ok(())
            }
            Fault::Network(no) => {
                self.clients[no].online = true;
                if self.clients[no].disposed {
                    return Ok(());
                }
                if std::mem::take(&mut self.clients[no].told_offline) || self.faults.percent(50) {
                    self.input(no, Input::Online)?;
                }
                Ok(())
            }
            Fault::Background(no) => {
                self.clients[no].background = false;
                if self.clients[no].disposed { Ok(()) } else { self.input(no, Input::Visible) }
            }
            _ => Ok(()),
        }
    }

    /// Everything that is broken is mended, and nothing more goes wrong.
    pub(crate) fn heal(&mut self) -> Check {
        let now = self.now;
        self.trace.note(0, "heal", || format!("{now:>8} HEALING"));
        self.healing = true;
        self.host.store_ms = self.host.store_ms.min(5);
        self.repair(Fault::Unreachable)?;
        self.repair(Fault::Crash)?;
        self.heal_lines()?;
        for no in 0..self.clients.len() {
            self.clients[no].background = false;
            if !self.clients[no].online {
                self.repair(Fault::Network(no))?;
            }
            if self.clients[no].frozen && !self.clients[no].disposed {
                self.thaw(no)?;
            }
        }
        Ok(())
    }
}
