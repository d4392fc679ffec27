//! Walks of the stacks of running programs, against what they know and against framehop.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, Module, Unwinder};
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, Sym};

use offwake_shared::StackEnd;

use super::oracle::section;
use super::*;

const SOURCE: &str = include_str!("live.c");

/// What the program calls, from its stop outwards.
const CALLS: [&str; 7] =
    ["block", "recurse", "recurse", "recurse", "recurse", "variable", "aligned"];

/// What its handler of signals does.
const HANDLER: [&str; 7] =
    ["block", "recurse", "recurse", "recurse", "recurse", "recurse", "handler"];

/// A child that is stopped.
struct Stopped {
    child: Child,
    registers: Registers,
}

impl Stopped {
    /// Starts it and stops it where it reads.
    fn start(program: &Path, argument: &str) -> Self {
        let mut command = Command::new(program);
        command.arg(argument).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut ready = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        let pid = child.id() as libc::pid_t;
        // It may still be on its way from one system call to the next.
        while !system_call_of(child.id()).starts_with("0 ") {
            std::thread::yield_now();
        }
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: `registers` is what PTRACE_GETREGS fills; the other requests take no memory.
        let registers = unsafe {
            assert_eq!(libc::ptrace(libc::PTRACE_ATTACH, pid, none, none), 0, "PTRACE_ATTACH");
            assert_eq!(libc::waitpid(pid, std::ptr::null_mut(), 0), pid);
            let mut registers: libc::user_regs_struct = std::mem::zeroed();
            let got = libc::ptrace(libc::PTRACE_GETREGS, pid, none, &raw mut registers);
            assert_eq!(got, 0, "PTRACE_GETREGS");
            registers
        };
        let registers = Registers {
            pc: registers.rip,
            sp: registers.rsp,
            fp: registers.rbp,
            other: registers.rbx,
            di: registers.rdi,
            in_syscall: registers.orig_rax as i64 >= 0,
        };
        Self { child, registers }
    }

