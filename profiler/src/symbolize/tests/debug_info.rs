//! Inlined functions, files and lines, and symbols in other places than `.symtab`. Needs gcc, g++,
//! binutils, and xz.

use super::*;
use crate::symbolize::dwarf::{Sections, find_unguarded};

/// `innermost` is inlined into `middle`, that into `outer`; labels name places in them.
const INLINED: &str = r#"
static inline __attribute__((always_inline)) int innermost(volatile int *x) {
    int y = *x * 3;
    __asm__ volatile(".globl in_innermost\nin_innermost: nop\nnop"); // innermost
    return y;
}
static inline __attribute__((always_inline)) int middle(volatile int *x) {
    __asm__ volatile(".globl in_middle\nin_middle: nop\nnop"); // middle
    int y = innermost(x); // calls innermost
    return y + 1;
}
__attribute__((noinline)) int outer(volatile int *x) {
    __asm__ volatile(".globl in_outer\nin_outer: nop\nnop"); // outer
    int y = middle(x); // calls middle
    return y * 2;
}
int main(void) { volatile int x = 1; return outer(&x); }
"#;

/// The line of [`INLINED`] that ends with this comment.
fn line(comment: &str) -> u32 {
    let ends = |line: &str| line.ends_with(&format!("// {comment}"));
    u32::try_from(INLINED.lines().position(ends).unwrap()).unwrap() + 1
}

/// Builds [`INLINED`], and finds the offset in the file of each label. The labels go with `strip`.
fn build(program: &Path, arguments: &[&str]) -> [u64; 3] {
    let arguments = [&["-O2", "-Wl,--build-id"], arguments].concat();
    compile("gcc", INLINED, program, &arguments);
    ["in_innermost", "in_middle", "in_outer"].map(|label| offset_of(program, label))
}

/// blazesym prefers them to functions, though they have no size.
fn remove_labels(program: &Path) {
    run(Command::new("objcopy").args(["-w", "--strip-symbol=in_*"]).arg(program));
}

fn offset_of(program: &Path, symbol: &str) -> u64 {
    let file = File::open(program).unwrap();
    let segment = Elf::new(&file).unwrap().executable_segments().remove(0);
    nm(program, symbol).0 - segment.address + segment.file.start
}

/// `function base-name-of-file:line`, innermost first.
fn described(place: &Place) -> Vec<String> {
    let describe = |name: &str, line: &Option<SourceLine>| match line {
        Some(SourceLine { file, line }) => {
            assert!(file.starts_with('/'), "{file}");
            format!("{name} {}:{line}", file.rsplit('/').next().unwrap())
        }
        None => name.to_owned(),
    };
    let inlined = place.inlined.iter().map(|inlined| describe(&inlined.name, &inlined.line));
    let name = place.name.as_deref().unwrap_or("?");
    inlined.chain([describe(name, &place.line)]).collect()
}

fn described_in(program: &Path, offsets: &[u64], lines: bool) -> Vec<Vec<String>> {
    let file = File::open(program).unwrap();
    places(&file, offsets, lines).iter().map(described).collect()
}

fn expected(lines: bool) -> [Vec<String>; 3] {
    let frame = |name: &str, comment: &str| {
        if lines { format!("{name} program.c:{}", line(comment)) } else { name.into() }
    };
    [
        vec![
            frame("innermost", "innermost"),
            frame("middle", "calls innermost"),
            frame("outer", "calls middle"),
        ],
        vec![frame("middle", "middle"), frame("outer", "calls middle")],
        vec![frame("outer", "outer")],
    ]
}

#[test]
fn inlined_functions_are_told_by_every_kind_of_dwarf() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    for arguments in [
        &["-g", "-gdwarf-5"][..],
        &["-g", "-gdwarf-4"],
        &["-g", "-gdwarf-3", "-gstrict-dwarf"],
        &["-g", "-gdwarf-5", "-gdwarf64"],
        &["-g1"],
        &["-g", "-gz=zlib"],
        &["-g", "-fno-PIE", "-no-pie"],
        &["-g", "-flto", "-ffunction-sections", "-Wl,--gc-sections"],
        &["-g", "-m32", "-nostartfiles", "-static", "-nostdlib", "-Wl,-e,main"],
    ] {
        let offsets = build(&program, arguments);
        for lines in [true, false] {
            assert_eq!(described_in(&program, &offsets, lines), expected(lines), "{arguments:?}");
        }
    }
    let offsets = build(&program, &["-g0"]);
    remove_labels(&program);
    assert_eq!(described_in(&program, &offsets, true), [["outer"], ["outer"], ["outer"]]);
}

