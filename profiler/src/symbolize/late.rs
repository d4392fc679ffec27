//! What the recording machine did not know of the frames of a saved profile: names, inlined functions
//! and lines, from debug files that are here.

use hashbrown::{HashMap, HashSet};

use super::binary::{self, Place, Wanted};
use super::dwarf::Budget;
use super::{DWARF_STEPS, DWARF_STEPS_WITH_LINES, Interner, Options, debug_file, frames_at};
use crate::profile::{Frame, FrameId, Profile, Stack};

/// Completes the frames of programs by debug files that have the build id of their module, so that
/// they are as if the file had been there when they were recorded. Names that are there stay; what no
/// file tells stays as it is, and so does what is in one of several modules of the same name.
pub fn name_later(profile: Profile, options: &Options) -> Profile {
    let mut places = places(&profile, options);
    if places.is_empty() {
        return profile;
    }
    let Profile { meta, losses, frames, mut waits, modules } = profile;
    let mut interner = Interner::default();
    let mut chains: Vec<Box<[FrameId]>> = Vec::with_capacity(frames.len());
    // Functions that were inlined where a file tells them now come with their place.
    let told: HashSet<(Option<&str>, u64)> = places
        .iter()
        .filter(|(_, place)| !place.inlined.is_empty())
        .map(|(index, place)| (frames[*index].module.as_deref(), place.address))
        .collect();
    for (index, frame) in frames.iter().enumerate() {
        let is_told = frame.inlined
            && !frame.kernel
            && told.contains(&(frame.module.as_deref(), frame.offset));
        let chain = match places.remove(&index) {
            Some(place) => complete(frame, place),
            None if is_told => Vec::new(),
            None => vec![frame.clone()],
        };
        chains.push(interner.ids(chain));
    }
    for wait in &mut waits {
        for stack in [&mut wait.sleeper_stack, &mut wait.waker_stack] {
            let ids = stack.iter().flat_map(|id| &chains[*id as usize]).copied();
            *stack = ids.collect::<Stack>();
        }
    }
    Profile::new(meta, losses, interner.frames, waits).with_modules(modules)
}

/// The frames at a place, of which one is known.
fn complete(frame: &Frame, place: Place) -> Vec<Frame> {
    let mut frames = frames_at(place, frame.module.as_deref().unwrap_or_default());
    if let Some(function) = frames.last_mut()
        && function.file.is_none()
    {
        (function.file, function.line) = (frame.file.clone(), frame.line);
    }
    frames
}

/// What debug files tell of frames, by index.
fn places(profile: &Profile, options: &Options) -> HashMap<usize, Place> {
    let mut by_module: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, frame) in profile.frames.iter().enumerate() {
        if !frame.kernel
            && let Some(module) = &frame.module
        {
            by_module.entry(module).or_default().push(index);
        }
    }
    let budget = Budget::new(if options.lines { DWARF_STEPS_WITH_LINES } else { DWARF_STEPS });
    let wanted = Wanted { lines: options.lines, budget: &budget };
    let mut all = HashMap::new();
    // They are in order of name.
    for same_name in profile.modules.chunk_by(|a, b| a.name == b.name) {
        let module = &same_name[0];
        let is_one = same_name.iter().all(|other| other.build_id == module.build_id);
        if let Some(indexes) = by_module.get(module.name.as_str())
            && lacks_something(profile, indexes, options.lines)
            && let Some(build_id) = module.build_id.as_ref().filter(|_| is_one)
            && let Some(file) = debug_file::by_build_id(build_id, &options.debug_dirs)
        {
            let functions = indexes.iter().filter(|&&index| !profile.frames[index].inlined);
            let known: Vec<Place> = functions
                .clone()
                .map(|&index| {
                    let Frame { name, offset, .. } = &profile.frames[index];
                    Place { name: name.clone(), ..Place::unnamed(*offset) }
                })
                .collect();
            all.extend(functions.copied().zip(binary::complete(&file, known, &wanted)));
        }
    }
    all
}

/// Whether a debug file may have more than the frames of a module tell already: that is costly to read.
fn lacks_something(profile: &Profile, indexes: &[usize], lines: bool) -> bool {
    let frames = || indexes.iter().map(|&index| &profile.frames[index]);
    frames().any(|frame| frame.name.is_none())
        || !frames().any(|frame| frame.inlined)
        || lines && !frames().any(|frame| frame.file.is_some())
}
