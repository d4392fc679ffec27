use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use prost::Message;

use super::*;
use crate::profile::{Histogram, Profile, Wait};
use crate::saved::random::Random;
use crate::saved::{self, Budget};

fn packed(profile: &Profile) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(profile, &mut bytes).unwrap();
    bytes
}

fn unpacked(profile: &Profile) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(&packed(profile)[..]).read_to_end(&mut bytes).unwrap();
    bytes
}

fn message(profile: &Profile) -> schema::Profile {
    schema::Profile::decode(&unpacked(profile)[..]).unwrap()
}

fn error(bytes: &[u8]) -> String {
    format!("{:#}", read(bytes, &mut Budget::new()).unwrap_err())
}

#[test]
fn what_is_saved_reads_back_the_same() {
    for seed in 0..2_000 {
        let profile = Random(seed).profile();
        let read = saved::read("x", &packed(&profile)[..]).unwrap();
        assert_eq!(read.profile, profile, "seed {seed}");
        assert_eq!(read.notes, [""; 0]);
        assert_eq!(packed(&profile), packed(&read.profile), "seed {seed}");
    }
}

/// What other tools rely on.
#[test]
fn every_file_is_valid_by_the_standard() {
    for seed in 0..500 {
        let message = message(&Random(seed).profile());
        assert_eq!(message.string_table[0], "");
        let string = |index: i64| message.string_table[index as usize].as_str();
        for (index, function) in message.function.iter().enumerate() {
            assert_eq!(function.id, index as u64 + 1);
            assert!(function.unnamed.is_some());
        }
        for (index, location) in message.location.iter().enumerate() {
            assert_eq!(location.id, index as u64 + 1);
            assert!(location.mapping_id <= message.mapping.len() as u64);
            assert!(!location.line.is_empty());
            for line in &location.line {
                assert!((1..=message.function.len() as u64).contains(&line.function_id));
            }
        }
        for sample in &message.sample {
            assert_eq!(sample.value.len(), message.sample_type.len());
            assert_eq!(sample.value[0], sample.value[1] + sample.value[2]);
            assert!(sample.location_id.len() >= 3);
            for &id in &sample.location_id {
                assert!((1..=message.location.len() as u64).contains(&id));
            }
        }
        let types: Vec<_> =
            message.sample_type.iter().map(|kind| (string(kind.kind), string(kind.unit))).collect();
        assert_eq!(types, schema::SAMPLE_TYPES);
        let distinct: std::collections::HashSet<_> = message.string_table.iter().collect();
        assert_eq!(distinct.len(), message.string_table.len());
    }
}

/// As an offwake without histograms wrote it, and as other tools leave it.
#[test]
fn a_file_without_histograms_has_none() {
    for seed in 0..200 {
        let profile = Random(seed).profile();
        let mut message = message(&profile);
        message.sample.iter_mut().for_each(|sample| sample.histogram.clear());
        let read = read(&message.encode_to_vec(), &mut Budget::new()).unwrap();
        let without =
            profile.waits.into_iter().map(|wait| Wait { histogram: Histogram::default(), ..wait });
        assert_eq!(read.waits, without.collect::<Vec<_>>(), "seed {seed}");
    }
}

/// As a tool leaves a profile that knows the standard fields only, and no empty ones.
#[test]
fn without_our_own_fields_the_waits_stay() {
    for seed in 0..500 {
        let mut profile = Random(seed).profile();
        // What only those can tell.
        for frame in &mut profile.frames {
            frame.inlined = false;
            frame.kernel = false;
            frame.name.get_or_insert_with(|| "f".into());
            frame.module = Some("a.so".into());
            frame.file = None;
            frame.line = None;
        }
        let Profile { meta, losses, frames, waits, modules: _ } = profile;
        let waits = waits.into_iter().map(|wait| Wait { histogram: Histogram::default(), ..wait });
        let profile = Profile::new(meta, losses, frames, waits.collect());
        let mut message = message(&profile);
        for mapping in &mut message.mapping {
            (mapping.kernel, mapping.module, mapping.is_module) = (None, None, None);
        }
        message.function.iter_mut().for_each(|function| {
            (function.unnamed, function.filename) = (None, Some(0));
        });
        message.location.iter_mut().flat_map(|location| &mut location.line).for_each(|line| {
            line.inlined = None;
        });
        let read = read(&message.encode_to_vec(), &mut Budget::new()).unwrap();
        assert_eq!((read.frames, read.waits), (profile.frames, profile.waits), "seed {seed}");
    }
}

#[test]
fn the_kernel_is_known_by_the_name_of_its_mapping() {
    let mut profile =
        (0..).map(|seed| Random(seed).profile()).find(|it| !it.waits.is_empty()).unwrap();
    profile.frames.truncate(1);
    let frame = &mut profile.frames[0];
    (frame.name, frame.kernel, frame.file, frame.line) = (Some("f".into()), true, None, None);
    profile.waits.truncate(1);
    (profile.waits[0].sleeper_stack, profile.waits[0].waker_stack) =
        (vec![0].into(), vec![].into());
    for module in [None, Some("nvme")] {
        profile.frames[0].module = module.map(Into::into);
        let mut message = message(&profile);
        (message.mapping[0].kernel, message.mapping[0].module) = (None, None);
        let read = read(&message.encode_to_vec(), &mut Budget::new()).unwrap();
        assert!(read.frames[0].kernel);
        assert_eq!(read.frames[0].module.as_deref(), module);
    }
}

