//! Each request against real files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
};

use common::{Fixture, RW, can_give_files_away, path, ro, rw};
use gofer_wire::{
    Attr, FileType, OpenFlags, OpenHow, Owner, Place, RenameFlags, SetAttr, SetTime, Timestamp,
    TreePath, TreePathBuf, TreePaths, WalkEnd, request::NodeKind,
};
use linux_abi::Errno;

#[test]
fn the_greeting_tells_the_trees() {
    let f = Fixture::new();
    let trees = f.client.trees();
    assert_eq!(trees.len(), 2);
    assert!(trees[0].read_only && !trees[1].read_only);
    assert_eq!(trees[0].attr.ino, fs::metadata(f.dir.path()).unwrap().ino());
}

#[test]
fn attributes_are_those_of_the_host() {
    let f = Fixture::new();
    fs::write(f.path("file"), b"12345").unwrap();
    fs::set_permissions(f.path("file"), PermissionsExt::from_mode(0o4751)).unwrap();
    let attr = f.client.get_attr(ro("file")).unwrap();
    let host = fs::metadata(f.path("file")).unwrap();
    assert_eq!(attr.mode, host.mode());
    assert_eq!((attr.uid, attr.gid, attr.ino), (host.uid(), host.gid(), host.ino()));
    assert_eq!((attr.size, attr.blocks, u64::from(attr.nlink)), (5, host.blocks(), host.nlink()));
    assert_eq!(attr.mtime, Timestamp { sec: host.mtime(), nsec: host.mtime_nsec() as u32 });
    assert_eq!(rustix::fs::makedev(attr.dev.major, attr.dev.minor), host.dev());
    assert_eq!(f.client.get_attr(ro("")).unwrap().file_type(), FileType::Directory);
    assert_eq!(f.client.get_attr(ro("none")), Err(Errno::ENOENT));
    assert_eq!(f.client.get_attr(ro("file/x")), Err(Errno::ENOTDIR));
    assert_eq!(f.client.get_attr(Place::new(gofer_wire::TreeId(9), path(""))), Err(Errno::ENODEV));
}

