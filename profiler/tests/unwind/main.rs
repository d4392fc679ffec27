//! offwake records programs that were compiled without frame pointers, gdb stops them, and the stacks are
//! compared frame by frame. Needs root, and gdb.

#[macro_use]
#[path = "../support/skip.rs"]
mod skip;
#[macro_use]
#[path = "../truth/support/mod.rs"]
#[allow(dead_code, reason = "shared with the truth tests, which use more of it")]
mod support;

mod harness;

mod envoy;
mod languages;
mod mappings;
mod oracles;
mod runtimes;
mod shapes;
mod wakers;