#[test]
fn compressed_dwarf_is_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    let offsets = build(&program, &["-g"]);
    for kind in ["zlib", "zstd"] {
        let packed = dir.path().join(kind);
        let sections = format!("--compress-debug-sections={kind}");
        run(Command::new("objcopy").arg(sections).arg(&program).arg(&packed));
        assert_eq!(described_in(&packed, &offsets, true), expected(true), "{kind}");
    }
}

/// Inlined functions stay in the file that nobody reads; lines are in the program.
#[test]
fn split_dwarf_has_lines() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    let offsets = build(&program, &["-g", "-gsplit-dwarf"]);
    remove_labels(&program);
    let outermost = described_in(&program, &offsets, true);
    let at = |comment| vec![format!("outer program.c:{}", line(comment))];
    assert_eq!(outermost, [at("innermost"), at("middle"), at("outer")]);
}

#[test]
fn dwarf_of_separate_files() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    let offsets = build(&program, &["-g"]);
    let linked = dir.path().join("program.debug");
    run(Command::new("objcopy").arg("--only-keep-debug").arg(&program).arg(&linked));
    let by_id = build_id_debug_path(dir.path(), &program);
    std::fs::copy(&linked, by_id).unwrap();
    let options = Options { debug_dirs: vec![dir.path().into()], lines: true };
    let find = |path: &Path, build_id: bool| {
        let opened = File::open(path).unwrap();
        let build_id = build_id.then(|| build_id_of(&opened));
        let file =
            MappedFile { path: path.into(), device: (0, 0), inode: 0, build_id, handle: None };
        let budget = Budget::new(1_000_000);
        let wanted = Wanted { lines: true, budget: &budget };
        let debug_file = |elf: &Elf<'_>| debug_file::find(elf, &file, &options.debug_dirs);
        binary::places(&opened, &offsets, &wanted, debug_file)
            .iter()
            .map(described)
            .collect::<Vec<_>>()
    };
    strip(&program);
    assert_eq!(find(&program, true), expected(true), "by build id");
    assert_eq!(find(&program, false), [["?"], ["?"], ["?"]], "no way to find it");
    let link = format!("--add-gnu-debuglink={}", linked.display());
    run(Command::new("objcopy").arg(link).arg(&program));
    assert_eq!(find(&program, false), expected(true), "by link");
    // Symbols and DWARF need not be in the same file.
    std::fs::remove_file(&linked).unwrap();
    let offsets_again = build(&dir.path().join("program"), &["-g"]);
    assert_eq!(offsets_again, offsets);
    run(Command::new("strip").arg("-g").arg(&program));
    assert_eq!(find(&program, true), expected(true), "symbols here, DWARF there");
}

fn build_id_of(file: &File) -> Vec<u8> {
    build_id(file).unwrap()
}

/// As gdb's manual makes it.
fn add_minidebuginfo(program: &Path) {
    let (full, mini) = (program.with_extension("full"), program.with_extension("mini"));
    run(Command::new("objcopy").arg("--only-keep-debug").arg(program).arg(&full));
    run(Command::new("objcopy").args(["-S", "--remove-section", ".comment"]).args([&full, &mini]));
    let nm = Command::new("nm").args(["--format=posix", "--defined-only"]).arg(&full).output();
    let functions = program.with_extension("functions");
    let list: String = String::from_utf8(nm.unwrap().stdout)
        .unwrap()
        .lines()
        .filter(|line| line.contains(" t ") || line.contains(" T "))
        .map(|line| format!("{}\n", line.split(' ').next().unwrap()))
        .collect();
    std::fs::write(&functions, list).unwrap();
    let keep = format!("--keep-symbols={}", functions.display());
    run(Command::new("objcopy")
        .arg("-S")
        .arg("--remove-section=.gdb_index")
        .arg(&keep)
        .args([&full, &mini]));
    strip(program);
    run(Command::new("xz").arg("-kf").arg(&mini));
    let packed = mini.with_extension("mini.xz");
    let section = format!(".gnu_debugdata={}", packed.display());
    run(Command::new("objcopy").arg("--add-section").arg(section).arg(program));
}

