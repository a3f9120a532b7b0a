//! The mount tree of a sandbox.

use std::sync::Arc;

use gofer_wire::{GoferClient, TreeId};

use super::{BootError, Config, MountSpec, OverlayMode};
use crate::{
    Errno, SysResult,
    fs::{
        dev,
        devpts::{Devpts, DevptsType},
        gofer::GoferFs,
        overlay::OverlayFs,
        proc::{ProcFs, ProcType},
        sys::{SysFs, SysType},
        tmpfs::{Tmpfs, TmpfsOptions, TmpfsType},
    },
    kernel::{Credentials, Kernel},
    policy::FilePolicy,
    vfs::{
        self, Creation, FileSystem, FileType, LookupFlags, MountFlags, MountNamespace, PathCx,
        VfsPath,
    },
};

/// Builds the namespace: the root, the kernel's own file systems, what the user asked for.
pub(super) fn build(
    kernel: &Arc<Kernel>,
    client: &Arc<GoferClient>,
    config: &Config,
    policy: Option<FilePolicy>,
) -> Result<Arc<MountNamespace>, BootError> {
    let nosuid = MountFlags::NOSUID | MountFlags::NODEV;
    let (root, flags) = root(kernel, client, config)?;
    let namespace = MountNamespace::new(root, flags, b"lazaret");
    let (proc, sys) = (ProcFs::new(kernel), SysFs::new(kernel));
    namespace.types().register(Arc::new(TmpfsType::new(kernel.storage())));
    namespace.types().register(Arc::new(ProcType(proc.clone())));
    namespace.types().register(Arc::new(SysType(sys.clone())));
    namespace.types().register(Arc::new(DevptsType(kernel.ttys.clone())));
    let place = Places { cx: PathCx::at_root(&namespace, Credentials::root()) };

    let mount = |fs: Arc<dyn FileSystem>, at: &[u8], flags, source: &[u8]| {
        let target = place.find_or_make(at, FileType::Directory)?;
        namespace.mount(fs, target, flags, source).map(drop)
    };
    let step = |at: &'static str, result: SysResult<()>| match result {
        Ok(()) => Ok(()),
        // A root without the directory, and read-only: the sandbox can do without.
        Err(error) if matches!(error.errno(), Errno::EROFS | Errno::ENOENT) => {
            tracing::warn!(at, ?error, "not mounted");
            Ok(())
        }
        Err(error) => Err(BootError::Mount { at: at.to_owned(), errno: error.errno() }),
    };
    let quiet = nosuid | MountFlags::NOEXEC;
    step("/proc", mount(proc, b"/proc", quiet, b"proc"))?;
    step("/sys", mount(sys, b"/sys", quiet | MountFlags::RDONLY, b"sysfs"))?;
    let devices = Tmpfs::new(&kernel.storage(), options(0o755));
    let dev_root = devices.root();
    step("/dev", mount(devices, b"/dev", MountFlags::NOSUID, b"devtmpfs"))?;
    if let Err(error) = dev::populate(&*dev_root) {
        return Err(BootError::Mount { at: "/dev".to_owned(), errno: error.errno() });
    }
    let noexec = MountFlags::NOSUID | MountFlags::NOEXEC;
    step("/dev/pts", mount(Devpts::new(kernel), b"/dev/pts", noexec, b"devpts"))?;
    let tmpfs = || Tmpfs::new(&kernel.storage(), options(0o1777));
    step("/dev/shm", mount(tmpfs(), b"/dev/shm", nosuid, b"tmpfs"))?;
    step("/tmp", mount(tmpfs(), b"/tmp", nosuid, b"tmpfs"))?;

    for spec in &config.mounts {
        mount_spec(kernel, client, &namespace, &place, spec)?;
    }
    if let Some(policy) = policy {
        namespace.enforce(policy);
    }
    Ok(namespace)
}

