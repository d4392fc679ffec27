//! Files that lie. Whatever they say, a table is what it promises, in bounded time.

use std::time::{Duration, Instant};

use super::image::{Entries, Image, TEXT, TEXT_OFFSET, USUAL};
use super::*;

/// Far more than any of these files takes, even on a busy machine.
const LONG: Duration = Duration::from_secs(10);

/// Builds the table, and uses it as a recorder would.
#[track_caller]
fn exercise(bytes: &[u8], random: &mut Random) -> Result<Table, Refused> {
    let start = Instant::now();
    let table = build_from_bytes(bytes);
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    if let Ok(table) = &table {
        assert_sane(table);
        for _ in 0..20 {
            let shift = random.below(64);
            table.rule_at(random.number() >> shift);
            table.bias(random.number() >> shift, random.number() >> shift);
        }
        let first = u64::from(table.first_page) << UNWIND_PAGE_BITS;
        let size = (table.pages.len() as u64) << UNWIND_PAGE_BITS;
        let registers = Registers {
            pc: first + random.below(size),
            sp: random.number(),
            fp: random.number(),
            other: random.number(),
            di: 0,
            in_syscall: false,
        };
        // All memory is there, and full of addresses of the code.
        let mut memory = Random(random.number());
        let read = |_, words: &mut [u64]| {
            words.fill_with(|| first + memory.below(size));
            true
        };
        let place_of = |address| Some(Place { rule: table.rule_at(address), bias: 0 });
        let (frames, _) = walk(table.architecture, registers, place_of, read);
        assert!(frames.len() <= offwake_shared::MAX_FRAMES);
    }
    table
}

/// Real files, and one made by hand, with bytes changed or cut off.
#[test]
fn mutated_files() {
    let mut entries = Entries::default();
    let cie = entries.cie("z", USUAL);
    entries.fde_z(cie, TEXT, 64, &[0x41, 0x0e, 16, 0x0a, 0x42, 0x0b]);
    let mut image = Image::new(entries);
    image.hdr = true;
    let loader = own_files().into_iter().find(|path| path.to_string_lossy().contains("ld-linux"));
    let files = [
        image.bytes(),
        vdso(),
        std::fs::read("/bin/true").unwrap(),
        std::fs::read(loader.expect("the loader")).unwrap(),
    ];
    let mut random = Random(7);
    let (mut built, mut damaged) = (0, 0);
    for round in 0..3000 {
        let file = &files[round % files.len()];
        let original = build_from_bytes(file).unwrap();
        let mut bytes = file.clone();
        // Where the headers, the entries, and the section headers are, and anywhere.
        let entries = oracle::section(file, ".eh_frame").unwrap().1;
        let entries_at = entries.as_ptr() as u64 - file.as_ptr() as u64;
        let spans = [
            (0, 64),
            (64, 56 * 12),
            (entries_at, entries.len() as u64),
            (file.len() as u64 * 9 / 10, file.len() as u64 / 10),
            (0, file.len() as u64),
        ];
        for _ in 0..=random.below(8) {
            let (start, size) = spans[random.below(5) as usize];
            let at = (start + random.below(size)) as usize % bytes.len();
            bytes[at] = match random.below(4) {
                0 => 0,
                1 => 0xff,
                2 => bytes[at] ^ 1 << random.below(8),
                _ => random.number() as u8,
            };
        }
        if random.below(8) == 0 {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
        }
        if let Ok(table) = exercise(&bytes, &mut random) {
            built += 1;
            damaged += usize::from(table.damaged);
            assert!(table.rows.len() <= 4 * original.rows.len() + (1 << 20));
        }
    }
    assert!(built > 500 && damaged > 20, "{built} {damaged}");
}

/// What is malformed is left out, and the rest stays.
#[test]
fn damage() {
    let usual = |entries: &mut Entries, cie, begin| entries.fde(cie, TEXT + begin, 8, &[]);
    let mut entries = Entries::default();
    let cie = entries.cie("", USUAL);
    usual(&mut entries, cie, 0);
    // No such instruction; a state that was never remembered; an offset to an expression's CFA.
    entries.fde(cie, TEXT + 0x10, 8, &[0x41, 0x0e, 16, 0x3f]);
    entries.fde(cie, TEXT + 0x20, 8, &[0x41, 0x0b]);
    entries.fde(cie, TEXT + 0x30, 8, &[0x0f, 1, 0x96, 0x0e, 8]);
    // A CIE without one of its instructions, of another version, with unknown augmentation.
    let broken = entries.cie("", &[0x0f, 0x7f]);
    usual(&mut entries, broken, 0x40);
    let unknown = entries.cie("zX", USUAL);
    usual(&mut entries, unknown, 0x50);
    // What stands for a CIE is an FDE.
    usual(&mut entries, cie + 32, 0x60);
    usual(&mut entries, cie, 0x70);
    let mut image = Image::new(entries);
    let table = exercise(&image.bytes(), &mut Random(1)).unwrap();
    let has_rule = |table: &Table, byte| table.rule_at(TEXT + byte) != UnwindRule::default();
    let of = [0, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70].map(|byte| has_rule(&table, byte));
    assert_eq!(of, [true, false, false, false, false, false, false, true]);
    assert!(table.damaged);

    // From an entry that is longer than the section on, nothing.
    let at = image.eh_frame.len();
    image.eh_frame.extend([0x10, 0xff, 0xff, 0xff, 1, 2, 3, 4]);
    let table = exercise(&image.bytes(), &mut Random(1)).unwrap();
    assert!(table.damaged && has_rule(&table, 0x70));
    // Nothing at all is an error.
    image.eh_frame.drain(..at);
    let error = exercise(&image.bytes(), &mut Random(1)).unwrap_err();
    assert_eq!(error.to_string(), "malformed: no entry of .eh_frame is sound");
}

