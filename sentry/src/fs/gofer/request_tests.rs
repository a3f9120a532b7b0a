//! How often the file server is asked, with a real one on a thread.

use std::{fs, path::PathBuf, sync::Arc};

use gofer_wire::GoferClient;
use platform::memory::MemoryFile;

use super::GoferFs;
use crate::{
    Errno,
    fs::{overlay::OverlayFs, tmpfs::Storage},
    kernel::{CapabilitySet, Credentials},
    vfs::{
        FileSystem, LookupFlags, Metadata, MountFlags, MountNamespace, OpenHow, PathCx,
        RenameFlags, mkdir, open, rename, resolve, unlink,
    },
};

struct Served {
    client: Arc<GoferClient>,
    dir: PathBuf,
    cx: PathCx,
}

impl Served {
    fn over(
        name: &str,
        wrap: impl FnOnce(Arc<GoferFs>) -> Arc<dyn FileSystem>,
        shared: bool,
    ) -> Self {
        let dir = std::env::temp_dir().join(format!("gofer-asked-{name}-{}", std::process::id()));
        fs::create_dir_all(dir.join("a/b/c")).unwrap();
        for at in 0..50 {
            fs::write(dir.join(format!("a/b/c/file{at}")), b"text").unwrap();
        }
        let (ours, theirs) = gofer_wire::transport::socket_pair().unwrap();
        let config = gofer::ServerConfig::new(vec![gofer::TreeConfig::writable(0, &dir)]);
        std::thread::spawn(move || gofer::serve(config, &ours).unwrap());
        let client = Arc::new(GoferClient::connect(theirs).unwrap());
        let tree = client.trees()[0];
        let fs = wrap(GoferFs::new(client.clone(), tree.id, tree.attr, !shared, 77));
        let namespace = MountNamespace::new(fs, MountFlags::empty(), b"test");
        let cx = PathCx::at_root(&namespace, Credentials::root());
        Self { client, dir, cx }
    }

    fn shared(name: &str) -> Self {
        Self::over(name, |fs| fs, true)
    }

    fn overlay(name: &str) -> Self {
        let memory = Arc::new(MemoryFile::new(None).unwrap());
        Self::over(name, |fs| OverlayFs::new(fs, Storage::unlimited(memory), 78).unwrap(), false)
    }

    fn stat(&self, path: &str) -> Result<Metadata, Errno> {
        let place = resolve(&self.cx, self.cx.cwd(), path.as_bytes(), LookupFlags::FOLLOW);
        place.and_then(|place| place.inode().metadata_seen()).map_err(|error| error.errno())
    }

    fn open(&self, path: &str, flags: i32) -> Result<(), Errno> {
        let how = OpenHow::open(flags as u32, 0o600).unwrap();
        open(&self.cx, self.cx.cwd(), path.as_bytes(), &how)
            .map(drop)
            .map_err(|error| error.errno())
    }

