//! The sentry's half: blocking calls, one method for each request.
//!
//! A call owns a socket while it lasts, and there are several, so that a slow
//! call holds up no other. No lock is held while the gofer works. When the gofer
//! dies, or breaks the protocol, each call from then on is `EIO` at once.
//!
//! Host calls made here: `sendmsg`, `recvmsg`, `fstat`, `close`.
//!
//! # Lock order
//! `GoferPool` is a leaf: nothing is taken under it, and no call is made.

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use linux_abi::Errno;

use crate::{
    MAX_REPLY, MAX_REQUEST, VERSION,
    attr::{Attr, FileType},
    codec::{Malformed, Reader, Wire, Writer},
    reply::{HelloReply, TreeInfo, decode_status},
    request::Request,
    transport::{Files, Inbox, ReceiveError, send},
};

mod calls;
mod pool;

use pool::Pool;

/// A socket to the gofer, and the room for its messages.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    inbox: Inbox,
    outbox: Writer,
    /// Where the server's thread for it was asked to stay.
    processor: Option<u32>,
}

impl Channel {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, inbox: Inbox::new(), outbox: Writer::new(), processor: None }
    }

    /// Asks and waits for the answer, which is then in the inbox.
    fn exchange(&mut self, request: &Request<'_>, files: &mut Files) -> Result<(), Failure> {
        self.outbox.clear();
        request.encode(&mut self.outbox);
        if self.outbox.len() > MAX_REQUEST {
            return Err(Failure::Errno(Errno::ENAMETOOLONG));
        }
        send(&self.socket, self.outbox.as_bytes(), &[]).map_err(|_| Failure::Dead)?;
        self.inbox.receive(&self.socket, MAX_REPLY, Some(files))?;
        Ok(())
    }
}

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The gofer says so.
    Errno(Errno),
    /// The gofer is gone.
    Dead,
    /// The gofer is broken, or no longer itself.
    Malformed(Malformed),
}

impl From<ReceiveError> for Failure {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Closed | ReceiveError::Host(_) => Self::Dead,
            ReceiveError::Malformed(why) => Self::Malformed(why),
        }
    }
}

impl From<Malformed> for Failure {
    fn from(why: Malformed) -> Self {
        Self::Malformed(why)
    }
}

type DeathHandler = Box<dyn Fn() + Send + Sync>;

/// A connection to a gofer, for use by any number of threads.
pub struct GoferClient {
    /// A duplicate of the first socket, to be watched for the gofer's end.
    watch: OwnedFd,
    pool: Pool,
    dead: AtomicBool,
    requests: AtomicU64,
    on_death: OnceLock<DeathHandler>,
    trees: Vec<TreeInfo>,
}

impl fmt::Debug for GoferClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoferClient").field("trees", &self.trees).field("dead", &self.dead).finish()
    }
}

impl GoferClient {
    /// Greets the gofer at the other end of `socket`, and learns its trees.
    ///
    /// # Errors
    /// `EIO` when there is no gofer, or not one of this version.
    pub fn connect(socket: OwnedFd) -> Result<Self, Errno> {
        let watch = socket.try_clone()?;
        let mut channel = Channel::new(socket);
        let hello = match greet(&mut channel) {
            Ok(hello) if hello.version == VERSION => hello,
            Ok(hello) => {
                tracing::warn!(version = hello.version, "the gofer is of another version");
                return Err(Errno::EIO);
            }
            Err(Failure::Errno(errno)) => return Err(errno),
            Err(failure) => {
                tracing::warn!(?failure, "no greeting from the gofer");
                return Err(Errno::EIO);
            }
        };
        Ok(Self {
            watch,
            pool: Pool::new(channel, hello.max_channels),
            dead: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            on_death: OnceLock::new(),
            trees: hello.trees,
        })
    }

    /// The trees that the gofer serves.
    pub fn trees(&self) -> &[TreeInfo] {
        &self.trees
    }

