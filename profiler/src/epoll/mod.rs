//! `offwake epoll`: which descriptor woke a thread in `epoll_wait`, and what came of it.
//!
//! The recorder gives [`Raw`] events in the order of time. A [`Tracker`] joins them with what it knows of
//! descriptors to [`Event`]s, and sums them up in a [`Summary`]. [`text`] and [`json`] write both. Nothing
//! here knows BPF or a live process.

mod descriptor;
mod event;
pub mod json;
mod order;
mod summary;
#[cfg(test)]
mod tests;
pub mod text;
mod tracker;

pub use descriptor::{Descriptor, Interest, Socket};
pub use event::{Accepted, Context, Event, Kind, Latency, Raw, Ready, Returned, Thread, Woken};
pub use order::Order;
pub use summary::{Cause, Figures, Herd, Latencies, Row, Summary};
pub use tracker::{Registration, Tracker};