    fn read(&self, address: u64, words: &mut [u64]) -> bool {
        let size = size_of_val(words);
        let local = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size };
        let remote = libc::iovec { iov_base: address as *mut _, iov_len: size };
        // SAFETY: the local vector is the slice.
        let read =
            unsafe { libc::process_vm_readv(self.child.id() as i32, &local, 1, &remote, 1, 0) };
        read == size as isize
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// An executable mapping, and what it is of.
struct Code {
    mapping: Mapping,
    file: Vec<u8>,
    table: Table,
    bias: u64,
}

fn code_of(stopped: &Stopped) -> Vec<Code> {
    let mappings = mappings_of(stopped.child.id()).into_iter();
    let code = mappings.filter_map(|mapping| {
        let file = match mapping.name.as_str() {
            "[vdso]" => {
                let size = (mapping.range.end - mapping.range.start) as usize / 8;
                let mut words = vec![0; size];
                assert!(stopped.read(mapping.range.start, &mut words));
                words.into_iter().flat_map(u64::to_le_bytes).collect()
            }
            name if name.starts_with('/') => std::fs::read(name).unwrap(),
            _ => return None,
        };
        let table = build_from_bytes(&file).unwrap();
        let bias = table.bias(mapping.range.start, mapping.offset).unwrap();
        Some(Code { mapping, file, table, bias })
    });
    code.collect()
}

fn walk_of(stopped: &Stopped, code: &[Code]) -> (Vec<u64>, StackEnd) {
    let place_of = |address| {
        let code = code.iter().find(|code| code.mapping.range.contains(&address))?;
        let rule = code.table.rule_at(address - code.bias);
        Some(Place { rule, bias: code.bias })
    };
    let read = |address, words: &mut [u64]| stopped.read(address, words);
    walk(Architecture::OWN, stopped.registers, place_of, read)
}

/// The frames that framehop finds.
fn framehop_of(stopped: &Stopped, code: &[Code]) -> Vec<u64> {
    let mut unwinder: UnwinderX86_64<Vec<u8>> = UnwinderX86_64::new();
    for code in code {
        let section = |name| section(&code.file, name).unwrap_or_default();
        let range = |(address, bytes): (u64, &[u8])| address..address + bytes.len() as u64;
        let (text, frame) = (section(".text"), section(".eh_frame"));
        let info = ExplicitModuleSectionInfo {
            text_svma: Some(range(text)),
            text: Some(text.1.to_vec()),
            eh_frame_svma: Some(range(frame)),
            eh_frame: Some(frame.1.to_vec()),
            ..Default::default()
        };
        let range = code.mapping.range.clone();
        unwinder.add_module(Module::new(code.mapping.name.clone(), range, code.bias, info));
    }
    let Registers { pc, sp, fp, .. } = stopped.registers;
    let mut read = |address| {
        let mut word = [0];
        stopped.read(address, &mut word).then_some(word[0]).ok_or(())
    };
    let mut cache = CacheX86_64::<_>::new();
    let registers = UnwindRegsX86_64::new(pc, sp, fp);
    let mut iter = unwinder.iter_frames(pc, registers, &mut cache, &mut read);
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = iter.next() {
        frames.push(frame.address());
    }
    frames
}

/// The frames that are in the program: where they are on the stack, and the names of their functions.
fn named(frames: &[u64], program: &Code) -> Vec<(usize, String)> {
    let endian = object::LittleEndian;
    let file = program.file.as_slice();
    let header = FileHeader64::<object::LittleEndian>::parse(file).unwrap();
    let sections = header.sections(endian, file).unwrap();
    let symbols = sections.symbols(endian, file, object::elf::SHT_SYMTAB).unwrap();
    let name_of = |(index, frame): (usize, &u64)| {
        let address = frame - u64::from(index > 0);
        if !program.mapping.range.contains(&address) {
            return None;
        }
        let address = address - program.bias;
        let symbol = symbols.iter().find(|symbol| {
            let (start, size) = (symbol.st_value(endian), symbol.st_size(endian));
            symbol.st_type() == object::elf::STT_FUNC && (start..start + size).contains(&address)
        })?;
        let name = symbol.name(endian, symbols.strings()).unwrap();
        Some((index, String::from_utf8_lossy(name).into_owned()))
    };
    frames.iter().enumerate().filter_map(name_of).collect()
}

fn compile(directory: &Path, arguments: &[&str]) -> PathBuf {
    let (source, program) = (directory.join("live.c"), directory.join("live"));
    std::fs::write(&source, SOURCE).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls"]).args(arguments);
    let output = gcc.arg(&source).arg("-o").arg(&program).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// Each way to link, with and without a signal on a stack of its own.
#[test]
fn frames_of_running_programs() {
    let directory = tempfile::tempdir().unwrap();
    let links: [&[&str]; 4] =
        [&[], &["-no-pie"], &["-static", "-no-pie"], &["-static-pie", "-Wl,-z,noseparate-code"]];
    for link in links {
        let program = compile(directory.path(), link);
        for argument in ["-", "s", "e", "se"] {
            let case = format!("{link:?} {argument}");
            let (signal, expressions) = (argument.contains('s'), argument.contains('e'));
            let stopped = Stopped::start(&program, argument);
            let code = code_of(&stopped);
            let (frames, end) = walk_of(&stopped, &code);
            assert_eq!(end, StackEnd::Complete, "{case}");

            let name = program.to_str().unwrap();
            let of_program = code.iter().find(|code| code.mapping.name == name).unwrap();
            let named = named(&frames, of_program);
            let names: Vec<&str> = named.iter().map(|(_, name)| name.as_str()).collect();
            let mut expected = CALLS.to_vec();
            if signal {
                expected.splice(..1, [&HANDLER[..], &["trap"]].concat());
            }
            if expressions {
                expected.extend(["aligned_variable", "last_call", "calls_last"]);
            }
            expected.push("main");
            let from = names.iter().position(|&name| name == "block").unwrap();
            assert_eq!(names[from..][..expected.len()], expected, "{case}");
            assert_eq!(*names.last().unwrap(), "_start", "{case}");

            // framehop knows no expression that reads memory, as the C library has one for signals.
            let stop = if signal { "trap" } else { "last_call" };
            let stop = named.iter().find(|(_, name)| name == stop).map_or(frames.len(), |it| it.0);
            let framehops = framehop_of(&stopped, &code);
            let mut ours = frames[..stop].to_vec();
            if signal {
                // Ours is one more, since nobody called from where the handler returns to.
                *ours.last_mut().unwrap() -= 1;
            }
            assert_eq!(ours, framehops[..stop], "{case}");
            assert!(signal || expressions || framehops.len() == stop, "{case}");
        }
    }
}
