/// How many threads' marks one value of the array `MARKS` holds.
pub const MARKS_CHUNK: usize = 4096;

/// A value of the array `MARKS`: for each thread as many bytes as there are marks, 1 where it has one.
pub type MarksChunk = [u8; Mark::COUNT * MARKS_CHUNK];

/// What a number of a thread is marked for.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It may be a key of the map `THREADS`.
    Known = 0,
    /// It may be a key of the map `TARGET_PIDS` or `TARGET_TIDS`.
    Target = 1,
}

impl Mark {
    /// How many marks there are.
    pub const COUNT: usize = 2;

    /// Where the mark of a thread is, from the beginning of the array on.
    #[inline(always)]
    pub const fn byte(self, tid: u32) -> usize {
        Self::COUNT * tid as usize + self as usize
    }
}