#[test]
fn minidebuginfo_names_what_is_not_exported() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    compile_c(&program, &[]);
    let offsets = ["hidden", "exported", "sizeless"].map(|name| offset_of(&program, name) + 1);
    add_minidebuginfo(&program);
    let described = described_in(&program, &offsets, false);
    assert_eq!(described, [["hidden"], ["exported"], ["?"]]);
}

/// 100 MB of zeros in 15 KB, which is no ELF file either.
#[test]
fn a_bomb_is_not_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    compile_c(&program, &[]);
    let offsets = ["hidden", "exported"].map(|name| offset_of(&program, name) + 1);
    strip(&program);
    let bomb = dir.path().join("bomb");
    std::fs::write(&bomb, vec![0; 100 << 20]).unwrap();
    run(Command::new("xz").arg("-0").arg(&bomb));
    let section = format!(".gnu_debugdata={}", bomb.with_extension("xz").display());
    run(Command::new("objcopy").arg("--add-section").arg(section).arg(&program));
    assert_eq!(described_in(&program, &offsets, false), [["?"], ["exported"]]);
}

#[test]
fn names_of_cpp_have_their_parameters() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    let source = r#"
        namespace a {
        struct Guard {
            int value;
            __attribute__((always_inline)) int add(int x) {
                __asm__ volatile(".globl in_add\nin_add: nop\nnop");
                return value + x;
            }
        };
        template <typename T> __attribute__((noinline)) int call(T &guard) { return guard.add(3); }
        }
        int main() { a::Guard guard{1}; return a::call(guard); }
    "#;
    compile("g++", source, &program, &["-g", "-O2"]);
    let described = described_in(&program, &[offset_of(&program, "in_add")], false);
    assert_eq!(described, [["a::Guard::add(int)", "int a::call<a::Guard>(a::Guard&)"]]);
}

#[test]
fn inlined_functions_are_frames_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    let source = INLINED.replace(
        "int main(void) {",
        "#include <stdio.h>\nextern char in_middle[];\nint main(void) { printf(\"%p\\n\", \
         in_middle); fflush(stdout); getchar();",
    );
    compile("gcc", &source, &program, &["-g", "-O2"]);
    let target = Target::start(&program);
    // As a leaf, and as the call before a return address.
    let recording = target.record(&[target.addresses[0], target.addresses[0] + 1]);
    let frames = frames_with(&recording, &Options { lines: true, ..Options::default() });
    let names: Vec<String> = frames.iter().map(Frame::label).collect();
    assert_eq!(names, ["middle", "outer", "middle", "outer"]);
    assert_eq!(
        frames.iter().map(|frame| frame.inlined).collect::<Vec<_>>(),
        [true, false, true, false]
    );
    assert_eq!(frames[0].line, Some(line("middle")));
    assert_eq!(frames[1].line, Some(line("calls middle")));
    assert_eq!(frames[0].file.as_deref(), program.with_extension("c").to_str());
    assert!(frames.iter().all(|frame| frame.offset == frames[0].offset));
    assert!(frames.iter().all(|frame| frame.module.as_deref() == Some("program")));
}

/// The file offsets and sizes of sections, from readelf.
fn debug_sections(program: &Path) -> Vec<(usize, usize)> {
    let output = Command::new("readelf").args(["-SW"]).arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let section = |line: &str| {
        let (_, line) = line.split_once(" .debug_")?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| usize::from_str_radix(word, 16).unwrap();
        Some((number(words[3]), number(words[4])))
    };
    text.lines().filter_map(section).collect()
}

