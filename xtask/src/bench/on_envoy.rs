//! Envoy, as what is measured.

use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use crate::workspace::Workspace;

#[derive(Args)]
pub(super) struct OnEnvoy {
    /// This Envoy, not the one that is fetched
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
}

impl OnEnvoy {
    /// The program that runs Envoy. For how long, and under what load, is for the caller to add.
    pub(super) fn demo(&self, workspace: &Workspace) -> Command {
        let mut program = Command::new(workspace.release_binary("envoy-demo"));
        if let Some(envoy) = &self.envoy {
            program.arg("--envoy").arg(envoy);
        }
        program
    }
}
