//! Unwind tables in the maps: what is in them, and room that runs out.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashSet;
use offwake_shared::{Loss, UNWIND_CHUNK};

use super::child::Child;
use super::{SLEEP, config, loaded, sleepers};
use crate::record::unwind::{Code, Content, Source, UNUSED, Unwinder, Wanted};
use crate::record::{Capacity, Config, record};
use crate::recording::{ImageId, Recording};
use crate::unwind::{Table, build};

/// Files with tables of different sizes.
struct Files {
    large: Arc<File>,
    small: Arc<File>,
}

impl Files {
    fn open() -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps
            .lines()
            .filter_map(|line| Some(&line[line.find('/')?..]))
            .find(|path| path.contains("libc.so"))
            .expect("a C library");
        let open = |path: &Path| Arc::new(File::open(path).unwrap());
        Self { large: open(&std::env::current_exe().unwrap()), small: open(Path::new(libc)) }
    }
}

/// Builds the table of a file under this number, and makes a program known that maps its code. Returns where.
fn add(unwinder: &mut Unwinder, number: usize, file: &Arc<File>, tgid: u32) -> Range<u64> {
    let source = Source::File(number);
    let content = Content::File(Arc::clone(file));
    let wanted = Wanted { source, content, name: format!("file {number}") };
    unwinder.add_files(vec![wanted], &mut |_| {}).unwrap();
    let segment = build(file).unwrap().segments.into_iter().find(|it| it.executable).unwrap();
    let start = 0x1_0000_0000 + (segment.address & !0xfff);
    let file_offset = segment.file.start & !0xfff;
    let end = start + (segment.file.end - file_offset).next_multiple_of(0x1000);
    let code = Code { start, end, file_offset, source: Some(source) };
    unwinder.set_program(ImageId { tgid, exec_id: 1 }, &[code], false).unwrap();
    unwinder.settle();
    start..end
}

#[test]
fn tables_that_nobody_uses_make_room() {
    let _turn = turn!();
    let Files { large, small } = Files::open();
    let rows = |file: &File| build(file).map(|table: Table| table.rows.len() as u64).unwrap();
    let (large_rows, small_rows) = (rows(&large), rows(&small));
    assert!(large_rows > small_rows + UNWIND_CHUNK as u64, "{large_rows}, {small_rows}");

    // For one of them at a time.
    let unwind_rows = u32::try_from(large_rows).unwrap();
    let capacity = Capacity { unwind_rows, ..Capacity::default() };
    let config = Config { capacity, ..Config::default() };
    let mut probes = loaded(&config);
    let mut unwinder = Unwinder::new(probes.take_unwind_maps().unwrap(), &capacity);

    let ended = Child::start(|| {}).pid;
    add(&mut unwinder, 1, &large, ended);
    assert_eq!(unwinder.figures().rows, large_rows);
    let own = std::process::id();
    add(&mut unwinder, 2, &small, own);
    assert_eq!(unwinder.figures().rows, small_rows, "that of a process that has ended goes");
    assert_eq!(unwinder.take_warnings(), [""; 0]);

    let parent = std::os::unix::process::parent_id();
    add(&mut unwinder, 3, &large, parent);
    assert_eq!(unwinder.figures().rows, small_rows, "one that is in use stays");
    let warnings = unwinder.take_warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("file 3: no room"), "{warnings:?}");

    // No stack of that process is taken any more: this is found out by the second look.
    for number in [4, 5] {
        std::thread::sleep(UNUSED + SLEEP);
        add(&mut unwinder, number, &large, parent);
    }
    assert_eq!(unwinder.figures().rows, large_rows, "one that was not used for a while goes");
}

#[test]
fn the_maps_have_the_rules_of_the_tables() {
    let _turn = turn!();
    let Files { large, small } = Files::open();
    let capacity = Capacity::default();
    let mut probes = loaded(&Config::default());
    let mut unwinder = Unwinder::new(probes.take_unwind_maps().unwrap(), &capacity);
    for (tgid, file) in [(1, small), (2, large)] {
        let code = add(&mut unwinder, tgid as usize, &file, tgid);
        let id = ImageId { tgid, exec_id: 1 };
        let mappings = unwinder.mappings(id).unwrap();
        assert!(unwinder.place(mappings, code.start - 1).is_none());
        assert!(unwinder.place(mappings, code.end).is_none());
        let table = build(&file).unwrap();
        assert!(table.rows.len() > 4 * UNWIND_CHUNK, "{} rows", table.rows.len());
        let mut distinct = HashSet::new();
        for address in code.step_by(509) {
            let place = unwinder.place(mappings, address).unwrap();
            assert_eq!(place.rule, table.rule_at(address - place.bias), "{address:#x}");
            distinct.insert(place.rule);
        }
        assert!(distinct.len() > 10, "{distinct:?}");
    }
}

fn recorded(children: &[Child], capacity: Capacity) -> Recording {
    let config = Config { duration: Some(20 * SLEEP), ..config(children, capacity) };
    record(&config, &Default::default(), &mut |_| {}).unwrap()
}

#[test]
fn without_room_frame_pointers_do_and_a_warning_says_so() {
    let _turn = turn!();
    let children = sleepers(1);
    let full = recorded(&children, Capacity::default());
    assert_eq!(full.warnings, [""; 0]);
    let figures = full.unwind.unwrap();
    assert!(figures.rows > 10_000 && figures.files > 1, "{figures:?}");

    let tiny = Capacity { unwind_rows: 1024, ..Capacity::default() };
    let without = recorded(&children, tiny);
    let told = |line: &String| line.contains("no room for its unwind tables");
    assert!(without.warnings.iter().any(told), "{:?}", without.warnings);
    assert!(!without.waits.is_empty(), "and it is recorded");
}

#[test]
fn a_forked_process_is_unwound_from_its_first_stack() {
    let _turn = turn!();
    // Each lives for one sleep: nobody could read anything of it before.
    let parent = Child::start(|| {
        loop {
            // SAFETY: the child only sleeps and ends; a null pointer is allowed.
            unsafe {
                let pid = libc::fork();
                if pid == 0 {
                    std::thread::sleep(SLEEP);
                    libc::_exit(0);
                }
                libc::waitpid(pid, std::ptr::null_mut(), 0);
            }
        }
    });
    parent.wait_until_asleep();
    let config = Config {
        duration: Some(200 * SLEEP),
        follow: true,
        ..config(std::slice::from_ref(&parent), Capacity::default())
    };
    let recording = record(&config, &Default::default(), &mut |_| {}).unwrap();
    let forked: u64 = recording
        .waits
        .iter()
        .filter(|(key, _)| key.sleeper.tgid != config.filter.pids[0])
        .map(|(_, stats)| stats.count)
        .sum();
    assert!(forked > 20, "{forked}");
    // Those of processes that were born while the tables were built.
    let missing = recording.losses.get(Loss::UnwindTablesMissing);
    assert!(missing * 10 < forked, "{missing} of {forked}");
}
