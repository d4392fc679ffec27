//! Threads whose waits that were recorded are not like all of them, in words.

use offwake_shared::Loss;

use crate::profile::Profile;
use crate::render::{escape, human};

/// What is said of them, in one line; `None` where there are none.
pub fn unlike_threads(profile: &Profile) -> Option<String> {
    let threads = profile.unlike_threads();
    let (worst, others) = threads.split_first()?;
    let thread = &worst.total.thread;
    let more = match others.len() {
        0 => String::new(),
        1 => "; there is 1 more thread like it".into(),
        count => format!("; there are {count} more threads like it"),
    };
    let (told, exact) = (worst.estimate_ns, worst.total.off_ns());
    let why = if profile.losses.get(Loss::WaitsFull) > 0 {
        "waits were lost"
    } else if told < exact {
        "longer waits were not among them, a higher --overhead records more"
    } else {
        "to record them made them longer"
    };
    Some(format!(
        "the recorded waits of {} (tid {}) stand for {} off-CPU, and it was {}: {why}{more}",
        escape::name(&thread.comm),
        thread.tid,
        human::time(told),
        human::time(exact),
    ))
}
