//! Names of unix sockets: paths, abstract names, and names given by the kernel (unix(7)).

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Weak},
};

use ranked_sync::Mutex;

use super::{UnixSocket, rights::InFlight};
use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    lock_order,
    policy::Access,
    socket::SockAddr,
    vfs::{self, AccessMask, LookupFlags, policed},
};

/// Where the path begins in `struct sockaddr_un`.
const PATH_AT: usize = 2;
/// `sizeof(struct sockaddr_un)`.
const ADDRESS_BYTES: usize = 110;
/// Names the kernel can give (five hexadecimal digits).
const AUTOBIND_NAMES: u32 = 1 << 20;

/// What a socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// As given to bind(2).
    Path(Vec<u8>),
    /// Without the leading NUL.
    Abstract(Vec<u8>),
}

/// What a socket inode holds: the socket, for as long as that lives.
#[derive(Debug)]
pub struct BoundSocket(Weak<UnixSocket>);

/// The abstract names of the sandbox, and the files that are in messages.
#[derive(Debug, Default)]
pub struct UnixNamespace {
    names: Mutex<lock_order::SocketNames, Names>,
    pub(super) in_flight: InFlight,
}

/// Sockets by type and name.
#[derive(Debug, Default)]
struct Names {
    bound: HashMap<(i32, Vec<u8>), Weak<UnixSocket>>,
    next_auto: u32,
}

/// The address that shows a name; unnamed sockets have only a family.
pub(super) fn address(name: Option<&Name>) -> SockAddr {
    let mut address = SockAddr::of_family(libc::AF_UNIX);
    match name {
        None => {}
        Some(Name::Path(path)) => {
            address.0.extend_from_slice(path);
            address.0.push(0);
        }
        Some(Name::Abstract(name)) => {
            address.0.push(0);
            address.0.extend_from_slice(name);
        }
    }
    address
}

/// The name in an address; `None` for the bare family. `EINVAL`.
fn parse(address: &SockAddr) -> SysResult<Option<Name>> {
    let bytes = address.0.as_slice();
    if bytes.len() < PATH_AT
        || bytes.len() > ADDRESS_BYTES
        || address.family() != Some(libc::AF_UNIX)
    {
        return err!(EINVAL);
    }
    Ok(match bytes.get(PATH_AT..).unwrap_or(&[]) {
        [] => None,
        [0, name @ ..] => Some(Name::Abstract(name.to_vec())),
        path => {
            let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
            Some(Name::Path(path.get(..end).unwrap_or(path).to_vec()))
        }
    })
}

pub(super) fn bind(socket: &UnixSocket, task: &mut CurrentTask, addr: &SockAddr) -> SysResult<()> {
    let Some(name) = parse(addr)? else { return autobind(socket) };
    if socket.name().is_some() {
        return err!(EINVAL);
    }
    let name = Arc::new(name);
    match &*name {
        Name::Path(path) => {
            let bound: Arc<dyn Any + Send + Sync> = Arc::new(BoundSocket(socket.me.clone()));
            bind_path(task, path, &bound)?;
        }
        Name::Abstract(bytes) => {
            let key = (socket.common.kind, bytes.clone());
            let mut names = socket.namespace().names.lock();
            if names.bound.get(&key).is_some_and(|other| other.strong_count() > 0) {
                return err!(EADDRINUSE);
            }
            names.bound.insert(key, socket.me.clone());
        }
    }
    let mut state = socket.state.lock();
    if state.name.is_some() {
        // Someone else bound it meanwhile; the name goes.
        drop(state);
        unbind(socket, &name);
        return err!(EINVAL);
    }
    state.name = Some(name);
    Ok(())
}

/// Gives an abstract name of five digits, unless there is a name.
pub(super) fn autobind(socket: &UnixSocket) -> SysResult<()> {
    let mut names = socket.namespace().names.lock();
    let mut state = socket.state.lock();
    if state.name.is_some() {
        return Ok(());
    }
    for _ in 0..AUTOBIND_NAMES {
        let number = names.next_auto % AUTOBIND_NAMES;
        names.next_auto = names.next_auto.wrapping_add(1);
        let bytes = format!("{number:05x}").into_bytes();
        let key = (socket.common.kind, bytes.clone());
        if names.bound.get(&key).is_none_or(|other| other.strong_count() == 0) {
            names.bound.insert(key, socket.me.clone());
            state.name = Some(Arc::new(Name::Abstract(bytes)));
            return Ok(());
        }
    }
    err!(ENOSPC)
}

/// The name is free again. A path stays; nothing answers there any more.
pub(super) fn unbind(socket: &UnixSocket, name: &Name) {
    if let Name::Abstract(bytes) = name {
        let mut names = socket.namespace().names.lock();
        let key = (socket.common.kind, bytes.clone());
        if names.bound.get(&key).is_some_and(|other| other.ptr_eq(&socket.me)) {
            names.bound.remove(&key);
        }
    }
}

/// The socket that has the name. `ECONNREFUSED` when there is none; `EPROTOTYPE` when a path's is of
/// another type.
pub(super) fn find(task: &CurrentTask, addr: &SockAddr, kind: i32) -> SysResult<Arc<UnixSocket>> {
    match parse(addr)? {
        None => err!(EINVAL),
        Some(Name::Abstract(bytes)) => {
            let names = task.kernel().unix.names.lock();
            let found = names.bound.get(&(kind, bytes)).and_then(Weak::upgrade);
            found.ok_or(Errno::ECONNREFUSED.into())
        }
        Some(Name::Path(path)) => {
            let bound = find_path(task, &path)?.downcast::<BoundSocket>();
            let socket = bound.ok().and_then(|bound| bound.0.upgrade());
            let socket =
                socket.filter(|socket| !socket.is_released()).ok_or(Errno::ECONNREFUSED)?;
            if socket.common.kind == kind { Ok(socket) } else { err!(EPROTOTYPE) }
        }
    }
}

/// Makes a socket node. `EADDRINUSE` when the path is taken.
fn bind_path(task: &CurrentTask, path: &[u8], bound: &Arc<dyn Any + Send + Sync>) -> SysResult<()> {
    let cx = task.path_cx();
    vfs::bind_socket(&cx, cx.cwd(), path, 0o777, bound).map(drop)
}

/// What is bound at a path that the caller may write to.
fn find_path(task: &CurrentTask, path: &[u8]) -> SysResult<Arc<dyn Any + Send + Sync>> {
    let cx = task.path_cx();
    let place = vfs::resolve(&cx, cx.cwd(), path, LookupFlags::FOLLOW)?;
    policed::may(&place, Access::WRITE)?;
    place.inode().check_access(&task.cred(), AccessMask::WRITE)?;
    place.inode().bound_socket().ok_or(Errno::ECONNREFUSED.into())
}
