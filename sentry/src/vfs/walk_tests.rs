//! The path walk and the operations on names, over tmpfs.

use std::sync::Arc;

use platform::memory::MemoryFile;

use super::{
    FileDescription, FileType, IoDst, IoSrc, LookupFlags, MountFlags, MountNamespace, OpenHow,
    PathCx, RenameFlags, VfsPath, link, mkdir, open, path_name, rename, resolve, rmdir, symlink,
    unlink,
};
use crate::{
    Errno, SysResult,
    fs::tmpfs::{Storage, Tmpfs, TmpfsOptions},
    kernel::{CapabilitySet, Credentials},
};

fn tmpfs() -> Arc<Tmpfs> {
    let memory = Arc::new(MemoryFile::new(None).unwrap());
    Tmpfs::new(&Storage::unlimited(memory), TmpfsOptions::with_mode(0o755))
}

fn root() -> PathCx {
    let namespace = MountNamespace::new(tmpfs(), MountFlags::empty(), b"tmpfs");
    PathCx::at_root(&namespace, Credentials::root())
}

fn user(cx: &PathCx) -> PathCx {
    PathCx { fs: cx.fs.clone(), cred: Credentials::for_user(1000, 1000, &[], CapabilitySet::all()) }
}

fn dir(cx: &PathCx, path: &str) {
    mkdir(cx, cx.cwd(), path.as_bytes(), 0o755).unwrap();
}

fn sym(cx: &PathCx, target: &str, path: &str) {
    symlink(cx, target.as_bytes(), cx.cwd(), path.as_bytes()).unwrap();
}

fn opened(cx: &PathCx, path: &str, flags: i32) -> SysResult<Arc<FileDescription>> {
    open(cx, cx.cwd(), path.as_bytes(), &OpenHow::open(flags as u32, 0o644)?)
}

fn file(cx: &PathCx, path: &str) -> Arc<FileDescription> {
    opened(cx, path, libc::O_CREAT | libc::O_RDWR).unwrap()
}

fn find(cx: &PathCx, path: &str, flags: LookupFlags) -> Result<VfsPath, Errno> {
    resolve(cx, cx.cwd(), path.as_bytes(), flags).map_err(|error| error.errno())
}

fn name_of(cx: &PathCx, path: &str) -> Result<String, Errno> {
    let place = find(cx, path, LookupFlags::FOLLOW)?;
    Ok(String::from_utf8(path_name(&place, cx.root()).display()).unwrap())
}

#[test]
fn walks_through_dots_slashes_and_links() {
    let cx = root();
    dir(&cx, "/a");
    dir(&cx, "/a/b");
    file(&cx, "/a/b/f");
    sym(&cx, "../a//b/./f", "/a/link");
    sym(&cx, "/a/b", "/dir");
    assert_eq!(name_of(&cx, "//a/./b/../b//f").unwrap(), "/a/b/f");
    assert_eq!(name_of(&cx, "a/link").unwrap(), "/a/b/f");
    assert_eq!(name_of(&cx, "dir/f").unwrap(), "/a/b/f");
    assert_eq!(name_of(&cx, "dir/").unwrap(), "/a/b");
    assert_eq!(name_of(&cx, "dir/../../../..").unwrap(), "/");
    let unfollowed = find(&cx, "dir", LookupFlags::empty()).unwrap();
    assert_eq!(unfollowed.dentry.kind(), Some(FileType::Symlink));
    assert_eq!(unfollowed.inode().read_link().unwrap(), b"/a/b");
}

#[test]
fn errors_of_the_walk_are_linuxs() {
    let cx = root();
    dir(&cx, "/d");
    file(&cx, "/f");
    sym(&cx, "loop", "/loop");
    sym(&cx, "gone", "/dangling");
    assert_eq!(name_of(&cx, "").unwrap_err(), Errno::ENOENT);
    assert_eq!(name_of(&cx, "/f/x").unwrap_err(), Errno::ENOTDIR);
    assert_eq!(name_of(&cx, "/f/").unwrap_err(), Errno::ENOTDIR);
    assert_eq!(name_of(&cx, "/f/.").unwrap_err(), Errno::ENOTDIR);
    assert_eq!(name_of(&cx, "/d/x/y").unwrap_err(), Errno::ENOENT);
    assert_eq!(name_of(&cx, "/loop").unwrap_err(), Errno::ELOOP);
    assert_eq!(name_of(&cx, "/dangling").unwrap_err(), Errno::ENOENT);
    assert_eq!(name_of(&cx, &"n".repeat(256)).unwrap_err(), Errno::ENAMETOOLONG);
    assert_eq!(name_of(&cx, &"n".repeat(255)).unwrap_err(), Errno::ENOENT);
}

#[test]
fn forty_links_are_followed_and_no_more() {
    let cx = root();
    file(&cx, "/l0");
    for at in 1..=41 {
        sym(&cx, &format!("l{}", at - 1), &format!("/l{at}"));
    }
    assert_eq!(name_of(&cx, "l40").unwrap(), "/l0");
    assert_eq!(name_of(&cx, "l41").unwrap_err(), Errno::ELOOP);
}

