//! Names for frames of a saved profile that had none when it was recorded.

use hashbrown::HashMap;

use super::{Options, binary, debug_file};
use crate::profile::Profile;

/// Names unnamed frames of programs by debug files that have the build id of their module. What no
/// file names stays as it is, and so does what is in one of several modules of the same name.
pub fn name_later(profile: Profile, options: &Options) -> Profile {
    let names = names(&profile, options);
    if names.is_empty() {
        return profile;
    }
    let Profile { meta, losses, mut frames, waits, modules } = profile;
    for (index, name) in names {
        frames[index].name = Some(name);
    }
    Profile::new(meta, losses, frames, waits).with_modules(modules)
}

/// The frames that have a name now, by index.
fn names(profile: &Profile, options: &Options) -> Vec<(usize, String)> {
    let mut unnamed: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, frame) in profile.frames.iter().enumerate() {
        if frame.name.is_none()
            && !frame.kernel
            && let Some(module) = &frame.module
        {
            unnamed.entry(module).or_default().push(index);
        }
    }
    let mut names = Vec::new();
    // They are in order of name.
    for same_name in profile.modules.chunk_by(|a, b| a.name == b.name) {
        let module = &same_name[0];
        let is_one = same_name.iter().all(|other| other.build_id == module.build_id);
        if let Some(frames) = unnamed.get(module.name.as_str())
            && let Some(build_id) = module.build_id.as_ref().filter(|_| is_one)
            && let Some(file) = debug_file::by_build_id(build_id, &options.debug_dirs)
        {
            let offset = |index: &usize| profile.frames[*index].offset;
            let addresses: Vec<u64> = frames.iter().map(offset).collect();
            let found = binary::names(&file, &addresses);
            names
                .extend(frames.iter().zip(found).filter_map(|(&index, name)| Some((index, name?))));
        }
    }
    names
}
