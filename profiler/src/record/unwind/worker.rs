//! Building tables while recording goes on.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result};
use hashbrown::HashSet;

use super::{Code, Content, Source, Unwinder, Wanted, files};
use crate::recording::{ImageId, MappingContent};
use crate::snapshot::Snapshots;
use crate::symbolize;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::record) enum Request {
    /// The mappings of a program were read.
    Read(ImageId),
    /// They were read because a walk came to an address that is in none of them.
    ReadUnmapped(ImageId),
}

/// A thread of its own: reading a large file takes half a second, in which a process may be born and
/// die whose mappings should be read.
pub(in crate::record) struct Worker {
    requests: Sender<Request>,
    unwinder: Arc<Mutex<Unwinder>>,
    thread: JoinHandle<()>,
}

const NO_PANIC: &str = "the builder of tables does not panic";

impl Worker {
    /// Starts the thread. `with_snapshots` calls a function with the snapshots that were taken.
    pub(in crate::record) fn start(
        unwinder: Unwinder,
        with_snapshots: impl Fn(&mut dyn FnMut(&mut Snapshots)) + Send + 'static,
    ) -> Result<Self> {
        let (requests, received) = mpsc::channel();
        let unwinder = Arc::new(Mutex::new(unwinder));
        let shared = Arc::clone(&unwinder);
        let thread = std::thread::Builder::new()
            .name("offwake-tables".into())
            .spawn(move || serve(&shared, &received, &with_snapshots))
            .context("cannot start a thread")?;
        Ok(Self { requests, unwinder, thread })
    }

    /// Where requests go.
    pub(in crate::record) fn requests(&self) -> Sender<Request> {
        self.requests.clone()
    }

    /// The tables, while no other is put into the maps.
    pub(in crate::record) fn tables(&self) -> MutexGuard<'_, Unwinder> {
        self.unwinder.lock().expect(NO_PANIC)
    }

    /// Ends the thread, when every other sender is gone, and returns the tables.
    pub(in crate::record) fn finish(self) -> Unwinder {
        drop(self.requests);
        self.thread.join().expect(NO_PANIC);
        let unwinder = Arc::into_inner(self.unwinder).expect("the thread has ended");
        unwinder.into_inner().expect(NO_PANIC)
    }
}

fn serve(
    unwinder: &Mutex<Unwinder>,
    received: &Receiver<Request>,
    with_snapshots: &impl Fn(&mut dyn FnMut(&mut Snapshots)),
) {
    while let Ok(first) = received.recv() {
        let mut read = HashSet::new();
        let mut unmapped = HashSet::new();
        for request in std::iter::once(first).chain(received.try_iter()) {
            match request {
                Request::Read(id) => read.insert(id),
                Request::ReadUnmapped(id) => unmapped.insert(id) | read.insert(id),
            };
        }
        let ids: Vec<ImageId> = read.into_iter().collect();
        let mut wanted = Vec::new();
        let mut codes = Vec::new();
        with_snapshots(&mut |snapshots| {
            (wanted, codes) = unwinder.lock().expect(NO_PANIC).look_at(&ids, snapshots);
        });
        let start = Instant::now();
        let built = files::build_all(wanted, &mut |_| {});
        let mut unwinder = unwinder.lock().expect(NO_PANIC);
        // What cannot be done costs the frames of some stacks, and is counted there.
        let _ = unwinder.add_built(built, start);
        for (id, code) in codes {
            let _ = unwinder.set_program(id, &code, unmapped.contains(&id));
        }
        unwinder.settle();
    }
}

impl Unwinder {
    /// The code of programs, and the sources in it that are not known.
    pub(in crate::record) fn look_at(
        &self,
        ids: &[ImageId],
        snapshots: &Snapshots,
    ) -> (Vec<Wanted>, Vec<(ImageId, Vec<Code>)>) {
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut asked = HashSet::new();
        let mut codes = Vec::new();
        for &id in ids {
            let Some(image) = snapshots.image(id) else { continue };
            let mut code = Vec::with_capacity(image.mappings.len());
            for mapping in &image.mappings {
                let source = match mapping.content {
                    MappingContent::File(file) => Some(Source::File(file)),
                    MappingContent::Vdso if symbolize::is_own_vdso(mapping.start) => {
                        Some(Source::Vdso)
                    }
                    MappingContent::Vdso | MappingContent::Anonymous => None,
                };
                if let Some(source) = source
                    && !self.knows(source)
                    && asked.insert(source)
                {
                    wanted.extend(want(source, snapshots));
                }
                let (start, end) = (mapping.start, mapping.end);
                code.push(Code { start, end, file_offset: mapping.file_offset, source });
            }
            codes.push((id, code));
        }
        (wanted, codes)
    }

    /// A file that is going to be executed, if it is not known.
    pub(in crate::record) fn look_ahead(
        &self,
        file: &Path,
        snapshots: &mut Snapshots,
    ) -> Option<Wanted> {
        let source = Source::File(snapshots.add_executable(file)?);
        if self.knows(source) { None } else { want(source, snapshots) }
    }
}

/// `None` for a file that could not be opened: it may be through another process.
fn want(source: Source, snapshots: &Snapshots) -> Option<Wanted> {
    Some(match source {
        Source::File(index) => {
            let file = snapshots.file(index)?;
            let content = Content::File(symbolize::open_mapped(file)?);
            Wanted { source, content, name: file.path.display().to_string() }
        }
        Source::Vdso => Wanted { source, content: Content::Vdso, name: "[vdso]".into() },
    })
}
