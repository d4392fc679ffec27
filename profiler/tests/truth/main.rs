//! offwake records programs that know when they slept and who woke them (`examples/`), and the two accounts are
//! compared. Needs root: see [`skip`] for what happens without.

#[macro_use]
#[path = "../support/skip.rs"]
mod skip;
#[macro_use]
mod support;

mod accounts;
mod bcc;
mod behaviours;
mod callbacks;
mod filters;
mod herd;
mod outputs;
mod privileges;
mod probes;
mod remembered;
mod sampling;
mod sources;
mod storms;
mod symbols;
mod waits;