#[test]
fn search_permission_is_asked_of_each_directory() {
    let cx = root();
    mkdir(&cx, cx.cwd(), b"/shut", 0o700).unwrap();
    file(&cx, "/shut/f");
    let cx = user(&cx);
    assert_eq!(name_of(&cx, "/shut").unwrap(), "/shut");
    assert_eq!(name_of(&cx, "/shut/f").unwrap_err(), Errno::EACCES);
    assert_eq!(name_of(&cx, "/shut/.").unwrap_err(), Errno::EACCES);
    assert_eq!(opened(&cx, "/new", libc::O_CREAT).unwrap_err().errno(), Errno::EACCES);
}

#[test]
fn resolve_flags_of_openat2_hold() {
    let cx = root();
    dir(&cx, "/jail");
    dir(&cx, "/jail/etc");
    file(&cx, "/jail/etc/f");
    sym(&cx, "/etc/f", "/jail/abs");
    sym(&cx, "../..", "/jail/etc/up");
    let jail = find(&cx, "/jail", LookupFlags::empty()).unwrap();
    let from = |path: &str, flags| {
        resolve(&cx, &jail, path.as_bytes(), flags | LookupFlags::FOLLOW)
            .map(|place| String::from_utf8(path_name(&place, cx.root()).display()).unwrap())
            .map_err(|error| error.errno())
    };
    assert_eq!(from("abs", LookupFlags::empty()).unwrap_err(), Errno::ENOENT);
    assert_eq!(from("abs", LookupFlags::IN_ROOT).unwrap(), "/jail/etc/f");
    assert_eq!(from("abs", LookupFlags::BENEATH).unwrap_err(), Errno::EXDEV);
    assert_eq!(from("etc/up", LookupFlags::BENEATH).unwrap_err(), Errno::EXDEV);
    assert_eq!(from("etc/up", LookupFlags::IN_ROOT).unwrap(), "/jail");
    assert_eq!(from("etc/../etc/f", LookupFlags::BENEATH).unwrap(), "/jail/etc/f");
    assert_eq!(from("/etc", LookupFlags::BENEATH).unwrap_err(), Errno::EXDEV);
    assert_eq!(from("abs", LookupFlags::NO_SYMLINKS).unwrap_err(), Errno::ELOOP);
}

#[test]
fn mounts_are_crossed_both_ways() {
    let cx = root();
    dir(&cx, "/mnt");
    file(&cx, "/mnt/hidden");
    let place = find(&cx, "/mnt", LookupFlags::empty()).unwrap();
    cx.namespace().mount(tmpfs(), place, MountFlags::empty(), b"none").unwrap();
    assert_eq!(name_of(&cx, "/mnt/hidden").unwrap_err(), Errno::ENOENT);
    dir(&cx, "/mnt/sub");
    assert_eq!(name_of(&cx, "/mnt/sub/../..").unwrap(), "/");
    assert_eq!(find(&cx, "/mnt", LookupFlags::NO_XDEV).unwrap_err(), Errno::EXDEV);
    assert_eq!(rmdir(&cx, cx.cwd(), b"/mnt").unwrap_err().errno(), Errno::EBUSY);
    let inside = find(&cx, "/mnt/sub", LookupFlags::empty()).unwrap();
    let top = find(&cx, "/mnt", LookupFlags::empty()).unwrap();
    assert_eq!(cx.namespace().unmount(&top, false).unwrap_err().errno(), Errno::EBUSY);
    drop(inside);
    cx.namespace().unmount(&top, false).unwrap();
    assert_eq!(name_of(&cx, "/mnt/hidden").unwrap(), "/mnt/hidden");
}

#[test]
fn bind_mounts_show_the_same_files_elsewhere() {
    let cx = root();
    dir(&cx, "/a");
    dir(&cx, "/b");
    file(&cx, "/a/f");
    let source = find(&cx, "/a", LookupFlags::empty()).unwrap();
    let place = find(&cx, "/b", LookupFlags::empty()).unwrap();
    let mount = cx.namespace().bind(&source, place, false).unwrap();
    assert_eq!(name_of(&cx, "/b/f").unwrap(), "/b/f");
    mount.set_flags(MountFlags::RDONLY);
    assert_eq!(opened(&cx, "/b/new", libc::O_CREAT).unwrap_err().errno(), Errno::EROFS);
    assert_eq!(opened(&cx, "/b/f", libc::O_WRONLY).unwrap_err().errno(), Errno::EROFS);
    assert!(opened(&cx, "/a/f", libc::O_WRONLY).is_ok());
    assert_eq!(
        link(&cx, (cx.cwd(), b"/a/f"), (cx.cwd(), b"/b/g"), LookupFlags::empty())
            .unwrap_err()
            .errno(),
        Errno::EXDEV
    );
}

#[test]
fn removed_files_are_called_deleted_and_new_ones_take_their_names() {
    let cx = root();
    let old = file(&cx, "/f");
    unlink(&cx, cx.cwd(), b"/f").unwrap();
    assert_eq!(path_name(old.path(), cx.root()).display(), b"/f (deleted)");
    assert_eq!(old.metadata().unwrap().nlink, 0);
    let new = file(&cx, "/f");
    assert_ne!(old.metadata().unwrap().ino, new.metadata().unwrap().ino);
}

