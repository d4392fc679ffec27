//! offwake records programs that know when they slept and who woke them (`examples/`), and the two accounts are
//! compared. Needs root: see [`support::turn`] for what happens without.

#[macro_use]
mod support;

mod accounts;
mod behaviours;
mod filters;
mod outputs;
mod probes;
mod remembered;
mod storms;
mod symbols;
mod waits;
