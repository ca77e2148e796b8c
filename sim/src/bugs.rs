//! Deliberate mistakes: what the simulation must find, or it proves nothing.
//!
//! Most are switches inside of the client core ([`Bug`], compiled in with the feature `bugs` only). Others tamper with
//! what goes in and out of the engines.

use ablo_wasm::core::bug::Bug;

/// A mistake made at the boundary of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tamper {
    /// The server answers before the store has it.
    AcksBeforeStore,
    /// The server forgets idempotency keys when it restarts.
    KeysForgotten,
    /// The server gives out an id again after a restart.
    IdsAgain,
    /// Of several deltas of a row in one frame only the first reaches the client.
    FirstDeltaOnly,
    /// A frame to the client is lost though the connection lives on.
    FrameLost,
    /// The shell calls a journal write done when it has failed.
    JournalLies,
    /// The page is not told of a change.
    ChangeNotTold,
}

/// Where a mistake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the client core.
    Core(Bug),
    /// At a boundary.
    Boundary(Tamper),
}

/// A mistake with its name.
#[derive(Clone, Copy, Debug)]
pub struct Mistake {
    /// What `--bug` takes.
    pub name: &'static str,
    /// What goes wrong.
    pub about: &'static str,
    /// Where.
    pub place: Place,
}

const fn core(name: &'static str, bug: Bug, about: &'static str) -> Mistake {
    Mistake { name, about, place: Place::Core(bug) }
}

const fn boundary(name: &'static str, tamper: Tamper, about: &'static str) -> Mistake {
    Mistake { name, about, place: Place::Boundary(tamper) }
}