    /// How many requests were made so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether calls have no more sense.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Calls `handler` once, from the thread that finds out, when the gofer is
    /// found dead. Only the first handler set counts.
    pub fn on_death(&self, handler: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_death.set(Box::new(handler));
    }

    /// Becomes readable with a hang-up (`POLLHUP`) when the gofer dies. Not to be read from.
    pub fn watch_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    /// Makes a call and decodes the reply's body with `decode`, which also gets
    /// the descriptors that came along and must take them or else they are refused.
    pub(crate) fn call<T>(
        &self,
        request: &Request<'_>,
        decode: impl FnOnce(&mut Reader<'_>, &mut Files) -> Result<T, Failure>,
    ) -> Result<T, Errno> {
        if self.is_dead() {
            return Err(Errno::EIO);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut channel = self.pool.acquire().map_err(|failure| self.judge(failure))?;
        let result = exchange(&mut channel, request, decode);
        match result {
            Ok(value) => {
                self.pool.release(channel);
                Ok(value)
            }
            Err(Failure::Errno(errno)) => {
                self.pool.release(channel);
                Err(errno)
            }
            Err(failure) => {
                drop(channel);
                Err(self.judge(failure))
            }
        }
    }

    /// What the caller is told; the gofer is given up if it did not just say no.
    fn judge(&self, failure: Failure) -> Errno {
        match failure {
            Failure::Errno(errno) => return errno,
            Failure::Dead => tracing::warn!("the gofer is gone"),
            Failure::Malformed(why) => tracing::warn!(%why, "the gofer broke the protocol"),
        }
        if !self.dead.swap(true, Ordering::AcqRel) {
            self.pool.close();
            if let Some(handler) = self.on_death.get() {
                handler();
            }
        }
        Errno::EIO
    }
}

/// One exchange on one socket: the status decides between error and body; both
/// must be there in full, and a descriptor only where it has a place.
fn exchange<T>(
    channel: &mut Channel,
    request: &Request<'_>,
    decode: impl FnOnce(&mut Reader<'_>, &mut Files) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut files = Files::up_to(request.max_files());
    channel.exchange(request, &mut files)?;
    let mut from = Reader::new(channel.inbox.message());
    if let Some(errno) = decode_status(&mut from)? {
        from.finish()?;
        return if files.is_empty() {
            Err(Failure::Errno(errno))
        } else {
            Err(Failure::Malformed(Malformed("a file with an error")))
        };
    }
    let value = decode(&mut from, &mut files)?;
    from.finish()?;
    if !files.is_empty() {
        return Err(Failure::Malformed(Malformed("a file nobody asked for")));
    }
    Ok(value)
}

fn greet(channel: &mut Channel) -> Result<HelloReply, Failure> {
    exchange(channel, &Request::Hello { version: VERSION }, |from, _| Ok(HelloReply::decode(from)?))
}

/// Takes the descriptor that must have come. `ENFILE` when this process has no room for it.
fn take_descriptor(files: &mut Files, missing: &'static str) -> Result<OwnedFd, Failure> {
    match files.take() {
        Some(file) => Ok(file),
        None if files.is_cut() => Err(Failure::Errno(Errno::ENFILE)),
        None => Err(Failure::Malformed(Malformed(missing))),
    }
}

/// Takes the descriptor that must have come, and checks with the host that it is the
/// regular file which the reply describes: the sentry will map and read it.
fn take_file(files: &mut Files, attr: &Attr) -> Result<OwnedFd, Failure> {
    let file = take_descriptor(files, "no file came along")?;
    let stat = rustix::fs::fstat(&file).map_err(|_| Malformed("a file without attributes"))?;
    let device = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    if FileType::from_mode(stat.st_mode) != FileType::Regular
        || attr.file_type() != FileType::Regular
        || stat.st_ino != attr.ino
        || device != (attr.dev.major, attr.dev.minor)
    {
        return Err(Failure::Malformed(Malformed("a file that is another")));
    }
    Ok(file)
}
