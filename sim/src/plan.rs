//! What a seed turns on: each run has its own random subset of faults and habits (swarm testing), or rare combinations
//! would never meet.

use crate::dice::Dice;

/// Everything that a seed decides before the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many clients that keep everything in memory.
    pub clients: usize,
    /// How many tabs of one more person, on one device.
    pub tabs: usize,
    /// How many turns of the application in all.
    pub turns: u64,
    /// Longest pause between two turns of one client.
    pub pace_ms: u64,
    /// One way through the network takes so long at least.
    pub latency_min_ms: u64,
    /// And so long at most.
    pub latency_max_ms: u64,
    /// Pause between two faults, at most.
    pub fault_pace_ms: u64,
    /// How many rows there are to write to, per model.
    pub rows: usize,
    /// The server is broken or hostile: it sends garbage, and lies about where it is. Then only this is promised: no
    /// panic, and no write is lost.
    pub lying: bool,
    /// What may go wrong, and what the application does.
    pub on: Switches,
}

/// Lines are in trouble in so many seeds of a hundred: the others stay what they were.
const ROUGH_PERCENT: u64 = 70;

macro_rules! switches {
    (
        $($name:ident, $percent:literal, $doc:literal;)*
        --- $($late:ident, $late_percent:literal, $late_doc:literal;)*
        --- $($latest:ident, $latest_percent:literal, $latest_doc:literal;)*
        --- $($line:ident, $line_percent:literal, $line_doc:literal;)*
        --- $($guard:ident, $guard_percent:literal, $guard_doc:literal;)*
        --- $($claim:ident, $claim_percent:literal, $claim_doc:literal;)*
    ) => {
        /// Faults and habits, each on or off for a whole run.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Switches {
            $(#[doc = $doc] pub $name: bool,)*
            $(#[doc = $late_doc] pub $late: bool,)*
            $(#[doc = $latest_doc] pub $latest: bool,)*
            $(#[doc = $line_doc] pub $line: bool,)*
            $(#[doc = $guard_doc] pub $guard: bool,)*
            $(#[doc = $claim_doc] pub $claim: bool,)*
        }

        impl Switches {
            /// Later additions have dice of their own: seeds that do without them stay what they were.
            fn roll(seed: u64, dice: &mut Dice, late: &mut Dice) -> Self {
                let [mut latest, mut line, mut guard, mut claim] = [9, 10, 12, 14].map(|stream| Dice::new(seed, stream));
                let rough = line.percent(ROUGH_PERCENT);
                Self {
                    $($name: dice.percent($percent),)*
                    $($late: late.percent($late_percent),)*
                    $($latest: latest.percent($latest_percent),)*
                    $($line: line.percent($line_percent) && rough,)*
                    $($guard: guard.percent($guard_percent),)*
                    $($claim: claim.percent($claim_percent),)*
                }
            }

            /// Whether lines are in any trouble.
            pub(crate) fn any_line(&self) -> bool {
                false $(|| self.$line)*
            }

            /// The names of those that are on.
            pub fn names(&self) -> Vec<&'static str> {
                let mut out = Vec::new();
                $(if self.$name { out.push(stringify!($name)); })*
                $(if self.$late { out.push(stringify!($late)); })*
                $(if self.$latest { out.push(stringify!($latest)); })*
                $(if self.$line { out.push(stringify!($line)); })*
                $(if self.$guard { out.push(stringify!($guard)); })*
                $(if self.$claim { out.push(stringify!($claim)); })*
                out
            }

            /// How often each is on, in percent, and what it means.
            pub const ALL: &'static [(&'static str, u64, &'static str)] = &[
                $((stringify!($name), $percent, $doc),)*
                $((stringify!($late), $late_percent, $late_doc),)*
                $((stringify!($latest), $latest_percent, $latest_doc),)*
                $((stringify!($line), $line_percent * ROUGH_PERCENT / 100, $line_doc),)*
                $((stringify!($guard), $guard_percent, $guard_doc),)*
                $((stringify!($claim), $claim_percent, $claim_doc),)*
            ];
        }
    };
}

switches! {
    cuts, 50, "Connections break; what is on its way is lost from some frame on.";
    half_open, 30, "Connections die and one side does not learn of it.";
    closes, 35, "The server or something in between closes connections with a code.";
    slow_consumer, 25, "A connection stalls; the server gives it up when too much is waiting.";
    crashes, 40, "The server dies and comes back with what was durable.";
    slow_store, 50, "The server's store takes its time.";
    unreachable, 30, "The server cannot be reached for a while.";
    http_errors, 35, "Requests are answered with 503 or 429, or never.";
    http_garbage, 25, "Bodies of requests are cut off or are no JSON.";
    key_expiry, 35, "Keys live for seconds to minutes.";
    key_trouble, 25, "The application's credential function fails or takes long.";
    network_events, 35, "The operating system says offline and online.";
    background, 25, "Timers come late.";
    recreate, 30, "Clients are disposed of, or die, and others take their place.";
    wall_jumps, 25, "Wall clocks jump.";
    late_frames, 25, "Frames of a socket that the client has closed still arrive.";
    resnapshot, 30, "The server asks for a snapshot.";
    journal, 40, "Some clients must journal writes before they send them.";
    slow_journal, 50, "The journal takes its time.";
    journal_failures, 30, "The journal refuses some writes.";
    restricted, 35, "Some participants see only some rows.";
    direct, 50, "Clients use commits.create.";
    agent, 50, "Somebody else writes through the server's HTTP interface.";
    invalid, 50, "Some writes are such that the server refuses them.";
    shared_ids, 40, "An id is used by more than one model.";
    eager, 40, "Applications write before their rows are loaded.";
    commit_errors, 30, "Commits are refused for the moment: trouble inside, too many requests.";
    bursts, 60, "Many writes in one turn.";
    deletes, 75, "Rows are deleted, and their ids used again.";
    odd_ids, 40, "Ids that are hard to treat well.";
    odd_values, 50, "Values and field names that are hard to treat well.";
    reads, 50, "Clients read through the server.";
    views, 60, "Clients keep live views open.";
    archive, 30, "Rows are archived and come back.";
    own_keys, 30, "Writes carry idempotency keys of the application.";
    ---
    tabs, 60, "Somebody has storage on the device, and several tabs.";
    tab_crashes, 60, "Tabs crash, and are opened again.";
    freezing, 45, "Tabs are frozen, with all that they hold.";
    power_loss, 35, "Devices lose power, and what the disk did not have yet.";
    store_trouble, 35, "Storage is full, aborts, closes, is deleted, has damaged records.";
    slow_device, 50, "Storage takes its time.";
    slow_channel, 40, "Messages between tabs take their time.";
    cold_starts, 40, "Tabs are opened without a network.";
    cold_looks, 60, "Copies of devices are opened without a network, at random moments.";
    ---
    late_answers, 50, "Busy tabs hear late what their storage has done.";
    weak_disk, 40, "Where storage is in trouble, writes are aborted more often.";
    read_often, 30, "Clients that read through the server do so in most turns, rows of the stream too, and on lines that stall.";
    ---
    sleeps, 40, "Machines sleep for minutes or hours, and may not be told when they wake.";
    mute_credentials, 35, "Credential functions never answer, or long after they were given up.";
    portals, 35, "A network's login page answers everything.";
    capacity, 30, "The server is full, and says for how long, or nonsense.";
    logins_end, 35, "Logins end: the credential function says null, the server 401, or both.";
    revoked, 30, "Keys are taken back, and another one works later.";
    page_bursts, 50, "Pages say visible, woken, online and offline many times within a second.";
    ---
    guards, 40, "Writes say what they were based on, and are refused when that has changed.";
    ---
    claims, 45, "Clients claim rows, write under their claims, wait in line; they join groups and say what they do.";
    hot_rows, 70, "Most claims are on the same few rows.";
    forgetful, 30, "Claims are often not given back.";
}

impl Plan {
    /// The plan of a seed.
    pub fn roll(seed: u64, turns: Option<u64>) -> Self {
        let dice = &mut Dice::new(seed, 1);
        let late = &mut Dice::new(seed, 7);
        let on = Switches::roll(seed, dice, late);
        let latency_min_ms = dice.range(0, 40);
        let spread = dice.pick(&[0, 5, 60, 400]);
        Self {
            clients: dice.range(1, 4) as usize,
            turns: turns.unwrap_or_else(|| dice.range(40, 240)),
            pace_ms: dice.pick(&[20, 300, 2_000, 15_000]),
            latency_min_ms,
            latency_max_ms: latency_min_ms + spread,
            fault_pace_ms: dice.pick(&[300, 2_000, 20_000]),
            rows: dice.pick(&[2, 5, 12, 40]),
            lying: dice.percent(8),
            tabs: if on.tabs { late.range(2, 4) as usize } else { 0 },
            on,
        }
    }

    /// A plan without any fault: a perfect line and well-behaved applications.
    pub fn calm(clients: usize, turns: u64) -> Self {
        Self {
            clients,
            turns,
            pace_ms: 300,
            latency_min_ms: 5,
            latency_max_ms: 5,
            fault_pace_ms: 1_000_000,
            rows: 6,
            lying: false,
            tabs: 0,
            on: Switches { deletes: true, bursts: true, views: true, ..Switches::default() },
        }
    }
}
