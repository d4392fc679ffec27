//! Threads whose waits that were recorded are not like all of them, in words.

use crate::profile::Profile;
use crate::render::{escape, human};

/// What is said of them, in one line; `None` where there are none.
pub fn unlike_threads(profile: &Profile) -> Option<String> {
    let threads = profile.unlike_threads();
    let (worst, others) = threads.split_first()?;
    let thread = &worst.total.thread;
    let more = match others.len() {
        0 => String::new(),
        count => format!(" (likewise of {count} more)"),
    };
    let (told, exact) = (worst.estimate_ns, worst.total.off_ns());
    let why = if told < exact {
        "longer waits were not among them"
    } else {
        "to record them made them longer"
    };
    Some(format!(
        "the recorded waits of {} (tid {}) stand for {} off-CPU, and it was {}{}: {why}, a higher --overhead is nearer \
         to the truth",
        escape::name(&thread.comm),
        thread.tid,
        human::time(told),
        human::time(exact),
        more,
    ))
}
