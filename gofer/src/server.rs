//! The trees, the threads, and the process around them.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use gofer_wire::{MAX_TREES, TreeId, TreeInfo, VERSION, reply::HelloReply, transport::socket_pair};
use linux_abi::Errno;
use rustix::{
    fs::Mode,
    thread::{CpuSet, sched_setaffinity},
};

use crate::{
    attr::{self, errno},
    config::{GoferError, ServerConfig},
    connection, jail,
    tree::Tree,
};

/// Enough for a handler; buffers are on the heap.
const STACK_SIZE: usize = 256 << 10;

/// What all connections share. Nothing in it changes but a count.
#[derive(Debug)]
pub(crate) struct Server {
    trees: BTreeMap<TreeId, Tree>,
    max_channels: u32,
    channels: AtomicU32,
    /// For the threads of further channels.
    this: Weak<Self>,
}

/// Counts a channel for as long as it is served, however that ends.
struct ChannelCount(Arc<Server>);

impl Drop for ChannelCount {
    fn drop(&mut self) {
        self.0.channels.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Server {
    /// Opens the trees.
    pub(crate) fn open(config: ServerConfig) -> Result<Arc<Self>, GoferError> {
        let count = config.trees.len();
        let mut trees = BTreeMap::new();
        for tree in config.trees {
            trees.insert(tree.id, Tree::open(tree, &config.descriptors)?);
        }
        if trees.len() != count || count > MAX_TREES {
            return Err(GoferError::Ids);
        }
        let (max_channels, channels) = (config.max_channels, AtomicU32::new(0));
        Ok(Arc::new_cyclic(|this| Self { trees, max_channels, channels, this: this.clone() }))
    }

    pub(crate) fn trees(&self) -> impl Iterator<Item = &Tree> {
        self.trees.values()
    }

    /// `ENODEV` for a tree that is not served.
    pub(crate) fn tree(&self, id: TreeId) -> Result<&Tree, Errno> {
        self.trees.get(&id).ok_or(Errno::ENODEV)
    }

    pub(crate) fn hello(&self, version: u32) -> Result<HelloReply, Errno> {
        if version != VERSION {
            return Err(Errno::EPROTO);
        }
        let mut trees = Vec::with_capacity(self.trees.len());
        for tree in self.trees() {
            let (id, read_only) = (tree.config().id, tree.config().read_only);
            trees.push(TreeInfo { id, read_only, attr: attr::of(tree.root())? });
        }
        Ok(HelloReply { version: VERSION, max_channels: self.max_channels, trees })
    }

    /// Serves another socket, on a thread of its own that stays on `processor`; the client's end of it.
    ///
    /// # Errors
    /// `EUSERS` when there are as many as may be; those of socketpair(2) and thread creation.
    pub(crate) fn open_channel(&self, processor: Option<u32>) -> Result<OwnedFd, Errno> {
        let this = self.this.upgrade().ok_or(Errno::EIO)?;
        let max = self.max_channels;
        let add = |now: u32| (now < max).then(|| now.saturating_add(1));
        let counted = self.channels.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        counted.map_err(|_| Errno::EUSERS)?;
        let count = ChannelCount(this);
        let (ours, theirs) = socket_pair().map_err(errno)?;
        thread::Builder::new()
            .name("channel".into())
            .stack_size(STACK_SIZE)
            .spawn(move || {
                stay_on(processor);
                connection::serve(&count.0, &ours);
            })
            .map_err(|error| attr::io_errno(&error))?;
        Ok(theirs)
    }
}

/// Keeps this thread on a processor, if it may be there.
fn stay_on(processor: Option<u32>) {
    let Some(processor) = processor.and_then(|number| usize::try_from(number).ok()) else { return };
    if processor < CpuSet::MAX_CPU {
        let mut set = CpuSet::new();
        set.set(processor);
        // Only a matter of speed.
        let _ = sched_setaffinity(None, &set);
    }
}

/// Serves the trees of `config` to the client at the other end of `control`, and
/// returns when it has closed it. Threads of further channels go on until those are closed.
///
/// Sets the process's umask to 0: the client has applied its own.
///
/// # Errors
/// A tree that cannot be opened.
pub fn serve(config: ServerConfig, control: &OwnedFd) -> Result<(), GoferError> {
    let server = Server::open(config)?;
    rustix::process::umask(Mode::empty());
    connection::serve(&server, control);
    Ok(())
}

/// The life of a gofer process: enters the jail, serves, and returns when the
/// client is gone. The process must have no other threads, and should end then.
///
/// # Errors
/// A tree that cannot be opened, or a part of the jail that `options` insist on.
pub fn run(
    mut config: ServerConfig,
    control: &OwnedFd,
    options: &jail::Options,
) -> Result<jail::Report, GoferError> {
    let mut report = jail::enter(options, &mut config, control)?;
    let server = Server::open(config)?;
    rustix::process::umask(Mode::empty());
    jail::seal(options, &server, &mut report)?;
    tracing::debug!(?report, "the gofer is jailed");
    connection::serve(&server, control);
    Ok(report)
}