#[test]
fn a_walk_brings_each_component_and_the_open_file() {
    let f = Fixture::new();
    fs::create_dir_all(f.path("a/b/c")).unwrap();
    fs::write(f.path("a/b/c/file"), b"hello").unwrap();
    let reply = f.client.walk(ro(""), path("a/b/c/file"), Some(OpenHow::READ)).unwrap();
    assert_eq!(reply.end, WalkEnd::Complete);
    let kinds: Vec<_> = reply.attrs.iter().map(Attr::file_type).collect();
    use FileType::{Directory, Regular};
    assert_eq!(kinds, [Directory, Directory, Directory, Regular]);
    let mut text = String::new();
    File::from(reply.file.unwrap().unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    // From a base further down.
    let reply = f.client.walk(ro("a/b"), path("c/file"), None).unwrap();
    assert_eq!((reply.attrs.len(), reply.end), (2, WalkEnd::Complete));
    assert!(reply.file.is_none());
    // Nothing to walk.
    let reply = f.client.walk(ro("a/b"), path(""), Some(OpenHow::READ)).unwrap();
    assert_eq!((reply.attrs.len(), reply.end), (0, WalkEnd::Complete));
}

#[test]
fn a_walk_stops_where_it_must() {
    let f = Fixture::new();
    fs::create_dir_all(f.path("a/b")).unwrap();
    fs::write(f.path("a/file"), b"").unwrap();
    symlink("/etc/passwd", f.path("a/link")).unwrap();
    symlink("b", f.path("a/dirlink")).unwrap();
    let walk = |names: &str| {
        let reply = f.client.walk(ro(""), path(names), Some(OpenHow::READ)).unwrap();
        (reply.attrs.len(), reply.end)
    };
    assert_eq!(walk("a/none/x"), (1, WalkEnd::Missing));
    assert_eq!(walk("a/b/none"), (2, WalkEnd::Missing));
    assert_eq!(walk("none"), (0, WalkEnd::Missing));
    assert_eq!(walk("a/file/x"), (2, WalkEnd::NotDirectory));
    assert_eq!(walk("a/link"), (2, WalkEnd::Symlink(b"/etc/passwd".to_vec())));
    assert_eq!(walk("a/dirlink/x/y"), (2, WalkEnd::Symlink(b"b".to_vec())));
    assert_eq!(f.client.walk(ro("none"), path("x"), None).unwrap_err(), Errno::ENOENT);
    assert_eq!(f.client.walk(ro("a/file"), path("x"), None).unwrap_err(), Errno::ENOTDIR);
    let long = TreePathBuf::from_names(std::iter::repeat_n(&b"n"[..], 2049)).unwrap();
    assert_eq!(f.client.walk(ro(""), long.as_path(), None).unwrap_err(), Errno::ENAMETOOLONG);
}

#[test]
fn no_link_is_followed_wherever_it_is() {
    let f = Fixture::new();
    fs::create_dir(f.path("dir")).unwrap();
    fs::write(f.path("dir/file"), b"x").unwrap();
    symlink("dir", f.path("link")).unwrap();
    symlink("/", f.path("out")).unwrap();
    for place in ["link/file", "out/etc/passwd"] {
        let error = f.client.get_attr(ro(place)).unwrap_err();
        assert!(matches!(error, Errno::ELOOP | Errno::ENOTDIR), "{error:?}");
        let error = f.client.open(ro(place), OpenHow::READ).unwrap_err();
        assert!(matches!(error, Errno::ELOOP | Errno::ENOTDIR), "{error:?}");
    }
    assert_eq!(f.client.open(ro("link"), OpenHow::READ).unwrap_err(), Errno::ELOOP);
    assert_eq!(f.client.get_attr(ro("link")).unwrap().file_type(), FileType::Symlink);
    assert_eq!(f.client.read_link(ro("link")).unwrap(), b"dir");
    assert_eq!(f.client.read_link(ro("dir")), Err(Errno::EINVAL));
    assert_eq!(f.client.read_link(ro("")), Err(Errno::EINVAL));
    let error = f.client.read_dir(ro("link"), false).unwrap_err();
    assert!(matches!(error, Errno::ELOOP | Errno::ENOTDIR), "{error:?}");
    // And neither through a link's path when something is changed.
    let change = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    assert_eq!(f.client.set_attr(rw("link"), &change), Err(Errno::EOPNOTSUPP));
    let change = SetAttr { size: Some(0), ..SetAttr::default() };
    assert_eq!(f.client.set_attr(rw("link"), &change), Err(Errno::EINVAL));
    assert!(f.client.create(rw("link"), 0o600, None, OpenHow::READ).is_err());
}

#[test]
fn only_regular_files_are_opened() {
    let f = Fixture::new();
    f.client.mknod(rw("fifo"), NodeKind::Fifo, 0o600, None).unwrap();
    f.client.mknod(rw("socket"), NodeKind::Socket, 0o600, None).unwrap();
    assert!(fs::metadata(f.path("fifo")).unwrap().file_type().is_fifo());
    assert!(fs::metadata(f.path("socket")).unwrap().file_type().is_socket());
    for name in ["fifo", "socket"] {
        assert_eq!(f.client.open(rw(name), OpenHow::READ).unwrap_err(), Errno::ENXIO);
        let reply = f.client.walk(ro(""), path(name), Some(OpenHow::READ)).unwrap();
        assert!(reply.file.is_none());
    }
    assert_eq!(f.client.open(ro(""), OpenHow::READ).unwrap_err(), Errno::EISDIR);
}

#[test]
fn a_read_only_tree_cannot_be_changed() {
    let f = Fixture::new();
    fs::write(f.path("file"), b"x").unwrap();
    let truncate = OpenHow { flags: OpenFlags::TRUNCATE, ..OpenHow::READ };
    for how in [OpenHow::WRITE, OpenHow::READ_WRITE, truncate] {
        assert_eq!(f.client.open(ro("file"), how).unwrap_err(), Errno::EROFS);
        let reply = f.client.walk(ro(""), path("file"), Some(how)).unwrap();
        assert_eq!(reply.file.unwrap().unwrap_err(), Errno::EROFS);
    }
    let c = &f.client;
    assert_eq!(c.create(ro("n"), 0o600, None, OpenHow::READ).unwrap_err(), Errno::EROFS);
    assert_eq!(c.mkdir(ro("n"), 0o700, None), Err(Errno::EROFS));
    assert_eq!(c.mknod(ro("n"), NodeKind::Regular, 0o700, None), Err(Errno::EROFS));
    assert_eq!(c.symlink(ro("n"), b"x", None), Err(Errno::EROFS));
    assert_eq!(c.link(ro("file"), path("n")), Err(Errno::EROFS));
    assert_eq!(c.unlink(ro("file")), Err(Errno::EROFS));
    assert_eq!(c.rmdir(ro("file")), Err(Errno::EROFS));
    assert_eq!(c.rename(ro("file"), path("n"), RenameFlags::empty()), Err(Errno::EROFS));
    assert_eq!(c.set_attr(ro("file"), &SetAttr::default()), Err(Errno::EROFS));
    assert_eq!(c.set_xattr(ro("file"), b"user.a", b"", 0), Err(Errno::EROFS));
    assert_eq!(c.remove_xattr(ro("file"), b"user.a"), Err(Errno::EROFS));
    let file = c.open(ro("file"), OpenHow::READ).unwrap();
    assert!(File::from(file.file).write_all(b"y").is_err());
    assert_eq!(fs::read(f.path("file")).unwrap(), b"x");
}

#[test]
fn files_are_made_with_the_mode_asked_for_whatever_the_umask() {
    let f = Fixture::new();
    let opened = f.client.create(rw("file"), 0o4766, None, OpenHow::READ_WRITE).unwrap();
    assert_eq!(opened.attr.permissions(), 0o4766);
    File::from(opened.file).write_all(b"text").unwrap();
    assert_eq!(fs::read(f.path("file")).unwrap(), b"text");
    let again = f.client.create(rw("file"), 0o600, None, OpenHow::READ);
    assert_eq!(again.unwrap_err(), Errno::EEXIST);
    assert_eq!(f.client.mkdir(rw("dir"), 0o1777, None).unwrap().mode, 0o041_777);
    assert_eq!(f.client.mkdir(rw("dir"), 0o777, None), Err(Errno::EEXIST));
    assert_eq!(f.client.mkdir(rw(""), 0o777, None), Err(Errno::EEXIST));
    let link = f.client.symlink(rw("link"), b"\xff/target", None).unwrap();
    assert_eq!(link.file_type(), FileType::Symlink);
    assert_eq!(f.client.read_link(rw("link")).unwrap(), b"\xff/target");
    assert_eq!(f.client.link(rw("file"), path("dir/second")).unwrap().nlink, 2);
}

#[test]
fn new_files_belong_to_whom_they_are_given() {
    let f = Fixture::new();
    let owner = Owner { uid: 1234, gid: 5678 };
    let made = f.client.create(rw("file"), 0o6755, Some(owner), OpenHow::READ).unwrap();
    let dir = f.client.mkdir(rw("dir"), 0o755, Some(owner)).unwrap();
    let link = f.client.symlink(rw("link"), b"x", Some(owner)).unwrap();
    if can_give_files_away() {
        for attr in [made.attr, dir, link] {
            assert_eq!((attr.uid, attr.gid), (1234, 5678));
        }
        assert_eq!(made.attr.permissions(), 0o6755, "set-id bits outlive the change of owner");
    }
    let nobody = Owner { uid: u32::MAX, gid: 0 };
    let error = f.client.create(rw("other"), 0o600, Some(nobody), OpenHow::READ).unwrap_err();
    assert_eq!(error, Errno::EINVAL);
}

#[test]
fn renames_and_removals_are_the_hosts() {
    let f = Fixture::new();
    fs::create_dir_all(f.path("d/sub")).unwrap();
    fs::write(f.path("a"), b"a").unwrap();
    fs::write(f.path("b"), b"b").unwrap();
    let c = &f.client;
    let none = RenameFlags::empty();
    assert_eq!(c.rename(rw("a"), path("b"), RenameFlags::NO_REPLACE), Err(Errno::EEXIST));
    c.rename(rw("a"), path("b"), RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read(f.path("a")).unwrap(), b"b");
    c.rename(rw("a"), path("d/sub/a"), none).unwrap();
    assert_eq!(c.rename(rw("d"), path("d/sub/x"), none), Err(Errno::EINVAL));
    assert_eq!(c.rename(rw(""), path("x"), none), Err(Errno::EBUSY));
    assert_eq!(c.rmdir(rw("d/sub")), Err(Errno::ENOTEMPTY));
    assert_eq!(c.unlink(rw("d/sub")), Err(Errno::EISDIR));
    assert_eq!(c.rmdir(rw("b")), Err(Errno::ENOTDIR));
    c.unlink(rw("d/sub/a")).unwrap();
    c.rmdir(rw("d/sub")).unwrap();
    c.fsync(rw("d"), false).unwrap();
    c.fsync(rw("b"), true).unwrap();
    assert_eq!(c.rmdir(rw("")), Err(Errno::EBUSY));
}

#[test]
fn attributes_can_be_changed_even_of_files_that_cannot_be_read() {
    let f = Fixture::new();
    fs::write(f.path("file"), b"12345").unwrap();
    let times = SetTime::To(Timestamp { sec: -5, nsec: 7 });
    let change =
        SetAttr { mode: Some(0o200), size: Some(3), mtime: Some(times), ..SetAttr::default() };
    let attr = f.client.set_attr(rw("file"), &change).unwrap();
    assert_eq!((attr.permissions(), attr.size), (0o200, 3));
    assert_eq!(attr.mtime, Timestamp { sec: -5, nsec: 7 });
    let atime = f.client.get_attr(ro("file")).unwrap().atime;
    assert_eq!(atime, attr.atime);
    let attr = f
        .client
        .set_attr(
            rw("file"),
            &SetAttr { mode: Some(0o600), atime: Some(SetTime::Now), ..SetAttr::default() },
        )
        .unwrap();
    assert_eq!((attr.permissions(), attr.mtime.sec), (0o600, -5));
    let id = attr.id();
    let change = SetAttr { mode: Some(0o640), ..SetAttr::default() };
    assert_eq!(f.client.set_attr_of(rw("file"), id, &change).unwrap().permissions(), 0o640);
    fs::write(f.path("other"), b"").unwrap();
    assert_eq!(f.client.set_attr_of(rw("other"), id, &change), Err(Errno::ESTALE));
    let huge = SetAttr { size: Some(u64::MAX), ..SetAttr::default() };
    assert_eq!(f.client.set_attr(rw("file"), &huge), Err(Errno::EINVAL));
    let bad = SetAttr { mode: Some(0o10_000), ..SetAttr::default() };
    assert_eq!(f.client.set_attr(rw("file"), &bad), Err(Errno::EINVAL));
    if can_give_files_away() {
        let change = SetAttr { uid: Some(77), ..SetAttr::default() };
        let attr = f.client.set_attr(rw("file"), &change).unwrap();
        assert_eq!((attr.uid, attr.gid), (77, fs::metadata(f.dir.path()).unwrap().gid()));
    }
}

#[test]
fn a_directory_comes_whole_however_large() {
    let f = Fixture::new();
    fs::create_dir(f.path("many")).unwrap();
    for number in 0..3000 {
        fs::write(f.path(&format!("many/file-with-a-rather-long-name-{number:05}")), b"").unwrap();
    }
    for attrs in [false, true] {
        let dir = f.client.read_dir(ro("many"), attrs).unwrap();
        let mut names: Vec<_> = dir.entries.iter().map(|entry| entry.name.to_vec()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 3000);
        assert!(dir.entries.iter().all(|entry| entry.kind == FileType::Regular
            && entry.attr.is_some() == attrs
            && entry.attr.is_none_or(|attr| attr.ino == entry.ino)));
    }
    assert_eq!(f.client.read_dir(ro("none"), true).unwrap_err(), Errno::ENOENT);
    let file = f.client.read_dir(ro("many/file-with-a-rather-long-name-00000"), true);
    assert_eq!(file.unwrap_err(), Errno::ENOTDIR);
}

#[test]
fn several_directories_come_with_one_request_in_the_order_of_a_walk() {
    let f = Fixture::new();
    for dir in ["top/a/one/deep", "top/a/two", "top/b", "top/c"] {
        fs::create_dir_all(f.path(dir)).unwrap();
        fs::write(f.path(&format!("{dir}/file")), b"x").unwrap();
    }
    symlink("b", f.path("top/link")).unwrap();
    let ask = |names: &'static str, attrs, budget| {
        f.client.read_dirs(ro("top"), path(names), attrs, budget)
    };
    let (first, below) = ask("a/b/none/link/c", true, 100).unwrap();
    assert_eq!(first.entries.len(), 2);
    assert!(first.entries.iter().all(|entry| entry.attr.is_some()));
    let mut paths: Vec<_> = below.iter().map(|dir| dir.path.as_path().as_bytes()).collect();
    assert_eq!(paths.last(), Some(&&b"c"[..]));
    paths.sort();
    assert_eq!(paths, [&b"a/one"[..], b"a/one/deep", b"a/two", b"b", b"c"]);
    let deep = below.iter().find(|dir| dir.path.as_path().as_bytes() == b"a/one/deep").unwrap();
    assert_eq!(deep.directory.entries.get(0).unwrap().name, b"file");
    assert_eq!(deep.directory.attr.file_type(), FileType::Directory);
    // The first is told whatever it costs.
    let (first, below) = ask("a/b", false, 0).unwrap();
    assert_eq!((first.entries.len(), below.len()), (2, 0));
    assert_eq!(ask("none/a", false, 100).unwrap_err(), Errno::ENOENT);
    assert_eq!(ask("link/a", false, 100).unwrap_err(), Errno::ENOTDIR);
    assert_eq!(ask("", false, 100).unwrap_err(), Errno::EINVAL);
}

