//! What is done to profiles after they were read: several become one, and waits are chosen.

mod combine;
mod filter;
#[cfg(test)]
mod tests;

pub use combine::combine;
pub use filter::{Filter, NamePattern};
