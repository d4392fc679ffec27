//! What is written for a frame.

use super::RenderOptions;
use crate::profile::Frame;

/// The name, with what the options ask for behind it: `name (file.cc:123)_[i]`. Not escaped.
///
/// The marks of [`RenderOptions::annotate`] are those of the FlameGraph scripts, which colour frames by
/// them (`stackcollapse-perf.pl --all`).
pub(super) fn label(frame: &Frame, options: &RenderOptions) -> String {
    let mut label = frame.label();
    if options.lines
        && let (Some(file), Some(line)) = (&frame.file, frame.line)
    {
        let name = file.rsplit('/').next().unwrap_or(file);
        label += &format!(" ({name}:{line})");
    }
    if options.annotate {
        label += match frame {
            Frame { kernel: true, .. } => "_[k]",
            Frame { inlined: true, .. } => "_[i]",
            frame if frame.is_compiled_at_run_time() => "_[j]",
            _ => "",
        };
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_lines() {
        let frame = Frame {
            name: Some("run".into()),
            module: Some("app".into()),
            offset: 1,
            kernel: false,
            file: Some("/src/main.cc".into()),
            line: Some(7),
            inlined: true,
        };
        let kernel = Frame { kernel: true, file: None, inlined: false, ..frame.clone() };
        let jit = Frame { module: Some("perf-12.map".into()), ..kernel.clone() };
        let jit = Frame { kernel: false, ..jit };
        let no_jit = Frame { module: Some("perf-x.map".into()), ..jit.clone() };
        let labels = |lines, annotate| {
            let options = RenderOptions { lines, annotate, ..RenderOptions::default() };
            [&frame, &kernel, &jit, &no_jit].map(|frame| label(frame, &options))
        };
        assert_eq!(labels(false, false), ["run"; 4]);
        assert_eq!(labels(true, false), ["run (main.cc:7)", "run", "run", "run"]);
        assert_eq!(labels(false, true), ["run_[i]", "run_[k]", "run_[j]", "run"]);
        assert_eq!(labels(true, true)[0], "run (main.cc:7)_[i]");
    }
}