#[test]
fn several_files_are_opened_with_one_request() {
    use std::os::fd::AsFd;
    let f = Fixture::new();
    fs::create_dir(f.path("many")).unwrap();
    for number in 0..64 {
        fs::write(f.path(&format!("many/{number:02}")), number.to_string()).unwrap();
    }
    symlink("00", f.path("many/link")).unwrap();
    fs::create_dir_all(f.path("many/below/deep")).unwrap();
    fs::write(f.path("many/below/deep/60"), "60").unwrap();
    symlink("below", f.path("many/way")).unwrap();
    let files: Vec<_> = (1..60).map(|number| format!("{number:02}")).collect();
    let files = format!("{}\0below/deep/60\0none\0link\0none/60\0way/deep/60", files.join("\0"));
    let opened = f.client.open_many(ro("many"), TreePaths::new(files.as_bytes()).unwrap()).unwrap();
    assert_eq!(opened.len(), 64);
    for (number, opened) in (1..61).zip(&opened) {
        let opened = opened.as_ref().unwrap();
        let mut content = [0; 8];
        let len = rustix::io::pread(opened.file.as_fd(), &mut content, 0).unwrap();
        assert_eq!(content[..len], *number.to_string().as_bytes());
        assert_eq!(opened.attr.size, len as u64);
    }
    let errors: Vec<_> = opened[60..].iter().map(|opened| *opened.as_ref().unwrap_err()).collect();
    assert_eq!(errors, [Errno::ENOENT, Errno::ELOOP, Errno::ENOENT, Errno::ENOTDIR]);
    let many = "x\0".repeat(64) + "x";
    let error = f.client.open_many(ro("many"), TreePaths::new(many.as_bytes()).unwrap());
    assert_eq!(error.unwrap_err(), Errno::EINVAL);
}

