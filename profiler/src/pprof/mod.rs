//! Saved profiles: the protobuf that `go tool pprof` and speedscope read, in gzip.
//!
//! What was written reads back as the same [`Profile`](crate::profile::Profile), if its times end
//! before 2262 and no number is above 2^63. Other tools see the merged stack, with the names of
//! sleeper and waker at its ends and a function `--` between both halves; the values off-cpu,
//! blocked, run-queue (ns) and count; threads, state and kind of waker as labels; modules with their
//! build ids as mappings; everything else as comments.

mod fields;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use read::read;
pub(crate) use write::write;
