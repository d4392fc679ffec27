//! What the targets share: a stage on which named threads and processes wait for each other, and
//! the ledger of what they did.
//!
//! A target is an *oracle*: it knows who waited where, for how long, and who ended the wait, and says
//! so. Every target speaks the same protocol:
//!
//! 1. It starts its threads and processes and prints `{"ready": …}` with their ids. All of them wait
//!    at the start gate until a line (or the end of the input) is read on standard input.
//! 2. They play. Nothing but the waits that are announced happens in the functions named `oracle_*`.
//! 3. All wait at the end gate. It prints one `{"wait": …}` for each kind of wait, one
//!    `{"thread": …}` with the kernel's own figures for each thread, and `{"done": …}`.
//! 4. It stays until a second line or the end of the input, so that its `/proc` can be read.
//!
//! Waits at the gates happen in `offwake_examples::gate::await_start` and `await_end`, the main
//! thread's in `offwake_examples::gate::wait_for_line`: they cannot be mistaken for the others.

#[macro_use]
mod oracle;

pub mod args;
pub mod clock;
pub mod feed;
pub mod gate;
pub mod ledger;
pub mod report;
pub mod rng;
pub mod shared;
pub mod stage;
pub mod sys;
pub mod task;
pub mod watch;
