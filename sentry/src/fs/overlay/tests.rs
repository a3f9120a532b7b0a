//! An overlay over tmpfs.

use std::sync::Arc;

use platform::memory::MemoryFile;

use super::OverlayFs;
use crate::{
    fs::tmpfs::{Storage, Tmpfs, TmpfsOptions},
    kernel::Credentials,
    vfs::{
        FileDescription, IoDst, IoSrc, LookupFlags, MountFlags, MountNamespace, OpenHow, PathCx,
        link, mkdir, open, unlink,
    },
};

fn at_root(namespace: &Arc<MountNamespace>) -> PathCx {
    PathCx::at_root(namespace, Credentials::root())
}

fn opened(cx: &PathCx, path: &str, flags: i32) -> Arc<FileDescription> {
    open(cx, cx.cwd(), path.as_bytes(), &OpenHow::open(flags as u32, 0o644).unwrap()).unwrap()
}

fn content(cx: &PathCx, path: &str) -> Vec<u8> {
    let file = opened(cx, path, libc::O_RDONLY);
    let mut bytes = vec![0; 100];
    let len = file.ops().read(&file, 0, &mut IoDst::kernel(&mut bytes)).unwrap();
    bytes.truncate(len);
    bytes
}

/// Over a tree with a file `old` whose other name is `d/other`.
fn overlay() -> PathCx {
    let memory = Arc::new(MemoryFile::new(None).unwrap());
    let storage = Storage::unlimited(memory);
    let lower = Tmpfs::new(&storage, TmpfsOptions::with_mode(0o755));
    let cx = at_root(&MountNamespace::new(lower.clone(), MountFlags::empty(), b"lower"));
    mkdir(&cx, cx.cwd(), b"d", 0o755).unwrap();
    let file = opened(&cx, "old", libc::O_CREAT | libc::O_WRONLY);
    file.ops().write(&file, 0, &mut IoSrc::kernel(b"lower")).unwrap();
    link(&cx, (cx.cwd(), b"old"), (cx.cwd(), b"d/other"), LookupFlags::empty()).unwrap();
    let overlay = OverlayFs::new(lower, storage, 77).unwrap();
    at_root(&MountNamespace::new(overlay, MountFlags::empty(), b"overlay"))
}

#[test]
fn what_was_written_by_one_name_is_there_by_the_other_when_the_one_is_gone() {
    let cx = overlay();
    let file = opened(&cx, "old", libc::O_WRONLY);
    file.ops().write(&file, 0, &mut IoSrc::kernel(b"upper")).unwrap();
    drop(file);
    unlink(&cx, cx.cwd(), b"old").unwrap();
    assert_eq!(content(&cx, "d/other"), b"upper");
    assert_eq!(opened(&cx, "d/other", libc::O_RDONLY).metadata().unwrap().nlink, 1);
}

#[test]
fn a_file_is_gone_with_its_last_name() {
    let cx = overlay();
    unlink(&cx, cx.cwd(), b"old").unwrap();
    let other = opened(&cx, "d/other", libc::O_RDONLY);
    assert_eq!((content(&cx, "d/other"), other.metadata().unwrap().nlink), (b"lower".to_vec(), 1));
    unlink(&cx, cx.cwd(), b"d/other").unwrap();
    assert_eq!(other.metadata().unwrap().nlink, 0);
    let inode = Arc::downgrade(other.path().inode());
    drop(other);
    assert!(inode.upgrade().is_none(), "somebody holds it");
}
