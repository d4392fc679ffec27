//! Names without what differs from build to build.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use crate::profile::Frame;

/// What compilers append to the name of a function that they split or changed, and the hashes that
/// tell crates and instances apart.
static NOISE: LazyLock<Regex> = LazyLock::new(|| {
    let patterns = [
        r"( \[clone [^\]]*\])+$",
        r"(\.(isra|constprop|part|cold|llvm|lto_priv|localalias)(\.[0-9a-f]+)*)+$",
        r"::h[0-9a-f]{16}$",
        r"\[[0-9a-f]{16}\]",
        // The kind of frame, in folded stacks of stackcollapse-perf.pl and of --annotate.
        r"_\[[kij]\]$",
    ];
    Regex::new(&patterns.join("|")).expect("constant")
});

/// The label of a frame, the same for the same function in another build. Frames without a name are
/// told apart by their module only: addresses move.
pub(crate) fn label(frame: &Frame) -> Cow<'_, str> {
    match (&frame.name, &frame.module) {
        // Every pattern has one of these.
        (Some(name), _) if memchr::memchr3(b'.', b'[', b':', name.as_bytes()).is_none() => {
            Cow::Borrowed(name)
        }
        (Some(name), _) => NOISE.replace_all(name, ""),
        (None, Some(module)) => Cow::Owned(format!("[{module}]")),
        (None, None) => Cow::Owned(frame.label()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> String {
        label(&Frame {
            name: Some(name.into()),
            module: None,
            offset: 0,
            kernel: false,
            file: None,
            line: None,
            inlined: false,
        })
        .into_owned()
    }

    #[test]
    fn builds_do_not_matter() {
        assert_eq!(of("finish_task_switch.isra.0"), "finish_task_switch");
        assert_eq!(of("do_syscall_64.constprop.0.isra.0"), "do_syscall_64");
        assert_eq!(of("f.cold"), "f");
        assert_eq!(of("foo::bar.llvm.123456"), "foo::bar");
        assert_eq!(of("f(int) [clone .part.0] [clone .cold]"), "f(int)");
        assert_eq!(of("core::fmt::write::h0123456789abcdef"), "core::fmt::write");
        assert_eq!(of("core[0123456789abcdef]::fmt::write"), "core::fmt::write");
        assert_eq!(of("schedule_[k]"), "schedule");
    }

    #[test]
    fn functions_stay_apart() {
        for name in ["a.b", "cold", "A<int>::f()", "operator[](int)", "x[3]", "", ".", "f.part"] {
            let expected = if name == "f.part" { "f" } else { name };
            assert_eq!(of(name), expected);
        }
    }

    #[test]
    fn addresses_move() {
        let frame = |offset| Frame {
            name: None,
            module: Some("envoy".into()),
            offset,
            kernel: false,
            file: None,
            line: None,
            inlined: false,
        };
        assert_eq!(label(&frame(1)), "[envoy]");
        assert_eq!(label(&frame(1)), label(&frame(2)));
    }
}
