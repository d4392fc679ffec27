//! Demangling with a bound, which blazesym's has not: a target chooses the names in its files, and
//! one of a few hundred bytes can stand for gigabytes.

use std::fmt;

use cpp_demangle::{BorrowedSymbol, DemangleOptions};

/// The longest demangled name, in bytes. Templates make names of tens of thousands.
const MAX_DEMANGLED: usize = 64 << 10;

/// The name as its language writes it: C++ and Rust with parameters, Rust without the hash.
/// Any other name, and one that cannot be demangled, as it is.
pub(super) fn demangle(name: &str) -> String {
    let name = without_version(name);
    let mut out = Bounded(String::new());
    if is_rust(name) {
        let symbol = rustc_demangle::try_demangle(name);
        if symbol.is_ok_and(|symbol| fmt::write(&mut out, format_args!("{symbol:#}")).is_ok()) {
            return out.0;
        }
    } else if name.starts_with("_Z") {
        // What LLVM appends to functions that it made visible to other modules says nothing.
        let plain = name.split(".llvm.").next().unwrap_or(name);
        let symbol = BorrowedSymbol::new(plain.as_bytes());
        let options = DemangleOptions::default();
        if symbol.is_ok_and(|symbol| symbol.structured_demangle(&mut out, &options).is_ok()) {
            return out.0;
        }
    }
    name.chars().take(MAX_DEMANGLED).collect()
}

/// Without the symbol version that the linker leaves in `.symtab`: `read@@GLIBC_2.2.5`.
fn without_version(name: &str) -> &str {
    match name.find('@') {
        Some(end) if end > 0 => &name[..end],
        _ => name,
    }
}

/// Both generations of Rust's mangling; the older one is C++'s with a hash as the last part.
fn is_rust(name: &str) -> bool {
    name.starts_with("_R")
        || (name.starts_with("_ZN") && name.contains("17h"))
            && rustc_demangle::try_demangle(name).is_ok()
}

/// A string that refuses to grow beyond [`MAX_DEMANGLED`].
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_DEMANGLED {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(mangled: &str) -> String {
        demangle(mangled)
    }

    #[test]
    fn cpp_keeps_its_parameters() {
        assert_eq!(
            name(
                "_ZN5Envoy6Server10WorkerImpl13threadRoutineERNS0_8GuardDogERKNSt3__18functionIFvvEEE"
            ),
            "Envoy::Server::WorkerImpl::threadRoutine(Envoy::Server::GuardDog&, \
             std::__1::function<void ()> const&)"
        );
        assert_eq!(
            name(
                "_ZZN5Envoy6Thread15ThreadImplPosixC1ENSt3__18functionIFvvEEEN4absl8optionalINS0_7OptionsEEEENUlPvE_8__invokeESA_"
            )
            .split("::{lambda").nth(1),
            Some("(void*)#1}::__invoke(void*)")
        );
        assert_eq!(name("_ZN3foo3barEv.llvm.123456"), "foo::bar()");
        assert_eq!(name("_ZN3foo3barEv.part.0"), "foo::bar() [clone .part.0]");
    }

    #[test]
    fn rust_loses_its_hash() {
        assert_eq!(
            name("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"),
            "core::fmt::Write::write_fmt"
        );
        assert_eq!(name("_RNvCskwGfYPst2Cb_3foo16example_function"), "foo::example_function");
    }

    #[test]
    fn other_names_stay() {
        assert_eq!(name("epoll_wait"), "epoll_wait");
        assert_eq!(name("read@@GLIBC_2.2.5"), "read");
        assert_eq!(name("@strange"), "@strange");
        assert_eq!(name("_Z"), "_Z");
        assert_eq!(name("_ZN"), "_ZN");
        assert_eq!(name("do_syscall_64.constprop.0"), "do_syscall_64.constprop.0");
    }

    /// Each parameter is a template of ten times the one before it: 10^8 times the first.
    #[test]
    fn a_name_that_explodes_is_left_as_it_is() {
        let exploding = |depth: u32| {
            let parameters: String = (0..depth)
                .map(|level| format!("S_I{}E", format!("S{level}_").repeat(10)))
                .collect();
            format!("_Z1f1AIiE{parameters}")
        };
        assert!(name(&exploding(2)).starts_with("f(A<int>, A<A<int>, A<int>, "));
        assert_eq!(name(&exploding(8)), exploding(8));
    }
}
