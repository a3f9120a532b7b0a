//! What a gofer is told at its start.

use std::{os::fd::RawFd, path::PathBuf};

use gofer_wire::TreeId;

/// A host directory or regular file to serve.
#[derive(Clone, Debug)]
pub struct TreeConfig {
    pub id: TreeId,
    /// Opened once, at the start, following symbolic links.
    pub path: PathBuf,
    /// Nothing in the tree can be changed.
    pub read_only: bool,
    /// Serves sysfs, cgroupfs and their like as ordinary files. Without it they
    /// look like empty directories. procfs always does.
    pub kernel_files: bool,
}

impl TreeConfig {
    /// A read-only tree without kernel files.
    pub fn read_only(id: u32, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { id: TreeId(id), path, read_only: true, kernel_files: false }
    }

    /// A tree that can be changed, without kernel files.
    pub fn writable(id: u32, path: impl Into<PathBuf>) -> Self {
        Self { read_only: false, ..Self::read_only(id, path) }
    }
}

/// Everything a gofer is told.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub trees: Vec<TreeConfig>,
    /// Most sockets (and threads) beside the first.
    pub max_channels: u32,
    /// A descriptor of the caller's that stays open when the others are closed.
    pub kept: Option<RawFd>,
    /// Where this process's descriptors are named: `/proc/self/fd`, or wherever the jail put it.
    pub descriptors: PathBuf,
}

impl ServerConfig {
    /// Serves `trees`.
    pub fn new(trees: Vec<TreeConfig>) -> Self {
        Self { trees, max_channels: 16, kept: None, descriptors: PathBuf::from("/proc/self/fd") }
    }
}

/// Why a gofer could not start.
#[derive(Debug, thiserror::Error)]
pub enum GoferError {
    #[error("cannot serve {path}: {error}")]
    Tree { path: PathBuf, error: std::io::Error },
    #[error("cannot serve {path}: it is neither a directory nor a regular file")]
    Kind { path: PathBuf },
    #[error("the trees are too many, or two have the same number")]
    Ids,
    #[error("cannot {what}: {error}")]
    Jail { what: &'static str, error: std::io::Error },
}
