//! Deliberate mistakes, for proving that the simulation finds such mistakes. Without the feature `bugs` every question
//! here is answered by a constant `false`, and nothing of this is in what ships.

/// A mistake that the code is asked to make. `sim` has the list with explanations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name says what goes wrong; sim/src/bugs.rs explains")]
pub enum Bug {
    NewKeyOnRetry,
    AckDropsPending,
    LiveBeforeCatchUp,
    CursorBeforeApply,
    ResendForgotten,
    RefusalTakesNeighbours,
    RollbackTakesTwo,
    OverlayNotRecomputed,
    SnapshotOverPending,
    GhostsStay,
    MergedSettlesEarly,
    EchoOverPending,
    JournalNotAwaited,
    CreateOvertakes,
    MissedChangesIgnored,
    OldDeltaOverRead,
    LiveAfterHeld,
    FirstSnapshotForgetsReads,
    JournalRemovalsLost,
    RefusedUnheard,
    ResumeFromNothing,
    StoredBeforeComplete,
    RemovedWhenSent,
    FollowerSends,
    RestoredNewKey,
    LogToOldGeneration,
    RestoreReversed,
    GuardForgotten,
    ClaimNotAnnounced,
    ClaimedRowNotRead,
    LapseUnnoticed,
    ClaimUnstamped,
    ReleasedTooEarly,
    ReclaimedAtOnce,
    LeftBehind,
    WaitNeverEnds,
    LeftWaiting,
    ClaimedBehind,
    GrantedAfterAll,
    RosterKept,
    LapsedWriteAccepted,
    ForeignWriteAccepted,
    LineNotFair,
    FieldPassesLine,
    FieldTakesRow,
    NobodyPromoted,
    LettersLost,
    RefusalNotAwaited,
    PartsBehind,
    JournalNotReadAgain,
    JournalWritesOverlap,
    StoredBeforeRepair,
    AlteredAfterLoss,
    FailuresCount,
    LateAnswersCount,
    CloseCodeSignsOut,
    CredentialNeverGivenUp,
    TwoMints,
    EveryEventProbes,
    RefusalSignsOut,
    SocketForgotten,
    SleepUnnoticed,
}

#[cfg(feature = "bugs")]
thread_local! {
    static CURRENT: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether to make this mistake.
#[cfg(feature = "bugs")]
pub fn on(bug: Bug) -> bool {
    CURRENT.get() == Some(bug)
}

/// Whether to make this mistake: never.
#[cfg(not(feature = "bugs"))]
#[inline(always)]
pub const fn on(_bug: Bug) -> bool {
    false
}

/// Chooses the mistake that this thread makes from now on.
#[cfg(feature = "bugs")]
pub fn set(bug: Option<Bug>) {
    CURRENT.set(bug);
}