/// All of them.
pub const ALL: &[Mistake] = &[
    core("new-key-on-retry", Bug::NewKeyOnRetry, "a commit that is sent again gets another idempotency key"),
    core(
        "ack-drops-pending",
        Bug::AckDropsPending,
        "an acknowledgement ends the pending write before its delta is here",
    ),
    core("live-before-catch-up", Bug::LiveBeforeCatchUp, "live deltas move the cursor before the first catch-up"),
    core("cursor-before-apply", Bug::CursorBeforeApply, "the cursor moves to the end of a batch before it is applied"),
    core("resend-forgotten", Bug::ResendForgotten, "a commit on its way when the connection breaks is not sent again"),
    core(
        "refusal-takes-neighbours",
        Bug::RefusalTakesNeighbours,
        "a refused batch is not split: all of it is rejected",
    ),
    core("rollback-takes-two", Bug::RollbackTakesTwo, "rejecting a write also drops another one of the same row"),
    core("overlay-not-recomputed", Bug::OverlayNotRecomputed, "the view keeps its old base under pending writes"),
    core("snapshot-over-pending", Bug::SnapshotOverPending, "a snapshot hides pending writes"),
    core("ghosts-stay", Bug::GhostsStay, "rows that a snapshot no longer has stay"),
    core("merged-settles-early", Bug::MergedSettlesEarly, "a write merged into another reports success at once"),
    core("echo-over-pending", Bug::EchoOverPending, "a delta shows through pending writes of its row"),
    core("journal-not-awaited", Bug::JournalNotAwaited, "writes count as journaled before the journal says so"),
    core("create-overtakes", Bug::CreateOvertakes, "a create put before a reference overtakes other writes of its row"),
    core("missed-changes-ignored", Bug::MissedChangesIgnored, "changes during a read on demand are forgotten"),
    core("old-delta-over-read", Bug::OldDeltaOverRead, "a late delta goes over a newer row that a read has brought"),
    core("live-after-held", Bug::LiveAfterHeld, "live deltas overtake those held back while a snapshot loads"),
    core(
        "first-snapshot-forgets-reads",
        Bug::FirstSnapshotForgetsReads,
        "rows read before the first snapshot stay old",
    ),
    core("journal-removals-lost", Bug::JournalRemovalsLost, "a refused journal write forgets what it was to remove"),
    core("refused-unheard", Bug::RefusedUnheard, "a queued batch that is refused later vanishes without a word"),
    core("resume-from-nothing", Bug::ResumeFromNothing, "a client that loaded nothing trusts a catch-up from 0"),
    core(
        "stored-before-complete",
        Bug::StoredBeforeComplete,
        "writes count as stored before the transaction is complete",
    ),
    core("removed-when-sent", Bug::RemovedWhenSent, "the journal forgets a commit when it is sent, not when confirmed"),
    core("follower-sends", Bug::FollowerSends, "tabs send without holding the lock"),
    core("restored-new-key", Bug::RestoredNewKey, "a commit from the journal gets another idempotency key"),
    core("log-to-old-generation", Bug::LogToOldGeneration, "after a snapshot deltas are logged to the old rows"),
    core("restore-reversed", Bug::RestoreReversed, "commits from the journal are put in the wrong order"),
    core("guard-forgotten", Bug::GuardForgotten, "a commit from the journal has forgotten what it was based on"),
    core("letters-lost", Bug::LettersLost, "refused writes are kept in memory only"),
    core("refusal-not-awaited", Bug::RefusalNotAwaited, "a refusal is told before the device has it"),
    core("parts-behind", Bug::PartsBehind, "parts of a refused commit go behind what other tabs wrote on top of it"),
    core("journal-not-read-again", Bug::JournalNotReadAgain, "a tab that joins misses what was said before"),
    core("journal-writes-overlap", Bug::JournalWritesOverlap, "a journal write does not wait for the one before it"),
    core("stored-before-repair", Bug::StoredBeforeRepair, "rows that are being read again are stored as they are"),
    core("altered-after-loss", Bug::AlteredAfterLoss, "a tab that lost the lock goes on writing what it had altered"),
    core(
        "failures-count",
        Bug::FailuresCount,
        "credentials that could not be obtained use up the attempts, then sign out",
    ),
    core(
        "late-answers-count",
        Bug::LateAnswersCount,
        "the answer to a request for a credential that was given up is taken",
    ),
    core("close-code-signs-out", Bug::CloseCodeSignsOut, "close codes 1008 and 4001 end the login"),
    core(
        "credential-never-given-up",
        Bug::CredentialNeverGivenUp,
        "a credential function that never answers is waited for",
    ),
    core("two-mints", Bug::TwoMints, "a credential is asked for though another is under way"),
    core("every-event-probes", Bug::EveryEventProbes, "each event of the page causes an attempt"),
    core("refusal-signs-out", Bug::RefusalSignsOut, "a key that was taken back ends the login"),
    core("socket-forgotten", Bug::SocketForgotten, "a socket that is opening is not closed when it is given up"),
    core("sleep-unnoticed", Bug::SleepUnnoticed, "nobody notices that the machine has slept"),
    core("claim-not-announced", Bug::ClaimNotAnnounced, "claims are not announced again after a reconnect"),
    core("claimed-row-not-read", Bug::ClaimedRowNotRead, "a claim granted after a wait does not read its row again"),
    core("lapse-unnoticed", Bug::LapseUnnoticed, "another grant of a claim than before is taken for the same"),
    core("claim-unstamped", Bug::ClaimUnstamped, "a write under a claim says neither so nor what it was based on"),
    core("left-behind", Bug::LeftBehind, "a claim that was given back as the connection ended is not given back again"),
    core("reclaimed-at-once", Bug::ReclaimedAtOnce, "a row is claimed again before it is given back, past the line"),
    core("released-too-early", Bug::ReleasedTooEarly, "a claim is given back before the writes under it are through"),
    core("wait-never-ends", Bug::WaitNeverEnds, "a claim is waited for longer than its application wants"),
    core("left-waiting", Bug::LeftWaiting, "who waits for a claim is not told when the page gives all claims back"),
    core("claimed-behind", Bug::ClaimedBehind, "a claim granted before the catch-up is given with the row as it was"),
    core("granted-after-all", Bug::GrantedAfterAll, "a claim that ends while its row is read is granted all the same"),
    core("roster-kept", Bug::RosterKept, "a new connection keeps what was known of others"),
    core(
        "lapsed-write-accepted",
        Bug::LapsedWriteAccepted,
        "the server carries out a write whose claim has ended (in the server)",
    ),
    core("foreign-write-accepted", Bug::ForeignWriteAccepted, "claims keep nobody from writing (in the server)"),
    core("line-not-fair", Bug::LineNotFair, "the last in line comes first (in the server)"),
    core(
        "field-passes-line",
        Bug::FieldPassesLine,
        "a field goes past those who wait for the whole row (in the server)",
    ),
    core("field-takes-row", Bug::FieldTakesRow, "whoever holds a field writes the others of its row (in the server)"),
    core("nobody-promoted", Bug::NobodyPromoted, "a row that is given back goes to nobody (in the server)"),
    boundary("acks-before-store", Tamper::AcksBeforeStore, "the server acknowledges before the store has it"),
    boundary("keys-forgotten", Tamper::KeysForgotten, "the server forgets idempotency keys when it restarts"),
    boundary("ids-again", Tamper::IdsAgain, "the server gives out a sync id again after a restart"),
    boundary("first-delta-only", Tamper::FirstDeltaOnly, "deltas of one frame are de-duplicated by row"),
    boundary("frame-lost", Tamper::FrameLost, "a frame with deltas is lost though the connection lives on"),
    boundary("journal-lies", Tamper::JournalLies, "failed journal writes are reported as done"),
    boundary("change-not-told", Tamper::ChangeNotTold, "the page's row cache is not told of a change"),
];

/// The mistake of that name.
pub fn by_name(name: &str) -> Option<&'static Mistake> {
    ALL.iter().find(|mistake| mistake.name == name)
}
