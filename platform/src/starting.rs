//! A platform that is being made while its sandbox is set up, and the address spaces that processes
//! left behind, for the next ones.

use std::{
    ops::Range,
    os::fd::OwnedFd,
    sync::{Arc, OnceLock},
    thread::JoinHandle,
};

use ranked_sync::Mutex;

use crate::{
    AddressSpace, Platform, PlatformError, PlatformKind, VdsoImage, create_tried,
    lock_order::SpacePool, memory::MemoryFile, stub::layout::USER_END, systrap::USER_START,
};

/// So many address spaces wait for another process; each is a process of the host.
const SPACES_MAX: usize = 4;

type Made = Result<Arc<dyn Platform>, PlatformError>;

/// See the module. All methods wait until the platform is there; [`Self::wait_ready`] tells whether it is.
#[derive(Debug)]
pub struct Starting {
    made: OnceLock<Made>,
    thread: Mutex<SpacePool, Option<JoinHandle<Made>>>,
    spaces: Arc<Mutex<SpacePool, Vec<Arc<dyn AddressSpace>>>>,
    no_vdso: VdsoImage,
}

/// Begins to make the platform of a sandbox, as [`crate::create`] does. To be called when the process has the
/// rights that all its threads are to have.
pub fn start(
    kind: PlatformKind,
    memory: Arc<MemoryFile>,
    kvm: Option<OwnedFd>,
) -> Result<Arc<Starting>, PlatformError> {
    let spaces: Arc<Mutex<SpacePool, Vec<Arc<dyn AddressSpace>>>> = Arc::default();
    let theirs = spaces.clone();
    let work = move || {
        let (platform, first) = create_tried(kind, memory, kvm)?;
        tracing::debug!(platform = platform.name(), "made");
        theirs.lock().extend(first);
        Ok(platform)
    };
    let thread = std::thread::Builder::new().name("platform".into()).stack_size(256 << 10);
    let thread = thread.spawn(work).map_err(|error| PlatformError::Host {
        what: "a thread to make the platform",
        errno: error.into(),
    })?;
    Ok(Arc::new(Starting {
        made: OnceLock::new(),
        thread: Mutex::new(Some(thread)),
        spaces,
        no_vdso: VdsoImage { image: Arc::new([]), sigreturn_offset: 0 },
    }))
}

impl Starting {
    fn made(&self) -> Result<&Arc<dyn Platform>, PlatformError> {
        let made = self.made.get_or_init(|| {
            let thread = self.thread.lock().take();
            let died = || Err(PlatformError::StubDied("its maker died".into()));
            thread.map_or_else(died, |thread| thread.join().unwrap_or_else(|_| died()))
        });
        // Every asker is to hear the reason.
        made.as_ref().map_err(|error| match error {
            PlatformError::Host { what, errno } => PlatformError::Host { what, errno: *errno },
            PlatformError::StubDied(why) => PlatformError::StubDied(why.clone()),
            PlatformError::Unsupported(why) => PlatformError::Unsupported(why.clone()),
        })
    }
}

impl Platform for Starting {
    fn name(&self) -> &'static str {
        self.made().map_or("none", |platform| platform.name())
    }

    fn wait_ready(&self) -> Result<(), PlatformError> {
        self.made().map(drop)
    }

    fn user_range(&self) -> Range<u64> {
        self.made().map_or(USER_START..USER_END, |platform| platform.user_range())
    }

    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        let platform = self.made()?;
        loop {
            let left = self.spaces.lock().pop();
            match left {
                Some(space) if space.is_alive() => return Ok(space),
                // Its process was killed while it waited.
                Some(_) => {}
                None => return platform.new_address_space(),
            }
        }
    }

    fn recycle(&self, space: Arc<dyn AddressSpace>) {
        if Arc::strong_count(&space) > 1 || self.spaces.lock().len() >= SPACES_MAX {
            return;
        }
        match space.renew() {
            Ok(true) => self.spaces.lock().push(space),
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "an address space is not used again"),
        }
    }

    fn vdso(&self) -> &VdsoImage {
        self.made().map_or(&self.no_vdso, |platform| platform.vdso())
    }
}