    /// The names in a directory, as they are listed.
    fn list(&self, path: &str) -> Vec<String> {
        let how = OpenHow::open((libc::O_RDONLY | libc::O_DIRECTORY) as u32, 0).unwrap();
        let dir = open(&self.cx, self.cx.cwd(), path.as_bytes(), &how).unwrap();
        let mut names = Vec::new();
        let sink = &mut |entry: crate::vfs::DirEntry<'_>| {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            true
        };
        dir.ops().iterate(&dir, 0, sink).unwrap();
        names.retain(|name| !name.starts_with('.'));
        names
    }

    fn asked(&self, f: impl FnOnce()) -> u64 {
        let before = self.client.requests();
        f();
        self.client.requests() - before
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn a_path_of_a_shared_tree_is_one_request_each_time() {
    let served = Served::shared("path");
    for _ in 0..3 {
        assert_eq!(served.asked(|| assert_eq!(served.stat("/a/b/c/file1").unwrap().size, 4)), 1);
        assert_eq!(served.asked(|| assert!(served.stat("/a/b/none/x").is_err())), 1);
        assert_eq!(served.asked(|| served.open("/a/b/c/file2", libc::O_RDONLY).unwrap()), 1);
        assert_eq!(served.asked(|| served.open("/a/b/c/file2", libc::O_RDWR).unwrap()), 1);
    }
    let unlink = || unlink(&served.cx, served.cx.cwd(), b"/a/b/c/new").unwrap();
    let create = || served.open("/a/b/c/new", libc::O_CREAT | libc::O_RDWR).unwrap();
    for _ in 0..3 {
        assert_eq!(served.asked(create), 2);
        assert_eq!(served.asked(unlink), 2);
    }
}

#[test]
fn what_changes_outside_is_seen_at_once() {
    let served = Served::shared("outside");
    let file = served.dir.join("a/b/c/file1");
    assert_eq!(served.stat("/a/b/c/file1").unwrap().size, 4);
    fs::write(&file, b"longer").unwrap();
    assert_eq!(served.stat("/a/b/c/file1").unwrap().size, 6);
    fs::remove_file(&file).unwrap();
    assert_eq!(served.stat("/a/b/c/file1").unwrap_err(), Errno::ENOENT);
    assert_eq!(served.open("/a/b/c/file1", libc::O_RDONLY).unwrap_err(), Errno::ENOENT);
    fs::create_dir(&file).unwrap();
    assert!(served.stat("/a/b/c/file1").unwrap().is_dir());
    std::os::unix::fs::symlink("file3", served.dir.join("a/b/c/link")).unwrap();
    let third = served.stat("/a/b/c/file3").unwrap().ino;
    assert_eq!(served.stat("/a/b/c/link").unwrap().ino, third);
    fs::remove_file(served.dir.join("a/b/c/link")).unwrap();
    std::os::unix::fs::symlink("file4", served.dir.join("a/b/c/link")).unwrap();
    assert_eq!(served.stat("/a/b/c/link").unwrap().ino, served.stat("/a/b/c/file4").unwrap().ino);
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(served.dir.join("a"), mode(0o700)).unwrap();
    let user = PathCx {
        fs: served.cx.fs.clone(),
        cred: Credentials::for_user(4321, 4321, &[], CapabilitySet::all()),
    };
    let found = resolve(&user, user.cwd(), b"/a/b/c/file3", LookupFlags::FOLLOW);
    assert_eq!(found.unwrap_err().errno(), Errno::EACCES);
    fs::set_permissions(served.dir.join("a"), mode(0o755)).unwrap();
    assert!(resolve(&user, user.cwd(), b"/a/b/c/file3", LookupFlags::FOLLOW).is_ok());
    fs::rename(served.dir.join("a/b"), served.dir.join("a/d")).unwrap();
    assert_eq!(served.stat("/a/b/c/file4").unwrap_err(), Errno::ENOENT);
    assert_eq!(served.stat("/a/d/c/file4").unwrap().size, 4);
}

#[test]
fn names_missing_below_an_overlay_are_asked_for_a_few_times_only() {
    let served = Served::overlay("missing");
    let stat_all = || {
        for at in 0..200 {
            assert_eq!(served.stat(&format!("/a/b/c/none{at}")).unwrap_err(), Errno::ENOENT);
        }
    };
    assert!(served.asked(stat_all) <= 4);
    let change = || {
        for at in 0..50 {
            let (old, new) = (format!("/a/b/c/made{at}"), format!("/a/b/c/moved{at}"));
            served.open(&old, libc::O_CREAT | libc::O_RDWR).unwrap();
            let cwd = served.cx.cwd();
            let (from, to) = ((cwd, old.as_bytes()), (cwd, new.as_bytes()));
            rename(&served.cx, from, to, RenameFlags::empty()).unwrap();
            mkdir(&served.cx, cwd, old.as_bytes(), 0o700).unwrap();
            unlink(&served.cx, cwd, new.as_bytes()).unwrap();
        }
    };
    assert_eq!(served.asked(change), 0);
    // What is there is found all the same.
    assert_eq!(served.stat("/a/b/c/file7").unwrap().size, 4);
    assert_eq!(served.asked(|| assert_eq!(served.stat("/a/b/c/file7").unwrap().size, 4)), 0);
}

#[test]
fn a_walk_through_a_tree_is_few_requests() {
    let served = Served::overlay("walk");
    for dir in 0..40 {
        let dir = served.dir.join(format!("tree/d{dir:02}/sub"));
        fs::create_dir_all(&dir).unwrap();
        for at in 0..10 {
            fs::write(dir.join(format!("f{at}")), b"some").unwrap();
            fs::write(dir.join(format!("../g{at}")), b"other").unwrap();
        }
    }
    let list = |path: &str| served.list(path);
    let mut seen = 0;
    let find = |seen: &mut usize| {
        let mut to_do = vec!["/tree".to_owned()];
        while let Some(path) = to_do.pop() {
            for name in list(&path).into_iter().rev() {
                *seen += 1;
                let path = format!("{path}/{name}");
                if name.starts_with('d') || name == "sub" {
                    to_do.push(path);
                }
            }
        }
    };
    let asked = served.asked(|| find(&mut seen));
    assert_eq!(seen, 40 * 22);
    assert!(asked < 30, "{asked}");
    let read = || {
        for dir in 0..40 {
            for at in 0..10 {
                for (name, size) in [(format!("sub/f{at}"), 4), (format!("g{at}"), 5)] {
                    let path = format!("/tree/d{dir:02}/{name}");
                    assert_eq!(served.stat(&path).unwrap().size, size);
                    served.open(&path, libc::O_RDONLY).unwrap();
                }
            }
        }
    };
    let asked = served.asked(read);
    assert!(asked < 300, "{asked}");
    assert_eq!(served.asked(read), 0);
}

#[test]
fn files_of_several_directories_are_opened_with_one_request() {
    let served = Served::overlay("read");
    for dir in 0..100 {
        let dir = served.dir.join(format!("tree/d{dir}/sub"));
        fs::create_dir_all(&dir).unwrap();
        for at in 0..3 {
            fs::write(dir.join(format!("f{at}")), b"some").unwrap();
            fs::write(dir.join(format!("../g{at}")), b"other").unwrap();
        }
    }
    let mut read = 0;
    let asked = served.asked(|| {
        let mut to_do = vec!["/tree".to_owned()];
        while let Some(path) = to_do.pop() {
            if path.rsplit('/').next().unwrap().starts_with(['f', 'g']) {
                served.open(&path, libc::O_RDONLY).unwrap();
                read += 1;
                continue;
            }
            to_do.extend(served.list(&path).into_iter().rev().map(|name| format!("{path}/{name}")));
        }
    });
    assert_eq!(read, 600);
    assert!(asked < 60, "{asked}");
    // Each is what its name says, wherever it was opened.
    let meta = |path: &str| served.stat(path).unwrap().size;
    assert_eq!((meta("/tree/d7/sub/f1"), meta("/tree/d7/g1")), (4, 5));
}

#[test]
fn a_file_is_opened_with_one_request_and_then_with_none() {
    let served = Served::overlay("open");
    assert_eq!(served.asked(|| served.open("/a/b/c/file9", libc::O_RDONLY).unwrap()), 1);
    assert_eq!(served.asked(|| served.open("/a/b/c/file9", libc::O_RDONLY).unwrap()), 0);
}
