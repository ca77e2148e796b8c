//! The client engine against a scripted world: protocol transcripts, the life of writes, intake and recovery.

mod harness;
mod intake;
mod reads;
mod recovery;
mod transcripts;
mod writes;
