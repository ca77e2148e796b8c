//! What a run did, so that one sees whether it exercised anything.

/// What a run counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events.
    pub steps: u64,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
    /// Writes issued.
    pub writes: u64,
    /// Commits that the server carried out.
    pub commits: u64,
    /// Commits sent again under their key.
    pub repeats: u64,
    /// Commits refused.
    pub refusals: u64,
    /// Writes rejected.
    pub rejected: u64,
    /// Sockets opened.
    pub sockets: u64,
    /// Snapshots loaded.
    pub snapshots: u64,
    /// Requests made.
    pub requests: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Frames delivered to clients.
    pub frames: u64,
    /// Server crashes.
    pub crashes: u64,
    /// Clients that were replaced.
    pub reborn: u64,
    /// Journal writes.
    pub journaled: u64,
    /// Keys minted.
    pub minted: u64,
    /// Other faults.
    pub faults: u64,
    /// Requests to the storage of devices.
    pub stored: u64,
    /// Tabs that gave up their storage.
    pub given_up: u64,
    /// Tabs that crashed.
    pub tab_crashes: u64,
    /// Devices that lost power.
    pub power_losses: u64,
    /// Tabs frozen.
    pub frozen: u64,
    /// Locks stolen.
    pub stolen: u64,
    /// Looks at what a device would show without a network.
    pub cold_looks: u64,
    /// Machines that slept.
    pub sleeps: u64,
    /// Logins that ended.
    pub logins_ended: u64,
    /// Claims granted at once, or after a reconnect.
    pub claimed: u64,
    /// Claims granted after a wait.
    pub waited: u64,
    /// Claims lost.
    pub claims_lost: u64,
    /// Claims refused, or given up before they were granted.
    pub claims_refused: u64,
    /// Writes under claims.
    pub claimed_writes: u64,
    /// Groups joined.
    pub joined: u64,
    /// Comparisons of claims on both sides with nothing on the way.
    pub claim_looks: u64,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.virtual_ms += other.virtual_ms;
        self.writes += other.writes;
        self.commits += other.commits;
        self.repeats += other.repeats;
        self.refusals += other.refusals;
        self.rejected += other.rejected;
        self.sockets += other.sockets;
        self.snapshots += other.snapshots;
        self.requests += other.requests;
        self.failures += other.failures;
        self.frames += other.frames;
        self.crashes += other.crashes;
        self.reborn += other.reborn;
        self.journaled += other.journaled;
        self.minted += other.minted;
        self.faults += other.faults;
        self.stored += other.stored;
        self.given_up += other.given_up;
        self.tab_crashes += other.tab_crashes;
        self.power_losses += other.power_losses;
        self.frozen += other.frozen;
        self.stolen += other.stolen;
        self.cold_looks += other.cold_looks;
        self.sleeps += other.sleeps;
        self.logins_ended += other.logins_ended;
        self.claimed += other.claimed;
        self.waited += other.waited;
        self.claims_lost += other.claims_lost;
        self.claims_refused += other.claims_refused;
        self.claimed_writes += other.claimed_writes;
        self.joined += other.joined;
        self.claim_looks += other.claim_looks;
    }
}

impl std::fmt::Display for Stats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hours = self.virtual_ms as f64 / 3_600_000.0;
        write!(
            f,
            "{} steps, {hours:.0} h of virtual time; {} writes in {} commits",
            self.steps, self.writes, self.commits
        )?;
        write!(f, ", {} sent again, {} refused, {} writes rejected", self.repeats, self.refusals, self.rejected)?;
        write!(f, "; {} sockets, {} frames, {} snapshots", self.sockets, self.frames, self.snapshots)?;
        write!(f, ", {} requests ({} failed), {} keys minted", self.requests, self.failures, self.minted)?;
        write!(f, ", {} journal writes; {} faults, {} server crashes", self.journaled, self.faults, self.crashes)?;
        write!(f, ", {} clients replaced", self.reborn)?;
        write!(f, "; {} requests to devices, {} tabs crashed", self.stored, self.tab_crashes)?;
        write!(f, ", {} frozen, {} locks stolen, {} gave up storage", self.frozen, self.stolen, self.given_up)?;
        write!(f, ", {} power losses, {} cold looks", self.power_losses, self.cold_looks)?;
        write!(f, "; {} sleeps, {} logins ended", self.sleeps, self.logins_ended)?;
        write!(f, "; {} claims granted at once, {} after a wait", self.claimed, self.waited)?;
        write!(f, ", {} lost, {} refused", self.claims_lost, self.claims_refused)?;
        write!(f, ", {} writes under claims, {} groups joined", self.claimed_writes, self.joined)?;
        write!(f, ", {} looks at claims", self.claim_looks)
    }
}