#[test]
fn names_of_any_bytes_work() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let f = Fixture::new();
    let longest = [b'x'; 255];
    for name in [&b"\xff\xfe"[..], b" ", b"\n", b"...", b"-rf", b"a\\b", &longest] {
        let place = Place::new(RW, TreePath::new(name).unwrap());
        f.client.create(place, 0o600, None, OpenHow::WRITE).unwrap();
        assert!(f.dir.path().join(OsStr::from_bytes(name)).exists());
        let dir = f.client.read_dir(rw(""), false).unwrap();
        assert_eq!(dir.entries.get(0).unwrap().name, name);
        f.client.unlink(place).unwrap();
    }
}

#[test]
fn paths_far_beyond_path_max_work() {
    let f = Fixture::new();
    let name = [b'd'; 100];
    let mut deep = TreePathBuf::new();
    for _ in 0..200 {
        deep.push(&name).unwrap();
        f.client.mkdir(Place::new(RW, deep.as_path()), 0o700, None).unwrap();
    }
    let leaf = Place::new(RW, deep.as_path());
    assert!(deep.as_path().as_bytes().len() > 20_000);
    assert_eq!(f.client.get_attr(leaf).unwrap().file_type(), FileType::Directory);
    let reply = f.client.walk(rw(""), deep.as_path(), None).unwrap();
    assert_eq!((reply.attrs.len(), reply.end), (200, WalkEnd::Complete));
    // Longer than one packet, too.
    let deeper = TreePathBuf::from_names(std::iter::repeat_n(&b"no"[..], 100_000)).unwrap();
    assert_eq!(f.client.get_attr(Place::new(RW, deeper.as_path())), Err(Errno::ENOENT));
    loop {
        f.client.rmdir(Place::new(RW, deep.as_path())).unwrap();
        deep.pop();
        if deep.as_path().is_root() {
            break;
        }
    }
}