fn options(mode: u32) -> TmpfsOptions {
    let mut options = TmpfsOptions::default();
    options.mode = mode;
    options
}

fn root(
    kernel: &Arc<Kernel>,
    client: &Arc<GoferClient>,
    config: &Config,
) -> Result<(Arc<dyn FileSystem>, MountFlags), BootError> {
    let lower = tree(client, config.root.tree, true)?;
    match config.root.overlay {
        OverlayMode::None => Ok((lower, MountFlags::RDONLY)),
        OverlayMode::Memory => {
            let overlay = OverlayFs::new(lower, kernel.storage(), vfs::allocate_dev());
            let overlay = overlay
                .map_err(|error| BootError::Mount { at: "/".to_owned(), errno: error.errno() })?;
            Ok((overlay, MountFlags::empty()))
        }
    }
}

/// A tree of the gofer as a file system. `immutable`: nobody else is expected to change it.
fn tree(
    client: &Arc<GoferClient>,
    id: u32,
    immutable: bool,
) -> Result<Arc<dyn FileSystem>, BootError> {
    let info = client.trees().iter().find(|tree| tree.id == TreeId(id));
    let info = info.ok_or_else(|| BootError::Gofer(format!("does not serve tree {id}")))?;
    Ok(GoferFs::new(client.clone(), info.id, info.attr, immutable, vfs::allocate_dev()))
}

fn mount_spec(
    kernel: &Arc<Kernel>,
    client: &Arc<GoferClient>,
    namespace: &MountNamespace,
    place: &Places,
    spec: &MountSpec,
) -> Result<(), BootError> {
    let nosuid = MountFlags::NOSUID | MountFlags::NODEV;
    let (target, kind, fs, flags, source): (_, _, Arc<dyn FileSystem>, _, _) = match spec {
        MountSpec::Tmpfs { target } => {
            let fs = Tmpfs::new(&kernel.storage(), options(0o1777));
            (target, FileType::Directory, fs, nosuid, b"tmpfs".to_vec())
        }
        MountSpec::Bind { tree: id, source, target, read_only, is_dir } => {
            let fs = tree(client, *id, false)?;
            let kind = if *is_dir { FileType::Directory } else { FileType::Regular };
            let mut flags = nosuid;
            flags.set(MountFlags::RDONLY, *read_only);
            (target, kind, fs, flags, source.as_os_str().as_encoded_bytes().to_vec())
        }
    };
    let mounted = place
        .find_or_make(target, kind)
        .and_then(|place| namespace.mount(fs, place, flags, &source).map(drop));
    mounted.map_err(|error| BootError::Mount {
        at: String::from_utf8_lossy(target).into_owned(),
        errno: error.errno(),
    })
}

/// Finds places to mount on, and makes those that are missing.
struct Places {
    cx: PathCx,
}

impl Places {
    fn find_or_make(&self, path: &[u8], kind: FileType) -> SysResult<VfsPath> {
        let names: Vec<&[u8]> =
            path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        let mut at = self.cx.fs.namespace.root();
        for (index, name) in names.iter().enumerate() {
            let next = vfs::resolve(&self.cx, &at, name, LookupFlags::FOLLOW);
            at = match next {
                Err(error) if error.errno() == Errno::ENOENT => {
                    let last = index + 1 == names.len();
                    let kind = if last { kind } else { FileType::Directory };
                    self.make(&at, name, kind)?;
                    vfs::resolve(&self.cx, &at, name, LookupFlags::empty())?
                }
                next => next?,
            };
        }
        Ok(at)
    }

    fn make(&self, dir: &VfsPath, name: &[u8], kind: FileType) -> SysResult<()> {
        let new = Creation { mode: 0o755, uid: 0, gid: 0 };
        match kind {
            FileType::Directory => vfs::mkdir(&self.cx, dir, name, new.mode),
            _ => vfs::mknod(&self.cx, dir, name, (FileType::Regular, 0), 0o644),
        }
    }
}
