//! offwake: what a process was waiting for, and who ended each wait.
//!
//! Data flows one way, through the folders of this crate:
//! [`record`] → [`Recording`](recording::Recording) → [`symbolize`] → [`merge`] →
//! [`Profile`](profile::Profile) → [`render`]. A recording is raw and self-contained; a profile
//! is symbolized, merged, and pure; [`saved`] reads it back from a file, and
//! [`report`] and [`diff`] make others of it. Beside them stand [`unwind`]: how a
//! recorder finds the callers of code without frame pointers; and [`epoll`]: what happens to threads in
//! `epoll_wait`, event by event.

#[cfg(test)]
#[macro_use]
#[path = "../tests/support/skip.rs"]
mod skip;

pub mod arch;
pub mod diff;
pub mod epoll;
pub mod merge;
mod pprof;
pub mod profile;
pub mod record;
pub mod recording;
pub mod render;
pub mod report;
pub mod saved;
pub mod snapshot;
pub mod symbolize;
mod unix_name;
pub mod unwind;
