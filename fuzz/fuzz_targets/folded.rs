//! Any bytes as folded stacks: an error of one line, or a profile whose own folded stacks read back as
//! the same stacks.
//!
//! Seeds: `mkdir -p fuzz/corpus/folded; cp profiler/tests/golden/*.folded fuzz/corpus/folded`, then
//! `cargo +nightly fuzz run folded`. On stable: `RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none
//! folded`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use offwake::profile::Profile;
use offwake::render::{self, Format, RenderOptions};
use offwake::saved;

fn folded(profile: &Profile) -> Vec<u8> {
    // As read, or `-` would tell more than the input did.
    let options = RenderOptions { delimited: true, ..RenderOptions::default() };
    let mut out = Vec::new();
    render::write(Format::Folded, profile, &options, &mut out).unwrap();
    out
}

fuzz_target!(|bytes: &[u8]| {
    match saved::read("x", bytes) {
        Ok(loaded) => {
            let written = folded(&loaded.profile);
            // A profile of no time has no lines.
            if !written.is_empty() {
                let again = saved::read("x", &written[..]).unwrap().profile;
                assert_eq!(
                    String::from_utf8(folded(&again)).unwrap(),
                    String::from_utf8(written).unwrap()
                );
            }
        }
        Err(error) => assert_eq!(format!("{error:#}").lines().count(), 1, "{error:#}"),
    }
});
