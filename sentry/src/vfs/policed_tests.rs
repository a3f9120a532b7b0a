//! Rules for files, over tmpfs.

use std::sync::Arc;

use platform::memory::MemoryFile;

use super::{
    FileSystem, MountFlags, MountNamespace, OpenHow, PathCx, RenameFlags, link, mkdir, open,
    rename, resolve, symlink, unlink,
};
use crate::{
    Errno, SysResult,
    fs::tmpfs::{Storage, Tmpfs, TmpfsOptions},
    kernel::Credentials,
    policy::{Access, Effect, FilePolicy, FileRules, RuleSpec},
    vfs::{Last, LookupFlags, resolve_parent},
};

const READ: i32 = libc::O_RDONLY;
const WRITE: i32 = libc::O_WRONLY;
const MAKE: i32 = libc::O_WRONLY | libc::O_CREAT;

fn tmpfs() -> Arc<dyn FileSystem> {
    let memory = Arc::new(MemoryFile::new(None).unwrap());
    Tmpfs::new(&Storage::unlimited(memory), TmpfsOptions::with_mode(0o755))
}

/// A namespace with these directories and files, then under these rules.
fn world(names: &[&str], rules: &[(Effect, Access, &str)]) -> PathCx {
    let namespace = MountNamespace::new(tmpfs(), MountFlags::empty(), b"tmpfs");
    let cx = PathCx::at_root(&namespace, Credentials::root());
    for name in names {
        match name.strip_suffix('/') {
            Some(name) => mkdir(&cx, cx.cwd(), name.as_bytes(), 0o755).unwrap(),
            None => opened(&cx, name, MAKE).unwrap(),
        }
    }
    let spec = |&(effect, access, pattern): &(Effect, Access, &str)| RuleSpec {
        shown: String::new(),
        pattern: pattern.into(),
        effect,
        access,
    };
    let rules = FileRules::new(&rules.iter().map(spec).collect::<Vec<_>>()).unwrap();
    namespace.enforce(FilePolicy::new(rules, None));
    cx
}

fn opened(cx: &PathCx, path: &str, flags: i32) -> SysResult<()> {
    open(cx, cx.cwd(), path.as_bytes(), &OpenHow::open(flags as u32, 0o644)?).map(drop)
}

fn errno(result: SysResult<()>) -> Option<Errno> {
    result.err().map(|error| error.errno())
}

fn tries(cx: &PathCx, path: &str, flags: i32) -> Option<Errno> {
    errno(opened(cx, path, flags))
}

fn moves(cx: &PathCx, from: &str, to: &str) -> Option<Errno> {
    let (from, to) = ((cx.cwd(), from.as_bytes()), (cx.cwd(), to.as_bytes()));
    errno(rename(cx, from, to, RenameFlags::empty()))
}

#[test]
fn verdicts_are_those_of_the_present_name() {
    let cx =
        world(&["/a/", "/a/d/", "/a/d/f", "/a/f", "/b/"], &[(Effect::Deny, Access::WRITE, "/b")]);
    for path in ["/a/f", "/a/d/f"] {
        assert_eq!(tries(&cx, path, WRITE), None);
    }
    assert_eq!(moves(&cx, "/a/f", "/b/f"), None);
    assert_eq!(moves(&cx, "/a/d", "/b/d"), None);
    for path in ["/b/f", "/b/d/f"] {
        assert_eq!(tries(&cx, path, READ), None);
        assert_eq!(tries(&cx, path, WRITE), Some(Errno::EACCES), "{path}");
    }
    assert_eq!(moves(&cx, "/b/f", "/a/f"), Some(Errno::EXDEV));
    assert_eq!(moves(&cx, "/b/d", "/a/d"), Some(Errno::EXDEV));
}

#[test]
fn a_mount_has_the_rules_of_its_place_and_keeps_them() {
    let cx = world(&["/a/", "/a/b/", "/c/"], &[(Effect::Deny, Access::READ, "/a/b/secret")]);
    let find = |path: &[u8]| resolve(&cx, cx.cwd(), path, LookupFlags::FOLLOW).unwrap();
    cx.namespace().mount(tmpfs(), find(b"/a/b"), MountFlags::empty(), b"new").unwrap();
    assert_eq!(tries(&cx, "/a/b/secret", MAKE), None);
    assert_eq!(tries(&cx, "/a/b/secret", READ), Some(Errno::EACCES));
    cx.namespace().bind(&find(b"/a/b"), find(b"/c"), false).unwrap();
    assert_eq!(tries(&cx, "/c/secret", READ), Some(Errno::EACCES));
    let (copy, _) = cx.namespace().copy().unwrap();
    let other = PathCx::at_root(&copy, Credentials::root());
    assert_eq!(tries(&other, "/c/secret", READ), Some(Errno::EACCES));
    let place = resolve(&other, other.cwd(), b"/c", LookupFlags::FOLLOW).unwrap();
    copy.mount(tmpfs(), place, MountFlags::empty(), b"new").unwrap();
    assert_eq!(tries(&other, "/c/secret", MAKE), None);
    assert_eq!(tries(&other, "/c/secret", READ), Some(Errno::EACCES), "over the place of another");
}

#[test]
fn hidden_names_are_free_for_nobody() {
    let cx = world(&["/a/", "/a/h", "/f"], &[(Effect::Hide, Access::NAMED, "/a/h")]);
    assert_eq!(tries(&cx, "/a/h", READ), Some(Errno::ENOENT));
    for flags in [MAKE, MAKE | libc::O_EXCL] {
        assert_eq!(tries(&cx, "/a/h", flags), Some(Errno::EACCES));
    }
    assert_eq!(errno(unlink(&cx, cx.cwd(), b"/a/h")), Some(Errno::ENOENT));
    assert_eq!(errno(mkdir(&cx, cx.cwd(), b"/a/h", 0o755)), Some(Errno::EACCES));
    assert_eq!(errno(symlink(&cx, b"x", cx.cwd(), b"/a/h/")), Some(Errno::EACCES));
    let linked = link(&cx, (cx.cwd(), b"/f"), (cx.cwd(), b"/a/h"), LookupFlags::empty());
    assert_eq!(errno(linked), Some(Errno::EACCES));
    assert_eq!(moves(&cx, "/f", "/a/h"), Some(Errno::EACCES));
    assert_eq!(moves(&cx, "/a", "/b"), Some(Errno::EXDEV));
    let parent = resolve_parent(&cx, cx.cwd(), b"/a/h", LookupFlags::empty()).unwrap();
    assert!(matches!(parent.last, Last::Name(_)));
}