/// Damages DWARF at random, and reads it.
fn damage(program: &Path, offsets: &[u64], rounds: u32) {
    let good = std::fs::read(program).unwrap();
    let sections = debug_sections(program);
    assert!(sections.len() >= 4, "{sections:?}");
    let mut random = Random(7);
    for round in 0..rounds {
        let mut bad = good.clone();
        for _ in 0..1 + round % 6 {
            let (start, size) = sections[random.below(sections.len())];
            let position = start + random.below(size);
            bad[position] =
                [0, 0xff, 0x7f, 0x80, bad[position] ^ (1 << random.below(8))][random.below(5)];
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bad).unwrap();
        let sections = Sections::open(&file, &Elf::new(&file).unwrap());
        let budget = Budget::new(10_000_000);
        if let Some(sections) = sections {
            let found = find_unguarded(&sections, offsets, true, &budget);
            assert_eq!(found.len(), offsets.len());
        }
        assert!(!budget.is_spent(), "round {round}");
    }
}

#[test]
fn malformed_dwarf_does_not_panic() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        build(&program, &["-g", version, "-no-pie"]);
        let (start, size) = nm(&program, "outer");
        let addresses: Vec<u64> = (start..start + size).chain([0, 1, u64::MAX]).collect();
        damage(&program, &addresses, 4000);
    }
}

/// In a file of kilobytes, as many entries within each other as would overflow the stack of a reader
/// that recurses, and a list of ranges for each of them.
#[test]
fn hostile_dwarf_is_read_within_its_budget() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    let source = r#"
        .text
        .globl main
        main: nop
        ret
        end:
        .section .debug_abbrev,"",@progbits
        .uleb128 1, 0x11; .byte 1; .uleb128 0x11, 1, 0x12, 1, 0, 0  # compile unit: low and high
        .uleb128 2, 0x2e; .byte 1; .uleb128 0x11, 1, 0x12, 1, 0, 0  # subprogram: low and high
        .uleb128 3, 0x1d; .byte 1; .uleb128 0x55, 0x17, 0, 0        # inlined: ranges
        .byte 0
        .section .debug_ranges,"",@progbits
        .rept 100000
        .quad main, end
        .endr
        .quad 0, 0
        .section .debug_info,"",@progbits
        .long unit_end - unit_start
        unit_start: .short 4
        .long 0
        .byte 8
        .uleb128 1
        .quad main, end
        .uleb128 2
        .quad main, end
        .rept 200000
        .uleb128 3
        .long 0
        .endr
        unit_end:
    "#;
    let assembly = dir.path().join("program.s");
    std::fs::write(&assembly, source.replace(", 0x11; .byte", ", 0x11\n.byte").replace("; ", "\n"))
        .unwrap();
    run(Command::new("gcc").arg("-no-pie").arg(&assembly).arg("-o").arg(&program));
    let file = File::open(&program).unwrap();
    let sections = Sections::open(&file, &Elf::new(&file).unwrap()).unwrap();
    let address = nm(&program, "main").0;
    let budget = Budget::new(DWARF_STEPS);
    let started = std::time::Instant::now();
    let found = find_unguarded(&sections, &[address], false, &budget);
    assert!(budget.is_spent());
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(found.len(), 1);
}

/// Lines of every seventh byte of a program with much inlined, as binutils tell them.
#[test]
fn lines_are_those_of_addr2line() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    let source = r#"
        #include <algorithm>
        #include <functional>
        #include <map>
        #include <sstream>
        #include <string>
        #include <vector>
        int main(int argc, char **argv) {
            std::map<std::string, std::vector<int>> map;
            for (int i = 0; i < argc; i++) map[argv[i]].push_back(i);
            std::vector<std::string> names;
            for (auto &[name, list] : map) names.push_back(name + std::to_string(list.size()));
            std::sort(names.begin(), names.end());
            std::function<int(int)> add = [&](int x) { return x + (int)names.size(); };
            std::ostringstream out;
            out << names[0] << add(3);
            return (int)out.str().size();
        }
    "#;
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        compile("g++", source, &program, &["-g", "-O2", "-no-pie", version]);
        let (start, size) = nm(&program, "main");
        let addresses: Vec<u64> = (start..start + size).step_by(7).collect();
        let file = File::open(&program).unwrap();
        let sections = Sections::open(&file, &Elf::new(&file).unwrap()).unwrap();
        let found = find_unguarded(&sections, &addresses, true, &Budget::new(1_000_000_000));
        let mut depths = 0;
        for (&address, found) in addresses.iter().zip(&found) {
            let inlined = found.inlined.iter().map(|inlined| &inlined.line);
            let ours: Vec<String> = inlined
                .chain([&found.line])
                .map(|line| {
                    let line = line.as_ref().unwrap();
                    format!("{}:{}", line.file.rsplit('/').next().unwrap(), line.line)
                })
                .collect();
            depths += ours.len();
            let mut addr2line = Command::new("addr2line");
            addr2line.args(["-i", "-s", "-e"]).arg(&program).arg(format!("{address:#x}"));
            let theirs = String::from_utf8(addr2line.output().unwrap().stdout).unwrap();
            let theirs: Vec<&str> =
                theirs.lines().map(|line| line.split(" (disc").next().unwrap()).collect();
            assert_eq!(ours, theirs, "{version} {address:#x}");
        }
        assert!(depths > 2 * addresses.len(), "{depths} of {}", addresses.len());
    }
}

