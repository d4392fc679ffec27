//! Marks of threads: what costs a few nanoseconds, instead of a search in a map, for threads that are of no
//! interest. A mark that is not needed does no harm; a missing one would.

use offwake_shared::{MARKS_CHUNK, Mark, MarksChunk};

use crate::maps::MARKS;

/// Whether a thread may have what the mark stands for. Beyond the marks, all may.
#[inline(always)]
pub fn has(tid: u32, mark: Mark) -> bool {
    let of_chunk = |chunk: *const MarksChunk| {
        // SAFETY: the value is in the map; whoever writes it at the same time writes a byte as well.
        unsafe { (*chunk)[mark.byte(tid) % size_of::<MarksChunk>()] != 0 }
    };
    MARKS.get_ptr(tid / MARKS_CHUNK as u32).is_none_or(of_chunk)
}

/// Marks a thread: before it is put into the map.
#[inline(always)]
pub fn set(tid: u32, mark: Mark) {
    write(tid, mark, 1);
}

/// Takes the mark from a thread that is not in the map any more.
#[inline(always)]
pub fn clear(tid: u32, mark: Mark) {
    write(tid, mark, 0);
}

#[inline(always)]
fn write(tid: u32, mark: Mark, value: u8) {
    if let Some(chunk) = MARKS.get_ptr_mut(tid / MARKS_CHUNK as u32) {
        // SAFETY: as in `has`.
        unsafe { (*chunk)[mark.byte(tid) % size_of::<MarksChunk>()] = value };
    }
}
