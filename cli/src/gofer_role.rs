//! The gofer process: `lazaret` executed again as the file server.

use std::{path::PathBuf, process::ExitCode};

use gofer::{ServerConfig, TreeConfig, jail};
use serde::{Deserialize, Serialize};

use crate::{
    EXIT_FAILED,
    run::config::Plan,
    sentry_role::{inherited, read_config},
};

/// The hidden sub-command.
pub(crate) const NAME: &str = "internal-gofer";

/// What it serves.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GoferConfig {
    trees: Vec<(PathBuf, bool)>,
}

/// The configuration for a plan.
pub(crate) fn config(plan: &Plan) -> GoferConfig {
    GoferConfig {
        trees: plan.trees.iter().map(|tree| (tree.path.clone(), tree.read_only)).collect(),
    }
}

/// Descriptor 3 holds the configuration, 4 is the socket to the sentry.
pub(crate) fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lazaret: file server: {error:#}");
            EXIT_FAILED.into()
        }
    }
}

fn serve() -> anyhow::Result<()> {
    platform::host::share_one_heap();
    let config: GoferConfig = read_config(3)?;
    let socket = inherited(4)?;
    let trees = (0..)
        .zip(config.trees)
        .map(|(id, (path, read_only))| TreeConfig { read_only, ..TreeConfig::read_only(id, path) });
    gofer::run(ServerConfig::new(trees.collect()), &socket, &jail::Options::default())?;
    Ok(())
}