/// As [`INLINED`], in a process that waits.
const INLINED_IN_CPP: &str = r#"
#include <cstdio>
extern "C" char in_get[], in_worker[];
namespace app {
struct Queue {
    int value;
    inline __attribute__((always_inline)) int get(int by) {
        int taken = value * by;
        __asm__ volatile(".globl in_get\nin_get: nop\nnop");
        return taken;
    }
};
__attribute__((noinline)) int worker(Queue &queue) {
    __asm__ volatile(".globl in_worker\nin_worker: nop\nnop");
    return queue.get(3) + 1;
}
}
int main(int argc, char **) {
    app::Queue queue{argc};
    int value = app::worker(queue);
    printf("%p %p\n", in_get, in_worker);
    fflush(stdout);
    getchar();
    return value == 0;
}
"#;

/// Frames of a saved profile whose debug file comes later are those that a recording has with it,
/// whatever was known when it was saved.
#[test]
fn debug_files_that_come_later_tell_all() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    compile("g++", INLINED_IN_CPP, &program, &["-O2", "-g", "-Wl,--build-id"]);
    let debug = build_id_debug_path(dir.path(), &program);
    run(Command::new("objcopy")
        .args(["--only-keep-debug", "-w", "--strip-symbol=in_*"])
        .arg(&program)
        .arg(&debug));
    let named = dir.path().join("named");
    run(Command::new("objcopy")
        .args(["--strip-debug", "-w", "--strip-symbol=in_*"])
        .arg(&program)
        .arg(&named));
    strip(&program);
    let options = |lines| Options { debug_dirs: vec![dir.path().into()], lines };
    let label = |frames: &[Frame]| -> Vec<String> {
        frames.iter().map(|it| format!("{} {:?} {}", it.label(), it.line, it.inlined)).collect()
    };

    for file in [&program, &named] {
        std::fs::rename(file, dir.path().join("running")).unwrap();
        let target = Target::start(&dir.path().join("running"));
        let [get, worker] = target.addresses[..] else { panic!("{:?}", target.addresses) };
        let recording = target.record(&[get, worker + 1, get + 1]);
        let saved = |options: &Options| {
            let symbols = symbolize(&recording, options, &mut |_, _| ());
            let wait = wait_in(symbols.stacks[&STACK].iter().copied());
            let module = Module {
                name: "running".into(),
                path: String::new(),
                build_id: build_id(&File::open(dir.path().join("running")).unwrap()),
            };
            let meta = recording.meta.clone();
            Profile::new(meta, recording.losses, symbols.frames, vec![wait]).with_modules([module])
        };
        let plain = saved(&Options::default());
        assert_eq!(plain.waits[0].sleeper_stack.len(), 3);
        for lines in [false, true] {
            let complete = saved(&options(lines));
            let labels = label(&complete.frames);
            assert!(labels[0].starts_with("app::Queue::get(int)"), "{labels:?}");
            assert!(labels[0].ends_with(if lines { "Some(9) true" } else { "None true" }));
            assert_eq!(complete.waits[0].sleeper_stack.len(), 5);
            assert_eq!(name_later(plain.clone(), &options(lines)), complete);
            // What was told already is not told twice.
            let without_lines = saved(&options(false));
            assert_eq!(name_later(without_lines, &options(lines)), complete);
        }
    }
}