#[test]
fn large_numbers() {
    let mut entries = Entries::default();
    let cie = entries.cie("", USUAL);
    let ten = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    for (n, code) in [0x0e_u8, 0x0d, 0x07, 0x08].into_iter().enumerate() {
        entries.fde(cie, TEXT + 16 * n as u64, 16, &[&[code][..], &ten].concat());
    }
    // Advances beyond the function, and beyond all addresses.
    entries.fde(cie, TEXT + 0x100, u64::MAX >> 1, &[0x04, 0xff, 0xff, 0xff, 0xff, 0x0e, 16]);
    entries.fde(cie, u64::MAX - 1, u64::MAX, &[0x41, 0x0e, 16]);
    let set_loc = [&[1][..], &u64::MAX.to_le_bytes(), &[1], &[0; 8]].concat();
    entries.fde(cie, TEXT + 0x200, 64, &set_loc);
    let table = exercise(&Image::new(entries).bytes(), &mut Random(1)).unwrap();
    assert_eq!(table.rule_at(TEXT + 0x1ff).cfa_offset, 8);

    // Code by so much that one advance has no sum.
    let mut entries = Entries::default();
    let cie = entries.cie("", USUAL);
    // The code alignment factor has one byte: its successor is that of data.
    entries.0[cie + 10] = 0x7f;
    entries.fde(cie, TEXT, 64, &[0x04, 0xff, 0xff, 0xff, 0xff, 0x0e, 16]);
    exercise(&Image::new(entries).bytes(), &mut Random(1)).unwrap();
}

/// A large CIE costs its size once, however many functions name it.
#[test]
fn one_large_cie() {
    let mut entries = Entries::default();
    let cie = entries.cie("", &[USUAL, &[0x0a, 0x0b].repeat(1 << 19)].concat());
    for n in 0..20_000 {
        entries.fde(cie, TEXT + n % 0x1000, 1, &[]);
    }
    exercise(&Image::new(entries).bytes(), &mut Random(1)).unwrap();
}

/// More rules than a row has numbers for.
#[test]
fn too_many_rules() {
    let mut entries = Entries::default();
    let cie = entries.cie("", USUAL);
    for n in 0..70_000_u32 {
        let offset = [n as u8 | 0x80, (n >> 7) as u8 | 0x80, (n >> 14) as u8];
        let instructions = [&[0x0e][..], &offset].concat();
        entries.fde(cie, TEXT + u64::from(n), 1, &instructions);
    }
    let mut image = Image::new(entries);
    image.text.resize(80_000, 0xc3);
    let refused = exercise(&image.bytes(), &mut Random(1)).unwrap_err();
    assert_eq!(refused.to_string(), "too large: rules");
}

/// Many rows at few addresses.
#[test]
fn rows_without_advance() {
    let mut entries = Entries::default();
    let cie = entries.cie("", USUAL);
    let instructions = [0x0e, 16, 0x40, 0x0e, 24, 0x40].repeat(1 << 18);
    entries.fde(cie, TEXT, 0x1000, &instructions);
    entries.fde(cie, TEXT + 0x800, 0x1000, &[0x0e, 16, 0x41, 0x0e, 24, 0x41].repeat(1 << 18));
    let table = exercise(&Image::new(entries).bytes(), &mut Random(1)).unwrap();
    assert!(table.rows.len() < 0x2000);
}

/// Code that claims all the address space, or is far apart.
#[test]
fn pages_are_bounded() {
    let mut entries = Entries::default();
    let cie = entries.cie("", USUAL);
    entries.fde(cie, TEXT, 16, &[]);
    entries.fde(cie, 1 << 43, 16, &[]);
    entries.fde(cie, 1 << 60, 16, &[]);
    let image = Image::new(entries);
    let mut bytes = image.bytes();
    // The size in memory of the first segment; that in the file cannot be more than the file.
    let first = 64;
    bytes[first + 40..first + 48].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
    let table = exercise(&bytes, &mut Random(1)).unwrap();
    assert!(table.pages.len() < 10);
    bytes[first + 32..first + 40].copy_from_slice(&u64::MAX.to_le_bytes());
    exercise(&bytes, &mut Random(1)).unwrap();
    // The second becomes code, 8 TiB above.
    let second = 64 + 56;
    bytes[second + 4] = 5;
    for (at, value) in [(8, TEXT_OFFSET), (16, 1 << 43), (32, 0x1000)] {
        bytes[second + at..second + at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let table = exercise(&bytes, &mut Random(1)).unwrap();
    assert!(table.damaged && table.pages.len() < 10);
    assert_eq!(table.rule_at(TEXT).cfa_offset, 8);
    // Beyond what the number of a page has bits for.
    bytes[second + 16..second + 24].copy_from_slice(&(1_u64 << 60).to_le_bytes());
    let table = exercise(&bytes, &mut Random(1)).unwrap();
    assert!(!table.damaged);
}
