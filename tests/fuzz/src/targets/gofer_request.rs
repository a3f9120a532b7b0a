//! What the file server makes of a request's bytes: a request that is encoded as the same bytes again, or an error
//! number; and paths that name nothing but plain names.

use gofer_wire::{
    Access, Device, FileId, MAX_NAME, MAX_OPEN, OpenFlags, OpenHow, Owner, Place, RenameFlags,
    SetAttr, SetTime, Timestamp, TreeId, TreePath, TreePathBuf, TreePaths, VERSION,
    codec::Writer,
    path::check_name,
    request::{NewNode, NodeKind, Request, Walk},
};

use crate::Target;

/// See the module.
pub const TARGET: Target = Target {
    name: "gofer_request",
    run,
    seeds,
    max_len: 4096,
    // Nothing is copied to understand a request; the check of it copies paths.
    memory: Some(|len| 4096 + 16 * len),
};

fn run(data: &[u8]) {
    if let Ok(path) = TreePath::new(data) {
        check_path(path);
    }
    let Ok(request) = Request::decode(data) else { return };
    assert!(request.max_files() <= MAX_OPEN);
    let mut out = Writer::new();
    request.encode(&mut out);
    assert_eq!(out.as_bytes(), data, "{request:?} has another form");
    match request {
        Request::Walk(walk) => {
            check_path(walk.base.path);
            check_path(walk.names);
        }
        Request::Rename { from, to, .. } | Request::Link { from, to } => {
            check_path(from.path);
            check_path(to);
        }
        Request::OpenMany { base, files } => {
            check_path(base.path);
            files.iter().for_each(|file| {
                assert!(!file.is_root());
                check_path(file);
            });
        }
        Request::GetAttr(place) | Request::Unlink(place) => check_path(place.path),
        _ => {}
    }
}

/// Whichever way a path is taken apart, the pieces are plain names, and the same.
fn check_path(path: TreePath<'_>) {
    for name in path.names() {
        check_name(name).expect("a plain name");
    }
    let names = TreePathBuf::from_names(path.names()).expect("a path of plain names");
    assert_eq!(names.as_path(), path);
    let mut rest = path;
    let mut pieces = Vec::new();
    while !rest.is_root() {
        let (head, tail) = rest.split_at_most(MAX_NAME);
        assert!(!head.is_root() && head.as_bytes().len() <= MAX_NAME);
        pieces.push(head.as_bytes());
        rest = tail;
    }
    assert_eq!(pieces.join(&b'/'), path.as_bytes());
    let mut names = names;
    let mut depth = path.names().count();
    while names.pop() {
        depth -= 1;
        assert_eq!(names.as_path().names().count(), depth);
    }
    assert_eq!(depth, 0);
}

/// A request of each kind.
pub(super) fn requests() -> Vec<Request<'static>> {
    let path = |path: &'static str| TreePath::new(path.as_bytes()).expect("a path");
    let (tree, owner) = (TreeId(1), Some(Owner { uid: 1000, gid: 1000 }));
    let place = Place::new(tree, path("dir/file"));
    let root = Place::new(tree, TreePath::ROOT);
    let new = NewNode { place: Place::new(tree, path("dir/new")), permissions: 0o644, owner };
    let how = OpenHow { access: Access::ReadWrite, flags: OpenFlags::TRUNCATE };
    let id = FileId { dev: Device { major: 8, minor: 1 }, ino: 7 };
    let changes = SetAttr {
        mode: Some(0o600),
        uid: Some(1000),
        size: Some(4096),
        atime: Some(SetTime::Now),
        mtime: Some(SetTime::To(Timestamp { sec: -1, nsec: 5 })),
        ..SetAttr::default()
    };
    vec![
        Request::Hello { version: VERSION },
        Request::OpenChannel { processor: Some(1) },
        Request::Walk(Walk { base: root, names: path("dir/file"), open: Some(how) }),
        Request::GetAttr(place),
        Request::Open(place, OpenHow::READ),
        Request::Create(new, how),
        Request::Mkdir(new),
        Request::Mknod(new, NodeKind::Fifo),
        Request::Symlink { place: new.place, target: b"../canary", owner },
        Request::Link { from: place, to: path("dir/new") },
        Request::Unlink(place),
        Request::Rmdir(Place::new(tree, path("dir"))),
        Request::Rename { from: place, to: path("moved"), flags: RenameFlags::NO_REPLACE },
        Request::SetAttr { place, expect: Some(id), changes },
        Request::StatFs(root),
        Request::ReadDir { place: root, attrs: true },
        Request::OpenMany { base: root, files: TreePaths::new(b"a\0dir/b\0c").expect("paths") },
        Request::ReadDirs { base: root, names: path("dir/empty"), attrs: true, budget: 100 },
        Request::ReadLink(Place::new(tree, path("up"))),
        Request::GetXattr { place, name: b"user.a" },
        Request::SetXattr { place, name: b"user.a", value: b"value", flags: 1 },
        Request::ListXattr(place),
        Request::RemoveXattr { place, name: b"user.a" },
        Request::Fsync { place, data_only: true },
    ]
}

fn seeds() -> Vec<Vec<u8>> {
    let encode = |request: Request<'_>| {
        let mut out = Writer::new();
        request.encode(&mut out);
        out.as_bytes().to_vec()
    };
    requests().into_iter().map(encode).collect()
}
