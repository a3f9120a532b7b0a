//! What is done for each request. A handler writes the body of the reply, or
//! gives the error number that is answered instead.

use gofer_wire::request::Request;
use linux_abi::Errno;

use crate::{attr, connection::Reply, server::Server};

mod change;
mod create;
mod open;
mod read_dir;
mod walk;
mod xattr;

/// Carries out `request`.
pub(crate) fn handle(
    server: &Server,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Errno> {
    let tree = |place: &gofer_wire::Place<'_>| server.tree(place.tree);
    match request {
        Request::Hello { version } => reply.put(&server.hello(*version)?),
        Request::OpenChannel { processor } => reply.donate(server.open_channel(*processor)?),
        Request::Walk(request) => walk::walk(tree(&request.base)?, request, reply)?,
        Request::GetAttr(place) => reply.put(&tree(place)?.attr(place.path)?),
        Request::Open(place, how) => {
            let (file, attr) = open::open(tree(place)?, place.path, *how)?;
            reply.put(&attr);
            reply.donate(file);
        }
        Request::Create(node, how) => {
            let (file, attr) = create::create(tree(&node.place)?, node, *how)?;
            reply.put(&attr);
            reply.donate(file);
        }
        Request::Mkdir(node) => reply.put(&create::mkdir(tree(&node.place)?, node)?),
        Request::Mknod(node, kind) => reply.put(&create::mknod(tree(&node.place)?, node, *kind)?),
        Request::Symlink { place, target, owner } => {
            reply.put(&create::symlink(tree(place)?, place.path, target, *owner)?);
        }
        Request::Link { from, to } => reply.put(&change::link(tree(from)?, from.path, *to)?),
        Request::Unlink(place) => change::unlink(tree(place)?, place.path)?,
        Request::Rmdir(place) => change::rmdir(tree(place)?, place.path)?,
        Request::Rename { from, to, flags } => {
            change::rename(tree(from)?, from.path, *to, *flags)?;
        }
        Request::SetAttr { place, expect, changes } => {
            reply.put(&change::set_attr(tree(place)?, place.path, *expect, changes)?);
        }
        Request::StatFs(place) => {
            reply.put(&attr::file_system(tree(place)?.node(place.path)?)?);
        }
        Request::ReadDir { place, attrs } => {
            read_dir::read_dir(tree(place)?, place.path, *attrs, reply)?;
        }
        Request::OpenMany { base, files } => {
            open::open_many(tree(base)?, base.path, *files, reply)?
        }
        Request::ReadDirs { base, names, attrs, budget } => {
            read_dir::read_dirs(tree(base)?, base.path, *names, (*attrs, *budget), reply)?;
        }
        Request::ReadLink(place) => reply.put_bytes(&walk::read_link(tree(place)?, place.path)?),
        Request::GetXattr { place, name } => {
            reply.put_bytes(&xattr::get(tree(place)?, place.path, name)?);
        }
        Request::SetXattr { place, name, value, flags } => {
            xattr::set(tree(place)?, place.path, name, value, *flags)?;
        }
        Request::ListXattr(place) => reply.put_bytes(&xattr::list(tree(place)?, place.path)?),
        Request::RemoveXattr { place, name } => xattr::remove(tree(place)?, place.path, name)?,
        Request::Fsync { place, data_only } => {
            change::fsync(tree(place)?, place.path, *data_only)?;
        }
        _ => return Err(Errno::ENOSYS),
    }
    Ok(())
}
