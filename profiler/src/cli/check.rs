//! `offwake check`: what this kernel and these privileges allow.

use std::process::ExitCode;

use offwake::record::{self, Capability, CapabilityState};

use super::output::Sink;

/// Prints one line for each capability. Fails when something is missing that recordings need.
/// `pids`: processes of which to tell what they need.
///
/// # Errors
/// When standard output cannot be written, too few files may be open, or these processes cannot be recorded.
pub(crate) fn run(pids: &[u32]) -> anyhow::Result<ExitCode> {
    let mut capabilities = record::check()?;
    let is_missing = |found: &Capability| found.state == CapabilityState::Missing;
    if !pids.is_empty() && !capabilities.iter().any(is_missing) {
        capabilities.extend(record::measure(pids)?);
    }
    Sink::stdout()?.write(|out| Ok(out.write_all(table(&capabilities).as_bytes())?))?;
    let missing = capabilities.iter().any(is_missing);
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn table(capabilities: &[Capability]) -> String {
    let width = capabilities.iter().map(|found| found.name.chars().count()).max().unwrap_or(0);
    capabilities
        .iter()
        .map(|Capability { name, state, detail }| {
            let line = format!("{:8}  {name:width$}  {detail}", state_name(*state));
            format!("{}\n", line.trim_end())
        })
        .collect()
}

const fn state_name(state: CapabilityState) -> &'static str {
    match state {
        CapabilityState::Ok => "ok",
        CapabilityState::Degraded => "degraded",
        CapabilityState::Missing => "missing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_aligned_line_a_capability() {
        let found = |name, state, detail: &str| Capability { name, state, detail: detail.into() };
        let capabilities = [
            found("kernel BTF", CapabilityState::Ok, "/sys/kernel/btf/vmlinux"),
            found("cgroup v2", CapabilityState::Degraded, "not mounted: --cgroup is not available"),
            found("CAP_BPF", CapabilityState::Missing, "run as root"),
            found("probe", CapabilityState::Ok, ""),
        ];
        assert_eq!(
            table(&capabilities),
            "ok        kernel BTF  /sys/kernel/btf/vmlinux\n\
             degraded  cgroup v2   not mounted: --cgroup is not available\n\
             missing   CAP_BPF     run as root\n\
             ok        probe\n"
        );
    }
}
