//! Reading the call frame information of files, several at a time.

use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hashbrown::HashMap;

use crate::arch::Architecture;
use crate::symbolize::vdso_image;
use crate::unwind::{Refused, Table, build, build_from_bytes};

/// Where code comes from that may have a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::record) enum Source {
    /// A file, by its number among the snapshots' files.
    File(usize),
    /// The kernel's `[vdso]`, the same for all processes.
    Vdso,
}

/// What to read of a source.
pub(in crate::record) enum Content {
    /// Of a file.
    File(Arc<File>),
    /// Of offwake's own vDSO.
    Vdso,
}

/// A source whose table is to be built.
pub(in crate::record) struct Wanted {
    pub(in crate::record) source: Source,
    pub(in crate::record) content: Content,
    /// For warnings.
    pub(in crate::record) name: String,
}

/// A table, or why there is none.
pub(super) type Built = Result<Table, Refused>;

/// The tables of all that is wanted. A thread a CPU; calls `progress` with how many are done.
pub(super) fn build_all(
    wanted: Vec<Wanted>,
    progress: &mut (dyn FnMut(usize) + Send),
) -> Vec<(Wanted, Built)> {
    let next = AtomicUsize::new(0);
    let built = Mutex::new((Vec::with_capacity(wanted.len()), progress));
    let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let work = || {
        while let Some(one) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut table = match &one.content {
                Content::File(file) => build(file),
                Content::Vdso => build_from_bytes(vdso_image().unwrap_or_default()),
            };
            // An emulator maps the code of another machine, of which no thread has the registers.
            if table.as_ref().is_ok_and(|table| table.architecture != Architecture::OWN) {
                table = Err(Refused::OtherMachine);
            }
            let mut built = built.lock().expect("building a table does not panic");
            built.0.push((one.source, table));
            let done = built.0.len();
            (built.1)(done);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..cpus.min(wanted.len()) {
            scope.spawn(work);
        }
        work();
    });
    let (built, _) = built.into_inner().expect("building a table does not panic");
    let mut tables: HashMap<Source, Built> = built.into_iter().collect();
    wanted
        .into_iter()
        .map(|one| {
            let table = tables.remove(&one.source).expect("each was built");
            (one, table)
        })
        .collect()
}
