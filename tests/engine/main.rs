//! The client engine against a scripted world: protocol transcripts, the life of writes, intake and recovery.

#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test that meets something else must fail")]

mod claims;
mod device;
mod harness;
mod intake;
mod reads;
mod recovery;
mod storage;
mod tabs;
mod transcripts;
mod writes;