#[test]
fn extended_attributes_of_users_can_be_changed_others_only_read() {
    let f = Fixture::new();
    fs::write(f.path("file"), b"").unwrap();
    let (c, file) = (&f.client, rw("file"));
    match c.set_xattr(file, b"user.a", b"\0value", 0) {
        Err(Errno::EOPNOTSUPP) => return, // Not on this file system.
        result => result.unwrap(),
    }
    assert_eq!(c.get_xattr(ro("file"), b"user.a").unwrap(), b"\0value");
    assert_eq!(c.list_xattr(ro("file")).unwrap(), b"user.a\0");
    assert_eq!(c.set_xattr(file, b"user.a", b"", 1), Err(Errno::EEXIST));
    assert_eq!(c.set_xattr(file, b"user.b", b"", 2), Err(Errno::ENODATA));
    assert_eq!(c.set_xattr(file, b"user.b", b"", 4), Err(Errno::EINVAL));
    for name in [&b"security.capability"[..], b"trusted.overlay.opaque"] {
        assert_eq!(c.set_xattr(file, name, b"x", 0), Err(Errno::EPERM));
    }
    c.remove_xattr(file, b"user.a").unwrap();
    assert_eq!(c.get_xattr(file, b"user.a"), Err(Errno::ENODATA));
    assert_eq!(c.get_xattr(file, b""), Err(Errno::ERANGE));
}

