//! Unpacking what files have compressed, with a bound: a target can make gigabytes of megabytes.

use std::fs::File;
use std::io::{BufReader, Read};

use flate2::bufread::ZlibDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

use super::elf::{Packing, Section};
use super::region::Region;

/// The most memory that the window of a compressed stream may take, in KiB.
const MAX_WINDOW_KIB: u32 = 64 << 10;

/// The content of a compressed section; `None` when it is malformed, or larger than `max` bytes.
pub(super) fn unpack(file: &File, section: &Section, max: u64) -> Option<Vec<u8>> {
    let packed = BufReader::new(Region::new(file, section.file.clone()));
    match section.packing? {
        Packing::Zlib => read(ZlibDecoder::new(packed), max),
        Packing::Zstd => {
            let window = u64::from(MAX_WINDOW_KIB) << 10;
            read(StreamingDecoder::new_with_max_window_size(packed, window).ok()?, max)
        }
        Packing::Xz => read(XzReader::new_mem_limit(packed, true, MAX_WINDOW_KIB), max),
    }
}

fn read(stream: impl Read, max: u64) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    stream.take(max + 1).read_to_end(&mut content).ok()?;
    (content.len() as u64 <= max).then_some(content)
}
