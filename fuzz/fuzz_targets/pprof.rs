//! Any bytes as a saved profile, unpacked: an error of one line, or a profile that renders and that is
//! the same when it was saved again.
//!
//! Seeds: `mkdir -p fuzz/corpus/pprof; zcat profiler/tests/golden/sample.pb.gz > fuzz/corpus/pprof/sample`,
//! then `cargo +nightly fuzz run pprof`. On stable: `RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none
//! pprof`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use offwake::render::{self, Format, RenderOptions};
use offwake::saved;

fuzz_target!(|bytes: &[u8]| {
    // So that the mutations meet protobuf, and not gzip.
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return;
    }
    let profile = match saved::read("x", bytes) {
        Ok(loaded) => loaded.profile,
        Err(error) => {
            assert_eq!(format!("{error:#}").lines().count(), 1, "{error:#}");
            return;
        }
    };
    for format in [Format::Folded, Format::Text, Format::Json] {
        render::write(format, &profile, &RenderOptions::default(), &mut std::io::sink()).unwrap();
    }
    let mut saved = Vec::new();
    render::write(Format::Pprof, &profile, &RenderOptions::default(), &mut saved).unwrap();
    assert_eq!(saved::read("x", &saved[..]).unwrap().profile, profile);
});