#[test]
fn the_file_system_is_described() {
    let f = Fixture::new();
    let ours = f.client.stat_fs(ro("")).unwrap();
    let host = rustix::fs::statvfs(f.dir.path()).unwrap();
    assert_eq!(
        (ours.block_size, ours.blocks, ours.name_max),
        (host.f_bsize, host.f_blocks, host.f_namemax)
    );
    assert_ne!(ours.magic, 0);
}

#[test]
fn a_single_file_can_be_a_tree() {
    let dir = common::TempDir::new();
    fs::write(dir.path().join("file"), b"text").unwrap();
    let config =
        gofer::ServerConfig::new(vec![gofer::TreeConfig::writable(1, dir.path().join("file"))]);
    let (_server, socket) = common::start(config);
    let client = gofer_wire::GoferClient::connect(socket).unwrap();
    assert_eq!(client.trees()[0].attr.file_type(), FileType::Regular);
    let opened = client.open(rw(""), OpenHow::READ_WRITE).unwrap();
    File::from(opened.file).write_all(b"T").unwrap();
    let cut = SetAttr { size: Some(2), ..SetAttr::default() };
    assert_eq!(client.set_attr(rw(""), &cut).unwrap().size, 2);
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"Te");
    assert_eq!(client.get_attr(rw("x")), Err(Errno::ENOTDIR));
    client.fsync(rw(""), false).unwrap();
}

#[test]
fn kernel_file_systems_look_like_empty_directories() {
    let config = gofer::ServerConfig::new(vec![gofer::TreeConfig::read_only(0, "/")]);
    let (_server, socket) = common::start(config);
    let client = gofer_wire::GoferClient::connect(socket).unwrap();
    assert_eq!(client.get_attr(ro("proc")).unwrap().file_type(), FileType::Directory);
    assert!(client.read_dir(ro("proc"), true).unwrap().entries.is_empty());
    for name in ["proc/self/mem", "proc/1", "proc/self/fd/0", "sys/kernel"] {
        assert_eq!(client.get_attr(ro(name)), Err(Errno::ENOENT), "{name}");
        assert!(client.open(ro(name), OpenHow::READ).is_err());
        assert_eq!(client.walk(ro(""), path(name), None).unwrap().end, WalkEnd::Missing);
    }
    assert!(client.read_link(ro("proc/self")).is_err());
    // Devices are seen and never opened.
    assert_eq!(client.get_attr(ro("dev/null")).unwrap().file_type(), FileType::CharDevice);
    assert_eq!(client.open(ro("dev/null"), OpenHow::READ).unwrap_err(), Errno::ENXIO);
}
