//! What the synthetic file systems (proc, sys, devpts) share: nodes without storage, whose
//! content and entries are made when someone looks.
//!
//! * [`PseudoFile`]: content from a [`Content`], a snapshot per open file (`seq_file` in Linux);
//! * [`PseudoDir`]: entries from an [`Entries`], fixed ([`FixedEntries`]) or made on the fly;
//! * [`PseudoLink`]: a symbolic link, fixed or made from a [`LinkSource`];
//! * [`Attr`]: what stat(2) reports of all of them; [`Tree`] hands out inode numbers.

mod attr;
mod dir;
mod file;
mod link;
mod path_tree;
mod text;
mod tree;

pub use attr::{Attr, Owner};
pub use dir::{Entries, FixedEntries, Listed, PseudoDir};
pub use file::{Content, Generated, PseudoFile, Snapshot, Writable};
pub use link::{LinkSource, PseudoLink};
pub use path_tree::PathTree;
pub use text::parse_decimal;
pub use tree::{Tree, fs_stat};
