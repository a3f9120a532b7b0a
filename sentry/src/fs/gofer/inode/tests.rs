//! Against a real file server on a thread, and changes behind the sentry's back.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
};

use gofer_wire::GoferClient;

use super::*;
use crate::{fs::gofer::GoferFs, vfs::FileSystem};

struct Shared {
    root: Arc<GoferInode>,
    dir: PathBuf,
}

impl Shared {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("gofer-fs-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (ours, theirs) = gofer_wire::transport::socket_pair().unwrap();
        let config = gofer::ServerConfig::new(vec![gofer::TreeConfig::writable(0, &dir)]);
        std::thread::spawn(move || gofer::serve(config, &ours).unwrap());
        let client = Arc::new(GoferClient::connect(theirs).unwrap());
        let tree = client.trees()[0];
        let fs = GoferFs::new(client, tree.id, tree.attr, false, 77);
        let root: Arc<dyn Any + Send + Sync> = fs.root();
        Self { root: root.downcast().unwrap(), dir }
    }

    fn inode(&self, name: &str) -> Arc<GoferInode> {
        let inode: Arc<dyn Any + Send + Sync> = self.root.lookup(name.as_bytes()).unwrap();
        inode.downcast().unwrap()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

const READ: u32 = libc::O_RDONLY as u32;
const WRITE: u32 = libc::O_WRONLY as u32;

fn mode(mode: u32) -> SetAttr {
    SetAttr { mode: Some(mode), ..SetAttr::default() }
}

fn size(size: u64) -> SetAttr {
    SetAttr { size: Some(size), ..SetAttr::default() }
}

#[test]
fn an_open_file_stays_itself_when_another_takes_its_name() {
    let shared = Shared::new("replaced");
    fs::write(shared.dir.join("file"), b"old content").unwrap();
    let inode = shared.inode("file");
    let _open = inode.clone().open_regular(WRITE).unwrap();
    let ino = inode.metadata().unwrap().ino;
    fs::write(shared.dir.join("new"), b"new").unwrap();
    fs::set_permissions(shared.dir.join("new"), Permissions::from_mode(0o644)).unwrap();
    fs::rename(shared.dir.join("new"), shared.dir.join("file")).unwrap();
    let meta = inode.metadata().unwrap();
    assert_eq!((meta.ino, meta.size, meta.nlink), (ino, 11, 0));
    inode.set_attr(&size(4)).unwrap();
    inode.set_attr(&mode(0o600)).unwrap();
    let meta = inode.metadata().unwrap();
    assert_eq!((meta.ino, meta.size, meta.mode), (ino, 4, 0o100_600));
    let new = fs::metadata(shared.dir.join("file")).unwrap();
    assert_eq!((new.size(), new.mode() & 0o777), (3, 0o644), "the other file is untouched");
}

#[test]
fn an_unlinked_open_file_can_still_be_asked_and_changed() {
    let shared = Shared::new("unlinked");
    fs::write(shared.dir.join("file"), b"12345").unwrap();
    let inode = shared.inode("file");
    let open = inode.clone().open_regular(READ).unwrap();
    let this: Arc<dyn Inode> = inode.clone();
    shared.root.unlink(b"file", &this).unwrap();
    assert_eq!(inode.metadata().unwrap().nlink, 0);
    inode.set_attr(&mode(0o7)).unwrap();
    assert_eq!(inode.metadata().unwrap().mode, 0o100_007);
    drop(open);
    assert_eq!(inode.metadata().unwrap_err().errno(), Errno::ENOENT);
}

#[test]
fn a_file_just_made_can_be_written_whatever_its_mode() {
    let shared = Shared::new("made");
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let new = crate::vfs::Creation { mode: 0o400, uid, gid };
    let made: Arc<dyn Any + Send + Sync> = shared.root.create(b"file", &new).unwrap();
    let made: Arc<GoferInode> = made.downcast().unwrap();
    let _open = made.clone().open_regular(WRITE).unwrap();
    made.set_attr(&size(100)).unwrap();
    assert_eq!(fs::metadata(shared.dir.join("file")).unwrap().len(), 100);
    assert_eq!(made.metadata().unwrap().size, 100);
}

#[test]
fn a_name_is_known_again_as_long_as_it_is_the_same_file() {
    let shared = Shared::new("revalidated");
    fs::write(shared.dir.join("file"), b"1").unwrap();
    let inode: Arc<dyn Inode> = shared.inode("file");
    assert!(shared.root.revalidate(b"file", Some(&inode)));
    fs::write(shared.dir.join("file"), b"longer").unwrap();
    assert!(shared.root.revalidate(b"file", Some(&inode)));
    assert_eq!(inode.metadata().unwrap().size, 6);
    assert!(shared.root.revalidate(b"none", None));
    fs::write(shared.dir.join("none"), b"").unwrap();
    assert!(!shared.root.revalidate(b"none", None));
    fs::rename(shared.dir.join("none"), shared.dir.join("file")).unwrap();
    assert!(!shared.root.revalidate(b"file", Some(&inode)));
    let other = shared.root.lookup(b"file").unwrap();
    assert_eq!(other.metadata().unwrap().size, 0);
    fs::remove_file(shared.dir.join("file")).unwrap();
    assert!(!shared.root.revalidate(b"file", Some(&other)));
    assert_eq!(shared.root.lookup(b"file").unwrap_err().errno(), Errno::ENOENT);
}

#[test]
fn a_closed_file_is_changed_only_if_its_name_still_leads_to_it() {
    let shared = Shared::new("stale");
    fs::write(shared.dir.join("file"), b"1").unwrap();
    let inode = shared.inode("file");
    inode.set_attr(&mode(0o640)).unwrap();
    assert_eq!(fs::metadata(shared.dir.join("file")).unwrap().mode() & 0o777, 0o640);
    fs::write(shared.dir.join("new"), b"2").unwrap();
    fs::rename(shared.dir.join("new"), shared.dir.join("file")).unwrap();
    assert_eq!(inode.set_attr(&mode(0o600)).unwrap_err().errno(), Errno::ESTALE);
    assert_ne!(fs::metadata(shared.dir.join("file")).unwrap().mode() & 0o777, 0o600);
}