#[test]
fn a_damaged_file_is_an_error_or_a_profile() {
    let mut random = Random(1);
    for seed in 0..400 {
        let bytes = unpacked(&Random(seed).profile());
        for _ in 0..25 {
            let mut bytes = bytes.clone();
            match random.below(4) {
                0 => bytes.truncate(random.below(bytes.len())),
                1 => bytes.extend((0..random.below(9)).map(|_| random.number() as u8)),
                _ => {
                    for _ in 0..=random.below(3) {
                        let at = random.below(bytes.len());
                        bytes[at] = random.number() as u8;
                    }
                }
            }
            match saved::read("x", &bytes[..]) {
                Ok(loaded) => {
                    packed(&loaded.profile);
                }
                Err(error) => assert_eq!(format!("{error:#}").lines().count(), 1, "{error:#}"),
            }
        }
    }
}

#[test]
fn errors_tell_where() {
    let profile = (0..).map(|seed| Random(seed).profile()).find(|it| it.waits.len() > 3).unwrap();
    let bytes = unpacked(&profile);
    let truncated = error(&bytes[..bytes.len() - 1]);
    assert!(truncated.starts_with("byte "), "{truncated}");
    assert!(truncated.ends_with("it ends within a field: is it truncated?"), "{truncated}");
    assert_eq!(error(b"\x0b"), "byte 0: not a field of a protobuf message: its wire type is 3");
    assert_eq!(error(&[0x80; 11]), "byte 0: a number of more than 64 bits");
    assert_eq!(error(b""), "not a pprof profile: it has no strings");
    assert_eq!(error(b"\x32\x01\xff").split(':').next(), Some("byte 0"));

    let changed = |change: fn(&mut schema::Profile)| {
        let mut message = message(&profile);
        change(&mut message);
        error(&message.encode_to_vec())
    };
    let cpu = changed(|it| it.sample_type.truncate(2));
    assert_eq!(cpu, r#"not a profile of offwake: its values are "off-cpu, blocked""#);
    let sample = changed(|it| it.sample[0].value[1] = -1);
    assert!(sample.starts_with("sample at byte ") && sample.ends_with("is negative"), "{sample}");
    for (expected, change) in [
        (
            "it has 3 values instead of 4",
            (|it| it.sample[0].value.truncate(3)) as fn(&mut schema::Profile),
        ),
        ("it has no stack", |it| it.sample[0].location_id.truncate(1)),
        ("its stack has not exactly one --", |it| it.sample[0].location_id = vec![1; 4]),
        ("there is no string 999999", |it| it.sample[0].label[0].key = 999_999),
        ("a second function has the id 1", |it| it.function[1].id = 1),
        ("a location has the id 0", |it| it.location[0].id = 0),
        ("its duration is negative", |it| it.duration_nanos = -1),
        (r#""" is no kind of waker"#, |it| it.sample[0].label.clear()),
        ("its histogram has more than 32 buckets", |it| it.sample[0].histogram = vec![1; 33]),
        ("its histogram has more than its ", |it| it.sample[0].histogram = vec![u64::MAX, 2]),
    ] {
        let error = changed(change);
        assert!(error.contains(expected), "{error}");
    }
}

/// Times that would overflow every sum.
#[test]
fn sums_are_bounded() {
    let mut profile =
        (0..).map(|seed| Random(seed).profile()).find(|it| it.waits.len() > 3).unwrap();
    profile.waits.iter_mut().for_each(|wait| wait.blocked_ns = 1 << 61);
    let error = saved::read("x", &packed(&profile)[..]).unwrap_err();
    assert!(format!("{error}").starts_with("its times add up to more than"), "{error}");
}

/// A few kilobytes of gzip that are gigabytes, and a few megabytes whose stacks would be.
#[test]
fn bombs_do_not_go_off() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..600 {
        gzip.write_all(&zeros).unwrap();
    }
    let error = saved::read("x", &gzip.finish().unwrap()[..]).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "unpacking gzip: reading it takes more than 408 MiB of memory"
    );

    let profile = (0..).map(|seed| Random(seed).profile()).find(|it| !it.waits.is_empty()).unwrap();
    let mut message = message(&profile);
    let name = message.string_table.len() as i64;
    message.string_table.push("x".repeat(1 << 20));
    for function in &mut message.function {
        (function.name, function.unnamed) = (name, Some(false));
    }
    let frame = message.location.iter().find(|location| location.mapping_id != 0).unwrap().id;
    let sample = &mut message.sample[0];
    let end = sample.location_id.len() - 1;
    sample.location_id.splice(end..end, vec![frame; 5_000]);
    let error = saved::read("x", &message.encode_to_vec()[..]).unwrap_err();
    assert!(format!("{error:#}").ends_with("its stacks are longer than 4 GiB in sum"), "{error:#}");
}
