//! Names of groups, each once. Of millions of groups few are shown, and names are long.

use std::cmp::Ordering;
use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

/// A part of a row's name, by what it may be mistaken for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// A function, normalized.
    Frame(String),
    /// The name of a thread.
    Thread(String),
    /// What stands for a waker that is no thread, `--`, and `[no stack]`.
    Mark(String),
}

impl Part {
    /// As it is.
    pub fn text(&self) -> &str {
        match self {
            Self::Frame(text) | Self::Thread(text) | Self::Mark(text) => text,
        }
    }

    pub(super) fn borrow(&self) -> PartRef<'_> {
        match self {
            Self::Frame(text) => PartRef::Frame(text),
            Self::Thread(text) => PartRef::Thread(text),
            Self::Mark(text) => PartRef::Mark(text),
        }
    }
}

/// A [`Part`] that is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum PartRef<'a> {
    Frame(&'a str),
    Thread(&'a str),
    Mark(&'a str),
}

impl PartRef<'_> {
    fn to_part(self) -> Part {
        match self {
            Self::Frame(text) => Part::Frame(text.into()),
            Self::Thread(text) => Part::Thread(text.into()),
            Self::Mark(text) => Part::Mark(text.into()),
        }
    }
}

/// A name in [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameId(u32);

impl NameId {
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What each name consists of: numbers of parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    parts: Vec<Part>,
    /// The numbers of name 0, those of name 1, and so on.
    numbers: Vec<u32>,
    /// Where each name ends in `numbers`.
    ends: Vec<usize>,
}

impl Names {
    /// Every part that occurs, in order of number.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The numbers of the parts of a name: one, or with [`By::Stack`](super::By::Stack) those of the
    /// whole stack.
    ///
    /// # Panics
    /// When the name is from elsewhere.
    pub fn numbers(&self, name: NameId) -> &[u32] {
        let index = name.index();
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.numbers[start..self.ends[index]]
    }

    /// All names.
    pub(super) fn ids(&self) -> impl Iterator<Item = NameId> + use<> {
        (0..self.ends.len() as u32).map(NameId)
    }

    /// Compares names by their parts.
    pub(super) fn order(&self) -> impl Fn(NameId, NameId) -> Ordering + '_ {
        let mut sorted: Vec<u32> = (0..self.parts.len() as u32).collect();
        let part = |number: &u32| &self.parts[*number as usize];
        sorted.sort_unstable_by(|a, b| part(a).cmp(part(b)));
        let mut ranks = vec![0; sorted.len()];
        for (rank, number) in sorted.into_iter().enumerate() {
            ranks[number as usize] = rank;
        }
        move |a, b| {
            let rank = |number: &u32| ranks[*number as usize];
            self.numbers(a).iter().map(rank).cmp(self.numbers(b).iter().map(rank))
        }
    }
}

/// Makes [`Names`]: gives each part and each name one number.
#[derive(Default)]
pub(super) struct Interner {
    names: Names,
    parts: HashTable<u32>,
    ids: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Interner {
    /// The number of a part.
    pub(super) fn part(&mut self, part: PartRef<'_>) -> u32 {
        let Self { names: Names { parts, .. }, parts: known, hasher, .. } = self;
        let entry = known.entry(
            hasher.hash_one(part),
            |&number| parts[number as usize].borrow() == part,
            |&number| hasher.hash_one(parts[number as usize].borrow()),
        );
        match entry {
            Entry::Occupied(number) => *number.get(),
            Entry::Vacant(place) => {
                parts.push(part.to_part());
                // A profile has no more frames and waits than that, and neither do two.
                *place.insert((parts.len() - 1) as u32).get()
            }
        }
    }

    /// The index of a name that consists of these parts.
    pub(super) fn name(&mut self, key: &[u32]) -> usize {
        let Self { names, ids, hasher, .. } = self;
        let entry = ids.entry(
            hasher.hash_one(key),
            |&id| names.numbers(NameId(id)) == key,
            |&id| hasher.hash_one(names.numbers(NameId(id))),
        );
        match entry {
            Entry::Occupied(id) => *id.get() as usize,
            Entry::Vacant(place) => {
                place.insert(names.ends.len() as u32);
                names.numbers.extend_from_slice(key);
                names.ends.push(names.numbers.len());
                names.ends.len() - 1
            }
        }
    }

    /// All parts so far, in order of number.
    pub(super) fn parts(&self) -> &[Part] {
        &self.names.parts
    }

    pub(super) fn into_names(self) -> Names {
        self.names
    }
}
