//! Puts a fixed tree together from paths.

use std::{collections::BTreeMap, sync::Arc};

use super::{FixedEntries, Tree};
use crate::vfs::Inode;

/// A directory while the tree is put together.
#[derive(Debug, Default)]
pub struct PathTree {
    nodes: BTreeMap<String, Arc<dyn Inode>>,
    dirs: BTreeMap<String, PathTree>,
}

impl PathTree {
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a node at `path`, relative and without `.` or `..`; directories on the way are made.
    pub fn insert(&mut self, path: &str, node: Arc<dyn Inode>) {
        match path.split_once('/') {
            Some((dir, rest)) => self.dirs.entry(dir.to_owned()).or_default().insert(rest, node),
            None => drop(self.nodes.insert(path.to_owned(), node)),
        }
    }

    /// Makes the directory `path`.
    pub fn insert_dir(&mut self, path: &str) {
        let (dir, rest) = path.split_once('/').unwrap_or((path, ""));
        let below = self.dirs.entry(dir.to_owned()).or_default();
        if !rest.is_empty() {
            below.insert_dir(rest);
        }
    }

    /// The directory with all that was put in.
    pub fn build(self, tree: &Tree, perm: u32) -> Arc<dyn Inode> {
        let links = 2 + u32::try_from(self.dirs.len()).unwrap_or(0);
        let attr = tree.attr(crate::vfs::FileType::Directory, perm).with_links(links);
        let mut entries = FixedEntries::new();
        for (name, dir) in self.dirs {
            entries.add(&name, dir.build(tree, perm));
        }
        for (name, node) in self.nodes {
            entries.add(&name, node);
        }
        super::PseudoDir::new(attr, entries)
    }
}