#[test]
fn renames_move_dentries_and_refuse_loops() {
    let cx = root();
    let to = |old: &str, new: &str, flags| {
        rename(&cx, (cx.cwd(), old.as_bytes()), (cx.cwd(), new.as_bytes()), flags)
            .map_err(|error| error.errno())
    };
    dir(&cx, "/a");
    dir(&cx, "/a/b");
    dir(&cx, "/c");
    let f = file(&cx, "/a/b/f");
    assert_eq!(to("/a", "/a/b/x", RenameFlags::empty()).unwrap_err(), Errno::EINVAL);
    assert_eq!(to("/a/b", "/a", RenameFlags::empty()).unwrap_err(), Errno::ENOTEMPTY);
    assert_eq!(to("/c", "/a/b/f", RenameFlags::empty()).unwrap_err(), Errno::ENOTDIR);
    assert_eq!(to("/a/b/f", "/c", RenameFlags::empty()).unwrap_err(), Errno::EISDIR);
    assert_eq!(to("/a/b", "/c", RenameFlags::NOREPLACE).unwrap_err(), Errno::EEXIST);
    to("/a/b", "/c", RenameFlags::empty()).unwrap();
    assert_eq!(path_name(f.path(), cx.root()).display(), b"/c/f");
    assert_eq!(name_of(&cx, "/a/b").unwrap_err(), Errno::ENOENT);
    to("/c", "/a", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(name_of(&cx, "/a/f").unwrap(), "/a/f");
    assert_eq!(path_name(f.path(), cx.root()).display(), b"/a/f");
}

#[test]
fn a_hundred_thousand_directories_deep_is_no_stack_overflow() {
    let cx = root();
    let mut at = cx.root().clone();
    for _ in 0..100_000 {
        mkdir(&cx, &at, b"d", 0o755).unwrap();
        at = resolve(&cx, &at, b"d", LookupFlags::empty()).unwrap();
    }
    drop(at);
    drop(cx);
}

#[test]
fn contents_are_sparse_and_survive_small_and_large_transfers() {
    let cx = root();
    let f = file(&cx, "/f");
    let data: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    assert_eq!(f.ops().write(&f, 70_000, &mut IoSrc::kernel(&data)).unwrap(), data.len());
    assert_eq!(f.ops().write(&f, 5, &mut IoSrc::kernel(b"head")).unwrap(), 4);
    let mut back = vec![1; 180_000];
    assert_eq!(f.ops().read(&f, 0, &mut IoDst::kernel(&mut back)).unwrap(), 170_000);
    assert_eq!(&back[..10], b"\0\0\0\0\0head\0");
    assert!(back[9..70_000].iter().all(|&byte| byte == 0));
    assert_eq!(&back[70_000..170_000], &data[..]);
    assert_eq!(f.metadata().unwrap().size, 170_000);
    assert_eq!(f.metadata().unwrap().blocks, (1 + 25) * 8);
    use super::SeekFrom;
    assert_eq!(f.ops().seek(&f, 0, SeekFrom::Hole(0)).unwrap(), 4096);
    assert_eq!(f.ops().seek(&f, 0, SeekFrom::Data(4096)).unwrap(), 69_632);
    let inode = f.path().inode();
    inode.set_attr(&super::SetAttr { size: Some(70_001), ..Default::default() }).unwrap();
    inode.set_attr(&super::SetAttr { size: Some(80_000), ..Default::default() }).unwrap();
    assert_eq!(f.ops().read(&f, 70_000, &mut IoDst::kernel(&mut back[..10])).unwrap(), 10);
    assert_eq!(&back[..10], &[data[0], 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let punch = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as u32;
    f.ops().allocate(&f, punch, 0, 80_000).unwrap();
    assert_eq!(f.metadata().unwrap().blocks, 0);
}

#[test]
fn listing_goes_on_where_it_was_whatever_changes() {
    let cx = root();
    dir(&cx, "/d");
    for at in 0..10 {
        file(&cx, &format!("/d/f{at}"));
    }
    let d = opened(&cx, "/d", libc::O_DIRECTORY).unwrap();
    let mut seen = Vec::new();
    let mut position = 0;
    loop {
        let mut taken = 0;
        let next = d
            .ops()
            .iterate(&d, position, &mut |entry| {
                taken += 1;
                if taken > 3 {
                    return false;
                }
                seen.push(String::from_utf8(entry.name.to_vec()).unwrap());
                true
            })
            .unwrap();
        if next == position {
            break;
        }
        position = next;
        if let Some(last) = seen.last().filter(|name| name.starts_with('f')) {
            unlink(&cx, cx.cwd(), format!("/d/{last}").as_bytes()).unwrap();
        }
    }
    let want: Vec<_> = [".", ".."]
        .map(String::from)
        .into_iter()
        .chain((0..10).map(|at| format!("f{at}")))
        .collect();
    assert_eq!(seen, want);
}
